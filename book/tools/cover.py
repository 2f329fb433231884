"""Draws the cover's small animation, book/static/filling.svg: the shipped model fills two gaps in a sentence.

python book/tools/cover.py

The words and their probabilities are the model's own. The animation is CSS inside the picture, without a
script. It plays once, in under five seconds, and rests at its end; for a reader who asked for less motion it
shows only the end.
"""

from pathlib import Path

import torch

from bert_edu import load_mini

PICTURE = Path(__file__).resolve().parent.parent / "static" / "filling.svg"
SENTENCE = "She closed the [MASK] and went to [MASK]."
GUESSES = 3  # for each gap
GAP = "[MASK]"
CAPTION = "Two words are hidden. BERT reads the rest:"

# The picture's measures, in its own pixels; the colours are those of cover.svg.
WIDTH, HEIGHT, LEFT = 530, 218, 25
LETTER = 12  # all letters of the sentence are equally wide, so that the place of each gap is known
LINE, FIRST_GUESS, NEXT_GUESS = 88, 138, 27
COLUMNS = ((205, 271), (400, 440))  # under each gap: where the guessed words begin, and where their bars do
BAR = 80  # a bar that means 100 %
PAPER, INK, QUIET, GOLD, BLUE, BOX = "#14243d", "#f4efe4", "#9fb3cf", "#f2b84b", "#7fb2f0", "#2a4671"

STYLE = f"""
text {{
  fill: {INK};
  font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif;
}}
.sentence text {{
  font-family: ui-monospace, 'DejaVu Sans Mono', 'Liberation Mono', Menlo, Consolas, monospace;
}}
.mask {{ opacity: 0; }}
@media (prefers-reduced-motion: no-preference) {{
  .mask {{ animation: leave 0.5s 3.6s both; }}
  .word {{ animation: come 0.5s 3.9s both; }}
  .guess {{ animation: come 0.4s both; }}
  .bar {{ animation: grow 0.8s 1.9s both ease-out; transform-box: fill-box; transform-origin: left; }}
}}
@keyframes come {{ from {{ opacity: 0; }} }}
@keyframes leave {{ from {{ opacity: 1; }} }}
@keyframes grow {{ from {{ transform: scaleX(0); }} }}
"""


def guesses() -> list[list[tuple[str, int]]]:
    """For each gap of the sentence, left to right, the best guesses and their probabilities in per cent.

    Both gaps are filled in one pass: neither guess knows of the other.
    """
    model, tokenizer = load_mini()
    ids = torch.tensor([tokenizer(SENTENCE).input_ids])  # (1, T)
    with torch.no_grad():
        scores = model(ids).prediction_logits[ids == tokenizer.mask_token_id]  # (2, V)
    best = scores.softmax(-1).topk(GUESSES)
    return [
        [(tokenizer.id_to_token(token), round(100 * chance)) for token, chance in zip(tokens, chances)]
        for tokens, chances in zip(best.indices.tolist(), best.values.tolist())
    ]


def picture(found: list[list[tuple[str, int]]]) -> str:
    """The SVG for these guesses."""
    filled = SENTENCE
    for (word, _), *_ in found:
        filled = filled.replace(GAP, word, 1)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" \
height="{HEIGHT}" role="img">
<title>{SENTENCE} becomes: {filled}</title>
<style>{STYLE}</style>
<rect width="{WIDTH}" height="{HEIGHT}" rx="20" fill="{PAPER}"/>
<text x="{LEFT}" y="42" font-size="17" style="fill: {QUIET}">{CAPTION}</text>
<text class="guess" x="{LEFT}" y="{FIRST_GUESS}" font-size="16" style="animation-delay: 1s">It guesses:</text>
<g class="sentence" font-size="20">
{sentence(found)}
</g>
{"".join(column(*places, gap) for places, gap in zip(COLUMNS, found))}</svg>
"""


def sentence(found) -> str:
    """The sentence, in pieces of known width: text, gap, text, gap, text."""
    parts, at = [], LEFT
    for number, text in enumerate(SENTENCE.split(GAP)):
        if number:
            (best, _), *_ = found[number - 1]
            width = len(GAP) * LETTER
            middle = at + width / 2
            parts += [
                f'<rect x="{at - 2}" y="{LINE - 23}" width="{width + 4}" height="32" rx="7" '
                f'fill="{BOX}" stroke="{GOLD}" stroke-width="1.5"/>',
                f'<text class="mask" x="{at}" y="{LINE}" textLength="{width}" '
                f'style="fill: {GOLD}">{GAP}</text>',
                f'<text class="word" x="{middle:g}" y="{LINE}" text-anchor="middle" font-weight="700" '
                f'style="fill: {GOLD}">{best}</text>',
            ]
            at += width
        start = at + LETTER * (len(text) - len(text.lstrip()))
        words = text.strip()
        parts.append(f'<text x="{start}" y="{LINE}" textLength="{len(words) * LETTER}">{words}</text>')
        at += len(text) * LETTER
    return "\n".join(parts)


def column(x: int, bars: int, gap) -> str:
    """The guesses for one gap: word, bar, probability."""
    rows = []
    for place, (word, chance) in enumerate(gap):
        y = FIRST_GUESS + place * NEXT_GUESS
        long = max(BAR * chance / 100, 1)
        colour = GOLD if place == 0 else BLUE
        rows.append(
            f'<g class="guess" style="animation-delay: {1 + 0.2 * place:.1f}s">'
            f'<text x="{x}" y="{y}" font-size="16">{word}</text>'
            f'<rect class="bar" x="{bars}" y="{y - 11}" width="{long:.1f}" height="11" rx="3" '
            f'fill="{colour}"/><text x="{bars + long + 7:.1f}" y="{y}" font-size="14" '
            f'style="fill: {QUIET}">{chance} %</text></g>\n'
        )
    return "".join(rows)


if __name__ == "__main__":
    PICTURE.write_text(picture(guesses()), encoding="utf-8")
    print(f"{PICTURE}: {guesses()}")
