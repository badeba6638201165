// The table of integrations: rows, their order, search and filters. Rows are kept by integration and changed in place.

import { $, age, ago, collator, count, duration, jobPath, make, percent, plural, put, set, show, utc, view, visible } from "./shared.js";

const ROWS_FIRST = 100; // rows shown before somebody asks for all
const STATES = ["failing", "degraded", "silent", "healthy", "disabled", "deleted"];
const MARKS = { failing: "✕", degraded: "!", silent: "…", healthy: "✓", disabled: "‖", deleted: "–" };
const HEADS = [
  // title, key of the order (null: fixed), class, what the order goes by; first click: 1 ascending, -1 descending
  ["State", "state", "", (r) => [STATES.indexOf(r.state), -r.consecutive_failures, -r.jobs_failing], 1],
  ["Integration", "name", "", (r) => [], 1],
  ["Success", "success", "number", (r) => [r.hour && r.hour.success_ratio !== null ? r.hour.success_ratio : 2], 1],
  ["p95", "p95", "number", (r) => [r.hour && r.hour.p95_seconds !== null ? r.hour.p95_seconds : -1], -1],
  ["Last hour", "attempts", "", (r) => [r.hour ? r.hour.attempts : -1], -1],
  ["Jobs failing", "jobs", "number", (r) => [r.jobs_failing], -1],
  ["Last failure", "failure", "", (r) => [r.last_failure === null ? 0 : r.last_failure], -1],
];
const rows = new Map(); // key → the row's elements

function inWords(r) {
  if (r.consecutive_failures && (r.state === "failing" || r.state === "degraded")) {
    const since = r.last_success === null ? "no success seen" : "last success " + ago(r.last_success);
    return plural(r.consecutive_failures, "failure") + " in a row, " + since;
  }
  if (r.state === "degraded") return count.format(r.hour.failed) + " of " + count.format(r.hour.attempts) + " attempts failed lately";
  if (r.state === "silent") return r.last_attempt === null ? "no attempt seen" : "no attempt for " + age(view.status.now - r.last_attempt);
  if (r.state === "healthy") return "last attempt " + ago(r.last_attempt);
  if (r.state === "disabled") return "switched off in EPCC";
  return "EPCC does not list it any more";
}

function makeRow() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  put(svg, "class", "spark");
  put(svg, "viewBox", "0 0 150 34");
  put(svg, "preserveAspectRatio", "none");
  put(svg, "role", "img");
  for (const name of ["line", "ok", "no"]) {
    const path = document.createElementNS(svg.namespaceURI, "path");
    put(path, "class", name);
    svg.append(path);
  }
  const row = make("tr", "", ...HEADS.map(([title, , className]) => {
    const cell = make("td", className);
    cell.setAttribute("role", "cell");
    if (title !== "State" && title !== "Integration") cell.dataset.head = title;
    return cell;
  }));
  row.setAttribute("role", "row");
  const [state, name, success, p95, spark, jobs, failure] = row.children;
  const parts = {
    row, svg, success, p95, jobs, failure,
    mark: make("span", "mark"), word: make("b"), words: make("small"),
    name: make("bdi"), under: make("small"), successNote: make("small"), when: make("span"), why: make("small"), link: make("a"),
  };
  parts.mark.setAttribute("aria-hidden", "true");
  state.append(make("div", "state", parts.mark, parts.word, parts.words));
  state.classList.add("wide");
  name.append(parts.name, parts.under);
  name.classList.add("name", "wide");
  parts.successText = make("span");
  success.append(parts.successText, parts.successNote);
  spark.append(svg);
  spark.classList.add("wide", "spark-cell");
  failure.append(parts.when, parts.why, parts.link);
  failure.classList.add("wide", "failure");
  parts.jobsText = make("span");
  jobs.append(parts.jobsText);
  jobs.classList.add("jobs");
  return parts;
}

function drawSpark(svg, hour, seconds) {
  const [line, ok, no] = svg.children;
  if (!hour) {
    for (const path of svg.children) put(path, "d", "");
    put(svg, "aria-label", "not recorded");
    return;
  }
  const slots = hour.attempts_by_slot;
  const failed = hour.failed_by_slot;
  let up = 1;
  let down = 0;
  slots.forEach((n, i) => { up = Math.max(up, n - failed[i]); down = Math.max(down, failed[i]); });
  // Successes stand above the line, failures hang below it: by place, and not by colour alone.
  const scale = 32 / (up + down);
  const zero = 1 + up * scale;
  const first = 30 - slots.length;
  let good = "";
  let bad = "";
  slots.forEach((n, i) => {
    const x = (first + i) * 5 + 2.5;
    const well = n - failed[i];
    if (well) good += "M" + x + " " + zero.toFixed(1) + "V" + (zero - Math.max(1.5, well * scale)).toFixed(1);
    if (failed[i]) bad += "M" + x + " " + zero.toFixed(1) + "V" + (zero + Math.max(1.5, failed[i] * scale)).toFixed(1);
  });
  put(line, "d", "M0 " + zero.toFixed(1) + "H150");
  put(ok, "d", good);
  put(no, "d", bad);
  put(svg, "aria-label", plural(hour.attempts, "attempt") + ", " + count.format(hour.failed) + " failed, in " + age(seconds));
}

function drawRow(parts, s, r, many) {
  put(parts.row, "class", r.state);
  set(parts.mark, MARKS[r.state]);
  set(parts.word, r.state);
  set(parts.words, inWords(r));
  set(parts.name, visible(r.name));
  set(parts.under, visible([many ? s.name : "", r.type].filter(Boolean).join(" · ")));
  put(parts.row.children[1], "title", visible(r.id));
  const hour = r.hour;
  set(parts.successText, hour && hour.success_ratio !== null ? percent(hour.success_ratio) : "–");
  put(parts.successText, "class", hour && hour.success_ratio !== null && hour.success_ratio < 0.95 ? "alarm" : "");
  set(parts.successNote, hour && hour.attempts ? "of " + count.format(hour.attempts) : hour ? "no attempt" : "not recorded");
  set(parts.p95, hour && hour.p95_seconds !== null ? duration(hour.p95_seconds) : "–");
  drawSpark(parts.svg, hour, s.observed_seconds);
  set(parts.jobsText, count.format(r.jobs_failing) + (r.jobs_unlogged ? " (+" + count.format(r.jobs_unlogged) + " without a log)" : ""));
  parts.jobs.classList.toggle("alarm", r.jobs_failing > 0);
  set(parts.when, r.last_failure === null ? "none seen" : ago(r.last_failure));
  put(parts.when, "title", r.last_failure === null ? null : utc(r.last_failure));
  const f = r.failure;
  set(parts.why, f ? f.reason + (f.status_code === "none" ? ", no answer" : ", " + f.status_code) : "");
  show(parts.link, Boolean(f && f.job));
  if (f && f.job) {
    set(parts.link, "See the job");
    put(parts.link, "href", jobPath(s.name, r.id, f.job));
    put(parts.link, "aria-label", "See the job that failed last: " + visible(r.name));
  }
}

function compare(a, b) {
  const by = HEADS.find((head) => head[1] === view.order)[3];
  const x = by(a.r);
  const y = by(b.r);
  for (let i = 0; i < x.length; i += 1) {
    if (x[i] !== y[i]) return (x[i] - y[i]) * view.way;
  }
  const named = collator.compare(a.r.name, b.r.name) || collator.compare(a.s.name, b.s.name) || (a.r.id < b.r.id ? -1 : 1);
  return view.order === "name" ? named * view.way : named;
}

export function drawIntegrations() {
  const stores = view.status.stores;
  const wanted = $("search").value.trim().toLowerCase();
  const found = [];
  for (const s of stores) {
    for (const r of s.integrations) {
      if (view.state && r.state !== view.state) continue;
      if (wanted && !(r.name + "\n" + r.id + "\n" + s.name + "\n" + r.type).toLowerCase().includes(wanted)) continue;
      found.push({ s, r });
    }
  }
  found.sort(compare);
  const shown = view.all ? found : found.slice(0, ROWS_FIRST);
  const focused = document.activeElement;
  const body = $("rows");
  const kept = new Set();
  shown.forEach(({ s, r }, i) => {
    const key = s.name + "\n" + r.id;
    kept.add(key);
    let parts = rows.get(key);
    if (!parts) rows.set(key, (parts = makeRow()));
    drawRow(parts, s, r, stores.length > 1);
    if (body.children[i] !== parts.row) body.insertBefore(parts.row, body.children[i] || null);
  });
  for (const [key, parts] of rows) {
    if (!kept.has(key)) {
      parts.row.remove();
      rows.delete(key);
    }
  }
  if (focused && focused !== document.activeElement && document.contains(focused)) focused.focus({ preventScroll: true });
  show($("all"), found.length > shown.length);
  set($("all"), "Show all " + count.format(found.length));
  const total = stores.reduce((sum, s) => sum + s.integrations_total, 0);
  const sent = stores.reduce((sum, s) => sum + s.integrations.length, 0);
  show($("table"), found.length > 0);
  const note = !total ? "There is none to show yet; what to do is said above."
    : !found.length ? "None of " + plural(total, "integration") + " fits."
    : total > sent ? "The worst " + count.format(sent) + " of " + count.format(total) + " are here; the metrics have them all." : "";
  set($("none"), note);
  show($("none"), note !== "");
}

export function drawFilters() {
  const sums = Object.fromEntries(STATES.map((state) => [state, view.status.stores.reduce((sum, s) => sum + s.states[state], 0)]));
  const place = $("filters");
  const wanted = [[null, "All", Object.values(sums).reduce((a, b) => a + b, 0)]];
  for (const state of STATES) if (sums[state] || view.state === state) wanted.push([state, state[0].toUpperCase() + state.slice(1), sums[state]]);
  while (place.children.length > wanted.length) place.lastChild.remove();
  wanted.forEach(([state, word, n], i) => {
    let button = place.children[i];
    if (!button) {
      button = make("button", "", make("span"), " ", make("b"));
      button.type = "button";
      button.addEventListener("click", () => { view.state = button.dataset.state || null; drawFilters(); drawIntegrations(); });
      place.append(button);
    }
    button.dataset.state = state || "";
    put(button, "aria-pressed", String(view.state === state));
    set(button.children[0], word);
    set(button.children[1], count.format(n));
  });
}

export function drawHeads() {
  HEADS.forEach(([title, key, className, , way], i) => {
    let head = $("heads").children[i];
    if (!head) {
      const button = make("button", "", title);
      button.type = "button";
      button.addEventListener("click", () => order(key, view.order === key ? -view.way : way));
      head = make("th", className, button);
      head.scope = "col";
      head.setAttribute("role", "columnheader");
      $("heads").append(head);
      const option = make("option", "", title);
      option.value = key;
      $("order").append(option);
    }
    put(head, "aria-sort", view.order === key ? (view.way > 0 ? "ascending" : "descending") : null);
  });
  if ($("order").value !== view.order) $("order").value = view.order;
}

function order(key, way) {
  view.order = key;
  view.way = way;
  drawHeads();
  drawIntegrations();
}

$("search").addEventListener("input", () => view.status && drawIntegrations());
$("order").addEventListener("change", () => {
  const head = HEADS.find((each) => each[1] === $("order").value);
  order(head[1], head[4]);
});
$("all").addEventListener("click", () => { view.all = true; drawIntegrations(); });
