"""Fine-tuning a classifier, ours beside `transformers`' BertForSequenceClassification, on the same texts.

All start from the same weights, the shipped encoder, and train in the same precision, with batches as large,
fused attention and AdamW. Ours is the package's own loop, which puts texts of nearly the same length into a
batch. `transformers` gets them as its users give them: in random order, from its own collator, padded once to
the maximum length and once to the longest text of a batch. Counted are tokens without padding. The texts are
tokenised before.

Peak memory is that of a fresh process that trains on the same texts once; `loaded_mb` is what such a process
takes before its first step.
"""

import json
import sys
from collections.abc import Callable

import torch

from ..data.pydocs_tasks import pydocs_task
from ..data.tasks import TextExample, read_tsv
from ..finetuning.classification import Classification, TextFeature
from ..finetuning.engine import Recipe, Trainer
from ..finetuning.models import set_dropout
from ..mini import FOLDER
from ..training.loop import autocast_for, choose_device
from .material import OURS, Settings, check_same_loss, theirs_like, tokenizer
from .timing import alternate, has_transformers, in_fresh_process, medians, print_memory_of, wait

DOCUMENTATION = "documentation, topic"
TO_MAXIMUM, TO_LONGEST = "transformers, padded to the maximum", "transformers, padded to the longest"


class Rounds:
    """Contestants that all begin with the same weights and train on all texts once.

    Args:
        source: `DOCUMENTATION`, the task "topic" of pydocs, or the path of a TSV file of labelled texts.
    """

    def __init__(self, settings: Settings, source: str = DOCUMENTATION):
        self.settings = settings
        found = pydocs_task("topic", "train") if source == DOCUMENTATION else read_tsv(source, labelled=True)
        order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
        examples: list[TextExample] = [found[at] for at in order[: settings.texts].tolist()]
        self.task = Classification.of(tokenizer(), examples, max_length=settings.max_length)
        self.features: list[TextFeature] = self.task.features(examples)
        self.device = choose_device(settings.device)

    @property
    def tokens(self) -> int:
        return sum(len(feature.input_ids) for feature in self.features)

    def named(self, name: str) -> Callable[[], None]:
        """The contestant of that name."""
        if name == OURS:
            return self.ours()
        return self.theirs("max_length" if name == TO_MAXIMUM else "longest")

    def model(self):
        torch.manual_seed(0)
        model = self.task.new_model(FOLDER)
        set_dropout(model, Recipe.dropout)
        return model

    def ours(self) -> Callable[[], None]:
        """As `finetune` does in an epoch."""
        recipe = Recipe(epochs=self.settings.rounds + 1, batch_size=self.settings.rows)  # one is not measured
        model = self.model().to(self.device)
        trainer = Trainer(self.task, model, recipe, self.device, self.settings.precision, self.features, None)

        def run():
            trainer.epoch(1, None)
            wait(self.settings.device)

        return run

    def theirs(self, padding: str) -> Callable[[], None]:
        """The same with `transformers`: its model, its collator, its attention, its schedule.

        Args:
            padding: "max_length", or "longest" of a batch.
        """
        import transformers

        ours = self.model()
        model, batch_size = theirs_like(ours, "BertForSequenceClassification"), self.settings.rows
        batch = self.task.collate(self.features[:batch_size])
        with torch.inference_mode():
            check_same_loss(ours.eval()(**batch).loss, model.eval()(**batch).loss)
        model.to(self.device).train()
        fast = transformers.BertTokenizer.from_pretrained(FOLDER)
        collate = transformers.DataCollatorWithPadding(fast, padding, self.settings.max_length)
        optimizer = torch.optim.AdamW(model.parameters(), lr=Recipe.learning_rate, fused=True)
        total = (self.settings.rounds + 1) * -(-len(self.features) // batch_size)
        schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(Recipe.warmup * total), total)
        rows = [as_row(feature) for feature in self.features]
        autocast = autocast_for(self.settings.precision, self.device)
        order = torch.Generator().manual_seed(0)

        def run():
            numbers = torch.randperm(len(rows), generator=order).tolist()
            for start in range(0, len(rows), batch_size):
                batch = collate([rows[number] for number in numbers[start : start + batch_size]])
                with autocast():
                    loss = model(**{name: value.to(self.device) for name, value in batch.items()}).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), Recipe.clip_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            wait(self.settings.device)

        return run


def as_row(feature: TextFeature) -> dict:
    """A text as their collator wants it."""
    return {
        "input_ids": feature.input_ids,
        "token_type_ids": feature.token_type_ids,
        "attention_mask": [1] * len(feature.input_ids),
        "labels": feature.labels,
    }


def contestants() -> list[str]:
    return [OURS] + [TO_MAXIMUM, TO_LONGEST] * has_transformers()


def speed(settings: Settings, source: str = DOCUMENTATION) -> dict:
    """Tokens a second of all, in turn, and how many times as fast ours is."""
    rounds = Rounds(settings, source)
    seconds = medians(alternate({name: rounds.named(name) for name in contestants()}, settings.rounds))
    figures = {"texts": len(rounds.features), "tokens": rounds.tokens}
    for name in contestants():
        figures[name] = {"tokens_per_second": round(rounds.tokens / seconds[name])}
        if name != OURS:
            figures[name]["ours_over_it"] = round(seconds[name] / seconds[OURS], 2)
    return figures


def memory(settings: Settings, source: str = DOCUMENTATION) -> dict:
    """Peak memory of a fresh process that trains on all texts once, in MB."""
    return {
        name: in_fresh_process(
            "finetuning", {"contestant": name, "source": source, "settings": vars(settings)}
        )
        for name in contestants()
    }


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    own = Rounds(Settings(**asked["settings"]), asked["source"])
    print_memory_of(own.named(asked["contestant"]), own.settings.device)
