"""The affinity loss's row sums: the tiled form, the choice of a form, and the Triton kernels.

Without a GPU the kernels are interpreted on the CPU, and compiled for GPUs that are not there.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from modeling_rrsis import affinity_rrsis
from modeling_rrsis.affinity_rrsis import (
    affinity_gradient,
    affinity_row_sums,
    compiled_kernels,
    tiled_gradient,
    tiled_row_sums,
    triton_kernels,
)
from modeling_rrsis.loss_rrsis import _affinity_cost, affinity_loss
from processing_rrsis.benchmark.affinity import dense_affinity_loss

HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
needs_gpu = pytest.mark.skipif(
    not (HAS_TRITON and torch.cuda.is_available()), reason="needs an NVIDIA GPU and triton, has none"
)
SHARED_MEMORY = 99 * 1024  # bytes of a block, the least of all GPUs from Ampere on; an H100 has 227 KiB


def rows(batch, pixels, channels, share=0.3, dtype=torch.float32, device="cpu"):
    """Rows of length 1 that are alike, as features of one image are, and the foreground."""
    generator = torch.Generator().manual_seed(pixels + channels)
    features = torch.randn(batch, pixels, channels, generator=generator, dtype=dtype) + 0.5
    foreground = (torch.rand(batch, pixels, generator=generator) < share).to(dtype)
    return F.normalize(features, dim=-1).to(device), foreground.to(device)


def relative_error(ours, reference):
    return float((ours - reference).norm() / reference.norm())


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_row_sums_by_definition(temperature):
    unit, foreground = rows(2, 37, 8, dtype=torch.float64)
    exponential = ((unit @ unit.mT - 1) / temperature).exp()
    terms = exponential, exponential * foreground[:, None], exponential**2, exponential**2 * foreground[:, None]
    expected = torch.stack([term.sum(-1) for term in terms], dim=-1)
    torch.testing.assert_close(tiled_row_sums(unit, foreground, temperature), expected)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("pixels", [1, 65, 130])
@pytest.mark.parametrize("tile_rows", [None, 1, 7, 65, 1000])
def test_tiles_of_any_size_give_the_same_numbers(batch, pixels, tile_rows, monkeypatch):
    unit, foreground = rows(batch, pixels, 8, dtype=torch.float64)
    sums_gradient = torch.randn(batch, pixels, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = {"tile_rows": pixels}
    expected = (
        tiled_row_sums(unit, foreground, 0.5, **whole),
        tiled_gradient(sums_gradient, unit, foreground, 0.5, **whole),
    )
    monkeypatch.setattr(affinity_rrsis, "CPU_TILE_NUMBERS", 1000)
    torch.testing.assert_close(tiled_row_sums(unit, foreground, 0.5, tile_rows), expected[0])
    torch.testing.assert_close(tiled_gradient(sums_gradient, unit, foreground, 0.5, tile_rows), expected[1])


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_the_gradient_is_that_of_finite_differences(temperature):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 9, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.rand(2, 9, generator=generator) < 0.4
    assert torch.autograd.gradcheck(lambda x: affinity_loss(x, labels, temperature, tile_rows=4), features)


def test_the_operators_are_what_compilers_expect():
    unit, foreground = rows(2, 9, 4, dtype=torch.float64)
    torch.library.opcheck(affinity_row_sums, (unit.clone().requires_grad_(), foreground, 0.5, None, "auto"))
    torch.library.opcheck(affinity_gradient, (torch.randn_like(unit), unit, foreground, 0.5, 4, "tiled"))


def test_a_second_copy_of_the_file_has_its_own_operators():
    """Remote code of several folders, and of one folder loaded again, beside the installed package."""
    unit, foreground = rows(1, 9, 4)
    expected = affinity_row_sums(unit, foreground, 1.0, None, "auto")
    for name in ("transformers_modules.danet.c0ffee.affinity_rrsis",) * 2:
        spec = importlib.util.spec_from_file_location(name, affinity_rrsis.__file__)
        copy = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(copy)
        leaf = unit.clone().requires_grad_()
        sums = copy.affinity_row_sums(leaf, foreground, 1.0, None, "auto")
        sums.sum().backward()
        assert torch.equal(sums, expected)
        assert copy.NAMESPACE != affinity_rrsis.NAMESPACE
    assert torch.equal(affinity_row_sums(unit, foreground, 1.0, None, "auto"), expected)


def high_part(x):
    """What a matrix unit reads of float32 as tf32: the sign, 8 bits of exponent and 10 of mantissa."""
    return (x.view(torch.int32) & -(2**13)).view(torch.float32)


def product_in_tf32(left, right):
    return high_part(left) @ high_part(right)


def product_in_three_parts(left, right):
    high = high_part(left), high_part(right)
    low = high_part(left - high[0]), high_part(right - high[1])
    return low[0] @ high[1] + high[0] @ low[1] + high[0] @ high[1]


def gradient_with(product, unit, foreground, temperature):
    """The gradient of the affinity loss by the rows, across them, with matrix products of a kind."""
    exponential = ((product(unit, unit.mT.contiguous()) - 1) / temperature).exp()
    terms = exponential, exponential * foreground[:, None], exponential**2, exponential**2 * foreground[:, None]
    sums = torch.stack([term.sum(-1) for term in terms], dim=-1).requires_grad_()
    (by_sums,) = torch.autograd.grad(_affinity_cost(sums, foreground, temperature).sum(), sums)
    weight = exponential * (by_sums[..., 0, None] + by_sums[..., 1, None] * foreground[:, None])
    weight = weight + 2 * exponential**2 * (by_sums[..., 2, None] + by_sums[..., 3, None] * foreground[:, None])
    gradient = product(weight + weight.mT, unit) / temperature
    return gradient - (gradient * unit).sum(-1, keepdim=True) * unit


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_three_parts_of_tf32_are_as_good_as_float32(temperature):
    """Why the kernels take them: plain tf32 leaves the gradient three digits or two."""
    unit, foreground = rows(1, 300, 64, dtype=torch.float64)
    exact = gradient_with(torch.matmul, unit, foreground, temperature)
    unit, foreground = unit.float(), foreground.float()
    error = {
        product: relative_error(gradient_with(product, unit, foreground, temperature), exact)
        for product in (torch.matmul, product_in_three_parts, product_in_tf32)
    }
    assert error[product_in_three_parts] < 5 * error[torch.matmul] < 1e-4
    assert error[product_in_tf32] > 100 * error[torch.matmul]


INTERPRETED = """
import itertools, json, torch
from modeling_rrsis import affinity_rrsis, affinity_triton_rrsis as kernels
from modeling_rrsis.loss_rrsis import _affinity_cost, affinity_loss
from processing_rrsis.benchmark.affinity import dense_affinity_loss

def value_and_gradient(loss, features, labels, temperature):
    value = loss(features, labels, temperature)
    return value.detach().double(), torch.autograd.grad(value, features)[0].double()

generator = torch.Generator().manual_seed(0)
found = []
for pixels, channels, is_hopper in ((133, 40, False), (75, 256, False), (133, 130, True)):
    kernels._is_hopper = lambda unit: is_hopper
    for share, temperature in itertools.product((0.0, 0.3, 1.0), (1.0, 0.1)):
        features = (torch.randn(2, pixels, channels, generator=generator) + 0.5).requires_grad_()
        labels = torch.rand(2, pixels, generator=generator) < share
        tiled = value_and_gradient(affinity_loss, features, labels, temperature)
        exact = features.detach().double().requires_grad_()
        dense = value_and_gradient(dense_affinity_loss, exact, labels, temperature)
        fused = affinity_rrsis.TritonKernels(kernels.row_sums, kernels.gradient)
        chooser, affinity_rrsis.triton_kernels = affinity_rrsis.triton_kernels, lambda unit, form: fused
        ours = value_and_gradient(affinity_loss, features, labels, temperature)
        affinity_rrsis.triton_kernels = chooser
        errors = [float((a - b).norm() / b.norm()) for other in (tiled, dense) for a, b in zip(ours, other)]
        found.append([[pixels, channels, share, temperature], errors])
print(json.dumps(found))
"""


@needs_triton
def test_interpreted_kernels_equal_the_tiled_and_the_dense_form(tmp_path):
    """In a process of its own: Triton decides when it is imported whether it interprets."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", INTERPRETED]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 18
    for case, (value, gradient, dense_value, dense_gradient) in found:
        # Where all is foreground and float32 computes it, the gradient is a small difference of large terms.
        tolerance = 1e-3 if case[2] == 1.0 else 1e-5
        assert max(value, dense_value) < 1e-6, case
        assert max(gradient, dense_gradient) < tolerance, (case, gradient, dense_gradient)


@needs_triton
@pytest.mark.parametrize("has_whole_blocks", [True, False])
@pytest.mark.parametrize("kind", ["row_sums", "gradient"])
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus(capability, kind, has_whole_blocks, tmp_path, monkeypatch):
    """To machine code that a block's shared memory suffices for. The number of channels is an argument of it."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from modeling_rrsis import affinity_triton_rrsis as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(kernels, f"{kind}_kernel")
    launch = getattr(kernels, ("HOPPER_" if capability == 90 else "") + kind.upper())
    sizes = {f"block_{name}": getattr(launch, name) for name in ("rows", "columns", "depth", "width")}
    constants = {"has_whole_blocks": has_whole_blocks, **sizes}
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    types = {"num_pixels": "i32", "num_channels": "i32", "inverse_temperature": "fp32"}
    signature = {name: types.get(name, "*fp32") for name in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
    multiples_of_16 = [name for name, type_ in signature.items() if type_ == "*fp32"] + [
        "num_channels"
    ] * has_whole_blocks
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in multiples_of_16}
    compiled = compile(
        ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": launch.num_warps, "num_stages": launch.num_stages},
    )
    assert len(compiled.asm["cubin"]) > 1000
    assert 0 < compiled.metadata.shared <= SHARED_MEMORY


def test_tensors_on_a_cpu_never_reach_triton():
    script = (
        "import sys, torch\n"
        "from modeling_rrsis.loss_rrsis import affinity_loss\n"
        "affinity_loss(torch.randn(1, 9, 4, requires_grad=True), torch.ones(1, 9)).backward()\n"
        "sys.exit('modeling_rrsis.affinity_triton_rrsis' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True)
    assert triton_kernels(torch.ones(1), "auto") is None


@pytest.mark.parametrize(("form", "words"), [("triton", "needs float32 on an NVIDIA GPU"), ("fused", "got 'fused'")])
def test_a_form_that_cannot_be_had_is_refused(form, words):
    features, labels = torch.randn(1, 9, 4), torch.ones(1, 9)
    with pytest.raises(ValueError, match=words):
        affinity_loss(features, labels, form=form)


@pytest.fixture
def gpu(monkeypatch):
    """A device that is said to be an H100 and on which nothing is kept."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    return torch.device("cpu")


def test_without_triton_the_tiled_form_runs(gpu, monkeypatch):
    monkeypatch.delitem(sys.modules, "modeling_rrsis.affinity_triton_rrsis", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    assert compiled_kernels.__wrapped__(gpu) is None


@needs_triton
@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="interpreted kernels run anywhere")
def test_kernels_that_do_not_run_are_warned_of(gpu, monkeypatch):
    messages = []
    monkeypatch.setattr(affinity_rrsis.logger, "warning", messages.append)
    assert compiled_kernels.__wrapped__(gpu) is None
    assert ["PyTorch form does instead" in message for message in messages] == [True]


@needs_triton
def test_kernels_that_run_are_taken(gpu, monkeypatch):
    from modeling_rrsis import affinity_triton_rrsis as kernels

    monkeypatch.setattr(kernels, "row_sums", lambda unit, *_: unit)
    monkeypatch.setattr(kernels, "gradient", lambda sums_gradient, *_: sums_gradient)
    assert compiled_kernels.__wrapped__(gpu) == (kernels.row_sums, kernels.gradient)


@pytest.mark.parametrize(("capability", "hip"), [((7, 5), None), ((9, 4), "6.4")])
def test_other_gpus_take_the_tiled_form(gpu, capability, hip, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert compiled_kernels.__wrapped__(gpu) is None


def value_and_gradient(loss, features, labels, **options):
    value = loss(features, labels, **options)
    return value, torch.autograd.grad(value, features)[0]


@needs_gpu
@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize(("pixels", "channels"), [(3600, 256), (900, 512), (225, 1024), (1001, 128), (131, 40)])
def test_kernels_on_a_gpu(pixels, channels, temperature):
    unit, labels = rows(2, pixels, channels, device="cuda")
    unit.requires_grad_()
    ours = value_and_gradient(affinity_loss, unit, labels, temperature=temperature, form="triton")
    again = value_and_gradient(affinity_loss, unit, labels, temperature=temperature, form="triton")
    assert all(torch.equal(one, other) for one, other in zip(ours, again, strict=True))
    exact = unit.detach().double().requires_grad_()
    for value, gradient in (
        value_and_gradient(affinity_loss, unit, labels, temperature=temperature, form="tiled"),
        value_and_gradient(dense_affinity_loss, exact, labels, temperature=temperature),
    ):
        assert abs(float(ours[0] / value) - 1) < 1e-5
        assert relative_error(ours[1].double(), gradient.double()) < 1e-4


@needs_gpu
def test_memory_on_a_gpu_grows_with_the_number_of_pixels():
    """Beside the features nothing but their own size a few times: 4 × 14,400 × 128 numbers are 28 MiB."""
    unit, labels = rows(1, 14400, 128, device="cuda")
    unit.requires_grad_()
    affinity_loss(unit[:, :64], labels[:, :64]).backward()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    affinity_loss(unit, labels, form="triton").backward()
    assert torch.cuda.max_memory_allocated() - before < 8 * unit.numel() * 4


@needs_gpu
def test_kernels_in_a_compiled_graph():
    unit, labels = rows(2, 131, 64, device="cuda")
    unit.requires_grad_()
    torch.compiler.reset()
    ours = value_and_gradient(torch.compile(affinity_loss, fullgraph=True), unit, labels, form="triton")
    for one, other in zip(ours, value_and_gradient(affinity_loss, unit, labels, form="triton"), strict=True):
        torch.testing.assert_close(one, other)
