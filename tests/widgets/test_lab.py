"""The explorer in a real JupyterLab: run, stop, go on, edit the parameters and run again, as a reader does."""

import subprocess
import sys

import pytest
from playwright.sync_api import TimeoutError
from real_lab import Lab, environment, server, write

from lmclib.charts.forking import TREATMENTS
from lmclib.charts.style import OKABE_ITO

PARAMETERS = """profile: str = "smoke"
store: str = {store!r}
model: str = {model!r}
fork_epochs: list = {fork_epochs!r}
epochs: int = {epochs!r}
seed: int = None"""
SETTINGS = "import lmclib as lmc\n\nsettings = lmc.parameters(globals(), profiles=lmc.FORKING)\nsettings"
EXPLORER = "from lmclib.widgets.forking import ForkingExplorer\n\nForkingExplorer(settings)"
LAST = "6 * 7"


class Forks(Lab):
    """A notebook with the explorer of forks, with one kernel for all tests, as its start takes longest."""

    def __init__(self, browser, address, folder):
        self.store = str(folder / "store")
        super().__init__(browser, address, write(folder, "small.ipynb", "", SETTINGS, EXPLORER, LAST))

    def rerun(self, **given) -> None:
        """Edit the parameters, run all cells, and wait until the last one has run."""
        self.edit(0, PARAMETERS.format(store=self.store, **given))
        self.command("notebook:clear-all-cell-outputs")
        self.run_all()
        try:
            self.output(3).get_by_text("42").wait_for(state="attached")
        except TimeoutError as error:
            said = "\n".join(self.page.locator(".jp-OutputArea").all_inner_texts())
            raise AssertionError(f"the last cell has not run; the outputs are\n{said}") from error

    @property
    def explorer(self):
        return self.output(2)

    def button(self, name: str):
        return self.explorer.get_by_role("button", name=name, exact=True)

    @property
    def chips(self):
        return self.explorer.locator(".jupyter-widget-tag:has(.jupyter-widget-tag-close)")

    def type_forks(self, text: str) -> None:
        """Type into the box beside the chips, in place of what is there, and press Enter."""
        self.explorer.get_by_placeholder("more:").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    def take_away(self, fork: str) -> None:
        chip = self.chips.get_by_text(fork, exact=True)
        chip.locator(".jupyter-widget-tag-close").click()
        chip.wait_for(state="detached")

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
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def address(folder):
    with server(folder) as running:
        yield running


@pytest.fixture(scope="module")
def lab(browser, address, folder):
    opened = Forks(browser, address, folder)
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
    lab.edit(3, LAST)
    lab.button("Stop").click()
    lab.until("Stopped.")
    lab.until("Run goes on from there")
    lab.button("Run").click()
    lab.until("done in")
    lab.until_drawn(3)
    lab.until("Shows resnet8-w4 on digits, forks 0, 0.5; 6 epochs")
    # of both treatments of statistics there is a curve, a map, and what it says
    for treatment in TREATMENTS.values():
        for shown in lab.explorer.locator(".vega-embed").all()[1:]:
            assert shown.locator(f"[aria-label*='{treatment}'][aria-roledescription]").count()


def test_forks_are_typed_and_taken_away_and_what_is_stale_is_greyed(lab):
    lab.rerun(model="mlp-8", fork_epochs=[0, 0.5], epochs=4)
    lab.button("Run").click()
    lab.until("done in")
    lab.until_plain()
    assert lab.explorer.get_by_label("history").evaluate("e => e.selectedOptions[0]?.text").startswith("mlp-8,")
    lab.type_forks("[2, 3]")
    lab.until("Shows an earlier choice:")
    assert lab.explorer.locator(".lmc-stale").count() == 3
    lab.take_away("2")
    lab.take_away("3")
    lab.until("Shows mlp-8")
    lab.until_plain()


def test_what_is_typed_as_forks_is_accepted_or_answered_in_a_line(lab):
    lab.rerun(model="mlp-8", fork_epochs=[1], epochs=4)
    lab.type_forks("0 0.5 2")
    lab.chips.nth(3).wait_for()
    assert [chip.inner_text().rstrip("×") for chip in lab.chips.all()] == ["1", "0", "0.5", "2"]
    lab.type_forks("[]")
    lab.until("'[]' holds no number")
    lab.type_forks("<img src=x onerror=document.title='ran'>")
    lab.until("'<img' is no number; type numbers such as 0 0.5 2")
    assert not lab.explorer.locator("img").count()
    assert lab.page.title() != "ran"


def test_a_double_click_on_the_parents_axis_adds_a_fork(lab):
    lab.rerun(model="mlp-8", fork_epochs=[0, 0.5], epochs=4)
    lab.button("Run").click()
    lab.until("done in")
    lab.until_drawn(3)
    handles = lab.explorer.locator("path[aria-roledescription=point][aria-label*='fork at epoch']")
    handles.last.scroll_into_view_if_needed()
    first, last = handles.first.bounding_box(), handles.last.bounding_box()
    lab.page.mouse.dblclick((first["x"] + last["x"] + last["width"]) / 2, first["y"] + 60)
    lab.chips.nth(2).wait_for()
    assert 0 < float(lab.chips.nth(2).inner_text().rstrip("×")) < 0.5
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
    lab.command("notebook:interrupt-kernel")
    lab.until("Stopped.")
    assert lab.button("Run").is_enabled()


def test_a_minimum_of_the_toy_landscape_is_dragged_and_its_curves_and_barriers_follow(lab):
    lab.rerun(model="mlp-8", fork_epochs=[0], epochs=1)
    lab.edit(3, "from lmclib.widgets.toy import LandscapeExplorer\n\nLandscapeExplorer([-1, 1])")
    lab.run_cell(3)
    area = lab.output(3)
    handle = area.locator("svg.marks path[aria-roledescription=point]").nth(1)
    handle.scroll_into_view_if_needed()
    box, plot = handle.bounding_box(), area.locator("svg.marks").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lab.page.mouse.move(x, y)
    lab.page.mouse.down()
    lab.page.mouse.move(x + 0.1 * plot["width"], y, steps=5)
    lab.page.mouse.up()
    lab.page.wait_for_function(
        "area => { const at = area.querySelectorAll('input[type=range]')[1].value;"
        " return at != 1 && area.querySelector('input[type=text]').value === `-1, ${at}`; }",
        arg=area.element_handle(),
    )
    left, right = map(float, area.locator("input[type=text]").input_value().split(","))
    assert left == -1
    assert 1.1 < right <= 1.5
    area.get_by_text(f"{((right - left) / 2) ** 4:.3f}").first.wait_for()  # in the table
    for colour in OKABE_ITO[:2]:
        curve = area.locator(f"svg.marks .mark-line path[stroke='{colour}']")
        assert curve.bounding_box()["width"] > 0.4 * plot["width"]


CHART = """from lmclib.charts import toy

toy.landscape([-1, 1])"""
THREADS = "import torch\n\nprint(torch.get_num_threads(), 'thread')"


def test_what_papermill_ran_has_its_charts_without_trust_and_ran_with_one_thread(browser, address, folder):
    source = write(folder, "source.ipynb", 'profile: str = "smoke"\nstore: str = "data/runs"', SETTINGS, CHART, THREADS)
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        source,
        "executed.ipynb",
        "-p",
        "profile",
        "smoke",
    ]
    subprocess.run(command, cwd=folder, env=environment(folder / "home"), check=True, capture_output=True)
    opened = Lab(browser, address, "executed.ipynb")
    opened.output(4).get_by_text("1 thread").wait_for()
    assert not opened.page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets[3].model.trusted")
    picture = opened.output(3).locator("img[src^='data:image/png']")
    picture.wait_for()
    assert picture.bounding_box()["width"] > 400
    assert not opened.page.get_by_text("JupyterChart object").count()
    opened.close()
