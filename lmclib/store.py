"""What is remembered: checkpoints and tables under the address of the run that made them, checked when read."""

import hashlib
import json
import os
import re
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmclib.data import UNSEEN, DataCard, load_data
from lmclib.errors import LmcError
from lmclib.provenance import provenance

SHELF = Path("data/results")  # committed tables of paper-scale runs, looked up first and never written by a look-up
CARDS = "data.json"  # what is known of data sets that need not be here


def address(description: Mapping) -> str:
    """The address of a run: the first 20 hex digits of the SHA-256 of its description as canonical JSON.

    Example:
        >>> address({"seed": 0, "lr": 0.1}) == address({"lr": 0.1, "seed": 0})
        True
    """
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class NotRun(LmcError):
    """Something is neither on the shelf nor in the store, and may not be computed now."""


class Looking:
    """Looking things up without computing any, and what was met on the way.

    Attributes:
        families: the forking experiments.
        tables: the folders of the tables.
    """

    def __init__(self):
        self.families: list = []
        self.tables: list[Path] = []

    def meet(self, family: object) -> None:
        """A forking experiment is being planned."""
        self.families.append(family)

    def table(self, found: Path | None, description: Mapping, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table is asked for, which is in a file or not.

        Raises:
            NotRun: it is not.
        """
        if found is None:
            raise NotRun(f"{description['kind']}: not measured yet")
        self.tables.append(found.parent)
        return pd.read_parquet(found)


_looking: ContextVar[Looking | None] = ContextVar("looking", default=None)


@contextmanager
def only_looking(how: Looking | None = None) -> Iterator[Looking]:
    """Within this context nothing is trained, measured or written: what is missing raises `NotRun`."""
    how = Looking() if how is None else how
    token = _looking.set(how)
    try:
        yield how
    finally:
        _looking.reset(token)


def looking() -> Looking | None:
    """Who is only looking, or None where things may be computed."""
    return _looking.get()


class Store:
    """Checkpoints (safetensors) and tables (Parquet) by address, in one folder a run.

    A file carries the digest of its content in its name, so a write is one atomic rename and a damaged file is noticed
    when it is read. Reading never executes code.

    Args:
        root: the folder to write to; made when first needed.
        shelf: a folder of committed tables that are looked up first.
    """

    def __init__(self, root: str | Path = "data/runs", shelf: str | Path = SHELF):
        self.root, self.shelf = Path(root), Path(shelf)

    def lock(self, at: str) -> FileLock:
        """A lock on one address: whoever else wants the same run waits and then finds it done."""
        self.root.mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / f"{at}.lock")

    def save_state(self, at: str, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Store tensors as checkpoint `name` of the run at address `at`, in place of an earlier one of that name."""
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        self._write(self.root / at, name, "safetensors", lambda path: save_file(contiguous, path))

    def load_state(self, at: str, name: str) -> dict[str, Tensor] | None:
        """The tensors of checkpoint `name`, or None where there is none.

        Raises:
            LmcError: the file is damaged.
        """
        path = self._find(self.root / at, name, "safetensors")
        return None if path is None else load_file(path)

    def drop_state(self, at: str, name: str) -> None:
        """Forget checkpoint `name`."""
        for path in (self.root / at).glob(f"{name}.*.safetensors"):
            path.unlink()

    def states(self, at: str) -> set[str]:
        """The names of the checkpoints of a run."""
        return {path.name.split(".")[0] for path in (self.root / at).glob("*.safetensors")}

    def describe(self, at: str, description: Mapping) -> None:
        """Write down in plain JSON what the run at an address is, for people."""
        folder = self.root / at
        if not (folder / "run.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "run.json", json.dumps(description, indent=1, sort_keys=True))

    def sign(self, at: str, made: Mapping) -> None:
        """Write down in plain JSON where the result at an address comes from, for people."""
        (self.root / at).mkdir(parents=True, exist_ok=True)
        write_text(self.root / at / "provenance.json", json.dumps(made, indent=1))

    def data_card(self, name: str) -> DataCard:
        """What addresses and captions need of a data set: from the shelf or the store where it is known, else by loading it."""
        known = self._cards()
        if name in known:
            return DataCard(**known[name])
        if looking() is not None and name in UNSEEN:
            return UNSEEN[name]
        card = load_data(name).card
        if looking() is None and name in UNSEEN:  # so that its tables are found later without a download
            write_text(self.root / CARDS, json.dumps({**known, name: card.model_dump()}, indent=1))
        return card

    def _cards(self) -> dict[str, dict]:
        paths = [folder / CARDS for folder in (self.root, self.shelf)]
        return {name: card for path in paths if path.exists() for name, card in json.loads(path.read_text()).items()}

    def table(self, description: Mapping, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The table with this description: from the shelf, else from the store, else computed once and stored.

        Raises:
            NotRun: it is nowhere, and this is `only_looking`.
        """
        at = address(description)
        if (look := looking()) is not None:
            return look.table(self._known(at), description, compute)
        with self.lock(at):
            if (path := self._known(at)) is not None:
                return pd.read_parquet(path)
            start = time.monotonic()
            frame = compute()
            self.describe(at, description)
            self.sign(at, provenance(time.monotonic() - start))
            self._write(self.root / at, "table", "parquet", lambda path: frame.to_parquet(path, index=False))
        return frame

    def _known(self, at: str) -> Path | None:
        folders = (self.shelf / at, self.root / at)
        return next((path for f in folders if (path := self._find(f, "table", "parquet")) is not None), None)

    def _write(self, folder: Path, name: str, suffix: str, write: Callable[[Path], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
        os.close(handle)
        write(Path(temporary))
        older = list(folder.glob(f"{name}.*.{suffix}"))
        target = folder / f"{name}.{_digest(Path(temporary))}.{suffix}"
        os.replace(temporary, target)
        for path in older:
            if path != target:
                path.unlink(missing_ok=True)

    def _find(self, folder: Path, name: str, suffix: str) -> Path | None:
        for path in folder.glob(f"{name}.*.{suffix}"):
            if re.fullmatch(rf"{re.escape(name)}\.[0-9a-f]{{16}}\.{suffix}", path.name) is None:
                continue
            if _digest(path) != path.name.split(".")[-2]:
                raise LmcError(f"store: {path} is damaged (its content does not match its name); delete it and rerun")
            return path
        return None


class BackgroundWriter:
    """Writes to a store in a thread of its own, in order, so that training does not wait for the disk.

    Used as a context, it has written everything when it ends. What went wrong is raised at the next call or at the end.
    """

    WAITING = 32  # at most so many checkpoints in memory

    def __init__(self, store: Store):
        self.store = store
        self.thread = ThreadPoolExecutor(1, "checkpoints")
        self.jobs: deque[Future] = deque()

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
        self.jobs.append(self.thread.submit(work, *arguments))

    def finish(self) -> None:
        """Wait until everything is written."""
        while self.jobs:
            self.jobs.popleft().result()

    def _save(self, at: str, name: str, tensors: Mapping[str, Tensor], ready: "torch.cuda.Event | None") -> None:
        if ready is not None:  # copied beside what is being computed, not after it
            with torch.cuda.stream(torch.cuda.Stream()):
                ready.wait()
                tensors = {key: value.cpu() for key, value in tensors.items()}
        self.store.save_state(at, name, tensors)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one atomic rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
        file.write(text)
    os.replace(file.name, path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
