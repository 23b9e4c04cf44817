"""A published checkpoint as a model folder, with a card that says whose weights these are."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCardData

from ..bounds_rrsis import read_text
from .checkpoint_source import find_checkpoint
from .model_card import TASK
from .model_folder import CONFIG_FILE, check_replaceable, save_hub_folder

if TYPE_CHECKING:
    from modeling_rrsis.convert import Conversion

TOKENIZER = "bert-base-uncased"
CONVERTED = "converted_from"
"""Entry of metrics.json that tells a folder of others' weights."""


@dataclass(frozen=True)
class PublishedWeights:
    """What is known of published weights.

    Args:
        name: What they are called.
        network: The network and its paper.
        authors: Who trained them.
        licence: What was found of a licence.
        expect: What to ask them, one or two sentences.
        example: An expression.
    """

    name: str
    network: str
    authors: str
    licence: str
    expect: str = "They know the categories of the benchmark that they were trained on."
    example: str = "the ship on the left"


PUBLISHED: dict[str, PublishedWeights] = {
    "lavt": PublishedWeights(
        "LAVT",
        "LAVT (CVPR 2022)",
        "Yang et al., or who trained their code again",
        "none found for weights; LAVT's code, which is not in here, is under GPL-3.0",
    ),
    "fianet": PublishedWeights(
        "FIANet",
        "FIANet (IEEE TGRS 2025)",
        "Lei et al., or who trained their code again",
        "none found: the repository states none, neither for code nor for weights",
    ),
    "rmsin": PublishedWeights(
        "RMSIN",
        "RMSIN (CVPR 2024)",
        "Liu et al., or who trained their code again",
        "none found: the repository states none, neither for code nor for weights",
    ),
    "remotesam": PublishedWeights(
        "RemoteSAM",
        "RMSIN (CVPR 2024), trained on 270,000 triplets of more than a thousand classes as RemoteSAM (2025)",
        "the authors of RemoteSAM, or who trained their code again",
        "none found for the weights, and the repository states none; the card of the data says CC-BY-NC-4.0, which is "
        "for non-commercial use",
        expect="A whole category is asked for as “vehicle in the image”: all of its objects are meant.",
        example="vehicle in the image",
    ),
}
REMOTESAM_GRID = 28
# Token limits of the released data pipelines, by network and benchmark; 20 where none is named.
MAX_LENGTHS = {("fianet", "rrsisd"): 22}


def published_weights(conversion: Conversion) -> PublishedWeights:
    """What is known of the weights of a conversion; RemoteSAM is told from RMSIN by its larger grid."""
    is_remotesam = conversion.sizes.get("grid_size") == REMOTESAM_GRID
    return PUBLISHED["remotesam" if is_remotesam else conversion.arch]


def convert_to_folder(
    checkpoint: str,
    folder: str | Path,
    *,
    arch: str | None = None,
    tokenizer: str = TOKENIZER,
    benchmark: str | None = None,
    text_heads: int | None = None,
    fusion_heads: list[int] | None = None,
) -> tuple[PublishedWeights, Conversion]:
    """Convert a published checkpoint to a folder that pipeline, commands, demo and exports take.

    Args:
        checkpoint: As of `find_checkpoint`.
        folder: New, empty or a model's folder, which is replaced.
        arch: `"lavt"`, `"fianet"` or `"rmsin"`; found from the keys if absent.
        tokenizer: BERT's: a folder, a vocabulary file or a name on the Hub.
        benchmark: `"rrsisd"` or `"refsegrs"`: the processor's categories and token limit.
        text_heads: Heads of BERT, which no tensor tells; one for each 64 channels if absent.
        fusion_heads: Heads of the pixel–word attention of the four stages, which no tensor tells; one each if absent.

    Returns:
        What is known of the weights, and what the conversion did.

    Raises:
        ValueError: The checkpoint is damaged, foreign, or not exactly one of these networks; the message names it.
        OSError: The checkpoint or the tokenizer can't be had, or the folder not be written.
    """
    from modeling_rrsis.convert import convert_checkpoint

    check_replaceable(Path(folder).expanduser().resolve(), CONFIG_FILE)
    file = find_checkpoint(checkpoint)
    loaded = load_tokenizer(tokenizer)
    model, conversion = convert_checkpoint(file.path, arch, text_heads=text_heads, fusion_heads=fusion_heads)
    known = published_weights(conversion)
    processor = build_processor(conversion, loaded, image_size=model.config.image_size, benchmark=benchmark)
    card = render_converted_card(
        conversion, file.source, Path(folder).name, model.config.image_size, processor.max_length
    )
    note = {CONVERTED: {"weights": known.name, "source": file.source, "licence": known.licence}}
    model.config.update(note)  # goes on with what is trained from it, copied or exported
    save_hub_folder(model, processor, folder, model_card=card, metrics=note)
    return known, conversion


def load_tokenizer(source: str) -> Any:
    """The tokenizer of a folder, a vocabulary file or a name on the Hub.

    Raises:
        ValueError: The file is no vocabulary of BERT.
        OSError: There is no such tokenizer, or the Hub is not reached.
    """
    from transformers import AutoTokenizer, BertTokenizer

    if not Path(source).is_file():
        try:
            return AutoTokenizer.from_pretrained(source)
        except OSError as error:
            raise OSError(
                f"--tokenizer: expected BERT's tokenizer, {source} is not here and was not fetched; where there is a "
                f"network, run `hf download {TOKENIZER} vocab.txt`, and give the file: --tokenizer vocab.txt"
            ) from error
    tokens = read_text(Path(source)).split("\n")
    vocabulary = {token.rstrip("\r"): index for index, token in enumerate(tokens) if token}
    if not {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} <= set(vocabulary):
        raise ValueError(f"--tokenizer: expected a BERT vocabulary, one token a line with [CLS] in it, got {source}.")
    return BertTokenizer(vocab=vocabulary)


def build_processor(conversion: Conversion, tokenizer: Any, *, image_size: int, benchmark: str | None) -> Any:
    """The processor that released weights need: alignment by words, the trained size and token limit.

    Raises:
        ValueError: The tokenizer has not as many tokens as the checkpoint's BERT.
    """
    from processing_rrsis import RRSISImageProcessor, RRSISProcessor

    vocab_size = conversion.sizes["text_config"]["vocab_size"]
    if len(tokenizer) != vocab_size:
        raise ValueError(
            f"--tokenizer: expected the {vocab_size} tokens of the checkpoint's BERT, got {len(tokenizer)} of another."
        )
    if benchmark is None:  # FIANet was released with one TMEM layer for RefSegRS and three for RRSIS-D
        benchmark = "refsegrs" if conversion.sizes.get("num_tmem_layers") == 1 else "rrsisd"
    return RRSISProcessor(
        RRSISImageProcessor(size={"height": image_size, "width": image_size}),
        tokenizer,
        categories=benchmark,
        alignment="word",
        max_length=MAX_LENGTHS.get((conversion.arch, benchmark), 20),
    )


def render_converted_card(conversion: Conversion, source: str, repo_id: str, image_size: int, max_length: int) -> str:
    """The card of a converted folder as Markdown with its metadata.

    Args:
        conversion: What was done.
        source: Where the checkpoint is from, as others may read it.
        repo_id: Name or folder that the example loads.
        image_size: Side in px that images are resized to.
        max_length: Token limit of an expression.
    """
    from modeling_rrsis.convert.report import describe

    known = published_weights(conversion)
    metadata = ModelCardData(
        language="en",
        license="unknown",
        library_name="transformers",
        pipeline_tag=TASK,
        tags=["referring-image-segmentation", "remote-sensing", "rrsis", conversion.arch],
    )
    template = Template(
        importlib.resources.files("hub_cards").joinpath("converted_card.md").read_text(encoding="utf-8")
    )
    return template.substitute(
        metadata=metadata.to_yaml(),
        title=f"{known.name}, converted",
        network=known.network,
        authors=known.authors,
        source=source,
        licence=known.licence,
        repo_id=repo_id,
        example=known.example,
        image_size=image_size,
        max_length=max_length,
        expect=known.expect,
        report=describe(conversion),
    )
