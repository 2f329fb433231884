"""Baselines: what they predict on examples small enough to work out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_edu.data.tasks import Answer, QuestionExample, TaggedSentence, TextExample
from bert_edu.finetuning.baselines import (
    Baseline,
    bag_of_words,
    baselines,
    best_baseline,
    first_sentence,
    majority_class,
    mean_number,
    most_frequent_tag,
    no_answer,
    overlapping_sentence,
)


def texts(*rows):
    return [TextExample(text, None, label) for text, label in rows]


def labels(baseline):
    return [prediction["label"] for prediction in baseline.predictions]


# ---- Texts -------------------------------------------------------------------------------------------------


def test_majority_class():
    train = texts(("a", "no"), ("b", "yes"), ("c", "yes"), ("d", "no"), ("e", "yes"))
    dev = texts(("a", "no"), ("b", "yes"), ("c", "no"), ("d", "no"))
    baseline = majority_class(train, dev)  # by the training examples, though "no" is more frequent here
    assert baseline.predictions == [{"label": "yes", "probabilities": {"no": 0.4, "yes": 0.6}}] * 4
    assert baseline.scores == {"accuracy": 1 / 4, "macro_f1": pytest.approx((0 + 2 / 5) / 2)}


def test_mean_number():
    baseline = mean_number(texts(("a", 1.0), ("b", 4.0)), texts(("c", 2.0), ("d", 8.0), ("e", 5.0)))
    assert baseline.predictions == [{"label": 2.5}] * 3
    assert baseline.scores == {"pearson": 0, "spearman": 0}


def test_bag_of_words_reads_words():
    train = texts(
        *[(f"a good film {i}", "pos") for i in range(9)], *[(f"a bad film {i}", "neg") for i in range(9)]
    )
    dev = texts(("GOOD!", "pos"), ("BAD bad", "neg"), ("BAD!", "neg"), ("a good idea", "neg"))
    baseline = bag_of_words(train, dev)
    assert labels(baseline) == ["pos", "neg", "neg", "pos"]
    assert baseline.scores["accuracy"] == 3 / 4
    for prediction in baseline.predictions:
        assert list(prediction["probabilities"]) == ["neg", "pos"]
        assert sum(prediction["probabilities"].values()) == pytest.approx(1)
        assert max(prediction["probabilities"], key=prediction["probabilities"].get) == prediction["label"]


def test_bag_of_words_reads_neighbours():
    """The same words in both classes: only which stand side by side tells them apart."""
    train = texts(("not good but bad", "neg"), ("not bad but good", "pos"))
    dev = texts(("not bad", "pos"), ("not good", "neg"), ("but good", "pos"), ("but bad", "neg"))
    assert bag_of_words(train, dev).scores["accuracy"] == 1


def test_bag_of_words_gives_a_number_to_each_class_by_name():
    train = texts(*[(f"{word} {i}", word) for word in ("red", "green", "blue") for i in range(5)])
    baseline = bag_of_words(train, texts(("green", "green"), ("blue", "blue"), ("red", "red")))
    assert baseline.scores == {"accuracy": 1, "macro_f1": 1}
    assert list(baseline.predictions[0]["probabilities"]) == ["blue", "green", "red"]


def test_bag_of_words_of_pairs_sees_what_both_sides_share():
    """No word of the development pairs occurs in training, so only the share of common words can tell."""

    def pairs(words):
        return [
            TextExample(f"{a} {b}", f"{b} {a}" if same else f"{c} {d}", "yes" if same else "no")
            for a, b, c, d in zip(words, words[1:], words[2:], words[3:])
            for same in (True, False)
        ]

    train, dev = pairs([f"w{i}" for i in range(30)]), pairs([f"v{i}" for i in range(10)])
    assert bag_of_words(train, dev).scores["accuracy"] == 1


@pytest.mark.parametrize("longer", ["first", "second"])
def test_bag_of_words_of_pairs_measures_the_share_of_each_side(longer):
    """One side is all in the other, and no word of dev occurs in training: the longer side tells."""

    def pairs(letter):
        examples = []
        for n in range(8):
            short = f"{letter}{n} {letter}{n + 100}"
            rest = " ".join(f"{letter}{n + 1000 * more}" for more in range(1, 7))
            for long, label in ((short, "all"), (f"{short} {rest}", "part")):
                first, second = (long, short) if longer == "first" else (short, long)
                examples.append(TextExample(first, second, label))
        return examples

    assert bag_of_words(pairs("w"), pairs("v")).scores["accuracy"] == 1


def test_bag_of_words_of_pairs_tells_the_sides_apart():
    train = [TextExample("cat", "dog", "a"), TextExample("dog", "cat", "b")] * 3
    assert bag_of_words(train, train[:2]).scores["accuracy"] == 1


def test_bag_of_words_gives_numbers_where_labels_are_numbers():
    train = texts(
        *[(f"{word} film", number) for word, number in (("good", 5.0), ("fair", 3.0), ("bad", 1.0))] * 5
    )
    baseline = bag_of_words(train, texts(("bad", 0.0), ("fair", 2.5), ("good", 4.0)))
    low, middle, high = labels(baseline)
    assert 1 < low < middle < high < 5
    assert baseline.scores["spearman"] == pytest.approx(1)


def test_bag_of_words_needs_two_classes():
    with pytest.raises(ValueError, match="'yes'"):
        bag_of_words(texts(("a", "yes"), ("b", "yes")), texts(("a", "yes")))


# ---- Tags --------------------------------------------------------------------------------------------------


def test_most_frequent_tag():
    train = [
        TaggedSentence("the run ran".split(), "DET NOUN VERB".split()),
        TaggedSentence("they run a run".split(), "PRON VERB DET NOUN".split()),
        TaggedSentence("Run dogs run".split(), "VERB NOUN VERB".split()),
        TaggedSentence("cats run".split(), "NOUN VERB".split()),
    ]  # run: NOUN 2, VERB 3; of all: VERB 5, NOUN 4
    dev = [TaggedSentence("the cats run".split(), "DET NOUN NOUN".split()), TaggedSentence(["fast"], ["ADV"])]
    baseline = most_frequent_tag(train, dev)
    assert baseline.predictions == [
        {"words": ["the", "cats", "run"], "tags": ["DET", "NOUN", "VERB"], "probabilities": [1, 1, 3 / 5]},
        {"words": ["fast"], "tags": ["VERB"], "probabilities": [5 / 12]},
    ]
    # F1: DET 1, NOUN 2/3, VERB 0, ADV 0
    assert baseline.scores == {"accuracy": 2 / 4, "f1": pytest.approx((1 + 2 / 3) / 4)}


def test_most_frequent_tag_of_entities():
    train = [TaggedSentence("Ada met New York".split(), "B-PER O B-LOC I-LOC".split())] * 2
    train += [TaggedSentence("York is a place".split(), "O O O O".split())]
    dev = [TaggedSentence("New York met Ada".split(), "B-LOC I-LOC O B-PER".split())]
    assert most_frequent_tag(train, dev).scores == {"accuracy": 1, "f1": 1}


# ---- Answers -----------------------------------------------------------------------------------------------

FIRST, SECOND = "Zoë was born in Łódź.", "She moved to Paris in 1923."
THIRD = "Paris was warm, Paris was dear, and she never left Paris."
CONTEXT = f"{FIRST} {SECOND} {THIRD}"


def question(text, answer, identity="q"):
    answers = [Answer(answer, CONTEXT.index(answer))] if answer else []
    return QuestionExample(identity, text, CONTEXT, answers)


def answers(baseline):
    return [prediction["answer"] for prediction in baseline.predictions]


def test_sentences_as_answers():
    dev = [
        question("Where did she move to in the year 1923?", "Paris", "q1"),  # she, to, in, 1923
        question("Who never left?", "she", "q2"),  # never, left: the last sentence
        question("Why?", "", "q3"),  # nothing in common with any: the first
    ]
    assert answers(first_sentence([], dev)) == [FIRST] * 3
    baseline = overlapping_sentence([], dev)
    assert answers(baseline) == [SECOND, THIRD, FIRST]
    assert [prediction["id"] for prediction in baseline.predictions] == ["q1", "q2", "q3"]
    # 1 of 6 words is right, then 1 of 11; for the last, only the empty answer would be
    assert baseline.scores["f1"] == pytest.approx((2 / 7 + 2 / 12 + 0) / 3)
    assert baseline.scores["exact_match"] == 0


def test_words_of_the_question_count_once():
    """Paris, thrice in the last sentence, is one word in common with it; two are with the second."""
    assert answers(overlapping_sentence([], [question("Paris: moved?", "1923")])) == [SECOND]


def test_no_answer():
    baseline = no_answer([], [question("Why?", ""), question("Where?", "Paris")])
    assert answers(baseline) == ["", ""]
    assert (baseline.scores["exact_match"], baseline.scores["unanswerable_accuracy"]) == (1 / 2, 1)


@given(st.text(max_size=80), st.text(max_size=20))
def test_answers_stand_in_the_context(context, asked):
    example = QuestionExample("q", asked, context, [])
    for baseline in baselines([example], [example]):
        assert answers(baseline)[0] in context


# ---- All together ------------------------------------------------------------------------------------------


def test_all_that_fit_the_examples():
    def names(train, dev):
        return [baseline.name for baseline in baselines(train, dev)]

    classes, numbers = texts(("a b", "x"), ("c d", "y")), texts(("a b", 1.5), ("c d", 2.5))
    assert names(classes, classes) == ["majority class", "bag of words"]
    assert names(numbers, numbers) == ["mean", "bag of words"]
    tagged = [TaggedSentence(["a"], ["X"])]
    assert names(tagged, tagged) == ["most frequent tag"]
    answerable, mixed = [question("Where?", "Paris")], [question("Where?", "Paris"), question("Why?", "")]
    assert names(answerable, answerable) == ["first sentence", "overlapping sentence"]
    assert names(mixed, mixed) == ["no answer", "first sentence", "overlapping sentence"]


def test_the_best_of_them():
    low, high = (
        Baseline("low", [], {"f1": 0.2, "accuracy": 0.9}),
        Baseline("high", [], {"f1": 0.3, "accuracy": 0.1}),
    )
    assert best_baseline([low, high], "f1") is high
    assert best_baseline([low, high], "accuracy") is low
