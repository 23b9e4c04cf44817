"""The demo under many visitors: its memory does not grow with them, and nothing of theirs stays on the disk."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from PIL import Image

from processing_rrsis.hub.model_folder import save_hub_folder
from tests.tiny import build_tiny_model, build_tiny_processor

from .conftest import ROOT

gradio_client = pytest.importorskip("gradio_client", reason="the demo needs gradio: pip install 'rrsis[demo]'")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
REQUESTS, FIRST, CLIENTS, SIDE_PX = 200, 10, 20, 2828  # 8 megapixels
OUTPUTS = 8  # of the button


@pytest.fixture
def demo(tmp_path):
    """The command in a process of its own, and its address."""
    folder = save_hub_folder(build_tiny_model("lavt"), build_tiny_processor(), tmp_path / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("GRADIO_TEMP_DIR", None)
    command = [sys.executable, "-m", "processing_rrsis.cli.app", "demo", "--model", str(folder), "--port", str(port)]
    with (tmp_path / "output.txt").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    yield process, f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def connect(url):
    for _ in range(120):
        try:
            return gradio_client.Client(url, verbose=False)
        except Exception:
            time.sleep(1)
    raise TimeoutError(url)


def ask(client, path, expression):
    (button,) = {event["id"] for event in client.config["dependencies"] if len(event["outputs"]) == OUTPUTS}
    answer = client.predict(gradio_client.handle_file(path), expression, 0.5, fn_index=button)
    assert "px" in answer[-1], answer[-1]


def test_memory_stays_and_nothing_is_left(demo, tmp_path, capfd):
    process, url = demo
    noise = np.random.default_rng(0).integers(0, 256, (SIDE_PX // 4, SIDE_PX // 4, 3), dtype=np.uint8)
    path = tmp_path / "image.jpg"
    Image.fromarray(noise).resize((SIDE_PX, SIDE_PX)).save(path, quality=80)
    client = connect(url)
    server, sizes = psutil.Process(process.pid), {}
    for number in range(1, REQUESTS + 1):
        client.session_hash = uuid.uuid4().hex  # another visitor
        ask(client, path, f"the ship {number}")
        if number in (FIRST, REQUESTS):
            sizes[number] = server.memory_info().rss
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda number: ask(connect(url), path, f"the ship {number}"), range(CLIENTS)))
    together = server.memory_info().rss
    kept = sum(file.stat().st_size for file in (tmp_path / "tmp").rglob("*") if file.is_file())
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    left = sorted((tmp_path / "tmp").rglob("*"))
    with capfd.disabled():
        sys.stdout.write(
            f"\ndemo: {sizes[FIRST] >> 20} MiB after {FIRST} requests, {sizes[REQUESTS] >> 20} MiB after {REQUESTS}, "
            f"{together >> 20} MiB after {CLIENTS} at once; {kept >> 20} MiB on the disk, {len(left)} files left\n"
        )
    assert "Traceback" not in (tmp_path / "output.txt").read_text()
    assert left == []
    assert sizes[REQUESTS] <= 1.1 * sizes[FIRST]
    assert together <= 2 << 30
