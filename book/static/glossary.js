// Shows what a dotted word means: while the pointer or the keyboard's focus is on it, until Escape is pressed.
// A touch follows the link to the glossary instead. The definitions are in the page: book/ext/glossary_links.py.
(() => {
  const EDGE = 12, GAP = 6, WAIT = 200; // pixels to the window's edge and to the word; milliseconds
  let shown, waiting;

  function show(link) {
    hide();
    shown = document.getElementById(link.getAttribute("aria-describedby"));
    shown.hidden = false;
    // Beside the word where it begins (it may go on in the next line), and never outside the window.
    const word = link.getClientRects()[0];
    const frame = shown.offsetParent.getBoundingClientRect();
    const rightmost = document.documentElement.clientWidth - shown.offsetWidth - EDGE;
    const below = word.bottom + GAP + shown.offsetHeight < window.innerHeight;
    const top = below ? link.getBoundingClientRect().bottom + GAP : word.top - GAP - shown.offsetHeight;
    shown.style.left = `${Math.max(EDGE, Math.min(word.left, rightmost)) - frame.left}px`;
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

  for (const link of document.querySelectorAll("a.glossary-link")) {
    link.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && later(() => show(link)));
    link.addEventListener("pointerleave", () => later(hide));
    link.addEventListener("focus", () => link.matches(":focus-visible") && show(link));
    link.addEventListener("blur", hide);
  }
  // The pointer may move onto a definition, to select its text, say.
  for (const definition of document.querySelectorAll(".definition")) {
    definition.addEventListener("pointerenter", () => clearTimeout(waiting));
    definition.addEventListener("pointerleave", () => later(hide));
  }
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
})();
