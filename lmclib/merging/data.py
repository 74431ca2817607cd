"""What two checkpoints are measured on: images in folders, a data set of torchvision, text, tensors in a file, or a loader."""

import json
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lmclib.cube.batching import is_pair
from lmclib.data.dataset import Dataset
from lmclib.data.load import load_data
from lmclib.errors import LmcError, first_line
from lmclib.merging.named import Named, imported, named

Pair = tuple[Tensor, Tensor]
MOST = 1_000  # examples, unless the reader says otherwise
# how torchvision's own networks want their images: ImageNet's mean and deviation of each channel
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOKENS = 128  # in a piece of text
TEXT = "text:"
BOOK = re.compile(r"(digits|cifar10|topics(@\d+)?|folder:.+)")  # data sets of this book, but for its texts
ALLOWED = (
    "a folder with one folder of images per class, as in images(size=224) where they differ in size; a data set of torchvision, such as "
    "CIFAR10(root='data'); text:PATH; an .npz or .safetensors file of x and y; package.module:function, which gives (x, y) or batches; "
    "or a data set of this book: digits, cifar10, topics, folder:PATH"
)


def load_examples(name: str, folder: Path | None = None, most: int = MOST, of_the_book: bool = False) -> Pair:
    """Load what `--data` names as a pair of tensors: inputs and what they should give.

    Images become floats in the order (N, C, H, W), scaled to ImageNet's mean and deviation as torchvision's networks want them, one
    channel to [0, 1]. Text is cut into pieces of up to 128 tokens, by the tokenizer in the model's Hugging Face folder or else byte by
    byte, and each token should give the next. Of a data set of this book the test split is taken, as its networks see it. Where there is more than `most` examples, evenly spaced ones are taken.

    Args:
        name: one of the forms above.
        folder: the model's Hugging Face folder, where it has one.
        most: how many examples at most.
        of_the_book: whether they are for a network of this book, which sees a text as its characters.

    Raises:
        LmcError: an unknown form, a missing file, no examples, inputs that are not finite, more of one than of the other.

    Example:
        >>> [tuple(part.shape) for part in load_examples("digits", most=10)]
        [(10, 1, 8, 8), (10,)]
    """
    if most < 2:
        raise LmcError(f"examples={most}: must be at least 2, one part to fit on and one to judge on")
    x, y = _loaded(name, folder, most, of_the_book)
    if not len(x) or not len(y):
        raise LmcError(f"data={name!r}: is empty; must hold at least 2 examples")
    if len(x) != len(y):
        raise LmcError(f"data={name!r}: has {len(x)} inputs and {len(y)} targets; must have as many")
    if len(x) < 2:
        raise LmcError(f"data={name!r}: has one example; must hold at least 2, one part to fit on and one to judge on")
    for what, part in (("x", x), ("y", y)):
        if part.is_floating_point() and not bool(part.isfinite().all()):
            raise LmcError(f"data={name!r}: {what} holds NaN or infinite numbers; all must be finite")
    return x, y


def check_classes(name: str, model: nn.Module, data: Pair) -> None:
    """Check that a network of this book has an output for each class of a data set of this book.

    A text numbers its characters by its own alphabet, so another text than that which it was trained on would be read wrongly.

    Raises:
        LmcError: it has more or fewer.
    """
    if not _is_of_the_book(name, True):
        return
    classes = len(_book_data(name).classes)
    with torch.no_grad():
        outputs = model.eval()(data[0][:1]).shape[-1]
    if outputs != classes:
        raise LmcError(
            f"data={name!r}: has {classes} classes or characters, and the model {outputs} outputs; must be what it was trained on"
        )


def check_examples(name: str, model: nn.Module, data: Pair) -> None:
    """Check that a network takes data, and that its outputs have a place for every class or token.

    Raises:
        LmcError: it does not, with the sizes that do not go together.
    """
    x, y = data
    if not x.is_floating_point():
        _check_tokens(name, model, x)
    try:
        with torch.no_grad():
            out = model(x[:2])
    except Exception as error:  # whatever a network says of inputs that it cannot take
        shape = tuple(x.shape[1:])
        raise LmcError(
            f"data={name!r}: the model does not take inputs of shape {shape} ({first_line(error)})"
        ) from None
    if not torch.is_tensor(out):
        raise LmcError(f"model: gives a {type(out).__name__}; must give one tensor: wrap it in a function of your own")
    if y.is_floating_point():
        if out.shape[1:] != y.shape[1:]:
            raise LmcError(
                f"data={name!r}: targets are {tuple(y.shape[1:])} and the model's outputs {tuple(out.shape[1:])}"
            )
        return
    if out.dim() != y.dim() + 1:
        raise LmcError(
            f"data={name!r}: targets are {tuple(y.shape[1:])} and the model's outputs {tuple(out.shape[1:])}"
        )
    if int(y.min()) < 0 or int(y.max()) >= out.shape[-1]:
        raise LmcError(
            f"data={name!r}: has classes {int(y.min())} to {int(y.max())}, and the model {out.shape[-1]} outputs"
        )


def loss_for(data: Pair) -> str:
    """The loss that targets ask for: cross-entropy of classes, or of every token; squared for numbers."""
    return "squared" if data[1].is_floating_point() else "cross_entropy"


def _loaded(name: str, folder: Path | None, most: int, of_the_book: bool) -> Pair:
    if _is_of_the_book(name, of_the_book):
        return _some(_book_data(name).pair("test"), most)
    if name.startswith(TEXT):
        return _text(name, folder, most)
    asked = named("data", name)
    if ":" in asked.name:
        return _some(_from_import(name, asked, most), most)
    path = Path(asked.name).expanduser()
    if path.is_dir():
        return _image_folder(name, path, asked.arguments, most)
    if path.suffix in (".npz", ".safetensors"):
        return _some(_tensors(name, path), most)
    if asked.name.isidentifier():
        return _torchvision(name, asked, most)
    raise LmcError(f"data={name!r}: is not there; must be {ALLOWED}")


def _is_of_the_book(name: str, texts: bool) -> bool:
    return BOOK.fullmatch(name) is not None or (texts and name.startswith(TEXT))


def _book_data(name: str) -> Dataset:
    kind, _, path = name.partition(":")  # a path is meant from the current folder, as all of a command's
    return load_data(f"{kind}:{Path(path).expanduser().absolute()}" if path else name)


def _some(pair: Pair, most: int) -> Pair:
    x, y = pair
    if len(x) != len(y) or len(y) <= most:
        return x, y
    chosen = torch.linspace(0, len(y) - 1, most).round().long()
    return x[chosen], y[chosen]


def _tensors(name: str, path: Path) -> Pair:
    if not path.is_file():
        raise LmcError(f"data={name!r}: is not there; must be a file that holds x and y")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = {key: torch.from_numpy(arrays[key]) for key in arrays}
        else:
            found = load_file(path)
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile, TypeError) as error:
        raise LmcError(f"data={name!r}: cannot be read ({error})") from None
    if not {"x", "y"} <= set(found):
        raise LmcError(f"data={name!r}: holds {', '.join(sorted(found)) or 'nothing'}; must hold x and y")
    if not (found["x"].dim() and found["y"].dim()):
        raise LmcError(f"data={name!r}: x or y is a single number; both must be arrays with an example a row")
    return _typed(found["x"]), _typed(found["y"])


def _typed(values: Tensor) -> Tensor:
    """Numbers in single precision and whole numbers in the type that embeddings and losses take."""
    return values.float() if values.is_floating_point() else values.long()


def _from_import(name: str, asked: Named, most: int) -> Pair:
    try:
        given = imported("data", asked.name)(**asked.arguments)
    except LmcError:
        raise
    except Exception as error:  # whatever the reader's own code says
        raise LmcError(f"data={name!r}: cannot be made ({type(error).__name__}: {error})") from None
    if isinstance(given, list) and len(given) == 2 and all(map(torch.is_tensor, given)):
        given = tuple(given)
    return given if is_pair(given) else _collected(name, given, most)


def _collected(name: str, batches: Iterable, most: int) -> Pair:
    """The first examples of a loader."""
    parts, count = [], 0
    try:
        for x, y in batches:
            parts.append((torch.as_tensor(x), torch.as_tensor(y)))
            count += len(parts[-1][1])
            if count >= most:
                break
    except (TypeError, ValueError) as error:
        raise LmcError(f"data={name!r}: must give a pair of tensors (x, y), or batches of them ({error})") from None
    if not parts:
        raise LmcError(f"data={name!r}: is empty; must hold at least 2 examples")
    x, y = (torch.cat(part)[:most] for part in zip(*parts, strict=True))
    return x, y


def _image_folder(name: str, path: Path, arguments: dict, most: int) -> Pair:
    from torchvision.datasets import ImageFolder

    if set(arguments) - {"size"}:
        raise LmcError(f"data={name!r}: a folder of images takes size=PIXELS only")
    try:
        images = ImageFolder(path)
    except (FileNotFoundError, OSError) as error:
        raise LmcError(f"data={name!r}: must hold one folder of images per class ({first_line(error)})") from None
    return _decoded(name, images, arguments.get("size"), most)


def _torchvision(name: str, asked: Named, most: int) -> Pair:
    from torchvision import datasets

    kind = getattr(datasets, asked.name, None)
    if asked.name not in datasets.__all__ or kind is None:
        raise LmcError(f"data={name!r}: is no file, folder or data set of torchvision; must be {ALLOWED}")
    given = dict(asked.arguments)
    size = given.pop("pixels", None)
    try:
        images = _test_part(kind, given)
    except Exception as error:  # a missing folder, a wrong argument, no network
        raise LmcError(f"data={name!r}: torchvision cannot open it ({first_line(error)})") from None
    return _decoded(name, images, size, most)


def _test_part(kind: type, given: dict) -> object:
    """A data set's own test part, unless another is asked for."""
    import inspect

    known = inspect.signature(kind.__init__).parameters
    defaults = {"root": "data", "train": False, "split": "test"}
    return kind(**{key: value for key, value in defaults.items() if key in known} | given)


def _decoded(name: str, images: object, size: int | None, most: int) -> Pair:
    from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

    count = len(images)
    chosen = torch.linspace(0, count - 1, min(most, count)).round().long().tolist() if count else []
    xs, ys = [], []
    for i in chosen:
        try:
            image, label = images[i]
        except (OSError, RuntimeError) as error:
            raise LmcError(f"data={name!r}: image {i} cannot be read ({first_line(error)})") from None
        image = image if size is None else center_crop(resize(image, size), [size, size])
        xs.append(pil_to_tensor(image))
        ys.append(int(label))
        if xs[-1].shape != xs[0].shape:
            shapes = f"{tuple(xs[-1].shape)} and {tuple(xs[0].shape)}"
            raise LmcError(f"data={name!r}: has images of {shapes}; give a size, as in images(size=224)")
    if not xs:
        raise LmcError(f"data={name!r}: is empty; must hold at least 2 examples")
    return _scaled(torch.stack(xs)), torch.tensor(ys)


def _scaled(pixels: Tensor) -> Tensor:
    x = pixels.float() / 255
    if x.shape[1] != 3:
        return x
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return (x - mean) / deviation


def _text(name: str, folder: Path | None, most: int) -> Pair:
    path = Path(name.removeprefix(TEXT)).expanduser()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise LmcError(f"data={name!r}: cannot be read ({error.strerror or error})") from None
    tokens = _tokens(name, text, folder)
    length = min(TOKENS, _context(folder), len(tokens) - 1)
    count = (len(tokens) - 1) // length if length > 0 else 0
    if count < 2:
        length, count = (len(tokens) - 1) // 2, min(2, (len(tokens) - 1) // 2)
    if count < 2:
        raise LmcError(f"data={name!r}: is empty; must hold at least 5 tokens")
    x, y = (tokens[shift : shift + count * length].view(count, length) for shift in (0, 1))
    return _some((x, y), most)


def _tokens(name: str, text: bytes, folder: Path | None) -> Tensor:
    """Text as tokens: by the tokenizer of a Hugging Face folder, or byte by byte."""
    if folder is None or not any(
        (folder / file).exists() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        return torch.tensor(list(text), dtype=torch.int64)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return torch.tensor(tokenizer(text.decode("utf-8"))["input_ids"], dtype=torch.int64)
    except Exception as error:  # whatever transformers says of a folder that it cannot take
        raise LmcError(f"data={name!r}: the tokenizer in {folder} cannot be used ({first_line(error)})") from None


def _context(folder: Path | None) -> int:
    """How many tokens a Hugging Face network takes at once."""
    if folder is None or not (folder / "config.json").is_file():
        return TOKENS
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(config.get("max_position_embeddings") or config.get("n_positions") or TOKENS)


def _check_tokens(name: str, model: nn.Module, x: Tensor) -> None:
    config = getattr(model, "config", None)
    known = next((module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)), None)
    size = getattr(config, "vocab_size", known)
    if size is not None and (int(x.min()) < 0 or int(x.max()) >= size):
        raise LmcError(f"data={name!r}: has tokens {int(x.min())} to {int(x.max())}, and the model's vocabulary {size}")
