"""Splits of a data set over clients, each with training examples of its own and a local test set of the same classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lmclib.data.dataset import Dataset, Split
from lmclib.errors import LmcError

SplitName = Literal["iid", "dirichlet", "shards", "same"]
SPLITS = get_args(SplitName)
DRAWS = 100  # of a Dirichlet split, until every client has data
TRAIN, TEST = 0, 1  # the last number of a source of randomness


@dataclass(frozen=True)
class Client:
    """What one client has: `train` and `test`, the indices of its examples in the two splits of the data set, sorted."""

    train: Tensor
    test: Tensor

    def __len__(self) -> int:
        return len(self.train)


def split_clients(
    data: Dataset, clients: int, split: str = "iid", beta: float = 0.5, shards: int = 2, seed: int = 0
) -> list[Client]:
    r"""Share the training split out over K clients, and draw a local test set for each.

    `iid`: a random permutation in K equal parts. `shards`: the examples sorted by label, cut into $Ks$ equal shards, of which each
    client is dealt $s$. `dirichlet`: each client draws a mix of classes $q_k \sim \mathrm{Dir}(\beta, \dots, \beta)$, and the
    examples of class $c$ are dealt out in proportion to $q_{kc} / \sum_j q_{jc}$, so that clients differ in size, too; the smaller
    $\beta$, the fewer classes a client has. In these three every example belongs to exactly one client. `same` is a control: every
    client has the examples of the first client of `iid`.

    A local test set has as many images as the test split allows in the proportions of the client's own training examples, rounded to
    whole images, and they are drawn without replacement. Two clients may have test images in common.

    Args:
        data: the data set.
        clients: how many clients, K.
        split: `iid`, `dirichlet`, `shards` or `same`.
        beta: the concentration of `dirichlet`; not used by others.
        shards: the shards of one client, s; not used by others.
        seed: draws everything.

    Raises:
        LmcError: more clients (or shards) than examples, a beta that is not above 0, a client without data after 100 draws, a class
            that the test split has not, a seed below 0.

    Source:
        McMahan et al. 2017 for `iid` and `shards`; Hsu, Qi and Brown 2019 for mixes of classes from a Dirichlet distribution.

    Example:
        >>> from lmclib.data.load import load_data
        >>> found = split_clients(load_data("digits"), clients=2, split="shards", shards=1)
        >>> [sorted(set(load_data("digits").train.y[client.train].tolist())) for client in found]
        [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8, 9]]
    """
    check_split(len(data.train), clients, split, beta, shards)
    if seed < 0:
        raise LmcError(f"seed={seed}: must be 0 or more")
    rng = np.random.default_rng((seed, TRAIN))
    labels, n_classes = data.train.y.cpu().numpy(), len(data.classes)
    if split == "dirichlet":
        owners = _dirichlet(rng, labels, n_classes, clients, beta)
    elif split == "shards":
        owners = _shards(rng, labels, clients, shards)
    else:
        owners = _iid(rng, len(labels), clients)
    parts = [torch.from_numpy(np.flatnonzero(owners == k)) for k in range(clients)]
    if split == "same":
        parts = [parts[0]] * clients
    return [Client(part, _local_test(data, part, (seed, k, TEST))) for k, part in enumerate(parts)]


def check_split(examples: int, clients: int, split: str, beta: float, shards: int) -> None:
    """Check what can be checked of a split before the data are there.

    Raises:
        LmcError: in one line, what is wrong and what is allowed.
    """
    if split not in SPLITS:
        raise LmcError(f"split={split!r}: must be one of {', '.join(map(repr, SPLITS))}")
    if clients < 1 or clients > examples:
        raise LmcError(f"clients={clients}: must be from 1 to the number of training examples, {examples}")
    if split == "dirichlet" and not (beta > 0 and math.isfinite(beta)):
        raise LmcError(f"beta={beta:g}: must be a finite number above 0")
    if split == "shards" and (shards < 1 or shards * clients > examples):
        most = examples // clients
        raise LmcError(f"shards={shards}: must be from 1 to {most}, as {clients} clients share {examples} examples")


def class_shares(labels: Tensor, clients: Sequence[Client], n_classes: int) -> np.ndarray:
    """The share of each class among each client's training examples, (K, C).

    Example:
        >>> class_shares(torch.tensor([0, 1, 1, 1]), [Client(torch.tensor([0, 1, 2, 3]), torch.tensor([0]))], 2).tolist()
        [[0.25, 0.75]]
    """
    counts = np.stack([_counts(labels, client.train, n_classes) for client in clients])
    return counts / counts.sum(1, keepdims=True)


def _iid(rng: np.random.Generator, n: int, clients: int) -> np.ndarray:
    owners = np.empty(n, dtype=int)
    for k, part in enumerate(np.array_split(rng.permutation(n), clients)):
        owners[part] = k
    return owners


def _shards(rng: np.random.Generator, labels: np.ndarray, clients: int, shards: int) -> np.ndarray:
    mixed = rng.permutation(len(labels))  # so that a shard does not depend on the order within a class
    ordered = mixed[np.argsort(labels[mixed], kind="stable")]
    # one shard each: in the order of labels, so that two clients are two halves of the classes
    dealt = np.repeat(np.arange(clients), shards)
    if shards > 1:
        dealt = rng.permutation(dealt)
    owners = np.empty(len(labels), dtype=int)
    for k, part in zip(dealt, np.array_split(ordered, clients * shards), strict=True):
        owners[part] = k
    return owners


def _dirichlet(rng: np.random.Generator, labels: np.ndarray, n_classes: int, clients: int, beta: float) -> np.ndarray:
    for _ in range(DRAWS):
        mixes = _log_mixes(rng, clients, n_classes, beta)
        owners = np.empty(len(labels), dtype=int)
        for c in range(n_classes):
            own = rng.permutation(np.flatnonzero(labels == c))
            order = rng.permutation(clients)  # so that rounding favours nobody
            shares = np.exp(mixes[order, c] - mixes[:, c].max())
            cuts = np.rint(np.cumsum(shares)[:-1] / shares.sum() * len(own)).astype(int)
            for k, part in zip(order, np.split(own, cuts), strict=True):
                owners[part] = k
        if len(np.unique(owners)) == clients:
            return owners
    raise LmcError(
        f"clients={clients}, beta={beta:g}: in each of {DRAWS} draws a client had no data; take fewer clients or another beta"
    )


def _log_mixes(rng: np.random.Generator, clients: int, n_classes: int, beta: float) -> np.ndarray:
    """Logarithms of K draws from a symmetric Dirichlet distribution, (K, C): for a small beta the numbers themselves would underflow."""
    # a gamma variable of shape β is one of shape β + 1 times U^(1/β)
    gammas = np.log(rng.gamma(beta + 1, size=(clients, n_classes)))
    logs = gammas + np.log1p(-rng.random((clients, n_classes))) / beta
    return logs - np.logaddexp.reduce(logs, axis=1, keepdims=True)


def _counts(labels: Tensor, part: Tensor, n_classes: int) -> np.ndarray:
    return np.bincount(labels.cpu()[part].numpy(), minlength=n_classes)


def _local_test(data: Dataset, part: Tensor, stream: tuple[int, ...]) -> Tensor:
    """Test images in the proportions of some training examples, as many as there are."""
    here = _counts(data.train.y, part, len(data.classes))
    there = _counts(data.test.y, torch.arange(len(data.test)), len(data.classes))
    if lacking := [name for name, n, m in zip(data.classes, here, there, strict=True) if n and not m]:
        raise LmcError(f"data={data.label!r}: the test split has no example of class {lacking[0]!r}")
    shares = here / here.sum()
    size = max(1, int(min(m / share for m, share in zip(there, shares, strict=True) if share) + 1e-9))
    wanted = _whole(shares * size)
    rng = np.random.default_rng(stream)
    chosen = [rng.choice(_of_class(data.test, c), n, replace=False) for c, n in enumerate(wanted) if n]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def _whole(parts: np.ndarray) -> np.ndarray:
    """Whole numbers of the same sum, each next to its part: the largest remainders are rounded up."""
    down = np.floor(parts + 1e-9).astype(int)
    up = np.argsort(down - parts, kind="stable")[: round(parts.sum()) - down.sum()]
    down[up] += 1
    return down


def _of_class(split: Split, label: int) -> np.ndarray:
    return np.flatnonzero(split.y.cpu().numpy() == label)
