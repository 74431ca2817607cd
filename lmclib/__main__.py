"""`python -m lmclib`: the command line."""

import argparse
import sys

from lmclib.errors import LmcError

UNFINISHED = 3  # the exit status of a slice that was stopped


def main() -> int:
    """Build the book or run a slice of a chapter; the exit status is 1 where that failed."""
    parser = argparse.ArgumentParser(prog="python -m lmclib", description="The book on linear mode connectivity.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="execute what changed and render the site")
    build.add_argument("--profile", default="digits", choices=("smoke", "digits", "paper"), help="scale of the runs")
    build.add_argument("--output", default="_build", help="folder that receives html/")
    build.add_argument("--store", default="data/runs", help="where runs are remembered")
    part = commands.add_parser(
        "slice", help="run one chapter for some minutes; the next slice goes on where it stopped"
    )
    part.add_argument("chapter", help="for instance resnet_forking")
    part.add_argument("--minutes", type=float, default=8, help="after which the slice is stopped")
    part.add_argument("--profile", default="paper", choices=("smoke", "digits", "paper"), help="scale of the runs")
    part.add_argument("--store", default="data/runs", help="where runs are remembered")
    arguments = parser.parse_args()
    try:
        return _build(arguments) if arguments.command == "build" else _slice(arguments)
    except LmcError as error:
        print(error, file=sys.stderr)
        return 1


def _build(arguments: argparse.Namespace) -> int:
    from lmclib.book import build

    page = build(arguments.profile, arguments.output, arguments.store)
    print(f"The book is at {page.resolve()}")
    return 0


def _slice(arguments: argparse.Namespace) -> int:
    from lmclib.book import run_slice

    done = run_slice(arguments.chapter, arguments.minutes, arguments.profile, arguments.store)
    if done is None:
        print(f"{arguments.minutes:g} minutes are up; what was computed is kept: run the same command again to go on")
        return UNFINISHED
    print(f"{arguments.chapter} is finished: {done.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
