"""From ids to vectors: what the token is, where it stands, and which sentence it belongs to (chapter 3)."""

import math

import torch
from torch import Tensor, nn

from .config import BertConfig


class BertEmbeddings(nn.Module):
    """Adds three learned vectors per token (token, position, segment), then LayerNorm, then dropout.

    Source: Devlin et al. (2018), figure 2; google-research/bert, modeling.py:361-523. As in Google's code,
    the row of [PAD] is a row like any other; in `transformers` it starts at zero and look-ups send it no
    gradient.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.hidden_size)  # (V, H)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.segment = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor,
        *,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Embeds a batch.

        Args:
            input_ids: (B, T) whole numbers below V.
            token_type_ids: (B, T) segment of each token, below `type_vocab_size`; none given = all 0.
            position_ids: (B, T) place of each token in its sequence; none given = 0, 1, 2, ... in every row.

        Returns:
            (B, T, H)
        """
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)  # (T,)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        summed = (
            self.token(input_ids)  # (B, T, H)
            + self.position(position_ids)  # (T, H), the same for every row, or (B, T, H)
            + self.segment(token_type_ids)  # (B, T, H)
        )
        return self.dropout(self.norm(summed))


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """The fixed position vectors of the first Transformer: sines and cosines of falling frequency.

    Component 2i of position p is sin(p / 10000^(2i/H)), component 2i+1 the cosine. BERT learns its
    positions instead; these are for comparison, and a good starting point for a small model.

    Args:
        length: number of positions.
        width: width of each vector, H; must be even, since sines and cosines come in pairs.

    Returns:
        (length, width)

    Source: Vaswani et al. (2017), section 3.5.
    """
    if width % 2:
        raise ValueError(f"width must be even, since sines and cosines come in pairs, not {width}")
    position = torch.arange(length).unsqueeze(1)  # (length, 1)
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))  # (width / 2,)
    angle = position * frequency  # (length, width / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)  # (length, width), interleaved


def start_from_sinusoids(embeddings: BertEmbeddings, spread: float):
    """Fills the learned position table with sinusoids: training then starts from an order, not from chance.

    A departure from BERT that helps small models in short runs. Training moves the table as before.

    Args:
        spread: standard deviation of the table, usually that of the other two tables (`initializer_range`).
    """
    table = embeddings.position.weight  # (max_position_embeddings, H)
    waves = sinusoidal_positions(*table.shape) * math.sqrt(
        2
    )  # a wave between -1 and 1 has spread 1 / sqrt(2)
    with torch.no_grad():
        table.copy_(waves * spread)


def repeat_positions(embeddings: BertEmbeddings, trained: int):
    """Fills the position table beyond the first `trained` rows with copies of them, block after block.

    A model that was trained on short inputs knows nothing of later positions. With copies it knows at once
    how neighbours look there, except across the seams; which of the blocks is meant it has to learn.

    Args:
        trained: how many positions the inputs had so far.

    Source: Beltagy et al. (2020), "Longformer", section 5.
    """
    table = embeddings.position.weight  # (max_position_embeddings, H)
    if not 1 <= trained <= len(table):
        raise ValueError(f"trained must be 1 to {len(table)}, the number of positions, not {trained}")
    copies = table[:trained].repeat(-(-len(table) // trained), 1)  # at least as long as the table
    with torch.no_grad():
        table.copy_(copies[: len(table)])
