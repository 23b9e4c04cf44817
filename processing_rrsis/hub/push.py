"""One push to the Hub: repository, one commit, and errors that say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from ..errors import RRSISError

_TOKEN = re.compile(r"hf_\w{8,}|(?<=Bearer )\S+")
_WRITE_TOKEN = "a token of the role `write` ({endpoint}/settings/tokens); give it to `hf auth login`, or set HF_TOKEN"


class PublishError(RRSISError):
    """The Hub was not reached or refused; the message says why and what to do. Nothing is published by halves."""


@dataclass(frozen=True)
class RepoFile:
    """A file of a repository.

    Args:
        path: Its path in the repository.
        source: The file on disk, or its bytes.
    """

    path: str
    source: Path | bytes

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    def read(self) -> bytes:
        """The file's content."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


@dataclass(frozen=True)
class PushOptions:
    """How to publish.

    Args:
        private: Create the repository as a private one; an existing public one is refused.
        revision: Branch to publish to, made where it does not exist; `main` by default.
        create_pr: Open a pull request and leave the branch as it is.
        dry_run: Only list what would go up; nothing is asked of the Hub.
        token: Token to use; by default `HF_TOKEN` or the one of `hf auth login`.
    """

    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    dry_run: bool = False
    token: str | None = field(default=None, repr=False)

    @property
    def used_token(self) -> str | None:
        """The token that will be sent: the given one, or the stored one."""
        return self.token or huggingface_hub.get_token()


AS_USUAL = PushOptions()


@dataclass(frozen=True)
class Publication:
    """What was published, or would be.

    Args:
        repo_id: Repository.
        repo_kind: `"model"`, `"dataset"` or `"space"`.
        files: Path and size in bytes of every file.
        left_out: Files of the folder that stay behind, with the reason.
        removed: Files of earlier commits that this one removes.
        url: Page of the repository, of the pull request where one was opened; empty for a dry run.
        commit: Hash of the commit; load it for good with `revision=`.
        card: Text of README.md, for a dry run.
        is_unchanged: Whether the branch held exactly this already, so that there was nothing to commit.
    """

    repo_id: str
    repo_kind: str
    files: tuple[tuple[str, int], ...]
    left_out: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    url: str = ""
    commit: str = ""
    card: str = ""
    is_unchanged: bool = False


def check_repo_id(repo_id: str) -> None:
    """Raise a `ValueError` unless a name reads `user/name`."""
    validate_repo_id(repo_id)
    if "/" not in repo_id:
        raise ValueError(f"repository: expected user/name or organization/name, got {repo_id!r}")


def check_token(token: str | None) -> None:
    """Raise a `PublishError`, which does not repeat it, for a token that can't be sent."""
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        found = "one with a blank, a line end or a letter of another kind" if token else "an empty text"
        raise PublishError(
            f"token: expected visible ASCII characters as the Hub shows them, got {found}; copy it again, or leave "
            "--token out and use `hf auth login` or HF_TOKEN"
        )


def push(
    files: Sequence[RepoFile],
    repo_id: str,
    repo_kind: str,
    options: PushOptions,
    *,
    message: str,
    ours: re.Pattern[str],
    left_out: Sequence[str] = (),
) -> Publication:
    """Publish files in one commit: until it is made, the published revision stays as it was.

    Large files are uploaded before the commit; those that arrived need not go up again when a broken push is repeated.

    Args:
        files: What goes up.
        repo_id: `user/name`; created where it does not exist.
        repo_kind: `"model"`, `"dataset"` or `"space"`.
        options: How.
        message: Title of the commit.
        ours: Paths that an earlier push may have written: such files are removed by the same commit where they are not
            among `files`. Others stay.
        left_out: Files that stay behind, for the report.

    Returns:
        What was published; for a dry run what would be.

    Raises:
        PublishError: The Hub is not reached or refuses; nothing is published by halves.
    """
    files = sorted(files, key=lambda file: file.path)
    listed = tuple((file.path, file.size) for file in files)
    if options.dry_run:
        card = "".join(file.read().decode("utf-8", errors="replace") for file in files if file.path == "README.md")
        return Publication(repo_id, repo_kind, listed, left_out=tuple(left_out), card=card)
    check_token(options.token)
    with hub_errors(repo_id, options.token):
        api = HfApi(token=options.token)
        _check_login(api, repo_id)
        head, there = _open_repository(api, repo_id, repo_kind, options)
        removed = sorted(path for path in there - {file.path for file in files} if ours.fullmatch(path))
        done = api.create_commit(
            repo_id=repo_id,
            repo_type=repo_kind,
            operations=[
                *(CommitOperationAdd(file.path, file.source) for file in files),
                *(CommitOperationDelete(path) for path in removed),
            ],
            commit_message=message,
            revision=options.revision,
            create_pr=options.create_pr,
            parent_commit=head,  # the files to remove were read from it
        )
    return Publication(
        repo_id,
        repo_kind,
        listed,
        tuple(left_out),
        tuple(removed),
        url=done.pr_url if options.create_pr and done.pr_url else str(done.repo_url),
        commit=done.oid,
        is_unchanged=done.oid == head,
    )


def _check_login(api: HfApi, repo_id: str) -> None:
    """Find out who is asking before anything is uploaded, with a better message than the upload's."""
    stored = huggingface_hub.get_token()
    check_token(stored)
    if api.token is None and stored is None:
        needed = _WRITE_TOKEN.format(endpoint=api.endpoint)
        raise PublishError(f"{repo_id}: not logged in to {api.endpoint}; publishing needs {needed}")
    api.whoami()


def _open_repository(api: HfApi, repo_id: str, repo_kind: str, options: PushOptions) -> tuple[str | None, set[str]]:
    """Make repository and branch where they don't exist; return the branch's head and the files there."""
    try:
        info = api.repo_info(repo_id, repo_type=repo_kind)
    except RepositoryNotFoundError:
        if options.create_pr:
            raise PublishError(
                f"{repo_id}: a pull request needs an existing repository and there is none that this token can see; "
                "check the name, or publish without --create-pr to create it"
            ) from None
        sdk: dict[str, Any] = {"space_sdk": "gradio"} if repo_kind == "space" else {}
        api.create_repo(repo_id, repo_type=repo_kind, private=options.private, exist_ok=True, **sdk)
        info = api.repo_info(repo_id, repo_type=repo_kind)
    if options.private and not info.private:
        raise PublishError(
            f"{repo_id}: --private, but the repository exists and is public; make it private in its settings "
            f"({api.endpoint}/{'' if repo_kind == 'model' else repo_kind + 's/'}{repo_id}/settings), choose another "
            "name, or leave out --private"
        )
    branch = options.revision
    if branch is not None and not branch.startswith("refs/"):
        api.create_branch(repo_id, branch=branch, repo_type=repo_kind, exist_ok=True)
    if branch is not None:
        info = api.repo_info(repo_id, repo_type=repo_kind, revision=branch)
    return info.sha, {sibling.rfilename for sibling in getattr(info, "siblings", None) or ()}


@contextmanager
def hub_errors(repo_id: str, token: str | None = None) -> Iterator[None]:
    """Turn what the Hub's client raises into a `PublishError` that says what to do and holds no token.

    Args:
        repo_id: Repository, for the message.
        token: Token in use; it is cut out of the message.
    """
    try:
        yield
    except PublishError:
        raise
    except Exception as error:  # also what an answer that is not the Hub's leads to in its client
        words = _without_tokens(" ".join(str(error).split()), token or huggingface_hub.get_token())
        raise PublishError(f"{repo_id}: {_explain(error, words[:600])}") from None


def _explain(error: Exception, words: str) -> str:
    """What went wrong, in the client's words, and what to do."""
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not asked; unset it (and TRANSFORMERS_OFFLINE) to publish"
    endpoint = huggingface_hub.constants.ENDPOINT
    reason = f"{type(error).__name__}: {words}"
    if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
        return (
            f"{endpoint} refuses ({reason}). Publishing needs {_WRITE_TOKEN.format(endpoint=endpoint)}; a repository "
            "of another user or organization needs membership there, or --create-pr to propose the change"
        )
    return (
        f"{endpoint} was not reached or did not answer as expected ({reason}); what is published is as before, or "
        "complete. Check the network, a proxy (HTTPS_PROXY) and HF_ENDPOINT, then run the same command again: what "
        "arrived is not uploaded twice"
    )


def _without_tokens(text: str, token: str | None) -> str:
    """The text with every token cut out."""
    if token:
        text = text.replace(token, "(token)")
    return _TOKEN.sub("(token)", text)
