"""Where to compute, how precisely, and with how many threads."""

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Literal, get_args

import torch

from lmclib.errors import LmcError

Precision = Literal["float32", "bf16"]
PRECISIONS = get_args(Precision)
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # mallopt's options, from malloc.h
MMAP_THRESHOLD, LARGE_BLOCK = -3, 2**20  # one more of them, and bytes


def default_device() -> torch.device:
    """The first CUDA GPU where there is one, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def named_device(name: str | torch.device) -> torch.device:
    """A device by its name.

    Raises:
        LmcError: there is none of that name, or no such GPU on this machine.

    Example:
        >>> named_device("cpu").type
        'cpu'
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise LmcError(f"device={name!r}: is no device; must be 'cpu', 'cuda' or 'cuda:0'") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise LmcError(f"device={str(name)!r}: this machine has {torch.cuda.device_count()} GPUs that PyTorch sees")
    return device


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for what PyTorch computes on the CPU, as wherever the library trains or measures by itself.

    The number of threads decides the bits of a result, and two threads beside another busy process can be far slower than one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 with no shortcut: without TF32, which a GPU would else use in convolutions."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager:
    r"""A forward pass in `bf16` where PyTorch deems it safe; in `float32` nothing.

    Weights, momentum and updates are float32 in both: bf16 is a matter of products and convolutions only.

    Raises:
        LmcError: another precision.

    Example:
        >>> with autocast("bf16", torch.device("cpu")):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.bfloat16
    """
    if precision not in PRECISIONS:
        raise LmcError(f"precision={precision!r}: must be one of {', '.join(map(repr, PRECISIONS))}")
    if precision == "float32":
        return nullcontext()
    # no cache of cast weights: a recorded step must cast them anew each time it is replayed
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def compute_quietly() -> None:
    """Set up a process that is the book's own, a chapter's kernel or script: one thread, and freed memory is kept.

    For a reader's own process neither is ours to choose: there only what trains and measures by itself takes one thread, meanwhile.
    """
    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        keep_freed_memory()


@cache
def keep_freed_memory() -> bool:
    """Keep large freed blocks for the next tensor instead of handing them back to the system; whether that is possible here.

    Linux's allocator maps a block above 32 MB anew each time, and the system fills it with zeros, page by page, which can take longer
    than what is then computed. PyTorch keeps blocks in the same way on a GPU. A process holds on to the most that it has used.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, -1))  # no mapped blocks, no handing back


@cache
def give_freed_memory_back() -> bool:
    """Hand every block of a megabyte or more back to the system as soon as it is freed; whether that is possible here.

    The opposite of `keep_freed_memory`, for a process whose networks hardly fit: freed blocks below 32 MB would else be kept, in pieces
    that the next tensor often does not fit into.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGE_BLOCK))
