"""Linear mode connectivity: fork networks, span the layer cube between them, measure and predict barriers.

Everything public is reachable as ``lmc.name`` after ``import lmclib as lmc``. Names are looked up on first use, so importing the
package costs nothing and a chapter depends only on the files whose names it uses.
"""

from importlib import import_module

__version__ = "0.1.0"

# the file that defines each public name, from the bottom up
_FILES = {
    "errors": ("LmcError",),
    "networks.layers": ("Layer", "find_layers"),
    "networks.build": ("build_model",),
    "data.dataset": ("Dataset", "Split"),
    "data.load": ("load_data",),
    "data.clients": ("Client", "class_shares", "split_clients"),
    "store.store": ("Store",),
    "training.recipe": ("RECIPES", "Recipe"),
    "cube.points": ("LayerCube",),
    "cube.statistics": ("tracked_norms",),
    "cube.energies": ("Energies", "end_slopes", "energy_table"),
    "runs.spec": ("ForkSpec",),
    "runs.family": ("Family",),
    "runs.fork": ("fork", "fork_all"),
    "runs.pairs": ("Pair", "independent_pairs", "sibling_pairs"),
    "runs.measuring": ("over_pairs",),
    "runs.federated": ("FederatedSpec", "Federation", "federated_rounds"),
    "runs.local_training": ("LocalTraining",),
    "measures.barriers": ("barrier_curve", "barrier_evolution", "barrier_height"),
    "measures.alignment": ("align",),
    "measures.kinds": ("KindRule", "barrier_kind"),
    "measures.layerwise": (
        "cumulative_barriers",
        "group_barriers",
        "layer_barriers",
        "layer_key",
        "layer_table",
        "null_model",
        "pair_barriers",
        "set_table",
        "single_layer_table",
        "staircase_table",
        "window_barriers",
    ),
    "measures.predictions": (
        "cost_table",
        "energy_predictions",
        "predict_curve",
        "predict_group_barriers",
        "predict_layer_barriers",
        "prediction_table",
    ),
    "measures.agreement": ("agreement", "agreements"),
    "measures.parents": ("parent_values",),
    "measures.geometry": ("distance", "layer_distances", "sibling_angle", "sibling_geometry", "solution_plane_cosine"),
    "measures.partial_averaging": (
        "barriers_after_first_round",
        "client_layers",
        "federated_accuracy",
        "first_barriers",
        "split_table",
        "unaveraged_layers",
    ),
    "measures.controls": ("parameter_set_barriers", "random_set_barriers"),
    "measures.perturbation": ("Subspace", "perturbation_table"),
    "measures.subspace_steps": ("subspace_steps",),
    "measures.noise": ("noise_table",),
    "claims.catalogue": ("CLAIMS",),
    "claims.verdicts": ("Part",),
    "claims.federated": ("partial_averaging_claim", "unaveraged_clients_claim"),
    "claims.fit": ("fit_said",),
    "claims.architectures": ("architecture_claims",),
    "claims.forking": ("forking_claims", "stable_from"),
    "claims.layers": ("layer_set_claims", "learning_rate_claims", "single_layer_claims"),
    "claims.recipes": ("Forked", "recipe_claims"),
    "claims.robustness": ("noise_claims", "random_step_claims", "transformer_claims"),
    "claims.predictions": ("better_predictor_claim", "prediction_claims"),
    "book.settings": ("parameters",),
    "book.profiles": (
        "CHECKPOINTS",
        "ALPHAS",
        "DEEP_LINEAR",
        "FEDERATED",
        "FORKING",
        "LAYERS",
        "LOWER",
        "OTHER_RECIPES",
        "PREDICTIONS",
        "client_pair_specs",
        "federated_specs",
        "ROBUSTNESS",
        "SCALING",
        "fork_specs",
        "layer_measure",
        "layer_specs",
        "measured_epochs",
        "normed_specs",
        "varied",
    ),
    "book.architectures": ("ARCHITECTURES", "architecture_specs", "recipe_of", "results_by_network"),
    "book.ledger": ("judge",),
    "book.results": ("results_by_scale", "results_of_runs"),
    "book.first_look": ("first_look",),
    "book.timed_sweep": ("efficiency", "timed_sweep"),
    "book.sentences": ("glue", "say"),
    "merging.plan": ("MergePlan", "merge_plan"),
    "merging.merge": ("Merged", "merge"),
}
PUBLIC = {name: file for file, names in _FILES.items() for name in names}  # public name -> file below this folder

__all__ = sorted(PUBLIC)


def __getattr__(name: str):
    if name in PUBLIC:
        return getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)
    raise AttributeError(f"lmclib has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
