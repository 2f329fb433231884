"""One decision for each word of a sentence: parts of speech, names (chapter 14).

The model reads pieces, and labels belong to words. The first piece of a word carries its label, the others
none; see `align`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.tasks import TaggedSentence
from ..heads import IGNORE, BertForTokenClassification, TaskOutput
from ..tokenization import BertTokenizer, padded
from .batches import Feature, inputs_of
from .metrics import OUTSIDE, are_entity_tags, tagging_scores
from .models import fine_tuned, remember, remembered, tokenizer_of, with_fresh_head

TASK = "tagging"


@dataclass
class StretchFeature(Feature):
    """A sentence, or a stretch of whole words from one that is too long; `labels` has one entry a piece.

    Attributes:
        first_word: the number of the stretch's first word in its sentence.
        places: for each of its words the place of the word's first piece; None for a word without pieces.
    """

    first_word: int
    places: list[int | None]


class Tagging:
    """Sentences whose words have tags.

    Args:
        tokenizer: the pre-trained model's.
        tag_names: the tags, in the order of the model's scores.
        max_length: the most tokens of an input. A longer sentence is cut into stretches of whole words, so
            that each word gets its prediction.
        usual_tag: what a word is predicted to be of which the tokenizer leaves nothing, such as a control
            character: there is no piece to look at. None takes "O" if it is a tag, otherwise the first.

    Most of this can be read off the training sentences: `Tagging.of(tokenizer, train)`.
    """

    def __init__(
        self,
        tokenizer: BertTokenizer,
        tag_names: Sequence[str],
        *,
        max_length: int = 128,
        usual_tag: str | None = None,
    ):
        self.tokenizer, self.tag_names, self.max_length = tokenizer, list(tag_names), max_length
        if len(set(self.tag_names)) != len(self.tag_names) or len(self.tag_names) < 2:
            raise ValueError(f"at least two different tags are needed, not {self.tag_names}")
        if max_length < 3:
            raise ValueError(f"max_length is {max_length}, but [CLS], [SEP] and a word's piece need 3")
        if usual_tag is None:
            usual_tag = OUTSIDE if OUTSIDE in self.tag_names else self.tag_names[0]
        if usual_tag not in self.tag_names:
            raise ValueError(f"the usual tag {usual_tag!r} is none of {', '.join(self.tag_names)}")
        self.usual_tag = usual_tag
        self.has_entities = are_entity_tags(self.tag_names)
        self.main_metric = "f1" if self.has_entities else "accuracy"

    @classmethod
    def of(cls, tokenizer: BertTokenizer, train: list[TaggedSentence], *, max_length: int = 128) -> "Tagging":
        """The task that training sentences pose: their tags in order, and the most frequent of them.

        Raises:
            ValueError: when a sentence has no tags, or all words have the same.
        """
        for number, sentence in enumerate(train, start=1):
            if sentence.tags is None:
                raise ValueError(f"training sentence {number} has no tags")
        counts = Counter(tag for sentence in train for tag in sentence.tags)
        usual_tag = max(sorted(counts), key=counts.get) if counts else None
        return cls(tokenizer, sorted(counts), max_length=max_length, usual_tag=usual_tag)

    def new_model(self, folder: str | Path) -> BertForTokenClassification:
        """The encoder from a folder under a fresh classifier."""
        return with_fresh_head(
            BertForTokenClassification,
            folder,
            self.tokenizer,
            self.max_length,
            num_labels=len(self.tag_names),
            label_names=self.tag_names,
        )

    def features(self, examples: list[TaggedSentence]) -> list[StretchFeature]:
        """One feature a sentence, or several for one that is longer than `max_length`.

        Raises:
            ValueError: for a sentence without words, another number of tags than of words, or an unknown tag.
        """
        words = sorted({word for sentence in examples for word in sentence.words})
        pieces = dict(zip(words, self.tokenizer.encode_many(words)))  # every word once
        features = []
        for number, sentence in enumerate(examples):
            labels = self._labels(number, sentence)
            ids_of_words = [pieces[word] for word in sentence.words]
            for start, end in stretches([len(ids) for ids in ids_of_words], self.max_length - 2):
                ids, places = align(ids_of_words[start:end], self.max_length - 2)
                labelled = None if labels is None else spread(labels[start:end], places, len(ids) + 2)
                features.append(
                    StretchFeature(
                        [self.tokenizer.cls_token_id, *ids, self.tokenizer.sep_token_id],
                        [0] * (len(ids) + 2),
                        labelled,
                        number,
                        start,
                        places,
                    )
                )
        return features

    def _labels(self, number: int, sentence: TaggedSentence) -> list[int] | None:
        """The numbers of a sentence's tags."""
        where = f"sentence {number + 1} ({' '.join(sentence.words)[:40]!r})"
        if not sentence.words:
            raise ValueError(f"sentence {number + 1} has no words")
        if sentence.tags is None:
            return None
        if len(sentence.tags) != len(sentence.words):
            raise ValueError(f"{where} has {len(sentence.words)} words and {len(sentence.tags)} tags")
        for at, tag in enumerate(sentence.tags):
            if tag not in self.tag_names:
                raise ValueError(
                    f"{where}, word {at + 1} ({sentence.words[at]!r}) has the tag {tag!r}, which training "
                    f"never saw: there it was one of {', '.join(self.tag_names)}"
                )
        return [self.tag_names.index(tag) for tag in sentence.tags]

    def collate(self, features: list[StretchFeature]) -> dict[str, Tensor]:
        """ids, segments and mask (B, T); labels (B, T) where all are known, -100 on what is not scored."""
        batch = inputs_of(features, self.tokenizer.pad_token_id)
        labels = [feature.labels for feature in features]
        if None not in labels:
            batch["labels"] = torch.tensor(padded(labels, IGNORE))
        return batch

    def raw(self, output: TaskOutput, features: list[StretchFeature]) -> list[np.ndarray]:
        """The logits of each feature's pieces, (T, C), its [CLS] and [SEP] included."""
        logits = output.logits.float().cpu().numpy()  # (B, T, C)
        return [row[: len(feature.input_ids)].copy() for row, feature in zip(logits, features)]

    def predictions(
        self, examples: list[TaggedSentence], features: list[StretchFeature], raw: list[np.ndarray]
    ) -> list[dict]:
        """{"words": [...], "tags": [...], "probabilities": [...]} for each sentence, all equally long.

        A probability is that of the tag beside it; None for a word without pieces, about which the model was
        not asked.
        """
        found = [
            {
                "words": list(sentence.words),
                "tags": [self.usual_tag] * len(sentence.words),
                "probabilities": [None] * len(sentence.words),
            }
            for sentence in examples
        ]
        for feature, logits in zip(features, raw):
            shares = torch.tensor(logits).softmax(-1)  # (T, C)
            best, numbers = (values.tolist() for values in shares.max(-1))  # (T,) each
            sentence = found[feature.example]
            for word, place in enumerate(feature.places, start=feature.first_word):
                if place is not None:
                    sentence["tags"][word] = self.tag_names[numbers[place]]
                    sentence["probabilities"][word] = best[place]
        return found

    def score(self, examples: list[TaggedSentence], predictions: list[dict]) -> dict[str, float]:
        """`accuracy` over all words and `f1`; see `tagging_scores`."""
        gold = [sentence.tags for sentence in examples]
        return tagging_scores(gold, [found["tags"] for found in predictions], self.has_entities)

    def save(self, model: BertForTokenClassification, folder: str | Path):
        """Writes the model, with the tags' names, in the published format."""
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        remember(folder, {"task": TASK, "max_length": self.max_length, "usual_tag": self.usual_tag})

    @classmethod
    def load(cls, folder: str | Path) -> tuple["Tagging", BertForTokenClassification]:
        """A fine-tuned model and its task."""
        model, tokenizer = fine_tuned(BertForTokenClassification, folder), tokenizer_of(folder)
        facts = remembered(folder)
        max_length = facts.get("max_length", min(128, model.config.max_position_embeddings))
        task = cls(tokenizer, model.label_names, max_length=max_length, usual_tag=facts.get("usual_tag"))
        return task, model


def align(ids_of_words: list[list[int]], room: int) -> tuple[list[int], list[int | None]]:
    """Puts the pieces of words in a row, and says where each word begins.

    Args:
        ids_of_words: the ids of each word's pieces; a word may have none.
        room: the most pieces; only a single word that has more loses its last ones.

    Returns:
        The ids, and for each word the place of its first piece when [CLS] stands in front; None for a word
        without pieces.

    >>> align([[7], [8, 9], [], [5]], room=10)
    ([7, 8, 9, 5], [1, 2, None, 4])
    """
    ids, places = [], []
    for pieces in ids_of_words:
        places.append(len(ids) + 1 if pieces else None)
        ids += pieces
    return ids[:room], places


def spread(labels: list[int], places: list[int | None], length: int) -> list[int]:
    """A label for each token: that of a word on its first piece, -100 (not scored) everywhere else.

    Source: google-research/bert, README.md, "Tokenization".

    >>> spread([3, 4, 5, 6], [1, 2, None, 4], length=6)
    [-100, 3, 4, -100, 6, -100]
    """
    row = [IGNORE] * length
    for label, place in zip(labels, places):
        if place is not None:
            row[place] = label
    return row


def stretches(lengths: list[int], room: int) -> list[tuple[int, int]]:
    """Cuts a sentence into stretches of whole words that fit, all about equally long.

    Args:
        lengths: the number of pieces of each word.
        room: the most pieces of a stretch; a single word may have more.

    Returns:
        (first word, word behind the last) of each.

    >>> stretches([3, 3, 3, 3], room=10)  # not 9 and 3: the last word would have no company
    [(0, 2), (2, 4)]
    """
    target = -(-sum(lengths) // max(1, -(-sum(lengths) // room)))  # pieces in each, when all are alike
    cuts, filled = [0], 0
    for word, length in enumerate(lengths):
        # A word without pieces takes no room: it stays where it is, and never makes a stretch of its own.
        if length and filled and (filled >= target or filled + length > room):
            cuts.append(word)
            filled = 0
        filled += length
    return list(zip(cuts, [*cuts[1:], len(lengths)]))
