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

  // A request whose body is written piece by piece. Gives { write, answer }.
  open(where) {
    const head = `POST ${API}${where} HTTP/1.1\r\nHost: ${this.host}\r\n`;
    let begun = false;
    let over = false; // answered, or the connection is gone: nobody reads what is still written
    let settle;
    const answer = new Promise((resolve, reject) => (settle = { resolve, reject }));
    answer.catch(() => {});
    let complete = false;
    const write = (parts, last, done) => {
      if (over) return done();
      if (!begun) {
        begun = true;
        if (!this.socket) this.connect();
        const socket = this.socket;
        this.waiting = {
          resolve: (given) => {
            over = true;
            // Refused before its end: the rest would be taken for another request.
            if (!complete && this.socket === socket) {
              this.socket = undefined;
              socket.destroy();
            }
            settle.resolve(given);
          },
          reject: (error) => {
            over = true;
            settle.reject(error);
          },
        };
        socket.write(head);
      }
      complete = last;
      // Until then an empty event loop shall show.
      if (last) this.socket.ref();
      this.socket.cork();
      for (const part of parts.slice(0, -1)) this.socket.write(part);
      this.socket.write(parts[parts.length - 1], () => done());
      this.socket.uncork();
    };
    return { write, answer };
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
  if (jsonLine) return write("ERROR", [error instanceof Error ? error : new Error(error)]);
  const { errorType, errorMessage, trace } = document(error);
  const own = error && typeof error === "object" ? { ...error } : {};
  delete own.name;
  let text;
  try {
    text = JSON.stringify({ errorType, errorMessage, ...own, stack: trace });
  } catch {
    text = JSON.stringify({ errorType, errorMessage, stack: trace });
  }
  write("ERROR", [`${what} \t${text}`]);
}

function typeHeader(doc) {
  return `Lambda-Runtime-Function-Error-Type: ${doc.errorType.replace(/[^A-Za-z0-9._-]/g, "")}\r\n`;
}

// The log: one event per call of console; in text, lines within it are kept together by carriage returns.

const jsonLine =
  (env.AWS_LAMBDA_LOG_FORMAT || "").toUpperCase() === "JSON" ? require("./_json_log.cjs").line : undefined;

function write(level, parts) {
  const line = jsonLine
    ? jsonLine(level, requestId, parts)
    : `${new Date().toISOString()}\t${requestId}\t${level}\t${util.format(...parts)}`;
  let data = Buffer.from(line.replace(/\r?\n/g, "\r") + "\n", "utf8");
  while (data.length) {
    try {
      data = data.subarray(fs.writeSync(1, data));
    } catch (error) {
      if (error.code !== "EAGAIN") return;
    }
  }
}

const ORDER = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
const LEAST = ORDER.indexOf((env.AWS_LAMBDA_LOG_LEVEL || "").toUpperCase());
const LEVELS = { log: "INFO", info: "INFO", debug: "DEBUG", trace: "TRACE", warn: "WARN", error: "ERROR", fatal: "FATAL" };
for (const [name, level] of Object.entries(LEVELS)) {
  // FATAL has no filter; the reference's has none either.
  const shown = name === "fatal" || ORDER.indexOf(level) >= LEAST;
  console[name] = shown ? (...parts) => write(level, parts) : () => {};
}

// `awslambda`, the global that streaming handlers are written with.

const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
const HIGH_WATER_MARK = Symbol.for("aws.lambda.runtime.handler.streaming.highWaterMark");

globalThis.awslambda = {
  streamifyResponse(handler, options) {
    handler[STREAMING] = "response";
    if (options && typeof options.highWaterMark === "number") handler[HIGH_WATER_MARK] = parseInt(options.highWaterMark);
    return handler;
  },
  HttpResponseStream: class HttpResponseStream {
    // The head of an HTTP answer, as JSON, before the body; eight zero bytes lie between.
    static from(stream, head) {
      stream.setContentType("application/vnd.awslambda.http-integration-response");
      const text = JSON.stringify(head);
      stream._onBeforeFirstWrite = (write) => {
        write(text);
        write(new Uint8Array(8));
      };
      return stream;
    }
  },
};

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

// The stack of a syntax error, with the line of the file first. Node keeps that to itself for ES modules: asked once more, it says it.
function stackWithPlace(error, file) {
  const stack = String(error.stack);
  if (!file || /^\S+:\d+\n/.test(stack)) return stack;
  const options = { encoding: "utf8", timeout: 2000, stdio: ["ignore", "ignore", "pipe"], env: { ...env, NODE_OPTIONS: "" } };
  const said = require("child_process").spawnSync(process.execPath, ["--check", file], options).stderr || "";
  const place = /^(?:file:\/\/)?(\S+:\d+\n[^]*?)\n\n?SyntaxError/.exec(said);
  return place ? `${place[1]}\n\n${stack}` : stack;
}

async function loadModule(name) {
  const file = moduleFile(path.resolve(TASK, name));
  try {
    if (file && isModule(file)) return await import(require("url").pathToFileURL(file).href);
    return require(file || require.resolve(name, { paths: [TASK, "/opt/nodejs"] }));
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new Fault("Runtime.UserCodeSyntaxError", String(error), stackWithPlace(error, file));
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
  if (handler[STREAMING] && handler[STREAMING] !== "response") {
    throw new Fault("Runtime.MalformedStreamingHandler", "Only response streaming is supported.");
  }
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
    tenantId: headers["lambda-runtime-aws-tenant-id"],
    getRemainingTimeInMillis: () => Math.max(deadline - Date.now(), 0),
    // A streaming handler has a stream to end instead.
    ...(settle && {
      done: (error, result) => settle(error, result, true),
      fail: (error) => settle(error || "handled", undefined, true),
      succeed: (result) => settle(null, result, true),
    }),
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

let openStream; // of the event in flight

async function answerStreaming(client, handler, headers, body) {
  const id = requestId;
  const options = { highWaterMark: handler[HIGH_WATER_MARK] };
  const { run } = require("./_streaming.cjs");
  const active = (stream) => (openStream = stream);
  let outcome;
  try {
    const event = JSON.parse(body.toString("utf8"));
    outcome = await run(handler, event, () => makeContext(headers), client, id, options, Fault, active);
  } catch (error) {
    outcome = { error };
  }
  const stream = openStream;
  openStream = undefined;
  if (!("error" in outcome)) return;
  logError("Invoke Error", outcome.error);
  const doc = document(outcome.error);
  if (stream) await stream.fail(doc);
  else await client.post(`invocation/${id}/error`, JSON.stringify(doc), typeHeader(doc));
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
  const fallen = (error, code, what = "Uncaught Exception") => {
    logError(what, error);
    const doc = document(error);
    const where = loading ? "init/error" : `invocation/${requestId}/error`;
    // An answer that has begun to stream can only end in its trailers.
    const told = openStream ? openStream.fail(doc) : client.post(where, JSON.stringify(doc), typeHeader(doc));
    told.finally(() => process.exit(code));
  };
  process.on("uncaughtException", (error) => fallen(error, 129));
  process.on("unhandledRejection", (reason) => {
    const stack = reason instanceof Error ? reason.stack : undefined;
    fallen(new Fault("Runtime.UnhandledPromiseRejection", String(reason), stack), 128, "Unhandled Promise Rejection");
  });
  let handler;
  try {
    handler = await loadHandler(env._HANDLER || "");
  } catch (error) {
    return fallen(error, 1);
  }
  loading = false;
  const respond = handler[STREAMING] ? answerStreaming : answer;
  for (;;) {
    const { status, headers, body } = await client.next();
    if (status !== 200) throw new Error(`the Runtime API answered ${status}: ${body}`);
    requestId = headers["lambda-runtime-aws-request-id"];
    if (headers["lambda-runtime-trace-id"]) env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"];
    else delete env._X_AMZN_TRACE_ID;
    await respond(client, handler, headers, body);
  }
}

main();
