"""Checkpoints that are damaged or made to harm: one line with the file's name, never weights that nobody trained."""

import io
import pickle
import struct
import zipfile

import pytest
import torch

from modeling_rrsis.convert import convert_swin, read_checkpoint

LARGE = 2_000_000_000  # numbers: 8 GB


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def changed(data, change=lambda name, content: content, **options):
    """The records of a checkpoint's archive written again, each as `change` gives it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, change(member.filename, old.read(member)), **options)
    return buffer.getvalue()


def flipped(data):
    place = data.index(struct.pack("<f", 1.5)) + 1
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def cut(name, content):
    return content[:-4] if name.endswith("data/0") else content


class Calls:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def nested_key(depth=200_000):
    """A dictionary whose key is a tuple in a tuple in a tuple."""
    return b"\x80\x02}(K\x01" + b"\x85" * depth + b"K\x01u."


def with_pickle(pickled):
    return changed(saved({}), lambda name, content: pickled if name.endswith("data.pkl") else content)


def rebuilt(size, **options):
    """One number that is said to be so many."""
    call = torch._utils._rebuild_tensor_v2
    return saved({"a": Calls(call, torch.zeros(1).storage(), 0, (size,), (1,), False, {})}, **options)


WHOLE = {"a": torch.full((100,), 1.5), "b": torch.ones(3)}
BAD = {
    "flipped bit": lambda: flipped(saved(WHOLE)),
    "record cut short": lambda: changed(saved(WHOLE), cut),
    "compressed": lambda: changed(saved(WHOLE), compress_type=zipfile.ZIP_DEFLATED),
    "nested key": lambda: with_pickle(nested_key()),
    "key of text and number": lambda: saved({1: torch.ones(1), "1": torch.zeros(1)}),
    "calls bytearray": lambda: saved({"a": torch.ones(1), "b": Calls(bytearray, LARGE)}),
    "calls a tensor": lambda: saved({"a": Calls(torch.FloatTensor, LARGE)}),
    "grown": lambda: rebuilt(LARGE),
    "grown, former format": lambda: rebuilt(LARGE, _use_new_zipfile_serialization=False),
    "expanded": lambda: saved({"a": torch.zeros(1).expand(LARGE)}),
    "no pickle": lambda: changed(saved(WHOLE), lambda name, content: b"" if name.endswith("pkl") else content),
    "number of 5,000 digits": lambda: with_pickle(b"\x80\x02I" + b"9" * 5000 + b"\n."),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_what_is_damaged_or_harms_is_a_line_with_the_file_name(make, tmp_path):
    path = tmp_path / "bad.pth"
    path.write_bytes(make())
    with pytest.raises(ValueError, match=r"bad\.pth: expected") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_what_is_whole_is_read(tmp_path):
    (tmp_path / "good.pth").write_bytes(changed(saved({"model": WHOLE, "epoch": 1, "rate": 1e-5})))
    checkpoint = read_checkpoint(tmp_path / "good.pth")
    assert all(torch.equal(checkpoint.model[name], tensor) for name, tensor in WHOLE.items())


def test_a_swin_of_no_numbers_is_refused(tmp_path):
    from modeling_rrsis import LAVTConfig
    from modeling_rrsis.swin_rrsis import build_swin

    kwargs = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4}
    swin = build_swin(LAVTConfig(backbone="swin_tiny_patch4_window7_224", backbone_kwargs=kwargs))
    state = {}
    for name, tensor in swin.state_dict().items():  # timm's places of the downsampling to Microsoft's
        parts = name.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        state[".".join(parts)] = tensor
    state["patch_embed.proj.bias"][0] = torch.nan
    torch.save({"model": state}, tmp_path / "swin.pth")
    with pytest.raises(ValueError, match=r"swin.pth: expected finite numbers.*patch_embed.proj.bias"):
        convert_swin(tmp_path / "swin.pth")


def test_a_pickle_is_looked_at_to_its_end():
    from modeling_rrsis.convert.pickles import PickleError, Survey

    for data in (pickle.dumps({"a": [1, 2.5, "x", (1, 2)]}, protocol=protocol) for protocol in range(6)):
        survey = Survey()
        survey.add(io.BytesIO(data))
        assert survey == Survey()
        with pytest.raises(PickleError):
            Survey().add(io.BytesIO(data[:-1]))
