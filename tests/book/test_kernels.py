"""Kernels that are forks of one process: what they are, and who ends with whom."""

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager

import nbformat
import psutil
import pytest
from real_lab import notebook
from tagged import until

from lmclib.book.execute import OWN
from lmclib.book.forked import DOOR, ForkedKernel
from lmclib.book.kernels import PROVISIONER, ReadyKernels, opened
from lmclib.root import ROOT

SAYS = """
import json, os, sys
from lmclib.cube import points
print(json.dumps([points.__name__, LOADED, os.environ["LMC_STATIC"], os.getsid(0) == os.getpid(), sys.argv[0][-18:]]))
"""


def written(path, *cells: str):
    """A notebook of these cells."""
    path.write_text(json.dumps(notebook(*cells)))
    return path


@contextmanager
def answered(folder):
    """A door, at which who answers has imported nothing but can import what is in the folder."""
    path = str(folder / "door")
    code = (
        "from lmclib.book import kernels as k\nk.ALWAYS = ()\nk.serve(k.socket.socket(fileno=int(k.sys.argv[1])), [])"
    )
    with opened(path) as entrance:
        at, environment = entrance.fileno(), {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}"}
        server = subprocess.Popen([sys.executable, "-c", code, str(at)], env=environment, pass_fds=[at])
    with server:
        yield path
        server.kill()


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """A folder of which modules are found."""
    return tmp_path_factory.mktemp("modules")


@pytest.fixture(scope="module")
def door(modules):
    with answered(modules) as path:
        yield path


def asked(path, module: str, **environment: str) -> ForkedKernel:
    return ForkedKernel(path, [sys.executable, "-m", module], {**os.environ, **environment}, os.getcwd())


def run(source, target, kernels) -> str:
    """What the last cell of a notebook gives when papermill runs it."""
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(source), str(target)]
    subprocess.run(command, env={**os.environ, **OWN, **kernels}, check=True)
    (output,) = nbformat.read(target, 4).cells[-1].outputs
    return output.get("text") or output["data"]["text/plain"]


def test_a_notebook_runs_in_a_fork_that_has_imported_what_it_will(tmp_path):
    loaded = "import sys\nLOADED = 'lmclib.cube.points' in sys.modules"
    source = written(tmp_path / "one.ipynb", loaded, SAYS)
    with ReadyKernels([source] * 3, OWN) as kernels:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as first:
            first.connect(kernels.environment[DOOR])  # nobody can come too early
        said = run(source, tmp_path / "executed.ipynb", kernels.environment)
    assert said == '["lmclib.cube.points", true, "1", true, "kernel_launcher.py"]\n'


@pytest.mark.parametrize(
    ("code", "status"), [("", 0), ("raise SystemExit(3)", 3), ("1 / 0", 1), ("os.kill(os.getpid(), 9)", -9)]
)
def test_its_exit_status_is_told(code, status, modules, door):
    (modules / "ends.py").write_text(f"import os\n{code}\n")
    kernel = asked(door, "ends")
    assert kernel.wait() == kernel.poll() == kernel.returncode == status
    kernel.kill()  # is nothing to one that ended


def test_it_has_the_environment_the_folder_and_the_outputs_of_who_asks(modules, door, capfd):
    (modules / "tells.py").write_text("import os, sys\nprint(os.environ['WORD'], os.getcwd(), *sys.argv[1:])\n")
    assert asked(door, "tells", WORD="here").wait() == 0
    assert capfd.readouterr().out == f"here {os.getcwd()}\n"


def test_its_exit_handlers_run(modules, door, capfd):
    (modules / "handles.py").write_text("import atexit\natexit.register(print, 'handled')\nprint('done')\n")
    assert asked(door, "handles").wait() == 0
    assert capfd.readouterr().out == "done\nhandled\n"


@pytest.mark.parametrize("who", ["asked", "was asked"])
def test_it_ends_with_who_asked_and_with_who_was_asked(who, tmp_path):
    (tmp_path / "stays.py").write_text("import time\ntime.sleep(600)\n")
    with answered(tmp_path) as path:
        kernel, other = asked(path, "stays"), asked(path, "stays")
        assert kernel.poll() is None
        process = psutil.Process(kernel.pid)
        if who == "asked":
            kernel.line.close()
        else:
            process.parent().kill()
        until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, 5, "it ends")
        if who == "asked":
            assert other.poll() is None
            other.kill()
        else:
            assert kernel.wait() == -9
    assert other.wait() == -9


def test_nobody_at_the_door_few_notebooks_and_a_long_address_are_no_matter(tmp_path, monkeypatch):
    source = written(tmp_path / "one.ipynb", "1 + 1")
    with ReadyKernels([source], OWN) as kernels:
        assert kernels.environment == {}
    (tmp_path / ("long" * 30)).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 30)))
    with ReadyKernels([source] * 3, OWN) as kernels:
        assert kernels.environment == {}
    assert run(source, tmp_path / "executed.ipynb", {DOOR: str(tmp_path / "door"), **PROVISIONER}) == "2"


def test_a_cell_that_cannot_be_read_or_imports_what_is_not_there_stops_nobody(tmp_path):
    source = written(
        tmp_path / "odd.ipynb", "%magic", "def f(:", "import not_there", "import lmclib as lmc\nlmc.no_such_name"
    )
    command = [
        sys.executable,
        "-c",
        "import sys, pathlib\nfrom lmclib.book import kernels\nkernels._import_as([pathlib.Path(sys.argv[1])])",
    ]
    subprocess.run([*command, str(source)], check=True)


def test_who_starts_kernels_loads_nothing_slow_for_it():
    code = (
        "import sys, lmclib.book.provisioner\nprint(sorted({'torch', 'pandas', 'yaml', 'joblib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
