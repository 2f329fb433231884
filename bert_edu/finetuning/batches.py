"""Rows of a model's input, and batches of rows that are nearly equally long (chapter 13)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tokenization import padded


@dataclass
class Feature:
    """One row of the model's input, made from an example, or from a part of one that is too long.

    Attributes:
        input_ids, token_type_ids: one number a token, without padding.
        labels: what the task's `collate` understands; None when nobody said what is right.
        example: the number of the example.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    labels: object
    example: int


def inputs_of(features: list[Feature], pad_token_id: int) -> dict[str, Tensor]:
    """The part of `collate` that all tasks share: ids, segments and mask, (B, T), padded to the longest."""
    return {
        "input_ids": torch.tensor(padded([feature.input_ids for feature in features], pad_token_id)),
        "token_type_ids": torch.tensor(padded([feature.token_type_ids for feature in features], 0)),
        "attention_mask": torch.tensor(padded([[1] * len(feature.input_ids) for feature in features], 0)),
    }


def on_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The same batch on another device."""
    return {name: value.to(device) for name, value in batch.items()}


def grouped_by_length(
    lengths: list[int], batch_size: int, generator: torch.Generator | None = None
) -> list[list[int]]:
    """Batches of rows that are nearly equally long, so that hardly any padding is computed.

    Args:
        lengths: tokens of each row.
        batch_size: rows in a batch, at most; the batches are equally large, give or take one row.
        generator: decides the order of the batches and who is with whom; None sorts exactly.

    Returns:
        Row numbers; each row is in one batch.
    """
    sizes = torch.tensor(lengths, dtype=torch.float64)
    if generator is not None:
        # Up to a tenth longer, by chance: otherwise the same rows would meet in every epoch.
        sizes = sizes * (1 + 0.1 * torch.rand(len(lengths), generator=generator, dtype=torch.float64))
    number = math.ceil(len(lengths) / batch_size)
    batches = [batch.tolist() for batch in sizes.argsort(stable=True).tensor_split(number)]
    if generator is None:
        return batches
    return [batches[at] for at in torch.randperm(number, generator=generator).tolist()]
