"""The architecture of two checkpoints: by import path, by the name that torchvision or this book has for it, or from a Hugging Face folder."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lmclib.errors import LmcError, first_line
from lmclib.merging.checkpoints import Checkpoint
from lmclib.merging.named import Named, imported, named
from lmclib.networks.build import build_model, model_factory

CONFIG = "config.json"  # of a Hugging Face folder
ALLOWED = (
    "package.module:function, with arguments as in package.module:function(width=3); a name of torchvision, such as "
    "resnet18(num_classes=10); of this book, such as resnet20-w8 or gpt-d64-l4; or a Hugging Face folder"
)


def load_model(name: str | None, checkpoint: Checkpoint, shape: tuple[int, ...] | None = None) -> nn.Module:
    """Build the network that a checkpoint belongs to, in evaluation mode; its own weights are not used.

    Args:
        name: `package.module:function` with arguments in parentheses; a network of torchvision, whose `num_classes` is taken from the
            checkpoint where it is not given; one of this book as `build_model` takes it, with as many classes as the checkpoint has; a
            Hugging Face folder, for which the package `transformers` is needed; or None, where the checkpoint itself lies in such a folder.
        checkpoint: model 1.
        shape: of one example, which only networks of this book ask for.

    Raises:
        LmcError: an unknown name, a function that cannot be imported or makes no network, `transformers` missing.
    """
    if name is None:
        if not _is_hugging_face(checkpoint.path):
            raise LmcError(f"model: is needed, as {checkpoint.path} is no Hugging Face folder; must be {ALLOWED}")
        name = str(checkpoint.path)
    if Path(name).is_dir():
        return _hugging_face(Path(name))
    if is_of_the_book(name):
        return _of_the_book(name, checkpoint, shape).eval()
    asked = named("model", name)
    model = _from_import(name, asked) if ":" in asked.name else _torchvision(name, asked, checkpoint)
    if not isinstance(model, nn.Module):
        raise LmcError(f"model={name!r}: gives a {type(model).__name__}; must give a torch.nn.Module")
    return model.eval()


def is_of_the_book(name: object) -> bool:
    """Whether a network of this book has that name, and none of torchvision.

    Example:
        >>> is_of_the_book("resnet20-w8"), is_of_the_book("resnet18"), is_of_the_book("resnet18-bn")
        (True, False, True)
    """
    if not isinstance(name, str) or ":" in name:
        return False
    try:
        model_factory(name)
    except LmcError:
        return False
    from torchvision import models

    return name not in models.list_models()


def _of_the_book(name: str, checkpoint: Checkpoint, shape: tuple[int, ...]) -> nn.Module:
    with torch.device("meta"):
        last = list(build_model(name, shape, 2).state_dict())[-1]
    if not checkpoint.shapes.get(last):
        raise LmcError(f"model={name!r}: {checkpoint.path} has no {last}; must be a checkpoint of that network")
    return build_model(name, shape, checkpoint.shapes[last][0])


def _from_import(name: str, asked: Named) -> object:
    factory = imported("model", asked.name)
    try:
        return factory(**asked.arguments)
    except Exception as error:  # whatever the reader's own code says
        raise LmcError(f"model={name!r}: cannot be built ({type(error).__name__}: {error})") from None


def _torchvision(name: str, asked: Named, checkpoint: Checkpoint) -> nn.Module:
    from torchvision import models

    if asked.name not in models.list_models():
        raise LmcError(f"model={name!r}: is no name of torchvision or of this book; must be {ALLOWED}")
    given = {"weights": None, **asked.arguments}
    if "num_classes" not in given and (classes := _n_classes(asked.name, checkpoint)):
        given["num_classes"] = classes
    try:
        return models.get_model(asked.name, **given)
    except (TypeError, ValueError) as error:
        raise LmcError(f"model={name!r}: cannot be built ({error})") from None


def _n_classes(name: str, checkpoint: Checkpoint) -> int | None:
    """As many classes as the checkpoint has entries where the network has its last ones."""
    from torchvision import models

    with torch.device("meta"):
        last = list(models.get_model(name, weights=None).state_dict())[-1]
    return checkpoint.shapes.get(last, (None,))[0]


def _is_hugging_face(folder: Path) -> bool:
    return folder.is_dir() and (folder / CONFIG).is_file()


def _hugging_face(folder: Path) -> nn.Module:
    if not _is_hugging_face(folder):
        raise LmcError(f"model={str(folder)!r}: holds no {CONFIG}; must be {ALLOWED}")
    try:
        import transformers
    except ImportError:
        raise LmcError(f"model={str(folder)!r}: needs the package transformers, which is not installed") from None
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        kind = getattr(transformers, config.architectures[0])
        # attention spelled out has every derivative; a cache of past tokens is of no use here
        config.use_cache = False
        model = kind._from_config(config, attn_implementation="eager")
    except Exception as error:  # whatever transformers says of a folder that it cannot take
        raise LmcError(f"model={str(folder)!r}: transformers cannot build it ({first_line(error)})") from None
    return _scores_only(model.float().eval())


def _scores_only(model: nn.Module) -> nn.Module:
    """The same network, with the same keys, whose output is its scores alone."""
    kind = type(model)

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        given = {self.main_input_name: x}
        return kind.forward(self, **given).logits

    model.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    return model


def architecture(model: nn.Module) -> str | None:
    """The architecture of a Hugging Face network, by the name in its configuration; None for all other networks."""
    names = getattr(getattr(model, "config", None), "architectures", None)
    return names[0] if names else None


def tied_keys(model: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """For every state-dict key the others of the same tensor.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
        >>> net[1].weight = net[0].weight
        >>> tied_keys(net)["1.weight"]
        ('0.weight',)
    """
    alike: dict[int, list[str]] = {}
    for tensors in (model.named_parameters, model.named_buffers):
        for key, value in tensors(remove_duplicate=False):
            alike.setdefault(id(value), []).append(key)
    return {key: tuple(other for other in keys if other != key) for keys in alike.values() for key in keys}
