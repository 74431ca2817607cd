"""Small made-up tables in the form that figures take, with what the real ones have: late forks, decades, negative barriers."""

import json
import re
from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd

FORKS = (0, 0.11, 0.25, 0.5, 1, 2, 4)
EPOCHS = (1, 2, 3, 4, 6, 9, 12)
LAYERS = ("stem", "block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2", "head")


def curves(
    forks=FORKS, epochs=EPOCHS, seeds=(0, 1, 2), norm_stats=("interpolate", "recompute"), alphas=11
) -> pd.DataFrame:
    """Barrier curves: high for early forks, far below zero with recomputed statistics early in training."""
    grid = np.linspace(0, 1, alphas)
    rows = []
    for seed in seeds:
        for fork in forks:
            for epoch in (e for e in epochs if e >= fork + 0.5):
                for stats in norm_stats:
                    if seed and (stats == "recompute" or (fork and epoch < epochs[-1])):
                        continue  # as the chapter measures
                    height = (
                        0.85 / (1 + 6 * fork) * (1 if stats == "interpolate" else 0.2 - 0.5 / epoch) * (1 + 0.1 * seed)
                    )
                    bump = 4 * grid * (1 - grid)
                    base = 0.5 / epoch
                    rows.append(
                        pd.DataFrame(
                            {
                                "alpha": grid,
                                "error": base * 0.3 + np.clip(height * bump, -0.1, None),
                                "loss": base + 4 * height * bump**2 / (0.2 + fork) * 0.4 + 0.2,
                                "error_barrier": height * bump,
                                "loss_barrier": 4 * height * bump**2 / (0.2 + fork) * 0.4,
                            }
                        ).assign(
                            seed=seed, fork_epoch=float(fork), epoch=epoch, pair="1–2", split="train", norm_stats=stats
                        )
                    )
    return pd.concat(rows, ignore_index=True)


def parents(forks=FORKS, seeds=(0, 1, 2)) -> pd.DataFrame:
    """Parents that get better from fork to fork, a seed a little worse than the one before."""
    return pd.DataFrame(
        {
            "seed": seed,
            "epoch": float(fork),
            "split": "train",
            "norm_stats": "interpolate",
            "loss": 2.4 / (1 + 3 * fork) + 0.01 * seed,
            "error": 0.9 / (1 + 3 * fork) + 0.01 * seed,
        }
        for seed in seeds
        for fork in forks
    )


def layer_table() -> pd.DataFrame:
    """Barriers of single layers and of the network, both ways, of siblings and independent pairs, some negative."""
    rows = [
        {
            "case": case,
            "seed": 0,
            "fork_epoch": float(fork),
            "epoch": epoch,
            "layer": layer,
            "into": into,
            "split": split,
            "baseline": baseline,
            "loss_barrier": (k - 2)
            / 3
            / (1 + fork)
            * epoch
            / 12
            * (1.2 if into == "1" else -0.4)
            * (9 if layer == "network" else 1),
            "error_barrier": (k - 2) / 12 / (1 + fork) * (0.5 if baseline == "cut" else 1),
        }
        for case, forks in (("siblings", (0, 0.5, 4)), ("independent", (0,)))
        for fork in forks
        for epoch in (3, 6, 12)
        if epoch > fork
        for k, layer in enumerate((*LAYERS, "network"))
        for into in ("1", "2", "both")
        for split in ("train", "test")
        for baseline in ("models", "cut")
    ]
    return pd.DataFrame(rows)


def stair_table() -> pd.DataFrame:
    """Staircases of three orders, one of them at random in several draws."""
    rows = [
        {
            "case": case,
            "order": order,
            "draw": draw,
            "n_layers": n + 1,
            "layer": layer,
            "epoch": epoch,
            "into": into,
            "loss_barrier": np.sin(n + draw + (order == "top-down")) * epoch / (1 if case == "siblings" else 4),
            "error_barrier": n / 20,
        }
        for case, epochs in (("siblings", (3, 6, 12)), ("independent", (6, 12)))
        for order, draws in (("bottom-up", 1), ("top-down", 1), ("random", 3))
        for draw in range(draws)
        for epoch in epochs
        for into in ("1", "2", "both")
        for n, layer in enumerate(LAYERS)
    ]
    return pd.DataFrame(rows)


def client_rounds() -> pd.DataFrame:
    """Clients of three splits over rounds: averaging all is best where data are alike and worst where they are not."""
    sent = {"all": 4000, "head": 1000, "top:1": 3000, "none": 0}
    mean = {
        "i.i.d.": (0.9, 0.8, 0.85, 0.7),
        "Dirichlet 0.5": (0.8, 0.75, 0.82, 0.78),
        "Dirichlet 0.01": (0.4, 0.9, 0.6, 1),
    }
    rows = [
        {
            "case": case,
            "averaged": name,
            "seed": seed,
            "round": number,
            "local_accuracy": (height := top * number / 3 - 0.01 * seed),
            "worst_local_accuracy": height / 2,
            "tuned_accuracy": height * 0.9 + 0.1,
            "worst_tuned_accuracy": height * 0.4,
            "bytes": sent[name],
        }
        for case, tops in mean.items()
        for name, top in zip(sent, tops, strict=True)
        for seed in (0, 1, 2)
        for number in (1, 2, 3)
    ]
    return pd.DataFrame(rows)


def client_shares() -> pd.DataFrame:
    """Three clients with two classes each, alike in one split and apart in the other."""
    shares = {"i.i.d.": (0.5, 0.4, 0.6), "Dirichlet 0.01": (1.0, 0.0, 0.75)}
    return pd.DataFrame(
        {
            "case": case,
            "seed": 0,
            "client": k,
            "class": name,
            "share": share if name == "a" else 1 - share,
            "examples": 10 * (k + 1),
            "test_examples": 5,
        }
        for case, own in shares.items()
        for k, share in enumerate(own)
        for name in ("a", "b")
    )


def compared_table() -> pd.DataFrame:
    """Predicted and actual barriers of two kinds by two methods, over four decades; the second method knows one kind only."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "what": what,
            "method": method,
            "seed": seed,
            "fork_epoch": float(fork),
            "actual": actual,
            "predicted": actual * factor,
        }
        for what, size in (("network", 1.0), ("single layers", 0.01))
        for method in (("published", "gradient") if what == "network" else ("published",))
        for seed in range(3)
        for fork in (0, 0.5, 4)
        for actual, factor in [(size / (1 + fork) * rng.uniform(0.5, 2), rng.uniform(0.5, 30))]
    ]
    return pd.DataFrame(rows)


def layer_triples() -> pd.DataFrame:
    """Barrier, energy and distance of layers over forks and epochs; the distance never varies at the last fork."""
    rows = [
        {
            "layer": layer,
            "fork_epoch": float(fork),
            "epoch": epoch,
            "barrier": (k - 1) / (1 + fork) * epoch,
            "energy": (k + 1) / (1 + fork) * epoch,
            "distance": 2.0 if fork == 4 else k + 1.0,
        }
        for fork in (0, 0.5, 4)
        for epoch in (3, 6, 12)
        if epoch > fork
        for k, layer in enumerate(LAYERS)
    ]
    return pd.DataFrame(rows)


def parabola_cuts() -> pd.DataFrame:
    """Parabolas of the layers of networks of several depths, deeper ones higher, with passes at every other point."""
    rows = [
        {"depth": depth, "layer": layer, "alpha": alpha, "loss": loss, "passes": None if i % 2 else loss + 1e-9 * depth}
        for depth in (2, 4)
        for layer in range(depth)
        for i, alpha in enumerate(np.linspace(0, 1, 5))
        for loss in [depth * (layer + 1) * (alpha - 0.4) ** 2]
    ]
    return pd.DataFrame(rows)


def step_table() -> pd.DataFrame:
    """Steps along four directions in some layers and the network, on two settings, one of them a hundred times as costly."""
    rows = [
        {
            "setting": setting,
            "seed": seed,
            "layer": layer,
            "direction": direction,
            "draw": draw,
            "sigma": sigma,
            "loss": 0.2 + costs * (1 + seed) * sigma**2 * (k + 1) * (1 + 0.1 * draw) / (1 + d),
            "error": min(0.9, 0.02 + 0.1 * sigma * (k + 1) / (1 + d)),
        }
        for setting, costs in (("test", 1.0), ("training", 0.01))
        for seed in (0, 1)
        for k, layer in enumerate((*LAYERS, "network"))
        for d, direction in enumerate(("random", "averaging direction", "training subspace", "null space"))
        for draw in range(1 if direction == "averaging direction" else 2)
        for sigma in (0.0, 0.5, 1.0)
    ]
    return pd.DataFrame(rows)


def assert_scales_stay(spec: dict, switches: tuple[str, ...] = ()) -> None:
    """Every axis and colour that shows a field has a domain of its own, which no control moves.

    Args:
        spec: of a chart.
        switches: the controls that choose *what* is measured, of which a domain may depend.
    """
    moving = [name for name in controls(spec) if name not in switches]
    views = list(_views(spec))
    assert views
    for view in views:
        for channel in ("x", "y", "color"):
            own = [unit["encoding"][channel] for unit in view if _shows_field(unit, channel)]
            domains = [json.dumps(scale["domain"]) for e in own if "domain" in (scale := e.get("scale") or {})]
            assert not own or domains, f"{channel} of {own[0].get('field')} is as wide as what happens to be shown"
            # colours of different things may have a domain each, places may not
            assert len(set(domains)) <= (1 if channel != "color" else len({e.get("field") for e in own})), channel
            for domain in domains:
                assert not [name for name in moving if re.search(rf"\b{name}\b", domain)], domain


def controls(spec: dict) -> dict[str, list]:
    """The values that each control with buttons can have, by its name in expressions."""
    found = {}
    for param in spec.get("params", []):
        if "options" in (bind := param.get("bind", {})):
            found[param["name"].removesuffix("_at")] = bind["options"]
    return found


def assert_title_follows(spec: dict, *names: str) -> dict[tuple, str]:
    """The title is looked up by these controls, and has an answer for each of their values; the answers."""
    expression = spec["title"]["text"]["expr"]
    assert " + '|' + ".join(names) in expression
    answers = next(param["value"] for param in spec["params"] if param["name"] == "answers")
    by_values = {}
    for values in product(*(controls(spec)[name] for name in names)):
        key = "|".join(map(str, values))
        assert key in answers, f"no title for {key}"
        by_values[values] = " ".join(answers[key]).strip()
    assert "nan" not in json.dumps(answers)
    return by_values


def legend(channel: dict) -> dict[str, list]:
    """What a legend that follows the controls lists, by their values."""
    return json.loads(channel["legend"]["values"]["expr"].split(")[")[0][1:])


def _views(spec: dict) -> Iterator[list[dict]]:
    """The units of each view: one, or the layers that share scales."""
    for part in ("vconcat", "hconcat", "concat"):
        for child in spec.get(part, []):
            yield from _views(child)
    if "spec" in spec:
        yield from _views(spec["spec"])
    if "layer" in spec:
        yield [unit for child in spec["layer"] for view in _views(child) for unit in view]
    elif "mark" in spec:
        yield [spec]


def _shows_field(unit: dict, channel: str) -> bool:
    encoding = unit.get("encoding", {}).get(channel, {})
    return ("field" in encoding or "aggregate" in encoding) and not (
        channel == "color" and encoding.get("scale", "") is None
    )


def dataset(spec: dict, *columns: str) -> pd.DataFrame:
    """The only data of a chart that have these columns."""
    found = [rows for rows in spec["datasets"].values() if set(columns) <= set(rows[0])]
    assert len(found) == 1
    return pd.DataFrame(found[0])
