"""From documents to masked batches, the way BERT was pre-trained (chapter 9).

    documents -> token store -> sentence pairs -> padded batches -> masked batches

Source: google-research/bert, create_pretraining_data.py. Where ours differs it says so. Randomness comes from
the `torch.Generator` that is passed in and from nowhere else.
"""

import functools
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ..heads import IGNORE, positions_to_score
from ..packing import Packing, best_fit
from ..pretrained import replacing
from ..tokenization import CONTINUED, BertTokenizer, padded

# ---- 1. The corpus as ids ----------------------------------------------------------------------------------

ENCODED_TOGETHER = 2**18  # characters: work for many cores, and little to hold in memory


class TokenStore(Sequence):
    """The ids of a corpus, in memory or in a file, from which any document can be read by its number.

    A document is a list of sentences, a sentence a list of ids. A file is mapped into memory: the system
    reads what is asked for, and processes that read the same file share it. So a corpus may be much larger
    than memory; only where each document begins is kept there.

    Attributes:
        token_count: number of ids in the store.
    """

    def __init__(self, ids: np.ndarray, starts: np.ndarray, end_of_sentence: int):
        self._ids = ids  # (token_count,)
        self._starts = starts  # (documents + 1,): where each document begins, counted in ids
        self._end_of_sentence = end_of_sentence  # an id that no token has
        self.token_count = int(starts[-1])

    @classmethod
    def build(
        cls, documents: Iterable[list[str]], tokenizer: BertTokenizer, folder: str | Path | None = None
    ):
        """Encodes a corpus, in its order; empty documents are left out.

        The tokenizer gets many documents at once, so that the `tokenizers` library shares them out among all
        cores.

        Args:
            documents: lists of sentences, read once and never held together in memory.
            tokenizer: turns each sentence into ids.
            folder: where to keep the ids; None keeps them in memory.

        Raises:
            ValueError: when there is not a single token in it.
        """
        end_of_sentence = tokenizer.vocab_size
        starts, length = [0], 0
        stream = io.BytesIO() if folder is None else _open_for_writing(Path(folder))
        for some in _gathered(documents, ENCODED_TOGETHER):
            encoded = iter(tokenizer.encode_many(itertools.chain.from_iterable(some)))
            for sentences in some:
                ids = []
                for sentence in itertools.islice(encoded, len(sentences)):
                    if sentence:
                        ids += [*sentence, end_of_sentence]
                if ids:
                    stream.write(np.array(ids, dtype=_id_type(end_of_sentence)).tobytes())
                    length += len(ids)
                    starts.append(length)
        if length == 0:
            raise ValueError("the corpus is empty: it has not one document with a word in it")
        starts = np.array(starts, dtype=np.int64)
        if folder is not None:
            stream.close()
            with replacing(Path(folder) / "documents.npy") as temporary, temporary.open("wb") as file:
                np.save(file, starts)
            return cls.open(folder, tokenizer)
        return cls(np.frombuffer(stream.getbuffer(), _id_type(end_of_sentence)), starts, end_of_sentence)

    @classmethod
    def open(cls, folder: str | Path, tokenizer: BertTokenizer) -> "TokenStore":
        """Opens what `build` wrote."""
        starts = np.load(Path(folder) / "documents.npy", allow_pickle=False)
        ids = np.memmap(Path(folder) / "ids.bin", _id_type(tokenizer.vocab_size), mode="r")
        return cls(ids, starts, tokenizer.vocab_size)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> list[list[int]]:
        """The sentences of one document."""
        if not 0 <= number < len(self):
            raise IndexError(f"there is no document {number}; the store has {len(self)}")
        start, end = self._starts[number : number + 2]
        ids = self._ids[start:end]
        ends = np.flatnonzero(ids == self._end_of_sentence)
        return [ids[begin:stop].tolist() for begin, stop in zip([0, *(ends[:-1] + 1)], ends)]


def _gathered(documents: Iterable[list[str]], characters: int) -> Iterator[list[list[str]]]:
    """Lists of documents that have about so many characters together."""
    some, size = [], 0
    for sentences in documents:
        some.append(sentences)
        size += sum(map(len, sentences))
        if size >= characters:
            yield some
            some, size = [], 0
    if some:
        yield some


def _id_type(largest: int):
    return np.uint16 if largest < 2**16 else np.uint32


def _open_for_writing(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / "ids.bin").open("wb")


# ---- 2. Sentence pairs -------------------------------------------------------------------------------------

SHORTEST_PAIR = 5  # tokens: [CLS] a [SEP] b [SEP]


@dataclass
class Pair:
    """Two stretches of text as ids, without special tokens.

    Attributes:
        first, second: the ids.
        next_sentence_label: 0 when `second` followed `first` in its document, 1 when it comes from elsewhere.
    """

    first: list[int]
    second: list[int]
    next_sentence_label: int

    def __len__(self) -> int:
        """Tokens in the model's input: both stretches, [CLS] and two [SEP]."""
        return len(self.first) + len(self.second) + 3


def sentence_pairs(
    documents: Sequence,
    tokenizer: BertTokenizer,
    *,
    max_length: int,
    generator: torch.Generator,
    numbers: Iterable[int] | None = None,
    short_probability: float = 0.1,
    random_probability: float = 0.5,
) -> Iterator[Pair]:
    """Cuts documents into pairs for next-sentence prediction.

    Whole sentences are gathered until the target length is reached, and cut in two at a random sentence. Half
    of the time the second part is replaced by a stretch from another document; the sentences that it
    displaces go back and begin the next pair, so that no text is lost.

    A chunk of a single sentence has no second part of its own, so it always gets a random one: more than half
    of all pairs are random, and how many more depends on how long the documents are.

    Args:
        documents: a `TokenStore`, or a list of documents, each a list of sentences (strings or ids).
        tokenizer: encodes the sentences that are strings.
        max_length: the most tokens of an input, with its [CLS] and two [SEP].
        generator: the source of randomness.
        numbers: which documents to cut, in this order; by default all, in random order.
        short_probability: share of documents that are cut with a random shorter target, so that the model
            meets short inputs too.
        random_probability: how often the second part is replaced where it need not be.

    Source: google-research/bert, create_pretraining_data.py:209-330. There a random stretch may by chance be
    the one that really follows; here it never is. With a single document it comes from that document.
    """
    if max_length < SHORTEST_PAIR:
        raise ValueError(
            f"max_length is {max_length}: [CLS], two [SEP] and a token of each sentence need at least "
            f"{SHORTEST_PAIR}"
        )
    room = max_length - 3
    if numbers is None:
        numbers = torch.randperm(len(documents), generator=generator).tolist()
    for number in numbers:
        document = _as_ids(documents[number], tokenizer)
        target = room if _chance(generator) >= short_probability else _between(2, room, generator)
        position = 0
        while position < len(document):
            end = _chunk_end(document, position, target)
            cut = position + (1 if end - position == 1 else _between(1, end - position - 1, generator))
            follows = document[cut:end]
            second = None
            if not follows or _chance(generator) < random_probability:
                after = document[cut] if cut < len(document) else None
                wanted = target - sum(map(len, document[position:cut]))
                second = _random_stretch(
                    documents, number, range(position, cut + 1), after, wanted, tokenizer, generator
                )
            if second is not None:
                label, next_position = 1, cut  # the displaced sentences go back
            else:
                second, label, next_position = follows, 0, end
            if second:  # a lone sentence in a corpus without another one makes no pair
                yield truncated(
                    Pair(_joined(document[position:cut]), _joined(second), label), room, generator
                )
            position = next_position


def _chunk_end(document: list[list[int]], position: int, target: int) -> int:
    """Where a chunk of at least `target` tokens that begins at `position` ends, in whole sentences."""
    length, end = 0, position
    while end < len(document) and length < target:
        length += len(document[end])
        end += 1
    return end


def _random_stretch(
    documents: Sequence,
    own: int,
    taken: range,
    after: list[int] | None,
    wanted: int,
    tokenizer: BertTokenizer,
    generator: torch.Generator,
) -> list[list[int]] | None:
    """Sentences from a random place, `wanted` tokens or more if the document has them; None if there is none.

    Args:
        own: the document that the pair is made from.
        taken: its sentences that may not begin the stretch: the first part's, and the one that follows.
        after: the ids of the sentence that follows; a copy of it elsewhere would be no random one.
    """
    for _ in range(10):  # as often as Google's code tries; more only helps where nearly all text is the same
        number = own
        if len(documents) > 1:  # any other document, all alike
            number = (own + _between(1, len(documents) - 1, generator)) % len(documents)
        document = _as_ids(documents[number], tokenizer)
        if not document:
            continue
        start = _between(0, len(document) - 1, generator)
        if (number == own and start in taken) or document[start] == after:
            continue
        return document[start : _chunk_end(document, start, max(wanted, 1))]
    return None


def truncated(pair: Pair, room: int, generator: torch.Generator) -> Pair:
    """The pair cut to `room` tokens: from the longer stretch, each token from front or back by chance.

    Source: google-research/bert, create_pretraining_data.py:418-433.
    """
    first, second = len(pair.first), len(pair.second)
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return replace(
        pair, first=_trimmed(pair.first, first, generator), second=_trimmed(pair.second, second, generator)
    )


def _trimmed(ids: list[int], length: int, generator: torch.Generator) -> list[int]:
    surplus = len(ids) - length
    if surplus == 0:
        return ids
    front = int((torch.rand(surplus, generator=generator) < 0.5).sum())
    return ids[front : front + length]


def _as_ids(sentences: list, tokenizer: BertTokenizer) -> list[list[int]]:
    if sentences and isinstance(sentences[0], str):
        sentences = tokenizer.encode_many(sentences)
    return [ids for ids in sentences if ids]


def _joined(sentences: list[list[int]]) -> list[int]:
    return [token_id for sentence in sentences for token_id in sentence]


def _chance(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _between(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


# ---- 3. Padded batches -------------------------------------------------------------------------------------


@dataclass
class PreTrainingBatch:
    """What one training step reads; (B, T) unless said otherwise.

    Attributes:
        input_ids, token_type_ids, attention_mask: as for `BertModel`.
        labels: the original id where a token is to be predicted, -100 elsewhere; None before masking.
        next_sentence_label: (B,)
        scored_positions: (N,), where in the flattened labels something is to be predicted; None before
            masking.
        sequence_ids, sequence_starts: for packed rows, as for `BertModel`; then `next_sentence_label` is
            (S,).
    """

    input_ids: Tensor
    token_type_ids: Tensor
    attention_mask: Tensor
    next_sentence_label: Tensor
    labels: Tensor | None = None
    scored_positions: Tensor | None = None
    sequence_ids: Tensor | None = None
    sequence_starts: Tensor | None = None

    def to(self, device) -> "PreTrainingBatch":
        """The same batch on another device."""
        there = {name: value for name, value in vars(self).items() if value is not None}
        if torch.device(device).type == "cuda":  # from pinned memory, a copy waits for nothing
            there = {name: each if each.is_cuda else each.pin_memory() for name, each in there.items()}
        return PreTrainingBatch(
            **{name: value.to(device, non_blocking=True) for name, value in there.items()}
        )


def collate(pairs: list[Pair], tokenizer: BertTokenizer) -> PreTrainingBatch:
    """[CLS] first [SEP] second [SEP], padded to the longest of the batch."""
    ids, types = [], []
    for pair in pairs:
        ids.append(
            [
                tokenizer.cls_token_id,
                *pair.first,
                tokenizer.sep_token_id,
                *pair.second,
                tokenizer.sep_token_id,
            ]
        )
        types.append([0] * (len(pair.first) + 2) + [1] * (len(pair.second) + 1))
    return PreTrainingBatch(
        input_ids=torch.tensor(padded(ids, tokenizer.pad_token_id)),
        token_type_ids=torch.tensor(padded(types, 0)),
        attention_mask=torch.tensor(padded([[1] * len(row) for row in ids], 0)),
        next_sentence_label=torch.tensor([pair.next_sentence_label for pair in pairs]),
    )


def grouped_by_length(pairs: list[Pair], batch_tokens: int, generator: torch.Generator) -> list[list[Pair]]:
    """Cuts pairs into batches of about `batch_tokens` tokens in which all are of nearly the same length.

    Rows of one length need no padding. The batches themselves come in random order.
    """
    order = sorted(range(len(pairs)), key=lambda number: len(pairs[number]))
    batches, batch = [], []
    for number in order:
        if batch and (len(batch) + 1) * len(pairs[number]) > batch_tokens:
            batches.append(batch)
            batch = []
        batch.append(pairs[number])
    if batch:
        batches.append(batch)
    return [batches[number] for number in torch.randperm(len(batches), generator=generator).tolist()]


def packed(
    batch: PreTrainingBatch,
    *,
    rows: list[list[int]] | None = None,
    room: int | None = None,
    pad_token_id: int = 0,
) -> PreTrainingBatch:
    """The same batch with several sequences in a row, see `bert_edu.packing`; it has the same loss.

    Args:
        batch: padded, masked or not.
        rows: which sequences share a row; by default `best_fit` decides.
        room: tokens of a row; by default as many as the longest sequence has.
    """
    packing = Packing(batch.attention_mask.sum(1).tolist(), rows=rows, room=room)
    labels = None if batch.labels is None else packing.pack(batch.labels, IGNORE)
    return PreTrainingBatch(
        input_ids=packing.pack(batch.input_ids, pad_token_id),
        token_type_ids=packing.pack(batch.token_type_ids),
        attention_mask=packing.pack(batch.attention_mask),
        next_sentence_label=batch.next_sentence_label,
        labels=labels,
        scored_positions=None if labels is None else positions_to_score(labels),
        sequence_ids=packing.sequence_ids,
        sequence_starts=packing.sequence_starts,
    )


# ---- 4. Masking --------------------------------------------------------------------------------------------


def mask_tokens(
    input_ids: Tensor,
    tokenizer: BertTokenizer,
    *,
    generator: torch.Generator,
    mlm_probability: float = 0.15,
    share_masked: float = 0.8,
    share_random: float = 0.1,
    max_predictions: int | None = None,
    whole_words: bool = False,
) -> tuple[Tensor, Tensor]:
    """Chooses the tokens to predict and hides them: 80 % become [MASK], 10 % a random token, 10 % stay.

    In each row round(0.15 * length) tokens are chosen, at least one; special tokens never are. The length
    counts [CLS] and [SEP], and halves round to the even number, as Python's `round` does.

    Args:
        input_ids: (B, T), padded; not changed.
        mlm_probability: share of tokens to choose.
        share_masked, share_random: of the chosen ones, how many become [MASK] and how many a random token.
            For measuring a model: 1 and 0.
        max_predictions: the most tokens to choose in a row.
        whole_words: choose words, not pieces: all pieces of a word or none. A word that would bring too many
            pieces is passed over.

    Returns:
        The ids to feed to the model and the labels, (B, T) each; -100 where nothing is predicted.

    Source: google-research/bert, create_pretraining_data.py:340-415. Google's random token may be a special
    one; ours is an ordinary one.
    """
    ordinary, continues = _vocabulary(tokenizer)
    special = torch.tensor(sorted(tokenizer.special_ids))
    candidates = ~torch.isin(input_ids, special)  # (B, T)
    lengths = (input_ids != tokenizer.pad_token_id).sum(1)  # (B,)
    # In double precision, as Python's `round` counts: in single, 0.15 * 190 is a little more than 28.5.
    wanted = (lengths.double() * mlm_probability).round().clamp(min=1).long()  # (B,)
    if max_predictions is not None:
        wanted = wanted.clamp(max=max_predictions)

    # Every candidate draws a number; the lowest `wanted` of a row are chosen.
    draw = torch.rand(input_ids.shape, generator=generator).masked_fill(~candidates, 2.0)
    if whole_words:
        chosen = _choose_words(draw, candidates, continues[input_ids], wanted)
    else:
        chosen = (draw.argsort(1).argsort(1) < wanted[:, None]) & candidates  # a row's ranks: 0 is the lowest
    labels = input_ids.masked_fill(~chosen, IGNORE)

    # One draw decides among the three, or 80/10/10 would become 81/9/10.
    fate = torch.rand(input_ids.shape, generator=generator)
    random_ids = ordinary[torch.randint(len(ordinary), input_ids.shape, generator=generator)]
    hidden = input_ids.masked_fill(chosen & (fate < share_masked), tokenizer.mask_token_id)
    replaced = chosen & (share_masked <= fate) & (fate < share_masked + share_random)
    return torch.where(replaced, random_ids, hidden), labels


def _choose_words(draw: Tensor, candidates: Tensor, continues: Tensor, wanted: Tensor) -> Tensor:
    """Chooses whole words, row by row, in the order of what their first piece drew."""
    chosen = torch.zeros_like(candidates)
    for row in range(len(draw)):
        words = []
        for position in candidates[row].nonzero().flatten().tolist():
            if words and continues[row, position] and words[-1][-1] == position - 1:
                words[-1].append(position)
            else:
                words.append([position])
        room = int(wanted[row])
        for word in sorted(words, key=lambda positions: float(draw[row, positions[0]])):
            if len(word) <= room:
                chosen[row, word] = True
                room -= len(word)
    return chosen


def in_fixed_shape(batch: PreTrainingBatch, predictions: int, pairs: int) -> PreTrainingBatch:
    """A masked and packed batch with exactly `predictions` positions to score and `pairs` pairs to judge.

    What is missing points at the first [CLS] and has no label, so it counts for nothing. Hidden tokens beyond
    `predictions` are not scored; there must be no more than `pairs` pairs.
    """
    labels, positions = batch.labels.flatten(), batch.scored_positions
    labels = labels.index_fill(0, positions[predictions:], IGNORE)
    positions = positions[:predictions]
    missing = pairs - len(batch.sequence_starts)
    return replace(
        batch,
        labels=labels.view_as(batch.labels),
        scored_positions=F.pad(positions, (0, predictions - len(positions))),
        sequence_starts=F.pad(batch.sequence_starts, (0, missing)),
        next_sentence_label=F.pad(batch.next_sentence_label, (0, missing), value=IGNORE),
    )


@functools.lru_cache(maxsize=8)
def _vocabulary(tokenizer: BertTokenizer) -> tuple[Tensor, Tensor]:
    """The ids that are no special token, and for every id whether it continues a word (V,)."""
    ordinary = [number for number in range(tokenizer.vocab_size) if number not in tokenizer.special_ids]
    continues = [
        tokenizer.id_to_token(number).startswith(CONTINUED) for number in range(tokenizer.vocab_size)
    ]
    return torch.tensor(ordinary), torch.tensor(continues)


# ---- 5. All of it, endlessly, from any place ---------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Position:
    """A place in the endless stream of batches: which pass over the corpus, which block, which batch."""

    epoch: int = 0
    block: int = 0
    batch: int = 0


class PreTrainingBatches:
    """Masked batches without end, the same for the same seed, readable from any position on.

    Each epoch shuffles the documents and deals them into blocks. A block is paired, grouped by length and
    masked with a generator of its own, made from (seed, epoch, block), so that a run which resumes goes
    straight to its block instead of repeating all the randomness before it.

    Args:
        documents: a `TokenStore` or a list of documents.
        tokenizer: that of the documents.
        max_length: the most tokens of an input.
        batch_tokens: about how many tokens a batch has.
        seed: decides everything.
        block_size: documents in a block: the more, the more alike are the lengths within a batch.
        fixed_shape: give every batch the same shape, as a compiled model wants it: `batch_tokens` //
            `max_length` rows of `max_length` tokens, each packed with as many pairs as it takes. A block's
            last batch may have empty rows. For as many positions to score there is room as are hidden on
            average, and a tenth more; what is beyond is not scored.
        workers: how many other processes make the batches; 0 makes them in this one. The batches and their
            order are the same.
        masking: passed on to `mask_tokens`.
    """

    def __init__(
        self,
        documents: Sequence,
        tokenizer: BertTokenizer,
        *,
        max_length: int,
        batch_tokens: int,
        seed: int = 0,
        block_size: int = 2000,
        fixed_shape: bool = False,
        workers: int = 0,
        **masking,
    ):
        if batch_tokens < max_length:
            raise ValueError(
                f"batch_tokens ({batch_tokens}) must hold at least one input of max_length ({max_length})"
            )
        self.documents, self.tokenizer = documents, tokenizer
        self.max_length, self.batch_tokens, self.seed = max_length, batch_tokens, seed
        self.block_size, self.masking = block_size, masking
        self.fixed_shape, self.workers = fixed_shape, workers

    def read_from(self, position: Position = Position()) -> Iterator[tuple[Position, PreTrainingBatch]]:
        """Yields (the position after this batch, the batch), for ever."""
        found = position > Position(position.epoch)  # whether this epoch has given a batch
        last = -(-len(self.documents) // self.block_size) - 1
        for (epoch, block), batches in self._blocks_from(position):
            for number, batch in enumerate(batches):
                found = True
                if (epoch, block) > (position.epoch, position.block) or number >= position.batch:
                    yield Position(epoch, block, number + 1), batch
            if block == last and not found:
                raise ValueError(
                    "the corpus gives no sentence pair: it needs at least two different sentences"
                )
            found = found and block != last

    def _blocks_from(self, position: Position) -> Iterator[tuple[tuple, Iterable[PreTrainingBatch]]]:
        """Yields (epoch, block) and the batches of that block, for ever."""
        blocks = -(-len(self.documents) // self.block_size)
        places = (
            (epoch, block)
            for epoch in itertools.count(position.epoch)
            for block in range(position.block if epoch == position.epoch else 0, blocks)
        )
        if self.workers == 0:
            yield from ((place, self._batches_of(*place)) for place in places)
        else:
            # Tensors from other processes come as files, and of these a process may have only so many open.
            torch.multiprocessing.set_sharing_strategy("file_system")
            yield from DataLoader(
                _Blocks(self), sampler=places, batch_size=None, num_workers=self.workers, prefetch_factor=1
            )

    def _batches_of(self, epoch: int, block: int) -> Iterator[PreTrainingBatch]:
        order = torch.randperm(len(self.documents), generator=_generator(self.seed, epoch))
        numbers = order[block * self.block_size : (block + 1) * self.block_size].tolist()
        generator = _generator(self.seed, epoch, block)
        pairs = list(
            sentence_pairs(
                self.documents,
                self.tokenizer,
                max_length=self.max_length,
                generator=generator,
                numbers=numbers,
            )
        )
        if self.fixed_shape:
            yield from self._packed(pairs, generator)
            return
        for group in grouped_by_length(pairs, self.batch_tokens, generator):
            yield self._masked(group, generator)

    def _masked(self, pairs: list[Pair], generator: torch.Generator) -> PreTrainingBatch:
        batch = collate(pairs, self.tokenizer)
        ids, labels = mask_tokens(batch.input_ids, self.tokenizer, generator=generator, **self.masking)
        return replace(batch, input_ids=ids, labels=labels, scored_positions=positions_to_score(labels))

    def _packed(self, pairs: list[Pair], generator: torch.Generator) -> Iterator[PreTrainingBatch]:
        rows_in_batch = self.batch_tokens // self.max_length
        tokens = rows_in_batch * self.max_length
        predictions = math.ceil(1.1 * self.masking.get("mlm_probability", 0.15) * tokens)
        rows = best_fit([len(pair) for pair in pairs], self.max_length)
        rows = [rows[number] for number in torch.randperm(len(rows), generator=generator).tolist()]
        for start in range(0, len(rows), rows_in_batch):
            chosen = rows[start : start + rows_in_batch]
            batch = self._masked([pairs[number] for row in chosen for number in row], generator)
            number = itertools.count()  # within this batch
            renumbered = [[next(number) for _ in row] for row in chosen]
            renumbered += [[]] * (rows_in_batch - len(chosen))
            batch = packed(
                batch, rows=renumbered, room=self.max_length, pad_token_id=self.tokenizer.pad_token_id
            )
            yield in_fixed_shape(batch, predictions, pairs=rows_in_batch * (self.max_length // SHORTEST_PAIR))


class _Blocks:
    """The blocks of a stream as a data set of PyTorch's, for its worker processes."""

    def __init__(self, stream: PreTrainingBatches):
        self.stream = stream

    def __getitem__(self, place: tuple[int, int]) -> tuple[tuple[int, int], list[PreTrainingBatch]]:
        return place, list(self.stream._batches_of(*place))


def _generator(*numbers: int) -> torch.Generator:
    """A generator whose seed is made from several numbers, so that neighbours have nothing in common."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(seed % 2**63)
