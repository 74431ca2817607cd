"""Processes that end with the one that asked for them, however that one ends: they, and all that they have started.

Between the two stands a guard, this very file run as a small process: a kernel of Jupyter's lives in a session of its own and a nanny of
Dask's starts workers anew, so neither a signal to a group nor one to the child would reach them.
"""

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import psutil

GRACE = 2  # seconds between asking a process to end and ending it
POLL = 0.2  # seconds between two looks whether the process that asked is still there
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of Linux's prctl


class ChildProcesses:
    r"""Commands that run beside this process and end with this block, or with this process if that ends first: killed, too.

    They do not get what is typed in the terminal: who presses Ctrl-C interrupts this process, and the block ends them.

    Example:
        >>> with ChildProcesses() as processes:
        ...     processes.run(["echo", "done"], capture_output=True, text=True).stdout
        'done\n'
    """

    def __init__(self):
        self.guards: list[subprocess.Popen] = []
        self.changing, self.over = threading.Lock(), False

    def __enter__(self) -> "ChildProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        with self.changing:
            self.over = True
        for guard in self.guards:
            guard.terminate()
        for guard in self.guards:
            guard.wait()

    def start(self, command: Sequence[str], **options: object) -> subprocess.Popen:
        """Start a command; `terminate` ends it with all that it has started.

        Args:
            command: the program and its arguments.
            **options: of `subprocess.Popen`.

        Raises:
            RuntimeError: the block has ended.
        """
        guarded = [sys.executable, "-P", __file__, str(os.getpid()), *command]
        with self.changing:
            if self.over:
                raise RuntimeError("these processes have been ended")
            self.guards.append(subprocess.Popen(guarded, start_new_session=True, **options))
            return self.guards[-1]

    def run(
        self,
        command: Sequence[str],
        timeout: float | None = None,
        capture_output: bool = False,
        watch: Callable[[], object] | None = None,
        **options: object,
    ) -> subprocess.CompletedProcess:
        """Start a command and wait for its end, as `subprocess.run`; it is ended if the wait is.

        Args:
            command: the program and its arguments.
            timeout: seconds after which it is ended.
            capture_output: whether to return what it says.
            watch: called again and again meanwhile; what it raises ends the command. It takes the place of a timeout.
            **options: of `subprocess.Popen`.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout` seconds.
        """
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} if capture_output else {}
        with self.start(command, **pipes, **options) as process:
            try:
                said = process.communicate(timeout=timeout) if watch is None else _watched(process, watch)
            except BaseException:
                process.terminate()
                raise
        return subprocess.CompletedProcess(command, process.returncode, *said)


def _watched(process: subprocess.Popen, watch: Callable[[], object]) -> tuple:
    """What a process says until its end, with a look at something else again and again."""
    while True:
        watch()
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=POLL)


def guard(owner: int, command: Sequence[str]) -> int:
    """Run a command until it ends, its owner does or this process is asked to; end all that is left of it; the exit status."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what loses its parent becomes this process's child, so that nothing escapes
    _set_priority_of_session()
    try:
        # not closed is what was passed on to this process for it
        child = subprocess.Popen(command, preexec_fn=end_with_parent, close_fds=False)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    status = None
    while status is None and os.getppid() == owner and not asked:
        with suppress(subprocess.TimeoutExpired):
            status = child.wait(POLL)
    _end_descendants()
    if status is None:
        return 128 + signal.SIGTERM
    return status if status >= 0 else 128 - status  # as a shell says by which signal a command was ended


def end_with_parent() -> None:
    """Have Linux kill this process when its parent ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def leave(status: int) -> NoReturn:
    """End this process as `sys.exit` does, but do not take its interpreter down, module by module, which takes long where PyTorch is
    loaded and serves nobody. As `multiprocessing` ends its forks.
    """
    threading._shutdown()  # waits for threads that are to be waited for
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # who read it is gone
            stream.flush()
    os._exit(status)


def _set_priority_of_session() -> None:
    """Linux may share out time by sessions first, and a new one has the usual priority: give it the one that this process inherited."""
    with suppress(OSError), open("/proc/self/autogroup", "w") as file:
        file.write(str(os.getpriority(os.PRIO_PROCESS, 0)))


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _end_descendants() -> None:
    """Ask all descendants to end, and end those that do not; also what they start meanwhile."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        asked, stop = set(), time.monotonic() + GRACE
        while (left := psutil.Process().children(recursive=True)) and time.monotonic() < stop:
            for process in set(left) - asked:
                with suppress(psutil.NoSuchProcess):
                    end(process)
            asked.update(left)
            psutil.wait_procs(left, timeout=POLL)


if __name__ == "__main__":
    sys.exit(guard(int(sys.argv[1]), sys.argv[2:]))
