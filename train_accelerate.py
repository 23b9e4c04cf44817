"""Train LAVT, DANet, FIANet or RMSIN with Accelerate, on one CPU or on many GPUs.

    accelerate launch train_accelerate.py                       # small FIANet on the embedded benchmark
    accelerate launch train_accelerate.py --model danet --seed 1 --output_dir runs/danet
    accelerate launch train_accelerate.py --recipe fianet-rrsisd --data_dir RRSIS-D --resume latest
    accelerate launch train_accelerate.py --init_from runs/fianet/best --dataset my_roofs.csv
    accelerate launch train_accelerate.py --ablation fianet-fig9-cim

A recipe sets every number (`rrsis recipes`); an option given here replaces it. The output folder holds `best/` and
`last/` (loaded by `AutoModel`, `AutoProcessor` and `pipeline`), `metrics.json`, `metrics.jsonl`, `recipe.yaml`,
`checkpoints/`, `panels/`, `contact_sheet.png` and `curves.png`. The weights in `best/` are chosen on the validation
split; the test splits are read once, at the end.

Killed, preempted or stopped with Ctrl-C, the same command with `--resume latest` goes on as if nothing had happened:
the run ends with the same bytes. For several GPUs or nodes see configs/.
"""

from __future__ import annotations

import sys

from processing_rrsis.training.arguments import TrainingArguments, resolve_recipe
from processing_rrsis.training.main import main, run_command
from processing_rrsis.training.run import Run, prepare_run

__all__ = ["Run", "TrainingArguments", "main", "prepare_run", "resolve_recipe"]

if __name__ == "__main__":
    sys.exit(run_command(description=__doc__ or ""))
