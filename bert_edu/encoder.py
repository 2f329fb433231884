"""One encoder layer, attention and feed-forward with residual and LayerNorm; then the stack (chapter 6)."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .attention import MultiHeadSelfAttention
from .config import BertConfig

# "gelu" is exact (erf), as in the paper's first release; "gelu_new" is the tanh form of Google's later
# code, which differs from it by at most 4.73e-4.
ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


class FeedForward(nn.Module):
    """Two matrices with a bend between them, applied to each token alone: H -> I -> H.

    There is no dropout inside; it follows in the layer (google-research/bert, modeling.py:862-879).
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.expand = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.contract = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, H)"""
        return self.contract(self.activation(self.expand(hidden)))  # (B, T, I) in the middle


class EncoderLayer(nn.Module):
    """Attention mixes the tokens, feed-forward works on each; both add to the residual stream.

    Post-LN, as in the first Transformer and in BERT: LayerNorm(x + dropout(sublayer(x))).

    Source: Vaswani et al. (2017), section 3.1; google-research/bert, modeling.py:830-881.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = MultiHeadSelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, hidden: Tensor, *, bias: Tensor | None = None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, H) -> (B, T, H), and the attention probabilities (B, A, T, T) or None."""
        read, probabilities = self.attention(hidden, bias=bias, output_attentions=output_attentions)
        hidden = self.attention_norm(hidden + self.dropout(read))
        hidden = self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))
        return hidden, probabilities


class Encoder(nn.Module):
    """L encoder layers, one after the other.

    Attributes:
        checkpointing: while training, keep only what enters each layer and compute the rest again when the
            backward pass needs it: less memory for a third more work (Chen et al., 2016).
    """

    checkpointing = False

    def __init__(self, config: BertConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self,
        hidden: Tensor,
        *,
        bias: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> tuple[Tensor, tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]:
        """Runs the stack.

        Args:
            hidden: (B, T, H), the embeddings.
            bias: (B, 1, 1, T) from `attention_bias`, or (B, 1, T, T) for packed rows, or None.
            output_attentions: collect every layer's attention probabilities.
            output_hidden_states: collect what enters the first layer and what leaves each one.

        Returns:
            The last hidden state (B, T, H); the hidden states, L + 1 of (B, T, H), or None; the attention
            probabilities, L of (B, A, T, T), or None.
        """
        states, attentions = [hidden], []
        for layer in self.layers:
            if self.checkpointing and self.training:
                layer = partial(checkpoint, layer, use_reentrant=False)
            hidden, probabilities = layer(hidden, bias=bias, output_attentions=output_attentions)
            if output_hidden_states:
                states.append(hidden)
            if output_attentions:
                attentions.append(probabilities)
        return (
            hidden,
            tuple(states) if output_hidden_states else None,
            tuple(attentions) if output_attentions else None,
        )
