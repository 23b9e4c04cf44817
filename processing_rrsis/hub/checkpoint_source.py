"""A published checkpoint by the path of its file, or by a repository's name on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HUB = "hf://"
CHECKPOINT_ENDINGS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")


class CheckpointFile(NamedTuple):
    """A checkpoint on this disk, and how its source is told to others: `hf://owner/name/file`, or the file's name."""

    path: Path
    source: str


def find_checkpoint(checkpoint: str) -> CheckpointFile:
    """The file of a checkpoint; one on the Hub is fetched into huggingface_hub's own cache.

    Args:
        checkpoint: A path, `hf://owner/name`, or `hf://owner/name/file` where the repository has several.

    Raises:
        ValueError: The repository is not there, or has no checkpoint or several.
        OSError: It is neither in the cache nor reached; the message says what to fetch.
    """
    if not checkpoint.startswith(HUB):
        path = Path(checkpoint).expanduser()
        if path.is_dir():
            path /= choose_checkpoint(str(path), [file.name for file in path.iterdir() if file.is_file()])
        return CheckpointFile(path, path.name)
    owner, _, rest = checkpoint.removeprefix(HUB).partition("/")
    name, _, file = rest.partition("/")
    if not owner or not name:
        raise ValueError(f"CHECKPOINT: expected hf://owner/name, got {checkpoint!r}")
    repo_id = f"{owner}/{name}"
    path = _fetch(repo_id, file)
    return CheckpointFile(path, f"{HUB}{repo_id}/{file or path.name}")


def _fetch(repo_id: str, file: str) -> Path:
    """The repository's checkpoint from the Hub, or from the cache where the Hub is not reached."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    refusals = (HfHubHTTPError, EntryNotFoundError)
    try:
        names = [file] if file else HfApi().list_repo_files(repo_id)
    except refusals as error:
        if getattr(getattr(error, "response", None), "status_code", 404) in (429, *range(500, 600)):
            return _cached(repo_id, file)
        raise _not_there(repo_id, file, error) from error
    except Exception:  # not reached, whatever the HTTP library that the Hub's client chose calls that
        return _cached(repo_id, file)
    chosen = file or choose_checkpoint(f"{HUB}{repo_id}", names)
    try:
        return Path(hf_hub_download(repo_id, chosen))
    except (LocalEntryNotFoundError, ConnectionError):
        return _cached(repo_id, file)
    except refusals as error:
        raise _not_there(repo_id, file, error) from error


def _not_there(repo_id: str, file: str, error: Exception) -> ValueError:
    wanted = f"a model repository with {file}" if file else "a model repository"
    return ValueError(
        f"{HUB}{repo_id}: expected {wanted} that you may read, the Hub has none ({type(error).__name__}); check "
        "the name, and run `hf auth login` if it is private"
    )


def _cached(repo_id: str, file: str) -> Path:
    """The checkpoint as an earlier call or `hf download` left it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo_id, local_files_only=True))
    except LocalEntryNotFoundError:
        names = []
    else:
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        names = [name for name in names if (name == file if file else name.endswith(CHECKPOINT_ENDINGS))]
    if not names:
        raise OSError(
            f"{HUB}{repo_id}: the Hub is not reached and the cache has no {file or 'checkpoint of it'}; where there "
            f"is a network, run `hf download {repo_id}{f' {file}' if file else ''}`, and give what it names"
        )
    return folder / choose_checkpoint(f"{HUB}{repo_id}", names)


def choose_checkpoint(place: str, names: Sequence[str]) -> str:
    """The one checkpoint among a repository's or a folder's files.

    Raises:
        ValueError: There is none, or several, between which the caller is asked to choose.
    """
    found = sorted(name for name in names if name.endswith(CHECKPOINT_ENDINGS))
    if len(found) != 1:
        what = f"{len(found)}; choose one: " + ", ".join(f"{place}/{name}" for name in found)
        raise ValueError(
            f"{place}: expected one checkpoint ({', '.join(CHECKPOINT_ENDINGS)}) among its files, found "
            + (what if found else "none")
        )
    return found[0]
