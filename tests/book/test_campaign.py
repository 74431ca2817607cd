"""A campaign: pieces in order, stopped and gone on with, finished tables packed, and shown with as many seeds as there are."""

import pytest

from lmclib.book import campaign as campaigns
from lmclib.book import results
from lmclib.book.campaign import campaign, pieces
from lmclib.errors import LmcError

GIVEN = {"data": "digits", "model": "mlp-4", "epochs": "2", "fork_epochs": "[0, 1]", "seeds": "2"}


@pytest.fixture
def one_chapter(tmp_path, monkeypatch):
    monkeypatch.setattr("lmclib.store.results.RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(campaigns, "CHAPTERS", ("resnet_forking",))
    monkeypatch.setattr(campaigns.os, "nice", lambda by: None)  # for the tests that come after it in this process
    return {**GIVEN, "store": str(tmp_path / "store")}


def test_pieces_come_seed_by_seed_and_say_what_is_left(one_chapter):
    one, two = pieces("cifar", one_chapter)
    assert (one.seeds, one.left, one.hours) == (1, 4, None)
    assert (two.seeds, two.left) == (2, 8)
    assert str(two) == "resnet_forking, 2 seeds: 8 networks to train"


def test_a_campaign_is_stopped_gone_on_with_and_packed(one_chapter, tmp_path):
    said = []
    assert not campaign("cifar", 0, one_chapter, 1, said.append)
    assert "is not finished" in said[-1]
    assert campaign("cifar", 10, one_chapter, 2, said.append)
    assert [piece.left for piece in pieces("cifar", one_chapter)] == [None, None]
    found = results.find_results("resnet_forking", "cifar", tmp_path / "elsewhere")
    assert found.tables["final"].seed.nunique() == 2
    assert "seeds 0 to 1" in found.said
    rows = results.read_json(results.rows_path(tmp_path / "results", "cifar", "resnet_forking"))
    assert rows["F1"]["profile"] == "cifar"


def test_results_of_fewer_seeds_are_shown_as_such(one_chapter, tmp_path):
    assert campaign("cifar", 10, {**one_chapter, "seeds": "1"}, 1, lambda line: None)
    given = {name: value for name, value in one_chapter.items() if name != "store"}
    summary = results.pack("resnet_forking", given, one_chapter["store"], "cifar")
    assert summary["missing"]
    found = results.find_results("resnet_forking", "cifar", tmp_path / "elsewhere")
    assert found.tables["final"].seed.unique().tolist() == [0]


def test_a_part_of_the_forks_is_shown_until_all_are_finished(one_chapter, tmp_path):
    part = {**one_chapter, "seeds": "1", "fork_epochs": "[0]"}
    assert campaign("cifar", 10, part, 1, lambda line: None)
    assert not campaign(
        "cifar", 0, {**one_chapter, "seeds": "1"}, 1, lambda line: None
    )  # packs what there is of all forks
    found = results.find_results("resnet_forking", "cifar", tmp_path / "elsewhere")
    assert found.tables["final"].fork_epoch.unique().tolist() == [0]
    assert "seeds 0 to 0; forks 0;" in found.said
    assert campaign("cifar", 10, {**one_chapter, "seeds": "1"}, 1, lambda line: None)
    found = results.find_results("resnet_forking", "cifar", tmp_path / "elsewhere")
    assert found.tables["final"].fork_epoch.unique().tolist() == [0, 1]


def test_a_wrong_parameter_is_said_before_anything_starts(one_chapter):
    with pytest.raises(LmcError, match="unknown parameter"):
        campaign("cifar", 1, {**one_chapter, "sed": "1"}, 1)
