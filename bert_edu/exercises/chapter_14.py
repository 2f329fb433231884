"""Exercises of chapter 14, tagging: how do you make one decision per word?"""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .engine import Exercise, expect_data
from .sandbox import NotYet, TooLong, Wrong, each

KINDS = ("person", "place", "time")
NAMES = ("O", *(f"{letter}-{kind}" for kind in KINDS for letter in "BI"))  # seven tags


# ---- 14.1 --------------------------------------------------------------------------------------------------


def draw_logits(draw, length: int, tags: list[int]) -> Tensor:
    """Scores (T, C) whose largest at each place are at these tags."""
    logits = 0.1 * draw.normal(length, len(NAMES))
    logits[torch.arange(length), torch.tensor(tags)] = 4.0
    return logits


def read(logits: Tensor, pieces: list[int], names: list[str], mistake: str = "") -> list[str]:
    """A tag for each word, with one mistake, if one is named."""
    tags, place = [], 0 if mistake == "from [CLS]" else 1
    for number in pieces:
        rows = logits[place : place + number]  # (pieces, C)
        if number == 0:
            tags += {
                "left out": [],
                "read": [names[int(logits[place].argmax())]],
                "the one before": tags[-1:],
            }.get(mistake, ["O"])
        elif mistake == "each piece":
            tags += [names[int(row.argmax())] for row in rows]
        else:
            row = {"last": rows[-1], "mean": rows.mean(dim=0), "largest": rows.amax(dim=0)}
            tags.append(names[int(row.get(mistake, rows[0]).argmax())])
        place += {"a place each": 1, "at least one place": max(number, 1)}.get(mistake, number)
    return tags


def one_word(answer, draw):
    """one word of one piece: its own place is read"""
    names, (cls, word, sep) = draw.shuffled(NAMES), draw.shuffled(range(7))[:3]
    expect_data(
        answer(draw_logits(draw, 3, [cls, word, sep]), [1], names),
        [names[word]],
        "With one word of one piece there are three places, [CLS], the word and [SEP]: its tag is the one "
        "with the largest score at the middle one.",
        suspects={
            "You read the scores of [CLS]: it stands in front, so the first word begins at place 1.": [
                names[cls]
            ],
            "You read the scores behind the word: the place must move on after the word was read, "
            "not before.": [names[sep]],
            "You return the number of the tag. Its name is `tag_names[number]`.": [word],
        },
    )


def words_of_one_piece(answer, draw):
    """several words of one piece: a tag each, in order"""
    names, tags = draw.shuffled(NAMES), draw.shuffled(range(7))[:6]
    logits = draw_logits(draw, 6, tags)
    expect_data(
        answer(logits, [1, 1, 1, 1], names),
        read(logits, [1, 1, 1, 1], names),
        "With one word you were right. Four words of one piece each stand at the places 1 to 4.",
    )


def first_piece(answer, draw):
    """several pieces: the first one decides"""
    names, pieces = draw.shuffled(NAMES), [1, 3, 1, 2]
    other, cls, sep, first, last, runner_up, middle = draw.shuffled(range(7))
    logits = draw_logits(draw, 9, [cls, other, 0, 0, 0, cls, 0, 0, sep])
    logits[[2, 3, 4, 6, 7]] = 0.0
    logits[[2, 6], first] = 3.0  # of the first pieces
    logits[[2, 6], runner_up] = 2.9
    logits[3, middle] = 4.0
    logits[[4, 7], last] = 3.5
    logits[[4, 7], runner_up] = 3.4  # so that it has the largest sum

    expect_data(
        answer(logits, pieces, names),
        read(logits, pieces, names),
        "With words of one piece you were right. Here the words have 1, 3, 1 and 2 pieces, so they begin at "
        "the places 1, 2, 5 and 6, and it is there that their tags are to be read.",
        suspects={
            "You read the last piece of a word. The label stood on its first piece, so that is where the "
            "model learned to answer.": read(logits, pieces, names, "last"),
            "You take the mean over a word's pieces. In training only the first one had a label; what the "
            "others say means nothing.": read(logits, pieces, names, "mean"),
            "You take the largest score among a word's pieces. In training only the first one had a label; "
            "what the others say means nothing.": read(logits, pieces, names, "largest"),
            "You return a tag for each piece; one for each word is asked.": read(
                logits, pieces, names, "each piece"
            ),
            "You move on by one place for each word: a word of three pieces takes three places.": read(
                logits, pieces, names, "a place each"
            ),
        },
    )


def no_piece(answer, draw):
    """a word without pieces gets the usual tag, and shifts nobody"""
    names, pieces = [*draw.shuffled(NAMES[1:]), "O"], [1, 2, 0, 1, 1]
    logits = draw_logits(draw, 7, [0, *draw.shuffled(range(1, 6)), 0])
    right = read(logits, pieces, names)
    expect_data(
        answer(logits, pieces, names),
        right,
        "Here the third of five words has no piece. It gets the usual tag, O when nothing else is said, and "
        "all others keep theirs.",
        suspects={
            "The word without pieces is left out, so that all further tags belong to the wrong word.": read(
                logits, pieces, names, "left out"
            ),
            "For the word without pieces you read a place all the same, the one of the next word. The model "
            "was not asked about it: give it the usual tag.": read(logits, pieces, names, "read"),
            "The word without pieces takes a place, so that all further words are read one place too far: "
            "the place moves on by 0.": read(logits, pieces, names, "at least one place"),
            "The word without pieces gets the tag of the word before. The model was not asked about it: give "
            "it the usual tag.": read(logits, pieces, names, "the one before"),
            "The word without pieces gets the first of the tags. It gets `usual`, and that is O unless "
            "something else is said.": [*right[:2], names[0], *right[3:]],
        },
    )


def the_usual_tag(answer, draw):
    """the usual tag is the one that is asked for"""
    names = draw.shuffled(NAMES)
    *tags, fifth, sixth, _ = draw.shuffled(range(7))  # no place has the usual tag
    usual = names[sixth if names[fifth] == "O" else fifth]
    logits = draw_logits(draw, 4, tags)
    right = [usual, names[tags[1]], usual, names[tags[2]], usual]
    expect_data(
        answer(logits, [0, 1, 0, 1, 0], names, usual),
        right,
        f"With usual={usual!r}, a word without pieces gets {usual!r}, wherever it stands.",
        suspects={
            f"A word without pieces gets O in your answer whatever `usual` says, and it says {usual!r}.": [
                "O" if tag == usual else tag for tag in right
            ],
        },
    )


def any_sentence(answer, draw):
    """longer sentences, with words of 0 to 4 pieces"""
    names, pieces = draw.shuffled(NAMES), draw.whole(0, 4, 15).tolist()
    logits = draw.normal(sum(pieces) + 2, len(NAMES))
    expect_data(
        answer(logits, pieces, names),
        read(logits, pieces, names),
        f"Short sentences were right. In one of 15 words with {pieces} pieces some tags are wrong.",
    )


READ = Exercise(
    name="read_tags",
    number="14.1",
    title="from scores to tags",
    kind="Rebuild",
    minutes=15,
    difficulty=1,
    goal="The scores of a sentence's pieces, and how many pieces each word has -> a tag for each word, read "
    "at its first piece.",
    hints=(
        "Keep a counter: the place of the next word's first piece. Where does it start?",
        "At 1, behind [CLS]. After each word it moves on by the number of the word's pieces, which may be 0.",
        "For a word without pieces the counter already stands at the *next* word. Do not look at the logits "
        "there.",
    ),
    stub='''
def read_tags(logits, pieces, tag_names, usual="O"):
    """Scores (T, C), [CLS] and [SEP] included; the number of pieces of each word -> a list of tags."""
    ...
''',
    mechanisms=(one_word, words_of_one_piece, first_piece, no_piece, the_usual_tag, any_sentence),
    finished=("bert_edu.finetuning.tagging",),
)


# ---- 14.2 --------------------------------------------------------------------------------------------------

Rule = Callable[[str, str], bool]  # may the second tag follow the first? "" stands before the first word


def right_rule(before: str, tag: str) -> bool:
    return tag[0] != "I" or before[2:] == tag[2:]


def any_kind_goes_on(before: str, tag: str) -> bool:
    return tag[0] != "I" or before not in ("", "O")


def only_after_b(before: str, tag: str) -> bool:
    return tag[0] != "I" or before == f"B{tag[1:]}"


def best_of_all(scores: np.ndarray, names: list[str], rule: Rule = right_rule) -> list[str]:
    """Tries every sequence that follows the rule."""
    best, best_sum = [], -np.inf
    for tags in itertools.product(range(len(names)), repeat=len(scores)):
        total = sum(row[tag] for row, tag in zip(scores, tags))
        if total > best_sum:
            words = [names[tag] for tag in tags]
            if all(map(rule, ("", *words), words)):
                best, best_sum = words, total
    return best


def logarithms(names: list[str], *words: dict[str, float]) -> np.ndarray:
    """Logarithms of probabilities (words, C) with these numbers at these tags, -5 to -6 at all others."""
    scores = np.tile(np.linspace(-5.0, -6.0, len(names)), (len(words), 1))
    for row, word in zip(scores, words):
        for tag, score in word.items():
            row[names.index(tag)] = score
    return scores


def legal_already(answer, draw):
    """where the best tag of each word alone is legal, it is the answer"""
    names, (kind, *_) = draw.shuffled(NAMES), draw.shuffled(KINDS)
    tags = [f"B-{kind}", f"I-{kind}", f"I-{kind}", "O"]
    scores = logarithms(names, *({tag: -0.1} for tag in tags))
    expect_data(
        answer(scores, names),
        tags,
        "Here the best tag of each word alone makes a legal sequence, so that is the answer.",
        suspects={
            "These are the right tags from the last word to the first: the notes are followed backwards, so "
            "turn the result round.": tags[::-1],
            "You return the numbers of the tags; their names are asked.": [names.index(tag) for tag in tags],
            "An I may follow a B of its kind, and an I of its kind as well: a name may have more than two "
            "words.": best_of_all(scores, names, only_after_b),
        },
    )


def step_from_outside(answer, draw):
    """no I after O: the sum decides what is to change"""
    names, (kind, *_) = draw.shuffled(NAMES), draw.shuffled(KINDS)
    b, i = f"B-{kind}", f"I-{kind}"
    scores = logarithms(names, {"O": -0.1, b: -1.5}, {i: -0.2, "O": -0.9, b: -2.0})
    expect_data(
        answer(scores, names),
        ["O", "O"],
        f"Here O and {i} are the best tags of two words. {b} {i} and O O are legal, with sums of -1.7 and "
        "-1.0.",
        suspects={
            "You take the best tag of each word by itself, and an I follows an O.": ["O", i],
            "You mend what is illegal afterwards, by turning an I into a B. Another sequence has a larger "
            "sum.": ["O", b],
            "You go from the last word to the first, and settle each at once. The best last tag may ask for "
            "a first one that is bad.": [b, i],
        },
    )


def not_inside_at_once(answer, draw):
    """the first word is never inside a name"""
    names, (kind, *_) = draw.shuffled(NAMES), draw.shuffled(KINDS)
    scores = logarithms(names, {f"I-{kind}": -0.1, "O": -2.5, f"B-{kind}": -4.0}, {"O": -0.2})
    expect_data(
        answer(scores, names),
        ["O", "O"],
        "The best tag of the first word is an I, and there is no name yet that it could go on with.",
        suspects={
            "Your sequence begins with an I. Before the first word there is no name, as if an O stood "
            "there.": [f"I-{kind}", "O"],
        },
    )


def worse_at_first(answer, draw):
    """a tag that is worse at first may win in the end"""
    names, (kind, *_) = draw.shuffled(NAMES), draw.shuffled(KINDS)
    b, i = f"B-{kind}", f"I-{kind}"
    scores = logarithms(names, {"O": -0.4, b: -0.8}, {i: -0.1, "O": -1.6, b: -2.0}, {"O": -0.1})
    expect_data(
        answer(scores, names),
        [b, i, "O"],
        f"{b} {i} O has the sum -1.0, and O O O has -2.1: the first word must give way for the second.",
        suspects={
            "You go from the first word to the last, and settle each at once. What is best for a word alone "
            "may be dear for the next: keep the best sum for *each* tag it could have.": ["O", "O", "O"],
            "You keep the right sums, but take the largest of them at each word as you go. Which tag a word "
            "has is known only at the end: go back along the notes.": ["O", i, "O"],
        },
    )


def of_its_own_kind(answer, draw):
    """an I goes on with a name of its own kind only"""
    names, (kind, other, _) = draw.shuffled(NAMES), draw.shuffled(KINDS)
    tags = {f"I-{other}": -0.3, f"I-{kind}": -1.2}
    scores = logarithms(names, {f"B-{kind}": -0.2}, tags, tags)
    expect_data(
        answer(scores, names),
        best_of_all(scores, names),
        f"Here I-{other} is the best tag behind B-{kind}, and must not stand there.",
        suspects={
            f"In your answer I-{other} follows a name of another kind: an I goes on with a B or I of its own "
            "kind.": best_of_all(scores, names, any_kind_goes_on),
        },
    )


def as_by_trying_all(answer, draw):
    """short random sentences: as by trying all sequences"""
    names = draw.shuffled(("O", "B-place", "I-place", "B-time", "I-time"))
    cases = [(2.0 * draw.normal(4, 5)).log_softmax(dim=-1).double().numpy() for _ in range(8)]
    for scores, found in zip(cases, answer.via(each, [(scores, names) for scores in cases]), strict=True):
        expect_data(
            found,
            best_of_all(scores, names),
            "The simple cases were right. On a random sentence of four words, another legal sequence has a "
            "larger sum.",
        )


def long_sentences(answer, draw):
    """the work grows with the number of words, not with that of the sequences"""
    names, kinds = draw.shuffled(NAMES), draw.shuffled(KINDS)
    tags = ["O", *(f"{letter}-{kind}" for kind in kinds for letter in "BII"), "O"] * 3
    scores = logarithms(names, *({tag: -0.05} for tag in tags))
    try:
        found = answer(scores, names, seconds=0.7)
    except TooLong as error:
        raise Wrong(
            f"{len(tags)} words with {len(names)} tags have more sequences than anyone can try, and your "
            "answer was still at it when its time was up. For each word, keep only the best sum for each tag."
        ) from error
    expect_data(found, tags, f"Short sentences were right; in one of {len(tags)} words some tags are wrong.")


LEGAL = Exercise(
    name="best_legal",
    number="14.2",
    title="only what is legal",
    kind="Extend",
    minutes=25,
    difficulty=3,
    goal="Logarithms of probabilities (words, C) -> the sequence of tags with the highest sum among those in "
    "which every I-x follows a B-x or an I-x, in about words · C² steps.",
    hints=(
        "Go from left to right. For each tag keep one number: the best sum of a legal sequence that ends in "
        "this tag *here*.",
        "From one word to the next: add to the kept sums a table (C, C) that holds 0 where the step is "
        "allowed and $-\\infty$ where it is not; take the maximum over the tag before.",
        "Store which tag before gave the maximum. At the end start from the best last tag and follow these "
        "notes backwards. The first word must not be an I.",
    ),
    stub='''
def best_legal(scores, tag_names):
    """A NumPy array (words, C) of logarithms of probabilities, and the C tags -> a list of tags."""
    ...
''',
    mechanisms=(
        legal_already,
        step_from_outside,
        not_inside_at_once,
        worse_at_first,
        of_its_own_kind,
        as_by_trying_all,
        long_sentences,
    ),
)


# ---- 14.3 --------------------------------------------------------------------------------------------------


def spans(tags: list[str]) -> list[tuple[str, int, int]]:
    """As in the chapter: (kind, first word, word behind the last) of each name."""
    found, before = [], "O"
    for place, tag in enumerate(tags):
        kind = tag[2:]
        if tag != "O" and (tag[0] == "B" or before[2:] != kind):
            found.append((kind, place, place + 1))
        elif tag != "O":
            found[-1] = (kind, found[-1][1], place + 1)
        before = tag
    return found


def f1(gold: list[list[str]], predicted: list[list[str]], with_sentence: bool) -> float:
    """F1 of whole names; the colleague's when their sentence is not part of them."""
    there, found = (
        {(number if with_sentence else 0, *span) for number, tags in enumerate(side) for span in spans(tags)}
        for side in (gold, predicted)
    )
    return 2 * len(there & found) / max(1, len(there) + len(found))


def sides(answer) -> tuple[list[list[str]], list[list[str]]]:
    """What the answer returned, if it is two lists of sentences that go together."""
    both = answer()
    if both is None:
        raise NotYet("It returns None.")
    if not isinstance(both, (list, tuple)) or len(both) != 2:
        raise Wrong("Return two things, `gold` and `predicted`, each a list of sentences.")
    for name, side in zip(("gold", "predicted"), both):
        if not isinstance(side, (list, tuple)) or not side:
            raise Wrong(f"`{name}` must be a list of sentences, with at least one.")
        for sentence in side:
            if isinstance(sentence, str):
                raise Wrong(
                    f"`{name}` holds {sentence!r}, where a sentence is expected: it is a list of sentences, "
                    "and each of them a list of tags."
                )
            if not isinstance(sentence, (list, tuple)):
                raise Wrong(f"A sentence in `{name}` must be a list of tags, and is {sentence!r}.")
            for tag in sentence:
                if not isinstance(tag, str) or not (tag == "O" or (tag[:2] in ("B-", "I-") and tag[2:])):
                    raise Wrong(
                        f"{tag!r} in `{name}` is no tag: O, or B- or I- and a kind, such as B-person."
                    )
    gold, predicted = both
    if len(gold) != len(predicted):
        raise Wrong(
            f"`gold` has {len(gold)} sentences and `predicted` {len(predicted)}: a prediction belongs to "
            "each sentence, also where nothing is found in it."
        )
    for number, (tags, guesses) in enumerate(zip(gold, predicted), start=1):
        if len(tags) != len(guesses):
            raise Wrong(
                f"Sentence {number} has {len(tags)} tags in `gold` and {len(guesses)} in `predicted`: a word "
                "has one of each."
            )
    return gold, predicted


def two_sides(answer, draw):
    """gold and predicted: sentences of tags, as many of each"""
    sides(answer)


def colleague_is_content(answer, draw):
    """the colleague's F1 is 1"""
    gold, predicted = sides(answer)
    theirs = f1(gold, predicted, with_sentence=False)
    if not any(map(spans, gold)) and not any(map(spans, predicted)):
        raise Wrong(
            "There is no name on either side, and then the colleague's F1 is 0: nothing was found, and "
            "nothing was there."
        )
    if theirs < 1:
        if len(gold) == 1:
            raise Wrong(
                "A single sentence shows nothing: there the colleague's scorer agrees with yours. What does "
                "it forget about a name as soon as there is a second sentence?"
            )
        raise Wrong(
            f"The colleague's F1 is {theirs:.2f} here, and must be 1: to this scorer the names on both sides "
            "must be the same, in kind, first and last word."
        )


def truth_is_nothing(answer, draw):
    """the true F1 is 0"""
    gold, predicted = sides(answer)
    colleague_is_content(answer, draw)
    true = f1(gold, predicted, with_sentence=True)
    if true == 1:
        raise Wrong(
            "Here all names were really found: the true F1 is 1 as well. Let the name be predicted in "
            "another sentence than the one it stands in."
        )
    if true > 0:
        raise Wrong(f"The true F1 is {true:.2f}, and must be 0: no name may be found where it stands.")


def no_smaller_one(answer, draw):
    """no smaller file does it"""
    truth_is_nothing(answer, draw)
    gold, _ = sides(answer)
    words = sum(map(len, gold))
    if len(gold) > 2:
        raise Wrong(f"It works, with {len(gold)} sentences. Fewer are enough: can you do it with two?")
    if words > 2:
        raise Wrong(f"It works, with {words} words in two sentences. Can you do it with fewer words?")


COUNTEREXAMPLE = Exercise(
    name="counterexample",
    number="14.3",
    title="a score that is too good to be true",
    kind="Find the bug",
    minutes=15,
    difficulty=2,
    goal="Nothing -> the smallest `gold` and `predicted` for which the colleague's F1 is 1 and the true one "
    "0.",
    hints=(
        "What is an element of `there`? What distinguishes a name in the first sentence from one in the "
        "second?",
        "(*person*, 0, 1) in one sentence and (*person*, 0, 1) in another are equal, and a set keeps one of "
        "them.",
        "Two sentences of one word each are enough: a name in the first, a prediction in the second.",
    ),
    stub='''
def counterexample():
    """-> (gold, predicted), each a list of sentences, and a sentence a list of tags."""
    ...
''',
    mechanisms=(two_sides, colleague_is_content, truth_is_nothing, no_smaller_one),
    changes_input=True,  # it is given nothing
)

EXERCISES = (READ, LEGAL, COUNTEREXAMPLE)
