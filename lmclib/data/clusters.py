"""Gaussian clusters on the corners of a cube: a small classification problem of vectors."""

import numpy as np
import torch
from torch import Tensor

from lmclib.errors import LmcError

CLASSES, CLUSTERS, INFORMATIVE, FEATURES = 3, 2, 3, 16
SEPARATION = 1.0  # half of the cube's edge
FLIPPED = 0.01  # of all labels, drawn anew at random


def clusters(examples: int = 600, seed: int = 0) -> tuple[Tensor, Tensor]:
    r"""Three classes of two Gaussian clusters each, $x = (A_c z + \mu_c, \varepsilon)$, among 16 features of which 3 tell anything.

    Centres $\mu_c \in \{-1, 1\}^3$ are six corners of a cube, drawn without repetition; $z$ and $\varepsilon$ are standard normal, and
    $A_c$ is a $3 \times 3$ matrix of a cluster's own, uniform on $[-1, 1]$. The features are shuffled, and one label in a hundred is
    drawn anew. Stands for scikit-learn's `make_classification`, which the paper uses and this library does not depend on: the same
    construction with other random numbers.

    Args:
        examples: how many, equally many of each cluster as far as they go.
        seed: of everything random.

    Returns:
        Features (examples, 16) float32 and labels (examples,) int64, shuffled.

    Raises:
        LmcError: fewer examples than clusters.

    Source:
        Layer-wise Linear Mode Connectivity, figure 5, whose released notebook draws 600 examples of 16 features and 3 classes.

    Example:
        >>> x, y = clusters(600)
        >>> tuple(x.shape), sorted(set(y.tolist()))
        ((600, 16), [0, 1, 2])
    """
    n_clusters = CLASSES * CLUSTERS
    if examples < n_clusters:
        raise LmcError(f"examples={examples}: must be at least {n_clusters}, one a cluster")
    rng = np.random.default_rng(seed)
    corners = np.array(np.meshgrid(*[(-SEPARATION, SEPARATION)] * INFORMATIVE)).reshape(INFORMATIVE, -1).T
    centres = rng.permutation(corners)[:n_clusters]
    shapes = rng.uniform(-1, 1, (n_clusters, INFORMATIVE, INFORMATIVE))
    cluster = rng.permutation(np.arange(examples) % n_clusters)
    told = np.einsum("nij,nj->ni", shapes[cluster], rng.standard_normal((examples, INFORMATIVE))) + centres[cluster]
    x = np.concatenate([told, rng.standard_normal((examples, FEATURES - INFORMATIVE))], axis=1)
    x = x[:, rng.permutation(FEATURES)]
    y = np.where(rng.random(examples) < FLIPPED, rng.integers(0, CLASSES, examples), cluster % CLASSES)
    return torch.from_numpy(x).float(), torch.from_numpy(y).long()
