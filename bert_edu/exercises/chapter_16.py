"""Exercises of chapter 16, efficiency: where do time and memory go?"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import scaled_dot_product_attention
from ..config import BertConfig
from ..costs import forward_operations, training_operations
from ..heads import IGNORE
from .chapter_05 import numbers_held
from .engine import Exercise, expect
from .sandbox import NotYet, Wrong

FLOAT64 = torch.float64

# ---- 16.1 --------------------------------------------------------------------------------------------------

BATCH, LENGTH, SCORED = 5, 4, 3
SIZES = dict(
    vocab_size=50,
    hidden_size=8,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=20,
    max_position_embeddings=64,
)


def numbers(answer, cases: list[tuple]) -> list[float]:
    """A driver: what a function says of each case, as numbers."""
    said = [answer(*arguments) for arguments in cases]
    for number in said:
        if number is None:
            raise NotYet("It returns None.")
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise Wrong(f"step_flops must return a number, and returns a {type(number).__name__}.")
        if not math.isfinite(number):
            raise Wrong(f"step_flops must return a finite number, and returns {number}.")
    return said


def case(batch: int = BATCH, length: int = LENGTH, scored: int = SCORED, **changes) -> tuple:
    """Arguments of step_flops: small sizes, some of them changed."""
    return BertConfig(**SIZES | changes), batch, length, scored


def growth(answer, one: tuple, other: tuple) -> float:
    """By how much the cost grows from one case to another."""
    first, second = answer.via(numbers, [one, other])
    return second - first


def judge(found: float, right: float, message: str, suspects: dict[float, str]):
    """Raises `Wrong` unless the number is right; `suspects`: a wrong number -> what to say about it."""
    if math.isclose(found, right, rel_tol=1e-9, abs_tol=1e-6):
        return
    for number, said in suspects.items():
        if math.isclose(found, number, rel_tol=1e-9, abs_tol=1e-6):
            raise Wrong(said)
    raise Wrong(f"{message} That makes {right:,.0f}, and you have {found:,.0f}.")


def decoder(answer, draw):
    """the decoder: one product, at the scored tokens"""
    H = SIZES["hidden_size"]
    once = 2 * SCORED * H  # a forward pass, for one word more
    judge(
        growth(answer, case(), case(vocab_size=SIZES["vocab_size"] + 1)),
        3 * once,
        f"One word more in the vocabulary makes the decoder one column wider: {SCORED} scored tokens times "
        f"{H} components, 2 operations each, and three times that with the backward pass.",
        {
            once: "You count the forward pass alone. Backward, each product becomes two of the same size: "
            "three times the forward pass in all.",
            2 * once: "You count the backward pass like the forward pass. It has two products for each one, "
            "for the gradients of both factors: three times the forward pass in all.",
            1.5 * once: "A multiplication and an addition are two operations, and you count them as one: (N, "
            "K) times (K, M) costs 2 N K M.",
            0: "With one word more your cost stays the same: the decoder, H × V, is missing.",
            3 * once * BATCH * LENGTH / SCORED: "You send all tokens through the decoder; only the scored "
            "ones go there.",
            3 * once * BATCH: "You multiply the scored tokens by the number of sequences. `scored` is their "
            "number in the whole batch.",
            3 * once * (1 + BATCH * LENGTH / SCORED): "You count the look-up in the token table as a product "
            "of matrices. It copies rows; nothing is multiplied.",
        },
    )


def feed_forward(answer, draw):
    """feed-forward: two products for each token, in each layer"""
    H, L = SIZES["hidden_size"], SIZES["num_hidden_layers"]
    right = 3 * 2 * 2 * BATCH * LENGTH * H * L
    judge(
        growth(answer, case(), case(intermediate_size=SIZES["intermediate_size"] + 1)),
        right,
        "With I larger by one, both matrices of each feed-forward network grow by H numbers, for each token "
        "of each sequence.",
        {
            right / 2: "The feed-forward network has two matrices, H × I and I × H, and you count one.",
            right / L: f"You count one layer, and there are {L}.",
            0: "The cost of your step does not depend on I: the feed-forward networks are missing.",
            right / BATCH: "You count the tokens of one sequence; the batch has several.",
        },
    )


def per_layer(answer) -> tuple[float, float]:
    """What a further layer costs, split into a part that grows with T and one that grows with T²."""
    one, two = (
        growth(answer, case(length=T, num_hidden_layers=1), case(length=T, num_hidden_layers=2))
        for T in (1, 2)
    )
    square = (two - 2 * one) / 2
    return one - square, square


def projections(answer, draw):
    """attention's four projections, H × H each"""
    H, I, A = (SIZES[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads"))  # noqa: E741
    each = 3 * 2 * BATCH * H * H
    judge(
        per_layer(answer)[0] - 3 * 2 * 2 * BATCH * H * I,
        4 * each,
        "Beside the feed-forward network, each token of a layer meets four matrices H × H: query, key, value "
        "and output.",
        {
            3 * each: "There are three projections in your attention; the fourth, the output projection, is "
            "missing.",
            each: "You count one projection; query, key, value and output make four.",
            0: "The projections of attention are missing: query, key, value and output, H × H each.",
            4 * each * A: "You count the projections once for each head. All heads together have H "
            "components, so each projection is H × H.",
            (3 * A + 1) * each: "You count query, key and value once for each head. All heads together have "
            "H components, so each projection is H × H.",
        },
    )


def scores_and_contexts(answer, draw):
    """attention's two products that grow with T²"""
    H, A = SIZES["hidden_size"], SIZES["num_attention_heads"]
    right = 3 * 2 * 2 * BATCH * H
    judge(
        per_layer(answer)[1],
        right,
        "In each sequence T queries meet T keys, and T shares weigh T values: two products of T × T × D for "
        "each of A heads, and A D = H.",
        {
            0: "What grows with the square of T is missing: the scores, and the contexts made from them.",
            right / 2: "One product with T × T is missing: first the scores, then the weighted sum of the "
            "values.",
            right * A: "You count H components in each head. It has D = H / A, so that all heads together "
            "have H.",
            right / A: "You count one head, of D components; there are A of them.",
            right * BATCH: "In your count all tokens of the batch read one another. A token reads its own "
            "sequence: B times T².",
        },
    )


def word_head(answer, draw):
    """the matrix before the decoder"""
    H, V = SIZES["hidden_size"], SIZES["vocab_size"]
    dense = 3 * 2 * H * H
    judge(
        growth(answer, case(), case(scored=SCORED + 1)) - 3 * 2 * H * V,
        dense,
        "Before the decoder each scored token goes through a matrix H × H.",
        {
            0: "A further scored token costs a decoder, and nothing else in your count: the head's own "
            "matrix, H × H, stands before it, at the scored tokens too.",
        },
    )


def first_tokens(answer, draw):
    """pooler and pair head: one token a sequence"""
    H = SIZES["hidden_size"]
    (whole,) = answer.via(numbers, [case()])
    parts = forward_operations(case()[0], rows=BATCH, length=LENGTH, scored=SCORED)
    head = parts.pop("pooler and pair head")
    pooler, pair = 2 * BATCH * H * H, 2 * BATCH * H * 2
    assert head == pooler + pair
    judge(
        whole - 3 * sum(parts.values()),
        3 * head,
        "What is left are the pooler, H × H, and the pair head, H × 2, at the first token of each sequence.",
        {
            0: "Pooler and pair head are missing. They are small, because they read one token a sequence, "
            "but they are there.",
            3 * pooler: "The pair head is missing: from the pooled vector to two scores, H × 2.",
            3 * pair: "The pooler is missing: a matrix H × H at the first token of each sequence.",
            3 * LENGTH * head: "Pooler and pair head read the first token of each sequence alone; you send "
            "all tokens through them.",
            3 * (LENGTH * pooler + pair): "The pooler reads the first token of each sequence alone; you send "
            "all tokens through it.",
            head: "You forget the backward pass of the pooler and the pair head.",
        },
    )


def published_sizes(answer, draw):
    """published models"""
    cases = [
        (BertConfig.preset(name), *draw.sizes(1, 8, 64), length, scored)
        for name, length, scored in (("mini", 128, 611), ("base", 512, 2401), ("large", 64, 1))
    ]
    for arguments, found in zip(cases, answer.via(numbers, cases), strict=True):
        config, batch, length, scored = arguments
        judge(
            found,
            training_operations(config, rows=batch, length=length, scored=scored),
            f"Small sizes were right. For H = {config.hidden_size}, L = {config.num_hidden_layers}, {batch} "
            f"sequences of {length} tokens and {scored} scored tokens it is not.",
            {},
        )


FLOPS = Exercise(
    name="step_flops",
    number="16.1",
    title="a step's work on paper",
    kind="Rebuild",
    minutes=25,
    difficulty=2,
    goal="A configuration and the sizes of a batch -> the operations of all matrix products in one step of "
    "pre-training, forward and backward.",
    hints=(
        "(N, K) times (K, M) costs 2 N K M operations. Make a list of all products of the forward pass with "
        "their three sizes; begin with one layer.",
        "In a layer: four projections H × H, two products with T × T in each sequence, and two matrices of H "
        "× I. Then at the scored tokens H × H and H × V, and at the first token of each sequence H × H and H "
        "× 2.",
        "Backward, a product $Y = XW$ becomes $X^\\top \\, dY$ and $dY \\, W^\\top$: two products of the "
        "same size. So multiply the sum by 3.",
    ),
    stub='''
def step_flops(config, batch, length, scored):
    """A BertConfig, B, T, and how many tokens of the whole batch are scored -> a number."""
    ...
''',
    mechanisms=(
        decoder,
        feed_forward,
        projections,
        scores_and_contexts,
        word_head,
        first_tokens,
        published_sizes,
    ),
    finished=("bert_edu.costs", "torch.utils.flop_counter"),
)


# ---- 16.2 --------------------------------------------------------------------------------------------------


def draw_line(draw, lengths: list[int], A: int = 2, D: int = 3) -> list[Tensor]:
    """Query, key and value of several sequences in one line, (N, A, D) each."""
    return [draw.normal(sum(lengths), A, D, dtype=FLOAT64) for _ in range(3)]


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Every token reads every other one: (N, A, D) three times -> (N, A, D)."""
    by_head = (vectors.transpose(0, 1) for vectors in (query, key, value))  # (A, N, D) each
    return scaled_dot_product_attention(*by_head)[0].transpose(0, 1)


def apart(query: Tensor, key: Tensor, value: Tensor, lengths: list[int]) -> Tensor:
    """Each sequence by itself: (N, A, D)."""
    pieces = zip(*(vectors.split(lengths) for vectors in (query, key, value)))
    return torch.cat([attention(*piece) for piece in pieces])


MOVED = {  # what to say -> how the sequences were put in order
    "The vectors are right, but the shortest sequence comes first. Put them back at the places they came "
    "from.": dict(key=len),
    "The vectors are right, but the longest sequence comes first. Put them back at the "
    "places they came from.": dict(key=len, reverse=True),
}


def moved(right: Tensor, lengths: list[int]) -> dict[str, Tensor]:
    """What to say -> the right vectors of the sequences, in another order."""
    return {said: torch.cat(sorted(right.split(lengths), **order)) for said, order in MOVED.items()}


def by_scores(query: Tensor, key: Tensor, value: Tensor, divisor: float, over: int = -1) -> Tensor:
    """As `attention`, with another divisor, or a softmax over another axis of (A, N, N)."""
    scores = torch.einsum("nad,mad->anm", query, key) / divisor
    return torch.einsum("anm,mad->nad", scores.softmax(dim=over), value)


def one_sequence(answer, draw):
    """one sequence: ordinary attention, head by head"""
    N, A, D = draw.sizes(3, 2, 7)
    query, key, value = draw_line(draw, [N], A, D)
    expect(
        answer(query, key, value, [N]),
        attention(query, key, value),
        "With a single sequence this is the attention of chapter 5, for vectors (N, A, D), and yours is "
        "something else.",
        suspects={
            "The heads of a token read one another in your answer. Bring the heads in front, (A, n, D), "
            "before query meets key.": (query @ key.mT / math.sqrt(D)).softmax(dim=-1) @ value,
            "The scores are not scaled: divide them by the root of D.": by_scores(query, key, value, 1.0),
            "The scores are divided by the root of A D, all heads together. A head's vectors have D "
            "components.": by_scores(query, key, value, math.sqrt(A * D)),
            "The scores are divided by the root of the number of tokens; it is D that counts.": by_scores(
                query, key, value, math.sqrt(N)
            ),
            "Softmax runs over the queries: the shares of each *reading* token must sum to 1.": by_scores(
                query, key, value, math.sqrt(D), over=-2
            ),
            "Softmax runs over the heads; it is the keys that compete.": by_scores(
                query, key, value, math.sqrt(D), over=0
            ),
        },
        tolerance=1e-6,
    )


def two_sequences(answer, draw):
    """two sequences: nobody reads the other one"""
    lengths = first, second = draw.shuffled([2, 7])
    N = first + second
    query, key, value = draw_line(draw, lengths)
    padded = value.new_zeros(2, max(lengths), *value.shape[1:])  # and keys of zeros, with scores of 0
    for row, vectors in zip(padded, value.split(lengths)):
        row[: len(vectors)] = vectors
    sums = [
        torch.einsum("nad,mad->anm", q, k) / math.sqrt(q.shape[-1])
        for q, k in zip(query.split(lengths), key.split(lengths))
    ]
    reads_padding = torch.cat(
        [
            torch.einsum("anm,mad->nad", F.pad(scores, (0, max(lengths) - n)).softmax(dim=-1), row)
            for scores, n, row in zip(sums, lengths, padded)
        ]
    )
    right = apart(query, key, value, lengths)
    expect(
        answer(query, key, value, lengths),
        right,
        f"Two sequences of {first} and {second} tokens stand one behind the other. Each must be treated as "
        "if it were alone.",
        suspects=moved(right, lengths)
        | {
            "All tokens read one another, across the border: `lengths` says where one sequence ends and the "
            "next begins.": attention(query, key, value),
            "The border lies one token too far: the first sequence has the places 0 "
            "to lengths[0] - 1.": apart(query, key, value, [first + 1, second - 1]),
            "You cut the line into equal parts. Each sequence has a length of its own.": apart(
                query, key, value, [math.ceil(N / 2), N // 2]
            ),
            "You fill up the shorter sequence, and its tokens give shares to the padding. Without padding "
            "there would be none to hide.": reads_padding,
        },
        tolerance=1e-6,
    )


def in_order(answer, draw):
    """many sequences: each result at its token's place"""
    lengths = draw.shuffled([3, 1, 5, 2, 4])
    while lengths == sorted(lengths):
        lengths = draw.shuffled(lengths)
    query, key, value = draw_line(draw, lengths)
    right = apart(query, key, value, lengths)
    expect(
        answer(query, key, value, lengths),
        right,
        f"Two sequences were right. Of five, with the lengths {lengths}, some vectors are not what they "
        "should be, or not where.",
        suspects=moved(right, lengths),
        tolerance=1e-6,
    )


def to_the_last_digits(answer, draw):
    """float64 stays float64, and large scores stay finite"""
    lengths = [4, 2]
    query, key, value = draw_line(draw, lengths)
    found = answer(query, key, value, lengths)
    expect(
        found,
        apart(query, key, value, lengths),
        "You are close, but not within 1e-10. Is something turned into float32 on the way?",
        tolerance=1e-10,
    )
    expect(
        answer(1000 * query, key, value, lengths),
        apart(1000 * query, key, value, lengths),
        "Scores of a thousand overflow: leave softmax to PyTorch, or subtract the largest score first.",
        tolerance=1e-6,
    )


def no_work_in_vain(answer, draw):
    """never a score that nobody needs"""
    lengths = [20, *[4] * 10]
    query, key, value = draw_line(draw, lengths, A=2, D=2)
    held, N, needed = answer.via(numbers_held, query, key, value, lengths), sum(lengths), 2 * 20 * 20
    if held == len(lengths) * needed:
        raise Wrong(
            f"The result is right, but padding is back: for {len(lengths)} sequences you compute as many "
            f"scores as for {len(lengths)} of the longest, {held:,} in one tensor. {needed:,} are the most "
            "that a sequence needs."
        )
    if held >= N * N:
        raise Wrong(
            f"The result is right, but on the way there is a tensor of {held:,} numbers: scores or a mask "
            f"for all {N} × {N} pairs of tokens, most of which must not read each other. {needed:,} are the "
            "most that a sequence needs."
        )
    if held > 2 * needed:
        raise Wrong(
            f"The result is right, but on the way there is a tensor of {held:,} numbers, where {needed:,} "
            "are the most that a sequence needs."
        )


UNPADDED = Exercise(
    name="unpadded_attention",
    number="16.2",
    title="no padding at all",
    kind="Extend",
    minutes=20,
    difficulty=2,
    goal="Attention for several sequences that stand in one line, (N, A, D), without any padding: each as if "
    "it were alone, and never a score between two of them.",
    hints=(
        "Nobody says that all sequences must go through one product. Which places has the second one?",
        "`query.split(lengths)` cuts the line into its sequences, (n, A, D) each. In which order must the "
        "axes stand so that each head is an attention by itself?",
        "For each sequence: `transpose(0, 1)` to (A, n, D), then `scaled_dot_product_attention` as in "
        "chapter 5, then back to (n, A, D). At the end `torch.cat`.",
    ),
    stub='''
def unpadded_attention(query, key, value, lengths):
    """(N, A, D) three times, and a list of lengths whose sum is N -> (N, A, D)."""
    ...
''',
    mechanisms=(
        one_sequence,
        two_sequences,
        in_order,
        to_the_last_digits,
        no_work_in_vain,
    ),
    finished=("torch.nn.attention.varlen", "bert_edu.packing.Packing"),
)


# ---- 16.3 --------------------------------------------------------------------------------------------------

V = 7  # words of the small model below

MicroBatch = tuple[Tensor, Tensor]  # input_ids and labels, (B, T) both


class NextWord(nn.Module):
    """The smallest language model: a row of scores for each word. It notes when it is used, and how."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight.clone())  # (V, V)
        self.events = []

    def forward(self, input_ids):
        logits = self.weight[input_ids]  # (B, T, V)
        self.events.append(f"forward {len(input_ids)}")
        if logits.requires_grad:
            logits.register_hook(lambda gradient: self.events.append("backward"))
        return logits


class CountingSGD(torch.optim.SGD):
    """Plain gradient descent: with a learning rate of 1 a step shows the gradient."""

    steps = 0

    def step(self, closure=None):
        self.steps += 1
        return super().step(closure)


def take_steps(answer, weight: Tensor, batches: list[list[MicroBatch]]) -> dict:
    """A driver: a model and an optimiser of its own; one call of the answer for each batch."""
    model = NextWord(weight)
    optimizer = CountingSGD(model.parameters(), lr=1.0)
    losses = [answer(model, optimizer, micro_batches) for micro_batches in batches]
    if losses[0] is None and not model.events:
        raise NotYet("It returns None.")
    return {
        "weight": model.weight,
        "losses": losses,
        "steps": optimizer.steps,
        "events": model.events,
    }


def draw_micro_batch(draw, B: int, T: int, scored: int) -> MicroBatch:
    """Random ids, and labels of which so many are scored."""
    labels = torch.full((B * T,), IGNORE)
    chosen = torch.randperm(B * T, generator=draw.generator)[:scored]
    labels[chosen] = draw.whole(0, V - 1, scored)
    return draw.whole(0, V - 1, B, T), labels.view(B, T)


def gradient(weight: Tensor, micro_batches: list[MicroBatch]) -> Tensor:
    """Of the mean loss over all scored tokens together, (V, V)."""
    weight = weight.clone().requires_grad_()
    mean_loss(weight, micro_batches).backward()
    return weight.grad


def mean_loss(weight: Tensor, micro_batches: list[MicroBatch]) -> Tensor:
    logits = torch.cat([weight[ids].flatten(0, 1) for ids, _ in micro_batches])  # (N, V)
    return F.cross_entropy(logits, torch.cat([labels.flatten() for _, labels in micro_batches]))


def draw_weight(draw) -> Tensor:
    return draw.normal(V, V)


def one_micro_batch(answer, draw):
    """the author's test: one micro-batch is an ordinary step"""
    weight, parts = draw_weight(draw), [draw_micro_batch(draw, 3, 4, 6)]
    right = gradient(weight, parts)
    expect(
        answer.via(take_steps, weight, [parts])["weight"],
        weight - right,
        "With one micro-batch the step was right before: that of the mean loss over its scored tokens. Yours "
        "no longer is.",
        suspects={
            "The weights do not move at all. The gradients must still be there when `optimizer.step()` is "
            "called, and it must be called.": weight,
            "The loss is a sum over the scored tokens, so the step grows with their number: divide.": weight
            - 6 * right,
            "The loss is divided by the number of all tokens; only the scored ones count.": weight
            - 6 / 12 * right,
        },
    )


def alike(answer, draw):
    """two micro-batches alike: the gradients add up"""
    weight = draw_weight(draw)
    parts = [draw_micro_batch(draw, 2, 4, 5), draw_micro_batch(draw, 2, 4, 5)]
    first, second = (gradient(weight, [part]) for part in parts)
    found = answer.via(take_steps, weight, [parts])
    half_way = weight - first / 2
    after_each = half_way - gradient(half_way, parts[1:]) / 2
    whole_way = weight - first
    expect(
        found["weight"],
        weight - (first + second) / 2,
        "With two micro-batches of the same kind the step must follow the mean of both gradients. Yours does "
        "not.",
        suspects={
            "Only the last micro-batch counts: the gradients of the others are thrown away before the step. "
            "Call `zero_grad` once, before the first.": weight - second / 2,
            "Only the last micro-batch counts, and fully: the gradients of the others are thrown away before "
            "the step. Call `zero_grad` once, before the first.": weight - second,
            "Only the first micro-batch counts.": weight - first / 2,
            "The gradients of both are added and not divided: the step is as large as two. Divide by the "
            "number of *all* scored tokens.": weight - (first + second),
            "You take a step after each micro-batch; one step is asked, after the last.": after_each,
            "You take a full step after each micro-batch; one step is asked, after the last.": whole_way
            - gradient(whole_way, parts[1:]),
        },
    )
    if found["steps"] != 1:
        raise Wrong(
            f"You call `optimizer.step()` {found['steps']} times; once is right, after the last part."
        )


def unlike(answer, draw):
    """each scored token counts the same, in whichever micro-batch it is"""
    weight = draw_weight(draw)
    parts = [draw_micro_batch(draw, 3, 4, 9), draw_micro_batch(draw, 1, 5, 1)]
    first, second = (gradient(weight, [part]) for part in parts)
    expect(
        answer.via(take_steps, weight, [parts])["weight"],
        weight - (9 * first + second) / 10,
        "Two micro-batches with the same number of scored tokens were right. With 9 and 1 scored tokens the "
        "step must be that of the mean over all 10.",
        suspects={
            "You take the mean of the micro-batches' means: the one scored token of the second counts as "
            "much as nine of the first. Divide the *sums* by the number of all scored tokens.": weight
            - (first + second) / 2,
            "You weight the micro-batches by all their tokens. Only those that are "
            "scored have a loss.": weight - (12 * first + 5 * second) / 17,
            "You weight the micro-batches by their rows. It is scored tokens that have a loss.": weight
            - (3 * first + second) / 4,
        },
    )


def nothing_scored(answer, draw):
    """a micro-batch without a scored token does no harm"""
    weight = draw_weight(draw)
    parts = [draw_micro_batch(draw, 2, 4, scored) for scored in (3, 0, 2)]
    found = answer.via(take_steps, weight, [parts])
    expect(
        found["weight"],
        weight - gradient(weight, parts),
        "In one of three micro-batches nothing is scored. The step must be that of the other two.",
    )
    (said,) = found["losses"]
    if isinstance(said, (float, Tensor)) and torch.as_tensor(said).isnan().any():
        raise Wrong(
            "In one of three micro-batches nothing is scored, and the loss that you return is not a number: "
            "the mean of nothing is 0 / 0. Take sums, and divide by the number of all scored tokens."
        )


def one_after_the_other(answer, draw):
    """the next step begins without the last one's gradients"""
    weight = draw_weight(draw)
    batches = [[draw_micro_batch(draw, 2, 3, 4), draw_micro_batch(draw, 2, 3, 2)] for _ in range(2)]
    first = gradient(weight, batches[0])
    second = gradient(weight - first, batches[1])
    expect(
        answer.via(take_steps, weight, batches)["weight"],
        weight - first - second,
        "One step was right. After a second one the weights are not what they should be.",
        suspects={
            "In the second step the gradients of the first are still there, and count again: call "
            "`zero_grad` once for each step.": weight - 2 * first - second,
        },
    )


def the_loss(answer, draw):
    """it returns the mean loss over all scored tokens"""
    weight = draw_weight(draw)
    parts = [draw_micro_batch(draw, 3, 4, 9), draw_micro_batch(draw, 1, 5, 1)]
    (said,) = answer.via(take_steps, weight, [parts])["losses"]
    if said is None:
        raise Wrong("The step may be right; but the function returns None, and the loss is asked.")
    if isinstance(said, bool) or not isinstance(said, (int, float, Tensor)):
        raise Wrong(f"The function must return the loss, a number, and returns a {type(said).__name__}.")
    right = mean_loss(weight, parts)
    first, second = (mean_loss(weight, [part]) for part in parts)
    expect(
        torch.as_tensor(said).float(),
        right,
        "The step is right; the loss that you return is not the mean over all ten scored tokens.",
        suspects={
            "You return the mean of the micro-batches' mean losses; the mean over all "
            "scored tokens is asked.": (first + second) / 2,
            "You return the loss of the last micro-batch; the mean over all scored tokens is asked.": second,
            "You return the last micro-batch's part of the loss; the parts must be added.": second / 10,
            "You return the sum over all scored tokens; their mean is asked.": 10 * right,
            "You return the sum of the micro-batches' mean losses; the mean over all "
            "scored tokens is asked.": first + second,
        },
    )


def little_memory(answer, draw):
    """one micro-batch in memory at a time"""
    parts = [draw_micro_batch(draw, 2, 3, 2) for _ in range(4)]
    events = answer.via(take_steps, draw_weight(draw), [parts])["events"]
    if any(event.startswith("forward") and event != "forward 2" for event in events):
        raise Wrong(
            "You join the micro-batches to a large one, whose activations need as much memory as ever. To "
            "take them one by one is what accumulation is for."
        )
    if events != ["forward 2", "backward"] * 4:
        raise Wrong(
            "The step is right, but a forward pass begins before the last one's backward pass: the "
            "activations of several micro-batches are in memory together. Call `backward` for each at once, "
            "and the gradients add up by themselves."
        )


ACCUMULATED = Exercise(
    name="accumulated_step",
    number="16.3",
    title="right with one, wrong with four",
    kind="Find the bug",
    minutes=20,
    difficulty=2,
    goal="The same function with its bugs mended: one step of the optimiser that equals that of all "
    "micro-batches together, with one of them in memory at a time. It returns the mean loss over all "
    "scored tokens.",
    hints=(
        "What is left of the first micro-batch when the last one has been through? Print the gradient after "
        "each.",
        "Take two micro-batches, one with nine scored tokens and one with a single one. How much does each "
        "token count in `loss / len(micro_batches)`, and how much if all ten were in one batch?",
        "Count all scored tokens first: `sum((labels != -100).sum() for _, labels in micro_batches)`. Then "
        '`F.cross_entropy(..., reduction="sum")` divided by that number, for each micro-batch.',
    ),
    stub='''
def accumulated_step(model, optimizer, micro_batches):
    """model(ids) gives (B, T, V); a list of (input_ids, labels), (B, T) both -> the loss, a number."""
    ...
''',
    mechanisms=(
        one_micro_batch,
        alike,
        unlike,
        the_loss,
        nothing_scored,
        one_after_the_other,
        little_memory,
    ),
    finished=("bert_edu.training.loop",),
    changes_input=True,  # a step changes the model
    loads=("torch._dynamo",),  # PyTorch's optimisers do, at their first step
)

EXERCISES = (FLOPS, UNPADDED, ACCUMULATED)
