"""The museum: real bugs of published BERT code, in a few lines each, and what finds them (chapter 12).

Every exhibit has the wrong version, the right one (the package's own) and an `inspect` that takes either and
returns a verdict. The bugs are named by what they do. All of them run and raise no error: that is what makes
them fit for a museum.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import BertConfig
from .data.pretraining import mask_tokens
from .encoder import Encoder, EncoderLayer
from .heads import IGNORE, masked_language_model_loss
from .introspection.checks import (
    Verdict,
    check_against,
    check_deterministic,
    check_labels,
    check_masking_shares,
    check_padding,
    check_scored_positions,
    check_weight_decay,
)
from .model import BertModel
from .tokenization import BertTokenizer
from .training.optim import parameter_groups


@dataclass
class Exhibit:
    """One bug.

    Attributes:
        name: what it does, in few words.
        wrong, right: the function or class with the bug, and without it.
        inspect: takes one of the two and returns the verdict of the check that tells them apart.
        symptom: what one sees of it, if anything.
        fix: what to do.
    """

    name: str
    wrong: Callable
    right: Callable
    inspect: Callable[[Callable], Verdict]
    symptom: str
    fix: str


# ---- What the exhibits are inspected with ------------------------------------------------------------------

SMALL = BertConfig(
    vocab_size=89,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=37,
    max_position_embeddings=19,
)
B, T = 4, 7


def small_model() -> BertModel:
    """A BERT with three layers whose weights lie far from their first values, so that each part counts."""
    model = BertModel(SMALL).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def small_batch() -> dict[str, Tensor]:
    """(B, T) each: random ids with padding, in two segments."""
    generator = torch.Generator().manual_seed(1)
    attention_mask = (torch.arange(T) < torch.tensor([7, 5, 4, 6])[:, None]).long()
    return dict(
        input_ids=torch.randint(1, SMALL.vocab_size, (B, T), generator=generator) * attention_mask,
        attention_mask=attention_mask,
        token_type_ids=(torch.arange(T) > 2).long().expand(B, T),
    )


def small_tokenizer() -> BertTokenizer:
    """Five special tokens and the letters a to z as words."""
    return BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"])


def letters(rows: int, length: int) -> Tensor:
    """(rows, length) ids of random letters between [CLS] and [SEP]."""
    tokenizer = small_tokenizer()
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, tokenizer.vocab_size, (rows, length), generator=generator)
    ids[:, 0], ids[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    return ids


# ---- 1. Losses ---------------------------------------------------------------------------------------------


def loss_times_mask(logits: Tensor, labels: Tensor) -> Tensor:
    """WRONG: `cross_entropy` has averaged already; that number times a mask, over the mask, is the same."""
    mask = (labels != IGNORE).float()  # (B, T)
    loss = F.cross_entropy(logits.flatten(0, 1), labels.clamp(min=0).flatten())
    return (loss * mask).sum() / mask.sum()


def inspect_word_loss(loss: Callable) -> Verdict:
    """Which positions does a masked-language-model loss score?"""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 11, (B, T), generator=generator)
    labels[torch.rand(B, T, generator=generator) < 0.7] = IGNORE
    return check_scored_positions(loss, torch.randn(B, T, 11, generator=generator), labels)


def pair_loss_that_ignores_zero(logits: Tensor, labels: Tensor) -> Tensor:
    """WRONG: one loss with `ignore_index=0` (for [PAD]) for words and pairs; and 0 is "really the next"."""
    return nn.CrossEntropyLoss(ignore_index=0)(logits, labels)


def inspect_pair_loss(loss: Callable) -> Verdict:
    """Which pairs does a next-sentence loss score?"""
    generator = torch.Generator().manual_seed(3)
    return check_scored_positions(loss, torch.randn(8, 2, generator=generator), torch.arange(8) % 2)


# ---- 2. Masked data ----------------------------------------------------------------------------------------


def mask_with_two_draws(ids: Tensor, tokenizer: BertTokenizer, *, generator: torch.Generator):
    """WRONG: 10 % stay, then 10 % of the rest are replaced, and what is left is masked: 81/9/10."""
    special = torch.isin(ids, torch.tensor(sorted(tokenizer.special_ids)))
    chosen = (torch.rand(ids.shape, generator=generator) < 0.15) & ~special
    chosen[:, 1] = True  # never a row without one
    kept = chosen & (torch.rand(ids.shape, generator=generator) < 0.1)
    replaced = chosen & ~kept & (torch.rand(ids.shape, generator=generator) < 0.1)
    random_ids = torch.randint(5, tokenizer.vocab_size, ids.shape, generator=generator)
    hidden = ids.masked_fill(chosen & ~kept, tokenizer.mask_token_id)
    return torch.where(replaced, random_ids, hidden), ids.masked_fill(~chosen, IGNORE)


def inspect_shares(masking: Callable) -> Verdict:
    """How many of the chosen tokens are masked, random, kept?"""
    tokenizer, ids = small_tokenizer(), letters(4000, 66)
    masked, labels = masking(ids, tokenizer, generator=torch.Generator().manual_seed(4))
    return check_masking_shares(ids, masked, labels, tokenizer)


def labels_after_replacement(ids: Tensor, tokenizer: BertTokenizer, *, generator: torch.Generator):
    """WRONG: the ids are replaced in place, and then the labels are read from them."""
    ids = ids.clone()
    masked, labels = mask_tokens(ids, tokenizer, generator=generator)
    ids.copy_(masked)
    return ids, ids.masked_fill(labels == IGNORE, IGNORE)


def inspect_labels(masking: Callable) -> Verdict:
    """Are the labels the original tokens?"""
    tokenizer, ids = small_tokenizer(), letters(20, 30)
    masked, labels = masking(ids.clone(), tokenizer, generator=torch.Generator().manual_seed(5))
    return check_labels(ids, masked, labels, tokenizer)


# ---- 3. The attention mask ---------------------------------------------------------------------------------


class EncoderThatForgetsTheMask(Encoder):
    """WRONG: the mask reaches the first layer only."""

    def forward(self, hidden: Tensor, *, bias: Tensor | None = None, **options):
        """As `Encoder.forward`."""
        for number, layer in enumerate(self.layers):
            hidden, _ = layer(hidden, bias=bias if number == 0 else None)
        return hidden, None, None


class EncoderThatMasksQueries(Encoder):
    """WRONG: the mask stands at the queries' axis, so [PAD] asks nothing, but everybody reads [PAD]."""

    def forward(self, hidden: Tensor, *, bias: Tensor | None = None, **options):
        """As `Encoder.forward`."""
        by_query = None if bias is None else bias.transpose(-2, -1).expand(-1, -1, -1, bias.shape[-1])
        return super().forward(hidden, bias=by_query, **options)


def with_encoder(encoder: type[Encoder]) -> BertModel:
    """The small model with another class of encoder around the same layers."""
    model = small_model()
    other = encoder(SMALL)
    other.layers = model.encoder.layers
    model.encoder = other
    return model.eval()


def inspect_encoder(encoder: type[Encoder]) -> Verdict:
    """Does the padding change a result?"""
    return check_padding(with_encoder(encoder), small_batch())


class NextSentenceFromAllTokens(nn.Module):
    """WRONG: reads all tokens side by side, (B, T * H), instead of the pooled [CLS]."""

    def __init__(self):
        super().__init__()
        self.config = SMALL
        self.bert = small_model()
        self.nsp_head = nn.Linear(T * SMALL.hidden_size, 2)

    def forward(self, input_ids: Tensor, **inputs) -> Tensor:
        """(B, T) -> (B, 2)"""
        return self.nsp_head(self.bert(input_ids, **inputs).last_hidden_state.flatten(1))


class NextSentenceFromPooler(nn.Module):
    """The pooled [CLS] has as many numbers for a long text as for a short one."""

    def __init__(self):
        super().__init__()
        self.config = SMALL
        self.bert = small_model()
        self.nsp_head = nn.Linear(SMALL.hidden_size, 2)

    def forward(self, input_ids: Tensor, **inputs) -> Tensor:
        """(B, T) -> (B, 2)"""
        return self.nsp_head(self.bert(input_ids, **inputs).pooler_output)


def inspect_sentence_head(model_class: Callable) -> Verdict:
    """Does the length of the padding, or its content, change the answer?"""
    return check_padding(model_class().eval(), small_batch())


# ---- 4. Layers ---------------------------------------------------------------------------------------------


class NormWithEpsOutside(nn.LayerNorm):
    """WRONG: divides by (standard deviation + eps), not by the root of (variance + eps)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., H) -> (..., H)"""
        centred = x - x.mean(-1, keepdim=True)
        return self.weight * centred / (x.std(-1, keepdim=True, correction=0) + self.eps) + self.bias


def inspect_norm(norm: type[nn.LayerNorm]) -> Verdict:
    """Does a model with this norm in its second layer compute what BERT computes?"""
    right = small_model()
    right.encoder.layers[1].feed_forward_norm.eps = 1e-6  # at BERT's own 1e-12 nobody could see it
    mine = copy.deepcopy(right)
    part = norm(SMALL.hidden_size, eps=1e-6)
    part.load_state_dict(right.encoder.layers[1].feed_forward_norm.state_dict())
    mine.encoder.layers[1].feed_forward_norm = part
    return check_against(mine.eval(), right, small_batch())


class PreNormLayer(EncoderLayer):
    """WRONG, if it is called BERT: normalises what goes into a sub-layer (pre-norm), not the sum."""

    def forward(self, hidden: Tensor, *, bias: Tensor | None = None, output_attentions: bool = False):
        """As `EncoderLayer.forward`."""
        read, probabilities = self.attention(
            self.attention_norm(hidden), bias=bias, output_attentions=output_attentions
        )
        hidden = hidden + self.dropout(read)
        hidden = hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))
        return hidden, probabilities


def inspect_layer(layer: type[EncoderLayer]) -> Verdict:
    """Does a model of such layers compute what BERT computes?"""
    right = small_model()
    mine = copy.deepcopy(right)
    for number, part in enumerate(right.encoder.layers):
        mine.encoder.layers[number] = layer(SMALL)
        mine.encoder.layers[number].load_state_dict(part.state_dict())
    return check_against(mine.eval(), right, small_batch())


class DropoutThatStaysOn(nn.Module):
    """WRONG: `F.dropout` is on by default, whatever the module's mode."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., H) -> (..., H)"""
        return F.dropout(x, 0.1)


def inspect_dropout(dropout: Callable) -> Verdict:
    """Is the model the same twice in evaluation mode?"""
    model = small_model()
    model.encoder.layers[1].dropout = dropout()
    return check_deterministic(model.eval(), small_batch())


# ---- 5. The optimiser --------------------------------------------------------------------------------------


def groups_by_exact_name(model: nn.Module, weight_decay: float) -> list[dict]:
    """WRONG: compares whole names with "bias" and "LayerNorm.weight"; no parameter is called just that."""
    spared = ("bias", "LayerNorm.bias", "LayerNorm.weight")
    return [
        {
            "params": [part for name, part in model.named_parameters() if name not in spared],
            "weight_decay": weight_decay,
        },
        {"params": [part for name, part in model.named_parameters() if name in spared], "weight_decay": 0.0},
    ]


def inspect_groups(groups: Callable) -> Verdict:
    """Which parameters decay?"""
    model = small_model()
    return check_weight_decay(torch.optim.AdamW(groups(model, 0.01)), model)


# ---- The exhibits ------------------------------------------------------------------------------------------

EXHIBITS = [
    Exhibit(
        "the loss mask that does nothing",
        loss_times_mask,
        masked_language_model_loss,
        inspect_word_loss,
        "the loss falls, mostly by predicting one id at every position that has no label",
        "leave the unscored positions out (ignore_index), or take reduction='none' before the mask",
    ),
    Exhibit(
        "the pair loss that never sees a true pair",
        pair_loss_that_ignores_zero,
        F.cross_entropy,
        inspect_pair_loss,
        "next-sentence accuracy stays at the share of random pairs; the loss goes to 0",
        "no ignore_index for pairs, and -100, not 0, for words",
    ),
    Exhibit(
        "81/9/10 for 80/10/10",
        mask_with_two_draws,
        mask_tokens,
        inspect_shares,
        "none that one would notice",
        "let one draw decide among the three",
    ),
    Exhibit(
        "labels taken after the replacement",
        labels_after_replacement,
        mask_tokens,
        inspect_labels,
        "a loss near 0 after a few steps, and a model that fills every gap with [MASK]",
        "take the labels first, or do not change ids in place",
    ),
    Exhibit(
        "the mask that is dropped after layer one",
        EncoderThatForgetsTheMask,
        Encoder,
        inspect_encoder,
        "results change a little with the company that a text is batched with",
        "hand the mask to every layer",
    ),
    Exhibit(
        "the mask at the queries",
        EncoderThatMasksQueries,
        Encoder,
        inspect_encoder,
        "as before; attention maps show weight on [PAD]",
        "shape (B, 1, 1, T): the last axis is the keys'",
    ),
    Exhibit(
        "the sentence head that reads all tokens",
        NextSentenceFromAllTokens,
        NextSentenceFromPooler,
        inspect_sentence_head,
        "an error at the first batch of another length, or none where all are padded alike",
        "read the pooled [CLS]",
    ),
    Exhibit(
        "eps outside the root",
        NormWithEpsOutside,
        nn.LayerNorm,
        inspect_norm,
        "none in training from nothing; published weights give slightly other numbers",
        "nn.LayerNorm, or (variance + eps).sqrt() with the biased variance",
    ),
    Exhibit(
        "pre-norm called post-norm",
        PreNormLayer,
        EncoderLayer,
        inspect_layer,
        "trains well, even better; published weights give nonsense",
        "LayerNorm(x + dropout(sublayer(x)))",
    ),
    Exhibit(
        "dropout that stays on",
        DropoutThatStaysOn,
        nn.Dropout,
        inspect_dropout,
        "evaluation gives other numbers each time, and worse ones",
        "nn.Dropout, or F.dropout(x, p, training=self.training)",
    ),
    Exhibit(
        "the group without decay that is empty",
        groups_by_exact_name,
        parameter_groups,
        inspect_groups,
        "LayerNorms shrink slowly over a long training",
        "tell biases and LayerNorms by their shape, or by part of the name",
    ),
]
