"""The ledger as a table of a page, with filters that work without Python."""

import html
from collections.abc import Mapping, Sequence

import pandas as pd

MARKS = {"holds": "✓", "holds in part": "◐", "fails": "✗", "not run yet": "·"}


def as_html(ledger: pd.DataFrame) -> str:
    """The ledger as a table with three filters, which work without Python."""
    columns = ("claim", "says", "verdict", "measured", "spread", "scale")
    heads = "".join(f"<th scope='col'>{name}</th>" for name in (*columns, "shown in"))
    filters = "".join(_filter(name, sorted(set(ledger[name]) - {""})) for name in ("paper", "verdict", "chapter"))
    body = "".join(_row(row) for row in ledger.to_dict("records"))
    return (
        f"<div class='lmc-ledger'><p>{filters}</p><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
        "<script>document.querySelectorAll('.lmc-ledger select').forEach(function(s){s.onchange=function(){"
        "var box=s.closest('.lmc-ledger'),all=box.querySelectorAll('select');"
        "box.querySelectorAll('tbody tr').forEach(function(r){"
        "r.hidden=![].every.call(all,function(f){return !f.value||r.dataset[f.name]===f.value})})}})</script>"
    )


def _filter(name: str, options: Sequence[str]) -> str:
    items = "".join(f"<option>{html.escape(option)}</option>" for option in options)
    return f"<label>{name} <select name='{name}'><option value=''>all</option>{items}</select></label> "


def _row(row: Mapping[str, str]) -> str:
    safe = {key: html.escape(str(value), quote=True) for key, value in row.items()}
    link = (
        f"<a href='{safe['chapter']}.html#{safe['figure']}'>{safe['chapter'].replace('_', ' ')}</a>"
        if row["chapter"]
        else ""
    )
    cells = (
        f"{safe['claim']}<br><small>{safe['where']}</small>",
        f"{safe['says']}<br><small>Rule: {safe['rule']}.</small>",
        f"{MARKS[row['verdict']]} {safe['verdict']}",
        safe["measured"],
        safe["spread"],
        safe["scale"],
        link,
    )
    data = "".join(f" data-{key}='{safe[key]}'" for key in ("paper", "verdict", "chapter"))
    return f"<tr{data}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
