"""A Hub on this machine: the part of the Hub's HTTP API that publishing and loading use, in a thread, in memory.

Paths and fields are those that `huggingface_hub` asks for. `LoopbackHub` can be told to die in the middle of an
upload.
"""

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .repositories import Blob, Repository, directory

LFS_SUFFIXES = (".safetensors", ".parquet", ".png")
WRITE_TOKEN, READ_TOKEN, USER = "hf_writeWRITEwriteWRITE", "hf_readREADreadREADread", "tester"


class LoopbackHub:
    """The server. `die_at` is "upload" or "commit": the connection breaks half-way and nobody listens any more."""

    def __init__(self):
        self.tokens = {WRITE_TOKEN: "write", READ_TOKEN: "read"}
        self.repositories = {}
        self.uploads = {}
        self.requests = []
        self.die_at = None
        self.before_commit = lambda: None
        self.server = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self, port=0):
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self):
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def restart(self):
        """Come back at the same address, with everything that was committed or uploaded."""
        self.die_at = None
        self.start(self.port)

    def repository(self, repo_id, repo_type="model"):
        return self.repositories[f"{repo_type}s", repo_id]

    def environment(self, home, token=WRITE_TOKEN):
        """Variables for a process that talks to this Hub and to nothing else."""
        names = {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
        names |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HOME": str(home)}
        names |= {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return names if token is None else {**names, "HF_TOKEN": token}


class Handler(BaseHTTPRequestHandler):
    """One request; routes are methods with the pattern they answer in `ROUTES`."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two cost a delayed acknowledgement, 40 ms, per request
    hub: LoopbackHub

    def log_message(self, *arguments):
        """Keep quiet."""

    def answer(self, status, value=None, headers=None, raw=None):
        body = json.dumps(value).encode() if raw is None else raw
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code, message):
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.answer(status, {"error": message}, headers)

    @property
    def role(self):
        """Role of the caller's token; None for a stranger, "" for a token that nobody knows."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return self.hub.tokens.get(token, "") if token else None

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def die(self):
        """Take a part of the body, drop the connection, stop listening: what a crash looks like from outside."""
        self.rfile.read(min(1024, int(self.headers.get("Content-Length") or 0) // 2))
        self.close_connection = True
        self.connection.close()
        self.hub.stop()

    def handle_request(self):
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        path = urllib.parse.unquote(url.path)
        kind = "upload" if path.startswith("/lfs/") else "commit" if "/commit/" in path else None
        if kind and kind == self.hub.die_at:
            self.die()
            return
        self.body = self.read_body()
        self.hub.requests.append((self.command, self.path, self.body))
        if self.role == "":
            self.refuse(401, None, "Invalid credentials in Authorization header")
            return
        for pattern, methods, method in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in methods:
                method(self, **match.groupdict())
                return
        self.refuse(404, "NotImplemented", f"loopback: {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815 - http.server's names

    def json(self):
        return json.loads(self.body or b"{}")

    def may_write(self):
        if self.role is None:
            self.refuse(401, None, "Invalid username or password.")
        elif self.role != "write":
            self.refuse(403, None, "Forbidden: you must use a write token to upload to a repository.")
        return self.role == "write"

    def find(self, repo_type, repo_id):
        """The repository, or None after an answer; a private one is there for its owner only."""
        repository = self.hub.repositories.get((repo_type or "models", repo_id))
        if repository is None or (repository.private and self.role is None):
            self.refuse(404 if self.role else 401, "RepoNotFound", "Repository not found")
            return None
        return repository

    def find_revision(self, repo_type, repo_id, revision):
        repository = self.find(repo_type, repo_id)
        if repository is None:
            return None, None
        sha = repository.resolve(revision)
        if sha is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, sha

    def whoami(self):
        if self.role is None:
            self.refuse(401, None, "Invalid username or password.")
            return
        token = {"displayName": "t", "role": self.role}
        self.answer(200, {"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": token}})

    def validate_yaml(self):
        self.answer(200, {"errors": [], "warnings": []})

    def create_repository(self):
        if not self.may_write():
            return
        wanted = self.json()
        kind = (wanted.get("type") or "model") + "s"
        owner = wanted.get("organization") or USER
        repo_id = f"{owner}/{wanted['name']}"
        if owner != USER:
            self.refuse(403, None, f"You don't have the rights to create a {kind[:-1]} under {owner}")
            return
        url = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{repo_id}"
        exists = (kind, repo_id) in self.hub.repositories
        if not exists:
            private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
            repository = self.hub.repositories[kind, repo_id] = Repository(private)
            repository.commit("main", {".gitattributes": Blob(b"*.safetensors filter=lfs\n", False)}, "initial commit")
        self.answer(409 if exists else 200, {"url": url, "name": repo_id, "id": repo_id})

    def info(self, repo_type, repo_id, revision="main"):
        repository, sha = self.find_revision(repo_type, repo_id, revision)
        if sha is not None:
            siblings = [{"rfilename": path} for path in sorted(repository.commits[sha]["files"])]
            facts = {"id": repo_id, "sha": sha, "private": repository.private, "siblings": siblings, "tags": []}
            self.answer(200, {**facts, "author": USER, "gated": False, "disabled": False, "downloads": 0, "likes": 0})

    def create_branch(self, repo_type, repo_id, revision):
        repository = self.find(repo_type, repo_id) if self.may_write() else None
        if repository is None:
            return
        if revision in repository.refs:
            self.refuse(409, None, "Reference already exists")
            return
        repository.refs[revision] = repository.resolve(self.json().get("startingPoint") or "main")
        self.answer(200, {})

    def tree(self, repo_type, repo_id, revision, folder=""):
        repository, sha = self.find_revision(repo_type, repo_id, revision)
        if sha is None:
            return
        files = repository.commits[sha]["files"]
        prefix = f"{folder}/" if folder else ""
        inside = {path: blob for path, blob in files.items() if path.startswith(prefix)}
        if folder and not inside:
            self.refuse(404, "EntryNotFound", f"{folder} does not exist")
            return
        folders = {path[: at.start()] for path in inside for at in re.finditer("/", path) if at.start() >= len(prefix)}
        deep = self.query.get("recursive", "").lower() in ("1", "true")
        entries = [blob.entry(path) for path, blob in inside.items() if deep or "/" not in path[len(prefix) :]]
        entries += [directory(path) for path in sorted(folders) if deep or "/" not in path[len(prefix) :]]
        self.answer(200, entries)

    def preupload(self, repo_type, repo_id, revision):
        repository, sha = self.find_revision(repo_type, repo_id, revision)
        if sha is None or not self.may_write():
            return
        files, modes = repository.commits[sha]["files"], []
        for wanted in self.json()["files"]:
            mode = "lfs" if wanted["path"].endswith(LFS_SUFFIXES) else "regular"
            there = files.get(wanted["path"])
            known = {"oid": there.etag} if there else {}
            modes.append({"path": wanted["path"], "uploadMode": mode, "shouldIgnore": False, **known})
        self.answer(200, {"files": modes})

    def lfs_batch(self, repo_type, repo_id):
        if not self.may_write() or self.find(repo_type, repo_id) is None:
            return
        objects = []
        for wanted in self.json()["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}", "header": {}}}
            todo = {} if wanted["oid"] in self.hub.uploads else {"actions": upload}
            objects.append({"oid": wanted["oid"], "size": wanted["size"], "authenticated": True, **todo})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            self.refuse(400, None, "another content than announced")
            return
        self.hub.uploads[oid] = self.body
        self.answer(200, {})

    def commit(self, repo_type, repo_id, revision):
        """All or nothing: the branch moves when every line of the commit was read."""
        self.hub.before_commit()
        repository, sha = self.find_revision(repo_type, repo_id, revision)
        if sha is None or not self.may_write():
            return
        files, title = repository.files(sha).copy(), ""
        for line in self.body.splitlines():
            key, value = (item := json.loads(line))["key"], item["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, sha):
                    self.refuse(412, None, "A commit has happened since. Please refresh and try again.")
                    return
            elif key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            elif key == "lfsFile":
                if value["oid"] not in self.hub.uploads:
                    self.refuse(400, None, f"{value['path']} was not uploaded")
                    return
                files[value["path"]] = Blob(self.hub.uploads[value["oid"]], lfs=True)
            elif key == "deletedFile":
                del files[value["path"]]
        prefix = "" if repo_type == "models" else f"{repo_type}/"
        pulls = sum(name.startswith("refs/pr/") for name in repository.refs)
        pull = self.query.get("create_pr") == "1"
        oid = repository.commit(f"refs/pr/{pulls + 1}" if pull else revision, files, title, parent=sha)
        page = f"{self.hub.url}/{prefix}{repo_id}"
        more = {"pullRequestUrl": f"{page}/discussions/{pulls + 1}"} if pull else {}
        self.answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{page}/commit/{oid}", **more})

    def resolve(self, repo_id, revision, path, repo_type=None):
        repository, sha = self.find_revision(repo_type, repo_id, revision)
        if sha is None:
            return
        blob = repository.commits[sha]["files"].get(path)
        if blob is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": sha}
            self.answer(404, {"error": "Entry not found"}, headers)
            return
        headers = {"ETag": f'"{blob.etag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        status, content = 200, blob.content
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            start, stop = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
            status, headers["Content-Range"] = 206, f"bytes {start}-{stop}/{len(content)}"
            content = content[start : stop + 1]
        self.answer(status, headers=headers, raw=content)


KIND, REPO = r"(?P<repo_type>models|datasets|spaces)", r"(?P<repo_id>[^/]+/[^/]+)"
REVISION = r"(?P<revision>refs/pr/\d+|[^/]+)"
API = f"/api/{KIND}/{REPO}"
ROUTES = (
    (r"/api/whoami-v2", ("GET",), Handler.whoami),
    (r"/api/validate-yaml", ("POST",), Handler.validate_yaml),
    (r"/api/repos/create", ("POST",), Handler.create_repository),
    (API, ("GET",), Handler.info),
    (f"{API}/revision/{REVISION}", ("GET",), Handler.info),
    (f"{API}/branch/{REVISION}", ("POST",), Handler.create_branch),
    (f"{API}/tree/{REVISION}(?:/(?P<folder>.+))?", ("GET",), Handler.tree),
    (f"{API}/preupload/{REVISION}", ("POST",), Handler.preupload),
    (f"{API}/commit/{REVISION}", ("POST",), Handler.commit),
    (f"/(?:{KIND}/)?{REPO}\\.git/info/lfs/objects/batch", ("POST",), Handler.lfs_batch),
    (r"/lfs/(?P<oid>[0-9a-f]{64})", ("PUT",), Handler.lfs_put),
    (f"/(?:{KIND}/)?{REPO}/resolve/{REVISION}/(?P<path>.+)", ("GET", "HEAD"), Handler.resolve),
)
