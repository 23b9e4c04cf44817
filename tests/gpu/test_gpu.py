"""What only a GPU can show. `python -m pytest -m gpu tests/gpu`, or benchmarks/gpu.py, which also measures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import infer_auto_device_map

from modeling_rrsis import MODELS
from processing_rrsis import RRSISImageProcessorTorchvision
from tests.modeling.test_parity import (
    CASES,
    FLOAT32_TOLERANCE,
    FLOAT64_TOLERANCE,
    TINY,
    convert,
    golden_logits,
)
from tests.modeling.tiny import tiny_inputs, tiny_labels, tiny_model
from tests.processing.test_image_backends import FORMS, ONE_LEVEL, SIZE
from tests.training.killed_runs import command, digests, environment, kill_after, start

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, torch finds none"),
]
ROOT = Path(__file__).parents[2]
each = pytest.mark.parametrize("name", list(MODELS))


@pytest.fixture(autouse=True)
def _plain_float32(monkeypatch):
    """No shortened mantissas: TF32 would be another dtype."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module", params=TINY)
def network(request):
    return convert(request.param)


def to_gpu(inputs):
    return {key: value.cuda() for key, value in inputs.items()}


def without_dropout(model):
    """Nor drop path: compiled graphs draw from other streams."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    return model


@pytest.mark.parametrize("case_name", CASES)
@torch.no_grad()
def test_published_numbers(network, case_name):
    golden, model, _ = network
    case = golden.case(case_name)
    expected = golden_logits(golden, case)
    inputs = to_gpu(case.inputs)
    for dtype in (torch.float32, torch.float64):
        model.to(device="cuda", dtype=dtype)
        logits = model(**{**inputs, "pixel_values": inputs["pixel_values"].to(dtype)}).logits.double().cpu()
        error = (logits - expected).abs().max().item()
        if dtype is torch.float64:
            assert error <= FLOAT64_TOLERANCE * expected.abs().max().item()
        else:
            assert error <= FLOAT32_TOLERANCE * golden.noise(case_name, "logits")


@each
@pytest.mark.parametrize("form", ["autocast", "weights"])
def test_training_step_in_bfloat16(name, form):
    inputs, labels = to_gpu(tiny_inputs()), tiny_labels()  # labels come to the logits' device
    expected = tiny_model(name).cuda().eval()(**inputs, labels=labels.cuda()).loss
    model = tiny_model(name).cuda().eval()
    model = model.to(torch.bfloat16) if form == "weights" else model
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=form == "autocast"):
        output = model(**inputs, labels=labels)
    output.loss.backward()
    assert output.loss.dtype is torch.float32
    assert output.loss.item() == pytest.approx(expected.item(), rel=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@each
def test_compiled_training_step(name):
    """Inductor's kernels of the forward pass and of the whole step, against eager mode on the same device."""
    torch.compiler.reset()
    results = []
    inputs, labels = to_gpu(tiny_inputs()), tiny_labels().cuda()
    for compiled in (False, True):
        model = without_dropout(tiny_model(name).cuda().train())
        output = (torch.compile(model, fullgraph=True) if compiled else model)(**inputs, labels=labels)
        output.loss.backward()
        results.append([output.logits.detach(), output.loss.detach(), *(p.grad for p in model.parameters())])
    for eager, other in zip(*results, strict=True):
        torch.testing.assert_close(other, eager, atol=1e-4, rtol=1e-3)


@each
@torch.no_grad()
def test_parts_on_gpu_and_cpu(name, tmp_path):
    model = tiny_model(name).eval()
    model.save_pretrained(tmp_path)
    half = sum(parameter.numel() for parameter in model.parameters()) * 2  # bytes
    device_map = infer_auto_device_map(
        model, max_memory={0: half, "cpu": 3 * half}, no_split_module_classes=model._no_split_modules
    )
    loaded = MODELS[name].from_pretrained(tmp_path, device_map=device_map)
    assert {0, "cpu"} <= set(loaded.hf_device_map.values())
    torch.testing.assert_close(loaded(**tiny_inputs()).logits.cpu(), model(**tiny_inputs()).logits, atol=1e-4, rtol=0)


DDP_SCRIPT = """
import torch
from torch.nn.parallel import DistributedDataParallel
from tests.gpu.test_gpu import to_gpu, without_dropout
from tests.modeling.tiny import tiny_inputs, tiny_labels, tiny_model

torch.distributed.init_process_group("nccl")
for name in ("lavt", "danet", "fianet", "rmsin"):
    gradients = []
    for wrap in (lambda model: model, lambda model: DistributedDataParallel(model, device_ids=[0])):
        torch.manual_seed(0)
        model = without_dropout(tiny_model(name).cuda().train())
        torch.manual_seed(0)
        wrap(model)(**to_gpu(tiny_inputs()), labels=tiny_labels().cuda()).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-3)
torch.distributed.destroy_process_group()
"""


def test_distributed_data_parallel_of_one_process(tmp_path):
    (tmp_path / "ddp.py").write_text(DDP_SCRIPT, encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run([*launch, str(tmp_path / "ddp.py")], env={**os.environ, "PYTHONPATH": paths}, check=True)


def test_a_killed_run_ends_with_the_same_bytes(tmp_path):
    """Three runs: twice from beginning to end, and once killed and resumed."""
    found = {}
    for name in ("whole", "again", "killed"):
        folder = tmp_path / name
        variables = {
            key: value
            for key, value in environment(folder).items()
            if key not in ("ACCELERATE_USE_CPU", "CUDA_VISIBLE_DEVICES")
        }
        if name == "killed":
            process = start(folder, 1, variables=variables)
            while not list(folder.glob("checkpoints/step-*")) and process.poll() is None:
                pass
            assert kill_after(process, folder, seconds=0.5)
        options = ["--resume", "latest"] if name == "killed" else []
        subprocess.run(command(folder, 1, *options), env=variables, check=True, capture_output=True)
        found[name] = digests(folder)
    assert found["again"] == found["whole"]
    assert found["killed"] == found["whole"]


@pytest.mark.parametrize("form", FORMS)
def test_images_are_prepared_on_the_device(form):
    image, processor = FORMS[form], RRSISImageProcessorTorchvision(size=SIZE)
    expected = processor(image, return_tensors="pt")["pixel_values"]
    values = [processor(image, device="cuda", return_tensors="pt")["pixel_values"]]
    if isinstance(image, torch.Tensor):
        values.append(processor(image.cuda(), return_tensors="pt")["pixel_values"])
    for value in values:
        assert value.device.type == "cuda"
        assert (value.cpu() - expected).abs().max() <= 2 * ONE_LEVEL + 1e-6
