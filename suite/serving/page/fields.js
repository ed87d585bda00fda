// One field an input of the signature, by the widget that the server names for its kind: what can be typed, dropped,
// recorded or chosen.

import { element, sentence } from "./dom.js";
import { prepared } from "./picture.js";
import { record, wavOf } from "./sound.js";

const SOUNDS = ["audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/flac", "audio/x-flac", "audio/ogg", "audio/mpeg"];
const FEW = 20; // choices that a list shows; more are suggested while typing

// Each field has: node; value(), undefined where nothing was given; fill(value); clear(); for files also preview.
// changed is called with every change, anew where a file is to take the place of another.
export function fieldOf(input, limits, changed, anew) {
  const make = { text, image, audio, number, category, list }[input.widget] ?? text;
  return { input, ...make(input, limits, changed, anew) };
}

const idOf = (input) => `input-${input.name.replace(/[^A-Za-z0-9]/g, "-")}`;

function labelled(input, control, ...others) {
  const id = idOf(input);
  control.id = id;
  const hint = input.description ? element("p", { class: "hint", id: `${id}-hint` }, `${sentence(input.description)}.`) : null;
  if (hint) control.setAttribute("aria-describedby", hint.id);
  const kind = input.explained ? "field explained" : "field";
  return element("div", { class: kind }, element("label", { for: id }, input.name), control, hint, ...others);
}

function text(input, limits, changed) {
  const most = Math.min(limits.characters, input.limit || limits.characters);
  const area = element("textarea", { rows: 5, maxlength: most, spellcheck: "true", oninput: changed });
  return {
    node: labelled(input, area),
    value: () => (area.value === "" ? undefined : area.value),
    fill: (value) => { area.value = value; },
    clear: () => { area.value = ""; },
    focus: () => area.focus(),
  };
}

function number(input, limits, changed) {
  const bounds = { ...(input.low === null ? {} : { min: input.low }), ...(input.high === null ? {} : { max: input.high }) };
  const written = input.whole ? { step: 1, inputmode: "numeric" } : { step: "any", inputmode: "decimal" };
  const box = element("input", { type: "number", ...bounds, ...written, placeholder: input.absent, oninput: changed });
  return {
    node: labelled(input, box),
    value: () => (box.value === "" ? undefined : Number(box.value)),
    fill: (value) => { box.value = value; },
    clear: () => { box.value = ""; },
    focus: () => box.focus(),
  };
}

function category(input, limits, changed) {
  const few = input.choices.length > 0 && input.choices.length <= FEW;
  const options = input.choices.map((choice) => element("option", { value: choice }, choice));
  const box = few
    ? element("select", { onchange: changed }, element("option", { value: "" }, input.absent), ...options)
    : element("input", { type: "text", autocomplete: "off", placeholder: input.absent, oninput: changed });
  const made = {
    value: () => (box.value === "" ? undefined : box.value),
    fill: (value) => { box.value = String(value); },
    clear: () => { box.value = ""; },
    focus: () => box.focus(),
  };
  if (few || !options.length) return { node: labelled(input, box), ...made };
  const suggestions = element("datalist", { id: `${idOf(input)}-choices` }, ...options);
  box.setAttribute("list", suggestions.id);
  return { node: labelled(input, box, suggestions), ...made };
}

function list(input, limits, changed) {
  const box = element("input", { type: "text", autocomplete: "off", placeholder: "several, parted by commas", oninput: changed });
  const items = () => box.value.split(",").map((item) => item.trim()).filter(Boolean);
  const node = labelled(input, box);
  node.classList.add("wide");
  return {
    node,
    value: () => (items().length ? items() : undefined),
    fill: (value) => { box.value = value.join(", "); },
    clear: () => { box.value = ""; },
    focus: () => box.focus(),
  };
}

// What images and recordings share: a place to drop a file on, or to choose one at, and the name of it.
function dropped(input, types, words, take) {
  const id = idOf(input);
  const chooser = element("input", { type: "file", accept: types, id, onchange: () => chooser.files[0] && take(chooser.files[0]) });
  const hint = input.description ? `${sentence(input.description)}.` : "";
  const place = element("label", { class: "drop", for: id }, element("strong", {}, words), element("br"), hint, chooser);
  const over = (is) => (event) => {
    event.preventDefault();
    place.classList.toggle("over", is);
  };
  place.addEventListener("dragenter", over(true));
  place.addEventListener("dragover", over(true));
  place.addEventListener("dragleave", over(false));
  place.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  const name = element("span", { class: "name", hidden: true }, input.name);
  return { name, place, chooser };
}

const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

function image(input, limits, changed, anew) {
  let file;
  const problem = element("p", { class: "error", role: "alert", hidden: true });
  const preview = element("figure", { class: "preview", hidden: true });
  const { name, place, chooser } = dropped(input, "image/*", "Drop a picture, paste one, or choose a file", take);

  async function take(given) {
    anew();
    clear();
    try {
      file = await prepared(given, Math.min(limits.pixels, input.limit || limits.pixels));
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      return;
    }
    const shown = element("img", { alt: `The picture that was given: ${given.name}` });
    shown.addEventListener("load", () => shown.classList.toggle("tiny", shown.naturalWidth < 100));
    shown.addEventListener("error", () => shown.parentElement?.remove());
    shown.src = URL.createObjectURL(file);
    preview.replaceChildren(element("div", { class: "picture" }, shown), element("figcaption", {}, `${file.name}, ${size(file.size)}`));
    preview.hidden = false;
    changed();
  }

  function clear() {
    const shown = preview.querySelector("img");
    if (shown) URL.revokeObjectURL(shown.src);
    file = undefined;
    chooser.value = "";
    problem.hidden = preview.hidden = true;
    preview.replaceChildren();
  }

  const node = element("div", { class: "field" }, name, place, problem, preview);
  return { node, value: () => file, fill: take, clear, focus: () => chooser.focus(), paste: take, preview };
}

function audio(input, limits, changed, anew) {
  let file;
  let running = null;
  let starting = false; // until the microphone is granted
  let ticking = 0;
  const most = Math.min(limits.seconds, input.limit || limits.seconds);
  const problem = element("p", { class: "error", role: "alert", hidden: true });
  const preview = element("figure", { class: "preview", hidden: true });
  const clock = element("output", { "aria-live": "off" });
  const button = element("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: toggle }, "Record");
  const { name, place, chooser } = dropped(input, "audio/*", "Drop a recording, or choose a file", take);

  async function take(given) {
    anew();
    clear();
    try {
      show(SOUNDS.includes(given.type) ? given : await wavOf(given, given.name));
    } catch {
      fail(`${given.name} is no recording that this browser can read.`);
    }
  }

  function show(made) {
    file = made;
    const player = element("audio", { controls: true, "aria-label": "The recording that was given" });
    player.src = URL.createObjectURL(made);
    preview.replaceChildren(player, element("figcaption", {}, `${made.name}, ${size(made.size)}`));
    preview.hidden = false;
    changed();
  }

  function fail(message) {
    problem.textContent = message;
    problem.hidden = false;
  }

  async function toggle() {
    if (starting) return;
    if (running === null) {
      anew();
      clear();
      starting = true;
      try {
        running = await record();
      } catch (error) {
        fail(error.name === "NotAllowedError" ? "The browser was not allowed to use the microphone." : error.message);
        return;
      } finally {
        starting = false;
      }
      press(true, "Stop");
      const begun = performance.now();
      const tick = () => {
        const seconds = (performance.now() - begun) / 1000;
        clock.textContent = `${seconds.toFixed(1)} s`;
        if (seconds >= most) toggle();
      };
      ticking = setInterval(tick, 100);
      return;
    }
    const stopping = running;
    running = null;
    clearInterval(ticking);
    press(false, "Record");
    clock.textContent = "";
    try {
      show(await stopping.stop());
    } catch {
      fail("The recording could not be read.");
    }
  }

  function press(is, words) {
    button.setAttribute("aria-pressed", String(is));
    button.textContent = words;
  }

  function clear() {
    const shown = preview.querySelector("audio");
    if (shown) URL.revokeObjectURL(shown.src);
    file = undefined;
    chooser.value = "";
    problem.hidden = preview.hidden = true;
    preview.replaceChildren();
  }

  const recorder = element("div", { class: "record row" }, button, clock);
  const node = element("div", { class: "field" }, name, place, recorder, problem, preview);
  return { node, value: () => file, fill: take, clear, focus: () => chooser.focus(), preview };
}
