"""Interactive figures on the rendered pages.

A cell that shows a `bert_edu.interactive.InteractiveFigure` stores a Vega-Lite chart and a still picture.
MyST-NB renders the picture, with its number, caption and alternative text. Here the chart is put before it,
and the page gets the script that draws it; where it is drawn, the picture is hidden except on paper.
"""

import json

from docutils import nodes

MIME_TYPE = "application/vnd.vegalite.v5+json"
PLACE = '<div class="interactive-figure"><script type="application/json">{}</script></div>'
KEY = "interactive_figures"  # cell index -> its charts, of the page that is being read


def take_charts_out(app, docname, source):
    """Keep the charts of a notebook for later: MyST-NB does not know their type, and says so."""
    app.env.metadata[docname].pop(KEY, None)
    if MIME_TYPE not in source[0] or not str(app.env.doc2path(docname)).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    charts = app.env.temp_data[KEY] = {}
    for index, cell in enumerate(notebook["cells"]):
        bundles = [output.get("data", {}) for output in cell.get("outputs", [])]
        found = [bundle.pop(MIME_TYPE) for bundle in bundles if MIME_TYPE in bundle]
        if found:
            charts[index] = found
    source[0] = json.dumps(notebook)


def put_charts_in(app, doctree):
    """Put each chart before the still picture of its cell."""
    charts = app.env.temp_data.get(KEY, {})
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") == "cell_code" and cell["cell_index"] in charts:
            pictures = list(cell.findall(nodes.image))
            for chart, picture in zip(charts[cell["cell_index"]], pictures, strict=True):
                picture["classes"].append("still")
                text = json.dumps(chart, separators=(",", ":")).replace("</", "<\\/")  # no end of the script
                place = nodes.raw("", PLACE.format(text), format="html")
                picture.parent.insert(picture.parent.index(picture), place)
            app.env.metadata[app.env.docname][KEY] = "drawn"


def add_scripts(app, pagename, templatename, context, doctree):
    """Only pages with such a figure load what it needs."""
    if KEY in app.env.metadata.get(pagename, {}):
        app.add_js_file("interactive.js")
        app.add_css_file("interactive.css")


def setup(app):
    app.connect("source-read", take_charts_out)
    app.connect("doctree-read", put_charts_in)
    app.connect("html-page-context", add_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
