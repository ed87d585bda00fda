// One answer as a person reads it: classes with their probabilities, a probability, words, ranked items, boxes.

import { element, percent, sentence } from "./dom.js";

const WORDS = ["text", "continuation", "translation", "caption", "answer"];

// context: given, the text that was asked; picture, the element that shows the picture; schema, of the answer. All may
// be left out.
export function answerOf(answer, context = {}) {
  const rest = { ...answer };
  const take = (name) => {
    const value = rest[name];
    delete rest[name];
    return value;
  };
  const parts = [];
  if ("label" in rest && typeof rest.top === "object") {
    parts.push(element("p", { class: "verdict" }, take("label")), bars(Object.entries(take("top"))));
    take("probability");
  } else if (typeof rest.probability === "number") {
    const share = take("probability");
    parts.push(element("p", { class: "verdict" }, "label" in rest ? `${take("label")}, ${percent(share)}` : percent(share)), gauge(share));
  }
  for (const name of WORDS) if (typeof rest[name] === "string") parts.push(said(name, take(name), context));
  for (const [name, value] of Object.entries(rest)) {
    if (!Array.isArray(value) || !value.length || typeof value[0] !== "object") continue;
    parts.push("box" in value[0] ? boxes(take(name), context) : ranked(take(name)));
  }
  if (Object.keys(rest).length) parts.push(facts(rest, context.schema?.properties ?? {}));
  return element("div", { class: "answered" }, ...parts);
}

function bars(shares) {
  const row = ([name, share], place) =>
    element("li", { class: place === 0 ? "first" : "" }, element("span", { class: "name" }, name), " ",
      element("span", { class: "share" }, percent(share)), bar(share));
  // Sorted here: names that look like numbers come in their own order.
  return element("ol", { class: "bars" }, ...shares.sort((a, b) => b[1] - a[1]).map(row));
}

const gauge = (share) => element("div", { class: "first" }, bar(share));

function bar(share) {
  const fill = element("i");
  requestAnimationFrame(() => { fill.style.width = `${100 * Math.max(0, Math.min(1, share))}%`; });
  return element("span", { class: "bar", "aria-hidden": "true" }, fill);
}

function said(name, words, { given }) {
  if (!words.trim()) return element("p", { class: "said empty" }, name === "text" ? "Nothing was heard." : "Nothing.");
  const before = name === "continuation" && given ? element("span", { class: "given" }, given) : null;
  return element("p", { class: "said" }, before, words);
}

const nameOf = (item) => String(item.label ?? item.title ?? item.name ?? item.item ?? item.id ?? "");
const scoreOf = (item) => item.probability ?? item.score;

function ranked(items) {
  const row = (item) => {
    const score = scoreOf(item);
    const shown = "probability" in item ? percent(score) : Number(score).toFixed(3);
    return element("li", {}, nameOf(item), score === undefined ? null : element("span", { class: "share" }, shown));
  };
  return element("ol", { class: "ranked" }, ...items.map(row));
}

// Boxes are [left, top, right, bottom] in pixels of the picture.
function boxes(found, { picture }) {
  const shown = picture?.querySelector("img");
  if (shown) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${shown.naturalWidth} ${shown.naturalHeight}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const { box: [left, top, right, bottom] } of found) {
      const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const sides = { x: left, y: top, width: right - left, height: bottom - top };
      for (const [name, value] of Object.entries(sides)) rect.setAttribute(name, value);
      svg.append(rect);
    }
    picture.querySelector(".picture").append(svg);
  }
  return ranked(found);
}

function facts(values, about) {
  const rows = Object.entries(values).flatMap(([name, value]) => [
    element("dt", {}, sentence(about[name]?.description ?? name.replaceAll("_", " "))),
    element("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value)),
  ]);
  return element("dl", { class: "facts" }, ...rows);
}
