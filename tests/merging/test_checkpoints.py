"""Checkpoints from disk: every form gives the same tensors, lazily; what is damaged or needs code is refused."""

import json
import os
import pickle
import struct

import pytest
import torch
import zoo
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import lmclib as lmc
from lmclib.merging import ends as ends_of
from lmclib.merging.checkpoints import Checkpoint
from lmclib.merging.ends import open_ends
from lmclib.merging.matching import match
from lmclib.merging.models import load_model
from lmclib.networks.build import build_model


def state(seed=0, **changes):
    torch.manual_seed(seed)
    return {key: value.clone() for key, value in zoo.perceptron(**changes).state_dict().items()}


def sharded(folder, tensors):
    """Two shards and their index, as Hugging Face writes them."""
    keys, names = sorted(tensors), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    parts = dict(zip(names, (keys[:2], keys[2:]), strict=True))
    for name, part in parts.items():
        save_file({key: tensors[key] for key in part}, folder / name)
    where = {key: name for name, part in parts.items() for key in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return index


def test_every_form_holds_the_same_tensors(tmp_path):
    tensors = state()
    save_file(tensors, tmp_path / "one.safetensors")
    index = sharded(tmp_path, tensors)
    torch.save(tensors, tmp_path / "plain.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in tensors.items()}},
        tmp_path / "training.pth",
    )
    torch.save(tensors, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for path in ("one.safetensors", index, tmp_path, "plain.pt", "training.pth", "old.bin"):
        checkpoint = Checkpoint(tmp_path / path)
        assert set(checkpoint) == set(tensors)
        assert checkpoint.shapes == {key: tuple(value.shape) for key, value in tensors.items()}
        assert set(checkpoint.types.values()) == {torch.float32}
        assert all(torch.equal(checkpoint[key], value) for key, value in tensors.items())
        assert checkpoint.size == sum(file.stat().st_size for file in checkpoint.files)
    digests = {Checkpoint(tmp_path / path).digest for path in ("one.safetensors", "plain.pt", index)}
    assert len(digests) == 3
    assert len(Checkpoint(index).files) == 2


class Sly:
    """What a pickle can do while it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def test_a_pickle_that_needs_code_is_refused_and_runs_none(tmp_path):
    torch.save({"weight": torch.ones(1), "sly": Sly(tmp_path / "ran")}, tmp_path / "sly.pt")
    (tmp_path / "sly.bin").write_bytes(pickle.dumps(Sly(tmp_path / "ran")))
    torch.save(zoo.perceptron(), tmp_path / "whole.pt")
    for name in ("sly.pt", "whole.pt"):
        with pytest.raises(
            lmc.LmcError, match=r"needs code to be executed, which is refused.*torch\.save\(model\.state_dict"
        ):
            Checkpoint(tmp_path / name)
    with pytest.raises(lmc.LmcError, match=r"sly\.bin: "):
        Checkpoint(tmp_path / "sly.bin")
    assert not (tmp_path / "ran").exists()


def header(content, size=0):
    text = json.dumps(content).encode()
    return struct.pack("<Q", size or len(text)) + text


HUGE = 10 * 2**40
DAMAGED = {
    "claims 10 TB": header({"w": {"dtype": "F32", "shape": [HUGE // 4], "data_offsets": [0, HUGE]}}) + bytes(8),
    "claims a header of 10 TB": header({}, size=HUGE),
    "is cut short": header({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}) + bytes(8),
    "is no safetensors": b"PK\x03\x04 and so on",
    "is empty": b"",
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_header_is_refused_before_anything_is_read(what, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(DAMAGED[what])
    with pytest.raises(lmc.LmcError, match=r"bad\.safetensors: is damaged or no safetensors file"):
        Checkpoint(path)


def test_what_is_missing_or_no_checkpoint_is_said(tmp_path):
    (tmp_path / "text.pt").write_text("no checkpoint")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    (tmp_path / "bad.safetensors.index.json").write_text("{}")
    index = tmp_path / "away.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "../../gone.safetensors"}}))
    for name, said in (
        ("nowhere.pt", "is not there; must be a checkpoint"),
        ("", "holds no checkpoint; a folder must hold one of model.safetensors"),
        ("text.pt", r"text\.pt: "),
        ("list.pt", "holds a list; must be a state dict"),
        ("empty.pt", "holds no tensors"),
        ("bad.safetensors.index.json", "is no index of shards"),
        (index, r"gone\.safetensors: is not there; away\.safetensors\.index\.json names it"),
    ):
        with pytest.raises(lmc.LmcError, match=said):
            Checkpoint(tmp_path / name)


def saved(folder, name, tensors):
    torch.save(tensors, folder / name)
    return Checkpoint(folder / name)


def test_what_does_not_match_is_named_and_stays_the_first_models(tmp_path):
    x = torch.zeros(2, 4)
    one = saved(tmp_path, "one.pt", state(0))
    other_head = state(1) | {"2.weight": torch.zeros(7, 6), "2.bias": torch.zeros(7), "more": torch.zeros(1)}
    ends = open_ends(
        zoo.perceptron(), one, saved(tmp_path, "two.pt", other_head | {"0.weight": state(1)["0.weight"]}), x
    )
    assert [axis.name for axis in ends.axes] == ["0"]
    assert ends.kept == {
        "2.weight": "(7, 6) where the model has (3, 6)",
        "2.bias": "(7,) where the model has (3,)",
        "more": "(1,) where the first has none",
    }
    cube = ends.cube((torch.ones(2, 4), torch.tensor([0, 1])), "cross_entropy")
    there = cube.state(1.0)
    for key, value in state(0).items():
        assert torch.equal(there[key], value if key.startswith("2") else state(1)[key])
    assert cube(torch.eye(1)).loss.shape == (1,)

    with pytest.raises(lmc.LmcError) as caught:
        open_ends(zoo.perceptron(), one, saved(tmp_path, "wide.pt", state(0, width=9)), x)
    assert str(caught.value).endswith(
        "wide.pt: is of another architecture than "
        f"{one.path}: 0.weight: (9, 4) where the model has (6, 4); 0.bias: (9,) where the model has (6,); "
        "2.weight: (3, 9) where the model has (3, 6)"
    )
    with pytest.raises(
        lmc.LmcError, match=r"another architecture than the model: 0\.weight: \(6, 4\) where .* \(9, 4\);"
    ):
        match(zoo.perceptron(width=9), one, one)


def test_weights_that_are_the_same_or_not_finite_are_said(tmp_path):
    x, one = torch.zeros(2, 4), saved(tmp_path, "one.pt", state(0))
    with pytest.raises(lmc.LmcError, match=r"one\.pt and .*copy\.pt: are identical in all weights"):
        open_ends(zoo.perceptron(), one, saved(tmp_path, "copy.pt", state(0)), x)
    for broken in (float("nan"), float("inf")):
        two = saved(tmp_path, "broken.pt", state(1) | {"2.bias": torch.full((3,), broken)})
        for pair in ((one, two), (two, one)):
            with pytest.raises(lmc.LmcError, match=r"broken\.pt: '2\.bias' holds NaN or infinite weights"):
                open_ends(zoo.perceptron(), *pair, x)
    half = open_ends(zoo.perceptron(), one, saved(tmp_path, "half.pt", state(0) | {"2.bias": torch.ones(3)}), x)
    assert ([axis.name for axis in half.axes], half.identical) == (["2"], ("0",))


def test_networks_of_the_book_by_name(tmp_path):
    for name, shape, classes in (("resnet8-w4", (3, 16, 16), 7), ("mlp-5", (1, 8, 8), 3), ("gpt-d8-l1", (16,), 11)):
        built = build_model(name, shape, classes)
        checkpoint = saved(tmp_path, f"{name}.pt", built.state_dict())
        found = load_model(name, checkpoint, shape)
        assert {key: value.shape for key, value in found.state_dict().items()} == {
            key: value.shape for key, value in built.state_dict().items()
        }
        assert not found.training
    with pytest.raises(lmc.LmcError, match=r"has no fc\.bias; must be a checkpoint of that network"):
        load_model("resnet8", checkpoint, (3, 16, 16))


def test_models_by_name(tmp_path):
    one = saved(tmp_path, "one.pt", state(0))
    with torch.device("meta"):
        meta = models.resnet18(num_classes=7).state_dict()
    classes = saved(tmp_path, "seven.pt", {"fc.bias": torch.zeros(meta["fc.bias"].shape)})
    assert load_model("zoo:perceptron(width=9)", one)[0].out_features == 9
    with torch.device("meta"):  # nothing of it is needed but its shape
        assert load_model("resnet18", classes).fc.out_features == 7
        assert load_model("resnet18(num_classes=2)", classes).fc.out_features == 2
    for name, said in (
        (None, "is needed, as .* is no Hugging Face folder"),
        ("resnet19", "is no name of torchvision"),
        ("nowhere.models:net", r"cannot import 'nowhere\.models' .*looked in the current folder "),
        ("zoo:nothing", "cannot import 'zoo' .*has no attribute 'nothing'"),
        ("zoo:CLASSES", "is a int; must be a function"),
        ("zoo:perceptron(depth=3)", "cannot be built .*unexpected keyword argument 'depth'"),
        ("zoo:perceptron(3)", "arguments must be plain values by name"),
        ("zoo:perceptron(width=open('x'))", "arguments must be plain values by name"),
        ("zoo:images", "gives a tuple; must give a torch.nn.Module"),
        ("resnet18(depth=3)", "cannot be built"),
        (str(tmp_path), r"holds no config\.json"),
    ):
        with pytest.raises(lmc.LmcError, match=said):
            load_model(name, one)
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(lmc.LmcError, match="transformers cannot build it"):
        load_model(str(tmp_path), one)


NETS = {"normed": (zoo.mobilenet, zoo.images), "tied": (zoo.Tied, None), "lstm": (zoo.Recurrent, None)}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_stays_on_disk_has_the_cube_of_what_is_in_memory(name, dtype, tmp_path, monkeypatch):
    factory, images = NETS[name]
    x = torch.randint(zoo.VOCABULARY, (4, 6), generator=torch.Generator().manual_seed(3))
    data = images() if images else (x, x[:, 0] % zoo.CLASSES if name == "lstm" else x)
    loss = (
        "cross_entropy"
        if data[1].dim() == 1
        else lambda out, y: nn.functional.cross_entropy(out.flatten(0, 1), y.flatten())
    )
    files = []
    for seed in range(2):
        torch.manual_seed(seed)
        tensors = {
            key: value.to(dtype) if value.is_floating_point() else value
            for key, value in factory().state_dict().items()
        }
        files.append(saved(tmp_path, f"{seed}.pt", tensors))
    ends = open_ends(factory(), *files, data[0], "blocks" if images else "layers")
    near = ends.cube(data, loss)
    monkeypatch.setattr(ends_of, "LARGE", 0)
    far = open_ends(factory(), *files, data[0], "blocks" if images else "layers").cube(data, loss)
    assert far.layers == near.layers
    a = torch.linspace(0.1, 0.9, len(near.layers), dtype=torch.float64)
    points = torch.stack([a, torch.zeros_like(a), torch.ones_like(a)])
    for one, two in zip(near(points), far(points), strict=True):
        assert torch.allclose(one, two, rtol=1e-5, equal_nan=True)
    assert torch.allclose(near.gradient(a), far.gradient(a), rtol=1e-3, atol=1e-5)
    assert far.value_and_gradient(a)[0] == pytest.approx(far(a).loss.item(), rel=1e-5)
    assert all(not p.requires_grad or p.grad is None for p in far.model.parameters())
    for key, value in near.state(a).items():
        assert torch.allclose(value, far.state(a)[key], atol=1e-6), key
    with pytest.raises(lmc.LmcError, match="stay on disk; must be 'interpolate'"):
        ends.cube(data, loss, "recompute")
    with pytest.raises(lmc.LmcError, match="a: has 3 points"):
        far.gradient(points)
