"""What checkpoints are measured on: every form, and what is wrong with it in one line before anything is measured."""

import numpy as np
import pytest
import torch
import zoo
from PIL import Image
from safetensors.torch import save_file

import lmclib as lmc
from lmclib.merging.data import DEVIATION, MEAN, check_examples, load_examples, loss_for


@pytest.fixture
def folder(tmp_path):
    """Two classes of small images, of two sizes."""
    rng = np.random.default_rng(0)
    for name, count in (("cat", 3), ("dog", 2)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (8, 8 + 2 * (i == 2), 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    return tmp_path


def test_images_in_folders_are_scaled_as_torchvision_wants_them(folder):
    x, y = load_examples(f"{folder / 'images'}(size=8)")
    assert (tuple(x.shape), y.tolist()) == ((5, 3, 8, 8), [0, 0, 0, 1, 1])
    pixels = np.asarray(Image.open(folder / "images" / "dog" / "1.png"), dtype=np.float32).transpose(2, 0, 1) / 255
    expected = (pixels - np.array(MEAN)[:, None, None]) / np.array(DEVIATION)[:, None, None]
    assert np.allclose(x[4].numpy(), expected, atol=1e-6)
    with pytest.raises(lmc.LmcError, match=r"has images of \(3, 8, 10\) and \(3, 8, 8\); give a size"):
        load_examples(str(folder / "images"))
    with pytest.raises(lmc.LmcError, match="takes size=PIXELS only"):
        load_examples(f"{folder / 'images'}(width=8)")
    (folder / "images" / "dog" / "1.png").write_text("no image")
    with pytest.raises(lmc.LmcError, match="image 4 cannot be read"):
        load_examples(f"{folder / 'images'}(size=8)")


def test_a_data_set_of_torchvision_by_name():
    x, y = load_examples("FakeData(size=30, image_size=(3, 8, 8), num_classes=4)", most=20)
    assert (tuple(x.shape), len(y), x.dtype, y.dtype) == ((20, 3, 8, 8), 20, torch.float32, torch.int64)


def test_tensors_in_files_and_loaders(tmp_path):
    x, y = torch.arange(12.0).view(6, 2).double(), torch.arange(6, dtype=torch.int32)
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    save_file({"x": x, "y": y}, tmp_path / "data.safetensors")
    for name in ("data.npz", "data.safetensors"):
        found = load_examples(str(tmp_path / name))
        assert torch.equal(found[0], x.float())
        assert torch.equal(found[1], y.long())
    some = load_examples(str(tmp_path / "data.npz"), most=3)
    assert some[1].tolist() == [0, 2, 5], "evenly spaced"
    assert [len(part) for part in load_examples("zoo:vectors(count=12)", most=7)] == [7, 7]
    assert [len(part) for part in load_examples("zoo:images()")] == [4, 4]


def test_text_is_cut_into_pieces_whose_every_token_gives_the_next(tmp_path):
    text = bytes(range(32, 127)) * 6
    (tmp_path / "text.txt").write_bytes(text)
    x, y = load_examples(f"text:{tmp_path / 'text.txt'}")
    assert x.shape == (4, 128)
    assert torch.equal(x.flatten()[1:], y.flatten()[:-1])
    assert bytes(x[0].tolist()) == text[:128]
    assert loss_for((x, y)) == "cross_entropy"
    (tmp_path / "config.json").write_text('{"n_positions": 16}')
    assert load_examples(f"text:{tmp_path / 'text.txt'}", tmp_path)[0].shape == (35, 16)
    (tmp_path / "short.txt").write_bytes(b"seven!!")
    assert load_examples(f"text:{tmp_path / 'short.txt'}")[0].shape == (2, 3)


def test_text_goes_through_the_tokenizer_of_a_hugging_face_folder(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["to", "be", "or", "not", "that", "is", "the", "question", "[UNK]"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path)
    (tmp_path / "text.txt").write_text("to be or not to be that is the question " * 2)
    x, y = load_examples(f"text:{tmp_path / 'text.txt'}", tmp_path)
    assert x.shape == (2, 9)
    assert x[0].tolist() == [0, 1, 2, 3, 0, 1, 4, 5, 6]
    assert y[0].tolist() == [1, 2, 3, 0, 1, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.zeros(0, 4), torch.zeros(0), "is empty; must hold at least 2 examples"),
        (torch.zeros(1, 4), torch.zeros(1), "has one example"),
        (torch.zeros(3, 4), torch.zeros(2), "has 3 inputs and 2 targets"),
        (torch.full((3, 4), torch.nan), torch.zeros(3), "x holds NaN or infinite numbers"),
    ],
)
def test_data_that_are_no_data(x, y, said, tmp_path):
    save_file({"x": x, "y": y}, tmp_path / "data.safetensors")
    with pytest.raises(lmc.LmcError, match=said):
        load_examples(str(tmp_path / "data.safetensors"))


def test_names_that_are_no_data(tmp_path):
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object), y=np.zeros(1))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "folder").mkdir()
    for name, said in (
        ("nowhere/at all", "is not there; must be a folder with one folder of images per class"),
        (f"{tmp_path}/nowhere.npz", "is not there; must be a file that holds x and y"),
        (f"{tmp_path}/other.npz", "holds images; must hold x and y"),
        (f"{tmp_path}/objects.npz", "cannot be read"),
        (f"{tmp_path}/bad.safetensors", "cannot be read"),
        (f"{tmp_path}/folder", "must hold one folder of images per class"),
        (f"text:{tmp_path}/nowhere.txt", "cannot be read"),
        (f"text:{tmp_path}/empty.txt", "is empty; must hold at least 5 tokens"),
        ("Pictures", "is no file, folder or data set of torchvision"),
        ("FakeData(sizes=3)", "torchvision cannot open it"),
        ("zoo:CLASSES", "is a int; must be a function"),
        ("zoo:perceptron", "must give a pair of tensors"),
        ("zoo:vectors(number=3)", "cannot be made .*unexpected keyword argument"),
        ("zoo:vectors(count=0)", "is empty|must give a pair"),
    ):
        with pytest.raises(lmc.LmcError, match=said):
            load_examples(name)
    with pytest.raises(lmc.LmcError, match="examples=1: must be at least 2"):
        load_examples("digits", most=1)


def test_data_must_go_with_the_model():
    net, x = zoo.perceptron(), torch.zeros(4, 4)
    tokens = torch.tensor([[1, 2, 11], [0, 1, 2]])
    for model, data, said in (
        (net, (x, torch.tensor([0, 1, 2, 3])), "has classes 0 to 3, and the model 3 outputs"),
        (net, (x, torch.tensor([0, -1, 2, 0])), "has classes -1 to 2"),
        (net, (torch.zeros(4, 5), torch.zeros(4, dtype=torch.int64)), r"does not take inputs of shape \(5,\)"),
        (net, (x, torch.zeros(4, 2)), r"targets are \(2,\) and the model's outputs \(3,\)"),
        (net, (x, torch.zeros(4, 2, dtype=torch.int64)), r"targets are \(2,\) and the model's outputs \(3,\)"),
        (zoo.Tied(), (tokens, tokens), "has tokens 0 to 11, and the model's vocabulary 11"),
        (torch.nn.LSTM(4, 3), (x, torch.zeros(4, 3)), "gives a tuple; must give one tensor"),
    ):
        with pytest.raises(lmc.LmcError, match=said):
            check_examples("mine", model, data)
    check_examples("mine", net, (x, torch.tensor([0, 1, 2, 0])))
    check_examples("mine", net, (x, torch.zeros(4, 3)))
    assert loss_for((x, torch.zeros(4, 3))) == "squared"
