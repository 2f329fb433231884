"""Gives the project another address, for a fork: every file that names the old one names the new one then.

    python book/tools/repository.py https://github.com/me/bert-course

The address stands in _config.yml. Buttons and links of the book are made from it; the first cell of each
notebook and some papers of the project repeat it, and are rewritten here.
"""

import argparse
import re
import subprocess
from pathlib import Path

import notebooks

ADDRESS = re.compile(r"https://[\w.-]+/[\w.-]+/[\w.-]*[\w-]")


def rewrite(new: str, root: Path = notebooks.ROOT) -> list[Path]:
    """Replaces the address in every tracked text file; returns those that changed.

    Raises:
        ValueError: when `new` does not look like a repository's address.
    """
    new = new.removesuffix("/").removesuffix(".git")
    if not ADDRESS.fullmatch(new):
        raise ValueError(f"a repository's address looks like https://github.com/name/project, not {new!r}")
    old = notebooks.repository_address(root)
    whole = re.compile(re.escape(old) + r"(?![\w-])")  # not the beginning of a longer name
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True)
    changed = []
    for name in filter(None, listed.stdout.split("\0")):
        file = root / name
        try:
            text = file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):  # a picture, weights, or deleted
            continue
        if whole.search(text):
            file.write_text(whole.sub(new, text), encoding="utf-8")
            changed.append(file)
    return changed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="of the fork")
    try:
        changed = rewrite(parser.parse_args().address)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{len(changed)} files changed")


if __name__ == "__main__":
    main()
