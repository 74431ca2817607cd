"""What is remembered: checkpoints and tables under the address of the run that made them, checked when read."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmclib.errors import LmcError

SHELF = Path("data/results")  # committed tables of paper-scale runs, looked up first and never written by a look-up


def address(description: Mapping) -> str:
    """The address of a run: the first 20 hex digits of the SHA-256 of its description as canonical JSON.

    Example:
        >>> address({"seed": 0, "lr": 0.1}) == address({"lr": 0.1, "seed": 0})
        True
    """
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


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

    def table(self, description: Mapping, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The table with this description: from the shelf, else from the store, else computed once and stored."""
        at = address(description)
        with self.lock(at):
            for folder in (self.shelf / at, self.root / at):
                if (path := self._find(folder, "table", "parquet")) is not None:
                    return pd.read_parquet(path)
            frame = compute()
            self.describe(at, description)
            self._write(self.root / at, "table", "parquet", lambda path: frame.to_parquet(path, index=False))
        return frame

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


def write_text(path: Path, text: str) -> None:
    """Write a text file in one atomic rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
        file.write(text)
    os.replace(file.name, path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
