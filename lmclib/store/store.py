"""The store: checkpoints and tables of runs, in one folder an address."""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import pandas as pd
from safetensors import TensorSpec, serialize_file
from safetensors.torch import load_file
from torch import Tensor

from lmclib.data.dataset import DataCard
from lmclib.data.load import data_label, is_here, known_before, load_data
from lmclib.files import drop_addressed, read_addressed, read_json, write_addressed, write_text
from lmclib.locks import locked
from lmclib.provenance import packages, provenance
from lmclib.root import RUNS, from_root
from lmclib.stopwatch import stopwatch
from lmclib.store.dry_run import current_dry_run
from lmclib.store.results import Results, committed_results
from lmclib.store.tables import Answer, Question

CARDS = "data.json"  # what is known of data sets that need not be here


class Store:
    """Checkpoints (safetensors) and tables (Parquet) by address, in one folder a run.

    A file carries the digest of its content in its name, so a write is one step and a damaged file is noticed when it is read.
    Looking needs no lock and no right to write. Reading never executes code.

    Args:
        root: the folder to write to, from the repository's root; made when first needed.
        results: the folder of committed results, which are looked up first and never written by a look-up.
    """

    def __init__(self, root: str | Path = RUNS, results: str | Path | None = None):
        self.root = from_root(root)
        self.results = Results(from_root(results) if results else committed_results())

    def lock(self, at: str, what: str) -> AbstractContextManager[None]:
        """A lock on one address: whoever else wants the same run waits and then finds it done."""
        return locked(self.root / f"{at}.lock", what)

    def save_state(self, at: str, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Store tensors as checkpoint `name` of the run at address `at`, in place of an earlier one of that name.

        Raises:
            LmcError: it cannot be written; an earlier one is still there.
        """
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        write_addressed(self.root / at, name, "safetensors", lambda path: _save(contiguous, path))

    def load_state(self, at: str, name: str) -> dict[str, Tensor] | None:
        """The tensors of checkpoint `name`, here or committed, or None where there is none; a damaged one is set aside, with a warning."""
        found = read_addressed(self.root / at, name, "safetensors", load_file)
        return self.results.load_state(at, name) if found is None else found

    def drop_state(self, at: str, name: str) -> None:
        """Forget checkpoint `name`."""
        drop_addressed(self.root / at, name, "safetensors")

    def states(self, at: str) -> set[str]:
        """The names of the checkpoints of a run."""
        return {path.name.split(".")[0] for path in (self.root / at).glob("*.safetensors")}

    def describe(self, at: str, description: Mapping) -> None:
        """Write down in plain JSON what the run at an address is, for people."""
        path, text = self.root / at / "run.json", _pretty(description)
        if not path.exists() or path.read_bytes() != text.encode():
            write_text(path, text)

    def sign(self, at: str, made: Mapping) -> None:
        """Write down in plain JSON where the result at an address comes from."""
        write_text(self.root / at / "provenance.json", _pretty(made))

    def data_card(self, name: str) -> DataCard:
        """What addresses and captions need of a data set: from the data where they are here, else from what is known of them.

        A data set that is here is always asked itself, so that one whose pixels have changed is not taken for what it was.
        """
        label = data_label(name)
        if is_here(name):
            return load_data(name).card
        known = {**read_json(self.root / CARDS), **self.results.cards()}
        if label in known:
            return DataCard(**known[label])
        if current_dry_run() is not None and (card := known_before(name)) is not None:
            return card
        card = load_data(name).card
        if current_dry_run() is None:  # so that its tables are found later without a download
            write_text(self.root / CARDS, _pretty({**known, label: card.model_dump()}))
        return card

    def remember(self, function: Callable[..., pd.DataFrame], **options: object) -> pd.DataFrame:
        """The table that a function of plain values makes: looked up by the function's code and options, else computed and stored.

        Example:
            >>> def squares(n: int = 3) -> pd.DataFrame:
            ...     return pd.DataFrame({"square": [k * k for k in range(n)]})
            >>> import tempfile
            >>> Store(tempfile.mkdtemp()).remember(squares, n=4).square.tolist()
            [0, 1, 4, 9]
        """
        return self.table(Question.of(function, options), lambda: function(**options))

    def table(self, question: Question, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The table that answers a question: from the committed results where today's code made them, else from the store, else
        computed once and stored.

        In a dry run committed results of other code are an answer, too: whoever shows them says so.

        Raises:
            NotRun: it is nowhere, and this is a dry run.
        """
        if (dry := current_dry_run()) is not None:
            return dry.table(self.find(question, any_code=True), question, compute)
        if (found := self.find(question)) is not None:
            _say_version(found.made)
            return found.table
        at = question.address
        with self.lock(at, question.kind):
            if (found := self.find(question)) is not None:
                return found.table
            seconds = stopwatch()
            frame = compute()
            self.describe(at, question.description)
            self.sign(at, {**provenance(seconds()), **question.made_by})
            write_addressed(self.root / at, "table", "parquet", lambda path: frame.to_parquet(path, index=False))
        return frame

    def find(self, question: Question, any_code: bool = False) -> Answer | None:
        """The answer to a question by today's code, committed or in the store; else, if that will do, a committed one by any code.

        One that no longer says where it comes from counts as missing: it could not be shown.
        """
        committed = self.results.find(question)
        if committed is not None and committed.is_by(question.code):
            return committed
        here = Answer.within(self.root / question.address)
        if here is not None and here.made:
            return here
        return committed if any_code else None

    def signatures(self, addresses: Iterable[str]) -> list[dict]:
        """Where the runs at some addresses come from, as far as it is written down."""
        return [made for at in addresses if (made := read_json(self.root / at / "provenance.json"))]


def _say_version(made: Mapping) -> None:
    """Say that a result of another version of PyTorch is used, once for each."""
    here = packages()["torch"]
    if (version := made.get("packages", {}).get("torch")) not in (None, here):
        _say_once(f"store: results that PyTorch {version} computed are used; this is {here}")


@cache
def _say_once(said: str) -> None:
    warnings.warn(said, stacklevel=4)


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """As `safetensors.torch.save_file` does it, with less work a tensor."""
    specs = {
        key: TensorSpec(
            dtype=str(value.dtype).split(".")[-1], shape=value.shape, data_ptr=value.data_ptr(), data_len=value.nbytes
        )
        for key, value in tensors.items()
    }
    try:
        serialize_file(specs, path)
    except OSError:
        raise
    except Exception as error:  # safetensors wraps what the system says
        raise OSError(str(error)) from None


def _pretty(content: Mapping) -> str:
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
