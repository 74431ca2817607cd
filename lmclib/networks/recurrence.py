"""Recurrent networks step by step: cuDNN's have no derivative in evaluation mode, and fused cells none in forward mode."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

State = tuple[Tensor, ...]  # (h,), or (h, c) of an LSTM, each (B, H)
Cell = Callable[..., State]  # an input (B, I), a state and the cell's weights to the next state


def elman_cell(
    activation: Callable[[Tensor], Tensor],
    x: Tensor,
    state: State,
    w_x: Tensor,
    w_h: Tensor,
    b_x: Tensor | None = None,
    b_h: Tensor | None = None,
) -> State:
    r"""$h' = \phi(W_x x + b_x + W_h h + b_h)$."""
    return (activation(F.linear(x, w_x, b_x) + F.linear(state[0], w_h, b_h)),)


def lstm_cell(
    x: Tensor,
    state: State,
    w_x: Tensor,
    w_h: Tensor,
    b_x: Tensor | None = None,
    b_h: Tensor | None = None,
    projection: Tensor | None = None,
) -> State:
    r"""$c' = \sigma(f) c + \sigma(i) \tanh(g)$ and $h' = \sigma(o) \tanh(c')$, times a projection if there is one."""
    h, c = state
    i, f, g, o = (F.linear(x, w_x, b_x) + F.linear(h, w_h, b_h)).chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return (h if projection is None else F.linear(h, projection)), c


def gru_cell(
    x: Tensor, state: State, w_x: Tensor, w_h: Tensor, b_x: Tensor | None = None, b_h: Tensor | None = None
) -> State:
    r"""$h' = (1 - \sigma(z)) \tanh(n_x + \sigma(r) n_h) + \sigma(z) h$."""
    (h,) = state
    (r_x, z_x, n_x), (r_h, z_h, n_h) = F.linear(x, w_x, b_x).chunk(3, 1), F.linear(h, w_h, b_h).chunk(3, 1)
    z = torch.sigmoid(z_x + z_h)
    return ((1 - z) * torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h) + z * h,)


def unrolled(cell: Cell, input: Tensor, *args: object) -> tuple[Tensor, ...]:
    """PyTorch's recurrent networks in evaluation mode from their cell: outputs, then the last states of all layers.

    Args:
        cell: one step.
        input: (T, B, I), or (B, T, I) if `batch_first`; or the rows of a packed sequence.
        args: as PyTorch's own functions take them: `hx`, weights, whether there are biases, the number of layers, dropout, whether
            in training, `bidirectional`, `batch_first`; of a packed sequence the rows a step before all these, and no `batch_first`.
    """
    if torch.is_tensor(args[0]) and not args[0].is_floating_point():
        rows, hx, weights, has_biases, n_layers, _, _, bidirectional = args
        steps, join, batch_first = input.split(rows.tolist()), torch.cat, False
    else:
        hx, weights, has_biases, n_layers, _, _, bidirectional, batch_first = args
        steps, join = (input.transpose(0, 1) if batch_first else input).unbind(), torch.stack
    states = list(zip(*([hx] if torch.is_tensor(hx) else hx), strict=True))  # one for each layer and direction
    each = len(weights) // len(states)
    own = [_with_biases(weights[k : k + each], has_biases) for k in range(0, len(weights), each)]
    directions, last = 1 + bidirectional, []
    for layer in range(n_layers):
        ways = []
        for way in range(directions):
            k = layer * directions + way
            outs, state = _scan(cell, steps[::-1] if way else steps, states[k], own[k])
            ways.append(outs[::-1] if way else outs)
            last.append(state)
        steps = [torch.cat(parts, 1) for parts in zip(*ways, strict=True)]
    out = join(steps)
    return (out.transpose(0, 1) if batch_first else out), *map(torch.stack, zip(*last, strict=True))


def _with_biases(weights: list[Tensor], has_biases: bool) -> list[Tensor | None]:
    return weights if has_biases else [*weights[:2], None, None, *weights[2:]]


def _scan(cell: Cell, steps: list[Tensor], state: State, weights: list) -> tuple[list[Tensor], State]:
    """The outputs of all steps and the last state; sequences that have ended, or not begun, keep theirs."""
    outs = []
    for x in steps:
        moved = cell(x, tuple(part[: len(x)] for part in state), *weights)
        outs.append(moved[0])
        state = tuple(torch.cat([new, old[len(x) :]]) for new, old in zip(moved, state, strict=True))
    return outs, state


def _single(cell: Cell, x: Tensor, hx: Tensor | State, *weights: Tensor) -> Tensor | State:
    """One step as PyTorch's cells take it: an LSTM's state is a pair, that of others a tensor."""
    return cell(x, (hx,), *weights)[0] if torch.is_tensor(hx) else cell(x, tuple(hx), *weights)


def pack(input: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """Sequences, the longest first, as rows step by step, and the number of rows of each step."""
    steps = input.transpose(0, 1) if batch_first else input
    rows = (lengths > torch.arange(int(lengths[0]))[:, None]).sum(1)
    return torch.cat([step[:n] for step, n in zip(steps, rows.tolist(), strict=False)]), rows


def unpack(
    data: Tensor, rows: Tensor, batch_first: bool, padding_value: float, total_length: int
) -> tuple[Tensor, Tensor]:
    """The inverse of `pack`, with padding up to a length or, where it is 0 or less, to the longest sequence; and all lengths."""
    steps = [
        torch.cat([part, part.new_full((int(rows[0]) - len(part), *part.shape[1:]), padding_value)])
        for part in data.split(rows.tolist())
    ]
    steps += [torch.full_like(steps[0], padding_value)] * (total_length - len(steps))
    lengths = (rows > torch.arange(int(rows[0]))[:, None]).sum(1)
    return torch.stack(steps, int(batch_first)), lengths


_CELLS = {
    "rnn_tanh": partial(elman_cell, torch.tanh),
    "rnn_relu": partial(elman_cell, torch.relu),
    "lstm": lstm_cell,
    "gru": gru_cell,
}
# PyTorch's functions, which the modules call, and what stands in for each
RECURRENT: dict[Callable, Callable] = {getattr(torch, name): partial(unrolled, cell) for name, cell in _CELLS.items()}
RECURRENT |= {getattr(torch, f"{name}_cell"): partial(_single, cell) for name, cell in _CELLS.items()}
RECURRENT |= {torch._pack_padded_sequence: pack, torch._pad_packed_sequence: unpack}
