"""Records of plain values that are checked as they are made."""

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lmclib.errors import LmcError


class Checked(BaseModel):
    """A record whose values cannot be changed; what is wrong with one is said in one line.

    Raises:
        LmcError: an unknown name, with the nearest one; a value that is not allowed, with what is.

    Example:
        >>> class Walk(Checked):
        ...     steps: int = 3
        >>> Walk(stepz=2)
        Traceback (most recent call last):
        ...
        lmclib.errors.LmcError: stepz=2: is no part of Walk; did you mean 'steps'?
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise LmcError(self._said(error)) from None

    @classmethod
    def _said(cls, error: ValidationError) -> str:
        first = error.errors()[0]
        name, value = ".".join(map(str, first["loc"])), first["input"]
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, cls.model_fields, 1)
            known = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(cls.model_fields)}"
            return f"{name}={value!r}: is no part of {cls.__name__}; {known}"
        said = first["msg"].removeprefix("Value error, ").replace("Input should", "must")
        return f"{name}={value!r}: {said[0].lower()}{said[1:]}"
