"""Several sequences in one row: the same numbers as padded or alone, and none sees another."""

from itertools import takewhile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bert_edu import BertForPreTraining, BertModel
from bert_edu.data.pretraining import (
    Pair,
    PreTrainingBatches,
    collate,
    mask_tokens,
    packed,
    positions_to_score,
    sentence_pairs,
)
from bert_edu.heads import IGNORE
from bert_edu.packing import Packing, best_fit, packed_attention_bias, restarting_positions
from bert_edu.training.loop import train_step
from helpers import ODD_CONFIGS, SMALL, batch, little_config, little_tokenizer, pretraining_labels, randomise

TOKENIZER = little_tokenizer([f"w{number}" for number in range(60)])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- Which sequences share a row ---------------------------------------------------------------------------


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(20, 30))
def test_every_sequence_has_a_place_and_no_two_rows_could_be_one(lengths, room):
    rows = best_fit(lengths, room)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    filled = sorted(sum(lengths[number] for number in row) for row in rows)
    assert filled[-1] <= room
    assert len(filled) == 1 or filled[0] + filled[1] > room


def test_a_sequence_takes_the_row_where_it_leaves_the_least_room():
    assert best_fit([5, 3, 7, 2], 10) == [[2, 1], [0, 3]]  # 7 and 3 fill a row; 5 and 2 share one
    assert best_fit([6, 8, 2, 4], 10) == [[1, 2], [0, 3]]


@pytest.mark.parametrize("lengths", [[3, 9, 2], [3, 0]])
def test_a_sequence_that_fits_no_row_is_refused(lengths):
    with pytest.raises(ValueError, match=r"sequence 1 has [09] tokens, and a row takes 1 to 8"):
        best_fit(lengths, 8)


def test_a_small_packing_by_hand():
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    ids = torch.tensor([[11, 12, 13, 0, 0], [21, 22, 23, 24, 25], [31, 0, 0, 0, 0]])
    packing = Packing.of(mask)
    assert packing.pack(ids, empty=99).tolist() == [[21, 22, 23, 24, 25], [11, 12, 13, 31, 99]]
    assert packing.sequence_ids.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 2, 0]]
    assert packing.sequence_starts.tolist() == [5, 0, 8]  # in the order of the batch
    assert restarting_positions(packing.sequence_ids).tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 0, 0]]
    bias = packed_attention_bias(packing.sequence_ids, torch.float32)  # (2, 1, 5, 5)
    assert not bias[0].any()
    visible = [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert (bias[1, 0] == 0).int().tolist() == visible
    assert packing.unpack(packing.pack(ids, empty=99)).tolist() == ids.tolist()


def test_padding_in_front_is_refused():
    with pytest.raises(ValueError, match="padding at the end of the rows"):
        Packing.of(torch.tensor([[0, 1, 1], [1, 1, 1]]))


# ---- The model: packed, padded, and each sequence alone ----------------------------------------------------


def as_packed(inputs, labels=None, room=None):
    """A padded batch as arguments of the model, several sequences in a row."""
    packing = Packing.of(inputs["attention_mask"], room=room)
    arguments = {
        "input_ids": packing.pack(inputs["input_ids"]),
        "token_type_ids": packing.pack(inputs["token_type_ids"]),
        "sequence_ids": packing.sequence_ids,
        "sequence_starts": packing.sequence_starts,
    }
    if labels is not None:
        arguments |= {
            "labels": packing.pack(labels["labels"], IGNORE),
            "next_sentence_label": labels["next_sentence_label"],
        }
    return packing, arguments


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("config", ODD_CONFIGS.values(), ids=ODD_CONFIGS.keys())
def test_packed_padded_and_alone_give_the_same_loss_and_gradients(config):
    model = BertForPreTraining(config).eval()
    randomise(model)
    inputs = batch(config)
    labels = pretraining_labels(inputs, config)
    padded_loss = model(**inputs, **labels).loss
    expected = gradients(model, padded_loss)

    _, arguments = as_packed(inputs, labels, room=11)
    assert len(arguments["input_ids"]) < len(inputs["input_ids"])
    packed_loss = model(**arguments).loss

    # Each sequence alone, without any padding; the means are put together from sums.
    mlm, nsp, scored = 0.0, 0.0, 0
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        own = {name: value[row : row + 1, :length] for name, value in inputs.items()}
        own_labels = labels["labels"][row : row + 1, :length]
        output = model(
            **own, labels=own_labels, next_sentence_label=labels["next_sentence_label"][row : row + 1]
        )
        count = int((own_labels != IGNORE).sum())
        mlm, nsp, scored = mlm + output.mlm_loss * count, nsp + output.nsp_loss, scored + count
    alone_loss = mlm / scored + nsp / len(inputs["input_ids"])

    for loss in (packed_loss, alone_loss):
        torch.testing.assert_close(loss, padded_loss, rtol=0, atol=1e-5)
        found = gradients(model, loss)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5, msg=name)


def test_packed_rows_give_the_same_vectors_for_every_token_and_sequence():
    model = BertModel(SMALL).double().eval()
    randomise(model)
    inputs = batch(SMALL)
    expected = model(**inputs)
    packing, arguments = as_packed(inputs, room=15)
    for attentions in (False, True):
        found = model(**arguments, output_attentions=attentions)
        real = inputs["attention_mask"].bool()
        hidden = packing.unpack(found.last_hidden_state)
        torch.testing.assert_close(hidden[real], expected.last_hidden_state[real], rtol=0, atol=1e-10)
        torch.testing.assert_close(found.pooler_output, expected.pooler_output, rtol=0, atol=1e-10)
    in_reading_order = packing.sequence_starts.argsort()
    del arguments["sequence_starts"]
    found = model(**arguments).pooler_output
    torch.testing.assert_close(found, expected.pooler_output[in_reading_order], rtol=0, atol=1e-10)


def test_no_token_sees_another_sequence():
    model = BertModel(SMALL).eval()
    randomise(model)
    inputs = batch(SMALL)
    packing, arguments = as_packed(inputs, room=20)
    before = model(**arguments)
    sequences = packing.sequence_ids
    row, number = 0, 2
    own = (torch.arange(len(sequences)) == row)[:, None] & (sequences == number)  # (rows, room)
    assert own.any() and (sequences[row] > number).any() and (sequences[row] < number).any()
    changed = torch.where(own, arguments["input_ids"], (arguments["input_ids"] + 7) % SMALL.vocab_size)
    after = model(**arguments | {"input_ids": changed})
    assert torch.equal(after.last_hidden_state[own], before.last_hidden_state[own])
    others = (sequences[row] != number) & (sequences[row] != 0)
    assert (after.last_hidden_state[row] - before.last_hidden_state[row])[others].abs().amax(-1).min() > 1e-3
    for probabilities in model(**arguments, output_attentions=True).attentions:  # (B, A, T, T)
        apart = sequences[:, None, :, None] != sequences[:, None, None, :]
        assert not probabilities.masked_select(apart).any()


def test_without_sequence_starts_padding_is_no_sequence():
    model = BertModel(SMALL).eval()
    ids = torch.tensor([[1, 1, 2, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 0]])
    assert model(torch.ones_like(ids), sequence_ids=ids).pooler_output.shape == (3, SMALL.hidden_size)


def test_sequence_ids_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"sequence_ids must have the shape of input_ids, \(1, 4\)"):
        BertModel(SMALL)(torch.ones(1, 4).long(), sequence_ids=torch.ones(1, 3).long())


def test_with_all_places_given_nobody_looks_at_the_numbers():
    """On PyTorch's device without numbers, as for a compiler, and for a host that need not wait for a GPU."""
    model = BertForPreTraining(SMALL).to("meta")
    inputs = batch(SMALL)
    _, arguments = as_packed(inputs, pretraining_labels(inputs, SMALL), room=11)
    arguments["scored_positions"] = positions_to_score(arguments["labels"])
    arguments = {name: value.to("meta") for name, value in arguments.items()}
    model(**arguments).loss.backward()
    for needed in ("scored_positions", "sequence_starts"):
        with pytest.raises(NotImplementedError, match="nonzero"):
            model(**arguments | {needed: None})


# ---- Pre-training ------------------------------------------------------------------------------------------


def documents(count=40, sentences=9):
    draw = generator()
    return [
        [
            torch.randint(5, 65, (int(torch.randint(1, 8, (), generator=draw)),), generator=draw).tolist()
            for _ in range(sentences)
        ]
        for _ in range(count)
    ]


def masked_batch():
    pairs = sentence_pairs(documents(6), TOKENIZER, max_length=30, generator=generator())
    padded = collate(list(pairs), TOKENIZER)
    padded.input_ids, padded.labels = mask_tokens(padded.input_ids, TOKENIZER, generator=generator(1))
    return padded


def test_a_training_step_on_packed_rows_is_that_on_padded_ones():
    """With rows and pairs that are there for the shape only."""
    padded = masked_batch()
    in_rows = packed(padded, rows=[*best_fit(padded.attention_mask.sum(1).tolist(), 40), []], room=40)
    in_rows.next_sentence_label = torch.cat([in_rows.next_sentence_label, torch.tensor([IGNORE] * 3)])
    in_rows.sequence_starts = torch.cat([in_rows.sequence_starts, torch.tensor([0] * 3)])
    results = []
    for one in (padded, in_rows):
        torch.manual_seed(0)
        model = BertForPreTraining(little_config(TOKENIZER)).eval()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        sums = train_step(model, optimizer, [one], mask_token_id=TOKENIZER.mask_token_id, clip_norm=1e9)
        results.append((model.state_dict(), {name: float(value) for name, value in sums.items()}))
    (weights, sums), (packed_weights, packed_sums) = results
    assert packed_sums == pytest.approx(sums, abs=1e-5)
    assert sums["nsp_total"] == len(padded.input_ids)
    for name, weight in weights.items():
        torch.testing.assert_close(packed_weights[name], weight, rtol=0, atol=1e-5, msg=name)


SETTINGS = dict(max_length=50, batch_tokens=420, block_size=15, fixed_shape=True)


def sequences_of(batch):
    """The sequences of a packed batch as lists of ids, hidden tokens put back, with their pair's label."""
    original = torch.where(batch.labels == IGNORE, batch.input_ids, batch.labels)
    flat, numbers = original.flatten(), batch.sequence_ids.flatten()
    found = []
    for start, label in zip(batch.sequence_starts.tolist(), batch.next_sentence_label.tolist()):
        if label == IGNORE:
            assert start == 0
            continue
        end = start
        while end < len(numbers) and numbers[end] == numbers[start] and end // 50 == start // 50:
            end += 1
        found.append((flat[start:end].tolist(), label))
    return found


def one_epoch(**changes):
    stream = PreTrainingBatches(documents(), TOKENIZER, seed=4, **SETTINGS | changes)
    return [each for _, each in takewhile(lambda item: item[0].epoch == 0, stream.read_from())]


def test_batches_of_a_fixed_shape():
    for found in one_epoch():
        assert found.input_ids.shape == found.labels.shape == found.sequence_ids.shape == (8, 50)
        assert found.scored_positions.shape == (66,)  # 1.1 * 0.15 * 400
        assert found.sequence_starts.shape == found.next_sentence_label.shape == (80,)
        assert torch.equal(found.sequence_ids > 0, found.input_ids != TOKENIZER.pad_token_id)
        assert torch.equal(found.attention_mask, (found.sequence_ids > 0).long())
        labelled = (found.labels.flatten() != IGNORE).nonzero().flatten().tolist()
        assert found.scored_positions[: len(labelled)].tolist() == labelled
        assert set(found.scored_positions[len(labelled) :].tolist()) <= {0}


def test_packed_batches_hold_every_pair_once_and_little_else():
    """The same seed without packing makes the same pairs, one a row."""
    epoch = one_epoch(mlm_probability=0.5)  # so many that there is room to score all that are hidden
    found = [each for batch in epoch for each in sequences_of(batch)]
    expected = []
    for padded in one_epoch(fixed_shape=False):
        original = torch.where(padded.labels == IGNORE, padded.input_ids, padded.labels)
        for ids, mask, label in zip(original, padded.attention_mask, padded.next_sentence_label.tolist()):
            expected.append((ids[mask == 1].tolist(), label))
    assert sorted(found) == sorted(expected)
    full = [batch for batch in epoch if batch.sequence_ids[-1].any()]
    assert sum(float((batch.sequence_ids > 0).float().mean()) for batch in full) / len(full) > 0.9


def test_in_a_fixed_shape_no_more_is_scored_than_there_is_room_for():
    """Pairs of five tokens: one of five is hidden, more than there is room for."""
    corpus = [[[5 + n]] for n in range(40)]
    stream = PreTrainingBatches(
        corpus, TOKENIZER, max_length=50, batch_tokens=100, block_size=40, fixed_shape=True
    )
    _, batch = next(stream.read_from())
    assert len(sequences_of(batch)) == 20
    assert len(batch.scored_positions) == 17 == int((batch.labels != IGNORE).sum())
    assert len(batch.scored_positions.unique()) == 17


def test_a_pair_in_a_row_of_its_own_is_a_padded_row():
    pair = Pair([5, 6, 7], [8, 9], 1)
    padded = collate([pair, pair], TOKENIZER)
    in_rows = packed(padded, room=12, pad_token_id=3)
    assert in_rows.labels is None and in_rows.scored_positions is None
    assert in_rows.input_ids.tolist() == [padded.input_ids[n].tolist() + [3] * 4 for n in range(2)]
