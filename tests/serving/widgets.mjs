// Draws one answer with the page's widgets, or the field of one input, in as much of a DOM as they use; prints the elements
// as HTML.

import { pathToFileURL } from "node:url";

const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

class Element {
  constructor(tag) { Object.assign(this, { tag, attributes: {}, children: [], style: {}, classList: { add() {}, toggle() {} } }); }
  setAttribute(name, value) { this.attributes[name] = value; }
  addEventListener() {}
  append(...children) { this.children.push(...children); }
  querySelector() { return null; }
  get html() {
    const attributes = Object.entries(this.attributes).map(([name, value]) => ` ${name}="${escaped(value)}"`).join("");
    return `<${this.tag}${attributes}>${this.children.map((child) => child.html ?? escaped(child)).join("")}</${this.tag}>`;
  }
}

globalThis.document = { createElement: (tag) => new Element(tag), createElementNS: (_, tag) => new Element(tag) };
globalThis.requestAnimationFrame = () => {};
const page = await import(pathToFileURL(process.argv[2]));
const { answer, context, input } = JSON.parse(process.argv[3]);
console.log((input ? page.fieldOf(input, { characters: 100 }, () => {}).node : page.answerOf(answer, context)).html);
