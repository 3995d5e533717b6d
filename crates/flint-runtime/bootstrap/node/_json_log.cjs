// Log lines as JSON documents. Loaded by bootstrap.cjs where the function's log format is JSON.
"use strict";

const util = require("util");

const kind = (error) => (error.constructor && error.constructor.name) || "UnknownError";

function expand(_, value) {
  if (!(value instanceof Error)) return value;
  const stackTrace = typeof value.stack === "string" ? value.stack.split("\n") : value.stack;
  return { errorType: kind(value), errorMessage: value.message, stackTrace, ...value };
}

exports.line = function (level, requestId, parts) {
  const doc = { timestamp: new Date().toISOString(), level, requestId };
  if (parts.length === 1) {
    doc.message = parts[0];
    try {
      return JSON.stringify(doc, expand);
    } catch {
      // What JSON can't say is said as text.
      doc.message = util.format(doc.message);
      return JSON.stringify(doc);
    }
  }
  doc.message = util.format(...parts);
  const error = parts.find((part) => part instanceof Error);
  if (error) {
    doc.errorType = kind(error);
    doc.errorMessage = error.message;
    doc.stackTrace = typeof error.stack === "string" ? error.stack.split("\n") : [];
  }
  return JSON.stringify(doc);
};
