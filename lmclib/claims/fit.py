"""Whether the networks that a claim is judged by fit their training data: a barrier between unfinished networks is another question."""

import pandas as pd

FITS = 0.01  # training error at the end of training up to which a network fits
PAIR = (
    "case",
    "relation",
    "seed",
    "fork_epoch",
    "pair",
)  # columns that tell one pair from another, as far as a table has them


def end_errors(table: pd.DataFrame) -> pd.Series:
    r"""The training error of every pair at its last epoch: $\max_\alpha \big[E(\alpha) - B(\alpha)\big]$, the highest point of its chord.

    The chord joins the errors of the two ends, so on a whole curve this is the worse of the two; where only the middle was measured,
    it is their mean.

    Args:
        table: barriers on the training split against both models, with `error` and `error_barrier`, of one or more pairs; rows of the
            test split, of another baseline and of recomputed statistics do not count.

    Returns:
        Errors as fractions, one a pair.

    Example:
        >>> curve = pd.DataFrame({"seed": 0, "epoch": 9, "error": [0.0, 0.3, 0.02], "error_barrier": [0, 0.29, 0]})
        >>> end_errors(curve).tolist()
        [0.02]
    """
    for column, kept in {"split": "train", "baseline": "models", "norm_stats": "interpolate"}.items():
        if column in table:
            table = table[table[column] == kept]
    keys = [name for name in PAIR if name in table]
    last = table[table.epoch == table.groupby(keys).epoch.transform("max")]
    return (last.error - last.error_barrier).groupby([last[name] for name in keys]).max()


def fit_said(*tables: pd.DataFrame) -> str:
    """Whether the networks fit, in words: all of them, or how many pairs do not and by how much.

    Args:
        *tables: as `end_errors` takes them, of different pairs.

    Example:
        >>> good = pd.DataFrame({"seed": [0, 1], "epoch": 9, "error": [0.4, 0.5], "error_barrier": [0.4, 0.495]})
        >>> fit_said(good)
        'fitted: training error at most 0.5 % (n = 2)'
        >>> fit_said(good.assign(error=[0.4, 0.7]))
        'not fitted: training error up to 20.5 % in 1 of 2 pairs'
    """
    errors = pd.concat([end_errors(table) for table in tables])
    worst, unfitted = 100 * errors.max(), int((errors > FITS).sum())
    if unfitted:
        return f"not fitted: training error up to {worst:.1f} % in {unfitted} of {len(errors)} pairs"
    return f"fitted: training error at most {max(worst, 0):.1f} % (n = {len(errors)})"
