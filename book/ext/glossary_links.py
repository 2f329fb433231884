"""A word of the glossary leads to its entry where a page first uses it, and shows the entry when pointed at.

Where a page's running text first uses a term, the word becomes a quiet link; not on the page that introduces
the term, the one that its entry names. The definitions stand at the end of the page, hidden, each once:
`book/static/glossary.js` shows them, and screen readers read them with the link. Notebooks stay as they are.
"""

import html
import re

from docutils import nodes

GLOSSARY = "book/glossary"
PAGES = ("notebooks/", "book/scaling")  # those that get such links: how their names begin

# Terms that get none: who has used PyTorch knows them, or they stand mostly in an everyday sense.
WELL_KNOWN = ["batch", "epoch", "gradient", "learning rate", "loss", "seed", "shape", "softmax", "tensor"]
EVERYDAY = ["context", "mini", "piece", "score", "span", "surprise", "value", "window"]
# And where a page uses a term in another sense: arrow keys, control characters, heads or tails.
# In arithmetic, precision is the number of digits.
OTHER_SENSES = {
    "notebooks/00_refresher": ["precision"],
    "notebooks/01_big_picture": ["key"],
    "notebooks/02_wordpiece": ["control"],
    "notebooks/04_attention": ["head"],
    "notebooks/05_multi_head": ["precision"],
    "notebooks/08_inspecting": ["activation"],
    "notebooks/09_pretraining_data": ["head"],
}

# What may hold running text. Headings, figures, tables, cells and their outputs are not entered.
HOLDERS = (nodes.section, nodes.bullet_list, nodes.enumerated_list, nodes.list_item, nodes.note)


class GlossaryLink(nodes.reference):
    """A word that leads to the glossary; it knows the `entry`'s name there and the `definition`."""


def visit_link(translator, node):
    attributes = {"href": node["refuri"], "aria-describedby": f"about-{node['entry']}"}
    translator.body.append(translator.starttag(node, "a", "", CLASS="glossary-link", **attributes))


def depart_link(translator, node):
    translator.body.append("</a>")


def read_entries(glossary):
    """Of each term the name of its entry, its definition, and the page that introduces it."""
    entries = {}
    for term, definition in glossary.findall(nodes.definition_list_item):
        *sentences, chapter = definition[0]
        said = "".join(part.astext() for part in sentences)
        entries[term.astext()] = term["ids"][0], f"{said}({chapter.astext()})", chapter["reftarget"]
    return entries


def pattern(term):
    """A regular expression: the term as a word of its own, also in the plural, or beginning a sentence."""
    word = re.escape(term).replace(r"\ ", r"\s+")
    if term[0].islower():
        word = f"(?i:{word[0]}){word[1:]}"
    word = re.sub("(?<=[^aeiou])y$", "(?:y|ies)", word)
    return rf"(?<![\w-]){word}(?:s|es)?(?![\w-])"


def running_text(holder):
    """The paragraphs in which words may become links, in their order: not in <details>, nor in exercises."""
    folded = 0
    for child in holder:
        if isinstance(child, nodes.raw):
            folded += child.astext().count("<details") - child.astext().count("</details")
        elif isinstance(child, nodes.paragraph) and not folded:
            yield child
        elif isinstance(child, HOLDERS) and not folded and "exercises" not in child["ids"]:
            yield from running_text(child)


def join_lines(paragraph):
    """One text where the source begins a new line, so that a term of two words is found across the two."""
    joined = []
    for child in paragraph:
        if joined and isinstance(child, nodes.Text) and isinstance(joined[-1], nodes.Text):
            child = nodes.Text(joined.pop() + child)
        joined.append(child)
    paragraph[:] = joined


def add_links(app, doctree, docname):
    """Make the links of one page."""
    if app.builder.name != "html" or not docname.startswith(PAGES) or GLOSSARY not in app.env.found_docs:
        return
    entries = read_entries(app.env.get_doctree(GLOSSARY))
    place = app.builder.get_relative_uri(docname, GLOSSARY)
    # Longest first: where "attention mask" is meant, "attention" is not looked for.
    words = sorted(entries, key=len, reverse=True)
    finder = re.compile("|".join(f"({pattern(word)})" for word in words))
    done = {*WELL_KNOWN, *EVERYDAY, *OTHER_SENSES.get(docname, [])}
    done |= {term for term, (_, _, introduced) in entries.items() if introduced == docname}
    for paragraph in running_text(doctree):
        join_lines(paragraph)
        for child in list(paragraph):
            if isinstance(child, nodes.emphasis) and (match := finder.fullmatch(child.astext())):
                done.add(words[match.lastindex - 1])  # in italics: the text is about to explain it
            if not isinstance(child, nodes.Text):
                continue
            parts, end = [], 0
            for match in finder.finditer(child):
                word = words[match.lastindex - 1]
                if word not in done:
                    done.add(word)
                    entry, definition, _ = entries[word]
                    link = GlossaryLink(refuri=f"{place}#{entry}", entry=entry, definition=definition)
                    link += nodes.Text(match[0])
                    parts += [nodes.Text(child[end : match.start()]), link]
                    end = match.end()
            paragraph.replace(child, [*parts, nodes.Text(child[end:])])


def add_definitions(app, pagename, templatename, context, doctree):
    """Put the definitions at the end of the page, where the search does not count them as its text."""
    links = list(doctree.findall(GlossaryLink)) if doctree else []
    for link in links:
        attributes = f'class="definition" id="about-{link["entry"]}" role="tooltip" hidden'
        context["body"] += f"<div {attributes}>{html.escape(link['definition'])}</div>\n"
    if links:
        app.add_js_file("glossary.js", loading_method="defer")


def reread_with_the_glossary(app, docname, source):
    """A page with links is made anew when the glossary has changed."""
    if docname.startswith(PAGES) and GLOSSARY in app.env.found_docs:
        app.env.note_dependency(app.env.doc2path(GLOSSARY))


def setup(app):
    app.add_node(GlossaryLink, html=(visit_link, depart_link))
    app.connect("source-read", reread_with_the_glossary)
    app.connect("doctree-resolved", add_links)
    app.connect("html-page-context", add_definitions)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
