"""The claims about forking can go either way."""

import numpy as np
import pandas as pd

import lmclib as lmc
from lmclib.claims.verdicts import verdict

GRID = np.linspace(0, 1, 25)


def test_forking_claims_can_go_either_way():
    shapes = {0.0: 0.5, 1.0: 0.06, 2.0: 0.0}
    rows = [
        {"seed": 0, "fork_epoch": fork, "epoch": epoch, "alpha": a, "error_barrier": b, "loss_barrier": b}
        for fork, height in shapes.items()
        for epoch in (3, 4, 5)
        for a, b in zip(GRID, height * 4 * GRID * (1 - GRID), strict=True)
    ]
    geometry = pd.DataFrame(
        {"seed": 0, "fork_epoch": fork, "epoch": epoch, "child_epoch": epoch - fork, "distance": 9 - fork,
         "origin_angle": 50 - 10 * fork, "fork_angle": 60 + fork, "plane_cosine": 0.8 - 0.1 * fork}
        for fork in shapes
        for epoch in (3, 4, 5)
    )  # fmt: skip
    verdicts = {
        name: verdict(claim["holds"]) for name, claim in lmc.forking_claims(pd.DataFrame(rows), geometry).items()
    }
    assert verdicts == {
        "F1": "holds",
        "B1": "holds",
        "B2": "holds",
        "B3": "holds",
        "B4": "holds in part",
        "B5": "holds",
        "B7": "holds",
    }
    flat = pd.DataFrame(rows).assign(error_barrier=0.0, loss_barrier=0.0)
    verdicts = {name: verdict(claim["holds"]) for name, claim in lmc.forking_claims(flat, geometry).items()}
    assert {verdicts[name] for name in ("F1", "B1", "B2", "B3")} == {"fails"}
