// One answer as a person reads it: each of the model's outputs drawn by the widget that the server names for its kind.

import { element, percent, sentence } from "./dom.js";

// Each widget: (value, output, context) -> an element, or null where nothing is to be shown of it.
const WIDGETS = {
  verdict, names, bars, share, said, spans, segments, boxes, ranking, attributions, vector, image, mask, audio,
};

// context: outputs, as the server describes them; given, what was asked by the name of the input; picture, the element
// that shows the picture that was asked. given and picture may be left out.
export function answerOf(answer, context = {}) {
  const outputs = (context.outputs ?? []).filter((output) => output.name in answer);
  const within = { ...context, answer, outputs };
  const parts = [];
  const rest = [];
  for (const output of outputs) {
    const widget = WIDGETS[output.widget];
    const value = answer[output.name];
    if (!widget && outputs.length === 1 && typeof value === "number") parts.push(amount(value, output));
    else if (!widget || value === null || value === undefined || (widget === said && parts.length)) rest.push([output.description || output.name, value]);
    else parts.push(widget(value, output, within));
  }
  const known = new Set(outputs.map((output) => output.name));
  for (const [name, value] of Object.entries(answer)) if (!known.has(name)) rest.push([name, value]);
  if (rest.length) parts.push(facts(rest));
  return element("div", { class: "answered" }, ...parts);
}

// The share of an output that is about another one, unless bars show it.
function shareOf(output, { outputs, answer }) {
  if (outputs.some((each) => each.widget === "bars" && each.of === output.name)) return null;
  const about = outputs.find((each) => each.widget === "share" && each.of === output.name);
  return about ? answer[about.name] : null;
}

function verdict(value, output, context) {
  const probability = shareOf(output, context);
  const name = element("p", { class: "verdict" }, probability === null ? String(value) : `${value}, ${percent(probability)}`);
  return probability === null ? name : element("div", {}, name, gauge(probability));
}

// A number that is all of the answer.
function amount(value, output) {
  const said = value.toLocaleString("en", { maximumSignificantDigits: 7 });
  return element("p", { class: "verdict" }, `${sentence(output.name.replaceAll("_", " "))}: ${said}`);
}

function names(values) {
  if (!values.length) return element("p", { class: "said empty" }, "None is likely enough.");
  return element("ul", { class: "names" }, ...values.map((name) => element("li", {}, String(name))));
}

// Of another output, it is shown with that one.
function share(value, output, { outputs }) {
  if (outputs.some((each) => each.name === output.of)) return null;
  return element("div", {}, element("p", { class: "verdict" }, percent(value)), gauge(value));
}

function bars(value) {
  const shares = Object.entries(value);
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

function said(words, output, { given }) {
  if (!words.trim()) return element("p", { class: "said empty" }, output.empty || "Nothing.");
  const before = output.after ? given?.[output.after] : undefined;
  return element("p", { class: "said" }, before ? element("span", { class: "given" }, before) : null, words);
}

const nameOf = (item) => String(item.label ?? item.title ?? item.name ?? item.item ?? item.id ?? "");
const scoreOf = (item) => item.probability ?? item.score;

function ranking(items) {
  return ranked(items);
}

// Before each item stands what before(item) makes.
function ranked(items, before = () => null) {
  const row = (item) => {
    const score = scoreOf(item);
    const shown = "probability" in item ? percent(score) : Number(score).toFixed(3);
    return element("li", {}, before(item), nameOf(item), score === undefined ? null : element("span", { class: "share" }, shown));
  };
  return element("ol", { class: "ranked" }, ...items.map(row));
}

// What each part adds, red, or takes away, blue: words in their order, and below them the parts of most weight.
function attributions(found) {
  if (!found.length) return element("p", { class: "said empty" }, "Nothing could be absent.");
  const size = (part) => Math.abs(part.attribution);
  const largest = Math.max(...found.map(size)) || 1;
  const words = found.filter((part) => part.start !== undefined);
  const chip = (part) => {
    const word = element("mark", { class: "why", title: part.attribution.toPrecision(3) }, String(part.unit));
    word.style.backgroundColor = `rgba(${part.attribution > 0 ? "210, 40, 40" : "40, 90, 210"}, ${(0.7 * size(part)) / largest})`;
    return word;
  };
  const text = words.length ? [element("p", { class: "marked" }, ...words.flatMap((part) => [chip(part), " "]))] : [];
  const row = (part) => element("li", {}, String(part.unit), element("span", { class: "share" }, `${part.attribution > 0 ? "+" : "−"}${size(part).toPrecision(3)}`));
  const falling = [...found].sort((a, b) => size(b) - size(a)).slice(0, 8);
  return element("div", {}, ...text, element("ol", { class: "ranked" }, ...falling.map(row)));
}

// Boxes are [left, top, right, bottom] in pixels of the picture; each label has a colour.
function boxes(found, output, { picture }) {
  if (!found.length) return element("p", { class: "said empty" }, "Nothing is found.");
  const labels = [...new Set(found.map(nameOf))].sort();
  const tone = (item) => `tone${labels.indexOf(nameOf(item)) % 6}`;
  const shown = picture?.querySelector("img");
  if (shown) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${shown.naturalWidth} ${shown.naturalHeight}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const item of found) {
      const [left, top, right, bottom] = item.box;
      const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const sides = { x: left, y: top, width: right - left, height: bottom - top };
      for (const [name, value] of Object.entries(sides)) rect.setAttribute(name, value);
      rect.setAttribute("class", tone(item));
      svg.append(rect);
    }
    picture.querySelector(".picture").append(svg);
  }
  return ranked(found, (item) => element("i", { class: `swatch ${tone(item)}`, "aria-hidden": "true" }));
}

// Spans are characters of the text that was asked, from start to before end.
function spans(marked, output, { given }) {
  const text = Object.values(given ?? {}).find((value) => typeof value === "string") ?? "";
  const letters = [...text];
  const listed = ranked(marked.map((span) => ({ ...span, label: `${span.label}: ${span.text ?? letters.slice(span.start, span.end).join("")}` })));
  return letters.length && marked.length ? element("div", {}, highlighted(letters, marked), listed) : listed;
}

// Stretches of a recording, from start to end in seconds; of one without a text nothing was heard.
function segments(stretches) {
  if (!stretches.length) return null;
  const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;
  const row = (stretch) =>
    element("li", {}, stretch.text || "nothing was heard", element("span", { class: "share" }, `${clock(stretch.start)} – ${clock(stretch.end)}`));
  return element("ol", { class: "ranked" }, ...stretches.map(row));
}

// A text with its spans marked; one that begins within another is in the list alone.
function highlighted(letters, marked) {
  const pieces = [];
  let end = 0;
  for (const span of [...marked].sort((a, b) => a.start - b.start || b.end - a.end)) {
    if (span.start < end) continue;
    const text = letters.slice(span.start, span.end).join("");
    pieces.push(letters.slice(end, span.start).join(""), element("mark", {}, text, element("small", {}, String(span.label))));
    end = span.end;
  }
  return element("p", { class: "marked" }, ...pieces, letters.slice(end).join(""));
}

function vector(numbers) {
  const length = Math.hypot(...numbers);
  const first = numbers.slice(0, 8).map((number) => number.toPrecision(3)).join(", ");
  return facts([["numbers", numbers.length], ["length", length.toPrecision(4)], ["first of them", numbers.length > 8 ? `${first} …` : first]]);
}

// A file of an answer, as an address that holds it; null for one of another type than the widget shows.
function addressOf(file, type) {
  const known = new RegExp(`^${type}/[a-z0-9.+-]+$`).test(file?.media_type ?? "") && /^[A-Za-z0-9+/]*=*$/.test(file.data ?? "");
  return known ? `data:${file.media_type};base64,${file.data}` : null;
}

const noFile = (output) => element("p", { class: "said empty" }, `${sentence(output.name)} cannot be shown.`);

function image(file, output) {
  const address = addressOf(file, "image");
  if (!address) return noFile(output);
  const shown = element("img", { src: address, alt: sentence(output.description || output.name) });
  shown.addEventListener("load", () => shown.classList.toggle("tiny", shown.naturalWidth < 100));
  return element("figure", { class: "preview" }, element("div", { class: "picture" }, shown));
}

// The colour of each class, as suite.data.preprocessing.masks has them: bits of its number, spread over three channels.
function colourOf(number) {
  const channel = (part) => [0, 1, 2].reduce((sum, bit) => sum | (((number >> (3 * bit + part)) & 1) << (7 - bit)), 0);
  return `rgb(${channel(0)}, ${channel(1)}, ${channel(2)})`;
}

// A mask lies over the picture that was asked; without it, it stands by itself. Below, the classes that it shows.
function mask(file, output, { picture, answer }) {
  const address = addressOf(file, "image");
  if (!address) return noFile(output);
  const shown = element("img", { src: address, class: "mask", alt: sentence(output.name) });
  const below = picture?.querySelector(".picture");
  const names = (output.choices ?? []).map((name, number) => [name, number]).filter(([name, number]) => number && (!answer.shares || name in answer.shares));
  const legend = names.map(([name, number]) => {
    const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.backgroundColor = colourOf(number);
    return element("li", {}, swatch, name);
  });
  const listed = element("ul", { class: "legend" }, ...legend);
  if (!below) return element("figure", { class: "preview" }, element("div", { class: "picture" }, shown), listed);
  below.append(shown);
  return listed;
}

function audio(file, output) {
  const address = addressOf(file, "audio");
  return address ? element("audio", { controls: true, src: address, "aria-label": sentence(output.description || output.name) }) : noFile(output);
}

const written = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value));

function facts(rows) {
  const shown = ([name, value]) => [element("dt", {}, sentence(name.replaceAll("_", " "))), element("dd", {}, written(value))];
  return element("dl", { class: "facts" }, ...rows.flatMap(shown));
}
