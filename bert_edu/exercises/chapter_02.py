"""Exercises of chapter 2, WordPiece: how does text become ids?"""

import itertools
import re
from collections.abc import Iterable

from ..tokenization import (
    SPECIAL_TOKENS,
    BertTokenizer,
    count_words,
    joined,
    merge_pair,
    merge_score,
    pair_counts,
    piece_counts,
    split_characters,
    wordpiece_merges,
)
from .engine import Exercise, expect_data
from .sandbox import Raised, TooLong, Wrong, each

# ---- 2.1 ---------------------------------------------------------------------------------------------------

SYLLABLE = "\uac00"  # Korean "ga": one character, which comes apart into two letters
G, A = "\u1100", "\u1161"
PIECES = "low ##er ##est play ##ed ##s rain ##bow , . !".split() + [G, "##" + A]
VOCABULARY = {piece: place for place, piece in enumerate([*SPECIAL_TOKENS, *PIECES])}


def right_pieces(text: str) -> list[tuple[str, int, int]]:
    """What the package gives, without [CLS] and [SEP]."""
    tokenizer = BertTokenizer(list(VOCABULARY), fast=False)
    places = tokenizer(text).offsets[1:-1]
    return [(piece, *place) for piece, place in zip(tokenizer.tokenize(text), places)]


def compare_pieces(answer, text: str, message: str, suspects: dict | None = None):
    expect_data(
        answer(text, VOCABULARY), right_pieces(text), f"For {text!r}: {message}", suspects=suspects or {}
    )


def one_word(answer, draw):
    """one word that is one piece"""
    compare_pieces(
        answer,
        "low",
        "the word is a piece of the vocabulary, and begins at 0.",
        {
            "The end is one too small: `text[start:end]` leaves `end` itself out.": [("low", 0, 2)],
            "The offsets alone are not enough: return (piece, start, end) for each piece.": [(0, 3)],
        },
    )


def several_words(answer, draw):
    """several words, and more than one space"""
    compare_pieces(
        answer,
        " low   play",
        "a word's offsets count from the beginning of the text, spaces included.",
        {
            "You count as if the words stood one space apart; the text has more.": [
                ("low", 0, 3),
                ("play", 4, 8),
            ],
            "Each word's offsets start at 0 again: they must count from the beginning of the text.": [
                ("low", 0, 3),
                ("play", 0, 4),
            ],
            "Spaces are not counted, but they stand in the text.": [("low", 0, 3), ("play", 3, 7)],
        },
    )


def inside_a_word(answer, draw):
    """a piece inside a word: its ## is not in the text"""
    compare_pieces(
        answer,
        "lower",
        "a piece begins where the one before it ends.",
        {
            "You count the ## of a piece, which does not stand in the text.": [
                ("low", 0, 3),
                ("##er", 3, 7),
            ],
            "Every piece of a word is given the whole word's offsets.": [("low", 0, 5), ("##er", 0, 5)],
            "Every piece of a word begins where the word begins.": [("low", 0, 3), ("##er", 0, 2)],
        },
    )


def punctuation(answer, draw):
    """capitals, and punctuation that touches a word"""
    compare_pieces(
        answer,
        "Low, played!",
        "punctuation becomes a word of its own, although no space stands before it in the text.",
        {
            "These are places in the prepared text, which has spaces round each punctuation mark. They must "
            "be places in `text`: keep for each prepared character where it came from.": [
                ("low", 0, 3),
                (",", 4, 5),
                ("play", 7, 11),
                ("##ed", 11, 13),
                ("!", 14, 15),
            ],
        },
    )


def vanished(answer, draw):
    """a character that vanishes: a soft hyphen, an accent"""
    inside, between, accent = "ra\u00adin low", "rain\u00adbow", "lo\u0301w play"
    compare_pieces(
        answer,
        inside,
        "the soft hyphen shows nothing and is dropped, but it takes up a place in the text.",
        {
            "The end is the start plus the length of the piece. A soft hyphen has vanished inside it, so "
            "that it covers more of the text than it has letters: look where its last letter came from.": [
                ("rain", 0, 4),
                ("low", 6, 9),
            ],
            "These are places in a text without the soft hyphen.": [("rain", 0, 4), ("low", 5, 8)],
        },
    )
    compare_pieces(
        answer,
        between,
        "the soft hyphen belongs to neither piece.",
        {
            "The soft hyphen between two pieces belongs to neither: the second begins where its first letter "
            "came from.": [("rain", 0, 4), ("##bow", 4, 8)],
            "The soft hyphen between two pieces belongs to neither: the first ends just behind where its "
            "last letter came from.": [("rain", 0, 5), ("##bow", 5, 8)],
        },
    )
    compare_pieces(answer, accent, "the accent is a character of its own here, and is dropped.")


def comes_apart(answer, draw):
    """one character that becomes several"""
    compare_pieces(
        answer,
        f"{SYLLABLE} low",
        "the syllable comes apart into two letters, and both came from the same character.",
        {
            "The syllable is one character, and becomes two letters. You count two places for it.": [
                (G, 0, 1),
                ("##" + A, 1, 2),
                ("low", 3, 6),
            ],
            "The second letter of the syllable is given the place behind it, or none; it came from the same "
            "character as the first.": [(G, 0, 1), ("##" + A, 1, 1), ("low", 2, 5)],
        },
    )


def unknown(answer, draw):
    """an [UNK] covers its whole word"""
    compare_pieces(
        answer,
        "lowliest play",
        "the word has no split, so it is [UNK] from its beginning to its end.",
        {
            "[UNK] is given as many places as its name has letters. It covers its whole word.": [
                ("[UNK]", 0, 5),
                ("play", 9, 13),
            ],
            "After an [UNK] you go on counting from the end of its name.": [
                ("[UNK]", 0, 5),
                ("play", 6, 10),
            ],
            "Unknown words are left out; each must give an [UNK].": [("play", 9, 13)],
        },
    )


def nothing_there(answer, draw):
    """a text without words"""
    for text in ("", "  \u00ad "):
        expect_data(
            answer(text, VOCABULARY), [], f"For {text!r} there is nothing to return but an empty list."
        )
    several_words(answer, draw)


OFFSETS = Exercise(
    name="pieces_with_offsets",
    number="2.1",
    title="where did it come from?",
    kind="Rebuild",
    minutes=20,
    difficulty=2,
    goal="A list of (piece, start, end) such that `text[start:end]` is what the piece was made of, also "
    "where a character vanishes or becomes several. An [UNK] covers its whole word.",
    hints=(
        "Beside the prepared text keep `origins`: for each of its characters the position in `text` that it "
        "came from.",
        r'`re.finditer(r"\S+", prepared)` gives each word with the place where it begins.',
        "A piece that begins at place `p` of the prepared text and has `n` letters, without `##`, begins at "
        "`origins[p]` and ends at `origins[p + n - 1] + 1`.",
    ),
    stub='''
def pieces_with_offsets(text, vocabulary):
    """A text and a dict of pieces -> a list of (piece, start, end)."""
    ...
''',
    mechanisms=(
        one_word,
        several_words,
        inside_a_word,
        punctuation,
        vanished,
        comes_apart,
        unknown,
        nothing_there,
    ),
    finished=(
        "bert_edu.tokenization.BertTokenizer",
        "bert_edu.tokenization.words_with_origins",
        "tokenizers",
        "transformers",
    ),
)


# ---- 2.2 ---------------------------------------------------------------------------------------------------

TEN_PIECES = ["un", "play", "player", "low", "lowe", "##play", "##ed", "##s", "##r", "##est"]  # the chapter's


def fewest(word: str, vocabulary) -> list[str] | None:
    """A split into as few pieces as possible; None if there is none."""
    best: list[list[str] | None] = [[]]
    for end in range(1, len(word) + 1):
        splits = []
        for start in range(end):
            piece = word[start:end] if start == 0 else "##" + word[start:end]
            if piece in vocabulary and best[start] is not None:
                splits.append(best[start] + [piece])
        best.append(min(splits, key=len, default=None))
    return best[-1]


def a_known_word(answer, draw):
    """a word that is a piece itself"""
    expect_data(
        answer("player", {*TEN_PIECES, "##er"}),
        ["player"],
        '"player" is a piece of the vocabulary: one piece is the fewest.',
        suspects={
            "That is as many pieces as possible.": ["play", "##er"],
        },
    )


def two_pieces(answer, draw):
    """two pieces, the second with ##"""
    expect_data(
        answer("lows", {*TEN_PIECES, "s"}),
        ["low", "##s"],
        '"lows" is "low" and a piece that continues it.',
        suspects={
            "The second piece continues a word, so it is looked up and returned with ##. "
            "Yours has lost it.": [
                "low",
                "s",
            ],
        },
    )


def shorter_than_greedy(answer, draw):
    """where the longest piece first is not the best"""
    expect_data(
        answer("lowest", {*TEN_PIECES, "##t"}),
        ["low", "##est"],
        'With "lowe", "##s" and "##t" in the vocabulary there are two splits of "lowest"; the one with two '
        "pieces is wanted.",
        suspects={
            "You take the longest piece first, as the tokenizer does. Here that leads to three pieces, and "
            "two are enough.": ["lowe", "##s", "##t"],
        },
    )


def greedy_finds_none(answer, draw):
    """where the longest piece first leads nowhere"""
    expect_data(
        answer("lowest", {*TEN_PIECES}),
        ["low", "##est"],
        "After the longest piece nothing fits, but there is a split.",
        suspects={
            "After the longest piece nothing fits, and you give up. A shorter first piece "
            "leads to a split.": ["[UNK]"],
        },
    )


def from_neither_end(answer, draw):
    """where the longest piece from the end is not the best either"""
    vocabulary = {"abc", "##def", "##cdef", "a", "##b"}
    expect_data(
        answer("abcdef", vocabulary),
        ["abc", "##def"],
        "Two pieces are enough here.",
        suspects={
            "You take the longest piece from the end, and what is left in front then needs two pieces more. "
            "Two are enough for everything: no greedy order is safe.": ["a", "##b", "##cdef"],
        },
    )


def no_split(answer, draw):
    """[UNK] if there is no split at all"""
    found = answer("slow", {*TEN_PIECES})
    if found is None or found == []:
        raise Wrong(
            f'There is no split of "slow", and you return {found!r}: the result must be ["[UNK]"], as the '
            f"tokenizer's."
        )
    expect_data(
        found,
        ["[UNK]"],
        'There is no split of "slow".',
        suspects={
            'Half a word would mislead the model: if there is no split of all of it, it is ["[UNK]"].': [
                "[UNK]",
                "##low",
            ],
            'The result must be a list, ["[UNK]"].': "[UNK]",
        },
    )


def any_vocabulary(answer, draw):
    """many words, many vocabularies"""
    cases = []
    for _ in range(20):
        parts = {"".join("abc"[letter] for letter in draw.whole(0, 2, int(n))) for n in draw.whole(1, 4, 14)}
        marked = {("##" if draw.whole(0, 2).item() else "") + part for part in sorted(parts)}
        word = "".join("abc"[letter] for letter in draw.whole(0, 2, 9))
        cases.append((word, marked | {"a", "##a", "b", "##b"}))
    for found, (word, vocabulary) in zip(answer.via(each, cases), cases):
        best = fewest(word, vocabulary)
        if best is None:
            expect_data(found, ["[UNK]"], f"{word!r} has no split with the vocabulary {sorted(vocabulary)}.")
            continue
        if not isinstance(found, list) or not all(piece in vocabulary for piece in found):
            raise Wrong(f"{word!r} became {found}, and not every one of these is in {sorted(vocabulary)}.")
        spelled = "".join(piece.removeprefix("##") for piece in found)
        continued = [piece.startswith("##") for piece in found]
        if spelled != word or continued != [False] + [True] * (len(found) - 1):
            raise Wrong(f"{word!r} became {found}, which does not spell it.")
        if len(found) > len(best):
            raise Wrong(f"{word!r} became {len(found)} pieces, {found}, and {best} is shorter.")


def long_words(answer, draw):
    """long words in no time"""
    word = "a" * 45 + "b"  # there are millions of ways to spell the beginning, and none for the end
    try:
        found = answer(word, {"a", "##a", "##aa"}, seconds=1.0)
    except TooLong as error:
        raise Wrong(
            "For a word of 46 letters your answer was not ready after a second: it seems to try every split. "
            "There are millions; but for each beginning of the word only the best one matters. Keep it."
        ) from error
    expect_data(found, ["[UNK]"], "A long word that cannot be spelled.")


FEWEST = Exercise(
    name="fewest_pieces",
    number="2.2",
    title="as few pieces as possible",
    kind="Extend",
    minutes=25,
    difficulty=3,
    goal='A split of the word into as few pieces as possible; ["[UNK]"] only if there is no split at all.',
    hints=(
        "How does the best split of `word[:end]` follow from the best splits of shorter beginnings?",
        "Let `best[end]` be the shortest list of pieces for `word[:end]`, or `None` if there is none; "
        "`best[0]` is the empty list.",
        "For each `end`, try every `start < end`: if `best[start]` exists and the piece between is known, "
        "`best[start] + [piece]` is a candidate.",
    ),
    stub='''
def fewest_pieces(word, vocabulary):
    """A word and a vocabulary (anything that can say `piece in vocabulary`) -> a list of pieces."""
    ...
''',
    mechanisms=(
        a_known_word,
        two_pieces,
        greedy_finds_none,
        shorter_than_greedy,
        from_neither_end,
        no_split,
        any_vocabulary,
        long_words,
    ),
    finished=("bert_edu.tokenization.BertTokenizer", "tokenizers", "transformers"),
)


# ---- 2.3 ---------------------------------------------------------------------------------------------------


def frequency(pair_count: int, first_count: int, second_count: int) -> int:
    """A score: how often the pair occurs."""
    return pair_count


def right_merges(word_counts: dict[str, int], min_count: int, score, mistake: str = "") -> Iterable:
    """(pair, score, count) of each merge; everything is counted again each time. With a mistake, if named."""
    words = {word: split_characters(word) for word in word_counts}
    while True:
        weighted = [
            (words[word], 1 if mistake == "seen once" else count) for word, count in word_counts.items()
        ]
        pieces, pairs = piece_counts(weighted), pair_counts(weighted)
        if mistake == "letters only":
            pieces = piece_counts((split_characters(word), count) for word, count in word_counts.items())
        least = min_count + 1 if mistake == "more than min_count" else min_count
        found = [
            (-score(count, pieces[pair[0]], pieces[pair[1]]), -count, pair)
            for pair, count in pairs.items()
            if count >= least or mistake == "any count"
        ]
        if not found:
            return
        value, count, pair = min(found)
        if mistake == "last in the alphabet":
            pair = max(entry for entry in found if entry[:2] == (value, count))[2]
        yield pair, -value, -count
        words = {word: merged_spelling(pieces, pair, mistake) for word, pieces in words.items()}


def merged_spelling(pieces: list[str], pair: tuple[str, str], mistake: str) -> list[str]:
    """The pieces with the pair merged; with a mistake, by way of a string."""
    text, old, new = " ".join(pieces), " ".join(pair), joined(pair)
    if mistake == "no borders":
        return text.replace(old, new).split()
    if mistake == "border on the right only":
        return re.sub(rf"{re.escape(old)}(?!\S)", lambda match: new, text).split()
    if mistake == "border on the left only":
        return re.sub(rf"(?<!\S){re.escape(old)}", lambda match: new, text).split()
    if mistake == "spaces used up":
        return f" {text} ".replace(f" {old} ", f" {new} ").split()
    if mistake == "not escaped":
        return re.sub(rf"(?<!\S){old}(?!\S)", lambda match: new, text).split()
    return merge_pair(pieces, pair)


def first_merges(answer, word_counts: dict, min_count: int, score, most: int) -> list:
    """A driver: the first merges that the answer yields."""
    merges = answer(word_counts, min_count, score)
    return None if merges is None else [*itertools.islice(merges, most)]


def compare_merges(answer, counts, min_count, score, message, suspects: dict[str, str]):
    most = 30
    try:
        found = answer.via(first_merges, counts, min_count, score, most)
    except Raised as error:
        raise Wrong(f"{message} {error}") from error
    expected = [*itertools.islice(right_merges(counts, min_count, score), most)]
    if found is None:
        expect_data(found, expected, message)
    if as_pairs(found) == as_pairs(expected):
        return
    for said, mistake in suspects.items():
        if as_pairs(found) == as_pairs(
            [*itertools.islice(right_merges(counts, min_count, score, mistake), most)]
        ):
            raise Wrong(said)
    raise Wrong(f"{message} {first_difference(as_pairs(found), as_pairs(expected))}")


def as_pairs(merges) -> list[tuple]:
    """Merges as (first, second, score, count), with a score that survives another order of its arithmetic."""
    try:
        return [(pair[0], pair[1], round(float(value), 9), int(count)) for pair, value, count in merges]
    except (TypeError, ValueError, IndexError) as error:
        raise Wrong("Each merge must be (pair, score, count), the pair being two pieces.") from error


def first_difference(found: list[tuple], expected: list[tuple]) -> str:
    """Where two lists of merges part ways."""
    for number, (one, other) in enumerate(itertools.zip_longest(found, expected), start=1):
        if one != other:
            yours = (
                "nothing more" if one is None else f"{one[0]} + {one[1]}, score {one[2]:g}, count {one[3]}"
            )
            right = (
                "nothing"
                if other is None
                else f"{other[0]} + {other[1]}, score {other[2]:g}, count {other[3]}"
            )
            return f"Merge {number} must be {right}; yours is {yours}."
    return ""


def words_seen_once(answer, draw):
    """words that are seen once: the test that it passed"""
    compare_merges(
        answer,
        {"hall": 1, "hill": 1, "hull": 1},
        1,
        frequency,
        "On hall, hill and hull, once each, the function was right, and yours no longer is.",
        {
            "Among pairs of equal score and count the first in the alphabet comes first, not the last.": (
                "last in the alphabet"
            ),
            "A pair that occurs exactly `min_count` times must still be merged.": "more than min_count",
        },
    )


def words_seen_often(answer, draw):
    """a word that is seen five times counts five times"""
    compare_merges(
        answer,
        {"to": 5, "on": 1, "one": 1},
        1,
        frequency,
        'With "to" seen five times the merges are not in the right order.',
        {
            "Every word counts as if it were seen once. Take the count of each word, `word_counts[word]`.": (
                "seen once"
            ),
        },
    )


def borders(answer, draw):
    """a pair is two whole pieces, not the end of one or the beginning of another"""
    compare_merges(
        answer,
        {"ab": 4, "cab": 3, "xbc": 9, "abc": 1},
        1,
        frequency,
        'In "cab", spelled c ##a ##b, there is no pair a + ##b; nor in "abc" when it is spelled a ##bc.',
        {
            "Replacing the string `a ##b` also changes `c ##a ##b`, where the end of ##a looks like a, and "
            "`a ##bc`. Nothing but a space may stand before the pair, and behind it.": "no borders",
            "Replacing the pair also changes `c ##a ##b`: the end of ##a looks like a. A border is needed in "
            "front of the pair too.": "border on the right only",
            "Replacing the pair also changes `a ##bc`: the beginning of ##bc looks like ##b. A border is "
            "needed behind the pair too.": "border on the left only",
        },
    )


def in_a_row(answer, draw):
    """the same pair several times in a row"""
    compare_merges(
        answer,
        {"aaaaaa": 3},
        1,
        frequency,
        'In "aaaaaa" a pair stands several times in a row.',
        {
            "When a pair stands twice in a row, only every other one is replaced: the space between two "
            "matches is used up by the first. Look behind and ahead without "
            "taking: (?<!\\S) and (?!\\S).": "spaces used up",
        },
    )


def punctuation_in_pieces(answer, draw):
    """pieces with characters that mean something in a pattern"""
    compare_merges(
        answer,
        {"c++": 4, "a.b": 3, "axb": 2},
        1,
        frequency,
        "With c++ and a.b among the words it goes wrong: + and . have a meaning in a pattern. Put the pair "
        "through `re.escape`.",
        {
            "A + in a piece is read as part of a pattern, so that the pair is not found where it stands, and "
            "comes again and again. Put the pair through `re.escape`.": "not escaped",
        },
    )


def few_enough(answer, draw):
    """pairs that occur less often than min_count are left"""
    compare_merges(
        answer,
        {"to": 5, "on": 2, "one": 1},
        3,
        frequency,
        "With a minimum count of 3 a pair that occurs 3 times is the last to be merged.",
        {
            "The minimum count is ignored: pairs that occur less often are merged too.": "any count",
        },
    )


def with_the_score(answer, draw):
    """a whole text, with WordPiece's own score"""
    counts = dict(
        count_words(
            ["The players walked the hall from end to end, walking on their toes, listening at every wall."]
        )
    )
    found = answer.via(first_merges, counts, 2, merge_score, 60)
    expected = [*itertools.islice(wordpiece_merges(counts, 2), 60)]
    if as_pairs(found or []) != as_pairs(expected):
        raise Wrong(
            "By frequency you are right; with `merge_score` on a longer text not. "
            f"{first_difference(as_pairs(found or []), as_pairs(expected))} Are the pieces counted again "
            "after each merge?"
        )


MERGES = Exercise(
    name="merges_mended",
    number="2.3",
    title="it agreed on three words",
    kind="Find the bug",
    minutes=25,
    difficulty=3,
    goal="The trainer that keeps words as strings, with both of its bugs mended: it yields (pair, score, "
    "count) like `recounted_merges`.",
    hints=(
        "One bug cannot show while every word is seen once. The other is in the last line.",
        'The spelling of "cab" is `c ##a ##b`. What does replacing `a ##b` do to it?',
        r"In a pattern for `re.sub`, `(?<!\S)` in front of the pair and `(?!\S)` behind it keep other "
        r"letters from touching it. Put the pair itself through `re.escape`.",
    ),
    stub='''
def merges_mended(word_counts, min_count, score):
    """Yields (pair, score, count), best first; score(pair's count, first's count, second's count)."""
    ...
''',
    mechanisms=(
        words_seen_once,
        words_seen_often,
        borders,
        in_a_row,
        punctuation_in_pieces,
        few_enough,
        with_the_score,
    ),
    finished=(
        "bert_edu.tokenization.wordpiece_merges",
        "bert_edu.tokenization.train_wordpiece",
        "tokenizers",
    ),
)

EXERCISES = (OFFSETS, FEWEST, MERGES)
