"""Work beside the kernel's own thread: other cells can run meanwhile, and it can be asked to stop."""

from collections.abc import Callable
from contextvars import copy_context
from threading import Event, Thread

import torch
from IPython import get_ipython


class Stopped(BaseException):
    """Somebody asked the work to stop."""


class Background:
    """One piece of work in a thread of its own.

    The work asks again and again whether it is to stop, by calling `check`, which then raises `Stopped`.

    Args:
        work: what to do; given this object.
        ended: called in that thread at the end, with what was raised, or None.
    """

    def __init__(self, work: Callable[["Background"], None], ended: Callable[[BaseException | None], None]):
        self._work, self._ended, self._asked = work, ended, Event()
        # a thread has a context of its own: take the caller's, as if it had called the work itself
        self._thread = Thread(target=copy_context().run, args=(self._run,), name="explorer", daemon=True)

    def start(self) -> None:
        """Begin."""
        _share_full_precision()
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop; it does at its next `check`."""
        self._asked.set()

    def check(self) -> None:
        """Go on, unless it is to stop.

        Raises:
            Stopped: it is.
        """
        if self._asked.is_set():
            raise Stopped

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._asked.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end, at most some seconds; whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error = None
        try:
            self._work(self)
        except BaseException as raised:  # whatever it is: who pressed the button must be told
            error = raised
        self._ended(error)


def _share_full_precision() -> None:
    """Turn TF32 off for the process: each computation turns it off for itself and back on, which two at a time would do to each other."""
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def on_idle_interrupt(call: Callable[[], None]) -> None:
    """Have the toolbar's ■ call a function while the kernel has nothing to do: it would otherwise reach no thread but a cell's.

    To be called in an answer to a message of the front end, such as a click. Where there is no kernel, nothing happens.
    """
    kernel = getattr(get_ipython(), "kernel", None)
    if hasattr(kernel, "saved_sigint_handler"):
        # while it answers, the kernel has a handler of its own; this is the one that it puts back afterwards
        kernel.saved_sigint_handler = lambda number, frame: call()
