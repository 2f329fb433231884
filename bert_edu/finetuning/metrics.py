"""How good is it? The scores of the four kinds of tasks (chapters 13 to 15).

    classes     classification_scores: accuracy, macro_f1
    numbers     regression_scores: pearson, spearman
    tags        tagging_scores: accuracy, and entity_f1 or macro_f1; entity_table
    answers     squad_scores: squad_exact_match, squad_f1

Scores are shares between 0 and 1 (correlations between -1 and 1), never percentages. Models and baselines are
measured by the same functions.
"""

import re
import string
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import chain

import numpy as np
from scipy import stats
from sklearn.metrics import f1_score

from ..data.tasks import QuestionExample

OUTSIDE = "O"
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII's only, as in the official script

# ---- 1. Classes and numbers --------------------------------------------------------------------------------


def classification_scores(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """`accuracy` and `macro_f1`."""
    return {"accuracy": accuracy(gold, predicted), "macro_f1": macro_f1(gold, predicted)}


def regression_scores(gold: Sequence[float], predicted: Sequence[float]) -> dict[str, float]:
    """`pearson` and `spearman`."""
    return {"pearson": pearson(gold, predicted), "spearman": spearman(gold, predicted)}


def accuracy(gold: Sequence, predicted: Sequence) -> float:
    """The share of predictions that are right.

    Raises:
        ValueError: when there is nothing to score, or not one prediction for each example.
    """
    _check_lengths(gold, predicted)
    return sum(right == guess for right, guess in zip(gold, predicted)) / len(gold)


def macro_f1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """The mean of the classes' F1: a rare class counts as much as a frequent one.

    Over the classes that occur in either argument, as scikit-learn has it; a class that is never predicted,
    or never right, has an F1 of 0.
    """
    _check_lengths(gold, predicted)
    return float(f1_score(gold, predicted, average="macro", zero_division=0))


def pearson(gold: Sequence[float], predicted: Sequence[float]) -> float:
    """How well a straight line through (predicted, gold) fits, between -1 and 1; 0 where one is constant."""
    return _correlation(stats.pearsonr, gold, predicted)


def spearman(gold: Sequence[float], predicted: Sequence[float]) -> float:
    """Pearson's correlation of the ranks: is the order right? Between -1 and 1; 0 where one is constant."""
    return _correlation(stats.spearmanr, gold, predicted)


def _correlation(function, gold: Sequence[float], predicted: Sequence[float]) -> float:
    _check_lengths(gold, predicted)
    if len(gold) < 2:
        raise ValueError("a correlation needs at least two examples")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        value = float(function(gold, predicted).statistic)
    return value if np.isfinite(value) else 0.0  # it is not defined for a constant, which tells nothing


def _check_lengths(gold: Sequence, predicted: Sequence):
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} examples cannot be scored with {len(predicted)} predictions")
    if not len(gold):
        raise ValueError("there is nothing to score: no examples")


# ---- 2. Tags and entities ----------------------------------------------------------------------------------


def tagging_scores(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], entities: bool
) -> dict[str, float]:
    """`accuracy` over all words, and `f1`: that of the entities, or else the mean of all the tags' F1.

    Args:
        gold, predicted: the tags of each sentence.
        entities: whether the tags of the training sentences mark entities: see `are_entity_tags`.

    Raises:
        ValueError: where a sentence has not one prediction for each word.
    """
    _check_words(gold, predicted)
    right, guesses = (list(chain.from_iterable(sentences)) for sentences in (gold, predicted))
    f1 = entity_f1(gold, predicted) if entities else macro_f1(right, guesses)
    return {"accuracy": accuracy(right, guesses), "f1": f1}


def are_entity_tags(tags: Collection[str]) -> bool:
    """Whether tags mark entities (all are "O", B-type or I-type), unlike those of parts of speech."""
    return OUTSIDE in tags and all(map(is_entity_tag, tags))


def is_entity_tag(tag: str) -> bool:
    """Whether a tag is "O", or "B-" or "I-" and a type: what `entity_f1` can score."""
    return tag == OUTSIDE or (tag[:2] in ("B-", "I-") and len(tag) > 2)


def entity_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The entities of one sentence as (type, start, end): words start to end - 1 make up the entity.

    "B-" begins an entity. So does "I-" after "O" or after another type: what a model marked counts even where
    it forgot the "B-". Source: seqeval's default mode, which is the rule of CoNLL's script conlleval.

    Raises:
        ValueError: for a tag that is neither "O" nor "B-" or "I-" and a type.
    """
    spans, kind, start = [], None, 0
    for i, tag in enumerate([*tags, OUTSIDE]):
        if not is_entity_tag(tag):
            raise ValueError(f"{tag!r} is no entity tag; O, B-type or I-type would be right")
        new_kind = None if tag == OUTSIDE else tag[2:]
        if kind is not None and (tag.startswith("B-") or new_kind != kind):
            spans.append((kind, start, i))
            kind = None
        if kind is None and new_kind is not None:
            kind, start = new_kind, i
    return spans


def entity_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """F1 over all entities: one counts as found when its type, its start and its end are right.

    Args:
        gold, predicted: the tags of each sentence.

    Raises:
        ValueError: for other tags than B-, I- and O, and where a sentence has not one prediction for each
            word.
    """
    return entity_table(gold, predicted)["all"]["f1"]


def entity_table(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support (how many there are) of each type of entity, and of "all" together.

    A share of nothing is 0, as in seqeval: where there is no entity and none was predicted, F1 is 0.
    """
    _check_words(gold, predicted)
    there, found, right = Counter(), Counter(), Counter()
    for tags, guesses in zip(gold, predicted):
        spans, guessed = set(entity_spans(tags)), set(entity_spans(guesses))
        for counter, chosen in ((there, spans), (found, guessed), (right, spans & guessed)):
            counter.update(kind for kind, _, _ in chosen)
    kinds = sorted(there | found)
    table = {kind: _precision_recall(there[kind], found[kind], right[kind]) for kind in kinds}
    return {**table, "all": _precision_recall(there.total(), found.total(), right.total())}


def _check_words(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]):
    _check_lengths(gold, predicted)
    for number, (tags, guesses) in enumerate(zip(gold, predicted)):
        if len(tags) != len(guesses):
            raise ValueError(f"sentence {number} has {len(tags)} words, but {len(guesses)} predicted tags")


def _precision_recall(there: int, found: int, right: int) -> dict[str, float]:
    return {
        "precision": right / found if found else 0.0,
        "recall": right / there if there else 0.0,
        "f1": 2 * right / (there + found) if there + found else 0.0,
        "support": there,
    }


# ---- 3. Answers --------------------------------------------------------------------------------------------


def normalized(text: str) -> str:
    """An answer as SQuAD compares it: lower case, without punctuation, articles and superfluous white space.

    In the official script's order, with its oddities: punctuation goes first and leaves no gap ("U.S." is
    "us", "twenty-one" is "twentyone"), and only ASCII's goes (a curly quotation mark stays).
    Source: the official evaluate-v2.0.py (Rajpurkar et al. 2018).
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def squad_exact_match(prediction: str, references: Iterable[str]) -> float:
    """1 when a prediction equals one of the references after `normalized`, otherwise 0.

    Args:
        references: the answers of several people; none at all when the question has no answer. Then, and only
            then, the empty prediction is right.
    """
    guess = normalized(prediction)
    return float(any(guess == reference for reference in _normalized_references(references)))


def squad_f1(prediction: str, references: Iterable[str]) -> float:
    """F1 over the words that a prediction shares with a reference, for the best of the references.

    Words count as often as they occur. Where the prediction or the reference is empty, 1 if both are, else 0.
    """
    words = normalized(prediction).split()
    return max(_word_f1(words, reference.split()) for reference in _normalized_references(references))


def _normalized_references(references: Iterable[str]) -> list[str]:
    """References of which nothing is left ("the") do not count; without any, the right answer is none."""
    return [text for text in map(normalized, references) if text] or [""]


def _word_f1(guess: list[str], reference: list[str]) -> float:
    if not guess or not reference:
        return float(guess == reference)
    shared = (Counter(guess) & Counter(reference)).total()
    return 2 * shared / (len(guess) + len(reference))


def squad_scores(examples: Sequence[QuestionExample], predictions: Sequence[str]) -> dict[str, float]:
    """Means over all questions: `exact_match` and `f1`; with both kinds of questions, of each kind as well.

    By version 2.0's script for both versions of SQuAD. Version 1.1's differs only for an answer of which
    nothing is left after `normalized`.

    Args:
        predictions: the answer to each question; "" says that there is none.

    Returns:
        `exact_match`, `f1`; and, where some questions have no answer and others have one, `answerable_f1`,
        `answerable_exact_match` and `unanswerable_accuracy`.

    Raises:
        ValueError: for a question of which nobody said what its answer is.
    """
    _check_lengths(examples, predictions)
    if unknown := [example.id for example in examples if not example.labelled]:
        raise ValueError(f"question {unknown[0]!r} cannot be scored: the data say nothing about its answer")
    references = [[answer.text for answer in example.answers] for example in examples]
    exact = np.array([squad_exact_match(*pair) for pair in zip(predictions, references)])
    f1 = np.array([squad_f1(*pair) for pair in zip(predictions, references)])
    scores = {"exact_match": float(exact.mean()), "f1": float(f1.mean())}
    answerable = np.array([bool(texts) for texts in references])
    if answerable.any() and not answerable.all():
        scores["answerable_exact_match"] = float(exact[answerable].mean())
        scores["answerable_f1"] = float(f1[answerable].mean())
        scores["unanswerable_accuracy"] = float(exact[~answerable].mean())
    return scores
