"""What the rendered book needs beyond Jupyter Book itself.

- ``repo:`` and ``colab:`` links, made from the repository's address in ``_config.yml``, its only place:
  ``<repo:README.md>``, ``[try it](colab:notebooks/04_attention.ipynb)``. Links to sheets become such.
- Hidden code cells under their own titles, and equations that can be scrolled with the keyboard.
- A bibliography that names papers as the text does, "Vaswani et al., 2017", and that screen readers can read.
- Words that lead to the glossary: `glossary_links.py`. Numbers for equations: `numbered_equations.py`.
"""

import re
from collections import Counter

from docutils import nodes
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style as UnsrtStyle
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.sorting import BaseSortingStyle
from pybtex.style.template import field, href, join, sentence, tag


def add_repository_links(app, config):
    """Teach Markdown the link schemes ``repo:`` (a file on GitHub) and ``colab:`` (a notebook in Colab)."""
    options = config.html_theme_options
    repository = options["repository_url"].rstrip("/")
    colab = repository.replace("https://github.com", options["launch_buttons"]["colab_url"] + "/github")
    file = f"/blob/{options['repository_branch']}/" + "{{path}}"
    config.myst_url_schemes = {
        "http": None,
        "https": None,
        "mailto": None,
        "repo": {"url": repository + file, "title": "{{path}}"},
        "colab": {"url": colab + file, "title": "Open in Colab"},
    }


def open_sheets_in_colab(app, docname, source):
    """An exercise sheet is no page of the book: a chapter's link to its sheet opens that in Colab."""
    source[0] = re.sub(r"\]\(exercises/(\w+\.ipynb)\)", r"](colab:notebooks/exercises/\1)", source[0])


def title_hidden_cells(app, doctree):
    """Fold a cell that begins with ``# @title Solution 4.1`` under that title, as Colab does."""
    for cell in doctree.findall(nodes.container):
        if "prompt_show" in cell and (code := next(cell.findall(nodes.literal_block), None)) is not None:
            if match := re.match(r"# @title (.+)", code.astext()):
                title = re.sub("^Figure: ", "Code of the figure: ", match[1].replace("`", "").strip())
                cell["prompt_show"] = cell["prompt_hide"] = title


VERBATIM = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)


def keep_numbers_with_their_signs(app, doctree, docname):
    """A line does not end between 60 and %."""
    for text in list(doctree.findall(nodes.Text)):
        if not isinstance(text.parent, VERBATIM):
            joined = re.sub(r"(?<=\d) (?=%)", "\u00a0", text)
            if joined != text:
                text.parent.replace(text, nodes.Text(joined))


def mend_accessibility(app, pagename, templatename, context, doctree):
    """Two faults of the pages as Sphinx and MyST-NB write them."""
    if "body" in context:
        body = context["body"]
        # Every toggle of a hidden cell bears this label; a sighted reader sees another text.
        body = body.replace(' aria-label="Toggle hidden content"', "")
        # An equation wider than the window scrolls: let the keyboard reach it.
        context["body"] = re.sub(r'<div class="((?:amsmath )?math )', r'<div tabindex="0" class="\1', body)


class AuthorYearLabels(BaseLabelStyle):
    """Labels such as "Wu et al., 2016"; a letter tells apart two papers that would share one."""

    def format_labels(self, sorted_entries):
        labels = [self.format_label(entry) for entry in sorted_entries]
        seen = Counter()
        for label in labels:
            seen[label] += 1
            yield label if labels.count(label) == 1 else label + chr(ord("a") + seen[label] - 1)

    @staticmethod
    def format_label(entry):
        names = [" ".join(person.prelast_names + person.last_names) for person in entry.persons["author"]]
        if len(names) > 2:
            authors = f"{names[0]} et al."
        else:
            authors = " and ".join(names)
        return f"{authors}, {entry.fields['year']}"


class OldestFirst(BaseSortingStyle):
    def sorting_key(self, entry):
        return entry.fields["year"], entry.key


class BookStyle(UnsrtStyle):
    """Titles as they stand in references.bib, the paper's own page, and its ``use`` to the book."""

    default_label_style = AuthorYearLabels
    default_sorting_style = OldestFirst

    def format_title(self, entry, which_field, as_sentence=True):
        return sentence[field(which_field)] if as_sentence else field(which_field)

    def format_url(self, entry):
        return href(field("url", raw=True))["read it online"]

    def format_web_refs(self, entry):
        return join(sep=" ")[super().format_web_refs(entry), tag("em")[sentence[field("use")]]]


def visit_citation(translator, node):
    # docutils wraps the entries in role="list" but gives them a role that may not stand in one: a reader that
    # goes by roles then announces an empty list.
    translator.body.append(translator.starttag(node, "div", classes=["citation"]))


def depart_citation(translator, node):
    translator.body.append("</div>\n")


def skip_bare_fields(app, what, name, member, skip, options):
    """A field of a NamedTuple has no docstring of its own; the class's docstring says what it is."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field number") else None


def write_factories(app, what, name, obj, options, signature, annotation):
    """`= <factory>`, a field's default that is made anew each time, is no Python: Sphinx would give up on the
    signature and show its types as they came, with a whole path and a tilde."""
    return signature and signature.replace("= <factory>", "= ..."), annotation


def setup(app):
    app.setup_extension("glossary_links")
    app.setup_extension("numbered_equations")
    app.connect("config-inited", add_repository_links, priority=100)  # before MyST reads its configuration
    app.connect("source-read", open_sheets_in_colab)
    app.connect("doctree-read", title_hidden_cells)
    app.connect("doctree-resolved", keep_numbers_with_their_signs)
    app.connect("html-page-context", mend_accessibility)
    app.connect("autodoc-skip-member", skip_bare_fields)
    app.connect("autodoc-process-signature", write_factories)
    register_plugin("pybtex.style.formatting", "book", BookStyle)
    app.add_node(nodes.citation, override=True, html=(visit_citation, depart_citation))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
