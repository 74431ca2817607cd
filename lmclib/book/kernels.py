"""Kernels that begin at once: forks of one process that has imported, once, what all the chapters import.

Importing PyTorch, the library and Altair takes some seconds of a core, and a book has fifteen kernels.
"""

import ast
import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from multiprocessing import get_context
from pathlib import Path

from lmclib.book.chapters import code_cells
from lmclib.book.forked import DOOR, MESSAGE
from lmclib.processes import ChildProcesses, end_with_parent

# who asks there, by its entry point in pyproject.toml
PROVISIONER = {"JUPYTER_DEFAULT_PROVISIONER_NAME": "lmclib-fork"}
ALWAYS = ("ipykernel.kernelapp", "torchvision.models")
LONGEST = 107  # bytes in the address of a socket
WORTH = 3  # kernels: fewer take less time than the process that they would be forks of


class ReadyKernels:
    """While this is entered, kernels that are started with its `environment` are forks of one process; they end with this block.

    Args:
        notebooks: what will be run, whose imports are done once, for all.
        environment: of that process, which decides what cannot be changed later: how strings are hashed and how many threads are used.

    Attributes:
        environment: what Jupyter needs to know of it; empty where it would not be worth it, or where processes cannot be forked so.
    """

    def __init__(self, notebooks: Iterable[Path], environment: Mapping[str, str]):
        self.notebooks, self.own = [str(path) for path in notebooks], dict(environment)
        self.environment: dict[str, str] = {}

    def __enter__(self) -> "ReadyKernels":
        with ExitStack() as stack:
            door = stack.enter_context(tempfile.TemporaryDirectory(prefix="lmclib-kernels-")) + "/door"
            if sys.platform == "linux" and len(self.notebooks) >= WORTH and len(os.fsencode(door)) <= LONGEST:
                processes = stack.enter_context(ChildProcesses())
                # opened here, so that nobody comes before it is there, and left to that process alone, so that it closes as it ends
                with opened(door) as entrance:
                    command = [sys.executable, "-P", "-m", __name__, str(entrance.fileno()), *self.notebooks]
                    processes.start(command, env={**os.environ, **self.own}, pass_fds=[entrance.fileno()])
                self.environment = {DOOR: door, **PROVISIONER}
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *why: object) -> None:
        self.stack.__exit__(*why)


def opened(door: str) -> socket.socket:
    """A door at which one can ask, and waits until somebody answers."""
    entrance = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    entrance.bind(door)
    entrance.listen()
    return entrance


def serve(entrance: socket.socket, notebooks: Sequence[Path]) -> None:
    """Import what these notebooks import, then fork a kernel for each that asks at the door, and end it when who asked ends.

    Those that ask meanwhile wait.
    """
    with entrance, selectors.DefaultSelector() as watched:
        gc.disable()  # nothing of what is imported is garbage
        _import_as(notebooks)
        gc.freeze()  # and it is not looked through again in every fork
        gc.enable()
        watched.register(entrance, selectors.EVENT_READ, lambda: _admit(entrance, watched))
        while True:
            watched.select()[0][0].data()  # one, as it may settle the others


def _admit(entrance: socket.socket, watched: selectors.BaseSelector) -> None:
    """Fork a kernel for who asks, and say how it ended."""
    line, _ = entrance.accept()
    said, heard, *_ = socket.recv_fds(line, MESSAGE, 2)
    if not said:  # it is gone
        line.close()
        return
    kernel = get_context("fork").Process(target=_become_kernel, args=(line, watched, heard), kwargs=json.loads(said))
    kernel.start()
    for one in heard:
        os.close(one)
    line.send(str(kernel.pid).encode())
    ended = os.pidfd_open(kernel.pid)

    def report() -> None:
        kernel.join()
        with suppress(OSError):  # who asked is gone
            line.send(str(kernel.exitcode).encode())
        for one in (ended, line):
            watched.unregister(one)
        os.close(ended)
        line.close()

    watched.register(ended, selectors.EVENT_READ, report)
    # nothing is ever said there, so it is the end of who asked
    watched.register(line, selectors.EVENT_READ, lambda: signal.pidfd_send_signal(ended, signal.SIGKILL))


def _leave(watched: selectors.BaseSelector) -> None:
    """Close, in a fork, all that is the first process's: lines whose other end would else never see that it ended."""
    for key in [*watched.get_map().values()]:
        key.fileobj.close() if isinstance(key.fileobj, socket.socket) else os.close(key.fd)
    watched.close()


def _import_as(notebooks: Sequence[Path]) -> None:
    """Import what notebooks import, and the names of the library that they use, which it loads when they are first used."""
    for name in ALWAYS:
        importlib.import_module(name)
    library = importlib.import_module("lmclib")
    for path in notebooks:
        for cell in code_cells(path):
            with suppress(Exception):  # a cell that fails is the notebook's to tell
                _import_as_cell(ast.parse(cell), library)


def _import_as_cell(tree: ast.Module, library: object) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(compile(ast.Module([node], []), "<imports>", "exec"), {})
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lmc":
            getattr(library, node.attr, None)


def _become_kernel(
    line: socket.socket,
    watched: selectors.BaseSelector,
    outputs: Sequence[int],
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
) -> None:
    """Go on as the kernel of a command, in a session of its own, to the end of the process.

    That is at once, as of all forks of `multiprocessing`: papermill would wait while an interpreter that has PyTorch is taken down,
    module by module.
    """
    end_with_parent()
    line.close()
    _leave(watched)
    os.setsid()
    for own, given in zip((1, 2), outputs, strict=True):
        os.dup2(given, own)
        os.close(given)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    _, _, module, *arguments = command  # python -m MODULE …
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which such a fork leaves out


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), [Path(name) for name in sys.argv[2:]])
