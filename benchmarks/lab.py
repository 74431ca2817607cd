"""How long a reader waits for the live lab: in a real JupyterLab and browser, from the press to what is drawn.

Everything is trained and measured anew in a store of its own, at profile digits, but for the chapter, whose tables are those of the
checkout's store: it is run once before, so that they are remembered. The tests' lab is used: `PYTHONPATH=tests`.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from harness import Benchmark
from real_lab import Lab, chromium, server, write

from lmclib.root import ROOT, RUNS, from_root

PARAMETERS = "profile: str = {profile!r}\nstore: str = {store!r}\nfork_epochs: list = {forks!r}"
SETTINGS = "import lmclib as lmc\n\nsettings = lmc.parameters(globals(), profiles=lmc.FORKING)"
EXPLORER = "from lmclib.widgets.forking import ForkingExplorer\n\nForkingExplorer(settings)"
TOY = "from lmclib.widgets.toy import LandscapeExplorer\n\nLandscapeExplorer([-1.5, -1, 1, 1.5])"
CHAPTER = "resnet_forking"
FIRST, NEW = 1, 0.25  # the fork whose siblings are there, and the one that is added
ROUNDS = 5  # of what takes less than a second

# moves a slider once and waits until the page has drawn what follows
REDRAW = """async slider => {
    const chart = slider.closest('.vega-embed').querySelector('svg.marks'), start = performance.now();
    const drawn = new Promise(done => new MutationObserver(done).observe(chart, {subtree: true, childList: true, attributes: true}));
    slider.value = Number(slider.value) > Number(slider.min) ? slider.min : slider.max;
    slider.dispatchEvent(new Event('input'));
    await drawn;
    await new Promise(requestAnimationFrame);
    return (performance.now() - start) / 1000;
}"""


class Timed(Lab):
    """A lab whose explorer is in its third cell; every wait is until something is seen, and returns its seconds."""

    def explore(self) -> None:
        """Make the explorer anew, which remembers nothing of this session."""
        self.run_all()
        self.button("Run").wait_for()

    def button(self, name: str):
        return self.output(2).get_by_role("button", name=name, exact=True)

    def press(self, name: str, until: str) -> float:
        """Press a button, and wait until the page says yes to a question about the explorer."""
        area = self.output(2).element_handle()
        self.button(name).wait_for()
        start = time.perf_counter()
        self.button(name).click()
        self.page.wait_for_function(f"area => {until}", arg=area)
        return time.perf_counter() - start


CURVE = "area.querySelector('.vega-embed svg.marks .mark-symbol path')"
THREE = "area.querySelectorAll('.vega-embed svg.marks').length === 3 && area.innerText.includes('done in')"
STOPPED = "area.innerText.includes('Stopped.')"
ANSWERED = (
    "[...area.querySelectorAll('.vega-embed')].some(e => /Forked at 0[.]2\\d*: a barrier of/.test(e.textContent))"
)
DONE = "area.innerText.includes('done in')"


def main() -> None:
    """Print the table."""
    columns = {"wait": 66, "seconds": 9, "goal": 6, "load": 6}
    bench = Benchmark("lab", "the live lab, from the press to what is drawn", columns)
    profile = "smoke" if bench.quick else "digits"

    def row(wait: str, seconds: float, goal: float | str) -> None:
        bench.row(wait=wait, seconds=round(seconds, 2), goal=goal, load=round(os.getloadavg()[0], 2))

    with tempfile.TemporaryDirectory() as name, chromium() as browser, server(Path(name)) as address:
        folder = Path(name)
        given = {"profile": profile, "store": str(folder / "store"), "forks": [FIRST]}
        path = write(folder, "lab.ipynb", PARAMETERS.format(**given), SETTINGS, EXPLORER, TOY)
        lab = Timed(browser, address, path)
        lab.explore()
        row("press to the first training curve", lab.press("Run", CURVE), 1)
        lab.page.wait_for_timeout(2000)
        row("Stop to 'Stopped.'", lab.press("Stop", STOPPED), 1)
        lab.press("Run", DONE)
        lab.edit(0, PARAMETERS.format(**{**given, "forks": [NEW, FIRST]}))
        lab.explore()
        start = time.perf_counter()
        row(f"a new fork, {NEW}, on a trained parent: to its barrier", lab.press("Run", ANSWERED), 5)
        lab.page.wait_for_function(f"area => {DONE}", arg=lab.output(2).element_handle())
        row("the same: until all of it is measured", time.perf_counter() - start, 5)
        lab.explore()  # scripts of charts are there now
        for until, what, goal in ((ANSWERED, "the barrier", 0.3), (THREE, "all figures", "")):
            waits = []
            for _ in range(1 if bench.quick else ROUNDS):
                lab.explore()
                waits.append(lab.press("Run", until))
                lab.page.wait_for_function(f"area => {DONE}", arg=lab.output(2).element_handle())
            row(f"remembered settings, {what} drawn", statistics.median(waits), goal)
        for cell, what in ((2, "the ridge's switch of epochs"), (3, "the toy landscape")):
            slider = lab.output(cell).locator("input[type=range]").first
            if slider.count():
                waits = [slider.evaluate(REDRAW) for _ in range(ROUNDS)]
                row(f"a slider redraws: {what}", max(waits), 0.1)
        lab.close()
        row(f"chapter {CHAPTER} opened and run, tables remembered", _chapter(browser, address, folder, profile), 15)
    bench.write()


def _chapter(browser, address: str, folder: Path, profile: str) -> float:
    """The seconds from opening a chapter to its last cell's answer, the second time."""
    found = json.loads((ROOT / "book" / f"{CHAPTER}.ipynb").read_text())
    store = str(folder / "store") if profile == "smoke" else str(from_root(RUNS))
    (given,) = (cell for cell in found["cells"] if "parameters" in cell["metadata"].get("tags", ()))
    given["source"] = f"profile: str = {profile!r}\nstore: str = {store!r}"
    (folder / f"{CHAPTER}.ipynb").write_text(json.dumps(found))
    for _ in range(2):
        start = time.perf_counter()
        lab = Timed(browser, address, f"{CHAPTER}.ipynb")
        lab.run_all()
        spent = time.perf_counter() - start
        lab.close()
    return spent


if __name__ == "__main__":
    main()
