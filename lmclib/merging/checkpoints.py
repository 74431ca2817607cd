"""Checkpoints as they lie on disk: safetensors, in one file or in shards, and PyTorch's own under `weights_only`."""

import hashlib
import json
import pickle
import struct
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lmclib.errors import LmcError, first_line

INDEX = ".safetensors.index.json"
# what a folder with a model may hold, the first that is there
IN_FOLDER = ("model.safetensors", f"model{INDEX}", "pytorch_model.bin")
WITHIN = ("state_dict", "model", "model_state_dict")  # where training scripts put the state dict
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Checkpoint(Mapping):
    r"""The state dict $\theta$ in a file, whose tensors are read where they are asked for and never kept.

    Safetensors files are mapped into memory, so that what is read can be let go of again; nothing of any file is executed.

    Args:
        path: `*.safetensors`, `*.safetensors.index.json` with its shards beside it, `*.pt`, `*.pth`, `*.bin`, or a folder as Hugging Face
            writes it.

    Attributes:
        path: as it was given.
        files: the files that hold the tensors.

    Raises:
        LmcError: no such file, a damaged one, one whose pickle needs code, no tensors in it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.files, self._read = _opened(_file(self.path))
        if not self._read:
            raise LmcError(f"{self.path}: holds no tensors; must be a checkpoint, a state dict by name")

    def __getitem__(self, key: str) -> Tensor:
        return self._read[key][0]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape, without reading it."""
        return {key: tuple(shape) for key, (_, shape, _) in self._read.items()}

    @cached_property
    def types(self) -> dict[str, torch.dtype | None]:
        """Every floating tensor's type, without reading it; None for all others."""
        return {key: dtype for key, (_, _, dtype) in self._read.items()}

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return sum(file.stat().st_size for file in self.files)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its file, or of the digests of its shards."""
        digests = []
        for file in self.files:
            with file.open("rb") as content:
                digests.append(hashlib.file_digest(content, "sha256").hexdigest())
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _file(path: Path) -> Path:
    if path.is_dir():
        found = next((path / name for name in IN_FOLDER if (path / name).exists()), None)
        if found is None:
            raise LmcError(f"{path}: holds no checkpoint; a folder must hold one of {', '.join(IN_FOLDER)}")
        return found
    if not path.is_file():
        raise LmcError(f"{path}: is not there; must be a checkpoint (.safetensors, .pt) or a folder with one")
    return path


def _opened(file: Path) -> tuple[list[Path], dict[str, tuple]]:
    """The files of a checkpoint, and every tensor's key with what reads it, its shape and its type."""
    if file.name.endswith(INDEX):
        shards = _shards(file)
        return shards, {key: entry for shard in shards for key, entry in _safetensors(shard).items()}
    if file.suffix == ".safetensors":
        return [file], _safetensors(file)
    return [file], _pickled(file)


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        shards = [index.parent / Path(name).name for name in names]  # beside the index, wherever it points to
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LmcError(
            f"{index}: is no index of shards ({error}); must hold a weight_map from tensors to files"
        ) from None
    if missing := [shard for shard in shards if not shard.is_file()]:
        raise LmcError(f"{missing[0]}: is not there; {index.name} names it as one of {len(shards)} shards")
    return shards


def _safetensors(file: Path) -> dict[str, tuple]:
    try:
        opened = safe_open(file, framework="pt")  # compares the header with the size of the file
        views, entries = _mapped(file), {}
        for key in opened.keys():  # noqa: SIM118 - it is no mapping
            part = opened.get_slice(key)
            view = views.get(key)
            read = partial(opened.get_tensor, key) if view is None else partial(_itself, view)
            entries[key] = (read, part.get_shape(), TYPES.get(part.get_dtype()))
    except SafetensorError as error:
        raise LmcError(f"{file}: is damaged or no safetensors file ({error}); nothing of it was read") from None
    except OSError as error:
        raise LmcError(f"{file}: cannot be read ({error.strerror or error})") from None
    return entries


def _mapped(file: Path) -> dict[str, Tensor]:
    """The floating tensors of a safetensors file as they lie there, mapped into memory; `safe_open`, which checked the header, copies them."""
    with file.open("rb") as content:
        (length,) = struct.unpack("<Q", content.read(8))
        header = json.loads(content.read(length))
    header.pop("__metadata__", None)
    storage = torch.UntypedStorage.from_file(str(file), shared=False, nbytes=file.stat().st_size)
    views = {}
    for key, entry in header.items():
        dtype, start = TYPES.get(entry["dtype"]), 8 + length + entry["data_offsets"][0]
        if dtype is not None and start % dtype.itemsize == 0:
            views[key] = torch.empty(0, dtype=dtype).set_(storage, start // dtype.itemsize, entry["shape"])
    return views


def _itself(value: Tensor) -> Tensor:
    return value


def _pickled(file: Path) -> dict[str, tuple]:
    state = _unpickled(file)
    while len(found := [state[name] for name in WITHIN if isinstance(state.get(name), Mapping)]) == 1:
        state = found[0]
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if tensors and all(key.startswith("module.") for key in tensors):  # as DataParallel calls them
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return {
        key: (partial(_itself, value), value.shape, value.dtype if value.is_floating_point() else None)
        for key, value in tensors.items()
    }


def _unpickled(file: Path) -> Mapping:
    for mapped in (True, False):  # files of PyTorch before 1.6 cannot be mapped
        try:
            with warnings.catch_warnings(action="ignore"):  # of a pickle that is refused anyway
                state = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
            break
        except pickle.UnpicklingError as error:
            raise LmcError(_needs_code(file, error)) from None
        except MemoryError:
            raise
        except Exception as error:  # whatever the unpickler says of a file that is none
            if not mapped:
                said = f"{type(error).__name__}: {first_line(error)}"
                raise LmcError(
                    f"{file}: is no checkpoint of PyTorch ({said}); must be .safetensors or a saved state dict"
                ) from None
    if not isinstance(state, Mapping):
        raise LmcError(f"{file}: holds a {type(state).__name__}; must be a state dict, tensors by name")
    return state


def _needs_code(file: Path, error: Exception) -> str:
    if "weights_only" not in str(error) and "Unsupported" not in str(error):
        return f"{file}: is damaged or no checkpoint of PyTorch ({first_line(error)})"
    hint = "torch.save(model.state_dict(), 'weights.pt')"
    return (
        f"{file}: needs code to be executed, which is refused, and nothing was; convert it where you trust it: {hint}"
    )
