"""Decoded folders of images on a disk that fails, or damaged after they were decoded."""

import os

import numpy as np
import pytest
from disks import fill, read_only, small_disk

from lmclib.data.folder import folder
from lmclib.errors import LmcError


@pytest.fixture
def images(tmp_path, monkeypatch):
    """The name of a folder of images of noise, which are decoded into another."""
    from PIL import Image

    noise = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("dark", "light"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            pixels = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / split / name / "1.png")
    (tmp_path / "decoded").mkdir()
    monkeypatch.setattr("lmclib.data.folder.DECODED", str(tmp_path / "decoded"))
    return f"folder:{tmp_path / 'images'}"


def strays(at):
    return [path for path in at.rglob("*") if path.suffix in (".part", ".lock")]


def test_decoded_images_that_find_no_room_are_one_line(images, tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", "64k") as disk:
        monkeypatch.setattr("lmclib.data.folder.DECODED", str(disk))
        filler = fill(disk)
        with pytest.raises(LmcError, match=r"cannot be written to \(No space left on device\)"):
            folder(images)
        filler.unlink()
        assert not strays(disk)
        assert len(folder(images).train) == 2


def test_decoded_images_can_be_read_where_nothing_can_be_written(images, tmp_path):
    with (
        read_only(tmp_path / "decoded"),
        pytest.raises(LmcError, match=r"cannot be written to \(Read-only file system\)"),
    ):
        folder(images)
    before = folder(images)
    with read_only(tmp_path / "decoded"):
        assert folder(images).card == before.card
    assert not strays(tmp_path)


@pytest.mark.parametrize(("name", "kept"), [("train.x", 100), ("test.y", 0), ("card.json", 20)])
def test_damaged_decoded_images_are_decoded_anew(name, kept, images, tmp_path):
    before = folder(images)
    x, y = before.train.x.clone(), before.test.y.clone()  # what is mapped into memory goes with its file
    (path,) = (tmp_path / "decoded").rglob(name)
    os.truncate(path, kept)
    with pytest.warns(UserWarning, match=rf"{name} is damaged"):
        after = folder(images)
    assert after.card == before.card
    assert after.train.x.equal(x)
    assert after.test.y.equal(y)
    assert not strays(tmp_path)
