"""`rrsis calibrate`: teach a finished model to say that nothing is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..bounds_rrsis import read_json
from ..result_files import write_result
from .common import _plain_errors

PROCESSOR_FILE = "processor_config.json"


def calibrate(
    model: Annotated[Path, typer.Argument(help="Model folder (a run's best/); its processor is changed.")],
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="synthetic, refsegrs, rrsisd, risbench, own, or a table.")
    ] = "synthetic",
    data_dir: Annotated[Path | None, typer.Option(help="Folder or zip of the download.", show_default=False)] = None,
    split: Annotated[str, typer.Option(help="Split to calibrate on.")] = "validation",
    max_samples: Annotated[int | None, typer.Option(min=1, help="Only the first ones.", show_default=False)] = None,
    kept: Annotated[
        float, typer.Option(min=50.0, max=99.9, help="Percent of the objects that must still be found.")
    ] = 95.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier calibration.")] = False,
) -> None:
    """Let a model say that nothing is there, without training it.

    A network that learned from objects that are there marks something in any case. Its
    log-odds tell how sure it is; here they are looked at on a split, with its own
    expressions and with such as name a category that is not in the image, and a cut and a
    temperature are written into the model's processor. From then on the pipeline's results
    have "presence", the probability that the object is there, and below 0.5 the mask is
    empty. "score" stays what it was. Of the embedded benchmark the test splits are then
    scored too.

    Example:
        rrsis calibrate runs/fianet/best --dataset synthetic
    """
    with _plain_errors():
        folder = model.expanduser()
        file = folder / PROCESSOR_FILE
        from ..runtimes.folder import MANIFEST_FILE

        if not file.is_file() or (folder / MANIFEST_FILE).is_file():
            meant = f"; did you mean {folder / 'best'}?" if (folder / "best" / PROCESSOR_FILE).is_file() else ""
            raise ValueError(
                f"{folder}: expected a model folder with {PROCESSOR_FILE}, such as runs/fianet/best{meant}; calibrate "
                "a model before it is exported, and a repository after its download"
            )
        values = read_json(file, "the settings of a processor")
        if values.get("presence_cut") is not None and not overwrite:
            raise ValueError(
                f"{file}: expected a model that is not calibrated, its cut is {values['presence_cut']}; "
                "--overwrite replaces it"
            )
        found = _calibrate(str(folder), dataset, data_dir, split, max_samples, kept / 100)
        values["presence_cut"] = round(found["cut"], 4)
        values["presence_temperature"] = round(found["temperature"], 4)
        write_result(file, (json.dumps(values, indent=2) + "\n").encode())
    typer.echo(f"cut {found['cut']:.2f}, temperature {found['temperature']:.2f} -> {file}")


def _calibrate(
    model: str, dataset: str, data_dir: Path | None, split: str, max_samples: int | None, kept: float
) -> dict[str, float]:
    """Fit on one split, show the scores there and on the embedded benchmark's test splits."""
    from rich.console import Console

    from ..data.absent_rows import ABSENT_SPLIT, missing_rows
    from ..data.load import load_split
    from ..hub.loading import load_pipeline
    from ..metrics.presence import pooled_of, presence_scores
    from ..presence_rrsis import fit_calibration
    from ..terminal import new_progress, new_table

    pipe = load_pipeline(model)
    size = pipe.processor.image_processor.size["height"]

    def load(name: str) -> Any:
        return load_split(dataset, name, input_size_px=size, data_dir=data_dir, num_samples=max_samples)

    def look(rows: Any, expressions: list[str], what: str) -> Any:
        with new_progress(Console(stderr=True)) as bar:
            task = bar.add_task(what, total=len(rows))
            return pooled_of(pipe.model, pipe.processor, rows, expressions, lambda count: bar.advance(task, count))

    rows = load(split)
    there = look(rows, list(rows["expression"]), "objects that are there")
    others = missing_rows(rows)
    chosen = [row for row, other in enumerate(others) if other is not None]
    if not chosen:
        raise ValueError(
            f"--dataset: expected images that lack a category of {dataset} ({split}), all have all of them"
        )
    asked = rows.select([others[row] for row in chosen])["expression"]
    missing = look(rows.select(chosen), list(asked), "objects that are not")
    calibration = fit_calibration(there, missing, kept)
    table = new_table(["split"], ["objects found, %", "absence told, %", "AUROC, %", "ECE, %"])
    results = {f"{split}, other images' categories": presence_scores(calibration, there, missing)}
    if dataset == "synthetic":
        test, absent = load("test"), load(ABSENT_SPLIT)
        pooled = [
            look(part, list(part["expression"]), name) for part, name in ((test, "test"), (absent, ABSENT_SPLIT))
        ]
        results[f"test, {ABSENT_SPLIT}"] = presence_scores(calibration, *pooled)
    for name, scores in results.items():
        table.add_row(name, *(f"{value:.1f}" for value in scores.values()))
    Console().print(table)
    return {"cut": calibration.cut, "temperature": calibration.temperature}
