"""Which networks a run of the chapter on architectures trains, on which data and by which recipe."""

import pytest

import lmclib as lmc
from lmclib.book.architectures import NETWORKS
from lmclib.errors import LmcError


def specs(**given):
    return lmc.architecture_specs(lmc.parameters({"profile": "digits", **given}, lmc.ARCHITECTURES))


def test_every_network_has_data_and_a_recipe_of_its_own():
    found = specs()
    assert set(found) == set(NETWORKS["digits"])
    assert all([spec.seed for spec in own] == list(range(5)) for own in found.values())
    kinds = {name: (own[0].data, own[0].recipe.optimizer) for name, own in found.items()}
    assert kinds["gpt-d32-l3"] == ("topics", "adamw")
    assert kinds["vgg11-w4"] == ("digits", "sgd")


def test_one_network_has_the_epochs_of_its_kind_unless_others_are_given():
    ((name, (first, *_)),) = specs(model="gpt-d16-l2", data="topics@64").items()
    assert (name, first.data, first.recipe.epochs) == ("gpt-d16-l2", "topics@64", NETWORKS["digits"]["gpt-d32-l3"][1])
    ((_, (first, *_)),) = specs(model="resnet8-w4", epochs=3, lr=0.5, seeds=1).items()
    assert (first.data, first.recipe.epochs, first.recipe.lr) == ("digits", 3, 0.5)


def test_data_go_to_the_networks_that_can_take_them():
    found = specs(data="cifar10")
    assert {name: own[0].data for name, own in found.items() if name.startswith(("gpt", "mlp"))} == {
        "gpt-d32-l3": "topics",
        "mlp-64-64-64": "cifar10",
    }


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [("gpt-d16-l1", "digits", "takes text, not images"), ("vit-p2-d16-l1", "topics", "takes images, not text")],
)
def test_a_network_with_data_of_another_kind_is_refused(model, data, said):
    with pytest.raises(LmcError, match=said) as caught:
        specs(model=model, data=data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("profile", lmc.ARCHITECTURES)
def test_every_network_of_every_scale_has_a_name_that_is_known(profile):
    for name in NETWORKS[profile]:
        shape = (16,) if name.startswith("gpt") else (1, 16, 16)
        if profile in ("smoke", "digits"):
            assert lmc.build_model(name, shape, 10)
        else:
            from lmclib.networks.build import model_factory

            assert model_factory(name)
