"""BatchNorm over processes, and BatchNorm that is frozen."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from processing_rrsis.training.batch_norm import ProcessBatchNorm2d, freeze_batch_norm, synchronise_batch_norm


def test_two_processes_normalise_as_one():
    worker = Path(__file__).with_name("batch_norm_worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(worker)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(worker.parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("equal") == 2


def test_one_process_is_plain_batch_norm():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    batch = torch.randn(4, 2, 5, 5)
    expected = plain(batch)
    names = list(plain.state_dict())
    synchronised = synchronise_batch_norm(plain, torch.device("cpu"))
    assert isinstance(synchronised[1], ProcessBatchNorm2d)
    assert list(synchronised.state_dict()) == names
    assert torch.equal(synchronised(batch), expected)


def test_frozen_statistics_stay():
    layers = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Dropout())
    layers.train()
    freeze_batch_norm(layers)
    layers(torch.randn(4, 2, 5, 5))
    assert torch.equal(layers[1].running_mean, torch.zeros(3))
    assert layers[2].training
    assert layers[1].weight.requires_grad
