"""Partial averaging: layer barriers between clients, which of the layers are averaged for them, and what that does to the clients."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from lmclib.cube.points import LayerCube
from lmclib.data.clients import class_shares
from lmclib.errors import LmcError
from lmclib.measures.layerwise import layer_barriers, layer_table
from lmclib.root import RUNS
from lmclib.runs.federated import FederatedSpec, Federation
from lmclib.runs.local_training import LocalTraining
from lmclib.store.dry_run import NotRun, current_dry_run
from lmclib.store.store import Store
from lmclib.training.loop import Diverged

CLIENT_SPLITS = ("train", "test")


def federated_accuracy(
    specs: Iterable[FederatedSpec], store: Store | str | Path | None = None, progress: bool = True
) -> pd.DataFrame:
    """What averaging some layers after every round does to clients: the rounds of several runs in one table.

    Where the averaged layers are chosen by barrier, that is the barrier at α = ½ between the first two clients after their first
    round of local training, on the whole training split, the mean of both directions: see `first_barriers`.

    Args:
        specs: the runs.
        store: where they are remembered, `data/runs` by default.
        progress: whether to show a progress bar.

    Returns:
        The rows of `federated_rounds` with `layers`, the names of the averaged layers joined by commas, and `case` (the split in
        words), `split_over_clients`, `beta`, `averaged`, `seed`.

    Raises:
        LmcError: a spec that cannot be run, said before any compute; no specs.
    """
    return _of_each(specs, store, "federated runs", progress, lambda own: own.rounds(first_barriers))


def unaveraged_layers(
    specs: Iterable[FederatedSpec],
    epochs: Sequence[int],
    store: Store | str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Layer barriers between the first two clients of runs that never average, over epochs of local training.

    Args:
        specs: the runs; what they say of rounds and of averaging is not used.
        epochs: when to measure.
        store: as in `federated_accuracy`, like the next.
        progress: whether to show a progress bar.

    Returns:
        The rows of `client_layers` with the columns that tell runs apart, as in `federated_accuracy` but for `averaged`.
    """
    wanted = {"epochs": sorted(set(epochs))}
    table = _of_each(
        specs, store, "clients that never average", progress, lambda own: own.table(client_layers, **wanted)
    )
    return table.drop(columns="averaged")


def barriers_after_first_round(specs: Iterable[FederatedSpec], store: Store | str | Path | None = None) -> pd.DataFrame:
    """What `top:N` and `bottom:N` choose by: `first_barriers` of several runs, with the columns that tell them apart but for `averaged`."""

    def asked(federation: Federation) -> pd.DataFrame:
        return federation.table(first_barriers, local_epochs=federation.spec.local_epochs)

    return _of_each(specs, store, "first rounds", False, asked).drop(columns="averaged")


def split_table(specs: Iterable[FederatedSpec], store: Store | str | Path | None = None) -> pd.DataFrame:
    """How the training split is shared out: a row a client and class, with the columns that tell runs apart.

    Returns:
        `client`, `class`, `share` (of the client's examples), `examples` (of the client, all classes), `test_examples`, `case`, `seed`.
    """
    return _of_each(specs, store, "splits", False, lambda own: own.table(client_classes)).drop(columns="averaged")


def client_classes(training: LocalTraining) -> pd.DataFrame:
    """The classes of every client: `client`, `class`, `share`, `examples`, `test_examples`, a row a client and class."""
    data, clients = training.data, training.clients
    shares = class_shares(data.train.y, clients, len(data.classes))
    return pd.DataFrame(
        {"client": k, "class": name, "share": share, "examples": len(client), "test_examples": len(client.test)}
        for k, client in enumerate(clients)
        for name, share in zip(data.classes, shares[k], strict=True)
    )


def client_layers(training: LocalTraining, epochs: Sequence[int]) -> pd.DataFrame:
    """`layer_table` between the first two clients after some epochs of training without averaging, on both whole splits.

    Args:
        training: the clients before they are trained; they are trained.
        epochs: when to measure, ascending.

    Returns:
        Its rows with `epoch`, `split` (`train` or `test`) and `own_error`, the mean over clients of the error on their own training
        examples then.
    """
    parts = []
    for epoch in epochs:
        while training.epoch < epoch:
            training.train_epoch()
        own = float(training.own_errors().mean())
        for split in CLIENT_SPLITS:
            table = layer_table(_cube(training, split))
            parts.append(table.assign(epoch=epoch, split=split, own_error=own))
    return pd.concat(parts, ignore_index=True)


def first_barriers(training: LocalTraining, local_epochs: int) -> pd.DataFrame:
    """Layer barriers between the first two clients after their first round of local training, on the whole training split.

    Args:
        training: the clients before the first round; they are trained.
        local_epochs: of that round.

    Returns:
        `layer`, `loss_barrier` (nats; α = ½, the mean of both directions, against the two models), in forward order.
    """
    for _ in range(local_epochs):
        training.train_epoch()
    table = layer_barriers(_cube(training, "train"))
    return table.loc[table["into"] == "both", ["layer", "loss_barrier"]].reset_index(drop=True)


def _cube(training: LocalTraining, split: str) -> LayerCube:
    if len(training.states) < 2:
        raise LmcError("clients=1: must be at least 2, as barriers are between the first two")
    one, two, *_ = training.states
    return LayerCube(training.nets[0], one, two, training.data.pair(split, training.dtype))


def _of_each(
    specs: Iterable[FederatedSpec],
    store: Store | str | Path | None,
    what: str,
    progress: bool,
    ask: Callable[[Federation], pd.DataFrame],
) -> pd.DataFrame:
    """The tables of several runs with the columns that tell these apart; all runs are checked before the first is asked.

    A run of which a client diverged is left out, with a warning.
    """
    store = store if isinstance(store, Store) else Store(store or RUNS)
    federations = [Federation(spec, store) for spec in specs]
    if not federations:
        raise LmcError("specs: must hold at least one run")
    parts, dead, missing = [], [], None
    for one in tqdm(federations, desc=what, unit="run", disable=not progress or current_dry_run() is not None):
        try:
            parts.append(ask(one).assign(**one.labels))
        except Diverged as error:
            dead.append(error)
            said = f"{one.spec.split_label}, averaged {one.spec.averaged_label}, seed {one.spec.seed}"
            warnings.warn(f"{said}: left out, as {error}", stacklevel=3)
        except NotRun as error:  # after all others were looked up
            missing = missing or error
    if missing:
        raise missing
    if not parts:
        raise dead[0]
    return pd.concat(parts, ignore_index=True)
