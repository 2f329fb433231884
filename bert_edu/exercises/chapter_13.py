"""Exercises of chapter 13, classification: from words to a decision."""

import math
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from ..finetuning.classification import TextFeature
from .engine import Exercise, expect
from .sandbox import NotYet, Raised, Wrong

# ---- 13.1 --------------------------------------------------------------------------------------------------


def scores(answer, rows: list[list[int]]) -> dict:
    """A driver: both scores of a matrix, and the matrix afterwards."""
    matrix = np.array(rows)
    said = answer(matrix)
    if said is None:
        raise NotYet("It returns None.")
    if not isinstance(said, dict) or not {"accuracy", "macro_f1"} <= set(said):
        kind = ", ".join(map(repr, said)) if isinstance(said, dict) else f"a {type(said).__name__}"
        raise Wrong(f"scores_from must return a dictionary with 'accuracy' and 'macro_f1', not {kind}.")
    numbers = {}
    for name in ("accuracy", "macro_f1"):
        if np.size(said[name]) != 1:
            raise Wrong(f"{name!r} must be one number, and yours are {np.size(said[name])}.")
        try:
            numbers[name] = float(np.asarray(said[name]).item())
        except (TypeError, ValueError):
            raise Wrong(f"{name!r} must be a number, and yours is {said[name]!r:.60}.") from None
    return {**numbers, "after": matrix.tolist()}


def score(answer, rows: list[list[int]], name: str) -> float:
    return answer.via(scores, rows)[name]


def parts(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is right of each class, how many texts it has, how often it was said."""
    matrix = np.array(rows)
    return matrix.diagonal(), matrix.sum(1), matrix.sum(0)


def compared(found: float, expected: float, message: str, suspects: dict[str, float]):
    """Raises `Wrong` unless both numbers are equal: with what is said of the suspect that it equals."""
    if math.isclose(found, expected, abs_tol=1e-9):
        return
    for said, suspect in suspects.items():
        if math.isclose(found, suspect, abs_tol=1e-9):
            raise Wrong(said)
    raise Wrong(f"{message} It is {expected:.3f}, and you have {found:.3f}.")


def draw_matrix(draw, classes: int = 3) -> list[list[int]]:
    """Rows of different sums; in each the diagonal is the largest, and nothing is 0."""
    rows = draw.whole(1, 6, classes, classes) + torch.arange(classes)[:, None]
    rows += torch.diag(draw.whole(8, 20, classes) * torch.arange(1, classes + 1))
    return rows.tolist()


def share_that_is_right(answer, draw):
    """accuracy: what is right, of everything"""
    rows = draw_matrix(draw)
    right, texts, said = parts(rows)
    compared(
        score(answer, rows, "accuracy"),
        right.sum() / texts.sum(),
        "Accuracy is the sum of the diagonal, divided by the sum of the whole matrix.",
        {
            "This is the mean of the classes' recalls. Accuracy needs no classes: a text counts as much as "
            "any other.": (right / texts).mean(),
            "Accuracy is a share, from 0 to 1, and not a percentage.": 100 * right.sum() / texts.sum(),
            "This is the sum of the other diagonal: right answers stand where row and column have the same "
            "number.": np.fliplr(np.array(rows)).trace() / texts.sum(),
            "This is how many are right; divide by how many there are.": float(right.sum()),
            "This is the share that is wrong.": 1 - right.sum() / texts.sum(),
        },
    )


def two_classes(answer, draw):
    """macro F1, where both classes are alike"""
    right, wrong = draw.whole(5, 9).item(), draw.whole(1, 4).item()
    share = right / (right + wrong)
    compared(
        score(answer, [[right, wrong], [wrong, right]], "macro_f1"),
        share,
        f"In both classes {right} are right, and row and column have {right + wrong}: precision, recall, and "
        "with them F1, are all the same.",
        {
            "F1 has the 2 above the line: 2 * right / (row + column).": share / 2,
            "The classes' F1 are added up; macro F1 is their mean.": 2 * share,
            "F1 is a share, from 0 to 1, and not a percentage.": 100 * share,
        },
    )


def means(rows: list[list[int]]) -> dict[str, float]:
    """What people take for macro F1."""
    right, texts, said = parts(rows)
    precision, recall = (right / said).mean(), (right / texts).mean()
    f1 = 2 * right / (texts + said)
    return {
        "This is accuracy once more, which is also what *micro* F1 is: macro F1 is the mean of the classes' "
        "F1.": right.sum() / texts.sum(),
        "The classes are weighted by how many texts they have. In macro F1 a rare class counts as much as a "
        "frequent one.": (f1 * texts).sum() / texts.sum(),
        "This is the F1 of the mean precision and the mean recall. Take the F1 of each class first, then "
        "the mean.": 2 * precision * recall / (precision + recall),
        "This is the mean of the recalls alone: columns have something to say, too.": recall,
        "This is the mean of the precisions alone: rows have something to say, too.": precision,
        "F1 is not the plain mean of precision and recall, but 2 * precision * recall / (precision + "
        "recall).": (precision + recall) / 2,
    }


def macro(answer, draw):
    """macro F1, where the classes differ"""
    rows = draw_matrix(draw)
    right, texts, said = parts(rows)
    compared(
        score(answer, rows, "macro_f1"),
        (2 * right / (texts + said)).mean(),
        "Macro F1 is the mean of the classes' 2 * right / (row + column).",
        means(rows),
    )


def never_right(answer, draw):
    """a class of which nothing is right"""
    rows = draw_matrix(draw)
    rows[1] = [rows[1][0] + rows[1][1], 0, rows[1][2]]  # it is said, but of others
    right, texts, said = parts(rows)
    expected = (2 * right / (texts + said)).mean()
    found = number_or_raise(answer, rows, "of which nothing is right")
    compared(
        found,
        expected,
        "A class of which nothing is right has an F1 of 0, and counts in the mean.",
        {"You leave out the class of which nothing is right; its F1 is 0, and counts.": expected * 3 / 2},
    )


def never_said(answer, draw):
    """classes that are never said: a model that always gives the same answer"""
    count, chosen = draw.whole(4, 9).item(), draw.whole(0, 2).item()
    rows = [[count if column == chosen else 0 for column in range(3)] for _ in range(3)]
    expected = 2 * count / (count + 3 * count) / 3
    found = number_or_raise(answer, rows, "that is never said")
    compared(
        found,
        expected,
        "With an answer that is always the same, the F1 of two classes is 0, and the mean is over three.",
        {"You leave out the classes that are never said; their F1 is 0, and counts.": 3 * expected},
    )


def number_or_raise(answer, rows: list[list[int]], which: str) -> float:
    """macro F1; `Wrong` if it is none, for a class with nothing in its place."""
    try:
        found = score(answer, rows, "macro_f1")
    except Raised as raised:
        raise Wrong(f"A class {which} ends in a division by 0. {raised}") from None
    if math.isnan(found) or math.isinf(found):
        raise Wrong(
            f"A class {which} makes your result {found}: there is a 0 / 0 in its precision, or in its F1. "
            "2 * right / (row + column) has none."
        )
    return found


def other_sizes(answer, draw):
    """two to seven classes; and the matrix stays as it was"""
    for classes in (2, 4, 7):
        rows = draw_matrix(draw, classes)
        right, texts, said = parts(rows)
        found = answer.via(scores, rows)
        if found["after"] != rows:
            raise Wrong("Afterwards the matrix has other numbers than before: work on a copy.")
        for name, expected in (
            ("accuracy", right.sum() / texts.sum()),
            ("macro_f1", (2 * right / (texts + said)).mean()),
        ):
            compared(found[name], expected, f"With {classes} classes {name!r} is wrong.", {})


SCORES = Exercise(
    name="scores_from",
    number="13.1",
    title="macro F1 from the matrix",
    kind="Rebuild",
    minutes=20,
    difficulty=1,
    goal="A confusion matrix (C, C), rows for the truth and columns for the answers -> a dictionary with "
    "'accuracy' and 'macro_f1', with NumPy alone.",
    hints=(
        "`matrix.diagonal()` has the right ones of all classes at once; rows and columns are two sums.",
        "Accuracy needs no classes: what is right, of everything.",
        "For the constant model: its one class has 6 right, a row of 6 and a column of 18. The other two "
        "have an F1 of 0, and the mean is over three.",
    ),
    stub='''
def scores_from(matrix):
    """A NumPy array (C, C) of counts -> {"accuracy": ..., "macro_f1": ...}."""
    ...
''',
    mechanisms=(share_that_is_right, two_classes, macro, never_right, never_said, other_sizes),
    finished=("sklearn", "bert_edu.finetuning.metrics"),
    changes_input=True,  # NumPy's arrays are not compared; the last mechanism looks instead
)


# ---- 13.2 --------------------------------------------------------------------------------------------------

H = 5


class Reader(nn.Module):
    """Stands in for an encoder: what a token's vector is can be said beforehand.

    Args:
        reads_others: whether each token takes in the mean of all tokens that the mask shows.
    """

    def __init__(self, reads_others: bool = False):
        super().__init__()
        self.reads_others = reads_others
        self.config = SimpleNamespace(hidden_size=H, pad_token_id=0)
        self.eval()

    def forward(self, input_ids: Tensor, *, attention_mask=None, token_type_ids=None):
        """(B, T) -> last_hidden_state (B, T, H) and pooler_output (B, H)."""
        T = input_ids.shape[1]
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        segment = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        place = torch.arange(T)[:, None]
        hidden = torch.sin(0.37 * input_ids[..., None] + 1.3 * place + torch.arange(H)) + segment[..., None]
        if self.reads_others:
            shown = mask[..., None].float()  # (B, T, 1)
            hidden = hidden + (hidden * shown).sum(1, keepdim=True) / shown.sum(1, keepdim=True)
        return SimpleNamespace(last_hidden_state=hidden, pooler_output=torch.tanh(hidden[:, 0] - 0.3))


def draw_texts(draw, lengths: list[int], pairs: bool = False) -> list[tuple[list[int], list[int]]]:
    """(ids, segments) of texts of these lengths, between [CLS] = 2 and [SEP] = 3."""
    texts = []
    for length in lengths:
        ids = [2, *draw.whole(5, 60, length - 2).tolist(), 3]
        second = length // 2 if pairs else length
        texts.append((ids, [0] * second + [1] * (length - second)))
    return texts


def vectors(answer, bert: Reader, texts: list[tuple[list[int], list[int]]]) -> dict:
    """A driver: the vectors of texts, and whether the features are as they were."""
    features = [
        TextFeature(list(ids), list(segments), number % 3, number)
        for number, (ids, segments) in enumerate(texts)
    ]
    said = answer(bert, features)
    same = [(feature.input_ids, feature.token_type_ids) for feature in features] == texts
    return {"said": said, "same": same and len(features) == len(texts)}


def alone(bert: Reader, texts) -> list[Tensor]:
    """last_hidden_state (T, H) of each text by itself."""
    return [
        bert(torch.tensor([ids]), token_type_ids=torch.tensor([segments])).last_hidden_state[0]
        for ids, segments in texts
    ]


def together(bert: Reader, texts, *, mask: bool = True, segments: bool = True) -> tuple[Tensor, Tensor]:
    """last_hidden_state (B, T, H) of a padded batch, and its mask (B, T)."""
    T = max(len(ids) for ids, _ in texts)
    ids = torch.tensor([ids + [0] * (T - len(ids)) for ids, _ in texts])
    types = torch.tensor([types + [0] * (T - len(types)) for _, types in texts])
    shown = torch.tensor([[1] * len(row) + [0] * (T - len(row)) for row, _ in texts])
    output = bert(ids, attention_mask=shown if mask else None, token_type_ids=types if segments else None)
    return output.last_hidden_state, shown


def mean_over(hidden: Tensor, shown: Tensor) -> Tensor:
    return (hidden * shown[..., None]).sum(1) / shown.sum(1, keepdim=True)


def found_vectors(answer, bert: Reader, texts) -> Tensor:
    return answer.via(vectors, bert, texts)["said"]


def one_text(answer, draw):
    """one text: the mean of its tokens' vectors"""
    bert, texts = Reader(), draw_texts(draw, [6])
    (hidden,) = alone(bert, texts)
    pooled = bert(torch.tensor([texts[0][0]])).pooler_output
    expect(
        found_vectors(answer, bert, texts),
        hidden.mean(0, keepdim=True),
        "For a single text there is no padding, and its vector is the mean of `last_hidden_state` over its 6 "
        "tokens. Yours is not.",
        suspects={
            "This is the pooled vector; the mean of `last_hidden_state` is asked for.": pooled,
            "This is the vector of [CLS] alone.": hidden[:1],
            "This is the sum of the tokens' vectors: divide it by how many there are.": hidden.sum(
                0, keepdim=True
            ),
            "This is the largest of each number, and the mean is asked for.": hidden.amax(0, keepdim=True),
            "You leave out [CLS] and [SEP]. All tokens count here.": hidden[1:-1].mean(0, keepdim=True),
            "Your mean is one of no tokens, 0 / 0: 1 in the mask is a token, and 0 is padding.": torch.full(
                (1, H), torch.nan
            ),
        },
    )


def same_lengths(answer, draw):
    """several texts of one length: a vector each"""
    bert, texts = Reader(), draw_texts(draw, [5, 5, 5, 5])
    hidden = torch.stack(alone(bert, texts))  # (4, 5, H)
    expect(
        found_vectors(answer, bert, texts),
        hidden.mean(1),
        "With four texts of 5 tokens the vectors are wrong. The mean runs over the tokens, the second of "
        "the axes (B, T, H).",
    )


def padding(answer, draw):
    """texts of different lengths: padding does not count"""
    bert, texts = Reader(), draw_texts(draw, draw.shuffled([4, 7, 11]))
    hidden, shown = together(bert, texts)
    expect(
        found_vectors(answer, bert, texts),
        mean_over(hidden, shown),
        "With texts of 4, 7 and 11 tokens, the vectors are not the means over their own tokens.",
        suspects={
            "The vectors of the padding are in your mean: it runs over all T rows.": hidden.mean(1),
            "The padding is left out of the sum, but you divide by T. Divide by how many tokens the text "
            "has, the sum of its mask.": (hidden * shown[..., None]).mean(1),
            "The texts come back in another order, sorted by their length.": mean_over(hidden, shown)[
                shown.sum(1).argsort()
            ],
            "The texts come back in another order, the longest first.": mean_over(hidden, shown)[
                shown.sum(1).argsort(descending=True)
            ],
        },
    )


def company(answer, draw):
    """a text's vector does not depend on its company"""
    bert, texts = Reader(reads_others=True), draw_texts(draw, [4, 9, 6])
    hidden, shown = together(bert, texts)
    expect(
        found_vectors(answer, bert, texts),
        mean_over(hidden, shown),
        "When tokens read each other, the vector of a short text is another one in the company of a long "
        "one.",
        suspects={
            "The encoder is not told what is padding, and its tokens read it: hand it the "
            "attention_mask.": mean_over(together(bert, texts, mask=False)[0], shown),
        },
    )


def pairs(answer, draw):
    """pairs: the encoder is told which text a token belongs to"""
    bert, texts = Reader(), draw_texts(draw, [8, 10], pairs=True)
    hidden, shown = together(bert, texts)
    expect(
        found_vectors(answer, bert, texts),
        mean_over(hidden, shown),
        "For pairs the vectors are wrong.",
        suspects={
            "The encoder is not told which of the two texts a token belongs to: hand it the "
            "token_type_ids.": mean_over(together(bert, texts, segments=False)[0], shown),
        },
    )


def many_texts(answer, draw):
    """many texts; and the features stay as they were"""
    bert = Reader(reads_others=True)
    texts = draw_texts(draw, [3 + number * 7 % 17 for number in range(40)])
    found = answer.via(vectors, bert, texts)
    expect(
        found["said"],
        torch.stack([hidden.mean(0) for hidden in alone(bert, texts)]),
        "It was right for a few texts, and is wrong for forty.",
    )
    if not found["same"]:
        raise Wrong("Afterwards the features are others than before: the padding belongs into a copy.")


MEANS = Exercise(
    name="mean_vectors",
    number="13.2",
    title="the mean instead of [CLS]",
    kind="Extend",
    minutes=25,
    difficulty=2,
    goal="An encoder and a list of features -> (number of texts, H): for each text the mean of its tokens' "
    "vectors, the same in any company.",
    hints=(
        "`bert(**batch).last_hidden_state` is (B, T, H), and some of its T rows belong to padding.",
        '`batch["attention_mask"]` is 1 where there is a token. Divide by its sum, not by T.',
        '`mask = batch["attention_mask"].unsqueeze(-1)`, then `(hidden * mask).sum(1) / mask.sum(1)`.',
    ),
    stub='''
def mean_vectors(bert, features):
    """An encoder, and features with input_ids and token_type_ids -> (number of texts, H)."""
    ...
''',
    mechanisms=(one_text, same_lengths, padding, company, pairs, many_texts),
    changes_input=True,  # features are not compared; the last mechanism looks at them instead
)


# ---- 13.3 --------------------------------------------------------------------------------------------------


def rename(answer, gold: list[int], predicted: list[int]) -> dict:
    """A driver: the permutation, as a list of numbers, or that there is none."""
    given = (list(gold), list(predicted))
    said = answer(*given)
    if said is not None and not isinstance(said, (tuple, list, np.ndarray, Tensor)):
        raise Wrong(f"renamed must return a permutation, such as (1, 2, 0), or None, not {said!r:.60}.")
    numbers = None
    if said is not None:
        try:
            numbers = [int(number) for number in said]
        except (TypeError, ValueError):
            raise Wrong(f"A permutation consists of numbers, such as (1, 2, 0), not {said!r:.60}.") from None
    return {"said": numbers, "same": given == (gold, predicted)}


def permutation(answer, gold: list[int], predicted: list[int]) -> list[int] | None:
    """What the answer says; `Wrong` if it is no permutation of the classes."""
    said = answer.via(rename, gold, predicted)["said"]
    classes = max(gold + predicted) + 1
    if said is not None and sorted(said) != list(range(classes)):
        raise Wrong(
            f"With {classes} classes, a permutation has each number from 0 to {classes - 1} once, and yours "
            f"is {tuple(said)}."
        )
    return said


def right_after(gold: list[int], predicted: list[int], way) -> int:
    return sum(way[said] == truth for truth, said in zip(gold, predicted))


def draw_answers(draw, way: tuple[int, ...], each: int = 6, wrong: int = 0) -> tuple[list[int], list[int]]:
    """Truth and answers, such that `way` turns nearly all answers into the truth.

    Args:
        each: texts of each class.
        wrong: how many answers are not even right then.
    """
    classes = len(way)
    gold = draw.shuffled([number for number in range(classes) for _ in range(each)])
    predicted = [way.index(truth) for truth in gold]
    for place in draw.shuffled(range(len(gold)))[:wrong]:
        predicted[place] = (predicted[place] + draw.whole(1, classes - 1).item()) % classes
    return gold, predicted


def two_swapped(answer, draw):
    """two classes that have changed names"""
    gold, predicted = draw_answers(draw, (1, 0, 2))
    said = permutation(answer, gold, predicted)
    if said is None:
        raise NotYet("It returns None, where a third of the answers is right and (1, 0, 2) mends the others.")
    if said != [1, 0, 2]:
        raise Wrong(f"Two of three classes have changed names: (1, 0, 2), and you say {tuple(said)}.")


def all_right(answer, draw):
    """answers as they should be: None"""
    gold, predicted = draw_answers(draw, (0, 1, 2))
    said = permutation(answer, gold, predicted)
    if said == [0, 1, 2]:
        raise Wrong("All answers are right as they are: then None, and not the permutation (0, 1, 2).")
    if said is not None:
        raise Wrong(f"All answers are right as they are: None, and you say {tuple(said)}.")


def in_a_circle(answer, draw):
    """three classes, each with the name of the next"""
    for way in draw.shuffled([(1, 2, 0), (2, 0, 1)]):
        gold, predicted = draw_answers(draw, way)
        said = permutation(answer, gold, predicted)
        if said == list(way):
            continue
        if said is not None and [said.index(number) for number in range(3)] == list(way):
            raise Wrong(
                f"This is the way back. Your {tuple(said)} turns the truth into the answers; {way} turns the "
                "answers into the truth: the answer a becomes p[a]."
            )
        if said is None:
            raise Wrong(f"Three classes have changed names in a circle, {way}: you find no permutation.")
        raise Wrong(f"Three classes have changed names in a circle, {way}, and you say {tuple(said)}.")


def honest_mistakes(answer, draw):
    """a model with mistakes of the ordinary kind: None"""
    gold, predicted = draw_answers(draw, (0, 1, 2), each=10, wrong=9)
    said = permutation(answer, gold, predicted)
    if said is not None:
        raise Wrong(
            "A model that is right in 21 of 30 cases is best left as it is: None, even if not all is right. "
            f"You say {tuple(said)}, which makes {right_after(gold, predicted, said)} right."
        )


def renamed_with_mistakes(answer, draw):
    """changed names, and mistakes on top"""
    for way in ((2, 0, 1), (0, 2, 1)):
        gold, predicted = draw_answers(draw, way, each=10, wrong=8)
        said = permutation(answer, gold, predicted)
        if said is None:
            raise Wrong(
                f"With {way} 22 of 30 answers would be right. No permutation makes all of them right, and "
                "the best one is asked for."
            )
        if said != list(way):
            raise Wrong(
                f"{way} makes 22 of 30 answers right, and your {tuple(said)} only "
                f"{right_after(gold, predicted, said)}."
            )


def unequal_classes(answer, draw):
    """classes of different sizes; how often each is said tells nothing"""
    gold = [0] * 9 + [1] * 5 + [2] * 2
    predicted = [1] * 9 + [0] * 5 + [2] * 2
    order = draw.shuffled(range(16))
    gold, predicted = [gold[place] for place in order], [predicted[place] for place in order]
    said = permutation(answer, gold, predicted)
    if said != [1, 0, 2]:
        raise Wrong(f"Here it is (1, 0, 2): a class keeps its name. You say {said and tuple(said)}.")
    gold = [0, 0, 0, 1, 1, 1, 2, 2, 2] * 2
    predicted = [0, 0, 1, 1, 1, 0, 2, 2, 1] * 2
    if permutation(answer, gold, predicted) is not None:
        raise Wrong("Two thirds are right as they are, and no permutation makes more of them right: None.")


def missing_classes(answer, draw):
    """a class that is never said, or never true"""
    for which, gold, predicted in (
        ("true", [0, 1, 0, 1, 0, 1], [2, 1, 2, 1, 2, 1]),
        ("said", [2, 1, 2, 1, 2, 1], [0, 1, 0, 1, 0, 1]),
    ):
        lesson = (
            f"A class that is never {which} is one all the same: there are as many classes as the largest "
            "number in both lists says. Here it is (2, 1, 0)"
        )
        try:
            said = permutation(answer, gold, predicted)
        except Raised as raised:
            raise Wrong(f"{lesson}. {raised}") from None
        if said != [2, 1, 0]:
            raise Wrong(f"{lesson}, and you say {said and tuple(said)}.")


def any_number(answer, draw):
    """two to five classes; and the lists stay as they were"""
    for classes in (2, 4, 5):
        way = (*range(1, classes), 0)
        gold, predicted = draw_answers(draw, way)
        said = permutation(answer, gold, predicted)
        if said != list(way):
            raise Wrong(f"With {classes} classes it is {way}, and you say {said and tuple(said)}.")
        if not answer.via(rename, gold, predicted)["same"]:
            raise Wrong("Afterwards the lists are others than before: work on a copy.")


RENAMED = Exercise(
    name="renamed",
    number="13.3",
    title="worse than guessing",
    kind="Find the bug",
    minutes=20,
    difficulty=2,
    goal="Two lists of class numbers, the truth and the answers -> the permutation of the answers that makes "
    "accuracy highest, or None if that is the answers as they are.",
    hints=(
        "Whoever guesses is right in a third. What does it take to be right more seldom than that?",
        "What does `numbers` hold after each of the three files? That `dev` comes out well is luck.",
        "`itertools.permutations(range(3))` gives all six. For a permutation `p`, the answer `a` becomes "
        "`p[a]`.",
    ),
    stub='''
def renamed(gold, predicted):
    """Two lists of numbers from 0 -> a permutation such as (1, 2, 0), or None."""
    ...
''',
    mechanisms=(
        two_swapped,
        all_right,
        in_a_circle,
        honest_mistakes,
        renamed_with_mistakes,
        unequal_classes,
        missing_classes,
        any_number,
    ),
    changes_input=True,  # the last mechanism looks at the lists
)

EXERCISES = (SCORES, MEANS, RENAMED)
