// The page's side of a signed call: fetch a URL from the backend, call it, show what comes.

const $ = (id) => document.getElementById(id);
const starters = [$("go"), $("talk")];
let starter = $("go");
let abort = null;
let last = null;
let waiting = 0;

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(stream, "/sign");
});
$("talk").addEventListener("click", () => ask(talk, "/sign-realtime"));
$("stop").addEventListener("click", () => abort?.abort());
$("user").addEventListener("change", showBudget);
showBudget();
for (const chip of document.querySelectorAll(".chip")) {
  chip.addEventListener("click", () => {
    $("prompt").value = chip.textContent;
    if (!$("go").disabled) $("form").requestSubmit();
  });
}

async function ask(how, where) {
  abort = new AbortController();
  begin();
  try {
    step(1, "signing");
    const url = await signedUrl(where, abort.signal);
    step(2, "calling");
    await how(url, $("prompt").value, abort.signal);
    end("done", "complete");
  } catch (error) {
    if (error.name === "AbortError") {
      end("idle", "stopped");
    } else {
      showProblem(error);
      end("failed", "failed");
    }
  }
}

async function signedUrl(where, signal) {
  if ($("again").checked && last) return last;
  const response = await fetch(where, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user: $("user").value }),
    signal,
  });
  if (!response.ok) throw await problemOf(response);
  const url = new URL((await response.json()).url);
  const tampered = $("tamper").checked;
  if (tampered) url.searchParams.set("X-Sw-Expires", "86400");
  showSignedUrl(url, tampered ? "X-Sw-Expires" : null);
  last = url;
  return url;
}

async function stream(url, prompt, signal) {
  const began = performance.now();
  const response = await call(url, prompt, signal);
  await show(response, began);
}

async function call(url, prompt, signal) {
  const cheat = $("cheat").checked;
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      model: cheat ? "stand-in-1-large" : "stand-in-1",
      max_completion_tokens: cheat ? 4000 : 300,
      stream: true,
      stream_options: { include_usage: true },
      messages: [{ role: "user", content: prompt }],
    }),
    signal,
  });
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function show(response, began) {
  let tokens = 0;
  let whole = false;
  for await (const data of events(response.body, () => figure("first-byte", since(began)))) {
    if (data === "[DONE]") {
      whole = true;
      continue;
    }
    const chunk = JSON.parse(data);
    const piece = chunk.choices[0]?.delta.content;
    if (piece) {
      step(3, "streaming");
      $("answer").append(piece);
      figure("tokens", (tokens += 1));
    }
    if (chunk.usage) figure("tokens", `${chunk.usage.completion_tokens} + ${chunk.usage.prompt_tokens}`);
    figure("total", since(began));
  }
  if (!whole) throw new Problem("The answer is incomplete", "It ended before its end was announced.");
}

// What swproxy has counted, as the backend is told it. A call that is under way has tokens held.
async function showBudget() {
  const user = $("user").value;
  const response = await fetch("/budget", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user }),
  });
  if (!response.ok || user !== $("user").value) return;
  const { left, of, each } = await response.json();
  const count = (tokens) => tokens.toLocaleString("en");
  figure("budget-title", `${user}'s tokens this ${each}, by swproxy's count`);
  figure("budget", `${count(of - left)} used, ${count(left)} left`);
}

// The same signed way in, for a connection on which both sides talk.
function talk(url, prompt, signal) {
  const began = performance.now();
  const socket = new WebSocket(url);
  let opened = false;
  let whole = false;
  let tokens = 0;
  socket.onopen = () => {
    opened = true;
    socket.send(JSON.stringify({ type: "response.create", text: prompt }));
  };
  socket.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    if (event.type === "response.output_text.delta") {
      if (!tokens) figure("first-byte", since(began));
      step(3, "talking");
      $("answer").append(event.delta);
      figure("tokens", (tokens += 1));
    } else if (event.type === "response.done") {
      whole = true;
      socket.close(1000);
    }
    figure("total", since(began));
  };
  signal.addEventListener("abort", () => socket.close(1000));
  return new Promise((resolve, reject) => {
    socket.onclose = async () => {
      if (signal.aborted) reject(new DOMException("stopped", "AbortError"));
      else if (whole) resolve();
      else reject(opened ? new Problem("The connection ended early", "") : await refusal(url));
    };
  });
}

// A browser does not say why a WebSocket was refused. Asked for over HTTP, the same URL does.
async function refusal(url) {
  const plain = new URL(url);
  plain.protocol = url.protocol.replace("ws", "http");
  return problemOf(await fetch(plain));
}

// The data of each server-sent event, as it arrives.
async function* events(body, onFirstByte) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (let first = true; ; first = false) {
    const { done, value } = await reader.read();
    if (done) return;
    if (first) onFirstByte();
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}

class Problem extends Error {
  constructor(title, detail, code = "", wait = 0) {
    super(detail);
    Object.assign(this, { title, detail, code, wait });
  }
}

// swproxy explains itself in application/problem+json, the model in OpenAI's error format.
async function problemOf(response) {
  const said = await response.json().catch(() => ({}));
  const title = said.title ?? "The request failed";
  const code = said.code ?? said.error?.code;
  const wait = Number(response.headers.get("Retry-After"));
  return new Problem(title, said.detail ?? said.error?.message ?? "", [response.status, code].filter(Boolean).join(" "), wait);
}

function showProblem(error) {
  const problem = error instanceof Problem ? error : new Problem("The connection failed", error.message);
  $("problem-title").textContent = problem.title;
  $("problem-detail").textContent = problem.detail;
  $("problem-code").textContent = problem.code;
  $("problem").hidden = false;
  countDown(problem.wait ?? 0);
}

// Retry-After says in how many seconds the same call is taken.
function countDown(seconds) {
  clearInterval(waiting);
  const until = performance.now() + 1000 * seconds;
  const tell = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    $("problem-wait").textContent = left > 0 ? `again in ${left} s` : "now it would be taken";
    if (left <= 0) clearInterval(waiting);
  };
  $("problem-wait").hidden = !seconds;
  if (seconds) {
    tell();
    waiting = setInterval(tell, 250);
  }
}

// The terms stand in the fragment of the destination: pairs joined by &, percent-encoded.
function termsOf(url) {
  const [, fragment = ""] = url.searchParams.get("X-Sw-Proxy").split("#sw1:");
  return fragment.split("&").filter(Boolean).map((pair) => {
    const at = pair.indexOf("=");
    return [pair.slice(0, at), pair.slice(at + 1)].map(decodeURIComponent);
  });
}

const words = {
  "uses": (value) => (value === "1" ? "works once" : `works ${value} times`),
  "tag.call": (value) => `told from others by ${value}`,
  "user": (value) => `for ${value}, and nobody else`,
  "tokens": (value) => `uses ${value} tokens at most`,
  "seconds": (value) => `a call lasts ${value} seconds at most`,
  "websocket": () => "for a WebSocket only",
  "body.model": (value) => `asks ${value.split(",").join(" or ")}`,
  "body.max_completion_tokens": (value) => `for ${value.split("..")[1]} tokens at most`,
  "body.messages.0.role": (value) => `the first message is the ${value}'s`,
  "body.stream": () => "the answer is streamed",
  "body.stream_options.include_usage": () => "and says what it used",
  "body": () => "nothing else in the request",
};

function showTerms(url) {
  const terms = termsOf(url);
  $("terms-title").hidden = !terms.length;
  $("terms").replaceChildren(
    ...terms.map(([name, value]) => {
      const item = document.createElement("li");
      item.textContent = words[name]?.(value) ?? `${name}: ${value}`;
      item.title = `${name}=${value}`;
      return item;
    }),
  );
}

function showSignedUrl(url, changed) {
  showTerms(url);
  const rows = [["sent to", url.origin + url.pathname]];
  for (const [name, value] of url.searchParams) rows.push([name, value]);
  $("signed").replaceChildren(
    ...rows.map(([name, value]) => {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name.replace("X-Sw-", "");
      text.textContent = (value || "none") + (name === changed ? "  ← tampered with" : "");
      text.title = value;
      if (name === changed) row.className = "changed";
      row.append(term, text);
      return row;
    }),
  );
}

function begin() {
  $("answer").replaceChildren();
  $("answer").setAttribute("aria-busy", "true");
  $("problem").hidden = true;
  clearInterval(waiting);
  for (const id of ["first-byte", "total", "tokens"]) figure(id, "–");
  press(true);
}

function end(kind, words) {
  step(0, words, kind);
  $("answer").setAttribute("aria-busy", "false");
  press(false);
  // The end of a call that was stopped takes its way through the proxy first.
  showBudget();
  setTimeout(showBudget, 500);
}

// Whether a new call can be made or the present one stopped. The keyboard's focus must not stay on
// a button that is disabled; it comes back to the one that it was on.
function press(busy) {
  const focused = document.activeElement;
  for (const id of ["go", "talk"]) $(id).disabled = busy;
  $("stop").disabled = !busy;
  if (busy && starters.includes(focused)) {
    starter = focused;
    $("stop").focus();
  } else if (!busy && focused === $("stop")) {
    starter.focus();
  }
}

function step(number, words, kind = "busy") {
  $("flow").dataset.step = number;
  $("state").dataset.state = kind;
  if ($("state").textContent !== words) $("state").textContent = words;
}

function figure(id, value) {
  $(id).textContent = value;
}

function since(began) {
  const ms = performance.now() - began;
  return ms < 1000 ? `${ms.toFixed(ms < 100 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}
