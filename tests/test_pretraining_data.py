"""Documents to pairs to masked batches: BERT's rules, by count, and nothing random but the generator."""

import math
from collections import Counter

import pytest
import torch

from bert_edu import BertTokenizer
from bert_edu.data.pretraining import (
    Pair,
    Position,
    PreTrainingBatches,
    TokenStore,
    collate,
    grouped_by_length,
    mask_tokens,
    sentence_pairs,
    truncated,
)

WORDS = [f"w{number}" for number in range(500)]
TOKENIZER = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##x", "##y"])
FIRST_WORD = 5


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def documents(count=60, sentences=8, words=6, seed=0):
    """Documents in which every sentence is different, and says by its ids where it comes from."""
    draw = generator(seed)
    return [
        [
            torch.randint(FIRST_WORD, FIRST_WORD + 500, (words,), generator=draw).tolist()
            for _ in range(sentences)
        ]
        for _ in range(count)
    ]


def pairs_of(corpus, seed=0, **settings):
    return list(
        sentence_pairs(corpus, TOKENIZER, **({"max_length": 40, "generator": generator(seed)} | settings))
    )


def flat(document):
    return [token for sentence in document for token in sentence]


def contains(long, short):
    return any(long[start : start + len(short)] == short for start in range(len(long) - len(short) + 1))


def test_pairs_are_stretches_of_the_text_and_the_label_is_true():
    corpus = documents(count=120)
    labels = Counter()
    for pair in pairs_of(corpus, max_length=100, short_probability=0.0):  # room enough: nothing is truncated
        owners = [number for number, document in enumerate(corpus) if contains(flat(document), pair.first)]
        followers = [
            number for number, document in enumerate(corpus) if contains(flat(document), pair.second)
        ]
        labels[pair.next_sentence_label] += 1
        assert len(owners) == len(followers) == 1
        if pair.next_sentence_label == 0:
            assert owners == followers and contains(
                flat(corpus[owners[0]]), pair.first[-2:] + pair.second[:2]
            )
        else:
            assert owners != followers
    assert min(labels.values()) > 50


def test_no_text_is_lost():
    corpus = documents(count=20)
    # Random stretches are extra, so: every sentence appears somewhere in a first stretch, or in a second one
    # that follows.
    pairs = pairs_of(corpus, max_length=200, short_probability=0.0)
    own = [pair.first + (pair.second if pair.next_sentence_label == 0 else []) for pair in pairs]
    for document in corpus:
        for sentence in document:
            assert any(contains(stretch, sentence) for stretch in own)


def test_pairs_fill_the_length_with_whole_sentences():
    for pair in pairs_of(documents(), short_probability=0.0):
        assert len(pair) <= 40
    lengths = Counter(len(pair) for pair in pairs_of(documents(), short_probability=0.0))
    assert lengths.most_common(1)[0][0] == 40  # 37 tokens: six sentences of six, and one more cut off
    short = Counter(len(pair) for pair in pairs_of(documents(count=300), short_probability=1.0))
    assert min(short) <= 21 and short[40] < len(list(short.elements())) / 2


def test_the_cut_falls_anywhere_and_the_second_part_only_fills_up():
    one_token_sentences = documents(count=60, sentences=400, words=1)
    lengths = {0: set(), 1: set()}
    for pair in pairs_of(one_token_sentences, short_probability=0.0):
        lengths[pair.next_sentence_label].add(len(pair.first))
    # 37 tokens in all, at least one on each side: a longer second part would cut first parts short.
    assert lengths[0] == set(range(1, 37)) and lengths[1] >= set(range(1, 37))


def test_only_the_documents_asked_for_are_cut():
    corpus = documents(count=9)
    for pair in pairs_of(corpus, numbers=[4], short_probability=0.0):
        assert contains(flat(corpus[4]), pair.first)


def test_one_sentence_documents_always_get_a_random_second():
    pairs = pairs_of(documents(count=30, sentences=1))
    assert len(pairs) == 30 and all(pair.next_sentence_label == 1 for pair in pairs)


def test_about_half_are_random_when_documents_are_long():
    labels = [
        pair.next_sentence_label
        for pair in pairs_of(documents(count=200, sentences=200), short_probability=0.0)
    ]
    share, error = sum(labels) / len(labels), math.sqrt(0.25 / len(labels))
    # A chunk that reaches the end of its document may be a single sentence: a little above one half.
    assert 0.5 - 4 * error < share < 0.56


def test_a_random_stretch_is_never_the_one_that_follows():
    sentence = [10, 11, 12]
    corpus = [[[20, 21, 22], sentence, [30, 31, 32]], [sentence, [40, 41, 42]], [sentence]]
    for seed in range(200):
        for pair in pairs_of(corpus, seed, max_length=12, short_probability=0.0):
            if pair.next_sentence_label == 1 and pair.first == [20, 21, 22]:
                assert pair.second[:3] != sentence


def test_a_corpus_of_one_document_works_and_its_negatives_are_elsewhere():
    corpus = documents(count=1, sentences=12)
    pairs = [
        pair for seed in range(20) for pair in pairs_of(corpus, seed, max_length=200, short_probability=0.0)
    ]
    assert {pair.next_sentence_label for pair in pairs} == {0, 1}
    for pair in pairs:
        if pair.next_sentence_label == 1:
            assert not contains(flat(corpus[0]), pair.first[-2:] + pair.second[:2])


def test_a_corpus_of_one_sentence_gives_no_pair_and_says_so():
    assert pairs_of([[[7, 8, 9]]]) == []
    with pytest.raises(ValueError, match="at least two different sentences"):
        next(PreTrainingBatches([[[7, 8, 9]]], TOKENIZER, max_length=10, batch_tokens=10).read_from())


def test_truncation_takes_from_the_longer_at_both_ends():
    first, second = list(range(100, 130)), list(range(200, 204))
    fronts = Counter()
    for seed in range(50):
        cut = truncated(Pair(first, second, 0), 14, generator(seed))
        assert cut.second == second and len(cut.first) == 10
        assert contains(first, cut.first)
        fronts[cut.first[0]] += 1
    assert len(fronts) > 5  # not always from the same end
    cut = truncated(Pair(first, list(range(200, 230)), 1), 20, generator())
    assert (len(cut.first), len(cut.second), cut.next_sentence_label) == (10, 10, 1)
    cut = truncated(Pair(first, list(range(200, 230)), 1), 21, generator())
    assert (len(cut.first), len(cut.second)) == (11, 10)  # of two equals the second gives, as in Google's


def test_strings_and_ids_give_the_same_pairs():
    as_ids = documents(count=10)
    as_text = [
        [" ".join(TOKENIZER.id_to_token(token) for token in sentence) for sentence in document]
        for document in as_ids
    ]
    assert pairs_of(as_text) == pairs_of(as_ids)


def test_too_short_a_length_is_refused():
    with pytest.raises(ValueError, match="max_length is 4.*at least 5"):
        pairs_of(documents(), max_length=4)


def test_nothing_is_changed_and_everything_comes_from_the_generator():
    corpus, before = documents(), documents()
    torch.manual_seed(1)
    first = pairs_of(corpus, 7)
    torch.manual_seed(2)
    assert pairs_of(corpus, 7) == first and corpus == before
    assert pairs_of(corpus, 8) != first


# Masking


def row_of(length, rows=1, padding=0):
    """[CLS] words [SEP], `length` tokens a row, then padding."""
    words = torch.randint(FIRST_WORD, FIRST_WORD + 500, (rows, length), generator=generator(3))
    words[:, 0], words[:, -1] = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id
    return torch.cat([words, torch.zeros(rows, padding, dtype=torch.long)], dim=1)


@pytest.mark.parametrize(
    "length, expected", [(3, 1), (5, 1), (10, 2), (30, 4), (50, 8), (128, 19), (512, 77)]
)
def test_how_many_are_chosen(length, expected):
    _, labels = mask_tokens(row_of(length, rows=4, padding=9), TOKENIZER, generator=generator())
    assert (labels != -100).sum(1).tolist() == [expected] * 4


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_the_number_chosen_is_that_of_pythons_round_at_every_length(share):
    lengths = torch.arange(4, 513)
    ids = row_of(512, rows=len(lengths))
    places = torch.arange(512)
    ids[places == lengths[:, None] - 1] = TOKENIZER.sep_token_id
    ids[places >= lengths[:, None]] = TOKENIZER.pad_token_id
    _, labels = mask_tokens(ids, TOKENIZER, generator=generator(), mlm_probability=share)
    expected = [max(1, round(share * length)) for length in lengths.tolist()]
    assert (labels != -100).sum(1).tolist() == expected


def test_a_row_without_words_is_left_alone():
    ids = torch.tensor([[TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, 0, 0]])
    masked, labels = mask_tokens(ids, TOKENIZER, generator=generator())
    assert torch.equal(masked, ids) and (labels == -100).all()


def test_a_cap_on_predictions():
    _, labels = mask_tokens(row_of(128, rows=3), TOKENIZER, generator=generator(), max_predictions=5)
    assert (labels != -100).sum(1).tolist() == [5, 5, 5]


def test_eighty_ten_ten():
    ids = row_of(200, rows=2000)
    masked, labels = mask_tokens(ids, TOKENIZER, generator=generator())
    chosen = labels != -100
    total = int(chosen.sum())
    shares = {
        "[MASK]": int((masked[chosen] == TOKENIZER.mask_token_id).sum()) / total,
        "kept": int((masked[chosen] == ids[chosen]).sum()) / total,
    }
    random_share = 1 - sum(shares.values())
    # A random token is the original one time in 502: that much moves from "random" to "kept".
    for share, expected in [
        (shares["[MASK]"], 0.8),
        (shares["kept"], 0.1 + 0.1 / 502),
        (random_share, 0.1 - 0.1 / 502),
    ]:
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / total)
    assert torch.equal(masked[~chosen], ids[~chosen])
    assert torch.equal(labels[chosen], ids[chosen])


def test_every_position_is_as_likely_and_specials_never():
    ids = row_of(22, rows=20_000, padding=3)
    _, labels = mask_tokens(ids, TOKENIZER, generator=generator())
    counts = (labels != -100).sum(0).double()  # 3 of 20 words in each row
    assert counts[0] == counts[21] == 0 and (counts[22:] == 0).all()
    expected = 20_000 * 3 / 20
    chi_square = float(((counts[1:21] - expected) ** 2 / expected).sum())
    assert chi_square < 45.3  # the 0.1 % point of 20 degrees of freedom


def test_random_tokens_are_ordinary_and_from_the_whole_vocabulary():
    ids = row_of(200, rows=1000)
    masked, labels = mask_tokens(ids, TOKENIZER, generator=generator(), share_masked=0.0, share_random=1.0)
    drawn = masked[labels != -100]
    assert drawn.min() >= FIRST_WORD
    assert len(drawn.unique()) == TOKENIZER.vocab_size - 5
    assert (drawn == ids[labels != -100]).float().mean() < 0.01  # the original only by chance, 1 in 502


def test_for_measuring_all_become_mask():
    masked, labels = mask_tokens(
        row_of(50, rows=20), TOKENIZER, generator=generator(), share_masked=1.0, share_random=0.0
    )
    assert (masked[labels != -100] == TOKENIZER.mask_token_id).all()


def test_masking_leaves_its_input_and_the_global_randomness_alone():
    ids = row_of(60, rows=5)
    before = ids.clone()
    torch.manual_seed(1)
    first = mask_tokens(ids, TOKENIZER, generator=generator(5))
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = mask_tokens(ids, TOKENIZER, generator=generator(5))
    assert torch.equal(ids, before) and torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[1], mask_tokens(ids, TOKENIZER, generator=generator(6))[1])


def test_whole_words():
    x, y = TOKENIZER.token_to_id("##x"), TOKENIZER.token_to_id("##y")
    row = (
        [TOKENIZER.cls_token_id]
        + [10, x, y, 11, 12, x, 13, 14, 15, 16, x, 17, 18, 19, 20] * 3
        + [TOKENIZER.sep_token_id]
    )
    ids = torch.tensor([row] * 300)
    _, labels = mask_tokens(ids, TOKENIZER, generator=generator(), whole_words=True)
    chosen = labels != -100
    words, current = [], []
    for position, token in enumerate(row[1:-1], start=1):
        if token in (x, y):
            current.append(position)
        else:
            current = [position]
            words.append(current)
    for positions in words:
        parts = chosen[:, positions]
        assert (parts.all(1) | ~parts.any(1)).all()  # all or none
    counts = chosen.sum(1)
    assert counts.max() == round(0.15 * len(row)) == 7 and counts.float().mean() > 6.8
    assert chosen[:, words[0]].any()  # three pieces are not passed over


def test_a_piece_after_a_special_token_begins_a_word():
    x, y = TOKENIZER.token_to_id("##x"), TOKENIZER.token_to_id("##y")
    row = [TOKENIZER.cls_token_id, 10, TOKENIZER.sep_token_id, x, y, 11, TOKENIZER.sep_token_id]
    _, labels = mask_tokens(torch.tensor([row] * 50), TOKENIZER, generator=generator(), whole_words=True)
    chosen = labels != -100  # one token a row, so never the word x y
    assert chosen[:, 1].any() and chosen[:, 5].any() and not chosen[:, 3:5].any()


# Batches, and the endless stream


def test_collate():
    batch = collate([Pair([10, 11], [12], 0), Pair([13], [14, 15, 16], 1)], TOKENIZER)
    cls, sep = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id
    assert batch.input_ids.tolist() == [[cls, 10, 11, sep, 12, sep, 0], [cls, 13, sep, 14, 15, 16, sep]]
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1]]
    assert batch.next_sentence_label.tolist() == [0, 1]


def test_grouping_wastes_little_and_loses_nothing():
    pairs = pairs_of(documents(count=400), max_length=64, short_probability=0.5)
    batches = grouped_by_length(pairs, 512, generator())
    assert sorted(map(id, pairs)) == sorted(id(pair) for batch in batches for pair in batch)
    padded = [len(batch) * max(map(len, batch)) for batch in batches]
    assert max(padded) <= 512
    assert sum(len(pair) for pair in pairs) / sum(padded) > 0.97
    assert [len(batch[0]) for batch in batches] != sorted(len(batch[0]) for batch in batches)


def take(stream, count):
    return [next(stream) for _ in range(count)]


def same(a, b):
    ours, theirs = (
        {name: value for name, value in vars(batch).items() if value is not None} for batch in (a, b)
    )
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_stream_can_be_read_from_any_position():
    stream = PreTrainingBatches(
        documents(), TOKENIZER, max_length=40, batch_tokens=200, seed=3, block_size=25
    )
    straight = take(stream.read_from(), 150)
    assert straight[-1][0].epoch >= 1 and len({position.block for position, _ in straight}) == 3
    for number in (0, 1, 30, 77, 149):
        position, _ = straight[number]
        for (_, expected), (_, found) in zip(straight[number + 1 :], stream.read_from(position)):
            assert same(expected, found)


def test_epochs_differ_and_seeds_differ():
    def epoch(number, seed):
        stream = PreTrainingBatches(documents(), TOKENIZER, max_length=40, batch_tokens=200, seed=seed)
        return next(stream.read_from(Position(number)))[1]

    assert (
        not same(epoch(0, 0), epoch(1, 0))
        and not same(epoch(0, 0), epoch(0, 1))
        and same(epoch(2, 5), epoch(2, 5))
    )


def test_an_epoch_reads_every_document_once_and_each_epoch_in_another_order():
    corpus = documents(count=20, sentences=1)  # one pair each
    stream = PreTrainingBatches(corpus, TOKENIZER, max_length=40, batch_tokens=200, block_size=6)
    firsts = {0: {}, 1: {}}  # epoch -> block -> the first sentences
    for position, batch in stream.read_from():
        if position.epoch > 1:
            break
        originals = torch.where(batch.labels == -100, batch.input_ids, batch.labels)
        firsts[position.epoch].setdefault(position.block, []).extend(map(tuple, originals[:, 1:7].tolist()))
    for blocks in firsts.values():
        assert [len(blocks[block]) for block in range(4)] == [6, 6, 6, 2]
        assert sorted(sum(blocks.values(), [])) == sorted(tuple(document[0]) for document in corpus)
    assert set(firsts[0][0]) != set(firsts[1][0])


def test_the_same_text_is_masked_anew_in_each_epoch():
    stream = PreTrainingBatches(documents(count=1), TOKENIZER, max_length=100, batch_tokens=2000)
    masks = [next(stream.read_from(Position(epoch)))[1].labels for epoch in range(2)]
    assert not torch.equal(*masks)


def test_a_batch_must_hold_an_input():
    with pytest.raises(ValueError, match=r"batch_tokens \(30\).*max_length \(40\)"):
        PreTrainingBatches(documents(), TOKENIZER, max_length=40, batch_tokens=30)


# The store


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_store_gives_back_the_documents(on_disk, tmp_path):
    text = [["w1 w2 w3", "w4"], [], ["", "w5 w6"], ["   "], ["w7x"]]
    store = TokenStore.build(text, TOKENIZER, tmp_path / "ids" if on_disk else None)
    expected = [[[6, 7, 8], [9]], [[10, 11]], [[12, TOKENIZER.token_to_id("##x")]]]
    assert [store[number] for number in range(len(store))] == expected
    assert list(store) == expected and store.token_count == 8 + 4
    with pytest.raises(IndexError, match="no document 3; the store has 3"):
        store[3]
    if on_disk:
        assert list(TokenStore.open(tmp_path / "ids", TOKENIZER)) == expected


@pytest.mark.parametrize("vocab_size, size", [(2**16 - 1, 2), (2**16, 4)])
def test_ids_of_large_vocabularies_fit(vocab_size, size, tmp_path):
    """The id that ends a sentence is `vocab_size` itself: two bytes hold it up to 65,535."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = BertTokenizer([*specials, *(f"w{number}" for number in range(vocab_size - 5))])
    last = vocab_size - 1
    store = TokenStore.build([[f"w{last - 5} w0", "w1"]], tokenizer, tmp_path)
    assert store[0] == [[last, 5], [6]]
    assert (tmp_path / "ids.bin").stat().st_size == 5 * size


def test_an_empty_corpus_is_refused():
    with pytest.raises(ValueError, match="corpus is empty"):
        TokenStore.build([[], ["", "  "]], TOKENIZER)


@pytest.mark.parametrize("fixed_shape", [False, True])
def test_other_processes_make_the_same_batches(fixed_shape, tmp_path):
    """From a file: processes that shared its position would read each other's documents."""
    text = [[TOKENIZER.decode(sentence) for sentence in document] for document in documents(count=200)]
    store = TokenStore.build(text, TOKENIZER, tmp_path)
    settings = {"max_length": 40, "batch_tokens": 400, "block_size": 25, "fixed_shape": fixed_shape}
    alone = PreTrainingBatches(store, TOKENIZER, **settings)
    together = PreTrainingBatches(store, TOKENIZER, workers=2, **settings)
    start = take(alone.read_from(), 4)[-1][0]
    expected, found = take(alone.read_from(start), 60), take(together.read_from(start), 60)
    for (place, batch), (other_place, other) in zip(expected, found, strict=True):
        assert place == other_place and same(batch, other)
