"""A real JupyterLab in a real browser, for tests and benchmarks."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lmclib.book.pdf import BROWSERS
from lmclib.root import ROOT

PATIENCE = 240_000  # milliseconds that anything may take on a machine that is busy with other things
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing but this machine is reached
)
QUIET = "home/config/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"

UNTIL_IT_TAKES_CELLS = """async () => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const ask = () => kernel.requestExecute({code: '0', silent: true, store_history: false}).done;
    while ((await ask()).content.status !== 'ok') await new Promise(after => setTimeout(after, 50));
}"""


@contextmanager
def chromium() -> Iterator:
    """Headless Chromium from the system's packages."""
    from playwright.sync_api import sync_playwright

    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    assert path, "no Chromium on this machine: install one with the system's package manager (.ci/run does)"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield running
        running.close()


def notebook(*cells: str) -> dict:
    """A notebook with these cells of code, the first of them that of the parameters."""
    tags = [["parameters"], *([] for _ in cells[1:])]
    code = [
        {
            "cell_type": "code",
            "source": source,
            "metadata": {"tags": tag},
            "outputs": [],
            "execution_count": None,
            "id": f"cell-{i}",
        }
        for i, (source, tag) in enumerate(zip(cells, tags, strict=True))
    ]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": code, "metadata": spec, "nbformat": 4, "nbformat_minor": 5}


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a Jupyter with settings of its own, in which the library is this checkout."""
    own = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"HOME": str(home), "IPYTHONDIR": str(home / "ipython"), "JUPYTER_PREFER_ENV_PATH": "1"}
    return {
        **{name: value for name, value in os.environ.items() if name not in ("LMC_STATIC", "OMP_NUM_THREADS")},
        **own,
        "PYTHONPATH": str(ROOT),
        **more,
    }


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A JupyterLab of a folder, with settings of its own; its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    quiet = folder / QUIET
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": "",
        "ServerApp.disable_check_xsrf": True,
        "LabApp.expose_app_in_browser": True,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
    }
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    where = {"env": environment(folder / "home"), "cwd": folder}
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, **where) as running:
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/status", running)
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()
            running.wait()


def _wait_for(address: str, running: subprocess.Popen) -> None:
    stop = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < stop and running.poll() is None:
        with suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start: {running.returncode}")


class Lab:
    """One notebook of a lab in a browser, and its kernel.

    Args:
        browser: a running browser.
        address: of the server.
        path: of the notebook in the server's folder.
        viewport: width and height of the window, and whether the dark theme is on.
    """

    def __init__(self, browser, address: str, path: str, viewport: Mapping[str, int] | None = None):
        self.context = browser.new_context(viewport=dict(viewport or {"width": 1440, "height": 1000}))
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.goto(f"{address}/lab/tree/{path}?reset")
        self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        self.page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")

    def close(self) -> None:
        """End the kernel and close the window."""
        self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.context.close()

    def command(self, name: str) -> None:
        """Have the lab do what one of its menus can do, and wait until it says that this is done."""
        self.page.evaluate("name => window.jupyterapp.commands.execute(name)", name)

    def run_all(self) -> None:
        """Run all cells, and wait until the kernel takes new ones: what reaches it while it refuses those after an error, it refuses, too."""
        self.command("notebook:run-all-cells")
        self.page.evaluate(UNTIL_IT_TAKES_CELLS)

    def output(self, cell: int):
        """What stands below a cell."""
        return self.page.locator(".jp-CodeCell").nth(cell).locator(".jp-Cell-outputArea")

    def edit(self, cell: int, source: str) -> None:
        """Replace a cell's source."""
        self.page.evaluate(
            "([cell, source]) => { const n = window.jupyterapp.shell.currentWidget.content;"
            " n.widgets[cell].model.sharedModel.setSource(source); }",
            [cell, source],
        )

    def run_cell(self, cell: int) -> None:
        """Run one cell."""
        self.page.evaluate(
            "cell => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = cell;"
            " return window.jupyterapp.commands.execute('notebook:run-cell'); }",
            cell,
        )


def write(folder: Path, name: str, *cells: str) -> str:
    """Write a notebook into a folder; its name."""
    (folder / name).write_text(json.dumps(notebook(*cells)))
    return name
