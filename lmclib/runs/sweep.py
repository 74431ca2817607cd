"""Sweeps: families that need not be alike, in groups that train together."""

from collections import Counter
from collections.abc import Iterable

from lmclib.runs.family import Family
from lmclib.runs.group import TrainingGroup


def training_groups(families: Iterable[Family]) -> list[TrainingGroup]:
    """Families in groups that can train together: alike but for their seeds and forks, and no two of one parent.

    Those that share a parent (other forks, more siblings, other epochs at which they are stored) are in groups of their own, one
    after the other, so that what they share is trained by the first of them.
    """
    groups: dict[tuple[int, str], list[Family]] = {}
    met: Counter[str] = Counter()
    for family in families:
        spec = family.spec
        alike = spec.model_copy(update={"seed": 0, "fork_epochs": (0,), "siblings": 1, "checkpoint_epochs": None})
        groups.setdefault((met[family.parent_address], alike.model_dump_json()), []).append(family)
        met[family.parent_address] += 1
    return [TrainingGroup(group, True, 1) for _, group in sorted(groups.items(), key=lambda one: one[0][0])]
