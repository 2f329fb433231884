"""Vocabularies from a corpus: by frequency with the `tokenizers` library, and by the book's merge score."""

from collections import Counter

import pytest

from bert_edu import BertTokenizer, train_wordpiece
from bert_edu.data.vocabulary import METHODS, train_vocabulary
from bert_edu.tokenization import SPECIAL_TOKENS, joined, merge_pair, split_characters

WORDS = {"low": 50, "lower": 21, "newest": 60, "widest": 31, "slow": 9}
DOCUMENTS = [[" ".join([word] * count) for word, count in WORDS.items()]]


def merges_by_frequency(counts):
    """All merges of plain byte-pair encoding, every pair counted anew each time."""
    words = {word: split_characters(word) for word in counts}
    merges = []
    while True:
        pairs = Counter()
        for word, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            return merges
        ranked = [*pairs.most_common(2), (None, 0)]
        assert ranked[0][1] > ranked[1][1], "a tie: there is no one right order"
        words = {word: merge_pair(pieces, ranked[0][0]) for word, pieces in words.items()}
        merges.append(joined(ranked[0][0]))


def test_by_frequency_the_most_frequent_pair_is_merged():
    counts = {"abcd": 40, "bc": 33, "cd": 21, "ab": 9, "bcd": 4}
    given = [*SPECIAL_TOKENS, *"abcd", "##a", "##b", "##c", "##d"]
    expected = merges_by_frequency(counts)
    assert len(expected) == 6
    documents = [[" ".join([word] * count) for word, count in counts.items()]]
    assert train_vocabulary(documents, 100) == given + expected


def test_the_methods_differ_and_both_make_tokenizers():
    vocabularies = {method: train_vocabulary(DOCUMENTS, 32, method, min_count=2) for method in METHODS}
    assert vocabularies["merge-score"] == train_wordpiece(DOCUMENTS[0], 32, 2)
    assert set(vocabularies["frequency"]) != set(vocabularies["merge-score"])
    for vocabulary in vocabularies.values():
        tokenizer = BertTokenizer(vocabulary)
        assert tokenizer.decode(tokenizer("Lower widest").input_ids) == "lower widest"


def test_the_same_text_gives_the_same_vocabulary():
    """The library alone numbers the letters in another order each time, even within one process."""
    assert len({tuple(train_vocabulary(DOCUMENTS, 60)) for _ in range(5)}) == 1


def test_rare_characters_are_left_out_but_no_ascii():
    common = ["the cat sat on the mat"] * 2000
    documents = [[*common, "a naïve ☃ in x^2 and 猫"]]
    vocabulary = train_vocabulary(documents, 200)
    assert {"^", "2", "x"} <= set(vocabulary)
    assert not {"☃", "猫"} & set(vocabulary)
    tokens = BertTokenizer(vocabulary).tokenize("the ☃ sat")
    assert tokens[1] == "[UNK]" and "[UNK]" not in (tokens[0], tokens[-1])


def test_pairs_below_the_minimum_are_not_merged():
    long = train_vocabulary(DOCUMENTS, 500)
    short = train_vocabulary(DOCUMENTS, 500, min_count=40)
    assert "slow" in long and "slow" not in short and "newest" in short


@pytest.mark.parametrize(
    "vocab_size, method, words",
    [
        (12, "frequency", "alone need"),
        (12, "merge-score", "alone need"),
        (100, "unigram", "frequency, merge-score"),
    ],
)
def test_impossible_vocabularies(vocab_size, method, words):
    with pytest.raises(ValueError, match=words):
        train_vocabulary(DOCUMENTS, vocab_size, method)
