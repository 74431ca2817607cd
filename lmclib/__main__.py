"""`python -m lmclib`: the command line."""

import argparse
import sys

from lmclib.errors import LmcError

UNFINISHED = 3  # the exit status of a slice that was stopped


def main() -> int:
    """Build the book, measure a chapter, say what that would cost, or pack its tables; the exit status is 1 where that failed."""
    parser = argparse.ArgumentParser(prog="python -m lmclib", description="The book on linear mode connectivity.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="execute what changed and render the site")
    build.add_argument("--profile", default="digits", choices=("smoke", "digits", "paper"), help="scale of the runs")
    build.add_argument("--output", default="_build", help="folder that receives html/")
    build.add_argument("--store", default="data/runs", help="where runs are remembered")
    work = commands.add_parser(
        "measure",
        help="train and measure what a chapter shows, as a plain script; the next slice goes on where it stopped",
    )
    work.add_argument("--minutes", type=float, default=8, help="after which the slice is stopped")
    work.add_argument("--in-one-go", action="store_true", help="in this process, without an end to its time")
    plan = commands.add_parser("plan", help="what a chapter would train and measure, and an estimate of its cost")
    for command in (work, plan):
        command.add_argument("chapter", help="for instance resnet_forking")
    pack = commands.add_parser("pack", help="copy finished paper-scale tables to the shelf, which is committed")
    pack.add_argument("chapter", nargs="?", help="one chapter; all that are finished by default")
    pack.add_argument("--store", default="data/runs", help="where the tables are")
    for command in (work, plan, pack):
        command.add_argument(
            "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter of the chapter"
        )
    arguments = parser.parse_args()
    try:
        return {"build": _build, "measure": _measure, "plan": _plan, "pack": _pack}[arguments.command](arguments)
    except LmcError as error:
        print(error, file=sys.stderr)
        return 1


def _build(arguments: argparse.Namespace) -> int:
    from lmclib.book.build import build

    page = build(arguments.profile, arguments.output, arguments.store)
    print(f"The book is at {page.resolve()}")
    return 0


def _measure(arguments: argparse.Namespace) -> int:
    from lmclib.book.measuring import measure, measure_for
    from lmclib.device import default_device

    given = {"profile": "paper", **dict(arguments.p)}
    if arguments.in_one_go:
        measure(arguments.chapter, given)
        return 0
    if given["profile"] == "paper" and default_device().type == "cpu":
        hint = "training takes far longer than planned; most CPUs are faster with `-p precision float32`"
        print(f"There is no CUDA GPU here: {hint}", file=sys.stderr)
    if not measure_for(arguments.chapter, arguments.minutes, given):
        print(f"{arguments.minutes:g} minutes are up; what was computed is kept: run the same command again to go on")
        return UNFINISHED
    print(
        f"{arguments.chapter} is measured at profile {given['profile']}; `make paper-tables` puts its tables on the shelf"
    )
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from lmclib.book.estimates import estimate

    print(estimate(arguments.chapter, {"profile": "paper", **dict(arguments.p)}))
    return 0


def _pack(arguments: argparse.Namespace) -> int:
    from lmclib.book.results import caption, pack, pack_all

    if arguments.chapter:
        print(caption(pack(arguments.chapter, dict(arguments.p), arguments.store)))
        return 0
    for chapter, said in pack_all(arguments.store).items():
        print(f"{chapter}: {said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
