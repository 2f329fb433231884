"""How much memory reading a large text takes: the peak for 100 MB and for 1 GB, each in a process of its own.

    python benchmarks/streaming.py --text wiki-valid.txt

The text is repeated until the file is that large, and read through `bert_edu.data.corpus.load`.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import write_result

SIZES = {"100 MB": 10**8, "1 GB": 10**9}
READ = """
import resource, sys
from bert_edu.data.corpus import load
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
documents = sum(1 for _ in load(sys.argv[1], "all"))
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, documents)
"""


def peak(path: Path) -> dict:
    """Peak memory of a process before and after reading a file, in MB."""
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True)
    before, after, documents = map(int, done.stdout.split())
    return {"before_mb": round(before / 1024), "after_mb": round(after / 1024), "documents": documents}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="the text to repeat")
    text = parser.parse_args().text.read_bytes().strip() + b"\n\n"
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.txt"
        for name, size in SIZES.items():
            with path.open("wb") as file:
                for _ in range(-(-size // len(text))):
                    file.write(text)
            figures[name] = peak(path)
    write_result("streaming_memory", figures)


if __name__ == "__main__":
    main()
