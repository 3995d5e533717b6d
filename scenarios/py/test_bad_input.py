"""Malformed requests, archives, handlers, headers, names and variables: the reference's error, never a 500, never a hang."""

import base64
import io
import json
import struct
import time
import uuid
import zipfile

import pytest

import flint
import wire

BASE = "/2015-03-31/functions"
JSON = {"Content-Type": "application/json"}


def body_of(shared, **changes):
    """A good CreateFunction body with changes; `...` drops a member."""
    document = {
        "FunctionName": "made-" + uuid.uuid4().hex[:8], "Runtime": shared.python(), "Role": flint.ROLE, "Handler": "app.handler",
        "Code": {"ZipFile": base64.b64encode(flint.zipped({"app.py": "def handler(e, c): return 1"})).decode()},
    }
    document.update(changes)
    return json.dumps({k: v for k, v in document.items() if v is not ...}).encode()


def zip_text(data):
    return {"ZipFile": base64.b64encode(data).decode()}


def create(shared, **changes):
    return wire.Request(shared, "POST", BASE, body_of(shared, **changes), headers=JSON)


def post(shared, body, path=BASE, headers=None):
    return wire.Request(shared, "POST", path, body, headers={**JSON, **(headers or {})})


def logs(shared, operation, body, content="application/x-amz-json-1.1"):
    headers = {"X-Amz-Target": f"Logs_20140328.{operation}", "Content-Type": content}
    return wire.Request(shared, "POST", "/", body if isinstance(body, bytes) else json.dumps(body).encode(), service="logs", headers=headers)


def archive(entries):
    """A zip with raw names and modes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return buffer.getvalue()


GOOD_FILE = ("app.py", "def handler(e, c): return 1", 0o100644)


def encrypted():
    data = bytearray(archive([GOOD_FILE]))
    local, central = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    data[local + 6] |= 1
    data[central + 8] |= 1
    return bytes(data)


def disagreeing():
    """The local header names another file than the central one."""
    data = archive([GOOD_FILE])
    return data.replace(b"app.py", b"bad.py", 1)


def lying_size():
    data = bytearray(archive([GOOD_FILE]))
    central = data.index(b"PK\x01\x02")
    data[central + 24:central + 28] = struct.pack("<I", 0x7FFFFFFF)
    return bytes(data)


def bomb():
    """1.2 GB of zeros in about a megabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("zeros", "w", force_zip64=False) as entry:
            block = bytes(1 << 20)
            for _ in range(1200):
                entry.write(block)
    return buffer.getvalue()


# What a request is, and the codes that the reference answers with (a set: any of them).
INVALID = {"InvalidParameterValueException"}
VALIDATION = {"ValidationException", "InvalidParameterValueException"}
CONTENT = {"InvalidRequestContentException", "SerializationException"}
UNSERVED = {"NotImplemented"}
UNKNOWN = {"UnknownOperationException", "ResourceNotFoundException", "AccessDeniedException"}
LOGS_BAD = {"InvalidParameterException", "SerializationException"}

CASES = {
    # bodies
    "empty body": (lambda s: post(s, b""), CONTENT | VALIDATION),
    "half a document": (lambda s: post(s, b'{"FunctionName": "x"'), CONTENT),
    "not json": (lambda s: post(s, b"FunctionName=x"), CONTENT),
    "a list": (lambda s: post(s, b"[]"), CONTENT),
    "a number": (lambda s: post(s, b"7"), CONTENT),
    "null": (lambda s: post(s, b"null"), CONTENT | VALIDATION),
    "not utf-8": (lambda s: post(s, b'{"FunctionName": "\xff\xfe"}'), CONTENT | VALIDATION),
    "nul bytes": (lambda s: post(s, b"\0" * 100), CONTENT),
    "a thousand brackets": (lambda s: post(s, b"[" * 100_000), CONTENT),
    "deep members": (lambda s: post(s, b'{"a":' * 50_000), CONTENT),
    "a number as name": (lambda s: create(s, FunctionName=7), CONTENT | VALIDATION),
    "a text as timeout": (lambda s: create(s, Timeout="soon"), CONTENT | VALIDATION),
    "a list as code": (lambda s: create(s, Code=[1]), CONTENT | VALIDATION),
    "a fraction as memory": (lambda s: create(s, MemorySize=128.5), CONTENT | VALIDATION),
    "gzip that is none": (lambda s: post(s, b"xx", headers={"Content-Encoding": "gzip"}), CONTENT | {"InvalidRequestContentException"}),
    # names, members, ranges
    "no name": (lambda s: create(s, FunctionName=...), VALIDATION),
    "empty name": (lambda s: create(s, FunctionName=""), VALIDATION),
    "a name with spaces": (lambda s: create(s, FunctionName="a b"), VALIDATION),
    "a name with a slash": (lambda s: create(s, FunctionName="../../etc"), VALIDATION),
    "a name of 200": (lambda s: create(s, FunctionName="n" * 200), VALIDATION),
    "a name with a newline": (lambda s: create(s, FunctionName="a\nb"), VALIDATION),
    "no role": (lambda s: create(s, Role=...), VALIDATION),
    "a role that is none": (lambda s: create(s, Role="admin"), VALIDATION),
    "a user as role": (lambda s: create(s, Role="arn:aws:iam::000000000000:user/x"), VALIDATION),
    "no runtime": (lambda s: create(s, Runtime=...), VALIDATION),
    "a runtime that never was": (lambda s: create(s, Runtime="cobol85"), VALIDATION),
    "no handler": (lambda s: create(s, Handler=...), VALIDATION),
    "a handler with spaces": (lambda s: create(s, Handler="app handler"), VALIDATION),
    "a long handler": (lambda s: create(s, Handler="h" * 200), VALIDATION),
    "timeout 0": (lambda s: create(s, Timeout=0), VALIDATION),
    "timeout 901": (lambda s: create(s, Timeout=901), VALIDATION),
    "timeout -1": (lambda s: create(s, Timeout=-1), VALIDATION),
    "timeout 2^63": (lambda s: create(s, Timeout=2**63), VALIDATION | CONTENT),
    "memory 127": (lambda s: create(s, MemorySize=127), VALIDATION),
    "memory 10241": (lambda s: create(s, MemorySize=10241), VALIDATION),
    "no code": (lambda s: create(s, Code={}), VALIDATION),
    "code from a bucket": (lambda s: create(s, Code={"S3Bucket": "b", "S3Key": "k"}), UNSERVED | VALIDATION),
    "an image": (lambda s: create(s, PackageType="Image", Runtime=..., Handler=..., Code={"ImageUri": "x"}), UNSERVED | VALIDATION),
    "arm64": (lambda s: create(s, Architectures=["arm64"]), UNSERVED | VALIDATION),
    "a layer": (lambda s: create(s, Layers=["arn:aws:lambda:us-east-1:000000000000:layer:l:1"]), UNSERVED | VALIDATION),
    # variables
    "a reserved variable": (lambda s: create(s, Environment={"Variables": {"AWS_LAMBDA_RUNTIME_API": "x"}}), VALIDATION),
    "a variable's bad name": (lambda s: create(s, Environment={"Variables": {"a=b": "x"}}), VALIDATION),
    "a variable of digits": (lambda s: create(s, Environment={"Variables": {"1A": "x"}}), VALIDATION),
    "an empty variable name": (lambda s: create(s, Environment={"Variables": {"": "x"}}), VALIDATION),
    "5 kB of variables": (lambda s: create(s, Environment={"Variables": {"A": "x" * 5000}}), VALIDATION),
    # archives
    "not an archive": (lambda s: create(s, Code=zip_text(b"hello")), VALIDATION),
    "an empty archive": (lambda s: create(s, Code=zip_text(archive([]))), VALIDATION),
    "zip of nothing": (lambda s: create(s, Code={"ZipFile": ""}), VALIDATION),
    "not base64": (lambda s: create(s, Code={"ZipFile": "!!!"}), CONTENT | VALIDATION),
    "half an archive": (lambda s: create(s, Code=zip_text(archive([GOOD_FILE])[:-30])), VALIDATION),
    "dots": (lambda s: create(s, Code=zip_text(archive([GOOD_FILE, ("../../x", "x", 0o100644)]))), VALIDATION),
    "absolute": (lambda s: create(s, Code=zip_text(archive([GOOD_FILE, ("/etc/x", "x", 0o100644)]))), VALIDATION),
    "a link out": (lambda s: create(s, Code=zip_text(archive([GOOD_FILE, ("l", "../../etc/passwd", 0o120777)]))), VALIDATION),
    "a device": (lambda s: create(s, Code=zip_text(archive([GOOD_FILE, ("d", "", 0o020666)]))), VALIDATION),
    "twice the same": (lambda s: create(s, Code=zip_text(archive([GOOD_FILE, GOOD_FILE]))), VALIDATION),
    "encrypted": (lambda s: create(s, Code=zip_text(encrypted())), VALIDATION),
    "headers disagree": (lambda s: create(s, Code=zip_text(disagreeing())), VALIDATION),
    "a lie about size": (lambda s: create(s, Code=zip_text(lying_size())), VALIDATION),
    "a bomb": (lambda s: create(s, Code=zip_text(bomb())), VALIDATION),
    # paths and operations
    "unknown path": (lambda s: wire.Request(s, "GET", "/2015-03-31/nothing"), UNKNOWN),
    "unknown version": (lambda s: wire.Request(s, "GET", "/1999-01-01/functions"), UNKNOWN),
    "a wrong method": (lambda s: wire.Request(s, "PATCH", BASE), UNKNOWN | {"MethodNotAllowedException", "405"}),
    "no such function": (lambda s: wire.Request(s, "GET", BASE + "/nowhere"), {"ResourceNotFoundException"}),
    "a bad name in the path": (lambda s: wire.Request(s, "GET", BASE + "/a%20b"), VALIDATION | {"ResourceNotFoundException"}),
    "nul in the path": (lambda s: wire.Request(s, "GET", BASE + "/a%00b"), VALIDATION | {"ResourceNotFoundException"}),
    "not utf-8 in the path": (lambda s: wire.Request(s, "GET", BASE + "/%ff%fe"), VALIDATION | CONTENT | {"ResourceNotFoundException"}),
    "a broken escape": (lambda s: wire.Request(s, "GET", BASE + "/%zz"), VALIDATION | CONTENT | UNKNOWN | {"InvalidSignatureException"}),
    "foreign account": (lambda s: wire.Request(s, "GET", BASE + "/arn%3Aaws%3Alambda%3Aus-east-1%3A111111111111%3Afunction%3Af"), {"AccessDeniedException", "ResourceNotFoundException"}),
    "max items 0": (lambda s: wire.Request(s, "GET", BASE + "/?MaxItems=0"), VALIDATION),
    "max items x": (lambda s: wire.Request(s, "GET", BASE + "/?MaxItems=x"), VALIDATION | CONTENT),
    "a marker of ours that is none": (lambda s: wire.Request(s, "GET", BASE + "/?Marker=%21%21"), VALIDATION),
    # logs
    "unknown target": (lambda s: logs(s, "MakeCoffee", {}), {"UnknownOperationException"}),
    "logs: half a document": (lambda s: logs(s, "DescribeLogGroups", b"{"), LOGS_BAD),
    "logs: no name": (lambda s: logs(s, "CreateLogGroup", {}), LOGS_BAD),
    "logs: a bad name": (lambda s: logs(s, "CreateLogGroup", {"logGroupName": "a b*"}), LOGS_BAD),
    "logs: a name of 600": (lambda s: logs(s, "CreateLogGroup", {"logGroupName": "n" * 600}), LOGS_BAD),
    "logs: no such group": (lambda s: logs(s, "DescribeLogStreams", {"logGroupName": "nowhere"}), {"ResourceNotFoundException"}),
    "logs: a bad pattern": (lambda s: logs(s, "FilterLogEvents", {"logGroupName": "/aws/lambda/any", "filterPattern": "{ $.a = "}), {"InvalidParameterException", "ResourceNotFoundException"}),
    "logs: limit 0": (lambda s: logs(s, "DescribeLogGroups", {"limit": 0}), LOGS_BAD),
    "logs: a foreign token": (lambda s: logs(s, "DescribeLogGroups", {"nextToken": "%%%"}), LOGS_BAD),
    "logs: retention of 2": (lambda s: logs(s, "PutRetentionPolicy", {"logGroupName": "x", "retentionInDays": 2}), LOGS_BAD | {"ResourceNotFoundException"}),
}


@pytest.mark.parametrize("case", CASES)
def test_malformed(shared, case):
    make, codes = CASES[case]
    began = time.monotonic()
    response = make(shared).sign().send(timeout=30)
    assert 400 <= response.status < 500 or response.status == 501, response
    assert response.code in codes, response
    assert response.message or response.code in UNKNOWN or not response.body, response
    assert response.headers.get("x-amzn-requestid"), response
    assert time.monotonic() - began < 20


BENT_ENTRY = {
    "no such module": ("nowhere.handler", "Runtime.ImportModuleError"),
    "no such function": ("app.nowhere", "Runtime.HandlerNotFound"),
    "no dot": ("app", "Runtime.MalformedHandlerName"),
}


@pytest.mark.parametrize("case", BENT_ENTRY)
def test_handlers_that_are_none(shared, functions, name, case):
    handler, kind = BENT_ENTRY[case]
    shared.create(functions, name, "def handler(e, c):\n    return 1\n", handler=handler)
    answer = flint.invoke(functions, name, {})
    assert answer.error == "Unhandled" and answer.json["errorType"] == kind, answer


def test_payloads(shared, functions, name):
    shared.create(functions, name, "def handler(event, context):\n    return event\n", MemorySize=256)
    path = f"{BASE}/{name}/invocations"
    for body, codes in [(b"{", CONTENT), (b"\xff", CONTENT), (b"{}{}", CONTENT)]:
        response = post(shared, body, path).sign().send()
        assert response.status == 400 and response.code in codes, (body, response)
    # Empty means null.
    assert post(shared, b"", path).sign().send().body in (b"null", b"{}")
    big = post(shared, b'"' + b"x" * 6_291_600 + b'"', path).sign().send(timeout=30)
    assert big.status == 413 and big.code in ("RequestTooLargeException", "RequestEntityTooLargeException"), big
    for header, value in [("X-Amz-Invocation-Type", "Sometime"), ("X-Amz-Client-Context", "!not base64!"), ("X-Amz-Log-Type", "Head")]:
        response = post(shared, b"{}", path, {header: value}).sign().send()
        assert response.status in (400, 501) and response.code in VALIDATION | CONTENT | UNSERVED, (header, response)
    event = {"X-Amz-Invocation-Type": "Event"}
    for body, codes in [(b"{", CONTENT), (b"\xff", CONTENT)]:
        response = post(shared, body, path, event).sign().send()
        assert response.status == 400 and response.code in codes, (body, response)
    large = post(shared, b'"' + b"x" * 1_048_575 + b'"', path, event).sign().send(timeout=30)
    assert (large.status, large.code) == (413, "RequestTooLargeException"), large


def lines(*parts):
    return b"\r\n".join(parts) + b"\r\n\r\n"


HOST = b"Host: 127.0.0.1"
RAW = {
    "nonsense": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 50,
    "no version": lines(b"GET /", HOST),
    "no host": lines(b"GET / HTTP/1.1"),
    "two hosts": lines(b"GET / HTTP/1.1", HOST, b"Host: evil"),
    "length and chunks": lines(b"POST / HTTP/1.1", HOST, b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "two lengths": lines(b"POST / HTTP/1.1", HOST, b"Content-Length: 5", b"Content-Length: 6") + b"hello!",
    "a length of words": lines(b"POST / HTTP/1.1", HOST, b"Content-Length: many"),
    "a negative length": lines(b"POST / HTTP/1.1", HOST, b"Content-Length: -5"),
    "an enormous length": lines(b"POST / HTTP/1.1", HOST, b"Content-Length: 99999999999999999999"),
    "a length over any limit": lines(b"POST /2015-03-31/functions HTTP/1.1", HOST, b"Content-Type: application/json", b"Content-Length: 9999999999"),
    "bad chunks": lines(b"POST / HTTP/1.1", HOST, b"Transfer-Encoding: chunked") + b"zz\r\nhello\r\n0\r\n\r\n",
    "a chunk of 2^64": lines(b"POST / HTTP/1.1", HOST, b"Transfer-Encoding: chunked") + b"ffffffffffffffffff\r\nx",
    "folded header": lines(b"GET / HTTP/1.1", HOST, b"X-A: 1", b" folded"),
    "space before the colon": lines(b"GET / HTTP/1.1", HOST, b"X-A : 1"),
    "a nul in a header": lines(b"GET / HTTP/1.1", HOST, b"X-A: a\0b"),
    "bare carriage return": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: a\rb\r\n\r\n",
    "a thousand headers": lines(b"GET / HTTP/1.1", HOST, *[b"X-%d: 1" % n for n in range(1000)]),
    "a header of a megabyte": lines(b"GET / HTTP/1.1", HOST, b"X-A: " + b"x" * 1_000_000),
    "a path of a megabyte": lines(b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1", HOST),
    "connect": lines(b"CONNECT evil.example:443 HTTP/1.1", HOST),
    "an absolute address": lines(b"GET http://evil.example/ HTTP/1.1", HOST),
    "options star": lines(b"OPTIONS * HTTP/1.1", HOST),
    "http/3": lines(b"GET / HTTP/3.0", HOST),
}


@pytest.mark.parametrize("case", RAW)
def test_broken_messages(shared, case):
    answer = flint.raw(shared.address, RAW[case], seconds=10, half_close=True)
    if answer:
        status = int(answer.split(None, 2)[1])
        assert 400 <= status < 500 or status in (501, 505), answer[:300]


def test_it_still_serves_and_how_many(shared, functions):
    assert functions.list_functions()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert shared.process.poll() is None
    count = len(CASES) + len(RAW) + len(BENT_ENTRY)
    assert count >= 40
    flint.figure("malformed_requests", count)
    log = shared.log.read_text(errors="replace")
    assert "panicked" not in log, [line for line in log.splitlines() if "panicked" in line][:3]
