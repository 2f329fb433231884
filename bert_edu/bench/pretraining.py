"""A pre-training step, ours beside `transformers`' BertForPreTraining, on the same sentence pairs.

`transformers` gets the pairs as its users give them, in random order from its own collator and padded to
the longest of a batch, and once more in our batches, whose pairs are of nearly the same length. Ours sends
only the hidden positions through the decoder, and is measured once more with several pairs packed in a row.
Counted are tokens without padding.
"""

import json
import sys
from collections.abc import Callable

import torch

from ..costs import training_operations
from ..data.pretraining import (
    Pair,
    PreTrainingBatch,
    collate,
    grouped_by_length,
    mask_tokens,
    packed,
    positions_to_score,
)
from ..heads import IGNORE, BertForPreTraining
from ..packing import best_fit
from ..training.loop import attention_kernels, autocast_for, choose_device, train_step
from ..training.optim import adamw
from .material import OURS, THEIRS, Settings, check_same_loss, real_pairs, theirs_like, tokenizer
from .timing import (
    Contestants,
    alternate,
    has_transformers,
    in_fresh_process,
    matrix_product,
    medians,
    print_memory_of,
    wait,
)

PACKED, GROUPED = "ours, packed", "transformers, our batches"
CONTESTANTS = (OURS, PACKED, THEIRS, GROUPED)
LEARNING_RATE = 1e-4


class Rounds:
    """Contestants that all begin with the same weights and train on all pairs once.

    Args:
        pairs: those to train on; None takes `real_pairs`.
    """

    def __init__(self, settings: Settings, pairs: list[Pair] | None = None):
        self.settings, self.tokenizer = settings, tokenizer()
        self.pairs = real_pairs(settings) if pairs is None else pairs
        self.device = choose_device(settings.device)
        self.autocast = autocast_for(settings.precision, self.device)

    def named(self, name: str) -> Callable[[], None]:
        """The contestant of that name."""
        make = {OURS: self.ours, PACKED: self.ours, THEIRS: self.theirs, GROUPED: self.theirs}[name]
        return make(self.in_rows if name == PACKED else self.grouped if name in (OURS, GROUPED) else None)

    def model(self) -> BertForPreTraining:
        torch.manual_seed(0)
        return BertForPreTraining(self.settings.config)

    def masked(self, pairs: list[Pair], generator: torch.Generator) -> PreTrainingBatch:
        batch = collate(pairs, self.tokenizer)
        batch.input_ids, batch.labels = mask_tokens(batch.input_ids, self.tokenizer, generator=generator)
        batch.scored_positions = positions_to_score(batch.labels)
        return batch

    def grouped(self, generator: torch.Generator):
        """Batches of pairs of nearly the same length."""
        return (
            self.masked(group, generator)
            for group in grouped_by_length(self.pairs, self.settings.batch_tokens, generator)
        )

    def in_rows(self, generator: torch.Generator):
        """Batches of packed rows: first which pairs share a row, then which rows share a batch."""
        room = self.settings.max_length
        rows = best_fit([len(pair) for pair in self.pairs], room)
        order = torch.randperm(len(rows), generator=generator).tolist()
        for start in range(0, len(order), self.settings.rows):
            chosen = [rows[number] for number in order[start : start + self.settings.rows]]
            batch = self.masked([self.pairs[number] for row in chosen for number in row], generator)
            yield packed(batch, room=room)

    def ours(self, batches) -> Callable[[], None]:
        """Our training step on such batches."""
        model, generator = self.model(), torch.Generator().manual_seed(1)
        step = self.our_step(model, adamw(model, LEARNING_RATE))

        def run():
            for batch in batches(generator):
                step(batch)
            wait(self.settings.device)

        return run

    def our_step(self, model: BertForPreTraining, optimizer) -> Callable[[PreTrainingBatch], None]:
        """One step of our loop on a batch."""
        model.to(self.device).train()

        def step(batch: PreTrainingBatch):
            with attention_kernels(self.device, self.settings.precision, batch.input_ids.shape[1]):
                train_step(
                    model,
                    optimizer,
                    [batch.to(self.device)],
                    mask_token_id=self.tokenizer.mask_token_id,
                    clip_norm=1.0,
                    autocast=self.autocast,
                )

        return step

    def theirs(self, batches=None) -> Callable[[], None]:
        """The same with `transformers`: its model, its attention; its collator, unless there are batches."""
        model, generator = self.their_model(), torch.Generator().manual_seed(1)
        step = self.their_step(model, their_adamw(model))
        batches = self.their_batches() if batches is None else batches

        def run():
            for batch in batches(generator):
                step(as_their_arguments(batch) if isinstance(batch, PreTrainingBatch) else batch)
            wait(self.settings.device)

        return run

    def their_model(self):
        """Theirs with the weights of ours, and the same loss."""
        ours = self.model()
        model = theirs_like(ours, "BertForPreTraining")
        self.check_same(ours, model)
        return model

    def their_step(self, model, optimizer) -> Callable[[dict], None]:
        """One step as their users write it."""
        model.to(self.device).train()

        def step(batch: dict):
            with self.autocast():
                loss = model(**{name: value.to(self.device) for name, value in batch.items()}).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        return step

    def their_batches(self):
        """Batches in random order, masked and padded to the longest by their own collator."""
        import transformers

        from ..mini import FOLDER

        fast = transformers.BertTokenizer.from_pretrained(FOLDER)
        collator = transformers.DataCollatorForLanguageModeling(fast, mlm_probability=0.15)
        rows = [as_features(pair, self.tokenizer) for pair in self.pairs]
        size = self.settings.rows

        def batches(generator):
            order = torch.randperm(len(rows), generator=generator).tolist()
            for start in range(0, len(order), size):
                yield collator([dict(rows[number]) for number in order[start : start + size]])

        return batches

    def check_same(self, ours, theirs):
        """Both models have the same loss on a batch."""
        batch = as_their_arguments(self.masked(self.pairs[:8], torch.Generator().manual_seed(2)))
        with torch.inference_mode():
            check_same_loss(ours.eval()(**batch).loss, theirs.eval()(**batch).loss)
        theirs.train()

    def operations(self) -> int:
        """What the mathematics asks for in a round: no padding, and only hidden positions in the decoder."""
        generator = torch.Generator().manual_seed(1)
        scored = [
            int((self.masked([pair], generator).labels != IGNORE).sum())  # the same number whatever is drawn
            for pair in self.pairs
        ]
        return sum(
            training_operations(self.settings.config, rows=1, length=len(pair), scored=count)
            for pair, count in zip(self.pairs, scored)
        )


def their_adamw(model) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)


def as_their_arguments(batch: PreTrainingBatch) -> dict[str, torch.Tensor]:
    names = ("input_ids", "token_type_ids", "attention_mask", "labels", "next_sentence_label")
    return {name: getattr(batch, name) for name in names}


def as_features(pair: Pair, tokenizer) -> dict:
    """A pair as their collator wants it."""
    batch = collate([pair], tokenizer)
    names = ("input_ids", "token_type_ids", "attention_mask")
    return {name: getattr(batch, name)[0].tolist() for name in names} | {
        "next_sentence_label": pair.next_sentence_label
    }


def speed(settings: Settings) -> dict:
    """Tokens a second of all, the ratios, and the share of the machine's matrix peak that ours reaches."""
    rounds = Rounds(settings)
    names = [name for name in CONTESTANTS if has_transformers() or name in (OURS, PACKED)]
    contestants: Contestants = {name: rounds.named(name) for name in names}
    dtype = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[settings.precision]
    contestants["matrix product"], product_operations = matrix_product(settings.device, dtype)
    seconds = medians(alternate(contestants, settings.rounds))
    tokens = sum(len(pair) for pair in rounds.pairs)
    peak = product_operations / seconds["matrix product"]  # operations a second
    figures = {"tokens": tokens, "matrix_peak_gflops": round(peak / 1e9, 1)}
    for name in names:
        figures[name] = {"tokens_per_second": round(tokens / seconds[name])}
        if name in (OURS, PACKED):
            share = rounds.operations() / seconds[name] / peak
            figures[name]["share_of_matrix_peak"] = round(share, 3)
        else:
            figures[name]["ours_over_it"] = round(seconds[name] / seconds[OURS], 2)
    return figures


def memory(settings: Settings) -> dict:
    """Peak memory of a fresh process that trains on all pairs once, in MB."""
    names = [OURS, PACKED] + [THEIRS, GROUPED] * has_transformers()
    found = {
        name: in_fresh_process("pretraining", {"contestant": name, "settings": vars(settings)})
        for name in names
    }
    for name in (THEIRS, GROUPED) if has_transformers() else ():
        found[name]["ours_as_a_share"] = round(found[OURS]["peak_mb"] / found[name]["peak_mb"], 2)
    return found


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    own = Rounds(Settings(**asked["settings"]))
    print_memory_of(own.named(asked["contestant"]), own.settings.device)
