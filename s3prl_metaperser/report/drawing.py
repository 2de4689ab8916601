"""Drawing without side effects: matplotlib as an optional extra, no global style, the same bytes every time."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from s3prl_metaperser.errors import UserError, printable
from s3prl_metaperser.methods import facts_of
from s3prl_metaperser.report.tables import Table
from s3prl_metaperser.storage.at_once import at_once

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Item = TypeVar("Item")

#: Text and axes; in the page it becomes the text's own colour, so that it follows light and dark.
INK = "#1a1b1c"
PAPER = "#fefefd"
FAINT = "#8a8f98"
#: Inches; narrow enough to be read on a phone without scrolling.
WIDTH = 5.6
#: Up to so many things are drawn by one process.
FEW = 4

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#9467bd", "#8c6d31", "#17becf")
MARKERS = "osD^vPX*"


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
        key: file name without suffix.
        title: what it shows; also its text for those who cannot see it.
        caption: how to read it.
        svg: the file's text.
        png: the file's bytes.
        data: its numbers, for a CSV file.
    """

    kind: ClassVar[str] = "figure"

    key: str
    title: str
    caption: str
    svg: str
    png: bytes
    data: Table

    def inline(self) -> str:
        """The SVG to stand in an HTML page: transparent, in the page's text colour, with ids of its own."""
        text = self.svg[self.svg.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
        text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
        text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{re.sub(r'[^A-Za-z0-9]', '-', self.key)}-", text)
        text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', text, count=1)
        # a hundredth of a point is less than a pixel
        text = re.sub(r'="[^"]*"', lambda found: re.sub(r"(\d\.\d\d)\d+", r"\1", found[0]), text)
        return text.replace(INK, "currentColor").replace(PAPER, "none").strip()


def require_matplotlib() -> None:
    """Import matplotlib.

    Raises:
        UserError: it is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError(
            "The report's figures need matplotlib: pip install 's3prl-metaperser[report]' (or pip install matplotlib)."
        ) from None


@contextlib.contextmanager
def style() -> Iterator[None]:
    """matplotlib's own defaults with this report's changes, whatever the user's configuration; undone afterwards."""
    require_matplotlib()
    import matplotlib

    changes: dict[Any, Any] = {
        "svg.hashsalt": "s3prl-metaperser",
        "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and scaled
        "text.parse_math": False,
        "font.size": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": FAINT,
        "grid.alpha": 0.35,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "figure.facecolor": PAPER,
        "axes.facecolor": "none",
        "savefig.facecolor": PAPER,
    }
    changes |= dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    kept: dict[Any, Any] = {
        name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")
    }
    with matplotlib.rc_context({**kept, **changes}):
        yield


def new_figure(rows: int, columns: int, height: float, **options) -> tuple[Figure, Sequence[Sequence[Axes]]]:
    """A figure of the usual width with its axes [rows][columns], on the Agg canvas and unknown to pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def finished(figure: Figure, key: str, title: str, caption: str, data: Table) -> Drawing:
    """The figure's files, without dates or names of programs in them."""
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    figure.set_layout_engine("none")  # it is laid out
    figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return Drawing(key, title, caption, printable(svg.getvalue()), png.getvalue(), data)


def all_drawn(draw: Callable[[Item], Sequence[Drawing]], items: Sequence[Item]) -> list[Drawing]:
    """What is drawn of each item, in order and in :func:`style`; many are drawn by several processes."""
    with style():
        return [drawing for found in at_once(draw, items, few=FEW) for drawing in found]


def slug(name: str) -> str:
    """A name as a part of file names."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)


def legend_below(figure: Figure, handles: Iterable, names: Iterable[str]) -> None:
    """One legend for the whole figure, below it."""
    labels = [f" {name}" if name.startswith("_") else name for name in names]  # else matplotlib leaves them out
    columns = 2 if max(map(len, labels), default=0) > 14 else 3
    figure.legend(
        list(handles),
        labels,
        loc="outside lower center",
        ncols=columns,
        fontsize=11,
        handlelength=1.3,
        columnspacing=1.1,
    )


def colours(systems: Sequence[str]) -> dict[str, str]:
    """A colour for each system, hexadecimal: its own (:attr:`.Facts.colour`), or the next one."""
    from matplotlib.colors import to_hex

    fixed = {name: facts_of(name).colour for name in systems}
    rest = [name for name in systems if fixed[name] is None]
    chosen = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(rest)}
    return {name: to_hex(fixed[name] or chosen[name]) for name in systems}
