"""Published checkpoints to ours: `python -m modeling_rrsis.convert --help`."""

from .conversion import Conversion, convert_checkpoint, convert_swin
from .reading import Checkpoint, read_checkpoint

__all__ = ["Checkpoint", "Conversion", "convert_checkpoint", "convert_swin", "read_checkpoint"]
