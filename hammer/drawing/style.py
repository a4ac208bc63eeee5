"""The look of a report: colours and styles, for the page and for a picture that stands alone.

Colours are those of Okabe and Ito, which people who do not see all colours can tell apart; the dark ones are brighter
on a dark page. Every optimizer also has its own dashes.
"""

_LIGHT = ("#0072B2", "#D55E00", "#009E73", "#B4578F", "#C98500", "#4A9CCB", "#555555", "#8A7A00")
_DARK = ("#4DA8E0", "#FF8A3D", "#2CC79A", "#E59AC4", "#F2B93B", "#8FD0F5", "#B8B8B8", "#E5D94A")
_DASHES = ("none", "7 3", "2 2.5", "9 3 2 3", "4 2", "1 3", "12 3", "6 2 1 2")
SERIES = len(_LIGHT)


def _colours(values: tuple[str, ...]) -> str:
    return "".join(f"--s{i}:{colour};" for i, colour in enumerate(values))


_VARIABLES_LIGHT = f"--page:#ffffff;--box:#f6f7f8;--ink:#1b1f24;--soft:#5b636d;--line:#dfe3e8;--good:#00724f;--bad:#b3401a;{_colours(_LIGHT)}"
_VARIABLES_DARK = f"--page:#13161a;--box:#1b1f25;--ink:#e8eaed;--soft:#a0a8b2;--line:#323942;--good:#4fd6a8;--bad:#ff9d75;{_colours(_DARK)}"

VARIABLES = f":root{{color-scheme:light dark;{_VARIABLES_LIGHT}}}@media(prefers-color-scheme:dark){{:root{{{_VARIABLES_DARK}}}}}"
PRINTED = f"@media print{{:root{{color-scheme:light;{_VARIABLES_LIGHT}}}}}"

FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif'

CHART = (
    f"svg text{{font-family:{FONT};fill:var(--ink)}}"
    "svg .tick{font-size:11px;fill:var(--soft)}svg .label{font-size:11px;fill:var(--soft)}"
    "svg .name{font-size:13px;font-weight:600}svg .heading{font-size:17px;font-weight:600}svg .key{font-size:12.5px}"
    "svg .grid{stroke:var(--line);stroke-width:1;fill:none}svg .axis{stroke:var(--soft);stroke-width:1;fill:none}"
    "svg .goal{stroke:var(--ink);stroke-width:1;stroke-dasharray:1.5 3;fill:none;opacity:.75}"
    "svg .curve{fill:none;stroke-width:1.9;stroke-linejoin:round;stroke-linecap:round}"
    "svg .band{stroke:none;opacity:.16}svg .mark{stroke:var(--page);stroke-width:1.5}"
    "svg .bar{stroke-width:3;fill:none;stroke-linecap:round}"
) + "".join(
    f"svg .curve.s{i},svg .bar.s{i}{{stroke:var(--s{i})}}svg .curve.s{i}{{stroke-dasharray:{dash}}}svg .band.s{i},svg .mark.s{i}{{fill:var(--s{i})}}"
    for i, dash in enumerate(_DASHES)
)

PAGE = f"""
*{{box-sizing:border-box}}
body{{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 {FONT};-webkit-text-size-adjust:100%}}
main{{max-width:1180px;margin:0 auto;padding:2.2rem 1.25rem 4rem}}
header p.kind{{margin:0;color:var(--soft);font-size:.9rem;letter-spacing:.02em}}
h1{{font-size:1.75rem;line-height:1.2;margin:.1rem 0 1rem;letter-spacing:-.01em;overflow-wrap:anywhere}}
h2{{font-size:1.2rem;margin:2.8rem 0 .35rem;letter-spacing:-.005em}}
h3{{font-size:1rem;margin:0;font-weight:600}}
p{{margin:.35rem 0 .8rem;max-width:46rem}}
.soft,figcaption,small{{color:var(--soft);font-size:.9rem}}
.verdict{{font-size:1.22rem;line-height:1.45;border-left:4px solid var(--s0);padding:.15rem 0 .15rem 1rem;margin:1rem 0 1.1rem;max-width:60ch}}
.wide{{overflow-x:auto;margin:.6rem 0 .4rem;border:1px solid var(--line);border-radius:8px}}
table{{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}}
th,td{{text-align:left;padding:.42rem .48rem;white-space:nowrap;vertical-align:middle}}
th{{font-weight:600;font-size:.8rem;color:var(--soft);background:var(--box);border-bottom:1px solid var(--line)}}
td+td,th+th{{text-align:right}}
td.left,th.left{{text-align:left}}
tbody tr+tr td{{border-top:1px solid var(--line)}}
tbody tr.group td{{border-top:2px solid var(--line)}}
td small{{display:block;font-size:.8rem;line-height:1.25}}td.wrap{{white-space:normal;min-width:8.5rem}}
th button{{all:unset;cursor:pointer;font:inherit}}
th button:hover,th button:focus-visible{{color:var(--ink);text-decoration:underline}}
th[aria-sort=ascending] button::after{{content:" ↑"}}th[aria-sort=descending] button::after{{content:" ↓"}}
td.best{{font-weight:600}}td.best small{{font-weight:400}}.good{{color:var(--good)}}.bad{{color:var(--bad)}}
.dotted{{display:inline-block;width:.72em;height:.72em;border-radius:50%;margin-right:.55em}}
.legend{{display:flex;flex-wrap:wrap;gap:.4rem;margin:.7rem 0;padding:.35rem 0;position:sticky;top:0;background:var(--page);z-index:1}}
.legend button{{font:inherit;font-size:.92rem;color:var(--ink);background:var(--box);border:1px solid var(--line);border-radius:999px;padding:.2rem .8rem .2rem .55rem;cursor:pointer;display:flex;align-items:center;gap:.45rem}}
.legend button[aria-pressed=false]{{opacity:.45;text-decoration:line-through}}
.legend svg{{width:30px;height:10px}}
.axes{{display:flex;flex-wrap:wrap;gap:.4rem;margin:.2rem 0 .9rem}}
.axes button{{font:inherit;font-size:.86rem;color:var(--soft);background:none;border:0;border-bottom:2px solid transparent;padding:.1rem .3rem;cursor:pointer}}
.axes button[aria-pressed=true]{{color:var(--ink);border-color:var(--s0)}}
.charts{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:1.2rem 1.4rem}}
figure{{margin:0;min-width:0}}figure svg{{width:100%;height:auto;display:block;overflow:visible}}
figcaption{{line-height:1.35}}
td svg.interval{{width:170px;height:18px;display:block}}
pre{{background:var(--box);border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;overflow-x:auto;font:.86rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}}
code{{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.92em;overflow-wrap:anywhere}}
dl{{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.2rem;margin:.5rem 0;font-size:.92rem}}
dt{{color:var(--soft)}}dd{{margin:0;overflow-wrap:anywhere;min-width:0}}
details summary{{cursor:pointer}}
td small.narrow{{display:none}}td.name{{position:sticky;left:0;background:var(--page) padding-box;z-index:1}}
@media print,(max-width:560px){{.roomy{{display:none}}td small.narrow{{display:block}}td.name{{white-space:normal}}}}
@media(max-width:560px){{td.name{{min-width:7.6rem;box-shadow:1px 0 var(--line)}}main{{padding:1.3rem .9rem 3rem}}h1{{font-size:1.45rem}}.verdict{{font-size:1.08rem}}dl{{grid-template-columns:1fr}}dt{{margin-top:.4rem}}th,td{{padding:.42rem .55rem}}}}
@media print{{td.name{{position:static}}table{{font-size:8pt}}th{{font-size:7.5pt;white-space:normal}}td small{{font-size:7pt}}th,td{{padding:.2rem .3rem}}.axes button[aria-pressed=false]{{display:none}}main{{max-width:none;padding:0}}.legend{{position:static}}.wide{{overflow:visible;border:0}}figure,tr{{break-inside:avoid}}h2,h3{{break-after:avoid}}pre{{white-space:pre-wrap;overflow:visible;break-inside:avoid}}th button{{display:contents}}th button::after{{content:""}}}}
""".replace("\n", "")

HIDING = "".join(f".hide-{i} .charts .s{i}{{display:none}}" for i in range(SERIES))
