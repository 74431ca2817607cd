"""Seconds of a table are its own."""

import json
import time

import lmclib as lmc
from lmclib.stopwatch import apart, stopwatch


def set_forward(monkeypatch):
    """A function that moves the clock by some seconds."""
    moved, real = [], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + sum(moved))
    return moved.append


def test_what_is_done_apart_does_not_count(monkeypatch):
    forward = set_forward(monkeypatch)
    outer = stopwatch()
    forward(1000)
    with apart():
        forward(5000)
        with apart():  # within it once more: counted once
            forward(7000)
    inner = stopwatch()
    forward(300)
    assert 1300 <= outer() < 1400
    assert 300 <= inner() < 400


def test_a_table_is_not_charged_for_networks_that_had_to_be_trained(tmp_path, monkeypatch):
    forward = set_forward(monkeypatch)
    spec = lmc.ForkSpec(model="mlp-8", fork_epochs=(0,), recipe=lmc.Recipe(epochs=1, batch_size=128))
    families = lmc.fork_all([spec], tmp_path, progress=lambda done, steps: forward(10_000))
    lmc.over_pairs(lmc.sibling_pairs(families), lmc.barrier_curve, alphas=3, progress=False)
    made = {path.parent: json.loads(path.read_text())["seconds"] for path in tmp_path.rglob("provenance.json")}
    tables = {at: seconds for at, seconds in made.items() if list(at.glob("*.parquet"))}
    (measured,) = tables.values()
    assert measured < 10_000
    assert max(made.values()) > 10_000, "nor is what training took forgotten"
