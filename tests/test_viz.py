"""The figures: what is drawn is what was given, the words say it, and colour-blind readers can see it."""

import itertools
import json

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from bert_edu import viz
from bert_edu.mini import FOLDER

TOKENS = ["[CLS]", "the", "ferry", "sank", "[SEP]"]
T, H, L, A = 5, 16, 3, 4


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        viz.use_style()
        yield
    plt.close("all")


def shares(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(3 * torch.randn(*shape, generator=generator), -1)


def drawn(ax):
    """The numbers behind a heat map."""
    return ax.collections[0].get_array().reshape(-1, ax.collections[0].get_coordinates().shape[1] - 1)


# ---- Attention ----


def test_attention_map_draws_the_shares_and_says_the_largest():
    probabilities = shares(T, T)
    ax = viz.attention_map(probabilities.requires_grad_(), TOKENS, title="head 3")
    assert np.allclose(drawn(ax), probabilities.detach())
    query, key = divmod(int(probabilities.argmax()), T)
    words = viz.alt_text(ax.figure)
    assert f"“{TOKENS[query]}” reads “{TOKENS[key]}” with a share of {probabilities.max():.2f}" in words
    assert "head 3" in words


@pytest.mark.parametrize("kind", ["tensor", "list of layers"])
def test_head_grid_puts_every_head_in_its_place(kind):
    attentions = shares(L, A, 7, 7)
    ax = viz.head_grid(attentions if kind == "tensor" else list(attentions), frames={"first": (1, 2)})
    grid = np.ma.filled(ax.images[0].get_array(), np.nan)
    for layer, head in itertools.product(range(L), range(A)):
        x, y = round(ax.get_xticks()[head]), round(ax.get_yticks()[layer])  # the middle of the map
        assert np.allclose(grid[y - 3 : y + 4, x - 3 : x + 4], attentions[layer, head])
    assert np.isfinite(grid).sum() == L * A * 49
    assert viz.alt_text(ax.figure).endswith("Layer 1, head 2: first.")


# ---- Vectors ----


def test_embedding_maps_draw_parts_and_their_sum():
    generator = torch.Generator().manual_seed(1)
    parts = {name: torch.randn(T, H, generator=generator) for name in ("token", "position", "segment")}
    figure = viz.embedding_maps(parts, TOKENS, components=6)
    *some, total = [drawn(ax) for ax in figure.axes]
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["token", "+ position", "+ segment", "= sum"]
    for array, vectors in zip(some, parts.values(), strict=True):
        assert np.allclose(array, vectors[:, :6])
    assert np.allclose(total, sum(parts.values())[:, :6])
    assert len({ax.collections[0].get_clim() for ax in figure.axes}) == 1  # one scale, so that they compare
    assert "the first 6 of 16 components" in viz.alt_text(figure)


def test_embedding_plane_keeps_what_lies_in_a_plane():
    """Points that lie in a plane of 16 dimensions keep all their distances, and the axes say so."""
    generator = torch.Generator().manual_seed(2)
    basis = torch.linalg.qr(torch.randn(H, 2, generator=generator))[0]  # (H, 2)
    points = torch.randn(6, 2, generator=generator)
    ax = viz.embedding_plane(points @ basis.T + 5, list("abcdef"), groups=list("xyxyxy"))
    placed = {text.get_text(): np.array(text.xy) for text in ax.texts}
    for (i, one), (j, other) in itertools.combinations(enumerate("abcdef"), 2):
        distance = float((points[i] - points[j]).norm())
        assert np.linalg.norm(placed[one] - placed[other]) == pytest.approx(distance, rel=1e-4)
    assert "in a plane that holds 100% of the spread" in viz.alt_text(ax.figure)
    assert len({(line.get_marker(), line.get_color()) for line in ax.lines}) == 2
    assert sorted(len(line.get_xdata()) for line in ax.lines) == [3, 3]


# ---- Curves ----


def test_smooth_averages_stretches_that_do_not_overlap():
    ends, means = viz.smooth([1, 3, None, 7, 5, 9, 100], 2)
    assert ends.tolist() == [2, 4, 6] and means.tolist() == [2, 7, 7]
    assert np.isnan(viz.smooth([None, None, 4, 6], 2)[1]).tolist() == [True, False]


def run_lines(steps=40):
    for step in range(1, steps + 1):
        yield {
            "step": step, "mlm_loss": 9 - step / 10, "nsp_loss": 0.7, "mask_accuracy": step / 100,
            "kept_accuracy": 0.9, "random_accuracy": None if step % 3 else 0.1, "nsp_accuracy": 0.5,
            "learning_rate": step * 1e-5, "gradient_norm": 2.0, "tokens_per_second": 1234.0,
        }  # fmt: skip
        if step % 20 == 0:
            yield {"step": step, "valid": {"mlm_loss": 8 - step / 10, "mask_accuracy": 0.3}}


def test_the_dashboard_draws_each_curve_and_the_held_out_points(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in run_lines()))
    figure = viz.training_dashboard(tmp_path, width=4)
    panels = {ax.get_title(loc="left"): ax for ax in figure.axes if ax.get_title(loc="left")}
    assert list(panels) == list(viz.DASHBOARD)
    loss = {line.get_label(): line for line in panels["loss in nats"].lines}
    assert loss["words (MLM)"].get_xdata().tolist() == list(range(4, 41, 4))
    assert np.allclose(loss["words (MLM)"].get_ydata(), [9 - (end - 1.5) / 10 for end in range(4, 41, 4)])
    assert list(zip(*loss["words (MLM), held out"].get_data())) == [(20, 6.0), (40, 4.0)]
    fates = {line.get_label() for line in panels["right, by what was shown"].lines}
    assert {"[MASK]", "the word itself", "a random word", "[MASK], held out"} == fates
    assert "words (MLM) from 8.75 to 5.15; words (MLM) on held-out text at last 4;" in viz.alt_text(figure)
    assert len({line.get_linestyle() for line in loss.values()}) > 1


def test_the_dashboard_leaves_out_what_a_run_does_not_have():
    figure = viz.training_dashboard([{"loss": 3.0 - n / 10} for n in range(20)])  # a reader's own run
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["loss in nats"]


def test_the_shipped_run_can_be_drawn():
    assert "Loss in nats, over" in viz.alt_text(viz.training_dashboard(FOLDER))


def test_layer_statistics_draw_numbers_of_layers_and_of_heads():
    entropy = torch.arange(12.0).reshape(L, A)
    figure = viz.layer_statistics(
        {"deviation": [1.0, 3.0, 2.0], "entropy": entropy}, layers=["in", "mid", "out"]
    )
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == [1, 3, 2]
    assert right.lines[-1].get_ydata().tolist() == entropy.mean(1).tolist()
    assert [line.get_ydata().tolist() for line in right.lines[:-1]] == entropy.T.tolist()
    assert "deviation, by layer: from 1 in the first to 2 in the last; highest, 3, in mid." in viz.alt_text(
        figure
    )


def test_seed_dots_give_their_mean():
    ax = plt.subplots()[1]
    assert viz.seed_dots(ax, 2, [0.5, 0.7, 0.6]) == pytest.approx(0.6)
    x, y = ax.lines[0].get_data()
    assert np.mean(x) == pytest.approx(2) and list(y) == pytest.approx([0.5, 0.7, 0.6])
    assert ax.texts[0].get_text() == "60%"


# ---- Tasks ----


def test_the_confusion_matrix_colours_shares_and_writes_counts():
    ax = viz.confusion_matrix([[8, 2, 0], [1, 0, 0], [0, 0, 0]], ["good", "bad", "rare"])
    assert np.allclose(
        drawn(ax), [[0.8, 0.2, 0], [1, 0, 0], [0, 0, 0]]
    )  # a class that never occurs: no warning
    assert [text.get_text() for text in ax.texts] == list("820100000")
    words = viz.alt_text(ax.figure)
    assert "good 80%, bad 0%" in words and "good taken for bad, 2 times" in words and "rare" not in words


def test_span_probabilities_stand_over_their_words():
    starts, ends = np.zeros(6), np.zeros(6)
    starts[1], ends[3] = 0.9, 0.8
    figure = viz.span_probabilities(
        "in the cold dark deep sea".split(), starts, ends, span=(1, 3), per_line=4
    )
    upper, lower = figure.axes  # six words in lines of four
    heights = [patch.get_height() for patch in upper.patches[:8]]
    assert heights == pytest.approx([0, 0.9, 0, 0, 0, 0, 0, -0.8])
    assert [text.get_text() for text in lower.texts] == ["deep", "sea"]
    assert "begins at “the” (0.90) and ends at “dark” (0.80). Framed: the cold dark." in viz.alt_text(figure)


def test_a_ring_goes_round_its_cell():
    ax = viz.heatmap([[1.0, 2.0], [3.0, 4.0]])
    viz.ring(ax, [(0, 1)])
    frame = ax.patches[-1]
    assert (frame.get_x(), frame.get_y(), frame.get_width()) == (1, 0, 1)
    assert "the largest number, 4.00, stands in row 1, column 1" in viz.alt_text(ax.figure)


# ---- Bad input ----


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda: viz.attention_map(shares(T, T), TOKENS[:-1]), "4 tokens for 5 rows"),
        (lambda: viz.attention_map(shares(2, T, T), TOKENS), r"must be \(T, T\).*\(2, 5, 5\)"),
        (lambda: viz.attention_map(shares(T, 4), TOKENS), r"a row and a column for each token"),
        (lambda: viz.head_grid([]), "attentions is empty"),
        (lambda: viz.head_grid(shares(A, T, T)), r"must be \(L, A, T, T\)"),
        (lambda: viz.head_grid(shares(L, A, T, T), frames={"x": (L, 0)}), "no head 0 in layer 3"),
        (lambda: viz.embedding_maps({}, TOKENS), "parts is empty"),
        (lambda: viz.embedding_maps({"a": shares(5, 4), "b": shares(5, 3)}, TOKENS), r"one shape \(T, H\)"),
        (lambda: viz.embedding_plane(shares(2, 4), "ab"), "three vectors"),
        (lambda: viz.embedding_plane(shares(3, 4), "ab"), "2 labels for 3 vectors"),
        (lambda: viz.smooth([1, 2], 3), "width is 3; it must be 1 to 2"),
        (lambda: viz.training_dashboard([]), "not one of its 0 lines"),
        (lambda: viz.training_dashboard([{"step": 1, "other": 2}]), "has any of mlm_loss"),
        (lambda: viz.layer_statistics({}), "nothing recorded"),
        (lambda: viz.layer_statistics({"mean": []}), r"mean must be \(L,\)"),
        (lambda: viz.confusion_matrix([[1, 2]], ["a"]), "must be square"),
        (lambda: viz.confusion_matrix([[1, 2], [3, 4]], ["a"]), "1 names for 2 rows"),
        (lambda: viz.span_probabilities(["a"], [0.5, 0.5], [1.0]), "1 words, 2 starts and 1 ends"),
        (lambda: viz.span_probabilities("ab", [1, 0], [0, 1], span=(1, 2)), "two places from 0 to 1"),
    ],
)
def test_bad_input_gets_a_clear_error(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="a run's folder holds its metrics.jsonl"):
        viz.training_dashboard(tmp_path)


# ---- Colours ----

# How the three kinds of colour blindness change linear RGB, at full strength: Machado, Oliveira, Fernandes,
# "A physiologically-based model for simulation of color vision deficiency" (2009), table 1.
BLINDNESS = {
    "none": np.eye(3),
    "no red": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no blue": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def lab(linear):
    """Linear RGB -> CIE L*a*b*, in which distances are roughly as large as they look."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = np.cbrt(np.clip(xyz / [0.9505, 1.0, 1.089], 1e-3, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def linear(colour):
    rgb = np.array(mpl.colors.to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_that_meet_stay_apart_for_colour_blind_readers(kind):
    """Of the first colours of the cycle, those that share a panel: a difference of 2 can just be seen."""
    seen = {colour: lab(np.clip(BLINDNESS[kind] @ linear(colour), 0, 1)) for colour in viz.CYCLE[:3]}
    apart = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(seen, 2)}
    assert min(apart.values()) > 10, apart


def test_heat_maps_differ_in_lightness_too():
    """From white to full colour lightness only falls, so a map can be read without any colour."""
    for name in (viz.SHARES, viz.SIGNED):
        upper = mpl.colormaps[name](np.linspace(0 if name == viz.SHARES else 0.5, 1, 9))[:, :3]
        lightness = [lab(linear(colour))[0] for colour in upper]
        assert all(after < before for before, after in zip(lightness, lightness[1:]))


def test_figures_bring_their_own_light_ground(tmp_path):
    """In the dark a page shows a figure as it is; dark ink needs light ground under it."""
    figure = viz.attention_map(shares(T, T), TOKENS).figure
    figure.savefig(tmp_path / "figure.png")
    corner = plt.imread(tmp_path / "figure.png")[0, 0]
    assert corner.tolist() == [1, 1, 1, 1]
