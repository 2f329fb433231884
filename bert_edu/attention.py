"""How a token reads the others: scaled dot-product attention (chapter 4) with many heads (chapter 5)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import BertConfig

# Added to the score of a hidden key, as in google-research/bert (modeling.py:705). Large enough that
# softmax gives it exactly 0 beside any ordinary score, small enough for half precision. Unlike minus
# infinity it leaves a row with no visible key finite: there all scores sink by the same amount.
HIDDEN_KEY_BIAS = -10000.0


def attention_bias(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turns a mask of ones (read) and zeros (hide) into a number to add to the scores.

    Args:
        attention_mask: (B, T), 1 for a token that may be read, 0 for padding.
        dtype: the floating-point type of the scores.

    Returns:
        (B, 1, 1, T): the same for every head and every query, 0 at visible keys.
    """
    hidden = attention_mask[:, None, None, :] == 0  # (B, 1, 1, T)
    return torch.zeros_like(hidden, dtype=dtype).masked_fill(hidden, HIDDEN_KEY_BIAS)


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, dropout: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(D) + bias) V, written out so that the probabilities can be seen.

    Args:
        query, key, value: (..., T, D); the leading dimensions are usually (B, A).
        bias: added to the scores before softmax; must broadcast to (..., T, T).
        dropout: applied to the probabilities while training.

    Returns:
        context (..., T, D) and probabilities (..., T, T), before dropout; each row of these sums to 1.

    Source: Vaswani et al. (2017), equation 1.
    """
    scores = query @ key.transpose(-2, -1)  # (..., T, T)
    scores = scores / math.sqrt(query.shape[-1])
    if bias is not None:
        scores = scores + bias
    probabilities = scores.softmax(dim=-1)  # over the keys: each query shares out a weight of 1
    kept = probabilities if dropout is None else dropout(probabilities)
    return kept @ value, probabilities  # (..., T, D), (..., T, T)


class MultiHeadSelfAttention(nn.Module):
    """A heads, each looking at the sequence through its own H -> D projections, side by side.

    The three projections stand in one matrix, one large multiplication for three small ones. Dropout falls
    on the probabilities; the output projection mixes what the heads found.

    Source: Vaswani et al. (2017), section 3.2.2; google-research/bert, modeling.py:558-750.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads  # A
        self.head_size = config.head_size  # D
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(
        self, hidden: Tensor, *, bias: Tensor | None = None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Lets every token read the tokens that `bias` leaves visible.

        Args:
            hidden: (B, T, H)
            bias: from `attention_bias`, (B, 1, 1, T); None when nothing is hidden.
            output_attentions: return the probabilities too. They exist only on the written-out path;
                otherwise PyTorch's fused kernel computes the same result without storing them (on a CPU it
                does store them while dropout is on).

        Returns:
            (B, T, H), and the probabilities (B, A, T, T) or None.
        """
        query, key, value = (self.split_heads(part) for part in self.query_key_value(hidden).chunk(3, dim=-1))
        if output_attentions:
            context, probabilities = scaled_dot_product_attention(query, key, value, bias, self.dropout)
        else:
            probabilities = None
            context = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=None if bias is None else bias.to(query.dtype),
                dropout_p=self.dropout.p if self.training else 0.0,
            )
        return self.output(self.merge_heads(context)), probabilities

    def split_heads(self, hidden: Tensor) -> Tensor:
        """(B, T, H) -> (B, A, T, D): head a gets components a*D to (a+1)*D of every token."""
        B, T, _ = hidden.shape
        return hidden.view(B, T, self.num_heads, self.head_size).transpose(1, 2)

    def merge_heads(self, context: Tensor) -> Tensor:
        """(B, A, T, D) -> (B, T, H): the heads side by side again."""
        return context.transpose(1, 2).flatten(2)
