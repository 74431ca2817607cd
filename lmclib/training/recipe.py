"""Recipes: the hyper-parameters of a training run, and the learning rate that follows from them."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, model_serializer

from lmclib.checked import Checked
from lmclib.errors import LmcError


class Recipe(Checked):
    r"""The hyper-parameters of training: epochs are passes over the training set, `milestones` and `warmup` are in epochs.

    The last incomplete batch of an epoch is left out, so an epoch has ⌊N / batch_size⌋ steps. `optimizer` is `sgd` with
    `momentum`, or `adamw` (Loshchilov and Hutter 2019) with $\beta_1$ = `momentum` and $\beta_2$ = `beta2`. With `rho` above 0
    gradients are those of sharpness-aware minimisation (Foret et al. 2021): at $\theta + \rho\, g / \lVert g \rVert$.
    """

    epochs: int = Field(12, ge=1)
    batch_size: int = Field(32, ge=1)
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["step", "cosine", "constant"] = "step"
    milestones: tuple[NonNegativeFloat, ...] = (6, 9)
    factor: float = Field(0.1, gt=0, le=1)
    warmup: float = Field(0, ge=0)
    warmup_from: float = Field(1e-4, gt=0)
    schedule_after_fork: Literal["continue", "reset"] = "continue"
    optimizer: Literal["sgd", "adamw"] = "sgd"
    beta2: float = Field(0.999, ge=0, lt=1)
    rho: float = Field(0, ge=0)

    @model_serializer(mode="wrap")
    def _plain(self, values: Callable[["Recipe"], dict[str, Any]]) -> dict[str, Any]:
        """All values but those of a choice that is not made, so that a recipe is what it was before there was the choice."""
        unused = {"optimizer", "beta2"} if self.optimizer == "sgd" else set()
        unused |= set() if self.rho else {"rho"}
        return {name: value for name, value in values(self).items() if name not in unused}

    def lr_at(self, epoch: float) -> float:
        r"""The learning rate after `epoch` epochs: $\eta \prod_{m \le e} \gamma$ or $\eta \cos^2(\pi e / 2E)$.

        Example:
            >>> [round(Recipe().lr_at(epoch), 4) for epoch in (0, 5.9, 6, 9)]
            [0.1, 0.1, 0.01, 0.001]
        """
        if epoch < self.warmup:
            return self.warmup_from + (self.lr - self.warmup_from) * epoch / self.warmup
        if self.schedule == "step":
            return self.lr * self.factor ** sum(epoch >= milestone for milestone in self.milestones)
        if self.schedule == "cosine":
            return self.lr * float(np.cos(np.pi * min(epoch / self.epochs, 1) / 2) ** 2)
        return self.lr


# Landscaping Linear Mode Connectivity, appendix B.1; Layer-wise Linear Mode Connectivity, figure 1
RECIPES = {
    "digits": Recipe(),
    "landscaping": Recipe(epochs=160, batch_size=128, milestones=(80, 120)),
    "layer-wise": Recipe(epochs=200, batch_size=64, lr=0.05, weight_decay=5e-4, schedule="cosine", warmup=1),
}


def steps_per_epoch(n: int, recipe: Recipe) -> int:
    """⌊N / batch_size⌋.

    Raises:
        LmcError: the training set of n examples is smaller than one batch.
    """
    if n < recipe.batch_size:
        raise LmcError(f"batch_size={recipe.batch_size}: must be at most the {n} training examples")
    return n // recipe.batch_size
