// A reader of JSON bodies as an API in JavaScript is one: TextDecoder and JSON.parse, which is what
// Response.json() does. A line of base64 comes in; a line of JSON goes out, null where JavaScript
// does not read the body.
import { createInterface } from "node:readline";

function read(bytes) {
  let body;
  try {
    body = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
  if (typeof body !== "object" || body === null || Array.isArray(body)) return null;
  const values = {
    model: body.model,
    max_tokens: body.max_tokens,
    temperature: body.temperature,
    include_usage: body.stream_options?.include_usage,
    role: body.messages?.[0]?.role,
    tools: body.tools,
  };
  return { values, names: Object.keys(body) };
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(read(Buffer.from(line, "base64"))));
}
