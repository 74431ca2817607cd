"""A network made ready to be evaluated at many points, of one cube or of many between models of its architecture."""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from lmclib.cube.batching import largest_value
from lmclib.cube.shared import SharedEvaluation, Weights
from lmclib.networks.layers import Layer
from lmclib.networks.stacked import SMALL, Stack

WIDTHS = 2, 4  # points evaluated side by side where images are small


class Prepared:
    """What evaluates points of cubes of one network, made when first needed, and once: it takes longer than some points.

    It holds the weights of whichever points were evaluated last, so no two threads may use one.

    Args:
        model: the architecture, in evaluation mode; not copied.
        layers: its layers, or what else has an axis of its own.
        x: some inputs, for trials.
    """

    def __init__(self, model: nn.Module, layers: tuple[Layer, ...], x: Tensor):
        self.model, self.layers, self.x = model, layers, x
        self._shared: dict[tuple[Layer, ...], SharedEvaluation | None] = {}
        self._stacks: dict[int, Stack] = {}

    def stack(self, n: int) -> Stack:
        """What evaluates points side by side where images are small, the narrowest that holds n of them or else the widest, and one by
        one where they are not; sweeps and derivatives do without it.
        """
        x = self.x[:2]
        small = x.dim() == 4 and x[0, 0].numel() <= SMALL
        width = next((width for width in WIDTHS if width >= n), WIDTHS[-1]) if small else 1
        if width not in self._stacks:
            stack = Stack(self.model, width, x).eval()
            if stack.width == 1 and all(value.dim() < 5 for value in self.model.state_dict().values()):
                stack.to(memory_format=torch.channels_last)
            self._stacks[width] = stack
        return self._stacks[width]

    @cached_property
    def largest(self) -> int:
        """The numbers that the largest value of one input holds."""
        return largest_value(self.model.eval(), self.x[:2])

    def shared(self, layers: tuple[Layer, ...], weights: Weights) -> SharedEvaluation | None:
        """What evaluates points that have much in common together; None where the network cannot be taken apart.

        Args:
            layers: the axes, which may have been taken together.
            weights: some models' tensors, for trials.
        """
        if layers not in self._shared:
            try:
                self._shared[layers] = SharedEvaluation(self.model, layers, self.x, weights)
            except ValueError:
                self._shared[layers] = None
        return self._shared[layers]

    def suits(self, state: Mapping[str, Tensor]) -> bool:
        """Whether a model's whole numbers are the network's own, as they are not interpolated; counts of batches seen do nothing."""
        own = self.model.state_dict()
        fixed = (key for key, value in own.items() if not value.is_floating_point())
        return all(torch.equal(own[key], state[key]) for key in fixed if not key.endswith("num_batches_tracked"))
