"""The code that decides a result: written down, found again and compared."""

from functools import partial

import pytest

from lmclib.errors import LmcError
from lmclib.measures.barriers import barrier_curve
from lmclib.networks.build import initialise, model_factory
from lmclib.networks.mlp import MLP
from lmclib.runs.pairs import cube_between
from lmclib.store import roots
from lmclib.store.roots import DIFFERS, SAME, UNKNOWN, UNWRITTEN, Code, compare_code, find_root, root_name
from lmclib.training.loop import train


@pytest.fixture
def fingerprints(monkeypatch):
    """A stand-in for the fingerprint, so that the code of some roots can change: the number given to each, 0 unless set."""
    changed = {}
    monkeypatch.setattr(roots, "code_fingerprint", lambda *asked: str([changed.get(root, 0) for root in asked]))
    return changed


def a_readers_own(cube):
    return cube


@pytest.mark.parametrize(
    "model", ["resnet20", "resnet8-w4-gn", "resnet18", "resnet18-none", "mlp-5-tanh", "mlp-12-12-12"]
)
def test_what_builds_a_network_is_found_again_by_its_name(model):
    factory = model_factory(model)
    found = find_root(root_name(factory))
    assert (found.func, found.args, found.keywords) == (factory.func, factory.args, factory.keywords)


@pytest.mark.parametrize("root", [barrier_curve, initialise, train, MLP, MLP.forward, partial(train, 1, seed="a\"'(")])
def test_a_root_is_found_again_by_its_name(root):
    found = find_root(root_name(root))
    if isinstance(root, partial):
        assert (found.func, found.args, found.keywords) == (root.func, root.args, root.keywords)
    else:
        assert found is root


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (root_name(a_readers_own), "is not of this library"),
        (root_name(lambda cube: cube), "is not of this library"),
        ("os:system", "is not of this library"),
        ("lmclibrary.barriers:barrier_curve", "is not of this library"),
        ("lmclib.measures.barriers:barrier_bend", "lmclib.measures.barriers:barrier_bend is no longer there"),
        ("lmclib.fences:barrier_curve", "lmclib.fences:barrier_curve is no longer there"),
        (root_name(partial(train, a_readers_own)), "is given more than plain values"),
        ("lmclib.networks.mlp:MLP(widths=__import__('os').getcwd())", "is given more than plain values"),
        ("lmclib.networks.mlp:MLP()(1)", "is given more than plain values"),
    ],
    ids=range(9),  # a name may hold an address in memory, which no two processes share
)
def test_what_cannot_be_found_again_says_why(name, said):
    with pytest.raises(LmcError, match=said.replace("(", r"\(").replace(")", r"\)")):
        find_root(name)


def test_code_is_the_same_as_long_as_no_root_and_no_part_changes(fingerprints):
    networks = Code((initialise, train))
    made = Code((barrier_curve, cube_between), (networks, Code((initialise, train)))).made_by
    assert made["roots"] == ["lmclib.measures.barriers:barrier_curve", "lmclib.runs.pairs:cube_between"]
    assert made["parts"] == [networks.made_by], "two siblings are made by one code"
    assert [status for status, _ in compare_code([made], progress=False)] == [SAME]
    for root in (barrier_curve, cube_between, initialise, train):
        fingerprints[root] = 1
        assert [status for status, _ in compare_code([made], progress=False)] == [DIFFERS], root
        fingerprints[root] = 0
    assert Code.today(made).fingerprint == made["code"]


def test_a_comparison_says_what_it_cannot_know(fingerprints):
    known, own = Code((barrier_curve,)).made_by, Code((a_readers_own,)).made_by
    gone = {**known, "roots": ["lmclib.measures.barriers:barrier_bend"]}
    part = Code((barrier_curve,), (Code((a_readers_own,)),)).made_by
    made = [{}, {"code": "1234"}, own, gone, part, known]
    said = compare_code(made, progress=False)
    assert [status for status, _ in said] == [UNWRITTEN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, SAME]
    assert said[0][1] == "made by code that was not written down"
    assert said[1][1] == "cannot be compared: its functions were not written down"
    assert said[2][1].endswith("a_readers_own is not of this library")
    assert said[3][1] == "cannot be compared: lmclib.measures.barriers:barrier_bend is no longer there"
