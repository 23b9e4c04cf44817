"""1,000 published checkpoints: damaged anywhere, and made by programs of pickle opcodes. 200 folders of runs."""

import functools
import io
import json
import pickle
import random
import shutil
import struct
import zipfile
from types import SimpleNamespace

import pytest
import torch
from accelerate.checkpointing import load_accelerator_state, save_accelerator_state

from modeling_rrsis.convert import convert_checkpoint
from processing_rrsis.training.checkpoints import (
    AVERAGE,
    _write_manifest,
    load_checkpoint,
    newest_whole,
    save_checkpoint,
)
from processing_rrsis.training.run import RunProgress
from processing_rrsis.training.watching import cut_lines
from tests.modeling.parity import small_published_state

from .harness import WrongResultError, mutated, mutated_json, try_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore")]
COUNT, RUNS, SEED = 1000, 200, 18


def repacked(data, generator):
    """The archive written again with one record damaged: its checksum is right, its content is not."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        names = old.namelist()
        pickled = [name for name in names if name.endswith("data.pkl")]
        chosen = generator.choice([*names, *pickled * len(names)])
        for name in names:
            content = old.read(name)
            if name == chosen:
                content = mutated(content, generator)
            kind = zipfile.ZIP_DEFLATED if generator.random() < 0.01 else zipfile.ZIP_STORED
            new.writestr(name, content, compress_type=kind)
    return buffer.getvalue()


def program(generator):
    """A pickle of any opcodes, with numbers and names that ask for much."""
    names = ("builtins bytearray", "torch FloatTensor", "torch FloatStorage", "collections OrderedDict", "os system")
    names += ("torch._utils _rebuild_tensor_v2", "torch UntypedStorage", "argparse Namespace", "builtins print")
    parts = [b"\x80\x02"]
    for _ in range(generator.randrange(1, 60)):
        parts.append(
            generator.choice(
                [
                    *(b"(", b"}", b"]", b")", b"N", b"R", b"b", b"u", b"s", b"a", b"e", b"t", b"\x85", b"\x86", b"Q"),
                    *(b"0", b"2", b"1", b"d", b"l", b"o", b"\x81", b"\x90", b"\x8f", b"q\x00", b"h\x00", b"\x94"),
                    b"J" + struct.pack("<i", generator.choice((0, 1, -1, 2**31 - 1))),
                    b"r" + struct.pack("<I", generator.choice((0, 2**32 - 1))),
                    b"X" + struct.pack("<I", 7) + b"storage",
                    b"c" + generator.choice(names).replace(" ", "\n").encode() + b"\n",
                    b"\x85" * generator.choice((1, 100_000)),
                    b"I" + b"9" * generator.choice((1, 30, 5000)) + b"\n",
                ]
            )
        )
    return b"".join(parts) + b"."


def convert(data, path, right):
    path.write_bytes(data)
    model, _ = convert_checkpoint(path)
    for name, tensor in model.state_dict().items():
        if name in right and not torch.equal(tensor, right[name]):
            raise WrongResultError(f"other weights, {name}")


def checkpoint_cases(folder):
    generator = random.Random(SEED)
    state = {"model": small_published_state("lavt_one_tiny"), "epoch": 3, "optimizer": {"lr": 1e-5}}
    files = []
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        buffer = io.BytesIO()
        torch.save(state, buffer, **options)
        files.append(buffer.getvalue())
    whole, former = files
    path = folder / "published.pth"
    path.write_bytes(whole)
    converted = convert_checkpoint(path)[0].state_dict()
    right = {name: tensor.clone() for name, tensor in converted.items() if not tensor.is_meta}
    yield "whole", functools.partial(convert, whole, path, right)
    yield "former", functools.partial(convert, former, path, right)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
    for number in range(COUNT - 2):
        kind = number % 5
        if kind <= 1:
            data, expected = mutated(whole, generator), right
        elif kind == 2:
            data, expected = repacked(whole, generator), {}
        elif kind == 3:  # without checksums: only the beginning, whose numbers say sizes, tells damage
            data, expected = mutated(former[:60_000], generator) + former[60_000:], {}
        else:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr(pickled, program(generator))
                archive.writestr(pickled.replace("data.pkl", "version"), "3\n")
            data, expected = buffer.getvalue(), {}
        yield f"{number}", functools.partial(convert, data, path, expected)


def test_checkpoints(tmp_path, capfd):
    try_all("checkpoints", checkpoint_cases(tmp_path), capfd)


class Accelerator(SimpleNamespace):
    """The part of Accelerate's that writes and reads a state, by Accelerate's own functions."""

    def __init__(self):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        super().__init__(model=model, _optimizers=[optimizer], is_main_process=True, distributed_type="NO")

    def train(self):
        self.model(torch.randn(4, 3)).square().sum().backward()
        self._optimizers[0].step()

    def wait_for_everyone(self):
        pass

    def save_state(self, folder):
        save_accelerator_state(folder, [self.model.state_dict()], self._optimizers, [], [], 0, 0)

    def load_state(self, folder):
        load_accelerator_state(folder, [self.model], self._optimizers, [], [], 0)


def go_on(folder, right):
    """What a run does that goes on: find the newest whole checkpoint, read it, take what comes after it out."""
    said = []
    checkpoint = newest_whole(folder, said.append)
    if any("\n" in line for line in said):
        raise WrongResultError(f"more than one line: {said}")
    accelerator = Accelerator()
    progress = RunProgress.read(checkpoint.state()["progress"], checkpoint)
    load_checkpoint(accelerator, checkpoint)
    loaded = accelerator.model.state_dict()
    same = all(torch.equal(tensor, right[checkpoint.step][name]) for name, tensor in loaded.items())
    if not same and not (folder / "signed").exists():
        raise WrongResultError(f"other weights at step {checkpoint.step}")
    cut_lines(folder / "metrics.jsonl", progress.step, progress.evaluated_step)
    accelerator.train()


def run_cases(folder):
    generator, right = random.Random(SEED), {}
    original = folder / "original"
    accelerator = Accelerator()
    for step in (3, 6):
        accelerator.train()
        right[step] = {name: tensor.clone() for name, tensor in accelerator.model.state_dict().items()}
        state = {"settings": {"seed": 0}, "progress": vars(RunProgress(step=step, losses=[1.0], norms=[2.0]))}
        save_checkpoint(accelerator, original, state, step=step, keep=2)
    with (original / "metrics.jsonl").open("w") as file:
        file.writelines(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(1, 8))
    for number in range(RUNS):
        target = folder / "run"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(original, target)
        if number:
            damage(target, generator)
        yield f"{number}", functools.partial(go_on, target, right)


def damage(folder, generator):
    checkpoint = folder / "checkpoints" / generator.choice(("step-00000003", "step-00000006"))
    path = generator.choice([*sorted(checkpoint.iterdir()), folder / "metrics.jsonl"])
    if path.suffix == ".json" and generator.random() < 0.7:
        path.write_text(json.dumps(mutated_json(json.loads(path.read_text()), generator, odds=0.1)))
    elif generator.random() < 0.2:
        torch.save(mutated_json({"state": {0: {"step": 1}}, "param_groups": [{"lr": 1.0}]}, generator, odds=0.2), path)
    else:
        path.write_bytes(mutated(path.read_bytes(), generator))
    if generator.random() < 0.3:
        names = ("custom_checkpoint_0.pkl", "random_states_0.pkl", "optimizer_1.bin", AVERAGE, "x/y.pt")
        name = generator.choice(names)
        (checkpoint / name).parent.mkdir(exist_ok=True)
        (checkpoint / name).write_bytes(program(generator) if generator.random() < 0.5 else pickle.dumps(name))
    if generator.random() < 0.2:
        (folder / "checkpoints" / generator.choice(("step-00000009", "step-9", "step-99999999.partial", "x"))).touch()
    if generator.random() < 0.6 and (checkpoint / "manifest.json") != path:  # by somebody who knows how
        (checkpoint / "manifest.json").unlink()
        _write_manifest(checkpoint)
        (folder / "signed").touch()


def test_run_folders(tmp_path, capfd):
    try_all("run folders", run_cases(tmp_path), capfd)
