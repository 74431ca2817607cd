"""The command `lmclib`: builds the book, measures its chapters, and looks after results and stores.

Each command is a function below; what it needs is imported when it runs, so that help and completion come at once.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from lmclib import checkpoint_commands, sweep_commands
from lmclib.errors import LmcError
from lmclib.processes import leave

FAILED, UNFINISHED = 1, 3  # exit statuses, beside 0 and typer's own 2 for wrong use
BOOK, KEPT = "The book", "Results and store"  # panels of the help page
LONGEST = 200  # letters of a command's summary on the help page
PAIR = "\0"  # between the two words of a parameter, neither of which can hold it


class _Commands(TyperGroup):
    """Commands under the headings of their panels, which say an `LmcError` in its one line.

    Help is plain text: what draws it in boxes takes longer to load than all else.
    """

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:
        panels: dict[str, list[TyperCommand]] = {}
        for command in self.commands.values():
            panels.setdefault(command.rich_help_panel or "Commands", []).append(command)
        width = max(map(len, self.commands))
        for panel, commands in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(one.name.ljust(width), one.get_short_help_str(LONGEST)) for one in commands])

    def invoke(self, ctx: typer.Context) -> object:
        try:
            return super().invoke(ctx)
        except LmcError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(FAILED) from None


class _WithParameters(TyperCommand):
    """A command with `-p NAME VALUE`, again and again: typer itself knows options of two words that are given once."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_joined(args)))


def _joined(args: Sequence[str]) -> Iterator[str]:
    words = iter(args)
    for word in words:
        yield word
        if word == "-p":
            yield PAIR.join(islice(words, 2))


def _given(parameters: Iterable[str]) -> dict[str, str]:
    """The parameters of a chapter by name; paths among them are meant from the current folder."""
    from lmclib.book.measuring import absolute_paths

    given = {}
    for pair in parameters:
        name, sep, value = pair.partition(PAIR)
        if not sep:
            raise typer.BadParameter(f"needs a name and a value, not only {name!r}", param_hint="-p")
        given[name] = value
    return absolute_paths(given, Path.cwd())


def _trained_on(data: str | None) -> dict[str, str]:
    """The data set that committed networks were trained on, where it is said."""
    return {} if data is None else _given([f"data{PAIR}{data}"])


def _absolute(path: Path) -> Path:
    """A path as it is meant on a command line, from the current folder: the library takes relative ones from the repository's root."""
    return Path(path).expanduser().absolute()


def _chapters(incomplete: str) -> list[str]:
    from lmclib.book.measuring import measuring_chapters

    return [name for name in measuring_chapters() if name.startswith(incomplete)]


Chapter = Annotated[
    str, typer.Argument(metavar="CHAPTER", help="For instance resnet_forking.", autocompletion=_chapters)
]
OneChapter = Annotated[
    str | None,
    typer.Argument(
        metavar="CHAPTER", help="One chapter; all by default.", autocompletion=_chapters, show_default=False
    ),
]
Scale = Literal["smoke", "digits", "cifar", "paper"]
Parameters = Annotated[
    list[str],
    typer.Option("-p", metavar="NAME VALUE", help="A parameter of the chapter; may be repeated.", show_default=False),
]
StoreFolder = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="Where runs are stored.", show_default="data/runs of the repository"),
]
TrainedOn = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME",
        help="What the networks were trained on, as it is called on this machine: cifar10 or folder:PATH.",
        show_default="cifar10, or as it was called when they were",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="As plain JSON.")]

app = typer.Typer(
    cls=_Commands,
    help="Linear mode connectivity: a book that runs, and what it is made of.",
    epilog="Exit status: 0; 1 for a failure, said in a line; 2 for wrong use; 3 where the time of `measure` was up, or a sweep was stopped.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # what is no LmcError is a mistake of ours, and shows Python's own traceback
)
results_app = typer.Typer(
    help="The committed results: list them, add to them, compare them with today's code, measure them again.",
    rich_markup_mode=None,
)
store_app = typer.Typer(
    help="A store of runs and tables: list it, look at one, verify every file, delete what is not needed, take it elsewhere.",
    rich_markup_mode=None,
)
app.add_typer(results_app, name="results", rich_help_panel=KEPT, no_args_is_help=True)
app.add_typer(store_app, name="store", rich_help_panel=KEPT, no_args_is_help=True)


def main() -> None:
    """Run the command line; the process ends with its exit status."""
    try:
        app(prog_name="lmclib")
    except SystemExit as end:
        leave(end.code or 0)


@app.command(rich_help_panel=BOOK)
def build(
    profile: Annotated[
        Literal["smoke", "digits", "paper"],
        typer.Option(
            help="Scale of the runs; real images (cifar) are measured chapter by chapter, and are tabs of every book."
        ),
    ] = "digits",
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that receives html/.", show_default="_build of the repository"),
    ] = None,
    store: StoreFolder = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Print it as one PDF, too; needs Chromium.")] = False,
) -> None:
    """Execute the chapters that changed and render the site.

    Example: `lmclib build --profile smoke --output /tmp/book`

    Out comes the site, whose first page is named at the end; it opens from disk. With `--pdf` there is `book.pdf` beside it.
    """
    from lmclib.book.build import PDF, build

    folders = {"output": output, "store": store}
    given = {name: _absolute(path) for name, path in folders.items() if path is not None}
    page = build(profile, **given, pdf=pdf).resolve()
    typer.echo(f"The book is at {page}{f' and at {page.parent.with_name(PDF)}' if pdf else ''}")


@app.command(rich_help_panel=BOOK, cls=_WithParameters)
def measure(
    chapter: OneChapter = None,
    every: Annotated[
        bool, typer.Option("--all", help="All chapters that train siblings, seed by seed, packing what is finished.")
    ] = False,
    profile: Annotated[Scale, typer.Option(help="Scale of the runs.")] = "paper",
    minutes: Annotated[float, typer.Option(metavar="N", help="After which the slice is stopped.")] = 8,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes side by side.", show_default="1; with --all one a core"),
    ] = None,
    in_one_go: Annotated[
        bool, typer.Option("--in-one-go", help="In this process, without an end to its time.")
    ] = False,
    p: Parameters = [],  # noqa: B006 - typer copies it
) -> None:
    """Train and measure what a chapter shows, as a plain script: no notebook, no figures.

    Example: `lmclib measure resnet_forking --minutes 30 -p fork_epochs "[0, 1, 2]"`

    Out come networks and tables in the store. Where time is up the exit status is 3: the same command goes on from there. With
    `--all` it runs at the lowest priority, says how it stands and what is left, and puts every finished table among the committed
    results.
    """
    given = {"profile": profile, **_given(p)}
    if every == (chapter is not None):
        raise typer.BadParameter("needs a CHAPTER or --all, and not both", param_hint="CHAPTER")
    if every:
        _campaign(given, minutes, workers)
        return
    _measure(chapter, given, minutes, workers or 1, in_one_go)


def _measure(chapter: str, given: dict[str, str], minutes: float, workers: int, in_one_go: bool) -> None:
    from lmclib.book.measuring import measure, measure_for
    from lmclib.book.profiles import COMMITTED
    from lmclib.book.work_ahead import work_ahead
    from lmclib.device import default_device
    from lmclib.root import RUNS, from_root
    from lmclib.runs.workers import current_workers, side_by_side

    if in_one_go:
        with side_by_side(workers):
            if (there := current_workers()) is not None:
                work_ahead(chapter, [given], from_root(given.get("store") or RUNS), there)
            measure(chapter, given)
        return
    if given["profile"] == "paper" and default_device().type == "cpu":
        hint = "training takes far longer than planned; most CPUs are faster with `-p precision float32`"
        typer.echo(f"There is no CUDA GPU here: {hint}", err=True)
    if not measure_for(chapter, minutes, given, workers):
        _stop(minutes)
    packs = given["profile"] in COMMITTED
    pack = (
        f"; `lmclib results pack {chapter} --profile {given['profile']}` puts its tables among the committed results"
        if packs
        else ""
    )
    typer.echo(f"{chapter} is measured at profile {given['profile']}{pack}")


def _campaign(given: dict[str, str], minutes: float, workers: int | None) -> None:
    import joblib

    from lmclib.book.campaign import campaign

    profile = given.pop("profile")
    if not campaign(profile, minutes, given, workers or joblib.cpu_count(), typer.echo):
        _stop(minutes)
    typer.echo(f"All chapters are measured at profile {profile}")


def _stop(minutes: float) -> None:
    typer.echo(f"{minutes:g} minutes are up; what was computed is kept: run the same command again to go on")
    raise typer.Exit(UNFINISHED)


@app.command(rich_help_panel=BOOK, cls=_WithParameters)
def plan(
    chapter: Chapter,
    profile: Annotated[Scale, typer.Option(help="Scale of the runs.")] = "paper",
    p: Parameters = [],  # noqa: B006 - as above
) -> None:
    """Say what a chapter would train and measure, and estimate what that costs.

    Example: `lmclib plan resnet_forking -p seed 7`

    Out come the networks, epochs and examples that are missing, and estimated minutes of one GPU. Nothing is trained or stored.
    """
    from lmclib.book.estimates import estimate
    from lmclib.store.dry_run import NotRun

    try:
        typer.echo(str(estimate(chapter, {"profile": profile, **_given(p)}, progress=True)))
    except NotRun as missing:
        typer.echo(f"{missing}; {chapter} forks no networks, so it has no estimate")


sweep_commands.register(app, BOOK)
checkpoint_commands.register(app)


@results_app.command("list")
def list_results(as_json: AsJson = False) -> None:
    """List the committed results.

    Example: `lmclib results list`

    Out comes a row for the tables of one chapter, kind, data, machine, day and commit, with the hours that they took; as JSON
    every table has its own.
    """
    from lmclib.book.committed import list_results
    from lmclib.terminal import print_json, print_table, seeds_text

    rows = list_results(progress=True)
    if as_json:
        print_json(rows)
        return
    alike: dict[tuple, list[dict]] = {}
    for row in rows:
        key = (", ".join(row["chapters"]), *(row[name] for name in ("kind", "data", "hardware", "date", "commit")))
        alike.setdefault(key, []).append(row)
    shown = [
        (
            *key[:3],
            seeds_text(seed for row in those for seed in row["seeds"]),
            *key[3:],
            str(len(those)),
            f"{sum(row['hours'] for row in those):.2f}",
        )
        for key, those in alike.items()
    ]
    print_table(("chapter", "kind", "data", "seeds", "hardware", "date", "commit", "tables", "hours"), shown)


@results_app.command("pack", cls=_WithParameters)
def pack(
    chapter: OneChapter = None,
    profile: Annotated[Literal["cifar", "paper"], typer.Option(help="Scale of the runs.")] = "paper",
    store: StoreFolder = None,
    beside: Annotated[
        str,
        typer.Option(help="Name of a run that is kept beside the chapter's own, and answers where that has nothing."),
    ] = "",
    p: Parameters = [],  # noqa: B006 - as above
) -> None:
    """Copy finished tables of real images or of paper scale to the committed results.

    Example: `lmclib results pack resnet_forking --profile cifar`

    Out come tables, their provenance and the ledger's rows in data/results, ready to be committed; what is not finished is said.
    """
    from lmclib.book.results import pack, pack_all, said_of
    from lmclib.root import RUNS

    given, folder = _given(p), RUNS if store is None else _absolute(store)
    if chapter is not None:
        if not re.fullmatch(r"[\w-]*", beside):
            raise typer.BadParameter(f"{beside!r}: must be letters, digits, - and _", param_hint="--beside")
        typer.echo(said_of(pack(chapter, given, folder, profile, beside)))
        return
    if given or beside:
        raise typer.BadParameter("needs a CHAPTER whose parameter it is", param_hint="-p" if given else "--beside")
    for name, said in pack_all(folder, profile).items():
        typer.echo(f"{name}: {said}")


@results_app.command("check")
def check(
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 where code differs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the code that made the committed results with today's.

    Example: `lmclib results check --strict`

    Out comes a row for the tables of one chapter and kind that today's code did not make, or of which that cannot be told; as JSON
    every table has its own. Nothing is measured: what `lmclib results reproduce` measured is shown.
    """
    from lmclib.book.committed import check_results
    from lmclib.store.roots import DIFFERS, SAME
    from lmclib.terminal import print_json, print_table

    rows = check_results(progress=True)
    if as_json:
        print_json(rows)
    else:
        alike: dict[tuple, list[dict | None]] = {}
        for row in (row for row in rows if row["code"] != SAME):
            key = ", ".join(row["chapters"]), row["kind"], row["commit"], row["said"]
            alike.setdefault(key, []).append(row["reproduced"])
        shown = [(*key, str(len(again)), *_reproduced(again)) for key, again in alike.items()]
        print_table(("chapter", "kind", "commit", "code", "tables", "measured again", "differ by at most"), shown)
        typer.echo(f"{sum(row['code'] == SAME for row in rows)} of {len(rows)} tables are made by today's code")
    if strict and any(row["code"] == DIFFERS for row in rows):
        raise typer.Exit(FAILED)


def _reproduced(again: Sequence[dict | None]) -> tuple[str, str]:
    """How many tables were measured again by today's code, and the largest difference."""
    done = [one for one in again if one is not None]
    if not done:
        return "", ""
    if unlike := sum(not one["alike"] for one in done):
        return str(len(done)), f"other tables in {unlike} cases"
    worst = max(done, key=lambda one: one["difference"])
    return str(len(done)), f"{worst['difference']:.1g} ({worst['column']})"


@results_app.command("reproduce")
def reproduce(
    fail_above: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="Exit with status 1 where a number differs by more.")
    ] = None,
    data: TrainedOn = None,
    as_json: AsJson = False,
) -> None:
    """Measure the committed tables of other code again by today's, where their networks are committed, too, and compare.

    Example: `lmclib results reproduce --fail-above 1e-4 --data "folder:CIFAR-10 (JPEG copy)"`

    Out comes a row for the tables of one chapter and kind: how many were measured again, and the largest difference between any two
    numbers. It is written down in data/results/reproduced.json after every table, so that a run that was stopped goes on; captions
    say it, and `lmclib results check`. Nothing is trained.
    """
    from lmclib.book.reproduce import NO_NETWORKS, reproduce
    from lmclib.terminal import print_json, print_table

    rows = reproduce(_trained_on(data), progress=True)
    done = [row for row in rows if row["status"] != NO_NETWORKS]
    if as_json:
        print_json(rows)
    else:
        alike: dict[tuple[str, str], list[dict | None]] = {}
        for row in rows:
            alike.setdefault((row["chapter"], row["kind"]), []).append(row if row in done else None)
        shown = [(*key, str(len(again)), *_reproduced(again)) for key, again in alike.items()]
        print_table(("chapter", "kind", "tables", "measured again", "differ by at most"), shown)
        typer.echo(
            f"{len(done)} of {len(rows)} tables of other code were measured again by today's; of the others the networks are not committed"
        )
    if fail_above is not None and any(not row["alike"] or row["difference"] > fail_above for row in done):
        raise typer.Exit(FAILED)


@results_app.command("predict")
def predict_results(data: TrainedOn = None) -> None:
    """Predict the barriers between the committed networks from curvature at their ends, beside what is measured.

    Example: `lmclib results predict --data "folder:CIFAR-10 (JPEG copy)"`

    Out come, for every pair of siblings, the barrier of the whole network, measured and predicted, and how well predictions rank its
    layers; all of it is written to data/results, from where the chapter on predictions shows it. Nothing is trained.
    """
    from lmclib.book.first_look import measure_first_look
    from lmclib.measures.agreement import agreements
    from lmclib.terminal import print_table

    table = measure_first_look(**_trained_on(data))
    ranks = agreements(table.query("what == 'single layers'"), ["pair", "method"]).spearman
    whole = table.query("what == 'whole network'")
    rows = [
        (row.pair, row.method, f"{row.actual:.4f}", f"{row.predicted:.4f}", f"{ranks[row.pair, row.method]:.2f}")
        for row in whole.itertuples()
    ]
    print_table(("pair", "method", "measured", "predicted", "rank correlation of layers"), rows)


@store_app.command("list")
def list_store(store: StoreFolder = None, as_json: AsJson = False) -> None:
    """List the runs and tables of a store.

    Example: `lmclib store list`

    Out comes a row for each network and table: address, kind, model, data, seeds, size and date.
    """
    from lmclib.store.inventory import entries
    from lmclib.terminal import print_json, print_table, seeds_text, size_text

    rows = [entry.row for entry in entries(_store_root(store), progress=True)]
    if as_json:
        print_json(rows)
        return
    names = ("address", "kind", "model", "data", "seeds", "size", "date")
    shown = [
        {**row, "kind": row["kind"] or "unknown", "seeds": seeds_text(row["seeds"]), "size": size_text(row["size"])}
        for row in rows
    ]
    print_table(names, sorted((tuple(row[name] for name in names) for row in shown), key=lambda row: row[1:]))
    typer.echo(f"{len(rows)} runs and tables, {size_text(sum(row['size'] for row in rows))}")


@store_app.command("show")
def show(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Of a run or table, or its first digits.")],
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one run or table.

    Example: `lmclib store show 3f2a`

    Out comes what it is (`run.json`), where it comes from (`provenance.json`) and its files with their sizes.
    """
    from lmclib.store.inventory import files_in, find_entry
    from lmclib.terminal import print_json, print_table, size_text

    entry = find_entry(_store_root(store), address)
    files = {path.relative_to(entry.folder).as_posix(): size for path, size in files_in(entry.folder)}
    if as_json:
        print_json({"address": entry.address, "run": entry.description, "provenance": entry.made, "files": files})
        return
    typer.echo(str(entry.folder))
    for what in (entry.description, entry.made):
        print_table(("", ""), [(name, value) for name, value in what.items()])
    print_table(("file", "size"), [(name, size_text(size)) for name, size in files.items()])


@store_app.command("verify")
def verify(store: StoreFolder = None, as_json: AsJson = False) -> None:
    """Compare every file of a store with the digest in its name.

    Example: `lmclib store verify`

    Out come the files that are damaged, and then the exit status is 1. Nothing is changed: what a damaged file held is computed
    anew when it is next asked for.
    """
    from lmclib.store.inventory import damaged_files
    from lmclib.terminal import print_json, print_table

    read, damaged = damaged_files(_store_root(store), progress=True)
    if as_json:
        print_json({"files": read, "damaged": damaged})
    else:
        print_table(("file", "damage"), [(one["path"], one["said"]) for one in damaged])
        typer.echo(f"{len(damaged)} of {read} files are damaged")
    if damaged:
        raise typer.Exit(FAILED)


@store_app.command("prune")
def prune(
    yes: Annotated[bool, typer.Option("--yes", help="Delete it; without this it is only listed.")] = False,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """List, and with --yes delete, what nothing asks for any more.

    Example: `lmclib store prune`, and then `lmclib store prune --yes`

    That is: runs and tables of other code than today's, as far as that can be told; damaged files that were set aside; files whose
    writing was stopped; locks whose process is gone. Out comes a row for each, with what it frees. While a process uses the store
    nothing is deleted.
    """
    from lmclib.store.inventory import prune, unneeded
    from lmclib.terminal import print_json, print_table, size_text

    root = _store_root(store)
    found = unneeded(root, progress=True)
    freed = sum(one.size for one in found)
    if yes:
        prune(root, found)
    rows = [{"path": one.path.relative_to(root).as_posix(), "size": one.size, "said": one.said} for one in found]
    if as_json:
        print_json({"deleted": yes, "size": freed, "found": rows})
        return
    print_table(("what", "size", "why"), [(row["path"], size_text(row["size"]), row["said"]) for row in rows])
    if yes or not rows:
        typer.echo(f"{size_text(freed)} freed")
    else:
        typer.echo(f"{size_text(freed)} would be freed: `lmclib store prune --yes` deletes it")


@store_app.command("export")
def export(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE.tar", help="The file to write.")],
    prefix: Annotated[
        list[str],
        typer.Option(metavar="DIGITS", help="First digits of the addresses that are wanted; may be repeated."),
    ] = [],  # noqa: B006 - as above
    store: StoreFolder = None,
) -> None:
    """Put runs and tables into one file, for a store elsewhere.

    Example: `lmclib store export runs.tar --prefix 3f2a`

    Out comes a tar file, the same for the same runs. `lmclib store import` puts them into another store under the same addresses, where
    they are found as if they had been made there.
    """
    from lmclib.store.bundle import export_bundle
    from lmclib.terminal import size_text

    count, size = export_bundle(_store_root(store), _absolute(bundle), prefix, progress=True)
    typer.echo(f"{count} runs and tables, {size_text(size)}, are in {bundle}")


@store_app.command("import")
def import_(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE.tar", help="From `lmclib store export`.")],
    store: StoreFolder = None,
) -> None:
    """Put the runs and tables of a bundle into a store.

    Example: `lmclib store import runs.tar`

    Out comes how many files are new. All of the bundle is checked before anything is written: names, digests, and that it holds nothing
    but files of a store. Nothing in it is executed. What is there already stays as it is; where it differs, nothing is imported.
    """
    from lmclib.store.bundle import import_bundle

    new, old = import_bundle(_absolute(bundle), _store_root(store), progress=True)
    typer.echo(f"{new} files are new, {old} were there")


def _store_root(given: Path | None) -> Path:
    if given is not None:
        return _absolute(given)
    from lmclib.root import RUNS, from_root

    return from_root(RUNS)
