"""Shared by all tests: one thread, and the book built once at profile smoke."""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from lmclib.root import ROOT

torch.set_num_threads(1)  # tests run side by side, a process a core


@pytest.hookimpl(tryfirst=True)  # before groups are handed out
def pytest_collection_modifyitems(items):
    """Tests of the built book stay in one process, so that it is built once."""
    for item in items:
        if {"book", "site"} & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group("book"))


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Path:
    """The folder of a book built from the sources at profile smoke: `html/`, `executed/` and its `store/`."""
    output = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "lmclib", "build", "--profile", "smoke", "--output", str(output)]
    done = subprocess.run(
        [*command, "--store", str(output / "store")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return output


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium from the system's packages."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    assert path, "no Chromium on this machine: install one with the system's package manager (.ci/run does)"
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=flags)
        yield running
        running.close()


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
    monkeypatch.setattr(torch.Tensor, "__float__", lambda t: 1.0)
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda t: True)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    # the fused update and batch norm's own sums know no meta tensors
    monkeypatch.setattr(torch, "batch_norm_update_stats", lambda x, *_: torch.var_mean(x, dim=(0, 2, 3))[::-1])
    monkeypatch.setattr(
        "lmclib.training.stack.sgd", lambda p, g, m, lr, **_: torch._foreach_sub_(p, torch._foreach_mul(g, lr))
    )
    return torch.device("meta")
