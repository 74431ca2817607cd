"""Linear mode connectivity: fork networks, span the layer cube between them, measure and predict barriers.

Everything public is reachable as ``lmc.name`` after ``import lmclib as lmc``. Names are looked up on first use, so
importing the package costs nothing and a chapter depends only on the rooms whose names it uses.
"""

from importlib import import_module

__version__ = "0.1.0"

# public name -> the room (module) that defines it, floor by floor from the bottom
_ROOMS = {
    "errors": ("LmcError",),
    "data": ("Dataset", "Split", "load_data"),
    "layers": ("Layer", "find_layers"),
    "models": ("build_model",),
    "store": ("Store",),
    "training": ("RECIPES", "Recipe"),
    "families": ("Family", "ForkSpec"),
    "forking": ("fork", "fork_all"),
    "cube": ("LayerCube",),
    "pairs": ("Pair", "over_pairs", "sibling_pairs", "stranger_pairs"),
    "barriers": ("barrier_curve", "barrier_evolution", "barrier_height", "barrier_kind"),
    "layerwise": (
        "cumulative_barriers",
        "group_barriers",
        "layer_barriers",
        "layer_key",
        "layer_table",
        "null_model",
        "pair_barriers",
        "set_table",
        "staircase_table",
        "window_barriers",
    ),
    "energies": ("Energies", "end_slopes", "energy_table"),
    "prediction": (
        "cost_table",
        "predict_curve",
        "predict_group_barriers",
        "predict_layer_barriers",
        "prediction_table",
    ),
    "comparison": ("agreement", "agreements"),
    "geometry": ("distance", "layer_distances", "sibling_angle", "sibling_geometry", "solution_plane_cosine"),
    "settings": ("parameters",),
    "profiles": ("DEEP_LINEAR", "FORKING", "LAYERS", "LOWER", "fork_specs", "layer_specs", "normed_specs", "varied"),
    "claims.forking": ("forking_claims", "stable_from"),
    "claims.layers": ("layer_claims",),
    "claims.predictions": ("better_predictor_claim", "prediction_claims"),
    "ledger": ("CLAIMS", "judge"),
    "paper": ("embedded_results", "paper_results"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str):
    if name in _ROOM_OF:
        return getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"lmclib has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
