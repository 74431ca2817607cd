"""`python -m lmclib` is the command `lmclib`."""

from lmclib.cli import main

if __name__ == "__main__":
    main()
