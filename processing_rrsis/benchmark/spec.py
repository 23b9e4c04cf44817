"""What `rrsis benchmark` measures: settings and cases. Nothing heavy is imported here, `rrsis --help` reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

MODEL_NAMES: tuple[str, ...] = ("lavt", "danet", "fianet", "rmsin")
MODEL_SIZES: tuple[str, ...] = ("base", "tiny")
DTYPES: tuple[str, ...] = ("float32", "bfloat16", "autocast")
"""`bfloat16`: weights and activations; `autocast`: float32 weights under `torch.autocast` to bfloat16."""
MODES: tuple[str, ...] = ("eager", "compile")
FORWARD, TRAIN, TRAIN_CHECKPOINTED = "forward", "train", "train, checkpointed"
WORKS: tuple[str, ...] = (FORWARD, TRAIN, TRAIN_CHECKPOINTED)
SCALING_SIZES_PX: tuple[int, ...] = (256, 384, 480, 640, 768, 1024, 1280, 1536)
NUM_TOKENS = 20
AFFINITY_PIXELS, AFFINITY_CHANNELS = 3600, 256
"""Second stage of Swin-B at 480×480 px."""
PATCH_PX = 4


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        model: `"lavt"`, `"danet"`, `"fianet"` or `"rmsin"`; with a folder, the name that tables show.
        image_size_px: Side of the square images.
        batch_size: Images of a batch, with an expression each.
        dtype: One of `DTYPES`.
        mode: `"eager"` or `"compile"`.
        device: `"cpu"` or `"cuda"`.
        work: One of `WORKS`; a training step is a forward pass with labels and a backward pass, without optimizer.
        model_size: `"base"`, the class's default configuration, or `"tiny"`, for tests.
        model_folder: Folder or Hub repository whose weights are taken; random ones if absent.
        seed: Seed of weights and inputs.
        threads: Threads of a CPU; PyTorch's default if absent.
    """

    model: str
    image_size_px: int = 480
    batch_size: int = 1
    dtype: str = "float32"
    mode: str = "eager"
    device: str = "cpu"
    work: str = FORWARD
    model_size: str = "base"
    model_folder: str | None = None
    seed: int = 0
    threads: int | None = None

    @property
    def variant(self) -> str:
        """What tells the cases of one model apart, such as "float32 eager"."""
        return f"{self.dtype} {self.mode}"

    @property
    def same_work(self) -> Case:
        """The case in float32 and eager: the one whose FLOPs count for all variants."""
        return replace(self, dtype="float32", mode="eager")


@dataclass(frozen=True)
class BenchmarkSpec:
    """What is measured, and how often; a study takes from it what it reads.

    Attributes:
        models: Names out of `MODEL_NAMES`; with a folder, the one name that tables show.
        model_size: `"base"` or `"tiny"`.
        model_folder: A folder or Hub repository whose model is measured.
        image_sizes_px: Sides of the square images.
        batch_sizes: Images of a batch.
        variants: Pairs of a dtype and a mode.
        device: `"cpu"` or `"cuda"`.
        works: Out of `WORKS`.
        rounds: Interleaved runs of each case.
        warmup: Runs before the clock starts.
        threads: Threads of a CPU; PyTorch's default if absent.
        seed: Seed of weights and inputs.
        has_memory: Measure peak memory in processes of their own.
    """

    models: tuple[str, ...] = MODEL_NAMES
    model_size: str = "base"
    model_folder: str | None = None
    image_sizes_px: tuple[int, ...] = (480,)
    batch_sizes: tuple[int, ...] = (1,)
    variants: tuple[tuple[str, str], ...] = (("float32", "eager"),)
    device: str = "cpu"
    works: tuple[str, ...] = (FORWARD,)
    rounds: int = 5
    warmup: int = 1
    threads: int | None = None
    seed: int = 0
    has_memory: bool = True

    def __post_init__(self) -> None:
        dtypes, modes = zip(*self.variants, strict=True) if self.variants else ((), ())
        if self.model_folder is None:
            one_of("--model", self.models, MODEL_NAMES)
        one_of("--model-size", (self.model_size,), MODEL_SIZES)
        one_of("--dtype", dtypes, DTYPES)
        one_of("--mode", modes, MODES)
        one_of("--device", (self.device,), ("cpu", "cuda"))
        one_of("--work", self.works, WORKS)
        for size in self.image_sizes_px:
            if size < 32 or size % PATCH_PX:
                raise ValueError(f"--image-size: expected multiples of {PATCH_PX} of at least 32, got {size}")
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ValueError(f"--batch-size: expected numbers of at least 1, got {list(self.batch_sizes)}")

    def case(self, model: str, **changes: object) -> Case:
        """A case of a model with the settings that all share; the first size, batch, variant and work by default."""
        dtype, mode = self.variants[0]
        settings: dict[str, object] = {
            "image_size_px": self.image_sizes_px[0],
            "batch_size": self.batch_sizes[0],
            "dtype": dtype,
            "mode": mode,
            "work": self.works[0],
            **changes,
        }
        return Case(
            model=model,
            device=self.device,
            model_size=self.model_size,
            model_folder=self.model_folder,
            seed=self.seed,
            threads=self.threads,
            **settings,  # type: ignore[arg-type]
        )

    def groups(self) -> Iterator[list[Case]]:
        """The cases that are timed in turns: those of one work, image size and batch size."""
        for work, size, batch in product(self.works, self.image_sizes_px, self.batch_sizes):
            shared = {"work": work, "image_size_px": size, "batch_size": batch}
            yield [
                self.case(model, dtype=dtype, mode=mode, **shared)
                for model in self.models
                for dtype, mode in self.variants
            ]


def one_of(option: str, given: Iterable[str], allowed: tuple[str, ...]) -> None:
    """Raise a ValueError unless something is given and all of it is allowed."""
    given = tuple(given)
    wrong = [name for name in given if name not in allowed]
    if wrong or not given:
        got = repr(wrong[0]) if wrong else "nothing"
        raise ValueError(f"{option}: expected one of {', '.join(allowed)}, got {got}")
