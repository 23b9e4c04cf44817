"""Cut the parity data (numbers measured from the authors' code) to what the tests need.

python -m tests.modeling.write_parity_golden PARITY_FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np

from .parity import GOLDEN, expand, sample_positions

KEY_LISTS = (
    *("fianet1_tiny", "fianet1_base", "fianet3_base", "lavt_one_tiny", "lavt_one_base", "lavt_base"),
    *("rmsin_tiny", "remotesam_tiny"),
)
NETWORKS = ("fianet1_tiny", "lavt_one_tiny", "fianet3_base", "rmsin_tiny", "remotesam_tiny")
SQUARES = {"E_sq480_b1": 480, "G_sq896_b1": 896}  # of cases whose facts don't tell it
SAMPLES = 64
NOT_STORED = ("logits", "stage4_next")  # logits follow from the decoder's; the last stage's next input is unused


def tree_of(entries):
    tree = {}
    for entry in entries:
        *path, leaf = entry["key"].split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = entry["shape"]
    return compact(tree)


def compact(tree):
    """Equal branches under consecutive numbers become one under "first-last"."""
    runs = []
    for name, branch in tree.items():
        branch = compact(branch) if isinstance(branch, dict) else branch
        follows = runs and name.isdigit() and runs[-1][1].isdigit() and int(name) == int(runs[-1][1]) + 1
        if follows and json.dumps(branch) == json.dumps(runs[-1][2]):
            runs[-1][1] = name
        else:
            runs.append([name, name, branch])
    return {first if first == last else f"{first}-{last}": branch for first, last, branch in runs}


def write_keys(source):
    trees = {}
    for name in KEY_LISTS:
        content = json.loads((source / f"keys_{name}.json").read_text())
        trees[name] = tree_of(content["entries"])
        assert {e["key"]: tuple(e["shape"]) for e in content["entries"]} == dict(expand(trees[name]))
        bert = trees[name].pop("text_encoder", None)
        if bert is None:
            bert = tree_of(content["bert_model_entries"])
        else:
            trees[name]["text_encoder"] = {"see": "bert"}
        assert trees.setdefault("bert", bert) == bert
    (GOLDEN / "keys.json").write_text(json.dumps(trees, separators=(",", ":")) + "\n")


def case_facts(source, name):
    """Size, noise and shapes (where known) of each case; RMSIN's noise at 480 px was not stored, RemoteSAM's is."""
    file = source / f"stats_{name}.json"
    if name in ("rmsin_tiny", "remotesam_tiny"):
        ((case, features),) = json.loads((source / "stats_remotesam_tiny.json").read_text()).items()
        case = case if name == "remotesam_tiny" else "E_sq480_b1"
        return {case: {"H": SQUARES[case], "W": SQUARES[case], "features": features}}
    return json.loads(file.read_text())["cases"]


def write_network(source, name):
    golden = np.load(source / f"golden_{name}.npz")
    arrays, info = {}, {"cases": {}, "samples": SAMPLES}
    for case, facts in case_facts(source, name).items():
        noise = {tensor: feature["max_abs_diff_f32_vs_f64"] for tensor, feature in facts["features"].items()}
        shapes = {tensor: feature["shape"] for tensor, feature in facts["features"].items() if "shape" in feature}
        info["cases"][case] = {"size": [facts["H"], facts["W"]], "noise": noise, "shapes": shapes}
        arrays[f"{case}/ids"] = golden[f"{case}/ids"].astype(np.int32)
        for mask in ("l_mask", "t_mask", "p_mask"):
            arrays[f"{case}/{mask}"] = golden[f"{case}/{mask}"].astype(np.int8)
        decoder = golden[f"{case}/decoder"].astype(np.float64)
        arrays[f"{case}/decoder"] = (decoder[:, 1] - decoder[:, 0]).astype(np.float32)
        for key in golden.files:
            tensor = key.split("/")[1].removesuffix("#val")
            if key.startswith(case) and key.endswith("#val") and tensor not in NOT_STORED:
                if tensor in shapes:
                    positions = sample_positions(case, tensor, int(np.prod(shapes[tensor])), len(golden[key]))
                    assert (positions.numpy() == golden[f"{case}/{tensor}#idx"]).all(), key
                arrays[f"{case}/{tensor}"] = golden[key][:SAMPLES]
    if (source / f"grads_{name}.json").is_file():
        arrays.update(gradients(source, name, info))
    if name == "fianet1_tiny":
        arrays.update(optimizer(source, info))
    groups_file = source / f"optimizer_{name.removesuffix('_tiny')}.json"
    if groups_file.is_file():
        arrays["groups"] = groups(json.loads(groups_file.read_text()), list(info["parameters"]))
    np.savez_compressed(GOLDEN / f"{name}.npz", info=np.array(json.dumps(info)), **arrays)


def gradients(source, name, info):
    """L2 norm and first four values for every parameter, NaN where the authors' code gives none."""
    content = json.loads((source / f"grads_{name}.json").read_text())
    info["parameters"] = list(content["modes"]["eval"]["grads"])
    info["losses"] = {mode: part["loss_f64"] for mode, part in content["modes"].items()}
    info["gradient_case"] = content["case"]
    arrays = {}
    for mode, part in content["modes"].items():
        arrays[f"gradients/{mode}"] = table(part["grads"], info["parameters"])
    after = content["modes"]["bn_batch_stats"]["bn_after"]
    info["buffers"] = list(after)
    arrays["buffers_after"] = table(after, info["buffers"])
    return arrays


def table(values, names):
    rows = np.full((len(names), 5), np.nan)
    for row, name in zip(rows, names, strict=True):
        if values[name] is not None:
            first = values[name]["first4"]
            row[: 1 + len(first)] = [values[name]["l2"], *first]
    return rows.astype(np.float32)


def optimizer(source, info):
    steps = json.loads((source / "optimizer_fianet1.json").read_text())["three_steps"]
    info["three_steps"] = {key: steps[key] for key in ("case", "lr0", "weight_decay", "betas", "eps", "steps")}
    info["three_steps"]["total_iterations"] = steps["total_iterations"]
    deltas = {name: steps["delta_after_3"].get(name) for name in info["parameters"]}
    return {"deltas": table(deltas, info["parameters"])}


def groups(content, parameters):
    """Index of the group of every parameter, −1 where it is in none."""
    index = {key: i for i, group in enumerate(content["groups"]) for key in group["keys"]}
    assert sorted([*index, *content["in_no_group"]]) == sorted(parameters)
    return np.array([index.get(name, -1) for name in parameters], dtype=np.int8)


def write_small(source):
    losses = json.loads((source / "loss.json").read_text())["cases"]
    kept = ("name", "dice_weight", "logits", "target", "loss", "ce", "dice_sum", "grad_logits")
    cases = [{key: case[key] for key in kept} for case in losses]
    schedule = json.loads((source / "optimizer_fianet1.json").read_text())["lr_poly"]
    vectors = json.loads((source / "generator_vectors.json").read_text())
    content = {"losses": cases, "schedule": schedule, "generator": vectors}
    (GOLDEN / "small.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")


def main(source):
    GOLDEN.mkdir(parents=True, exist_ok=True)
    write_keys(source)
    write_small(source)
    for name in NETWORKS:
        write_network(source, name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
