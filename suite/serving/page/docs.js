// The API page: every operation of the OpenAPI description, with its request, its answers and a command that asks it.

import { element } from "./dom.js";

const at = (id) => document.getElementById(id);
const RETRY_MS = 1000;

let token = sessionStorage.getItem("token") ?? "";
let description = null;

async function begin() {
  let response;
  try {
    response = await fetch("openapi.json", { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  } catch {
    return say("The server cannot be reached.");
  }
  if (response.status === 401) return askForToken();
  at("key").hidden = true;
  description = await response.json();
  const paths = Object.entries(description.paths);
  at("operations").replaceChildren(...paths.flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => operationOf(method, path, operation))));
  const ready = await fetch("readyz").then((answer) => answer.ok).catch(() => true);
  say(ready ? "" : "Models are being compiled: their addresses appear here once they answer.");
  if (!ready) setTimeout(begin, RETRY_MS);
}

function say(words) {
  at("status").textContent = words;
  at("status").hidden = !words;
}

function askForToken() {
  say(at("token").value === "" ? "" : "That token was not accepted.");
  at("key").hidden = false;
  at("token").focus();
}

function operationOf(method, path, operation) {
  const heading = element("summary", {}, element("span", { class: "method" }, method.toUpperCase()), " ", element("code", {}, path), " ", element("span", { class: "about" }, operation.summary ?? ""));
  const parts = [];
  if (operation.parameters?.length) {
    parts.push(element("h3", {}, "Headers"), propertiesOf(Object.fromEntries(operation.parameters.map((each) => [each.name, { ...each.schema, description: each.description }])), operation.parameters.filter((each) => each.required).map((each) => each.name)));
  }
  const bodies = Object.entries(operation.requestBody?.content ?? {});
  if (bodies.length) parts.push(element("h3", {}, "Request"), ...bodies.map(([media, body]) => contentOf(media, body)));
  parts.push(element("h3", {}, "Command"), element("pre", { tabindex: "0", "aria-label": "A command that asks this" }, commandOf(method, path, operation)));
  parts.push(element("h3", {}, "Responses"), ...Object.entries(operation.responses).map(([status, answer]) => responseOf(status, answer)));
  return element("details", { class: "operation", open: method === "post" }, heading, element("div", {}, ...parts));
}

function contentOf(media, { schema, example }) {
  const shown = [element("p", {}, element("code", {}, media))];
  const described = schemaOf(schema);
  if (described) shown.push(described);
  if (example !== undefined) shown.push(element("pre", { tabindex: "0", "aria-label": "An example" }, JSON.stringify(example, null, 1)));
  return element("div", { class: "content" }, ...shown);
}

function responseOf(status, answer) {
  const bodies = status.startsWith("2") ? Object.entries(answer.content ?? {}).map(([media, body]) => contentOf(media, body)) : [];
  return element("div", { class: "response" }, element("p", {}, element("strong", {}, status), ` ${answer.description}`), ...bodies);
}

const resolved = (schema) => (schema?.$ref ? schema.$ref.slice(2).split("/").reduce((within, name) => within[name], description) : schema);

// A list of what an object holds; of other schemas one line; null where nothing is said.
function schemaOf(given) {
  const schema = resolved(given);
  if (!schema || !Object.keys(schema).length) return null;
  if (schema.properties) return propertiesOf(schema.properties, schema.required ?? []);
  return element("p", { class: "schema" }, typeOf(schema));
}

function propertiesOf(properties, required) {
  const row = ([name, given]) => {
    const schema = resolved(given);
    const about = [typeOf(schema), required.includes(name) ? "required" : "", schema.description ?? ""].filter(Boolean).join("; ");
    const inside = insideOf(schema);
    return element("li", {}, element("code", {}, name), ` ${about}`, ...(inside ? [inside] : []));
  };
  return element("ul", { class: "schema" }, ...Object.entries(properties).map(row));
}

// What a property holds that has properties itself: an object, the items of an array, or one of several.
function insideOf(given) {
  const schema = resolved(given);
  if (schema?.properties) return propertiesOf(schema.properties, schema.required ?? []);
  if (schema?.items) return insideOf(schema.items);
  return (schema?.anyOf ?? []).map(insideOf).find(Boolean) ?? null;
}

const SHOWN = 12; // values of an enumeration

function typeOf(given) {
  const schema = resolved(given) ?? {};
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) {
    const values = schema.enum.slice(0, SHOWN).map((each) => JSON.stringify(each)).join(", ");
    return `one of ${values}${schema.enum.length > SHOWN ? `, and ${schema.enum.length - SHOWN} more` : ""}`;
  }
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(", or ");
  const types = [schema.type ?? "any"].flat();
  const base = types.includes("array") && schema.items ? `array of ${typeOf(schema.items)}` : types.join(" or ");
  const encoded = schema.contentEncoding ? `${schema.contentEncoding}${schema.contentMediaType ? `, ${schema.contentMediaType}` : ""}` : schema.format ?? "";
  const limits = [
    ["minimum", "at least"], ["maximum", "at most"], ["exclusiveMinimum", "above"], ["minItems", "at least", "items"], ["maxItems", "at most", "items"],
    ["minLength", "at least", "characters"], ["maxLength", "at most", "characters"],
  ].filter(([name]) => name in schema && Math.abs(schema[name]) < 1e300).map(([name, words, unit]) => `${words} ${schema[name].toLocaleString("en")}${unit ? ` ${unit}` : ""}`);
  return [base, encoded, ...limits].filter(Boolean).join(", ");
}

const quoted = (words) => `'${words.replaceAll("'", `'\\''`)}'`;

function commandOf(method, path, operation) {
  const lines = [`curl ${new URL(path.slice(1), document.baseURI)}`];
  if (description.security && !operation.security) lines.push('-H "Authorization: Bearer $TOKEN"');
  else if (operation.security?.length) lines.push('-H "Authorization: Bearer $ADMIN_TOKEN"');
  const content = operation.requestBody?.content ?? {};
  const example = content["application/json"]?.example;
  const form = content["multipart/form-data"]?.schema.properties ?? {};
  if (method === "post" && Object.values(form).some((each) => each.items?.format === "binary")) {
    for (const [name, schema] of Object.entries(form)) {
      if (schema.items?.format === "binary") lines.push(`-F ${quoted(`${name}=@FILE`)}`);
      else if (example?.inputs?.[0]?.[name] !== undefined) lines.push(`-F ${quoted(`${name}=${example.inputs[0][name]}`)}`);
    }
  } else if (method === "put") {
    lines.push("-X PUT", `-H 'Content-Type: ${Object.keys(content)[0]}'`, "--data-binary @FILE");
  } else if (method === "post") {
    lines.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(example ?? { inputs: ["..."] }))}`);
  }
  return lines.join(" \\\n  ");
}

at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  sessionStorage.setItem("token", token);
  begin();
});

begin();
