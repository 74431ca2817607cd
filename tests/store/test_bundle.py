"""Bundles: the same addresses elsewhere, and nothing else let in."""

import json
import shutil
import tarfile
import warnings

import pandas as pd
import pytest
from hostile import AT, Touch, hostile_bundles, make, named

import lmclib as lmc
from lmclib.errors import LmcError
from lmclib.store.bundle import export_bundle, import_bundle
from lmclib.store.dry_run import dry_run
from lmclib.store.inventory import damaged_files, entries
from lmclib.store.store import Store
from lmclib.training.recipe import Recipe

SPEC = lmc.ForkSpec(model="mlp-4", fork_epochs=(0,), recipe=Recipe(epochs=1, batch_size=512))


def measured(store):
    families = lmc.fork_all([SPEC], store, progress=False)
    return lmc.over_pairs(lmc.sibling_pairs(families), lmc.barrier_curve, progress=False, alphas=3)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A store with two siblings, their parent and a barrier."""
    folder = tmp_path_factory.mktemp("here")
    measured(folder)
    return folder


@pytest.fixture
def bundle(here, tmp_path):
    path = tmp_path / "runs.tar"
    export_bundle(here, path)
    return path


def state(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_was_made_elsewhere_is_found_under_the_same_addresses(here, bundle, tmp_path):
    new, old = import_bundle(bundle, tmp_path / "there")
    assert (new, old) == (len(state(here)), 0)
    assert state(tmp_path / "there") == state(here)
    with dry_run():  # raises where anything would be computed
        found = measured(tmp_path / "there")
    pd.testing.assert_frame_equal(found, measured(here))
    assert damaged_files(tmp_path / "there")[1] == []


def test_a_second_import_changes_nothing(here, bundle, tmp_path):
    import_bundle(bundle, tmp_path / "there")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*")}
    assert import_bundle(bundle, tmp_path / "there") == (0, len(state(here)))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*")} == before


def test_the_same_runs_make_the_same_file(here, bundle, tmp_path):
    export_bundle(here, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == bundle.read_bytes()


def test_some_runs_only(here, tmp_path):
    one, *_ = entries(here)
    assert export_bundle(here, tmp_path / "one.tar", [one.address[:6]])[0] == 1
    import_bundle(tmp_path / "one.tar", tmp_path / "there")
    assert [entry.address for entry in entries(tmp_path / "there")] == [one.address]
    with pytest.raises(LmcError, match="prefix='xyz': is the start of no address"):
        export_bundle(here, tmp_path / "none.tar", ["xyz"])
    assert not (tmp_path / "none.tar").exists()


def test_what_is_known_of_data_travels(here, tmp_path):
    known, other = tmp_path / "known", tmp_path / "other"
    shutil.copytree(here, known)
    card = Store(here).data_card("digits").model_dump(mode="json")
    (known / "data.json").write_text(json.dumps({"birds": card}))
    export_bundle(known, tmp_path / "cards.tar")
    other.mkdir()
    (other / "data.json").write_text(json.dumps({"fish": card}))
    import_bundle(tmp_path / "cards.tar", other)
    assert json.loads((other / "data.json").read_text()) == {"birds": card, "fish": card}
    (other / "data.json").write_text(json.dumps({"birds": {**card, "n_train": 1}}))
    with pytest.raises(LmcError, match="its data 'birds' are not the same as those of"):
        import_bundle(tmp_path / "cards.tar", other)


def test_where_the_same_run_was_made_may_differ(here, bundle, tmp_path):
    import_bundle(bundle, tmp_path / "there")
    path = next((tmp_path / "there").rglob("provenance.json"))
    path.write_text('{"hardware": "another"}')
    assert import_bundle(bundle, tmp_path / "there")[0] == 0
    assert path.read_text() == '{"hardware": "another"}'


@pytest.mark.parametrize("what", ["*.safetensors", "*.parquet", "run.json"])
def test_what_is_there_and_differs_is_refused_before_anything_is_written(what, bundle, tmp_path):
    import_bundle(bundle, tmp_path / "there")
    path = next((tmp_path / "there").rglob(what))
    if what == "run.json":
        path.write_text("{}")
    else:
        stem, _, suffix = path.name.split(".")
        path.unlink()
        path.with_name(f"{stem}.{'0' * 16}.{suffix}").write_bytes(b"x")
    gone = next(p for p in (tmp_path / "there").iterdir() if p != path.parent)
    shutil.rmtree(gone)
    before = state(tmp_path / "there")
    with pytest.raises(LmcError, match=r"is there already, and differs; nothing was imported") as said:
        import_bundle(bundle, tmp_path / "there")
    assert "\n" not in str(said.value)
    assert state(tmp_path / "there") == before


def test_a_damaged_file_is_not_exported(here, tmp_path):
    shutil.copytree(here, tmp_path / "damaged")
    path = next((tmp_path / "damaged").rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LmcError, match="its content does not match its name"):
        export_bundle(tmp_path / "damaged", tmp_path / "x.tar")
    assert not list(tmp_path.glob("*.tar"))


def test_a_place_to_go_on_from_stays_where_it_is(here, tmp_path):
    shutil.copytree(here, tmp_path / "working")
    at = next(entry for entry in entries(tmp_path / "working") if entry.kind == "child")
    (at.folder / named(b"x", "resume", "safetensors")).write_bytes(b"x")
    export_bundle(tmp_path / "working", tmp_path / "x.tar")
    with tarfile.open(tmp_path / "x.tar") as archive:
        assert not [name for name in archive.getnames() if "resume" in name]


def test_links_in_the_store_are_not_followed(bundle, here, tmp_path):
    one, *_ = entries(here)
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "there" / one.address).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LmcError, match="is a link, or in what is no folder; nothing was imported"):
        import_bundle(bundle, tmp_path / "there")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_hostile_bundles_are_refused_in_a_line(tmp_path):
    (tmp_path / "bundles").mkdir()
    count = 0
    for what, path, expected in hostile_bundles(tmp_path / "bundles"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(LmcError) as said:
                import_bundle(path, tmp_path / "there")
        assert expected in str(said.value), what
        assert "\n" not in str(said.value), what
        assert "nothing was imported" in str(said.value), what
        count += 1
    assert count >= 40
    assert not (tmp_path / "there").exists()
    assert not (tmp_path / "bundles" / "touched").exists()


def test_a_good_file_beside_a_hostile_one_is_not_imported(tmp_path):
    good, bad = f"{AT}/{named(b'x')}", f"../{AT}/{named(b'x')}"
    with pytest.raises(LmcError, match="leads out of the store"):
        import_bundle(make(tmp_path / "x.tar", {good: b"x", bad: b"x"}), tmp_path / "there")
    assert not (tmp_path / "there").exists()
    import_bundle(make(tmp_path / "y.tar", {good: b"x"}), tmp_path / "there")
    assert (tmp_path / "there" / good).read_bytes() == b"x"


def test_a_pickle_in_a_bundle_is_never_loaded(tmp_path):
    """Under the name and with the digest of a checkpoint: it comes in as bytes, and is set aside when it is read."""
    import pickle

    content = pickle.dumps(Touch(tmp_path / "touched"))
    name = f"{AT}/{named(content, 'a', 'safetensors')}"
    import_bundle(make(tmp_path / "x.tar", {name: content}), tmp_path / "there")
    with pytest.warns(UserWarning, match="no valid safetensors"):
        assert Store(tmp_path / "there").load_state(AT, "a") is None
    assert not (tmp_path / "touched").exists()


def test_a_bundle_that_ends_early_or_has_a_wrong_bit_is_refused(here, bundle, tmp_path):
    whole, there = bundle.read_bytes(), tmp_path / "there"
    end = whole.rindex(b"}") + 1  # after it are zeros
    for at in range(100, end, end // 20):
        bundle.write_bytes(whole[:at])
        with pytest.raises(LmcError, match="nothing was imported"):
            import_bundle(bundle, there)
        bundle.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            import_bundle(bundle, there)
        except LmcError:
            assert not there.exists()
        else:  # between two members nothing is said
            assert state(there) == state(here)
            shutil.rmtree(there)
