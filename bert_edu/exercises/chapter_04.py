"""Exercises of chapter 4, attention: how does a token read the others?"""

import math

import torch
from torch import Tensor

from ..attention import HIDDEN_KEY_BIAS, attention_bias, scaled_dot_product_attention
from .engine import Exercise, expect, tensor_of
from .sandbox import Wrong

FINISHED_ATTENTION = (
    "bert_edu.attention.scaled_dot_product_attention",
    "bert_edu.attention.MultiHeadSelfAttention",
)
TORCH_ATTENTION = ("scaled_dot_product_attention", "multi_head_attention_forward")
ROUNDED = 3e-3  # beside a bias of 10000, float32 keeps three decimals of a score


def right_context(query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """What the package gives: (B, T, D)."""
    bias = None if attention_mask is None else attention_bias(attention_mask, query.dtype)[:, 0]  # (B, 1, T)
    return scaled_dot_product_attention(query, key, value, bias)[0]


def context(scores: Tensor, value: Tensor) -> Tensor:
    """The context that these scores lead to."""
    return scores.softmax(dim=-1) @ value


def draw_vectors(draw, *shape: int, count: int = 3) -> list[Tensor]:
    return [draw.normal(*shape) for _ in range(count)]


# ---- Mechanisms of attention with a mask -------------------------------------------------------------------


def one_token(answer, draw):
    """one token: the context is its own value"""
    B, D = draw.sizes(2, 2, 7)
    query, key, value = draw_vectors(draw, B, 1, D)
    expect(
        answer(query, key, value, torch.ones(B, 1, dtype=torch.long)),
        value,
        "With one token there is one share, and it is 1 whatever the score is. So the context must be that "
        "token's value, and yours is not: look at what you do with the values.",
        suspects={
            "With one token the context must be its value. You return its query.": query,
            "With one token the context must be its value. You return its key.": key,
        },
    )


def equal_scores(answer, draw):
    """equal scores: the context is the mean of the values"""
    B, T, D = draw.sizes(3, 3, 8)
    query, key, value = draw_vectors(draw, B, T, D)
    expect(
        answer(0 * query, key, value, torch.ones(B, T, dtype=torch.long)),
        value.mean(dim=1, keepdim=True).expand(B, T, D),
        f"With a query of zeros all {T} scores are equal, so each token gets a share of 1/{T}, and the "
        "context is the mean of the values. Yours is not.",
        suspects={
            f"With equal scores you return the sum of the {T} values in place of their mean: the shares are "
            "not divided by their sum.": value.sum(dim=1, keepdim=True).expand(B, T, D),
        },
    )


def shares_sum_to_one(answer, draw):
    """each reading token gives away shares that sum to 1"""
    B, T = 2, 4
    query, key = draw_vectors(draw, B, T, 6, count=2)
    value = torch.eye(6)[:T].expand(B, T, 6)  # so that the context shows the shares themselves
    shares = tensor_of(answer(query, key, value, torch.ones(B, T, dtype=torch.long)), value)[..., :T]
    if not torch.allclose(shares.sum(dim=-1), torch.ones(B, T), atol=1e-3):
        if torch.allclose(shares.sum(dim=-2), torch.ones(B, T), atol=1e-3):
            raise Wrong(
                "The shares that a token *receives* sum to 1. Those that it *gives away* must: each row of "
                "(T, T) belongs to one query, and the sum runs over the keys, the last dimension."
            )
        raise Wrong(
            f"The shares of one reading token must sum to 1, and yours sum to {shares[0, 0].sum():.3f}: "
            "divide by the sum over the keys, the last dimension."
        )


def the_scores(answer, draw):
    """scores: query times key, divided by the root of D"""
    B, T, D = draw.sizes(3, 3, 9)
    query, key, value = draw_vectors(draw, B, T, D)
    raw = query @ key.transpose(-2, -1)  # (B, T, T)
    expect(
        answer(query, key, value, torch.ones(B, T, dtype=torch.long)),
        right_context(query, key, value),
        f"Without padding, for T = {T} and D = {D}, the shares are not those of q · k / sqrt(D).",
        suspects={
            "The scores are not scaled: divide them by the square root of D, the length of a query.": context(
                raw, value
            ),
            f"The scores are divided by the root of T, the number of tokens ({T} here); it must be the root "
            f"of D, the length of a query ({D} here). With T = D nobody would notice.": context(
                raw / math.sqrt(T), value
            ),
            "The scores are divided by D: it must be its square root.": context(raw / D, value),
            "The scores are multiplied by the root of D: divide.": context(raw * math.sqrt(D), value),
            "Query and key have changed places: row i must hold the scores of query i.": context(
                raw.transpose(-2, -1) / math.sqrt(D), value
            ),
        },
        tolerance=ROUNDED,  # a mask that is the wrong way round is a matter for later
    )


def padding(answer, draw):
    """padded keys get no share"""
    B, T, D = 3, 6, 4
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    query, one_key, value = draw.normal(B, T, D), draw.normal(B, 1, D), draw.normal(B, T, D)
    key = one_key.expand(B, T, D)  # all keys alike: a query scores them all the same, however it is scaled
    scores = query @ key.transpose(-2, -1)
    shown = mask[:, None, :].float()  # (B, 1, T)

    def mean(shown):
        return shown @ value / shown.sum(dim=-1, keepdim=True)

    expect(
        answer(query, key.contiguous(), value, mask),
        mean(shown).expand(B, T, D),
        "When all keys are alike, the context is the mean of the values that may be read: the padded ones "
        "must not count, and all others must count alike. Yours is something else.",
        suspects={
            "Padded keys are read like any other. Either the mask is not used, or it varies along the "
            "queries, (B, T, 1): that adds the same number to all scores of a row, which changes no share. "
            "Hide the keys, the columns: (B, 1, T).": mean(torch.ones(B, 1, T)).expand(B, T, D),
            "The mask is the wrong way round: 1 means read, 0 means hide, and your "
            "answer reads the padding.": context(scores + mask[:, None, :] * HIDDEN_KEY_BIAS, value),
            "The padded keys lose their share after softmax, and nobody gets it: the rows no longer sum to "
            "1. Hide them before, in the scores.": context(0 * scores, value * mask[..., None]),
            "You multiply the scores by the mask. A score of 0 is not a share of 0: exp(0) is 1. Add a large "
            "negative number.": context(scores / math.sqrt(D) * shown, value),
            "Keys and queries are hidden. A padded query is computed like any other, and nobody reads the "
            "result: hide the keys, the columns, alone.": context(
                (1 - mask[:, None, :] * mask[:, :, None]) * HIDDEN_KEY_BIAS, value
            ),
        },
    )


def all_padding(answer, draw):
    """a sequence that is all padding gives numbers, the package's"""
    query, key, value = draw_vectors(draw, 2, 5, 3)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    expected = right_context(query, key, value, mask)
    found = tensor_of(answer(query, key, value, mask), expected)
    if found.isnan().any():
        raise Wrong(
            "When every key of a sequence is hidden, your answer gives NaN: minus infinity everywhere is 0 / "
            "0. With -10000 all scores sink alike, and the shares stay what they were."
        )
    uniform = torch.stack([expected[0], value[1].mean(dim=0).expand(5, 3)])
    expect(
        found,
        expected,
        "A sequence that is all padding must give what the package gives: with -10000 added to every score, "
        "the shares stay what they were.",
        suspects={
            "In a sequence that is all padding, your scores are all the same in the end. The package *adds* "
            "-10000 to them: putting it in their place, or adding so much that float32 forgets the score, "
            "gives other shares.": uniform,
            "A sequence that is all padding gives 0 in your answer; the package's does not.": torch.stack(
                [expected[0], torch.zeros(5, 3)]
            ),
        },
        tolerance=ROUNDED,
    )


def large_scores(answer, draw):
    """scores in the thousands stay finite"""
    key, value = draw.normal(1, 4, 3).abs() + 0.5, draw.normal(1, 4, 3)  # no component of a key is negative

    def stays_right(query, key, mask, message):
        expected = right_context(query, key, value, torch.tensor([mask]))
        found = tensor_of(answer(query, key, value, torch.tensor([mask])), expected)
        expect(found.nan_to_num(nan=1e9), expected, message)

    alike = torch.full((1, 4, 3), 1000.0)  # all rows of scores are the same
    stays_right(
        alike,
        key,
        [1, 1, 1, 1],
        "Scores of a thousand overflow: exp(100) is already too large for 32 bits, and inf / inf is NaN. "
        "Subtract the largest score of each row first; that changes no share.",
    )
    stays_right(
        alike * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None],
        key,
        [1, 1, 1, 1],
        "You subtract the largest score of the whole matrix. In a row whose scores all lie far below it, "
        "every exp is 0, and 0 / 0 is NaN: each row needs its own largest score.",
    )
    stays_right(
        alike,
        key * torch.tensor([1.0, 1.0, 1.0, 3.0])[:, None],
        [1, 1, 1, 0],
        "The largest score is looked for before the padding is hidden. If it belongs to a hidden key, all "
        "that is left is exp of something far below 0. Add the bias first.",
    )


STABLE = Exercise(
    name="stable_attention",
    number="4.1",
    title="attention that never overflows",
    kind="Rebuild",
    minutes=15,
    difficulty=2,
    goal="Attention with a mask, for vectors (B, T, D) and a mask (B, T), without any softmax of PyTorch's: "
    "equal to the package's, and finite when scores are in the thousands.",
    hints=(
        "You have seen something that may be added to all scores of a row without changing the shares.",
        "If the largest score of each row is 0, no $e^s$ is above 1. Subtract `scores.max(dim=-1, "
        "keepdim=True).values`.",
        "The bias that hides the padded keys is `(1.0 - attention_mask[:, None, :]) * -10000.0`. Add it "
        "before you look for the largest score.",
    ),
    stub='''
def stable_attention(query, key, value, attention_mask):
    """(B, T, D) three times and a mask (B, T) -> the context (B, T, D)."""
    ...
''',
    mechanisms=(one_token, equal_scores, shares_sum_to_one, the_scores, padding, large_scores, all_padding),
    finished=FINISHED_ATTENTION,
    operations=("softmax", "log_softmax", "softmin", "safe_softmax", *TORCH_ATTENTION),
)


# ---- 4.2 ---------------------------------------------------------------------------------------------------


def loss_by_distance(answer, T: int, slope: float) -> Tensor:
    """How much each key loses against the reading token itself, by the answer: (T, T).

    Only this matters: what is added to a whole row changes no share.
    """
    bias = tensor_of(answer(T, slope), torch.zeros(T, T))
    if not bias.isfinite().all():
        raise Wrong(
            "Some tokens are hidden altogether: your matrix is not finite. BERT reads to both sides, and "
            "however far a token is, something of its share is left."
        )
    return bias - bias.diagonal()[:, None]


def distances(T: int) -> Tensor:
    """j - i for query i and key j: (T, T)."""
    return (torch.arange(T)[None, :] - torch.arange(T)[:, None]).float()


def no_slope(answer, draw):
    """slope 0 changes nothing"""
    T = draw.sizes(1, 3, 7)[0]
    expect(
        loss_by_distance(answer, T, 0.0),
        torch.zeros(T, T),
        "With slope 0 the distance must not matter, and some of your keys gain or lose all the same.",
    )


def one_step(answer, draw):
    """the next token's share is smaller by the factor exp(-slope)"""
    slope = 0.3 + draw.whole(1, 5).item() / 10
    found = loss_by_distance(answer, 2, slope)[:1, 1:]  # query 0, key 1
    expect(
        found,
        torch.full((1, 1), -slope),
        f"With slope {slope:.1f} the next token must lose {slope:.1f} of its score, so that its share falls "
        f"by exp(-{slope:.1f}). In your matrix it changes by {found.item():.3f}.",
        suspects={
            "The sign is the wrong way round: in your matrix a token gains with distance.": torch.full(
                (1, 1), slope
            ),
            "Your matrix holds the factors themselves. It is added to the scores, and softmax takes exp of "
            "it: what becomes exp(-slope) is -slope.": torch.full((1, 1), math.exp(-slope) - 1),
            "The next token loses nothing: one side of the matrix has no slope.": torch.zeros(1, 1),
        },
    )


def both_sides(answer, draw):
    """it falls to both sides"""
    found = loss_by_distance(answer, 2, 0.5)[1:, :1]  # query 1, key 0
    expect(
        found,
        torch.full((1, 1), -0.5),
        "The token before must lose as much as the token after, and in your matrix it does not.",
        suspects={
            "The token before *gains*: the distance of two tokens has no sign. Take the absolute value of i "
            "- j.": torch.full((1, 1), 0.5),
            "The token before loses nothing: only one side of your matrix is filled.": torch.zeros(1, 1),
        },
    )


def every_step(answer, draw):
    """each further step costs as much as the first"""
    T, slope = 7, 0.4
    found, far = loss_by_distance(answer, T, slope), distances(T).abs()
    expect(
        found,
        -slope * far,
        "Two steps away a token must lose twice the slope, three steps away three times. In the first row "
        f"of your matrix, tokens 0 to 3 lose {', '.join(f'{-number:.2f}' for number in found[0, :4])}.",
        suspects={
            "The loss grows with the square of the distance; each step must cost the same.": -slope * far**2,
            "All tokens but the reading one lose the same, near and far.": -slope * (far > 0),
            "The loss grows with the logarithm of the distance; each step must cost the same.": -slope
            * torch.log2(1 + far),
        },
    )


def any_length(answer, draw):
    """any number of tokens, any slope"""
    for T in (1, *draw.sizes(2, 9, 30)):
        slope = 0.05 * draw.whole(1, 60).item()
        expect(
            loss_by_distance(answer, T, slope),
            -slope * distances(T).abs(),
            f"It was right for short rows, and is wrong for T = {T} with slope {slope:.2f}.",
        )


DISTANCE = Exercise(
    name="distance_bias",
    number="4.2",
    title="nearer tokens count more",
    kind="Extend",
    minutes=15,
    difficulty=2,
    goal="A matrix (T, T) to add to the scores: when all scores are equal, the share falls by the factor "
    "exp(-slope) with each step away from the reading token, to both sides.",
    hints=(
        "What is added to a score becomes a factor of the share. Which number becomes $e^{-slope}$, and "
        "which $e^{-2 \\cdot slope}$?",
        "The entry for query $i$ and key $j$ is $-slope \\cdot |i - j|$.",
        "`position[:, None] - position[None, :]` with `position = torch.arange(T)` is the matrix of all $i - "
        "j$.",
    ),
    stub='''
def distance_bias(T, slope):
    """How many tokens, and what a step costs -> (T, T), to be added to the scores."""
    ...
''',
    mechanisms=(no_slope, one_step, both_sides, every_step, any_length),
)


# ---- 4.3 ---------------------------------------------------------------------------------------------------


def the_authors_test(answer, draw):
    """the author's test: one sequence, T = 4, D = 4, no padding"""
    query, key, value = draw_vectors(draw, 1, 4, 4)
    raw = query @ key.transpose(-2, -1)
    expect(
        answer(query, key, value, torch.ones(1, 4, dtype=torch.long)),
        right_context(query, key, value),
        "The function was right for one sequence of four tokens with D = 4 and no padding. Yours no longer "
        "is.",
        suspects={
            "The function was right for T = D = 4 without padding. In yours the scores are "
            "not scaled at all.": context(raw, value),
            "The function was right for T = D = 4 without padding. In yours the scores are divided by D, not "
            "by its root.": context(raw / 4, value),
        },
        tolerance=ROUNDED,
    )


MENDED = Exercise(
    name="attention_mended",
    number="4.3",
    title="it passed its test",
    kind="Find the bug",
    minutes=20,
    difficulty=3,
    goal="The same function with both of its bugs mended, for vectors (B, T, D) and a mask (B, T): equal to "
    "the package's.",
    hints=(
        "What do four tokens with D = 4 and no padding have in common that other inputs have not? Choose "
        "sizes that are all different, and pad.",
        "Print the shape of `scores` and of `bias`. Which of the three numbers belongs under the root? Along "
        "which dimension does the bias vary?",
        "A bias of shape (B, T, 1) adds the same number to all scores of a row. You have proved what that "
        "does.",
    ),
    stub='''
def attention_mended(query, key, value, attention_mask):
    """(B, T, D) three times and a mask (B, T) -> the context (B, T, D)."""
    ...
''',
    mechanisms=(the_authors_test, the_scores, padding, all_padding),
    finished=FINISHED_ATTENTION,
    operations=TORCH_ATTENTION,
)

EXERCISES = (STABLE, DISTANCE, MENDED)
