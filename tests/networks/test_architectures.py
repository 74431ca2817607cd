"""Architectures against the networks that they are taken from: as many parameters, the same outputs."""

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, mobilenet_v2, vgg11, vgg11_bn

from lmclib.errors import LmcError
from lmclib.networks.build import build_model
from lmclib.networks.layers import find_layers

X = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("name", "reference"), [("vgg11-none", vgg11), ("vgg11", vgg11_bn)])
def test_vgg_is_torchvisions_on_cifar(name, reference):
    net, other = build_model(name, (3, 32, 32), 10).eval(), reference().features.eval()
    biases = 0 if name.endswith("none") else 2752  # before batch norm, where they do nothing
    assert count(net) + biases == count(other) + 5130  # a linear layer from 512 features to 10 classes
    own = [module for pair in zip(net.convs, net.norms, strict=True) for module in pair if count(module)]
    theirs = [module for module in other if count(module)]
    for mine, its in zip(own, theirs, strict=True):
        if (
            isinstance(mine, nn.Conv2d) and mine.bias is None
        ):  # behind a convolution with batch norm a bias does nothing
            nn.init.zeros_(its.bias)
        mine.load_state_dict({key: value for key, value in its.state_dict().items() if key in mine.state_dict()})
    torch.testing.assert_close(net(X), net.fc(other(X).flatten(1)))


def test_vgg_takes_small_images():
    assert build_model("vgg11-w8", (1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_mobilenet_is_torchvisions_with_other_strides():
    net, other = build_model("mobilenet-w0.25", (3, 32, 32), 10), mobilenet_v2(width_mult=0.25, num_classes=10)
    assert {k: v.shape for k, v in net.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}
    sizes = []
    hook = net.features[-1].register_forward_hook(lambda *given: sizes.append(given[2].shape[-1]))
    net.eval()(X)
    hook.remove()
    assert sizes == [4]  # ImageNet's strides leave one pixel of 32


def test_vit_is_torchvisions():
    net = build_model("vit-p8-d32-l2-h4", (3, 32, 32), 10).eval()
    other = VisionTransformer(32, 8, 2, 4, 32, 128, num_classes=10).eval()
    assert count(net) == count(other)
    nn.init.normal_(net.heads.head.weight)
    state = {key: value for key, value in net.state_dict().items() if "self_attention" not in key}
    for name in (f"encoder.layers.encoder_layer_{i}.self_attention" for i in range(2)):
        own = net.get_submodule(name)
        for kind in ("weight", "bias"):
            state[f"{name}.in_proj_{kind}"] = torch.cat(
                [getattr(part, kind) for part in (own.query, own.key, own.value)]
            )
            state[f"{name}.out_proj.{kind}"] = getattr(own.out, kind)
    other.load_state_dict(state)
    torch.testing.assert_close(net(X), other(X), rtol=1e-4, atol=1e-5)


def test_gpt_is_gpt_2():
    transformers = pytest.importorskip("transformers")
    net = build_model("gpt-d32-l2-h2", (12,), 50).eval()
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=12, n_embd=32, n_layer=2, n_head=2, tie_word_embeddings=False
    )
    other = transformers.GPT2LMHeadModel(config).eval()
    assert count(net) == count(other)
    state = {"transformer.wte.weight": net.token.weight, "transformer.wpe.weight": net.position.weight}
    state |= {"lm_head.weight": net.head.weight}
    state |= {f"transformer.ln_f.{key}": value for key, value in net.norm.state_dict().items()}
    for i, block in enumerate(net.blocks):
        at, a = f"transformer.h.{i}", block.attention
        for kind in ("weight", "bias"):
            turned = (
                (lambda value: value.T) if kind == "weight" else (lambda value: value)
            )  # GPT-2 keeps them transposed
            joined = torch.cat([getattr(part, kind) for part in (a.query, a.key, a.value)])
            state[f"{at}.attn.c_attn.{kind}"] = turned(joined)
            for theirs, mine in (("attn.c_proj", a.out), ("mlp.c_fc", block.up), ("mlp.c_proj", block.down)):
                state[f"{at}.{theirs}.{kind}"] = turned(getattr(mine, kind))
            for theirs, mine in (("ln_1", block.norm1), ("ln_2", block.norm2)):
                state[f"{at}.{theirs}.{kind}"] = getattr(mine, kind)
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert not unexpected
    assert not [key for key in missing if not key.endswith((".attn.bias", ".masked_bias"))]
    tokens = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(tokens), other(tokens).logits, rtol=1e-4, atol=1e-5)


def test_a_language_model_does_not_look_ahead():
    net = build_model("gpt-d16-l2", (8,), 20).eval()
    tokens = torch.randint(0, 20, (2, 8))
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 20
    before, after = net(tokens), net(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


@pytest.mark.parametrize(
    ("name", "shape", "first", "last"),
    [
        ("vgg11-w4", (1, 8, 8), "convs.0", "fc"),
        ("mobilenet-w0.25", (1, 8, 8), "features.0.0", "classifier.1"),
        ("vit-p4-d16-l1", (1, 8, 8), "conv_proj", "heads.head"),
        ("gpt-d16-l1", (8,), "token", "head"),
    ],
)
def test_layers_are_in_the_order_of_the_forward_pass(name, shape, first, last):
    net = build_model(name, shape, 10)
    x = torch.zeros(2, *shape, dtype=torch.float32 if len(shape) == 3 else torch.int64)
    layers = [layer.name for layer in find_layers(net, x)]
    assert layers[-1] == last
    assert first in layers[:2]  # a class token is the root's own, and comes before everything
    if "conv" in first:
        assert "convs.1" not in layers or layers.index("norms.0") == layers.index("convs.0") + 1
    kinds = ("query", "key", "value", "out")
    attention = [layer.rpartition(".")[2] for layer in layers if "attention" in layer]
    assert attention in ([], list(kinds))


def test_a_part_of_a_name_must_be_known():
    for name in ("vit-p0", "gpt-x3", "vgg12", "mobilenet-w"):
        with pytest.raises(LmcError, match="must be one of"):
            build_model(name, (3, 32, 32), 10)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("vit-p3-d16-l1", (1, 8, 8), "patches of 3"),
        ("vit-p2-d30-l1-h4", (1, 8, 8), "multiple of its 4 heads"),
        ("gpt-d16-l1", (1, 8, 8), "takes text"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, shape, said):
    with pytest.raises(LmcError, match=said):
        build_model(name, shape, 10)
