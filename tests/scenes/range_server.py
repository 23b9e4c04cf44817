"""A loopback server of one folder that answers range requests, and drops, delays, cuts or refuses some of them.

It is a process of its own: rasterio holds Python's lock while it opens a file.
"""

import multiprocessing
import re
import socket
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = (None, "drop", "delay", "truncate", "refuse")
DELAY_S = 0.05
SPAWN = multiprocessing.get_context("spawn")


class Requests:
    """What was asked, and which requests of data go wrong; shared with the server's process.

    Args:
        fault: One of `FAULTS`.
        every: Each so-manieth request of data goes wrong; 1 is all of them.
        after: From which request on.
    """

    def __init__(self, fault=None, every=3, after=0):
        self.every, self.after = every, after
        self._fault = SPAWN.Value("i", FAULTS.index(fault))
        self._count, self._sent, self.port = (SPAWN.Value("q", 0) for _ in range(3))

    @property
    def count(self):
        return self._count.value

    @property
    def sent_bytes(self):
        return self._sent.value

    def heal(self):
        self._fault.value = 0

    def send(self, number):
        with self._sent.get_lock():
            self._sent.value += number

    def next_fault(self):
        with self._count.get_lock():
            self._count.value += 1
            goes_wrong = self._count.value > self.after and self._count.value % self.every == 0
        return FAULTS[self._fault.value] if goes_wrong else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    requests: Requests

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def empty(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def hang_up(self):
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def answer(self, with_body):
        path = self.folder / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            self.empty(404)
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = 0, len(content) - 1
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or last), last)
        fault = self.requests.next_fault() if with_body else None
        if fault == "drop":
            self.hang_up()
            return
        if fault == "refuse":
            self.empty(503)
            return
        if fault == "delay":
            time.sleep(DELAY_S)
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if with_body:
            body = content[first : last + 1]
            self.requests.send(len(body))
            self.wfile.write(body[: len(body) // 2] if fault == "truncate" else body)
            if fault == "truncate":
                self.wfile.flush()
                self.hang_up()

    def log_message(self, *arguments):
        pass


def run(folder, requests):
    Handler.folder, Handler.requests = Path(folder), requests
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    requests.port.value = server.server_port
    server.serve_forever()


@contextmanager
def serve(folder, **faults):
    """Yield the address of a folder, and its `Requests`."""
    requests = Requests(**faults)
    process = SPAWN.Process(target=run, args=(str(folder), requests), daemon=True)
    process.start()
    while process.is_alive() and not requests.port.value:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{requests.port.value}", requests
    finally:
        process.kill()
        process.join()
