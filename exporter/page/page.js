// The status page: fetches api/v1/status again and again and draws it.

import { drawFilters, drawHeads, drawIntegrations } from "./integrations.js";
import { $, age, ago, count, jobPath, make, plural, put, set, show, utc, view, visible } from "./shared.js";

const REFRESH_MS = 5000;
const FETCH_MS = 10000;
const FAILURES_FIRST = 15;

// --- the stores

function storeKind(s) {
  if (s.state === "failing") return "bad";
  if (s.state === "starting") return "still";
  return s.advice || s.gaps.some((g) => g.open) ? "warn" : "good";
}

function storeFacts(s) {
  const facts = [
    ["Last poll", s.last_poll === null ? "none yet" : ago(s.last_poll)],
    ["Counted through", s.complete_through === null ? "not yet" : utc(s.complete_through).slice(11, 19) + " UTC, " + age(s.lag_seconds) + " behind"],
    ["Request budget used", (s.budget_used_ratio * 100).toFixed(s.budget_used_ratio < 0.1 ? 1 : 0) + " % of " + s.requests_per_second + "/s"],
  ];
  if (s.outage_budget_seconds !== null) facts.push(["May be down for", age(s.outage_budget_seconds)]);
  const open = s.gaps.reduce((sum, g) => sum + g.open, 0);
  const ever = s.gaps.reduce((sum, g) => sum + g.count, 0);
  facts.push(["Gaps", ever ? count.format(open) + " open, " + count.format(ever) + " ever" : "none"]);
  return facts;
}

function drawStores() {
  const stores = view.status.stores;
  const place = $("stores");
  while (place.children.length > stores.length) place.lastChild.remove();
  stores.forEach((s, i) => {
    let card = place.children[i];
    if (!card) {
      card = make("article", "", make("h3", "", make("bdi"), make("span")), make("dl", "facts"), make("div"));
      place.append(card);
    }
    put(card, "class", "store " + storeKind(s));
    const [title, facts, advice] = card.children;
    set(title.children[0], visible(s.name));
    set(title.children[1], { starting: "First poll under way", polled: "Polls succeed", failing: "Polls fail: " + s.error }[s.state]);
    const told = storeFacts(s);
    while (facts.children.length > told.length) facts.lastChild.remove();
    told.forEach(([name, value], j) => {
      if (!facts.children[j]) facts.append(make("div", "", make("dt"), make("dd")));
      set(facts.children[j].children[0], name);
      set(facts.children[j].children[1], value);
    });
    const advices = s.advice ? [["", s.advice]] : [];
    for (const g of s.gaps) {
      const state = g.open ? "Gap open (" + g.cause + "): logs may be missing. " : "Past gap (" + g.cause + "): logs may have been missed. ";
      advices.push([state, g.advice]);
    }
    while (advice.children.length > advices.length) advice.lastChild.remove();
    advices.forEach(([strong, text], j) => {
      if (!advice.children[j]) advice.append(make("p", "advice", make("strong"), make("span")));
      set(advice.children[j].children[0], strong);
      set(advice.children[j].children[1], text);
    });
  });
}

// --- the recent failures

function drawFailures() {
  const found = [];
  for (const s of view.status.stores) {
    const names = new Map(s.integrations.map((r) => [r.id, r.name]));
    for (const f of s.recent_failures) found.push({ s, f, name: names.get(f.integration) || f.integration });
  }
  found.sort((a, b) => b.f.at - a.f.at);
  const shown = view.allFailures ? found : found.slice(0, FAILURES_FIRST);
  const list = $("failures");
  while (list.children.length > shown.length) list.lastChild.remove();
  shown.forEach(({ s, f, name }, i) => {
    let item = list.children[i];
    if (!item) {
      const link = make("a", "id");
      const none = make("span", "quiet");
      item = make("li", "", make("span", "age"), make("span", "", make("bdi"), make("small")), make("span", "", make("span"), make("small")), make("span", "", link, none, make("small")));
      list.append(item);
    }
    const [when, who, why, what] = item.children;
    set(when, ago(f.at));
    put(when, "title", utc(f.at));
    set(who.children[0], visible(name));
    set(who.children[1], view.status.stores.length > 1 ? visible(s.name) : "");
    set(why.children[0], f.reason + (f.status_code === "none" ? ", no answer" : ", " + f.status_code));
    set(why.children[1], f.attempt === null ? "" : "attempt " + f.attempt);
    const [link, none, error] = what.children;
    show(link, f.job !== null);
    show(none, f.job === null);
    set(none, "its log names no job");
    if (f.job !== null) {
      set(link, visible(f.job));
      put(link, "href", jobPath(s.name, f.integration, f.job));
    }
    set(error, f.error ? visible(f.error) : "");
  });
  show($("no-failures"), !found.length);
  show($("all-failures"), found.length > shown.length);
  set($("all-failures"), "Show all " + found.length);
}

// --- the whole

function verdict() {
  const { stores } = view.status;
  if (view.status.standby) return ["still", "Standing by: another process holds the state and counts"];
  const sum = (state) => stores.reduce((n, s) => n + s.states[state], 0);
  const total = stores.reduce((n, s) => n + s.integrations_total, 0);
  const broken = stores.filter((s) => s.state === "failing");
  const failing = sum("failing");
  const degraded = sum("degraded");
  if (failing) return ["bad", failing === 1 && total === 1 ? "The integration is failing" : failing + " of " + plural(total, "integration") + (failing === 1 ? " is" : " are") + " failing"];
  if (broken.length) return ["bad", broken.length === 1 ? "Polls of store " + visible(broken[0].name) + " fail" : "Polls of " + plural(broken.length, "store") + " fail"];
  if (stores.some((s) => s.gaps.some((g) => g.open))) return ["warn", "Logs may be missing: a gap is open"];
  if (degraded) return ["warn", degraded + " of " + plural(total, "integration") + (degraded === 1 ? " is" : " are") + " degraded"];
  if (!total) return ["still", stores.some((s) => s.state === "starting") ? "Starting: the first poll is under way" : "No integration yet"];
  const active = sum("healthy");
  if (!active) return ["still", "Nothing fails, and nothing is being delivered"];
  return ["good", active === total ? (total === 1 ? "The integration is healthy" : "All " + count.format(total) + " integrations are healthy") : count.format(active) + " of " + plural(total, "integration") + " are healthy, none fails"];
}

function drawLive() {
  const stale = view.failed !== null;
  $("live").classList.toggle("stale", stale);
  set($("live-text"), stale ? "Not up to date" : "Live, updated " + utc(view.status.now).slice(11, 19) + " UTC");
}

function draw() {
  const status = view.status;
  const [kind, words] = verdict();
  put($("verdict"), "class", "verdict is-" + kind);
  set($("verdict"), words);
  const title = (kind === "bad" ? "✕ " : kind === "warn" ? "! " : "") + words + " – epcc-exporter";
  if (document.title !== title) document.title = title;
  set($("version"), status.version);
  put($("metrics"), "href", status.metrics.replace(/^\//, ""));
  show($("grafana"), status.grafana !== null);
  if (status.grafana !== null) put($("grafana"), "href", status.grafana);
  const seconds = Math.min(...status.stores.map((s) => s.observed_seconds), 3600);
  set($("integrations-title"), seconds < 3540 ? "Integrations, in the " + age(seconds) + " since the exporter's start" : "Integrations, in the last hour");
  drawStores();
  drawFilters();
  drawHeads();
  drawIntegrations();
  drawFailures();
  show($("app"), true);
  show($("live"), true);
}

function drawTrouble() {
  show($("trouble"), view.failed !== null);
  if (view.failed === null) return;
  const since = view.status ? " What is shown is of " + utc(view.status.now) + "." : "";
  set($("trouble"), "The exporter does not answer (" + view.failed + "). Is it running, and reachable from here? This page tries again by itself." + since);
  show($("app"), true);
  if (!view.status) set($("verdict"), "The exporter does not answer");
}

async function refresh() {
  try {
    const response = await fetch("api/v1/status", { cache: "no-store", signal: AbortSignal.timeout(FETCH_MS) });
    if (!response.ok) throw new Error("status " + response.status);
    view.status = await response.json();
    view.failed = null;
  } catch (error) {
    view.failed = error.name === "TimeoutError" ? "no answer within " + FETCH_MS / 1000 + " s" : error.message;
  }
  if (view.status) {
    performance.mark("draw");
    draw();
    performance.measure("drawn", "draw");
    drawLive();
  }
  drawTrouble();
}

async function run() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((resolve) => {
      const timer = setTimeout(done, REFRESH_MS);
      document.addEventListener("visibilitychange", done);
      function done() {
        if (document.hidden && view.status) return; // woken when somebody looks again
        clearTimeout(timer);
        document.removeEventListener("visibilitychange", done);
        resolve();
      }
    });
  }
}

$("all-failures").addEventListener("click", () => { view.allFailures = true; drawFailures(); });
run();
