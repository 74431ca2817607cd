"""The layers of a network: which parameters belong together, in the order of the forward pass."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lmclib.errors import LmcError


@dataclass(frozen=True)
class Layer:
    """A module that owns parameters, with its buffers: one axis of the layer cube.

    Attributes:
        name: the module's path; the root's own parameters are called `(root)`.
        parameters: the state-dict keys of its parameters.
        buffers: the state-dict keys of its floating-point buffers (a normalisation layer's running statistics).
        aliases: further state-dict keys of the same tensors, where they are shared (tied).
    """

    name: str
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    aliases: tuple[str, ...] = ()

    @property
    def tensors(self) -> tuple[str, ...]:
        """The state-dict keys of its tensors, each once."""
        return self.parameters + self.buffers

    @property
    def keys(self) -> tuple[str, ...]:
        """All state-dict keys that move with this layer."""
        return self.tensors + self.aliases


def find_layers(model: nn.Module, x: Tensor) -> tuple[Layer, ...]:
    """Find the layers of a network in the order in which a forward pass reaches them.

    A layer is a module that owns parameters: weight with its bias, a normalisation layer's buffers with its parameters
    (both papers' sense). A shared (tied) parameter belongs to the first module that the pass reaches and is counted
    once. A module that the pass never calls by itself comes right after its nearest ancestor that is called. Statistics
    of a normalisation without parameters belong to the layer before it, so that nothing of a network stays behind.

    Args:
        model: any module.
        x: a batch to send through it; two examples are enough.

    Raises:
        LmcError: the model has no parameters, or a module whose name clashes with `(root)`.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> [(layer.name, layer.parameters) for layer in find_layers(net, torch.zeros(2, 2))]
        [('0', ('0.weight', '0.bias')), ('2', ('2.weight', '2.bias'))]
    """
    names: dict[int, list[str]] = {}
    for named in (model.named_parameters, model.named_buffers):
        for key, tensor in named(remove_duplicate=False):
            names.setdefault(id(tensor), []).append(key)
    layers: list[Layer] = []
    loose = Layer("", (), ())  # statistics that no layer owns yet
    state, modules = set(model.state_dict()), dict(model.named_modules())
    for name in _forward_order(model, x):
        module, prefix = modules[name], f"{name}." if name else ""
        own = {prefix + key: names.pop(id(p), ()) for key, p in module.named_parameters(recurse=False)}
        kept = {
            prefix + key: names.pop(id(buffer), ())
            for key, buffer in module.named_buffers(recurse=False)
            if buffer.is_floating_point() and prefix + key in state
        }
        parameters, buffers = (tuple(key for key, all_names in part.items() if all_names) for part in (own, kept))
        aliases = tuple(
            other for key, all_names in (own | kept).items() for other in all_names if other != key and other in state
        )
        if parameters:
            layers.append(Layer(name or "(root)", parameters, loose.buffers + buffers, loose.aliases + aliases))
            loose = Layer("", (), ())
        elif layers:
            layers[-1] = _with_buffers(layers[-1], buffers, aliases)
        else:
            loose = _with_buffers(loose, buffers, aliases)
    if len({layer.name for layer in layers}) < len(layers):
        raise LmcError(
            "model: two layers are called '(root)', which is what the model's own parameters go by; rename one"
        )
    if not layers:
        raise LmcError(f"model: {type(model).__name__} has no parameters, so there is nothing to interpolate")
    return tuple(layers)


def _with_buffers(layer: Layer, buffers: tuple[str, ...], aliases: tuple[str, ...]) -> Layer:
    return replace(layer, buffers=layer.buffers + buffers, aliases=layer.aliases + aliases)


def _forward_order(model: nn.Module, x: Tensor) -> list[str]:
    """Every module's path, sorted by the first call of it or of its nearest called ancestor."""
    first: dict[str, int] = {}

    def note(name: str) -> None:
        first.setdefault(name, len(first))

    # a hook's return value would replace the input, and `note` returns None
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: note(name)) for name, module in model.named_modules()
    ]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(x)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()

    def called(name: str) -> int:
        while name and name not in first:
            name = name.rpartition(".")[0]
        return first[name]

    return sorted((name for name, _ in model.named_modules()), key=called)
