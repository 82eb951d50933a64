"use strict";
{
  const find = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/\s+/g, " ");

  // Search and filters. Texts are taken before the figures come into the claims.
  const form = find("#page-filters");
  const search = find("#page-search");
  const source = find("#page-source");
  const claims = all(".claim").map((element) => ({
    element,
    entry: find(`[data-claim="${element.id}"]`),
    text: plain(`${element.id} ${element.textContent}`),
  }));

  const filter = () => {
    const words = plain(search.value).split(" ");
    const verdicts = all('[name="verdict"]:checked').map((box) => box.value);
    let shown = 0;
    for (const { element, entry, text } of claims) {
      const match =
        words.every((word) => text.includes(word)) &&
        verdicts.includes(element.dataset.verdict) &&
        (source.value === "" || source.value === element.dataset.source);
      element.hidden = entry.hidden = !match;
      shown += match;
    }
    find("#page-count").value = `${shown} of ${claims.length} claims`;
    find("#page-nothing").hidden = shown > 0;
  };
  const showAll = () => {
    form.reset();
    filter();
  };
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter)); // fields are empty only after this event
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
    if (event.key === "/" && event.target !== search) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape") {
      showAll();
    }
  });

  // Each figure is stored once, and shown in every claim that it belongs to.
  for (const place of all("[data-figure]")) {
    const figure = find(`#figure-${place.dataset.figure}`).cloneNode(true);
    figure.removeAttribute("id");
    place.append(figure);
  }

  // Figures in full size.
  const zoom = find("#page-zoom");
  const large = zoom.querySelector("img");
  let scale = 1;
  const resize = (factor) => {
    scale = Math.min(Math.max(scale * factor, 1), 8);
    large.style.width = `${100 * scale}%`;
  };
  const enlarge = (figure) => {
    const image = figure.querySelector("img");
    large.src = image.src;
    large.alt = image.alt;
    find("#page-zoom-title").textContent = figure.dataset.name.replaceAll("_", " ");
    zoom.showModal();
    resize(0);
    zoom.querySelector(".pane").focus();
  };
  const actions = { in: () => resize(1.5), out: () => resize(1 / 1.5), fit: () => resize(0), close: () => zoom.close() };
  for (const figure of all("figure")) {
    const button = figure.querySelector(".enlarge");
    button.hidden = false;
    figure.querySelector("img").classList.add("zoomable");
    for (const part of [button, figure.querySelector("img")]) part.addEventListener("click", () => enlarge(figure));
  }
  for (const button of zoom.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", actions[button.dataset.zoom]);
  }
  zoom.addEventListener("keydown", (event) => {
    const name = { "+": "in", "=": "in", "-": "out", 0: "fit" }[event.key];
    if (name) actions[name]();
  });

  // A link to a claim shows it, whatever the filters hide; the browser itself goes where it can.
  addEventListener("hashchange", () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target?.hidden) return;
    showAll();
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  });

  // Paper cannot be unfolded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
  });
}
