// Response streaming. Loaded by bootstrap.cjs for a handler that streams.
//
// The stream is a chunked request to the Runtime API; a chunk counts as written when the connection has taken it, so a
// slow caller holds the handler up.
"use strict";

const { Writable } = require("stream");

const TYPE = "Lambda-Runtime-Function-Error-Type";
const BODY = "Lambda-Runtime-Function-Error-Body";

class ResponseStream extends Writable {
  constructor(client, id, options, Fault) {
    super({ highWaterMark: options.highWaterMark });
    this._to = client.open(`invocation/${id}/response`);
    this._type = "application/octet-stream";
    this._started = false; // the handler wrote something
    this._trailers = "";
    this._Fault = Fault;
    this.setContentType = (type) => {
      if (this._started) throw new Fault("Runtime.InvalidStreamingOperation", "Cannot set content-type, too late.");
      this._type = String(type).replace(/[\r\n]/g, " ");
    };
  }

  // Objects are written as JSON, as the reference does.
  write(chunk, encoding, callback) {
    const plain = typeof chunk === "string" || Buffer.isBuffer(chunk) || (chunk && chunk.constructor === Uint8Array);
    this._begin();
    return super.write(plain ? chunk : JSON.stringify(chunk), encoding, callback);
  }

  end(chunk, encoding, callback) {
    if (typeof chunk === "function") return super.end(chunk);
    if (chunk !== undefined && chunk !== null) this.write(chunk, typeof encoding === "string" ? encoding : undefined);
    else if (!this.writableEnded) this._begin();
    return super.end(typeof encoding === "function" ? encoding : callback);
  }

  _begin() {
    if (this._started) return;
    this._started = true;
    if (typeof this._onBeforeFirstWrite === "function") this._onBeforeFirstWrite((part) => super.write(part));
  }

  _head() {
    if (this._sent) return "";
    this._sent = true;
    return (
      `Content-Type: ${this._type}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n` +
      `Transfer-Encoding: chunked\r\nTrailer: ${TYPE}, ${BODY}\r\n\r\n`
    );
  }

  _write(chunk, encoding, done) {
    if (!chunk.length) return done();
    this._to.write([`${this._head()}${chunk.length.toString(16)}\r\n`, chunk, "\r\n"], false, done);
  }

  _writev(parts, done) {
    const all = [];
    for (const { chunk } of parts) {
      if (chunk.length) all.push(`${this._head()}${chunk.length.toString(16)}\r\n`, chunk, "\r\n");
    }
    if (!all.length) return done();
    this._to.write(all, false, done);
  }

  _final(done) {
    this._closed = true;
    this._to.write([`${this._head()}0\r\n${this._trailers}\r\n`], true, () => {
      this._to.answer.then(() => done(), done);
    });
  }

  // Ends the stream with an error that the caller hears of.
  async fail(doc) {
    const type = String(doc.errorType).replace(/[^A-Za-z0-9._-]/g, "");
    const body = Buffer.from(JSON.stringify(doc)).toString("base64");
    this._trailers = `${TYPE}: ${type}\r\n${BODY}: ${body}\r\n`;
    this._onBeforeFirstWrite = undefined;
    if (!this.destroyed) {
      // What the handler wrote and the connection has not taken yet still goes first.
      await new Promise((resolve) => {
        this.once("close", resolve);
        if (!this.writableEnded) super.end();
      });
    }
    if (!this._closed) await new Promise((resolve) => this._final(resolve));
  }
}

// Gives { error } or nothing. The handler has ended its stream, or there is an error.
exports.run = async function (handler, event, makeContext, client, id, options, Fault, active) {
  const stream = new ResponseStream(client, id, options, Fault);
  active(stream);
  const closed = new Promise((resolve) => stream.once("close", resolve));
  let broken;
  stream.on("error", (error) => (broken = error));
  const fail = (error) => ({ error, stream });
  let idle;
  try {
    const returned = handler(event, stream, makeContext());
    if (!returned || typeof returned.then !== "function") return fail("Streaming does not support non-async handlers.");
    // A loop that runs empty before the handler is done will never get there.
    const empty = new Promise((resolve) => process.once("beforeExit", (idle = () => resolve("empty"))));
    const ended = await Promise.race([returned.then((value) => ({ value })), empty]);
    if (ended === "empty") return fail("Response stream is not finished.");
    if (ended.value !== undefined) console.warn("Streaming handlers ignore return values.");
    const last = await Promise.race([closed, empty]);
    if (last === "empty") return fail("Response stream is not finished.");
  } catch (error) {
    return fail(error === undefined || error === null ? new Error(String(error)) : error);
  } finally {
    if (idle) process.removeListener("beforeExit", idle);
  }
  if (broken) return fail(broken);
  return {};
};
