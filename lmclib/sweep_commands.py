"""The command `sweep`, as in `lmclib.cli`, which registers it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

    from lmclib.book.sweep import Swept

UNFINISHED = 3  # exit status where it was stopped and can go on
SHOWN = 20  # rows that are printed where no file is asked for


def register(app: typer.Typer, panel: str) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel=panel)(sweep)


def sweep(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="What is swept.", show_default=False)],
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Processes side by side.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="tcp://…", help="Of a Dask cluster that is there already.", show_default=False),
    ] = None,
    scheduler_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same, by its scheduler file.", show_default=False)
    ] = None,
    resources: Annotated[
        str | None,
        typer.Option(metavar="GPU=1", help="What each run takes of a worker there.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The table, as .csv or .parquet.", show_default=False)
    ] = None,
    notebooks: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The chapter's notebook, executed once a point.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is to do, and do nothing.")] = False,
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where runs are stored.", show_default="data/runs of the repository"),
    ] = None,
) -> None:
    """Train and measure every point of a grid or a list: of a chapter's parameters, or of a fork's.

    Example: `lmclib sweep rates.yaml --workers 4 --output rates.csv`

    where rates.yaml is `{fork: {model: mlp-32, epochs: 4, fork_epochs: [0, 1]}, grid: {lr: [0.05, 0.1], seed: [0, 1]}, measure:
    barrier_curve}`, or has `chapter: resnet_forking`, `profile: smoke` and `parameters: {seeds: 1}` in place of `fork` and `measure`,
    or a `list` of points in place of the `grid`. The whole of it is checked before anything starts.

    Out come what there is to do, how much of it is remembered, an estimate, and one table with a column for every parameter that is
    swept. What is stopped with Ctrl-C keeps all that was done: the exit status is 3, and the same command goes on from there. The
    workers of another cluster must see the same folders.
    """
    from lmclib.book.sweep import Swept, check_output, write_table
    from lmclib.book.sweep_spec import read_sweep
    from lmclib.root import RUNS, from_root

    if scheduler is not None and scheduler_file is not None:
        raise typer.BadParameter("is given, and so is --scheduler-file", param_hint="--scheduler")
    if resources is not None and scheduler is None and scheduler_file is None:
        raise typer.BadParameter("is for the workers of a --scheduler", param_hint="--resources")
    taken = _taken(resources)
    if output is not None:
        check_output(output)
    swept = Swept(read_sweep(spec), from_root(RUNS) if store is None else store.expanduser().absolute(), Path.cwd())
    if notebooks is not None:
        swept.check_notebooks()
    typer.echo(str(swept.outlook()))
    if dry_run:
        return
    try:
        table = _run(swept, workers, scheduler or scheduler_file, taken, notebooks)
    except KeyboardInterrupt:
        typer.echo("stopped; what was done is stored: run the same command again to go on", err=True)
        raise typer.Exit(UNFINISHED) from None
    if output is None:
        _show(table)
        return
    write_table(table, output)
    typer.echo(f"{len(table)} rows of {len(swept.points)} points are in {output}")


def _taken(resources: str | None) -> dict[str, float]:
    """Resources by name, as `dask worker --resources` writes them: `GPU=1 MEMORY=10e9`."""
    try:
        pairs = [pair.split("=") for pair in (resources or "").replace(",", " ").split()]
        return {name: float(n) for name, n in pairs}
    except ValueError:
        raise typer.BadParameter(f"{resources!r} must be such as GPU=1", param_hint="--resources") from None


def _run(
    swept: "Swept",
    workers: int,
    scheduler: str | Path | None,
    resources: dict[str, float],
    notebooks: Path | None,
) -> "pd.DataFrame":
    from lmclib.runs.workers import current_workers, side_by_side

    with side_by_side(workers, scheduler, resources):
        if (there := current_workers()) is not None:
            typer.echo(f"{there.n} workers at {there.client.scheduler.address}; {there.dashboard}")
        table = swept.run()
        if notebooks is not None:
            made = swept.notebooks(notebooks.expanduser().absolute())
            typer.echo(f"{len(made)} notebooks are in {notebooks}")
    return table


def _show(table: "pd.DataFrame") -> None:
    from lmclib.terminal import print_table

    rows = [tuple(_cell(value) for value in row) for row in table.head(SHOWN).itertuples(index=False)]
    print_table([str(name) for name in table.columns], rows)
    if len(table) > SHOWN:
        typer.echo(f"and {len(table) - SHOWN} more rows: `--output FILE.csv` writes them all")


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
