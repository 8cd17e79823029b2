// The live page: follows /live and shows each frame. What came from outside (users, paths, models)
// is only ever set as text. Addresses are relative, so that it works behind a path of a web server.

const $ = (id) => document.getElementById(id);
const WIDTH_SECONDS = [60, 300];
const PLOT = { width: 300, height: 54 };
const HIDDEN_MS = 60_000;
const RETRY_MS = 2_000;

const history = [];
const ended = [];
let abort = new AbortController();
let last = null;

follow();

/* The feed */

async function follow() {
  for (;;) {
    try {
      await read();
      link("lost", "the feed has ended");
    } catch (error) {
      if (error.name === "AbortError") {
        await visible();
        continue;
      }
      link("lost", "not reached");
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

async function read() {
  abort = new AbortController();
  const response = await fetch("live", { cache: "no-store", signal: abort.signal });
  if (response.status === 401) return login();
  if (!response.ok) {
    trouble(await response.text());
    throw new Error(response.statusText);
  }
  trouble("");
  ended.length = 0;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) show(JSON.parse(event.slice(event.indexOf("data: ") + 6)));
  }
}

// A tab that nobody sees is somebody who does not look.
let hiding = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => abort.abort(), HIDDEN_MS);
});

function visible() {
  link("connecting", "paused");
  if (!document.hidden) return null;
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true });
  });
}

function link(state, words) {
  document.body.dataset.link = state;
  $("link").textContent = words;
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

function login() {
  link("connecting", "not let in");
  $("live").hidden = true;
  $("login").hidden = false;
  $("token").focus();
  return new Promise((resolve) => {
    $("login").onsubmit = async (event) => {
      event.preventDefault();
      const answer = await post("login", { token: $("token").value });
      $("wrong").textContent = answer.ok ? "" : "That is not it.";
      if (!answer.ok) return;
      $("token").value = "";
      $("login").hidden = true;
      resolve();
    };
  });
}

function post(path, said) {
  return fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(said),
  });
}

/* Figures in words */

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const count = (n) => (n < 100_000 ? whole.format(n) : short.format(n));
const rate = (n) => (n === null ? "–" : n < 10 ? String(Math.round(n * 10) / 10) : count(Math.round(n)));

function bytes(n) {
  if (n === null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; n >= 999.5 && unit < 4; unit++) n /= 1000;
  return `${unit && n < 99.95 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

function seconds(s) {
  if (s === null || s === undefined) return "–";
  if (s < 0.9995) return `${s < 0.01 ? (s * 1000).toFixed(1) : Math.round(s * 1000)} ms`;
  if (s < 60) return `${s.toFixed(s < 10 ? 2 : 1)} s`;
  return span(s);
}

function span(s) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const at = Math.max(0, units.findIndex(([, size]) => s >= size));
  if (s < 1) return "0 s";
  const [unit, size] = units[at];
  const more = units[at + 1];
  const rest = more ? Math.floor((s % size) / more[1]) : 0;
  return `${Math.floor(s / size)} ${unit}${rest && at > 0 ? ` ${rest} ${more[0]}` : ""}`;
}

const percent = (share) => (share === null ? "–" : `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`);

/* One frame */

function show(frame) {
  last = frame;
  const { total } = frame;
  $("live").hidden = false;
  $("login").hidden = true;
  link(frame.state === "serving" ? "live" : "draining", frame.state === "serving" ? "live" : "draining");
  document.title = `${total.streams} streams · swproxy`;
  $("about").textContent = `${frame.version} · up ${span(frame.uptime)} · ${whole.format(total.requests)} requests, ${bytes(total.bytes_down)} of answers`;
  warn(frame);

  figure("streams", count(total.streams));
  $("connections").textContent = `${whole.format(frame.connections)} connections`;
  figure("requests", rate(total.requests_rate));
  keyed("refused", `${rate(total.refused_rate)} refused`);
  figure("p50", seconds(total.first_byte.p50));
  keyed("p95", `p95 ${seconds(total.first_byte.p95)} · p99 ${seconds(total.first_byte.p99)}`);
  figure("down", bytes(total.bytes_down_rate));
  $("down").title = `${whole.format(total.bytes_down)} bytes since the start`;
  keyed("up", `${bytes(total.bytes_up_rate)} up`);
  figure("tokens", rate(total.tokens_rate));
  $("tokens-total").textContent = `${count(total.tokens_in)} read, ${count(total.tokens_out)} written`;
  figure("active", count(frame.upstream_active));
  keyed("idle", `${whole.format(frame.upstream_idle)} kept idle`);
  remember(frame);

  apps(frame);
  rows($("workers"), frame.workers, (worker) => worker.name, workerRow);
  refusals(frame.refusals);
  running(frame);
  requests(frame.requests);
}

function warn(frame) {
  const said = [];
  if (frame.faults) said.push(`${frame.faults} faults of swproxy itself: its log has each.`);
  if (frame.log_lines_dropped) said.push(`${whole.format(frame.log_lines_dropped)} log lines dropped: whoever reads the log does not keep up.`);
  if (frame.ledger_errors) said.push(`${whole.format(frame.ledger_errors)} times the store of limits could not be asked, or written.`);
  trouble(said.join(" "));
}

function figure(id, text) {
  const [number, unit] = text.split(" ");
  const element = $(id);
  set(element, number);
  if (unit) {
    const small = document.createElement("small");
    small.textContent = unit;
    element.append(small);
  }
}

function keyed(id, text) {
  $(id).className = "more key";
  set($(id), text);
}

function set(element, text) {
  if (element.textContent !== text || element.children.length) element.textContent = text;
}

/* Tables: a row for each thing, kept while the thing is there */

function rows(table, things, key, cells) {
  const body = table.tBodies[0];
  const known = (table.known ??= new Map());
  const heads = table.tHead.rows[0].cells;
  const wanted = new Set(things.map(key));
  for (const [name, row] of known) {
    if (wanted.has(name)) continue;
    row.remove();
    known.delete(name);
  }
  things.forEach((thing, place) => {
    let row = known.get(key(thing));
    if (!row) {
      row = document.createElement("tr");
      for (const head of heads) row.insertCell().className = head.className;
      known.set(key(thing), row);
    }
    if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
    cells(thing, row);
  });
}

function fill(row, cells) {
  cells.forEach((content, place) => {
    const cell = row.cells[place];
    if (content instanceof Node) cell.replaceChildren(content);
    else if (cell.textContent !== content || cell.children.length) cell.textContent = content;
  });
}

function style(row, place, ...names) {
  row.cells[place].classList.add(...names);
}

function tag(text, kind = text) {
  const element = document.createElement("span");
  element.className = `tag ${kind}`;
  element.textContent = text;
  return element;
}

function bar(share) {
  const outer = document.createElement("span");
  const inner = document.createElement("i");
  outer.className = `bar ${share >= 0.95 ? "full" : share >= 0.75 ? "warn" : ""}`;
  inner.style.width = `${Math.min(100, share * 100)}%`;
  outer.append(inner);
  return outer;
}

function together(...parts) {
  const all = document.createDocumentFragment();
  all.append(...parts);
  return all;
}

function workerRow(worker, row) {
  style(row, 0, "strong");
  fill(row, [
    /^\d+$/.test(worker.name) ? `worker ${worker.name}` : worker.name,
    tag(worker.state),
    worker.state === "down" ? "–" : seconds(worker.beat),
    whole.format(worker.restarts),
    worker.name === "supervisor" ? "" : whole.format(worker.streams),
    worker.cpu === null ? "–" : together(percent(worker.cpu), bar(worker.cpu)),
    bytes(worker.memory),
  ]);
  row.title = worker.pid === null ? "" : `process ${worker.pid}, up ${span(worker.uptime)}`;
}

function apps(frame) {
  const things = [...frame.apps].sort((a, b) => b.requests - a.requests || (a.id < b.id ? -1 : 1));
  $("apps-more").textContent = frame.more_apps ? `the ${things.length} busiest; ${whole.format(frame.more_apps)} more` : "";
  rows($("apps"), things, (app) => app.id, (app, row) => {
    style(row, 0, "strong", "text");
    fill(row, [
      app.id,
      whole.format(app.streams),
      rate(app.requests_rate),
      rate(app.refused_rate),
      seconds(app.first_byte.p50),
      seconds(app.first_byte.p95),
      seconds(app.first_byte.p99),
      bytes(app.bytes_down_rate),
      rate(app.tokens_rate),
      together(...app.limits.map(limit)),
      app.keys ? together(...keys(app.keys)) : "not configured any more",
    ]);
  });
}

function limit({ kind, used, of }) {
  const line = document.createElement("span");
  const number = document.createElement("b");
  line.className = "limit";
  number.textContent = count(used);
  line.append(number, ` of ${count(of)} ${kind}`, bar(of ? used / of : 0));
  return line;
}

function keys({ secrets, secret_age: secret, key_age: key }) {
  return [
    ["key", key],
    [secrets > 1 ? `${secrets} secrets` : "secret", secret],
  ]
    .filter(([, age]) => age !== null)
    .map(([what, age]) => {
      const line = document.createElement("span");
      line.className = "limit";
      line.textContent = `${what} ${age < 86400 ? span(age) : `${Math.floor(age / 86400)} d`} old`;
      return line;
    });
}

function refusals(things) {
  $("refusals").replaceChildren(
    ...things.map((refusal) => {
      const item = document.createElement("li");
      const part = (name, text, kind = "span") => {
        const element = document.createElement(kind);
        element.className = name;
        element.textContent = text;
        return element;
      };
      const title = part("title", refusal.title);
      title.append(part("", `${refusal.status} ${refusal.code}`, "code"));
      const number = part("count", whole.format(refusal.count));
      if (refusal.rate) number.append(part("", `+${rate(refusal.rate)}/s`, "small"));
      item.append(title, number, part("remedy", refusal.remedy));
      return item;
    }),
  );
}

function running(frame) {
  const more = frame.more_streams;
  $("running-more").textContent = more ? `${frame.streams.length} of ${whole.format(frame.streams.length + more)}` : "";
  rows($("running"), frame.streams, (stream) => stream.id, (stream, row) => {
    style(row, 2, "text");
    style(row, 3, "text", "wide");
    fill(row, [
      span(stream.age),
      stream.app,
      stream.user || "–",
      `${stream.kind === "websocket" ? "WS" : stream.method} ${stream.origin}${stream.path}`,
      tag(stream.state),
      bytes(stream.bytes_up),
      bytes(stream.bytes_down),
      stream.tokens === null ? "–" : whole.format(stream.tokens),
    ]);
    row.title = `${stream.id} from ${stream.client}`;
    if (frame.actions !== row.cells[8].hasChildNodes()) acts(row.cells[8], frame.actions, stream);
  });
}

function requests(fresh) {
  if (!fresh.length && ended.length) return;
  ended.push(...fresh);
  ended.splice(0, Math.max(0, ended.length - 100));
  rows($("ended"), [...ended].reverse(), (each) => each.request_id, (each, row) => {
    if (row.done) return;
    row.done = true;
    style(row, 3, "text");
    style(row, 4, "text", "wide");
    style(row, 9, "mono");
    const tokens = each.tokens_in ?? null;
    const good = each.outcome === "complete" || each.outcome === "preflight";
    const why = each.code ?? (good ? "" : each.outcome);
    const kind = !good && each.status < 400 ? "s5" : `s${Math.floor(each.status / 100)}`;
    fill(row, [
      each.time.slice(11, 19),
      tag(`${each.status || "–"}${why ? ` ${why}` : ""}`, kind),
      each.app || "–",
      each.user ?? "–",
      each.origin ? `${each.method} ${each.origin}${each.path}` : `${each.method || "–"} from ${each.client}`,
      seconds(each.time_to_first_byte),
      seconds(each.duration),
      bytes(each.bytes_down),
      tokens === null ? "–" : `${whole.format(tokens)} + ${whole.format(each.tokens_out)}`,
      each.request_id,
    ]);
    row.title = [each.request_id, each.model, each.limit, each.detail].filter(Boolean).join(" · ");
  });
}

/* What may be done */

function acts(cell, allowed, stream) {
  cell.replaceChildren();
  if (!allowed) return;
  const button = (text, act) => {
    const element = document.createElement("button");
    element.type = "button";
    element.textContent = text;
    element.addEventListener("click", act);
    cell.append(element);
  };
  const whom = `${stream.app} · ${stream.user || "no user"} · ${stream.origin}${stream.path}`;
  button("End", () => sure("End this call?", whom, "Its client may call again.", "End it", "end", { id: stream.id }));
  if (stream.user) {
    const then = "All URLs signed for the user up to now end, calls under way as well. What is signed afterwards is good again.";
    const said = { app: stream.app, user: stream.user };
    button("Revoke user", () => sure("Revoke this user's URLs?", `${stream.app} · ${stream.user}`, then, "Revoke", "revoke", said));
  }
}

async function sure(what, whom, then, yes, path, said) {
  const dialog = $("sure");
  $("sure-what").textContent = what;
  $("sure-whom").textContent = whom;
  $("sure-then").textContent = then;
  $("sure-yes").textContent = yes;
  dialog.showModal();
  // Not the dialog's close, which is told later, and then might be that of the one before.
  const pressed = await new Promise((resolve) => {
    dialog.firstElementChild.onsubmit = (event) => resolve(event.submitter.value);
    dialog.oncancel = () => resolve("no");
  });
  if (pressed !== "yes") return;
  const answer = await post(path, said);
  if (!answer.ok) alert(await answer.text());
}

/* Plots: plain SVG, from one minute wide to five */

function remember(frame) {
  const { total } = frame;
  history.push({
    time: frame.time,
    streams: total.streams,
    requests: total.requests_rate,
    refused: total.refused_rate,
    p50: total.first_byte.p50,
    p95: total.first_byte.p95,
    down: total.bytes_down_rate,
    up: total.bytes_up_rate,
    tokens: total.tokens_rate,
    active: frame.upstream_active,
    idle: frame.upstream_idle,
  });
  while (history[0].time < frame.time - WIDTH_SECONDS[1]) history.shift();
  if (document.hidden) return;
  for (const tile of document.querySelectorAll("[data-plot]")) plot(tile, frame.time);
}

function plot(tile, now) {
  tile.parts ??= drawn(tile);
  const [first, second] = tile.parts.names;
  const most = Math.max(1e-9, ...history.flatMap((each) => [each[first] ?? 0, second ? (each[second] ?? 0) : 0]));
  const width = Math.max(WIDTH_SECONDS[0], now - history[0].time);
  const line = (name) => path(name, most * 1.08, now, width);
  const [d, area] = line(first);
  tile.parts.line.setAttribute("d", d);
  tile.parts.area.setAttribute("d", area);
  if (second) tile.parts.second.setAttribute("d", line(second)[0]);
}

function drawn(tile) {
  const names = tile.dataset.plot.split(" ");
  const svg = svgPart("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const area = svgPart("path", { class: "area" });
  const line = svgPart("path", { class: "line" });
  const second = svgPart("path", { class: "line second" });
  svg.append(area, second, line);
  tile.append(svg);
  return { names, area, line, second };
}

function svgPart(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Returns a line, and the area below it; where nothing is known, or nobody looked, it is broken.
function path(name, most, now, width) {
  let line = "";
  let area = "";
  let before = null;
  for (const each of history) {
    const value = each[name];
    if (value === null) {
      before = null;
      continue;
    }
    const x = (PLOT.width * (1 - (now - each.time) / width)).toFixed(1);
    const y = (PLOT.height * (1 - value / most)).toFixed(1);
    const joined = before && each.time - before.time < 5;
    line += `${joined ? "L" : "M"}${x} ${y}`;
    if (joined) area += `M${before.x} ${PLOT.height}L${before.x} ${before.y}L${x} ${y}L${x} ${PLOT.height}Z`;
    before = { time: each.time, x, y };
  }
  return [line, area];
}
