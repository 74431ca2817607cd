"""A book or a measurement that is killed leaves nobody working for it."""

import signal
import subprocess
import sys

import pytest
from tagged import alive, commands, tagged_environment, until

from lmclib.root import ROOT

PYTHON = [sys.executable, "-m", "lmclib"]
COMMANDS = {
    # each with the process that shows that it works, and how many: a kernel has the name of what it is a fork of
    "build": ([*PYTHON, "build", "--profile", "smoke"], "lmclib.book.kernels", 2),
    "measure": ([*PYTHON, "measure", "resnet_forking", "-p", "profile", "smoke"], "--in-one-go", 1),
}


def working(sign: str, environment: dict[str, str]) -> int:
    return sum(sign in line and "processes.py" not in line for line in commands(environment))


@pytest.mark.parametrize(("name", "number"), [("build", signal.SIGTERM), ("measure", signal.SIGKILL)])
def test_whoever_is_killed_leaves_nobody_working(name, number, tmp_path):
    command, sign, n = COMMANDS[name]
    places = (
        ["--output", str(tmp_path / "book"), "--store", str(tmp_path)]
        if name == "build"
        else ["-p", "store", str(tmp_path)]
    )
    environment = tagged_environment(OMP_NUM_THREADS="1")
    run = subprocess.Popen([*command, *places], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    until(lambda: working(sign, environment) >= n, 120, f"{sign} is there")
    run.send_signal(number)
    until(lambda: not alive(environment), 5, "all are gone")
    assert run.wait() == -number
