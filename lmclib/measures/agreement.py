"""How well a prediction agrees with what was measured, by measures that say what they leave out."""

import numpy as np
import pandas as pd


def agreement(predicted: pd.Series, actual: pd.Series, within: pd.Series | None = None) -> pd.Series:
    r"""Measures of agreement between predicted values $p_i$ and actual values $a_i$.

    - `spearman`, `pearson`: rank and linear correlation over all;
    - `within_spearman`: the correlation of ranks taken within each group of `within` and centred there, pooled over groups.
      Within one fork, across seeds, the order of the forks cannot carry it;
    - `relative_error`: the median of $|p_i - a_i| / |a_i|$;
    - `ratio`: the median of $p_i / a_i$;
    - `sign`: the share of equal signs.

    Args:
        predicted: n values.
        actual: n values, on the same index.
        within: the group of each value.

    Returns:
        The measures and `n`; NaN where a correlation needs more values or they do not vary.

    Example:
        >>> a = pd.Series([1.0, 2.0, 4.0])
        >>> agreement(1.5 * a, a)[["spearman", "relative_error", "sign"]].tolist()
        [1.0, 0.5, 1.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = predicted / actual
        error = (predicted - actual).abs() / actual.abs()
    measures = {
        "n": len(actual),
        "spearman": _correlation(predicted.rank(), actual.rank()),
        "pearson": _correlation(predicted, actual),
        "within_spearman": np.nan,
        "relative_error": float(error.median()),
        "ratio": float(ratio.median()),
        "sign": float((np.sign(predicted) == np.sign(actual)).mean()),
    }
    if within is not None:
        ranks = [values.groupby(within).rank() for values in (predicted, actual)]
        centred = [rank - rank.groupby(within).transform("mean") for rank in ranks]
        measures["within_spearman"] = _correlation(*centred)
    return pd.Series(measures)


def agreements(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """`agreement` of every group of a table, ranks within a fork and kind of set; a row a group.

    Args:
        table: `predicted`, `actual`, `fork_epoch`, the columns of `by`, and where there is one `what` is predicted.
        by: the columns that make a group.
    """
    rows = {}
    for key, group in table.groupby(by if len(by) > 1 else by[0], sort=False):
        within = group.fork_epoch.astype(str) + (group.what.astype(str) if "what" in group else "")
        rows[key] = agreement(group.predicted, group.actual, within)
    measures = pd.DataFrame(rows).T.astype({"n": int})
    return measures.rename_axis(by if len(by) > 1 else by[0])


def _correlation(one: pd.Series, two: pd.Series) -> float:
    return float(one.corr(two)) if len(one) > 2 and one.std() > 0 and two.std() > 0 else float("nan")
