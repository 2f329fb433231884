"""Several short sequences in one row, kept apart: hardly a place is left for padding (chapter 16).

    padded          [CLS] a  b [SEP]                      packed     [CLS] a  b [SEP] [CLS] c [SEP]
                    [CLS] c [SEP] [PAD]                   sequence     1   1  1   1     2   2   2
                                                          position     0   1  2   3     0   1   2

A token reads the tokens of its own sequence only, and each sequence counts its positions from 0, so the model
computes the same as for padded rows.

Source: Krell et al. (2021), "Efficient Sequence Packing without Cross-contamination".
"""

import torch
from torch import Tensor

from .attention import HIDDEN_KEY_BIAS


def packed_attention_bias(sequence_ids: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the scores so that a token reads its own sequence only.

    Args:
        sequence_ids: (B, T), the sequence that each token of a row belongs to: 1, 2, ...; 0 is padding.

    Returns:
        (B, 1, T, T): 0 where query and key have the same number. Padding reads padding, and nobody reads it.
    """
    apart = sequence_ids[:, None, :, None] != sequence_ids[:, None, None, :]  # (B, 1, T, T)
    return torch.zeros_like(apart, dtype=dtype).masked_fill(apart, HIDDEN_KEY_BIAS)


def restarting_positions(sequence_ids: Tensor) -> Tensor:
    """The position of each token within its own sequence, (B, T), from the sequences' numbers (B, T)."""
    T = sequence_ids.shape[1]
    places = torch.arange(T, device=sequence_ids.device).expand_as(sequence_ids)  # (B, T)
    begins = places.masked_fill(~_begins(sequence_ids), 0)  # (B, T): its own place where a sequence begins
    return places - begins.cummax(dim=1).values  # how far the last beginning lies back


def first_tokens(hidden: Tensor, sequence_ids: Tensor, starts: Tensor | None = None) -> Tensor:
    """Each sequence's first vector, that of [CLS], as if the sequence had a row to itself: (S, 1, H).

    Args:
        hidden: (B, T, H).
        sequence_ids: (B, T).
        starts: (S,), where in the flattened rows the sequences begin; None finds all, in reading order.
    """
    if starts is None:
        starts = (_begins(sequence_ids) & (sequence_ids != 0)).flatten().nonzero().flatten()
    return hidden.flatten(0, 1)[starts].unsqueeze(1)


def _begins(sequence_ids: Tensor) -> Tensor:
    changes = torch.ones_like(sequence_ids, dtype=torch.bool)  # (B, T)
    changes[:, 1:] = sequence_ids[:, 1:] != sequence_ids[:, :-1]
    return changes


def best_fit(lengths: list[int], room: int) -> list[list[int]]:
    """Which sequences share a row: the longest first, each into the row where it leaves the least room.

    Args:
        lengths: tokens of each sequence.
        room: tokens that a row holds.

    Returns:
        Numbers of sequences, row by row; each sequence is in one row.

    Raises:
        ValueError: when a sequence is longer than a row.
    """
    rows, with_room = [], [[] for _ in range(room + 1)]  # with_room[n]: rows that can take n tokens more
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length = lengths[number]
        if not 1 <= length <= room:
            raise ValueError(f"sequence {number} has {length} tokens, and a row takes 1 to {room}")
        left = next((left for left in range(length, room) if with_room[left]), room)
        if left == room:
            rows.append([])
            row = rows[-1]
        else:
            row = with_room[left].pop()
        row.append(number)
        with_room[left - length].append(row)
    return rows


class Packing:
    """Where each sequence of a padded batch goes in packed rows, and the way back::

        packing = Packing.of(attention_mask)
        output = model(packing.pack(input_ids), token_type_ids=packing.pack(token_type_ids),
                       sequence_ids=packing.sequence_ids, sequence_starts=packing.sequence_starts)
        hidden = packing.unpack(output.last_hidden_state)        # (B, T, H), as if nothing had happened

    Args:
        lengths: tokens of each sequence of the batch.
        room: tokens of a packed row; by default as many as the longest sequence has.
        rows: which sequences share a row; by default `best_fit` decides. A row may be empty.
        device: where the batch lies.

    Attributes:
        sequence_ids: (rows, room), what `BertModel` wants.
        sequence_starts: (B,), where in the flattened rows each sequence's [CLS] stands, in the order of the
            batch: `pooler_output` keeps that order too.
    """

    def __init__(
        self,
        lengths: list[int],
        *,
        room: int | None = None,
        rows: list[list[int]] | None = None,
        device: torch.device | str = "cpu",
    ):
        room = max(lengths) if room is None else room
        rows = best_fit(lengths, room) if rows is None else rows
        starts, numbers = [0] * len(lengths), [0] * len(lengths)
        for row, members in enumerate(rows):
            place = row * room
            for number, sequence in enumerate(members, start=1):
                starts[sequence], numbers[sequence] = place, number
                place += lengths[sequence]
        self.shape = (len(rows), room)
        self.sequence_starts = torch.tensor(starts, device=device)  # (B,)
        columns = torch.arange(max(lengths), device=device)  # (T,)
        self._real = columns < torch.tensor(lengths, device=device)[:, None]  # (B, T): no padding
        self._places = (self.sequence_starts[:, None] + columns)[self._real]  # (N,), N tokens in all
        self.sequence_ids = self.pack(torch.tensor(numbers, device=device)[:, None].expand(self._real.shape))

    @classmethod
    def of(cls, attention_mask: Tensor, room: int | None = None) -> "Packing":
        """That of a padded batch, from its mask (B, T): ones, then zeros.

        Raises:
            ValueError: when padding stands anywhere but at the end of a row: positions would change.
        """
        lengths = attention_mask.sum(1)  # (B,)
        in_front = torch.arange(attention_mask.shape[1], device=attention_mask.device) < lengths[:, None]
        if not torch.equal(attention_mask.bool(), in_front):
            raise ValueError("packing needs all padding at the end of the rows: attention_mask has gaps")
        return cls(lengths.tolist(), room=room, device=attention_mask.device)

    def pack(self, values: Tensor, empty: int = 0) -> Tensor:
        """(B, T, ...) -> (rows, room, ...); `empty` stands where there is no token."""
        rows, room = self.shape
        packed = values.new_full((rows * room, *values.shape[2:]), empty)
        packed[self._places] = values[:, : self._real.shape[1]][self._real]
        return packed.unflatten(0, (rows, room))

    def unpack(self, values: Tensor) -> Tensor:
        """(rows, room, ...) -> (B, T, ...), with zeros at the padding; T is the longest sequence."""
        unpacked = values.new_zeros(*self._real.shape, *values.shape[2:])
        unpacked[self._real] = values.flatten(0, 1)[self._places]
        return unpacked
