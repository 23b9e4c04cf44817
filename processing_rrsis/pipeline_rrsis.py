"""`ReferringSegmentationPipeline`: image and expression in, mask out, through `transformers.pipeline`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset
from transformers import AutoModel, Pipeline
from transformers.utils import logging

from .bounds_rrsis import shown
from .image_loading_rrsis import load_image, to_rgb8
from .mask_output_rrsis import check_polygons_available, mask_to_polygons
from .presence_rrsis import pooled_log_odds

TASK = "referring-image-segmentation"
OUTPUTS = ("mask", "probability", "polygons")


class _SharedImage:
    """An image asked about several times: loaded and prepared once, on first use."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self._prepared: tuple[torch.Tensor, tuple[int, int]] | None = None

    def prepare(self, processor: Any) -> tuple[torch.Tensor, tuple[int, int]]:
        """Return `pixel_values` (1, 3, h, w) and the image's own (height, width), EXIF rotation applied."""
        if self._prepared is None:
            picture = ReferringSegmentationPipeline.open_image(self.source)
            pixel_values = processor(images=picture, return_tensors="pt")["pixel_values"]
            self._prepared = pixel_values, (picture.height, picture.width)
        return self._prepared


class _Rows(Dataset):
    """Rows as transformers' pipelines read a dataset: lazily, by number, in several workers where asked to."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return _row_item(self.rows[index])


class ReferringSegmentationPipeline(Pipeline):
    """Segment what an expression refers to.

    An image is a path, an http(s) URL, a PIL image of any mode, or an array; see `RRSISImageProcessor`.

    Example:
        >>> from transformers import pipeline

        >>> pipe = pipeline("referring-image-segmentation", model="runs/fianet/best", trust_remote_code=True)
        >>> pipe("harbor.png", text="the ship on the left")
        {'label': 'the ship on the left', 'score': 0..., 'mask': <PIL...>, 'found': True, 'presence': None}
        >>> results = pipe("harbor.png", text=["the ship on the left", "the large ship"], batch_size=2)
        >>> [result["label"] for result in results]
        ['the ship on the left', 'the large ship']
        >>> rows = [{"image": "harbor.png", "text": "the dam"}, {"image": "harbor.png", "text": "the bridge"}]
        >>> for result in pipe(iter(rows), batch_size=2):  # a data set, too: "image" and "text" or "expression"
        ...     result["mask"].save(f"{result['label']}.png")
    """

    processor: Any
    _registered_impl: Any
    _load_processor: Any = True
    _load_tokenizer: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False
    _load_video_processor: Any = False

    def __call__(  # type: ignore[override]
        self, inputs: Any = None, text: str | Sequence[str] | None = None, *, progress: bool = False, **kwargs: Any
    ) -> Any:
        """Segment.

        Args:
            inputs: an image; a list of images; a row `{"image": ..., "text": ...}`; a list, dataset or generator of
                rows (`"expression"` is read where a row has no `"text"`).
            text: an expression; or a list: several expressions for one image, one each for a list of images. One
                string with a list of images is asked of each image.
            progress: show a progress bar for lists, datasets and generators (transformers' own:
                `transformers.utils.logging.disable_progress_bar()` hides it).
            **kwargs: `threshold` (probability above which a pixel is foreground, default 0.5), `presence_threshold`
                (of a calibrated model: probability that the object is there, below which the mask is empty, default
                0.5; 0 to see what is marked in any case), `output` (`"mask"`; `"probability"` or `"polygons"` to get
                that beside it), `batch_size`, `num_workers`.

        Returns:
            For one image and one expression a dict; for several a list of dicts in order; for datasets and generators
            an iterable of dicts, computed as it is read. Keys: `label` (the expression), `score` (mean foreground
            probability inside the mask, 0.0 where the mask is empty), `mask` (PIL image "L", 0 and 255, of the
            image's own size), `found` (whether anything is marked), `presence` (probability that the object is there,
            None for a model that is not calibrated, see `rrsis calibrate`) and, where asked for, `probability`
            (float32 array (H, W) in [0, 1]) or `polygons` (the
            mask's exact outlines, holes kept: `{"type": "MultiPolygon", "coordinates": ...}` in pixels [x, y] from
            the image's upper left corner, y downwards; needs rasterio).

        Raises:
            ValueError: no image, no text, numbers that differ, a blank expression or an unreadable file.
            FileNotFoundError: a path where nothing is.
            TypeError: unknown options, or an expression that is no string.
            ImportError: polygons without rasterio.
        """
        inputs = kwargs.pop("images", kwargs.pop("image", None)) if inputs is None else inputs
        if inputs is None:
            raise ValueError("image: expected a path, URL, PIL image, array, row or list of them, got None")
        if _is_stream(inputs):
            if text is not None:
                raise ValueError("text: a dataset or generator brings its own, in its rows; expected None here")
            stream = _Rows(inputs) if _has_numbers(inputs) else (_row_item(row) for row in inputs)
            return _with_bar(super().__call__(stream, **kwargs), inputs if progress else None)
        items = _items(inputs, text)
        if len(items) == 1:
            results: Iterable[Any] = [super().__call__(items[0], **kwargs)]
        elif all(item["image"] is items[0]["image"] for item in items):
            results = self._ask_about(items, **kwargs)
        else:
            results = super().__call__(_Rows(items), **kwargs)
        results = list(_with_bar(results, items if progress else None))
        asked = _row_text(inputs) if isinstance(inputs, Mapping) else text
        return results if isinstance(inputs, list | tuple) or not isinstance(asked, str) else results[0]

    def _ask_about(self, items: list[dict[str, Any]], batch_size: int | None = None, **kwargs: Any) -> Iterator[Any]:
        """Several expressions on one image: in a batch, what the model sees before it reads is computed once."""
        kwargs.pop("num_workers", None)  # one image, nothing to read beside it
        size = batch_size or self._batch_size or 1
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"batch_size: expected an integer of at least 1, got {size!r}")
        for start in range(0, len(items), size):
            texts = [item["text"] for item in items[start : start + size]]
            yield from super().__call__({"image": items[0]["image"], "text": texts}, **kwargs)

    @staticmethod
    def open_image(source: Any) -> Image.Image:
        """Return an image as the network is shown it, at its own size.

        Args:
            source: what a call takes: path, URL, PIL image of any mode, array.

        Returns:
            8-bit RGB, EXIF rotation applied, deeper values stretched.

        Raises:
            ValueError, FileNotFoundError, TypeError: as a call; about the content, with the file's name.
        """
        try:
            return to_rgb8(load_image(source))
        except (TypeError, ValueError) as error:
            if isinstance(source, str) and shown(source) not in str(error):
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"image file {shown(source)!r}: {error}") from error
            raise

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        unknown = sorted(set(kwargs) - {"threshold", "output", "presence_threshold"})
        if unknown:
            raise TypeError(
                "expected the options threshold, presence_threshold, output, progress, batch_size and num_workers, "
                f"got {unknown}"
            )
        if kwargs.get("output", "mask") not in OUTPUTS:
            raise ValueError(f"output: expected one of {list(OUTPUTS)}, got {kwargs['output']!r}")
        if kwargs.get("output") == "polygons":
            check_polygons_available()
        for name in ("threshold", "presence_threshold"):
            value = kwargs.get(name, 0.5)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}: expected a probability in [0, 1], got {value!r}")
        return {}, {}, kwargs

    def preprocess(self, input_: Mapping[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        """Prepare one (image, expression): model inputs of batch size 1, the expression and the image's size."""
        if self.processor is None:
            raise ValueError("processor: expected an RRSISProcessor, got None; pass processor=... to the pipeline")
        pixel_values, size = input_["image"].prepare(self.processor)
        inputs = dict(self.processor(text=input_["text"], return_tensors="pt"))
        return {
            **inputs,
            "pixel_values": pixel_values,
            "target_size": torch.tensor([size]),
            "label": input_["text"],
        }

    def _forward(self, input_tensors: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        inputs = dict(input_tensors)
        kept = {name: inputs.pop(name) for name in ("target_size", "label")}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        return {"logits": self.model(**inputs).logits, **kept}

    def postprocess(  # type: ignore[override]
        self, model_outputs: Any, threshold: float = 0.5, output: str = "mask", presence_threshold: float = 0.5
    ) -> Any:
        """Turn log-odds into the result item, or into a list of them where several expressions were asked."""
        label = model_outputs["label"]
        labels = label if isinstance(label, list) else [label]
        masks, probabilities = self.processor.post_process_referring_segmentation(
            model_outputs["logits"],
            target_sizes=model_outputs["target_size"].expand(len(labels), -1),
            threshold=threshold,
            return_probabilities=True,
        )
        calibration = self.processor.presence
        presences: list[float | None] = [None] * len(labels)
        if calibration is not None:
            sure = calibration(pooled_log_odds(model_outputs["logits"]))
            masks = [mask & is_there for mask, is_there in zip(masks, sure >= presence_threshold, strict=True)]
            presences = sure.tolist()
        results = [
            self._result(text, mask.numpy(), probability.numpy(), output) | {"presence": presence}
            for text, mask, probability, presence in zip(labels, masks, probabilities, presences, strict=True)
        ]
        return results if isinstance(label, list) else results[0]

    @staticmethod
    def _result(label: str, mask: np.ndarray, probability: np.ndarray, output: str) -> dict[str, Any]:
        """The item of one expression from its mask, bool (H, W), and probabilities, float (H, W)."""
        result = {
            "label": label,
            "score": float(probability[mask].mean()) if mask.any() else 0.0,
            "mask": Image.fromarray(mask.astype(np.uint8) * np.uint8(255)),
            "found": bool(mask.any()),
        }
        if output == "probability":
            result["probability"] = probability
        if output == "polygons":
            result["polygons"] = mask_to_polygons(mask)
        return result

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save model, pipeline code and the whole processor (the base class forgets the latter)."""
        if type(self).__dict__.get("_registered_impl") is None:  # loaded as remote code, never registered here
            type(self)._registered_impl = {TASK: {"impl": type(self), "pt": (AutoModel,), "type": "multimodal"}}
        # Marked so, both write their code beside their configuration.
        type(self.processor).register_for_auto_class("AutoProcessor")
        type(self.processor.image_processor).register_for_auto_class("AutoImageProcessor")
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)


def _item(image: Any, text: Any) -> dict[str, Any]:
    """Check one pair before any work is done."""
    if image is None:
        raise ValueError(
            'image: expected a path, URL, PIL image or array, got None; a row looks like {"image": ..., "text": ...}'
        )
    if text is None:
        raise ValueError('text: expected an expression such as "the ship on the left", got None; pass text="..."')
    if not isinstance(text, str):
        raise TypeError(f"text: expected a string, got {type(text).__name__} ({text!r})")
    if not text.strip():
        raise ValueError(f'text: expected an expression such as "the ship on the left", got {text!r}')
    return {"image": image if isinstance(image, _SharedImage) else _SharedImage(image), "text": text}


def _checked_row(row: Any) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise TypeError(f'row: expected {{"image": ..., "text": ...}}, got {type(row).__name__}')
    return row


def _row_text(row: Mapping[str, Any]) -> Any:
    text = row.get("text", row.get("expression"))
    return list(text) if isinstance(text, tuple) else text


def _row_item(row: Any) -> dict[str, Any]:
    return _item(_checked_row(row).get("image"), _row_text(row))


def _items(inputs: Any, text: Any) -> list[dict[str, Any]]:
    """Every pair of an image and an expression, in order; the pairs of one image share it."""
    items: list[dict[str, Any]] = []
    for image, texts in _asked(inputs, text):
        shared = None if image is None else _SharedImage(image)
        items += [_item(shared, each) for each in (texts if isinstance(texts, list) and texts else [texts])]
    return items


def _asked(inputs: Any, text: Any) -> list[tuple[Any, Any]]:
    """Every image with its expression, or with a list of them: of images, of one image, or of rows."""
    images = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    if not images:
        raise ValueError("image: expected at least one image, got an empty list")
    if any(isinstance(image, Mapping) for image in images):
        if text is not None:
            raise ValueError('text: rows bring their own, expected None beside [{"image": ..., "text": ...}, ...]')
        return [(_checked_row(row).get("image"), _row_text(row)) for row in images]
    if text is None:
        raise ValueError('text: expected an expression for the images, got None; pass text="the ship on the left"')
    if isinstance(text, str):
        return [(image, text) for image in images]
    if isinstance(text, bytes | Mapping) or not isinstance(text, Iterable):
        raise TypeError(f"text: expected a string or a list of strings, got {type(text).__name__} ({text!r})")
    texts = list(text)
    if not texts:
        raise ValueError("text: expected at least one expression, got an empty list")
    if not isinstance(inputs, list | tuple):
        return [(inputs, texts)]
    if len(texts) != len(images):
        raise ValueError(
            f"image, text: expected as many expressions as images, got {len(images)} images and {len(texts)} "
            "expressions; for several expressions on one image pass the image alone, not in a list"
        )
    return list(zip(images, texts, strict=True))


def _is_stream(inputs: Any) -> bool:
    """Whether the input is a dataset or an iterator of rows."""
    if isinstance(inputs, str | bytes | list | tuple | Mapping | np.ndarray | torch.Tensor | Image.Image):
        return False
    if hasattr(inputs, "__array__"):  # an image of another array library
        return False
    return hasattr(inputs, "__iter__") or _has_numbers(inputs)


def _has_numbers(rows: Any) -> bool:
    """Whether rows are read by number, as of a list, and not one after another."""
    is_iterator = isinstance(rows, IterableDataset)
    return hasattr(rows, "__getitem__") and hasattr(rows, "__len__") and not is_iterator


def _with_bar(results: Iterable[Any], inputs: Any) -> Iterable[Any]:
    """Count the results in a progress bar; `inputs` says how many come, None that no bar is wanted."""
    if inputs is None:
        return results
    return logging.tqdm(results, total=len(inputs) if hasattr(inputs, "__len__") else None, unit="mask")
