"""Scores: known cases worked by hand, and the rules of seqeval and of SQuAD's official script."""

import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_edu.data.tasks import Answer, QuestionExample
from bert_edu.finetuning.metrics import (
    accuracy,
    are_entity_tags,
    classification_scores,
    entity_f1,
    entity_spans,
    entity_table,
    macro_f1,
    normalized,
    pearson,
    regression_scores,
    spearman,
    squad_exact_match,
    squad_f1,
    squad_scores,
    tagging_scores,
)

# ---- Classes and numbers -----------------------------------------------------------------------------------


def test_accuracy_and_macro_f1_by_hand():
    gold, predicted = list("aaaab"), list("aaaba")
    assert accuracy(gold, predicted) == 3 / 5
    assert macro_f1(gold, predicted) == pytest.approx((3 / 4 + 0) / 2)  # a: precision and recall 3/4; b: none
    assert macro_f1(list("aab"), list("aac")) == pytest.approx((1 + 0 + 0) / 3)  # c counts as a class
    assert classification_scores(gold, predicted) == {"accuracy": 3 / 5, "macro_f1": pytest.approx(3 / 8)}


def test_correlations_by_hand():
    gold, predicted = [1.0, 2.0, 3.0], [1.0, 4.0, 9.0]
    # deviations (-1, 0, 1) and (-11/3, -2/3, 13/3): 8 / sqrt(2 * 98/3)
    assert pearson(gold, predicted) == pytest.approx(8 / math.sqrt(2 * 98 / 3))
    assert spearman(gold, predicted) == pytest.approx(1)
    assert spearman(gold, [3.0, 1.0, 2.0]) == pytest.approx(1 - 6 * (4 + 1 + 1) / (3 * 8))
    assert regression_scores(gold, predicted) == {
        "pearson": pearson(gold, predicted),
        "spearman": pytest.approx(1),
    }
    assert pearson(gold, [-number for number in gold]) == pytest.approx(-1)


def test_a_constant_correlates_with_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for gold, predicted in (([1.0, 2.0], [5.0, 5.0]), ([3.0, 3.0], [1.0, 2.0]), ([3.0, 3.0], [3.0, 3.0])):
            assert regression_scores(gold, predicted) == {"pearson": 0, "spearman": 0}


@pytest.mark.parametrize("score", [accuracy, macro_f1, pearson, entity_f1, squad_scores])
def test_what_cannot_be_scored(score):
    with pytest.raises(ValueError, match="no examples"):
        score([], [])
    with pytest.raises(ValueError, match="2 examples cannot be scored with 1 predictions"):
        score(["O", "O"], ["O"])


def test_one_number_has_no_correlation():
    with pytest.raises(ValueError, match="at least two"):
        pearson([1.0], [1.0])


# ---- Tags and entities -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("", []),
        ("O O", []),
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),  # another type begins another entity
        ("O I-PER I-PER", [("PER", 1, 3)]),  # I- without a B- before it begins one too
        ("I-PER O I-PER", [("PER", 0, 1), ("PER", 2, 3)]),
        ("I-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("B-geo-loc I-geo-loc I-geo", [("geo-loc", 0, 2), ("geo", 2, 3)]),
    ],
)
def test_entity_spans(tags, spans):
    assert entity_spans(tags.split()) == spans


@pytest.mark.parametrize("tag", ["NOUN", "B", "B-", "PER-B", "b-PER", "E-PER", ""])
def test_other_tags_are_no_entities(tag):
    with pytest.raises(ValueError, match=repr(tag)):
        entity_spans(["O", tag])


def test_entity_f1_by_hand():
    # There are PER, PER, LOC | LOC, ORG; predicted are PER (right), PER (too long) | LOC (too long).
    gold = ["B-PER I-PER O B-PER O B-LOC".split(), "B-LOC B-ORG".split()]
    predicted = ["B-PER I-PER O B-PER I-PER O".split(), "B-LOC I-LOC".split()]
    table = entity_table(gold, predicted)
    assert table["PER"] == {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "support": 2}
    assert table["LOC"] == {"precision": 0, "recall": 0, "f1": 0, "support": 2}  # one, two words long
    assert table["ORG"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert table["all"] == {"precision": 1 / 3, "recall": 1 / 5, "f1": pytest.approx(2 / 8), "support": 5}
    assert entity_f1(gold, predicted) == table["all"]["f1"]
    assert list(table) == ["LOC", "ORG", "PER", "all"]


def test_entities_end_with_their_sentence():
    assert entity_f1([["B-PER"], ["I-PER"]], [["B-PER"], ["B-PER"]]) == 1
    assert entity_table([["B-PER"], ["I-PER"]], [["O"], ["O"]])["all"]["support"] == 2


def test_the_readme_example_of_seqeval():
    gold = ["O O O B-MISC I-MISC I-MISC O".split(), "B-PER I-PER O".split()]
    predicted = ["O O B-MISC I-MISC I-MISC I-MISC O".split(), "B-PER I-PER O".split()]
    assert tagging_scores(gold, predicted, entities=True) == {"accuracy": 0.8, "f1": 0.5}


def test_no_entity_at_all():
    assert entity_table([["O"]], [["O"]]) == {"all": {"precision": 0, "recall": 0, "f1": 0, "support": 0}}
    assert entity_f1([["O"]], [["B-PER"]]) == 0


def test_tags_that_mark_no_entities():
    gold, predicted = [["DET", "NOUN"], ["VERB"]], [["DET", "NOUN"], ["NOUN"]]
    scores = tagging_scores(gold, predicted, entities=False)
    assert scores == {"accuracy": 2 / 3, "f1": pytest.approx((1 + 2 / 3 + 0) / 3)}
    assert are_entity_tags({"O", "B-PER", "I-PER"})
    assert not are_entity_tags({"O", "B-PER", "NOUN"})
    assert not are_entity_tags({"B-PER", "I-PER"})


@pytest.mark.parametrize("entities", [True, False])
def test_a_sentence_needs_a_prediction_for_each_word(entities):
    # As many in all, so that only a look at each sentence can tell.
    gold, predicted = [["O"], ["O", "O"], ["O", "O"]], [["O"], ["O"], ["O", "O", "O"]]
    with pytest.raises(ValueError, match="sentence 1 has 2 words, but 1 predicted tags"):
        tagging_scores(gold, predicted, entities=entities)


TAGS = st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), min_size=1, max_size=8)


@given(TAGS)
def test_spans_written_as_tags_give_the_same_spans(tags):
    """Spans are disjoint, cover exactly the words that are not O, and have one way to be written."""
    spans = entity_spans(tags)
    again = ["O"] * len(tags)
    for kind, start, end in spans:
        assert end > start and again[start:end] == ["O"] * (end - start)
        again[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    assert [tag[1:] for tag in again] == [tag[1:] for tag in tags]
    assert entity_spans(again) == spans
    assert entity_f1([tags], [again]) == float(bool(spans))


# ---- Answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Quick, brown\tfox!", "quick brown fox"),
        ("U.S.", "us"),
        ("twenty-one", "twentyone"),
        (
            "A-level an another theme",
            "alevel another theme",
        ),  # "a" is glued on before articles are looked for
        ("“Yes” – he said", "“yes” – he said"),  # only ASCII's punctuation goes
        ("the “a” an", "“ ”"),  # the article between curly quotation marks goes all the same
        ("l'a b", "la b"),
        ("$3 million (1.5%)", "3 million 15"),
        ("The.", ""),
        ("ÉCOLE\u00a0a", "école"),
    ],
)
def test_normalized(text, expected):
    assert normalized(text) == expected


@pytest.mark.parametrize(
    ("prediction", "references", "exact", "f1"),
    [
        ("the Denver Broncos", ["Denver Broncos"], 1, 1),
        ("Broncos", ["Denver Broncos"], 0, 2 / 3),  # precision 1, recall 1/2
        ("the big big cat", ["big cat"], 0, 4 / 5),  # big big cat: precision 2/3, recall 1
        ("big big cat", ["big big"], 0, 4 / 5),  # words count as often as they occur
        ("in 1923", ["1923", "in the year 1923", "the year"], 0, 4 / 5),  # 2/3, 4/5 and 0
        ("dog", ["cat"], 0, 0),
        ("", ["cat"], 0, 0),
        ("", [], 1, 1),
        ("cat", [], 0, 0),
        ("the", [], 1, 1),  # nothing is left of it, so it is the empty answer
        ("the", ["a"], 1, 1),  # a reference of which nothing is left does not count: no answer is right
        ("", ["the", "cat"], 0, 0),  # ... unless there is another
        ("U. S.", ["U.S."], 0, 0),  # "u s" and "us"
    ],
)
def test_exact_match_and_f1_by_hand(prediction, references, exact, f1):
    assert squad_exact_match(prediction, references) == exact
    assert squad_f1(prediction, references) == pytest.approx(f1)


TEXTS = st.lists(st.sampled_from(["the", "cat", "Cat", "dog.", "!", "on", ""]), max_size=4).map(" ".join)


@given(TEXTS, st.lists(TEXTS, max_size=3))
def test_exact_match_and_f1_fit_together(prediction, references):
    f1 = squad_f1(prediction, references)
    assert 0 <= f1 <= 1
    if squad_exact_match(prediction, references):
        assert f1 == 1
    assert squad_f1(prediction, [*references, prediction + " cat"]) >= f1 or not any(
        map(normalized, references)
    )


def example(answers, labelled=True):
    return QuestionExample("q", "?", "context", [Answer(text, 0) for text in answers], labelled)


def test_squad_scores_of_both_versions():
    answerable = [example(["Denver Broncos", "Broncos"]), example(["cat"])]
    assert squad_scores(answerable, ["The Broncos", "a big cat"]) == {
        "exact_match": 1 / 2,
        "f1": pytest.approx((1 + 2 / 3) / 2),
    }
    mixed = [*answerable, example([]), example([])]
    assert squad_scores(mixed, ["The Broncos", "", "", "dog"]) == {
        "exact_match": 2 / 4,
        "f1": 2 / 4,
        "answerable_exact_match": 1 / 2,
        "answerable_f1": 1 / 2,
        "unanswerable_accuracy": 1 / 2,
    }
    assert squad_scores([example([])], [""]) == {"exact_match": 1, "f1": 1}


def test_a_question_nobody_answered_cannot_be_scored():
    with pytest.raises(ValueError, match="'q' cannot be scored"):
        squad_scores([example(["cat"]), example([], labelled=False)], ["cat", ""])
