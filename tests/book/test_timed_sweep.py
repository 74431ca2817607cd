"""A sweep that is run for its timings: it computes what any sweep does, and its jobs do not overlap on one worker."""

import pandas as pd

from lmclib.book.sweep import Swept
from lmclib.book.sweep_spec import sweep_of
from lmclib.book.timed_sweep import timed_sweep

SAID = {
    "fork": {"model": "mlp-4", "epochs": 2, "fork_epochs": [0, 0.5, 1], "milestones": [1]},
    "grid": {"seed": [0, 1]},
    "measure": {"name": "barrier_curve", "options": {"alphas": 3}},
}


def test_its_table_is_that_of_any_sweep_and_its_jobs_are_those_of_the_graph(tmp_path):
    table, timings = timed_sweep(SAID, 1)
    pd.testing.assert_frame_equal(table, Swept(sweep_of(SAID), tmp_path, tmp_path).run(progress=False))
    # three forks, at each of which two seeds train together, as do their four children; each seed has a pair at each fork
    assert timings.kind.value_counts().to_dict() == {"child": 3, "parent": 3, "measure": 6}
    assert timings.start[0] == 0
    assert (timings.stop > timings.start).all()
    assert set(timings.worker) == {1}
    assert (timings.start[1:].to_numpy() >= timings.stop[:-1].to_numpy() - 1e-3).all(), (
        "one worker does one job at a time"
    )
    # the first fork's measurements do not wait for the last fork's children
    first = timings[timings.kind == "measure"].start.min()
    assert first < timings[timings.kind == "child"].start.max()
