"""A vocabulary made from a corpus, by either of two methods (chapter 2).

    merge-score   the book's own `train_wordpiece`: merges the pair that meets more often than the counts of
                  its parts suggest
    frequency     the `tokenizers` library: merges the most frequent pair, which is the rule of byte-pair
                  encoding; several times as fast, and common words soon are tokens of their own

Either gives a WordPiece vocabulary. Google never published the program that made BERT's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import tokenizers

from ..tokenization import (
    CONTINUED,
    SPECIAL_TOKENS,
    build_backend,
    is_ideograph,
    is_punctuation,
    prepare_character,
    train_wordpiece,
)

METHODS = ("frequency", "merge-score")
# The least that a pair must occur to be merged. A low one fills a vocabulary by score with rare words: see
# `bert_edu.tokenization.merge_score`.
MIN_COUNTS = {"frequency": 2, "merge-score": 100}
COVERED = 0.9999  # of all characters of a text; words with one of the others become [UNK]


def train_vocabulary(
    documents: Iterable[list[str]], vocab_size: int, method: str = "frequency", min_count: int | None = None
) -> list[str]:
    """Makes a lower-case WordPiece vocabulary: special tokens, alphabet, merged pieces in their order.

    The same text gives the same vocabulary. It stays smaller than `vocab_size` when the text has no more to
    give.

    Args:
        documents: lists of sentences; iterated over twice.
        vocab_size: how many tokens to make.
        method: "frequency" or "merge-score".
        min_count: pairs of pieces that occur less often are never merged; by default that of `MIN_COUNTS`.

    Raises:
        ValueError: for an unknown method, or when `vocab_size` has no room for the alphabet.
    """
    if method not in METHODS:
        raise ValueError(f"the method must be one of {', '.join(METHODS)}, not {method!r}")
    if min_count is None:
        min_count = MIN_COUNTS[method]
    if method == "merge-score":
        return train_wordpiece(_texts(documents), vocab_size, min_count)
    return _by_frequency(documents, vocab_size, min_count)


def _by_frequency(documents: Iterable[list[str]], vocab_size: int, min_count: int) -> list[str]:
    characters = Counter()
    for text in _texts(documents):
        characters.update(text)
    alphabet = _alphabet(characters)
    # The library numbers the pieces of the alphabet, and so breaks ties, in an order that differs from run to
    # run. Given as special tokens, they come in ours.
    begin = sorted(alphabet)
    go_on = [CONTINUED + char for char in begin if not is_punctuation(char) and not is_ideograph(char)]
    given = [*SPECIAL_TOKENS, *begin, *go_on]
    if vocab_size < len(given):
        raise ValueError(
            f"vocab_size is {vocab_size}, but the special tokens and the alphabet of this text, at the "
            f"beginning of a word and inside one, alone need {len(given)}"
        )
    left_out = {ord(char): " " for char in characters if not alphabet.issuperset(_prepared(char))}
    backend = build_backend(
        {token: number for number, token in enumerate(SPECIAL_TOKENS)}, do_lower_case=True
    )
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=min_count, special_tokens=given, show_progress=False
    )
    backend.train_from_iterator((text.translate(left_out) for text in _texts(documents)), trainer)
    ids = backend.get_vocab()
    return sorted(ids, key=ids.get)


def _alphabet(characters: Counter) -> set[str]:
    """The most frequent characters, after lower-casing, that make up `COVERED` of the text, and all of ASCII.

    A large text has thousands of characters that occur a few times each; they would fill a small vocabulary.
    """
    counts = Counter()
    for char, count in characters.items():
        for prepared in _prepared(char):
            counts[prepared] += count
    alphabet, room = set(), COVERED * counts.total()
    for char, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if room > 0 or char.isascii():
            alphabet.add(char)
        room -= count
    return alphabet


def _prepared(char: str) -> str:
    """What the tokenizer makes of a character, without the spaces that only separate words."""
    return prepare_character(char).replace(" ", "")


def _texts(documents: Iterable[list[str]]) -> Iterator[str]:
    for sentences in documents:
        yield from sentences
