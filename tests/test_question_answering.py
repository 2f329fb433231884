"""Question answering: windows, maximum context, labels, spans, no answer, and text cut from the original."""

import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bert_edu import (
    BertConfig,
    BertForQuestionAnswering,
    BertForTokenClassification,
    BertModel,
    BertTokenizer,
)
from bert_edu.data.tasks import Answer, QuestionExample
from bert_edu.finetuning.engine import Recipe, evaluate, finetune, predict, several_seeds
from bert_edu.finetuning.metrics import squad_f1
from bert_edu.finetuning.question_answering import (
    QuestionAnswering,
    Span,
    best_null_threshold,
    best_spans,
    context_score,
    has_maximum_context,
    label_in_window,
    maximum_context,
    n_best_answers,
    token_span,
    windows,
    with_accents,
    with_null_threshold,
)
from bert_edu.tokenization import SPECIAL_TOKENS, split_words
from helpers import little_config, little_tokenizer, randomise

BOTH = pytest.mark.parametrize("fast", [True, False], ids=["fast", "ours"])
CASES = pytest.mark.parametrize("do_lower_case", [True, False], ids=["uncased", "cased"])

# Letters, digits and marks; accents in one character and in two; Chinese, kana, hangul; emoji with a joiner
# and a skin tone; characters that vanish; white space of several kinds.
ALPHABET = (
    "abcdeABCDE 123.,;'()-$éÉüñÅ\u0301\u0308漢字日あカ한글😀🎉👍🏽\u200d\ufe0f"
    "\u00ad\u200b\x00\x07\ufffd\u00a0\u3000\t\n"
)
TEXT = st.text(alphabet=ALPHABET + " " * 8, max_size=60)
relaxed = settings(deadline=None)  # the first example pays for what is built on first use


def vocabulary(do_lower_case):
    """Every character alone and as a continuation, and a few longer pieces; the special tokens come last."""
    parts = {part for char in ALPHABET for word in split_words(char, do_lower_case) for part in word}
    single = [spelling for part in sorted(parts) for spelling in (part, "##" + part)]
    return [*single, "ab", "##ab", "abc", "##cd", "12", "##12", *SPECIAL_TOKENS]


TOKENIZERS = {
    (fast, lower): BertTokenizer(vocabulary(lower), do_lower_case=lower, fast=fast)
    for fast in (True, False)
    for lower in (True, False)
}
WORDS = [f"w{number}" for number in range(40)]
TOKENIZER = little_tokenizer(WORDS)
CONFIG = little_config(TOKENIZER, max_position_embeddings=40)


def question(context, *answers, asked="w0", id="q", labelled=True):
    """An example; each answer is a text that occurs once in the context, or one with its place."""
    found = [
        answer if isinstance(answer, Answer) else Answer(answer, context.index(answer)) for answer in answers
    ]
    return QuestionExample(id, asked, context, found, labelled)


def small_task(**changes):
    return QuestionAnswering(TOKENIZER, **({"max_length": 16, "stride": 4, "max_question": 4} | changes))


# ---- Windows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "length, room, stride, expected",
    [
        (10, 5, 3, [(0, 5), (3, 5), (6, 4)]),
        (5, 5, 3, [(0, 5)]),
        (6, 5, 3, [(0, 5), (3, 3)]),
        (12, 5, 9, [(0, 5), (5, 5), (10, 2)]),  # a stride longer than a window leaves nothing out
        (3, 1, 1, [(0, 1), (1, 1), (2, 1)]),
        (0, 5, 3, [(0, 0)]),
        (900, 317, 128, [(0, 317), (128, 317), (256, 317), (384, 317), (512, 317), (640, 260)]),
    ],
)
def test_windows_by_hand(length, room, stride, expected):
    assert windows(length, room, stride) == expected


@pytest.mark.parametrize("room, stride", [(0, 1), (1, 0), (-3, 2)])
def test_windows_must_have_room_and_move(room, stride):
    with pytest.raises(ValueError, match=rf"room \({room}\) and stride \({stride}\)"):
        windows(10, room, stride)


@given(st.integers(0, 90), st.integers(1, 40), st.integers(1, 50))
@relaxed
def test_every_token_is_in_a_window_and_has_one_with_maximum_context(length, room, stride):
    cut = windows(length, room, stride)
    assert all(size <= room for _, size in cut) and all(size == room for _, size in cut[:-1])
    assert [start for start, _ in cut] == [number * min(room, stride) for number in range(len(cut))]
    shown = maximum_context(cut)
    assert [len(flags) for flags in shown] == [size for _, size in cut]
    for position in range(length):
        holding = [n for n, (start, size) in enumerate(cut) if start <= position < start + size]
        assert holding
        best = [n for n in range(len(cut)) if has_maximum_context(cut, n, position)]
        assert best == [n for n in holding if shown[n][position - cut[n][0]]]
        assert len(best) == 1 and best[0] in holding


def test_maximum_context_by_hand():
    # the man went to the store and bought a gallon of milk, in windows of five words: "bought" has one word
    # before it and three behind it in the last, four and none in the one before
    cut = [(0, 5), (3, 5), (6, 5)]
    assert [has_maximum_context(cut, number, 7) for number in range(3)] == [False, False, True]
    assert [flags.tolist() for flags in maximum_context(cut)] == [
        [True, True, True, True, False],  # of "to", both have one word on the poorer side: the first wins
        [False, True, True, True, False],  # "and" likewise
        [False, True, True, True, True],
    ]


def test_a_longer_window_counts_for_more():
    # Token 309 has 7 tokens behind it in the first window, 9 before it in the second, which is 287 shorter.
    cut = windows(330, 317, 300)
    assert cut == [(0, 317), (300, 30)]
    assert context_score(cut[0], 309) == pytest.approx(7 + 3.17)
    assert context_score(cut[1], 309) == pytest.approx(9 + 0.30)
    assert has_maximum_context(cut, 0, 309) and maximum_context(cut)[0][309]
    assert has_maximum_context(cut, 1, 310) and not maximum_context(cut)[0][310]


# ---- Between characters and tokens -------------------------------------------------------------------------


def pieces_of(tokens, text, answer, start=None):
    """The pieces that an answer is made of, with a vocabulary of the tokens."""
    tokenizer = little_tokenizer(tokens)
    start = text.index(answer) if start is None else start
    span = token_span(tokenizer(text).offsets[1:-1], start, start + len(answer))
    return None if span is None else tokenizer.tokenize(text)[span[0] : span[1] + 1]


def test_an_answer_s_pieces_by_hand():
    # Google's two examples, in run_squad.py
    years = ["the", "leader", "(", ")", "1895", "-", "1943", "."]
    assert pieces_of(years, "The leader (1895-1943).", "1895") == ["1895"]
    assert pieces_of(years, "The leader (1895-1943).", "1895-1943") == ["1895", "-", "1943"]
    assert pieces_of(["japanese"], "The Japanese", "Japan") == ["japanese"]
    assert pieces_of(["japan", "##ese"], "The Japanese", "Japan") == ["japan"]
    # the annotated place, where Google's search would take the first of its kind
    assert pieces_of(["7", "-"], "7-7-7", "7-7", start=2) == ["7", "-", "7"]
    task = QuestionAnswering(little_tokenizer(["7", "-"]))
    assert task.features([question("7-7-7", Answer("7-7", 2), asked="7")])[0].labels == (5, 7)
    # where an answer by itself would have other pieces, Google keeps the whole word
    assert pieces_of(["ab", "##cd", "##e", "c", "##d"], "abcde", "cd") == ["##cd"]
    # white space at an end, or nothing that is a token
    assert pieces_of(["a", "b"], "a  b", "a ") == ["a"]
    assert pieces_of(["a", "b"], "a \u200b b", "\u200b") is None


@BOTH
def test_letters_of_a_syllable_share_its_accent(fast):
    text = "글\u0301a"  # three letters in one place, and an accent of their own
    tokenizer = TOKENIZERS[fast, True]
    assert with_accents(text, tokenizer(text).offsets[1:-1]) == [(0, 2)] * 3 + [(2, 3)]


@given(st.data(), st.sampled_from(sorted(TOKENIZERS)))
@relaxed
def test_a_label_is_the_fewest_tokens_that_hold_the_answer(data, kind):
    text = data.draw(TEXT.filter(bool))
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    offsets = with_accents(text, TOKENIZERS[kind](text).offsets[1:-1])
    touching = [n for n, (left, right) in enumerate(offsets) if left < end and right > start]
    assert touching == list(range(touching[0], touching[-1] + 1)) if touching else True
    assert token_span(offsets, start, end) == ((touching[0], touching[-1]) if touching else None)


@pytest.mark.parametrize(
    "text, word",
    [
        ("a caf\u00e9 b", "caf\u00e9"),
        ("a cafe\u0301 b", "cafe\u0301"),  # an accent of its own
        ("a cafe\u0301\u0327", "cafe\u0301\u0327"),  # two, at the end of the text
        ("a CAFE\u0301, b", "CAFE\u0301"),
        ("a \u2764\ufe0f b", "\u2764\ufe0f"),  # a heart, with the mark that makes it a coloured one
        ("a 👍🏽 b", "👍🏽"),  # a skin tone is a character of the word
        ("a so\u00adft\u200bly b", "so\u00adft\u200bly"),
        ("a \u0928\u092e\u0938\u094d\u0924\u0947 b", "\u0928\u092e\u0938\u094d\u0924\u0947"),
        ("漢字 b", "字"),
        ("x 한글 b", "한글"),
        ("x 글\u0301 b", "글\u0301"),  # all letters of the syllable share the accent
    ],
)
@BOTH
@CASES
def test_an_answer_keeps_its_accents(text, word, fast, do_lower_case):
    parts = {char for part in split_words(text, do_lower_case) for char in part}
    tokens = [spelling for part in sorted(parts) for spelling in (part, "##" + part)]
    task = QuestionAnswering(BertTokenizer([*SPECIAL_TOKENS, *tokens], do_lower_case, fast))
    example = question(text, word, asked="a")
    assert perfect_answer(task, example) == word


# ---- Features ----------------------------------------------------------------------------------------------


def tokens_of(window):
    return " ".join(TOKENIZER.id_to_token(id) for id in window.input_ids)


def test_windows_as_the_model_reads_them():
    context = " ".join(WORDS[1:13])  # 12 tokens; room for 16 - 4 - 3 = 9
    example = question(context, "w8 w9", asked="w30 w31 w32 w33 w34 w35")
    features = small_task().features([example])
    assert [tokens_of(window) for window in features] == [
        "[CLS] w30 w31 w32 w33 [SEP] w1 w2 w3 w4 w5 w6 w7 w8 w9 [SEP]",
        "[CLS] w30 w31 w32 w33 [SEP] w5 w6 w7 w8 w9 w10 w11 w12 [SEP]",
    ]
    assert [window.token_type_ids for window in features] == [[0] * 6 + [1] * 10, [0] * 6 + [1] * 9]
    assert [window.labels for window in features] == [(13, 14), (9, 10)]
    assert [window.example for window in features] == [0, 0]
    assert [np.flatnonzero(window.may_end).tolist() for window in features] == [
        list(range(6, 15)),
        list(range(6, 14)),
    ]
    # w1 to w7 are best seen in the first window: w7 has two words behind it there, and two before it in the
    # second; of equals the first wins
    starts = [np.flatnonzero(window.may_start).tolist() for window in features]
    assert starts == [list(range(6, 13)), list(range(9, 14))]
    assert TOKENIZER.id_to_token(features[0].input_ids[12]) == "w7"
    assert [context[slice(*offsets)] for offsets in features[1].offsets] == WORDS[5:13]


@pytest.mark.parametrize(
    "answer, expected",
    [
        ("w1", [(3, 3), (0, 0)]),
        ("w6 w7", [(8, 9), (0, 0)]),  # begins before the second window
        ("w8 w9", [(10, 11), (4, 5)]),
        ("w12 w13", [(0, 0), (8, 9)]),  # ends behind the first
        ("w6 w7 w8 w9 w10 w11 w12 w13", [(0, 0), (0, 0)]),  # in no window as a whole
        (None, [(0, 0), (0, 0)]),
    ],
)
def test_an_answer_that_is_not_all_in_the_window_points_at_cls(answer, expected):
    example = question(" ".join(WORDS[1:15]), *([answer] if answer else []))
    features = small_task(stride=6).features([example])
    assert [len(window.offsets) for window in features] == [12, 8]
    assert [window.labels for window in features] == expected
    cut = [(0, 12), (6, 8)]
    span = answer and tuple(WORDS.index(word) - 1 for word in (answer.split()[0], answer.split()[-1]))
    assert [label_in_window(span, window, 3) for window in cut] == expected


def test_several_examples():
    examples = [
        question("w1 w2 w3", "w2", asked="w9"),
        question("w1 w2 w3", asked="w8 w7"),  # the same context, no answer
        question("", asked="w9"),
        question("w4 w5", asked="", labelled=False),
        question("w4 w5 w4", Answer("w4", 6), Answer("w5", 3)),  # of several answers the first
        question("w4 \u200b w5", Answer("\u200b", 3)),  # an answer without a token is not there
    ]
    features = small_task().features(examples)
    assert [tokens_of(window) for window in features] == [
        "[CLS] w9 [SEP] w1 w2 w3 [SEP]",
        "[CLS] w8 w7 [SEP] w1 w2 w3 [SEP]",
        "[CLS] w9 [SEP] [SEP]",
        "[CLS] [SEP] w4 w5 [SEP]",
        "[CLS] w0 [SEP] w4 w5 w4 [SEP]",
        "[CLS] w0 [SEP] w4 w5 [SEP]",
    ]
    assert [window.labels for window in features] == [(4, 4), (0, 0), (0, 0), None, (5, 5), (0, 0)]
    assert [window.example for window in features] == list(range(6))
    task = small_task()
    batch = task.collate(features[:2])
    assert batch["input_ids"].tolist() == [
        [2, 14, 3, 6, 7, 8, 3, 0],
        [2, 13, 12, 3, 6, 7, 8, 3],
    ]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1] * 7 + [0], [1] * 8]
    assert batch["start_positions"].tolist() == batch["end_positions"].tolist() == [4, 0]
    assert set(task.collate(features[3:])) == {"input_ids", "token_type_ids", "attention_mask"}


@given(st.data(), st.sampled_from(sorted(TOKENIZERS)), st.integers(8, 40), st.integers(1, 50))
@relaxed
def test_windows_hold_the_whole_context_whatever_the_question(data, kind, max_length, stride):
    tokenizer = TOKENIZERS[kind]
    max_question = data.draw(st.integers(1, max_length - 4))
    example = question(data.draw(TEXT), asked=data.draw(TEXT))
    task = QuestionAnswering(tokenizer, max_length=max_length, stride=stride, max_question=max_question)
    features = task.features([example])
    asked = tokenizer(example.question).input_ids[1:-1][:max_question]
    expected = tokenizer(example.context)
    seen, best = {}, []
    for window in features:
        assert len(window.input_ids) == len(window.token_type_ids) <= max_length
        assert window.input_ids[: window.first] == [tokenizer.cls_token_id, *asked, tokenizer.sep_token_id]
        assert window.input_ids[-1] == tokenizer.sep_token_id
        assert window.token_type_ids == [0] * window.first + [1] * (len(window.input_ids) - window.first)
        ids = window.input_ids[window.first : -1]
        start = (0 if window is features[0] else stride_of(features, stride)) * features.index(window)
        seen |= {start + number: id for number, id in enumerate(ids)}
        best += [start + number for number in np.flatnonzero(window.maximum_context)]
        assert np.flatnonzero(window.may_end).tolist() == [window.first + n for n in range(len(ids))]
    assert [seen[number] for number in range(len(seen))] == expected.input_ids[1:-1]
    assert sorted(best) == list(range(len(seen)))


def stride_of(features, stride):
    return min(stride, len(features[0].offsets))


# ---- Spans -------------------------------------------------------------------------------------------------


def spans_by_loop(start_logits, end_logits, may_start, may_end, n_best, max_answer):
    """The same in two plain loops, as run_squad.py has it."""

    def best_first(logits):
        return [place for place, _ in sorted(enumerate(logits), key=lambda pair: pair[1], reverse=True)][
            :n_best
        ]

    found = []
    for start in best_first(start_logits):
        for end in best_first(end_logits):
            if not may_start[start] or not may_end[end]:
                continue
            if end < start or end - start + 1 > max_answer:
                continue
            found.append((start, end, float(start_logits[start]) + float(end_logits[end])))
    return sorted(found, key=lambda span: span[2], reverse=True)


@given(st.data(), st.integers(1, 40), st.integers(1, 25), st.integers(1, 12))
@relaxed
def test_best_spans_equal_two_loops(data, T, n_best, max_answer):
    whole = st.integers(-3, 3).map(float)  # many equal scores: their order matters too
    logits = st.one_of(whole, st.floats(-9, 9, width=32))
    start_logits, end_logits = (
        np.array(data.draw(st.lists(logits, min_size=T, max_size=T)), dtype=np.float32) for _ in range(2)
    )
    may_start, may_end = (
        np.array(data.draw(st.lists(st.booleans(), min_size=T, max_size=T))) for _ in range(2)
    )
    arguments = start_logits, end_logits, may_start, may_end
    found = best_spans(*arguments, n_best=n_best, max_answer=max_answer)
    assert found == spans_by_loop(*arguments, n_best, max_answer)


def test_best_spans_by_hand():
    #                   [CLS] who [SEP] Ada wrote it [SEP]
    start = np.array([5.0, 4.0, 0.0, 3.0, 1.0, 2.0, 0.0], dtype=np.float32)
    end = np.array([5.0, 0.0, 4.0, 3.0, 1.5, 2.25, 6.0], dtype=np.float32)
    context = np.array([False, False, False, True, True, True, False])
    found = best_spans(start, end, context, context)
    assert found[:3] == [Span(3, 3, 6.0), Span(3, 5, 5.25), Span(3, 4, 4.5)]
    assert len(found) == 6  # every pair of three tokens whose end is not before its start
    assert best_spans(start, end, context, context, max_answer=1) == [(3, 3, 6.0), (5, 5, 4.25), (4, 4, 2.5)]
    # only the two best starts and ends are looked at, and all of these lie outside the text
    assert best_spans(start, end, context, context, n_best=2) == []
    assert best_spans(start, end, context, context, n_best=4) == [(3, 3, 6.0)]
    # where another window shows Ada more context, she can be an end but no start
    elsewhere = np.array([False] * 4 + [True, True, False])
    assert best_spans(start, end, elsewhere, context)[0] == (5, 5, 4.25)


# ---- Answers -----------------------------------------------------------------------------------------------


def test_different_answers_with_their_probabilities():
    context = "ab ab cd"
    places = [(0, 2, 1.0), (3, 5, 3.0), (6, 8, 2.0), (3, 8, -1.0)]
    found = n_best_answers(context, places, None)
    assert [(answer["text"], answer["start"], answer["score"]) for answer in found] == [
        ("ab", 3, 3.0),
        ("cd", 6, 2.0),
        ("ab cd", 3, -1.0),
    ]
    total = sum(map(math.exp, (3, 2, -1)))
    assert [answer["probability"] for answer in found] == pytest.approx(
        [math.exp(3) / total, math.exp(2) / total, math.exp(-1) / total]
    )
    # "no answer" is one of them, wherever it ranks, and may be one more than asked for
    assert [answer["text"] for answer in n_best_answers(context, places, 2.5)] == ["ab", "", "cd", "ab cd"]
    assert [answer["text"] for answer in n_best_answers(context, places, 2.5, 2)] == ["ab", ""]
    assert [answer["text"] for answer in n_best_answers(context, places, -9.0, 2)] == ["ab", "cd", ""]
    assert [answer["text"] for answer in n_best_answers(context, places, 3.0, 2)] == ["ab", ""]


def test_scores_too_large_for_exp():
    found = n_best_answers("a b", [(0, 1, 5000.0), (2, 3, 4999.0)], -5000.0)
    assert [answer["probability"] for answer in found] == pytest.approx(
        [1 / (1 + 1 / math.e), 1 / (1 + math.e), 0]
    )


@pytest.mark.parametrize("null_score", [None, -3.0])
def test_no_candidate_at_all(null_score):
    found = n_best_answers("a b", [], null_score)
    assert found == [{"text": "", "start": None, "score": null_score or 0.0, "probability": 1.0}]
    decided = with_null_threshold({"null_lead": None, "n_best": found}, 0.0)
    assert (decided["answer"], decided["start"], decided["probability"]) == ("", None, 1.0)


@pytest.mark.parametrize(
    "lead, threshold, answer",
    [
        (2.0, 0.0, ""),
        (2.0, 2.0, "ab"),  # empty only when the lead is larger than the threshold
        (2.0, 1.9, ""),
        (-2.0, 0.0, "ab"),
        (-2.0, -3.0, ""),
        (None, -99.0, "ab"),  # every question has an answer: no threshold counts
    ],
)
def test_the_threshold_decides(lead, threshold, answer):
    n_best = n_best_answers("ab cd", [(0, 2, 1.0), (3, 5, 0.0)], None if lead is None else 1.0 + lead)
    decided = with_null_threshold({"null_lead": lead, "n_best": n_best}, threshold)
    chosen = next(entry for entry in n_best if entry["text"] == answer)
    assert decided["answer"] == answer and decided["start"] == (0 if answer else None)
    assert decided["probability"] == chosen["probability"]


# ---- Predictions beside a plain re-reading of run_squad.py -------------------------------------------------


def reread(
    example, tokenizer, logits, *, max_length, stride, max_question, threshold, unanswerable, max_answer, n
):
    """From a question and the logits of its windows to the answer and (text, probability) of the n best."""
    asked = tokenizer(example.question).input_ids[1:-1][:max_question]
    encoding = tokenizer(example.context)
    offsets = encoding.offsets[1:-1]
    room, first = max_length - len(asked) - 3, len(asked) + 2
    spans, start = [], 0
    while start < len(offsets):
        length = min(len(offsets) - start, room)
        spans.append((start, length))
        if start + length == len(offsets):
            break
        start += min(length, stride)

    def shows_most(number, token):
        scores = {}
        for other, (start, length) in enumerate(spans):
            end = start + length - 1
            if start <= token <= end:
                scores[other] = min(token - start, end - token) + 0.01 * length
        return number == min(scores, key=lambda other: (-scores[other], other))

    candidates, null = [], math.inf
    for number, ((start, length), (start_logits, end_logits)) in enumerate(zip(spans, logits)):
        null = min(null, float(start_logits[0]) + float(end_logits[0]))
        by_start = sorted(range(len(start_logits)), key=lambda i: -start_logits[i])[:n]
        by_end = sorted(range(len(end_logits)), key=lambda i: -end_logits[i])[:n]
        for i in by_start:
            for j in by_end:
                inside = first <= i < first + length and first <= j < first + length
                if inside and i <= j < i + max_answer and shows_most(number, start + i - first):
                    text = example.context[offsets[start + i - first][0] : offsets[start + j - first][1]]
                    candidates.append((float(start_logits[i]) + float(end_logits[j]), text))
    best = max((score for score, _ in candidates), default=None)
    if unanswerable:
        candidates.append((null, ""))
    answers = []
    for score, text in sorted(candidates, key=lambda candidate: -candidate[0]):
        if len(answers) < n and text not in [other for other, _ in answers]:
            answers.append((text, score))
    if unanswerable and "" not in [text for text, _ in answers]:
        answers.append(("", null))
    if not answers:
        return "", [("", 1.0)]
    total = sum(math.exp(score) for _, score in answers)
    shares = [(text, math.exp(score) / total) for text, score in answers]
    real = [text for text, _ in answers if text]
    if not real or (unanswerable and null - best > threshold):
        return "", shares
    return real[0], shares


@pytest.mark.parametrize("unanswerable", [False, True], ids=["1.1", "2.0"])
@BOTH
def test_predictions_equal_the_plain_re_reading(unanswerable, fast):
    draw, noise = random.Random(3), np.random.default_rng(3)
    tokenizer = TOKENIZERS[fast, True]
    kinds = {"empty": 0, "answered": 0, "windows": 0, "no candidate": 0}
    for _ in range(150):
        letters = [char for char in ALPHABET if char not in "\u0301\u0308\ufe0f"] + [" "] * 15
        context = "a" + "".join(draw.choices(letters, k=draw.randrange(1, 70)))
        example = question(context, asked="".join(draw.choices(letters, k=draw.randrange(0, 9))))
        sizes = dict(
            max_length=draw.randrange(12, 32), stride=draw.randrange(1, 12), max_question=draw.randrange(1, 6)
        )
        answering = dict(max_answer=draw.randrange(1, 9), n_best=draw.choice([2, 3, 20]))
        threshold = draw.choice([-4.0, 0.0, 1.5])
        task = QuestionAnswering(
            tokenizer, null_threshold=threshold, unanswerable=unanswerable, **sizes, **answering
        )
        features = task.features([example])
        # whole and half numbers: many equal scores, all of them exact
        logits = [(noise.integers(-8, 9, (2, len(f.input_ids))) / 2).astype(np.float32) for f in features]
        (found,) = task.predictions([example], features, logits)
        answer, n_best = reread(
            example,
            tokenizer,
            logits,
            threshold=threshold,
            unanswerable=unanswerable,
            max_answer=answering["max_answer"],
            n=answering["n_best"],
            **sizes,
        )
        assert found["answer"] == answer
        assert [entry["text"] for entry in found["n_best"]] == [text for text, _ in n_best]
        assert [entry["probability"] for entry in found["n_best"]] == pytest.approx([p for _, p in n_best])
        if answer:
            assert context[found["start"] : found["start"] + len(answer)] == answer
        else:
            assert found["start"] is None
        json.dumps(found, allow_nan=False)
        kinds["empty" if not answer else "answered"] += 1
        kinds["windows"] += len(features) > 2
        kinds["no candidate"] += not any(entry["text"] for entry in found["n_best"])
    assert all(count >= 5 for count in kinds.values()), kinds


def test_the_null_score_is_the_minimum_over_windows():
    task = small_task(unanswerable=True)
    example = question(" ".join(WORDS[1:13]), asked="w30 w31 w32 w33")
    features = task.features([example])
    logits = [np.zeros((2, len(window.input_ids)), dtype=np.float32) for window in features]
    logits[0][:, 0] = 9, 8  # the first window is sure that it holds no answer,
    logits[1][:, 0] = 1, 2  # the second less so,
    logits[1][0, 10], logits[1][1, 11] = 2.5, 1.5  # because it has seen one: w9 w10
    (found,) = task.predictions([example], features, logits)
    assert found["answer"] == "w9 w10" and found["null_lead"] == (1 + 2) - (2.5 + 1.5)
    task.null_threshold = -1.5
    (found,) = task.predictions([example], features, logits)
    assert found["answer"] == "" and found["start"] is None
    task.unanswerable = False
    (found,) = task.predictions([example], features, logits)
    assert found["answer"] == "w9 w10" and found["null_lead"] is None


@pytest.mark.parametrize("unanswerable", [False, True], ids=["1.1", "2.0"])
def test_nothing_crashes_when_no_span_is_possible(unanswerable):
    task = small_task(unanswerable=unanswerable, n_best=2)
    examples = [question("w1 w2 w3", id="a", asked="w4 w5"), question("", id="b"), question("\u200b", id="c")]
    features = task.features(examples)
    logits = [np.zeros((2, len(window.input_ids)), dtype=np.float32) for window in features]
    for rows in logits:
        rows[:, :2] = 7  # all that is looked at: [CLS] and the question
    for found in task.predictions(examples, features, logits):
        assert found["answer"] == "" and found["start"] is None and found["null_lead"] is None
        assert found["n_best"] == [
            {"text": "", "start": None, "score": 14.0 if unanswerable else 0.0, "probability": 1.0}
        ]


# ---- From an answer to features and back -------------------------------------------------------------------


def perfect_logits(window):
    """What a model would say that knows the answer: 1 at the label, 0 elsewhere."""
    logits = np.zeros((2, len(window.input_ids)), dtype=np.float32)
    logits[0, window.labels[0]] = logits[1, window.labels[1]] = 1
    return logits


def perfect_answer(task, example):
    features = task.features([example])
    (found,) = task.predictions([example], features, list(map(perfect_logits, features)))
    return found["answer"]


@given(st.data(), st.sampled_from(sorted(TOKENIZERS)), st.booleans())
@relaxed
def test_an_answer_survives_the_way_there_and_back(data, kind, unanswerable):
    tokenizer = TOKENIZERS[kind]
    context = data.draw(st.text(alphabet=ALPHABET + " " * 8, min_size=1, max_size=120))
    offsets = with_accents(context, tokenizer(context).offsets[1:-1])
    assume(offsets)
    size = data.draw(st.integers(1, min(6, len(offsets))))
    at = data.draw(st.integers(0, len(offsets) - size))
    start, end = offsets[at][0], offsets[at + size - 1][1]
    example = question(context, Answer(context[start:end], start), asked=data.draw(TEXT))
    # Windows that overlap by twice the longest answer: what starts in the middle of one ends in it.
    task = QuestionAnswering(
        tokenizer, max_length=40, stride=8, max_question=6, unanswerable=unanswerable, max_answer=18
    )
    assert perfect_answer(task, example) == context[start:end]
    if unanswerable:
        assert perfect_answer(task, example._replace(answers=[])) == ""


@given(TEXT, st.sampled_from(sorted(TOKENIZERS)))
@relaxed
def test_each_token_is_cut_from_the_right_place(context, kind):
    tokenizer, lower = TOKENIZERS[kind], kind[1]
    task = QuestionAnswering(tokenizer, max_length=20, stride=5, max_question=4)
    features = task.features([question(context)])
    before = 0
    for number, window in enumerate(features):
        for at in range(len(window.offsets)):
            logits = [np.full((2, len(f.input_ids)), -5, dtype=np.float32) for f in features]
            logits[number][:, window.first + at] = 5
            (found,) = task.predictions([question(context)], features, logits)
            if not window.maximum_context[at]:
                continue
            piece = tokenizer.id_to_token(window.input_ids[window.first + at])
            letters = "".join(split_words(found["answer"], lower))
            assert context[found["start"] : found["start"] + len(found["answer"])] == found["answer"]
            # the letters of a Korean syllable share its place
            if any("가" <= char <= "힣" for char in found["answer"]):
                assert piece.removeprefix("##") in letters
            else:
                assert letters == piece.removeprefix("##")
            assert found["start"] >= before
            before = found["start"]


# ---- The threshold for "no answer" -------------------------------------------------------------------------


def prediction(lead, text):
    n_best = n_best_answers(text, [(0, len(text), 0.0)], lead)
    return with_null_threshold({"null_lead": lead, "n_best": n_best}, 0.0)


def f1_at(threshold, examples, predictions):
    answers = [with_null_threshold(found, threshold)["answer"] for found in predictions]
    return np.mean(
        [
            squad_f1(answer, [reference.text for reference in example.answers])
            for example, answer in zip(examples, answers)
        ]
    )


def test_best_null_threshold_by_hand():
    right, wrong, none = question("w1 w2", "w1"), question("w1 w2", "w2"), question("w1 w2")
    examples = [right, right, none, right, none]
    predictions = [prediction(lead, "w1") for lead in (-4.0, -1.0, 2.0, 3.0, 7.0)]
    # answered are all up to the threshold: the first two gain; then one is lost and one won
    assert best_null_threshold(examples, predictions) == 0.5
    assert (
        best_null_threshold(examples[:4], predictions[:4]) == 0.5
    )  # as good as answering all, and closer to 0
    # -5.5 is as good as answering all, which is closer to 0
    assert best_null_threshold([right, none, right], [prediction(n, "w1") for n in (-6.0, -5.0, -1.0)]) == 0
    assert (
        best_null_threshold([right, right, none], [predictions[n] for n in (3, 4, 0)]) == 8.0
    )  # all answered
    assert best_null_threshold([none, wrong], predictions[:2]) == -5.0  # none
    # equal leads cannot be told apart
    assert best_null_threshold([right, none, none], [prediction(1.0, "w1")] * 3) == 0.0
    nothing = {"null_lead": None, "n_best": n_best_answers("w1", [], -1.0)}
    assert best_null_threshold([right], [nothing]) == 0.0


@given(
    st.lists(
        st.tuples(st.integers(-4, 4).map(float), st.sampled_from(["ab", "cd", "ab cd", None])),
        min_size=1,
        max_size=12,
    )
)
@relaxed
def test_best_null_threshold_beats_every_other(rows):
    examples = [question("ab cd", *([text] if text else [])) for _, text in rows]
    predictions = [prediction(lead, "ab") for lead, _ in rows]
    found = f1_at(best_null_threshold(examples, predictions), examples, predictions)
    assert found == pytest.approx(max(f1_at(n / 4, examples, predictions) for n in range(-24, 25)))


def test_no_threshold_for_a_model_that_always_answers():
    task = small_task()
    example = question("w1 w2", "w1")
    features = task.features([example])
    found = task.predictions([example], features, list(map(perfect_logits, features)))
    with pytest.raises(ValueError, match="questions that all have an answer"):
        best_null_threshold([example], found)
    with pytest.raises(ValueError, match="'q' cannot be scored"):
        best_null_threshold([example._replace(answers=[], labelled=False)], [prediction(1.0, "w1")])


def test_a_task_takes_the_threshold_that_suits_its_predictions():
    right, none = question("w1 w2", "w1"), question("w1 w2")
    examples = [right, none, none]
    predictions = [prediction(lead, "w1") for lead in (-4.0, -2.0, -1.0)]  # at 0 all are answered
    task = small_task(unanswerable=True, null_threshold=None)
    assert task.null_threshold == 0  # until there are examples to choose by
    chosen, decided = task.calibrated(examples, predictions)
    assert chosen.null_threshold == best_null_threshold(examples, predictions) == -3
    assert [found["answer"] for found in decided] == ["w1", "", ""]
    assert chosen.score(examples, decided)["f1"] == 1
    assert task.null_threshold == 0 and chosen.max_length == 16  # the task itself is for other runs too
    for fixed in (
        small_task(unanswerable=True, null_threshold=2.5),
        small_task(unanswerable=True),
        small_task(),
    ):
        same_task, same_predictions = fixed.calibrated(examples, predictions)
        assert same_task is fixed and same_predictions is predictions
    always_answers = small_task(null_threshold=None)
    found = [each | {"null_lead": None} for each in predictions]
    assert always_answers.calibrated(examples, found) == (always_answers, found)


# ---- The task and the engine -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A folder with an untrained encoder and its tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    BertModel(CONFIG).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def test_unanswerable_questions_come_from_the_training_data():
    answered, unanswerable = question("w1", "w1"), question("w1")
    unknown = question("w1", labelled=False)
    assert not QuestionAnswering.of(TOKENIZER, [answered, unknown]).unanswerable
    task = QuestionAnswering.of(TOKENIZER, [answered, unanswerable], max_length=99, stride=7)
    assert task.unanswerable and (task.max_length, task.stride, task.max_question) == (99, 7, 64)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"stride": 0}, "stride must be at least 1"),
        ({"max_question": 0}, "max_question must be at least 1"),
        ({"max_answer": 0}, "max_answer must be at least 1"),
        ({"n_best": 1}, "n_best must be at least 2"),
        ({"null_threshold": math.nan}, "null_threshold must be a finite number, or None, not nan"),
        ({"null_threshold": math.inf}, "null_threshold must be a finite number, or None, not inf"),
        ({"max_length": 67}, r"max_length \(67\) must leave room for a question of max_question \(64\)"),
    ],
)
def test_impossible_settings(changes, words):
    with pytest.raises(ValueError, match=words):
        QuestionAnswering(TOKENIZER, **changes)


def test_a_model_too_short_for_the_windows(encoder):
    with pytest.raises(ValueError, match="max_length is 384, but .* 40 positions"):
        QuestionAnswering(TOKENIZER).new_model(encoder)


def test_saved_and_loaded(encoder, tmp_path):
    task = small_task(
        unanswerable=True, null_threshold=-0.25, max_answer=5, n_best=7, max_length=20, stride=3
    )
    model = task.new_model(encoder).eval()
    randomise(model, std=0.5)
    task.save(model, tmp_path)
    again, model_again = QuestionAnswering.load(tmp_path)
    for name in (
        "max_length",
        "stride",
        "max_question",
        "null_threshold",
        "max_answer",
        "n_best",
        "unanswerable",
    ):
        assert getattr(again, name) == getattr(task, name), name
    examples = [question(" ".join(WORDS[1:29]), "w8", asked="w30", id=str(number)) for number in range(3)]
    assert predict(again, model_again, examples, device="cpu") == predict(task, model, examples, device="cpu")


def test_a_folder_without_such_a_model(encoder, tmp_path):
    with pytest.raises(ValueError, match="BertForQuestionAnswering is needed.* is a BertModel"):
        QuestionAnswering.load(encoder)
    BertForTokenClassification(CONFIG, 3).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a BertForTokenClassification"):
        QuestionAnswering.load(tmp_path)


def test_a_model_that_others_made(tmp_path):
    config = BertConfig(**(CONFIG.to_dict() | {"max_position_embeddings": 100}))
    BertForQuestionAnswering(config).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    task, _ = QuestionAnswering.load(tmp_path)
    assert (task.max_length, task.stride, task.max_question, task.unanswerable) == (100, 128, 64, False)


def test_predictions_are_those_of_the_model_window_by_window(encoder):
    """In batches, with padding, in any order: what is predicted is what each window alone would say."""
    task = small_task(unanswerable=True)
    model = task.new_model(encoder).eval()
    randomise(model, std=0.5)
    examples = [
        question(" ".join(WORDS[1:size]), asked=" ".join(WORDS[30 : 30 + size % 4]), id=str(size))
        for size in (2, 30, 9, 17, 23, 4)
    ]
    features = task.features(examples)
    assert len(features) > len(examples) + 5
    alone = []
    for window in features:
        with torch.no_grad():
            output = model(
                torch.tensor([window.input_ids]), token_type_ids=torch.tensor([window.token_type_ids])
            )
        alone.append(torch.cat([output.start_logits, output.end_logits]).numpy())
    expected = task.predictions(examples, features, alone)
    found = predict(task, model, examples, batch_size=5, device="cpu")
    assert [row["id"] for row in found] == [example.id for example in examples]
    assert [row["answer"] for row in found] == [row["answer"] for row in expected]
    for row, other in zip(found, expected):
        assert row["probability"] == pytest.approx(other["probability"], abs=1e-5)
        assert row["null_lead"] == pytest.approx(other["null_lead"], abs=1e-4)


def marked_answers(count, seed, unanswerable):
    """The answer is the one word of w20 ... w29 among others; where there is none, there is no answer."""
    draw, examples = random.Random(seed), []
    for number in range(count):
        words = draw.choices(WORDS[:20], k=draw.randrange(4, 22))
        answers = []
        if not unanswerable or number % 3:
            at = draw.randrange(len(words))
            words[at] = draw.choice(WORDS[20:30])
            answers = [Answer(words[at], len(" ".join([*words[:at], ""])))]
        examples.append(QuestionExample(str(number), "w39 w38", " ".join(words), answers))
    return examples


@pytest.mark.parametrize("unanswerable", [False, True], ids=["1.1", "2.0"])
def test_it_learns(unanswerable, encoder, tmp_path):
    train, dev = marked_answers(300, 0, unanswerable), marked_answers(60, 1, unanswerable)
    task = QuestionAnswering.of(TOKENIZER, train, max_length=20, stride=5, max_question=4)
    recipe = Recipe(epochs=6, learning_rate=5e-3, dropout=0.0, device="cpu", precision="float32")
    result = finetune(task, encoder, train, dev, recipe, out=tmp_path / "out", report=lambda line: None)
    assert result.scores["f1"] > 0.9, result.scores
    assert ("unanswerable_accuracy" in result.scores) == unanswerable
    again, model = QuestionAnswering.load(tmp_path / "out")
    predictions = predict(again, model, dev, device="cpu")
    assert again.score(dev, predictions) == result.scores
    assert again.unanswerable == unanswerable


def test_each_model_keeps_the_threshold_of_its_best_epoch(encoder, tmp_path):
    train, dev = marked_answers(120, 0, True), marked_answers(60, 1, True)
    sizes = dict(max_length=20, stride=5, max_question=4)
    task = QuestionAnswering.of(TOKENIZER, train, **sizes, null_threshold=None)
    recipe = Recipe(epochs=3, learning_rate=3e-3, device="cpu", precision="float32")
    out = tmp_path / "out"
    found = several_seeds(task, encoder, train, dev, recipe, 2, out=out, report=lambda line: None)
    thresholds = []
    for run in found.runs:
        stored, model = QuestionAnswering.load(out / f"seed-{run['seed']}")
        at_zero, _ = QuestionAnswering.load(out / f"seed-{run['seed']}", null_threshold=0)
        predictions = predict(at_zero, model, dev, device="cpu")
        assert stored.null_threshold == pytest.approx(best_null_threshold(dev, predictions), abs=1e-4) != 0
        assert evaluate(stored, model, dev, device="cpu") == pytest.approx(run["scores"])
        assert run["scores"]["f1"] == max(line["f1"] for line in run["history"])
        assert run["scores"]["f1"] >= at_zero.score(dev, predictions)["f1"]
        thresholds.append(stored.null_threshold)
    assert len(set(thresholds)) == 2 and task.null_threshold == 0
    best, _ = QuestionAnswering.load(out)
    assert best.null_threshold == thresholds[found.best_seed] == found.best.task.null_threshold
    fixed = QuestionAnswering.of(TOKENIZER, train, **sizes, null_threshold=1.5)
    result = finetune(fixed, encoder, train, dev, replace(recipe, max_steps=1), report=lambda line: None)
    assert result.task.null_threshold == 1.5
