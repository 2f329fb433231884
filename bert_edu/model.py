"""BERT itself: embeddings, encoder stack and pooler, with BERT's initial weights (chapter 7)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .attention import attention_bias
from .config import BertConfig
from .embeddings import BertEmbeddings
from .encoder import Encoder
from .packing import first_tokens, packed_attention_bias, restarting_positions
from .pretrained import PretrainedMixin


@dataclass
class BertOutput:
    """What `BertModel` returns.

    Attributes:
        last_hidden_state: (B, T, H), one vector per token.
        pooler_output: (B, H), one vector per sequence; None when the model has no pooler.
        hidden_states: L + 1 of (B, T, H), the embeddings first, when asked for.
        attentions: L of (B, A, T, T), when asked for.
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class Pooler(nn.Module):
    """One vector for the whole sequence: tanh(dense(h)) of the first token, [CLS].

    Source: google-research/bert, modeling.py:224-232.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, H) -> (B, H)"""
        return torch.tanh(self.dense(hidden[:, 0]))


class BertModel(PretrainedMixin, nn.Module):
    """The encoder that every BERT model shares.

    Args:
        config: sizes and rates.
        add_pooling_layer: leave out the pooler, for the models that never read it (tagging and question
            answering).
    """

    def __init__(self, config: BertConfig, *, add_pooling_layer: bool = True):
        super().__init__()
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config) if add_pooling_layer else None
        initialise_weights(self, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        sequence_ids: Tensor | None = None,
        sequence_starts: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> BertOutput:
        """Encodes a batch of sequences.

        Args:
            input_ids: (B, T) token ids, below V.
            attention_mask: (B, T), 1 = read this token, 0 = padding; none given = all ones.
            token_type_ids: (B, T) segment of each token; none given = all zeros.
            sequence_ids: (B, T), for rows that hold several sequences each: 1, 2, ... from left to right, 0 =
                padding. Stands for the attention mask, which is not read then. See `bert_edu.packing`.
            sequence_starts: (S,), with `sequence_ids`: where in the flattened rows those sequences begin that
                `pooler_output` (S, H) is wanted of; None looks for them, and looking makes the host wait for
                a GPU.
            output_attentions: return every layer's attention probabilities (slower: they must be stored).
            output_hidden_states: return what enters the first layer and what leaves each one.

        Raises:
            TypeError: when ids are not whole numbers.
            ValueError: when a shape is wrong, a sequence is too long, or an id is outside its table.
        """
        self._check_inputs(input_ids, attention_mask, token_type_ids, sequence_ids)
        if sequence_ids is None:
            embedded = self.embeddings(input_ids, token_type_ids=token_type_ids)  # (B, T, H)
            bias = None if attention_mask is None else attention_bias(attention_mask, embedded.dtype)
        else:  # several sequences in a row
            positions = restarting_positions(sequence_ids)  # (B, T)
            embedded = self.embeddings(input_ids, token_type_ids=token_type_ids, position_ids=positions)
            bias = packed_attention_bias(sequence_ids, embedded.dtype)  # (B, 1, T, T)
        last, states, attentions = self.encoder(
            embedded,
            bias=bias,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        pooled = None
        if self.pooler is not None:
            own_rows = last if sequence_ids is None else first_tokens(last, sequence_ids, sequence_starts)
            pooled = self.pooler(own_rows)  # (B, H), or (S, H)
        return BertOutput(last, pooled, states, attentions)

    def _check_inputs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        sequence_ids: Tensor | None,
    ):
        config = self.config
        if input_ids.dim() != 2 or input_ids.shape[1] == 0:
            raise ValueError(
                f"input_ids must be (B, T), a batch of sequences of at least one token, "
                f"not {tuple(input_ids.shape)}"
            )
        if input_ids.shape[1] > config.max_position_embeddings:
            raise ValueError(
                f"input_ids has {input_ids.shape[1]} tokens a sequence, and the model has positions for "
                f"{config.max_position_embeddings}: truncate, or cut into windows"
            )
        for name, tensor in (
            ("attention_mask", attention_mask),
            ("token_type_ids", token_type_ids),
            ("sequence_ids", sequence_ids),
        ):
            if tensor is not None and tensor.shape != input_ids.shape:
                raise ValueError(
                    f"{name} must have the shape of input_ids, {tuple(input_ids.shape)}, "
                    f"not {tuple(tensor.shape)}"
                )
        _check_ids("input_ids", input_ids, "vocab_size", config.vocab_size)
        if token_type_ids is not None:
            _check_ids("token_type_ids", token_type_ids, "type_vocab_size", config.type_vocab_size)


def _check_ids(name: str, ids: Tensor, size_name: str, size: int):
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must be whole numbers (torch.long), not {ids.dtype}")
    # Looking at the values makes the host wait for a GPU, and breaks a compiled graph: only on the CPU.
    if ids.device.type != "cpu" or torch.compiler.is_compiling() or ids.numel() == 0:
        return
    for worst in (int(ids.min()), int(ids.max())):
        if not 0 <= worst < size:
            row, column = (ids == worst).nonzero()[0].tolist()
            raise ValueError(
                f"{name}[{row}, {column}] is {worst}, and {size_name} is {size}: ids run from 0 to {size - 1}"
            )


def initialise_weights(model: nn.Module, std: float):
    """Gives every part of a model BERT's initial weights, in place.

    Matrices and embedding tables: normal with standard deviation `std`, cut at two of it (so the real one
    is 0.88 `std`). Biases 0. LayerNorm starts as the identity, 1 and 0.

    Source: google-research/bert, modeling.py:375-377. `transformers` uses the normal without the cut.
    """
    for part in model.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
