"""The book's pictures: one style, one palette, and the drawings that several chapters share.

Every drawing that shows numbers also says them: `alt_text(figure)` gives, sentence by sentence, what is to be
seen, made from the numbers that were drawn. Colours are never the only difference: curves differ in their
dashes, groups of points in their marks.

Needs matplotlib and seaborn, which `pip install "bert-edu[viz]"` brings.
"""

import json
import math
from pathlib import Path

import numpy as np

try:
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch, Rectangle
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
DASHES = ("-", "--", ":", "-.")  # curves stay apart in black and white too
MARKS = "os^DvPX"  # and so do groups of points


# ---- Style and words ---------------------------------------------------------------------------------------


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


def alt_text(figure: Figure) -> str:
    """What a figure of this module shows, in words, for people who cannot see it.

    Each drawing leaves a sentence or two, made from its numbers; this joins them in the order of the panels.
    Panels that were drawn otherwise have none.
    """
    labels = [ax.get_label() for ax in figure.axes]
    return " ".join(label for label in labels if label and not label.startswith("<"))  # <colorbar>


def _say(ax: Axes, sentence: str):
    """Leaves the words for a panel where `alt_text` finds them."""
    ax.set_label(sentence)


def _named(title: str) -> str:
    return f" “{title}”" if title else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _array(numbers) -> np.ndarray:
    return torch.as_tensor(numbers).detach().double().cpu().numpy()


def _shaped(name: str, numbers, axes: str) -> np.ndarray:
    """The numbers as an array, once it is sure that they have these axes, "(L, A)" say, and none is empty."""
    array = _array(numbers)
    if array.ndim != axes.count(",") + 1 - axes.count(",)") or array.size == 0:
        raise ValueError(f"{name} must be {axes}, and not empty, but has the shape {array.shape}")
    return array


def _same_number(name: str, labels, count: int, of: str) -> list[str]:
    labels = [str(label) for label in labels]
    if len(labels) != count:
        raise ValueError(f"there are {len(labels)} {name} for {count} {of}: give one for each")
    return labels


# ---- Matrices ----------------------------------------------------------------------------------------------


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
    matrix = _array(matrix)
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
    _say(ax, _matrix_in_words(matrix, rows, columns, title))
    return ax


def _matrix_in_words(matrix, rows, columns, title) -> str:
    beginning = f"Heat map{_named(title)}, {matrix.shape[0]} rows, {matrix.shape[1]} columns"
    if np.isnan(matrix).all():
        return beginning + ", all empty."
    row, column = np.unravel_index(np.nanargmax(matrix), matrix.shape)
    place = (
        f"row {row if rows is None else rows[row]}, column {column if columns is None else columns[column]}"
    )
    return f"{beginning}; the largest number, {matrix[row, column]:.2f}, stands in {place}."


def ring(ax: Axes, cells, *, colour: str = "position"):
    """Draws a frame round cells of a heat map: `cells` are pairs (row, column), counted from 0."""
    for row, column in cells:
        frame = Rectangle((column, row), 1, 1, fill=False, linewidth=2, clip_on=False)
        frame.set_edgecolor(COLOURS.get(colour, colour))
        ax.add_patch(frame)


def confusion_matrix(counts, names, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draws which class was taken for which: a row per true class, a column per answer.

    The colour is the share of the row, so that rare classes can be read too; the number is the count.

    Args:
        counts: (C, C), how often row was answered by column; as of `sklearn.metrics.confusion_matrix`.
        names: the C classes.
    """
    counts = _shaped("counts", counts, "(C, C)")
    names = _same_number("names", names, len(counts), "rows of counts")
    if counts.shape[0] != counts.shape[1] or (counts < 0).any():
        raise ValueError(f"counts must be square and not negative, but has the shape {counts.shape}")
    sizes = counts.sum(1)
    shares = counts / np.maximum(sizes, 1)[:, None]  # a class that never occurs has an empty row
    labels = [f"{name} ({size:.0f})" for name, size in zip(names, sizes)]
    ax = heatmap(
        shares, rows=labels, columns=names, ax=ax, title=title, limit=1.0, decimals=None,
        xlabel="the model's answer", ylabel="the truth",
    )  # fmt: skip
    for (row, column), count in np.ndenumerate(counts):
        ink = "white" if shares[row, column] > 0.6 else COLOURS["ink"]
        ax.text(column + 0.5, row + 0.5, f"{count:.0f}", color=ink, ha="center", va="center", size=9)
    found = [f"{name} {shares[n, n]:.0%}" for n, name in enumerate(names) if sizes[n]]
    words = f"Confusion matrix. Found of each class: {', '.join(found)}."
    wrong = counts - np.diag(counts.diagonal())
    if wrong.any():
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        words += (
            f" The most frequent mistake: {names[row]} taken for {names[column]}, {wrong.max():.0f} times."
        )
    _say(ax, words)
    return ax


# ---- Attention ---------------------------------------------------------------------------------------------


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
    probabilities = _shaped("probabilities", probabilities, "(T, T)")
    if probabilities.shape[0] != probabilities.shape[1]:
        raise ValueError(
            f"probabilities must be (T, T), a row and a column for each token, not {probabilities.shape}"
        )
    tokens = _same_number("tokens", tokens, len(probabilities), "rows of probabilities")
    ax = heatmap(
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
    query, key = np.unravel_index(np.nanargmax(probabilities), probabilities.shape)
    _say(
        ax,
        f"Attention map{_named(title)} of {len(tokens)} tokens: {' '.join(tokens)}. The darkest cell: "
        f"“{tokens[query]}” reads “{tokens[key]}” with a share of {probabilities[query, key]:.2f}.",
    )
    return ax


def head_grid(
    attentions, *, frames: dict | None = None, ax: Axes | None = None, title: str = "", limit: float = 1.0
) -> Axes:
    """Draws all heads of a model as small maps: a row of maps per layer, a column per head.

    Args:
        attentions: (L, A, T, T) for one text, or L of (A, T, T).
        frames: heads to point out, {"reads the token before": (layer, head)}, counted from 0.
        limit: the share that gets the full colour.
    """
    if not len(attentions):
        raise ValueError("attentions is empty: run the model with output_attentions=True")
    attentions = _shaped("attentions", np.stack([_array(layer) for layer in attentions]), "(L, A, T, T)")
    L, A, T, _ = attentions.shape
    gap = max(1, T // 5)
    step = T + gap
    grid = np.full((L * step - gap, A * step - gap), np.nan)
    for layer, head in np.ndindex(L, A):
        grid[layer * step : layer * step + T, head * step : head * step + T] = attentions[layer, head]
    ax = ax if ax is not None else plt.subplots(figsize=(7.2, 1.0 + 6.2 * L / A if A > L else 6.4))[1]
    ax.imshow(grid, cmap=SHARES, vmin=0, vmax=limit, interpolation="nearest")
    for layer, head in np.ndindex(L, A):
        corner = (head * step - 0.5, layer * step - 0.5)
        ax.add_patch(Rectangle(corner, T, T, fill=False, edgecolor="#C3CAD0", linewidth=0.6))
    margin = 0.35 * gap
    for number, (what, (layer, head)) in enumerate((frames or {}).items()):
        if not (0 <= layer < L and 0 <= head < A):
            raise ValueError(f"there is no head {head} in layer {layer}: {L} layers of {A} heads, from 0")
        corner = (head * step - 0.5 - margin, layer * step - 0.5 - margin)
        frame = Rectangle(corner, T + 2 * margin, T + 2 * margin, fill=False, clip_on=False, linewidth=2.6)
        frame.set(edgecolor=CYCLE[1:][number % 6], linestyle=DASHES[number % 4], label=what)
        ax.add_patch(frame)
    ax.set_xticks([head * step + (T - 1) / 2 for head in range(A)], range(A))
    ax.set_yticks([layer * step + (T - 1) / 2 for layer in range(L)], range(L))
    ax.set(xlabel="head", ylabel="layer", title=title)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if frames:
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(3, len(frames)))
    pointed = [f" Layer {layer}, head {head}: {what}." for what, (layer, head) in (frames or {}).items()]
    _say(ax, f"Attention maps of {L} layers with {A} heads each, for {T} tokens.{''.join(pointed)}")
    return ax


# ---- Vectors -----------------------------------------------------------------------------------------------


def embedding_maps(parts: dict, tokens, *, components: int = 12, limit: float | None = None) -> Figure:
    """Draws vectors that are added, side by side, and their sum: a row per token, a column per component.

    Args:
        parts: {"token": (T, H), "position": (T, H), "segment": (T, H)}, or whatever else is added up.
        tokens: the T tokens, as text.
        components: how many of the H components to draw, from the first.
        limit: the number that gets the full colour; by default the largest that is drawn.
    """
    if not parts:
        raise ValueError("parts is empty: give at least one (T, H) under its name")
    arrays = {name: _shaped(name, vectors, "(T, H)") for name, vectors in parts.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1:
        raise ValueError(f"parts must all have one shape (T, H) to be added, but they have {sorted(shapes)}")
    T, H = shapes.pop()
    tokens = _same_number("tokens", tokens, T, "vectors")
    titles = [f"{'+ ' if number else ''}{name}" for number, name in enumerate(arrays)]
    total = sum(arrays.values())
    shown = [array[:, :components] for array in [*arrays.values(), total]]
    limit = limit if limit is not None else max(abs(array).max() for array in shown)
    figure, axes = plt.subplots(1, len(shown), figsize=(7.2, 1.0 + 0.24 * T), sharey=True)
    for ax, title, array in zip(axes, [*titles, "= sum"], shown):
        heatmap(array, rows=tokens, ax=ax, title=title, signed=True, limit=limit, decimals=None)
        last = array.shape[1] - 1
        ax.set_xticks([0.5, last + 0.5], ["0", str(last)])
        ax.title.set_color(COLOURS.get(title.removeprefix("+ "), COLOURS["ink"]))
    axes[0].set_xlabel("component")
    for name, array, ax in zip(arrays, shown, axes):
        _say(ax, f"Part “{name}”: numbers from {array.min():.2f} to {array.max():.2f}.")
    _say(axes[-1], f"Their sum for {' '.join(tokens)}, the first {shown[-1].shape[1]} of {H} components.")
    return figure


def embedding_plane(vectors, labels, *, groups=None, ax: Axes | None = None, title: str = "") -> Axes:
    """Draws vectors as points: the two directions in which they differ most (principal components).

    Two points that lie apart here are apart; two that lie together may still differ in another direction.
    The labels of the axes say how much of the spread each direction holds.

    Args:
        vectors: (N, H), at least three.
        labels: a text for each.
        groups: what kind each is; kinds get their own colour and mark.
    """
    from sklearn.decomposition import PCA

    vectors = _shaped("vectors", vectors, "(N, H)")
    if len(vectors) < 3 or vectors.shape[1] < 2:
        raise ValueError(f"a plane needs three vectors of two numbers or more, not {vectors.shape}")
    labels = _same_number("labels", labels, len(vectors), "vectors")
    kinds = _same_number(
        "groups", groups if groups is not None else [""] * len(vectors), len(vectors), "vectors"
    )
    plane = PCA(2, svd_solver="full")
    points = plane.fit_transform(vectors)  # (N, 2)
    ax = ax if ax is not None else plt.subplots(figsize=(6.4, 4.8))[1]
    for number, kind in enumerate(dict.fromkeys(kinds)):
        chosen = points[[one == kind for one in kinds]]
        ax.plot(*chosen.T, MARKS[number % 7], color=CYCLE[number % 7], markersize=7, label=kind)
    for point, label in zip(points, labels):
        ax.annotate(label, point, xytext=(6, 2), textcoords="offset points", size=9)
    first, second = plane.explained_variance_ratio_
    ax.set(title=title, xlabel=f"first direction ({first:.0%} of the spread)")
    ax.set_ylabel(f"second direction ({second:.0%})")
    ax.margins(0.12)
    if groups is not None:
        ax.legend()
    _say(ax, f"{len(points)} points{_named(title)} in a plane that holds {first + second:.0%} of the spread "
             f"of their vectors. From left to right: "
             f"{', '.join(labels[n] for n in points[:, 0].argsort())}.")  # fmt: skip
    return ax


# ---- Curves ------------------------------------------------------------------------------------------------


def smooth(values, width: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Where each whole stretch of `width` values ends, counted from 1, and its mean.

    The stretches do not overlap: unlike those of a moving average, their means are independent. A value that
    is missing (None) is skipped.
    """
    values = np.array([math.nan if value is None else value for value in values], dtype=float)
    if not 1 <= width <= len(values):
        raise ValueError(f"width is {width}; it must be 1 to {len(values)}, the number of values")
    ends = np.arange(width, len(values) + 1, width)
    stretches = values[: ends[-1]].reshape(-1, width)
    counted = (~np.isnan(stretches)).sum(1)
    with np.errstate(invalid="ignore"):
        return ends, np.nansum(stretches, 1) / np.where(counted, counted, np.nan)


# Title of a panel -> the curves in it: field of metrics.jsonl -> its name and colour.
DASHBOARD = {
    "loss in nats": {
        "mlm_loss": ("words (MLM)", "token"),
        "nsp_loss": ("next sentence (NSP)", "position"),
        "loss": ("loss", "token"),
    },
    "right, by what was shown": {
        "mask_accuracy": ("[MASK]", "token"),
        "kept_accuracy": ("the word itself", "position"),
        "random_accuracy": ("a random word", "segment"),
    },
    "next sentence: right": {"nsp_accuracy": ("next sentence", "position")},
    "learning rate": {"learning_rate": ("learning rate", "attention")},
    "gradient norm, before clipping": {"gradient_norm": ("gradient norm", "feed_forward")},
    "tokens a second": {"tokens_per_second": ("tokens a second", "residual")},
}


def training_dashboard(run, *, width: int | None = None, title: str = "") -> Figure:
    """Draws a run at a glance: loss parts, accuracy by fate, learning rate, gradient norm, speed.

    Panels for which the run has no numbers are left out. Dots are measurements on held-out text.

    Args:
        run: a run's folder, its metrics.jsonl, or the lines of it as dictionaries.
        width: how many lines to average for a point; by default as many as give some sixty points.

    Raises:
        FileNotFoundError: when there is no metrics.jsonl.
        ValueError: when it holds not one line that the panels know.
    """
    lines = _run_lines(run) if isinstance(run, str | Path) else list(run)
    trained = [line for line in lines if "valid" not in line]
    measured = [line for line in lines if "valid" in line]
    panels = {}
    for panel, curves in DASHBOARD.items():
        if known := {field: curve for field, curve in curves.items() if _has(trained, field)}:
            panels[panel] = known
    if not panels:
        fields = ", ".join(field for curves in DASHBOARD.values() for field in curves)
        raise ValueError(f"the run is empty: not one of its {len(lines)} lines has any of {fields}")
    steps = np.array([line["step"] if "step" in line else n + 1 for n, line in enumerate(trained)])
    width = width if width is not None else max(1, len(trained) // 60)
    rows = math.ceil(len(panels) / 2)
    figure, axes = plt.subplots(
        rows, min(2, len(panels)), figsize=(7.2, 2.2 * rows), sharex=True, squeeze=False
    )
    for ax, (panel, curves) in zip(axes.flat, panels.items()):
        said = []
        for number, (field, (name, colour)) in enumerate(curves.items()):
            ends, means = smooth([line.get(field) for line in trained], width)
            ax.plot(steps[ends - 1], means, DASHES[number], color=COLOURS[colour], label=name)
            said.append(f"{name} from {_number(means[0])} to {_number(means[-1])}")
            points = [(line["step"], line["valid"][field]) for line in measured if field in line["valid"]]
            if points:
                ax.plot(*zip(*points), "o", markersize=4, color=COLOURS["ink"], label=f"{name}, held out")
                said.append(f"{name} on held-out text at last {_number(points[-1][1])}")
        ax.set_title(panel, size=10)
        if len(ax.lines) > 1:
            ax.legend(fontsize=8)
        if panel.endswith("right") or panel.startswith("right"):
            ax.yaxis.set_major_formatter("{x:.0%}")
            ax.set_ylim(0, 1)
        _say(ax, f"{panel[0].upper() + panel[1:]}, over {steps[-1]:,} steps: {'; '.join(said)}.")
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    for ax in axes.flat[max(0, len(panels) - axes.shape[1]) : len(panels)]:
        ax.set_xlabel("step")
        ax.tick_params(labelbottom=True)
    if title:
        figure.suptitle(title)
    return figure


def _run_lines(path: str | Path) -> list[dict]:
    path = Path(path)
    path = path / "metrics.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: a run's folder holds its metrics.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _has(lines: list[dict], field: str) -> bool:
    return any(line.get(field) is not None for line in lines)


def layer_statistics(statistics: dict, *, layers=None, title: str = "") -> Figure:
    """Draws numbers that belong to layers, a panel for each kind of number.

    Args:
        statistics: {"standard deviation": L numbers, "attention entropy": (L, A), ...}. With a number for
            each head, each is a dot and the line is their mean.
        layers: names for the places along the x axis; by default 0, 1, 2 ...
    """
    if not statistics:
        raise ValueError("statistics is empty: there is nothing recorded to draw")
    figure, axes = plt.subplots(
        1, len(statistics), figsize=(max(3.6, 2.4 * len(statistics)), 2.8), squeeze=False
    )
    for number, (ax, (name, values)) in enumerate(zip(axes.flat, statistics.items())):
        values = _array(values)
        if values.ndim not in (1, 2) or values.size == 0:
            raise ValueError(
                f"{name} must be (L,) or (L, A), and not empty, but has the shape {values.shape}"
            )
        places = range(len(values))
        means = values if values.ndim == 1 else values.mean(1)
        if values.ndim == 2:
            for head in values.T:
                ax.plot(places, head, "o", color=CYCLE[number % 7], alpha=0.35, markersize=4)
        ax.plot(places, means, "o-" if values.ndim == 1 else "-", color=CYCLE[number % 7], markersize=5)
        ax.set_title(name, size=10)
        ax.set_xlabel("layer")
        names = _same_number("layers", places if layers is None else layers, len(values), f"values of {name}")
        every = math.ceil(len(names) / 8)  # more names than that would run into each other
        ax.set_xticks(list(places)[::every], names[::every])
        high = int(np.argmax(means))
        _say(
            ax,
            f"{name}, by layer: from {_number(means[0])} in the first to {_number(means[-1])} in the last; "
            f"highest, {_number(means[high])}, in {names[high]}.",
        )
    if title:
        figure.suptitle(title)
    return figure


def seed_dots(ax: Axes, place: float, values, *, colour: str = "position", spread: float = 0.12) -> float:
    """Draws the results of several seeds as dots side by side at `place`, with their mean in percent above.

    Returns:
        The mean.
    """
    values = _shaped("values", values, "(seeds,)")
    mean = float(values.mean())
    places = np.linspace(place - spread, place + spread, len(values))
    ax.plot(places, values, "o", color=COLOURS.get(colour, colour))
    ax.annotate(
        f"{mean:.0%}", (place, values.max()), xytext=(0, 6), textcoords="offset points", ha="center", size=9
    )
    return mean


# ---- Spans -------------------------------------------------------------------------------------------------


def span_probabilities(
    words, starts, ends, *, span: tuple[int, int] | None = None, title: str = "", per_line: int = 14
) -> Figure:
    """Draws, over the words of a text, where a model sees an answer begin (up) and end (down).

    Args:
        words: the N words, or tokens.
        starts, ends: (N,) probabilities.
        span: the first and the last word of the answer, framed.
        per_line: words in a line of the picture.
    """
    words = [str(word) for word in words]
    starts, ends = _shaped("starts", starts, "(N,)"), _shaped("ends", ends, "(N,)")
    if not len(words) == len(starts) == len(ends):
        raise ValueError(
            f"there are {len(words)} words, {len(starts)} starts and {len(ends)} ends: give one for each"
        )
    if span is not None and not 0 <= span[0] <= span[1] < len(words):
        raise ValueError(f"span is {span}; it must be two places from 0 to {len(words) - 1}, in order")
    rows = math.ceil(len(words) / per_line)
    high = max(starts.max(), ends.max())
    figure, axes = plt.subplots(rows, 1, figsize=(7.2, 0.5 + 1.7 * rows), squeeze=False)
    for row, ax in enumerate(axes.flat):
        first = row * per_line
        here = range(first, min(first + per_line, len(words)))
        gap = 0.22 * high  # room for the words between the bars
        ax.bar(here, starts[here], bottom=gap, width=0.6, color=COLOURS["token"], label="begins here")
        ax.bar(
            here,
            -ends[here],
            bottom=-gap,
            width=0.6,
            color=COLOURS["position"],
            label="ends here",
            hatch="//",
        )
        for place in here:
            size = 9 if len(words[place]) < 8 else 7
            ax.text(place, 0, words[place], ha="center", va="center", size=size)
        if span is not None:
            inside = [place for place in here if span[0] <= place <= span[1]]
            if inside:
                ax.add_patch(
                    Rectangle(
                        (inside[0] - 0.47, -0.85 * gap), len(inside) - 0.06, 1.7 * gap,
                        fill=False, edgecolor=COLOURS["segment"], linewidth=2.5,
                    )
                )  # fmt: skip
        ax.set(xlim=(first - 0.6, first + per_line - 0.4), ylim=(-1.25 * high - gap, 1.25 * high + gap))
        ax.axis("off")
    axes[0, 0].set_title(title)
    axes[0, 0].legend(loc="upper right", bbox_to_anchor=(1, 1.15), ncols=2)
    begin, end = int(starts.argmax()), int(ends.argmax())
    said = (
        f"The answer most likely begins at “{words[begin]}” ({starts[begin]:.2f}) and ends at “{words[end]}” "
    )
    said += f"({ends[end]:.2f})."
    if span is not None:
        said += f" Framed: {' '.join(words[span[0] : span[1] + 1])}."
    _say(axes[0, 0], said)
    return figure


# ---- Sketches ----------------------------------------------------------------------------------------------


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
