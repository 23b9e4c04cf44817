"""200 answers, 100 of a Hub and 100 of an image's address: what is wrong with them is a line without the token."""

import functools
import io
import json
import random
import socket
import threading

import numpy as np
import pytest
from PIL import Image

from processing_rrsis.hub.publish_model import publish_model
from processing_rrsis.image_loading_rrsis import load_image
from tests.hostile.harness import SECRET, WrongResultError, mutated, mutated_json, try_all

from .loopback import USER, WRITE_TOKEN, Handler

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore")]
COUNT, SEED = 100, 18
REPO = f"{USER}/lavt"
BODIES = (
    b"",
    b"[]",
    b"{}",
    b"null",
    b"7",
    b'"x"',
    b"<html><body>502 Bad Gateway</body></html>",
    b"\xff\xfe\0",
    b"[" * 100_000,
)


@pytest.fixture
def odd(online, monkeypatch):
    """A Hub whose answer to one request is another than it was: `odd.answer(status, body, headers)` says which."""
    whole = Handler.answer

    def answer(self, status, value=None, headers=None, raw=None):
        online.asked += 1
        if online.asked != online.odd_request:
            return whole(self, status, value, headers, raw)
        body = json.dumps(value).encode() if raw is None else raw
        self.close_connection = True  # what is cut short is seen at once, and not waited for
        status, body, headers = online.odd_answer(status, body, dict(headers or {}))
        return whole(self, status, None, headers, body)

    monkeypatch.setattr(Handler, "answer", answer)
    for check in ("check_model_folder", "find_secrets"):  # of the folder, which is right in every case
        monkeypatch.setattr(f"processing_rrsis.hub.publish_model.{check}", lambda *arguments: [])
    return online


def changes(generator):
    """A function that changes an answer."""
    kind, number = generator.randrange(7), generator.randrange(1 << 30)
    body = generator.choice(BODIES)
    status = generator.choice((200, 201, 204, 301, 302, 307, 400, 401, 403, 404, 409, 418, 429, 500, 503, 999))
    if kind == 0:
        return lambda before, content, headers: (before, body, headers)
    if kind == 1:
        return lambda before, content, headers: (status, content, headers)
    if kind == 2:
        return lambda before, content, headers: (
            status,
            body,
            {**headers, "X-Error-Message": f"no {WRITE_TOKEN}\r\n b"},
        )
    if kind == 3:
        return lambda before, content, headers: (before, content, {**headers, "Content-Length": str(len(content) + 9)})
    if kind == 4:
        return lambda before, content, headers: (before, mutated(content, random.Random(number)), headers)
    if kind == 5:
        return lambda before, content, headers: (
            302,
            b"",
            {**headers, "Location": "http://127.0.0.1:9/" + WRITE_TOKEN},
        )

    def odd_values(before, content, headers):
        try:
            values = mutated_json(json.loads(content), random.Random(number), odds=0.2)
        except ValueError:
            values = []
        return before, json.dumps(values).encode(), headers

    return odd_values


def publish(folder):
    try:
        publication = publish_model(folder, REPO)
    except Exception as error:
        if WRITE_TOKEN in str(error):
            raise WrongResultError(f"tells the token: {error}") from None
        raise
    if not publication.files:
        raise WrongResultError("nothing published")


def test_answers_of_the_hub(odd, best, capfd):
    generator = random.Random(SEED)

    def cases():
        for number in range(COUNT):
            odd.repositories.clear()
            odd.asked, odd.odd_request, odd.odd_answer = (
                0,
                generator.randrange(10) if number else 0,
                changes(generator),
            )
            yield f"{number}, request {odd.odd_request}", functools.partial(publish, best)

    try_all("answers of the Hub", cases(), capfd)


def test_answers_of_an_image_address(capfd):
    generator, buffer = random.Random(SEED), io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(buffer.getvalue())
    whole = head + buffer.getvalue()
    listener = socket.create_server(("127.0.0.1", 0))
    answers = []

    def serve():
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answers[-1])

    def fetch(is_whole):
        image = load_image(f"http://127.0.0.1:{listener.getsockname()[1]}/a.png?token={SECRET}")
        if is_whole and not np.array_equal(np.asarray(image), pixels):
            raise WrongResultError("other pixels")

    def cases():
        for number in range(COUNT):
            data = mutated(whole, generator) if number else whole
            if generator.random() < 0.2 and number:
                data = generator.choice(
                    (b"", b"HTTP/1.1 200 OK\r\n", b"\0" * 70_000, head + b"<html>", b"SSH-2.0-x\r\n")
                )
            answers.append(data)
            yield f"{number}", functools.partial(fetch, data == whole)

    threading.Thread(target=serve, daemon=True).start()
    try_all("answers of an image's address", cases(), capfd)
