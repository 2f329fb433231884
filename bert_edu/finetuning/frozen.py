"""A frozen encoder says the same about a row, however often it is asked: computed once, then said again."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..model import BertOutput
from .batches import Feature, grouped_by_length, on_device


class Remembered(nn.Module):
    """Stands in for a frozen encoder and says again what it said about the rows of a batch.

    Args:
        rows: (H,) each, pooled; or (T, H) each, a vector a token, filled up with zeros to the longest.
    """

    def __init__(self, rows: list[Tensor]):
        super().__init__()
        self.rows = rows

    def forward(self, input_ids: Tensor, **inputs) -> BertOutput:
        if self.rows[0].dim() == 1:
            return BertOutput(None, torch.stack(self.rows))  # (B, H)
        return BertOutput(pad_sequence(self.rows, batch_first=True))  # (B, T, H)


class EncoderCache:
    """The outputs of a frozen encoder for a list of features.

    A model with a pooler reads one vector a row; one without, a vector a token, and these alone are kept.
    The results are those of an encoder that computes each time, but for the last digits of a float (rows are
    padded differently) and for the scores that question answering gives to padding.
    """

    def __init__(self, task, model: nn.Module, features: list[Feature], batch_size: int, autocast):
        device = next(model.parameters()).device
        model.eval()
        pooled = model.bert.pooler is not None
        self.rows = [None] * len(features)
        for numbers in grouped_by_length([len(feature.input_ids) for feature in features], batch_size):
            chosen = [features[number] for number in numbers]
            batch = on_device(task.collate(chosen), device)
            inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
            with torch.no_grad(), autocast():
                output = model.bert(**inputs)
            for row, (number, feature) in enumerate(zip(numbers, chosen)):
                if pooled:
                    self.rows[number] = output.pooler_output[row].clone()
                else:
                    self.rows[number] = output.last_hidden_state[row, : len(feature.input_ids)].clone()

    @staticmethod
    def bytes_for(model: nn.Module, features: list[Feature]) -> int:
        """How much memory it would take."""
        vectors = sum(1 if model.bert.pooler is not None else len(feature.input_ids) for feature in features)
        return 4 * model.config.hidden_size * vectors

    @contextlib.contextmanager
    def answers(self, model: nn.Module, numbers: list[int]) -> Iterator[None]:
        """A region in which the model's encoder is not computed; the rows are those of a batch."""
        encoder = model.bert
        model.bert = Remembered([self.rows[number] for number in numbers])
        try:
            yield
        finally:
            model.bert = encoder
