"""DANet: explicit affinity alignment (EAAS) and reliable agent alignment (RAAM) on the LAVT base.

"Rethinking the Implicit Optimization Paradigm with Dual Alignments for Referring Remote Sensing Image Segmentation",
ACM MM 2024. No code was published: each reading of what the paper leaves open is a field of [`DANetConfig`].
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from .alignment_rrsis import BatchNorm2d, PixelWordAttention, TextFeatures, map_to_tokens
from .configuration_rrsis import DANetConfig
from .loss_rrsis import BatchPart, affinity_loss, weighted_cross_entropy
from .modeling_lavt import LAVTForReferringSegmentation, LAVTStageFusion, StageState


def text_to_visual_activation(attention: PixelWordAttention, features: Tensor, sentence: Tensor) -> Tensor:
    """A_tv of section 3.2, min–max scaled to [0, 1] per image so that the threshold α has a meaning.

    The paper maps F_i "into the same dimension with L_g" and adds no parameters: the stage's own query and key
    projections do it here.

    Args:
        attention: Pixel–word attention of the stage. Its query projection has learnt on V_i, before the fusion.
        features: F_i, float (B, N, C).
        sentence: L_g, float (B, D).

    Returns:
        Cosine of every pixel with the sentence, scaled, float (B, N).
    """
    query = attention.project_query(features)
    key = attention.key(sentence).unsqueeze(1)
    dtype = torch.promote_types(query.dtype, torch.float32)
    activation = F.cosine_similarity(query.to(dtype), key.to(dtype), dim=-1)
    low, high = activation.aminmax(dim=1, keepdim=True)
    return (activation - low) / (high - low).clamp(min=torch.finfo(activation.dtype).eps)


class DANetKernelNorm(nn.LayerNorm):
    """LayerNorm whose output is the kernel of equation 10: it starts as the fixed one, its weight at `gain`."""

    def __init__(self, channels: int, gain: float) -> None:
        super().__init__(channels)
        self.gain = gain


class DANetPredictorBlock(nn.Module):
    """What the transformer adds after equation 9: residual, self-attention and feed-forward layer with LayerNorm.

    With one vector per image the attention weights are 1, so self-attention is its value and output projections: the
    query and key projections could never receive a gradient and are not built.

    Args:
        channels: Width C.
        mlp_ratio: Width of the feed-forward layer, as a multiple of C.
        gain: Initial weight of the last LayerNorm.
    """

    def __init__(self, channels: int, mlp_ratio: float, gain: float) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.norm1 = nn.LayerNorm(channels)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.reduce = nn.Linear(hidden, channels)
        self.norm3 = DANetKernelNorm(channels, gain=gain)

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

    With `agent_update="mean"` the align of eq. 8 is divided by its sum.

    Args:
        config: The model's configuration.
        in_channels: Width of the last stage.
        channels: C, the width of the decoder's features.
    """

    def __init__(self, config: DANetConfig, in_channels: int, channels: int) -> None:
        super().__init__()
        text_channels = config.get_text_config().hidden_size
        self.mechanism = config.predictor
        self.num_agents = config.num_agents
        self.distance = config.agent_distance
        self.has_mean_update = config.agent_update == "mean"
        self.scale = channels**-0.5
        self.bottleneck = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.bottleneck_norm = BatchNorm2d(channels)
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
        self.block = DANetPredictorBlock(channels, config.predictor_mlp_ratio, gain=config.predictor_gain)

    def forward(self, feature_map: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Last stage (B, C_4, h, w), words (B, L, D) and their mask (B, L) to the aligned predictor L̂_g (B, C)."""
        pixels = map_to_tokens(self.bottleneck_norm(self.bottleneck(feature_map)).relu())
        sentence = self.sentence(words[:, 0])  # [CLS]
        keys = self.key(pixels)
        query = self.sentence_query(sentence).unsqueeze(1)
        if self.mechanism == "agent":
            alignment = self.align_by_agents(pixels, keys, query, words, mask)
        else:
            alignment = self.align_directly(keys, query)
        update = (alignment @ self.value(pixels)).squeeze(1)  # eq. 9
        return self.block(sentence, update)

    def align_by_agents(self, pixels: Tensor, keys: Tensor, query: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Equations 7 and 8: alignment of the sentence with the pixels (B, 1, M) through the agents."""
        agents, reliability = self.select_agents(keys, words, mask)
        agent_keys = keys.gather(1, agents.unsqueeze(-1).expand(-1, -1, keys.shape[-1]))
        if self.word_query is not None:
            # The choice of agents is discrete: weighing them by their reliability is what trains W^Q of the words.
            agent_keys = agent_keys * (reliability.softmax(-1) * reliability.shape[-1]).unsqueeze(-1)
        to_sentence = (query @ agent_keys.transpose(1, 2) * self.scale).softmax(-1)  # corr^g (B, 1, K)
        to_pixels = (self.pixel_query(pixels) @ agent_keys.transpose(1, 2) * self.scale).softmax(-1)  # corr^p
        alignment = to_sentence @ to_pixels.transpose(1, 2)  # eq. 8
        return alignment / alignment.sum(-1, keepdim=True) if self.has_mean_update else alignment

    def select_agents(self, keys: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Equations 4 to 6: the K most reliable pixels, indices int (B, K), and their reliability (B, K)."""
        reliability = self.reliability(keys, words, mask)
        top = reliability.topk(min(self.num_agents, reliability.shape[1]), dim=1)
        return top.indices, top.values

    def reliability(self, keys: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """r_m (B, M), the correlation of a pixel with the real words, summed."""
        words = self.sentence_query(self.sentence(words)) if self.word_query is None else self.word_query(words)
        if self.distance == "cosine":
            correlation = F.normalize(words, dim=-1) @ F.normalize(keys, dim=-1).transpose(1, 2)
        elif self.distance == "l2":
            correlation = -(words.unsqueeze(2) - keys.unsqueeze(1)).square().sum(-1).clamp(min=1e-12).sqrt()
        else:
            correlation = words @ keys.transpose(1, 2)
        return (correlation * self.scale * mask.to(correlation.dtype).unsqueeze(-1)).sum(1)

    def align_directly(self, keys: Tensor, query: Tensor) -> Tensor:
        """Table 5: attention of the sentence to the pixels (B, 1, M), masked or not."""
        scores = query @ keys.transpose(1, 2) * self.scale
        if self.mechanism == "masked_attention":
            # As in Mask2Former, whose mask is an earlier layer's prediction; here the scores stand for it. Attend
            # where they are positive, everywhere if nowhere.
            outside = scores.detach() < 0
            outside = outside & ~outside.all(-1, keepdim=True)
            scores = scores.masked_fill(outside, torch.finfo(scores.dtype).min)
        return scores.softmax(-1)


class DANetForReferringSegmentation(LAVTForReferringSegmentation):
    """DANet: LAVT whose stages are aligned with the expression in training, and whose kernel the expression makes.

    ```text
    expression (B, L) ── BERT ── words L_c (B, L, D) ──┬── [CLS] L_g (B, D) ──┬─────────────────────┐
                                                       │                      │                     │
    image (B, 3, H, W) ── Swin stages, fused as LAVT ──┴┬── F_2, F_3, F_4 ────┴─ affinity loss      │  eq. 1–3
                                                        │   (B, N_i, C_i)        (training only)    │
                                                        ├── F_4 (B, C_4, H/32, W/32) ───── RAAM ────┘  eq. 4–9
                                                        │                                   │ L̂_g (B, C)
                                                        └── decoder ── E (B, C, H/4, W/4) ──┴── E · L̂_g  eq. 10
                                                                                                │
                                                     logits (B, H, W) ── bilinear, × 4 ─────────┘
    ```

    The paper has no public code. How it is read, and the field that chooses another reading:

    | in the paper | here | field |
    |---|---|---|
    | L_g, the [CLS] token | last hidden state; no pooler, as in LAVT's checkpoints | |
    | eq. 1, ‖F̃‖² | product of the two rows' norms: cosine similarity | |
    | eq. 1 and 3, softmax | arguments divided by a temperature, 1.0 in the paper | `affinity_temperature` |
    | eq. 1 and 2, F_i "enriched vision feature" | what the decoder gets, LayerNorm(PWAM); not V_i after the gate | |
    | eq. 2, F_i mapped to L_g's dimension | cosine of the PWAM's own query and key projections | |
    | eq. 2, a(x, y) > α | on the activation after min–max to [0, 1] per image | `affinity_threshold` |
    | eq. 3, norm of an N×N matrix | the same value from four sums per row, memory linear in N | |
    | eq. 4, W^Q of the words | ranks pixels only: trained through the agents' weights | `agent_words` |
    | eq. 4 and 7, the same W^Q for pixels | another matrix, since the widths differ | |
    | eq. 5, dis(·, ·) | dot product | `agent_distance` |
    | eq. 6, sum over L words | over the real words, padding left out | |
    | table 5, cross-attention | of L_g to X in RAAM's place; bottleneck and what follows eq. 9 stay | `predictor` |
    | table 5, masked attention | the same, to the pixels of positive score, since there is no mask yet | `predictor` |
    | eq. 9, sum over M pixels | their mean by alignment, so that its size is that of any image | `agent_update` |
    | after eq. 9, self-attention | of a single vector, so its weight is 1: value and output only | |
    | eq. 10, start of L̂_g | a fixed kernel like LAVT's, to which the sentence adds | `predictor_gain` |
    | eq. 10, E at H×W | E at H/4×W/4: the product commutes with the upsampling | |
    | eq. 11, BCE | mean over the pixels that are not ignored, no class weights | |

    Example:
        >>> import torch
        >>> from modeling_rrsis import DANetConfig, DANetForReferringSegmentation
        >>> small = {"backbone": "swin_tiny_patch4_window7_224", "text_config": {"num_hidden_layers": 1}}
        >>> model = DANetForReferringSegmentation(DANetConfig(**small)).eval()  # DANetConfig() is the published size
        >>> pixel_values, input_ids = torch.randn(2, 3, 96, 128), torch.tensor([[2, 8, 3], [2, 9, 3]])
        >>> outputs = model(pixel_values, input_ids, labels=torch.zeros(2, 96, 128, dtype=torch.long))
        >>> outputs.logits.shape, sorted(outputs.loss_dict)
        (torch.Size([2, 96, 128]), ['binary_cross_entropy'])
    """

    config: DANetConfig
    config_class = DANetConfig
    _no_split_modules = [*LAVTForReferringSegmentation._no_split_modules, "DANetPredictor"]  # noqa: RUF012

    def build_head(self) -> None:
        """The predictor instead of the base's fixed kernel, which `predictor="conv"` keeps."""
        if self.config.predictor == "conv":
            super().build_head()
            return
        self.predictor = DANetPredictor(self.config, self.vision.channels[-1], self.hidden_size)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As the base; the last LayerNorm starts as a fixed kernel, to which the sentence adds `predictor_gain`."""
        super()._init_weights(module)
        if isinstance(module, DANetKernelNorm):
            bound = module.bias.numel() ** -0.5  # PyTorch's for a 1×1 convolution of this width
            init.constant_(module.weight, module.gain)
            init.uniform_(module.bias, -bound, bound)

    def predict(self, features: list[Tensor], text: TextFeatures) -> Tensor:
        """Equation 10 at a quarter of the size: the product commutes with the bilinear upsampling."""
        if self.config.predictor == "conv":
            return super().predict(features, text)
        kernel = self.predictor(features[-1], text.words[0], text.mask[0])  # eq. 4–9: L̂_g (B, C)
        decoded = self.decoder(features)
        return torch.einsum("bchw,bc->bhw", decoded, kernel.to(decoded.device))  # eq. 10

    def compute_loss(
        self, logits: Tensor, labels: Tensor, stages: list[StageState], text: TextFeatures, part: BatchPart
    ) -> dict[str, Tensor]:
        """Equation 11: binary cross-entropy + λ_af · affinity loss; the latter in training only."""
        losses = {"binary_cross_entropy": weighted_cross_entropy(logits, labels, class_weights=(1.0, 1.0), part=part)}
        losses["loss"] = losses["binary_cross_entropy"]
        if self.training and self.config.affinity_weight > 0:
            losses["affinity"] = self.affinity_alignment(stages, text).to(logits.device)
            losses["loss"] = losses["loss"] + self.config.affinity_weight * losses["affinity"]
        return losses

    def affinity_alignment(self, stages: list[StageState], text: TextFeatures) -> Tensor:
        """Sum of equation 3 over `affinity_stages`, a scalar in float32 at least."""
        total = torch.zeros((), device=text.words.device)
        for number in self.config.affinity_stages:
            labels = self.affinity_labels(stages, text, number)
            cost = affinity_loss(stages[number - 1].output, labels, temperature=self.config.affinity_temperature)
            total = total + cost.to(total.device)
        return total

    @torch.no_grad()
    def affinity_labels(self, stages: list[StageState], text: TextFeatures, stage: int) -> Tensor:
        """Equation 2: the pixels of a stage (1 to 4) that the sentence activates above α, bool (B, N)."""
        attention = cast(LAVTStageFusion, self.fusion[stage - 1]).context.attention
        activation = text_to_visual_activation(attention, stages[stage - 1].output, text.words[0, :, 0])
        return activation > self.config.affinity_threshold
