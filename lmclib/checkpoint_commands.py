"""The commands for a reader's own checkpoints: `barrier`, `layers`, `predict` and `merge`.

Each is a function below; what it needs is imported when it runs, as in `lmclib.cli`, which registers them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from lmclib.merging.merge import Merged, Opened

ABOVE = 1  # exit status where a barrier is above --fail-above
PANEL = "Your own checkpoints"
SHOWN = 12  # layers in a table, the worst first; --json and --all give the rest
FILES = "Checkpoints: .safetensors, an index of shards, .pt, or Hugging Face folders."
Two = Annotated[list[Path], typer.Argument(metavar="A B", help=FILES, show_default=False)]
Many = Annotated[list[Path], typer.Argument(metavar="A B [C…]", help=FILES, show_default=False)]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="package.module:function(width=3), resnet18(num_classes=10) of torchvision, resnet20-w8 of this book, or a Hugging "
        "Face folder.",
        show_default="the folder that A is in",
    ),
]
Data = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="A folder of images, CIFAR10(root='data') of torchvision, text:PATH, an .npz or .safetensors file of x and y, "
        "package.module:function, or digits, cifar10, topics or folder:PATH as this book's networks see them.",
    ),
]
Partition = Annotated[
    str, typer.Option(metavar="HOW", help="What has a coefficient: layers, blocks, fine, or a regular expression.")
]
Examples = Annotated[int, typer.Option(metavar="N", help="How many examples at most, evenly spaced.")]
AsJson = Annotated[bool, typer.Option("--json", help="As plain JSON.")]
Chart = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A chart as .html, .svg or .png that needs nothing else.")
]
FailAbove = Annotated[
    float | None,
    typer.Option(metavar="X", help="Exit with status 1 where the loss barrier is above this.", show_default=False),
]
FailAboveGain = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Exit with status 1 where the chosen candidate's held-out loss, less that of the better checkpoint, is above this: it is never above 0, and -0.01 asks for an average that gains as much.",
        show_default=False,
    ),
]
Statistics = Annotated[
    bool, typer.Option("--recompute", help="Recompute running statistics at every point instead of interpolating them.")
]


def register(app: typer.Typer) -> None:
    """Add the four commands to the command line."""
    for command in (barrier, layers, predict, merge):
        app.command(rich_help_panel=PANEL)(command)


def barrier(
    checkpoints: Two,
    data: Data,
    model: Model = None,
    alphas: Annotated[int, typer.Option(metavar="N", min=2, help="Points from one model to the other.")] = 11,
    examples: Examples = 1000,
    recompute: Statistics = False,
    as_json: AsJson = False,
    chart: Chart = None,
    fail_above: FailAbove = None,
) -> None:
    """Measure the loss barrier between two checkpoints along the straight line.

    Example: `lmclib barrier a.safetensors b.safetensors --model resnet18 --data images --fail-above 0.1`

    Out come loss, error and both barriers at every point, and the highest of them.
    """
    from lmclib.measures.barriers import barrier_curve, barrier_height

    opened = _opened(_two(checkpoints), model, data, "layers", examples, chart)
    with _watched(opened, alphas, "points") as watched:
        table = barrier_curve(watched.cube(_treatment(recompute)), alphas)
    top = barrier_height(table, "loss")
    found = {"barrier": top.barrier, "alpha": top.alpha, **_about(opened)}
    said = f"The loss barrier is {top.barrier:.4f}, at α = {top.alpha:.2f}"
    lowest = table.loc[table.loss.idxmin()]
    if 0 < lowest.alpha < 1:
        said += f"; the lowest loss is {lowest.loss:.4f}, at α = {lowest.alpha:.2f}, below both ends"
    _say(found, "points", table, said, as_json)
    _draw(chart, lambda figures: figures.path(table))
    _judge(top.barrier, fail_above)


def layers(
    checkpoints: Two,
    data: Data,
    model: Model = None,
    partition: Partition = "layers",
    examples: Examples = 1000,
    recompute: Statistics = False,
    every: Annotated[bool, typer.Option("--all", help="Show every layer, in the order of the forward pass.")] = False,
    as_json: AsJson = False,
    chart: Chart = None,
    fail_above: FailAbove = None,
) -> None:
    """Measure the barrier of every single layer: only that one is averaged.

    Example: `lmclib layers a.safetensors b.safetensors --model resnet18 --data images --partition blocks`

    Out come the worst layers, each averaged into model 1, into model 2, and the weighted mean of both; `--all` and `--json` give all.
    """
    from lmclib.measures.layerwise import layer_barriers

    opened = _opened(_two(checkpoints), model, data, partition, examples, chart)
    n_layers = len(opened.ends[0].axes)
    with _watched(opened, 2 * n_layers + 2, "points") as watched:
        table = layer_barriers(watched.cube(_treatment(recompute)))
    both = table[table["into"] == "both"].set_index("layer").loss_barrier
    wide = table.pivot(index="layer", columns="into", values="loss_barrier").loc[list(table.layer.unique())]
    wide = wide.rename(columns={"1": "into model 1", "2": "into model 2"}).reset_index()
    shown = wide if every else wide.sort_values("both", ascending=False, kind="stable").head(SHOWN)
    said = f"Of {n_layers} layers the worst is {both.idxmax()}, with a loss barrier of {both.max():.4f}"
    if not every and n_layers > SHOWN:
        said += f"; the {SHOWN} worst are shown"
    _say({"worst": both.idxmax(), "barrier": both.max(), **_about(opened)}, "layers", table, said, as_json, shown)
    _draw(chart, lambda figures: figures.layers(table))
    _judge(both.max(), fail_above)


def predict(
    checkpoints: Two,
    data: Data,
    model: Model = None,
    partition: Partition = "layers",
    examples: Examples = 200,
    method: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="published or gradient, both from one matrix of energies; may be repeated."),
    ] = ["published", "gradient"],  # noqa: B006 - typer copies it
    every: Annotated[bool, typer.Option("--all", help="Show every layer, in the order of the forward pass.")] = False,
    as_json: AsJson = False,
    chart: Chart = None,
    fail_above: FailAbove = None,
) -> None:
    """Predict the barrier of every layer, and of all, from curvature at the two checkpoints, beside what is measured.

    Example: `lmclib predict a.safetensors b.safetensors --model resnet18 --data images --method gradient`

    Out come predicted and measured barriers. Curvature needs several networks in memory.
    """
    opened = _opened(_two(checkpoints), model, data, partition, examples, chart)
    n_layers = len(opened.ends[0].axes)
    with _watched(opened, 2 * n_layers + 4, "passes") as watched:
        table = _predicted(watched, method)
    single = table[table.layer != "all layers"]
    shown = table.drop_duplicates("layer")[["layer", "actual"]].rename(columns={"actual": "measured"})
    for name in dict.fromkeys(method):
        shown[name] = table[table.method == name].set_index("layer").predicted[shown.layer].to_numpy()
    whole = shown.iloc[-1]
    if not every:
        worst = shown.iloc[:-1].sort_values("measured", ascending=False, kind="stable").head(SHOWN)
        shown = shown.iloc[[*worst.index.map(shown.index.get_loc), -1]]
    said = f"All layers: measured {whole.measured:.4f}, " + ", ".join(f"{name} {whole[name]:.4f}" for name in method)
    _say({"barrier": whole.measured, **_about(opened)}, "layers", table, said, as_json, shown)
    _draw(chart, lambda figures: figures.predictions(single))
    _judge(whole.measured, fail_above)


def merge(
    checkpoints: Many,
    data: Data,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="The merged file, *.safetensors.", show_default=False),
    ] = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="Only say what to do; write nothing.")] = False,
    model: Model = None,
    partition: Partition = "layers",
    examples: Examples = 1000,
    evaluations: Annotated[int, typer.Option(metavar="N", min=1, help="Gradients from each of four starts.")] = 5,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Write the best average even where a checkpoint is better.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    as_json: AsJson = False,
    chart: Chart = None,
    fail_above: FailAboveGain = None,
) -> None:
    """Average two checkpoints or more, each layer in its own ratio, where that beats the better one on held-out data.

    Example: `lmclib merge a.safetensors b.safetensors --model resnet18 --data images -o merged.safetensors`

    Out come all candidates with their held-out loss, the ratio of every layer, the merged file with a model card beside it, and for
    language models the plan in mergekit's YAML. Where no average helps, nothing is written. `--fail-above -0.01` fails where no
    average gains 0.01 nats on the better checkpoint.
    """
    from lmclib.merging.merge import merge_opened
    from lmclib.merging.writing import check_output

    if len(checkpoints) < 2:
        raise typer.BadParameter("needs two checkpoints or more", param_hint="A B [C…]")
    if (output is None) != only_plan:
        raise typer.BadParameter("needs -o OUT or --plan, and not both", param_hint="-o")
    if output is not None:
        check_output(output, force)
    opened = _opened(checkpoints, model, data, partition, examples, chart)
    with _watched(opened, _passes(opened, evaluations), "passes") as watched:
        merged = merge_opened(watched, output, evaluations, anyway)
    _say_merged(merged, as_json)
    said = str(merged.plan)
    _draw(chart, lambda figures: figures.candidates(merged.plan.candidates, said))
    if fail_above is not None:
        _judge(float(merged.plan.best.loss - merged.plan.better_end.loss), fail_above)


def _two(checkpoints: list[Path]) -> list[Path]:
    if len(checkpoints) != 2:
        raise typer.BadParameter(f"needs two checkpoints, not {len(checkpoints)}", param_hint="A B")
    return checkpoints


def _opened(
    checkpoints: Sequence[Path], model: str | None, data: str, partition: str, examples: int, chart: Path | None
) -> "Opened":
    from lmclib.device import give_freed_memory_back
    from lmclib.merging.ends import LARGE
    from lmclib.merging.merge import open_checkpoints

    if any(path.exists() and _size(path) >= LARGE for path in checkpoints):
        give_freed_memory_back()
    if chart is not None:
        _figures().check_path(chart)
    return open_checkpoints([path.expanduser() for path in checkpoints], model, data, partition, examples)


def _size(path: Path) -> int:
    """The bytes of a checkpoint, which may be a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))


def _figures():
    from lmclib.errors import LmcError

    try:
        from lmclib.charts import merging
    except ImportError:
        raise LmcError("chart: needs the packages of lmclib[book], of which altair is not installed") from None
    return merging


@contextmanager
def _watched(opened: "Opened", passes: int, unit: str) -> Iterator["Opened"]:
    """The same, with a bar that moves on whenever a loss is taken, and says how long the rest takes."""
    from dataclasses import replace

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        total = passes * len(opened.data[1])
        task = bar.add_task(f"{passes} {unit}, {len(opened.data[1])} examples", total=total)
        yield replace(opened, loss=_Counted(opened.loss, lambda n: bar.advance(task, n)))
        bar.update(task, completed=total)


class _Counted(NamedTuple):
    """A loss that says how many examples it was taken of."""

    loss: "str | Callable[[Tensor, Tensor], Tensor]"
    advance: Callable[[int], None]

    def __call__(self, outputs: "Tensor", y: "Tensor") -> "Tensor":
        from lmclib.cube.losses import LOSSES

        self.advance(len(y))
        return (self.loss if callable(self.loss) else LOSSES[self.loss])(outputs, y)

    @property
    def __name__(self) -> str:
        return getattr(self.loss, "__name__", self.loss)


def _passes(opened: "Opened", evaluations: int) -> int:
    """About how many passes over all data a merge takes: half of them see half of the data each."""
    n_layers = len(opened.ends[0].axes)
    points = 20 + n_layers + 12 + 12 + 4 * evaluations
    return (points * len(opened.ends) + 1) // 2


def _predicted(opened: "Opened", methods: Sequence[str]) -> "pd.DataFrame":
    from lmclib.cube.points import LayerCube
    from lmclib.errors import LmcError
    from lmclib.measures.layerwise import NETWORK
    from lmclib.measures.predictions import energy_predictions

    cube = opened.cube()
    if not isinstance(cube, LayerCube):
        raise LmcError(
            "checkpoints: are too large for curvature, which needs several networks in memory; measure with `layers`"
        )
    return energy_predictions(cube, methods).replace({"layer": {NETWORK: "all layers"}})


def _treatment(recompute: bool) -> str:
    return "recompute" if recompute else "interpolate"


def _about(opened: "Opened") -> dict[str, object]:
    """What of the two checkpoints does not take part."""
    ends = opened.ends[0]
    return {"identical": list(ends.identical), "kept": ends.kept, "examples": len(opened.data[1])}


def _say(
    found: dict, name: str, table: "pd.DataFrame", said: str, as_json: bool, shown: "pd.DataFrame | None" = None
) -> None:
    from lmclib.terminal import print_json

    if as_json:
        print_json({**found, name: _plain(table)})
        return
    _print(table if shown is None else shown)
    _say_kept(found["kept"], found["identical"])
    typer.echo(f"{said} ({found['examples']:,} examples)")


def _say_kept(kept: dict[str, str], identical: Sequence[str]) -> None:
    for key, why in list(kept.items())[:SHOWN]:
        typer.echo(f"left as in A: {key}, {why}")
    if len(kept) > SHOWN:
        typer.echo(f"and {len(kept) - SHOWN} more tensors are left as in A")
    if identical:
        typer.echo(f"identical in both: {', '.join(identical)}")


def _print(table: "pd.DataFrame") -> None:
    """A table with numbers to four digits."""
    from lmclib.terminal import print_table

    rows = [tuple(_cell(value) for value in row) for row in table.itertuples(index=False)]
    print_table([str(name) for name in table.columns], rows)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "–" if value != value else f"{value:.4f}"  # no error where outputs are no classes


def _plain(table: "pd.DataFrame") -> list[dict]:
    """Rows as plain values; JSON has no NaN."""
    return [{key: None if value != value else value for key, value in row.items()} for row in table.to_dict("records")]


def _say_merged(merged: "Merged", as_json: bool) -> None:
    from lmclib.terminal import print_json, print_table

    if as_json:
        print_json({**merged.facts, "path": None if merged.path is None else str(merged.path)})
        return
    _print(merged.plan.candidates)
    weights = merged.facts["weights"]
    n = len(next(iter(weights.values())))
    header = ("layer", *(f"share of {chr(ord('A') + k) if k < 26 else k + 1}" for k in range(n)))
    print_table(header, [(layer, *(f"{share:.3f}" for share in shares)) for layer, shares in weights.items()])
    _say_kept(merged.facts["kept"], merged.facts["identical"])
    typer.echo(str(merged))
    if merged.path is not None:
        typer.echo(f"Its held-out loss, as written: {merged.loss:.6f}")


def _judge(barrier: float, fail_above: float | None) -> None:
    if fail_above is not None and not barrier <= fail_above:  # NaN is below nothing
        typer.echo(f"{barrier:.4f} is above {fail_above:g}", err=True)
        raise typer.Exit(ABOVE)


def _draw(path: Path | None, chart: Callable) -> None:
    if path is not None:
        figures = _figures()
        figures.save(chart(figures), path)
        typer.echo(f"The chart is at {path}", err=True)
