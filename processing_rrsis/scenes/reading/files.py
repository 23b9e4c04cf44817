"""The files on this machine that a raster is read from, found before GDAL opens any of them."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ...bounds_rrsis import read_text, shown
from ...errors import RRSISError
from ...image_loading_rrsis import beside, check_beside
from .stac import ITEM_ENDINGS, stac_asset

MAX_SOURCES = 100_000
_PREFIXES = re.compile(r"^(/vsi\w+/|\w+://|[A-Za-z]\w+:(\d+:)?)+", re.ASCII)
"""Of a local file's path: archives, drivers, numbers of pages."""
_FILE_SYSTEMS = frozenset(
    f"/vsi{name}" for name in ("zip", "tar", "gzip", "7z", "rar", "curl", "s3", "gs", "az", "adls", "oss", "mem")
)
"""Of GDAL's, those that are read: of parts, copies and pipes that others stand for, the file can't be told."""
_USER = re.compile(r"(?<=://)[^/\s\"'<>]*@")
_QUERY = re.compile(r"[?#][^\s\"'<>]*")
_LEADING_TEXT = re.compile(
    rb"<(VRTDataset|GDAL_WM|WCS_GDAL|GDALTileIndexDataset|OGCAPI)|\"(stac_extensions|stac_version|gdal_streamed_alg)\"",
    re.IGNORECASE,
)
"""GDAL looks for these in a file's first kilobyte, whatever its name."""


def is_remote(address: str) -> bool:
    """Whether a raster lies on another machine."""
    return "://" in address or address.startswith(("/vsicurl", "/vsis3", "/vsigs", "/vsiaz"))


def public_name(address: str) -> str:
    """An address without query and user: what a signed one adds is never written down."""
    if "://" not in address and not address.startswith("/vsi"):
        return address
    urlsplit(address)  # raises for what is no address
    return _QUERY.sub("", _USER.sub("", address))


def local_files(address: str) -> list[Path]:
    """The files on this machine that a raster is read from.

    Its own, its archive or its STAC item with the asset's, those beside it where GDAL looks for masks and places, and
    those of a VRT and of the VRTs in it.

    Args:
        address: Whatever `open_scene` opens; a remote one has none.

    Raises:
        RRSISError: If one is a pipe or a device, which never end, or holds text that leads elsewhere under the name of
            a picture; or if a VRT has too many.
    """
    seen: set[Path] = set()
    found: dict[Path, None] = {}
    unknown = sorted(set(re.findall(r"/vsi\w+", address)) - _FILE_SYSTEMS)
    if unknown or address.lstrip()[:1] in ("<", "{"):
        raise RRSISError(
            f"{shown(public_name(address))}: expected a path or an address, got "
            f"{unknown[0] if unknown else 'text that leads elsewhere'}; name the file itself"
        )
    item = address.partition("#")[0]
    is_item = item.lower().endswith(ITEM_ENDINGS) and os.path.isfile(item)
    pending = [*(_places(stac_asset(address)) if is_item else ()), *_places(item)]
    while pending and len(seen) <= MAX_SOURCES:
        file = Path(os.path.abspath(pending.pop()))
        if file not in seen:
            seen.add(file)
            archive = next((place for place in (file, *file.parents) if os.path.exists(place)), file)
            pending += _sources(archive)
            if archive.is_file():
                found |= dict.fromkeys((archive, *filter(Path.is_file, beside(archive))))
    if pending:
        raise RRSISError(f"{public_name(address)}: expected a VRT of at most {MAX_SOURCES:,} files, got more; cut it")
    return list(found)


def file_states(address: str) -> dict[str, list[int]]:
    """What `states_of` says of a raster's files; empty where they can't be told: what opens the raster says why."""
    try:
        return states_of(local_files(address))
    except (OSError, ValueError):
        return {}


def states_of(files: Sequence[Path]) -> dict[str, list[int]]:
    """Bytes and time of change (ns) of some files, by their paths from the first one's folder.

    Raises:
        OSError: If one is gone.
    """
    states = [file.stat() for file in files]
    return {
        os.path.relpath(file, files[0].parent): [status.st_size, status.st_mtime_ns]
        for file, status in zip(files, states, strict=True)
    }


def _places(name: str) -> list[str]:
    """Paths that a name may mean: as it is, and without GDAL's prefixes, an archive's braces and rasterio's mark."""
    path = _PREFIXES.sub("", name.partition("#")[0]).partition("?")[0]
    return [name, path, re.sub(r"[{}]", "", path).replace("!", "/")]


def _sources(path: Path) -> list[str]:
    """The files that a VRT names, none of others, after a look at what lies at a path and beside it."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise RRSISError(f"{path}: expected a raster that GDAL opens, got a pipe or a device; check path and file")
    check_beside(path)
    if not path.is_file() or path.suffix.lower() in ITEM_ENDINGS:
        return []
    with path.open("rb") as stream:
        leads = _LEADING_TEXT.search(stream.read(1024))
    if not leads:
        return []
    if path.suffix.lower() != ".vrt":
        raise RRSISError(f"{path}: expected a raster's values, got text that leads elsewhere; name a VRT .vrt")
    names = {html.unescape(name).strip() for name in re.findall(r'(?<=[>"])[^<>"]+(?=[<"])', read_text(path))}
    found = set()
    for name in filter(None, names):
        for place in (text for form in _places(name) for text in (str(path.parent / form), form)):
            files = [place, *(map(str, Path(place).parents) if name.startswith("/vsi") else ())]
            if any(os.path.exists(file) and not os.path.isdir(file) for file in files):
                found.add(place)
    return sorted(found)
