"""Networks by name: CIFAR-style ResNets, torchvision's ResNet-18 with the CIFAR stem, MLPs, your own."""

import re
from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmclib.errors import LmcError

ALLOWED = (
    "resnet8, resnet14, resnet20 (with -wN for the width, 16 unless given), resnet18, each with -bn (unless given), -gn, "
    "-ln or -none for the normalisation; mlp-N-N-… for hidden widths, with -relu (unless given), -gelu or -tanh; or "
    "package.module:function, called as function(shape, n_classes)"
)


def build_model(name: str, shape: tuple[int, int, int], n_classes: int, seed: int = 0) -> nn.Module:
    r"""Build a network and draw its initialisation from `seed` alone.

    Args:
        name: `resnet20`, `resnet8-w8`, `resnet18-none`, `mlp-100-100-gelu`, …, or `package.module:function`.
        shape: channels, height and width of one image.
        n_classes: the number of outputs.
        seed: seeds the initialisation; the global random state is left as it was.

    Returns:
        A module from (B, C, H, W) to (B, n_classes).

    Raises:
        LmcError: an unknown name, or a factory that cannot be imported.

    Example:
        >>> sum(p.numel() for p in build_model("resnet20-w8", (1, 8, 8), 10).parameters())
        68642
    """
    factory = _factory(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = factory(shape, n_classes)
    if not isinstance(model, nn.Module):
        raise LmcError(f"model={name!r}: the factory must return a torch.nn.Module, not {type(model).__name__}")
    return model


def _factory(name: str) -> Callable[[tuple[int, int, int], int], nn.Module]:
    if ":" in name:
        return _imported(name)
    if match := re.fullmatch(r"resnet(8|14|20)(?:-w([1-9]\d*))?(?:-(bn|gn|ln|none))?", name):
        depth, width, norm = match.groups()
        return partial(ResNet, depth=int(depth), width=int(width or 16), norm=norm or "bn")
    if match := re.fullmatch(r"resnet18(?:-(bn|gn|ln|none))?", name):
        return partial(resnet18, norm=match[1] or "bn")
    if match := re.fullmatch(r"mlp((?:-[1-9]\d*)+)(?:-(relu|gelu|tanh))?", name):
        return partial(MLP, widths=tuple(map(int, match[1][1:].split("-"))), activation=match[2] or "relu")
    raise LmcError(f"model={name!r}: must be one of {ALLOWED}")


def _imported(name: str) -> Callable[[tuple[int, int, int], int], nn.Module]:
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise LmcError(f"model={name!r}: cannot import it ({error})") from None


def normalisation(kind: str, channels: int) -> nn.Module:
    """A normalisation layer: `bn` batch, `gn` group (of 8 channels at most), `ln` layer, `none` the identity."""
    if kind == "none":
        return nn.Identity()
    if kind == "bn":
        return nn.BatchNorm2d(channels)
    # layer norm over channels and pixels is group norm with one group
    return nn.GroupNorm(1 if kind == "ln" else max(1, channels // 8), channels)


class Block(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al. 2016); a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str):
        super().__init__()
        bias = norm == "none"
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
    r"""The CIFAR ResNet of depth $6n + 2$: three stages of $n$ blocks with $w$, $2w$ and $4w$ channels."""

    def __init__(self, shape: tuple[int, int, int], n_classes: int, depth: int, width: int, norm: str):
        super().__init__()
        self.conv = nn.Conv2d(shape[0], width, 3, 1, 1, bias=norm == "none")
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

    def forward(self, x: Tensor) -> Tensor:
        out = self.stages(F.relu(self.norm(self.conv(x))))
        return self.fc(out.mean((2, 3)))


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


def resnet18(shape: tuple[int, int, int], n_classes: int, norm: str = "bn") -> nn.Module:
    """Torchvision's ResNet-18 with the CIFAR stem: a 3×3 convolution of stride 1 and no max-pool."""
    from torchvision.models import resnet18 as torchvision_resnet18

    model = torchvision_resnet18(num_classes=n_classes, norm_layer=partial(normalisation, norm))
    model.conv1 = nn.Conv2d(shape[0], 64, 3, 1, 1, bias=norm == "none")
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model
