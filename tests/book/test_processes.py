"""A book or a measurement that is killed leaves nobody working for it."""

import signal
import subprocess
import sys

import pytest
from tagged import alive, commands, tagged_environment, until

from lmclib.root import ROOT

PYTHON = [sys.executable, "-m", "lmclib"]
COMMANDS = {
    "build": ([*PYTHON, "build", "--profile", "smoke"], "ipykernel_launcher"),
    "measure": ([*PYTHON, "measure", "resnet_forking", "-p", "profile", "smoke"], "--in-one-go"),
}


@pytest.mark.parametrize(("name", "number"), [("build", signal.SIGTERM), ("measure", signal.SIGKILL)])
def test_whoever_is_killed_leaves_nobody_working(name, number, tmp_path):
    command, sign = COMMANDS[name]
    places = (
        ["--output", str(tmp_path / "book"), "--store", str(tmp_path)]
        if name == "build"
        else ["-p", "store", str(tmp_path)]
    )
    environment = tagged_environment(OMP_NUM_THREADS="1")
    run = subprocess.Popen([*command, *places], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    until(lambda: any(sign in line for line in commands(environment)), 120, f"{sign} is there")
    run.send_signal(number)
    until(lambda: not alive(environment), 5, "all are gone")
    assert run.wait() == -number
