"""The page that a student gets back."""

import html

STYLE = """\
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
li { margin: 0.2rem 0 }
.message { margin: 0.2rem 0 0.6rem; padding: 0.4rem 0.8rem; border-left: 3px solid #c60 }
pre { white-space: pre-wrap }
"""


def page(student: str, result: dict) -> str:
    """What the checks found, as an HTML page that needs nothing else.

    Args:
        student: the name on the page.
        result: as `worker.results` gives it. All text in it may come from a student: none of it is mark-up.
    """
    chapter = f"Chapter {result['chapter']}: your exercises" if result["chapter"] else "Your exercises"
    parts = [f"<h1>{chapter}</h1>", f"<p>{text(student)}</p>"]
    if result["problem"]:
        parts.append(f"<p>Your notebook could not be graded: {text(result['problem'])}.</p>")
    parts += [f"<p>Note: {text(note)}.</p>" for note in result["notes"]]
    for entry in result["exercises"]:
        parts += exercise_part(entry)
    if quiz := result.get("quiz"):
        parts.append(f"<h2>Quiz</h2>\n<p>{quiz['right']} of {quiz['questions']} right.</p>")
    if result.get("open_answer"):
        parts.append(f"<h2>Open question</h2>\n<pre>{text(result['open_answer'])}</pre>")
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{text(chapter)}</title><style>
{STYLE}</style></head>
<body><main>
{body}
</main></body></html>
"""


def exercise_part(entry: dict) -> list[str]:
    """An exercise: what holds, the first thing that does not explained, the rest named."""
    parts = [f"<h2>Exercise {text(entry['number'])}, {text(entry['name'])}: {text(entry['title'])}</h2>"]
    if entry["verdict"]:
        return [*parts, f'<p class="message">{text(entry["verdict"])}</p>']
    held = sum(finding["message"] is None for finding in entry["findings"])
    parts.append(f"<p>{held} of {len(entry['findings'])} mechanisms hold.</p>\n<ul>")
    explained = False
    for finding in entry["findings"]:
        if finding["message"] is None:
            parts.append(f"<li>Holds: {text(finding['mechanism'])}</li>")
        elif explained:
            parts.append(f"<li>Later: {text(finding['mechanism'])}</li>")
        else:
            message = f'<div class="message">{text(finding["message"])}</div>'
            parts.append(f"<li><strong>Does not hold: {text(finding['mechanism'])}</strong>{message}</li>")
            explained = True
    return [*parts, "</ul>"]


def text(value) -> str:
    return html.escape(str(value))
