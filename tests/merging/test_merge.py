"""Merges from file to file: what is written, what is not, and what it takes in memory."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import zoo
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from siblings import held_out, network, siblings
from torch.nn import functional as F

import lmclib as lmc
from lmclib.merging import ends
from lmclib.root import ROOT


def files(folder, dtype=torch.float32, names=("a.safetensors", "b.safetensors")):
    """Two siblings on disk."""
    for name, state in zip(names, siblings(), strict=True):
        save_file({key: value.to(dtype) for key, value in state.items()}, folder / name)
    return [folder / name for name in names]


def reloaded_loss(path):
    """The loss of a merged file on the half that it was judged on, by a plain pass in single precision."""
    x, y = (part[1::2] for part in held_out())
    net = network().eval()
    net.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    with torch.no_grad():
        return F.cross_entropy(net(x), y).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_merged_file_has_the_loss_that_is_printed_and_the_type_of_its_input(dtype, on_disk, tmp_path, monkeypatch):
    if on_disk:
        monkeypatch.setattr(ends, "LARGE", 0)
    one, two = files(tmp_path, dtype)
    out = tmp_path / "m.safetensors"
    merged = lmc.merge(one, two, model=network(), data=held_out(), output=out, evaluations=3)
    assert merged.path == out
    assert merged.loss == pytest.approx(reloaded_loss(out), abs=1e-6)
    assert merged.loss <= merged.plan.better_end.loss
    with safe_open(out, "pt") as file:
        facts = json.loads(file.metadata()["lmclib"])
        assert facts["loss"] == merged.loss
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {  # noqa: SIM118
            {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]
        }
    assert str(merged).startswith("Average, ")
    assert str(merged).endswith(f"Written to {out}.")


def test_where_no_average_helps_nothing_is_written_unless_told_to(tmp_path):
    """Two networks of which one is the other with its outputs wrong, so that every step towards it is worse."""
    one, _ = siblings()
    save_file(one, tmp_path / "a.safetensors")
    save_file({key: value if key.startswith("1") else -value for key, value in one.items()}, tmp_path / "b.safetensors")
    x, y = held_out()
    net = network()
    net.load_state_dict(one)
    y = net(x).argmax(1)  # model 1 is right about all
    given = {"model": network(), "data": (x, y), "output": tmp_path / "m.safetensors", "evaluations": 1}
    merged = lmc.merge(tmp_path / "a.safetensors", tmp_path / "b.safetensors", **given)
    assert merged.path is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]
    assert str(merged) == f"{merged.plan}. Nothing was written."
    forced = lmc.merge(tmp_path / "a.safetensors", tmp_path / "b.safetensors", **given, anyway=True)
    assert forced.path.exists()
    assert forced.loss >= forced.plan.better_end.loss


def test_permuted_units_are_aligned_before_they_are_averaged(tmp_path):
    one, two = siblings()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    moved = {"1.weight": two["1.weight"][order], "1.bias": two["1.bias"][order], "3.weight": two["3.weight"][:, order]}
    for name, state in (("a", one), ("b", two), ("c", two | moved)):
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / f"{name}.safetensors")
    given = {"model": network(), "data": held_out(), "evaluations": 3}
    near, far = (
        lmc.merge(tmp_path / "a.safetensors", tmp_path / name, output=tmp_path / f"m.{name}", **given)
        for name in ("b.safetensors", "c.safetensors")
    )
    assert far.plan.aligned
    assert str(far).startswith("Align the units, then average")
    assert far.loss == pytest.approx(near.loss, abs=1e-4)
    assert far.loss == pytest.approx(reloaded_loss(far.path), abs=1e-6)


def test_a_residual_network_is_aligned_before_it_is_averaged(tmp_path):
    """Two networks on either side of one whose outputs are what is asked for, the second with its last units in another order."""
    torch.manual_seed(0)
    net = zoo.resnet18().eval()
    middle = {key: value.clone() for key, value in net.state_dict().items()}
    steps = {key: 0.1 * torch.randn_like(value) * value.std() for key, value in middle.items() if value.dim() > 1}
    one, two = ({**middle, **{key: middle[key] + sign * step for key, step in steps.items()}} for sign in (1, -1))
    order = torch.randperm(64)
    for key in [
        key for key in two if re.match(r"layer4\.(0\.(conv2|bn2|downsample)|1\.(conv2|bn2))", key) and two[key].dim()
    ]:
        two[key] = two[key][order]
    for key in ("layer4.1.conv1.weight", "fc.weight"):
        two[key] = two[key][:, order]
    for name, state in (("a", one), ("b", two)):
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / f"{name}.safetensors")
    x = zoo.images(count=6)[0]
    given = {"model": net, "data": (x, net(x).detach()), "partition": "blocks", "evaluations": 1, "anyway": True}
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    merged = lmc.merge(*paths, **given, output=tmp_path / "m.safetensors")
    assert merged.plan.aligned
    uniform = merged.plan.state("uniform average")
    assert all(
        torch.allclose(uniform[key], value, atol=1e-5) for key, value in middle.items() if value.is_floating_point()
    )


def test_an_output_is_checked_before_anything_is_read(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "there.safetensors").write_text("")
    (tmp_path / "card.md").write_text("")
    for name, said in (
        ("there.safetensors", "is there already; give another path, or --force"),
        ("card.safetensors", r"card\.md: is there already"),
        ("merged.pt", r"must end in \.safetensors"),
        ("file/merged.safetensors", "cannot be written; .* must be a folder that may be written to"),
    ):
        with pytest.raises(lmc.LmcError, match=said):
            lmc.merge("nowhere.pt", "nowhere.pt", model=network(), data=held_out(), output=tmp_path / name)
    one, two = files(tmp_path)
    given = {"model": network(), "data": held_out(), "evaluations": 1, "anyway": True, "force": True}
    merged = lmc.merge(one, two, output=one, **given)  # onto an input, which is mapped into memory meanwhile
    assert merged.loss == pytest.approx(reloaded_loss(one), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"paths": ("a.safetensors",)}, "checkpoints: there is 1; must be at least two"),
        ({"data": (torch.zeros(3, 64), torch.zeros(2))}, "must be a pair of tensors"),
        ({"data": (torch.zeros(1, 64), torch.zeros(1))}, "must be a pair of tensors"),
        ({"data": "nowhere/at all"}, "is not there; must be a folder"),
        ({"model": None}, "model: is needed"),
        ({"model": "zoo:perceptron()"}, "does not take inputs of shape|is of another architecture than the model"),
        ({"partition": "conv"}, "partition='conv': is found in no layer's name"),
    ],
)
def test_what_does_not_go_together_is_said_in_a_line(changes, said, tmp_path):
    from lmclib.merging.merge import open_checkpoints

    files(tmp_path)
    given = {"paths": ("a.safetensors", "b.safetensors"), "model": network(), "data": held_out(), **changes}
    paths = [tmp_path / name for name in given.pop("paths")]
    with pytest.raises(lmc.LmcError, match=said) as caught:
        open_checkpoints(paths, **given)
    assert "\n" not in str(caught.value)


MEMORY = """
import sys, torch
from pathlib import Path
from safetensors.torch import save_file
from torch import nn
import lmclib as lmc
from lmclib.device import give_freed_memory_back
from lmclib.merging import ends, plan

torch.set_num_threads(1)
give_freed_memory_back()
ends.LARGE = 0
plan.GRID, plan.REFINED = 2, 1  # few points, of which each takes as much as any other
folder = Path(sys.argv[1])

def merged(width):
    network = lambda: nn.Sequential(*(nn.Linear(width, width) for _ in range(12)), nn.Linear(width, 10))
    for name in "ab":
        save_file({key: value.bfloat16() for key, value in network().state_dict().items()}, folder / f"{name}.safetensors")
    data, paths = (torch.randn(4, width), torch.arange(4)), [folder / f"{name}.safetensors" for name in "ab"]
    print(paths[0].stat().st_size, flush=True)
    sys.stdin.readline()  # until what it has now is known
    given = {"evaluations": 1, "anyway": True, "force": True}
    lmc.merge(*paths, model=network(), data=data, output=folder / "m.safetensors", **given)

merged(10)  # loads what is loaded once
merged(1000)
"""


def anonymous(process: int) -> int:
    """The bytes that a process has for itself, without mapped files; 0 when it is gone."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_two_checkpoints_need_at_most_three_times_one_of_them_in_memory(tmp_path):
    """In bfloat16, of which a network in single precision is two already; pages of mapped files, which the system may let go, do not count."""
    command, pipe = [sys.executable, "-c", MEMORY, tmp_path], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as run:
        for _ in range(2):
            size, before, peak = int(run.stdout.readline()), anonymous(run.pid), 0
            run.stdin.write("\n")
            run.stdin.flush()
        while run.poll() is None:  # from outside, as a thread of its own would wait for the one that merges
            peak = max(peak, anonymous(run.pid))
            time.sleep(0.001)
    assert run.returncode == 0
    assert 1.5 < (peak - before) / size <= 3
