"""What is a score worth? Answers that need no neural network, for each kind of task (chapters 13 to 15).

    classes    majority_class; bag_of_words: logistic regression on words and neighbouring words
    numbers    mean_number; bag_of_words: ridge regression on the same
    tags       most_frequent_tag of each word
    answers    first_sentence; overlapping_sentence; no_answer

Each is a function of training and development examples and gives predictions in the form that the models'
have, and their scores. `baselines(train, dev)` runs all that fit the examples.
"""

import re
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from ..data.tasks import QuestionExample, TaggedSentence, TextExample
from ..data.text import split_sentences
from .metrics import (
    are_entity_tags,
    classification_scores,
    normalized,
    regression_scores,
    squad_scores,
    tagging_scores,
)

WORD = re.compile(r"\w+|[^\w\s]")  # a word, or a single mark of punctuation


class Baseline(NamedTuple):
    """What a baseline says about the development examples, and how good that is.

    Attributes:
        predictions: one a development example, as a model for the task gives them.
        scores: by the task's metrics.
    """

    name: str
    predictions: list[dict]
    scores: dict[str, float]


def baselines(train: list, dev: list) -> list[Baseline]:
    """All baselines for examples of this kind, the simplest first.

    Args:
        train, dev: lists of `TextExample`, `TaggedSentence` or `QuestionExample`, all of them labelled.
    """
    if isinstance(dev[0], TaggedSentence):
        return [most_frequent_tag(train, dev)]
    if isinstance(dev[0], QuestionExample):
        without = [no_answer(train, dev)] if not all(example.answers for example in dev) else []
        return [*without, first_sentence(train, dev), overlapping_sentence(train, dev)]
    simplest = mean_number if _is_regression(train) else majority_class
    return [simplest(train, dev), bag_of_words(train, dev)]


def best_baseline(candidates: list[Baseline], metric: str) -> Baseline:
    """The one with the highest score: what a model has to beat."""
    return max(candidates, key=lambda baseline: baseline.scores[metric])


# ---- 1. Texts ----------------------------------------------------------------------------------------------


def majority_class(train: list[TextExample], dev: list[TextExample]) -> Baseline:
    """Always the most frequent class of the training examples; of several, the one that comes first."""
    counts = Counter(example.label for example in train)
    shares = {name: count / len(train) for name, count in sorted(counts.items())}
    prediction = {"label": counts.most_common(1)[0][0], "probabilities": shares}
    return _scored_texts("majority class", dev, [prediction] * len(dev))


def mean_number(train: list[TextExample], dev: list[TextExample]) -> Baseline:
    """Always the mean of the training examples' numbers, which correlates with nothing: 0."""
    prediction = {"label": float(np.mean([example.label for example in train]))}
    return _scored_texts("mean", dev, [prediction] * len(dev))


def bag_of_words(train: list[TextExample], dev: list[TextExample]) -> Baseline:
    """A linear model of which words, and which two neighbouring words, occur in a text.

    Words are in lower case and weighted by tf-idf. A pair has the words of either side, those on both sides,
    and two numbers besides: the share of each side's words that the other has too. The model is
    scikit-learn's logistic regression (C = 10), or ridge regression where the labels are numbers.

    Raises:
        ValueError: when all training examples have the same class.
    """
    vectorizer = TfidfVectorizer(analyzer=_word_features)
    inputs = _with_shares(vectorizer.fit_transform(train), train)  # (training examples, features), sparse
    labels = [example.label for example in train]
    if not _is_regression(train):
        if len(set(labels)) < 2:
            raise ValueError(f"all training examples have the label {labels[0]!r}: there is nothing to learn")
        model = LogisticRegression(C=10, max_iter=1000).fit(inputs, labels)
        shares = model.predict_proba(_with_shares(vectorizer.transform(dev), dev))  # (examples, classes)
        names = [str(name) for name in model.classes_]
        predictions = [
            {"label": names[row.argmax()], "probabilities": dict(zip(names, row.tolist()))} for row in shares
        ]
    else:
        model = Ridge().fit(inputs, labels)
        numbers = model.predict(_with_shares(vectorizer.transform(dev), dev))  # (examples,)
        predictions = [{"label": float(number)} for number in numbers]
    return _scored_texts("bag of words", dev, predictions)


def _is_regression(train: list[TextExample]) -> bool:
    return isinstance(train[0].label, float)


def _scored_texts(name: str, dev: list[TextExample], predictions: list[dict]) -> Baseline:
    scores = regression_scores if _is_regression(dev) else classification_scores
    gold, found = [example.label for example in dev], [prediction["label"] for prediction in predictions]
    return Baseline(name, predictions, scores(gold, found))


def _word_features(example: TextExample) -> list[str]:
    """The names of what occurs in an example, as often as it occurs."""
    first = _grams(example.first)
    if example.second is None:
        return first
    second = _grams(example.second)
    both = sorted(set(first) & set(second))
    return [f"{side}:{gram}" for side, grams in enumerate((both, first, second)) for gram in grams]


def _grams(text: str) -> list[str]:
    words = WORD.findall(text.lower())
    return words + [f"{left} {right}" for left, right in zip(words, words[1:])]


def _with_shares(inputs: sparse.spmatrix, examples: list[TextExample]) -> sparse.spmatrix:
    """Two more columns for pairs: the share of each side's words that the other side has."""
    if examples[0].second is None:
        return inputs
    shares = np.array([_shares(example) for example in examples])  # (examples, 2)
    return sparse.hstack([inputs, sparse.csr_matrix(shares)]).tocsr()


def _shares(example: TextExample) -> tuple[float, float]:
    first, second = (set(WORD.findall(text.lower())) for text in (example.first, example.second))
    both = len(first & second)
    return both / max(len(first), 1), both / max(len(second), 1)


# ---- 2. Tags -----------------------------------------------------------------------------------------------


def most_frequent_tag(train: list[TaggedSentence], dev: list[TaggedSentence]) -> Baseline:
    """Each word's most frequent tag in training; for a word that is new, the most frequent tag of all."""
    of_word, overall = defaultdict(Counter), Counter()
    for words, tags in train:
        overall.update(tags)
        for word, tag in zip(words, tags):
            of_word[word][tag] += 1
    guesses = {word: _tag_and_share(counts) for word, counts in of_word.items()}
    new_word = _tag_and_share(overall)
    predictions = []
    for words, _ in dev:
        tags, shares = zip(*(guesses.get(word, new_word) for word in words))
        predictions.append({"words": words, "tags": list(tags), "probabilities": list(shares)})
    gold, found = [tags for _, tags in dev], [prediction["tags"] for prediction in predictions]
    scores = tagging_scores(gold, found, are_entity_tags(overall))
    return Baseline("most frequent tag", predictions, scores)


def _tag_and_share(counts: Counter) -> tuple[str, float]:
    tag, count = counts.most_common(1)[0]
    return tag, count / counts.total()


# ---- 3. Answers --------------------------------------------------------------------------------------------


def no_answer(train: list[QuestionExample], dev: list[QuestionExample]) -> Baseline:
    """Always that the text has no answer: right for half of SQuAD 2.0's development set."""
    return _scored_answers("no answer", dev, ["" for _ in dev])


def first_sentence(train: list[QuestionExample], dev: list[QuestionExample]) -> Baseline:
    """The first sentence of the text, whatever the question."""
    return _scored_answers("first sentence", dev, [_sentences(example)[0] for example in dev])


def overlapping_sentence(train: list[QuestionExample], dev: list[QuestionExample]) -> Baseline:
    """The sentence that has the most different words in common with the question; the first of several."""
    return _scored_answers("overlapping sentence", dev, [_overlapping(example) for example in dev])


def _overlapping(example: QuestionExample) -> str:
    asked = set(normalized(example.question).split())
    return max(_sentences(example), key=lambda sentence: len(asked & set(normalized(sentence).split())))


def _sentences(example: QuestionExample) -> list[str]:
    return split_sentences(example.context) or [""]


def _scored_answers(name: str, dev: list[QuestionExample], answers: list[str]) -> Baseline:
    predictions = [
        {"id": example.id, "question": example.question, "answer": answer}
        for example, answer in zip(dev, answers)
    ]
    return Baseline(name, predictions, squad_scores(dev, answers))
