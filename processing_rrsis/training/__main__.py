"""Train LAVT, DANet, FIANet or RMSIN with Accelerate: train_accelerate.py where only the package is installed.

    accelerate launch -m processing_rrsis.training
    accelerate launch -m processing_rrsis.training --model danet --seed 1 --output_dir runs/danet --resume latest

A recipe sets every number (`rrsis recipes`); an option given here replaces it. The weights in `best/` are chosen on
the validation split; the test splits are read once, at the end.
"""

from __future__ import annotations

import sys

from .main import run_command

if __name__ == "__main__":
    sys.exit(run_command(description=__doc__ or ""))
