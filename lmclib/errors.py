"""The one exception that tells its user what to do, in one line."""


class LmcError(ValueError):
    r"""Input or a state of affairs that the reader can mend, said in one line: what, its value, what is allowed.

    In a notebook it shows as that line alone, without the call stack.

    Example:
        >>> LmcError("siblings=0: must be at least 1")._render_traceback_()
        ['siblings=0: must be at least 1']
    """

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def first_line(error: Exception) -> str:
    r"""What an exception says, in one line and without a full stop; its kind where it says nothing.

    Example:
        >>> first_line(ValueError("no such name.\nSee the manual.")), first_line(KeyError())
        ('no such name', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
