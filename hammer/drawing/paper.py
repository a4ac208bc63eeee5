"""The package's own SVG charts as PNG or PDF, for papers; by matplotlib: ``pip install "hammer-grad[figures]"``.

    save("barcode.pdf", pictures.barcode(diagrams))
    save("curves.png", picture(panels))

A chart is drawn once, as SVG, and this reads what it needs of it: groups that are moved, paths of straight lines, rectangles, circles, words
and images, with the styles of ``style`` in the colours of a light page. Anything else is refused, so that nothing is left out unseen.
"""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from autograd.atomic import write_atomically

KINDS = (".svg", ".png", ".pdf")
FONT = "DejaVu Sans"
"""matplotlib brings it, so that words look the same everywhere, and it has the letters of mathematics."""
SIZE = "12px"
"""Of words without a style of their own."""


def save(path: Path | str, chart: str, scale: float = 3.0) -> None:
    """Write a chart as the kind of file that the name says, as a whole or not at all.

    Args:
        path: a name that ends in .svg, .png or .pdf.
        chart: the text of an SVG file that this package drew.
        scale: pixels of a PNG for each unit of the SVG.

    Raises:
        ValueError: another ending, or an SVG of something else. ImportError: PNG or PDF without matplotlib.
    """
    path = Path(path)
    if path.suffix not in KINDS:
        raise ValueError(
            f"save: a chart is written as {', '.join(KINDS)}, not as {path.suffix or 'a file without ending'}"
        )
    write_atomically(path, chart if path.suffix == ".svg" else printed(chart, path.suffix[1:], scale))


def printed(chart: str, kind: str = "png", scale: float = 3.0) -> bytes:
    """A chart as the bytes of a "png" or "pdf" file; see ``save``."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f'a chart as {kind} needs matplotlib (missing: {error.name}); install it with: pip install "hammer-grad[figures]". SVG needs nothing.'
        ) from error
    if kind not in ("png", "pdf") or not scale > 0:
        raise ValueError(f'printed: kind is "png" or "pdf" and scale above 0, not {kind!r} and {scale!r}')
    root = ElementTree.fromstring(chart)
    width, height = (float(root.get(name, "nan")) for name in ("width", "height"))
    if _name(root) != "svg" or not width * height > 0:
        raise ValueError("printed: needs the text of an SVG file with a width and a height")
    figure = Figure((width / 72, height / 72), dpi=72 * scale)  # a unit of the SVG is a point
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    _Drawn(axes, _rules("".join(e.text or "" for e in root if _name(e) == "style"))).group(root, 0.0, 0.0)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    file = io.BytesIO()
    about = {"CreationDate": None} if kind == "pdf" else {"Software": None}  # the same chart, the same bytes
    figure.savefig(file, format=kind, metadata=about)
    return file.getvalue()


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


Rules = list[tuple[str, frozenset[str], dict[str, str]]]


def _rules(text: str) -> Rules:
    """Tag, classes and properties of each rule, variables put in; rules for other pages (dark, printed) left out."""
    text = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", "", text)
    rules: Rules = []
    variables: dict[str, str] = {}
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", text):
        properties = _properties(body, variables)
        variables |= {key: value for key, value in properties.items() if key.startswith("--")}
        for selector in selectors.split(","):
            tag, *classes = selector.split()[-1].split(".")
            rules.append((tag, frozenset(classes), properties))
    return rules


def _properties(body: str, variables: dict[str, str]) -> dict[str, str]:
    found = {}
    for one in body.split(";"):
        key, colon, value = one.partition(":")
        if colon:
            found[key.strip()] = re.sub(r"var\((--\w+)\)", lambda m: variables[m[1]], value.strip())
    return found


class _Drawn:
    """What is drawn into matplotlib's axes, one on top of the other."""

    def __init__(self, axes: Any, rules: Rules):
        self.axes, self.rules, self.count = axes, rules, 0
        self.variables = {k: v for _, _, properties in rules for k, v in properties.items() if k.startswith("--")}

    def group(self, element: ElementTree.Element, left: float, top: float) -> None:
        moved = re.fullmatch(r"translate\(([-\d.]+),([-\d.]+)\)", element.get("transform", "translate(0,0)"))
        if moved is None:
            raise ValueError(f"printed: a group is moved only, not {element.get('transform')!r}")
        left, top = left + float(moved[1]), top + float(moved[2])
        for child in element:
            name = _name(child)
            if name == "g":
                self.group(child, left, top)
            elif name in ("path", "rect", "circle", "text", "image"):
                getattr(self, name)(child, left, top)
            elif name not in ("style", "title"):
                raise ValueError(f"printed: cannot draw <{name}>")

    def style(self, element: ElementTree.Element) -> dict[str, str]:
        classes = set(element.get("class", "").split())
        found: dict[str, str] = {}
        for tag, wanted, properties in self.rules:
            if tag in ("", _name(element)) and wanted <= classes and (wanted or tag):
                found |= properties
        return found | _properties(element.get("style", ""), self.variables)

    def ink(self, style: dict[str, str]) -> dict[str, Any]:
        """Colours, widths and dashes as matplotlib's patches take them; SVG fills with black what says nothing."""
        self.count += 1
        wide = float(style.get("stroke-width", "1").removesuffix("px"))
        stroke, dashes = style.get("stroke", "none"), style.get("stroke-dasharray", "none")
        return {
            "facecolor": style.get("fill", "#000000"), "edgecolor": stroke, "alpha": float(style.get("opacity", "1")),
            "linewidth": 0.0 if stroke == "none" else wide, "zorder": self.count,
            # matplotlib's dashes are in widths of the line
            "linestyle": "-" if dashes == "none" else (0.0, [float(d) / wide for d in dashes.split()]),
            "capstyle": style.get("stroke-linecap", "butt"), "joinstyle": style.get("stroke-linejoin", "miter"),
        }  # fmt: skip

    def path(self, element: ElementTree.Element, left: float, top: float) -> None:
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path as Lines

        points, codes = [], []
        for step, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", element.get("d", "")):
            if step == "Z":
                points.append((0.0, 0.0))
            elif step in "ML":
                x, y = map(float, numbers.split())
                points.append((left + x, top + y))
            else:
                raise ValueError(f"printed: a path has M, L and Z, not {step!r}")
            codes.append({"M": Lines.MOVETO, "L": Lines.LINETO, "Z": Lines.CLOSEPOLY}[step])
        self.axes.add_patch(PathPatch(Lines(points, codes), **self.ink(self.style(element))))

    def rect(self, element: ElementTree.Element, left: float, top: float) -> None:
        from matplotlib.patches import Rectangle

        x, y, width, height = self.numbers(element, "x", "y", "width", "height")
        self.axes.add_patch(Rectangle((left + x, top + y), width, height, **self.ink(self.style(element))))

    def circle(self, element: ElementTree.Element, left: float, top: float) -> None:
        from matplotlib.patches import Circle

        x, y, radius = self.numbers(element, "cx", "cy", "r")
        self.axes.add_patch(Circle((left + x, top + y), radius, **self.ink(self.style(element))))

    def text(self, element: ElementTree.Element, left: float, top: float) -> None:
        style, (x, y) = self.style(element), self.numbers(element, "x", "y")
        self.count += 1
        side = {"start": "left", "middle": "center", "end": "right"}[element.get("text-anchor", "start")]
        self.axes.text(
            left + x, top + y, element.text or "", ha=side, va="baseline", color=style.get("fill", "#000000"), zorder=self.count, family=FONT,
            size=float(style.get("font-size", SIZE).removesuffix("px")), weight="bold" if int(style.get("font-weight", "400")) >= 600 else "normal", parse_math=False,
        )  # fmt: skip

    def image(self, element: ElementTree.Element, left: float, top: float) -> None:
        from matplotlib.image import imread

        x, y, width, height = self.numbers(element, "x", "y", "width", "height")
        kind, _, data = element.get("href", "").partition(",")
        if kind != "data:image/png;base64":
            raise ValueError("printed: an image is a PNG inside the SVG")
        self.count += 1
        box = (left + x, left + x + width, top + y + height, top + y)
        pixels = imread(io.BytesIO(base64.b64decode(data)))
        self.axes.imshow(
            pixels, cmap="gray", vmin=0, vmax=1, extent=box, aspect="auto", interpolation="nearest", zorder=self.count
        )

    @staticmethod
    def numbers(element: ElementTree.Element, *names: str) -> list[float]:
        return [float(element.get(name, "0")) for name in names]
