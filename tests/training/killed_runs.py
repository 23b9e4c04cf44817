"""Kill training at random moments, let it go on, and compare every byte with the run that was never killed.

    python -m tests.training.killed_runs --runs 20

Half of the runs have two processes, a third are killed while something is being saved. Dropout, drop path,
augmentation, averaged weights and data loader workers are all on.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
UPDATES = 12
RECIPE = """
based_on: fianet-synthetic
batch_size: 8
max_steps: 12
warmup_steps: 2
eval_every: 4
augmentation: flip+boxes
config:
  fusion_dropout: 0.1
  backbone_kwargs: {embed_dim: 16, depths: [1, 1, 1, 1], num_heads: [1, 2, 4, 8], window_size: 5, drop_path_rate: 0.2}
  text_config: {hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64,
                max_position_embeddings: 64, hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1}
  decoder_hidden_size: 16
"""
COMPARED = ("metrics.json", "metrics.jsonl", "best/model.safetensors", "last/model.safetensors", "recipe.yaml")


def command(folder: Path, processes: int, *options: str) -> list[str]:
    """Command line of a run of a few seconds."""
    recipe = folder.parent / "killed.yaml"
    if not recipe.exists():
        recipe.write_text(RECIPE, encoding="utf-8")
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    arguments = ["--recipe", str(recipe), "--output_dir", str(folder), "--max_samples", "24", "--num_workers", "2"]
    arguments += ["--checkpoint_every", "3", "--log_every", "5", "--ema_decay", "0.9", "--cpu_threads", "1"]
    arguments += ["--mixed_precision", "no", "--panel_samples", "2"]
    return [*start, str(ROOT / "train_accelerate.py"), *arguments, *options]


def environment(folder: Path) -> dict[str, str]:
    """Own cache, CPU only, one thread."""
    cache = str(folder.parent / "cache")
    return {
        **os.environ,
        "HF_DATASETS_CACHE": cache,
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "400",  # a path of a temporary folder is not to be wrapped
    }


def run(folder: Path, processes: int, *options: str) -> str:
    """Run to the end; its output."""
    done = subprocess.run(
        command(folder, processes, *options),
        capture_output=True,
        text=True,
        env=environment(folder),
        timeout=280,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def start(folder: Path, processes: int, *options: str, variables: dict[str, str] | None = None) -> subprocess.Popen:
    """Start a run in an environment, the CPU's if absent; its output goes to a file beside the folder."""
    with folder.with_suffix(".txt").open("a") as output:
        return subprocess.Popen(
            command(folder, processes, *options),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables or environment(folder),
        )


def signal_all(process: subprocess.Popen, number: int) -> None:
    """Send a signal to a run and all its processes at once, as a scheduler does; `torchrun` gives them groups."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(number)
        if number == signal.SIGKILL:
            psutil.wait_procs(family[1:], timeout=10)


def is_saving(folder: Path) -> bool:
    """Whether a checkpoint or a model folder is being written."""
    return any((folder / "checkpoints").glob("*.partial")) or any(folder.glob(".*.tmp-*"))


def kill_after(process: subprocess.Popen, folder: Path, *, seconds: float | None, skip: int = 0) -> str:
    """Kill -9 a run and all its processes some seconds after its first line of metrics, or while it saves.

    Args:
        process: The run.
        folder: Its output folder.
        seconds: `None` waits for a save.
        skip: Saves that are let pass, so that it is not always the first.

    Returns:
        What was going on.
    """
    begun, was_saving = None, False
    while process.poll() is None:
        if begun is None and (folder / "checkpoints").exists():
            begun = time.monotonic()
        saving = is_saving(folder)
        if seconds is None and saving and not was_saving:
            if skip == 0:
                break
            skip -= 1
        was_saving = saving
        if seconds is not None and begun is not None and time.monotonic() - begun >= seconds:
            break
        time.sleep(0.0005)
    saving, ended = is_saving(folder), process.poll() is not None
    signal_all(process, signal.SIGKILL)
    process.wait()
    newest = sorted(path.name for path in (folder / "checkpoints").glob("step-*[0-9]"))[-1:]
    moment = (
        "after its end"
        if ended
        else "while saving"
        if saving
        else "in the last test"
        if (folder / "last").exists()
        else "between saves"
    )
    return moment + f", newest checkpoint {''.join(newest) or 'none'}"


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of everything that must not depend on a kill."""
    files = [folder / name for name in COMPARED] + sorted((folder / "panels").glob("*.png"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> int:
    """Kill and compare; 1 if a run ends with other bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="Runs that are killed.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the moments.")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    equal = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        whole = {}
        for processes in (1, 2):
            begun = time.monotonic()
            run(root / f"whole{processes}", processes)
            whole[processes] = digests(root / f"whole{processes}")
            sys.stdout.write(f"{processes} process(es), never killed: {time.monotonic() - begun:.0f} s\n")
        for number in range(options.runs):
            processes = 1 + number % 2
            folder = root / f"killed{number}"
            seconds = None if number % 3 == 0 else moments.uniform(0, 4)
            process = start(folder, processes)
            what = kill_after(process, folder, seconds=seconds, skip=moments.randrange(5))
            run(folder, processes, "--resume", "latest")
            found = digests(folder)
            differing = [name for name, digest in whole[processes].items() if found.get(name) != digest]
            equal += not differing
            verdict = "equal" if not differing else f"DIFFERENT: {', '.join(differing)}"
            sys.stdout.write(f"run {number + 1:2d}, {processes} process(es), killed {what}: {verdict}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{equal} of {options.runs} ended with the same bytes\n")
    return 0 if equal == options.runs else 1


if __name__ == "__main__":
    sys.exit(main())
