"""The four commands for a reader's own checkpoints, on networks of every kind."""

import json
import re
import sys

import numpy as np
import pytest
import torch
import zoo
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

import lmclib as lmc
from lmclib import cli
from lmclib.errors import LmcError
from lmclib.networks.build import build_model
from lmclib.runs.pairs import sibling_pairs

MLP = "zoo:perceptron(width=6)"


def invoke(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], prog_name="lmclib")


def said(*args):
    done = invoke(*args, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def own(model):
    """A state dict, with each tied tensor once, as safetensors want it."""
    seen, state = set(), {}
    for key, value in model.state_dict().items():
        if value.data_ptr() not in seen:
            seen.add(value.data_ptr())
            state[key] = value.clone()
    return state


def jittered(state, spread):
    """Every weight somewhere else, those that are zero at the start, too; variances stay positive."""
    moved = {
        key: value * (1 + spread * torch.randn_like(value)) + 0.05 * torch.randn_like(value)
        for key, value in state.items()
        if value.is_floating_point()
    }
    return state | {key: value.abs() if key.endswith("running_var") else value for key, value in moved.items()}


def two_files(folder, factory, spread=0.1):
    """Two networks near each other, one as safetensors and one as PyTorch's own file."""
    torch.manual_seed(0)
    model = factory()
    torch.manual_seed(1)
    one = jittered(own(model), 0.05)
    two = jittered(one, spread)
    save_file(one, folder / "a.safetensors")
    torch.save(two, folder / "b.pt")
    return folder / "a.safetensors", folder / "b.pt"


def gpt2(folder, seed):
    """A Hugging Face folder with a tiny GPT-2."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    sizes = {"vocab_size": 128, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, initializer_range=0.3))
    model.save_pretrained(folder)
    return model


ZOO = {
    "resnet18": "zoo:resnet18()",
    "mobilenet": "zoo:mobilenet()",
    "vit": "zoo:vit()",
    "convnext": "zoo:convnext()",
    "lstm": "zoo:Recurrent()",
    "tied": "zoo:Tied()",
    "weight_norm": "zoo:weight_normed(width=5)",
}


def factory_of(name):
    return getattr(zoo, {"lstm": "Recurrent", "tied": "Tied", "weight_norm": "weight_normed"}.get(name, name))


def data_for(name, folder):
    if name in ("lstm", "tied"):
        x = torch.randint(zoo.VOCABULARY, (4, 6), generator=torch.Generator().manual_seed(3))
        save_file(
            {"x": x, "y": x[:, 0].clone() % zoo.CLASSES if name == "lstm" else x.roll(-1, 1)},
            folder / "data.safetensors",
        )
        return folder / "data.safetensors"
    return f"zoo:images(size={16 if name == 'vit' else 32})"


def all_four(a, b, folder, *options):
    """The four commands on two checkpoints; what they say, and the merged file."""
    path = said("barrier", a, b, *options, "--alphas", 3)
    layers = said("layers", a, b, *options, "--partition", "blocks")
    predicted = said("predict", a, b, *options, "--partition", "blocks", "--method", "gradient")
    merged = said(
        "merge", a, b, *options, "--partition", "blocks", "--evaluations", 1, "--anyway", "-o", folder / "m.safetensors"
    )
    both = {row["layer"]: row["loss_barrier"] for row in layers["layers"] if row["into"] == "both"}
    actual = {row["layer"]: row["actual"] for row in predicted["layers"]}
    assert actual.pop("all layers") == pytest.approx(path["points"][1]["loss_barrier"], rel=1e-4, abs=1e-5)
    assert actual == pytest.approx(both, rel=1e-4, abs=1e-5)
    assert set(merged["weights"]) == set(both)
    assert merged["path"] == str(folder / "m.safetensors")
    return merged


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_of_network_goes_through_all_four(name, tmp_path):
    factory = factory_of(name)
    a, b = two_files(tmp_path, factory)
    data = data_for(name, tmp_path)
    merged = all_four(a, b, tmp_path, "--model", ZOO[name], "--data", data)
    model = factory().eval()
    state = load_file(tmp_path / "m.safetensors")
    assert set(state) == set(load_file(a))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert missing == (["head.weight"] if name == "tied" else [])
    x, y = (
        zoo.images(16 if name == "vit" else 32)
        if data_for(name, tmp_path) == data and isinstance(data, str)
        else load_file(data).values()
    )
    with torch.no_grad():
        out = model(x[1::2])
    loss = nn.functional.cross_entropy(out.flatten(0, -2), y[1::2].flatten()).item()
    assert merged["loss"] == pytest.approx(loss, abs=1e-6)


def test_a_hugging_face_folder_goes_through_all_four_and_mergekit_gets_its_plan(tmp_path):
    import yaml
    from transformers import GPT2LMHeadModel

    models = [gpt2(tmp_path / name, seed) for seed, name in enumerate("ab")]
    text = tmp_path / "text.txt"
    text.write_text("To be, or not to be, that is the question: " * 2)
    merged = all_four(tmp_path / "a", tmp_path / "b", tmp_path, "--data", f"text:{text}")
    state = load_file(tmp_path / "m.safetensors")
    assert set(state) == set(load_file(tmp_path / "a" / "model.safetensors")), "tied weights once, as in the folder"
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "a").eval()
    model.load_state_dict(state, strict=False)
    tokens = torch.tensor(list(text.read_bytes()))[: 5 * 16 + 1]
    x, y = (tokens[shift : shift + 80].view(5, 16)[1::2] for shift in (0, 1))
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(x).logits.flatten(0, 1), y.flatten()).item()
    assert merged["loss"] == pytest.approx(loss, abs=1e-6)

    recipe = yaml.safe_load((tmp_path / "m.mergekit.yml").read_text())
    assert (recipe["merge_method"], recipe["dtype"]) == ("linear", "float32")
    assert [entry["model"] for entry in recipe["models"]] == [str(tmp_path / name) for name in "ab"]
    ends = [model.state_dict() for model in models]

    def share(entry, tensor):  # as mergekit finds it: the first whose filter is part of the name, or that has none
        return next(rule["value"] for rule in entry["parameters"]["weight"] if rule.get("filter", "") in tensor)

    for key, value in state.items():
        shares = [share(entry, key) for entry in recipe["models"]]
        assert sum(shares) == pytest.approx(1)
        mixed = sum(weight * end[key] for weight, end in zip(shares, ends, strict=True))
        assert torch.allclose(value, mixed, atol=1e-6), key


@pytest.fixture
def pair(tmp_path):
    return two_files(tmp_path, zoo.perceptron, spread=1.0)


OPTIONS = ("--model", MLP, "--data", "zoo:vectors()")


def test_tables_are_for_people_and_say_what_was_found(pair):
    path = invoke("barrier", *pair, *OPTIONS)
    assert re.search(r"alpha +loss +error +loss_barrier +error_barrier", path.stdout)
    assert re.search(r"The loss barrier is -?\d\.\d{4}, at α = [01]\.\d\d", path.stdout)
    assert re.search(r"Of 2 layers the worst is .* \(\d+ examples\)\n", invoke("layers", *pair, *OPTIONS).stdout)
    few = invoke("predict", *pair, *OPTIONS, "--examples", 6).stdout
    assert re.search(r"All layers: measured .*, published .*, gradient .* \(6 examples\)\n", few)
    planned = invoke("merge", *pair, *OPTIONS, "--plan").stdout
    assert "one ratio a layer" in planned
    assert re.search(r"layer +share of A +share of B", planned)
    assert "Nothing was written." in planned


def test_a_mixture_that_is_better_than_both_ends_is_said(tmp_path):
    """One is too sure of the first of two classes, one of the second; they come up equally often."""
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path, weight in zip(paths, (2.0, -2.0), strict=True):
        save_file({"weight": torch.tensor([[weight], [0.0]])}, path)
    save_file({"x": torch.ones(8, 1), "y": torch.arange(8) % 2}, tmp_path / "data.safetensors")
    options = (
        "--model",
        "torch.nn:Linear(in_features=1, out_features=2, bias=False)",
        "--data",
        tmp_path / "data.safetensors",
    )
    done = invoke("barrier", *paths, *options)
    assert done.stdout.endswith("the lowest loss is 0.6931, at α = 0.50, below both ends (8 examples)\n"), done.output


@pytest.mark.parametrize("command", ["barrier", "layers", "predict", "merge"])
def test_a_guard_fails_above_its_limit_only(command, pair):
    plan = ["--plan"] if command == "merge" else []
    assert invoke(command, *pair, *OPTIONS, *plan, "--fail-above", 1e3).exit_code == 0
    done = invoke(command, *pair, *OPTIONS, *plan, "--fail-above", -1e3)
    assert done.exit_code == 1
    assert "is above -1000" in done.stderr


@pytest.mark.parametrize(
    ("command", "ending"), [("barrier", "html"), ("layers", "svg"), ("predict", "svg"), ("merge", "png")]
)
def test_charts_need_nothing_else(command, ending, pair, tmp_path):
    chart = tmp_path / "charts" / f"chart.{ending}"
    plan = ["--plan"] if command == "merge" else []
    assert invoke(command, *pair, *OPTIONS, *plan, "--chart", chart).exit_code == 0
    content = chart.read_bytes()
    if ending == "png":
        assert content.startswith(b"\x89PNG")
        return
    text = content.decode()
    assert not re.search(r"""["']currentColor["']""", text if ending == "svg" else text[text.rindex("<script") :])
    assert not re.search(r"""<(script|link)[^>]+(src|href)=["']""", text)
    assert "vegaEmbed" in text if ending == "html" else text.startswith("<svg")


def test_the_header_says_where_a_merged_file_comes_from(pair, tmp_path):
    import hashlib

    out = tmp_path / "new" / "m.safetensors"
    assert invoke("merge", *pair, *OPTIONS, "-o", out, "--anyway").exit_code == 0
    with safe_open(out, "pt") as file:
        facts = json.loads(file.metadata()["lmclib"])
    for path, made in zip(pair, facts["inputs"], strict=True):
        assert made == {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    one, two = load_file(pair[0]), torch.load(pair[1], weights_only=True)
    state = load_file(out)
    for layer, (first, second) in facts["weights"].items():
        assert torch.allclose(
            state[f"{layer}.weight"], first * one[f"{layer}.weight"] + second * two[f"{layer}.weight"], atol=1e-6
        )
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    card = out.with_suffix(".md").read_text()
    assert f"loss {facts['loss']:.6f}" in card
    assert facts["inputs"][0]["sha256"] in card
    assert str(tmp_path) not in card


def test_more_than_two_are_a_soup(pair, tmp_path):
    save_file({key: value * 0.9 for key, value in load_file(pair[0]).items()}, tmp_path / "c.safetensors")
    out = tmp_path / "m.safetensors"
    found = said("merge", *pair, tmp_path / "c.safetensors", *OPTIONS, "--anyway", "-o", out)
    assert {row["candidate"] for row in found["candidates"]} >= {"model 3", "uniform soup", "greedy soup over layers"}
    assert all(sum(shares) == pytest.approx(1) and len(shares) == 3 for shares in found["weights"].values())


def test_progress_says_what_is_measured_and_how_long_it_takes(pair):
    args = ["barrier", *pair, *OPTIONS, "--alphas", "3"]
    done = CliRunner().invoke(cli.app, [str(arg) for arg in args], env={"FORCE_COLOR": "1"})
    assert re.search(r"3 points, 12 examples.*100%.*\d:\d\d:\d\d", done.stderr, re.DOTALL)
    assert not invoke(*args).stderr, "where no person looks there is none"


def test_what_is_wrong_ends_with_1_and_one_line(pair, tmp_path):
    (tmp_path / "there.safetensors").write_text("")
    for args, expected in (
        (["barrier", tmp_path / "nowhere.pt", pair[1]], "nowhere.pt: is not there"),
        (["layers", pair[0], pair[0]], "are identical in all weights; must be two different checkpoints"),
        (["predict", *pair, "--partition", "conv"], "partition='conv': is found in no layer's name"),
        (["merge", *pair, "-o", tmp_path / "there.safetensors"], "is there already; give another path, or --force"),
    ):
        done = invoke(*args, *OPTIONS)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), args
        assert expected in done.stderr


def test_what_stays_on_disk_has_no_curvature(pair, monkeypatch):
    monkeypatch.setattr("lmclib.merging.ends.LARGE", 0)
    done = invoke("predict", *pair, *OPTIONS)
    assert done.exit_code == 1
    assert "are too large for curvature" in done.stderr


def test_packages_that_are_missing_are_named(pair, tmp_path, monkeypatch):
    from lmclib import charts
    from lmclib.merging.checkpoints import Checkpoint
    from lmclib.merging.models import load_model

    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LmcError, match="needs the package transformers, which is not installed"):
        load_model(str(tmp_path), Checkpoint(pair[0]))
    monkeypatch.delattr(charts, "merging", raising=False)
    monkeypatch.setitem(sys.modules, "lmclib.charts.merging", None)
    done = invoke("barrier", *pair, *OPTIONS, "--chart", tmp_path / "chart.html")
    assert done.exit_code == 1
    assert r"needs the packages of lmclib[book]" in done.stderr


def test_wrong_use_ends_with_2(pair):
    for args in (
        ["barrier", pair[0], *OPTIONS],
        ["barrier", *pair, pair[0], *OPTIONS],
        ["barrier", *pair, "--model", MLP],
        ["merge", *pair, *OPTIONS],
        ["merge", *pair, *OPTIONS, "--plan", "-o", "m.safetensors"],
        ["merge", *pair, *OPTIONS, "--plan", "--evaluations", "0"],
        ["barrier", *pair, *OPTIONS, "--alphas", "1"],
    ):
        done = invoke(*args)
        assert done.exit_code == 2, args
        assert "Usage: lmclib" in done.stderr


@pytest.mark.parametrize(("model", "data"), [("resnet8-w4", "digits"), ("gpt-d8-l1", "topics@16")])
def test_what_the_book_trained_is_measured_by_its_names(tmp_path, model, data):
    """Files of the store, under the names with which they were trained, have the values of the family's own cube."""
    recipe = lmc.Recipe(epochs=1, batch_size=256 if data == "digits" else 1024)
    spec = lmc.ForkSpec(model=model, data=data, fork_epochs=(0,), siblings=2, recipe=recipe)
    family = lmc.fork(spec, store=tmp_path, progress=False)
    files = [next((tmp_path / family.child_address(0, k)).glob("*.safetensors")) for k in range(2)]
    found = said("barrier", *files, "--model", model, "--data", data, "--alphas", "3", "--examples", "300")
    (pair,) = sibling_pairs([family], epochs=(-1,))
    alone = lmc.barrier_curve(pair.cube("test", examples=300), 3)
    assert [row["loss"] for row in found["points"]] == pytest.approx(alone.loss.tolist(), rel=1e-6)


def test_a_text_of_another_alphabet_is_refused(tmp_path):
    """Its characters would be numbered otherwise than in training, and every loss be wrong."""
    spec = lmc.ForkSpec(
        model="gpt-d8-l1", data="topics@16", fork_epochs=(0,), recipe=lmc.Recipe(epochs=1, batch_size=1024)
    )
    family = lmc.fork(spec, store=tmp_path, progress=False)
    files = [next((tmp_path / family.child_address(0, k)).glob("*.safetensors")) for k in range(2)]
    (tmp_path / "other.txt").write_text("to be or not to be " * 50)
    done = invoke("barrier", *files, "--model", "gpt-d8-l1", "--data", f"text:{tmp_path / 'other.txt'}@16")
    assert done.exit_code == 1
    assert re.search(
        r"has 7 classes or characters, and the model \d+ outputs; must be what it was trained on", done.stderr
    )


def test_junk_and_single_numbers_are_one_line(tmp_path):
    a, b = two_files(tmp_path, zoo.perceptron)
    np.savez(tmp_path / "single.npz", x=np.float32(3), y=np.int64(3))
    done = invoke("barrier", a, b, "--model", MLP, "--data", tmp_path / "single.npz")
    assert done.exit_code == 1
    assert "x or y is a single number" in done.stderr
    for junk in (b"#!/bin/sh\necho hello\n", b"hello world this is text", bytes(range(256)) * 4):
        (tmp_path / "junk.pt").write_bytes(junk)
        done = invoke("barrier", a, tmp_path / "junk.pt", "--model", MLP, "--data", "digits")
        assert done.exit_code == 1
        assert re.search(r"junk\.pt: (is no checkpoint|is damaged or no checkpoint|needs code)", done.stderr)
        assert done.stderr.count("\n") == 1, "one line"


def test_nothing_is_below_nan(tmp_path):
    a, b = two_files(tmp_path, lambda: build_model("mlp-6", (1, 8, 8), 10))
    assert invoke("barrier", a, b, "--model", "mlp-6", "--data", "digits", "--fail-above", "nan").exit_code != 0
