// Ordinary Node programs, each a function that resolves to something true when it did its work.
"use strict";

const childProcess = require("child_process");
const crypto = require("crypto");
const dns = require("dns/promises");
const fs = require("fs");
const http = require("http");
const net = require("net");
const os = require("os");
const path = require("path");
const stream = require("stream/promises");
const v8 = require("v8");
const { Worker } = require("worker_threads");
const zlib = require("zlib");

const folder = () => fs.mkdtempSync("/tmp/node-");
const once = (emitter, name) => new Promise((good, bad) => emitter.once(name, good).once("error", bad));
// (module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))
const ADD = Buffer.from("0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b", "hex");

const programs = {
  "Node: compiled JavaScript": () => {
    let sum = 0;
    for (let n = 0; n < 5e6; n += 1) sum = (sum + n * n) % 1000003;
    return sum > 0;
  },
  "Node: WebAssembly": async () => (await WebAssembly.instantiate(ADD)).instance.exports.add(40, 2) === 42,
  "Node: worker threads": async () => {
    const workers = [1, 2, 3].map((n) => {
      const worker = new Worker(`const { parentPort, workerData } = require("worker_threads");
        Atomics.add(workerData.all, 0, workerData.n); parentPort.postMessage("done")`,
      { eval: true, workerData: { n, all } });
      return once(worker, "message");
    });
    await Promise.all(workers);
    return all[0] === 6;
  },
  "Node: child processes": async () => {
    const program = path.join(folder(), "child.js");
    fs.writeFileSync(program, "process.send(process.pid)");
    const child = childProcess.fork(program);
    const pid = await once(child, "message");
    child.kill();
    return pid === child.pid && childProcess.execSync("echo a | tr a b").toString() === "b\n";
  },
  "Node: HTTP and fetch": async () => {
    const server = http.createServer((_, answer) => answer.end("ok")).listen(0, "127.0.0.1");
    await once(server, "listening");
    const answer = await (await fetch(`http://127.0.0.1:${server.address().port}/`)).text();
    server.closeAllConnections();
    server.close();
    return answer === "ok";
  },
  "Node: local sockets": async () => {
    const place = path.join(folder(), "socket");
    const server = net.createServer((socket) => socket.end("hi")).listen(place);
    await once(server, "listening");
    const text = await new Promise((good) => net.connect(place).on("data", good));
    server.close();
    return text.toString() === "hi";
  },
  "Node: files and watches": async () => {
    const place = folder();
    const watcher = fs.watch(place);
    const changed = once(watcher, "change");
    fs.writeFileSync(path.join(place, "a"), "x".repeat(1e5));
    await changed;
    watcher.close();
    fs.copyFileSync(path.join(place, "a"), path.join(place, "b"));
    const file = fs.openSync(path.join(place, "b"), "r+");
    fs.writevSync(file, [Buffer.from("one"), Buffer.from("two")], 10);
    fs.readvSync(file, [Buffer.alloc(2), Buffer.alloc(2)], 0);
    fs.fsyncSync(file);
    fs.closeSync(file);
    fs.cpSync(place, place + "-c", { recursive: true });
    fs.rmSync(place, { recursive: true });
    return fs.statSync(path.join(place + "-c", "b")).size === 1e5 && fs.statfsSync("/tmp").bsize > 0;
  },
  "Node: keys and digests": async () => {
    const { privateKey, publicKey } = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
    const seal = crypto.sign("sha256", Buffer.from("text"), privateKey);
    const key = await new Promise((good) => crypto.scrypt("a", "b", 32, (_, k) => good(k)));
    return crypto.verify("sha256", Buffer.from("text"), publicKey, seal) && key.length === 32;
  },
  "Node: streams and compression": async () => {
    const place = path.join(folder(), "a.gz");
    await stream.pipeline(async function* () { yield Buffer.alloc(1e6, "x"); }, zlib.createGzip(), fs.createWriteStream(place));
    return zlib.gunzipSync(fs.readFileSync(place)).length === 1e6;
  },
  "Node: names and interfaces": async () =>
    (await dns.lookup("localhost")).address && Object.keys(os.networkInterfaces()).join() === "lo",
  "Node: own size": (event) => {
    const heap = v8.getHeapStatistics().heap_size_limit / 2 ** 20;
    if (os.totalmem() !== event.memory * 2 ** 20) throw new Error(`${os.totalmem()} bytes of memory`);
    if (heap < event.memory * 0.8 || heap > event.memory * 1.2) throw new Error(`a heap of ${heap} MiB`);
    return os.cpus().length >= 1 && os.availableParallelism() >= 1 && os.freemem() > 0 && os.loadavg()[0] === 0;
  },
};

const all = new Int32Array(new SharedArrayBuffer(4));

exports.handler = async (event) => {
  const told = {};
  for (const [name, action] of Object.entries(programs)) {
    try {
      told[name] = (await action(event)) ? null : "it returned nothing true";
    } catch (error) {
      told[name] = String(error.stack);
    }
  }
  return told;
};
