"""`RRSISProcessor`: images, expressions and masks to everything a referring segmentation model eats, and back.

One processor feeds all three models: the ground-object and spatial-position masks are read by FIANet and accepted and
ignored by LAVT, DANet and RMSIN.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin
from transformers.utils import logging

from .expression_rrsis import ExpressionParser, ParsedExpression, check_text, expression_masks, shortened
from .image_batch_rrsis import flatten_images
from .presence_rrsis import Calibration

if TYPE_CHECKING:  # for transformers, which copies the files that a file names like this: the pipeline's comes along
    from .pipeline_rrsis import ReferringSegmentationPipeline  # noqa: F401

logger = logging.get_logger(__name__)

_CACHE_LIMIT = 16_384


class RRSISTextKwargs(TypedDict, total=False):
    """Call options of the tokenizer.

    `max_length` is one too, but not here: it has its default in the processor's constructor, and transformers wants
    such names apart. What would make more or fewer rows of an expression (overflow, pairs, split words) is left out.
    """

    add_special_tokens: bool
    padding: bool | str
    padding_side: str
    pad_to_multiple_of: int
    truncation: bool | str
    return_token_type_ids: bool
    return_special_tokens_mask: bool
    return_offsets_mapping: bool
    return_length: bool
    return_tensors: str
    verbose: bool


class RRSISNoKwargs(TypedDict, total=False):
    """Options of the videos and sounds that transformers' processors may take and this one does not."""


class RRSISProcessorKwargs(ProcessingKwargs, total=False):
    """Call options: those of the image processor and of the tokenizer, with our defaults."""

    # transformers narrows these keys the same way in its own processors; a type checker calls it an overwritten field
    text_kwargs: RRSISTextKwargs  # type: ignore[misc]
    videos_kwargs: RRSISNoKwargs  # type: ignore[misc]
    audio_kwargs: RRSISNoKwargs  # type: ignore[misc]
    _defaults = {  # type: ignore[misc]  # noqa: RUF012 - transformers' own form
        "text_kwargs": {"padding": True, "truncation": True, "return_token_type_ids": False}
    }


class RRSISProcessor(ProcessorMixin):
    r"""Image processor, tokenizer and expression parser in one.

    Args:
        image_processor (`RRSISImageProcessor`): prepares images and masks.
        tokenizer (`PreTrainedTokenizerBase`): a BERT tokenizer; `"wordpiece"` needs one with character offsets.
        categories (`str` or `list[str]`, *optional*, defaults to `"rrsisd"`): the names that count as ground objects:
            `"rrsisd"`, `"refsegrs"`, `"synthetic"` or your own.
        alignment (`str`, *optional*, defaults to `"wordpiece"`): `"wordpiece"` marks exactly the pieces of the
            selected words; `"word"` does what FIANet's released code does and belongs to the released weights.
        max_length (`int`, *optional*, defaults to 22): tokens per expression, [CLS] and [SEP] included (the published
            limit is 22 for RRSIS-D and 20 for RefSegRS). Longer expressions are cut, with a warning.
        presence_cut (`float`, *optional*): log-odds of the best pixels below which nothing is found, as
            `rrsis calibrate` fits it; without it a mask decides by itself.
        presence_temperature (`float`, *optional*, defaults to 1.0): how steep the probability is around the cut.
        trained_words (`list[str]`, *optional*): words that the tokenizer knows in single letters alone and that the
            model was trained on all the same, in lower case; no warning names them.

    Example:
        >>> import numpy as np
        >>> from processing_rrsis import RRSISImageProcessor, RRSISProcessor
        >>> from processing_rrsis.data import build_synthetic_tokenizer

        >>> processor = RRSISProcessor(RRSISImageProcessor(), build_synthetic_tokenizer(), categories=["ship"])
        >>> image = np.zeros((600, 800, 3), dtype=np.uint8)
        >>> inputs = processor(images=image, text="the ship on the left", return_tensors="pt")
        >>> inputs["pixel_values"].shape, inputs["input_ids"].shape
        (torch.Size([1, 3, 480, 480]), torch.Size([1, 7]))
        >>> inputs["ground_object_mask"].tolist(), inputs["spatial_position_mask"].tolist()
        ([[0, 0, 1, 0, 0, 0, 0]], [[0, 0, 0, 1, 1, 1, 0]])
        >>> log_odds = inputs["pixel_values"][:, 0]  # in place of model(**inputs).logits
        >>> masks = processor.post_process_referring_segmentation(log_odds, target_sizes=[image.shape[:2]])
        >>> masks[0].shape, masks[0].dtype
        (torch.Size([600, 800]), torch.bool)
    """

    valid_processor_kwargs = RRSISProcessorKwargs  # type: ignore[assignment]  # narrowed keys, see there

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        categories: str | list[str] = "rrsisd",
        alignment: str = "wordpiece",
        max_length: int = 22,
        presence_cut: float | None = None,
        presence_temperature: float = 1.0,
        trained_words: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)
        if alignment == "wordpiece" and not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f'tokenizer: alignment "wordpiece" expects one with character offsets, got '
                f"{type(tokenizer).__name__}; use the tokenizers-backed one (AutoTokenizer gives it)"
            )
        self.expression_parser = ExpressionParser(categories, alignment)
        self.categories = categories if isinstance(categories, str) else list(categories)
        self.alignment = alignment
        self.max_length = _check_limit(max_length)
        self.presence_cut, self.presence_temperature = presence_cut, presence_temperature
        self.trained_words = trained_words
        self._parses: dict[str, ParsedExpression] = {}
        self._warned: set[str | tuple[str, str]] = set()

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        segmentation_maps: Any = None,
        allow_empty_text: bool | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare images, expressions, or both; pair number i of the images goes with number i of the expressions.

        Args:
            images: one image or a list (see `RRSISImageProcessor`). In a list of lists, one for each expression, an
                empty list says that the expression has no image: it gets its tokens, and no row of `pixel_values`.
            text: one expression or a list.
            segmentation_maps: one mask per image, of the image's size; becomes `labels`.
            allow_empty_text: accept blank expressions (a control: what does the model see without the text?); not
                accepted by default.
            **kwargs: `return_tensors`, `padding` (default: to the longest of the batch; `"max_length"`: to the limit),
                `max_length`, `truncation` and the image processor's options.

        Returns:
            `pixel_values` float32 (B, 3, H, W), `labels` int64 (B, H, W); `input_ids`, `attention_mask`,
            `ground_object_mask`, `spatial_position_mask`, int64 (B, L), 1 where a token belongs to the part.

        Raises:
            ValueError: neither images nor text, numbers that differ, a blank expression, masks that do not fit.
            TypeError: an expression that is no string.
        """
        if images is None and text is None:
            raise ValueError(
                "images, text: expected at least one of them, got neither; pass images=..., text=... or both"
            )
        if images is None and segmentation_maps is not None:
            raise ValueError("segmentation_maps: expected the images they belong to, got images=None; pass images=...")
        expressions = None if text is None else _check_expressions(text, allow_empty_text=bool(allow_empty_text))
        limit = self._token_limit(kwargs)
        options = self._merge_kwargs(
            RRSISProcessorKwargs,  # type: ignore[arg-type]  # annotated as an instance, but the class is wanted
            tokenizer_init_kwargs=self.tokenizer.init_kwargs,
            **kwargs,
        )
        # transformers 5.17 and before drop a plain keyword where a dictionary such as `text_kwargs` is given as well.
        tensors = {"return_tensors": kwargs.get("return_tensors")}
        data: dict[str, Any] = {}
        if images is not None:
            flat = _images_of_expressions(images, expressions=expressions)
            image_options = {**tensors, **options["images_kwargs"]}
            data.update(self.image_processor(flat, segmentation_maps=segmentation_maps, **image_options))
        if expressions is not None:
            text_options = {**tensors, **options["text_kwargs"], "max_length": limit}
            data.update(self._encode(expressions, text_options, allow_empty_text=bool(allow_empty_text)))
        return BatchFeature(data=data)

    def _token_limit(self, options: dict[str, Any]) -> int:
        """Take `max_length` out of a call's options; the tokenizer's own, then the processor's stand in for it."""
        given = [options.pop("max_length", None)]
        if "text_kwargs" in options:
            options["text_kwargs"] = dict(options["text_kwargs"])
            given.append(options["text_kwargs"].pop("max_length", None))
        given = [limit for limit in given if limit is not None]
        if len(given) > 1:
            raise ValueError(
                f"max_length: expected it once, got {given[0]} as a keyword and {given[1]} in text_kwargs; drop one"
            )
        return _check_limit(given[0] if given else self.tokenizer.init_kwargs.get("max_length") or self.max_length)

    def _encode(self, expressions: list[str], options: dict[str, Any], allow_empty_text: bool) -> dict[str, Any]:
        """Tokenise, then mark object and position tokens."""
        tensor_type = options.pop("return_tensors", None)
        keep_offsets = options.pop("return_offsets_mapping", None)
        has_offsets = bool(getattr(self.tokenizer, "is_fast", False))
        # A "[SEP]" that a user typed is text like any other.
        encoding = self.tokenizer(
            expressions, return_offsets_mapping=has_offsets, split_special_tokens=True, **options
        )
        self._check_known(expressions, encoding, allow_empty_text=allow_empty_text)
        self._warn_of_truncation(expressions, encoding, limit=options["max_length"])
        if self.alignment == "word":
            _cut_without_separator(encoding)
        object_masks, position_masks = [], []
        for index, expression in enumerate(expressions):
            offsets = encoding["offset_mapping"][index] if has_offsets else None
            masks = expression_masks(self.parse(expression), encoding["attention_mask"][index], offsets)
            object_masks.append(masks[0])
            position_masks.append(masks[1])
        data = {key: value for key, value in encoding.items() if keep_offsets or key != "offset_mapping"}
        data["ground_object_mask"] = object_masks
        data["spatial_position_mask"] = position_masks
        return dict(BatchFeature(data=data, tensor_type=tensor_type))

    def save_pretrained(
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """Save as transformers does, with the code; the processor itself is left as it was.

        transformers notes the code's files in the object as `auto_map`, which loading drops again: kept, a processor
        would no longer equal its own copy.
        """
        noted = getattr(self, "auto_map", None)
        try:
            return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        finally:
            if noted is None and hasattr(self, "auto_map"):
                del self.auto_map

    def parse(self, expression: str) -> ParsedExpression:
        """Return what the processor reads in an expression: its object and its position spans (remembered)."""
        parsed = self._parses.get(expression)
        if parsed is None:
            if len(self._parses) >= _CACHE_LIMIT:
                self._parses.clear()
            parsed = self._parses[expression] = self.expression_parser.parse(expression)
        return parsed

    def _warn_of_truncation(self, expressions: list[str], encoding: Any, limit: int) -> None:
        """Warn of expressions that lost tokens."""
        for expression, encoded in zip(expressions, encoding.encodings or (), strict=False):
            if not encoded.overflowing:
                continue
            parts = (encoded, *encoded.overflowing)
            needed = (
                sum(part.special_tokens_mask.count(0) for part in parts) + self.tokenizer.num_special_tokens_to_add()
            )
            self._warn_once(
                expression,
                f"has {needed} tokens, the limit is max_length={limit}: its end is cut off. "
                "Shorten it, or raise max_length if the model was trained with longer expressions.",
            )

    def _check_known(self, expressions: list[str], encoding: Any, allow_empty_text: bool) -> None:
        """Refuse expressions of which the tokenizer knows nothing; warn of words that it doesn't know."""
        for index, (expression, encoded) in enumerate(zip(expressions, encoding.encodings or (), strict=False)):
            pieces: dict[str, list[str]] = {}
            for token, word in zip(encoded.tokens, encoded.word_ids, strict=True):
                written = "" if word is None else expression[slice(*encoded.word_to_chars(word))]
                if any(map(str.isalnum, written)) or not written.isascii():  # letters, figures; signs such as emoji
                    pieces.setdefault(written, []).append(token)
            unknown = [written for written, tokens in pieces.items() if self._is_unknown(written, tokens)]
            if all(set(tokens) == {self.tokenizer.unk_token} for tokens in pieces.values()) and not allow_empty_text:
                raise ValueError(
                    f"text[{index}]: expected English words, got {shortened(expression)}, of which the model knows "
                    "none; write another expression"
                )
            new = [word for word in unknown if word not in self._warned]  # once each: training reads many expressions
            if new:
                self._warned.update(new)
                listed = ", ".join(map(shortened, new[:5]))
                self._warn_once(
                    expression,
                    f"has words that the model never saw whole: {listed}. Use others, or train it on such.",
                )

    def _is_unknown(self, word: str, tokens: list[str]) -> bool:
        """Whether a word is unknown, or known by its single letters alone, as every word of another script is."""
        in_letters = all(len(token.removeprefix("##")) == 1 for token in tokens)
        in_letters = in_letters and word.lower() not in (self.trained_words or ())
        return self.tokenizer.unk_token in tokens or (in_letters and (len(word) > 1 or not word.isascii()))

    def _warn_once(self, expression: str, text: str) -> None:
        """Warn of an expression, once for each text."""
        if (expression, text) in self._warned:
            return
        if len(self._warned) >= _CACHE_LIMIT:
            self._warned.clear()
        self._warned.add((expression, text))
        logger.warning(f"expression {shortened(expression)} {text}")

    def post_process_referring_segmentation(
        self,
        outputs: Any,
        target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None = None,
        threshold: float = 0.5,
        return_probabilities: bool = False,
    ) -> list[torch.Tensor] | tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Turn foreground log-odds into bool masks; see `RRSISImageProcessor.post_process_referring_segmentation`."""
        return self.image_processor.post_process_referring_segmentation(
            outputs, target_sizes=target_sizes, threshold=threshold, return_probabilities=return_probabilities
        )

    @property
    def presence(self) -> Calibration | None:
        """How log-odds become the probability that the object is there; None for a model without calibration."""
        return None if self.presence_cut is None else Calibration(self.presence_cut, self.presence_temperature)

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors a call with images and text returns."""
        return ["pixel_values", "input_ids", "attention_mask", "ground_object_mask", "spatial_position_mask"]

    def __getstate__(self) -> dict[str, Any]:
        """Pickle (data loader workers) without what was remembered."""
        return {**self.__dict__, "_parses": {}, "_warned": set()}


def _cut_without_separator(encoding: Any) -> None:
    """Let a truncated expression end with its own next word piece, not with [SEP], as the released code cuts it."""
    for row, encoded in enumerate(encoding.encodings or ()):
        if encoded.overflowing:
            rest = encoded.overflowing[0]
            first = next(index for index, special in enumerate(rest.special_tokens_mask) if not special)
            last = max(index for index, attended in enumerate(encoding["attention_mask"][row]) if attended)
            encoding["input_ids"][row][last] = rest.ids[first]


def _check_expressions(text: Any, allow_empty_text: bool) -> list[str]:
    """Return the expressions as a list, after checking type and content."""
    expressions = [text] if isinstance(text, str) else text
    if not isinstance(expressions, list | tuple):
        raise TypeError(f"text: expected a string or a list of strings, got {type(text).__name__}")
    if not expressions:
        raise ValueError("text: expected at least one expression, got an empty list")
    for index, expression in enumerate(expressions):
        if not isinstance(expression, str):
            raise TypeError(
                f"text[{index}]: expected a string, got {type(expression).__name__} ({expression!r}); "
                "pass expressions untokenised"
            )
        check_text(expression, source=f"text[{index}]")
        if not expression.strip() and not allow_empty_text:
            raise ValueError(
                f"text[{index}]: expected an expression such as 'the ship on the left', got {expression!r}; "
                "drop it, or pass allow_empty_text=True to measure what the model sees without text"
            )
    return list(expressions)


def _images_of_expressions(images: Any, expressions: list[str] | None) -> list[Any]:
    """Flatten the images, after checking that there is one for each expression, or an empty list in its place."""
    if expressions is None:
        return flatten_images(images)
    is_nested = isinstance(images, list | tuple) and all(isinstance(item, list | tuple) for item in images)
    num_without = sum(not item for item in images) if is_nested and any(images) else 0
    flat = flatten_images([item for item in images if item] if num_without else images)
    if len(flat) + num_without != len(expressions):
        raise ValueError(
            f"images, text: expected as many expressions as images, got {len(flat)} images and {len(expressions)} "
            "expressions; repeat the image for several expressions, or use the pipeline, which does it"
        )
    return flat


def _check_limit(max_length: Any) -> int:
    if isinstance(max_length, bool) or not isinstance(max_length, int) or not 3 <= max_length < 2**31:
        raise ValueError(
            f"max_length: expected an integer of at least 3 ([CLS], one token, [SEP]), below 2³¹, got {max_length!r}"
        )
    return max_length
