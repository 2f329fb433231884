// Shows what a dotted word means: while the pointer or the keyboard's focus is on it, until Escape is pressed.
// A touch follows the link to the glossary instead. The definitions are in the page: book/ext/glossary_links.py.
(() => {
  const EDGE = 12, GAP = 6, WAIT = 200; // pixels to the window's edge and to the word; milliseconds
  let link, shown, waiting;

  function show(word) {
    hide();
    link = word;
    shown = document.getElementById(link.getAttribute("aria-describedby"));
    shown.hidden = false;
    place();
  }
  // Under the word where it begins (it may go on in the next line), or above it; never outside the window.
  function place() {
    if (!shown) return;
    const [first] = link.getClientRects(), whole = link.getBoundingClientRect();
    const frame = shown.offsetParent.getBoundingClientRect();
    const rightmost = document.documentElement.clientWidth - shown.offsetWidth - EDGE;
    const fits = whole.bottom + GAP + shown.offsetHeight < window.innerHeight;
    const top = fits ? whole.bottom + GAP : whole.top - GAP - shown.offsetHeight;
    shown.style.left = `${Math.max(EDGE, Math.min(first.left, rightmost)) - frame.left}px`;
    shown.style.top = `${top - frame.top}px`;
  }
  function hide() {
    clearTimeout(waiting);
    if (shown) shown.hidden = true;
    shown = undefined;
  }
  function later(action) {
    clearTimeout(waiting);
    waiting = setTimeout(action, WAIT);
  }

  for (const word of document.querySelectorAll("a.glossary-link")) {
    word.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && later(() => show(word)));
    word.addEventListener("pointerleave", () => later(hide));
    word.addEventListener("focus", () => word.matches(":focus-visible") && show(word));
    word.addEventListener("blur", hide);
  }
  // The pointer may move onto a definition, to select its text, say.
  for (const definition of document.querySelectorAll(".definition")) {
    definition.addEventListener("pointerenter", () => clearTimeout(waiting));
    definition.addEventListener("pointerleave", () => later(hide));
  }
  // The page scrolls to a word with the focus, and moves when a figure above it is drawn.
  for (const event of ["scroll", "resize"]) window.addEventListener(event, place);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
})();
