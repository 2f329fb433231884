"""The little texts: complete, cut rightly, one of a kind, split so that nothing leaks."""

import json
import re
from collections import Counter

import describe_little_texts as program
import pytest

from bert_edu.data.little_texts import (
    FILE,
    KINDS,
    LITTLE_TASKS,
    SENTIMENTS,
    SIDES,
    little_task,
    little_texts,
    without_marks,
)
from bert_edu.data.pydocs import stretches
from bert_edu.finetuning.metrics import entity_spans
from bert_edu.notebook import results

TEXTS = little_texts()


def test_the_marks_are_taken_out():
    text, names = without_marks("On [Monday|time] [Nora|person]'s boat left.")
    assert text == "On Monday Nora's boat left."
    assert [(text[start:end], kind) for start, end, kind in names] == [("Monday", "time"), ("Nora", "person")]
    assert without_marks("No name.") == ("No name.", [])


def test_there_are_enough_of_them():
    assert len(TEXTS) >= 240 and len({text.id for text in TEXTS}) == len(TEXTS)
    assert len({text.kind for text in TEXTS}) >= 20
    for text in TEXTS:
        assert 80 <= len(text.text.split()) <= 150, text.id
        assert not re.search(r"[\[\]|]", text.text), text.id


def test_sentiments_are_balanced():
    counts = Counter(text.sentiment for text in TEXTS)
    assert set(counts) == set(SENTIMENTS) and min(counts.values()) > len(TEXTS) / 4


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.id)
def test_names_and_answers_stand_in_the_text(text):
    row = next(row for row in map(json.loads, FILE.read_text().splitlines()) if row["id"] == text.id)
    marked = re.findall(r"\[([^|\]]+)\|(\w+)\]", row["text"])
    assert [(text.text[start:end], kind) for start, end, kind in text.names] == marked
    assert len(marked) >= 3 and {kind for _, kind in marked} <= set(KINDS)
    answers = [None if start is None else text.text[start:end] for _, start, end in text.questions]
    assert answers == [asked["answer"] for asked in row["questions"]]
    assert len(answers) == 4 and answers.count(None) == 1
    for answer in answers:
        if answer is not None:
            assert len(re.findall(rf"(?<!\w){re.escape(answer)}(?!\w)", text.text)) == 1


def test_the_sides_share_nothing():
    sides = {side: little_texts(side) for side in SIDES}
    assert sorted(text.id for texts in sides.values() for text in texts) == sorted(text.id for text in TEXTS)
    runs = {
        side: set().union(*(stretches([text.text], 7) for text in texts)) for side, texts in sides.items()
    }
    assert (
        not runs["train"] & runs["test"]
        and not runs["train"] & runs["dev"]
        and not runs["dev"] & runs["test"]
    )
    assert len(sides["train"]) > 2 * len(sides["dev"]) and abs(len(sides["dev"]) - len(sides["test"])) <= 1
    with pytest.raises(ValueError, match="train, dev, test, all"):
        little_texts("valid")


def test_the_data_card_is_made_from_the_results():
    figures = results("little_texts")["figures"]
    assert program.CARD.read_text(encoding="utf-8") == program.card(figures)
    assert figures["description"] == program.description()
    assert figures["agreement"] == program.agreement()
    assert figures["agreement"]["sentiment"]["kappa"] > 0.6 and figures["agreement"]["names"]["span F1"] > 0.7


def test_kappa_by_hand():
    # 3 of 4 agree; by chance 1/2 * 3/4 + 1/2 * 1/4 = 1/2
    assert program.kappa([("a", "a"), ("a", "a"), ("b", "b"), ("b", "a")]) == pytest.approx(0.5)


def test_every_name_is_one_span_of_whole_words():
    found, expected = Counter(), Counter()
    for side in SIDES:
        for words, tags in little_task("names", side):
            assert len(words) == len(tags)
            for kind, start, end in entity_spans(tags):
                found[kind, "".join(words[start:end])] += 1
        for text in little_texts(side):
            for start, end, kind in text.names:
                expected[kind, re.sub(r"\s", "", text.text[start:end])] += 1
    assert found == expected


def test_no_word_is_lost_between_the_sentences():
    for side in SIDES:
        words = "".join(word for sentence in little_task("names", side) for word in sentence.words)
        assert words == "".join(re.sub(r"\s", "", text.text) for text in little_texts(side))


def test_questions_and_sentiments_become_examples():
    for side in SIDES:
        questions = little_task("questions", side)
        for question in questions:
            for answer in question.answers:
                assert question.context[answer.start : answer.start + len(answer.text)] == answer.text
        assert sum(not question.answers for question in questions) == len(little_texts(side))
        assert len({question.id for question in questions}) == len(questions)
        texts = [(text.text, text.sentiment) for text in little_texts(side)]
        assert [(example.first, example.label) for example in little_task("sentiment", side)] == texts
    with pytest.raises(ValueError, match="choose from " + ", ".join(LITTLE_TASKS)):
        little_task("mood", "train")
