"""A step recorded once and replayed: a CUDA graph on a GPU; on a CPU a stand-in that goes through the same motions."""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from lmclib.errors import LmcError

WARM_UPS = 3  # CUDA libraries set themselves up in the first steps, which must not be recorded


class Recorded:
    r"""A function that changes some tensors in place, recorded once: its inputs are copied into fixed buffers, then it is replayed.

    A replay launches all kernels of the step at once, so that a small network's step no longer waits for Python. What is
    recorded are addresses and shapes: the function must read its inputs, and change its state, in place, and must not wait for the device.

    On a CPU nothing can be recorded. There the function itself is called, on the same fixed buffers, after the same warm-up
    whose traces are wiped out again, so that whoever breaks these rules notices without a GPU.

    Args:
        function: maps input tensors to a tensor.
        inputs: example inputs; later ones must have their shapes and types.
        state: what the function changes in place. It is as before when the recording is done.

    Raises:
        LmcError: a call with other shapes or types.

    Example:
        >>> total = torch.zeros(2)
        >>> add = Recorded(lambda x: total.add_(x).clone(), [torch.ones(2)], [total])
        >>> total.tolist(), add(torch.ones(2)).tolist(), add(torch.ones(2)).tolist()
        ([0.0, 0.0], [1.0, 1.0], [2.0, 2.0])
    """

    def __init__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor], state: Sequence[Tensor]):
        self.function = function
        self.buffers = [value.clone() for value in inputs]
        before = [value.detach().clone() for value in state]
        replay = self._record if self.buffers[0].is_cuda else self._stand_in
        self.replay, self.result = replay()
        with torch.no_grad():
            for value, old in zip(state, before, strict=True):
                value.copy_(old)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Replay with these inputs; the result is one buffer, overwritten by the next call."""
        for buffer, value in zip(self.buffers, inputs, strict=True):
            if buffer.shape != value.shape or buffer.dtype != value.dtype:
                raise LmcError(
                    f"inputs: a recorded step takes {buffer.dtype} {tuple(buffer.shape)}, not {value.dtype} {tuple(value.shape)}"
                )
            buffer.copy_(value, non_blocking=True)
        self.replay()
        return self.result

    def _stand_in(self) -> tuple[Callable[[], None], Tensor]:
        result = self.function(*self.buffers).clone()
        return lambda: result.copy_(self.function(*self.buffers)), result

    def _record(self) -> tuple[Callable[[], None], Tensor]:
        beside, now = _stream(0), torch.cuda.current_stream()
        beside.wait_stream(now)
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                self.function(*self.buffers)
        now.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # a thread that writes checkpoints may use the device meanwhile
        with torch.cuda.graph(graph, stream=beside, capture_error_mode="thread_local"):
            result = self.function(*self.buffers)
        return graph.replay, result


def side_by_side(works: Sequence[Callable[[], Tensor]], device: torch.device) -> list[Tensor]:
    """The results of independent pieces of work: on a GPU each on a stream of its own, so that small kernels overlap.

    Within a recording the streams become parallel branches of one graph. On a CPU, one after another.
    """
    if device.type != "cuda" or len(works) == 1:
        return [work() for work in works]
    now, results = torch.cuda.current_stream(), []
    streams = [_stream(number) for number in range(1, len(works) + 1)]
    for work, stream in zip(works, streams, strict=True):
        stream.wait_stream(now)
        with torch.cuda.stream(stream):
            results.append(work())
    for stream in streams:
        now.wait_stream(stream)
    return results


@cache
def _stream(number: int) -> torch.cuda.Stream:
    """Streams are used again, as memory that was used on one is not free for others: 0 records, the rest run side by side."""
    return torch.cuda.Stream()
