"""What both papers claim, one row a claim, each as something that can turn out false."""

from dataclasses import dataclass

LAYERWISE = "Layer-wise Linear Mode Connectivity"
LANDSCAPING = "Landscaping Linear Mode Connectivity"
FRANKLE = "Linear Mode Connectivity and the Lottery Ticket Hypothesis"


LINKS = {
    LAYERWISE: "https://arxiv.org/abs/2307.06966",
    LANDSCAPING: "https://arxiv.org/abs/2406.16300",
    FRANKLE: "https://arxiv.org/abs/1912.05671",
}
RULED = "2026-11-24"  # when the rules were written in this form, before the runs that they judge


@dataclass(frozen=True)
class Claim:
    """One row: what a paper says, as something that can turn out false, how its parts are judged, and what speaks against that.

    Attributes:
        id: the row's name.
        paper: the title.
        where: figure, table or section.
        says: the claim.
        rule: what is measured, of each seed; thresholds and controls stand beside the parts.
        objection: the strongest one to our own test, in a sentence.
    """

    id: str
    paper: str
    where: str
    says: str
    rule: str
    objection: str

    @property
    def link(self) -> str:
        """Where the paper is."""
        return LINKS[self.paper]


CLAIMS = {
    claim.id: claim
    for claim in (
        Claim(
            "F1",
            FRANKLE,
            "fig. 3",
            "Copies that part at initialisation are separated by an error barrier; from some early fork on they are not.",
            "error barriers of the first and of the last fork, at the end of training, by both treatments of statistics",
            "A late fork's children have less time to part: see B1, whose last part gives them as much.",
        ),
        Claim(
            "A1",
            LAYERWISE,
            "fig. 1",
            "Averaging one layer makes almost no barrier, though averaging all layers does.",
            "loss barriers of single layers, both directions averaged, in equal shares of the full barrier (its L-th part), where the full error barrier is above 2 %: the median layer; all but the stem and first block; every layer",
            "An equal share is a weak bar where layers are many: a layer at 1 carries as much as it would if nothing were special about layers.",
        ),
        Claim(
            "A2",
            LAYERWISE,
            "fig. 2",
            "Layers added one by one to the average build the barrier up; the middle layers cause it.",
            "what adding the middle third of the layers adds to the loss barrier, less what the first or last third adds, in both orders, both directions averaged",
            "Thirds count layers, not parameters: the last third holds most of them.",
        ),
        Claim(
            "A3",
            LAYERWISE,
            "fig. 3",
            "In a 1-D diagonal linear network the joint path has a barrier where the cut in one layer has a far lower one.",
            "the cut's loss in the middle over the joint path's",
            "Two weights.",
        ),
        Claim(
            "A4",
            LAYERWISE,
            "theorem 4.1",
            "A deep linear network's squared loss is convex along any one layer.",
            "the least second derivative along a cut, over the largest loss on it: in symbols, for random and for trained networks",
            "Nine points can show that a cut is not convex, never that it is; the theorem can.",
        ),
        Claim(
            "A5",
            LAYERWISE,
            "fig. 4",
            "For vision transformers, interpolating a layer hurts less than a random step of the same norm.",
            "of each layer, the test loss halfway to the other model less that after random steps of the same norm, mean over draws and both directions, median over layers: below 0; each pair of recipes and each protocol of drawing apart; control: one random draw in place of the interpolation, against the other draws",
            "A random step of equal norm is a weak rival in many dimensions.",
        ),
        Claim(
            "A6",
            LAYERWISE,
            "fig. 5",
            "Noise in the null space of training is harmless, in the training subspace harmful, and the averaging direction lies between.",
            "test loss after steps of half the norm of the difference, mean over draws and both networks: null space less averaging direction, and averaging direction less training subspace: both below 0, in the whole network and in the median layer, as published and corrected; control: a random step in place of the null space, and of the training subspace",
            "The published notebook has three defects, so it is run as published and corrected.",
        ),
        Claim(
            "A7",
            LAYERWISE,
            "appendix",
            "Layers of a CNN withstand random directions of the norm of their difference.",
            "test error after random steps of the norm of a layer's difference and of half of it, mean of the draws, median over layers and the worst layer: rises by less than 2 %; control: the same norm spread over all layers; and, as A13's reviewers asked, the test loss of averaging a layer less that of a random step as long, as in A5",
            "At equal norm small layers are moved relatively farther.",
        ),
        Claim(
            "A8",
            LAYERWISE,
            "appendix",
            "Language models, too, have no layer barriers.",
            "as A1, for blocks of a character-level GPT and for its finer layers; control: as many parameters from the whole network",
            "A small model on one text.",
        ),
        Claim(
            "A9",
            LAYERWISE,
            "appendix",
            "VGG, MobileNet and fully connected nets, too, have no layer barriers.",
            "as A1, for each network apart; control: as many parameters from the whole network",
            "Each network has one recipe.",
        ),
        Claim(
            "A10",
            LAYERWISE,
            "appendix",
            "Two federated clients that never average have few layer barriers, also for non-i.i.d. splits.",
            "as A1, for two clients that never average, at the end of training on the whole training split, each split apart: the median layer and every layer, in equal shares of the split's full loss barrier, where the full error barrier is above 2 % and (added after the first run, in which some were negative) that loss barrier is above 0; and the share of layers whose error barrier is above 2 %; control: two clients with the same data in another order, in the same units",
            "Two clients are not a federation, and where clients differ the two full models are bad themselves, so that a layer can hardly make them worse.",
        ),
        Claim(
            "A11",
            LAYERWISE,
            "tables 1–2",
            "Averaging some layers only does not beat averaging all, except for extreme non-i.i.d. data.",
            "mean local test accuracy right after the last average: that of averaging all layers less that of the partial set which was best on the other seeds, each split apart: above 0, but below 0 where the median client has nine tenths of its examples in one class; control: no averaging in place of what should win",
            "Accuracy right after an average says nothing of what one more local epoch mends.",
        ),
        Claim(
            "A12",
            LAYERWISE,
            "appendix",
            "The learning rate changes the full barrier and which layers have one.",
            "full loss barriers at two learning rates; and where the full error barrier is above 2 % at both, the rank correlation of layer barriers between them",
            "The low rate may not have finished: it trains for as many epochs.",
        ),
        Claim(
            "A13",
            LAYERWISE,
            "reviews",
            "Windows, pairs and a null model: the barrier is not spread evenly over layers.",
            "how far the highest of all windows of a third of the layers stands above their mean; a maximum is never below a mean, so only the control can speak against it",
            "Windows overlap, so they are fewer than they seem.",
        ),
        Claim(
            "B1",
            LANDSCAPING,
            "figs. 1, 8, 9",
            "After an early fork a ridge in the error separates siblings from mid-training to the end; after a late one nothing does.",
            "the first fork's error barrier at every measured epoch from half of training on; the last fork's at the end, where its children trained as long as the first's",
            "Between measured epochs nothing is known.",
        ),
        Claim(
            "B2",
            LANDSCAPING,
            "figs. 10–12",
            "Barriers do not appear at convergence: they stand long before.",
            "the first fork's loss barrier at half of training, as a part of that at the end; and whether any other fork's is higher",
            "A ratio says little where the final barrier is small.",
        ),
        Claim(
            "B3",
            LANDSCAPING,
            "fig. 7",
            "Wide ridges, ridges, bumps and no barriers follow each other as the fork moves.",
            "how many of the four kinds occur over the forks, by error; and the width of the first fork's barrier above three quarters of its height, in the error and in the loss",
            "The error cannot rise above chance, which flattens its top.",
        ),
        Claim(
            "B4",
            LANDSCAPING,
            "figs. 2a, 13a",
            "The earlier the fork, the larger the angle between siblings, from the origin and from the fork.",
            "Kendall's τ of the final angle with the fork epoch; and the difference of angles where both forks' children trained equally long",
            "On digits the angle from the fork rises again for the latest forks, which τ over all forks hides.",
        ),
        Claim(
            "B5",
            LANDSCAPING,
            "figs. 2b, 13b",
            "Siblings of earlier forks fix their plane sooner.",
            "plane cosines of the first fork less another's at equal ages, interpolated, mean over all ages that both have",
            "The last moment defines the plane, so a shorter life reaches it sooner.",
        ),
        Claim(
            "B6",
            LANDSCAPING,
            "figs. 4a, 14a",
            "Proposition 1 predicts the barrier within a decent ballpark.",
            "the median factor by which Proposition 1 is off, up or down, over the forks whose loss barrier exceeds 0.01 nats, for each case apart",
            "A factor of two is our reading of “decent ballpark”.",
        ),
        Claim(
            "B7",
            LANDSCAPING,
            "figs. 4b, 14b",
            "Siblings of earlier forks end farther apart.",
            "Kendall's τ of the final distance with the fork epoch; and the difference of distances where both forks' children trained equally long",
            "Distance grows with the length of training and with the learning rate.",
        ),
        Claim(
            "B8",
            LANDSCAPING,
            "fig. 5",
            "Proposition 2 predicts layer barriers over training.",
            "rank correlation over layers of predicted and actual barriers, for each seed, fork and epoch; the end of training and before apart",
            "Ten layers are few for a rank correlation.",
        ),
        Claim(
            "B9",
            LANDSCAPING,
            "figs. 15–20",
            "Both curvature and distance are needed to model layer barriers.",
            "rank correlation over layers with the energy, less the better one of curvature alone and of squared distance alone",
            "Energy, curvature and distance are not independent: energy is their product.",
        ),
        Claim(
            "B10",
            LANDSCAPING,
            "eqs. 20–21",
            "The matrix of cross-layer energies predicts the barrier of any set of layers.",
            "rank correlation of predicted and actual barriers among sets of equal size, and their median relative error, both the mean over the sizes with at least five sets",
            "Sets of one size still share layers.",
        ),
        Claim(
            "B11",
            LANDSCAPING,
            "fig. 6",
            "In a product of quadratics, minima that are farther apart have higher barriers between them.",
            "over pairs of minima of a landscape: is every barrier at least as high as all between minima that are less far apart?",
            "Four minima on a line are few.",
        ),
        Claim(
            "B13",
            LANDSCAPING,
            "proposition 1",
            "The barrier between two points is predicted by the curvature at both, the slopes left out.",
            "between two points of a parabola that are no minima: the sign of the prediction is the barrier's own",
            "The proposition assumes stationary ends; networks with weight decay are none.",
        ),
        Claim(
            "B14",
            LANDSCAPING,
            "section 3",
            "A negative barrier implies that the loss is convex on the segment.",
            "a curve whose barrier is nowhere positive: its least second derivative is not below zero",
            "One counterexample is enough against a general claim.",
        ),
        Claim(
            "B12a",
            LANDSCAPING,
            "future work",
            "An early geometric indicator foretells the final barrier.",
            "rank correlation, among siblings of one fork, of an indicator at child epoch 3 with the final loss barrier: above 0.8; control: the siblings' mean loss at that epoch",
            "Over forks any early quantity restates the fork epoch.",
        ),
        Claim(
            "B12b",
            LANDSCAPING,
            "future work",
            "The barrier can be predicted better than to second order, cheaply.",
            "the lowest median relative error over forks of any method that takes at most half more passes than Proposition 1, less that one's",
            "Evaluating the midpoint is exact and costs less, so the claim can be explained at best: only what the ends alone must tell needs a prediction.",
        ),
        Claim(
            "B12c",
            LANDSCAPING,
            "future work",
            "Siblings can be fused before they converge.",
            "test loss of siblings fused early and trained to the end, less that of siblings fused at the end: at most 0; control: one sibling alone",
            "Fusing early also saves the training of the second sibling, which is not counted.",
        ),
    )
}
FIGURES: dict[
    str | tuple[str, str], str
] = {  # of the book, that show what decides; of a claim, or of it in one chapter
    "F1": "fig-against-fork",
    "A1": "fig-shares",
    "A2": "fig-staircases",
    "A3": "fig-diagonal",
    "A4": "fig-convexity",
    "A8": "fig-architectures-depth",
    "A9": "fig-architectures-depth",
    "A10": "fig-client-layers",
    "A11": "fig-partial",
    "A5": "fig-transformers",
    "A6": "fig-noise",
    "A7": "fig-equal-norm",
    "A12": "fig-layers",
    "A13": "fig-windows",
    "B1": "fig-evolution",
    "B2": "fig-evolution",
    "B3": "fig-kinds",
    "B4": "fig-geometry",
    "B5": "fig-geometry",
    "B6": "fig-prediction",
    "B7": "fig-geometry",
    "B8": "fig-triptych",
    "B9": "fig-triptych",
    "B10": "fig-energy-matrix",
    "B11": "fig-hierarchy",
    "B12b": "fig-price",
    "B13": "fig-non-stationary",
    "B14": "fig-bent",
    **{(claim, "learning_rate"): "fig-recipes" for claim in ("B1", "B2", "B4", "B5", "B7")},
}
