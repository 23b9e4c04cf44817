"""DANet: explicit affinity alignment (EAAS) and reliable agent alignment (RAAM) on the LAVT base.

"Rethinking the Implicit Optimization Paradigm with Dual Alignments for Referring Remote Sensing Image Segmentation",
ACM MM 2024. No code was published: each reading of what the paper leaves open is a field of [`DANetConfig`].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .alignment_rrsis import PixelWordAttention, TextFeatures, map_to_tokens
from .configuration_rrsis import DANetConfig
from .loss_rrsis import affinity_loss, binary_cross_entropy
from .modeling_lavt import LAVTForReferringSegmentation, StageState


def text_to_visual_activation(attention: PixelWordAttention, features: Tensor, sentence: Tensor) -> Tensor:
    """A_tv of section 3.2, min–max scaled to [0, 1] per image so that the threshold α has a meaning.

    The paper maps F_i "into the same dimension with L_g" and adds no parameters: the stage's own query and key
    projections do it here.

    Args:
        attention: Pixel–word attention of the stage.
        features: F_i, float (B, N, C).
        sentence: L_g, float (B, D).

    Returns:
        Cosine of every pixel with the sentence, scaled, float (B, N).
    """
    query = attention.project_query(features)
    key = attention.key(sentence).unsqueeze(1)
    activation = F.cosine_similarity(query.float(), key.float(), dim=-1)
    low, high = activation.aminmax(dim=1, keepdim=True)
    return (activation - low) / (high - low).clamp(min=torch.finfo(activation.dtype).eps)


class DANetPredictorBlock(nn.Module):
    """What the transformer adds after equation 9: residual, self-attention and feed-forward layer with LayerNorm.

    With one vector per image the attention weights are 1, so self-attention is its value and output projections: the
    query and key projections could never receive a gradient and are not built.
    """

    def __init__(self, channels: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.norm1 = nn.LayerNorm(channels)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.reduce = nn.Linear(hidden, channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, sentence: Tensor, update: Tensor) -> Tensor:
        """Global semantics (B, C) and what was gathered for them (B, C) to the predictor (B, C)."""
        x = self.norm1(sentence + update)
        x = self.norm2(x + self.output(self.value(x)))
        return self.norm3(x + self.reduce(F.relu(self.expand(x))))


class DANetPredictor(nn.Module):
    """Reliable agent alignment module (RAAM), equations 4 to 9, and its two alternatives of table 5.

    ```text
    F_4 ── 1×1, BN, ReLU ── X (B, M, C) ── K = X W^K, V = X W^V
    words L_c ── W^Q ── corr (eq. 5) ── Σ over words: reliability r_m (eq. 6) ── top K: agents F^A
    L_g ── softmax(L_g W^Qg (F^A W^K)ᵀ) = corr^g (1×K) ─┐
    X   ── softmax(X W^Qp (F^A W^K)ᵀ) = corr^p (M×K) ───┴─ align = corr^g corr^pᵀ (eq. 8) ── Σ align·V (eq. 9)
    ```

    Args:
        config: The model's configuration.
        in_channels: Width of the last stage.
        channels: C, the width of the decoder's features.
    """

    def __init__(self, config: DANetConfig, in_channels: int, channels: int) -> None:
        super().__init__()
        text_channels = config.text_config.hidden_size
        self.mechanism = config.predictor
        self.num_agents = config.num_agents
        self.distance = config.agent_distance
        self.scale = channels**-0.5
        self.bottleneck = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.bottleneck_norm = nn.BatchNorm2d(channels)
        self.sentence = nn.Linear(text_channels, channels)
        self.sentence_query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.word_query = None
        if config.predictor == "agent":
            if config.agent_words == "weighted":
                self.word_query = nn.Linear(text_channels, channels, bias=False)
            # The paper reuses the symbol W^Q for words and pixels, whose widths differ.
            self.pixel_query = nn.Linear(channels, channels, bias=False)
        self.block = DANetPredictorBlock(channels, config.predictor_mlp_ratio)

    def forward(self, feature_map: Tensor, text: TextFeatures) -> Tensor:
        """Last stage (B, C_4, h, w) and words to the aligned predictor L̂_g (B, C)."""
        pixels = map_to_tokens(self.bottleneck_norm(self.bottleneck(feature_map)).relu())
        sentence = self.sentence(text.words[:, 0])  # [CLS]
        keys = self.key(pixels)
        query = self.sentence_query(sentence).unsqueeze(1)
        if self.mechanism == "agent":
            alignment = self.align_by_agents(pixels, keys, query, text)
        else:
            alignment = self.align_directly(keys, query)
        update = (alignment @ self.value(pixels)).squeeze(1)  # eq. 9
        return self.block(sentence, update)

    def align_by_agents(self, pixels: Tensor, keys: Tensor, query: Tensor, text: TextFeatures) -> Tensor:
        """Equations 7 and 8: alignment of the sentence with the pixels (B, 1, M) through the agents."""
        agents, reliability = self.select_agents(keys, text)
        agent_keys = keys.gather(1, agents.unsqueeze(-1).expand(-1, -1, keys.shape[-1]))
        if self.word_query is not None:
            # The choice of agents is discrete: weighing them by their reliability is what trains W^Q of the words.
            agent_keys = agent_keys * (reliability.softmax(-1) * reliability.shape[-1]).unsqueeze(-1)
        to_sentence = (query @ agent_keys.transpose(1, 2) * self.scale).softmax(-1)  # corr^g (B, 1, K)
        to_pixels = (self.pixel_query(pixels) @ agent_keys.transpose(1, 2) * self.scale).softmax(-1)  # corr^p
        return to_sentence @ to_pixels.transpose(1, 2)

    def select_agents(self, keys: Tensor, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Equations 4 to 6: the K most reliable pixels, indices int (B, K), and their reliability (B, K)."""
        reliability = self.reliability(keys, text)
        top = reliability.topk(min(self.num_agents, reliability.shape[1]), dim=1)
        return top.indices, top.values

    def reliability(self, keys: Tensor, text: TextFeatures) -> Tensor:
        """r_m (B, M), the correlation of a pixel with the real words, summed."""
        words = (
            self.sentence_query(self.sentence(text.words)) if self.word_query is None else self.word_query(text.words)
        )
        if self.distance == "cosine":
            correlation = F.normalize(words, dim=-1) @ F.normalize(keys, dim=-1).transpose(1, 2)
        elif self.distance == "l2":
            correlation = -(words.unsqueeze(2) - keys.unsqueeze(1)).square().sum(-1).clamp(min=1e-12).sqrt()
        else:
            correlation = words @ keys.transpose(1, 2)
        return (correlation * self.scale * text.mask.to(correlation.dtype).unsqueeze(-1)).sum(1)

    def align_directly(self, keys: Tensor, query: Tensor) -> Tensor:
        """Table 5: attention of the sentence to the pixels (B, 1, M), masked or not."""
        scores = query @ keys.transpose(1, 2) * self.scale
        if self.mechanism == "masked_attention":
            # Mask2Former: attend only where the current prediction is positive, everywhere if nowhere.
            outside = scores.detach() < 0
            outside = outside & ~outside.all(-1, keepdim=True)
            scores = scores.masked_fill(outside, torch.finfo(scores.dtype).min)
        return scores.softmax(-1)


class DANetForReferringSegmentation(LAVTForReferringSegmentation):
    """DANet: LAVT whose stages are aligned with the expression in training, and whose kernel the expression makes.

    ```text
    expression ── BERT ── words L_c (B, L, D), [CLS] L_g ───────────────────────────────┐
    image ── four stages fused as in LAVT ──┬── F_2, F_3, F_4 ── affinity loss (eq. 1–3) │
                                            ├── F_4 ── RAAM (eq. 4–9) ── L̂_g (B, C) ─────┘
                                            └── decoder ── E (B, C, H/4, W/4) ── E · L̂_g (eq. 10) ── logits
    ```
    """

    config_class = DANetConfig

    def build_head(self) -> None:
        """The predictor instead of the base's fixed kernel, which `predictor="conv"` keeps."""
        if self.config.predictor == "conv":
            super().build_head()
            return
        self.predictor = DANetPredictor(self.config, self.vision.channels[-1], self.hidden_size)
        scale = self.config.predictor_scale
        self.predictor_scale = self.hidden_size**-0.5 if scale is None else scale

    def predict(self, features: list[Tensor], text: tuple[TextFeatures, ...]) -> Tensor:
        """Equation 10 at a quarter of the size: the product commutes with the bilinear upsampling."""
        if self.config.predictor == "conv":
            return super().predict(features, text)
        kernel = self.predictor(features[-1], text[0])
        return torch.einsum("bchw,bc->bhw", self.decoder(features), kernel) * self.predictor_scale

    def compute_loss(
        self, logits: Tensor, labels: Tensor, stages: list[StageState], text: tuple[TextFeatures, ...]
    ) -> dict[str, Tensor]:
        """Equation 11: binary cross-entropy + λ_af · affinity loss; the latter in training only."""
        losses = {"binary_cross_entropy": binary_cross_entropy(logits, labels)}
        losses["loss"] = losses["binary_cross_entropy"]
        if self.training and self.config.affinity_weight > 0:
            losses["affinity"] = self.affinity_alignment(stages, text[0])
            losses["loss"] = losses["loss"] + self.config.affinity_weight * losses["affinity"]
        return losses

    def affinity_alignment(self, stages: list[StageState], text: TextFeatures) -> Tensor:
        """Sum of equation 3 over `affinity_stages`."""
        config = self.config
        total = text.words.new_zeros((), dtype=torch.float32)
        for number in config.affinity_stages:
            features = stages[number - 1].output
            with torch.no_grad():
                attention = self.fusion[number - 1].context.attention
                activation = text_to_visual_activation(attention, features, text.words[:, 0])
                labels = activation > config.affinity_threshold
            total = total + affinity_loss(features, labels, temperature=config.affinity_temperature)
        return total
