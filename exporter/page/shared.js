// What the parts of the page share: what is known, texts for people, and changing only what has changed.
// All that comes is text of others: it is set as text, never as HTML, with what cannot be seen made visible.

export const $ = (id) => document.getElementById(id);
export const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
export const count = new Intl.NumberFormat("en");
// As exporter/markup.py has it.
const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
export const visible = (text) => text.replace(UNSEEN, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

export const view = { status: null, order: "state", way: 1, state: null, all: false, allFailures: false, came: 0, failed: null };

export function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

export function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function put(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function show(node, visibleNow) {
  if (node.hidden === visibleNow) node.hidden = !visibleNow;
}

export function age(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return Math.floor(seconds / size) + " " + unit;
  }
  return Math.max(0, Math.floor(seconds)) + " s";
}

export const ago = (at) => age(view.status.now - at) + " ago";
export const utc = (at) => new Date(at * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC";
export const plural = (n, one, many) => count.format(n) + " " + (n === 1 ? one : many || one + "s");

export function percent(ratio) {
  if (ratio === 1) return "100 %";
  return (Math.floor(ratio * 1000) / 10).toFixed(1) + " %"; // rounded down: 99.99 % is not all
}

export function duration(seconds) {
  if (seconds < 1) return Math.round(seconds * 1000) + " ms";
  return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
}

export const jobPath = (store, integration, job) => "jobs/" + [store, integration, job].map(encodeURIComponent).join("/");

