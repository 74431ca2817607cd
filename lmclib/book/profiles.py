"""The scales at which chapters run: `smoke` for tests, `digits` for a laptop, `cifar` for real images on one in hours, `paper` for a GPU."""

from collections.abc import Callable

import pandas as pd

from lmclib.book.settings import Settings, parameters
from lmclib.measures.layerwise import layer_table, single_layer_table
from lmclib.runs.federated import FederatedSpec
from lmclib.runs.spec import ForkSpec
from lmclib.training.recipe import RECIPES, Recipe

COMMITTED = ("cifar", "paper")  # whose tables are committed, as few could compute them again
ALL = 50_000  # examples: as many as the largest training set has
MEASURED = (1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 1)  # when children are measured, as parts of all epochs
BATCH_SIZE = {"smoke": 32, "digits": 32, "cifar": 128, "paper": 128}
# points on the segment between siblings, both ends among them; on real images as many as its committed tables have
ALPHAS = {"smoke": 11, "digits": 25, "cifar": 11, "paper": 25}
# by how much the learning rate is divided for comparison (A12); Layer-wise Linear Mode Connectivity has 0.05 and 0.001
LOWER = {"smoke": 10, "digits": 10, "cifar": 10, "paper": 50}

COMMON = {
    "siblings": 2,
    "seed": 0,
    "seeds": 3,
    "lr": 0.1,
    "weight_decay": 1e-4,
    "precision": "float32",
    "examples": ALL,
}
# one experiment, shared by every chapter that looks at siblings, so that it is trained once
FORKING = {
    "smoke": {
        "model": "resnet8-w4",
        "data": "digits",
        "fork_epochs": (0, 0.5, 1),
        "epochs": 2,
        **COMMON,
    },
    "digits": {
        "model": "resnet8-w8",
        "data": "digits",
        "fork_epochs": (0, 0.11, 0.25, 0.5, 1, 2, 4),
        "epochs": 12,
        **COMMON,
        "seeds": 5,
        "lr": 0.2,  # at 0.1 so small a network has less than half the barrier at the first fork, and seeds that differ tenfold
    },
    "cifar": {
        "model": "resnet20-w8",
        "data": "cifar10",
        "fork_epochs": (0, 0.25, 1, 2, 4, 8),
        "epochs": 16,
        **COMMON,
        "examples": 5_000,
    },
    "paper": {
        "model": "resnet20",
        "data": "cifar10",
        "fork_epochs": (0, 0.5, 1, 2, 3, 5, 8, 15, 30),
        "epochs": 160,
        **COMMON,
        "precision": "bf16",
    },
}

# layers and predictions: `few_examples` are what energies and many sets of layers are measured on; without normalisation, as in Layer-wise Linear Mode Connectivity, so that forks part later
LAYERS = {
    "smoke": {**FORKING["smoke"], "model": "mlp-12-12-12", "few_examples": 360},
    "digits": {
        **FORKING["digits"],
        # longer and at a lower rate than with batch norm, as it fits late
        "model": "resnet8-w12-none",
        "lr": 0.05,
        "epochs": 24,
        "fork_epochs": (0, 1, 4, 8),
        "seeds": 7,
        "few_examples": 360,
    },
    "cifar": {**FORKING["cifar"], "model": "resnet20-w8-fixup", "lr": 0.05, "few_examples": 1_000},
    "paper": {
        **FORKING["paper"],
        "model": "resnet18-none",
        "fork_epochs": (0, 2, 4, 6, 8, 14, 20),
        "epochs": 200,
        "lr": 0.05,
        "weight_decay": 5e-4,
        "few_examples": 5_000,
    },
}
# predictions of whole networks stand beside those of layers and of networks with batch norm, which are on some images at this scale
PREDICTIONS = {**LAYERS, "digits": {**LAYERS["digits"], "examples": LAYERS["digits"]["few_examples"]}}
# with batch norm, where single layers are looked at, of which there must be at least 20; elsewhere the network of the forks has as many
DEEPER = {"digits": {"model": "resnet14-w8", "lr": 0.1}}
# a sweep that is there for its timings, which are measured anew each time
SCALING = {
    "smoke": {
        "model": "mlp-8",
        "data": "digits",
        "fork_epochs": (0, 1),
        "epochs": 2,
        "seed": 0,
        "seeds": 2,
        "rates": (0.1,),
    },
    "digits": {
        "model": "resnet8-w4",
        "data": "digits",
        "fork_epochs": (0, 0.5),
        "epochs": 2,
        "seed": 0,
        "seeds": 2,
        "rates": (0.1, 0.05),
    },
}
SCALING.update({scale: SCALING["digits"] for scale in ("cifar", "paper")})  # workers are the same there
# other recipes: some forks of the chapter on forking, and several learning rates for the first of them
OTHER_RECIPES = {
    "smoke": {**FORKING["smoke"], "model": "mlp-12-12-12", "seeds": 2, "fork_epochs": (0, 1), "rates": (0.1,)},
    "digits": {
        **FORKING["digits"],
        "fork_epochs": (0, 0.25, 1, 4),
        "rates": (0.2, 0.06, 0.02, 0.006),
    },
    "cifar": {**FORKING["cifar"], "fork_epochs": (0, 1, 4, 8), "rates": (0.1, 0.03, 0.01, 0.003)},
    "paper": {**FORKING["paper"], "fork_epochs": (0, 1, 2, 15), "rates": (0.1, 0.03, 0.01, 0.003)},
}

# robustness, on the networks of the layer chapter's first fork: lengths of steps in units of the norm of the difference, draws of each
# direction, epochs of the small perceptrons (A6); `transformer` is the network of A5, with the higher of its two learning rates
STEPS = {
    "sigma": (0, 0.25, 0.5, 0.75, 1),
    "draws": 5,
    "mlp_epochs": 50,
    # of those that train within minutes the one that came closest to fitting in all four cases
    "transformer": "vit-p4-d48-l2",
    "transformer_lr": 5e-3,
    "transformer_epochs": 32,
}
OTHER_STEPS = {
    "smoke": {
        "sigma": (0, 0.5, 1),
        "draws": 2,
        "mlp_epochs": 3,
        "transformer": "vit-p4-d8-l1",
        "transformer_epochs": 1,
    },
    "cifar": {"transformer": "vit-p4-d64-l6", "transformer_epochs": 16},
    "paper": {"transformer": "vit-p4-d192-l9-h3", "transformer_epochs": 200},
}
ROBUSTNESS = {
    name: {
        **{key: value for key, value in values.items() if key != "examples"},
        "fork_epochs": values["fork_epochs"][:1],
        **STEPS,
        **OTHER_STEPS.get(name, {}),
    }
    for name, values in LAYERS.items()
}

# single-layer cuts of deep linear networks: random pairs to check, and stacks of pairs to train for some steps
DEEP_LINEAR = {
    "smoke": {"networks": 300, "stack": 4, "steps": 50, "seed": 0},
    "digits": {"networks": 10_500, "stack": 40, "steps": 600, "seed": 0},
    "paper": {"networks": 100_000, "stack": 200, "steps": 5_000, "seed": 0},
}

# two checkpoints: the forking chapter's networks of two seeds, unless the reader brings files; ratios are fitted on some images
FITTED = {"smoke": 240, "digits": 720, "cifar": 5_000, "paper": 5_000}
CHECKPOINTS = {
    name: {**values, "seeds": 2, "examples": FITTED[name], "checkpoints": ()} for name, values in FORKING.items()
}

# clients: rounds of local training, and two clients that never average (`epochs`, `pair_lr`); Layer-wise Linear Mode Connectivity
# has 20 clients, Dirichlet 0.01, lr 0.01, batches of 64, ten rounds of ten epochs, and 200 epochs at lr 0.05 for two clients
FEDERATED = {
    "smoke": {
        "model": "mlp-12-12",
        "data": "digits",
        "clients": 4,
        "split": ("iid", "dirichlet"),
        "beta": (0.5, 0.01),
        "averaged": ("head", "top:1"),
        "rounds": 2,
        "local_epochs": 1,
        "epochs": 2,
        "seed": 0,
        "seeds": 2,
        "lr": 0.05,
        "pair_lr": 0.05,
        "momentum": 0.9,
        "keep_momentum": False,
        "batch_size": 32,
        "weight_decay": 1e-4,
        "augment": False,  # so that small networks fit what little a client has, within seconds
    },
}
FEDERATED["digits"] = {
    **FEDERATED["smoke"],
    "model": "mlp-64-64-64",
    "clients": 20,
    "averaged": ("body", "head", "top:2", "bottom:2"),
    "rounds": 8,
    "local_epochs": 2,
    "epochs": 20,
    "seeds": 5,
    "keep_momentum": True,
    "batch_size": 16,
}
FEDERATED["cifar"] = {
    **FEDERATED["digits"],
    "model": "resnet20-w8-fixup",
    "data": "cifar10",
    "averaged": ("body", "head", "top:7", "bottom:7"),
    "rounds": 10,
    "local_epochs": 3,
    "epochs": 16,
    "seeds": 3,
    "lr": 0.01,
    "keep_momentum": False,
    "batch_size": 64,
    "augment": True,
}
FEDERATED["paper"] = {
    **FEDERATED["cifar"],
    "model": "resnet18-none",
    "averaged": ("body", "head", "top:6", "bottom:6"),
    "local_epochs": 10,
    "epochs": 200,
    "weight_decay": 5e-4,
}


def measured_epochs(epochs: int) -> tuple[int, ...]:
    """The epochs at which children are stored and measured: dense early, sparse late, the last included.

    Example:
        >>> measured_epochs(12)
        (1, 2, 3, 4, 6, 9, 12)
    """
    return tuple(sorted({max(1, round(part * epochs)) for part in MEASURED}))


def layer_measure(profile: str) -> Callable[..., pd.DataFrame]:
    """What measures every single layer against both models: `single_layer_table`; at scales whose tables are committed `layer_table`,
    as these are of it, which takes twice the points for its second baseline.

    Example:
        >>> layer_measure("digits").__name__, layer_measure("cifar").__name__
        ('single_layer_table', 'layer_table')
    """
    return layer_table if profile in COMMITTED else single_layer_table


def fork_specs(settings: Settings) -> list[ForkSpec]:
    """The forking experiment that a chapter's settings describe, once for each seed.

    The learning rate falls tenfold after one half and after three quarters of the epochs, as in Landscaping Linear Mode
    Connectivity, appendix B.1 (80 and 120 of 160).
    """
    recipe = Recipe(
        epochs=settings.epochs,
        batch_size=BATCH_SIZE[settings.profile],
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        milestones=(settings.epochs / 2, settings.epochs * 3 / 4),
    )
    return [
        ForkSpec(
            model=settings.model,
            data=settings.data,
            fork_epochs=settings.fork_epochs,
            siblings=settings.siblings,
            seed=seed,
            recipe=recipe,
            checkpoint_epochs=measured_epochs(settings.epochs),
            precision=settings.precision,
        )
        for seed in range(settings.seed, settings.seed + settings.seeds)
    ]


def layer_specs(settings: Settings) -> list[ForkSpec]:
    """As `fork_specs`; on real images with the schedule of Layer-wise Linear Mode Connectivity, figure 1, and at paper scale its batches."""
    names = {"cifar": ("schedule", "warmup"), "paper": ("schedule", "warmup", "batch_size")}.get(settings.profile, ())
    return varied(fork_specs(settings), **{name: getattr(RECIPES["layer-wise"], name) for name in names})


def normed_specs(settings: Settings, deeper: bool = False) -> list[ForkSpec]:
    """The networks with batch norm of the chapter on forking, as in `FORKING`, on the data and from the seed of another chapter.

    Args:
        settings: of that chapter.
        deeper: whether they must have at least 20 layers: then they may be others, trained alike.
    """
    own = {name: getattr(settings, name) for name in ("profile", "store", "data", "seed", "precision")}
    own["seeds"] = min(settings.seeds, FORKING[settings.profile]["seeds"])
    own |= DEEPER.get(settings.profile, {}) if deeper else {}
    return fork_specs(parameters(own, FORKING))


def federated_specs(settings: Settings) -> list[FederatedSpec]:
    """The federated runs that a chapter's settings describe: of each split and seed, all layers averaged, each set of `averaged`, and none."""
    splits = [
        {"split": split, "beta": beta}
        for split in settings.split
        for beta in (settings.beta if split == "dirichlet" else settings.beta[:1])
    ]
    return [
        _federated(settings, seed, lr=settings.lr, clients=settings.clients, averaged=averaged, **split)
        for split in splits
        for averaged in dict.fromkeys(("all", *settings.averaged, "none"))
        for seed in range(settings.seed, settings.seed + settings.seeds)
    ]


def client_pair_specs(settings: Settings) -> list[FederatedSpec]:
    """Two clients that never average, of each seed: i.i.d., of the first `beta`, with classes of their own, and with the same data."""
    splits = ({"split": "iid"}, {"split": "dirichlet", "beta": settings.beta[0]}, {"split": "shards", "shards": 1})
    return [
        _federated(settings, seed, lr=settings.pair_lr, clients=2, averaged="none", **split)
        for split in (*splits, {"split": "same"})
        for seed in range(settings.seed, settings.seed + settings.seeds)
    ]


def _federated(settings: Settings, seed: int, **own: object) -> FederatedSpec:
    shared = (
        "model",
        "data",
        "rounds",
        "local_epochs",
        "momentum",
        "keep_momentum",
        "batch_size",
        "weight_decay",
        "augment",
    )
    return FederatedSpec(seed=seed, **{name: getattr(settings, name) for name in shared}, **own)


def varied(specs: list[ForkSpec], fork_epochs: tuple[float, ...] | None = None, **changes: object) -> list[ForkSpec]:
    """The same experiments with other hyper-parameters, and with some of the forks only.

    Example:
        >>> (spec,) = varied([ForkSpec()], fork_epochs=(0,), weight_decay=0)
        >>> spec.fork_epochs, spec.recipe.weight_decay, spec.recipe.lr
        ((0,), 0, 0.1)
    """
    return [
        spec.model_copy(
            update={
                "fork_epochs": spec.fork_epochs if fork_epochs is None else fork_epochs,
                "recipe": spec.recipe.model_copy(update=changes),
            }
        )
        for spec in specs
    ]
