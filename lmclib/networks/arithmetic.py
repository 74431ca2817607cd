"""Operations of PyTorch that are fused, spelled out as plain arithmetic, which has every derivative."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lmclib.networks.recurrence import RECURRENT


class PlainArithmetic(TorchFunctionMode):
    r"""While this is entered, operations whose derivatives PyTorch lacks, or gets wrong, are computed from simple ones.

    Some fused operations have no second or forward derivative; some have wrong ones, without a word: in PyTorch 2.15 the second
    derivative of `weight_norm` by a double backward pass, and those of layer norm and of norms by a batch's own statistics in forward
    mode. Others have a gradient that is not the derivative: an embedding's is zero for the padding row, and batch norm's, in
    evaluation mode, does not exist in the running statistics. Modules and functions are caught alike, and the fused paths of attention
    in evaluation mode are not taken.

    Example:
        >>> rows, token = torch.ones(2, 1, requires_grad=True), torch.tensor([1])
        >>> for mode in (torch.no_grad, PlainArithmetic):  # row 1 is padding, but the loss depends on it
        ...     with mode(), torch.enable_grad():
        ...         torch.autograd.grad(F.embedding(token, rows, padding_idx=1).sum(), rows)[0].flatten().tolist()
        [0.0, 0.0]
        [0.0, 1.0]
    """

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        return PLAIN.get(func, func)(*args, **(kwargs or {}))


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    x = x if weight is None else x * weight.view(shape)
    return x if bias is None else x + bias.view(shape)


def _standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * (centred.square().mean(dims, keepdim=True) + eps).rsqrt()


def _channelwise(x: Tensor) -> tuple[int, ...]:
    return (1, -1, *[1] * (x.dim() - 2))


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    r"""$\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$ by the running statistics, or by the batch's own (`training`)."""
    shape = _channelwise(input)
    if training:
        return _affine(_standardised(input, (0, *range(2, input.dim())), eps), weight, bias, shape)
    # one scale and one shift a channel, as the input is far larger than the weights
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale
    return _affine(input, scale, shift if bias is None else shift + bias, shape)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch norm whose own statistics are each example's."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    return _affine(_standardised(input, tuple(range(2, input.dim())), eps), weight, bias, _channelwise(input))


def layer_norm(
    input: Tensor,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Each example's statistics over its last dimensions."""
    return _affine(_standardised(input, _last(normalized_shape), eps), weight, bias, tuple(normalized_shape))


def rms_norm(
    input: Tensor, normalized_shape: tuple[int, ...], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    r"""$\gamma x / \sqrt{\overline{x^2} + \epsilon}$ over the last dimensions."""
    square = input.square().mean(_last(normalized_shape), keepdim=True)
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _affine(input * (square + eps).rsqrt(), weight, None, tuple(normalized_shape))


def _last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(-len(shape), 0))


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    r"""$w = g v / \lVert v \rVert$, a norm for each slice along `dim`; one for all where it is -1."""
    others = [d for d in range(v.dim()) if dim == -1 or d != dim % v.dim()]
    return v * (g / v.square().sum(others, keepdim=dim != -1).sqrt())


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of `weight`; those longer than `max_norm` are shortened to it, without writing over them."""
    rows = torch.embedding(weight, input)  # whatever changes gradients only (padding, frequencies) is left out
    if max_norm is None:
        return rows
    norm = torch.linalg.vector_norm(rows, norm_type, -1, keepdim=True)
    return torch.where(norm > max_norm, rows * (max_norm / (norm + 1e-7)), rows)


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or maximum over each bag of rows, padding left out; zero for an empty bag."""
    rows = embedding(input, weight, max_norm=max_norm, norm_type=norm_type)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[..., None]
    counts = torch.ones_like(input, dtype=torch.bool) if padding_idx is None else input != padding_idx % len(weight)
    if offsets is None:
        bags = zip(rows, counts, strict=True)
    else:
        starts = offsets.tolist() if include_last_offset else [*offsets.tolist(), len(input)]
        bags = ((rows[i:j], counts[i:j]) for i, j in pairwise(starts))
    return torch.stack([_bag(rows[counted], mode) for rows, counted in bags])


def _bag(rows: Tensor, mode: str) -> Tensor:
    if len(rows) == 0 or mode == "sum":
        return rows.sum(0)
    return rows.mean(0) if mode == "mean" else rows.amax(0)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    r"""$a \, \sigma(b)$ for the two halves of the input."""
    a, b = input.chunk(2, dim)
    return a * torch.sigmoid(b)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """A line between 0 at -3 and 1 at 3."""
    return F.relu6(input + 3) / 6


def householder_product(input: Tensor, tau: Tensor) -> Tensor:
    r"""The first columns of $\prod_i (1 - \tau_i v_i v_i^\top)$, where $v_i$ is 0 above entry $i$ and 1 there."""
    vectors = input.tril(-1) + torch.eye(*input.shape[-2:], dtype=input.dtype, device=input.device)
    product = torch.eye(*input.shape[-2:], dtype=input.dtype, device=input.device)
    for i in reversed(range(input.shape[-1])):
        v = vectors[..., i, None]
        product = product - tau[..., i, None, None] * v @ (v.mT @ product)
    return product


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    r"""$e^2/2$ up to $|e| = \delta$, and from there on a line."""
    distance = (input - target).abs()
    loss = torch.where(distance <= delta, distance.square() / 2, delta * (distance - delta / 2))
    loss = loss if weight is None else loss * weight
    return loss if reduction == "none" else getattr(loss, reduction)()


def linear_cross_entropy(*args: Tensor, options: object = None, **kwargs: object) -> Tensor:
    """All at once: in chunks it has one derivative only."""
    return F.linear_cross_entropy(*args, **kwargs)


PLAIN: dict[Callable, Callable] = {
    F.batch_norm: batch_norm,
    F.instance_norm: instance_norm,
    F.layer_norm: layer_norm,
    F.rms_norm: rms_norm,
    torch._weight_norm: weight_norm,
    F.embedding: embedding,
    F.embedding_bag: embedding_bag,
    F.glu: glu,
    F.hardsigmoid: hardsigmoid,
    torch.linalg.householder_product: householder_product,
    F.huber_loss: huber_loss,
    **RECURRENT,
}
if hasattr(F, "linear_cross_entropy"):  # not in PyTorch 2.11
    PLAIN[F.linear_cross_entropy] = linear_cross_entropy
