"""Where in the text is the answer? Extractive question answering, as BERT does SQuAD (chapter 15).

Read from top to bottom, the file follows a question on its way to an answer:

    question and context -> windows -> two scores a token -> spans -> the best one, cut from the context

The rules are those of google-research/bert, run_squad.py. Where ours differ it says so.
"""

import copy
import math
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.tasks import QuestionExample
from ..heads import BertForQuestionAnswering, QuestionAnsweringOutput
from ..tokenization import BertTokenizer
from .batches import Feature, inputs_of
from .metrics import squad_f1, squad_scores
from .models import fine_tuned, remember, remembered, tokenizer_of, with_fresh_head

TASK = "question answering"
MAX_LENGTH, STRIDE, MAX_QUESTION = 384, 128, 64  # Google's
SETTINGS = (  # what is stored with a model
    "max_length",
    "stride",
    "max_question",
    "null_threshold",
    "max_answer",
    "n_best",
    "unanswerable",
)


# ---- 1. From a long text to windows ------------------------------------------------------------------------
# A window is a pair: the number of its first token in the context, and how many tokens it has.


def windows(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Cuts a context of `length` tokens into windows of at most `room`; each begins `stride` after the last.

    If `stride` is longer than a window, the next begins where the last one ended: no token is ever left out.
    A context without tokens has one empty window, so that every question has a place to answer "none".
    (Google's code gives none.)

    Source: run_squad.py:309-325.

    >>> windows(10, room=5, stride=3)
    [(0, 5), (3, 5), (6, 4)]
    """
    if room < 1 or stride < 1:
        raise ValueError(f"room ({room}) and stride ({stride}) must both be at least 1")
    cut, start = [], 0
    while True:
        size = min(room, length - start)
        cut.append((start, size))
        if start + size == length:
            return cut
        start += min(size, stride)


def context_score(window: tuple[int, int], position: int) -> float:
    """How much context a window shows a token: what is left or right of it, whichever is less.

    The small second term prefers the longer window, when the last one is shorter than the others.
    """
    start, size = window
    left, right = position - start, start + size - 1 - position
    return min(left, right) + 0.01 * size


def has_maximum_context(cut: list[tuple[int, int]], number: int, position: int) -> bool:
    """Whether, of all windows that hold the token, window `number` shows it the most; of equals the first.

    Source: run_squad.py:492-526.
    """
    holding = [i for i, (start, size) in enumerate(cut) if start <= position < start + size]
    return number == max(holding, key=lambda i: context_score(cut[i], position))


def maximum_context(cut: list[tuple[int, int]]) -> list[np.ndarray]:
    """`has_maximum_context` for every token of every window: one bool array a window, (its size,)."""
    length = sum(cut[-1])  # the last window ends where the context does
    best_score, best_window = np.full(length, -1.0), np.zeros(length, dtype=int)
    for number, (start, size) in enumerate(cut):
        left = np.arange(size)
        score = np.minimum(left, left[::-1]) + 0.01 * size
        here = slice(start, start + size)
        better = score > best_score[here]
        best_score[here][better] = score[better]
        best_window[here][better] = number
    return [best_window[start : start + size] == number for number, (start, size) in enumerate(cut)]


# ---- 2. Between characters and tokens ----------------------------------------------------------------------


def with_accents(text: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Offsets that take in the accents which a letter carries and which belong to no token.

    "é" may be one character, or an e and an accent of its own. Of the second kind the uncased tokenizer drops
    the accent, and an answer cut by plain offsets would lose it. Tokens that share a place, as the letters of
    a Korean syllable do, share its accents too.
    """
    starts = [start for start, _ in offsets] + [len(text)]
    longer = []
    for start, end in offsets:
        limit = starts[bisect_left(starts, end)]  # where the next place begins
        while end < limit and unicodedata.category(text[end]).startswith("M"):
            end += 1
        longer.append((start, end))
    return longer


def token_span(offsets: list[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """The first and the last token that share a character with text[start:end]; None if none does.

    Google's code knows only which word between spaces a token comes from. It begins with all tokens of the
    words that the answer touches, "(1895-1943)." for "1895", then looks among them for a stretch spelled like
    the tokenized answer (`_improve_answer_span`), and keeps the whole words if there is none. With offsets
    there is nothing to improve: these are the fewest tokens that hold the answer, and always the annotated
    place, also where the same spelling occurs twice in a word.

    Source: run_squad.py:255-300, 453-489.
    """
    first = bisect_right(offsets, start, key=lambda offset: offset[1])  # the first that ends behind `start`
    last = bisect_left(offsets, end, key=lambda offset: offset[0]) - 1  # the last that begins before `end`
    return (first, last) if first <= last else None


def label_in_window(span: tuple[int, int] | None, window: tuple[int, int], first: int) -> tuple[int, int]:
    """Where the answer stands in the input of a window: at (0, 0), [CLS], unless the window holds all of it.

    Args:
        span: first and last token of the answer in the context; None when there is no answer.
        first: the place in the input of the window's first token.

    Source: run_squad.py:410-431.
    """
    start, size = window
    if span is None or span[0] < start or span[1] >= start + size:
        return 0, 0
    return first + span[0] - start, first + span[1] - start


# ---- 3. From scores to spans -------------------------------------------------------------------------------


class Span(NamedTuple):
    """A possible answer: its first and last token in the input, and the sum of their two scores."""

    start: int
    end: int
    score: float


def best_spans(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    may_start: np.ndarray,
    may_end: np.ndarray,
    *,
    n_best: int = 20,
    max_answer: int = 30,
) -> list[Span]:
    """Pairs the best starts with the best ends of one window, and keeps the pairs that can be an answer.

    Args:
        start_logits, end_logits: (T,), a score for every token of the input. Google's code ranks the scores
            of [PAD] among them as well, here they are cut off.
        may_start, may_end: (T,), where an answer may start (in the context, where this window has the maximum
            context) and where it may end (anywhere in the context).
        n_best: how many starts and how many ends are tried. They are ranked before the two masks are applied:
            where all the best starts lie in the question, there is no span at all.
        max_answer: tokens of an answer, at most.

    Returns:
        Spans, best first; of equals the one with the better start.

    Source: run_squad.py:785-833, 1012-1020.
    """
    starts = np.argsort(-start_logits, kind="stable")[:n_best]  # (S,), best first
    ends = np.argsort(-end_logits, kind="stable")[:n_best]  # (E,)
    lengths = ends - starts[:, None] + 1  # (S, E)
    possible = (lengths >= 1) & (lengths <= max_answer) & may_start[starts][:, None] & may_end[ends]
    scores = start_logits[starts].astype(float)[:, None] + end_logits[ends].astype(float)  # (S, E)
    rows, columns = possible.nonzero()  # (N,), (N,)
    order = np.argsort(-scores[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    found = starts[rows].tolist(), ends[columns].tolist(), scores[rows, columns].tolist()
    return list(map(Span, *found))


# ---- 4. From spans to an answer ----------------------------------------------------------------------------


def n_best_answers(
    context: str, places: list[tuple[int, int, float]], null_score: float | None, n_best: int = 20
) -> list[dict]:
    """Different answers, best first, each with its share of probability among them (a softmax).

    Args:
        places: (start, end, score): each possible answer is context[start:end]. Of several places with the
            same text the best one counts.
        null_score: what speaks for "no answer", which is then always among them, as the empty text; None
            where every question has an answer.
        n_best: how many, at most (and "no answer" may be one more).

    Returns:
        At least one answer: `text`, `start` in the context (None for the empty text), `score`, `probability`.
        If there are neither places nor a null score it is the empty text, with score 0.

    Source: run_squad.py:835-899.
    """
    candidates = [(start, context[start:end], score) for start, end, score in places]
    if null_score is not None:
        candidates.append((None, "", null_score))
    candidates.sort(key=lambda candidate: -candidate[2])  # stable: of equals, the first stays first
    answers = {}
    for start, text, score in candidates:
        if len(answers) == n_best:
            break
        answers.setdefault(text, {"text": text, "start": start, "score": score})
    if null_score is not None or not answers:
        answers.setdefault("", {"text": "", "start": None, "score": null_score or 0.0})
    scores = np.array([answer["score"] for answer in answers.values()])
    shares = np.exp(scores - scores.max())
    for answer, share in zip(answers.values(), (shares / shares.sum()).tolist()):
        answer["probability"] = share
    return list(answers.values())


def with_null_threshold(prediction: dict, threshold: float) -> dict:
    """The prediction, decided anew: empty if "no answer" leads the best answer by more than the threshold.

    Where no span was possible at all the answer is empty too. (Google's code stops with an error there when
    questions may have no answer, and says "empty" when they all have one.)

    Source: run_squad.py:901-912.
    """
    chosen = next((answer for answer in prediction["n_best"] if answer["text"]), None)
    lead = prediction["null_lead"]
    if chosen is None or (lead is not None and lead > threshold):
        chosen = next(answer for answer in prediction["n_best"] if not answer["text"])
    return prediction | {
        "answer": chosen["text"],
        "start": chosen["start"],
        "probability": chosen["probability"],
    }


def best_null_threshold(examples: list[QuestionExample], predictions: list[dict]) -> float:
    """The threshold that gives these predictions the best F1.

    It lies half-way between two neighbours among the `null_lead`; of equally good ones it is the closest to
    0. Fit it on a development set. The score there flatters from then on: the threshold was chosen for it.

    Args:
        predictions: by a model that knows unanswerable questions; their present answers do not matter.

    Raises:
        ValueError: when the model does not know unanswerable questions, or an example is not labelled.
    """
    leads, gains = [], []  # of each question: its null_lead, and how much better answering is than not
    for example, prediction in zip(examples, predictions, strict=True):
        if not example.labelled:
            raise ValueError(f"question {example.id!r} cannot be scored: nobody said what its answer is")
        if all(answer["text"] for answer in prediction["n_best"]):
            raise ValueError("no threshold: this model was trained on questions that all have an answer")
        if prediction["null_lead"] is not None:  # otherwise the answer is empty whatever the threshold
            references = [answer.text for answer in example.answers]
            answered = with_null_threshold(prediction, np.inf)["answer"]
            leads.append(prediction["null_lead"])
            gains.append(squad_f1(answered, references) - squad_f1("", references))
    if not leads:
        return 0.0
    order = np.argsort(leads, kind="stable")
    leads, gains = np.array(leads)[order], np.array(gains)[order]  # (N,): the surest answers first
    totals = np.concatenate([[0.0], gains.cumsum()])  # (N + 1,): when the first 0, 1, ... N are answered
    cuts = np.concatenate([[leads[0] - 1], (leads[:-1] + leads[1:]) / 2, [leads[-1] + 1]])
    possible = np.concatenate([[True], leads[:-1] < leads[1:], [True]])  # no cut falls between equals
    best = totals[possible].max()
    return float(min(cuts[possible & (totals > best - 1e-9)], key=abs))


# ---- 5. The task -------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Window(Feature):
    """One window as the model reads it: [CLS] question [SEP] window [SEP].

    Attributes:
        labels: where the answer starts and ends in the input, (0, 0) when it is not here; None when unknown.
        first: the place in the input of the window's first token.
        offsets: of each token of the window: context[start:end] is what it was made of.
        maximum_context: of each token of the window, whether no other window shows it more context.
    """

    first: int
    offsets: list[tuple[int, int]]
    maximum_context: np.ndarray

    @property
    def may_start(self) -> np.ndarray:
        """(T,), where in the input an answer may start."""
        return self._in_input(self.maximum_context)

    @property
    def may_end(self) -> np.ndarray:
        """(T,), where in the input an answer may end."""
        return self._in_input(np.ones(len(self.offsets), dtype=bool))

    def _in_input(self, of_window: np.ndarray) -> np.ndarray:
        of_input = np.zeros(len(self.input_ids), dtype=bool)
        of_input[self.first : self.first + len(of_window)] = of_window
        return of_input

    def place(self, span: Span) -> tuple[int, int, float]:
        """Where a span stands in the context, in characters, and its score."""
        return self.offsets[span.start - self.first][0], self.offsets[span.end - self.first][1], span.score


class QuestionAnswering:
    """Questions whose answer is a stretch of a text, or that the text does not answer.

    Args:
        tokenizer: the pre-trained model's.
        max_length: the most tokens of an input.
        stride: how many tokens after a window the next one begins.
        max_question: the most tokens of a question; what is longer loses its end.
        null_threshold: by how much "no answer" must lead to be the answer. None has it chosen after every
            epoch, on the development examples (see `best_null_threshold`), and kept with the model.
        max_answer: the most tokens of an answer.
        n_best: how many starts, ends and answers are looked at.
        unanswerable: whether there are questions without an answer (SQuAD 2.0). If not (1.1), every question
            gets one, as long as any span is possible.

    The last is read off the training examples by `QuestionAnswering.of(tokenizer, train)`.
    """

    main_metric = "f1"

    def __init__(
        self,
        tokenizer: BertTokenizer,
        *,
        max_length: int = MAX_LENGTH,
        stride: int = STRIDE,
        max_question: int = MAX_QUESTION,
        null_threshold: float | None = 0.0,
        max_answer: int = 30,
        n_best: int = 20,
        unanswerable: bool = False,
    ):
        for name, value in (("stride", stride), ("max_question", max_question), ("max_answer", max_answer)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if n_best < 2:
            raise ValueError(f"n_best must be at least 2, an answer and none, not {n_best}")
        if max_length < max_question + 4:
            raise ValueError(
                f"max_length ({max_length}) must leave room for a question of max_question ({max_question}) "
                f"tokens, [CLS], two [SEP] and at least one token of the text"
            )
        if null_threshold is not None and not math.isfinite(null_threshold):
            raise ValueError(f"null_threshold must be a finite number, or None, not {null_threshold}")
        self.tokenizer = tokenizer
        self.max_length, self.stride, self.max_question = max_length, stride, max_question
        self.max_answer, self.n_best, self.unanswerable = max_answer, n_best, unanswerable
        self.chooses_threshold = null_threshold is None and unanswerable
        self.null_threshold = 0.0 if null_threshold is None else null_threshold

    @classmethod
    def of(cls, tokenizer: BertTokenizer, train: list[QuestionExample], **settings) -> "QuestionAnswering":
        """The task that training examples pose: with unanswerable questions if there is one among them."""
        unanswerable = any(example.labelled and not example.answers for example in train)
        return cls(tokenizer, unanswerable=unanswerable, **settings)

    def new_model(self, folder: str | Path) -> BertForQuestionAnswering:
        """The encoder from a folder under a fresh span head."""
        return with_fresh_head(BertForQuestionAnswering, folder, self.tokenizer, self.max_length)

    def features(self, examples: list[QuestionExample]) -> list[Window]:
        """All windows of all examples, in order; of several answers the first is the label."""
        features, encoded = [], {}
        for number, example in enumerate(examples):
            if example.context not in encoded:  # several questions share a context
                encoded[example.context] = self._context(example.context)
            features += self._windows(number, example, *encoded[example.context])
        return features

    def _context(self, context: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a context, without [CLS] and [SEP], and their offsets."""
        encoding = self.tokenizer(context)
        return encoding.input_ids[1:-1], with_accents(context, encoding.offsets[1:-1])

    def _windows(
        self, number: int, example: QuestionExample, ids: list[int], offsets: list[tuple[int, int]]
    ) -> list[Window]:
        question = self.tokenizer(example.question, max_length=self.max_question + 2).input_ids
        first = len(question)  # with its [CLS] and [SEP]
        cut = windows(len(ids), self.max_length - first - 1, self.stride)
        span = None
        if example.answers:
            text, start = example.answers[0]
            span = token_span(offsets, start, start + len(text))
        return [
            Window(
                input_ids=question + ids[start : start + size] + [self.tokenizer.sep_token_id],
                token_type_ids=[0] * first + [1] * (size + 1),
                labels=label_in_window(span, (start, size), first) if example.labelled else None,
                example=number,
                first=first,
                offsets=offsets[start : start + size],
                maximum_context=shown,
            )
            for (start, size), shown in zip(cut, maximum_context(cut))
        ]

    def collate(self, features: list[Window]) -> dict[str, Tensor]:
        """ids, segments and mask (B, T); start and end positions (B,) where all are known."""
        batch = inputs_of(features, self.tokenizer.pad_token_id)
        labels = [feature.labels for feature in features]
        if None not in labels:
            starts, ends = torch.tensor(labels).unbind(1)  # (B, 2) -> (B,), (B,)
            batch |= {"start_positions": starts, "end_positions": ends}
        return batch

    def raw(self, output: QuestionAnsweringOutput, features: list[Window]) -> list[np.ndarray]:
        """The start and end logits of each feature, (2, T)."""
        logits = torch.stack([output.start_logits, output.end_logits], dim=1)  # (B, 2, T)
        logits = logits.float().cpu().numpy()
        return [rows[:, : len(feature.input_ids)] for rows, feature in zip(logits, features)]

    def predictions(
        self, examples: list[QuestionExample], features: list[Window], raw: Sequence[np.ndarray]
    ) -> list[dict]:
        """One dictionary a question.

        Returns:
            `id`, `question`; `answer`, cut from the context, "" for none; `start`, where it stands there;
            `probability`; `null_lead`, by how much "no answer" leads the best answer (None where it is no
            choice, or the only one); `n_best`, see `n_best_answers`.
        """
        parts = [[] for _ in examples]
        for window, logits in zip(features, raw, strict=True):
            parts[window.example].append((window, logits))
        return [self._prediction(example, part) for example, part in zip(examples, parts, strict=True)]

    def _prediction(self, example: QuestionExample, part: list[tuple[Window, np.ndarray]]) -> dict:
        places = []
        for window, (start_logits, end_logits) in part:
            spans = best_spans(
                start_logits,
                end_logits,
                window.may_start,
                window.may_end,
                n_best=self.n_best,
                max_answer=self.max_answer,
            )
            places += [window.place(span) for span in spans]
        null_score = null_lead = None
        if self.unanswerable:
            # The minimum: a window that does hold the answer is the one that speaks least for "no answer".
            null_score = min(float(start[0]) + float(end[0]) for _, (start, end) in part)
            if places:
                null_lead = null_score - max(score for _, _, score in places)
        prediction = {
            "id": example.id,
            "question": example.question,
            "null_lead": null_lead,
            "n_best": n_best_answers(example.context, places, null_score, self.n_best),
        }
        return with_null_threshold(prediction, self.null_threshold)

    def calibrated(
        self, examples: list[QuestionExample], predictions: list[dict]
    ) -> tuple["QuestionAnswering", list[dict]]:
        """A task with the threshold that suits these predictions best, and the predictions decided by it.

        The task itself and the same predictions where a threshold was given, or where no question is without
        an answer.
        """
        if not self.chooses_threshold:
            return self, predictions
        task = copy.copy(self)
        task.null_threshold = best_null_threshold(examples, predictions)
        return task, [with_null_threshold(prediction, task.null_threshold) for prediction in predictions]

    def score(self, examples: list[QuestionExample], predictions: list[dict]) -> dict[str, float]:
        """`exact_match` and `f1`; with both kinds of questions, of each kind as well: see `squad_scores`."""
        return squad_scores(examples, [prediction["answer"] for prediction in predictions])

    def save(self, model: BertForQuestionAnswering, folder: str | Path):
        """Writes the model in the published format, its tokenizer, and the settings."""
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        remember(folder, {"task": TASK} | {name: getattr(self, name) for name in SETTINGS})

    @classmethod
    def load(cls, folder: str | Path, **changes) -> tuple["QuestionAnswering", BertForQuestionAnswering]:
        """A fine-tuned model and its task; `changes` are settings that replace the stored ones."""
        model, tokenizer = fine_tuned(BertForQuestionAnswering, folder), tokenizer_of(folder)
        settings = {"max_length": min(MAX_LENGTH, model.config.max_position_embeddings)}
        settings |= {name: value for name, value in remembered(folder).items() if name in SETTINGS}
        return cls(tokenizer, **settings | changes), model
