"""`rrsis demo`: the Space's app on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..installation import install_command
from ..runtimes.spec import AUTO_DEVICE, DEVICE_HELP, RUNTIME_HELP, Runtime
from .common import COMPUTES, MODEL_HELP, TrustRemoteCode, _plain_errors

_PAGE = "The page"


def demo(
    model: Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP, rich_help_panel=COMPUTES)],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it listens.", rich_help_panel=_PAGE)] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Also give the page a public address for a week.", rich_help_panel=_PAGE)
    ] = False,
    examples: Annotated[
        Path | None,
        typer.Option(help="Folder with examples.json.", show_default="scenes of SyntheticRS", rich_help_panel=_PAGE),
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP, rich_help_panel=COMPUTES)] = AUTO_DEVICE,
    runtime: Annotated[Runtime, typer.Option(help=RUNTIME_HELP, rich_help_panel=COMPUTES)] = Runtime.AUTO,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Try a model in the browser: upload an image, say what to look for.

    The page that `rrsis publish space` puts on the Hub, here. Ctrl+C ends it.
    Needs the extra demo: pip install "rrsis[demo]".

    Example:
        rrsis demo --model runs/fianet/best
    """
    from ..runtimes.loading import open_pipeline
    from ..terminal import working

    with _plain_errors():
        try:
            from hub_cards.space.app import LAUNCH_OPTIONS, build_app, ended_like_ctrl_c, read_examples
        except ImportError as error:
            raise ImportError(f"rrsis demo needs Gradio ({error}); run `{install_command('demo')}`") from error
        import tempfile

        from ..hub.space_examples import write_examples

        if examples is not None and not (examples / "examples.json").is_file():
            raise ValueError(f"--examples: expected a folder with examples.json, {examples} has none")
        with working(f"loading {model}"):
            pipe = open_pipeline(model, runtime=runtime, trust_remote_code=trust_remote_code, device=device)
        with ended_like_ctrl_c(), tempfile.TemporaryDirectory(prefix="examples-") as folder:
            if examples is None:
                preset = "refsegrs" if pipe.processor.categories == "refsegrs" else "rrsisd"
                write_examples(folder, preset=preset)
            app = build_app(pipe, _shown_name(model), read_examples(examples or Path(folder)))
            try:
                app.queue().launch(server_port=port, share=share, **LAUNCH_OPTIONS)
            except OSError as error:
                if "empty port" not in str(error):
                    raise
                raise OSError(f"--port: expected a free one, something uses {port}; choose another") from error


def _shown_name(model: str) -> str:
    """The repository's name; of a folder its last two parts, as in `fianet/best`."""
    folder = Path(model).expanduser()
    return "/".join(folder.resolve().parts[-2:]) if folder.is_dir() else model
