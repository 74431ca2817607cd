"""Data sets: folders of images and CIFAR-10."""

import numpy as np
import pytest

from lmclib.data.load import load_data
from lmclib.errors import LmcError


def test_folders_of_images(tmp_path):
    from PIL import Image

    for split in ("train", "test"):
        for name, grey in (("dark", 10), ("light", 200)):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8), (grey,) * 3).save(tmp_path / split / name / "1.png")
    data = load_data(f"folder:{tmp_path}")
    assert (data.label, data.classes, data.shape) == (tmp_path.name, ("dark", "light"), (3, 8, 8))
    (tmp_path / "test" / "light" / "2.png").write_text("no image")
    load_data.cache_clear()
    with pytest.raises(LmcError, match=r"2\.png cannot be read as an image"):
        load_data(f"folder:{tmp_path}")
    with pytest.raises(LmcError, match="must hold one folder of images per class"):
        load_data(f"folder:{tmp_path / 'nowhere'}")


def test_cifar10_is_what_torchvision_gives_or_says_what_to_do(monkeypatch):
    class Stub:
        def __init__(self, root, train, download):
            n = 20 if train else 10
            self.data = np.arange(n * 32 * 32 * 3, dtype=np.int64).reshape(n, 32, 32, 3).astype(np.uint8)
            self.targets = [i % 10 for i in range(n)]

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Stub)
    data = load_data.__wrapped__("cifar10")  # past the cache
    assert (data.shape, len(data.train), len(data.test), data.flip) == ((3, 32, 32), 20, 10, True)
    assert data.train.x[0, 1, 2, 3] == (2 * 32 + 3) * 3 + 1  # channels first

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", offline)
    with pytest.raises(LmcError, match="data='cifar10': could not be downloaded"):
        load_data.__wrapped__("cifar10")  # past the cache
