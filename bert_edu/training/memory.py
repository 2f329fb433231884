"""When a training step does not fit into memory: how much would, and what to turn (chapter 16)."""

import contextlib
import gc
import traceback
from collections.abc import Iterator

import torch

from ..data.pretraining import PreTrainingBatch, positions_to_score
from ..heads import BertForPreTraining


@contextlib.contextmanager
def advice(model: BertForPreTraining, batches: list[PreTrainingBatch], autocast) -> Iterator[None]:
    """Around a training step: if memory runs out, tries how large a batch would fit, and says so.

    Args:
        model: the bare one, not one that talks to other processes: these may have had room.

    Raises:
        MemoryError: in place of what PyTorch raises, with the largest batch that fits and the three knobs.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold on to the tensors of the step
        largest = max(batches, key=lambda batch: batch.input_ids.numel())
        raise MemoryError(what_to_turn(largest, rows_that_fit(model, largest, autocast))) from None


def is_out_of_memory(error: Exception) -> bool:
    """Whether a GPU, or a CPU, had no memory left."""
    known = isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError))
    return known or "can't allocate memory" in str(error)


def rows_that_fit(model: BertForPreTraining, batch: PreTrainingBatch, autocast) -> int:
    """Half the batch's rows, or half of those, and so on: the first number that fits; 0 if no row does."""
    rows = len(batch.input_ids) // 2
    while rows:
        _forget_gradients(model)
        try:
            with autocast():
                loss = model(**_first_rows(batch, rows)).mlm_loss
            loss.backward()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
            rows //= 2
        else:
            break
    _forget_gradients(model)
    return rows


def _first_rows(batch: PreTrainingBatch, rows: int) -> dict:
    """The first rows of a batch, as arguments of the model."""
    names = ("input_ids", "token_type_ids", "labels")
    # Packed rows are kept apart by their own numbers, and padded ones by the mask.
    names += ("attention_mask",) if batch.sequence_ids is None else ("sequence_ids",)
    part = {name: getattr(batch, name)[:rows] for name in names}
    return part | {"scored_positions": positions_to_score(part["labels"])}


def _forget_gradients(model: BertForPreTraining):
    model.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def what_to_turn(batch: PreTrainingBatch, rows: int) -> str:
    """The message: what did not fit, what would, and the three knobs."""
    B, T = batch.input_ids.shape
    fits = f"{rows} rows would (--batch-tokens {rows * T})" if rows else "not even one row would"
    return (
        f"out of memory: {B} rows of {T} tokens do not fit, {fits}. Three knobs: a smaller --batch-tokens "
        f"with as much more --accumulate makes the same step; --checkpointing computes part of a step twice "
        f"instead of keeping it; a smaller --max-length or --preset makes all of it smaller"
    )
