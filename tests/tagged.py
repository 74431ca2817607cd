"""Processes known by a random value in their environment, which whatever they start inherits, wherever it goes."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from uuid import uuid4

import psutil

TAG = "LMC_TEST_TAG"


def tagged_environment(**more: str) -> dict[str, str]:
    """This process's environment with a tag of its own."""
    return {**os.environ, TAG: uuid4().hex, **more}


def alive(environment: dict[str, str]) -> list[psutil.Process]:
    """Every process that carries an environment's tag and still works."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TAG) == environment[TAG] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def commands(environment: dict[str, str]) -> list[str]:
    """The command lines of what works with an environment's tag."""
    said = []
    for process in alive(environment):
        try:
            said.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return said


@contextmanager
def bounded(process: subprocess.Popen, seconds: float = 120) -> Iterator[subprocess.Popen]:
    """A process that is killed if it takes too long, so that whoever waits for it does not wait for ever."""
    timer = Timer(seconds, process.kill)
    timer.start()
    try:
        with process:
            yield process
    finally:
        timer.cancel()


def until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something.

    Raises:
        AssertionError: it is not so after all these seconds.
    """
    stop = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < stop, f"not after {seconds} s: {what}"
        time.sleep(0.05)
