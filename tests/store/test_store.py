"""Which of several answers to a question is taken, and what is said of it."""

import json
import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import save

from lmclib.store import store as stores
from lmclib.store.dry_run import NotRun, dry_run
from lmclib.store.store import Store
from lmclib.store.tables import Question


def squares(n: int = 3) -> pd.DataFrame:
    return pd.DataFrame({"square": [k * k for k in range(n)]})


QUESTION = Question.of(squares, {})


def rewrite(folder, **changes):
    path = folder / "provenance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def store(tmp_path):
    """A store, and committed results that have what it had, as other code computed it, with other numbers."""
    own = Store(tmp_path / "store", tmp_path / "committed")
    Store(tmp_path / "elsewhere", tmp_path / "committed").table(QUESTION, lambda: squares(5))
    shutil.copytree(tmp_path / "elsewhere" / QUESTION.address, tmp_path / "committed" / QUESTION.name)
    rewrite(tmp_path / "committed" / QUESTION.name, code="0" * 20)
    return own


def test_committed_results_of_other_code_are_shown_and_said_but_not_computed_with(store):
    with dry_run() as found:
        assert len(store.table(QUESTION, lambda: pytest.fail("computed"))) == 5
    assert [question.kind for _, question in found.changed] == ["squares"]
    assert len(store.remember(squares)) == 3


def test_todays_code_comes_first(store):
    store.remember(squares)
    with dry_run() as found:
        assert len(store.table(QUESTION, lambda: pytest.fail("computed"))) == 3
    assert not found.changed
    assert found.tables == [store.root / QUESTION.address]


def test_committed_results_of_todays_code_are_enough(store):
    rewrite(store.results.root / QUESTION.name, code=QUESTION.code.fingerprint)
    assert len(store.table(QUESTION, lambda: pytest.fail("computed"))) == 5
    assert not store.root.exists()


def test_what_is_nowhere_is_not_run(store):
    with dry_run(), pytest.raises(NotRun, match="squares: not measured yet"):
        store.remember(squares, n=7)


def test_a_result_of_another_pytorch_is_used_and_said(store):
    stores._say_once.cache_clear()
    store.remember(squares)
    rewrite(store.root / QUESTION.address, packages={"torch": "2.0.1"})
    with pytest.warns(UserWarning, match=r"results that PyTorch 2\.0\.1 computed are used; this is"):
        assert len(store.table(QUESTION, lambda: pytest.fail("computed"))) == 3
    store.table(QUESTION, lambda: pytest.fail("computed"))  # said once; a warning is an error here


def test_checkpoints_of_any_type_are_written_as_safetensors_writes_them(tmp_path):
    """A reader's own network may have weights of a type that NumPy does not know."""
    types = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)
    tensors = {str(dtype): torch.tensor([[1, 0, 1]]).to(dtype) for dtype in types}
    tensors |= {"empty": torch.zeros(0, 3), "scalar": torch.tensor(7)}
    Store(tmp_path).save_state("run", "end", tensors)
    (path,) = (tmp_path / "run").glob("end.*.safetensors")
    assert path.read_bytes() == save(tensors)
