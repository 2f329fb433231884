"""Exercises of chapter 3, input embeddings: how does a set of vectors know order and sentence?"""

import copy

import torch
from torch import Tensor, nn

from ..config import BertConfig
from ..embeddings import BertEmbeddings
from .engine import Exercise, expect, tensor_of
from .sandbox import NotYet, Wrong

# ---- 3.1 ---------------------------------------------------------------------------------------------------


def right_gradient(ids: Tensor, upstream: Tensor, vocab_size: int) -> Tensor:
    """What autograd gives: (V, H)."""
    gradient = torch.zeros(vocab_size, upstream.shape[-1])
    return gradient.index_add_(0, ids.flatten(), upstream.flatten(0, 1))  # repeats are summed


def one_survives(ids: Tensor, upstream: Tensor, vocab_size: int, last: bool = True) -> Tensor:
    """What is left when a repeated row keeps only one of its vectors."""
    gradient = torch.zeros(vocab_size, upstream.shape[-1])
    places = list(zip(ids.flatten().tolist(), upstream.flatten(0, 1)))
    for token, vector in places if last else reversed(places):
        gradient[token] = vector
    return gradient


def one_place(answer, draw):
    """one token: its row gets the vector, all others 0"""
    ids, upstream = torch.tensor([[2]]), draw.normal(1, 1, 3)
    expected = right_gradient(ids, upstream, 5)
    found = answer(ids, upstream, 5)
    if isinstance(found, Tensor) and found.shape == (3, 3):
        raise Wrong(
            "The table has `vocab_size` rows, whether they were read or not, and so has its gradient. Yours "
            "ends with the largest id."
        )
    expect(
        found,
        expected,
        "Token 2 was read, and its vector got the gradient `upstream`. So row 2 must be `upstream`, and all "
        "other rows 0.",
        suspects={
            "The sign is the wrong way round: this is the gradient itself. It is the optimiser that takes a "
            "step against it.": -expected,
        },
    )


def different_tokens(answer, draw):
    """a batch of different tokens: each row gets its own vector"""
    ids, upstream = torch.tensor([[3, 0, 5], [1, 6, 2]]), draw.normal(2, 3, 4)
    expected = right_gradient(ids, upstream, 8)
    expect(
        answer(ids, upstream, 8),
        expected,
        "Six different tokens were read, and each of their rows must be the vector that "
        "arrived at its place.",
        suspects={
            "Only the first sequence of the batch is looked at.": right_gradient(ids[:1], upstream[:1], 8),
            "Only the last sequence of the batch is looked at.": right_gradient(ids[1:], upstream[1:], 8),
            "The gradients are divided by the number of tokens. `upstream` is what arrived at each place: "
            "nothing is averaged here.": expected / 6,
            "The gradients are divided by the number of sequences. `upstream` is what arrived at each place: "
            "nothing is averaged here.": expected / 2,
        },
    )


def repeated_token(answer, draw):
    """a token that occurs twice: the sum of both"""
    ids, upstream = torch.tensor([[5, 4, 5, 1]]), draw.normal(1, 4, 3)
    expected = right_gradient(ids, upstream, 6)
    mean = expected.clone()
    mean[5] /= 2
    expect(
        answer(ids, upstream, 6),
        expected,
        "Token 5 was read at two places, and its row must get the sum of the two vectors that arrived there.",
        suspects={
            "Token 5 was read at two places, and its row has only the last vector. `gradient[ids] += "
            "upstream` does this: all additions start from the same old value.": one_survives(
                ids, upstream, 6
            ),
            "Token 5 was read at two places, and its row has only the first vector.": one_survives(
                ids, upstream, 6, last=False
            ),
            "Token 5 was read at two places, and its row has the mean of both. It must have the sum: both "
            "places pull at the same row.": mean,
        },
    )


def across_sequences(answer, draw):
    """a token that occurs in two sequences: the sum of both"""
    ids, upstream = torch.tensor([[5, 4, 5], [5, 0, 4]]), draw.normal(2, 3, 3)
    by_sequence = [right_gradient(ids[b : b + 1], upstream[b : b + 1], 6) for b in (0, 1)]
    overwritten = by_sequence[0].clone()
    overwritten[ids[1]] = by_sequence[1][ids[1]]
    expect(
        answer(ids, upstream, 6),
        right_gradient(ids, upstream, 6),
        "Within a sequence you add up; tokens 4 and 5 were also read in both sequences of the batch, and "
        "must get the sum over all of it.",
        suspects={
            "Within a sequence you add up; but a later sequence overwrites what an earlier one has left in "
            "the same row.": overwritten,
            "Only the first sequence is looked at.": by_sequence[0],
            "The sequences are averaged; the sum is wanted.": sum(by_sequence) / 2,
        },
    )


def large_batch(answer, draw):
    """any batch: what autograd gives"""
    for B, T, H, V in ((1, 1, 1, 1), (4, 9, 5, 7), (3, 2, 6, 40)):
        ids, upstream = draw.whole(0, V - 1, B, T), draw.normal(B, T, H)
        expect(
            answer(ids, upstream, V),
            right_gradient(ids, upstream, V),
            f"For B = {B}, T = {T}, H = {H} and a table of {V} rows the result differs from autograd's.",
        )


GRADIENT = Exercise(
    name="look_up_gradient",
    number="3.1",
    title="the look-up backwards",
    kind="Rebuild",
    minutes=15,
    difficulty=2,
    goal="Ids (B, T) and the gradient that arrives at their vectors, (B, T, H) -> the gradient of the table, "
    "(V, H), without autograd.",
    hints=(
        "Start from zeros. Each place of the batch adds its vector to one row. What does a token that occurs "
        "twice get?",
        "`gradient[ids] += upstream` looks right and is not: where an id is repeated, only one of the "
        "additions survives. A loop over all places is right. To do without it, think of the one-hot matrix.",
        "If $X = O E$, the gradient of $E$ is $O^\\top G$, with $O$ the one-hot matrix of all $B T$ places "
        "and $G$ the gradient that arrives. `index_add_` does this sum without building $O$.",
    ),
    stub='''
def look_up_gradient(ids, upstream, vocab_size):
    """Ids (B, T), the gradient of their vectors (B, T, H) -> the gradient of the table (V, H)."""
    ...
''',
    mechanisms=(one_place, different_tokens, repeated_token, across_sequences, large_batch),
    finished=("torch.autograd.backward", "torch.autograd.grad", "bert_edu.embeddings.BertEmbeddings"),
    operations=("embedding_dense_backward", "embedding_backward"),
)


# ---- 3.2 ---------------------------------------------------------------------------------------------------


def angles(positions: Tensor, H: int) -> Tensor:
    """p times the chapter's frequencies: (T, H / 2)."""
    return positions[:, None] * 10000.0 ** (-torch.arange(0, H, 2) / H)


def turned(vectors: Tensor, angle: Tensor) -> Tensor:
    """Components 2i and 2i + 1 turned by angle i."""
    even, odd = vectors[:, 0::2], vectors[:, 1::2]
    pairs = [even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos()]
    return torch.stack(pairs, dim=-1).flatten(1)


def turned_halves(vectors: Tensor, angle: Tensor) -> Tensor:
    """Components i and i + H / 2 turned by angle i."""
    first, second = vectors.chunk(2, dim=1)
    pairs = [first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()]
    return torch.cat(pairs, dim=1)


def at_zero(answer, draw):
    """position 0 changes nothing"""
    vectors, positions = draw.normal(1, 6), torch.tensor([0])
    even, odd = vectors[:, 0::2], vectors[:, 1::2]
    waves = torch.tensor([0.0, 1.0] * 3)
    expect(
        answer(vectors, positions),
        vectors,
        "At position 0 the angle is 0, and a turn by 0 changes nothing. Yours changes the vectors.",
        suspects={
            "The components come back in another order, all even ones first. Put the pairs back in their "
            "places: stack along a new last dimension, then flatten.": torch.cat([even, odd], dim=1),
            "A sinusoidal position vector is added. The vector is to be turned instead: two components at a "
            "time.": (vectors + waves),
            "You turn by the angle of position 1 at position 0: the first position is 0.": turned(
                vectors, angles(positions + 1, 6)
            ),
        },
    )


def lengths_stay(answer, draw):
    """lengths do not change"""
    vectors, positions = draw.normal(5, 6), torch.arange(5)
    found = tensor_of(answer(vectors, positions), vectors)
    if not torch.allclose(found.norm(dim=-1), vectors.norm(dim=-1), atol=1e-3):
        raise Wrong(
            "A turn does not change the length of a vector, and yours does. The pair (x, y) becomes (x cos a "
            "- y sin a, x sin a + y cos a): one minus, one plus, and the *old* x and y in both."
        )


def by_hand(answer, draw):
    """one pair at position 1: a turn by one radian, by hand"""
    vectors, positions = torch.tensor([[0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 1])
    expect(
        answer(vectors, positions),
        turned(vectors, angles(positions, 2)),
        "With H = 2 and position 1 the angle is 1: (1, 0) must become (cos 1, sin 1) = (0.540, 0.841).",
        suspects={
            "You turn the other way round: (1, 0) must become (cos 1, sin 1), and yours has -sin 1.": turned(
                vectors, -angles(positions, 2)
            ),
            "The two numbers of a pair have changed places: the cosine of x comes first.": turned(
                vectors, angles(positions, 2)
            )[:, [1, 0]],
        },
    )


def frequencies(answer, draw):
    """each pair turns at its own speed"""
    vectors, positions = draw.normal(4, 8), torch.arange(4)
    angle = angles(positions, 8)
    slower = positions[:, None] * 10000.0 ** (-torch.arange(4) / 8)
    expect(
        answer(vectors, positions),
        turned(vectors, angle),
        "With one pair you were right. With H = 8 the four pairs must turn by the position times 1, 0.1, "
        "0.01 and 0.001.",
        suspects={
            "Component i is paired with component i + H / 2. Some models do so; here neighbours are paired, "
            "2i with 2i + 1.": turned_halves(vectors, angle),
            "All pairs turn by the same angle: pair i turns at the speed 10000 to the power -2i / H.": turned(
                vectors, angle[:, :1].expand(4, 4)
            ),
            "The speeds fall too slowly: the power is -2i / H for pair i, and yours is -i / H.": turned(
                vectors, slower
            ),
            "The speeds grow from pair to pair, and must fall: a minus is missing in the power.": turned(
                vectors, positions[:, None] * 10000.0 ** (torch.arange(0, 8, 2) / 8)
            ),
        },
    )


def given_positions(answer, draw):
    """the positions that are given, in any order"""
    vectors, positions = draw.normal(4, 6), torch.tensor([7, 0, 25, 3])
    expect(
        answer(vectors, positions),
        turned(vectors, angles(positions, 6)),
        "With positions 7, 0, 25 and 3 the result is wrong.",
        suspects={
            "You count the vectors, 0 1 2 3, in place of `positions`, which are 7 0 25 3 here.": turned(
                vectors, angles(torch.arange(4), 6)
            ),
        },
    )


def distance_alone(answer, draw):
    """dot products depend on the distance alone"""
    query, key = draw.normal(8), draw.normal(8)
    places = torch.arange(20)
    queries = tensor_of(answer(query.expand(20, 8).contiguous(), places), torch.zeros(20, 8))
    keys = tensor_of(answer(key.expand(20, 8).contiguous(), places), torch.zeros(20, 8))
    expect(
        (queries @ keys.T)[1:, 1:],
        (queries @ keys.T)[:-1, :-1],
        "The dot product of a vector at p with one at q must depend on p - q alone. In yours it changes when "
        "both move one place on.",
    )
    given_positions(answer, draw)


ROTATE = Exercise(
    name="rotate",
    number="3.2",
    title="turn the vector instead",
    kind="Extend",
    minutes=20,
    difficulty=3,
    goal="Vectors (T, H) and positions (T,) -> the vectors with components 2i and 2i + 1 turned by the "
    "position times the chapter's frequency i.",
    hints=(
        "To turn the point $(x, y)$ by an angle $a$ is to take $(x \\cos a - y \\sin a,\\; x \\sin a + y "
        "\\cos a)$.",
        "Make a tensor of angles of shape `(T, H / 2)` as in `sinusoids_vectorised`, and take the even "
        "components and the odd ones of the vectors apart: `vectors[:, 0::2]` and `vectors[:, 1::2]`.",
        "`torch.stack([new_even, new_odd], dim=-1).flatten(1)` puts the pairs back in their places.",
    ),
    stub='''
def rotate(vectors, positions):
    """Vectors (T, H) and their positions (T,) -> (T, H)."""
    ...
''',
    mechanisms=(at_zero, lengths_stay, by_hand, frequencies, given_positions, distance_alone),
)


# ---- 3.3 ---------------------------------------------------------------------------------------------------


class Layer(BertEmbeddings):
    """The chapter's layer, of the sizes (6, 8, 10, 2): both arguments by place. It notes what it is given."""

    def __init__(self, draw):
        super().__init__(
            BertConfig(vocab_size=6, hidden_size=8, num_attention_heads=1, max_position_embeddings=10)
        )
        with torch.no_grad():
            for table in (self.token, self.position, self.segment):
                table.weight.copy_(draw.normal(*table.weight.shape))
        self.batches: list[int] = []
        self.eval()

    def forward(self, input_ids, token_type_ids):
        self.batches.append(len(input_ids))
        where = self.position(self.places(*input_ids.shape))  # (T, H), or (1, H)
        return self.dropout(self.norm(self.token(input_ids) + where + self.segment(token_type_ids)))

    def places(self, B: int, T: int) -> Tensor:
        """The rows of the position table."""
        return torch.arange(T)


class Hurried(Layer):
    """The colleague's layer: it counts sequences."""

    def places(self, B, T):
        return torch.arange(B)


class FirstOnly(Layer):
    """Position 0 has a vector of its own, and all others share one."""

    def places(self, B, T):
        return torch.arange(T).clamp(max=1)


class EveryOther(Layer):
    """Two position vectors in turn."""

    def places(self, B, T):
        return torch.arange(T) % 2


def opinion(answer, layer: Layer) -> tuple[bool, list[int]]:
    """A driver: what the answer says of the layer, and the sizes of the batches that it tried."""
    said = answer(layer)
    if said is None:
        raise NotYet("It returns None.")
    if not isinstance(said, (bool, int, Tensor)) and type(said).__name__ != "bool_":
        raise Wrong(f"knows_order must return True or False, and returned a {type(said).__name__}.")
    return bool(said), layer.batches


def says(answer, layer: Layer) -> bool:
    return answer.via(opinion, layer)[0]


def the_chapters_layer(answer, draw):
    """the chapter's layer knows order"""
    layers = [Layer(draw) for _ in range(3)]
    if all(says(answer, layer) for layer in layers):
        return
    without_norm = copy.deepcopy(layers[0])
    without_norm.norm = nn.Identity()
    if says(answer, without_norm):
        raise Wrong(
            "Your test does not see the order in a layer that knows it. Without LayerNorm it would: "
            "LayerNorm gives every vector the same sum and nearly the same length, so compare the vectors "
            "number by number."
        )
    raise Wrong(
        "Of the chapter's layer your test says that it does not know the order, and it does: the same token "
        "at two places gives two different vectors."
    )


def the_hurried_layer(answer, draw):
    """the hurried layer does not"""
    layer = Hurried(draw)
    if not says(answer, layer):
        return
    for table, difference in (("token", "tokens"), ("segment", "segments")):
        blind = copy.deepcopy(layer)
        with torch.no_grad():
            getattr(blind, table).weight.copy_(
                getattr(blind, table).weight[:1].expand_as(getattr(blind, table).weight)
            )
        if not says(answer, blind):
            raise Wrong(
                "Of the hurried layer your test says that it knows the order. Its vectors differ because "
                f"you give it different {difference}: give the layer the same at every place, so that only "
                "the place is left."
            )
    raise Wrong(
        "Of the hurried layer your test says that it knows the order. With one sequence all its tokens get "
        "position 0, so that the same token gives the same vector at every place."
    )


def one_sequence(answer, draw):
    """it needs only one sequence"""
    the_chapters_layer(answer, draw)
    _, batches = answer.via(opinion, Layer(draw))
    if max(batches, default=1) > 1:
        raise Wrong(
            f"Your test gives the layer a batch of {max(batches)} sequences. The point is to find the bug "
            "with one, since that is what the colleague tried."
        )


def all_places(answer, draw):
    """it looks at all places, not at two"""
    if says(answer, FirstOnly(draw)):
        raise Wrong(
            "A layer that gives place 0 a vector of its own, and all other places the same, passes your "
            "test. Look at more than the first two places."
        )
    if says(answer, EveryOther(draw)):
        raise Wrong(
            "A layer that gives every other place the same vector passes your test. Compare each place with "
            "all others, not only with its neighbour."
        )


ORDER = Exercise(
    name="knows_order",
    number="3.3",
    title="it worked for one sentence",
    kind="Find the bug",
    minutes=15,
    difficulty=2,
    goal="A layer in evaluation -> True for the chapter's `Embeddings`, False for `HurriedEmbeddings`, by a "
    "batch of one sequence.",
    hints=(
        "`input_ids` has the shape `(B, T)`. What is its `len`?",
        "With $B = 1$ the positions are `[0]`. Their embedding has the shape `(1, H)`, which broadcasts over "
        "all $T$ tokens, in silence. And when $B = T$?",
        "Give the layer the same token at every place. Which of the resulting vectors should be equal?",
    ),
    stub='''
def knows_order(layer):
    """layer(input_ids, token_type_ids) gives (B, T, H); sizes (6, 8, 10, 2) -> True or False."""
    ...
''',
    mechanisms=(the_chapters_layer, one_sequence, the_hurried_layer, all_places),
    changes_input=True,  # it is given a layer, which notes what it is asked
)

EXERCISES = (GRADIENT, ROTATE, ORDER)
