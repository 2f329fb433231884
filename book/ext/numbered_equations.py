"""Every displayed equation of a chapter gets its number, (4.2), and a link of its own, as figures have them.

Sphinx numbers equations that have a label. Chapters have none: Colab would show the label as text. So each
displayed equation gets one here.
"""

from docutils import nodes
from sphinx.transforms import SphinxTransform

CHAPTERS = "notebooks/"


class NumberEquations(SphinxTransform):
    """Labels the displayed equations of a chapter in their order: `notebooks/04_attention:2`."""

    default_priority = 500

    def apply(self):
        docname = self.env.docname
        if not docname.startswith(CHAPTERS):
            return
        domain = self.env.get_domain("math")
        equations = [math for math in self.document.findall(nodes.math_block) if not math.get("label")]
        for place, math in enumerate(equations, start=1):
            label = f"{docname}:{place}"
            math["docname"], math["label"] = docname, label
            domain.note_equation(docname, label, location=math)
            math["number"] = domain.get_equation_number_for(label)
            math["ids"].append(nodes.make_id(f"equation-{place}"))
            self.document.note_explicit_target(math)


def setup(app):
    app.add_transform(NumberEquations)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
