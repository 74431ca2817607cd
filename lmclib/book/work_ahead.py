"""Working ahead: what the measuring cells of a chapter lack is trained and measured as one graph, before any of them is run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from lmclib.book.estimates import on_stand_ins
from lmclib.book.measuring import measured_so_far
from lmclib.runs.family import Family
from lmclib.runs.group import task_graph
from lmclib.runs.sweep import training_groups
from lmclib.runs.workers import Workers
from lmclib.store.store import Store


def work_ahead(
    chapter: str, points: Sequence[Mapping[str, object]], store: Path, workers: Workers, progress: bool = True
) -> None:
    """Train the networks of all tables of pairs that a chapter lacks, and measure them; what else it needs, its cells do.

    Cell by cell workers would wait for the last training or measurement of one before another begins.

    Args:
        chapter: its name.
        points: choices of parameters that override those of its first cell.
        store: where its runs are remembered.
        workers: who does it.
        progress: whether to show progress bars.
    """

    def look() -> None:
        for given in points:
            measured_so_far(chapter, given)

    planned = on_stand_ins(look, f"plan {chapter}", progress)
    groups = training_groups(Family(spec, Store(store)) for spec in planned.estimate.wanted)
    for group in groups:
        group.progress = progress
    missing = {
        job.question.address: job for job in planned.measurements if job.is_known_to_workers and not job.is_remembered
    }
    with (
        tqdm(total=len(missing), desc=f"measure {chapter}", unit="table", disable=not progress or not missing) as bar,
        task_graph(groups, workers, bar.update) as graph,
    ):
        for job in missing.values():
            job.hand_to(graph, ahead=True)
