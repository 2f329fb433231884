"""Text to ids and back: cleaning, splitting, WordPiece and how its vocabulary is trained (chapter 2).

Read from top to bottom, the file follows a text on its way into the model:

    clean -> split into words -> lower-case, strip accents -> split off punctuation -> longest pieces -> ids

The rules are those of google-research/bert, tokenization.py. WordPiece itself is from Schuster and Nakajima,
"Japanese and Korean voice search" (2012), and Wu et al., "Google's neural machine translation system" (2016).
"""

import functools
import itertools
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import tokenizers
import torch
from torch import Tensor

from .pretrained import read_json, replacing, resolve_folder

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUED = "##"  # marks a piece that continues a word: "playing" -> "play", "##ing"
MAX_WORD_LENGTH = 100  # characters; what is longer is no word (200 in Google's later code)

SPECIAL_IN_TEXT = re.compile("(" + "|".join(re.escape(token) for token in SPECIAL_TOKENS) + ")")

VOCABULARY_FILE, BACKEND_FILE, SETTINGS_FILE = "vocab.txt", "tokenizer.json", "tokenizer_config.json"


# ---- 1. From text to words ---------------------------------------------------------------------------------
# Each of these functions looks at one character at a time and knows nothing of its neighbours. So a text can
# be prepared character by character, and each prepared character still knows where it came from.


# Unicode's categories of control characters (NUL), format characters (soft hyphen, zero-width space) and
# private ones (what they show is between a text and its font). Google keeps these; `tokenizers` drops them.
UNSEEN = ("Cc", "Cf", "Co")


def clean(text: str) -> str:
    """Drops characters that show nothing and turns white space of every kind into plain spaces."""
    kept = []
    for char in text:
        if char in "\t\n\r":  # control characters for Unicode, white space for people
            kept.append(" ")
        elif unicodedata.category(char) in UNSEEN or char == "\ufffd":  # U+FFFD is where a decoder gave up
            continue
        elif char.isspace():  # also a no-break space, an ideographic space, a line separator
            kept.append(" ")
        else:
            kept.append(char)
    return "".join(kept)


IDEOGRAPHS = (
    (0x4E00, 0x9FFF),  # the common ones
    (0x3400, 0x4DBF),  # extension A
    (0x20000, 0x2A6DF),  # extension B
    (0x2A700, 0x2CEAF),  # extensions C, D and E
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0x2F800, 0x2FA1F),  # and their supplement
)


def space_out_ideographs(text: str) -> str:
    """Puts spaces round every Chinese character: Chinese is written without spaces, so each becomes a word.

    Japanese kana and Korean hangul are left alone.
    """
    return "".join(f" {char} " if is_ideograph(char) else char for char in text)


def is_ideograph(char: str) -> bool:
    """Whether the character lies in one of the blocks of CJK ideographs that BERT knows."""
    return any(first <= ord(char) <= last for first, last in IDEOGRAPHS)


def lower_and_strip_accents(text: str) -> str:
    """Lower-cases the text and takes the accents off its letters: "É" becomes "e".

    NFD takes a character apart into a letter and its marks; the marks (category Mn) are dropped. Only the
    uncased vocabularies want this: a cased model sees accents too.
    """
    kept = []
    # One character at a time. In Google's code `lower()` sees whole words and makes a capital sigma at the
    # end final, and NFD sorts the marks, which shows on ten rare ones that are not dropped. The `tokenizers`
    # library, whose ids most people use today, lower-cases as we do.
    for char in text:
        for part in unicodedata.normalize("NFD", char.lower()):
            if unicodedata.category(part) != "Mn":
                kept.append(part)
    return "".join(kept)


def space_out_punctuation(text: str) -> str:
    """Puts spaces round every punctuation mark, so that each becomes a word: "don't." is don ' t ."""
    return "".join(f" {char} " if is_punctuation(char) else char for char in text)


def is_punctuation(char: str) -> bool:
    """Whether Unicode calls it punctuation, or it is a visible ASCII character that is no letter or digit.

    For Unicode "$", "+", "<", "^" and "`" are symbols, not punctuation; BERT splits them off all the same.
    Other symbols, such as the euro sign or an emoji, stay in their word.
    """
    if char.isascii():
        return char.isprintable() and not char.isalnum() and char != " "
    return unicodedata.category(char).startswith("P")


@functools.cache  # a text has a million characters, but few different ones
def prepare_character(char: str, do_lower_case: bool = True) -> str:
    """What one character becomes: nothing, itself, its lower-case letter, or a character between spaces."""
    prepared = space_out_ideographs(clean(char))
    if do_lower_case:
        prepared = lower_and_strip_accents(prepared)
    return space_out_punctuation(prepared)


def split_words(text: str, do_lower_case: bool = True) -> list[str]:
    """All of the above: the words of a text, each punctuation mark and Chinese character a word by itself."""
    return "".join(prepare_character(char, do_lower_case) for char in text).split()


def words_with_origins(text: str, do_lower_case: bool = True) -> Iterator[tuple[str, list[int]]]:
    """The words of a text, and for each character of a word the position in the text that it came from.

    Lengths change on the way (a soft hyphen vanishes, one Korean syllable comes apart into three letters), so
    positions in the prepared text say nothing about the text itself. This list does.
    """
    prepared = [prepare_character(char, do_lower_case) for char in text]
    origins = [position for position, characters in enumerate(prepared) for _ in characters]
    for word in re.finditer(r"\S+", "".join(prepared)):
        yield word.group(), origins[word.start() : word.end()]


# ---- 2. From a word to pieces ------------------------------------------------------------------------------


def wordpiece(word: str, vocabulary) -> list[str]:
    """Splits a word into pieces of the vocabulary: always the longest that fits, from left to right.

    If what is left starts with no known piece, the whole word is [UNK]: half a word would mislead the model.

    Args:
        word: one of the words that `split_words` gives.
        vocabulary: anything that can say `piece in vocabulary`, fast: a dict or a set.
    """
    if len(word) > MAX_WORD_LENGTH:
        return [UNK]
    pieces = []
    start = 0
    while start < len(word):
        end = longest_match(word, start, vocabulary)
        if end == start:
            return [UNK]
        pieces.append(as_piece(word, start, end))
        start = end
    return pieces


def longest_match(word: str, start: int, vocabulary) -> int:
    """Where the longest known piece that begins at `start` ends; `start` itself if there is none."""
    for end in range(len(word), start, -1):
        if as_piece(word, start, end) in vocabulary:
            return end
    return start


def as_piece(word: str, start: int, end: int) -> str:
    """A part of a word as the vocabulary spells it: with ## unless the word begins there."""
    return word[start:end] if start == 0 else CONTINUED + word[start:end]


# ---- 3. Training the vocabulary ----------------------------------------------------------------------------
# Google never published the program that made BERT's vocabulary. This is the method that is commonly taught:
# begin with single characters and merge, again and again, the pair of pieces with the highest score.


def count_words(texts: Iterable[str], do_lower_case: bool = True) -> Counter:
    """How often each word occurs; words too long to be encoded are left out."""
    if isinstance(texts, str):
        raise TypeError("texts must be several texts, but is one str: pass a list of texts")
    counts = Counter()
    for index, text in enumerate(texts):
        check_text(text, f"texts[{index}]")
        counts.update(word for word in split_words(text, do_lower_case) if len(word) <= MAX_WORD_LENGTH)
    return counts


def split_characters(word: str) -> list[str]:
    """The smallest pieces of a word: "hug" -> ["h", "##u", "##g"]."""
    return [as_piece(word, position, position + 1) for position in range(len(word))]


def piece_counts(words: Iterable[tuple[list[str], int]]) -> Counter:
    """How often each piece occurs. `words` are pairs: a word's pieces, and how often the word occurs."""
    counts = Counter()
    for pieces, count in words:
        for piece in pieces:
            counts[piece] += count
    return counts


def pair_counts(words: Iterable[tuple[list[str], int]]) -> Counter:
    """How often each pair of neighbouring pieces occurs; `words` as in `piece_counts`."""
    counts = Counter()
    for pieces, count in words:
        for pair in zip(pieces, pieces[1:]):
            counts[pair] += count
    return counts


def merge_score(pair_count: int, first_count: int, second_count: int) -> float:
    """count(ab) / (count(a) * count(b)): high when two pieces meet more often than their own counts suggest.

    Its largest value, 1, goes to two pieces that each occur once, side by side: of all pairs these say the
    least about the language. Hence the minimum count in `wordpiece_merges`.
    """
    return pair_count / (first_count * second_count)


def merge_pair(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """The pieces with each occurrence of the pair, from left to right, made one piece."""
    merged = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] = joined(pair)
        else:
            merged.append(piece)
    return merged


def joined(pair: tuple[str, str]) -> str:
    """The piece that a pair becomes. The second always continues a word, and leaves its ## behind."""
    first, second = pair
    return first + second.removeprefix(CONTINUED)


def wordpiece_merges(
    word_counts: dict[str, int], min_count: int = 2
) -> Iterator[tuple[tuple[str, str], float, int]]:
    """Merges pairs one after the other, best first, until no pair is left that occurs `min_count` times.

    Of pairs with the same score the more frequent goes first, then the one that sorts first.

    Args:
        word_counts: how often each word occurs, as `count_words` gives it.
        min_count: pairs that occur less often than this are never merged.

    Yields:
        the pair, its score and its count, as they were when it was chosen.
    """
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}; it must be at least 1")
    words = [(split_characters(word), count) for word, count in word_counts.items()]
    pieces, pairs = piece_counts(words), pair_counts(words)
    found_in = defaultdict(set)  # pair -> the numbers of the words that hold it
    for number, (word, _) in enumerate(words):
        for pair in zip(word, word[1:]):
            found_in[pair].add(number)

    def score(pair):
        return merge_score(pairs[pair], pieces[pair[0]], pieces[pair[1]])

    while candidates := [pair for pair, count in pairs.items() if count >= min_count]:
        best = min(candidates, key=lambda pair: (-score(pair), -pairs[pair], pair))
        yield best, score(best), pairs[best]

        # Only the words that hold the pair change, so only these are counted again.
        numbers = found_in.pop(best)
        before = [words[number] for number in numbers]
        after = [(merge_pair(word, best), count) for word, count in before]
        for number, (word, count) in zip(numbers, after):
            words[number] = (word, count)
            for pair in zip(word, word[1:]):
                found_in[pair].add(number)
        pieces.subtract(piece_counts(before))
        pieces.update(piece_counts(after))
        pairs.subtract(pair_counts(before))
        pairs.update(pair_counts(after))


def train_wordpiece(
    texts: Iterable[str], vocab_size: int, min_count: int = 2, *, do_lower_case: bool = True
) -> list[str]:
    """Makes a WordPiece vocabulary: the special tokens, then the alphabet, then the merged pieces in order.

    It stays smaller than `vocab_size` when no pair is left that occurs `min_count` times.

    Args:
        texts: any number of strings.
        vocab_size: how many tokens to make.
        min_count: pairs of pieces that occur less often are never merged. A megabyte of text wants tens or
            hundreds; see `merge_score` for what a low one does.
        do_lower_case: as in the tokenizer that will use the vocabulary.

    Raises:
        TypeError: when a text is not a str.
        ValueError: when `vocab_size` has no room for the special tokens and the alphabet.
    """
    word_counts = count_words(texts, do_lower_case)
    alphabet = sorted({piece for word in word_counts for piece in split_characters(word)})
    vocabulary = [*SPECIAL_TOKENS, *alphabet]
    if vocab_size < len(vocabulary):
        raise ValueError(
            f"vocab_size is {vocab_size}, but the {len(SPECIAL_TOKENS)} special tokens and the "
            f"{len(alphabet)} characters of these texts alone need {len(vocabulary)}"
        )
    merges = itertools.islice(wordpiece_merges(word_counts, min_count), vocab_size - len(vocabulary))
    return vocabulary + [joined(pair) for pair, _, _ in merges]  # no two pairs ever make the same token


# ---- 4. The tokenizer --------------------------------------------------------------------------------------


@dataclass
class Encoding:
    """What the model reads. For one text, or pair of texts: lists. For a batch: int64 tensors (B, T)."""

    input_ids: list[int] | Tensor  # [CLS] text [SEP], or [CLS] text [SEP] pair [SEP]; then [PAD] in a batch
    token_type_ids: list[int] | Tensor  # 0 up to the first [SEP], which is included; 1 after it; 0 on [PAD]
    attention_mask: list[int] | Tensor  # 1; 0 on [PAD]
    offsets: list  # of (start, end): text[start:end] is what the token was made of; (0, 0) for what was added


class BertTokenizer:
    """Turns text into ids and back. A special token written in the text, such as "[MASK]", stays whole.

    Args:
        vocab_file_or_list: a file with one token a line, or a list of tokens; a token's place is its id.
        do_lower_case: whether to lower-case and strip accents: as it was when the vocabulary was made.
        fast: True lets the `tokenizers` library do the work, in Rust; False takes the functions above. Ids
            and offsets are the same, but for the few characters that Unicode has added or put into another
            class since the library's tables were made (chapter 2 names them).

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the vocabulary is empty, repeats a token or lacks a special one.
    """

    def __init__(
        self, vocab_file_or_list: str | Path | Iterable[str], do_lower_case: bool = True, fast: bool = True
    ):
        if isinstance(vocab_file_or_list, str | Path):
            tokens = read_vocabulary(Path(vocab_file_or_list))
        else:
            tokens = list(vocab_file_or_list)
        self.vocab = number_tokens(tokens)
        self.vocab_size = len(tokens)
        self.do_lower_case = do_lower_case
        self.pad_token_id = self.vocab[PAD]
        self.unk_token_id = self.vocab[UNK]
        self.cls_token_id = self.vocab[CLS]
        self.sep_token_id = self.vocab[SEP]
        self.mask_token_id = self.vocab[MASK]
        self.special_ids = {self.vocab[token] for token in SPECIAL_TOKENS}
        self._tokens = tokens
        self._backend = build_backend(self.vocab, do_lower_case) if fast else None

    def __len__(self) -> int:
        return self.vocab_size

    def id_to_token(self, token_id: int) -> str:
        """The token with this id; ValueError if there is none."""
        if not isinstance(token_id, Integral) or not 0 <= token_id < self.vocab_size:
            raise ValueError(f"{token_id} is no id of the vocabulary: these are 0 to {self.vocab_size - 1}")
        return self._tokens[token_id]

    def token_to_id(self, token: str) -> int:
        """The id of this token; ValueError if the vocabulary does not have it."""
        if token not in self.vocab:
            raise ValueError(f"{token!r} is not in the vocabulary; tokenize() splits it into tokens that are")
        return self.vocab[token]

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text, without [CLS] and [SEP]."""
        check_text(text, "text")
        ids, _ = self._encode(text)
        return [self._tokens[token_id] for token_id in ids]

    def __call__(self, text: str, pair: str | None = None, max_length: int | None = None) -> Encoding:
        """A text, or a pair of texts, with its [CLS] and [SEP].

        Args:
            text: the text; an empty one gives [CLS] [SEP].
            pair: the second text. None means that there is none; "" is an empty second text, with its [SEP].
            max_length: the most tokens to keep, [CLS] and [SEP] among them; `kept_lengths` says which go.

        Raises:
            TypeError: when a text is not a str.
            ValueError: when `max_length` has no room for [CLS] and [SEP].
        """
        check_text(text, "text")
        first_ids, first_offsets = self._encode(text)
        second_ids, second_offsets = [], []
        if pair is not None:
            check_text(pair, "pair")
            second_ids, second_offsets = self._encode(pair)
        if max_length is not None:
            added = 2 if pair is None else 3
            if max_length < added:
                raise ValueError(f"max_length is {max_length}, but [CLS] and [SEP] alone need {added}")
            first, second = kept_lengths(len(first_ids), len(second_ids), max_length - added)
            first_ids, first_offsets = first_ids[:first], first_offsets[:first]
            second_ids, second_offsets = second_ids[:second], second_offsets[:second]

        ids = [self.cls_token_id, *first_ids, self.sep_token_id]
        offsets = [(0, 0), *first_offsets, (0, 0)]
        token_types = [0] * len(ids)
        if pair is not None:
            ids += [*second_ids, self.sep_token_id]
            offsets += [*second_offsets, (0, 0)]
            token_types += [1] * (len(second_ids) + 1)
        return Encoding(ids, token_types, [1] * len(ids), offsets)

    def encode_many(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of many texts, each without [CLS] and [SEP]; the fast path takes them all at once."""
        texts = list(texts)
        for index, text in enumerate(texts):
            check_text(text, f"texts[{index}]")
        if self._backend is not None:
            encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
            return [encoding.ids for encoding in encodings]
        return [self._encode(text)[0] for text in texts]

    def batch(
        self, texts: Iterable[str], pairs: Iterable[str] | None = None, max_length: int | None = None
    ) -> Encoding:
        """Several texts, or as many pairs of texts, padded with [PAD] to the longest of them."""
        if isinstance(texts, str) or isinstance(pairs, str):
            raise TypeError("batch takes lists of texts, but got a str: for one text use tokenizer(text)")
        texts = list(texts)
        pairs = [None] * len(texts) if pairs is None else list(pairs)
        if not texts or len(texts) != len(pairs):
            raise ValueError(f"batch needs texts, and as many pairs: got {len(texts)} and {len(pairs)}")
        encodings = []
        for index, (text, pair) in enumerate(zip(texts, pairs)):
            check_text(text, f"texts[{index}]")
            if pair is not None:
                check_text(pair, f"pairs[{index}]")
            encodings.append(self(text, pair, max_length))
        return Encoding(
            torch.tensor(padded([encoding.input_ids for encoding in encodings], self.pad_token_id)),
            torch.tensor(padded([encoding.token_type_ids for encoding in encodings], 0)),
            torch.tensor(padded([encoding.attention_mask for encoding in encodings], 0)),
            padded([encoding.offsets for encoding in encodings], (0, 0)),
        )

    def decode(self, ids: Iterable[int]) -> str:
        """The text of one row of ids, a list or a tensor (T,): pieces joined to words, a space between words.

        [CLS], [SEP] and [PAD] are left out: they only frame the text. [MASK] and [UNK] stay: they stand for a
        part of it. Case, accents and spacing are not in the ids; the offsets lead back to them.
        """
        words = []
        for token_id in ids.tolist() if isinstance(ids, Tensor) else ids:
            token = self.id_to_token(token_id)
            if token in (CLS, SEP, PAD):
                continue
            if token.startswith(CONTINUED) and words:
                words[-1] += token.removeprefix(CONTINUED)
            else:
                words.append(token)
        return " ".join(words)

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text and their offsets."""
        if self._backend is not None:
            encoding = self._backend.encode(text, add_special_tokens=False)
            return encoding.ids, encoding.offsets
        ids, offsets = [], []
        base = 0  # where the part begins in the text
        for part in SPECIAL_IN_TEXT.split(text):
            if part in SPECIAL_TOKENS:
                ids.append(self.vocab[part])
                offsets.append((base, base + len(part)))
            else:
                for word, origins in words_with_origins(part, self.do_lower_case):
                    start = 0
                    for piece in wordpiece(word, self.vocab):
                        end = len(word) if piece == UNK else start + len(piece.removeprefix(CONTINUED))
                        ids.append(self.vocab[piece])
                        # from where its first character came from to just behind where its last one did
                        offsets.append((base + origins[start], base + origins[end - 1] + 1))
                        start = end
            base += len(part)
        return ids, offsets

    @classmethod
    def from_pretrained(cls, folder_or_hub_name: str | Path, fast: bool = True) -> "BertTokenizer":
        """Reads a published tokenizer: vocab.txt or else tokenizer.json, and the settings beside it.

        Raises:
            FileNotFoundError: when there is no such folder or hub name, or no vocabulary in it.
            ValueError: when a file is damaged, or asks for other rules than BERT's.
        """
        folder = resolve_folder(folder_or_hub_name, [VOCABULARY_FILE, BACKEND_FILE, SETTINGS_FILE])
        backend = read_json(folder / BACKEND_FILE) if (folder / BACKEND_FILE).is_file() else {}
        settings = read_json(folder / SETTINGS_FILE) if (folder / SETTINGS_FILE).is_file() else {}
        normaliser = backend.get("normalizer") or {}
        do_lower_case = settings.get("do_lower_case")
        if do_lower_case is None:  # Google's own folders hold vocab.txt alone, and most of them are uncased
            do_lower_case = normaliser.get("lowercase", True)
        refuse_other_rules(folder, do_lower_case, normaliser | settings, backend)
        if backend and not (folder / VOCABULARY_FILE).is_file():
            return cls(vocabulary_of_backend(folder, backend), do_lower_case, fast)
        return cls(folder / VOCABULARY_FILE, do_lower_case, fast)

    def save_pretrained(self, folder: str | Path):
        """Writes vocab.txt, tokenizer.json and tokenizer_config.json, which `transformers` reads too."""
        settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": self.do_lower_case}
        settings |= {"tokenize_chinese_chars": True, "strip_accents": None}
        settings |= dict(pad_token=PAD, unk_token=UNK, cls_token=CLS, sep_token=SEP, mask_token=MASK)
        contents = {
            VOCABULARY_FILE: "".join(f"{token}\n" for token in self._tokens),
            BACKEND_FILE: build_backend(self.vocab, self.do_lower_case).to_str(pretty=True),
            SETTINGS_FILE: json.dumps(settings, indent=2) + "\n",
        }
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            with replacing(folder / file) as temporary:
                temporary.write_text(content, encoding="utf-8", newline="\n")


def kept_lengths(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each of two texts to keep, from the front, so that both together fit into `room`.

    The longer one is cut first, down to the length of the shorter; from then on both are. An odd token goes
    to the one that was longer, to the second if they were equal: `transformers` calls this "longest_first".
    """
    shorter = min(first, second, room // 2)
    if first > second:
        return min(first, room - shorter), shorter
    return shorter, min(second, room - shorter)


def padded(rows: list[list], filler) -> list[list]:
    """The rows, filled up at the end to the length of the longest."""
    longest = max(len(row) for row in rows)
    return [row + [filler] * (longest - len(row)) for row in rows]


def check_text(text: str, name: str):
    """Raises unless it is a str that can be written down."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, but is {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} has half a character (a surrogate) at position {error.start}") from None


# ---- 5. Vocabularies, and the fast path --------------------------------------------------------------------


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a vocabulary file, one a line."""
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder, not a vocabulary file: read it with from_pretrained")
    if not path.is_file():
        raise FileNotFoundError(f"there is no vocabulary file {path}")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines(): U+2028 may be a token
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a vocabulary: it must be text in UTF-8 ({error})") from error
    return lines[:-1] if lines[-1] == "" else lines


def number_tokens(tokens: list[str]) -> dict[str, int]:
    """Each token's id, which is its place in the list, once it is sure that the list is a vocabulary."""
    if not tokens:
        raise ValueError("the vocabulary is empty; it must hold at least the special tokens")
    ids = {}
    for number, token in enumerate(tokens):
        if not isinstance(token, str) or not token or "\n" in token or "\r" in token:
            raise ValueError(f"line {number + 1} of the vocabulary must be a token, but is {token!r}")
        if token in ids:
            raise ValueError(f"{token!r} is in the vocabulary twice: lines {ids[token] + 1} and {number + 1}")
        ids[token] = number
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
        raise ValueError(f"the vocabulary lacks {', '.join(missing)}; BERT needs {', '.join(SPECIAL_TOKENS)}")
    return ids


def vocabulary_of_backend(folder: Path, backend: dict) -> list[str]:
    """The tokens in a tokenizer.json, in the order of their ids."""
    model = backend.get("model", {})
    if model.get("continuing_subword_prefix") != CONTINUED:
        raise ValueError(f"{folder / BACKEND_FILE} is not a WordPiece tokenizer, as BERT's is")
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    if [model["vocab"][token] for token in tokens] != list(range(len(tokens))):
        raise ValueError(f"{folder / BACKEND_FILE}: ids must run from 0 to {len(tokens) - 1} without a gap")
    return tokens


def refuse_other_rules(folder: Path, do_lower_case: bool, settings: dict, backend: dict):
    """Raises when published settings differ from BERT's: better no ids than ids the model does not know."""
    rules = {"strip_accents": do_lower_case, "clean_text": True}
    rules |= {"tokenize_chinese_chars": True, "handle_chinese_chars": True}
    for name, rule in rules.items():
        if settings.get(name) not in (None, rule):
            raise ValueError(f"{folder} sets {name} to {settings[name]}; this tokenizer can only do {rule}")
    added = [token["content"] for token in backend.get("added_tokens", [])]
    others = [token for token in added if token not in SPECIAL_TOKENS]
    if others:
        raise ValueError(f"{folder} adds {', '.join(others)}, which this tokenizer cannot keep whole")


def build_backend(vocabulary: dict[str, int], do_lower_case: bool) -> tokenizers.Tokenizer:
    """The fast path: the same rules, put together from the parts of the `tokenizers` library."""
    model = tokenizers.models.WordPiece(vocabulary, unk_token=UNK, max_input_chars_per_word=MAX_WORD_LENGTH)
    backend = tokenizers.Tokenizer(model)
    backend.add_special_tokens(list(SPECIAL_TOKENS))  # found in the text before anything else, and kept whole
    backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=do_lower_case)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    # The class above adds [CLS] and [SEP] and decodes; these are for others who read our tokenizer.json.
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{CLS}:0 $A:0 {SEP}:0",
        pair=f"{CLS}:0 $A:0 {SEP}:0 $B:1 {SEP}:1",
        special_tokens=[(CLS, vocabulary[CLS]), (SEP, vocabulary[SEP])],
    )
    backend.decoder = tokenizers.decoders.WordPiece(prefix=CONTINUED)
    return backend
