"""Shared by all tests: one thread, and the book built once at profile smoke."""

import functools
import gc
import http.server
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from real_lab import chromium

from lmclib.root import ROOT

torch.set_num_threads(1)  # tests run side by side, a process a core
gc.disable()  # nothing of what is imported is garbage


def pytest_collection_finish() -> None:
    """From here on there is garbage, but what was imported need not be looked through for it."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Libraries that count what is left of them find nothing."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Path:
    """The folder of a book built from the sources at profile smoke: `html/`, `executed/` and its `store/`.

    Test processes side by side share one: who comes first builds it, the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    output, built = shared / "book", shared / "book.built"
    with FileLock(shared / "book.lock"):
        if not built.exists():
            command = [sys.executable, "-m", "lmclib", "build", "--profile", "smoke", "--output", str(output)]
            store = ["--store", str(output / "store")]
            done = subprocess.run([*command, *store], cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-4000:]
            built.touch()
    return output


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium from the system's packages."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def site(book):
    """The address of a local server of the built site."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=book / "html")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def other_device(monkeypatch):
    """A device that is not the CPU: meta computes shapes only, but refuses tensors of other devices, as a GPU does."""
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: torch.zeros(t.shape, dtype=t.dtype))
    monkeypatch.setattr(torch, "allclose", lambda *_, **__: True)
    monkeypatch.setattr(torch, "equal", lambda *_: True)
    monkeypatch.setattr(torch.Tensor, "__float__", lambda t: 1.0)
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda t: True)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    # the fused update and batch norm's own sums know no meta tensors
    monkeypatch.setattr(torch, "batch_norm_update_stats", lambda x, *_: torch.var_mean(x, dim=(0, 2, 3))[::-1])
    monkeypatch.setattr(
        "lmclib.training.optimisers.sgd", lambda p, g, m, lr, **_: torch._foreach_sub_(p, torch._foreach_mul(g, lr))
    )
    return torch.device("meta")
