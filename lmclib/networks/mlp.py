"""Fully connected networks."""

from torch import Tensor, nn


class MLP(nn.Module):
    """A fully connected network on the flattened image."""

    ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}  # noqa: RUF012 - a constant

    def __init__(self, shape: tuple[int, int, int], n_classes: int, widths: tuple[int, ...], activation: str):
        super().__init__()
        self.body = nn.Sequential()
        inputs = shape[0] * shape[1] * shape[2]
        for width in widths:
            self.body.append(nn.Linear(inputs, width))
            self.body.append(self.ACTIVATIONS[activation]())
            inputs = width
        self.fc = nn.Linear(inputs, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x.flatten(1)))
