"""The ledger as cards, a card a claim, with filters that work without Python."""

import base64
import html
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from IPython.display import HTML

from lmclib.book.ledger import claim_table
from lmclib.claims.verdicts import Interval, Part, mean_interval

MARKS = {"holds": "✓", "explained": "≈", "mixed": "◐", "undecided": "?", "fails": "✗", "not run": "·"}
SCALES = {"smoke": "smoke test", "digits": "embedded digits", "cifar": "real images", "paper": "paper scale"}
WIDTH, HEIGHT, EDGE = 220, 34, 8  # of a strip, in pixels
SCRIPT = (
    "<script>document.querySelectorAll('.lmc-ledger select').forEach(function(s){s.onchange=function(){"
    "var box=s.closest('.lmc-ledger'),all=box.querySelectorAll('select');"
    "box.querySelectorAll('.lmc-claim').forEach(function(r){"
    "r.hidden=![].every.call(all,function(f){return !f.value||(' '+r.dataset[f.name]+' ').indexOf(' '+f.value+' ')>=0||r.dataset[f.name]===f.value})})}})</script>"
)


def cards(rows: Sequence[Mapping[str, object]]) -> HTML:
    """The claims that a chapter has judged, as cards.

    Args:
        rows: from `lmclib.judge`.
    """
    ledger = claim_table(rows, [row["claim"] for row in rows])
    shown = "".join(_card(claim.to_dict("records")) for _, claim in ledger.groupby("claim", sort=False))
    return HTML(f"<div class='lmc-ledger'>{shown}</div>")


def as_html(ledger: pd.DataFrame, parts: pd.DataFrame | None = None) -> str:
    """The ledger as cards: a card a claim, in it a block a scale and a line a part.

    Args:
        ledger: from `lmclib.book.ledger.table`.
        parts: the same, a row a part, to be taken along as CSV and JSON.
    """
    columns = {"paper": "paper", "verdict": "verdict", "profile": "scale", "chapter": "chapter"}
    filters = "".join(_filter(name, label, sorted(set(ledger[name]) - {""})) for name, label in columns.items())
    cards = "".join(_card(rows.to_dict("records")) for _, rows in ledger.groupby("claim", sort=False))
    files = (
        ""
        if parts is None
        else f"<p>Take it along: {_file(parts.to_csv(index=False), 'csv')} {_file(_as_json(parts), 'json')}</p>"
    )
    return f"<div class='lmc-ledger'><p class='lmc-filters'>{filters}</p>{files}{cards}</div>{SCRIPT}"


def _file(text: str, kind: str) -> str:
    """A link that saves a file without a server."""
    content = base64.b64encode(text.encode()).decode()
    return f"<a download='ledger.{kind}' href='data:text/{kind};base64,{content}'>{kind.upper()}</a>"


def _as_json(parts: pd.DataFrame) -> str:
    return parts.to_json(orient="records", indent=1, force_ascii=False)


def _filter(name: str, label: str, options: Sequence[str]) -> str:
    shown = {option: SCALES.get(option, option).replace("_", " ") for option in options}
    items = "".join(f"<option value='{html.escape(o, quote=True)}'>{html.escape(s)}</option>" for o, s in shown.items())
    return f"<label>{label} <select name='{name}'><option value=''>all</option>{items}</select></label> "


def _card(rows: Sequence[Mapping[str, object]]) -> str:
    first = {key: html.escape(str(value), quote=True) for key, value in rows[0].items() if key != "parts"}
    verdicts, profiles = (" ".join(dict.fromkeys(row[name] for row in rows)) for name in ("verdict", "profile"))
    data = f"data-paper='{first['paper']}' data-verdict='{verdicts}' data-profile='{profiles}' data-chapter='{first['chapter']}'"
    blocks = "".join(_block(row) for row in rows)
    return (
        f"<section class='lmc-claim' id='claim-{first['claim']}' {data}>"
        f"<h3><a href='#claim-{first['claim']}'>{first['claim']}</a> {first['says']}</h3>"
        f"<p class='lmc-where'><a href='{first['link']}'>{first['paper']}</a>, {first['where']}</p>{blocks}"
        f"<p class='lmc-rule'><b>Rule.</b> {first['rule']}. <b>Objection.</b> {first['objection']}</p></section>"
    )


def _block(row: Mapping[str, object]) -> str:
    mark = f"<p class='lmc-verdict lmc-{row['verdict'].replace(' ', '-')}'>{MARKS[row['verdict']]} {row['verdict']}"
    if not row["parts"]:
        return f"{mark}</p>"
    safe = {key: html.escape(str(row[key]), quote=True) for key in ("scale", "fit", "profile", "chapter", "figure")}
    where = f"<a href='{safe['chapter']}.html#{safe['figure']}'>{safe['chapter'].replace('_', ' ')}</a>"
    scale = SCALES.get(safe["profile"], safe["profile"])
    fit = f"<p class='lmc-fit'>{safe['fit'].capitalize()}.</p>" if safe["fit"] else ""
    lines = "".join(_line(part) for part in row["parts"])
    return (
        f"{mark} <small>{scale}: {safe['scale']} ({where})</small></p>{fit}"
        f"<div class='lmc-scroll'><table><tbody>{lines}</tbody></table></div>"
    )


def _line(part: Part) -> str:
    name, unit, rival = (html.escape(text, quote=True) for text in (part.name, part.unit, part.rival))
    n = "exact" if part.exact else f"n = {len(part.values)}"
    told = f"{_mean(part.values, part.exact)}, {n}; {unit}; claimed: {part.side} {part.threshold:g}"
    beside = f"<br>Control, {rival}: {_mean(part.control)}" if part.control else ""
    if part.rival and not part.control:
        beside = f"<br>Control: {rival}"
    return (
        f"<tr><th scope='row'>{MARKS[part.verdict]} {name}</th><td>{_strip(part)}</td>"
        f"<td><b>{part.verdict}</b>: {told}{beside}<br><small>same verdict for thresholds {_range(part.thresholds)}</small></td></tr>"
    )


def _mean(values: Sequence[float], exact: bool = False) -> str:
    """A mean with its interval, where several values give it one."""
    low, high = mean_interval(values)
    return f"{np.mean(values):.3g}" + ("" if exact or len(values) == 1 else f" [{low:.3g}, {high:.3g}]")


def _range(interval: Interval) -> str:
    low, high = interval
    if np.isinf(low) and np.isinf(high):
        return "of any height"
    if np.isinf(low):
        return f"below {high:.3g}"
    return f"above {low:.3g}" if np.isinf(high) else f"from {low:.3g} to {high:.3g}"


def _strip(part: Part) -> str:
    """Every seed as a dot, the interval as a bar, the control's below it, the threshold as a line across."""
    ends = [end for interval in (part.interval, part.control_interval or part.interval) for end in interval]
    shown = [x for x in (*part.values, *part.control, part.threshold, *ends) if np.isfinite(x)]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0

    def at(x: float) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * float(np.clip((x - low) / span, 0, 1))

    def bar(interval: Interval, y: int, kind: str) -> str:
        a, b = (at(end) for end in np.clip(interval, low, high))
        return f"<rect class='{kind}' x='{a:.1f}' y='{y - 3}' width='{max(b - a, 1.5):.1f}' height='6'/>"

    dots = "".join(f"<circle cx='{at(x):.1f}' cy='11' r='3'/>" for x in part.values)
    rival = bar(part.control_interval, 25, "lmc-control") if part.control else ""
    line = f"<line x1='{at(part.threshold):.1f}' x2='{at(part.threshold):.1f}' y1='1' y2='{HEIGHT - 1}'/>"
    words = f"{len(part.values)} values with mean {np.mean(part.values):.3g}; threshold {part.threshold:g}"
    return (
        f"<svg class='lmc-strip' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}' role='img' "
        f"aria-label='{words}'>{bar(part.interval, 11, 'lmc-interval') if not part.exact else ''}{rival}{line}{dots}</svg>"
    )
