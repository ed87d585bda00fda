// Elements in one expression. Text is always set as text: nothing that a model says becomes markup.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === undefined || value === null) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function percent(share) {
  const hundredths = 100 * share;
  if (hundredths > 0 && hundredths < 0.1) return "< 0.1 %";
  if (hundredths < 100 && hundredths > 99.9) return "> 99.9 %";
  return `${hundredths.toFixed(1)} %`;
}

export const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1);
