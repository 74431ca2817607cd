"""What work costs at the least: counted operations and bytes against the rates of a GPU."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

# how often a convolution's or product's output passes through memory where everything else is fused into a neighbour.
# forward: written, read for the batch's moments, read and written normalised, read by the next one
FORWARD_TOUCHES = 5
# and backward as much again: its gradient read and written twice on the way through the normalisation, the output read once more
STEP_TOUCHES = 10
STEP_FLOPS = 3  # of a forward pass: one more for the inputs' gradients, one for the weights'


@dataclass(frozen=True)
class Rates:
    """A device's ceilings: operations in bf16 and in float32 without TF32, and bytes to and from memory, all per second."""

    name: str
    bf16: float
    float32: float
    bandwidth: float


H100 = Rates("H100", bf16=989e12, float32=67e12, bandwidth=3.35e12)


@dataclass(frozen=True)
class Forward:
    """One example's forward pass: `flops` (an addition and a multiplication are two) and `outputs`, the numbers that products and convolutions put out."""

    flops: int
    outputs: int

    def step_seconds(self, rates: Rates) -> float:
        """The least seconds of one example in a training step in bf16: all operations, or all bytes."""
        return max(STEP_FLOPS * self.flops / rates.bf16, 2 * STEP_TOUCHES * self.outputs / rates.bandwidth)

    def pass_seconds(self, rates: Rates) -> float:
        """The least seconds of one example in a float32 forward pass."""
        return max(self.flops / rates.float32, 4 * FORWARD_TOUCHES * self.outputs / rates.bandwidth)


@torch.no_grad()
def forward_cost(model: nn.Module, shape: tuple[int, ...]) -> Forward:
    """Count one example's forward pass.

    Args:
        model: the network; it is run once.
        shape: of one example.

    Example:
        >>> forward_cost(nn.Linear(3, 5), (3,))
        Forward(flops=30, outputs=5)
    """
    outputs = 0

    def count(module: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal outputs
        outputs += out.numel()

    was_training, device = model.training, next(model.parameters()).device
    heavy = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    hooks = [module.register_forward_hook(count) for module in heavy]
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            model.eval()(torch.zeros(1, *shape, device=device))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    return Forward(counter.get_total_flops(), outputs)


def copy_rate(device: torch.device, seconds: Callable[[Callable[[], object]], float], size: int = 2**28) -> float:
    """The bytes per second of a large copy on a device, read and written, with `seconds` timing a piece of work."""
    source = torch.rand(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source))


def product_rate(
    device: torch.device, dtype: torch.dtype, seconds: Callable[[Callable[[], object]], float], n: int = 4096
) -> float:
    """The operations per second of a large matrix product or of a large convolution, whichever has more on a device.

    Args:
        device: where.
        dtype: of all numbers.
        seconds: times a piece of work.
        n: rows and columns of the matrices; the convolution takes n / 8 images of 16×16 pixels and 256 channels.
    """
    one, two = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    images = torch.randn(n // 8, 256, 16, 16, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(256, 256, 3, 3, device=device).to(dtype)
    matrices = 2 * n**3 / seconds(lambda: one @ two)
    return max(matrices, 2 * images.numel() * 256 * 9 / seconds(lambda: F.conv2d(images, kernel, padding=1)))
