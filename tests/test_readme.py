"""What the README says to type works."""

import json
import re

import torch
from safetensors.torch import save_file
from siblings import held_out, network, siblings
from torchvision.models import resnet18

from lmclib.root import ROOT


def test_five_lines_for_two_torchvision_networks(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (code,) = [block for block in blocks if "torchvision" in block]
    assert len([line for line in code.splitlines() if line.strip()]) == 5
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 3, 32, 32, generator=g), torch.tensor([0, 1, 2])
    one, two = (resnet18().state_dict() for _ in range(2))
    exec(code, {"state_dict_1": one, "state_dict_2": two, "x": x, "y": y})
    said = capsys.readouterr().out
    assert "[123 rows x 7 columns]" in said  # 41 layers, into either model and both
    assert "logit-quintic" in said


def test_five_lines_that_merge_two_checkpoints(capsys, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (code,) = [block for block in blocks if "merge_plan" in block]
    assert len([line for line in code.splitlines() if line.strip()]) <= 5
    monkeypatch.chdir(tmp_path)
    one, two = siblings()
    for name, state in (("a", one), ("b", two)):
        save_file(state, f"{name}.safetensors")
    x, y = held_out()
    exec(code, {"model": network(), "state_dict_1": one, "state_dict_2": two, "x": x, "y": y})
    said = capsys.readouterr().out
    assert said.startswith("Average, ")
    assert "one ratio a layer" in said
    assert said.endswith("Written to merged.safetensors.\n")
    assert (tmp_path / "merged.md").exists()


def test_the_networks_that_it_names_are_committed_siblings():
    text, results = (ROOT / "README.md").read_text(), ROOT / "data" / "results"
    parted = re.findall(r"[0-9a-f]{20}", text)
    assert len(parted) == 4, "two pairs"
    for one, two in zip(parted[::2], parted[1::2], strict=True):
        (about, other) = (json.loads((results / at / "run.json").read_text()) for at in (one, two))
        assert (about["model"], about["kind"], about["seed"]) == ("resnet20-w8", "child", 0)
        assert {about.pop("sibling"), other.pop("sibling")} == {0, 1}
        assert about == other
        assert list((results / one).glob("*.safetensors")), "a checkpoint"
