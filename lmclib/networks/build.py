"""Networks by name: what a name means, and how its initialisation is drawn."""

import re
from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch
from torch import nn

from lmclib.errors import LmcError
from lmclib.networks.gpt import GPT
from lmclib.networks.mlp import MLP
from lmclib.networks.mobilenet import mobilenet
from lmclib.networks.resnet import ResNet, resnet18
from lmclib.networks.vgg import VGG
from lmclib.networks.vit import vit

Factory = Callable[[tuple[int, ...], int], nn.Module]
ALLOWED = (
    "resnet8, resnet14, resnet20 (with -wN for the width, 16 unless given), resnet18, each with -bn (unless given), -gn, "
    "-ln or -none for the normalisation, or -fixup (not resnet18) for none and a start as the identity; mlp-N-N-… for hidden widths, with -relu (unless given), -gelu or -tanh; "
    "vgg11 (with -wN, 64 unless given; -bn, -gn, -ln or -none); mobilenet (with -wX by which all widths are multiplied, -lN for at most N blocks of a kind); vit and gpt (with -pN for the patch, "
    "-dN for the width, -lN for the depth, -hN for the heads, as in vit-p2-d32-l4 and gpt-d64-l4); or "
    "package.module:function, called as function(shape, n_classes)"
)
TRANSFORMER = r"(?:-d([1-9]\d*))?(?:-l([1-9]\d*))?(?:-h([1-9]\d*))?"  # width, depth and heads


def build_model(name: str, shape: tuple[int, ...], n_classes: int, seed: int = 0) -> nn.Module:
    r"""Build a network and draw its initialisation from `seed` alone.

    Args:
        name: `resnet20`, `resnet8-w8`, `resnet18-none`, `mlp-100-100-gelu`, `vit-p2-d32-l4`, …, or `package.module:function`.
        shape: channels, height and width of one image; of text the number of tokens.
        n_classes: the number of outputs.
        seed: seeds the initialisation; the global random state is left as it was.

    Returns:
        A module from (B, C, H, W) to (B, n_classes), or from tokens (B, T) to (B, T, n_classes).

    Raises:
        LmcError: an unknown name, or a factory that cannot be imported.

    Example:
        >>> sum(p.numel() for p in build_model("resnet20-w8", (1, 8, 8), 10).parameters())
        68642
    """
    try:
        return initialise(model_factory(name), shape, n_classes, seed)
    except LmcError as error:
        raise LmcError(str(error).replace("model:", f"model={name!r}:", 1)) from None


def initialise(factory: Factory, shape: tuple[int, ...], n_classes: int, seed: int) -> nn.Module:
    """A network from its factory, with the initialisation of a seed; the global random state is left as it was.

    Raises:
        LmcError: it cannot be built for such examples, as a perceptron of images for a text.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = factory(shape, n_classes)
        except (TypeError, ValueError, IndexError) as error:
            said = f"examples of shape {tuple(shape)} and {n_classes} classes ({error})"
            raise LmcError(f"model: cannot be built for {said}") from None
    if not isinstance(model, nn.Module):
        raise LmcError(f"model: the factory must return a torch.nn.Module, not {type(model).__name__}")
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
    if match := re.fullmatch(r"vgg11(?:-w([1-9]\d*))?(?:-(bn|gn|ln|none))?", name):
        return partial(VGG, width=int(match[1] or 64), norm=match[2] or "bn")
    if match := re.fullmatch(r"mobilenet(?:-w(\d+(?:\.\d+)?))?(?:-l([1-4]))?", name):
        return partial(mobilenet, width=float(match[1] or 1), repeats=int(match[2] or 4))
    if match := re.fullmatch(rf"vit(?:-p([1-9]\d*))?{TRANSFORMER}", name):
        patch, width, depth, heads = match.groups()
        return partial(vit, patch=int(patch or 4), **_transformer(width, depth, heads))
    if match := re.fullmatch(rf"gpt{TRANSFORMER}", name):
        return partial(GPT, **_transformer(*match.groups()))
    raise LmcError(f"model={name!r}: must be one of {ALLOWED}")


def _transformer(width: str | None, depth: str | None, heads: str | None) -> dict[str, int | None]:
    return {"width": int(width or 64), "depth": int(depth or 4), "heads": None if heads is None else int(heads)}


def _imported(name: str) -> Factory:
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise LmcError(f"model={name!r}: cannot import it ({error})") from None
