r"""Corpora on the network: fetched once, verified by their hash, kept in a folder for caches (chapter 9).

    name               fetched   licence            what
    tinyshakespeare       1 MB   public domain      40,000 lines of Shakespeare's plays, to try things out
    wikitext-2            5 MB   CC BY-SA           660 of Wikipedia's good and featured articles
    tinystories-small    23 MB   CDLA-Sharing-1.0   27,630 stories in the words of a small child, by GPT-4
    wikitext-103        192 MB   CC BY-SA           28,000 such articles, 100 million words, for a GPU

The first three do for a CPU. The licence is what the publisher states; Shakespeare is out of copyright.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

KINDS = (".txt", ".txt.gz", ".txt.xz", ".zip")


@dataclass(frozen=True)
class Markup:
    """What a text file has in it beside text.

    Attributes:
        between: pattern of the line that stands between two documents, white space put in order; "" is a
            blank line. That line is no text.
        rewrites: patterns and what replaces them, one after the other, before sentences are cut.
    """

    between: str = ""
    rewrites: tuple[tuple[str, str], ...] = ()


PLAIN = Markup()
STORIES = Markup(between=r"<\|endoftext\|>")
# A document is an article, not one of its sections: only the article's title stands between single signs of
# equality (= Title =, = = Section = =). The raw files too are cut into words: "a two @-@ year , $ 1 @.@ 5
# million ( US ) plan" is "a two-year, $1.5 million (US) plan". Raw only means that no word became <unk>.
WIKITEXT = Markup(
    between=r"= [^=](?:.*[^=])? =",
    rewrites=(
        (r" @([-,.])@ ", r"\1"),
        (r" (?=[.,;:!?%)\]]+(?: |$))", ""),
        (r"([(\[$£€]) ", r"\1"),
        (r" (?='(?:s|t|d|m|re|ve|ll)\b)", ""),
        (r'" ([^"]*) "', r'"\1"'),
    ),
)


@dataclass(frozen=True)
class Download:
    """A file on the network that never changes.

    Attributes:
        url: its address; the end says what kind of file it is (`KINDS`).
        sha256: of the file as it comes, in hexadecimal.
        size: of the same, in bytes.
        licence: of the text.
        member: of a .zip, the text file in it for a side; {side} stands for train and for valid.
        markup: how the text file is to be read.
    """

    url: str
    sha256: str
    size: int
    licence: str
    member: str = ""
    markup: Markup = PLAIN


# Not used: s3.amazonaws.com/research.metamind.io, where WikiText was published, is gone (301, then 403:
# pytorch/text#2247, huggingface/tokenizers#1526); wikitext.smerity.com, its author's own copy, has turned
# Python away with 403 (IST-DASLab/Quartet#11).
HUB = "https://huggingface.co/datasets"
DOWNLOADS: dict[str, Download] = {
    # Hash and size: tensorflow/datasets @333639b3, url_checksums/tiny_shakespeare.txt; the same in
    # huggingface/datasets @040102f1, datasets/tiny_shakespeare/dataset_infos.json. Both name the branch; this
    # address names its commit. A document is a speech, and each of its lines a sentence.
    "tinyshakespeare": Download(
        url="https://raw.githubusercontent.com/karpathy/char-rnn/"
        "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        size=1_115_394,
        licence="public domain",
    ),
    # Hash, size and licence: huggingface/datasets @040102f1, datasets/wikitext/dataset_infos.json; the same
    # hash in ml-explore/mlx-data @74ab1fe9, datasets/wikitext.py. Both name the file's first address; this
    # copy is the one that llama.cpp's scripts/get-wikitext-2.sh fetches, at its commit.
    "wikitext-2": Download(
        url=f"{HUB}/ggml-org/ci/resolve/927b3642933080f1b0e811e2f916e14c292992f9/wikitext-2-raw-v1.zip",
        sha256="ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
        size=4_721_645,
        licence="CC BY-SA",
        member="wikitext-2-raw/wiki.{side}.raw",
        markup=WIKITEXT,
    ),
    # The validation file of a collection of 2.2 GB, used here as a small corpus of its own. Hash: that of the
    # file's Git LFS pointer on the hub, by profrodai/profrodai-resources, tinygpt_run_v1.py; the same in many
    # other public repositories, some with this address and size.
    "tinystories-small": Download(
        url=f"{HUB}/roneneldan/TinyStories/resolve/f54c09fd23315a6f9c86f9dc80f725de7d8f9c64/"
        "TinyStoriesV2-GPT4-valid.txt",
        sha256="6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
        size=22_502_601,
        licence="CDLA-Sharing-1.0",
        markup=STORIES,
    ),
    # Hash, size and licence: in the same two files as for wikitext-2. A copy that huggingface/tokenizers#2064
    # looked at; its address names a branch, because we found its commit in one place only. The hash pins it.
    "wikitext-103": Download(
        url=f"{HUB}/mattdangerw/wikitext-103-raw/resolve/main/wikitext-103-raw-v1.zip",
        sha256="91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
        size=191_984_949,
        licence="CC BY-SA",
        member="wikitext-103-raw/wiki.{side}.raw",
        markup=WIKITEXT,
    ),
}


def cache_folder() -> Path:
    """Where downloads and the extracted pydocs are kept: BERT_EDU_DATA, or the system's place for caches."""
    if folder := os.environ.get("BERT_EDU_DATA"):
        return Path(folder)
    import platformdirs

    return Path(platformdirs.user_cache_dir("bert_edu"))


def download(name: str) -> Path:
    """The file of a registered download: fetched if the cache folder has none, and verified each time.

    Raises:
        ConnectionError: when it cannot be fetched.
        PermissionError: when the cache folder cannot be written to.
        ValueError: when what came is not the registered file; it is not kept.
    """
    import pooch  # a slow import that most runs do without

    entry, folder = DOWNLOADS[name], cache_folder()
    file = name + next(kind for kind in KINDS if entry.url.endswith(kind))
    try:
        fetched = pooch.retrieve(
            entry.url, f"sha256:{entry.sha256}", file, folder, progressbar=sys.stderr.isatty()
        )
    except PermissionError as error:
        raise PermissionError(
            f"{name} could not be kept in {folder}, which cannot be written to: name another folder in the "
            f"environment variable BERT_EDU_DATA"
        ) from error
    except OSError as error:
        raise ConnectionError(
            f"{name} could not be fetched from {entry.url} ({type(error).__name__}): check the network, or "
            f"put the file at {folder / file} yourself; the corpus pydocs needs no download"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"what {entry.url} gave is not the file that is registered as {name}: its SHA-256 is not "
            f"{entry.sha256}; nothing was kept, so try again, and if it stays so do not use that file"
        ) from error
    return Path(fetched)
