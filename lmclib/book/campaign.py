"""A campaign: all chapters that train networks, at a scale that takes hours, in slices, the most telling pieces first."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lmclib.book.measuring import chapter_settings, measure, measure_for
from lmclib.book.results import pack, said_of
from lmclib.errors import LmcError
from lmclib.runs.family import Family
from lmclib.runs.plan import Plan
from lmclib.store.dry_run import NotRun, dry_run

CHAPTERS = (
    "resnet_forking",
    "layerwise_barriers",
    "hessian_predictions",
    "beyond_second_order",
    "architectures",
    "learning_rate",
    "robustness",
)  # the most telling first
LOWEST = 19  # priority: whatever else the machine does comes first


@dataclass(frozen=True)
class Piece:
    """A chapter with its first so many seeds.

    Attributes:
        chapter: its name.
        seeds: how many.
        left: networks that are not trained, as far as it is known which are needed; None where the piece is finished.
        hours: of one process, that their training takes by what training took so far; None where nothing tells.
    """

    chapter: str
    seeds: int
    left: int | None
    hours: float | None

    def __str__(self) -> str:
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        if self.left is None:
            return f"{self.chapter}, {seeds}: done"
        hours = "" if self.hours is None else f", about {self.hours:.1f} hours of one process"
        return f"{self.chapter}, {seeds}: {self.left} networks to train{hours}"


def campaign(
    profile: str, minutes: float, given: Mapping[str, object], workers: int, say: Callable[[str], None] = print
) -> bool:
    """Train and measure piece by piece, at the lowest priority, until time is up, and pack each table that is finished.

    Args:
        profile: the scale.
        minutes: after which it is stopped; the next campaign goes on from there.
        given: parameters that override the profile's.
        workers: processes side by side.
        say: told how it stands, a line at a time.

    Returns:
        Whether everything is done.

    Raises:
        LmcError: a wrong parameter, or a piece failed.
    """
    os.nice(LOWEST)
    stop = time.monotonic() + 60 * minutes
    todo = pieces(profile, given)
    for piece in todo:
        say(str(piece))
    for piece in todo:
        if piece.left is None:
            continue
        left = (stop - time.monotonic()) / 60
        own = {**given, "profile": profile, "seeds": piece.seeds}
        say(f"{time.strftime('%H:%M')} {piece.chapter}, {piece.seeds} of the seeds: running, {left:.0f} minutes left")
        done = left > 0 and measure_for(piece.chapter, left, own, workers)
        say(f"{time.strftime('%H:%M')} packed of {piece.chapter}: {_packed(piece.chapter, profile, given)}")
        if not done:
            return False
    return True


def pieces(profile: str, given: Mapping[str, object]) -> list[Piece]:
    """All pieces in order, seed by seed, and what is left of each."""
    seeds = chapter_settings(CHAPTERS[0], {**given, "profile": profile}).seeds
    return [_piece(chapter, n, {**given, "profile": profile}) for n in range(1, seeds + 1) for chapter in CHAPTERS]


def _piece(chapter: str, seeds: int, given: Mapping[str, object]) -> Piece:
    try:
        with dry_run() as found:
            measure(chapter, {**given, "seeds": seeds})
    except NotRun:
        return Piece(chapter, seeds, *left_to_train(found.families))
    return Piece(chapter, seeds, None, None)


def left_to_train(families: Sequence[Family]) -> tuple[int, float | None]:
    """How many networks some families lack, and the hours that takes in one process; None where nothing tells."""
    plans = [Plan(family) for family in families]
    steps = sum(plan.missing_steps for plan in plans)
    pace = [seconds for family in families for seconds in _seconds_per_step(family)]
    hours = steps * sum(pace) / len(pace) / 3600 if pace else None
    return sum(len(plan.missing) for plan in plans), hours


def _seconds_per_step(family: Family) -> list[float]:
    """Of each child that was trained."""
    found = []
    for step in family.fork_steps:
        for k in range(family.spec.siblings):
            at = family.child_address(step, k)
            for made in family.store.signatures([at]):
                found.append(made["seconds"] / (family.checkpoint_steps(step)[-1] - step))
    return found


def _packed(chapter: str, profile: str, given: Mapping[str, object]) -> str:
    store = chapter_settings(chapter, {**given, "profile": profile}).store
    try:
        return said_of(pack(chapter, {k: v for k, v in given.items() if k != "store"}, store, profile))
    except LmcError as error:
        return str(error)
