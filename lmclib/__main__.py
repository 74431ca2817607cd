"""`python -m lmclib`: the command line."""

import argparse
import sys

from lmclib.errors import LmcError


def main() -> int:
    """Build the book; the exit status is 1 where that failed."""
    parser = argparse.ArgumentParser(prog="python -m lmclib", description="The book on linear mode connectivity.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="execute what changed and render the site")
    build.add_argument("--profile", default="digits", choices=("smoke", "digits", "paper"), help="scale of the runs")
    build.add_argument("--output", default="_build", help="folder that receives html/")
    build.add_argument("--store", default="data/runs", help="where runs are remembered")
    arguments = parser.parse_args()
    from lmclib.book import build as build_book

    try:
        page = build_book(arguments.profile, arguments.output, arguments.store)
    except LmcError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The book is at {page.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
