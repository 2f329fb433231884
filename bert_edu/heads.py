"""What is asked of BERT: two pre-training objectives (chapter 10), three kinds of task (chapters 13-15)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import BertConfig
from .encoder import ACTIVATIONS
from .model import BertModel, initialise_weights
from .pretrained import PretrainedMixin

IGNORE = -100  # the label of a position that is not scored; PyTorch's cross-entropy skips it too


@dataclass
class PreTrainingOutput:
    """What `BertForPreTraining` returns.

    Attributes:
        loss: the sum of the two below, as far as labels were given; None without labels.
        mlm_loss: mean negative log-likelihood of the scored tokens, in nats.
        nsp_loss: the same for the sentence pairs.
        prediction_logits: (B, T, V) without `labels`; None with them.
        scored_logits: (N, V) with `labels`: those of the N scored positions, in reading order (or in that of
            `scored_positions`).
        seq_relationship_logits: (B, 2); index 0 = the second sentence follows the first, 1 = it is random.
        hidden_states, attentions: as in `BertOutput`.
    """

    loss: Tensor | None
    mlm_loss: Tensor | None
    nsp_loss: Tensor | None
    prediction_logits: Tensor | None
    scored_logits: Tensor | None
    seq_relationship_logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class TaskOutput:
    """What classification models return: `logits` (B, C) or (B, T, C), and `loss` when labels were given."""

    loss: Tensor | None
    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class QuestionAnsweringOutput:
    """What `BertForQuestionAnswering` returns: two scores a token, (B, T) each; `loss` with positions."""

    loss: Tensor | None
    start_logits: Tensor
    end_logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class MaskedLanguageModelHead(nn.Module):
    """From a token's vector to a score for every word of the vocabulary.

    dense + activation + LayerNorm, then the token embedding table read backwards (tied weights) plus a bias.

    Source: google-research/bert, run_pretraining.py:240-285.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, token_embeddings: Tensor) -> Tensor:
        """(..., H) and the table (V, H) -> (..., V)"""
        return F.linear(self.norm(self.activation(self.dense(hidden))), token_embeddings, self.bias)


def masked_language_model_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of -log p(label) over the scored positions, divided by how many there are.

    Args:
        logits: (..., V)
        labels: (...), -100 where nothing is scored.

    Returns:
        A scalar in nats; 0 when nothing is scored, so that an unlucky batch does no harm.
    """
    logits, labels = logits.flatten(0, -2), labels.flatten()  # (N, V), (N,)
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def positions_to_score(labels: Tensor) -> Tensor:
    """Where in the flattened labels (B, T) something is to be predicted: (N,), in reading order."""
    return (labels.flatten() != IGNORE).nonzero().flatten()


class BertForPreTraining(PretrainedMixin, nn.Module):
    """BERT with both pre-training heads: masked words (MLM) and next sentence (NSP).

    Source: google-research/bert, run_pretraining.py:109-320.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.bert = BertModel(config)
        self.mlm_head = MaskedLanguageModelHead(config)
        self.nsp_head = nn.Linear(config.hidden_size, 2)
        initialise_weights(self.mlm_head, config.initializer_range)
        initialise_weights(self.nsp_head, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        *,
        labels: Tensor | None = None,
        scored_positions: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        **inputs,
    ) -> PreTrainingOutput:
        """Predicts words and sentence order; with labels also the loss.

        Args:
            input_ids: (B, T).
            labels: (B, T), the original id where a word is to be predicted, -100 elsewhere. With them only
                the scored positions go through the large decoder: 15 % of the work.
            scored_positions: (N,), where in the flattened `labels` something is predicted, with `labels`;
                None looks for it, and looking makes the host wait for a GPU. Positions that are not scored
                may be among them, so that N can be the same in every batch, as a compiled model needs it.
            next_sentence_label: (B,), 0 = the second sentence really follows, 1 = it is a random one; -100
                is not scored. For packed rows (S,), one for each of `sequence_starts`.
            inputs: `attention_mask`, `token_type_ids` and whatever else `BertModel` takes.

        Raises:
            ValueError: when a label has the wrong shape.
        """
        output = self.bert(input_ids, **inputs)
        hidden, table = output.last_hidden_state, self.bert.embeddings.token.weight  # (B, T, H), (V, H)
        nsp_logits = self.nsp_head(output.pooler_output)  # (B, 2), or (S, 2) for packed rows
        mlm_loss = nsp_loss = prediction_logits = scored_logits = None
        if labels is None:
            prediction_logits = self.mlm_head(hidden, table)  # (B, T, V)
        else:
            _check_shape("labels", labels, input_ids.shape)
            if scored_positions is None:
                scored_positions = positions_to_score(labels)  # (N,)
            scored_logits = self.mlm_head(hidden.flatten(0, 1)[scored_positions], table)  # (N, V)
            mlm_loss = masked_language_model_loss(scored_logits, labels.flatten()[scored_positions])
        if next_sentence_label is not None:
            _check_shape("next_sentence_label", next_sentence_label, nsp_logits.shape[:1])
            nsp_loss = F.cross_entropy(nsp_logits, next_sentence_label)
        return PreTrainingOutput(
            _sum_given(mlm_loss, nsp_loss),
            mlm_loss,
            nsp_loss,
            prediction_logits,
            scored_logits,
            nsp_logits,
            output.hidden_states,
            output.attentions,
        )


class LabelledModel(PretrainedMixin, nn.Module):
    """A model whose classes have names; config.json stores them as `id2label`."""

    label_names: list[str]

    @classmethod
    def arguments_from(cls, published_config: dict, arguments: dict) -> dict:
        """The stored class names, unless the caller asks for other classes."""
        stored = published_config.get("id2label")
        if stored is None or "num_labels" in arguments:
            return arguments
        names = [stored[number] for number in sorted(stored, key=int)]
        return {"num_labels": len(names), "label_names": names} | arguments

    def extra_settings(self) -> dict:
        """The class names as config.json writes them."""
        return {
            "id2label": {str(number): name for number, name in enumerate(self.label_names)},
            "label2id": {name: number for number, name in enumerate(self.label_names)},
        }


class BertForSequenceClassification(LabelledModel):
    """One decision per sequence, from the pooled [CLS]: sentiment, entailment, or a number.

    Args:
        config: sizes and rates.
        num_labels: how many classes; 1 means regression (mean squared error).
        label_names: what the classes are called; stored with the model.

    Source: google-research/bert, run_classifier.py:575-620.
    """

    def __init__(self, config: BertConfig, num_labels: int = 2, label_names: list[str] | None = None):
        super().__init__()
        self.config = config
        self.label_names = _label_names(num_labels, label_names)
        self.bert = BertModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, num_labels)
        initialise_weights(self.classifier, config.initializer_range)

    def forward(self, input_ids: Tensor, *, labels: Tensor | None = None, **inputs) -> TaskOutput:
        """Scores the classes: logits (B, C). `labels` (B,): class numbers, or real numbers when C = 1."""
        output = self.bert(input_ids, **inputs)
        logits = self.classifier(self.dropout(output.pooler_output))  # (B, C)
        loss = None
        if labels is not None:
            _check_shape("labels", labels, input_ids.shape[:1])
            if logits.shape[1] == 1:
                loss = F.mse_loss(logits.squeeze(1), labels.to(logits.dtype))
            else:
                loss = F.cross_entropy(logits, labels)
        return TaskOutput(loss, logits, output.hidden_states, output.attentions)


class BertForTokenClassification(LabelledModel):
    """One decision per token: parts of speech, names.

    Args: as for `BertForSequenceClassification`.

    Source: Devlin et al. (2018), section 5.3.
    """

    def __init__(self, config: BertConfig, num_labels: int = 2, label_names: list[str] | None = None):
        super().__init__()
        self.config = config
        self.label_names = _label_names(num_labels, label_names)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, num_labels)
        initialise_weights(self.classifier, config.initializer_range)

    def forward(self, input_ids: Tensor, *, labels: Tensor | None = None, **inputs) -> TaskOutput:
        """Scores the classes of every token: logits (B, T, C). `labels` (B, T), -100 = not scored."""
        output = self.bert(input_ids, **inputs)
        logits = self.classifier(self.dropout(output.last_hidden_state))  # (B, T, C)
        loss = None
        if labels is not None:
            _check_shape("labels", labels, input_ids.shape)
            loss = masked_language_model_loss(logits, labels)
        return TaskOutput(loss, logits, output.hidden_states, output.attentions)


class BertForQuestionAnswering(PretrainedMixin, nn.Module):
    """Where in the text is the answer? Two scores per token: starts here, ends here.

    Source: google-research/bert, run_squad.py:549-617. No dropout before the scores.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.bert = BertModel(config, add_pooling_layer=False)
        self.span_head = nn.Linear(config.hidden_size, 2)
        initialise_weights(self.span_head, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        *,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **inputs,
    ) -> QuestionAnsweringOutput:
        """Scores every token as start and as end, (B, T) each.

        Args:
            start_positions, end_positions: (B,) token numbers, both or neither; a window without the answer
                points both at 0, [CLS].
        """
        output = self.bert(input_ids, **inputs)
        start_logits, end_logits = self.span_head(output.last_hidden_state).unbind(-1)  # (B, T) each
        loss = None
        if (start_positions is None) != (end_positions is None):
            raise ValueError("start_positions and end_positions belong together: give both or neither")
        if start_positions is not None:
            _check_shape("start_positions", start_positions, input_ids.shape[:1])
            _check_shape("end_positions", end_positions, input_ids.shape[:1])
            start_loss = F.cross_entropy(start_logits, start_positions)
            end_loss = F.cross_entropy(end_logits, end_positions)
            loss = (start_loss + end_loss) / 2
        return QuestionAnsweringOutput(
            loss, start_logits, end_logits, output.hidden_states, output.attentions
        )


def _label_names(num_labels: int, label_names: list[str] | None) -> list[str]:
    if not isinstance(num_labels, int) or num_labels < 1:
        raise ValueError(f"num_labels must be a whole number of at least 1, not {num_labels!r}")
    if label_names is None:
        return [f"LABEL_{i}" for i in range(num_labels)]
    if len(label_names) != num_labels:
        raise ValueError(f"label_names has {len(label_names)} names for num_labels = {num_labels}")
    return list(label_names)


def _check_shape(name: str, tensor: Tensor, expected: torch.Size):
    if tensor.shape != expected:
        raise ValueError(f"{name} must have shape {tuple(expected)}, not {tuple(tensor.shape)}")


def _sum_given(*losses: Tensor | None) -> Tensor | None:
    given = [loss for loss in losses if loss is not None]
    return sum(given) if given else None
