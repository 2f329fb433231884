"""The README's pictures: parts of the rendered book as a reader sees them, in book/static.

python book/tools/pictures.py _build/html    # a book that is built already
"""

import sys
from pathlib import Path

import pdf
from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).resolve().parent.parent / "static"
WIDTH, HEIGHT, HEADER = 1280, 800, 64  # of the window, and of what always covers its top

# Each picture: the page, and what stands at the top of the window.
PICTURES = {
    "page_attention.png": ("notebooks/04_attention.html", "#from-loop-to-matrix"),
    "page_explorer.png": ("notebooks/01_big_picture.html", "figure:has(.interactive-figure) >> nth=1"),
}


def take(site: Path):
    """Takes all pictures from the pages under `site`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=pdf.browser_program(), args=pdf.ARGUMENTS)
        window = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        for name, (page, selector) in PICTURES.items():
            window.goto((site / page).resolve().as_uri(), wait_until="networkidle")
            top = window.locator(selector).first
            top.scroll_into_view_if_needed()
            window.wait_for_timeout(2000)  # figures near the window are drawn when it comes close
            top.evaluate(f"element => scrollBy(0, element.getBoundingClientRect().top - {HEADER})")
            window.wait_for_timeout(500)
            window.screenshot(path=FOLDER / name)
            Image.open(FOLDER / name).quantize(128).save(FOLDER / name, optimize=True)  # a third of the size
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
