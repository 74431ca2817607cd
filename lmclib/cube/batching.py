"""Data in batches that fit into memory."""

import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from lmclib.errors import LmcError

Result = TypeVar("Result")
Batches = tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]]
DEFAULT = 250, 2000  # examples at a time where nothing else decides, on a CPU and on a GPU


class Batching:
    """How data reach what is computed: on which device, of which type, and how many examples at a time.

    Args:
        device: where.
        dtype: the floating type of inputs and targets; whole numbers stay what they are.
        size: examples at a time where data are a pair of tensors; by default as many as suit what is computed.
        classes: whether whole numbers among the targets are classes, from 0 on.

    Raises:
        LmcError: a size below 1.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, size: int | None, classes: bool = False):
        if size is not None and size < 1:
            raise LmcError(f"batch_size={size}: must be at least 1")
        self.device, self.dtype, self.size, self.classes = device, dtype, size, classes

    def of(self, data: Batches, size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of data; a pair of tensors in pieces as the user wants them, or of some size."""
        if is_pair(data):
            size = self.size or size or DEFAULT[self.device.type != "cpu"]
            data = zip(*(part.split(size) for part in data), strict=True)
        for batch in data:
            x, y = batch
            if self.classes and not y.is_floating_point():
                if y.device.type == "cpu" and len(y) and int(y.min()) < 0:
                    raise LmcError(
                        f"data: targets hold {int(y.min())}; must be classes from 0 on: leave such examples out"
                    )
                y = y.long()
            x, y = self._here(x), self._here(y)
            if len(x) != len(y):
                raise LmcError(
                    f"data: {len(x)} inputs and {len(y)} targets in a batch; both go along the first dimension"
                )
            yield x, y

    def _here(self, part: Tensor) -> Tensor:
        part = part.to(self.device, non_blocking=True)
        return part.to(self.dtype) if part.is_floating_point() else part


def check_data(data: object, name: str = "data") -> None:
    """Check that data are a pair of tensors, or give batches again at every pass.

    Args:
        data: anything.
        name: how messages call it.

    Raises:
        LmcError: they are not, or are empty.

    Example:
        >>> check_data(iter([(torch.zeros(2, 3), torch.zeros(2))]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        lmclib.errors.LmcError: data: gives its batches only once; must be a pair of tensors (x, y), or ...
    """
    allowed = "a pair of tensors (x, y), or what gives batches (x, y) again at every pass, such as a list of them or a DataLoader"
    if is_pair(data):
        sizes = [len(part) if part.dim() else 0 for part in data]
        if sizes[0] != sizes[1] or not sizes[0]:
            raise LmcError(f"{name}: {sizes[0]} inputs and {sizes[1]} targets; must be as many, and at least one")
        return
    if isinstance(data, str | bytes | dict) or not isinstance(data, Iterable):
        raise LmcError(f"{name}: is a {type(data).__name__}; must be {allowed}")
    if iter(data) is data:  # a generator: the first look at it would already take a batch
        raise LmcError(f"{name}: gives its batches only once; must be {allowed}")
    first = next(iter(data), None)
    if first is None:
        raise LmcError(f"{name}: is empty; must be {allowed}")
    if not (
        isinstance(first, tuple | list) and len(first) == 2 and all(map(torch.is_tensor, first)) and first[0].dim()
    ):
        raise LmcError(f"{name}: gives a {type(first).__name__} that is no batch (x, y); must be {allowed}")


def is_pair(data: Batches) -> bool:
    """Whether data are one pair of tensors, rather than batches."""
    return isinstance(data, tuple) and len(data) == 2 and all(map(torch.is_tensor, data))


def rows_among(x: Tensor, others: Tensor) -> Tensor | None:
    """For each row of x the number of an equal row of `others`; None where one has none.

    Example:
        >>> others = torch.tensor([[1.0], [2.0], [3.0]])
        >>> rows_among(others[[2, 0]], others), rows_among(torch.zeros(1, 1), others)
        (tensor([2, 0]), None)
    """
    if x.shape[1:] != others.shape[1:] or x.dtype != others.dtype:
        return None
    number = {row.tobytes(): i for i, row in enumerate(others.detach().cpu().numpy())}
    found = [number.get(row.tobytes()) for row in x.detach().cpu().numpy()]
    return None if None in found else torch.tensor(found, device=x.device)


@torch.no_grad()
def largest_value(net: nn.Module, x: Tensor) -> int:
    """The numbers that the largest value of one input holds on its way through a network, itself among them.

    Example:
        >>> largest_value(nn.Sequential(nn.Linear(2, 7), nn.Linear(7, 3)), torch.zeros(5, 2))
        7
    """
    sizes = [x.numel()]
    hooks = [
        module.register_forward_hook(lambda _, inputs, out: sizes.append(out.numel() if torch.is_tensor(out) else 0))
        for module in net.modules()
    ]
    try:
        net(x)
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes) // len(x)


class HalvedBatches:
    """Batches that fit into memory: where one does not, half of it is tried, and half from then on.

    Args:
        what: what the message says is being computed.
        size: at most so many examples at a time, to begin with; whole batches by default.

    Example:
        >>> batches = HalvedBatches("sums", 4)
        >>> list(batches.over([(torch.arange(6.0), torch.arange(6))], lambda x, y: float(x.sum())))
        [6.0, 9.0]
    """

    def __init__(self, what: str, size: int | None = None):
        self.what, self.size = what, size

    def over(
        self, batches: Iterable[tuple[Tensor, Tensor]], work: Callable[[Tensor, Tensor], Result]
    ) -> Iterator[Result]:
        """What `work` returns for each piece of each batch; a piece that did not fit is worked on again in halves.

        `work` must leave no trace but what it returns, as it may be stopped in the middle.

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
