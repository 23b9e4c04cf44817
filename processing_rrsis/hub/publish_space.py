"""Publish Spaces: the metric as an `evaluate` module with a page, and the demo of a model."""

from __future__ import annotations

import importlib.resources
import json
import re
import tempfile
from pathlib import Path
from string import Template

from .checks import CARD, check_card, refuse
from .push import (
    AS_USUAL,
    Publication,
    PublishError,
    PushOptions,
    RepoFile,
    check_repo_id,
    check_token,
    hub_errors,
    push,
)
from .secret_search import find_secrets
from .space_examples import write_examples

GRADIO_VERSION = "6.31.0"
"""The version that both pages were tried with."""
MODEL_VARIABLE = 'os.environ.get("MODEL_ID")'
"""What the demo's app.py asks for its model."""
_OURS = re.compile(r"examples/.*|[^/]+\.py")
_METRIC_PATH = "processing_rrsis/metrics/rrsis_iou"


def publish_metric(repo_id: str, options: PushOptions = AS_USUAL) -> Publication:
    """Publish the metric as a Space: `evaluate.load(repo_id)` reads it, visitors try it on two masks.

    Args:
        repo_id: `user/name`; created where it does not exist.
        options: How to publish.

    Returns:
        What was published, or would be.

    Raises:
        ValueError: The repository's name can't be right.
        PublishError: The Hub is not reached or refuses; nothing is published by halves.
    """
    check_repo_id(repo_id)
    _check_metric_name(repo_id)
    return _push_space(metric_files(repo_id), repo_id, options, message="Publish the metric with rrsis")


def _check_metric_name(repo_id: str) -> None:
    """Raise a `ValueError` for a name that `evaluate.load` can't import: its script is called like the repository."""
    name = repo_id.split("/")[1]
    if "." in name or name == "app":
        raise ValueError(
            f"repository: expected a name without a dot and other than `app`, got {name!r}: evaluate imports the "
            "metric from a file of the repository's name; take one such as rrsis_iou"
        )


def metric_files(repo_id: str) -> list[RepoFile]:
    """The files of the metric's Space; the script has the repository's name, as `evaluate.load` expects."""
    folder = importlib.resources.files("processing_rrsis.metrics.rrsis_iou")
    name = repo_id.split("/")[1]
    script = folder.joinpath("rrsis_iou.py").read_text(encoding="utf-8").replace(_METRIC_PATH, repo_id)
    text = folder.joinpath(CARD).read_text(encoding="utf-8")
    body = text.split("---\n", 2)[2].strip()
    body = body.replace(f'"{_METRIC_PATH}")  # from a checkout of the repository', f'"{repo_id}")')
    card = _render("metric_card.md", title="Referring IoU", body=body, gradio_version=GRADIO_VERSION)
    return [
        RepoFile(CARD, card.encode()),
        RepoFile(f"{name}.py", script.encode()),
        *(RepoFile(file, _card_file("metric_space", file)) for file in ("app.py", "requirements.txt")),
    ]


def publish_space(
    model_id: str,
    repo_id: str,
    options: PushOptions = AS_USUAL,
    *,
    title: str | None = None,
    preset: str = "rrsisd",
) -> Publication:
    """Publish the demo of a published model as a Space.

    Args:
        model_id: The model's repository.
        repo_id: The Space's repository; created where it does not exist.
        options: How to publish.
        title: Title of the page; from the model's name by default.
        preset: Wording of the examples' expressions, `"rrsisd"` or `"refsegrs"`.

    Returns:
        What was published, or would be.

    Raises:
        ValueError: A name can't be right.
        PublishError: The Hub is not reached, refuses, or has no such model; nothing is published by halves.
    """
    check_repo_id(model_id)
    check_repo_id(repo_id)
    if not options.dry_run:
        _check_model_exists(model_id, options.token)
    with tempfile.TemporaryDirectory(prefix="rrsis-publish-") as folder:
        write_examples(folder, preset=preset)
        examples = [RepoFile(f"examples/{path.name}", path) for path in sorted(Path(folder).iterdir())]
        files = [*space_files(model_id, title or model_id.split("/")[1]), *examples]
        return _push_space(files, repo_id, options, message=f"Publish the demo of {model_id} with rrsis")


def _check_model_exists(model_id: str, token: str | None) -> None:
    """Raise a `PublishError` where the page would find no model to load."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    check_token(token)
    with hub_errors(model_id, token):
        try:
            HfApi(token=token).model_info(model_id)
        except RepositoryNotFoundError:
            raise PublishError(
                f"{model_id}: the Hub has no such model, or shows it to others only, so the page would not start; "
                f"publish it first: rrsis publish model runs/fianet/best {model_id}"
            ) from None


def space_files(model_id: str, title: str) -> list[RepoFile]:
    """Card, app and requirements of the demo's Space; the app's model is the given one unless MODEL_ID says another.

    Raises:
        ValueError: The app does not ask for its model where this expects it.
    """
    app = _card_file("space", "app.py").decode()
    if (found := app.count(MODEL_VARIABLE)) != 1:
        raise ValueError(f"hub_cards/space/app.py: expected {MODEL_VARIABLE} once, found it {found} times")
    app = app.replace(MODEL_VARIABLE, f'{MODEL_VARIABLE[:-1]}, "{model_id}")')
    from huggingface_hub import constants

    page = f"{constants.ENDPOINT}/{model_id}"
    quoted = json.dumps(title, ensure_ascii=False)  # YAML reads it as it stands, whatever is in it
    card = _render(
        "space_card.md",
        title=quoted,
        heading=title,
        model_id=model_id,
        model_id_url=page,
        gradio_version=GRADIO_VERSION,
    )
    return [
        RepoFile(CARD, card.encode()),
        RepoFile("app.py", app.encode()),
        RepoFile("requirements.txt", _card_file("space", "requirements.txt")),
    ]


def _push_space(files: list[RepoFile], repo_id: str, options: PushOptions, message: str) -> Publication:
    """Check and push; pictures of older examples go with the same commit."""
    (card,) = (file for file in files if file.path == CARD)
    problems = check_card(card.read().decode(), fields=("title", "sdk", "app_file", "license"))
    refuse(repo_id, [*problems, *find_secrets(files, options.used_token)])
    return push(files, repo_id, "space", options, message=message, ours=_OURS)


def _render(template: str, **values: str) -> str:
    return Template(importlib.resources.files("hub_cards").joinpath(template).read_text(encoding="utf-8")).substitute(
        values
    )


def _card_file(folder: str, name: str) -> bytes:
    return importlib.resources.files("hub_cards").joinpath(folder, name).read_bytes()
