"""What a merge leaves on disk: one safetensors file that says where it comes from, its card, and the plan as mergekit takes it."""

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from lmclib.errors import LmcError
from lmclib.files import write_text, written
from lmclib.merging.matching import Fitted
from lmclib.merging.streamed import StreamedCube

SUFFIX, CARD, RECIPE = ".safetensors", ".md", ".mergekit.yml"
# the types of tensors as safetensors calls them
TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
SIZES = {name: dtype.itemsize for dtype, name in TYPE_NAMES.items()}
# architectures that mergekit knows and whose tensors a linear merge of its treats one by one
MERGEKIT = (
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
    "GPT2LMHeadModel",
    "GPTNeoXForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "Phi3ForCausalLM",
    "PhiForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)


def check_output(path: Path, force: bool) -> None:
    """Check that a merge can be written, before anything is computed.

    Raises:
        LmcError: another ending, a file that is there without `force`, a folder that cannot be written to.
    """
    if path.suffix != SUFFIX:
        raise LmcError(f"{path}: must end in {SUFFIX}")
    there = [other for other in outputs(path) if other.exists()]
    if there and not force:
        raise LmcError(f"{there[0]}: is there already; give another path, or --force (force=True) to write over it")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise LmcError(f"{path}: cannot be written; {folder} must be a folder that may be written to")


def outputs(path: Path) -> list[Path]:
    """The merged file, its card and its recipe."""
    return [path, path.with_suffix(CARD), path.with_suffix(RECIPE)]


class Rounded(Mapping):
    """A state dict in the floating types of a checkpoint, each tensor rounded when it is asked for."""

    def __init__(self, state: Mapping[str, Tensor], like: Fitted):
        self.state, self.types = state, like.types

    def __getitem__(self, key: str) -> Tensor:
        value = self.state[key]
        return value.to(self.types[key] or value.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.types)

    def __len__(self) -> int:
        return len(self.types)


class Mixture(Mapping):
    """The state dict at a point of a cube whose ends are on disk, each tensor mixed when it is asked for, in the first end's type."""

    def __init__(self, cube: StreamedCube, point: Tensor):
        self.cube, self.alphas = cube, cube.coefficients(point)

    def __getitem__(self, key: str) -> Tensor:
        return self.cube.mix_into(torch.empty_like(self.cube.t1[key]), key, self.alphas.get(key, 0.0))

    def __iter__(self) -> Iterator[str]:
        return iter(self.cube.t1)

    def __len__(self) -> int:
        return len(self.cube.t1)


def write_merged(path: Path, state: Mapping[str, Tensor], like: Fitted, facts: Mapping[str, object]) -> None:
    """Write merged tensors under the keys of a checkpoint, one after the other, with all that is known of them in the header.

    By hand, in the format of safetensors: its own writer wants all tensors in memory.
    """
    named = {source: key for key, source in like.sources.items()}  # tied tensors once, as the checkpoint has them
    types = {source: TYPE_NAMES[state[key].dtype] for source, key in named.items()}
    order = sorted(named, key=lambda source: (-SIZES[types[source]], source))  # so that each is aligned
    header, end = {"__metadata__": {"format": "pt", "lmclib": json.dumps(facts, ensure_ascii=False)}}, 0
    for source in order:
        start, end = end, end + torch.Size(like.checkpoint.shapes[source]).numel() * SIZES[types[source]]
        header[source] = {"dtype": types[source], "shape": like.checkpoint.shapes[source], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with written(path.parent, path.name) as part, part.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for source in order:
            file.write(state[named[source]].contiguous().reshape(-1).view(torch.uint8).numpy().data)


def write_card(path: Path, facts: Mapping[str, object]) -> None:
    """Write the model card: what was merged, how, what was measured, and what it was made from."""
    write_text(path.with_suffix(CARD), card(path.name, facts))


def card(name: str, facts: Mapping[str, object]) -> str:
    """A model card in Markdown."""
    inputs = facts["inputs"]
    candidates = [
        (row["candidate"], row["norm_stats"], _number(row["loss"]), _number(row["error"]))
        for row in facts["candidates"]
    ]
    layers = [(layer, *map(_number, weights)) for layer, weights in facts["weights"].items()]
    sections = [
        f"# {path_stem(name)}",
        f"A layer-wise average of {len(inputs)} checkpoints of {facts['model']}, made by lmclib. {facts['said']}.",
        "## What was measured",
        f"Loss and error on {facts['held_out']} held-out examples of {facts['data']}; coefficients were fitted on {facts['fitted']} others. "
        f"This file: loss {facts['loss']:.6f}.",
        _table(("candidate", "statistics", "loss", "error"), candidates),
        "## Share of each checkpoint",
        _table(("layer", *(f"checkpoint {i + 1}" for i in range(len(inputs)))), layers),
        "## Made from",
        _table(("checkpoint", "SHA-256"), [(one["name"], one["sha256"]) for one in inputs]),
        f"On {facts['date']}, with {', '.join(f'{package} {version}' for package, version in facts['versions'].items())}.",
    ]
    if facts["kept"]:
        rows = list(facts["kept"].items())
        sections += ["## Left as in the first checkpoint", _table(("tensor", "in the second"), rows)]
    sections += [
        "## Load it",
        f'```python\nfrom safetensors.torch import load_file\n\nmodel.load_state_dict(load_file("{name}"))\n```',
    ]
    return "\n\n".join(sections) + "\n"


def path_stem(name: str) -> str:
    """A file's name without its ending."""
    return name.removesuffix(SUFFIX)


def write_recipe(path: Path, models: Sequence[Path], coefficients: Mapping[str, float], dtype: str) -> None:
    """Write the plan as a linear merge in mergekit's YAML: the share of every tensor in both models."""
    import yaml

    text = yaml.safe_dump(recipe([str(model) for model in models], coefficients, dtype), sort_keys=False)
    write_text(path.with_suffix(RECIPE), text)


def recipe(models: Sequence[str], coefficients: Mapping[str, float], dtype: str) -> dict:
    """A linear merge as mergekit reads it: for each model the weight of every tensor, found by the first filter within its name.

    Args:
        models: both, as mergekit finds them.
        coefficients: by tensor, 0 where it is the first model's and 1 where it is the second's.
        dtype: the floating type of the result.

    Example:
        >>> recipe(["a", "b"], {"h.0.weight": 0.25}, "float32")["models"][1]
        {'model': 'b', 'parameters': {'weight': [{'filter': 'h.0.weight', 'value': 0.25}, {'value': 0.0}]}}
    """
    names = sorted(coefficients, key=lambda name: (-len(name), name))  # no name hides a longer one that it is part of
    shares = [[1 - coefficients[name] for name in names], [coefficients[name] for name in names]]
    entries = [
        {
            "model": model,
            "parameters": {
                "weight": [
                    *({"filter": name, "value": share} for name, share in zip(names, values, strict=True)),
                    {"value": rest},  # of tensors that do not move: the first model's
                ]
            },
        }
        for model, values, rest in zip(models, shares, (1.0, 0.0), strict=True)
    ]
    return {"merge_method": "linear", "models": entries, "dtype": dtype}


def type_name(types: Mapping[str, torch.dtype | None]) -> str:
    """The commonest floating type of a checkpoint, as PyTorch calls it."""
    found = [dtype for dtype in types.values() if dtype is not None]
    return str(max(set(found), key=found.count)).removeprefix("torch.")


def today() -> str:
    """The date, as ISO 8601 writes it."""
    return datetime.now(UTC).date().isoformat()


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.4f}"
