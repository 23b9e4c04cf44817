"""A lock that another process holds."""

import subprocess
import sys
from contextlib import contextmanager

HOLDING = """
import pathlib, sys
from processing_rrsis.result_files import take_lock
held = take_lock(pathlib.Path(sys.argv[1]), "")
print("held", flush=True)
input()
"""


@contextmanager
def locked_elsewhere(path):
    command = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        yield
        other.communicate(b"\n")
