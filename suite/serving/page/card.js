// The model card: the little of Markdown that cards are written in, as elements; without its title, which the page has.

import { element } from "./dom.js";

export function cardOf(markdown) {
  const parts = [];
  for (const block of markdown.replace(/^---\n[\s\S]*?\n---\n/, "").split(/\n\s*\n/)) {
    const lines = block.trim().split("\n");
    const heading = /^(#{1,6})\s+(.*)$/.exec(lines[0]);
    if (heading) {
      if (heading[1].length > 1) parts.push(element("h3", {}, ...inline(heading[2])));
      lines.shift();
    }
    if (!lines.join("").trim()) continue;
    if (lines.every((line) => /^\s*[-*]\s/.test(line) || /^\s{2,}\S/.test(line))) parts.push(listOf(lines));
    else if (lines.length > 1 && /^\s*\|?[\s:|-]+\|?\s*$/.test(lines[1]) && lines[0].includes("|")) parts.push(tableOf(lines));
    else if (lines[0].startsWith("```")) parts.push(element("pre", { tabindex: "0" }, lines.slice(1, -1).join("\n")));
    else parts.push(element("p", {}, ...inline(lines.join(" "))));
  }
  return parts;
}

// Code between backticks, bold between stars; everything else as it is.
function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (/^`.+`$/.test(part)) return element("code", {}, part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return element("strong", {}, part.slice(2, -2));
    return part;
  });
}

function listOf(lines) {
  const items = [];
  for (const line of lines) {
    const item = /^\s*[-*]\s+(.*)$/.exec(line);
    if (item) items.push(item[1]);
    else items[items.length - 1] += ` ${line.trim()}`;
  }
  return element("ul", {}, ...items.map((item) => element("li", {}, ...inline(item))));
}

function tableOf([head, , ...rows]) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (tag) => (line) => element("tr", {}, ...cells(line).map((cell) => element(tag, {}, ...inline(cell))));
  const table = element("table", {}, element("thead", {}, row("th")(head)), element("tbody", {}, ...rows.map(row("td"))));
  return element("div", { class: "scroll", tabindex: "0" }, table);
}
