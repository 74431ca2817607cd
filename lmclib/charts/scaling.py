"""Figures of sweeps on several workers."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from lmclib.charts import style

HEIGHTS = {"parent": 18, "child": 12, "measure": 6}  # of a bar, pixels: what a job is, beside its colour


def task_stream(timings: Mapping[int, pd.DataFrame]) -> alt.LayerChart:
    """When each job was done on which worker: a bar a job, a lane a worker, one number of workers above the other.

    Args:
        timings: tables with `kind`, `worker`, `start` and `stop` (seconds), by the number of workers.
    """
    table = pd.concat(
        [part.assign(lane=part.worker.map(f"worker {{}} of {n}".format)) for n, part in sorted(timings.items())],
        ignore_index=True,
    )
    table["seconds"] = (table.stop - table.start).round(4)
    table = table[["lane", "kind", "start", "stop", "seconds"]].round(4)
    lanes = [f"worker {k} of {n}" for n in sorted(timings) for k in range(1, n + 1)]
    colour = alt.Color(
        "kind:N", title="job", scale=alt.Scale(domain=list(HEIGHTS), range=list(style.OKABE_ITO[: len(HEIGHTS)]))
    )
    base = alt.Chart(table).encode(
        x=alt.X("start:Q", title="seconds from the first job"),
        x2="stop:Q",
        y=alt.Y("lane:N", title=None, sort=lanes, scale=alt.Scale(domain=lanes)),
        color=colour,
        tooltip=["lane:N", "kind:N", *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("start", "seconds"))],
    )
    bars = [
        base.transform_filter(f"datum.kind == '{kind}'").mark_bar(height=height) for kind, height in HEIGHTS.items()
    ]
    chart = alt.layer(*bars).properties(height=alt.Step(34))
    few, most = min(timings), max(timings)
    share = timings[most].stop.max() / timings[few].stop.max()
    title = f"{most} workers took {share:.0%} of the time of {few}, for the same {len(timings[few])} jobs"
    words = f"{title}. A bar a job, from its start to its end, a lane a worker; thick bars are parents, thinner ones children, the thinnest measurements."
    return style.described(chart, title, words)
