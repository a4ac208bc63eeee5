"""A report's page: one file, no network, no fonts or scripts from elsewhere. Its tables sort at a click."""

import math
from collections.abc import Sequence
from html import escape

from ...drawing import style

_SCRIPT = """
document.querySelectorAll('th button').forEach(b=>b.addEventListener('click',()=>{
 const th=b.parentNode,tb=th.closest('table').tBodies[0],i=th.cellIndex,up=th.getAttribute('aria-sort')!=='ascending';
 th.parentNode.querySelectorAll('th').forEach(h=>h.removeAttribute('aria-sort'));
 th.setAttribute('aria-sort',up?'ascending':'descending');
 const v=r=>r.cells[i].dataset.sort??r.cells[i].textContent;
 [...tb.rows].sort((p,q)=>{const a=v(p),c=v(q),x=parseFloat(a),y=parseFloat(c);
  const d=isNaN(x)||isNaN(y)?a.localeCompare(c):(x===y?0:x-y);return up?d:-d}).forEach(r=>{r.classList.remove('group');tb.append(r)});
}));
document.querySelectorAll('.legend button').forEach(b=>b.addEventListener('click',()=>{
 const off=document.body.classList.toggle('hide-'+b.dataset.series);
 document.querySelectorAll('.legend button[data-series="'+b.dataset.series+'"]').forEach(o=>o.setAttribute('aria-pressed',!off));
}));
document.querySelectorAll('.axes button').forEach(b=>b.addEventListener('click',()=>{
 document.querySelectorAll('.axes button').forEach(o=>o.setAttribute('aria-pressed',o===b));
 document.querySelectorAll('.by').forEach(e=>{e.hidden=e.dataset.by!==b.dataset.by});
}));
"""


def document(title: str, body: Sequence[str], css: str = "") -> str:
    """The text of a page: the parts of its body, with the style of all reports and more of its own."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{style.VARIABLES}{style.PRINTED}{style.PAGE}{css}</style></head>\n<body><main>\n'
        + "\n".join(body)
        + f"\n</main><script>{_SCRIPT}</script></body></html>\n"
    )


def table(head: list[tuple[str, bool]], rows: list[str], roomy: Sequence[str] = ()) -> str:
    """A table in a box of its own that scrolls sideways. Cells of the class ``name`` stay in sight then.

    ``head``: text and whether the column is aligned left. ``roomy``: the columns that a phone leaves out, with the cells of that
    class.
    """
    cells = ""
    for label, left in head:
        kinds = " ".join(["left"] * left + ["roomy"] * (label in roomy))
        attribute = f' class="{kinds}"' if kinds else ""
        cells += f'<th scope="col"{attribute}><button>{escape(label)}</button></th>'
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def interval(shown: str) -> str:
    """``value [low, high]`` with the interval on a line of its own."""
    head, _, tail = shown.partition(" [")
    return f"{escape(head)}{f'<small>[{escape(tail)}</small>' if tail else ''}"


def sort(value: float) -> str:
    """The attribute that a cell is sorted by; the infinite goes last."""
    return f'data-sort="{1e300 if not math.isfinite(value) else value:.9g}"'
