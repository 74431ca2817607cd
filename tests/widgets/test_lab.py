"""The explorer in a real JupyterLab: run, stop, go on, edit the parameters and run again, as a reader does."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import pytest

from lmclib.root import ROOT

PATIENCE = 240_000  # milliseconds that anything may take on a machine that is busy with other things
PARAMETERS = """profile: str = "smoke"
store: str = {store!r}
model: str = {model!r}
fork_epochs: list = {fork_epochs!r}
epochs: int = {epochs!r}
seed: int = None"""
CELLS = (
    "import lmclib as lmc\n\nsettings = lmc.parameters(globals(), profiles=lmc.FORKING)\nsettings",
    "from lmclib.widgets.forking import ForkingExplorer\n\nForkingExplorer(settings)",
    "6 * 7",
)


def notebook(parameters: str) -> dict:
    def cell(source, tags=()):
        return {
            "cell_type": "code",
            "source": source,
            "metadata": {"tags": list(tags)},
            "outputs": [],
            "execution_count": None,
            "id": f"c{len(source)}",
        }

    cells = [cell(parameters, ["parameters"]), *map(cell, CELLS)]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": cells, "metadata": spec, "nbformat": 4, "nbformat_minor": 5}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def server(folder):
    """A JupyterLab with settings of its own, and its address."""
    port, home = free_port(), folder / "home"
    own = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**os.environ, **own, "HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"IPYTHONDIR": str(home / "ipython"), "JUPYTER_PREFER_ENV_PATH": "1"}
    environment.pop("LMC_STATIC", None)
    quiet = home / "config/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
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
    log = (folder / "log").open("w")
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log) as running:
        try:
            wait_for(f"http://127.0.0.1:{port}/api/status", running)
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()
            running.wait()
            log.close()


def wait_for(address: str, running: subprocess.Popen) -> None:
    stop = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < stop and running.poll() is None:
        with suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start: {running.returncode}")


class Lab:
    """A notebook of the lab in a browser, with one kernel for all tests, as its start takes longest."""

    def __init__(self, browser, server, folder):
        self.store = str(folder / "store")
        (folder / "small.ipynb").write_text(json.dumps(notebook("")))
        self.context = browser.new_context(viewport={"width": 1440, "height": 1000})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.goto(f"{server}/lab/tree/small.ipynb?reset")
        self.page.locator(".jp-Notebook .jp-CodeCell").nth(3).wait_for()
        self.page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")

    def close(self) -> None:
        self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.context.close()

    def rerun(self, **given) -> None:
        """Edit the parameters, run all cells, and wait until the last one has run."""
        self.edit(0, PARAMETERS.format(store=self.store, **given))
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        self.run_all()
        self.output(3).get_by_text("42").wait_for()

    def run_all(self) -> None:
        """Run all cells, and wait until the kernel has answered for each: what reaches it while it refuses those after an error, it refuses, too."""
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.wait_for_function(
            "![...document.querySelectorAll('.jp-InputPrompt')].some(e => e.innerText.includes('*'))"
        )

    def output(self, cell: int):
        return self.page.locator(".jp-CodeCell").nth(cell).locator(".jp-Cell-outputArea")

    def edit(self, cell: int, source: str) -> None:
        self.page.evaluate(
            "([cell, source]) => { const n = window.jupyterapp.shell.currentWidget.content;"
            " n.widgets[cell].model.sharedModel.setSource(source); }",
            [cell, source],
        )

    def run_cell(self, cell: int) -> None:
        self.page.evaluate(
            "cell => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = cell;"
            " return window.jupyterapp.commands.execute('notebook:run-cell'); }",
            cell,
        )

    @property
    def explorer(self):
        return self.output(2)

    def button(self, name: str):
        return self.explorer.get_by_role("button", name=name, exact=True)

    def until(self, text: str) -> None:
        """Wait until the explorer says something."""
        self.explorer.get_by_text(text).first.wait_for()

    def until_drawn(self, charts: int) -> None:
        """Wait until so many charts are drawn."""
        self.page.wait_for_function(
            "([area, n]) => area.querySelectorAll('.vega-embed svg.marks').length >= n",
            arg=[self.explorer.element_handle(), charts],
        )

    def until_plain(self) -> None:
        """Wait until no chart is greyed."""
        self.page.wait_for_function("area => !area.querySelector('.lmc-stale')", arg=self.explorer.element_handle())


@pytest.fixture(scope="module")
def lab(browser, server, folder):
    opened = Lab(browser, server, folder)
    yield opened
    opened.close()


def test_run_and_stop_and_go_on_while_another_cell_runs(lab):
    lab.rerun(model="resnet8-w4", fork_epochs=[0, 0.5], epochs=6)
    lab.button("Run").click()
    lab.until("training:")
    lab.until_drawn(1)
    lab.edit(3, "6 * 7 + 1")
    lab.run_cell(3)
    lab.output(3).get_by_text("43").wait_for()
    assert lab.button("Stop").is_enabled()  # so it goes on
    lab.edit(3, CELLS[-1])
    lab.button("Stop").click()
    lab.until("Stopped.")
    lab.until("Run goes on from there")
    lab.button("Run").click()
    lab.until("done in")
    lab.until_drawn(3)
    lab.until("Shows resnet8-w4 on digits, forks 0, 0.5; 6 epochs")


def test_forks_are_typed_and_taken_away_and_what_is_stale_is_greyed(lab):
    lab.rerun(model="mlp-8", fork_epochs=[0, 0.5], epochs=4)
    lab.button("Run").click()
    lab.until("done in")
    lab.until_plain()
    assert lab.explorer.get_by_label("history").evaluate("e => e.selectedOptions[0]?.text").startswith("mlp-8,")
    lab.explorer.get_by_placeholder("more:").click()
    lab.page.keyboard.type("[2, 3]")
    lab.page.keyboard.press("Enter")
    lab.until("Shows an earlier choice:")
    assert lab.explorer.locator(".lmc-stale").count() == 3
    for fork in "23":
        chip = lab.explorer.locator(".jupyter-widget-tag", has_text=fork)
        chip.locator(".jupyter-widget-tag-close").click()
        chip.wait_for(state="detached")
    lab.until("Shows mlp-8")
    lab.until_plain()


def test_a_double_click_on_the_parents_axis_adds_a_fork(lab):
    lab.rerun(model="mlp-8", fork_epochs=[0, 0.5], epochs=4)
    lab.button("Run").click()
    lab.until("done in")
    lab.until_drawn(3)
    handles = lab.explorer.locator("path[aria-roledescription=point][aria-label*='fork at epoch']")
    handles.last.scroll_into_view_if_needed()
    first, last = handles.first.bounding_box(), handles.last.bounding_box()
    lab.page.mouse.dblclick((first["x"] + last["x"] + last["width"]) / 2, first["y"] + 60)
    chips = lab.explorer.locator(".jupyter-widget-tag")
    chips.nth(2).wait_for()
    assert 0 < float(chips.nth(2).inner_text().rstrip("×")) < 0.5
    lab.until("Shows an earlier choice:")


def test_parameters_are_edited_and_run_again_in_one_kernel(lab):
    for epochs in (1, 2):
        lab.rerun(model="mlp-8", fork_epochs=[0.5], epochs=epochs)
        lab.button("Run").click()
        lab.until(f"Shows mlp-8 on digits, forks 0.5; {epochs} epochs")
        lab.until("done in")
    lab.edit(0, PARAMETERS.format(store=lab.store, model="mlp-8", fork_epochs=[0], epochs=1) + "\nspeed: int = 3")
    lab.run_all()
    lab.output(1).get_by_text("unknown parameter").wait_for()
    lab.run_cell(2)  # as a reader does who goes on all the same
    lab.output(2).get_by_text("name 'settings' is not defined").first.wait_for()


def test_the_toolbars_square_stops_a_run(lab):
    lab.rerun(model="resnet8-w4", fork_epochs=[0], epochs=30)
    lab.button("Run").click()
    lab.until("training:")
    lab.page.evaluate("window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    lab.until("Stopped.")
    assert lab.button("Run").is_enabled()
