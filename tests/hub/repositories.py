"""What the loopback Hub keeps: repositories as commits of whole files, in memory."""

import hashlib
import json
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Blob:
    """A file's content; `oid` is git's hash of it, or of its LFS pointer."""

    content: bytes
    lfs: bool

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self):
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        data = pointer.encode() if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self):
        return self.sha256 if self.lfs else self.oid

    def entry(self, path):
        lfs = {"lfs": {"oid": self.sha256, "size": len(self.content), "pointerSize": 134}} if self.lfs else {}
        return {"type": "file", "path": path, "size": len(self.content), "oid": self.oid, **lfs}


@dataclass
class Repository:
    """Branches and pull requests by name, commits by hash; a commit is a title, a parent and all files."""

    private: bool
    refs: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)

    def commit(self, ref, files, title, parent=None):
        text = json.dumps([title, parent, len(self.commits), {path: blob.oid for path, blob in files.items()}])
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = {"title": title, "parent": parent, "files": dict(files)}
        self.refs[ref] = sha
        return sha

    def resolve(self, revision):
        sha = self.refs.get(revision, revision)
        return sha if sha in self.commits else None

    def files(self, revision="main"):
        return self.commits[self.resolve(revision)]["files"]

    def write(self, folder, revision="main"):
        """Write the files of a revision into a folder, as a download would."""
        for path, blob in self.files(revision).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(blob.content)
        return folder

    def titles(self, revision="main"):
        """Titles of a branch's commits, newest first."""
        found, sha = [], self.resolve(revision)
        while sha:
            found.append(self.commits[sha]["title"])
            sha = self.commits[sha]["parent"]
        return found


def directory(path):
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
