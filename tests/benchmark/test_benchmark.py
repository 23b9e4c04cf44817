"""`rrsis benchmark`: what is said of times, operations and memory is what was measured."""

import signal
import subprocess
from dataclasses import replace

import pytest
import torch
from torch import nn

from processing_rrsis.benchmark.affinity import affinity_inputs, affinity_work, value_and_gradient
from processing_rrsis.benchmark.cases import build_model, count_flops, make_inputs, prepare_model
from processing_rrsis.benchmark.machine import describe_machine
from processing_rrsis.benchmark.memory import measure_memory, run_task
from processing_rrsis.benchmark.profiling import called_modules, profile_model, record_parts
from processing_rrsis.benchmark.report import affinity_line
from processing_rrsis.benchmark.results import OK, OUT_OF_MEMORY, CaseResult, Memory, Ratio
from processing_rrsis.benchmark.run import measure_group, prepared_machine
from processing_rrsis.benchmark.spec import (
    AFFINITY_CHANNELS,
    FORWARD,
    TRAIN,
    TRAIN_CHECKPOINTED,
    BenchmarkSpec,
    Case,
)
from processing_rrsis.benchmark.studies import compare_expressions, widest_gap
from processing_rrsis.benchmark.study_results import AffinityResult, ScalingResult, fit_line
from processing_rrsis.benchmark.timing import Work, time_interleaved

TINY = Case("fianet", image_size_px=64, model_size="tiny")
QUICK = BenchmarkSpec(
    models=("lavt",),
    model_size="tiny",
    image_sizes_px=(64,),
    rounds=1,
    warmup=0,
    has_memory=False,
)
pytestmark = pytest.mark.usefixtures("one_thread")


class FakeClock:
    """Moves only when a work says so."""

    now = 0.0

    def __call__(self):
        return self.now

    def work(self, *seconds):
        """A work whose runs take these seconds, one after the other."""
        remaining = list(seconds)

        def run():
            self.now += remaining.pop(0)

        return Work(run)


def test_ratios_by_hand():
    ratio = Ratio.of([3.0, 6.0, 4.0], [2.0, 2.0, 4.0])
    assert ratio == Ratio(of_medians=4 / 2, of_minima=3 / 2, median_of_rounds=1.5)  # of 1.5, 3, 1
    assert Ratio.of([], [2.0]) is Ratio.of([1.0], []) is None


def test_works_run_in_turns_and_the_first_call_is_apart():
    clock, order = FakeClock(), []
    works = {"a": clock.work(9, 1, 2), "b": clock.work(8, 3, 5)}
    timings = time_interleaved(works, rounds=2, warmup=1, clock=clock, on_run=order.append)
    assert order == ["a", "b"] * 3
    assert (timings["a"].first_call_seconds, timings["a"].seconds) == (9, [1, 2])
    assert (timings["b"].first_call_seconds, timings["b"].seconds) == (8, [3, 5])


def test_what_a_run_leaves_is_not_timed():
    clock = FakeClock()

    def reset():
        clock.now += 100

    timings = time_interleaved({"a": replace(clock.work(1, 2), reset=reset)}, rounds=2, warmup=0, clock=clock)
    assert timings["a"].seconds == [1, 2]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_a_row_and_others_go_on(error):
    def fail():
        raise error

    timings = time_interleaved({"big": Work(fail), "small": Work(lambda: None)}, rounds=2)
    assert timings["big"].is_out_of_memory
    assert timings["big"].seconds == []
    assert len(timings["small"].seconds) == 2


def test_other_errors_are_not_hidden():
    def fail():
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        time_interleaved({"a": Work(fail)}, rounds=1)


def test_operations_of_a_convolution_a_product_and_attention():
    conv = nn.Conv2d(3, 5, kernel_size=3, padding=1)
    image = torch.randn(2, 3, 8, 8)
    assert count_flops(Work(lambda: conv(image))) == 2 * (2 * 5 * 8 * 8) * (3 * 9)
    assert count_flops(Work(lambda: torch.ones(2, 3) @ torch.ones(3, 4))) == 2 * 2 * 3 * 4
    query = torch.randn(1, 2, 7, 4)
    attend = nn.functional.scaled_dot_product_attention
    assert count_flops(Work(lambda: attend(query, query, query))) == 2 * (2 * 2 * 7 * 7 * 4)  # QKᵀ and weights · V
    assert count_flops(Work(lambda: image.exp())) == 0


def test_numbers_that_follow_from_seconds():
    row = CaseResult(
        replace(TINY, batch_size=6), seconds=[2.0, 1.0, 3.0], reference_seconds=[1.0, 1.0, 2.0], flops=10**10
    )
    assert row.median_seconds == 2
    assert row.images_per_second == 3
    assert row.gflops_per_second == 5
    assert row.to_dict()["ratio_to_swin"] == {"of_medians": 2, "of_minima": 1, "median_of_rounds": 1.5}
    assert CaseResult(TINY, status=OUT_OF_MEMORY).to_dict()["median_seconds"] is None


def test_line_through_known_points():
    pixels = [1.0, 2.0, 4.0]
    fit = fit_line(pixels, [3.0, 5.0, 9.0])
    assert (fit.intercept, fit.slope) == pytest.approx((1, 2))
    assert fit.largest_deviation == pytest.approx(0)


def test_line_weighs_points_by_their_own_size():
    """No intercept helps y = (1, 1, 4) at x = (1, 2, 3); the least of Σ (line / y − 1)² worked out by hand.

    Weights 1, 1, 1/16: mean x = 51/33, mean y = 36/33; covariance and variance of x over the weights give the slope.
    """
    pixels, seconds = [1.0, 2.0, 3.0], [1.0, 1.0, 4.0]
    fit = fit_line(pixels, seconds)
    mean_x, mean_y = 51 / 33, 36 / 33
    covariance = (1 - mean_x) * (1 - mean_y) + (2 - mean_x) * (1 - mean_y) + (3 - mean_x) * (4 - mean_y) / 16
    variance = (1 - mean_x) ** 2 + (2 - mean_x) ** 2 + (3 - mean_x) ** 2 / 16
    assert fit.slope == pytest.approx(covariance / variance)
    assert fit.intercept == pytest.approx(mean_y - mean_x * covariance / variance)
    assert fit.largest_deviation == pytest.approx(4 / (fit.intercept + 3 * fit.slope) - 1)


def test_scaling_reports_the_spread_without_a_line():
    result = ScalingResult(TINY, sizes_px=[100, 200, 400], seconds=[[0.02], [0.04], [0.16]], out_of_memory_px=[800])
    assert result.seconds_per_megapixel == pytest.approx([2, 1, 1])
    assert result.to_dict()["spread_of_seconds_per_megapixel"] == pytest.approx(1)
    assert replace(result, sizes_px=[100], seconds=[[0.02]]).fit is None


@pytest.mark.parametrize("name", ["lavt", "danet", "fianet", "rmsin"])
def test_every_part_of_a_model_is_seen_and_left_as_it_was(name):
    case = replace(TINY, model=name, work=TRAIN)
    model = build_model(case)
    prepare_model(model, case.work)
    with called_modules(model) as parts:
        model(**make_inputs(case, model))
    stages = {f"{part}.{i}" for part in ("vision.layers", "fusion") for i in range(4)}
    labels = {f"fusion.{i}.context.attention.{part}" for i in (1, 2, 3) for part in ("query", "key")}  # equation 2
    heads = {"lavt": {"head"}, "danet": {"predictor", *labels}, "fianet": {"head", "tmem"}, "rmsin": {"head", "cim"}}
    assert set(parts) == {*stages, "vision.patch_embed", "text_encoder", "decoder", *heads[name]}
    with record_parts(parts):
        assert all(module._forward_hooks and module._forward_pre_hooks for module in parts.values())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_profile_has_parts_and_operators(tmp_path):
    result = profile_model(QUICK, "lavt", FORWARD, tmp_path / "trace.json")
    seconds = dict(result.parts)
    assert min(seconds.values()) > 0
    assert seconds["decoder"] < result.operator_seconds
    assert result.operators == sorted(result.operators, key=lambda row: -row[2])
    assert any(name.startswith("aten::") for name, _, _ in result.operators)
    assert "rrsis: decoder" in (tmp_path / "trace.json").read_text()


def test_inputs_are_what_the_reference_was_measured_with():
    case = replace(TINY, batch_size=2, work=TRAIN)
    inputs = make_inputs(case, build_model(case))
    assert inputs["input_ids"].shape == (2, 20)
    assert inputs["ground_object_mask"].sum(1).tolist() == [2, 2]
    assert inputs["spatial_position_mask"].sum(1).tolist() == [4, 4]
    assert inputs["labels"].sum((1, 2)).tolist() == [16 * 16] * 2
    assert "labels" not in make_inputs(replace(case, work=FORWARD), build_model(case))


def test_gradient_checkpointing_computes_more():
    (plain,) = measure_group([replace(TINY, work=TRAIN)], rounds=1, warmup=0)
    (checkpointed,) = measure_group([replace(TINY, work=TRAIN_CHECKPOINTED)], rounds=1, warmup=0)
    (forward,) = measure_group([TINY], rounds=1, warmup=0)
    assert forward.flops < plain.flops < checkpointed.flops


def test_variants_of_a_model_are_compared_with_its_float32():
    cases = [TINY, replace(TINY, dtype="bfloat16"), replace(TINY, dtype="autocast")]
    rows = measure_group(cases, rounds=2, warmup=1)
    assert [row.status for row in rows] == [OK] * 3
    assert rows[0].against_eager is None
    assert rows[1].against_eager == Ratio.of(rows[1].seconds, rows[0].seconds)
    assert rows[0].reference_seconds == rows[2].reference_seconds
    assert len({row.flops for row in rows}) == 1


def test_a_process_of_its_own_measures_memory():
    memory = measure_memory(replace(TINY, work=TRAIN, threads=1))
    assert memory.status == OK
    assert 0 < memory.growth < memory.peak


@pytest.mark.parametrize(
    ("code", "status"),
    [(-signal.SIGKILL, OUT_OF_MEMORY), (1, "not measured, its process ended with code 1: KeyError: 'none'")],
)
def test_a_process_that_ends_early_is_a_status(code, status, monkeypatch):
    ended = subprocess.CompletedProcess([], code, stdout="", stderr="Traceback\nKeyError: 'none'\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    memory = measure_memory(replace(TINY, model="none"))
    assert (memory.status, memory.peak, memory.growth) == (status, None, None)


def test_memory_is_out_where_the_work_is(monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("processing_rrsis.benchmark.cases.build_model", fail)
    assert run_task({"case": {"model": "lavt"}}) == Memory(status=OUT_OF_MEMORY)


def test_the_forms_of_the_affinity_loss_agree():
    features, labels = affinity_inputs(batch=2, pixels=50, device="cpu")
    value, gradient = value_and_gradient("tiled", features, labels)
    dense_value, dense_gradient = value_and_gradient("dense", features, labels)
    assert value == pytest.approx(dense_value, rel=1e-5)
    torch.testing.assert_close(gradient, dense_gradient, rtol=1e-3, atol=1e-3 * float(dense_gradient.abs().max()))


def test_affinity_comparison_by_hand():
    memory = {"tiled": Memory(peak=150, before=140), "dense": Memory(peak=340, before=140)}
    seconds = {"tiled": [1.0, 2.0], "dense": [6.0, 12.0]}
    result = AffinityResult((1, 4, 2), "cuda", seconds, memory, differences={"tiled": (1e-7, 2e-6)})
    assert result.linear_forms == ["tiled"]
    assert result.speedup("tiled") == Ratio(6, 6, 6)
    assert result.memory_share("tiled") == 10 / 200
    assert result.to_dict()["memory_share"] == {"tiled": 0.05}
    assert affinity_line(result, "tiled").endswith("relative difference of value 1.0e-07, of gradient 2.0e-06.")


def test_a_dense_form_that_does_not_fit_is_compared_with_nothing():
    memory = {"tiled": Memory(peak=150, before=140), "dense": Memory(status=OUT_OF_MEMORY)}
    result = AffinityResult((1, 4, 2), "cpu", {"tiled": [1.0], "dense": []}, memory, differences={})
    assert affinity_line(result, "tiled") == "Tiled: not comparable in time, memory not compared."


def test_operations_of_the_affinity_loss_are_counted():
    """The cosines in both passes and the gradient's two products: a multiplication and an addition, batch 2."""
    features, labels = affinity_inputs(batch=2, pixels=50, device="cpu")
    expected = 4 * 2 * (2 * 50**2 * AFFINITY_CHANNELS)
    assert count_flops(affinity_work("tiled", features, labels)) == expected


def test_expressions_give_the_masks_of_single_calls():
    result = compare_expressions(QUICK, "fianet", 3, on_run=lambda name: None)
    assert result.pixels == 3 * 64 * 64
    assert result.largest_logit_difference < 1e-4
    assert result.differing_pixels == 0
    assert len(result.joint_seconds) == len(result.single_seconds) == 1


def test_masks_that_differ_are_told(monkeypatch):
    logits = iter([torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[1.0, 2.0]]])])  # joint, single
    monkeypatch.setattr("processing_rrsis.benchmark.studies._logits", lambda *_: next(logits))
    result = compare_expressions(QUICK, "lavt", 2, on_run=lambda name: None)
    assert (result.threshold, result.differing_pixels, result.largest_logit_difference) == (1.5, 1, 3.0)
    assert not result.to_dict()["has_same_masks"]


def test_logits_are_cut_in_the_widest_gap_of_the_middle_half():
    assert widest_gap(torch.tensor([-100.0, 0, 1, 3, 4, 4.5, 100, 1000])) == 2  # of 1, 3, 4, 4.5: between 1 and 3


def test_threads_are_put_back():
    with prepared_machine(replace(QUICK, threads=2)):
        assert torch.get_num_threads() == describe_machine("cpu")["threads"] == 2
    assert torch.get_num_threads() == 1


def test_cases_of_one_work_size_and_batch_are_timed_together():
    variants = (("float32", "eager"), ("bfloat16", "compile"))
    spec = BenchmarkSpec(models=("lavt", "fianet"), variants=variants, batch_sizes=(1, 4), works=(FORWARD, TRAIN))
    groups = list(spec.groups())
    assert [(group[0].work, group[0].batch_size) for group in groups] == [
        *((FORWARD, 1), (FORWARD, 4)),
        *((TRAIN, 1), (TRAIN, 4)),
    ]
    assert [(case.model, case.variant) for case in groups[1]] == [
        *(("lavt", "float32 eager"), ("lavt", "bfloat16 compile")),
        *(("fianet", "float32 eager"), ("fianet", "bfloat16 compile")),
    ]
