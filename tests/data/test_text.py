"""Text as data: pieces, what training sees, and files that are no text."""

from dataclasses import replace

import pytest
import torch

from lmclib.data.dataset import Split
from lmclib.data.load import data_label, is_here, load_data
from lmclib.data.randaugment import ALIKE, randaugmented
from lmclib.errors import LmcError
from lmclib.training.order import epoch_order


def test_targets_are_the_next_characters_and_the_end_is_held_out(tmp_path):
    content = "".join(chr(97 + i % 7) for i in range(1000)) + "z"
    path = tmp_path / "a.txt"
    path.write_text(content, encoding="utf-8")
    data = load_data(f"text:{path}@10")
    read = lambda part: "".join(data.classes[i] for i in part.flatten())  # noqa: E731
    assert read(data.train.x) == content[:900]
    assert read(data.train.y) == content[1:901]
    assert read(data.test.y).endswith("z") or read(data.test.y) == content[902:1001][: data.test.y.numel()]
    assert (data.shape, len(data.train), data.label) == ((10,), 90, "a.txt, 10 characters at once")
    assert data.card.content["pixels"] == data.fingerprint != load_data(f"text:{path}@20").fingerprint


def test_training_pieces_begin_anywhere_and_go_on_by_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(chr(100 + i) for i in range(600)), encoding="utf-8")
    data = load_data(f"text:{path}@8")
    drawn = epoch_order((1, 2), 0, data)
    x, y = data.drawn(*(part[:, None] for part in drawn))
    assert x.shape == y.shape == (len(data.train), 1, 8)
    assert torch.equal(y, x + 1)  # every character follows the one before it in the alphabet here
    assert len((x[:, 0, 0] % 8).unique()) == 8
    again = epoch_order((1, 2), 0, data)
    assert all(torch.equal(one, two) for one, two in zip(drawn, again, strict=True))
    assert not torch.equal(drawn[0], epoch_order((1, 2), 1, data)[0])


def test_the_text_that_comes_with_python():
    data = load_data("topics")
    assert data.label == data_label("topics")
    assert data.label.startswith("Python 3.")
    assert is_here("topics@64")
    assert len(data.train) > 5_000
    assert "a" in data.classes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"too short", "has 9 characters; must have more than 329"),
        ("é".encode("latin-1") * 1000, "is not UTF-8"),
        (b"a\0b" * 1000, "zero bytes"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LmcError, match=said) as error:
        load_data(f"text:{path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["topics@0", "topics@-3", "topics@many"])
def test_a_context_is_a_number(name):
    with pytest.raises(LmcError, match="whole number of characters"):
        load_data(name)


def test_randaugment_changes_training_images_only():
    plain, changed = load_data("digits"), load_data("digits+randaugment")
    assert torch.equal(plain.test.x, changed.test.x)
    assert plain.card.content != changed.card.content
    x, y = epoch_order((3,), 0, changed)
    index, shifts, flips = epoch_order((3,), 0, plain)
    assert torch.equal(y, plain.train.y[index])
    moved = plain.moved(index, shifts, flips)
    same = (x == moved).flatten(1).all(1).double().mean()
    assert 0 < same < 0.5  # the identity is one of its transformations
    assert torch.equal(x, epoch_order((3,), 0, changed)[0])
    normalised, labels = changed.drawn(x[:4, None], y[:4, None])
    assert normalised.shape == (4, 1, 1, 8, 8)
    assert torch.equal(labels[:, 0], y[:4])


def test_images_of_a_batch_do_not_share_a_draw_of_randaugment():
    digits = load_data("digits")
    one = Split(digits.train.x[:1].repeat(1_024, 1, 1, 1), digits.train.y[:1].repeat(1_024))
    alike = randaugmented(replace(digits, train=one, shift=0, flip=False))
    x, _ = epoch_order((3,), 0, alike)
    in_groups = x.view(ALIKE, -1, *x.shape[1:])  # one image, so what differs is the transformation
    assert torch.equal(in_groups, in_groups[:1].expand_as(in_groups))
    assert len(x[:128].unique(dim=0)) > 40  # of 128 draws among some 200 pairs of transformations
