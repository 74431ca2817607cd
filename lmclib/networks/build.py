"""Networks by name: what a name means, and how its initialisation is drawn."""

import re
from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch
from torch import nn

from lmclib.errors import LmcError
from lmclib.networks.mlp import MLP
from lmclib.networks.resnet import ResNet, resnet18

Factory = Callable[[tuple[int, int, int], int], nn.Module]
ALLOWED = (
    "resnet8, resnet14, resnet20 (with -wN for the width, 16 unless given), resnet18, each with -bn (unless given), -gn, "
    "-ln or -none for the normalisation, or -fixup (not resnet18) for none and a start as the identity; mlp-N-N-… for hidden widths, with -relu (unless given), -gelu or -tanh; or "
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
    try:
        return initialise(model_factory(name), shape, n_classes, seed)
    except TypeError as error:
        raise LmcError(
            f"model={name!r}: cannot be built for images {tuple(shape)} and {n_classes} classes ({error})"
        ) from None


def initialise(factory: Factory, shape: tuple[int, int, int], n_classes: int, seed: int) -> nn.Module:
    """A network from its factory, with the initialisation of a seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = factory(shape, n_classes)
    if not isinstance(model, nn.Module):
        raise TypeError(f"the factory must return a torch.nn.Module, not {type(model).__name__}")
    return model


def model_factory(name: str) -> Factory:
    """What builds the networks of a name, called as `factory(shape, n_classes)`; nothing is built yet.

    Raises:
        LmcError: an unknown name, or a factory that cannot be imported.

    Example:
        >>> model_factory("mlp-5-tanh").keywords
        {'widths': (5,), 'activation': 'tanh'}
    """
    if ":" in name:
        return _imported(name)
    if match := re.fullmatch(r"resnet(8|14|20)(?:-w([1-9]\d*))?(?:-(bn|gn|ln|none|fixup))?", name):
        depth, width, norm = match.groups()
        return partial(ResNet, depth=int(depth), width=int(width or 16), norm=norm or "bn")
    if match := re.fullmatch(r"resnet18(?:-(bn|gn|ln|none))?", name):
        return partial(resnet18, norm=match[1] or "bn")
    if match := re.fullmatch(r"mlp((?:-[1-9]\d*)+)(?:-(relu|gelu|tanh))?", name):
        return partial(MLP, widths=tuple(map(int, match[1][1:].split("-"))), activation=match[2] or "relu")
    raise LmcError(f"model={name!r}: must be one of {ALLOWED}")


def _imported(name: str) -> Factory:
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise LmcError(f"model={name!r}: cannot import it ({error})") from None
