// Draws the interactive figures of a page, each when the reader comes near it. The libraries lie beside this
// file, in vega/; until they are there, and where a figure cannot be drawn, its still picture stays.
(() => {
  const folder = new URL("vega/", document.currentScript.src);
  const files = ["vega.min.js", "vega-lite.min.js", "vega-embed.min.js"]; // each needs the one before
  let libraries;

  const load = (file) =>
    new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL(file, folder);
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${script.src} cannot be loaded`));
      document.head.append(script);
    });
  const loadLibraries = () =>
    (libraries ??= files.reduce((before, file) => before.then(() => load(file)), Promise.resolve()));

  async function draw(place) {
    const chart = JSON.parse(place.querySelector("script").textContent);
    await loadLibraries();
    const canvas = document.createElement("div");
    place.append(canvas);
    await vegaEmbed(canvas, chart, chart.usermeta.embedOptions);
    readAloud(place, canvas);
    place.parentElement.classList.add("live"); // the style sheet hides the still picture
  }

  // A screen reader hears what a change leads to: the sentence that stands above each figure.
  function readAloud(place, canvas) {
    const spoken = document.createElement("p");
    spoken.className = "spoken";
    spoken.setAttribute("aria-live", "polite");
    place.append(spoken);
    const sentence = () =>
      [...canvas.querySelectorAll(".message_marks text")].map((text) => text.textContent).join(". ");
    let waiting, last = sentence();
    new MutationObserver(() => {
      clearTimeout(waiting); // a slider that is dragged passes many values
      waiting = setTimeout(() => {
        if (sentence() !== last) spoken.textContent = last = sentence();
      }, 400);
    }).observe(canvas, { subtree: true, childList: true, characterData: true });
  }

  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((entry) => entry.isIntersecting)) {
        watch.unobserve(entry.target);
        draw(entry.target).catch((error) => console.error(`This figure stays still: ${error.message}`));
      }
    },
    { rootMargin: "600px" },
  );
  // Not before the pictures have their heights: until then a figure far down the page seems to be near.
  window.addEventListener("load", () =>
    document.querySelectorAll(".interactive-figure").forEach((place) => watch.observe(place)),
  );
})();
