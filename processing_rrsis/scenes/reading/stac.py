"""A STAC item's asset as the address of a raster."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from ...bounds_rrsis import MAX_TEXT_BYTES, decode_text, parse_json, read_text, read_url, shown

ITEM_ENDINGS = (".json", ".geojson")


def stac_asset(source: str) -> str:
    """Return the address of the raster that a source names.

    Args:
        source: A raster, returned as it is; or a STAC item, `item.json` or `item.json#asset`. Without a name the
            item's only asset of the role `visual`, or named so, or its only raster is taken.

    Raises:
        OSError: If the item can't be read.
        ValueError: If the file is no STAC item, or if it isn't plain which asset is meant.
    """
    item, _, name = source.partition("#")
    if not item.partition("?")[0].lower().endswith(ITEM_ENDINGS):
        return source
    return _resolved(item, asset_href(_read_item(item), name, item))


def asset_href(item: dict[str, Any], name: str, where: str) -> str:
    """The address of one asset as a STAC item has it.

    Args:
        item: The item's JSON.
        name: Of the asset; see [`stac_asset`] for the one that is taken where it is empty.
        where: What messages call the item.

    Raises:
        ValueError: If it isn't plain which asset is meant.
    """
    assets = item.get("assets")
    if not isinstance(assets, dict) or not assets or not all(map(_has_address, assets.values())):
        raise ValueError(f"{where}: expected a raster or a STAC item whose assets have a href, got other JSON")
    types = {key: str(asset.get("type")).lower() for key, asset in assets.items()}
    rasters = [key for key, kind in types.items() if "tif" in kind or "jp2" in kind]
    visual = [key for key in rasters if key == "visual" or "visual" in _roles(assets[key])]
    chosen = [name] if name else visual[:1] if len(visual) == 1 else rasters
    if len(chosen) != 1 or chosen[0] not in assets:
        raise ValueError(
            f"{where}: expected the name of one asset, as in {where}#{rasters[0] if rasters else next(iter(assets))}, "
            f"got {name or 'none'}; there are {', '.join(assets)}"
        )
    href = str(assets[chosen[0]]["href"])
    if not href.isprintable():  # lone surrogates among others, which are no text
        raise ValueError(f"{where}: expected an address as the asset's href, got {href!r}")
    return href


def _roles(asset: dict[str, Any]) -> list[Any]:
    roles = asset.get("roles")
    return roles if isinstance(roles, list) else []


def _has_address(asset: Any) -> bool:
    return isinstance(asset, dict) and isinstance(asset.get("href"), str)


def _read_item(address: str) -> dict[str, Any]:
    if "://" in address:
        text = decode_text(read_url(address, MAX_TEXT_BYTES), source=shown(address))
    else:
        text = read_text(Path(address).expanduser())
    values = parse_json(text, source=shown(address))
    return values if isinstance(values, dict) else {}


def _resolved(item: str, href: str) -> str:
    """An asset's address, relative to its item where it is relative."""
    if "://" in href or href.startswith("/"):
        return href
    return urljoin(item, href) if "://" in item else str(Path(item).expanduser().parent / href)
