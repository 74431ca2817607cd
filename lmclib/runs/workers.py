"""Training in processes side by side, one thread each: for networks that lock-step does not speed up."""

from collections.abc import Callable, Sequence

import torch

from lmclib.runs.family import Family
from lmclib.runs.joint import train_together
from lmclib.runs.plan import Plan
from lmclib.runs.spec import ForkSpec
from lmclib.store.store import Store
from lmclib.store.writer import BackgroundWriter

Part = tuple[int, int] | None  # a child by fork step and number, or the parent


def train_in_workers(plans: Sequence[Plan], workers: int, on_step: Callable[[int], None]) -> None:
    """Train each run in a process of its own, of one thread, as many at once as there are workers: parents first, then children.

    For networks that do not fit the lock-step and for images too large for it.
    """
    from distributed import Client, as_completed
    from distributed.deploy.subprocess import SubprocessCluster

    quiet = {"dashboard": False, "dashboard_address": None}
    with (
        SubprocessCluster(n_workers=workers, threads_per_worker=1, scheduler_kwargs=quiet) as cluster,
        Client(cluster) as client,
    ):
        parents = {(plan.family, None): plan.missing_steps for plan in plans}
        children = {(plan.family, part): plan.steps_of(*part) for plan in plans for part in plan.missing}
        for parts in (parents, children):
            jobs = {}
            for (family, part), steps in parts.items():
                store = family.store
                job = client.submit(train_part, family.spec, str(store.root), str(store.results.root), part, pure=False)
                jobs[job] = 0 if part is None else steps
            for job in as_completed(jobs):
                job.result()  # raises what was raised there
                on_step(jobs[job])


def train_part(spec: ForkSpec, root: str, results: str, part: Part) -> None:
    """Train the parent of a family, or one child, in a process of one thread."""
    torch.set_num_threads(1)
    store = Store(root, results)
    with BackgroundWriter(store) as writer:
        plan = Plan(Family(spec, store), writer)
        plan.missing &= set() if part is None else {part}
        train_together([plan], lambda steps: None)
