"""Checkpoints written beside training, in order, so that training does not wait for the disk."""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from lmclib.store.store import Store


class BackgroundWriter:
    """Writes to a store in a thread of its own, in order, so that training does not wait for the disk.

    Used as a context, it has written everything when it ends. What went wrong is raised at the next call or at the end, and
    nothing is done after it: a place to go on from is not dropped where the checkpoint that replaces it could not be written.
    """

    WAITING = 32  # at most so many checkpoints in memory

    def __init__(self, store: Store):
        self.store = store
        self.thread = ThreadPoolExecutor(1, "checkpoints")
        self.jobs: deque[Future] = deque()
        self.failed = False

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.thread.shutdown()  # what was begun is written, also where something else went wrong
        if kind is None:
            self.finish()

    def save(self, at: str, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Store tensors, which the caller no longer changes, as a checkpoint."""
        ready = None
        if any(value.is_cuda for value in tensors.values()):
            ready = torch.cuda.Event()
            ready.record()
        self.later(self._save, at, name, tensors, ready)

    def later(self, work: Callable, *arguments: object) -> None:
        """Do any other work after what was asked for before."""
        while len(self.jobs) >= self.WAITING or (self.jobs and self.jobs[0].done()):
            self.jobs.popleft().result()
        self.jobs.append(self.thread.submit(self._do, work, *arguments))

    def finish(self) -> None:
        """Wait until everything is written."""
        while self.jobs:
            self.jobs.popleft().result()

    def _do(self, work: Callable, *arguments: object) -> None:
        if self.failed:
            return
        try:
            work(*arguments)
        except BaseException:
            self.failed = True
            raise

    def _save(self, at: str, name: str, tensors: Mapping[str, Tensor], ready: "torch.cuda.Event | None") -> None:
        if ready is not None:  # copied beside what is being computed, not after it
            with torch.cuda.stream(torch.cuda.Stream()):
                ready.wait()
                tensors = {key: value.cpu() for key, value in tensors.items()}
        self.store.save_state(at, name, tensors)
