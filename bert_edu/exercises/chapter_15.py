"""Exercises of chapter 15, question answering: where in the text is the answer?"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.tasks import Answer, QuestionExample
from ..tokenization import BertTokenizer
from .engine import Exercise, expect, expect_data
from .sandbox import NotYet, Raised, Wrong

# ---- 15.1 --------------------------------------------------------------------------------------------------

FIRST = 4  # [CLS], a question of two tokens, [SEP]; then the window's text
WORDS = ("Ann", "met", "Bo", "and", "Cyril", "on", "Monday", "at", "Kilbrae", "for", "tea", "with", "Dora")


class Window(NamedTuple):
    """What an answer may use of a window: see `bert_edu.finetuning.question_answering.Window`."""

    first: int
    offsets: list[tuple[int, int]]
    maximum_context: np.ndarray


Part = tuple[Window, np.ndarray]  # a window and its scores (2, T)


def draw_text(draw, count: int) -> tuple[str, list[tuple[int, int]]]:
    """A text of so many tokens, and their offsets; what stands between two of them varies."""
    gaps = draw.shuffled([" ", "  ", ", ", "-", " (", "... "]) * (count // 6 + 1)
    words = draw.shuffled(WORDS) if count <= len(WORDS) else [f"{WORDS[n % 13]}{n}" for n in range(count)]
    text, offsets = "> ", []
    for word, gap in zip(words[:count], gaps):
        offsets.append((len(text), len(text) + len(word)))
        text += word + gap
    return text, offsets


def part_of(
    offsets: list[tuple[int, int]],
    starts: dict[int, float],
    ends: dict[int, float],
    null: float = -20.0,
    shown: list[int] | None = None,
) -> Part:
    """A window with these scores at these tokens of its text, and -9 and less at all others.

    Args:
        null: the sum of the two scores of [CLS].
        shown: for each token of the text whether this window has the maximum context; None: all of them.
    """
    size = len(offsets)
    scores = np.tile(-9.0 - np.arange(FIRST + size + 1) / 64, (2, 1)).astype(np.float32)  # (2, T)
    scores[:, 0] = null / 2
    for row, known in zip(scores, (starts, ends)):
        for place, score in known.items():
            row[FIRST + place] = score
    return Window(FIRST, offsets, np.array([True] * size if shown is None else shown, dtype=bool)), scores


def span_text(context: str, offsets: list[tuple[int, int]], first: int, last: int) -> str:
    return context[offsets[first][0] : offsets[last][1]]


def right_answer(
    context: str,
    parts: list[Part],
    threshold: float = 0.0,
    max_answer: int = 30,
    starts_at: str = "maximum context",
) -> str:
    """What the package gives when it looks at all pairs; `starts_at` can put a mistake in."""
    best, best_score, null = "", -np.inf, np.inf
    for window, (starts, ends) in parts:
        null = min(null, float(starts[0]) + float(ends[0]))
        for i, j in zip(*np.triu_indices(len(window.offsets))):
            shown = window.maximum_context[[i, j]]
            allowed = {"maximum context": shown[0], "anywhere": True, "both": shown.all()}[starts_at]
            score = float(starts[window.first + i]) + float(ends[window.first + j])
            if allowed and j - i < max_answer and score > best_score:
                best, best_score = span_text(context, window.offsets, i, j), score
    return "" if null - best_score > threshold else best


def one_token(answer, draw):
    """one token of text: it is the answer, cut from the context"""
    context, offsets = draw_text(draw, 1)
    start, end = offsets[0]
    expect_data(
        answer(context, [part_of(offsets, {0: 5.0}, {0: 4.0})]),
        context[start:end],
        "The text has a single token, and high scores there: the answer is what the offsets cut out of the "
        "context.",
        suspects={
            "You return the whole context; the answer is context[start:end], with the offsets of its first "
            "and its last token.": context,
            "You return places; the answer's *text* is asked.": [start, end],
            "One character too many: an offset's end is the place behind the token, as slices have "
            "it.": context[start : end + 1],
            "You are silent, although the null score is far below that of the span: the lead is null - best, "
            "and there is no answer only if it is *larger* than the threshold.": "",
        },
    )


def in_the_text(answer, draw):
    """several tokens: where they stand in the scores"""
    context, offsets = draw_text(draw, 9)
    expect_data(
        answer(context, [part_of(offsets, {2: 5.0}, {4: 5.0})]),
        span_text(context, offsets, 2, 4),
        "The highest scores are those of the tokens 2 (start) and 4 (end) of the text, counted from 0.",
        suspects={
            f"The text begins at place {FIRST} of the scores, `window.first`, behind [CLS] and the question. "
            "You read them as if it began at 0.": span_text(context, offsets, 2 + FIRST, 4 + FIRST),
            "You return the first token of the answer alone: cut up to the end of its last one.": span_text(
                context, offsets, 2, 2
            ),
            "You join the tokens with spaces. Between them stands what the author wrote: cut the context "
            "once, from the first start to the last end.": " ".join(
                context[start:end] for start, end in offsets[2:5]
            ),
        },
    )


def text_alone(answer, draw):
    """question, [CLS] and [SEP] are no answers"""
    context, offsets = draw_text(draw, 5)
    window, scores = part_of(offsets, {1: 2.0}, {3: 2.0})
    scores[:, 1:FIRST] = 8.0  # the question, and its [SEP]
    scores[:, -1] = 8.0
    expect_data(
        answer(context, [(window, scores)]),
        span_text(context, offsets, 1, 3),
        "Here the question and [SEP] have the highest scores of all. Only tokens of the text can be an "
        "answer, so look for the best pair among those.",
        suspects={
            "Where the highest scores lie in the question or at [SEP], you give up. Look for the best pair "
            "among the tokens of the text alone.": "",
        },
    )


def end_not_before_start(answer, draw):
    """the best pair whose end does not come first"""
    context, offsets = draw_text(draw, 6)

    def said(first, last):
        return span_text(context, offsets, first, last)

    expect_data(
        answer(context, [part_of(offsets, {4: 5.0, 1: 4.0}, {2: 6.0, 4: 2.0})]),
        said(1, 2),
        "The best start is token 4, the best end token 2. Of the pairs with the end not before the start, 1 "
        "to 2 has the largest sum, 10.",
        suspects={
            "You take the best start, and then the best end behind it. The sum of both counts, and a start "
            "that is a little worse leaves room for a much better end.": said(4, 4),
            "You take the best start and the best end by themselves, and the end comes first. Compare "
            "*pairs*.": context[offsets[4][0] : offsets[2][1]],
            "The end comes before the start: you turn the two round. Such a pair is no answer.": said(2, 4),
        },
    )
    expect_data(
        answer(context, [part_of(offsets, {3: 9.0, 0: 1.0}, {1: 5.0, 3: 3.0})]),
        said(3, 3),
        "The best start is token 3, the best end token 1. Of the pairs with the end not before the start, 3 "
        "to 3 has the largest sum, 12: an answer may have one token.",
        suspects={
            "You take the best end, and then the best start before it. The sum of both counts, and an end "
            "that is a little worse leaves room for a much better start.": said(0, 1),
        },
    )


def not_too_long(answer, draw):
    """at most `max_answer` tokens"""
    context, offsets = draw_text(draw, 8)
    expect_data(
        answer(context, [part_of(offsets, {1: 5.0, 6: -1.0}, {4: 6.0, 3: 4.0, 2: 2.0})], 0.0, 3),
        span_text(context, offsets, 1, 3),
        "With max_answer=3, tokens 1 to 4 are too many, and 1 to 3 are the best that is left.",
        suspects={
            "The answer has four tokens, and max_answer is 3: nothing keeps it from being too long, or its "
            "last token may be start + max_answer in place of start + max_answer - 1.": span_text(
                context, offsets, 1, 4
            ),
            "With max_answer=3 your answer has two tokens. From i to j there are j - i + 1, so three are "
            "possible.": span_text(context, offsets, 1, 2),
        },
    )


def maximum_context(answer, draw):
    """it starts where the window has the maximum context, and ends anywhere in its text"""
    context, offsets = draw_text(draw, 6)
    parts = [
        part_of(offsets[:4], {3: 6.0, 1: 5.0}, {3: 6.0}, shown=[1, 1, 1, 0]),
        part_of(offsets[2:], {2: 4.0}, {3: 4.0}, shown=[0, 1, 1, 1]),
    ]
    expect_data(
        answer(context, parts),
        span_text(context, offsets, 1, 3),
        "Two windows, of the tokens 0 to 3 and 2 to 5. In the first one, token 3 may not start an answer, "
        "because the other shows it more context; but it may end one.",
        suspects={
            "An answer starts at a token that the other window shows in more context: such a start does not "
            "count, see `maximum_context`.": right_answer(context, parts, starts_at="anywhere"),
            "You ask for the maximum context at both borders. Only the start needs it; the end may be "
            "anywhere in the window's text.": right_answer(context, parts, starts_at="both"),
        },
    )


def silence(answer, draw):
    """silent when [CLS] has the larger sum, and only then"""
    context, offsets = draw_text(draw, 4)
    said = span_text(context, offsets, 1, 2)
    expect_data(
        answer(context, [part_of(offsets, {1: 3.0}, {2: 3.0}, null=4.0)]),
        said,
        "The best span has the sum 6, [CLS] has 4, and the threshold is 0: the span is the answer.",
    )
    expect_data(
        answer(context, [part_of(offsets, {1: 2.0}, {2: 2.0}, null=6.0)]),
        "",
        "The best span has the sum 4, [CLS] has 6, and the threshold is 0: the answer is empty.",
        suspects={
            "You are never silent: where [CLS] leads, with the sum of its two scores, the answer is the "
            "empty text.": said,
        },
    )


def the_threshold(answer, draw):
    """by how much it must lead"""
    context, offsets = draw_text(draw, 4)
    said = span_text(context, offsets, 1, 2)

    def with_lead(lead, threshold):
        return answer(context, [part_of(offsets, {1: 2.0}, {2: 2.0}, null=4.0 + lead)], threshold)

    expect_data(
        with_lead(1.0, -3.0),
        "",
        "With a lead of 1 and a threshold of -3 the answer is empty, because 1 is larger than -3.",
        suspects={"The threshold has the wrong sign: silent if null - best > threshold.": said},
    )
    expect_data(
        with_lead(2.0, 3.0),
        said,
        "With a lead of 2 and a threshold of 3 there is an answer, because 2 is not larger than 3.",
        suspects={
            "You are silent with a lead of 2, and the threshold is 3. It seems that you compare with 0.": ""
        },
    )
    expect_data(
        with_lead(3.0, 3.0),
        said,
        "With a lead of exactly the threshold there is an answer: silent only if the lead is *larger*.",
    )


def least_of_the_windows(answer, draw):
    """of several windows, the null score that is smallest"""
    context, offsets = draw_text(draw, 6)
    said = span_text(context, offsets, 2, 3)

    def with_nulls(*nulls):
        """The first window holds tokens 0 and 1; the second 2 and 3, with the answer; the third the rest."""
        best = ({}, {0: 3.0}, {}), ({}, {1: 3.0}, {})
        cut = offsets[:2], offsets[2:4], offsets[4:]
        return answer(context, [part_of(*window) for window in zip(cut, *best, nulls)])

    expect_data(
        with_nulls(1.0, 9.0, 3.0),
        said,
        "Three windows have the null scores 1, 9 and 3, and the best span, in the second, has 6: the lead is "
        "1 - 6.",
        suspects={
            "The loudest window makes you silent. Windows without the answer rightly say so: it is the "
            "*minimum* of the null scores that counts.": "",
        },
    )
    expect_data(
        with_nulls(16.0, 1.0, 9.0),
        said,
        "Three windows have the null scores 16, 1 and 9, and the best span, in the second, has 6: the lead "
        "is 1 - 6.",
        suspects={
            "The null score of one window, or the mean of all, makes you silent: the smallest is 1, and that "
            "is the one that counts.": "",
        },
    )


def nothing_possible(answer, draw):
    """a text without tokens: nothing can be an answer"""
    try:
        found = answer("", [part_of([], {}, {})])
    except Raised as error:
        raise Wrong(
            "A text without tokens has one window in which nothing can start. Then the answer is empty, and "
            f"yours is an error. {error}"
        ) from error
    expect_data(found, "", "A text without tokens has one window in which nothing can start: return the "
                "empty text.")  # fmt: skip


def long_texts(answer, draw):
    """long texts with random scores"""
    for threshold in (-20.0, 0.0, 2.0):
        context, offsets = draw_text(draw, 26)
        parts, owner = [], draw.whole(0, 1, 26).tolist()  # which of two windows has the maximum context
        for number, start in enumerate((0, 7, 14)):
            shown = [
                (number == min(place // 7, 2)) if not owner[place] else number == max((place - 5) // 7, 0)
                for place in range(start, start + 12)
            ]
            window, scores = part_of(offsets[start : start + 12], {}, {}, shown=shown)
            parts.append((window, draw.normal(*scores.shape).numpy()))
        expect_data(
            answer(context, parts, threshold, 5),
            right_answer(context, parts, threshold, 5),
            f"Short texts were right. For 26 tokens in three windows, with the threshold {threshold:g} and "
            "max_answer=5, another answer is right.",
        )


READ_OFF = Exercise(
    name="read_off",
    number="15.1",
    title="from scores to an answer",
    kind="Rebuild",
    minutes=25,
    difficulty=2,
    goal="A text, its windows and their scores -> the text of the answer, or the empty text: of all pairs "
    "of a start and an end, the best that is allowed.",
    hints=(
        "Three loops: windows, starts, ends. Keep the best score so far with its text, and beside it the "
        "smallest null score so far.",
        "Count starts and ends in the *window's text*, from 0 to `len(window.offsets) - 1`. In the scores "
        "these places lie `window.first` further on.",
        "If a few answers differ, look at which windows may start an answer (`maximum_context` holds for the "
        "start only), and at the longest answer: `max_answer` tokens, so the last end is `start + max_answer "
        "- 1`.",
    ),
    stub='''
def read_off(context, parts, threshold=0.0, max_answer=30):
    """A text, and a list of (window, scores (2, T)) -> the answer's text, "" for none."""
    ...
''',
    mechanisms=(
        one_token,
        in_the_text,
        text_alone,
        end_not_before_start,
        not_too_long,
        maximum_context,
        silence,
        the_threshold,
        least_of_the_windows,
        nothing_possible,
        long_texts,
    ),
    finished=tuple(
        f"bert_edu.finetuning.question_answering.{name}"
        for name in ("best_spans", "n_best_answers", "with_null_threshold", "QuestionAnswering")
    ),
)


# ---- 15.2 --------------------------------------------------------------------------------------------------


def losses(logits: Tensor, places: Tensor) -> Tensor:
    """The surprise at some right place having been chosen, (B,)."""
    return logits.logsumexp(dim=-1) - logits.masked_fill(~places, -torch.inf).logsumexp(dim=-1)


def one_place(answer, draw):
    """one right place a row: the cross-entropy"""
    logits, places = draw.normal(3, 7), torch.tensor([6, 0, 3])
    shares = logits.softmax(dim=-1)[torch.arange(3), places]  # (3,)
    right = F.one_hot(places, 7).bool()  # (B, T)
    loss = F.cross_entropy(logits, places)
    expect(
        answer(logits, right),
        loss,
        "With one right place in each row the loss must be the cross-entropy: the mean over the rows of -log "
        "p.",
        suspects={
            "You return the sum over the rows; their mean is asked.": 3 * loss,
            "You divide by the number of all scores; the mean over the *rows* is asked.": 3 * loss / 21,
            "The sign is the wrong way round: a surprise is -log p, and never negative.": -loss,
            "You take the logarithm of the rows' mean probability. Each row has a surprise of its own; take "
            "the mean of those.": -shares.mean().log(),
            "You return the probability that a wrong place is chosen. The surprise is -log of that of the "
            "right one.": (1 - shares).mean(),
            "Each place is asked by itself, yes or no, with a sigmoid. But the places compete: softmax over "
            "the row.": F.binary_cross_entropy_with_logits(logits, right.float()),
            "Softmax runs over the rows of the batch; it is the places of one row that compete.": -(
                logits.log_softmax(dim=0)[torch.arange(3), places]
            ).mean(),
        },
    )


def three_places(answer, draw):
    """several right places: the probability of any of them"""
    logits = draw.normal(1, 6)
    logits[0, 1] = logits.min() - 0.5  # the first right place is not the likeliest
    places = torch.tensor([[False, True, False, True, True, False]])
    shares, surprises = logits.softmax(dim=-1)[places], -logits.log_softmax(dim=-1)[places]  # (3,) each
    expect(
        answer(logits, places),
        -shares.sum().log(),
        "With one right place you were right. With three in a row, the probability of some right place is "
        "the *sum* of theirs, and the loss is -log of it.",
        suspects={
            "You take the mean of the losses of all right places. That asks the model to be undecided "
            "between them; add their probabilities before the logarithm.": surprises.mean(),
            "You add up the losses of all right places, so that more of them cost more. Add their "
            "probabilities before the logarithm.": surprises.sum(),
            "You take the mean of the right places' probabilities. It is their sum that says how likely some "
            "right place is.": -shares.mean().log(),
            "The loss is divided by the number of right places. It is one surprise a row, however many "
            "there are; take the mean over the rows.": -shares.sum().log() / 3,
            "You count the likeliest right place alone. Any of them would do: add their probabilities.": (
                surprises.min()
            ),
            "You count the first right place alone. Any of them would do: add their probabilities.": (
                surprises[0]
            ),
        },
    )


def rows_alike(answer, draw):
    """each row counts the same, however many places it has"""
    logits = draw.normal(3, 6)
    places = torch.tensor([[1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]]).bool()
    of_rows, numbers = losses(logits, places), places.sum(dim=-1)  # (B,), (B,)
    expect(
        answer(logits, places),
        of_rows.mean(),
        "One row at a time was right. Of three rows with 1, 4 and 2 right places, the mean of their losses "
        "is asked.",
        suspects={
            "A row with more right places counts more: take the plain mean over the rows.": (
                of_rows * numbers
            ).sum()
            / numbers.sum(),
        },
    )


def every_place(answer, draw):
    """if every place is right, nothing can go wrong: 0"""
    logits = 3.0 * draw.normal(2, 5)
    expect(
        answer(logits, torch.ones(2, 5, dtype=torch.bool)),
        torch.tensor(0.0),
        "If every place is right, some right place is chosen for certain: the loss must be 0.",
    )


def large_scores(answer, draw):
    """scores in the hundreds stay finite"""
    logits = torch.tensor([[300.0, 0.0, -300.0, 100.0], [-200.0, -500.0, -400.0, -300.0]])
    places = torch.tensor([[False, True, True, False], [False, True, False, True]])
    found = answer(logits, places)
    if isinstance(found, Tensor) and found.numel() == 1 and not found.isfinite():
        raise Wrong(
            f"With scores in the hundreds your loss is {found.item()}: somewhere exp becomes 0 or infinite. "
            "Stay with logarithms: `torch.logsumexp`."
        )
    expect(
        found,
        losses(logits, places).mean(),
        "With scores in the hundreds your loss is too small: it seems that a probability is kept from "
        "becoming 0. Stay with logarithms, as `torch.logsumexp` does, and nothing must be cut off.",
    )


def gradient(answer, logits: Tensor, places: Tensor) -> Tensor:
    """A driver: the gradient of the answer's loss with respect to the logits."""
    logits = logits.clone().requires_grad_()
    loss = answer(logits.clone(), places)
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise Wrong(
            "From your loss no gradient leads back to the logits, so nothing can be learned: keep to "
            "PyTorch's operations, without item(), detach() or a new torch.tensor(...)."
        )
    loss.backward()
    return logits.grad


def gradient_flows(answer, draw):
    """a model can learn from it"""
    logits = draw.normal(2, 6)
    places = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 1, 1, 1, 0]]).bool()
    among_right = logits.masked_fill(~places, -torch.inf).softmax(dim=-1)  # (B, T)
    try:
        found = answer.via(gradient, logits, places)
    except Raised as error:
        if "in-place" in str(error) or "inplace" in str(error):
            raise Wrong(
                "The loss is right, but there is no gradient: something that it needs was changed in place "
                "meanwhile. Look for +=, -= and names that end in _; work on a copy."
            ) from error
        raise
    expect(
        found,
        (logits.softmax(dim=-1) - among_right) / 2,
        "The loss is right, and its gradient is not: a part of it does not lead back to the logits, or minus "
        "infinity has met a 0 on the way.",
    )


ANY_PLACE = Exercise(
    name="any_place_loss",
    number="15.2",
    title="any of several places",
    kind="Extend",
    minutes=20,
    difficulty=2,
    goal="Scores (B, T), and True where a right start may be, (B, T) -> the surprise at some right place "
    "having been chosen, the mean over the rows.",
    hints=(
        "The probability of some right place is the *sum* of the places' probabilities.",
        "$-\\log \\sum_{i \\in S} p_i = \\log \\sum_i e^{z_i} - \\log \\sum_{i \\in S} e^{z_i}$, where $z$ "
        "are the logits and $S$ the places.",
        "`torch.logsumexp` does both sums without overflow; logits outside $S$ become $-\\infty$ with "
        "`masked_fill`.",
    ),
    stub='''
def any_place_loss(logits, places):
    """Scores (B, T), and True at the right places (B, T) -> the loss, a tensor of shape ()."""
    ...
''',
    mechanisms=(one_place, three_places, rows_alike, every_place, large_scores, gradient_flows),
)


# ---- 15.3 --------------------------------------------------------------------------------------------------

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "?", "ann", "bo", "tom", "saw", "and", "."]


def draw_examples(draw, count: int, length: int) -> list[QuestionExample]:
    """Questions about texts of so many words.

    The answer's word occurs several times. In every third text its first place is the right one, in the
    others the last.
    """
    examples = []
    for number in range(count):
        words = [VOCABULARY[place] for place in draw.whole(7, 11, length).tolist()]
        answer = draw.shuffled(["ann", "bo", "tom"])[0]
        words[length // 5] = words[3 * length // 5] = answer  # it occurs twice at least
        places = [place for place, word in enumerate(words) if word == answer]
        place = places[-1] if number % 3 else places[0]
        start = len("".join(f"{word} " for word in words[:place]))
        examples.append(
            QuestionExample(f"q{number}", "who ?", " ".join(words) + " .", [Answer(answer, start)])
        )
    return examples


class Unchanged:
    """Ways to prepare an example: this one leaves it as it is."""

    def __call__(self, example: QuestionExample) -> QuestionExample:
        return self.moved(example) if example.answers else example

    def moved(self, example):
        return example


class FirstPlace(Unchanged):
    """The colleague's: the first place where the answer's text stands."""

    def moved(self, example):
        text = example.answers[0].text
        return example._replace(answers=[Answer(text, example.context.index(text))])


class AnotherWord(Unchanged):
    """The answer is the full stop at the end."""

    def moved(self, example):
        return example._replace(answers=[Answer(".", len(example.context) - 1)])


def reading(length: int, stride: int):
    """The package's task, with windows of so many tokens of text."""
    # Here, because it loads SciPy, which the other exercises can do without.
    from ..finetuning.question_answering import QuestionAnswering

    tokenizer = BertTokenizer(VOCABULARY)
    return QuestionAnswering(
        tokenizer, max_length=length + 4, stride=stride, max_question=1, max_answer=2, unanswerable=True
    )


def share_at_home(task, examples: list[QuestionExample], prepared: Unchanged) -> float:
    """The share of answered examples whose answer a perfect model finds where it stood before."""
    examples = [example for example in examples if example.answers]
    labelled = [prepared(example) for example in examples]
    features = task.features(labelled)
    scores = [np.zeros((2, len(feature.input_ids)), dtype=np.float32) for feature in features]
    for feature, row in zip(features, scores):
        row[[0, 1], feature.labels] = 10.0
    found = task.predictions(labelled, features, scores)
    at_home = [one["start"] == example.answers[0].start for one, example in zip(found, examples)]
    return sum(at_home) / len(at_home)


def measured(answer, task, examples: list[QuestionExample], prepared: Unchanged) -> float:
    """A driver: the answer's number."""
    share = answer(task, examples, prepared)
    if share is None:
        raise NotYet("It returns None.")
    if isinstance(share, bool) or not isinstance(share, (int, float, np.number, Tensor)):
        raise Wrong(f"comes_home must return a number, and returns a {type(share).__name__}.")
    if isinstance(share, Tensor) and share.numel() != 1:
        raise Wrong(f"comes_home must return one number, and returns a tensor of shape {tuple(share.shape)}.")
    return float(share)


def is_called(answer, task, examples: list[QuestionExample], prepared: Unchanged) -> bool:
    """A driver: whether the answer prepares anything."""
    called = []

    def noticing(example):
        called.append(example)
        return prepared(example)

    answer(task, examples, noticing)
    return bool(called)


def differ(one: float, other: float) -> bool:
    return not abs(one - other) < 1e-6  # also when one of them is not a number


def unchanged(answer, draw):
    """unchanged examples come home: 1"""
    task, examples = reading(20, 10), draw_examples(draw, 8, 12)
    share = answer.via(measured, task, examples, Unchanged())
    looked_up = sum(e.context.index(e.answers[0].text) == e.answers[0].start for e in examples) / 8
    if not differ(share, 1.0):
        return
    if not differ(share, 8.0):
        raise Wrong("You return how many of the 8 come home; the share is asked, 8 of 8 = 1.")
    if not differ(share, 100.0):
        raise Wrong("You return per cent; the share is asked, 1 for all of them.")
    if not differ(share, 0.0):
        raise Wrong(
            "For unchanged examples your share is 0, and must be 1. Is it the share of those that get lost, "
            "or do you compare a place with something that is none?"
        )
    if not differ(share, looked_up):
        raise Wrong(
            "You look for the answer's text in the context, and take the first place, as the colleague did. "
            "A prediction says itself where it was cut: `start`."
        )
    raise Wrong(f"For unchanged examples your share is {share:.3f}, and must be 1: all of them come home.")


def another_word(answer, draw):
    """labels that point to another word: 0"""
    task, examples = reading(20, 10), draw_examples(draw, 6, 12)
    share = answer.via(measured, task, examples, AnotherWord())
    if not differ(share, 0.0):
        unchanged(answer, draw)  # always 0 is no answer
        return
    if not answer.via(is_called, task, examples, AnotherWord()):
        raise Wrong("`prepared` is never called: the labels must be made from what it returns.")
    if not differ(share, 1.0):
        raise Wrong(
            "Here `prepared` moves every answer to the full stop, and you still say that all come home. The "
            "features come from the prepared examples, the place to compare with from those *before*."
        )
    raise Wrong(f"Here `prepared` moves every answer to the full stop. You return {share:.3f}, and not 0.")


def same_text_elsewhere(answer, draw):
    """the colleague's labels: only those at the right place count"""
    task, examples = reading(20, 10), draw_examples(draw, 8, 12)
    share, right = (
        answer.via(measured, task, examples, FirstPlace()),
        share_at_home(task, examples, FirstPlace()),
    )
    if not differ(share, right):
        return
    if not differ(share, 1.0):
        raise Wrong(
            "With the colleague's labels you say that all come home. The *texts* are the same, and that is "
            "why the usual test sees nothing: compare `start`."
        )
    raise Wrong(
        f"With the colleague's labels {right:.3f} of the answers come home, and you return {share:.3f}."
    )


def without_answers(answer, draw):
    """questions without an answer do not count"""
    task, examples = reading(20, 10), draw_examples(draw, 8, 12)
    silent = [example._replace(id=f"{example.id}, silent", answers=[]) for example in examples[:3]]
    right = share_at_home(task, examples, FirstPlace())
    try:
        share = answer.via(measured, task, examples + silent, FirstPlace())
    except Raised as error:
        raise Wrong(
            f"Three of eleven questions have no answer: leave them out before anything else. {error}"
        ) from error
    if not differ(share, right):
        return
    if not differ(share, (8 * right + 3) / 11):
        raise Wrong("Questions without an answer count as come home in yours. Leave them out.")
    if not differ(share, 8 * right / 11):
        raise Wrong(
            "You divide by all questions, also those without an answer: the share is of the others alone."
        )
    raise Wrong(
        f"Of eight questions with an answer and three without, {right:.3f} should come home, and you return "
        f"{share:.3f}. The three do not count."
    )


def several_windows(answer, draw):
    """long texts, of several windows"""
    task, examples = reading(12, 4), draw_examples(draw, 6, 30)
    for prepared in (Unchanged(), FirstPlace()):
        share = answer.via(measured, task, examples, prepared)
        right = share_at_home(task, examples, prepared)
        if differ(share, right):
            raise Wrong(
                f"For texts of several windows your share is {share:.3f}, and must be {right:.3f}: there are "
                "more features than examples, and `task.predictions` brings them together again."
            )


def lost_on_the_way(answer, draw):
    """what the windows lose does not come home"""
    task, examples = reading(8, 8), draw_examples(draw, 8, 24)
    two_words = []  # an answer of two words, some of them on both sides of a border between windows
    for example, place in zip(examples, draw.shuffled([0, 7, 15, 3, 7, 15, 10, 20])):
        words = example.context.split(" ")
        start = len("".join(f"{word} " for word in words[:place]))
        two_words.append(example._replace(answers=[Answer(" ".join(words[place : place + 2]), start)]))
    share = answer.via(measured, task, two_words, Unchanged())
    right = share_at_home(task, two_words, Unchanged())
    if not differ(share, 1.0):
        raise Wrong(
            "Here windows do not overlap, and four of eight answers are cut in two: they cannot be found, "
            "and you say that all come home. Send the perfect model's scores through `task.predictions`."
        )
    if differ(share, right):
        raise Wrong(
            f"Here windows do not overlap, and some answers are cut in two: {right:.3f} come home, and you "
            f"return {share:.3f}."
        )


HOME = Exercise(
    name="comes_home",
    number="15.3",
    title="labels that pass the test",
    kind="Find the bug",
    minutes=20,
    difficulty=3,
    goal="A task, examples, and a function that prepares one -> of the examples with an answer, the share "
    "for which a perfect model's prediction has the `start` that the answer had before.",
    hints=(
        'What do the little texts promise about their answers? (Their data card: "each answer occurs once".)',
        "Look for the word *int*, or *None*, in a documentation text.",
        "A prediction has a `start` beside its `answer`. Compare it with the `start` of the example *before* "
        "it was prepared.",
    ),
    stub='''
def comes_home(task, examples, prepared):
    """A QuestionAnswering, a list of QuestionExample, and a function from one to another -> 0 to 1."""
    ...
''',
    mechanisms=(
        unchanged,
        another_word,
        same_text_elsewhere,
        without_answers,
        several_windows,
        lost_on_the_way,
    ),
    changes_input=True,  # it is given a task
    loads=("bert_edu.finetuning.question_answering",),
)

EXERCISES = (READ_OFF, ANY_PLACE, HOME)
