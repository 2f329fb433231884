"""How `pytest` verifies the notebooks: nbval runs every cell, and here figures are compared too.

nbval compares the text of every output but skips images. `NotebookFile` and `NotebookCell` add them: a stored
figure and the one drawn now are both blurred by a pixel, and no colour channel may then differ by more than
`TOLERANCE`.

Stored outputs are those of the versions pinned in requirements.txt. With these `pytest` is *strict*; anywhere
else it is *lax*: it runs each cell and holds its assertions, but compares no output. The header of the run
says which and why.
"""

import base64
import io
import os
import platform
import re
import signal
import sys
from importlib import metadata
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile
from PIL import Image, ImageChops, ImageFilter

from notebooks import kernel_environment

ROOT = Path(__file__).parent
PLATFORM = ("Linux", "x86_64", "3.11")  # where the stored outputs come from: system, processor, Python
# The packages that decide what a cell prints or draws; another Sphinx, say, changes no output.
DECISIVE = (
    "torch",
    "numpy",
    "pandas",
    "matplotlib",
    "seaborn",
    "altair",
    "tokenizers",
    "transformers",
    "ipython",
)

# In levels of 255. The last digits of a number can move a colour to its neighbour in a map of 256 colours, at
# most 5 levels away in viridis, cividis, RdBu, coolwarm and the like. What is caught, as tried: a curve that
# moves by a fifth of a pixel, one cell of a heat map that changes by 2 to 4 % of the map's range, a digit in
# a label, a point.
TOLERANCE = 8
BLUR = 1  # pixels; an edge that anti-aliasing draws a little differently passes

# The unit tests run in this process: no network, no window, and one thread: two that share a busy core
# wait for each other, and a small training run takes many times longer.
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", MPLBACKEND="agg", OMP_NUM_THREADS="1")

# A shell that starts us in the background has Ctrl-C ignored, by us and by every program that we start; the
# tests of Ctrl-C send it to themselves and to such a program.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--notebook-outputs",
        choices=("auto", "strict", "lax"),
        default="auto",
        help="compare the notebooks' outputs and figures with the stored ones (strict), or only run the "
        "cells (lax); auto: strict with the pinned versions, else lax",
    )


def pytest_configure(config):
    choice = config.option.notebook_outputs
    config.notebook_deviations = deviations()
    if choice == "lax" or (choice == "auto" and config.notebook_deviations):
        config.option.nbval_lax = True


def pytest_report_header(config):
    if config.option.nbval_lax:
        why = "; ".join(config.notebook_deviations) or "asked for"
        return f"notebooks: lax, cells run but outputs are not compared: {why}"
    return "notebooks: strict, outputs and figures are compared with the stored ones"


def pins():
    """The exact versions of requirements.txt, by package name."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("#")[0].strip().split("==") for line in lines if re.match(r"[\w.-]+==", line))


def deviations():
    """In what this environment differs from the one of the stored outputs: sentences, none if in nothing."""
    found = []
    here = (platform.system(), platform.machine(), f"{sys.version_info.major}.{sys.version_info.minor}")
    if here != PLATFORM:
        found.append(f"this is {' '.join(here)}, the outputs are from {' '.join(PLATFORM)}")
    pinned = pins()
    for name in DECISIVE:
        try:
            installed = metadata.version(name).split("+")[
                0
            ]  # torch 2.13.0+cpu computes on a CPU what 2.13.0 does
        except metadata.PackageNotFoundError:
            installed = "not installed"
        if installed != pinned[name]:
            found.append(f"{name} is {installed}, the outputs are from {pinned[name]}")
    return found


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Put our collector in the place of nbval's."""
    collectors = yield
    return [
        NotebookFile.from_parent(parent, path=file_path) if isinstance(collector, IPyNbFile) else collector
        for collector in collectors
    ]


class NotebookFile(IPyNbFile):
    def setup(self):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in kernel_environment(self.path).items():
                if value is None:
                    patch.delenv(name, raising=False)
                else:
                    patch.setenv(name, value)
            super().setup()  # the kernel starts with a copy of this environment

    def collect(self):
        for item in super().collect():
            yield NotebookCell.from_parent(
                self, name=item.name, cell_num=item.cell_num, cell=item.cell, options=item.options
            )


class NotebookCell(IPyNbCell):
    def compare_outputs(self, test, ref, skip_compare=None):
        same = super().compare_outputs(test, ref, skip_compare)
        differences = compare_figures(figures(ref), figures(test))
        for difference in differences:
            self.comparison_traceback.append(
                f"{self.parent.name}, cell {self.cell_num} (id {self.cell.id}): {difference}"
            )
        return same and not differences


def figures(outputs):
    """The images among a cell's outputs, in their order."""
    encoded = (output.get("data", {}).get("image/png") for output in outputs)
    return [Image.open(io.BytesIO(base64.b64decode(image))).convert("RGBA") for image in encoded if image]


def compare_figures(stored, drawn):
    """In what the figures `drawn` now differ from those `stored`: sentences, none if in nothing."""
    if len(stored) != len(drawn):
        return [f"{len(stored)} figures are stored, {len(drawn)} were drawn"]
    differences = []
    for number, (before, now) in enumerate(zip(stored, drawn, strict=True), start=1):
        if before.size != now.size:
            differences.append(
                f"figure {number} is stored with {before.size} pixels and was drawn with {now.size}"
            )
            continue
        difference = blurred_difference(before, now)
        largest = difference.getextrema()[1]
        if largest > TOLERANCE:
            left, top, right, bottom = difference.point(lambda level: 255 * (level > TOLERANCE)).getbbox()
            differences.append(
                f"figure {number} differs from the stored one by up to {largest} of 255 levels "
                f"({TOLERANCE} are allowed), "
                f"within x {left}-{right}, y {top}-{bottom} of {before.size[0]} x {before.size[1]} pixels"
            )
    return differences


def blurred_difference(one, other):
    """Grey image: at each pixel the largest absolute difference of the colour channels and opacity."""
    blur = ImageFilter.GaussianBlur(BLUR)
    # "RGBa" is RGB times opacity: what lies below a fully transparent pixel does not count.
    one, other = (image.convert("RGBa").filter(blur) for image in (one, other))
    first, *others = ImageChops.difference(one, other).split()
    for channel in others:
        first = ImageChops.lighter(first, channel)
    return first
