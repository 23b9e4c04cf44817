"""What a conversion did, as text: sizes, folded and dropped tensors by name."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from .conversion import Conversion

LABEL_WIDTH = 11


def describe(conversion: Conversion) -> str:
    """Lines for a reader; every tensor that was not taken is named, with the reason."""
    lines = [*_size_lines(conversion)]
    lines.append(_line("taken", f"{len(conversion.taken)} tensors, {_millions(conversion.state.values())} numbers"))
    if conversion.folded:
        names = ", ".join(conversion.folded)
        lines.append(_line("folded", f"{names}: target − background, one channel of log-odds"))
    for reason, keys in conversion.dropped.items():
        lines.append(_line("dropped", f"{len(keys)} × {reason}:"))
        lines += [" " * (LABEL_WIDTH + 2) + key for key in keys]
    if conversion.other:
        lines.append(_line("not read", f"{', '.join(conversion.other)} (no weights of the network)"))
    return "\n".join(lines)


def _size_lines(conversion: Conversion) -> Iterable[str]:
    sizes = conversion.sizes
    swin = sizes["backbone_kwargs"]
    depths, heads = ("-".join(map(str, swin[name])) for name in ("depths", "num_heads"))
    yield _line(
        "Swin",
        f"width {swin['embed_dim']}, depths {depths}, heads {heads}, window {swin['window_size']}, "
        f"patch {swin['patch_size']} ({sizes['backbone']})",
    )
    if "text_config" in sizes:
        text = sizes["text_config"]
        yield _line(
            "BERT",
            f"{text['num_hidden_layers']} layers, width {text['hidden_size']}, {text['num_attention_heads']} heads, "
            f"{text['vocab_size']} tokens",
        )
        yield _line("decoder", f"width {sizes['decoder_hidden_size']}")
    if "num_tmem_layers" in sizes:
        yield _line(
            "TMEM",
            f"{sizes['num_tmem_layers']} layers, bottleneck {sizes['tmem_bottleneck']}, "
            f"MLP ratio {sizes['tmem_mlp_ratio']:g}",
        )
    if "num_cim_layers" in sizes:
        yield _line("CIM", f"{sizes['num_cim_layers']} layers, grid {sizes['grid_size']}×{sizes['grid_size']}")


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}}  {text}"


def _millions(tensors: Iterable[Tensor]) -> str:
    return f"{sum(tensor.numel() for tensor in tensors) / 1e6:.1f} M"
