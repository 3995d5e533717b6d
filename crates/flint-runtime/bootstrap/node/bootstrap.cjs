// The Node runtime: loads the handler (CommonJS or ES module), then asks the Runtime API for events, one at a time.
//
// Speaks HTTP over one plain socket, which is not counted as work while a handler runs, so that an empty event loop can
// be told from a busy one. Behaves as the Lambda Developer Guide, "Building Lambda functions with Node.js", says.
"use strict";

const fs = require("fs");
const net = require("net");
const path = require("path");
const util = require("util");

const API = "/2018-06-01/runtime/";
const env = process.env;
let requestId; // of the event in flight; console writes it

// The Runtime API over one connection that is kept.

class Client {
  constructor(address) {
    const colon = address.lastIndexOf(":");
    this.host = address;
    this.where = { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
    this.connect();
  }

  connect() {
    this.received = Buffer.alloc(0);
    const socket = net.connect(this.where);
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk) => {
      this.received = this.received.length ? Buffer.concat([this.received, chunk]) : chunk;
      this.deliver();
    });
    const lost = (error) => {
      if (this.socket === socket) {
        this.socket = undefined;
        this.fail(error || new Error("the Runtime API closed the connection"));
      }
    };
    socket.on("error", lost);
    socket.on("close", () => lost());
  }

  // Gives status, headers (lower case) and body.
  async exchange(head, body) {
    try {
      return await this.attempt(head, body);
    } catch {
      // The connection went away while nothing was under way. An answer that was taken already is refused now.
      return await this.attempt(head, body);
    }
  }

  attempt(head, body) {
    if (!this.socket) this.connect();
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      this.socket.ref();
      this.socket.write(head);
      if (body.length) this.socket.write(body);
    });
  }

  fail(error) {
    const waiting = this.waiting;
    this.waiting = undefined;
    if (waiting) waiting.reject(error);
  }

  deliver() {
    if (!this.waiting) return;
    const end = this.received.indexOf("\r\n\r\n");
    if (end < 0) return;
    const lines = this.received.toString("utf8", 0, end).split("\r\n");
    const headers = {};
    for (const line of lines.slice(1)) {
      const colon = line.indexOf(":");
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const length = Number(headers["content-length"] || 0);
    if (this.received.length < end + 4 + length) return;
    const body = this.received.subarray(end + 4, end + 4 + length);
    this.received = this.received.subarray(end + 4 + length);
    this.socket.unref();
    const waiting = this.waiting;
    this.waiting = undefined;
    waiting.resolve({ status: Number(lines[0].split(" ")[1]), headers, body });
  }

  next() {
    return this.exchange(`GET ${API}invocation/next HTTP/1.1\r\nHost: ${this.host}\r\n\r\n`, "");
  }

  post(where, text, headers = "") {
    const body = Buffer.from(text, "utf8");
    const head = `POST ${API}${where} HTTP/1.1\r\nHost: ${this.host}\r\nContent-Type: application/json\r\n${headers}`;
    return this.exchange(`${head}Content-Length: ${body.length}\r\n\r\n`, body);
  }
}

// Errors.

class Fault extends Error {
  constructor(kind, message, stack) {
    super(message);
    this.name = kind;
    if (stack) this.stack = stack;
  }
}

function document(error) {
  if (error instanceof Error || util.types.isNativeError(error)) {
    return {
      errorType: String(error.name),
      errorMessage: String(error.message),
      trace: String(error.stack || "").split("\n"),
    };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

function logError(what, error) {
  const { errorType, errorMessage, trace } = document(error);
  const own = error && typeof error === "object" ? { ...error } : {};
  delete own.name;
  let text;
  try {
    text = JSON.stringify({ errorType, errorMessage, ...own, stack: trace });
  } catch {
    text = JSON.stringify({ errorType, errorMessage, stack: trace });
  }
  write("ERROR", `${what} \t${text}`);
}

function typeHeader(doc) {
  return `Lambda-Runtime-Function-Error-Type: ${doc.errorType.replace(/[^A-Za-z0-9._-]/g, "")}\r\n`;
}

// The log: one event per call of console, lines within it kept together by carriage returns.

function write(level, text) {
  const line = `${new Date().toISOString()}\t${requestId}\t${level}\t${text}`.replace(/\r?\n/g, "\r") + "\n";
  let data = Buffer.from(line, "utf8");
  while (data.length) {
    try {
      data = data.subarray(fs.writeSync(1, data));
    } catch (error) {
      if (error.code !== "EAGAIN") return;
    }
  }
}

const LEVELS = { log: "INFO", info: "INFO", debug: "DEBUG", trace: "TRACE", warn: "WARN", error: "ERROR" };
for (const [name, level] of Object.entries(LEVELS)) {
  console[name] = (...parts) => write(level, util.format(...parts));
}

// The handler.

const TASK = env.LAMBDA_TASK_ROOT || "/var/task";

function moduleFile(base) {
  for (const end of ["", ".js", ".mjs", ".cjs"]) {
    const stat = fs.statSync(base + end, { throwIfNoEntry: false });
    if (stat && stat.isFile()) return base + end;
  }
  return undefined;
}

function isModule(file) {
  if (!file.endsWith(".js")) return file.endsWith(".mjs");
  for (let dir = path.dirname(file); ; dir = path.dirname(dir)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(dir, "package.json"), "utf8")).type === "module";
    } catch (error) {
      if (error.code !== "ENOENT") return false;
    }
    if (dir === path.dirname(dir)) return false;
  }
}

async function loadModule(name) {
  const file = moduleFile(path.resolve(TASK, name));
  try {
    if (file && isModule(file)) return await import(require("url").pathToFileURL(file).href);
    return require(file || require.resolve(name, { paths: [TASK, "/opt/nodejs"] }));
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new Fault("Runtime.UserCodeSyntaxError", String(error), error.stack);
    }
    if (error && ["MODULE_NOT_FOUND", "ERR_MODULE_NOT_FOUND"].includes(error.code)) {
      throw new Fault("Runtime.ImportModuleError", String(error), error.stack);
    }
    throw error;
  }
}

async function loadHandler(text) {
  if (text.includes("..")) {
    throw new Fault("Runtime.MalformedHandlerName", `'${text}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const base = path.basename(text);
  const match = /^([^.]*)\.(.+)$/.exec(base);
  if (!match) throw new Fault("Runtime.MalformedHandlerName", "Bad handler");
  const directory = text.slice(0, text.length - base.length);
  const loaded = await loadModule(directory + match[1]);
  const find = (from) => match[2].split(".").reduce((at, name) => (at == null ? undefined : at[name]), from);
  const handler = find(loaded) || (loaded && find(loaded.default));
  if (handler === undefined) {
    throw new Fault("Runtime.HandlerNotFound", `${text} is undefined or not exported`);
  }
  if (typeof handler !== "function") throw new Fault("Runtime.HandlerNotFound", `${text} is not a function`);
  return handler;
}

// One event.

function makeContext(headers, settle) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const parsed = (name) => (headers[name] ? JSON.parse(headers[name]) : undefined);
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: parsed("lambda-runtime-client-context"),
    identity: parsed("lambda-runtime-cognito-identity"),
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    awsRequestId: requestId,
    getRemainingTimeInMillis: () => Math.max(deadline - Date.now(), 0),
    done: (error, result) => settle(error, result, true),
    fail: (error) => settle(error || new Error("unknown"), undefined, true),
    succeed: (result) => settle(null, result, true),
  };
}

// Gives { error } or { result }; an answer by callback waits for an empty event loop unless it is told not to.
function run(handler, event, headers) {
  return new Promise((resolve) => {
    let context;
    let given;
    const finish = () => {
      process.removeListener("beforeExit", finish);
      resolve(given || {});
    };
    const settle = (error, result, now) => {
      if (given) return;
      given = error ? { error } : { result };
      if (now || !context.callbackWaitsForEmptyEventLoop) setImmediate(finish);
    };
    process.on("beforeExit", finish);
    try {
      context = makeContext(headers, settle);
      const returned = handler(event, context, (error, result) => settle(error, result, false));
      if (returned && typeof returned.then === "function") {
        returned.then(
          (result) => settle(null, result, true),
          (error) => settle(error || new Error(String(error)), undefined, true),
        );
      }
    } catch (error) {
      settle(error, undefined, true);
    }
  });
}

async function answer(client, handler, headers, body) {
  const id = requestId;
  let outcome;
  try {
    outcome = await run(handler, JSON.parse(body.toString("utf8")), headers);
    if (!outcome.error) {
      let text = JSON.stringify(outcome.result);
      if (text === undefined) text = "null";
      // A response that is refused for its size (413) is reported by the platform, which has refused it.
      await client.post(`invocation/${id}/response`, text);
      return;
    }
  } catch (error) {
    outcome = { error };
  }
  logError("Invoke Error", outcome.error);
  const doc = document(outcome.error);
  await client.post(`invocation/${id}/error`, JSON.stringify(doc), typeHeader(doc));
}

async function main() {
  process.argv.splice(1);
  module.paths.push("/opt/nodejs/node_modules");
  const client = new Client(env.AWS_LAMBDA_RUNTIME_API);
  let loading = true;
  const fallen = (error, code) => {
    logError("Uncaught Exception", error);
    const doc = document(error);
    const where = loading ? "init/error" : `invocation/${requestId}/error`;
    client.post(where, JSON.stringify(doc), typeHeader(doc)).finally(() => process.exit(code));
  };
  process.on("uncaughtException", (error) => fallen(error, 129));
  process.on("unhandledRejection", (reason) => {
    const stack = reason instanceof Error ? reason.stack : undefined;
    fallen(new Fault("Runtime.UnhandledPromiseRejection", String(reason), stack), 128);
  });
  let handler;
  try {
    handler = await loadHandler(env._HANDLER || "");
  } catch (error) {
    return fallen(error, 1);
  }
  loading = false;
  for (;;) {
    const { status, headers, body } = await client.next();
    if (status !== 200) throw new Error(`the Runtime API answered ${status}: ${body}`);
    requestId = headers["lambda-runtime-aws-request-id"];
    if (headers["lambda-runtime-trace-id"]) env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"];
    else delete env._X_AMZN_TRACE_ID;
    await answer(client, handler, headers, body);
  }
}

main();
