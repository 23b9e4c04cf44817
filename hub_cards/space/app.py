"""A demo in the browser: an image and expressions in, masks out.

Runs as a Space of the Hub, with nothing but what `requirements.txt` beside it names. The variable `MODEL_ID` says
which repository of the Hub (or which folder) the model comes from; `examples.json` in the folder `examples` says what
to offer. `rrsis demo` runs the same app at home.
"""

import json
import os
import re
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageOps, PngImagePlugin, UnidentifiedImageError

try:
    import rasterio
except ImportError:  # at home without the extra geo: masks have no place
    rasterio = None

FOLDER = tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True)
"""Of all that the page writes, deleted with the process; Gradio reads its name at import and leaves empty folders."""
os.environ.setdefault("GRADIO_TEMP_DIR", FOLDER.name)

import gradio as gr  # noqa: E402

TASK = "referring-image-segmentation"
MAX_PIXELS = 8_000_000
MAX_EXPRESSIONS = 6
MAX_CHARACTERS = 300
# An example's expressions stand one a line in the list, as they do in the box.
_CSS = "tr.tr-body td { white-space: pre-line; }"
LAUNCH_OPTIONS: dict[str, Any] = {"max_file_size": "50mb", "footer_links": ["gradio", "settings"], "css": _CSS}
DISPLAY_SIDE_PX = 1024
OPACITY = 0.45
COLOURS = ("#ff2828", "#00a0ff", "#ffbe00", "#be46ff", "#00c878", "#ff6ebe")
WORD_COLOURS = {"object": "#22c55e", "position": "#06b6d4"}
_ACTIVE = re.compile(r"[^\w \"',.;:()×%-]|_|(?<=www)\.", re.IGNORECASE)
"""What could act as Markdown or HTML in a text of others, links without brackets among it."""
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM", "AVIF")
"""What Pillow may open, as in the pipeline."""
BROWSER_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
PLACE = "rrsis_place"
"""Text of a PNG that stands for a GeoTIFF in the browser: its CRS and transform as JSON."""
MAX_VOCABULARY = 400
TABLE_HEADERS = ["", "expression", "score", "area, px", "area, %"]

Words = list[tuple[str, str | None]]
"""A text in pieces, each with what it was read as: "object", "position" or nothing."""


class InputError(ValueError):
    """Something a visitor can mend; its text is shown."""


@dataclass(frozen=True)
class Answer:
    """What the network said of one expression; its numbers lie in a file, since many visitors' fill the memory."""

    expression: str
    file: Path

    @property
    def probability(self) -> NDArray[np.float32]:
        """float32 (H, W) in [0, 1], as large as the image."""
        return np.load(self.file, mmap_mode="r")


@dataclass(frozen=True)
class Answers:
    """All that a new threshold needs, `place` as rasterio has it. Masks and probabilities go with the folder."""

    image: str
    place: dict[str, Any] | None
    answers: list[Answer]
    folder: tempfile.TemporaryDirectory

    @property
    def picture(self) -> Image.Image:
        """The picture, at its own size."""
        return Image.fromarray(np.load(self.image))

    @property
    def num_bytes(self) -> int:
        """Room that it takes on the disk."""
        return sum(path.stat().st_size for path in Path(self.folder.name).iterdir())


KEPT: list[Answers] = []
"""The latest answers, of KEPT_BYTES together; what is older is deleted."""
KEPT_BYTES = 1 << 30
FORGOTTEN = "This answer is no longer kept: press Segment again."


def keep(found: Answers) -> None:
    """Keep an answer for new thresholds, and delete the oldest ones where they take too much room."""
    KEPT.append(found)
    KEPT[:] = [one for one in KEPT if Path(one.folder.name).is_dir()]
    while len(KEPT) > 1 and sum(one.num_bytes for one in KEPT) > KEPT_BYTES:
        KEPT.pop(0).folder.cleanup()


class ImageFile(gr.Image):
    """An upload whose file is not opened before our own checks, so that a wrong one gets a message of ours."""

    is_template = True  # for Gradio: shown as the class it derives from

    def preprocess(self, payload: Any) -> str | None:
        """Return the path of the uploaded file."""
        return None if payload is None else payload.path


def plain(text: Any) -> str:
    """Return text as Markdown and HTML that show it, and do nothing else."""
    return _ACTIVE.sub(lambda found: f"&#{ord(found[0])};", str(text))


def load_model(name: str) -> Any:
    """Return the pipeline of a repository of the Hub or of a folder, code from there included."""
    import torch
    from transformers import pipeline

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return pipeline(TASK, model=name, trust_remote_code=True, device=device)  # type: ignore[call-overload]  # our task


def read_expressions(text: str | None) -> list[str]:
    """Return the expressions, one a line, blank lines and repetitions dropped.

    Raises:
        InputError: none, too many, or one that is too long.
    """
    expressions = list(dict.fromkeys(line.strip() for line in (text or "").splitlines() if line.strip()))
    if not expressions:
        raise InputError('Type what to look for, such as "the ship on the left", one expression a line.')
    if len(expressions) > MAX_EXPRESSIONS:
        raise InputError(f"At most {MAX_EXPRESSIONS} expressions at once, these are {len(expressions)}.")
    if max(map(len, expressions)) > MAX_CHARACTERS:
        raise InputError(f"An expression has at most {MAX_CHARACTERS} characters.")
    return expressions


def open_picture(pipe: Any, path: str | None) -> Image.Image:
    """Return the picture as the network is shown it: RGB, at its own size.

    Raises:
        InputError: no file, one that is no image, or one that is too large.
    """
    if path is None:
        raise InputError("Upload an image first, or pick an example.")
    name = Path(path).name
    try:
        with Image.open(path, formats=FORMATS) as image:
            size = image.size
    except UnidentifiedImageError:
        size = None  # text, or a TIFF that the pipeline reads by other means
    except (Image.DecompressionBombError, OSError, ValueError) as error:
        raise InputError(f"{name} can't be read as an image: {_without_folder(error, path)}.") from error
    if size is not None:
        _check_size(size, name)
    try:
        picture = pipe.open_image(path)
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{name} can't be read as an image: use a JPEG, PNG or TIFF that opens elsewhere.") from error
    _check_size(picture.size, name)
    return picture


def _check_size(size: tuple[int, int], name: str) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError(
            f"{name} has {size[0]} × {size[1]} pixels, more than {MAX_PIXELS / 1e6:.0f} million: cut out the part "
            "that the expression is about, or make it smaller."
        )


def _without_folder(error: Exception, path: str) -> str:
    return str(error).replace(path, Path(path).name).rstrip(".")


def read_words(pipe: Any, expressions: Sequence[str]) -> Words:
    """Return the expressions, a line each, with the words that were read as object and as position."""
    words: Words = []
    for expression in expressions:
        kinds: list[str | None] = [None] * len(expression)
        parsed = pipe.processor.parse(expression)
        for kind, spans in (("position", parsed.spatial_position), ("object", parsed.ground_object)):
            for start, end in spans:
                kinds[start:end] = [kind] * (end - start)
        for kind, pairs in groupby(zip(kinds, expression, strict=True), key=lambda pair: pair[0]):
            words.append(("".join(letter for _, letter in pairs), kind))
        words.append(("\n", None))
    return words[:-1]


def reading_note(pipe: Any, expressions: Sequence[str]) -> str:
    """Say what the marks mean for this model, and which expressions it did not read to their end."""
    config = pipe.model.config
    if getattr(config, "use_ground_object_branch", False) or getattr(config, "use_spatial_position_branch", False):
        note = "The model is shown the object words and the position words apart, and the whole expression."
        if pipe.processor.alignment != "word":
            note += " Where it found none, the whole expression stands in for them."
    else:
        note = "This model reads the expression as a whole; the marks are not shown to it."
    limit, tokenizer = pipe.processor.max_length, pipe.processor.tokenizer
    unknown = [word for word in re.findall(r"\w+", " ".join(expressions)) if _is_unknown(tokenizer, word)]
    if unknown:
        note += f" Words that it does not know: {plain(', '.join(dict.fromkeys(unknown)))}."
    cut = [text for text in expressions if len(tokenizer(text)["input_ids"]) > limit]
    if cut:
        note += f" Longer than the {limit} tokens it reads, so the end is cut off: " + plain("; ".join(cut))
    return note


def known_words(pipe: Any) -> str:
    """Say which objects this model was taught, and which words it can read where those are few."""
    text = f"Objects it was trained on: {plain(', '.join(pipe.processor.expression_parser.categories))}."
    special = set(pipe.processor.tokenizer.all_special_tokens)
    words = sorted(word for word in pipe.processor.tokenizer.get_vocab() if word.isalpha() and word not in special)
    if len(words) <= MAX_VOCABULARY:
        text += f" It reads {len(words)} words: {plain(', '.join(words))}."
    return text


def find(pipe: Any, path: str | None, text: str | None) -> Answers:
    """Run the network on every expression.

    Raises:
        InputError: the image or the text is of no use.
    """
    picture = open_picture(pipe, path)
    expressions = read_expressions(text)
    folder = tempfile.TemporaryDirectory(prefix="masks-", dir=FOLDER.name)
    np.save(Path(folder.name) / "picture.npy", np.asarray(picture))
    try:
        items = pipe(picture, text=expressions, output="probability")
    except ValueError as error:  # an expression of which the model knows nothing
        raise InputError(str(error)) from error
    answers = []
    for number, item in enumerate(items, start=1):
        file = Path(folder.name) / f"probability-{number}.npy"
        np.save(file, item["probability"])
        answers.append(Answer(item["label"], file))
    found = Answers(str(Path(folder.name) / "picture.npy"), read_place(path, picture.size), answers, folder)
    keep(found)
    return found


def _is_unknown(tokenizer: Any, word: str) -> bool:
    """Whether a tokenizer has nothing of a word, or its single letters alone."""
    tokens = tokenizer.tokenize(word)
    in_letters = len(word) > 1 and all(len(token.removeprefix("##")) == 1 for token in tokens)
    return in_letters or tokenizer.unk_token in tokens


def read_place(path: str | None, size: tuple[int, int]) -> dict[str, Any] | None:
    """Return where an image says that its pixels lie, as rasterio's `crs` and `transform`; None where it says nothing.

    Args:
        path: A GeoTIFF, or the PNG that `check_upload` shows in its place.
        size: (width, height) of the picture that was read of it; that of a turned image is another.
    """
    if path is None or rasterio is None:
        return None
    try:
        with Image.open(path, formats=FORMATS) as image:
            noted = image.info.get(PLACE)
        if noted is not None:
            crs, values = json.loads(noted)
            place = {"crs": rasterio.CRS.from_wkt(crs), "transform": rasterio.Affine(*map(float, values))}
            return place if np.isfinite(values).all() and not place["transform"].is_degenerate else None
    except (
        rasterio.errors.RasterioError,
        ArithmeticError,
        AttributeError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ):
        pass  # no picture of Pillow's, or a text that others wrote
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pictures without a place
            with rasterio.open(path, driver="GTiff") as raster:  # a file of another kind may lead elsewhere
                if raster.crs is None or raster.transform.is_identity or (raster.width, raster.height) != size:
                    return None
                return {"crs": raster.crs, "transform": raster.transform}
    except rasterio.errors.RasterioError:
        return None


def write_geotiff(path: Path, mask: NDArray[np.bool_], place: dict[str, Any]) -> None:
    """Write a mask as 0 and 255 at its place on Earth."""
    height, width = mask.shape
    options = {"driver": "GTiff", "dtype": "uint8", "compress": "deflate", **place}
    with rasterio.open(path, "w", count=1, height=height, width=width, **options) as raster:
        raster.write(mask.astype(np.uint8) * np.uint8(255), 1)


def show(found: Answers, threshold: float) -> tuple[Any, list[list[Any]], list[str]]:
    """Draw the masks at a threshold, without the network.

    Returns:
        The picture with a mask per expression, the table's rows (number, expression, mean probability inside the mask,
        its area in pixels and percent), and the masks' files at the image's own size, 0 and 255.
    """
    annotations, rows, files, colours = [], [], [], {}
    shown = _to_display(found.picture)
    for number, answer in enumerate(found.answers, start=1):
        probability = answer.probability
        mask = probability > threshold
        area = int(mask.sum())
        score = round(float(probability[mask].mean()), 3) if area else 0.0
        rows.append([number, answer.expression, score, area, round(100 * area / mask.size, 2)])
        picture = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
        file = Path(found.folder.name) / f"mask-{number}-{_slug(answer.expression)}.png"
        picture.save(file)
        files.append(str(file))
        if found.place is not None:
            write_geotiff(file.with_suffix(".tif"), mask, found.place)
            files.append(str(file.with_suffix(".tif")))
        label = f"{number} {answer.expression}" if area else f"{number} {answer.expression} (nothing found)"
        annotations.append((_shade(picture.resize(shown.size, Image.Resampling.NEAREST)), label))
        colours[label] = COLOURS[(number - 1) % len(COLOURS)]
    return gr.update(value=(shown, annotations), color_map=colours), rows, files


def show_again(found: Answers | None, threshold: float) -> tuple[Any, ...]:
    """Answer the slider: what `show` returns, or nothing new where there is no answer any more."""
    if found is not None and not Path(found.folder.name).is_dir():
        gr.Warning(FORGOTTEN)
        found = None
    return (gr.skip(),) * 3 if found is None else show(found, threshold)


def _to_display(picture: Image.Image) -> Image.Image:
    """Return a picture no larger than the page shows it."""
    large = max(picture.size) > DISPLAY_SIDE_PX
    return ImageOps.contain(picture, (DISPLAY_SIDE_PX, DISPLAY_SIDE_PX)) if large else picture


def _shade(mask: Image.Image) -> NDArray[np.float64]:
    """Return how opaque the colour is, (H, W) in [0, 1]: half inside the mask, fully along its edge."""
    edge = ImageChops.subtract(mask.filter(ImageFilter.MaxFilter(3)), mask.filter(ImageFilter.MinFilter(3)))
    return np.maximum(np.asarray(mask) * (OPACITY / 255), np.asarray(edge) / 255)


def _slug(expression: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", expression.lower()).strip("-")[:40] or "expression"


def probability_pictures(found: Answers) -> list[tuple[Image.Image, str]]:
    """Return a picture and a caption per expression, from dark blue (0) to yellow (1)."""
    pictures = []
    for number, answer in enumerate(found.answers, start=1):
        gray = _to_display(Image.fromarray(np.round(answer.probability * 255).astype(np.uint8)))
        colour = ImageOps.colorize(gray, black="#0d0887", mid="#cc4778", white="#f0f921")
        pictures.append((colour, f"{number} {answer.expression}"))
    return pictures


def check_upload(pipe: Any, path: str | None) -> tuple[str | None, str]:
    """Look at an upload at once: a wrong file is taken out again, a TIFF is turned into what browsers show.

    Returns:
        The file to show, and the message.
    """
    if path is None:
        return None, ""
    try:
        picture = open_picture(pipe, path)
    except InputError as problem:
        gr.Warning(plain(problem))
        return None, f"⚠️ {plain(problem)}"
    message = f"{picture.width} × {picture.height} px"
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.format in BROWSER_FORMATS:
                return path, message
    except UnidentifiedImageError:
        pass
    shown, notes = Path(path).with_suffix(".png"), PngImagePlugin.PngInfo()
    place = read_place(path, picture.size)
    if place is not None:
        notes.add_text(PLACE, json.dumps([place["crs"].to_wkt(), list(place["transform"])[:6]]))
    picture.save(shown, pnginfo=notes)
    return str(shown), message


def segment(pipe: Any, path: str | None, text: str | None, threshold: float) -> tuple[Any, ...]:
    """Answer the button: everything that is shown, or a message and the rest as it was."""
    start = time.perf_counter()
    try:
        found = find(pipe, path, text)
    except InputError as problem:
        gr.Warning(plain(problem))
        return (*(gr.skip() for _ in range(7)), f"⚠️ {plain(problem)}")
    expressions = [answer.expression for answer in found.answers]
    drawn, picture = show(found, threshold), found.picture
    message = (
        f"{len(expressions)} expression{'s' * (len(expressions) > 1)}, {picture.width} × "
        f"{picture.height} px, {time.perf_counter() - start:.2f} s"
    )
    words, note = read_words(pipe, expressions), reading_note(pipe, expressions)
    return found, *drawn, probability_pictures(found), words, note, message


def read_examples(folder: Path) -> list[list[str]]:
    """Return (image file, text) of each example that `examples.json` in a folder names; none without that file."""
    listing = folder / "examples.json"
    if not listing.is_file():
        return []
    entries = json.loads(listing.read_text(encoding="utf-8"))
    return [[str(folder / entry["image"]), "\n".join(entry["expressions"])] for entry in entries]


def build_app(pipe: Any, name: str, examples: Sequence[Sequence[str]] = ()) -> gr.Blocks:
    """Lay out the page.

    Args:
        pipe: the pipeline `referring-image-segmentation`.
        name: what the model is called on the page.
        examples: (image file, expressions one a line) each.
    """

    def with_pipe(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            return function(pipe, *values)

        call.__name__ = function.__name__  # what its address in the API is called
        return call

    with gr.Blocks(title="Referring segmentation", analytics_enabled=False, delete_cache=(3600, 3600)) as app:
        heading = "# Segment what an expression refers to"
        gr.Markdown(f"{heading}\nModel: {plain(name)}. Upload an aerial image, say what to look for.")
        found = gr.State(None, time_to_live=1800)
        with gr.Row():
            with gr.Column():
                image = ImageFile(
                    type="filepath", label="Image", sources=["upload", "clipboard"], height=360, elem_id="image"
                )
                text = gr.Textbox(
                    label="Expressions, one a line",
                    placeholder="the ship on the left",
                    lines=3,
                    max_lines=6,
                    elem_id="text",
                )
                threshold = gr.Slider(
                    0.0, 1.0, value=0.5, step=0.01, label="Threshold: probability of foreground", elem_id="threshold"
                )
                button = gr.Button("Segment", variant="primary")
                message = gr.Markdown(elem_id="message")
                with gr.Accordion("Words that this model knows", open=False):
                    gr.Markdown(known_words(pipe), elem_id="known")
                if examples:
                    gr.Examples([list(row) for row in examples], inputs=[image, text])
            with gr.Column():
                overlay = gr.AnnotatedImage(label="Masks", height=420, elem_id="masks")
                table = gr.Dataframe(
                    headers=TABLE_HEADERS,
                    column_widths=["6%", "46%", "14%", "18%", "16%"],
                    wrap=True,
                    elem_id="table",
                    label="Score: mean probability inside the mask",
                )
                words = gr.HighlightedText(
                    label="What was read", color_map=WORD_COLOURS, show_legend=True, elem_id="words"
                )
                note = gr.Markdown()
                files = gr.File(
                    label="Masks to download, 0 and 255: PNG, and GeoTIFF where the image has a place on Earth",
                    file_count="multiple",
                    interactive=False,
                    elem_id="files",
                )
                maps = gr.Gallery(
                    label="Probability: dark blue 0, yellow 1",
                    columns=3,
                    height="auto",
                    object_fit="contain",
                    elem_id="maps",
                )
        results = [overlay, table, files]
        outputs = [found, *results, maps, words, note, message]
        gr.on([button.click, text.submit], with_pipe(segment), [image, text, threshold], outputs)
        threshold.input(
            show_again,
            inputs=[found, threshold],
            outputs=results,
            show_progress="hidden",
            trigger_mode="always_last",
        )
        image.upload(with_pipe(check_upload), image, [image, message], show_progress="hidden")
    return app


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """Have SIGTERM end the block as Ctrl+C does, so that what the page wrote goes."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def read_model_name() -> str:
    """Return what the variable `MODEL_ID` says.

    Raises:
        SystemExit: it is not set.
    """
    name = os.environ.get("MODEL_ID")
    if not name:
        raise SystemExit(
            "MODEL_ID: expected a repository such as user/name in this variable (set it in the Space's settings, or "
            "publish with `rrsis publish space`), found none"
        )
    return name


def main() -> None:
    """Start the Space."""
    name = read_model_name()
    with ended_like_ctrl_c():
        app = build_app(load_model(name), name, read_examples(Path(__file__).parent / "examples"))
        app.queue(max_size=20).launch(**LAUNCH_OPTIONS)


if __name__ == "__main__":
    main()
