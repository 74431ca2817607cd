"""Training ahead: what the measuring cells of a chapter lack is trained as one graph, before any of them is run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lmclib.book.estimates import on_stand_ins
from lmclib.book.measuring import measured_so_far
from lmclib.runs.family import Family
from lmclib.runs.group import task_graph
from lmclib.runs.sweep import training_groups
from lmclib.runs.workers import Workers
from lmclib.store.store import Store


def train_ahead(
    chapter: str, points: Sequence[Mapping[str, object]], store: Path, workers: Workers, progress: bool = True
) -> None:
    """Train the networks of all tables that a chapter lacks; what else it needs, its cells train.

    Cell by cell one network's training would have to end before another's begins, and workers would wait in between.

    Args:
        chapter: its name.
        points: choices of parameters that override those of its first cell.
        store: where its runs are remembered.
        workers: who trains.
        progress: whether to show progress bars.
    """

    def looked_up() -> None:
        for given in points:
            measured_so_far(chapter, given)

    planned, _, _ = on_stand_ins(looked_up, f"plan {chapter}", progress)
    groups = training_groups(Family(spec, Store(store)) for spec in planned.wanted)
    for group in groups:
        group.progress = progress
    with task_graph(groups, workers):
        pass
