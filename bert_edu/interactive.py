"""Figures to touch: each answers to mouse and keyboard, on a page without a server and without a network.

Five functions take a model, a tokenizer and texts, compute everything that can be asked for, and return an
`InteractiveFigure`, which a notebook displays:

    attention_explorer    who reads whom, in any layer and head
    wordpiece_stepper     the greedy search for the longest piece, letter by letter
    embedding_sum         token + position + segment, number by number
    mask_painter          hide one or two words, and see what the model expects there
    next_sentence_builder put two sentences together: would the second follow?

Vega-Lite draws them, through Altair: a figure is data and a description of marks, and its controls are the
browser's own. No model runs in the page. Places are in pixels from the upper left corner.

The keyboard reaches every control. In JupyterLab the arrow keys belong to the notebook; there the controls
move with Home and End, and sliders with the page keys too.

Needs altair, matplotlib and seaborn, which `pip install "bert-edu[viz]"` brings.
"""

import base64
import contextlib
import io
import itertools
import json
import sys
import textwrap
from dataclasses import dataclass, field

import torch

try:
    import altair as alt
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'altair is not installed, and bert_edu.interactive draws with it: pip install "bert-edu[viz]"'
    ) from error
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from . import viz
from .tokenization import UNK, as_piece, split_words

WIDTH = 480  # pixels; a page that is narrower scales the picture down
MIME_TYPE = "application/vnd.vegalite.v5+json"  # what JupyterLab and the rendered book draw from
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"  # a name; nobody fetches it
LARGEST = 2_000_000  # bytes of one figure's data and description
LETTER = 7.9  # pixels that a letter takes at size 13 in a font whose letters are all as wide
SEGMENTS = "AB"


@dataclass
class InteractiveFigure:
    """What the functions of this module return; at the end of a cell it shows itself.

    JupyterLab and the rendered book draw the chart. On paper, and where no script runs, the still picture
    stands in its place.

    Attributes:
        spec: the chart and its data, as Vega-Lite's JSON.
        still: a picture for paper; it shows what the chart holds as far as one picture can.
        description: what both show, in words.
        data: what was computed, by name, for the claims that a text makes about it.
    """

    spec: dict
    still: Figure
    description: str
    data: dict = field(repr=False)

    def __post_init__(self):
        plt.close(self.still)  # or a notebook would show it a second time
        if (size := len(json.dumps(self.spec))) > LARGEST:
            raise ValueError(
                f"this figure would weigh {size / 1e6:.1f} MB, and at most {LARGEST / 1e6:.0f} are allowed: "
                "take a shorter text"
            )

    def __repr__(self) -> str:
        return f"Interactive figure. {self.description}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        if "google.colab" in sys.modules:  # Colab draws HTML only; the scripts come from Altair's usual place
            chart = alt.LayerChart.from_dict(self.spec, validate=False)
            page = chart.to_html(template="universal", fullhtml=False, output_div=self.spec["name"])
            return {"text/plain": repr(self), "text/html": page}
        picture = io.BytesIO()
        self.still.savefig(picture, format="png", bbox_inches="tight", metadata={"Software": None})
        png = base64.b64encode(picture.getvalue()).decode()
        return {"text/plain": repr(self), MIME_TYPE: self.spec, "image/png": png}


# ---- 1. Attention ------------------------------------------------------------------------------------------


def attention_explorer(
    model, tokenizer, text: str, pair: str | None = None, *, layer: int = 0, head: int = 0
) -> InteractiveFigure:
    """Who reads whom: choose a layer, a head and a reading token (or point at one).

    Args:
        model: a `BertModel`, or a model that has one as `bert`.
        tokenizer: its tokenizer.
        text, pair: what it reads.
        layer, head: what to show first, counted from 0.

    Returns:
        the figure; `data` holds `tokens` and `attentions` (L, A, T, T).

    Raises:
        ValueError: when the text has no token, or more than the page can carry, or there is no such head.
        TypeError: when the model returns no attention.
    """
    encoding = tokenizer(text, pair)
    tokens = _tokens(tokenizer, encoding)
    attentions = _attentions(model, encoding)  # (L, A, T, T)
    L, A, T, _ = attentions.shape
    if not (0 <= layer < L and 0 <= head < A):
        raise ValueError(f"there is no head {head} in layer {layer}: {L} layers of {A} heads, from 0")
    percent = (100 * attentions).round().int().tolist()
    rows = [
        {
            "layer": layer_number,
            "head": head_number,
            "query": query,
            "shares": _joined(shares),
            "most": shares.index(max(shares)),
        }
        for layer_number, layer_percent in enumerate(percent)
        for head_number, head_percent in enumerate(layer_percent)
        for query, shares in enumerate(head_percent)
    ]

    reading = alt.selection_point(
        name="reading", fields=["query"], value=[{"query": 1}], toggle=False, clear=False,
        on="@spots_marks:pointerover", bind=_select("reading token", _numbered(tokens)),
    )  # fmt: skip
    # What is chosen, one row per reading token; and then one row per pair of tokens.
    readers = (
        alt.Chart(alt.NamedData("rows"))
        .transform_filter("datum.layer == layer && datum.head == head")
        .transform_calculate(y="50 + 24 * datum.query", y1="datum.y - 12", y2="datum.y + 12")
        .transform_calculate(
            token="tokens[datum.query]", share="split(datum.shares, ' ')", key=f"sequence({T})"
        )
    )
    pairs = readers.transform_flatten(["share", "key"]).transform_calculate(
        share="toNumber(datum.share)", key_y="50 + 24 * datum.key", key_token="tokens[datum.key]",
        key_y1="datum.key_y - 7", key_y2="datum.key_y + 7", from_x="116", to_x="246", bar="340",
        bar_end="340 + datum.share", label="datum.share + ' %'", label_x="datum.bar_end + 4",
        faint="0.002 * datum.share", strong="datum.share / 100",
    )  # fmt: skip
    read = pairs.transform_filter(reading)
    line = _at("from_x", "y", "to_x", "key_y")
    message = readers.transform_filter(reading).transform_calculate(
        x="0", y="14", words="'Layer ' + layer + ', head ' + head + ': “' + datum.token + '” reads “'"
        " + tokens[datum.most] + '” most, ' + datum.share[datum.most] + ' %'",
    )  # fmt: skip
    colour = viz.COLOURS["attention"]
    spec = _canvas(
        "attention_explorer",
        24 * T + 50,
        pairs.mark_rule(strokeWidth=2, color=colour).encode(**line, opacity=_raw("faint")),
        read.mark_rule(strokeWidth=3, color=colour).encode(**line, opacity=_raw("strong")),
        _rectangles(readers.transform_filter(reading), "0", "y1", "116", "y2", color="#CFE3F2"),
        _text(readers, "110", "y", "token", align="right"),
        _text(read, "252", "key_y", "key_token"),
        read.mark_rect(color=colour).encode(**_at("bar", "key_y1", "bar_end", "key_y2")),
        _text(read.transform_filter("datum.share >= 1"), "label_x", "key_y", "label", size=11),
        _message(message),
        _spots(readers, "0", "y1", "116", "y2"),
        data={"rows": rows},
        controls=[
            alt.param(name="layer", value=layer, bind=_slider("layer", L - 1)),
            alt.param(name="head", value=head, bind=_slider("head", A - 1)),
        ],
        selections=[reading],
        constants={"tokens": tokens},
    )
    still = plt.subplots(figsize=(1.8 + 0.34 * T, 1.5 + 0.3 * T))[1]
    viz.attention_map(attentions[layer, head], tokens, ax=still, title=f"layer {layer}, head {head}")
    still.tick_params(axis="x", rotation=90)
    described = f"Attention of {L} layers with {A} heads each, for the tokens {' '.join(tokens)}."
    return InteractiveFigure(spec, still.figure, described, {"tokens": tokens, "attentions": attentions})


def _attentions(model, encoding) -> torch.Tensor:
    encoder = getattr(model, "bert", model)
    with _evaluating(model):
        try:
            output = encoder(**_batch(model, [encoding]), output_attentions=True)
        except TypeError as error:
            raise TypeError(f"{type(encoder).__name__} cannot return its attention ({error})") from error
    if not getattr(output, "attentions", None):
        raise TypeError(f"{type(encoder).__name__} returned no attention: it must give L of (B, A, T, T)")
    return torch.stack([layer[0].float().cpu() for layer in output.attentions])  # (L, A, T, T)


# ---- 2. WordPiece ------------------------------------------------------------------------------------------


def wordpiece_stepper(tokenizer, words: list[str]) -> InteractiveFigure:
    """The greedy search for pieces: the whole word first, then a letter less, until a piece is known.

    Args:
        tokenizer: whose vocabulary is asked.
        words: single words of at most 20 letters.

    Returns:
        the figure; `data` holds `attempts`, for each word the list of (start, end, found).

    Raises:
        ValueError: when there is no word, or one is no single word, or too long.
    """
    if isinstance(words, str) or not words:
        raise ValueError('words must be a list of words, such as ["ferryman"]')
    spelled = []
    for number, word in enumerate(words):
        pieces = split_words(word, tokenizer.do_lower_case)
        if len(pieces) != 1 or len(pieces[0]) > 20:
            raise ValueError(f"words[{number}] must be one word of at most 20 letters, but is {word!r}")
        spelled.append(pieces[0])
    attempts = [_attempts(word, tokenizer.vocab) for word in spelled]
    rows = [row for number, word in enumerate(spelled) for row in _steps(number, word, attempts[number])]
    box = min(36, WIDTH // max(map(len, spelled)))

    current = (
        alt.Chart(alt.NamedData("rows"))
        .transform_filter("datum.word == word && datum.step == min(step, lasts[word])")
        .transform_calculate(x="0")
    )
    letters = (
        current.transform_calculate(state="split(datum.states, ' ')")
        .transform_calculate(place="sequence(length(datum.state))")
        .transform_flatten(["state", "place"])
        .transform_calculate(
            left=f"{box} * datum.place", right=f"datum.left + {box - 3}", top="50", bottom=f"{50 + box}",
            middle=f"datum.left + {(box - 3) / 2}", centre=f"{50 + box / 2}",
            letter="letters[word][datum.place]", fill="fills[toNumber(datum.state)]",
        )
    )  # fmt: skip
    spec = _canvas(
        "wordpiece_stepper",
        90 + box,
        letters.mark_rect(stroke="#8A949E", cornerRadius=4).encode(
            **_at("left", "top", "right", "bottom"), color=_raw("fill", alt.Color)
        ),
        _text(letters, "middle", "centre", "letter", align="center", size=min(16, box // 2), mono=True),
        _message(current.transform_calculate(y="14", words="datum.message")),
        _text(current, "0", str(76 + box), "pieces", mono=True),
        data={"rows": rows},
        controls=[
            alt.param(name="word", value=0, bind=_select("word", spelled)),
            alt.param(name="step", value=0, bind=_slider("step", max(map(len, attempts)))),
        ],
        constants={
            "letters": [list(word) for word in spelled],
            "lasts": [len(tries) for tries in attempts],
            # not reached, tried now, pieces that were found (two colours in turn), given up
            "fills": ["#FFFFFF", "#F5C46B", "#9CC9E8", "#8FD3BC", "#D9DEE3"],
        },
    )
    described = f"How WordPiece splits {', '.join(spelled)}, attempt by attempt."
    return InteractiveFigure(spec, _stepper_still(spelled[0], attempts[0]), described, {"attempts": attempts})


def _attempts(word: str, vocabulary) -> list[tuple[int, int, bool]]:
    """Each part of the word that the search looks up, in order, and whether it is a piece."""
    tried, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            found = as_piece(word, start, end) in vocabulary
            tried.append((start, end, found))
            if found:
                break
        else:
            return tried  # no piece begins here: the whole word is [UNK]
        start = end
    return tried


def _steps(number: int, word: str, attempts: list[tuple[int, int, bool]]) -> list[dict]:
    """The rows of the figure for one word: one before the search begins, and one after each attempt."""
    states, pieces = ["0"] * len(word), []
    message = f"“{word}” has {len(word)} letters. Nothing has been tried yet."
    rows = [_step(number, 0, states, message, pieces)]
    for step, (start, end, found) in enumerate(attempts, start=1):
        piece = as_piece(word, start, end)
        shown = states[:]
        if found:
            states[start:end] = [str(2 + len(pieces) % 2)] * (end - start)
            shown = states[:]
            pieces.append(piece)
            rest = "Done." if end == len(word) else "Go on behind it."
            message = f"{step}. “{piece}” is in the vocabulary: take it. {rest}"
        elif end == start + 1:
            shown, pieces = ["4"] * len(word), [UNK]
            message = f"{step}. “{piece}” is not in the vocabulary either: the whole word is {UNK}."
        else:
            shown[start:end] = ["1"] * (end - start)
            message = f"{step}. “{piece}” is not in the vocabulary: try a letter less."
        rows.append(_step(number, step, shown, message, pieces))
    return rows


def _step(number: int, step: int, states: list[str], message: str, pieces: list[str]) -> dict:
    said = f"pieces: {' '.join(pieces) or 'none yet'}"
    return {"word": number, "step": step, "states": " ".join(states), "message": message, "pieces": said}


def _stepper_still(word: str, attempts: list[tuple[int, int, bool]]) -> Figure:
    """All attempts at one word below one another, as paper cannot step."""
    figure, ax = plt.subplots(figsize=(7.2, 0.5 + 0.26 * len(attempts)))
    for row, (start, end, found) in enumerate(attempts):
        for place, letter in enumerate(word):
            tried = start <= place < end
            face = (viz.COLOURS["norm"] if found else viz.COLOURS["feed_forward"]) if tried else "white"
            ax.add_patch(
                plt.Rectangle((place, -row), 0.92, 0.86, facecolor=face, edgecolor="#8A949E", alpha=0.7)
            )
            ax.text(place + 0.46, 0.43 - row, letter, ha="center", va="center", size=9)
        verdict = "a piece" if found else "not in the vocabulary"
        ax.text(len(word) + 0.3, 0.43 - row, f"{as_piece(word, start, end)}: {verdict}", va="center", size=9)
    ax.set(xlim=(-0.2, len(word) + 12), ylim=(-len(attempts) + 0.9, 1.1))
    ax.axis("off")
    return figure


# ---- 3. Embeddings -----------------------------------------------------------------------------------------


def embedding_sum(
    model, tokenizer, text: str, pair: str | None = None, *, components: int = 24
) -> InteractiveFigure:
    """Three vectors that are added up: choose a token, a position and a segment, freely.

    Args:
        model: a `BertModel` of this package, or a model that has one as `bert`.
        tokenizer: its tokenizer.
        text, pair: whose tokens and positions to offer.
        components: how many of the H numbers of each vector to show, from the first.

    Returns:
        the figure; `data` holds `tokens`, and `token` (T, H), `position` (T, H) and `segment` (2, H).

    Raises:
        ValueError: when the text has no token.
        TypeError: when the model's embeddings are not this package's.
    """
    encoding = tokenizer(text, pair)
    tokens = _tokens(tokenizer, encoding)
    embeddings = getattr(getattr(model, "bert", model), "embeddings", None)
    if not all(hasattr(embeddings, name) for name in ("token", "position", "segment")):
        raise TypeError(
            f"{type(model).__name__} has no embeddings.token, .position and .segment to look into"
        )
    T = len(tokens)
    tables = {
        "token": embeddings.token.weight.detach()[encoding.input_ids].float().cpu(),  # (T, H)
        "position": embeddings.position.weight.detach()[:T].float().cpu(),  # (T, H)
        "segment": embeddings.segment.weight.detach()[:2].float().cpu(),  # (2, H)
    }
    shown = min(components, tables["token"].shape[1])
    rows = [
        {"table": table, "index": index, "values": _joined([f"{value:.3f}" for value in vector[:shown]])}
        for table, vectors in tables.items()
        for index, vector in enumerate(vectors.tolist())
    ]
    of_text = tables | {"segment": tables["segment"][encoding.token_type_ids]}  # (T, H) each
    limit = round(float(sum(of_text.values())[:, :shown].abs().max()), 2)  # the full colour

    cell = 290 / shown
    component = alt.selection_point(
        name="component", fields=["component"], value=[{"component": 0}], toggle=False, clear=False,
        on="@spots_marks:pointerover", bind=_slider("component", shown - 1),
    )  # fmt: skip
    sizes = dict(left=f"118 + {cell} * datum.component", right=f"datum.left + {cell}")
    parts = (
        alt.Chart(alt.NamedData("rows"))
        .transform_filter(
            "datum.table == 'token' && datum.index == token || datum.table == 'position' &&"
            " datum.index == position || datum.table == 'segment' && datum.index == segment"
        )
        .transform_calculate(
            value="split(datum['values'], ' ')", component=f"sequence({shown})",
            row="indexof(['token', 'position', 'segment'], datum.table)",
        )
        .transform_flatten(["value", "component"])
        .transform_calculate(
            value="toNumber(datum.value)", top="40 + 34 * datum.row", bottom="datum.top + 28",
            middle="datum.top + 14", x="0", number_x="474", **sizes,
            label="[tokens[token], '+ position ' + position, '+ segment ' + segments[segment]][datum.row]",
        )
    )  # fmt: skip
    total = parts.transform_aggregate(value="sum(value)", groupby=["component"]).transform_calculate(
        top="146", bottom="174", middle="160", x="0", number_x="474", label="'= sum'", **sizes
    )
    strip = alt.Color(
        "value:Q",
        legend=None,
        scale=alt.Scale(domain=[-limit, limit], clamp=True, scheme="redblue", reverse=True),
    )
    place = _at("left", "top", "right", "bottom")
    chosen = alt.condition(component, alt.value(viz.COLOURS["ink"]), alt.value("transparent"))
    layers = []
    for rows_of in (parts, total):
        first = rows_of.transform_filter("datum.component == 0")
        chosen_number = rows_of.transform_filter(component)
        layers += [
            rows_of.mark_rect(strokeWidth=2).encode(**place, color=strip, stroke=chosen),
            _text(first, "x", "middle", "label", size=12),
            _text(chosen_number, "number_x", "middle", "value", align="right", format="+.3f"),
        ]
    message = total.transform_filter(component).transform_calculate(
        y="14", words="'Component ' + datum.component + ' of the sum: ' + format(datum.value, '+.3f')",
        note_y="194", note="'In the text, “' + tokens[token] + '” stands at position ' + token"
        " + ', in segment ' + its_segment[token]",
    )  # fmt: skip
    spots = total.transform_calculate(whole="40")
    start = min(3, T - 1)
    spec = _canvas(
        "embedding_sum",
        204,
        *layers,
        _text(message, "x", "note_y", "note", size=12),
        _message(message),
        _spots(spots, "left", "whole", "right", "bottom"),
        data={"rows": rows},
        controls=[
            alt.param(name="token", value=start, bind=_select("token", _numbered(tokens))),
            alt.param(name="position", value=start, bind=_slider("position", T - 1)),
            alt.param(
                name="segment", value=0, bind=_select("segment", list(SEGMENTS[: len(tables["segment"])]))
            ),
        ],
        selections=[component],
        constants={
            "tokens": tokens,
            "segments": list(SEGMENTS),
            "its_segment": [SEGMENTS[segment] for segment in encoding.token_type_ids],
        },
    )
    still = viz.embedding_maps(of_text, tokens, components=shown)
    described = (
        f"The input embeddings of {' '.join(tokens)}: three vectors and their sum, {shown} numbers of each."
    )
    return InteractiveFigure(spec, still, described, {"tokens": tokens} | tables)


# ---- 4. Masks ----------------------------------------------------------------------------------------------

FATES = ("[MASK]: 8 times of 10", "the word itself: 1 of 10", "a random word: 1 of 10")


def mask_painter(model, tokenizer, text: str, *, best: int = 5, seed: int = 0) -> InteractiveFigure:
    """Hide one word of a sentence, or two, and see what the model expects there.

    What stands in the place of a chosen word is [MASK], the word itself, or a random word: the three fates of
    pre-training. The label, what the model is asked for, is the word itself in each case.

    Args:
        model: a `BertForPreTraining`, or what else returns `prediction_logits`.
        tokenizer: its tokenizer.
        text: a sentence of at most 16 tokens.
        best: how many of the model's guesses to show.
        seed: draws the random words, one for each place.

    Returns:
        the figure; `data` holds `tokens` and `cases`, a list of dictionaries: the places `hidden`, the `fate`
        (0, 1, 2), and for each hidden place `guesses`, pairs of token and probability.

    Raises:
        ValueError: when the text has no token, or more than 16.
        TypeError: when the model has no head for words.
    """
    encoding = tokenizer(text)
    tokens = _tokens(tokenizer, encoding)
    places = [n for n, number in enumerate(encoding.input_ids) if number not in tokenizer.special_ids]
    if not 1 <= len(places) <= 16:
        raise ValueError(f"text must have 1 to 16 tokens to hide, but has {len(places)}: {text!r}")
    cases = _masked_cases(model, tokenizer, encoding, places, best, seed)
    rows = []
    for case in cases:
        for slot, place in enumerate(case["hidden"]):
            words, chances = zip(*case["guesses"][slot])
            rows.append(
                {
                    "low": case["hidden"][0], "high": case["hidden"][-1], "fate": case["fate"], "slot": slot,
                    "place": place, "shown": case["shown"][slot], "words": _joined(words),
                    "shares": _joined(round(100 * chance) for chance in chances),
                    "right": round(100 * case["right"][slot]),
                }
            )  # fmt: skip
    boxes, lines = _typeset(tokens, places)

    def choose(name: str, value: int, clicked: str, options: dict[int, str]):
        return alt.selection_point(
            name=name, fields=["place"], value=[{"place": value}], toggle=False, clear=False,
            on=f"@spots_marks:click[{clicked}]",
            bind=alt.binding_select(options=list(options), labels=[*options.values()], name=f"{name} word "),
        )  # fmt: skip

    names = {place: f"{place} {tokens[place]}" for place in places}
    first = choose("first", places[len(places) // 2], "!event.shiftKey", names)
    second = choose("second", -1, "event.shiftKey", {-1: "none"} | names)
    words = (
        alt.Chart(alt.NamedData("boxes"))
        .transform_calculate(
            middle="(datum.left + datum.right) / 2", centre="datum.top + 11", below="datum.top + 33",
            bottom="datum.top + 22", hidden="datum.place == first_place || datum.place == second_place",
            fill="datum.hidden ? '#F5C46B' : '#E9EDF1'",
        )
    )  # fmt: skip
    # Vega-Lite keeps the choice of the selection `first` in a signal that it calls `first_place`.
    low = "(second_place < 0 ? first_place : min(first_place, second_place))"
    high = "(second_place < 0 ? first_place : max(first_place, second_place))"
    foot = 40 * lines + 82
    hidden = (
        alt.Chart(alt.NamedData("rows"))
        .transform_filter(f"datum.low == {low} && datum.high == {high} && datum.fate == fate")
        .transform_calculate(
            x=f"{WIDTH / 2} * datum.slot", y=str(foot - 16),
            title="'place ' + datum.place + ' shows ' + datum.shown",
        )
    )  # fmt: skip
    shown = hidden.transform_lookup(
        lookup="place", from_=alt.LookupData(alt.NamedData("boxes"), "place", ["left", "right", "top"])
    ).transform_calculate(middle="(datum.left + datum.right) / 2", below="datum.top + 31")
    guesses = (
        hidden.transform_calculate(word="split(datum.words, ' ')", share="split(datum.shares, ' ')")
        .transform_calculate(rank=f"sequence({best})")
        .transform_flatten(["word", "share", "rank"])
        .transform_calculate(
            y=f"{foot + 8} + 22 * datum.rank", top="datum.y - 7", bottom="datum.y + 7", word_x="datum.x + 92",
            bar="datum.x + 98", bar_end="datum.bar + toNumber(datum.share)", share_x="datum.bar_end + 4",
            is_right="datum.word == tokens[datum.place]",
            fill=f"datum.is_right ? '{viz.COLOURS['segment']}' : '{viz.COLOURS['norm']}'",
            note="datum.is_right ? datum.share + ' %, right' : datum.share + ' %'",
        )
    )  # fmt: skip
    message = hidden.transform_calculate(
        y="14 + 20 * datum.slot", x="0",
        words="'At place ' + datum.place + ', “' + tokens[datum.place] + '” gets '"
        " + (datum.right ? datum.right : 'under 1') + ' %; first guess: “'"
        " + split(datum.words, ' ')[0] + '”'",
    )  # fmt: skip
    spec = _canvas(
        "mask_painter",
        foot + 22 * best + 4,
        words.mark_rect(cornerRadius=4).encode(
            **_at("left", "top", "right", "bottom"), color=_raw("fill", alt.Color)
        ),
        _text(words, "middle", "centre", "token", align="center", mono=True),
        _text(
            shown,
            "middle",
            "below",
            "shown",
            align="center",
            size=11,
            mono=True,
            colour=viz.COLOURS["position"],
        ),
        _text(hidden, "x", "y", "title", size=12, bold=True),
        _text(guesses, "word_x", "y", "word", align="right"),
        guesses.mark_rect().encode(**_at("bar", "top", "bar_end", "bottom"), color=_raw("fill", alt.Color)),
        _text(guesses, "share_x", "y", "note", size=11),
        _message(message),
        _spots(words.transform_filter("datum.can_hide"), "left", "top", "right", "bottom"),
        data={"rows": rows, "boxes": boxes},
        controls=[alt.param(name="fate", value=0, bind=_select("shows", list(FATES)))],
        selections=[first, second],
        constants={"tokens": tokens},
    )
    described = (
        f"What the model expects at one or two hidden places of “{text}”, precomputed for every choice."
    )
    still = _painter_still(tokens, [case for case in cases if len(case["hidden"]) == 1 and case["fate"] == 0])
    return InteractiveFigure(spec, still, described, {"tokens": tokens, "cases": cases})


def _masked_cases(model, tokenizer, encoding, places: list[int], best: int, seed: int) -> list[dict]:
    """Every choice of one or two places under each fate, and what the model expects there."""
    generator = torch.Generator().manual_seed(seed)
    ordinary = [number for number in range(tokenizer.vocab_size) if number not in tokenizer.special_ids]
    drawn = torch.randint(len(ordinary), (len(encoding.input_ids),), generator=generator)
    random_ids = [ordinary[number] for number in drawn]
    choices = [(place,) for place in places] + list(itertools.combinations(places, 2))
    cases = [{"hidden": hidden, "fate": fate} for fate in range(3) for hidden in choices]
    ids = torch.tensor([encoding.input_ids]).repeat(len(cases), 1)  # (cases, T)
    for row, case in zip(ids, cases):
        for place in case["hidden"]:
            row[place] = (tokenizer.mask_token_id, encoding.input_ids[place], random_ids[place])[case["fate"]]
    device = next(model.parameters()).device
    with _evaluating(model):
        for case, row in zip(cases, ids):
            output = model(row[None].to(device))
            if getattr(output, "prediction_logits", None) is None:
                raise TypeError(f"{type(model).__name__} predicts no words: it must return prediction_logits")
            logits = output.prediction_logits[0, list(case["hidden"])]  # (1 or 2, V)
            chances = logits.float().softmax(-1).cpu()
            top = chances.topk(best)
            case["shown"] = [tokenizer.id_to_token(int(row[place])) for place in case["hidden"]]
            case["right"] = [
                float(chances[n, encoding.input_ids[place]]) for n, place in enumerate(case["hidden"])
            ]
            case["guesses"] = [
                [
                    (tokenizer.id_to_token(int(number)), float(chance))
                    for number, chance in zip(numbers, values)
                ]
                for numbers, values in zip(top.indices, top.values)
            ]
    return cases


def _typeset(tokens: list[str], can_hide: list[int]) -> tuple[list[dict], int]:
    """Boxes for the tokens in lines of the figure's width; how many lines that makes."""
    boxes, x, line = [], 0.0, 0
    for place, token in enumerate(tokens):
        width = LETTER * len(token) + 12
        if x > 0 and x + width > WIDTH:
            x, line = 0.0, line + 1
        boxes.append(
            {
                "place": place, "token": token, "left": round(x), "right": round(x + width),
                "top": 48 + 40 * line, "can_hide": place in can_hide,
            }
        )  # fmt: skip
        x += width + 5
    return boxes, line + 1


def _painter_still(tokens: list[str], cases: list[dict]) -> Figure:
    """For paper: the first three guesses for each word that is hidden alone."""
    figure, ax = plt.subplots(figsize=(7.2, 0.7 + 0.27 * len(cases)))
    shares = [[chance for _, chance in case["guesses"][0][:3]] for case in cases]
    words = [tokens[case["hidden"][0]] for case in cases]
    columns = [f"guess {number + 1}" for number in range(len(shares[0]))]
    viz.heatmap(
        shares, rows=words, columns=columns, ax=ax, limit=1.0, decimals=None, ylabel="the hidden word"
    )
    for row, case in enumerate(cases):
        for column, (word, chance) in enumerate(case["guesses"][0][:3]):
            ink = "white" if chance > 0.6 else viz.COLOURS["ink"]
            ax.text(
                column + 0.5, row + 0.5, f"{word} {chance:.2f}", color=ink, ha="center", va="center", size=9
            )
            if word == words[row]:
                viz.ring(ax, [(row, column)])
    ax.tick_params(axis="x", rotation=0)
    return figure


# ---- 5. Next sentence --------------------------------------------------------------------------------------


def next_sentence_builder(model, tokenizer, pairs: list[tuple[str, str]]) -> InteractiveFigure:
    """Put a first and a second sentence together: how likely does the model find that the second follows?

    Args:
        model: a `BertForPreTraining`, or what else returns `seq_relationship_logits` (B, 2), 0 = is next.
        tokenizer: its tokenizer.
        pairs: 2 to 9 sentences, each with the one that really follows it.

    Returns:
        the figure; `data` holds `is_next` (N, N), probabilities, a row for each first sentence.

    Raises:
        ValueError: when there are too few or too many pairs.
        TypeError: when the model has no head for next sentences.
    """
    pairs = [tuple(pair) for pair in pairs]
    N = len(pairs)
    if not 2 <= N <= 9 or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"pairs must be 2 to 9 of (a sentence, the one that follows it), but are {N}")
    firsts, seconds = zip(*pairs)
    is_next = torch.stack([_is_next(model, tokenizer, first, seconds) for first in firsts])  # (N, N)
    rows = [
        {"first": row, "second": column, "share": round(100 * float(is_next[row, column]))}
        for row, column in itertools.product(range(N), repeat=2)
    ]

    pair = alt.selection_point(
        name="pair", fields=["second", "first"], value=[{"first": 0, "second": 0}], toggle=False, clear=False,
        on="@spots_marks:click",
        bind={"first": _select("first sentence", firsts), "second": _select("second sentence", seconds)},
    )  # fmt: skip
    cells = (
        alt.Chart(alt.NamedData("rows"))
        .transform_calculate(left="30 + 38 * datum.second", top="66 + 26 * datum.first")
        .transform_calculate(
            right="datum.left + 36", bottom="datum.top + 24",
            middle="datum.left + 18", centre="datum.top + 12",
            ink="datum.share > 60 ? '#FFFFFF' : '#222222'", label_x="14", label_y="54",
            row_label="'A' + (datum.first + 1)", column_label="'B' + (datum.second + 1)",
        )
    )  # fmt: skip
    chosen = alt.condition(pair, alt.value(viz.COLOURS["position"]), alt.value("transparent"))
    message = cells.transform_filter(pair).transform_calculate(
        x="0", y="14",
        words="'Is next: ' + datum.share + ' %. Random: ' + (100 - datum.share) + ' %. In truth '"
        " + (datum.first == datum.second ? 'B follows A.' : 'B comes from elsewhere.')",
    )  # fmt: skip
    foot = 82 + 26 * N
    deepest = max(len(textwrap.wrap(text, 62)) for text in firsts)
    both = cells.transform_filter(pair).transform_calculate(
        x="0", first_y=str(foot), second_y=str(foot + 17 * deepest + 6),
        first_text="firsts[datum.first]", second_text="seconds[datum.second]",
    )  # fmt: skip
    blues = alt.Scale(domain=[0, 100], scheme="blues")
    spec = _canvas(
        "next_sentence_builder",
        foot + 17 * (deepest + max(len(textwrap.wrap(text, 62)) for text in seconds)) + 8,
        cells.mark_rect(strokeWidth=3).encode(
            **_at("left", "top", "right", "bottom"),
            stroke=chosen,
            fill=alt.Fill("share:Q", scale=blues, legend=None),
        ),
        _text(cells, "middle", "centre", "share", align="center", size=11, colour="ink"),
        _text(cells.transform_filter("datum.second == 0"), "label_x", "centre", "row_label", align="center"),
        _text(
            cells.transform_filter("datum.first == 0"), "middle", "label_y", "column_label", align="center"
        ),
        _text(both, "x", "first_y", "first_text", wrapped=True),
        _text(both, "x", "second_y", "second_text", wrapped=True, colour=viz.COLOURS["token"]),
        _message(message),
        _spots(cells, "left", "top", "right", "bottom"),
        data={"rows": rows},
        selections=[pair],
        constants={
            "firsts": [textwrap.wrap(f"A{n}  {text}", 62) for n, text in enumerate(firsts, start=1)],
            "seconds": [textwrap.wrap(f"B{n}  {text}", 62) for n, text in enumerate(seconds, start=1)],
        },
    )
    ax = plt.subplots(figsize=(7.2, 1.0 + 0.4 * N))[1]
    names = [f"A{n} {textwrap.shorten(text, 44, placeholder=' …')}" for n, text in enumerate(firsts, start=1)]
    viz.heatmap(is_next, rows=names, columns=[f"B{n + 1}" for n in range(N)], ax=ax, limit=1.0)
    viz.ring(ax, [(n, n) for n in range(N)])
    described = f"For {N} first and {N} second sentences, the probability that the second follows the first."
    return InteractiveFigure(spec, ax.figure, described, {"is_next": is_next})


def _is_next(model, tokenizer, first: str, seconds) -> torch.Tensor:
    """The probability of each second sentence (N,) after this first one."""
    with _evaluating(model):
        output = model(**_batch(model, [tokenizer(first, second) for second in seconds]))
    if getattr(output, "seq_relationship_logits", None) is None:
        raise TypeError(
            f"{type(model).__name__} has no next-sentence head: it must return seq_relationship_logits"
        )
    return output.seq_relationship_logits.float().softmax(-1)[:, 0].cpu()


# ---- What they share: running a model ----------------------------------------------------------------------


def _tokens(tokenizer, encoding) -> list[str]:
    tokens = [tokenizer.id_to_token(number) for number in encoding.input_ids]
    if all(number in tokenizer.special_ids for number in encoding.input_ids):
        raise ValueError("the text is empty: there is not one token between [CLS] and [SEP]")
    return tokens


def _batch(model, encodings) -> dict[str, torch.Tensor]:
    """Encodings, padded to the longest and on the model's device, as the arguments of its `forward`."""
    longest = max(len(encoding.input_ids) for encoding in encodings)
    device = next(model.parameters()).device

    def rows(name):
        lists = [getattr(encoding, name) for encoding in encodings]
        return torch.tensor([row + [0] * (longest - len(row)) for row in lists], device=device)  # (B, T)

    names = ("input_ids", "token_type_ids", "attention_mask")  # [PAD] is 0, and so is what it needs elsewhere
    return {name: rows(name) for name in names}


@contextlib.contextmanager
def _evaluating(model):
    """Dropout off and no gradients; afterwards the model is as it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


# ---- What they share: marks and controls -------------------------------------------------------------------


def _canvas(name, height, *layers, data, controls=(), selections=(), constants=None) -> dict:
    """Layers on one picture, in the order in which they are drawn, with their data and controls."""
    layers = list(layers)
    layers[-1] = layers[-1].add_params(*reversed(selections))  # the spots; controls appear in reverse
    fixed = [alt.param(name=key, value=value) for key, value in (constants or {}).items()]
    chart = (
        alt.layer(*layers)
        .add_params(*controls, *fixed)
        .properties(
            name=name,
            width=WIDTH,
            height=height,
            background="white",
            padding=6,
            usermeta={"embedOptions": {"actions": False, "renderer": "svg"}},
        )
        .configure(font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_mark(aria=False)  # hundreds of marks; what they say stands in the message
    )
    # The data come last, or Altair would hold each row against Vega-Lite's schema. Any version 5 can draw it.
    return chart.to_dict() | {"$schema": SCHEMA, "datasets": data}


def _at(x: str, y: str, x2: str | None = None, y2: str | None = None) -> dict:
    """Where a mark stands: fields that hold pixels, without scale or axis."""
    place = {"x": alt.X(f"{x}:Q", scale=None, axis=None), "y": alt.Y(f"{y}:Q", scale=None, axis=None)}
    if x2 is not None:
        place |= {"x2": alt.X2(f"{x2}:Q"), "y2": alt.Y2(f"{y2}:Q")}
    return place


def _raw(name: str, channel=alt.Opacity):
    """A field that holds the colour or opacity itself."""
    return channel(f"{name}:{'Q' if channel is alt.Opacity else 'N'}", scale=None, legend=None)


def _text(
    chart,
    x,
    y,
    text,
    *,
    align="left",
    size=13,
    bold=False,
    mono=False,
    wrapped=False,
    format=None,
    colour=None,
):
    """Text at a field or number of pixels; `colour` is a colour, or the field that holds it."""
    chart = chart.transform_calculate(text_x=x if _is_number(x) else f"datum.{x}")
    chart = chart.transform_calculate(text_y=y if _is_number(y) else f"datum.{y}")
    look = {"font": "monospace"} if mono else {}
    if bold:
        look["fontWeight"] = "bold"
    mark = chart.mark_text(
        align=align, baseline="top" if wrapped else "middle", fontSize=size, lineHeight=17, **look
    )
    content = alt.Text(f"{text}:{'Q' if format else 'N'}", **({"format": format} if format else {}))
    encoded = mark.encode(**_at("text_x", "text_y"), text=content)
    if colour is not None and not colour.startswith("#"):
        return encoded.encode(color=_raw(colour, alt.Color))
    return encoded.encode(color=alt.value(colour or viz.COLOURS["ink"]))


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _rectangles(chart, x: str, y: str, x2: str, y2: str, **look):
    chart = chart.transform_calculate(rect_x=x if _is_number(x) else f"datum.{x}")
    chart = chart.transform_calculate(rect_x2=x2 if _is_number(x2) else f"datum.{x2}")
    return chart.mark_rect(**look).encode(**_at("rect_x", y, "rect_x2", y2))


def _spots(chart, x: str, y: str, x2: str, y2: str):
    """What the mouse finds: rectangles that cannot be seen, above all other marks."""
    spots = _rectangles(chart, x, y, x2, y2, color="white", opacity=0, cursor="pointer")
    return spots.properties(name="spots")


def _message(chart):
    """What is shown, in a sentence: the book's page reads it aloud to those who use a screen reader."""
    return _text(chart, "x", "y", "words", bold=True).properties(name="message")


def _select(name: str, labels) -> alt.BindRadioSelect:
    """A list to choose from; the value is the place in it."""
    # Not radio buttons: those of two figures on one page would be one group.
    return alt.binding_select(
        options=list(range(len(labels))), labels=[str(label) for label in labels], name=f"{name} "
    )


def _slider(name: str, last: int) -> alt.BindRange:
    return alt.binding_range(min=0, max=last, step=1, name=f"{name} ")


def _numbered(tokens: list[str]) -> list[str]:
    return [f"{place} {token}" for place, token in enumerate(tokens)]


def _joined(values) -> str:
    """Numbers or tokens as one string: in a stored notebook a list takes a line for every element."""
    return " ".join(map(str, values))
