"""The saved folder works in a process that cannot import our packages."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoModel

from processing_rrsis.hub.model_folder import save_hub_folder

from .conftest import build_tiny_model, build_tiny_processor

NAMES = ("lavt", "danet", "fianet", "rmsin")
EXPRESSION = "the red ship on the upper left"

# -I: no PYTHONPATH, no working directory; -S: no .pth file, so no editable install; the finder stops a plain install.
STRANGER = """
import sys
sys.path[:0] = sys.argv[3:]
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_rrsis", "processing_rrsis"):
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)
sys.meta_path.insert(0, Blocked())
for package in ("modeling_rrsis", "processing_rrsis"):
    try:
        __import__(package)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{package} is importable")
import json, os
import numpy as np, torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer, pipeline
root, image_file = sys.argv[1:3]
report = {}
for name in sorted(os.listdir(root)):
    folder = os.path.join(root, name)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    image_processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    image = Image.open(image_file)
    inputs = processor(images=image, text="the red ship on the upper left", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    np.save(os.path.join(root, "..", name + ".npy"), logits.numpy())
    pipe = pipeline("referring-image-segmentation", model=folder, trust_remote_code=True)
    item = pipe(image_file, text="the red ship on the upper left")
    again = os.path.join(root, "..", "again-" + name)
    pipe.save_pretrained(again)
    second = pipeline("referring-image-segmentation", model=again, trust_remote_code=True)
    report[name] = {
        "model_type": config.model_type,
        "module": type(model).__module__.split(".")[0],
        "same_pixels": torch.equal(image_processor(image, return_tensors="pt").pixel_values, inputs["pixel_values"]),
        "categories": processor.categories,
        "mask_size": item["mask"].size,
        "score": item["score"],
        "score_again": second(image_file, text="the red ship on the upper left")["score"],
        "tokens": AutoTokenizer.from_pretrained(folder, trust_remote_code=True).tokenize("the dam"),
    }
print("REPORT " + json.dumps(report))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("remote")
    models = {name: build_tiny_model(name) for name in NAMES}
    processor = build_tiny_processor(categories=["ship", "dam"], max_length=16)
    for name, model in models.items():
        save_hub_folder(
            model,
            processor,
            root / "hub" / name,
            model_card="---\nlicense: apache-2.0\n---\n",
            metrics={"test": {"mIoU": 1.5}},
        )
    return root, models, processor


@pytest.fixture
def one_thread():
    """As many threads as the stranger has: more of them add in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_stranger_loads_all_three_models(folders, tmp_path):
    root, models, processor = folders
    pixels = np.random.default_rng(0).integers(0, 256, size=(50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "image.png")
    (root / "stranger.py").write_text(STRANGER)
    homes = (Path(package.__file__).parents[1] for package in (transformers, torch))
    paths = (*homes, *map(sysconfig.get_path, ("purelib", "platlib")))
    run = subprocess.run(
        [sys.executable, "-I", "-S", root / "stranger.py", root / "hub", root / "image.png", *paths],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path / "hf"),
            "OMP_NUM_THREADS": "1",
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
        },
        timeout=240,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    line = next(line for line in run.stdout.splitlines() if line.startswith("REPORT "))
    report = json.loads(line.removeprefix("REPORT "))
    inputs = processor(images=Image.fromarray(pixels), text=EXPRESSION, return_tensors="pt")
    for name in NAMES:
        entry = report[name]
        assert entry["model_type"] == f"rrsis_{name}"
        assert entry["module"] == "transformers_modules"
        assert entry["same_pixels"]
        assert entry["categories"] == ["ship", "dam"]
        assert entry["mask_size"] == [70, 50]
        assert entry["score"] == entry["score_again"]
        assert entry["tokens"] == ["the", "dam"]
        # Bit for bit against our own class loaded from the same file; the model that was saved keeps its weights at
        # aligned addresses, the loaded ones do not, and the CPU's kernels then add in another order (3e-8).
        reloaded = AutoModel.from_pretrained(root / "hub" / name).eval()
        assert type(reloaded) is type(models[name])
        with torch.no_grad():
            expected, saved = reloaded(**inputs).logits.numpy(), models[name](**inputs).logits.numpy()
        np.testing.assert_array_equal(np.load(root / f"{name}.npy"), expected)
        np.testing.assert_allclose(saved, expected, atol=1e-6)


def test_folder_is_complete_and_tells_nothing_about_this_machine(folders):
    root, _, _ = folders
    folder = root / "hub" / "fianet"
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= names
    assert {"README.md", "metrics.json", "modeling_fianet.py", "modeling_lavt.py", "pipeline_rrsis.py"} <= names
    assert "mask_output_rrsis.py" in names
    assert {"processor_rrsis.py", "image_processing_rrsis.py", "expression_rrsis.py"} <= names
    assert not [path for path in folder.iterdir() if path.is_dir()]
    project = str(Path(__file__).resolve().parents[2])
    for path in folder.iterdir():
        if path.suffix in (".json", ".md", ".py"):
            text = path.read_text()
            keys = ("is_local", "_name_or_path", "local_files_only") if path.suffix == ".json" else ()
            for leak in (str(root), str(Path.home()) + "/", project, *keys):
                assert leak not in text, f"{leak} in {path.name}"
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_rrsis.FIANetConfig",
        "AutoModel": "modeling_fianet.FIANetForReferringSegmentation",
        "AutoModelForImageSegmentation": "modeling_fianet.FIANetForReferringSegmentation",
    }
    task = config["custom_pipelines"]["referring-image-segmentation"]
    assert task["impl"] == "pipeline_rrsis.ReferringSegmentationPipeline"
    assert json.loads((folder / "metrics.json").read_text()) == {"test": {"mIoU": 1.5}}


def test_lavt_folder_carries_no_code_of_its_children(folders):
    root, _, _ = folders
    names = {path.name for path in (root / "hub" / "lavt").iterdir()}
    assert "modeling_fianet.py" not in names
    assert "modeling_danet.py" not in names
