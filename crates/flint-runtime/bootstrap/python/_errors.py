# Error documents and the lines about them in the log. Loaded by bootstrap.py at the first failure.
import sys
import time
import traceback

from __main__ import Fault, HERE, dumps, environ

NO_BREAK_SPACE = "\u00a0"


def document(error, request_id):
    if isinstance(error, Fault):
        kind, message, trace = error.kind, error.message, error.trace or []
    else:
        kind, message, trace = type(error).__name__, str(error), stack(error)
    return {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": trace}


def stack(error):
    frames = [(f.filename, f.lineno, f.name, f.line) for f in traceback.extract_tb(error.__traceback__)]
    # The runtime's own frames, which come first, tell nobody anything.
    while len(frames) > 1 and frames[0][0].startswith(HERE + "/"):
        frames.pop(0)
    return traceback.format_list(frames)


def log(doc):
    if environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON":
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        document = {"timestamp": now, "level": "ERROR"}
        document.update(doc)
        sys.stdout.write(rendered(document).decode("utf-8") + "\n")
        return
    first = "[ERROR]"
    if doc["errorType"]:
        first += " " + doc["errorType"]
    if doc["errorMessage"]:
        first += (":" if doc["errorType"] else "") + " " + doc["errorMessage"]
    lines = first.splitlines() or [first]
    lines.append("Traceback (most recent call last):")
    for element in doc["stackTrace"]:
        for line in element.splitlines():
            text = line.lstrip(" ")
            # The reference indents with no-break spaces, which log viewers keep.
            lines.append(NO_BREAK_SPACE * (len(line) - len(text)) + text)
    # A carriage return keeps the lines in one event.
    sys.stdout.write("\r".join(lines) + "\n")


def rendered(doc):
    try:
        return dumps(doc).encode("utf-8")
    except UnicodeEncodeError:
        return dumps(doc).encode("utf-8", "backslashreplace")


def header(doc):
    kind = "".join(c for c in doc["errorType"] if ord(c) < 128 and c.isalnum() or c in "._-")
    return "Content-Type: application/json\r\nLambda-Runtime-Function-Error-Type: %s\r\n" % kind


def report_call(client, error, request_id):
    doc = document(error, request_id)
    log(doc)
    client.post("invocation/" + request_id + "/error", rendered(doc), header(doc))


def report_init(client, error):
    doc = document(error, "")
    log(doc)
    client.post("init/error", rendered(doc), header(doc))
