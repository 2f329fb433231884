"""What a training step costs before it is taken: operations and bytes (chapter 16)."""

from dataclasses import dataclass

from .config import BertConfig

FLOAT32 = 4  # bytes


def forward_operations(config: BertConfig, *, rows: int, length: int, scored: int = 0) -> dict[str, int]:
    """Multiplications and additions of the matrix products in one forward pass, by part.

    The rest (softmax, GELU, LayerNorm, the sums) is not counted: it is a few operations for each number,
    where a product of matrices spends hundreds.

    Args:
        config: the model's sizes.
        rows: B, sequences.
        length: T, tokens in each, padding included.
        scored: tokens whose word is predicted; only these go through the decoder.

    Returns:
        part -> operations. (N, K) times (K, M) counts as 2 N K M: a multiplication and an addition each.
    """
    B, T = rows, length
    H, I, L, V = config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.vocab_size
    N = B * T
    return {
        "projections": L * 2 * N * H * 4 * H,  # query, key, value and output
        "scores and contexts": L * 2 * 2 * N * T * H,  # (T, D) x (D, T) and (T, T) x (T, D), A times
        "feed-forward": L * 2 * 2 * N * H * I,
        "word head": 2 * scored * H * (H + V),
        "pooler and pair head": 2 * B * H * (H + 2),
    }


def training_operations(config: BertConfig, *, rows: int, length: int, scored: int) -> int:
    """Operations of a forward and backward pass: three times those of the forward pass.

    Backward, each product becomes two of the same size: one for the gradient of either factor.
    """
    return 3 * sum(forward_operations(config, rows=rows, length=length, scored=scored).values())


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of a training step, by what they are for.

    A step has two peaks. At the *turn*, where forward becomes backward, everything is there that the backward
    pass will need, and no gradient yet. At the *end* of the backward pass that is gone, and the gradients are
    there.

    Attributes:
        weights: the parameters.
        optimizer: AdamW's two running means.
        activations: what the forward pass keeps for the backward pass, the word head left out.
        passing: the larger of two things that are never there together. In the word head: what enters its
            steps, a score for every word at every scored position, their log-softmax, and the gradient of
            either. In the layer that comes next: the gradients before and after its GELU, while that of the
            decoder waits; with checkpointing also all that this layer computes again.
        gradients: one number for each parameter.
        table: the embedding table is used twice, so two more gradients of its size meet to be added.
    """

    weights: int
    optimizer: int
    activations: int
    passing: int
    gradients: int
    table: int

    @property
    def turn(self) -> int:
        return self.weights + self.optimizer + self.activations + self.passing

    @property
    def end(self) -> int:
        return self.weights + self.optimizer + self.gradients + self.table

    @property
    def peak(self) -> int:
        return max(self.turn, self.end)


def training_memory(
    config: BertConfig, parameters: int, *, rows: int, length: int, scored: int, checkpointing: bool = False
) -> TrainingMemory:
    """Bytes of a float32 training step of `BertForPreTraining`, with AdamW, fused attention, no dropout.

    Args:
        config, rows, length, scored: as in `forward_operations`.
        parameters: how many the model has.
        checkpointing: keep only what enters each layer, and compute one layer at a time again.
    """
    N = rows * length
    H, I, A = config.hidden_size, config.intermediate_size, config.num_attention_heads
    L, V = config.num_hidden_layers, config.vocab_size
    # In numbers a token: what enters a layer; queries, keys, values; contexts, and the logarithm of each
    # softmax's sum; into and out of the first LayerNorm, with a mean and a width; before and after GELU;
    # into the second LayerNorm.
    layer = H + 3 * H + (H + A) + (2 * H + 2) + 2 * I + (H + 2)
    kept, again = (H, layer - H) if checkpointing else (layer, 0)
    outside = (H + 2) + H  # into the embeddings' LayerNorm, and out of the last layer
    word_head = scored * (4 * H + 2 + 4 * V)
    one_layer = N * (again + 2 * I) + V * H
    weights = FLOAT32 * parameters
    return TrainingMemory(
        weights=weights,
        optimizer=2 * weights,
        activations=FLOAT32 * N * (L * kept + outside),
        passing=FLOAT32 * max(word_head, one_layer),
        gradients=weights,
        table=2 * FLOAT32 * V * H,
    )
