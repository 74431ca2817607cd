"""Federated runs: clients that train on data of their own, and average some of their layers after every round."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property

import pandas as pd
import torch
from pydantic import Field, field_validator
from torch import nn

from lmclib.checked import Checked
from lmclib.code.fingerprint import code_fingerprint
from lmclib.data.clients import Client, SplitName, check_split, split_clients
from lmclib.data.dataset import Dataset
from lmclib.data.load import load_data
from lmclib.device import default_device, full_precision, one_thread
from lmclib.errors import LmcError
from lmclib.networks.build import initialise, model_factory
from lmclib.networks.layers import find_layers
from lmclib.runs.local_training import LocalTraining, bytes_of
from lmclib.store.dry_run import current_dry_run
from lmclib.store.roots import Code
from lmclib.store.store import Store
from lmclib.store.tables import Question

BY_POSITION = {"all": slice(None), "none": slice(0), "body": slice(-1), "head": slice(-1, None)}  # of all layers
RANKED = re.compile(r"(top|bottom):(\d+)")
ALLOWED = (
    f"{', '.join(BY_POSITION)}, top:N or bottom:N (by layer barrier), or names of layers, in a list or joined by +"
)


class FederatedSpec(Checked):
    r"""Federated learning: K clients start from one initialisation; in each round every client trains for `local_epochs`
    on its own examples, and then some layers are averaged, $\theta_k \leftarrow \sum_j \frac{n_j}{n} \theta_j$, and given to all.

    Args:
        model: a name that `build_model` knows.
        data: a name that `load_data` knows.
        clients: K.
        split: how the training split is shared out, as in `split_clients`: `iid`, `dirichlet`, `shards`, or `same`, a control.
        beta: the concentration of `dirichlet`.
        shards: the shards of one client, of `shards`.
        rounds: how often is averaged.
        local_epochs: epochs of local training in a round.
        lr: the learning rate, constant.
        momentum: of local SGD.
        batch_size: of local SGD.
        weight_decay: of local SGD.
        augment: whether training images are shifted and flipped as the data set says.
        keep_momentum: whether a client goes on with its momentum after a round, or starts it anew at zero.
        averaged: which layers are averaged: `all` (federated averaging), `none`, `body` (all but the last), `head` (the last),
            `top:N` or `bottom:N` (those with the highest or lowest layer barrier), or names of layers, in a list or joined by `+`.
        seed: of the initialisation, the split and the data orders.

    Source:
        McMahan et al. 2017, algorithm 1, with all clients in every round.
    """

    model: str = "mlp-64-64"
    data: str = "digits"
    clients: int = Field(20, ge=1)
    split: SplitName = "iid"
    beta: float = 0.5
    shards: int = 2
    rounds: int = Field(10, ge=1)
    local_epochs: int = Field(2, ge=1)
    lr: float = Field(0.05, gt=0, allow_inf_nan=False)
    momentum: float = Field(0.9, ge=0, lt=1)
    batch_size: int = Field(16, ge=1)
    weight_decay: float = Field(1e-4, ge=0, allow_inf_nan=False)
    augment: bool = True
    keep_momentum: bool = False
    averaged: str | tuple[str, ...] = "all"
    seed: int = Field(0, ge=0)

    @field_validator("averaged")
    @classmethod
    def _one_spelling(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(value, str) and not (value in BY_POSITION or RANKED.fullmatch(value)):
            return tuple(name.strip() for name in value.split("+"))
        return value

    @property
    def averaged_label(self) -> str:
        """The averaged layers in a word: names are joined by `+`."""
        return self.averaged if isinstance(self.averaged, str) else " + ".join(self.averaged)

    @property
    def split_label(self) -> str:
        """The split in words.

        Example:
            >>> FederatedSpec(split="dirichlet", beta=0.01).split_label
            'Dirichlet 0.01'
        """
        named = {"iid": "i.i.d.", "same": "the same data"}
        own = {
            "dirichlet": f"Dirichlet {self.beta:g}",
            "shards": f"{self.shards} shards each" if self.shards > 1 else "own classes",
        }
        return {**named, **own}[self.split]


class Federation:
    """The clients of a federated run: what each has, and what is remembered of them.

    Nothing is loaded, built or trained before it is needed; what can be checked without is checked at once.

    Args:
        spec: the run.
        store: where its tables are remembered.

    Attributes:
        card: what is known of the data set before it is loaded.

    Raises:
        LmcError: a model, data set or split that cannot be, or layers that the model has not.
    """

    def __init__(self, spec: FederatedSpec, store: Store):
        self.spec, self.store = spec, store
        self.factory = model_factory(spec.model)
        self.card = store.data_card(spec.data)
        check_split(self.card.n_train, spec.clients, spec.split, spec.beta, spec.shards)
        if current_dry_run() is None:  # looking things up needs no network
            choose_layers(spec.averaged, self.layers, lambda: self.layers)
        if spec.clients < 2 and isinstance(spec.averaged, str) and RANKED.fullmatch(spec.averaged):
            raise LmcError(
                f"clients=1: must be at least 2 for averaged={spec.averaged!r}, as barriers are between the first two"
            )

    @cached_property
    def model(self) -> nn.Module:
        """The architecture, with the initialisation of all clients."""
        return initialise(self.factory, self.card.shape, len(self.card.classes), self.spec.seed)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, in forward order."""
        if ":" in self.spec.model:  # a reader's own, which may change under its name
            return _layer_names(self.model, self.card.shape)
        return _layers_by_name(self.spec.model, self.card.shape, len(self.card.classes))

    @cached_property
    def data(self) -> Dataset:
        """The data set, loaded when first needed."""
        return load_data(self.spec.data)

    @cached_property
    def clients(self) -> list[Client]:
        """What each client has."""
        spec = self.spec
        return split_clients(self.data, spec.clients, spec.split, spec.beta, spec.shards, spec.seed)

    @cached_property
    def description(self) -> dict[str, object]:
        """What decides what the clients do between two averages, in plain values."""
        spec = self.spec
        by = {"by": code_fingerprint(self.factory)} if ":" in spec.model else {}
        shared_out = {"dirichlet": {"beta": spec.beta}, "shards": {"shards": spec.shards}}.get(spec.split, {})
        given = ("model", "clients", "split", "lr", "momentum", "batch_size", "weight_decay", "augment", "seed")
        return {**{name: getattr(spec, name) for name in given}, **by, **shared_out, "data": self.card.content}

    @cached_property
    def code(self) -> Code:
        """The code that builds the network."""
        model = self.spec.model
        return Code((self.factory, initialise)) if ":" in model else _code_of_model(model)

    @property
    def labels(self) -> dict[str, object]:
        """The columns that tell this run from others."""
        spec = self.spec
        return {
            "case": spec.split_label,
            "split_over_clients": spec.split,
            "beta": spec.beta if spec.split == "dirichlet" else float("nan"),
            "averaged": spec.averaged_label,
            "seed": spec.seed,
        }

    def start(self) -> LocalTraining:
        """The clients before the first round."""
        spec = self.spec
        own = {
            name: getattr(spec, name) for name in ("lr", "momentum", "weight_decay", "batch_size", "augment", "seed")
        }
        return LocalTraining(self.model, self.data, self.clients, **own, device=default_device())

    def table(self, measure: Callable[..., pd.DataFrame], **options: object) -> pd.DataFrame:
        """What a measurement finds that starts with these clients untrained: looked up, or computed and remembered.

        Args:
            measure: a function of `LocalTraining`, which it may train, and of options.
            **options: plain values.
        """
        return self._remembered(measure, options, (), lambda: measure(self.start(), **options))

    def rounds(self, rank: Callable[..., pd.DataFrame]) -> pd.DataFrame:
        """`federated_rounds` of these clients, with `layers`, the names of the averaged layers joined by commas.

        Args:
            rank: measures what `top:N` and `bottom:N` choose by, as `first_barriers` does; asked only where it matters.
        """
        spec = self.spec
        how = {"rounds": spec.rounds, "local_epochs": spec.local_epochs, "keep_momentum": spec.keep_momentum}

        def compute() -> pd.DataFrame:
            chosen = choose_layers(spec.averaged, self.layers, lambda: self.by_barrier(rank))
            return federated_rounds(self.start(), chosen, **how).assign(layers=", ".join(chosen))

        ranked = isinstance(spec.averaged, str) and RANKED.fullmatch(spec.averaged)
        asked = {"averaged": spec.averaged, **how}  # as given, so that looking it up needs no network
        return self._remembered(federated_rounds, asked, (choose_layers, *((rank,) if ranked else ())), compute)

    def by_barrier(self, rank: Callable[..., pd.DataFrame]) -> list[str]:
        """The names of the layers, the one with the highest barrier first; of equal ones the one nearer to the input."""
        table = self.table(rank, local_epochs=self.spec.local_epochs)
        return table.sort_values("loss_barrier", ascending=False, kind="stable").layer.tolist()

    def _remembered(
        self,
        measure: Callable[..., pd.DataFrame],
        options: Mapping[str, object],
        also: tuple[Callable, ...],
        compute: Callable[[], pd.DataFrame],
    ) -> pd.DataFrame:
        summary = {"model": self.spec.model, "data": self.card.label, "seed": self.spec.seed}
        code = Code((), (_code_of(measure, *also), _code_of(split_clients, LocalTraining), self.code))
        question = replace(Question.of(measure, options, self.description, networks=[summary]), code=code)

        def computed() -> pd.DataFrame:
            with one_thread(), full_precision():
                return compute()

        return self.store.table(question, computed)


def federated_rounds(
    training: LocalTraining, averaged: Sequence[str], rounds: int, local_epochs: int, keep_momentum: bool
) -> pd.DataFrame:
    """Rounds of local training, each followed by the average of some layers.

    After one more local epoch means: after the first epoch of the next round, which begins with what was averaged.

    Args:
        training: the clients before the first round; they are trained.
        averaged: the names of the layers that are averaged.
        rounds: how many rounds.
        local_epochs: epochs of local training in each.
        keep_momentum: whether momentum goes on from round to round.

    Returns:
        A row a round: `round`; `loss` (nats) and `accuracy` of the averaged network on the whole test split, NaN unless all layers
        are averaged; `local_accuracy` and `worst_local_accuracy`, mean and least over clients of the accuracy on the local test set
        right after averaging; `tuned_accuracy` and `worst_tuned_accuracy`, the same after one more local epoch; `own_error`, the
        mean over clients of the error on their own training examples then; `bytes` sent in the round, to and from all clients.
    """
    every = {layer.name for layer in training.layers} <= set(averaged)
    sent = 2 * len(training.clients) * bytes_of(training.layers, averaged, training.states[0])
    rows: list[dict[str, float]] = []
    for number in range(1, rounds + 1):
        for epoch in range(local_epochs):
            training.train_epoch()
            if rows and epoch == 0:
                rows[-1] |= _tuned(training)
        training.average(averaged)
        if not keep_momentum:
            training.forget_momentum()
        loss, accuracy = training.global_test() if every else (float("nan"), float("nan"))
        local = training.local_accuracies()
        rows.append(
            {
                "round": number,
                "loss": loss,
                "accuracy": accuracy,
                "local_accuracy": float(local.mean()),
                "worst_local_accuracy": float(local.min()),
                "bytes": sent,
            }
        )
    training.train_epoch()
    rows[-1] |= _tuned(training)
    return pd.DataFrame(rows)


def choose_layers(
    averaged: str | Sequence[str], layers: Sequence[str], by_barrier: Callable[[], Sequence[str]]
) -> tuple[str, ...]:
    """The names of the layers that are averaged, in forward order.

    Args:
        averaged: as in `FederatedSpec`.
        layers: the names of all layers, in forward order.
        by_barrier: gives all names, the one with the highest layer barrier first; asked only where it matters.

    Raises:
        LmcError: an unknown set or layer, or more layers than there are.

    Example:
        >>> choose_layers("body", ["stem", "block", "fc"], list), choose_layers("bottom:1", ["a", "b"], lambda: ["b", "a"])
        (('stem', 'block'), ('a',))
    """
    if isinstance(averaged, str) and averaged in BY_POSITION:
        return tuple(layers[BY_POSITION[averaged]])
    if isinstance(averaged, str) and (match := RANKED.fullmatch(averaged)):
        end, n = match[1], int(match[2])
        if not 1 <= n <= len(layers):
            raise LmcError(f"averaged={averaged!r}: must name from 1 to {len(layers)} layers")
        ordered = list(by_barrier())
        chosen = ordered[:n] if end == "top" else ordered[-n:]
        return tuple(name for name in layers if name in chosen)
    chosen = (averaged,) if isinstance(averaged, str) else tuple(averaged)
    for name in chosen:
        if name not in layers:
            raise LmcError(f"averaged={name!r}: {_nearest(name, layers)}must be {ALLOWED}")
    return tuple(name for name in layers if name in chosen)


@cache  # one for many runs, as a fingerprint of code takes a while
def _code_of(*roots: Callable) -> Code:
    return Code(roots)


@cache
def _code_of_model(model: str) -> Code:
    return Code((model_factory(model), initialise))


@cache
def _layers_by_name(model: str, shape: tuple[int, int, int], n_classes: int) -> tuple[str, ...]:
    return _layer_names(initialise(model_factory(model), shape, n_classes, 0), shape)


def _layer_names(model: nn.Module, shape: tuple[int, int, int]) -> tuple[str, ...]:
    return tuple(layer.name for layer in find_layers(model, torch.zeros(2, *shape)))


def _nearest(name: str, layers: Sequence[str]) -> str:
    """What may have been meant, else what the layers are called."""
    near = difflib.get_close_matches(name, [*layers, *BY_POSITION], 1, 0.5)
    said = f"did you mean {near[0]!r}?" if near else f"the layers are {', '.join(layers)};"
    return f"no such layer; {said} "


def _tuned(training: LocalTraining) -> dict[str, float]:
    """What one more local epoch has made of the clients."""
    local, own = training.local_accuracies(), training.own_errors()
    return {
        "tuned_accuracy": float(local.mean()),
        "worst_tuned_accuracy": float(local.min()),
        "own_error": float(own.mean()),
    }
