"""Names with arguments, as models and data are given on a command line: `package.module:function(width=3)`."""

import ast
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from lmclib.errors import LmcError


class Named(NamedTuple):
    """A name and the arguments behind it."""

    name: str
    arguments: dict[str, object]


def named(what: str, text: str) -> Named:
    """Take a name and its arguments apart; arguments are plain values by name, and nothing is executed.

    Args:
        what: what it names, for the message.
        text: `name` or `name(argument=value, …)`.

    Raises:
        LmcError: arguments that are no plain values by name.

    Example:
        >>> named("model", "resnet18(num_classes=10)")
        Named(name='resnet18', arguments={'num_classes': 10})
    """
    name, opened, rest = text.partition("(")
    if not opened or not rest.endswith(")"):
        return Named(text, {})
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("by name only")
        return Named(name, {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords})
    except (SyntaxError, ValueError):
        raise LmcError(f"{what}={text!r}: arguments must be plain values by name, as in {name}(size=3)") from None


def imported(what: str, text: str) -> Callable:
    """A function by its import path `package.module:function`; modules in the current folder are found, too.

    Raises:
        LmcError: it cannot be imported; says where it was looked for.
    """
    module, _, function = text.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever the module raises while it is imported
        places = f"the current folder {os.getcwd()} and Python's own path"
        raise LmcError(f"{what}={text!r}: cannot import {module!r} ({error}); looked in {places}") from None
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise LmcError(f"{what}={text!r}: is a {type(found).__name__}; must be a function")
    return found
