"""Is it learning? What a model gets right at hidden words, and what counting neighbours does (chapter 11).

The measure is accuracy on positions that show [MASK]: under 80/10/10 a model that learned nothing but to copy
what it sees would already look good, so kept and random positions are never mixed in.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..data.pretraining import PreTrainingBatch, TokenStore
from ..heads import IGNORE
from ..tokenization import CONTINUED, BertTokenizer


@torch.inference_mode()
def evaluate_pretraining(
    model, batches: Iterable[PreTrainingBatch], tokenizer: BertTokenizer
) -> dict[str, float]:
    """Measures a `BertForPreTraining` on masked batches.

    Args:
        batches: made with `share_masked=1, share_random=0`, so that every scored position shows [MASK].

    Returns:
        `mask_accuracy`; `mlm_loss` in nats and `perplexity`; `bits_per_character`, the surprise at the hidden
        words per character of them, which does not depend on the size of the vocabulary; `nsp_accuracy`, and
        `nsp_balanced_accuracy`, the mean of the accuracies on next and on random sentences, for which any
        guess without looking gives a half; `scored`, how many positions that rests on.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    lengths = _piece_lengths(tokenizer)
    correct = scored = characters = 0
    right_pairs, pairs = torch.zeros(2), torch.zeros(2)  # of next sentences and of random ones
    nats = 0.0
    for batch in batches:
        batch = batch.to(device)
        output = model(
            batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.token_type_ids,
            labels=batch.labels,
        )
        labels = batch.labels[batch.labels != IGNORE]  # (N,)
        correct += int((output.scored_logits.argmax(-1) == labels).sum())
        nats += float(output.mlm_loss) * len(labels)
        scored += len(labels)
        characters += int(lengths[labels.cpu()].sum())
        answers = batch.next_sentence_label.cpu()  # (B,)
        right = output.seq_relationship_logits.argmax(-1).cpu() == answers
        pairs += torch.bincount(answers, minlength=2)
        right_pairs += torch.bincount(answers[right], minlength=2)
    model.train(was_training)
    if scored == 0:
        raise ValueError("there is nothing to measure: no position of these batches is scored")
    return {
        "mask_accuracy": correct / scored,
        "mlm_loss": nats / scored,
        "perplexity": math.exp(nats / scored),
        "bits_per_character": nats / math.log(2) / characters,
        "nsp_accuracy": float(right_pairs.sum() / pairs.sum()),
        "nsp_balanced_accuracy": float((right_pairs / pairs)[pairs > 0].mean()),
        "scored": scored,
    }


def accuracy_by_fate(
    logits: Tensor, labels: Tensor, shown: Tensor, mask_token_id: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Splits scored positions by what the model saw there: [MASK], the word itself (kept) or a random one.

    Args:
        logits: (N, V)
        labels: (N,), the right ids; -100 counts for nothing.
        shown: (N,), the ids that stood in the input.

    Returns:
        For "mask", "kept" and "random": how many were right, and of how many (tensors, so that nothing waits
        for a GPU).
    """
    right = logits.argmax(-1) == labels
    fates = {"mask": (shown == mask_token_id) & (labels != IGNORE), "kept": shown == labels}
    fates["random"] = ~(fates["mask"] | fates["kept"]) & (labels != IGNORE)
    return {name: ((right & chosen).sum(), chosen.sum()) for name, chosen in fates.items()}


def _piece_lengths(tokenizer: BertTokenizer) -> Tensor:
    """How many characters each token of the vocabulary writes (V,)."""
    pieces = [tokenizer.id_to_token(number).removeprefix(CONTINUED) for number in range(tokenizer.vocab_size)]
    return torch.tensor([len(piece) for piece in pieces])


def unigram_entropy(store: TokenStore, vocab_size: int) -> float:
    """The loss, in nats, of a model that knows how frequent each token is and nothing else."""
    counts = np.zeros(vocab_size)
    for document in store:
        for sentence in document:
            np.add.at(counts, sentence, 1)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


class NeighbourCounts:
    """The baselines: the most frequent word, the best after the left or before the right neighbour, or both.

    It counts the same training text as the model, and at evaluation sees the same masked neighbours: where
    one is hidden, it backs off: both neighbours -> left -> right -> the most frequent word.
    """

    def __init__(self, store: TokenStore, tokenizer: BertTokenizer):
        V = tokenizer.vocab_size
        sequences = []  # every document as one row: a neighbour may stand in the next sentence
        for document in store:
            sequences.append(
                [
                    tokenizer.cls_token_id,
                    *(t for sentence in document for t in sentence),
                    tokenizer.sep_token_id,
                ]
            )
        ids = np.concatenate([np.array(row, dtype=np.int64) for row in sequences])
        inner = np.concatenate(
            [np.arange(len(row)) % (len(row) - 1) != 0 for row in sequences]
        )  # not the frame
        centre = np.flatnonzero(inner)
        left, word, right = ids[centre - 1], ids[centre], ids[centre + 1]
        self.hidden = tokenizer.mask_token_id
        self.most_frequent = int(np.bincount(word, minlength=V).argmax())
        self._after = _best_word(left, word, V)
        self._before = _best_word(right, word, V)
        self._between = _best_word(left * V + right, word, V)
        self._V = V

    def predict(self, left: np.ndarray, right: np.ndarray) -> dict[str, np.ndarray]:
        """Guesses for hidden words from the ids that stand beside them, (N,) each."""
        N = len(left)
        frequent = np.full(N, self.most_frequent)
        after = _look_up(self._after, np.where(left == self.hidden, -1, left), frequent)
        before = _look_up(self._before, np.where(right == self.hidden, -1, right), frequent)
        one_side = _look_up(self._after, np.where(left == self.hidden, -1, left), before)
        both = np.where((left == self.hidden) | (right == self.hidden), -1, left * self._V + right)
        return {
            "most frequent word": frequent,
            "left bigram": after,
            "right bigram": before,
            "two-sided trigram": _look_up(self._between, both, one_side),
        }

    def accuracy(self, batches: Iterable[PreTrainingBatch]) -> dict[str, float]:
        """The share of hidden words that each baseline guesses, on the model's own masked batches."""
        right_guesses, total = {}, 0
        for batch in batches:
            rows, columns = (batch.labels != IGNORE).nonzero(as_tuple=True)
            left = batch.input_ids[rows, columns - 1].numpy()
            right = batch.input_ids[rows, columns + 1].numpy()
            labels = batch.labels[rows, columns].numpy()
            for name, guess in self.predict(left, right).items():
                right_guesses[name] = right_guesses.get(name, 0) + int((guess == labels).sum())
            total += len(labels)
        return {name: count / total for name, count in right_guesses.items()}


def _best_word(context: np.ndarray, word: np.ndarray, V: int) -> tuple[np.ndarray, np.ndarray]:
    """For every context the word that stood in it most often; of equals the one with the smaller id."""
    pairs, counts = np.unique(context * V + word, return_counts=True)
    order = np.lexsort((pairs % V, -counts, pairs // V))
    contexts, first = np.unique((pairs // V)[order], return_index=True)
    return contexts, (pairs % V)[order][first]


def _look_up(table: tuple[np.ndarray, np.ndarray], context: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    contexts, words = table
    place = np.searchsorted(contexts, context).clip(max=len(contexts) - 1)
    return np.where(contexts[place] == context, words[place], otherwise)
