"""Where to compute, how precisely, and what to do when the memory there is full."""

import ctypes
import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor

from lmclib.errors import LmcError

Precision = Literal["float32", "bf16"]
PRECISIONS = get_args(Precision)
Result = TypeVar("Result")
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # mallopt's options, from malloc.h


def default_device() -> torch.device:
    """The first CUDA GPU where there is one, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


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


class Fitting:
    """Batches that fit into memory: where one does not, half of it is tried, and half from then on.

    Args:
        what: what the message says is being computed.
        size: at most so many examples at a time, to begin with; whole batches by default.

    Example:
        >>> fitting = Fitting("sums", 4)
        >>> list(fitting.over([(torch.arange(6.0), torch.arange(6))], lambda x, y: float(x.sum())))
        [6.0, 9.0]
    """

    def __init__(self, what: str, size: int | None = None):
        self.what, self.size = what, size

    def over(
        self, batches: Iterable[tuple[Tensor, Tensor]], work: Callable[[Tensor, Tensor], Result]
    ) -> Iterator[Result]:
        """What `work` returns for each piece of each batch; a piece that did not fit is worked on again in halves.

        Raises:
            torch.OutOfMemoryError: not even one example fits.
        """
        for x, y in batches:
            at = 0
            while at < len(y):
                rows = slice(at, at + (self.size or len(y)))
                tried = len(y[rows])
                try:
                    done = (work(x[rows], y[rows]),)
                except torch.OutOfMemoryError:
                    if tried == 1:
                        raise
                    done = None
                if done is None:  # out of the except clause, whose traceback holds on to what was computed
                    self._halve(tried)
                    continue
                at += tried
                yield done[0]

    def _halve(self, tried: int) -> None:
        self.size = tried // 2
        warnings.warn(f"{self.what}: out of memory; going on with {self.size} examples at a time", stacklevel=4)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
