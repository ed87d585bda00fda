// The page: picks a model, asks it, shows what it says or why it doesn't.

import { answerOf } from "./answers.js";
import { cardOf } from "./card.js";
import { element, sentence } from "./dom.js";
import { fieldOf } from "./fields.js";

const at = (id) => document.getElementById(id);
const RETRY_MS = 1000;
const EXPLAIN = "explain"; // the program that says why, asked by a button beside the answer

let model = null; // as the server describes it
let program = null; // the one of its programs that is asked
let fields = [];
let token = sessionStorage.getItem("token") ?? "";
let asked = 0; // questions so far: an answer to an older one is dropped

class Refusal extends Error {
  constructor(status, { message, field, fix }) {
    super(message);
    Object.assign(this, { status, field, fix });
  }
}

async function call(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Refusal(0, { message: "The server cannot be reached." });
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(response.status, body.error ?? { message: `The server answered ${response.status}.` });
  return body;
}

async function begin() {
  let models;
  try {
    ({ models } = await call("v1/models"));
  } catch (error) {
    if (error.status === 401) return askForToken();
    return say(error.message);
  }
  at("key").hidden = true;
  if (!models.some((each) => each.ready)) {
    say(progressOf(models));
    return setTimeout(begin, RETRY_MS);
  }
  const name = (models.find((each) => each.name === inAddress()[0]) ?? models[0]).name;
  at("model").replaceChildren(...models.map((each) => element("option", { value: each.name }, each.name)));
  at("model").value = name;
  at("picker").hidden = models.length < 2;
  await choose(name);
}

// "reviews: compiling 7 of 30 …", of the model that is being compiled.
function progressOf(models) {
  const now = models.find((each) => each.warming);
  return now ? `${now.name}: compiling ${Math.max(now.warming.compiling, 1)} of ${now.warming.of} …` : "The models are being compiled …";
}

// [the model, the program] that the address names; no model's name holds a colon.
const inAddress = () => decodeURIComponent(location.hash.slice(1)).split(":");

function say(words) {
  at("status").textContent = words;
  at("status").hidden = !words;
}

function askForToken() {
  say("");
  const again = at("token").value !== "";
  at("key").hidden = false;
  at("token").setAttribute("aria-invalid", String(again));
  if (again) say("That token was not accepted.");
  at("token").focus();
}

async function choose(name) {
  asked += 1;
  try {
    model = await call(`v1/models/${encodeURIComponent(name)}`);
  } catch (error) {
    for (const id of ["title", "desk", "more"]) at(id).hidden = true;
    if (error.status === 503) setTimeout(() => at("model").value === name && choose(name), RETRY_MS);
    return say(error.status === 503 ? error.message.replace(/\.$/, " …") : error.message);
  }
  say("");
  document.title = `${name} · suite`;
  at("name").textContent = name;
  const names = Object.keys(model.programs).filter((each) => each !== EXPLAIN);
  at("program").replaceChildren(...names.map((each) => element("option", { value: each }, each)));
  at("programs").hidden = names.length < 2;
  const [inPlace, wanted] = inAddress();
  take(inPlace === name && names.includes(wanted) ? wanted : names[0]);
  at("card").replaceChildren(...cardOf(model.card));
  for (const id of ["title", "desk", "more"]) at(id).hidden = false;
}

// Asks the program of that name from now on.
function take(name) {
  asked += 1;
  const first = name === Object.keys(model.programs)[0];
  program = { name, ...model.programs[name] };
  at("program").value = name;
  history.replaceState(null, "", `#${encodeURIComponent(model.name)}${first ? "" : `:${name}`}`);
  at("about").textContent = [program.purpose, ...(first ? quality() : []), `version ${short(model.version)}`].join(" · ");
  at("sampling").hidden = !program.samples;
  at("seed").value = "";
  build();
  empty();
}

const address = () => `v1/models/${encodeURIComponent(model.name)}:${program.name}`;

// The seed that was typed; undefined where none was, or where nothing is drawn.
const seed = () => (program.samples && at("seed").value !== "" ? Number(at("seed").value) : undefined);

const short = (version) => version.slice(0, 8);

// One or two of its metrics, the ones of a split that decided nothing first.
function quality() {
  const names = Object.keys(model.metrics).filter((name) => !name.endsWith("/loss") && name.includes("/"));
  const order = (name) => (name.startsWith("test/") ? 0 : name.startsWith("validation/") ? 1 : 2);
  return names.sort((a, b) => order(a) - order(b)).slice(0, 1).map((name) => `${name.replace("/", " ")} ${model.metrics[name].value.toPrecision(3)}`);
}

function build() {
  fields = program.inputs.map((input) => fieldOf(input, model.limits, showCommand, forget));
  const large = fields.filter(({ input }) => input.large).map((field) => field.node);
  const small = fields.filter(({ input }) => !input.large).map((field) => field.node);
  const grid = small.length ? [element("fieldset", { class: "grid", "aria-label": "The columns of the record" }, ...small)] : [];
  at("fields").replaceChildren(...large, ...grid);
  // Alone, a picture or a recording needs no name; of several inputs each has its own.
  for (const name of at("fields").querySelectorAll(".field > .name")) name.hidden = fields.length < 2;
  const made = examples();
  at("examples").hidden = !made.length;
  at("examples").replaceChildren(...made.map(([words, record]) => element("button", { type: "button", title: words, onclick: () => use(record()) }, words)));
  showCommand();
}

// [what the button says, a function that makes the record]
function examples() {
  const typed = program.inputs.filter((each) => !each.file);
  const usual = Object.fromEntries(typed.filter((each) => each.example !== null).map((each) => [each.name, each.example]));
  if (!Object.keys(usual).length) return [];
  if (program.inputs.length === 1) return [[shown(usual), () => usual]];
  const chosen = typed.some((each) => each.choices.length > 1);
  return [["Fill in a typical record", () => usual], ...(chosen ? [["Another one", () => ({ ...usual, ...drawn(typed) })]] : [])];
}

const shown = (record) => (typeof Object.values(record)[0] === "string" && Object.keys(record).length === 1 ? Object.values(record)[0] : JSON.stringify(record));

// Values that training has seen, drawn at random.
function drawn(inputs) {
  const one = (choices) => choices[Math.floor(Math.random() * choices.length)];
  const values = inputs.filter((each) => each.choices.length).map((each) => [each.name, each.several ? [one(each.choices)] : one(each.choices)]);
  return Object.fromEntries(values);
}

function use(record) {
  for (const field of fields) {
    const value = record[field.input.name];
    if (field.input.file) continue;
    if (value === undefined || value === null) field.clear();
    else field.fill(value);
  }
  showCommand();
  at("ask").requestSubmit();
}

function given() {
  return Object.fromEntries(fields.map((field) => [field.input.name, field.value()]).filter(([, value]) => value !== undefined));
}

function request(record) {
  if (!program.inputs.some((each) => each.file)) {
    return { headers: { "Content-Type": "application/json" }, body: JSON.stringify({ inputs: [record], seed: seed() }) };
  }
  const form = new FormData();
  for (const [name, value] of Object.entries(record)) form.append(name, value);
  if (seed() !== undefined) form.append("seed", seed());
  return { body: form };
}

async function ask(event) {
  event.preventDefault();
  const record = given();
  forget(); // what was said before is no answer to this
  const missing = fields.find(({ input }) => input.required && !(input.name in record));
  if (missing || !Object.keys(record).length) {
    (missing ?? fields[0]).focus();
    return refuse(new Refusal(0, { message: missing ? wantOf(missing.input) : "Fill in at least one column." }));
  }
  const mine = asked;
  busy(true);
  const begun = performance.now();
  try {
    const made = await call(address(), { method: "POST", ...request(record) });
    if (mine === asked) show(made, record, performance.now() - begun);
  } catch (error) {
    if (mine !== asked) return;
    if (error.status === 401) {
      empty();
      return begin();
    }
    refuse(error);
  } finally {
    if (mine === asked) busy(false);
  }
}

const wantOf = (input) => input.prompt || `${input.name} is missing.`;

function busy(is) {
  if (is) at("answer").replaceChildren(element("p", { class: "waiting" }, "Waiting for the answer …"));
  at("answer").setAttribute("aria-busy", String(is));
  at("send").setAttribute("aria-disabled", String(is));
}

function show(made, record, ms) {
  const context = { outputs: program.outputs, given: record, picture: preview() };
  const drawn = made.seed ? `, seed ${made.seed.join(", ")}` : "";
  const by = `Version ${short(made.version)}${drawn}, ${ms < 1000 ? `${Math.max(1, Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`}`;
  const why = model.programs[EXPLAIN] ? [element("button", { type: "button", class: "quiet", id: "why", onclick: () => explain(record) }, "Why?")] : [];
  at("answer").replaceChildren(...made.answers.map((answer) => answerOf(answer, context)), ...why, element("p", { class: "by" }, by));
}

// What the answer is owed to, in place of the button.
async function explain(record) {
  const mine = asked;
  at("why").replaceWith(element("p", { class: "waiting", id: "why" }, "Looking for reasons …"));
  try {
    const path = `v1/models/${encodeURIComponent(model.name)}:${EXPLAIN}`;
    const made = await call(path, { method: "POST", ...request(record) });
    if (mine !== asked) return;
    const own = new Set(program.outputs.map((output) => output.name));
    const outputs = model.programs[EXPLAIN].outputs.filter((output) => !own.has(output.name));
    const reasons = (answer) => Object.fromEntries(Object.entries(answer).filter(([name]) => !own.has(name)));
    at("why").replaceWith(...made.answers.map((answer) => answerOf(reasons(answer), { outputs, given: record })));
  } catch (error) {
    if (mine === asked) at("why").textContent = sentence(error.message);
  }
}

// The picture that is asked, with what an answer marks on it.
const preview = () => fields.find(({ input }) => input.widget === "image")?.preview;

function refuse(error) {
  busy(false);
  at("answer").replaceChildren(element("p", { class: "waiting" }, "No answer."));
  const name = (error.field ?? "").replace(/^inputs\[0\]\.?/, "");
  const whole = /^(has|holds|is|must) /.test(error.message) ? `${name || "It"} ${error.message}` : error.message;
  const fix = error.fix ? element("small", {}, `Try: ${error.fix}`) : null;
  at("error").replaceChildren(sentence(whole), ...(fix ? [fix] : []));
  at("error").hidden = false;
}

// No answer, error or pending question is shown any more.
function forget() {
  asked += 1;
  empty();
}

function empty() {
  preview()?.querySelector("svg, img.mask")?.remove();
  at("answer").replaceChildren(element("p", { class: "waiting" }, "What the model says will appear here."));
  at("error").hidden = true;
  busy(false);
}

const quoted = (words) => `'${words.replaceAll("'", `'\\''`)}'`;

// The command that asks what the form asks now.
function showCommand() {
  const record = given();
  const lines = [`curl ${new URL(address(), document.baseURI)}`];
  if (token) lines.push('-H "Authorization: Bearer $TOKEN"');
  if (program.inputs.some((each) => each.file)) {
    for (const { input } of fields) {
      const value = record[input.name];
      if (input.file) lines.push(`-F ${quoted(`${input.name}=@${value?.name ?? "FILE"}`)}`);
      else if (value !== undefined) lines.push(`-F ${quoted(`${input.name}=${value}`)}`);
    }
    if (seed() !== undefined) lines.push(`-F seed=${seed()}`);
  } else {
    const usual = Object.fromEntries(program.inputs.filter((each) => each.example !== null).map((each) => [each.name, each.example]));
    const body = JSON.stringify({ inputs: [Object.keys(record).length ? record : usual], seed: seed() });
    lines.push("-H 'Content-Type: application/json'", `-d ${quoted(body)}`);
  }
  at("curl").textContent = lines.join(" \\\n  ");
}

async function copy() {
  await navigator.clipboard.writeText(at("curl").textContent);
  at("copy").textContent = "Copied";
  setTimeout(() => { at("copy").textContent = "Copy"; }, 1500);
}

window.addEventListener("hashchange", () => {
  [at("model").value] = inAddress();
  if (at("model").value) choose(at("model").value);
});
at("program").addEventListener("change", (event) => take(event.target.value));
at("seed").addEventListener("input", () => showCommand());
at("model").addEventListener("change", (event) => choose(event.target.value));
at("ask").addEventListener("submit", ask);
at("copy").addEventListener("click", copy);
at("clear").addEventListener("click", () => {
  fields.forEach((field) => field.clear());
  at("seed").value = "";
  forget();
  showCommand();
  fields[0].focus();
});
at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  sessionStorage.setItem("token", token);
  begin();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && model) at("ask").requestSubmit();
});
document.addEventListener("paste", (event) => {
  const target = fields.find((field) => field.paste);
  if (target && event.clipboardData.files.length) target.paste(event.clipboardData.files[0]);
});

begin();
