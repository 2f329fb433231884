"""The author's one tool: write chapters as text, execute them, and keep the stored notebooks clean.

    python book/tools/notebooks.py import draft.py notebooks/04_attention.ipynb   # percent script -> notebook
    python book/tools/notebooks.py execute notebooks/04_attention.ipynb           # run, store outputs, clean
    python book/tools/notebooks.py export notebooks/04_attention.ipynb draft.py   # notebook -> percent script

`import` keeps the id of every cell whose source did not change, so that a change in one cell is a change of
one cell in git too; it stores no outputs, so `execute` comes next. Nothing is written when a cell raises. The
first code cell is always the set-up cell below, stamped with the repository's address from `_config.yml` and
the package's version.

The tests take from here what a clean notebook is and in which environment kernels run (`conftest.py`,
`tests/test_notebooks.py`).
"""

import argparse
import ast
import hashlib
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]

# The environment of every kernel whose outputs are stored or compared. A stored number must not depend on the
# machine that computes it again: sums are split by the number of threads and by the width of the processor's
# vectors, so we take one thread and AVX2, which every x86-64 processor of the last ten years has, for each of
# the four libraries that choose (PyTorch's own kernels, MKL, oneDNN, NumPy's OpenBLAS). Readers need none of
# this: their last digits may differ. PYTHONHASHSEED is left alone on purpose: a cell that prints a set is
# different for each reader, and should fail here.
KERNEL_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "CUDA_VISIBLE_DEVICES": "",  # outputs are those of a CPU
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # figures become outputs
    "HF_HUB_OFFLINE": "1",  # no chapter may need the network
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "BERT_EDU_WORK": "",  # a long run begins anew
}

# Chapters that train for minutes get all of the processor instead: their curves are not compared digit by
# digit but asserted to lie in a band.
TRAINING = ("11_training_loop", "13_classification", "14_tagging", "15_question_answering")
NARROW = [name for name, value in KERNEL_ENVIRONMENT.items() if value in ("1", "avx2", "AVX2", "Haswell")]


def kernel_environment(path):
    """The environment variables for the kernel of the notebook at `path`; None: without this variable."""
    if Path(path).stem not in TRAINING:
        return KERNEL_ENVIRONMENT
    return KERNEL_ENVIRONMENT | dict.fromkeys(NARROW)


CELL_SECONDS = 600  # a cell that takes longer than this hangs

NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = ("cellView", "jupyter", "mystnb", "tags")  # of "jupyter" only "source_hidden" stays
# What jupytext itself puts on a cell when it reads a script.
JUPYTEXT_METADATA = (
    "cell_depth",
    "cell_marker",
    "lines_to_end_of_cell_marker",
    "lines_to_next_cell",
    "title",
)

SET_UP_TITLE = "# @title Set up: run this first"
SET_UP_METADATA = {"cellView": "form", "tags": ["hide-cell"]}
SET_UP_CELL = (
    SET_UP_TITLE
    + '''
import importlib.util
import sys

if "google.colab" in sys.modules and not importlib.util.find_spec("bert_edu"):  # Colab's own torch stays
    %pip install -q "bert-edu[viz] @ git+{address}@v{version}"
try:
    import bert_edu.notebook

    bert_edu.notebook.ready()
except (ImportError, OSError) as error:
    sys.exit(f"""{{error}}
This kernel is Python {{sys.version.split()[0]}}, {{sys.executable}}.
Choose one that has the book's package, or put it into this one (Python 3.11 or later): run
  %pip install "bert-edu[viz] @ git+{address}@v{version}"
in a cell, and then this cell again.""")'''
)


def repository_address(root=ROOT):
    """The repository's address, from the one place where it stands: `repository.url` in _config.yml."""
    return yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]


def package_version():
    """`__version__` of bert_edu, read without importing it (which would import torch)."""
    for statement in ast.parse((ROOT / "bert_edu" / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__":
            return ast.literal_eval(statement.value)
    raise ValueError("bert_edu/__init__.py has no line `__version__ = ...`")


def set_up_cell():
    """The source of the first code cell of every notebook."""
    return SET_UP_CELL.format(address=repository_address(), version=package_version())


def is_set_up(cell):
    return cell.cell_type == "code" and cell.source.startswith(SET_UP_TITLE)


def clean(notebook):
    """Bring `notebook` into its stored form: metadata, ids and the set-up cell. Outputs stay."""
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5  # the first version in which cells have ids
    stamp_set_up_cell(notebook)
    taken = set()
    for cell in notebook.cells:
        cell.source = cell.source.strip("\n")
        cell.metadata = clean_cell_metadata(cell.metadata)
        if cell.get("id") is None or cell.id in taken:
            cell.id = new_id(cell, taken)
        taken.add(cell.id)


def clean_cell_metadata(metadata):
    kept = nbformat.from_dict({key: metadata[key] for key in CELL_METADATA if metadata.get(key)})
    if "jupyter" in kept:
        hidden = kept.pop("jupyter").get("source_hidden")
        if hidden:
            kept["jupyter"] = {"source_hidden": True}
    return kept


def stamp_set_up_cell(notebook):
    """Write the set-up cell anew where it stands, or put it after the title if there is none yet."""
    for cell in notebook.cells:
        if is_set_up(cell):
            break
    else:
        cell = nbformat.v4.new_code_cell()
        notebook.cells.insert(1, cell)
    cell.id, cell.source, cell.metadata = "set-up", set_up_cell(), nbformat.from_dict(SET_UP_METADATA)


def new_id(cell, taken):
    """An id made from the cell's content, so that the same draft gives the same notebook."""
    copy = 0
    while True:
        identity = hashlib.sha256(f"{cell.cell_type} {copy} {cell.source}".encode()).hexdigest()[:8]
        if identity not in taken:
            return identity
        copy += 1


def read(path):
    return nbformat.read(path, as_version=4)


def write(notebook, path):
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def run(notebook, path):
    """Run a notebook from top to bottom in a fresh kernel, as the one stored at `path`; its outputs change.

    Raises nbclient's CellExecutionError when a cell raises.
    """
    from nbclient import NotebookClient
    from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager

    client = NotebookClient(
        notebook,
        kernel_name=CURRENT_ENV_KERNEL_NAME,  # this very Python, as in the tests
        timeout=CELL_SECONDS,
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(Path(path).resolve().parent)}},
    )
    client.create_kernel_manager()
    client.km.kernel_spec_manager = NbvalKernelspecManager()
    environment = os.environ | kernel_environment(path)
    environment = {name: value for name, value in environment.items() if value is not None}
    client.execute(env=environment, stderr=subprocess.DEVNULL)  # of the kernel, not of cells


def execute(path):
    """Run the notebook at `path`, store its outputs in place; if a cell raises, the file stays as it was."""
    notebook = read(path)
    clean(notebook)
    run(notebook, path)
    clean(notebook)  # the kernel adds what it knows of itself
    write(notebook, path)


# ---- How long a chapter takes ------------------------------------------------------------------------------

# A careful reader of technical prose; 238 words a minute is the mean for plain English (Brysbaert, "How many
# words do we read per minute?", Journal of Memory and Language 109, 2019).
WORDS_A_MINUTE = 180
SECONDS_A_LINE = 3  # of code that the page shows
SECONDS_A_PREDICTION = 30  # each time the reader is asked to guess first
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
NOT_PROSE = re.compile(r"<[^>]+>|\(https?://[^)]*\)|^:::.*$", re.MULTILINE)  # markup, addresses, fences


def minutes(notebook, run_seconds):
    """Minutes to read and run a chapter up to its exercises, to the next five.

    Args:
        run_seconds: how long its cells take, as measured.
    """
    words = lines = predictions = 0
    for cell in notebook.cells:
        if re.search(r"^## Exercises", cell.source, re.MULTILINE):
            break
        if cell.cell_type == "markdown":
            words += len(NOT_PROSE.sub(" ", cell.source).split())
            predictions += cell.source.count("**Predict")
        elif not HIDDEN & set(cell.metadata.get("tags", [])):
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
    seconds = lines * SECONDS_A_LINE + predictions * SECONDS_A_PREDICTION + run_seconds
    return 5 * max(1, round((words / WORDS_A_MINUTE + seconds / 60) / 5))


def import_script(script, path):
    """Turn the percent script at `script` into the notebook at `path`, without outputs."""
    import jupytext

    notebook = jupytext.read(script, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        unknown = sorted(set(cell.metadata) - set(CELL_METADATA) - set(JUPYTEXT_METADATA))
        if unknown:
            raise ValueError(
                f"{script}: cell {number} has metadata {', '.join(unknown)}; "
                f"a cell may have {', '.join(CELL_METADATA)}"
            )
    known = defaultdict(list)
    if Path(path).exists():
        for cell in read(path).cells:
            known[cell.cell_type, cell.source].append(cell.id)
    for cell in notebook.cells:
        cell.source = cell.source.strip("\n")
        same = known[cell.cell_type, cell.source]
        cell.id = same.pop(0) if same else None
    clean(notebook)
    write(notebook, path)


def export_script(path, script):
    """Write the notebook at `path` as a percent script: sources and cell metadata, no outputs."""
    import jupytext

    notebook = read(path)
    notebook.metadata = nbformat.from_dict(
        {"jupytext": {"notebook_metadata_filter": "-all", "cell_metadata_filter": "all"}}
    )
    Path(script).write_text(jupytext.writes(notebook, fmt="py:percent"), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("execute", help="run notebooks in place and store their outputs")
    command.add_argument("notebooks", nargs="+", type=Path)
    command = commands.add_parser("import", help="percent script -> notebook")
    command.add_argument("script", type=Path)
    command.add_argument("notebook", type=Path)
    command = commands.add_parser("export", help="notebook -> percent script")
    command.add_argument("notebook", type=Path)
    command.add_argument("script", type=Path)
    arguments = parser.parse_args()

    if arguments.command == "import":
        import_script(arguments.script, arguments.notebook)
    elif arguments.command == "export":
        export_script(arguments.notebook, arguments.script)
    else:
        from nbclient.exceptions import CellExecutionError

        for path in arguments.notebooks:
            try:
                execute(path)
            except CellExecutionError as error:
                sys.exit(f"{path}: a cell failed, nothing was written\n{error}")
            print(f"{path}: executed")


if __name__ == "__main__":
    main()
