"""Vectors for texts of unequal lengths, ours beside `transformers`' BertModel, in the same batches.

A batch holds the texts as they come. Padded to the longest both compute the same; ours is measured once more
with the texts packed, and the vectors unpacked again.
"""

from collections.abc import Callable

import torch

from ..data.pretraining import PreTrainingBatch, collate
from ..model import BertModel
from ..packing import Packing
from ..training.loop import autocast_for, choose_device
from .material import OURS, THEIRS, Settings, real_pairs, theirs_like, tokenizer
from .timing import alternate, has_transformers, medians, wait

PADDED, PACKED = "ours, padded", OURS


def batches_of(settings: Settings) -> list[PreTrainingBatch]:
    """The texts in their order, padded to the longest of each batch."""
    pairs, size = real_pairs(settings), settings.rows
    return [
        collate(pairs[start : start + size], tokenizer()).to(settings.device)
        for start in range(0, len(pairs), size)
    ]


def padded_vectors(model, batch: PreTrainingBatch) -> torch.Tensor:
    """(B, T, H), by either model."""
    return model(
        batch.input_ids, attention_mask=batch.attention_mask, token_type_ids=batch.token_type_ids
    ).last_hidden_state


def packed_vectors(model: BertModel, batch: PreTrainingBatch) -> torch.Tensor:
    """(B, T, H), with zeros at the padding."""
    packing = Packing.of(batch.attention_mask)
    output = model(
        packing.pack(batch.input_ids),
        token_type_ids=packing.pack(batch.token_type_ids),
        sequence_ids=packing.sequence_ids,
        sequence_starts=packing.sequence_starts,
    )
    return packing.unpack(output.last_hidden_state)


def over_all(vectors, model, batches: list[PreTrainingBatch], settings: Settings) -> Callable[[], None]:
    """A contestant that reads all batches once."""
    autocast = autocast_for(settings.precision, choose_device(settings.device))

    def run():
        with torch.inference_mode(), autocast():
            for batch in batches:
                vectors(model, batch)
        wait(settings.device)

    return run


def speed(settings: Settings) -> dict:
    """Tokens a second, padding not counted, and the ratio."""
    torch.manual_seed(0)
    ours, batches = BertModel(settings.config).eval(), batches_of(settings)
    models = {PACKED: (packed_vectors, ours), PADDED: (padded_vectors, ours)}
    if has_transformers():
        models[THEIRS] = (padded_vectors, theirs_like(ours, "BertModel").eval())
    for _, model in models.values():
        model.to(settings.device)
    check_same_vectors(models, batches[0])
    contestants = {name: over_all(*model, batches, settings) for name, model in models.items()}
    seconds = medians(alternate(contestants, settings.rounds))
    tokens = sum(int(batch.attention_mask.sum()) for batch in batches)
    places = sum(batch.attention_mask.numel() for batch in batches)
    figures = {"tokens": tokens, "share_of_padding": round(1 - tokens / places, 3)}
    for name in models:
        figures[name] = {"tokens_per_second": round(tokens / seconds[name])}
        if name != OURS:
            figures[name]["ours_over_it"] = round(seconds[name] / seconds[OURS], 2)
    return figures


def check_same_vectors(models: dict, batch: PreTrainingBatch):
    """All give the same vectors, or the comparison would be none."""
    real = batch.attention_mask.bool()
    with torch.inference_mode():
        found = {name: vectors(model, batch)[real] for name, (vectors, model) in models.items()}
    for name, each in found.items():
        worst = float((each - found[OURS]).abs().max())
        if worst > 1e-3:
            raise RuntimeError(
                f"{name} gives vectors that differ from ours by {worst:.2g}: nothing to compare"
            )
