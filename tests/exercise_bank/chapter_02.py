"""Answers to the exercises of chapter 2."""

import functools
import re
from collections import Counter

from bert_edu.tokenization import pair_counts, piece_counts, prepare_character, split_characters, wordpiece

from . import Answers, mistake

# ---- 2.1: pieces with offsets ------------------------------------------------------------------------------


def with_origins(end="last letter", counts="text", signs="without ##", unknown="word", start="piece",
                 returns="all", apart=1, strip=False):  # fmt: skip
    """As in the chapter: for each prepared character the place that it came from."""

    def pieces_with_offsets(text, vocabulary):
        prepared, origins, result = "", [], []
        if strip:
            text = text.replace("\u00ad", "")
        for position, char in enumerate(text):
            becomes = prepare_character(char)
            letters = becomes.strip()
            prepared += becomes
            if apart == 1 or len(letters) < 2:
                origins += [position] * len(becomes)
            else:
                shift = sum(origin == "shift" for origin in origins)
                origins += [position + shift + k for k in range(len(becomes))]
        if apart == 2:  # what comes apart moves all that follows
            origins, moved = [], 0
            for position, char in enumerate(text):
                becomes = prepare_character(char)
                if len(becomes.strip()) > 1:
                    origins += [position + moved + k for k in range(len(becomes))]
                    moved += len(becomes) - 1
                else:
                    origins += [position + moved] * len(becomes)
        words = list(re.finditer(r"\S+", prepared))
        if counts == "one space":
            place = 0
        for word in words:
            here = word.start()
            for piece in wordpiece(word.group(), vocabulary):
                if piece == "[UNK]" and unknown == "left out":
                    continue
                letters = len(piece.removeprefix("##")) if signs == "without ##" else len(piece)
                if piece == "[UNK]":
                    letters = len(word.group())
                first, last = here, here + letters - 1
                if start == "word":
                    first, last = word.start(), word.end() - 1
                here += letters if start == "piece" else len(piece.removeprefix("##"))
                last = min(last, len(origins) - 1) if signs == "without ##" else last
                if counts == "prepared":
                    entry = (piece, first, last + 1)
                elif counts == "word":
                    entry = (piece, first - word.start(), last + 1 - word.start())
                elif counts == "one space":
                    entry = (piece, place, place + letters)
                    place += letters
                elif signs != "without ##":
                    entry = (piece, origins[first], origins[first] + letters)
                else:
                    entry = (piece, origins[first], origins[last] + 1)
                if end == "start + length" and piece != "[UNK]":
                    entry = (piece, entry[1], entry[1] + letters)
                if end == "last included":
                    entry = (piece, entry[1], entry[2] - 1)
                if piece == "[UNK]" and unknown == "name":
                    entry = (piece, entry[1], entry[1] + 5)
                result.append(entry if returns == "all" else entry[1:])
            if counts == "one space":
                place += 1
        return result

    return pieces_with_offsets


def letter_by_letter(end="last letter", counts="text", signs="without ##", unknown="word", start="piece",
                     returns="all", apart=1, strip=False):  # fmt: skip
    """Words as lists of (letter, place), filled by going once through the text."""

    def pieces_with_offsets(text, vocabulary):
        if strip:
            text = "".join(char for char in text if char != "\u00ad")
        words, open_word, at, moved = [], False, 0, 0
        for place, char in enumerate(text):
            for letter in prepare_character(char):
                if letter == " ":
                    open_word = False
                else:
                    if not open_word:
                        words.append([])
                        open_word = True
                    where = {"text": place + moved, "prepared": at}.get(counts, place)
                    words[-1].append((letter, where))
                    if apart == 2 and len(prepare_character(char).strip()) > 1:
                        moved += 1
                at += 1
            if apart == 2 and len(prepare_character(char).strip()) > 1:
                moved -= 1
        answer, line = [], 0
        for word in words:
            done = 0
            for piece in wordpiece("".join(letter for letter, _ in word), vocabulary):
                size = len(word) if piece == "[UNK]" else len(piece.replace("##", ""))
                shown = size if signs == "without ##" or piece == "[UNK]" else len(piece)
                part = word[done : done + size] if start == "piece" else word
                done += size
                first, last = part[0][1], part[-1][1]
                if counts == "word":
                    first, last = first - word[0][1], last - word[0][1]
                elif counts == "one space":
                    first, last = line, line + size - 1
                    line += size
                if shown != size:
                    last = first + shown - 1
                if end == "start + length" and piece != "[UNK]":
                    last = first + size - 1
                if piece == "[UNK]" and unknown == "name":
                    last = first + 4
                if piece == "[UNK]" and unknown == "left out":
                    continue
                place = [first, last if end == "last included" else last + 1]
                answer.append([piece, *place] if returns == "all" else place)
            line += 1
        return answer

    return pieces_with_offsets


class ByGenerator:
    def __call__(self, text, vocabulary):
        return tuple(self.pieces(text, vocabulary))

    def pieces(self, text, vocabulary):
        marked = [(letter, place) for place, char in enumerate(text) for letter in prepare_character(char)]
        marked.append((" ", len(text)))
        word = []
        for letter, place in marked:
            if letter != " ":
                word.append((letter, place))
                continue
            spelled = "".join(letter for letter, _ in word)
            for piece in wordpiece(spelled, vocabulary) if word else ():
                size = len(spelled) if piece == "[UNK]" else len(piece.removeprefix("##"))
                yield piece, word[0][1], word[size - 1][1] + 1
                word = word[size:]
            word = []


OFFSETS = Answers(
    "pieces_with_offsets",
    styles={"origins": with_origins, "letters": letter_by_letter},
    right={"generator": ByGenerator()},
    wrong={
        "end included": mistake("The end is one too small", end="last included"),
        "offsets alone": mistake("The offsets alone are not enough", returns="offsets"),
        "one space between words": mistake("one space apart", counts="one space"),
        "from the word's beginning": mistake("start at 0 again", counts="word"),
        "## counted": mistake("You count the ##", signs="with ##"),
        "the whole word": mistake("the whole word's offsets", start="word"),
        "places in the prepared text": mistake("places in the prepared text", counts="prepared"),
        "start plus length": mistake("start plus the length", end="start + length"),
        "soft hyphens taken out first": mistake("a text without the soft hyphen", strip=True),
        "two places for a syllable": mistake("two places for it", apart=2),
        "[UNK] as long as its name": mistake("as many places as its name", unknown="name"),
        "[UNK] left out": mistake("Unknown words are left out", unknown="left out"),
    },
    two_at_once=(dict(signs="with ##", unknown="left out"), "## counted"),
)


# ---- 2.2: as few pieces as possible ------------------------------------------------------------------------


def by_beginnings(method="best", marks=True, none="unknown", most=False, memory=True):
    """The best split of each beginning of the word."""

    def fewest_pieces(word, vocabulary):
        def as_piece(start, end):
            return word[start:end] if start == 0 or not marks else "##" + word[start:end]

        nothing = {"unknown": ["[UNK]"], "none": None, "empty": [], "text": "[UNK]"}[none]
        if method == "greedy":
            pieces, start = [], 0
            while start < len(word):
                ends = [end for end in range(start + 1, len(word) + 1) if as_piece(start, end) in vocabulary]
                if not ends:
                    return nothing
                pieces.append(as_piece(start, ends[-1]))
                start = ends[-1]
            return pieces
        if method == "greedy, else any":
            found = by_beginnings("greedy")(word, vocabulary)
            return by_beginnings()(word, vocabulary) if found == ["[UNK]"] else found
        if method == "from the end":
            found = from_the_end(word, vocabulary)
            return nothing if found is None else found
        if method == "all":
            splits = []

            def spell(start, pieces):
                if start == len(word):
                    splits.append(pieces)
                for end in range(start + 1, len(word) + 1):
                    if as_piece(start, end) in vocabulary:
                        spell(end, [*pieces, as_piece(start, end)])

            spell(0, [])
            return min(splits, key=len) if splits else nothing
        best = [[]]
        for end in range(1, len(word) + 1):
            splits = [
                [*best[start], as_piece(start, end)]
                for start in range(end)
                if best[start] is not None and as_piece(start, end) in vocabulary
            ]
            best.append((max if most else min)(splits, key=len, default=None))
        return nothing if best[-1] is None else best[-1]

    return fewest_pieces


def from_the_end(word, vocabulary):
    """The longest piece from the end; a step back where it leads nowhere."""
    if not word:
        return []
    for start in range(len(word)):
        piece = word[start:] if start == 0 else "##" + word[start:]
        if piece in vocabulary:
            before = from_the_end(word[:start], vocabulary)
            if before is not None:
                return [*before, piece]
    return None


def by_recursion(method="best", marks=True, none="unknown", most=False, memory=True):
    """The best split of each rest of the word, remembered."""

    def fewest_pieces(word, vocabulary):
        sign = "##" if marks else ""

        def rest(start):
            if start == len(word):
                return ()
            best = None
            for end in range(len(word), start, -1):
                piece = (sign if start else "") + word[start:end]
                if piece not in vocabulary:
                    continue
                if method == "greedy":
                    after = remembered(end)
                    return None if after is None else (piece, *after)
                after = remembered(end)
                if after is None:
                    continue
                split = (piece, *after)
                if method == "greedy, else any":
                    return split
                if best is None or (len(split) > len(best) if most else len(split) < len(best)):
                    best = split
            return best

        remembered = functools.cache(rest) if method != "all" else rest
        if method == "from the end":
            answer = from_the_end(word, set(vocabulary))
        elif method == "greedy, else any":
            answer = by_beginnings("greedy")(word, vocabulary)
            answer = None if answer == ["[UNK]"] else answer
            method_left = by_beginnings()(word, vocabulary)
            answer = method_left if answer is None and method_left != ["[UNK]"] else answer
        else:
            answer = remembered(0)
        if answer is None:
            return {"unknown": ["[UNK]"], "none": None, "empty": [], "text": "[UNK]"}[none]
        return list(answer)

    return fewest_pieces


def by_breadth(word, vocabulary):
    """All places that can be reached with one piece more, until the end is reached."""
    reached = {0: []}
    seen = {0}
    while reached and len(word) not in reached:
        further = {}
        for start, pieces in reached.items():
            for end in range(start + 1, len(word) + 1):
                piece = "##" * (start > 0) + word[start:end]
                if piece in vocabulary and end not in seen:
                    seen.add(end)
                    further[end] = pieces + [piece]
        reached = further
    return reached.get(len(word), ["[UNK]"])


FEWEST = Answers(
    "fewest_pieces",
    styles={"beginnings": by_beginnings, "recursion": by_recursion},
    right={"breadth first": by_breadth},
    wrong={
        "the most pieces": mistake("as many pieces as possible", most=True),
        "## forgotten": mistake("Yours has lost it", marks=False),
        "longest first": mistake("and you give up", method="greedy"),
        "longest first, unless it fails": mistake(
            "the longest piece first, as the tokenizer does. Here that leads to three",
            method="greedy, else any",
        ),
        "longest from the end": mistake("longest piece from the end", method="from the end"),
        "None for no split": mistake("you return None", none="none"),
        "an empty list for no split": mistake("you return []", none="empty"),
        "[UNK] is no list": mistake("must be a list", none="text"),
        "every split tried": mistake("seems to try every split", method="all"),
    },
    two_at_once=(dict(marks=False, none="none"), "## forgotten"),
)


# ---- 2.3: merges with strings ------------------------------------------------------------------------------


def with_sub(
    weights=True, before=True, behind=True, escape=True, used_up=False, least="min_count", ties="first"
):
    """As in the chapter."""

    def merges_mended(word_counts, min_count, score):
        spelled = {word: " ".join(split_characters(word)) for word in word_counts}
        while True:
            words = [(spelled[word].split(), n if weights else 1) for word, n in word_counts.items()]
            pieces, pairs = piece_counts(words), pair_counts(words)
            limit = {"min_count": min_count, "ignored": 1, "more": min_count + 1}[least]
            found = [
                (-score(n, pieces[a], pieces[b]), -n, (a, b)) for (a, b), n in pairs.items() if n >= limit
            ]
            if not found:
                return
            value, count, pair = min(found)
            if ties == "last":
                pair = max(entry for entry in found if entry[:2] == (value, count))[2]
            yield pair, -value, -count
            old = " ".join(pair)
            new = pair[0] + pair[1].removeprefix("##")
            if used_up:
                spelled = {
                    word: f" {text} ".replace(f" {old} ", f" {new} ") for word, text in spelled.items()
                }
                continue
            pattern = re.escape(old) if escape else old
            pattern = (r"(?<!\S)" if before else "") + pattern + (r"(?!\S)" if behind else "")
            spelled = {word: re.sub(pattern, lambda match: new, text) for word, text in spelled.items()}

    return merges_mended


def with_search(
    weights=True, before=True, behind=True, escape=True, used_up=False, least="min_count", ties="first"
):
    """Searches for the pair again and again, and collects what it gives in a list."""

    def merges_mended(word_counts, min_count, score):
        texts, counts, merges = [" ".join(split_characters(word)) for word in word_counts], [], []
        counts = [number if weights else 1 for number in word_counts.values()]
        while len(merges) < 200:
            of_piece, of_pair = Counter(), Counter()
            for text, number in zip(texts, counts):
                pieces = text.split()
                for piece in pieces:
                    of_piece[piece] += number
                for pair in zip(pieces[:-1], pieces[1:]):
                    of_pair[pair] += number
            if least != "ignored":
                few = min_count if least == "min_count" else min_count + 1
                of_pair = {pair: number for pair, number in of_pair.items() if number >= few}
            if not of_pair:
                break
            rated = {
                pair: (score(number, of_piece[pair[0]], of_piece[pair[1]]), number)
                for pair, number in of_pair.items()
            }
            top = max(rated.values())
            pair = sorted(pair for pair in rated if rated[pair] == top)[-1 if ties == "last" else 0]
            merges.append((pair, *top))
            new = pair[0] + pair[1][2:]
            pattern = "{} {}".format(*map(re.escape, pair)) if escape else " ".join(pair)
            if not used_up:
                pattern = (r"(?:(?<= )|^)" if before else "") + pattern + (r"(?= |$)" if behind else "")
            for place, text in enumerate(texts):
                done = ""
                if used_up:
                    framed = rf"\g<1>{new}\g<2>"
                    texts[place] = re.sub(f"(^| ){pattern}( |$)", framed, text)
                    continue
                at = 0
                for match in re.finditer(pattern, text):
                    done += text[at : match.start()] + new
                    at = match.end()
                texts[place] = done + text[at:]
        return merges

    return merges_mended


def with_lists(word_counts, min_count, score):
    """No strings at all: allowed, if it gives the same merges."""
    words = {word: [word[0], *("##" + letter for letter in word[1:])] for word in word_counts}
    while True:
        counted = [(words[word], count) for word, count in word_counts.items()]
        singles, pairs = piece_counts(counted), pair_counts(counted)
        ranked = sorted(
            (-score(n, singles[a], singles[b]), -n, (a, b)) for (a, b), n in pairs.items() if n >= min_count
        )
        if not ranked:
            break
        value, count, (first, second) = ranked[0]
        yield (first, second), -value, -count
        for word, pieces in words.items():
            place = 0
            while place < len(pieces) - 1:
                if pieces[place] == first and pieces[place + 1] == second:
                    pieces[place : place + 2] = [first + second.replace("##", "", 1)]
                place += 1
            words[word] = pieces


MERGES = Answers(
    "merges_mended",
    styles={"sub": with_sub, "search": with_search},
    right={"lists": with_lists},
    wrong={
        "last in the alphabet": mistake("not the last", ties="last"),
        "words seen once": mistake("as if it were seen once", weights=False),
        "no borders": mistake("Replacing the string", before=False, behind=False),
        "border behind only": mistake("needed in front of the pair", before=False),
        "border in front only": mistake("needed behind the pair", behind=False),
        "spaces used up": mistake("every other one is replaced", used_up=True),
        "not escaped": mistake("read as part of a pattern", escape=False),
        "minimum count ignored": mistake("minimum count is ignored", least="ignored"),
        "more than the minimum": mistake("exactly `min_count` times", least="more"),
    },
    two_at_once=(dict(weights=False, before=False, behind=False), "words seen once"),  # as it was
)

ANSWERS = (OFFSETS, FEWEST, MERGES)
