"""A tokenizer, a processor and three models small enough for every test of the processing side."""

import string

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from processing_rrsis.image_processing_rrsis import RRSISImageProcessor
from processing_rrsis.processor_rrsis import RRSISProcessor

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """
    the a on in at of left right middle top bottom upper lower red gray large vehicle ship dam bridge tank storage is
    above road building far
"""
TINY_SIZE = 64


def build_tiny_tokenizer():
    """Known words are one piece, other words fall into known beginnings and letters: "tanks" is tank ##s."""
    letters = string.ascii_lowercase + string.digits
    pieces = [*SPECIAL, *WORDS.split(), *letters, *(f"##{letter}" for letter in letters), *string.punctuation]
    known = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def build_tiny_processor(**options):
    size = {"height": TINY_SIZE, "width": TINY_SIZE}
    return RRSISProcessor(RRSISImageProcessor(size=size), build_tiny_tokenizer(), **options)


def build_tiny_model(name):
    """One of the three networks, a few hundred thousand parameters, random weights from seed 0."""
    import torch

    from modeling_rrsis import MODELS

    torch.manual_seed(0)
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = MODELS[name].config_class(
        backbone="swin_tiny_patch4_window7_224",
        backbone_kwargs={"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8), "window_size": 4},
        text_config={"model_type": "bert", "vocab_size": len(build_tiny_tokenizer()), **text},
        image_size=TINY_SIZE,
    )
    return MODELS[name](config).eval()
