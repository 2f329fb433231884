"""One decision for a text, or for a pair of texts: a class, or a number (chapter 13)."""

import copy
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.tasks import TextExample
from ..heads import BertForSequenceClassification, TaskOutput
from ..tokenization import BertTokenizer
from .batches import Feature, inputs_of
from .metrics import classification_scores, regression_scores
from .models import fine_tuned, remember, remembered, tokenizer_of, with_fresh_head

TASK = "classification"


@dataclass
class TextFeature(Feature):
    """A text or a pair as the model reads it; `labels` is a class's number, or a real number.

    Attributes:
        truncated: whether the text was longer than the model takes.
    """

    truncated: bool = False


class Classification:
    """Texts with classes, or with numbers (regression).

    Args:
        tokenizer: the pre-trained model's.
        label_names: the classes, in the order of the model's scores; None for regression.
        max_length: the most tokens of an input. What is longer loses its end; in a pair the longer text does.
        class_weights: how much an example of each class counts in training, one number a class; None lets
            all count alike, as BERT does. With `balanced_weights` a rare class counts as much as another.
        center, scale: regression learns (label - center) / scale. BERT learns the label itself, which takes
            long when labels are around 1,000. A stored model gives the labels themselves.

    Most of this can be read off the training examples: `Classification.of(tokenizer, train)`.
    """

    def __init__(
        self,
        tokenizer: BertTokenizer,
        label_names: Sequence[str] | None,
        *,
        max_length: int = 128,
        class_weights: Sequence[float] | None = None,
        center: float = 0.0,
        scale: float = 1.0,
    ):
        self.tokenizer, self.max_length = tokenizer, max_length
        self.label_names = None if label_names is None else list(label_names)
        self.class_weights, self.center, self.scale = class_weights, center, scale
        self.main_metric = "pearson" if label_names is None else "accuracy"
        if label_names is None:
            if class_weights is not None:
                raise ValueError("class_weights are for classes, and with numbers as labels there are none")
            return
        if len(set(self.label_names)) != len(self.label_names) or len(self.label_names) < 2:
            raise ValueError(f"at least two different classes are needed, not {self.label_names}")
        if class_weights is not None and len(class_weights) != len(self.label_names):
            raise ValueError(
                f"there are {len(class_weights)} class_weights for {len(self.label_names)} classes"
            )

    @classmethod
    def of(
        cls,
        tokenizer: BertTokenizer,
        train: list[TextExample],
        *,
        max_length: int = 128,
        balanced: bool = False,
    ) -> "Classification":
        """The task that training examples pose: their classes in order, or regression if labels are numbers.

        Args:
            balanced: whether all classes are to count alike in training, however rare.

        Raises:
            ValueError: when an example has no label, or all have the same.
        """
        labels = [example.label for example in train]
        if None in labels:
            raise ValueError(f"training example {labels.index(None) + 1} has no label")
        if labels and all(isinstance(label, float) for label in labels):
            scale = statistics.pstdev(labels)
            if scale == 0:
                raise ValueError(f"all training examples have the label {labels[0]}: nothing to learn")
            weights = [] if balanced else None  # refused by the constructor
            center = statistics.fmean(labels)
            return cls(
                tokenizer, None, max_length=max_length, class_weights=weights, center=center, scale=scale
            )
        names = sorted(set(labels), key=_in_order)
        weights = balanced_weights(labels, names) if balanced else None
        return cls(tokenizer, names, max_length=max_length, class_weights=weights)

    @property
    def is_regression(self) -> bool:
        return self.label_names is None

    def new_model(self, folder: str | Path) -> BertForSequenceClassification:
        """The encoder and pooler from a folder under a fresh classifier."""
        names = ["number"] if self.is_regression else self.label_names
        return with_fresh_head(
            BertForSequenceClassification,
            folder,
            self.tokenizer,
            self.max_length,
            num_labels=len(names),
            label_names=names,
        )

    def features(self, examples: list[TextExample]) -> list[TextFeature]:
        """One feature an example.

        Raises:
            ValueError: for a label that is none of `label_names`, or, in regression, no number.
        """
        features = []
        for number, example in enumerate(examples):
            label = self._label(number, example)
            encoding = self.tokenizer(example.first, example.second)
            truncated = len(encoding.input_ids) > self.max_length
            if truncated:
                encoding = self.tokenizer(example.first, example.second, self.max_length)
            features.append(
                TextFeature(encoding.input_ids, encoding.token_type_ids, label, number, truncated)
            )
        return features

    def _label(self, number: int, example: TextExample) -> int | float | None:
        label = example.label
        if label is None:
            return None
        where = f"example {number + 1} ({example.first[:40]!r})"
        if self.is_regression:
            if isinstance(label, str):
                raise ValueError(f"{where} has the label {label!r}, and in training labels were numbers")
            return (label - self.center) / self.scale
        if label not in self.label_names:
            raise ValueError(
                f"{where} has the label {label!r}, which training never saw: "
                f"there it was one of {', '.join(map(str, self.label_names))}"
            )
        return self.label_names.index(label)

    def collate(self, features: list[TextFeature]) -> dict[str, Tensor]:
        """ids, segments and mask (B, T); labels (B,) where all are known."""
        batch = inputs_of(features, self.tokenizer.pad_token_id)
        labels = [feature.labels for feature in features]
        if None not in labels:
            batch["labels"] = torch.tensor(labels, dtype=torch.float32 if self.is_regression else torch.long)
        return batch

    def loss(self, output: TaskOutput, batch: dict[str, Tensor]) -> Tensor:
        """The model's own loss, or with class weights the weighted mean."""
        if self.class_weights is None:
            return output.loss
        weights = torch.tensor(self.class_weights, dtype=torch.float32, device=output.logits.device)
        return F.cross_entropy(output.logits.float(), batch["labels"], weight=weights)

    def raw(self, output: TaskOutput, features: list[TextFeature]) -> list[np.ndarray]:
        """The logits of each feature, (C,)."""
        return list(output.logits.float().cpu().numpy())

    def predictions(
        self, examples: list[TextExample], features: list[TextFeature], raw: list[np.ndarray]
    ) -> list[dict]:
        """{"label": name, "probabilities": {name: share, ...}}, or {"label": number} in regression."""
        if self.is_regression:
            return [{"label": float(logits[0]) * self.scale + self.center} for logits in raw]
        shares = torch.tensor(np.array(raw)).softmax(-1).tolist()  # (number of examples, C)
        return [
            {
                "label": self.label_names[int(logits.argmax())],
                "probabilities": dict(zip(self.label_names, row)),
            }
            for logits, row in zip(raw, shares)
        ]

    def score(self, examples: list[TextExample], predictions: list[dict]) -> dict[str, float]:
        """`accuracy` and `macro_f1`; in regression `pearson` and `spearman`."""
        gold = [example.label for example in examples]
        found = [prediction["label"] for prediction in predictions]
        return (regression_scores if self.is_regression else classification_scores)(gold, found)

    def save(self, model: BertForSequenceClassification, folder: str | Path):
        """Writes the model in the published format; a regression gives the labels' own numbers."""
        if self.is_regression:
            model = self._in_labels_units(model)
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        remember(folder, {"task": TASK, "regression": self.is_regression, "max_length": self.max_length})

    def _in_labels_units(self, model: nn.Module) -> nn.Module:
        """A copy whose classifier undoes `center` and `scale` by itself."""
        model = copy.deepcopy(model)
        with torch.no_grad():
            model.classifier.weight.mul_(self.scale)
            model.classifier.bias.mul_(self.scale).add_(self.center)
        return model

    @classmethod
    def load(cls, folder: str | Path) -> tuple["Classification", BertForSequenceClassification]:
        """A fine-tuned model and its task."""
        model, tokenizer = fine_tuned(BertForSequenceClassification, folder), tokenizer_of(folder)
        names = model.label_names if len(model.label_names) > 1 else None
        positions = model.config.max_position_embeddings
        max_length = remembered(folder).get("max_length", min(128, positions))
        return cls(tokenizer, names, max_length=max_length), model


def balanced_weights(labels: list[str], names: Sequence[str]) -> list[float]:
    """A weight for each class so that all weigh the same in the whole: n / (number of classes * count).

    >>> balanced_weights(["a", "a", "a", "b"], ["a", "b"])
    [0.6666666666666666, 2.0]
    """
    counts = Counter(labels)
    return [len(labels) / (len(names) * counts[name]) for name in names]


def _in_order(name: str) -> tuple:
    """Sorts whole numbers by their size, "2" before "10", and before all other names."""
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)
