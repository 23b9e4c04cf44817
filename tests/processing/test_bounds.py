"""Files, addresses and texts without an end: refused in a line, and never with a password in it."""

import http.server
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from processing_rrsis import bounds_rrsis
from processing_rrsis.bounds_rrsis import parse_json, read_text, read_url, shown
from processing_rrsis.image_loading_rrsis import load_image
from processing_rrsis.pipeline_rrsis import ReferringSegmentationPipeline


def drip_body(handler):
    handler.send_response(200)
    handler.end_headers()
    drip(handler.wfile, b"x")


def drip_header(handler):
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
    drip(handler.wfile, b"a")


def drip(file, letter):
    for _ in range(100):
        file.write(letter)
        file.flush()
        time.sleep(0.1)


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(bytes(1 << 20))


def cut(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"few")


@pytest.fixture
def serve(monkeypatch):
    """The address of a server that answers in a way of its own."""
    monkeypatch.setattr(bounds_rrsis, "URL_SECONDS", 1)
    servers = []

    def start(answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self)

            def log_message(self, *arguments):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        servers[-1].handle_error = lambda *arguments: None
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/a.png"

    yield start
    for server in servers:
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "words"),
    [(drip_body, "no end after"), (drip_header, "no end after"), (endless, "more than 1 MiB"), (cut, "3 bytes of")],
)
def test_answers_without_an_end_or_a_beginning(serve, answer, words):
    with pytest.raises(ConnectionError, match=words):
        read_url(serve(answer), limit=1 << 20)


@pytest.mark.parametrize(
    "source",
    [
        "http://me:s3cret@127.0.0.1:1/a.png",
        "ftp://me:s3cret@127.0.0.1/a.png",
        "http://127.0.0.1:1/a.png?token=s3cret",
        "http://me:s3cret@[bad/a.png",
    ],
)
def test_no_password_is_told(source):
    with pytest.raises((OSError, ValueError)) as caught:
        ReferringSegmentationPipeline.open_image(source)
    assert "s3cret" not in str(caught.value)


def test_pipes_and_devices_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(ValueError, match="expected a file, got a pipe or a device"):
            load_image(path)
    with pytest.raises(OSError, match="a pipe or a device"):
        read_text(tmp_path / "pipe.png")


@pytest.mark.parametrize(
    "text", ["9" * 4000, "[" * 100_000, "[" + "[]," * 5_000_001 + "1]", "1,", "-9223372036854775809"]
)
def test_json_of_any_size_is_refused(text):
    with pytest.raises(ValueError, match=r"^a\.json: expected complete JSON, got"):
        parse_json(text, source="a.json")


def test_texts_of_any_length_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\n" * 1_000_001)
    with pytest.raises(ValueError, match="1,000,000 lines"):
        read_text(tmp_path / "a.txt")


def test_what_is_within_the_bounds_is_read(tmp_path, serve):
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        Image.new("RGB", (3, 2), "red").save(handler.wfile, format="PNG")

    assert np.array_equal(load_image(serve(answer)), np.full((2, 3, 3), (255, 0, 0)))
    assert parse_json(b'\xef\xbb\xbf{"a": [1, -2, 1.5]}', source="") == {"a": [1, -2, 1.5]}
    assert shown("https://a.org/b.tif?sig=1#x") == "https://a.org/b.tif"
    assert shown("runs/a?b#c/best.png") == "runs/a?b#c/best.png"
