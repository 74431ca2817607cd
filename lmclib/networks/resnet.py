"""Residual networks: the CIFAR family of He et al. with any width and normalisation, and torchvision's ResNet-18."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WITHOUT = ("none", "fixup")  # kinds of network without normalisation: convolutions have biases there


def normalisation(kind: str, channels: int) -> nn.Module:
    """A normalisation layer: `bn` batch, `gn` group (of 8 channels at most), `ln` layer, `none` and `fixup` the identity."""
    if kind in WITHOUT:
        return nn.Identity()
    if kind == "bn":
        return nn.BatchNorm2d(channels)
    # layer norm over channels and pixels is group norm with one group
    return nn.GroupNorm(1 if kind == "ln" else max(1, channels // 8), channels)


class Block(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al. 2016); a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str):
        super().__init__()
        bias = norm in WITHOUT
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
        self.norm1 = normalisation(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias)
        self.norm2 = normalisation(norm, outputs)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=bias), normalisation(norm, outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    r"""The CIFAR ResNet of depth $6n + 2$: three stages of $n$ blocks with $w$, $2w$ and $4w$ channels.

    Without normalisation a deep one may never leave chance. `fixup` starts it as the identity (Zhang et al. 2019): the last
    convolution of every block, the last layer and all biases are zero, the first convolution of each of $m$ blocks is divided by $\sqrt m$.
    """

    def __init__(self, shape: tuple[int, int, int], n_classes: int, depth: int, width: int, norm: str):
        super().__init__()
        self.conv = nn.Conv2d(shape[0], width, 3, 1, 1, bias=norm in WITHOUT)
        self.norm = normalisation(norm, width)
        self.stages = nn.Sequential()
        channels = width
        for stage in range(3):
            for block in range((depth - 2) // 6):
                outputs = width * 2**stage
                self.stages.append(Block(channels, outputs, 2 if stage and not block else 1, norm))
                channels = outputs
        self.fc = nn.Linear(channels, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if norm == "fixup":
            self._start_as_identity()

    @torch.no_grad()
    def _start_as_identity(self) -> None:
        for block in self.stages:
            block.conv1.weight /= len(self.stages) ** 0.5
            nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(self.fc.weight)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        out = self.stages(F.relu(self.norm(self.conv(x))))
        return self.fc(out.mean((2, 3)))


def resnet18(shape: tuple[int, int, int], n_classes: int, norm: str = "bn") -> nn.Module:
    """Torchvision's ResNet-18 with the CIFAR stem: a 3×3 convolution of stride 1 and no max-pool."""
    from torchvision.models import resnet18 as torchvision_resnet18

    model = torchvision_resnet18(num_classes=n_classes, norm_layer=partial(normalisation, norm))
    model.conv1 = nn.Conv2d(shape[0], 64, 3, 1, 1, bias=norm == "none")
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model
