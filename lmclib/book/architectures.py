"""The networks of the chapter on architectures: one recipe a family, at every scale."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lmclib.book.profiles import measured_epochs
from lmclib.book.results import Results
from lmclib.book.settings import Settings
from lmclib.data.text import TOPICS, is_text
from lmclib.errors import LmcError
from lmclib.provenance import hardware
from lmclib.runs.family import Family
from lmclib.runs.spec import ForkSpec
from lmclib.training.recipe import Recipe

ALL, OWN = "all", "own"  # networks; data of each network's own

SGD = {"schedule": "cosine", "warmup": 1, "lr": 0.05, "weight_decay": 5e-4}
ADAMW = {"schedule": "cosine", "warmup": 1, "optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.05}
# by the beginning of a network's name; a longer one counts first
RECIPES: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "": SGD,
        "mlp": {**SGD, "lr": 0.1},
        "mobilenet": {**ADAMW, "lr": 3e-3},
        "vit": {**ADAMW, "lr": 5e-3},
        "gpt": {**ADAMW, "lr": 3e-3, "weight_decay": 0.1},
    }
)
BATCH_SIZE = {"smoke": 32, "digits": 32, "cifar": 128, "paper": 128}
COMMON = {
    "model": ALL,
    "data": OWN,
    "seed": 0,
    "seeds": 5,
    "epochs": None,
    "lr": None,
    "precision": "float32",
    "few_examples": 360,
}
ARCHITECTURES = {
    "smoke": {**COMMON, "seeds": 2, "few_examples": 100},
    "digits": COMMON,
    "cifar": {**COMMON, "seeds": 3, "few_examples": 1_000},
    "paper": {**COMMON, "seeds": 3, "few_examples": 5_000},
}
# of each scale: networks, their data and epochs
NETWORKS: Mapping[str, Mapping[str, tuple[str, int]]] = MappingProxyType(
    {
        "smoke": {"mlp-12-12-12": ("digits", 2), "vit-p4-d8-l1": ("digits", 1), "gpt-d8-l1": (f"{TOPICS}@128", 1)},
        "digits": {
            "mlp-64-64-64": ("digits", 24),
            "vgg11-w4-none": ("digits", 12),
            "vgg11-w4": ("digits", 12),
            "mobilenet-w0.25-l1": ("digits", 12),
            "vit-p4-d32-l3": ("digits", 24),
            "gpt-d32-l3": (TOPICS, 2),
        },
        "cifar": {
            "vgg11-w16-none": ("cifar10", 16),
            "mobilenet-w0.5": ("cifar10", 16),
            "vit-p4-d64-l6": ("cifar10", 16),
            "gpt-d64-l4": (f"{TOPICS}@64", 4),
        },
        "paper": {
            "vgg11-none": ("cifar10", 200),
            "mobilenet": ("cifar10", 200),
            "vit-p4-d192-l9-h3": ("cifar10", 200),
            "gpt-d384-l12-h6": (f"{TOPICS}@256", 20),
        },
    }
)


def architecture_specs(settings: Settings) -> dict[str, list[ForkSpec]]:
    """The experiments of every network of a scale, or of the one that the settings name: siblings of one fork, at initialisation.

    Args:
        settings: of the chapter, with `ARCHITECTURES`; `model` is `all` or a network's name, `data` is `own` or a data set's name (among
            all networks those that can take it do), `epochs` and `lr` are each network's own unless given.

    Returns:
        A list of experiments, one a seed, by the network's name.

    Raises:
        LmcError: text for a network that takes images, or images for one that takes text.
    """
    known = NETWORKS[settings.profile]
    names = list(known) if settings.model == ALL else [settings.model]
    return {name: [_spec(name, settings, seed) for seed in _seeds(settings)] for name in names}


def results_by_network(
    settings: Settings,
    by_network: Mapping[str, list[Family]],
    others: Sequence[Results] = (),
    **tables: Mapping[str, object],
) -> dict[str, Results]:
    """One result a network, for a figure with a tab each.

    Args:
        settings: of the chapter.
        by_network: the families of each network.
        others: results of other networks, which have tabs, too.
        **tables: what was measured, by network.
    """
    found = {
        name: Results({table: own[name] for table, own in tables.items()}, _said(settings, name, families))
        for name, families in by_network.items()
    }
    for results in others:
        for name in results.tables["by_network"]:
            found.setdefault(name, Results({table: results.tables[table][name] for table in tables}, results.said))
    return found


def _said(settings: Settings, name: str, families: list[Family]) -> str:
    spec = families[0].spec
    seeds = f"seed {spec.seed}" if len(families) == 1 else f"seeds {spec.seed} to {families[-1].spec.seed}"
    trained = f"{name} on {families[0].card.label}, {spec.recipe.epochs} epochs"
    return f"Profile {settings.profile}: {trained}; {seeds}; {settings.few_examples:,} examples; {hardware()}"


def recipe_of(model: str, profile: str, epochs: int) -> Recipe:
    """The recipe of a network at a scale.

    Example:
        >>> recipe_of("vit-p2-d32-l4", "digits", 16).optimizer, recipe_of("resnet8", "digits", 16).lr
        ('adamw', 0.05)
    """
    family = max((begin for begin in RECIPES if model.startswith(begin)), key=len)
    return Recipe(epochs=epochs, batch_size=BATCH_SIZE[profile], **RECIPES[family])


def _seeds(settings: Settings) -> range:
    return range(settings.seed, settings.seed + settings.seeds)


def _spec(model: str, settings: Settings, seed: int) -> ForkSpec:
    known = NETWORKS[settings.profile]
    alike = next((name for name in known if name.split("-")[0] == model.split("-")[0]), next(iter(known)))
    own, epochs = known.get(model, known[alike])
    fits = settings.data != OWN and is_text(settings.data) == model.startswith("gpt")
    if settings.data != OWN and not fits and settings.model != ALL:
        takes = "text, not images" if model.startswith("gpt") else "images, not text"
        raise LmcError(f"data={settings.data!r}: model={model!r} takes {takes}")
    recipe = recipe_of(model, settings.profile, settings.epochs or epochs)
    recipe = recipe if settings.lr is None else recipe.model_copy(update={"lr": settings.lr})
    return ForkSpec(
        model=model,
        data=settings.data if fits else own,
        fork_epochs=(0,),
        siblings=2,
        seed=seed,
        recipe=recipe,
        checkpoint_epochs=measured_epochs(recipe.epochs),
        precision=settings.precision,
    )
