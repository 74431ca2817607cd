"""What both papers claim, one row a claim, each as something that can turn out false."""

from dataclasses import dataclass

LAYERWISE = "Layer-wise Linear Mode Connectivity"
LANDSCAPING = "Landscaping Linear Mode Connectivity"
FRANKLE = "Linear Mode Connectivity and the Lottery Ticket Hypothesis"


@dataclass(frozen=True)
class Claim:
    """One row: what a paper says, as something that can turn out false, and the rule that decides."""

    id: str
    paper: str
    where: str
    says: str
    rule: str


FULL = "the full network's barrier at α = ½ is above 2 % error and "
CLAIMS = {
    claim.id: claim
    for claim in (
        Claim(
            "F1",
            FRANKLE,
            "fig. 3",
            "Copies that part at initialisation are separated by an error barrier; from some early fork on they are not.",
            "for a seed: the error barrier of fork 0 is above 2 %, and below 2 % for some fork and all later ones",
        ),
        Claim(
            "A1",
            LAYERWISE,
            "fig. 1",
            "Averaging one layer makes almost no barrier, though averaging all layers does.",
            "for a seed, siblings of the first fork, in two parts (loss; error): "
            + FULL
            + "every single layer's barrier, into either model, is below a tenth of the full one",
        ),
        Claim(
            "A2",
            LAYERWISE,
            "fig. 2",
            "Layers added one by one to the average build the barrier up; the middle layers cause it.",
            "for a seed, in two parts (bottom-up; top-down): adding the middle third of the layers raises the loss barrier by more than half of the full one",
        ),
        Claim(
            "A3",
            LAYERWISE,
            "fig. 3",
            "In a 1-D diagonal linear network the joint path has a barrier where the cut in one layer has a far lower one.",
            "the cut's barrier is below half of the joint one",
        ),
        Claim(
            "A4",
            LAYERWISE,
            "theorem 4.1",
            "A deep linear network's squared loss is convex along any one layer.",
            "in symbols, for random and for trained networks: no second derivative along a cut is below −1e-10 of the largest loss on it",
        ),
        Claim(
            "A5",
            LAYERWISE,
            "fig. 4",
            "For vision transformers, interpolating a layer hurts less than a random step of the same norm.",
            "in most layers, over draws",
        ),
        Claim(
            "A6",
            LAYERWISE,
            "fig. 5",
            "Noise in the null space of training is harmless, in the training subspace harmful, and the averaging direction lies between.",
            "order of test losses at equal norm",
        ),
        Claim(
            "A7",
            LAYERWISE,
            "appendix",
            "Layers of a CNN withstand random directions of the norm of their difference.",
            "test error rises by less than 2 % in most layers",
        ),
        Claim(
            "A8",
            LAYERWISE,
            "appendix",
            "Language models, too, have no layer barriers.",
            FULL + "single layers' are below a tenth of it",
        ),
        Claim(
            "A9",
            LAYERWISE,
            "appendix",
            "VGG, MobileNet and fully connected nets, too, have no layer barriers.",
            FULL + "single layers' are below a tenth of it",
        ),
        Claim(
            "A10",
            LAYERWISE,
            "appendix",
            "Two federated clients that never average have few layer barriers, also for non-i.i.d. splits.",
            "single layers' barriers stay below a tenth of the full one",
        ),
        Claim(
            "A11",
            LAYERWISE,
            "tables 1–2",
            "Averaging some layers only does not beat averaging all, except for extreme non-i.i.d. data.",
            "mean local accuracy, per split",
        ),
        Claim(
            "A12",
            LAYERWISE,
            "appendix",
            "The learning rate changes the full barrier and which layers have one.",
            "in two parts: mean full loss barriers at two learning rates differ by more than the sum of their standard deviations over seeds; another layer has the highest mean barrier",
        ),
        Claim(
            "A13",
            LAYERWISE,
            "reviews",
            "Windows, pairs and a null model: the barrier is not spread evenly over layers.",
            "the highest window of a third of the layers has a mean part of the full loss barrier above its share of the layers, by more than its standard deviation over seeds",
        ),
        Claim(
            "B1",
            LANDSCAPING,
            "figs. 1, 8, 9",
            "After an early fork a ridge in the error separates siblings from mid-training to the end; after a late one nothing does.",
            "for a seed: the first fork's barrier is a ridge or wide ridge at every stored epoch of the second half, and the last fork ends below 2 %",
        ),
        Claim(
            "B2",
            LANDSCAPING,
            "figs. 10–12",
            "Barriers do not appear at convergence: they stand long before.",
            "for a seed: the first fork's final loss barrier exceeds the middle and the last fork's, and half of it stood in mid-training",
        ),
        Claim(
            "B3",
            LANDSCAPING,
            "fig. 7",
            "Wide ridges, ridges, bumps and no barriers follow each other as the fork moves.",
            "for a seed: at least three of the four kinds occur over the forks",
        ),
        Claim(
            "B4",
            LANDSCAPING,
            "figs. 2a, 13a",
            "The earlier the fork, the larger the angle between siblings, from the origin and from the fork.",
            "for a seed, in two parts: the angle of the first fork exceeds the last one's, at the origin; at the fork",
        ),
        Claim(
            "B5",
            LANDSCAPING,
            "figs. 2b, 13b",
            "Siblings of earlier forks fix their plane sooner.",
            "for a seed, in two parts: at the same child epoch, the first fork's cosine exceeds the middle one's; the last one's (a rule restated after a first look: comparing with the last fork alone was unfair)",
        ),
        Claim(
            "B6",
            LANDSCAPING,
            "figs. 4a, 14a",
            "Proposition 1 predicts the barrier within a decent ballpark.",
            "for a seed, in two parts (with weight decay; without): predicted over actual within a factor of two at most of the forks whose loss barrier exceeds 0.01 nats",
        ),
        Claim(
            "B7",
            LANDSCAPING,
            "figs. 4b, 14b",
            "Siblings of earlier forks end farther apart.",
            "for a seed: the final distance of the first fork exceeds the last one's",
        ),
        Claim(
            "B8",
            LANDSCAPING,
            "fig. 5",
            "Proposition 2 predicts layer barriers over training.",
            "for a seed: the median over forks and epochs of the rank correlation over layers, predicted with actual, is above 0.8",
        ),
        Claim(
            "B9",
            LANDSCAPING,
            "figs. 15–20",
            "Both curvature and distance are needed to model layer barriers.",
            "for a seed, in two parts: over layers, forks and epochs the energy correlates in rank with the barrier better than curvature alone; than squared distance alone",
        ),
        Claim(
            "B10",
            LANDSCAPING,
            "eqs. 20–21",
            "The matrix of cross-layer energies predicts the barrier of any set of layers.",
            "for a seed: over the steps of all staircases the rank correlation of predicted with actual barriers is above 0.8",
        ),
        Claim(
            "B11",
            LANDSCAPING,
            "fig. 6",
            "In a product of quadratics, minima that are farther apart have higher barriers between them.",
            "for each set of minima of the figure: every barrier is higher than all those between minima that are less far apart",
        ),
        Claim(
            "B12a",
            LANDSCAPING,
            "future work",
            "An early geometric indicator foretells the final barrier.",
            "rank correlation within a fork above 0.8",
        ),
        Claim(
            "B12b",
            LANDSCAPING,
            "future work",
            "The barrier can be predicted better than to second order, cheaply.",
            "for a seed: over forks, a method that costs at most half more than Proposition 1 has a lower median relative error",
        ),
        Claim(
            "B12c",
            LANDSCAPING,
            "future work",
            "Siblings can be fused before they converge.",
            "the early fusion ends no worse than the late one, within the spread",
        ),
    )
}
