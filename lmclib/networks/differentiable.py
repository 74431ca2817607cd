"""A network as a function of its state dict, differentiable in weights and running statistics alike."""

import copy
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from lmclib.errors import LmcError
from lmclib.networks.arithmetic import PlainArithmetic

WITHOUT_DERIVATIVE = re.compile(r"derivative|differentia|autograd|backward|jvp|forward AD|forward grad|require grad")


class Functional:
    r"""The map $(\theta, x) \mapsto f_\theta(x)$ of a network in evaluation mode, with every derivative that its activations have.

    Args:
        model: any module that takes one tensor; its own weights are not used.

    Example:
        >>> f = Functional(nn.Linear(1, 1, bias=False))
        >>> f({"weight": torch.tensor([[2.0]])}, torch.tensor([[3.0]]))
        tensor([[6.]])
    """

    def __init__(self, model: nn.Module):
        self.net = copy.deepcopy(model).eval()
        for module in self.net.modules():
            if isinstance(module, nn.TransformerEncoder):
                module.forward = _PaddedEncoder(module)

    def __call__(self, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Map inputs (B, ...) to outputs; of tied parameters `state` holds one."""
        with sdpa_kernel(SDPBackend.MATH), PlainArithmetic():
            return functional_call(self.net, dict(state), (x,))


class _PaddedEncoder:
    """A Transformer's encoder as it is without gradients, where PyTorch sets padding to zero before the last norm."""

    def __init__(self, encoder: nn.TransformerEncoder):
        self.encoder, self.plain = encoder, encoder.forward

    def __call__(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        nested = torch.backends.mha.get_fastpath_enabled() and self.encoder.use_nested_tensor
        if not nested or src.dim() != 3 or mask is not None or src_key_padding_mask is None:
            return self.plain(src, mask, src_key_padding_mask, is_causal)
        padding, norm = src_key_padding_mask.bool(), self.encoder.norm
        if self.encoder.mask_check and bool((padding[:, :-1] & ~padding[:, 1:]).any()):  # not at the end
            return self.plain(src, mask, src_key_padding_mask, is_causal)
        self.encoder.norm = None
        try:
            out = self.plain(src, mask, src_key_padding_mask, is_causal).masked_fill(padding[..., None], 0)
        finally:
            self.encoder.norm = norm
        return out if norm is None else norm(out)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, of networks too that keep a tensor from their last pass, as old weight and spectral norms keep the weight."""
    kept = [value for module in model.modules() for value in vars(module).values() if torch.is_tensor(value)]
    return copy.deepcopy(model, {id(value): value.detach() for value in kept if not value.is_leaf})


@contextmanager
def differentiating() -> Iterator[None]:
    """While derivatives are taken: one that PyTorch lacks is an `LmcError` of one line.

    Example:
        >>> x = torch.ones(2, 2, requires_grad=True)
        >>> with differentiating():
        ...     torch.geqrf(x)[0].sum().backward()
        Traceback (most recent call last):
        lmclib.errors.LmcError: model, loss: PyTorch lacks a derivative (the derivative for 'geqrf' is not implemented); values can be computed all the same
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        said = str(error).strip().partition("\n")[0]
        if not WITHOUT_DERIVATIVE.search(said):
            raise
        raise LmcError(_lacking(said)) from None


def check_differentiable(slopes: Sequence[Tensor]) -> None:
    """Refuse first derivatives through a function that has one derivative only.

    PyTorch cuts the graph there, so that a second backward pass never comes to the error that is left in it, and gives zero.

    Raises:
        LmcError: such a function is on the way.
    """
    todo = [slope.grad_fn for slope in slopes if slope.grad_fn is not None]
    seen = set(todo)
    while todo:
        node = todo.pop()
        if node.name() == "torch::autograd::Error":
            raise LmcError(_lacking("a function has one derivative only, as one marked with @once_differentiable has"))
        below = {other for other, _ in node.next_functions if other is not None} - seen
        seen |= below
        todo += below


def _lacking(said: str) -> str:
    return f"model, loss: PyTorch lacks a derivative ({said.removesuffix('.')}); values can be computed all the same"


def jet(f: Callable[[Tensor], Tensor], t: Tensor, order: int) -> tuple[Tensor, ...]:
    r"""The value and the first `order` derivatives of a function of one number, $(f, f', \dots, f^{(k)})(t)$.

    Forward mode nested in itself; it costs $2^k$ evaluations of $f$.

    Raises:
        LmcError: PyTorch lacks one of them.

    Example:
        >>> [d.item() for d in jet(lambda t: t**3, torch.tensor(2.0), 3)]
        [8.0, 12.0, 12.0, 6.0]
    """
    _load_rules()
    with differentiating(), PlainArithmetic():
        return _jet(f, t, order)


def _jet(f: Callable[[Tensor], Tensor], t: Tensor, order: int) -> tuple[Tensor, ...]:
    if order == 0:
        return (f(t),)
    values, slopes = jvp(lambda s: _jet(f, s, order - 1), (t,), (torch.ones_like(t),))
    return (*values, slopes[-1])


@cache
def _load_rules() -> None:
    """PyTorch loads its rules for forward mode on first use, with a warning about its own future that is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import_module("torch._decomp.decompositions_for_jvp")
