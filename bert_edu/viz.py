"""The book's pictures: one style, one palette, and the few drawings that several chapters share.

Needs matplotlib and seaborn, which `pip install "bert-edu[viz]"` brings.
"""

try:
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.patches import FancyBboxPatch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'{error.name} is not installed, and bert_edu.viz draws with it: pip install "bert-edu[viz]"'
    ) from error
import torch

# Colours that stay apart for colour-blind readers (after Okabe and Ito), each with one meaning in the book.
COLOURS = {
    "token": "#0072B2",  # blue
    "position": "#D55E00",  # vermilion
    "segment": "#009E73",  # green
    "query": "#0072B2",
    "key": "#D55E00",
    "value": "#009E73",
    "attention": "#CC79A7",  # purple
    "feed_forward": "#E69F00",  # orange
    "norm": "#56B4E9",  # sky
    "residual": "#7A7A7A",  # grey
    "ink": "#222222",
    "faint": "#D9DEE3",
}
CYCLE = [
    COLOURS[name]
    for name in ("token", "position", "segment", "attention", "feed_forward", "norm", "residual")
]
SHARES = "Blues"  # for shares of one, white = 0
SIGNED = "RdBu_r"  # for numbers of both signs, white = 0


def use_style():
    """Sets the book's figure style for this session; figures are 7.2 inches wide unless told otherwise."""
    sns.set_theme(style="whitegrid", context="notebook", font="DejaVu Sans")
    mpl.rcParams.update(
        {
            "figure.figsize": (7.2, 3.6),
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": mpl.cycler(color=CYCLE),
            "axes.edgecolor": "#9AA3AB",
            "axes.labelcolor": COLOURS["ink"],
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#E6EAED",
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "lines.linewidth": 2.0,
        }
    )


def heatmap(
    matrix,
    *,
    rows=None,
    columns=None,
    ax: Axes | None = None,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    signed: bool = False,
    limit: float | None = None,
    lowest: float = 0.0,
    decimals: int | None = 2,
    colour_bar: bool = False,
) -> Axes:
    """Draws a matrix as coloured cells.

    Args:
        matrix: (rows, columns), a tensor or array.
        rows, columns: labels; none for plain ticks.
        signed: the numbers have both signs: red above zero, blue below, white at zero.
        limit: the number that gets the full colour; by default the largest.
        lowest: the number that is white, unless the numbers are signed.
        decimals: how many to write into each cell; None writes nothing (large matrices).
        colour_bar: draw the scale beside it.
    """
    matrix = torch.as_tensor(matrix).detach().double().cpu().numpy()
    ax = ax if ax is not None else plt.subplots()[1]
    limit = limit if limit is not None else abs(matrix).max()
    sns.heatmap(
        matrix,
        ax=ax,
        vmin=-limit if signed else lowest,
        vmax=limit,
        cmap=SIGNED if signed else SHARES,
        cbar=colour_bar,
        annot=decimals is not None,
        fmt=f".{decimals or 0}f",
        annot_kws={"size": 8},
        xticklabels="auto" if columns is None else list(columns),
        yticklabels="auto" if rows is None else list(rows),
        linewidths=0.5 if decimals is not None else 0,
        linecolor="white",
    )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title)
    ax.tick_params(length=0)
    ax.tick_params(
        axis="x", rotation=45 if columns is not None and max(map(len, map(str, columns))) > 4 else 0
    )
    ax.tick_params(axis="y", rotation=0)
    return ax


def attention_map(
    probabilities,
    tokens,
    *,
    ax: Axes | None = None,
    title: str = "",
    limit: float = 1.0,
    decimals: int | None = None,
) -> Axes:
    """Draws who reads whom: a row per reading token (query), a column per token read (key); rows sum to 1.

    Args:
        probabilities: (T, T), one head.
        tokens: the T tokens, as text.
        limit: the share that gets the full colour; the same for maps that are to be compared.
    """
    return heatmap(
        probabilities,
        rows=tokens,
        columns=tokens,
        ax=ax,
        title=title,
        xlabel="token read (key)",
        ylabel="reading token (query)",
        limit=limit,
        decimals=decimals,
    )


class Sketch:
    """Boxes and arrows on an empty page, for the pictures that come before an equation.

    Coordinates are in the units of `width` and `height`, origin at the lower left.

    >>> sketch = Sketch(width=6, height=2)
    >>> left = sketch.box(1, 1, "token", colour="token")
    >>> right = sketch.box(4, 1, "vector")
    >>> sketch.arrow(left, right)
    """

    def __init__(self, width: float, height: float, scale: float = 1.0):
        self.figure, self.ax = plt.subplots(figsize=(width * scale, height * scale))
        self.ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
        self.ax.axis("off")

    def box(
        self,
        x: float,
        y: float,
        text: str,
        *,
        colour: str = "faint",
        width: float = 1.4,
        height: float = 0.5,
        size: float = 10,
    ) -> tuple[float, float, float, float]:
        """A rounded box centred at (x, y); returns (x, y, width, height) for `arrow`."""
        face = COLOURS.get(colour, colour)
        self.ax.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=mpl.colors.to_rgba(face, 0.22 if colour != "faint" else 1.0),
                edgecolor=face,
                linewidth=1.4,
            )
        )
        self.text(x, y, text, size=size)
        return x, y, width, height

    def text(
        self, x: float, y: float, text: str, *, colour: str = "ink", size: float = 10, align: str = "center"
    ):
        """Text centred on (x, y); `align` is "left", "center" or "right"."""
        self.ax.text(x, y, text, color=COLOURS.get(colour, colour), size=size, ha=align, va="center")

    def arrow(self, start, end, *, colour: str = "residual", bend: float = 0.0, width: float = 1.5):
        """An arrow between two boxes (from the nearer sides) or two (x, y) points; `bend` curves it."""
        begin, finish = _leave(start, end), _leave(end, start)
        self.ax.annotate(
            "",
            xy=finish,
            xytext=begin,
            arrowprops=dict(
                arrowstyle="-|>",
                color=COLOURS.get(colour, colour),
                linewidth=width,
                shrinkA=1,
                shrinkB=1,
                connectionstyle=f"arc3,rad={bend}",
            ),
        )


def _leave(start, towards) -> tuple[float, float]:
    """The middle of the side of box `start` that faces `towards`; a bare point is its own side."""
    if len(start) == 2:
        return start
    x, y, width, height = start
    dx, dy = towards[0] - x, towards[1] - y
    if abs(dx) * height > abs(dy) * width:
        return x + width / 2 * (1 if dx > 0 else -1), y
    return x, y + height / 2 * (1 if dy > 0 else -1)
