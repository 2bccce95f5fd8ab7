"""The one style of all figures: colours, labels, logarithmic axes, and how a figure is saved."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#666666"
MARKERS = "osD^vPX*"
STYLE = mpl.rc_params_from_file(Path(__file__).with_name("style.mplstyle"), use_default_template=False)
# metric -> axis label with its unit
UNITS = {
    "correct facts": "correct facts per answer",
    "incorrect facts": "incorrect facts per answer",
    "% correct": "correct of all facts told (%)",
    "completeness": "completeness (%)",
    "order": "order (%)",
    "METEOR": "METEOR (0 to 100)",
    "BERTScore": "BERTScore F1 (0 to 100)",
    "words": "words per answer",
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let a function of some rows draw in the style, and nothing outside it; no rows raise `ValueError`."""

    @wraps(draw)
    def drawn(rows: Sequence | Mapping, *given: Any, **options: Any) -> Figure:
        if not len(rows):
            raise ValueError(f"{draw.__name__}: there is nothing to draw; give at least one row.")
        with mpl.rc_context(STYLE):
            return draw(rows, *given, **options)

    return drawn


# Without these entries another version of matplotlib, or another day, can give the same file.
_ANONYMOUS = {"Creator": None, "Producer": None, "CreationDate": None}
_COLORS = 32  # of a PNG: enough for lines, bars and letters, and a third of the size in a notebook


def save(figure: Figure, directory: Path, name: str) -> Path:
    """Write `<directory>/<name>.png` at 150 dpi and `<name>.pdf` as vectors; return the path of the PNG.

    The same figure gives the same bytes.
    """
    path = Path(directory) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(drawn, format="png")
        figure.savefig(path.with_name(f"{name}.pdf"), metadata=_ANONYMOUS)  # a name may hold dots
    picture = Image.open(drawn).convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    return path


def row_of_panels(count: int, height: float = 3.2, **shared: bool) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels in one row."""
    figure = Figure(figsize=(5.2 if count == 1 else min(3.4 * count, 10), height))
    return figure, list(figure.subplots(1, count, squeeze=False, **shared)[0])


def groups(rows: list[dict], field: str) -> dict:
    """Rows by the value of a field, values in the order in which they come."""
    groups: dict = {}
    for row in rows:
        groups.setdefault(row[field], []).append(row)
    return groups


def log_bins(values: Sequence[float], count: int = 40) -> np.ndarray:
    """Edges of `count` bins that are equally wide on a log scale."""
    low, high = min(values), max(values)
    return np.geomspace(low, high if high > low else low * 1.01, count + 1)


def log(axes: Axes, axis: str, label: str) -> None:
    """Make an axis logarithmic, with plain numbers: 1, 2, 5, 10 over a short range, powers of ten over a long one."""
    axes.set(**{f"{axis}scale": "log", f"{axis}label": f"{label} (log scale)"})
    drawn = axes.xaxis if axis == "x" else axes.yaxis
    low, high = drawn.get_view_interval()
    drawn.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    drawn.set_major_formatter("{x:g}")
    drawn.set_minor_formatter(NullFormatter())
