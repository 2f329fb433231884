"""Exercises of chapter 5, multi-head attention: why many small heads?"""

import math

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..attention import HIDDEN_KEY_BIAS, MultiHeadSelfAttention, scaled_dot_product_attention
from ..config import BertConfig
from .chapter_04 import FINISHED_ATTENTION, TORCH_ATTENTION
from .engine import Exercise, expect, tensor_of
from .sandbox import Raised, Wrong

FLOAT64 = torch.float64


# ---- 5.1 ---------------------------------------------------------------------------------------------------


def draw_state(draw, H: int) -> dict[str, Tensor]:
    """Weights of a `MultiHeadSelfAttention`, far from any initial value."""
    return {
        "query_key_value.weight": 0.5 * draw.normal(3 * H, H, dtype=FLOAT64),
        "query_key_value.bias": 0.5 * draw.normal(3 * H, dtype=FLOAT64),
        "output.weight": 0.5 * draw.normal(H, H, dtype=FLOAT64),
        "output.bias": 0.5 * draw.normal(H, dtype=FLOAT64),
    }


def right_heads(hidden: Tensor, state: dict[str, Tensor], num_heads: int, bias: Tensor | None = None):
    """What the package gives."""
    config = BertConfig(hidden_size=hidden.shape[-1], num_attention_heads=num_heads)
    layer = MultiHeadSelfAttention(config).double().eval()
    layer.load_state_dict(state)
    with torch.no_grad():
        return layer(hidden, bias=bias)[0]


def with_mistake(hidden: Tensor, state: dict[str, Tensor], num_heads: int, bias=0.0, mistake: str = ""):
    """The same step by step, with one mistake, if one is named: what an answer with this mistake returns."""
    H = hidden.shape[-1]
    A, D = num_heads, H // num_heads
    weight, offset = state["query_key_value.weight"], state["query_key_value.bias"]
    if mistake == "head, then part":
        weight, offset = (w.view(A, 3, D, -1).transpose(0, 1).reshape(w.shape) for w in (weight, offset))
    if mistake in ("components interleaved", "components interleaved, not merged so"):
        weight, offset = (w.view(3, D, A, -1).transpose(1, 2).reshape(w.shape) for w in (weight, offset))
    if mistake == "no offsets":
        offset = torch.zeros_like(offset)
    query, key, value = (
        part.unflatten(-1, (A, D)).transpose(1, 2) for part in (hidden @ weight.T + offset).chunk(3, dim=-1)
    )  # (B, A, T, D) each
    if mistake == "query as value":
        value = query
    if mistake == "key as value":
        value = key
    raw = query @ key.transpose(-2, -1)  # (B, A, T, T)
    if mistake == "swapped":
        raw = raw.transpose(-2, -1)
    divisor = {"not scaled": 1.0, "root of H": math.sqrt(H), "root of T": math.sqrt(hidden.shape[1])}
    scores = raw / divisor.get(mistake, math.sqrt(D))
    if mistake == "bias before scaling":
        scores = scores + bias / math.sqrt(D)
    elif mistake != "bias afterwards":
        scores = scores + bias
    shares = scores.softmax(dim=-2 if mistake == "over queries" else -1)
    if mistake == "over heads":
        shares = scores.softmax(dim=1)
    if mistake == "bias afterwards":
        shares = shares + bias
    context = (shares @ value).transpose(1, 2)  # (B, T, A, D)
    if mistake in ("components interleaved", "not merged so"):
        context = context.transpose(2, 3)
    output = state["output.weight"].T if mistake == "output transposed" else state["output.weight"]
    result = context.flatten(2) @ output.T
    return result if mistake == "no output offset" else result + state["output.bias"]


def compare_heads(answer, draw, message, sizes, mistakes: dict[str, str], bias=None, tolerance=1e-6):
    """Compares an answer with the package; `mistakes`: what to say -> a mistake of `with_mistake`."""
    B, T, H, A = sizes
    hidden, state = draw.normal(B, T, H, dtype=FLOAT64), draw_state(draw, H)
    arguments = (hidden, state, A) if bias is None else (hidden, state, A, bias)
    suspects = {
        said: with_mistake(hidden, state, A, 0.0 if bias is None else bias, name)
        for said, name in mistakes.items()
    }
    right = right_heads(hidden, state, A, bias)
    expect(answer(*arguments), right, message, suspects=suspects, tolerance=tolerance)


def one_head_one_token(answer, draw):
    """one head, one token: the value, through the output projection"""
    compare_heads(
        answer,
        draw,
        "With one token its share is 1: the result is its value (the last third of the rows of "
        "query_key_value), put through the output projection. Yours is something else.",
        (2, 1, 6, 1),
        {
            "The output projection lacks its bias, `output.bias`.": "no output offset",
            "Query, key and value lack their bias, `query_key_value.bias`.": "no offsets",
            "The output weight is applied the wrong way round: a linear layer computes `x @ weight.T`, each "
            "row of the weight gives one output.": "output transposed",
            "You take the first third of the rows for the values; these come last.": "query as value",
            "You take the second third of the rows for the values; these come last.": "key as value",
        },
    )


def one_head(answer, draw):
    """one head, several tokens: ordinary attention"""
    compare_heads(
        answer,
        draw,
        "With one head this is the attention of chapter 4, between two projections. With one token yours was "
        "right; with several the shares are not.",
        (2, 5, 6, 1),
        {
            "The scores are not scaled: divide them by the square root of D.": "not scaled",
            "The scores are divided by the root of T, the number of tokens, not of D.": "root of T",
            "Query and key have changed places: row i must hold the scores of query i.": "swapped",
            "Softmax runs over the heads, so that with one head every share is 1. It runs over the keys.": (
                "over heads"
            ),
            "Softmax runs over the queries: the shares of each reading token must sum to 1.": "over queries",
        },
    )


def heads_one_token(answer, draw):
    """several heads, one token: which rows and columns belong to a head"""
    compare_heads(
        answer,
        draw,
        "With one head you were right; with three heads and one token the numbers are not where they belong. "
        "The rows of query_key_value are ordered by part, then head, then component: (3, A, D, H).",
        (2, 1, 12, 3),
        {
            "You read the rows of query_key_value as head, then part: (A, 3, D, H). Their order is part, "
            "then head, then component: (3, A, D, H).": "head, then part",
            "A head's rows are not next to each other in your answer: you read them as (3, D, A, H). Their "
            "order is part, then head, then component.": "components interleaved, not merged so",
            "The columns of the output weight are ordered by head, then component: (H, A, D). You read them "
            "as (H, D, A).": "not merged so",
        },
    )


def heads(answer, draw):
    """several heads, several tokens: each head has shares of its own"""
    compare_heads(
        answer,
        draw,
        "With one head, and with one token, you were right. With 3 heads of 4 components and 5 tokens the "
        "heads do not each attend by themselves.",
        (2, 5, 12, 3),
        {
            "The scores are divided by the root of H. A head's queries have D = H / A components, and the "
            "root of D is what keeps their scores at scale 1.": "root of H",
            "You read the rows of a head as every A-th row, in query, key, value and output alike. With one "
            "token that goes unnoticed; but the scores add up other components: "
            "(3, A, D, H).": "components interleaved",
        },
    )


def with_bias(answer, draw):
    """a bias is added to the scores"""
    bias = draw.normal(2, 1, 1, 5, dtype=FLOAT64)
    compare_heads(
        answer,
        draw,
        "Without a bias your answer is right, and with a bias of shape (B, 1, 1, T) it is not.",
        (2, 5, 12, 3),
        {
            "The bias is divided by the root of D, with the scores. It comes after the scaling.": "bias "
            "before "
            "scaling",
            "The bias is added to the shares. It belongs to the scores, before softmax.": "bias afterwards",
        },
        bias,
    )


def bias_hides(answer, draw):
    """padding stays hidden, and float64 stays float64"""
    bias = torch.zeros(2, 1, 1, 7, dtype=FLOAT64)
    bias[1, ..., 4:] = HIDDEN_KEY_BIAS
    for A in (1, 3, 6):
        compare_heads(
            answer,
            draw,
            f"With A = {A}, H = 18 and a bias that hides three tokens, you are close, but not within 1e-10. "
            f"Is something turned into float32 on the way?",
            (2, 7, 18, A),
            {},
            bias,
            tolerance=1e-10,
        )


def bias_is_used(answer, draw):
    """the bias is not forgotten"""
    bias = draw.normal(2, 1, 1, 5, dtype=FLOAT64)
    hidden, state = draw.normal(2, 5, 12, dtype=FLOAT64), draw_state(draw, 12)
    found, expected = answer(hidden, state, 3, bias), right_heads(hidden, state, 3, bias)
    found = tensor_of(found, expected)
    without = tensor_of(answer(hidden, state, 3), expected)
    if torch.equal(found, without):
        raise Wrong("With and without a bias your answer returns the same: it must be added to the scores.")


HEADS = Exercise(
    name="multi_head",
    number="5.1",
    title="no split, no merge",
    kind="Rebuild",
    minutes=20,
    difficulty=2,
    goal="The output of a `MultiHeadSelfAttention` from its weights, (B, T, H), without ever reshaping the "
    "token vectors: equal to the package to 1e-10 in float64, with and without a bias.",
    hints=(
        "`query_key_value.weight` has the shape (3H, H). Its rows are ordered by part, then head, then "
        "component: which `view` gives (3, A, D, H)?",
        '`torch.einsum("bth,sadh->sbatd", hidden, weight)` makes all queries, keys and values at once; '
        "s is the part. The bias needs the shape (3, 1, A, 1, D).",
        "The output weight is (H, H), one row for each output number, and its columns are ordered by head, "
        "then component: `view(H, A, D)`. One einsum from (B, A, T, D) and (H, A, D) to (B, T, H) merges and "
        "projects.",
    ),
    stub='''
def multi_head(hidden, state, num_heads, bias=None):
    """Token vectors (B, T, H) and the state_dict of a MultiHeadSelfAttention -> (B, T, H)."""
    ...
''',
    mechanisms=(one_head_one_token, one_head, heads_one_token, heads, bias_is_used, with_bias, bias_hides),
    finished=FINISHED_ATTENTION,
    operations=TORCH_ATTENTION,
)


# ---- 5.2 ---------------------------------------------------------------------------------------------------


def draw_heads(draw, T: int) -> list[Tensor]:
    """Query, key and value, (B, A, T, D) each."""
    return [draw.normal(1, 2, T, 3, dtype=FLOAT64) for _ in range(3)]


def in_blocks(query, key, value, block: int, shrink_weights=True, shrink_weighted=True) -> Tensor:
    """Attention in blocks; without `shrink`, a sum keeps what it had when a larger score comes."""
    largest = torch.full_like(query[..., :1], -math.inf)  # (B, A, T, 1)
    weights, weighted = torch.zeros_like(largest), torch.zeros_like(value)
    for keys, values in zip(key.split(block, dim=-2), value.split(block, dim=-2)):
        scores = query @ keys.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, A, T, block)
        new = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
        part, shrink = (scores - new).exp(), (largest - new).exp()
        weights = weights * (shrink if shrink_weights else 1.0) + part.sum(dim=-1, keepdim=True)
        weighted = weighted * (shrink if shrink_weighted else 1.0) + part @ values
        largest = new
    return weighted / weights


def one_block(answer, draw):
    """one block holds all keys: ordinary attention"""
    query, key, value = draw_heads(draw, 5)
    raw = query @ key.transpose(-2, -1)
    expect(
        answer(query, key, value, 5),
        scaled_dot_product_attention(query, key, value)[0],
        "With a block as long as the sequence there is nothing to join: the result must be ordinary "
        "attention.",
        suspects={
            "With a single block yours is attention with scores that are not scaled: divide by the square "
            "root of D.": raw.softmax(dim=-1) @ value,
            "The two sums are never divided: the result is the sum of exp(score) times value.": (
                raw / 2 - (raw / 2).amax(dim=-1, keepdim=True)
            ).exp()
            @ value,
        },
        tolerance=1e-6,
    )


def equal_blocks(answer, draw):
    """equal scores, blocks of the same length: the mean of all values"""
    query, key, value = draw_heads(draw, 6)

    def of_all(mean):
        return mean.expand_as(value)

    block_means = value.unflatten(2, (3, 2)).mean(dim=3)  # (B, A, 3, D)
    expect(
        answer(0 * query, key, value, 2),
        of_all(value.mean(dim=2, keepdim=True)),
        "With a query of zeros and three blocks of two keys, the result must be the mean of all six values.",
        suspects={
            "The result is that of the last block alone: the sums must go on from block to block.": of_all(
                block_means[:, :, -1:]
            ),
            "The result is that of the first block alone: is there a return inside the loop?": of_all(
                block_means[:, :, :1]
            ),
            "Each block's result is added to the next: the shares of three blocks sum to 3. Keep two sums, "
            "and divide once, at the end.": of_all(block_means.sum(dim=2, keepdim=True)),
        },
        tolerance=1e-6,
    )


def unequal_blocks(answer, draw):
    """the last block may be shorter"""
    query, key, value = draw_heads(draw, 7)
    means = torch.stack([part.mean(dim=2) for part in value.split(3, dim=2)])  # (3, B, A, D)
    expect(
        answer(0 * query, key, value, 3),
        value.mean(dim=2, keepdim=True).expand_as(value),
        "With a query of zeros, 7 keys and blocks of 3, the result must be the mean of all seven values.",
        suspects={
            "You take the mean of the blocks' means. The last block has one key here and counts as much as "
            "three: a block weighs as much as its sum of exp(score).": means.mean(dim=0)[
                :, :, None
            ].expand_as(value),
            "The last, shorter block is left out: 7 keys in blocks of 3 make three blocks.": value[:, :, :6]
            .mean(dim=2, keepdim=True)
            .expand_as(value),
            "The last block is filled up to three keys with zeros, and these take a share too.": (
                value.sum(dim=2, keepdim=True) / 9
            ).expand_as(value),
        },
        tolerance=1e-6,
    )


def largest_grows(answer, draw):
    """a later block brings a larger score"""
    query, key, value = draw_heads(draw, 6)
    query = query.abs()  # with keys that grow, so do the scores
    key = key.abs() * torch.arange(1.0, 7.0, dtype=FLOAT64)[:, None] * 0.4
    means = []
    for keys, values in zip(key.split(2, dim=2), value.split(2, dim=2)):
        means.append(scaled_dot_product_attention(query, keys, values)[0])
    expect(
        answer(query, key, value, 2),
        scaled_dot_product_attention(query, key, value)[0],
        "With equal scores you were right. When later blocks bring larger scores, the earlier ones must "
        "count for less, and in your answer they do not by the right amount: multiply by exp(old largest - "
        "new).",
        suspects={
            "Each block is softmaxed by itself, and the results are averaged: a block with large scores must "
            "weigh more.": torch.stack(means).mean(dim=0),
            "When a larger score comes, neither sum is made smaller: they were taken with another largest "
            "score. Multiply both by exp(old largest - new largest).": in_blocks(
                query, key, value, 2, False, False
            ),
            "When a larger score comes, the sum of exp(score) stays as it was: multiply it too by exp(old "
            "largest - new largest).": in_blocks(query, key, value, 2, False, True),
            "When a larger score comes, the sum of exp(score) times value stays as it was: multiply it too "
            "by exp(old largest - new largest).": in_blocks(query, key, value, 2, True, False),
        },
        tolerance=1e-6,
    )


def large_scores(answer, draw):
    """scores of a thousand stay finite"""
    _, key, value = draw_heads(draw, 6)
    query = torch.full_like(key, 1000.0)
    for sizes, message in (
        (
            [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            "Scores of a thousand overflow: subtract the largest score before exp.",
        ),
        (
            [0.1, 0.2, 1.0, 1.1, 2.0, 2.1],
            "You subtract the largest score of the first block for ever. When a later block brings one that "
            "is larger by a thousand, exp of the difference overflows: keep the largest *so far*.",
        ),
        (
            [2.1, 2.0, 1.1, 1.0, 0.2, 0.1],
            "You subtract each block's own largest score. When it falls by a thousand, exp(old largest - "
            "new) overflows: the largest *so far* never falls.",
        ),
    ):
        keys = torch.tensor(sizes, dtype=FLOAT64)[:, None].expand_as(key).contiguous()
        expected = scaled_dot_product_attention(query, keys, value)[0]
        found = tensor_of(answer(query, keys, value, 2), expected)
        expect(found.nan_to_num(nan=1e9, posinf=1e9), expected, message)


class LargestResult(TorchFunctionMode):
    """Remembers how many numbers the largest result of any of PyTorch's operations had."""

    numbers = 0

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def numbers_held(answer, *arguments) -> int:
    """A driver: the size of the largest tensor that the answer makes on the way."""
    with LargestResult() as seen:
        answer(*arguments)
    return seen.numbers


def few_keys_at_a_time(answer, draw):
    """never scores for more than a block of keys at a time"""
    T, block = 30, 3
    query, key, value = (draw.normal(1, 1, T, 2, dtype=FLOAT64) for _ in range(3))
    held = answer.via(numbers_held, query, key, value, block)
    if held >= T * T:
        raise Wrong(
            f"The result is right, but on the way there is a tensor of {held:,} numbers, for {T} queries and "
            f"{T} keys: all scores at once. With blocks of {block} there need never be more than {T} x "
            f"{block}."
        )


def to_the_last_digits(answer, draw):
    """equal to 1e-10 in float64, for any block"""
    for T, block in ((7, 1), (7, 3), (7, 7), (7, 64)):
        query, key, value = draw_heads(draw, T)
        expect(
            answer(query, key, value, block),
            scaled_dot_product_attention(query, key, value)[0],
            f"For {T} tokens in blocks of {block}, the difference is more than 1e-10. A block may be longer "
            "than the sequence; and float64 must stay float64.",
            tolerance=1e-10,
        )


BLOCKS = Exercise(
    name="attention_in_blocks",
    number="5.2",
    title="attention in blocks",
    kind="Extend",
    minutes=30,
    difficulty=3,
    goal="Attention for tensors (B, A, T, D) that never holds scores for more than `block` keys at a time: "
    "equal to `scaled_dot_product_attention` to 1e-10 in float64, also when T is not a multiple of "
    "`block`, and when scores reach 1,000.",
    hints=(
        "Without the danger of overflow, two sums are enough: of exp(score), and of exp(score) times value. "
        "Divide at the end.",
        "To be safe subtract the largest score *so far* before `exp`. What must happen to the two sums when "
        "a later block brings a larger one?",
        "Multiply both by exp(old largest - new largest). Begin with a largest of minus infinity and sums of "
        "zero: exp(-inf) is 0, so the first block needs no special case.",
    ),
    stub='''
def attention_in_blocks(query, key, value, block):
    """(B, A, T, D) three times, and how many keys to look at at a time -> (B, A, T, D)."""
    ...
''',
    mechanisms=(
        one_block,
        equal_blocks,
        unequal_blocks,
        largest_grows,
        large_scores,
        to_the_last_digits,
        few_keys_at_a_time,
    ),
    finished=FINISHED_ATTENTION,
    operations=TORCH_ATTENTION,
)


# ---- 5.3 ---------------------------------------------------------------------------------------------------


def shares_after(answer, scores: Tensor, mask: Tensor) -> Tensor:
    """What softmax makes of the answer's scores."""
    return tensor_of(answer(scores, mask), scores).softmax(dim=-1)


def right_shares(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the keys that may be read: (B, A, T, T)."""
    return scores.masked_fill(mask[:, None, None, :] == 0, -math.inf).softmax(dim=-1)


def one_sentence(answer, draw):
    """one sentence, one head: padded keys get nothing"""
    scores, mask = draw.normal(1, 1, 5, 5), torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]])
    right = right_shares(scores, mask)
    words = slice(None), slice(None), slice(0, 3)  # the rows of real queries; the others come next

    expect(
        shares_after(answer, scores, mask)[words],
        right[words],
        "After softmax of your scores the two padded keys, or the others, do not have "
        "the shares they should.",
        suspects={
            "The mask is the wrong way round: your scores hide the words and show the padding.": right_shares(
                scores, 1 - mask
            )[words],
            "The mask changes no share. Does it vary along the queries? The columns are the keys.": (
                scores.softmax(dim=-1)[words]
            ),
            "You multiply the scores by the mask. A score of 0 is not a share of 0: exp(0) is 1.": (
                scores * mask[:, None, None, :]
            ).softmax(dim=-1)[words],
            "You return shares: softmax comes after this function, so return scores.": (
                right.softmax(dim=-1)[words]
            ),
        },
        tolerance=5e-3,
    )


def no_share_at_all(answer, draw):
    """a padded key's share is exactly 0, whatever its score"""
    scores, mask = draw.normal(1, 2, 4, 4), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    scores[..., 3] += 60.0
    left = shares_after(answer, scores, mask)[..., 3].max().item()
    if left != 0:
        raise Wrong(
            f"A padded key with a high score still has a share of {left:.1e}: what you add is not large "
            "enough. With -10000, exp gives exactly 0."
        )


def batch_of_five(answer, draw):
    """five sentences, twelve heads: each sentence has its own padding"""
    scores = draw.normal(5, 12, 6, 6)
    lengths = torch.tensor([3, *draw.shuffled([2, 4, 5, 4])])
    mask = (torch.arange(6) < lengths[:, None]).float()  # (B, T)
    try:
        shares = shares_after(answer, scores, mask)
    except Raised as error:
        raise Wrong(
            "For one sentence you were right; five sentences with twelve heads end in an error. Align the "
            f"shapes on the right: on which axis of (B, A, T, T) does the B of the mask land? {error}"
        ) from error
    expect(
        shares,
        right_shares(scores, mask),
        "For one sentence you were right; with five sentences and twelve heads the padded keys of some "
        "sentence are read, or its words are not.",
        suspects={
            "Every sentence is given the padding of the first one.": right_shares(
                scores, mask[:1].expand(5, 6)
            ),
            "A key is hidden in every sentence as soon as it is padding in one of them.": right_shares(
                scores, mask.amin(dim=0, keepdim=True).expand(5, 6)
            ),
            "A key is read in every sentence as soon as it is a word in one of them.": right_shares(
                scores, mask.amax(dim=0, keepdim=True).expand(5, 6)
            ),
        },
        tolerance=5e-3,
    )


def as_many_sentences_as_heads(answer, draw):
    """as many sentences as heads: still each its own padding"""
    scores = draw.normal(4, 4, 6, 6)
    mask = (torch.arange(6) < torch.tensor([[2], [5], [3], [4]])).float()
    by_head = scores.masked_fill(mask[None, :, None, :] == 0, -math.inf).softmax(dim=-1)
    expect(
        shares_after(answer, scores, mask),
        right_shares(scores, mask),
        "Four sentences and four heads: now the axes could be mistaken for each other without an error.",
        suspects={
            "Head number b hides the padding of sentence number b: the B of the mask has landed on the axis "
            "of heads.": by_head,
        },
        tolerance=5e-3,
    )


def rows_of_padding(answer, draw):
    """padded queries are left alone"""
    scores, mask = draw.normal(1, 3, 5, 5), torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]])
    shares, right = shares_after(answer, scores, mask), right_shares(scores, mask)
    if shares.isnan().any():
        raise Wrong(
            "The rows of padded queries are hidden altogether, and softmax makes NaN of them. A padded query "
            "is computed like any other: hide the columns alone."
        )
    expect(
        shares,
        right,
        "The rows of the padded queries, which nobody reads, must still hide the padded keys and sum to 1.",
        suspects={
            "The rows of padded queries are hidden as well, so that they read the padding. Leave them: a "
            "padded query is computed like any other.": torch.cat(
                [right[:, :, :3], scores[:, :, 3:].softmax(dim=-1)], dim=2
            ),
        },
        tolerance=5e-3,
    )


HIDE = Exercise(
    name="hide_padding",
    number="5.3",
    title="the mask on the wrong axis",
    kind="Find the bug",
    minutes=15,
    difficulty=1,
    goal="Scores (B, A, T, T) and a mask (B, T) -> scores whose softmax gives every padded key a share of "
    "exactly 0 for every query and head, whatever B and A are.",
    hints=(
        "Write the two shapes one below the other, aligned on the right, as broadcasting does.",
        "(B, 1, T) has three axes, the scores have four. On which axis of the scores does the B of the mask "
        "land?",
        "Head b hides the padding of sentence number b. Which axis must be put in, and where, so that B "
        "meets B?",
    ),
    stub='''
def hide_padding(scores, attention_mask):
    """Scores (B, A, T, T) and a mask (B, T) -> scores (B, A, T, T) that hide the padded keys."""
    ...
''',
    mechanisms=(
        one_sentence,
        rows_of_padding,
        no_share_at_all,
        batch_of_five,
        as_many_sentences_as_heads,
    ),
    finished=("bert_edu.attention.attention_bias", *FINISHED_ATTENTION),
)

EXERCISES = (HEADS, BLOCKS, HIDE)
