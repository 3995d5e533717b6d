// Runs a script of calls with the JavaScript SDK v3: a JSON list of [service, operation, arguments] on stdin.
//
// Environment: FLINT_URL, FLINT_MODULES (where the SDK was installed) and the SDK's own AWS_* variables.

import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const require = createRequire(process.env.FLINT_MODULES + "/");
const packages = { iam: "iam", lambda: "lambda", logs: "cloudwatch-logs", sts: "sts" };
const services = {};
for (const [name, folder] of Object.entries(packages)) {
  const sdk = require(`@aws-sdk/client-${folder}`);
  const Client = Object.entries(sdk).find(([key]) => /^[A-Z].*Client$/.test(key) && key !== "__Client")[1];
  services[name] = { sdk, client: new Client({ endpoint: process.env.FLINT_URL, maxAttempts: 1 }) };
}

/** Turns `{"$blob": base64}` into bytes. */
function bytes(value) {
  if (Array.isArray(value)) return value.map(bytes);
  if (value === null || typeof value !== "object") return value;
  if ("$blob" in value) return Buffer.from(value.$blob, "base64");
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, bytes(inner)]));
}

let driven = 0;
for (const [service, operation, input] of JSON.parse(await text(process.stdin))) {
  const { sdk, client } = services[service];
  try {
    const answer = await client.send(new sdk[`${operation}Command`](bytes(input)));
    if (answer.EventStream) for await (const event of answer.EventStream) void event;
  } catch (error) {
    throw new Error(`${service}.${operation}: ${error}`, { cause: error });
  }
  driven += 1;
}
console.log(`driven ${driven}`);
