"""Plots as SVG that stands in a page: text stays text, and no file or address is needed.

The same values give the same bytes.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import RcKeyType

#: Okabe and Ito's colours, which people who see colours otherwise tell apart as well.
_COLOURS: Final = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#8a8a00",
)
_STYLES: Final = ("-", "--", ":", "-.")
#: Of the text as of the page's own; no glyphs are drawn.
_SETTINGS: Final[dict[RcKeyType, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "foedus",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
#: Characters of all names under the bars beyond which they would run into one another.
_CROWDED: Final = 40
#: Inches. A phone shows it about as wide, so that its text is of the text's size.
_WIDTH: Final = 4.6

Series = Mapping[str, Sequence[tuple[float, float]]]


def lines(series: Series, *, title: str, x_label: str, y_label: str) -> Markup:
    """Draw one line for each name.

    Parameters
    ----------
    series : mapping of str to sequence of (float, float)
        Points by name; a line with one point is a dot.
    title : str
        What is shown, for those who do not see it.
    x_label, y_label : str
        The axes', with units.

    Returns
    -------
    Markup
        An ``<svg>`` element; empty where there are no points.
    """
    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        return Markup()
    with rc_context(_SETTINGS):
        figure, axes = _axes(2.6)
        for place, (name, points) in enumerate(drawn.items()):
            x, y = zip(*points, strict=True)
            axes.plot(
                x,
                y,
                _STYLES[place // len(_COLOURS) % len(_STYLES)],
                marker="o",
                markersize=3,
                color=_COLOURS[place % len(_COLOURS)],
                label=name,
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(axis="y", alpha=0.3)
        _legend(figure, len(drawn))
        return _svg(figure, title)


def bars(
    groups: Mapping[str, Mapping[str, float]],
    *,
    title: str,
    y_label: str,
    x_label: str = "",
    stacked: bool = False,
) -> Markup:
    """Draw bars, one group for each outer name and one colour for each inner one.

    Parameters
    ----------
    groups : mapping of str to mapping of str to float
        Heights; a name missing in a group is a bar missing.
    title : str
        What is shown, for those who do not see it.
    x_label, y_label : str
        The axes', with units.
    stacked : bool
        Whether a group's bars stand on one another.

    Returns
    -------
    Markup
        An ``<svg>`` element; empty where no bar would be seen.
    """
    names = list(dict.fromkeys(name for heights in groups.values() for name in heights))
    if not any(value for heights in groups.values() for value in heights.values()):
        return Markup()
    with rc_context(_SETTINGS):
        figure, axes = _axes(2.6)
        width = 0.8 if stacked else 0.8 / len(names)
        below = dict.fromkeys(groups, 0.0)
        for place, name in enumerate(names):
            for group, (label, heights) in enumerate(groups.items()):
                if name not in heights:
                    continue
                axes.bar(
                    group if stacked else group - 0.4 + (place + 0.5) * width,
                    heights[name],
                    width,
                    bottom=below[label] if stacked else 0.0,
                    color=_COLOURS[place % len(_COLOURS)],
                )
                below[label] += heights[name]
            # One entry of the legend for all bars of a name.
            axes.bar(0, 0, 0, color=_COLOURS[place % len(_COLOURS)], label=name)
        crowded = sum(map(len, groups)) > _CROWDED
        axes.set_xticks(
            range(len(groups)),
            list(groups),
            rotation=20 if crowded else 0,
            horizontalalignment="right" if crowded else "center",
        )
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        _legend(figure, len(names))
        return _svg(figure, title)


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _legend(figure: Figure, entries: int) -> None:
    figure.legend(loc="outside upper center", ncols=min(entries, 4), frameon=False, fontsize=8)


def _svg(figure: Figure, title: str) -> Markup:
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    # The element alone, as wide as the page lets it be; what drew it is no part of the page.
    element = text[text.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, count=1, flags=re.DOTALL)
    element = re.sub(r' (width|height)="[0-9.]+pt"', "", element, count=2)
    label = Markup.escape(title)
    return Markup(element.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))  # noqa: S704
