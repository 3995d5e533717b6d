// The behaviours of the runtime suite, in Node. `app.py` and `main.rs` say the same.
"use strict";

const fs = require("fs");

console.log("init");
let count = 0;

class CustomError extends Error {
  constructor(message) {
    super(message);
    this.name = "CustomError";
  }
}

function custom() {
  throw new CustomError("of my own");
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const behaviours = {
  count: () => ++count,
  context: (event, context) => ({
    function_name: context.functionName,
    function_version: context.functionVersion,
    memory: Number(context.memoryLimitInMB),
    request_id: context.awsRequestId,
    arn: context.invokedFunctionArn,
    log_group: context.logGroupName,
    log_stream: context.logStreamName,
    remaining: context.getRemainingTimeInMillis(),
    custom: context.clientContext ? context.clientContext.custom : null,
    env: context.clientContext ? context.clientContext.env : null,
    trace: process.env._X_AMZN_TRACE_ID || null,
  }),
  remaining: async (event, context) => {
    const first = context.getRemainingTimeInMillis();
    await wait(100);
    return [first, context.getRemainingTimeInMillis()];
  },
  variable: (event) => process.env[event.name] || null,
  directory: () => process.cwd(),
  write: (event) => {
    try {
      fs.writeFileSync(event.path, "x");
      return "written";
    } catch {
      return "refused";
    }
  },
  read: (event) => fs.readFileSync(event.path, "utf8"),
  size: (event) => [...event.text].length,
  fill: (event) => "x".repeat(event.size - 2),
  raise: (event) => {
    const error = new Error(event.message || "no way");
    error.name = "ValueError";
    throw error;
  },
  custom,
  print: (event) => {
    for (const line of event.lines) process.stdout.write(line + "\n");
    return null;
  },
  print_error: (event) => {
    process.stderr.write(event.line + "\n");
    return null;
  },
  print_unfinished: (event) => {
    process.stdout.write(event.line);
    return null;
  },
  exit: (event) => process.exit(event.code),
  kill: async () => {
    process.kill(process.pid, "SIGKILL");
    await wait(60000);
  },
  sleep: async (event) => {
    await wait((event.seconds || 60) * 1000);
    return "slept";
  },
  eat: () => {
    const held = [];
    for (;;) held.push(Buffer.alloc(8 << 20, 1));
  },
};

exports.handler = async (event, context) => {
  if (event && typeof event === "object" && "do" in event) return behaviours[event.do](event, context);
  return event;
};

exports.other = async () => "other";
