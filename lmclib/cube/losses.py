"""Losses by name, and the error: of classes, of every token of a text, or of numbers."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lmclib.errors import LmcError

IGNORED = -100  # a target that PyTorch's cross-entropy leaves out


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    r"""The mean of $-\log p(y)$ in nats, over a batch of classes, or over all tokens of a batch of texts.

    Args:
        outputs: scores (B, V); of texts (B, T, V); of images with a class a pixel (B, V, H, W).
        y: classes (B,), (B, T) or (B, H, W).

    Raises:
        LmcError: a class that the scores do not have; on a GPU it stops as PyTorch has it.

    Example:
        >>> round(cross_entropy(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)).item(), 4)  # log 4
        1.3863
    """
    if _are_tokens(outputs, y):
        outputs, y = outputs.flatten(0, 1), y.flatten()
    return _cross_entropy(outputs, y, "mean")


def _cross_entropy(outputs: Tensor, y: Tensor, reduction: str) -> Tensor:
    try:
        return F.cross_entropy(outputs, y, reduction=reduction)
    except IndexError:  # seen only where it goes wrong, as looking at every target would cost time
        raise LmcError(
            f"data: targets hold {int(y.max())}; the network tells {outputs.shape[1]} classes, so they go from 0 to "
            f"{outputs.shape[1] - 1}"
        ) from None


def check_mean(loss: Callable[[Tensor, Tensor], Tensor], value: Tensor) -> Tensor:
    """A loss's value, which must be the mean over the batch.

    Raises:
        LmcError: it is not a single number.

    Example:
        >>> check_mean(torch.nn.MSELoss(reduction="none"), torch.zeros(3, 1))
        Traceback (most recent call last):
        ...
        lmclib.errors.LmcError: loss=MSELoss(): gives a tensor of shape (3, 1); must give the mean over the batch, one number
    """
    if value.dim():
        raise LmcError(
            f"loss={getattr(loss, '__name__', loss)}: gives a tensor of shape {tuple(value.shape)}; must give the mean over the "
            "batch, one number"
        )
    return value


def n_wrong(outputs: Tensor, y: Tensor) -> Tensor:
    """The number of wrong classes in a batch; of a text the part of its tokens that is wrong; NaN where outputs are not such scores.

    Example:
        >>> n_wrong(torch.eye(3), torch.tensor([0, 1, 0])).item()
        1.0
    """
    if y.is_floating_point() or not (outputs.dim() == 2 or _are_tokens(outputs, y)):
        return torch.full((), float("nan"), dtype=torch.float64, device=outputs.device)
    return (
        (outputs.argmax(-1) != y).double().flatten(1).mean(1).sum()
        if y.dim() > 1
        else (outputs.argmax(1) != y).sum().double()
    )


def loss_sums(loss: Callable[[Tensor, Tensor], Tensor], outputs: Sequence[Tensor], y: Tensor) -> Tensor:
    """The sum of losses and the number of wrong classes over one batch, for the outputs of n networks on it: (2, n), on its device.

    Example:
        >>> loss_sums(cross_entropy, [torch.eye(2), torch.zeros(2, 2)], torch.tensor([0, 0])).round(decimals=4)
        tensor([[1.6265, 1.3863],
                [1.0000, 0.0000]], dtype=torch.float64)
    """
    if loss is cross_entropy and outputs[0].dim() == 2 and y.dim() == 1 and not y.is_floating_point():
        together = torch.stack([*outputs])  # one pass for a thousand small outputs
        each = _cross_entropy(together.flatten(0, 1), y.repeat(len(outputs)), "none")
        counted = len(y) / (y != IGNORED).sum()  # the mean is over these alone
        wrong = (together.argmax(2) != y).sum(1)
        return torch.stack([each.view(len(outputs), -1).double().sum(1) * counted, wrong.double()])
    means = [check_mean(loss, loss(out, y)).double() for out in outputs]
    wrong = [n_wrong(out, y) for out in outputs]
    return torch.stack([torch.stack(means) * len(y), torch.stack(wrong)])


def _are_tokens(outputs: Tensor, y: Tensor) -> bool:
    """Whether outputs are scores of a class at every place of a text, so that classes are the last dimension."""
    return outputs.dim() == 3 and y.dim() == 2 and outputs.shape[:2] == y.shape


LOSSES = {"cross_entropy": cross_entropy, "squared": F.mse_loss}
