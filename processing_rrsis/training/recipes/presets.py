"""The ablations of DANet's and FIANet's papers and of RMSIN's contributions, one name each.

A preset is fields of the model's configuration and nothing else, on top of whatever else is configured:

    from modeling_rrsis import DANetConfig
    config = DANetConfig(**get_ablation("danet-table5-cross-attention").fields)

or `train_accelerate.py --ablation danet-table5-cross-attention`. Every preset names the fields that its table varies,
also where a value is the default, so that it means the same on any recipe. `rrsis ablations` lists them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Published = Mapping[str, Mapping[str, float]]

PAPERS: dict[str, str] = {"danet": "DANet (ACM MM 2024)", "fianet": "FIANet (IEEE TGRS)", "rmsin": "RMSIN (CVPR 2024)"}
PUBLISHED_ON: dict[str, str] = {
    "danet": "mIoU on RefSegRS (test) and RRSIS-D (validation)",
    "fianet": "on RefSegRS (test, which also selected the weights)",
    "rmsin": "its tables were not at hand",
}


@dataclass(frozen=True)
class Ablation:
    """One row of one ablation table, or one point of one ablation figure.

    Args:
        name: The preset's name, `<paper>-<table>-<row>`.
        paper: `"danet"`, `"fianet"` or `"rmsin"`.
        table: Table or figure as its paper numbers it; DANet's are Arabic, FIANet's tables Roman, so each is unique.
            RMSIN's rows, which follow no table, are its `"parts"`.
        row: What distinguishes the row, in the paper's words.
        model: Network that the fields are of.
        fields: Fields of the model's configuration.
        published: Dataset → metric → percent, as published; `None` where the paper only plots them.
    """

    name: str
    paper: str
    table: str
    row: str
    model: str
    fields: Mapping[str, Any]
    published: Published | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        published = None if self.published is None else {key: dict(value) for key, value in self.published.items()}
        return {**vars(self), "fields": dict(self.fields), "published": published}


def _danet(
    table: str, suffix: str, row: str, *, fields: dict[str, Any], miou: tuple[float, float] | None = None
) -> Ablation:
    """A DANet ablation; `miou` on RefSegRS and RRSIS-D."""
    published = None if miou is None else {"refsegrs": {"mIoU": miou[0]}, "rrsisd": {"mIoU": miou[1]}}
    name = f"danet-{table.replace('figure', 'fig').replace(' ', '')}-{suffix}"
    return Ablation(name, "danet", table, row, model="danet", fields=fields, published=published)


FIANET_SCORES = ("Pr@0.5", "Pr@0.7", "Pr@0.9", "oIoU", "mIoU")
FIANET_TABLES = {"table V": "table5", "table VI": "table6", "figure 9": "fig9"}


def _fianet(
    table: str, suffix: str, row: str, *, fields: dict[str, Any], scores: tuple[float, ...] | None = None
) -> Ablation:
    """A FIANet ablation; `scores` on RefSegRS, in the order of `FIANET_SCORES`."""
    published = None if scores is None else {"refsegrs": dict(zip(FIANET_SCORES, scores, strict=True))}
    name = f"fianet-{FIANET_TABLES[table]}-{suffix}"
    return Ablation(name, "fianet", table, row, model="fianet", fields=fields, published=published)


def _fiam(modulation: bool, ground_object: bool, spatial_position: bool) -> dict[str, bool]:
    """FIANet's alignment module by its parts; without all three it is the alignment of LAVT."""
    return {
        "use_channel_modulation": modulation,
        "use_ground_object_branch": ground_object,
        "use_spatial_position_branch": spatial_position,
    }


NO_FIAM, WHOLE_FIAM = _fiam(False, False, False), _fiam(True, True, True)
# The whole networks, as they stand in several tables.
DANET_MIOU = (62.14, 66.07)
FIANET_ALL = (84.09, 61.86, 7.10, 78.32, 68.67)
FIANET_NO_FIAM = (80.96, 53.99, 4.29, 75.62, 65.39)

DANET: tuple[Ablation, ...] = (
    # Table 3, main components. Without both the network is LAVT, trained with binary cross-entropy.
    _danet(
        "table 3",
        "none",
        "neither",
        fields={"affinity_weight": 0.0, "predictor": "conv"},
        miou=(57.74, 61.46),
    ),
    _danet(
        "table 3",
        "affinity",
        "affinity alignment",
        fields={"affinity_weight": 0.5, "predictor": "conv"},
        miou=(59.84, 63.57),
    ),
    _danet(
        "table 3",
        "agents",
        "reliable agent alignment",
        fields={"affinity_weight": 0.0, "predictor": "agent"},
        miou=(59.95, 64.02),
    ),
    _danet("table 3", "both", "both", fields={"affinity_weight": 0.5, "predictor": "agent"}, miou=DANET_MIOU),
    # Table 4, stages of the affinity alignment.
    _danet("table 4", "f4", "F4", fields={"affinity_stages": [4]}, miou=(60.19, 64.32)),
    _danet("table 4", "f34", "F3, F4", fields={"affinity_stages": [3, 4]}, miou=(61.88, 65.73)),
    _danet("table 4", "f234", "F2, F3, F4", fields={"affinity_stages": [2, 3, 4]}, miou=DANET_MIOU),
    _danet("table 4", "f1234", "F1, F2, F3, F4", fields={"affinity_stages": [1, 2, 3, 4]}, miou=(62.12, 65.94)),
    # Table 5, how the predictor is aligned.
    _danet(
        "table 5", "cross-attention", "cross-attention", fields={"predictor": "cross_attention"}, miou=(60.17, 63.92)
    ),
    _danet(
        "table 5",
        "masked-attention",
        "masked attention",
        fields={"predictor": "masked_attention"},
        miou=(61.45, 64.73),
    ),
    _danet("table 5", "agents", "reliable agent alignment", fields={"predictor": "agent"}, miou=DANET_MIOU),
    # Table 6, threshold of the text-to-visual activation.
    _danet("table 6", "alpha0.75", "α = 0.75", fields={"affinity_threshold": 0.75}, miou=(62.03, 65.94)),
    _danet("table 6", "alpha0.80", "α = 0.80", fields={"affinity_threshold": 0.80}, miou=DANET_MIOU),
    _danet("table 6", "alpha0.85", "α = 0.85", fields={"affinity_threshold": 0.85}, miou=(61.97, 65.81)),
    _danet("table 6", "alpha0.90", "α = 0.90", fields={"affinity_threshold": 0.90}, miou=(61.63, 65.72)),
    # Figure 4: (a) number of agents, (b) weight of the affinity loss. Only the whole network's point has numbers.
    _danet("figure 4", "k16", "K = 16", fields={"num_agents": 16}),
    _danet("figure 4", "k32", "K = 32", fields={"num_agents": 32}, miou=DANET_MIOU),
    _danet("figure 4", "k64", "K = 64", fields={"num_agents": 64}),
    _danet("figure 4", "lambda0.3", "λ_af = 0.3", fields={"affinity_weight": 0.3}),
    _danet("figure 4", "lambda0.5", "λ_af = 0.5", fields={"affinity_weight": 0.5}, miou=DANET_MIOU),
    _danet("figure 4", "lambda0.7", "λ_af = 0.7", fields={"affinity_weight": 0.7}),
    _danet("figure 4", "lambda1.0", "λ_af = 1.0", fields={"affinity_weight": 1.0}),
)

FIANET: tuple[Ablation, ...] = (
    # Table V, alignment module and multi-scale module. The baseline aligns as LAVT does.
    _fianet(
        "table V",
        "baseline",
        "neither",
        fields={**NO_FIAM, "multi_scale": "none"},
        scores=(78.37, 43.04, 2.86, 74.90, 62.24),
    ),
    _fianet(
        "table V",
        "fiam",
        "FIAM",
        fields={**WHOLE_FIAM, "multi_scale": "none"},
        scores=(83.21, 57.29, 4.79, 77.83, 66.68),
    ),
    _fianet("table V", "tmem", "TMEM", fields={**NO_FIAM, "multi_scale": "tmem"}, scores=FIANET_NO_FIAM),
    _fianet("table V", "both", "FIAM, TMEM", fields={**WHOLE_FIAM, "multi_scale": "tmem"}, scores=FIANET_ALL),
    # Table VI, parts of the alignment module; the TMEM stays. Its first row is table V's third.
    _fianet("table VI", "none", "none", fields=NO_FIAM, scores=FIANET_NO_FIAM),
    _fianet(
        "table VI",
        "cm",
        "C.M.",
        fields=_fiam(True, False, False),
        scores=(81.40, 53.99, 4.73, 76.07, 65.76),
    ),
    _fianet(
        "table VI",
        "cm-gob",
        "C.M., G.O.B.",
        fields=_fiam(True, True, False),
        scores=(83.27, 57.46, 5.34, 77.40, 67.01),
    ),
    _fianet("table VI", "all", "C.M., G.O.B., S.P.B.", fields=WHOLE_FIAM, scores=FIANET_ALL),
    # Figure 9, multi-scale module; bars without numbers, of which the TMEM's are the whole network's.
    _fianet("figure 9", "tmem", "TMEM", fields={"multi_scale": "tmem"}, scores=FIANET_ALL),
    _fianet("figure 9", "cim", "CIM (RMSIN)", fields={"multi_scale": "cim"}),
    _fianet("figure 9", "lgce", "LGCE", fields={"multi_scale": "lgce"}),
)


def _rmsin(suffix: str, row: str, *, within: bool, across: bool, rotated: bool) -> Ablation:
    """RMSIN by its parts: interaction within and across scales, rotated convolutions; without all three it is LAVT."""
    fields = {"use_intra_scale": within, "use_cross_scale": across, "use_rotated_convolution": rotated}
    return Ablation(f"rmsin-parts-{suffix}", "rmsin", "parts", row, model="rmsin", fields=fields)


RMSIN: tuple[Ablation, ...] = (
    _rmsin("none", "none", within=False, across=False, rotated=False),
    _rmsin("iim", "IIM", within=True, across=False, rotated=False),
    _rmsin("cim", "CIM", within=False, across=True, rotated=False),
    _rmsin("interaction", "IIM, CIM", within=True, across=True, rotated=False),
    _rmsin("rotation", "ARC", within=False, across=False, rotated=True),
    _rmsin("all", "IIM, CIM, ARC", within=True, across=True, rotated=True),
)

ABLATIONS: dict[str, Ablation] = {ablation.name: ablation for ablation in (*DANET, *FIANET, *RMSIN)}


def get_ablation(name: str) -> Ablation:
    """The preset of a name.

    Raises:
        ValueError: If there is none; the message has the nearest names.
    """
    if name in ABLATIONS:
        return ABLATIONS[name]
    near = difflib.get_close_matches(name, ABLATIONS, n=4, cutoff=0.5)
    hint = f"Near it: {', '.join(near)}." if near else "A name reads like danet-table3-both or fianet-fig9-cim."
    raise ValueError(f"No ablation is named {name!r}. {hint} `rrsis ablations` lists all {len(ABLATIONS)}.")
