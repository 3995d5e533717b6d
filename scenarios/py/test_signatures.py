"""The signature matrix over the wire: at least 40 bent, unsigned, expired or foreign requests, with good controls.

Each bend starts from a request that botocore signed and that would have passed.
Source of the rules: IAM User Guide, "Create a signed AWS API request"; API references, "Common errors".
"""

import datetime
import re

import pytest

import flint
import wire

DENIED = (400, 403)
CODES = {
    "MissingAuthenticationToken", "MissingAuthenticationTokenException", "IncompleteSignature",
    "IncompleteSignatureException", "InvalidSignatureException", "SignatureDoesNotMatch",
    "UnrecognizedClientException", "InvalidClientTokenId", "InvalidClientTokenIdException", "ExpiredTokenException",
    "AccessDeniedException", "RequestExpired", "MissingAuthenticationTokenException",
}
# Presigned queries and streaming payloads are refused by name until they are served.
BY_NAME = {"NotImplemented"}

GOOD_TARGET = {"X-Amz-Target": "Logs_20140328.DescribeLogGroups", "Content-Type": "application/x-amz-json-1.1"}


def get(server, **fields):
    return wire.Request(server, **fields)


def describe(server, **fields):
    headers = {**GOOD_TARGET, **fields.pop("headers", {})}
    return wire.Request(server, "POST", "/", b"{}", service="logs", headers=headers, **fields)


def auth(request, pattern, replacement):
    """Bends the Authorization header; the pattern must match."""
    request.sign()
    bent, count = re.subn(pattern, replacement, request.headers["Authorization"], count=1)
    assert count == 1, request.headers
    request.headers["Authorization"] = bent
    return request


def header(request, name, value):
    request.sign()
    for known in [n for n in request.headers if n.lower() == name.lower()]:
        del request.headers[known]
    if value is not None:
        request.headers[name] = value
    return request


def changed(request, **fields):
    """Changes the request itself after it was signed."""
    request.sign()
    for name, value in fields.items():
        setattr(request, name, value)
    return request


def flip(request, position):
    """One hexadecimal digit of the signature differs."""
    request.sign()
    value = request.headers["Authorization"]
    start = value.index("Signature=") + len("Signature=")
    digit = value[start + position]
    request.headers["Authorization"] = value[:start + position] + ("0" if digit != "0" else "1") + value[start + position + 1:]
    return request


def at(**span):
    return wire.now() + datetime.timedelta(**span)


def unsigned_header(request, name, value):
    """Adds a header that the signature does not cover."""
    request.sign()
    request.headers[name] = value
    return request


def not_signing(request, *names):
    """Signs without the named headers in SignedHeaders, but sends them."""
    import botocore.auth

    original = botocore.auth.SigV4Auth.headers_to_sign

    def fewer(self, request):
        kept = original(self, request)
        for name in names:
            del kept[name]
        return kept

    botocore.auth.SigV4Auth.headers_to_sign = fewer
    try:
        return request.sign()
    finally:
        botocore.auth.SigV4Auth.headers_to_sign = original


BENT = {
    # no signature, or not one of ours
    "no authorization": lambda s: header(get(s), "Authorization", None),
    "no authorization, json": lambda s: header(describe(s), "Authorization", None),
    "empty authorization": lambda s: header(get(s), "Authorization", ""),
    "basic": lambda s: header(get(s), "Authorization", "Basic dXNlcjpwYXNz"),
    "bearer": lambda s: header(get(s), "Authorization", "Bearer abc.def.ghi"),
    "algorithm alone": lambda s: header(get(s), "Authorization", "AWS4-HMAC-SHA256"),
    "version 2": lambda s: header(get(s), "Authorization", "AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg="),
    "another hash": lambda s: auth(get(s), "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
    "asymmetric": lambda s: auth(get(s), "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
    "lower case algorithm": lambda s: auth(get(s), "AWS4-HMAC-SHA256", "aws4-hmac-sha256"),
    # the signature
    "first digit": lambda s: flip(get(s), 0),
    "middle digit": lambda s: flip(get(s), 31),
    "last digit": lambda s: flip(get(s), 63),
    "upper case": lambda s: auth(get(s), r"Signature=([0-9a-f]+)", lambda m: "Signature=" + upper(m.group(1))),
    "truncated": lambda s: auth(get(s), r"(Signature=[0-9a-f]{60})[0-9a-f]{4}", r"\1"),
    "too long": lambda s: auth(get(s), r"(Signature=[0-9a-f]+)", r"\g<1>00"),
    "empty": lambda s: auth(get(s), r"Signature=[0-9a-f]+", "Signature="),
    "no signature part": lambda s: auth(get(s), r",\s*Signature=[0-9a-f]+", ""),
    "not hexadecimal": lambda s: auth(get(s), r"Signature=[0-9a-f]+", "Signature=" + "z" * 64),
    "zeros": lambda s: auth(get(s), r"Signature=[0-9a-f]+", "Signature=" + "0" * 64),
    # the key
    "unknown key": lambda s: get(s, key="AKIAIOSFODNN7EXAMPLE").sign(),
    "another secret": lambda s: get(s, secret="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY").sign(),
    "empty secret": lambda s: get(s, secret="").sign(),
    "key in lower case": lambda s: get(s, key=s.environment()["AWS_ACCESS_KEY_ID"].lower()).sign(),
    "empty key": lambda s: auth(get(s), r"Credential=[^/]+/", "Credential=/"),
    "twelve digits as key": lambda s: get(s, key="000000000000", secret="test").sign(),
    "test/test": lambda s: get(s, key="test", secret="test").sign(),
    "a session token": lambda s: get(s, token="AQoDYXdzEJr1K...").sign(),
    # the scope
    "foreign region, resigned never": lambda s: auth(get(s), r"/us-east-1/lambda/", "/eu-west-1/lambda/"),
    "foreign service": lambda s: auth(get(s), r"/lambda/aws4_request", "/s3/aws4_request"),
    "scope of another service, well signed": lambda s: describe_as(s, "lambda"),
    "foreign terminator": lambda s: auth(get(s), "aws4_request", "aws5_request"),
    "foreign day": lambda s: auth(get(s), r"/20\d{6}/", "/20200101/"),
    "day and date differ": lambda s: header(get(s), "X-Amz-Date", at(days=1).strftime("%Y%m%dT%H%M%SZ")),
    "short scope": lambda s: auth(get(s), r"/aws4_request", ""),
    "long scope": lambda s: auth(get(s), r"/aws4_request", "/aws4_request/more"),
    "no credential part": lambda s: auth(get(s), r"Credential=[^,]+,\s*", ""),
    # the time
    "expired by 16 minutes": lambda s: get(s, clock=at(minutes=-16)).sign(),
    "expired by a year": lambda s: get(s, clock=at(days=-365)).sign(),
    "16 minutes early": lambda s: get(s, clock=at(minutes=16)).sign(),
    "no date": lambda s: header(get(s), "X-Amz-Date", None),
    "a date of words": lambda s: header(get(s), "X-Amz-Date", "yesterday"),
    "a date that is none": lambda s: header(get(s), "X-Amz-Date", "20261399T256199Z"),
    # signed headers
    "no signed headers": lambda s: auth(get(s), r"SignedHeaders=[^,]+,\s*", ""),
    "empty signed headers": lambda s: auth(get(s), r"SignedHeaders=[^,]+,", "SignedHeaders=,"),
    "host is not signed": lambda s: not_signing(get(s), "host"),
    "the date is not signed": lambda s: not_signing(get(s), "x-amz-date"),
    "the target is not signed": lambda s: not_signing(describe(s), "x-amz-target"),
    "an amz header slipped in": lambda s: unsigned_header(get(s), "X-Amz-Meddled", "1"),
    "signed header is missing": lambda s: auth(get(s), r"SignedHeaders=", "SignedHeaders=accept-nothing;"),
    "target changed": lambda s: header(describe(s), "X-Amz-Target", "Logs_20140328.DeleteLogGroup"),
    "host changed": lambda s: header(get(s), "Host", "lambda.us-east-1.amazonaws.com"),
    # the request itself
    "method changed": lambda s: changed(get(s), method="DELETE"),
    "path changed": lambda s: changed(get(s), path="/2015-03-31/functions/other"),
    "path with dots": lambda s: changed(get(s), path="/2015-03-31/../2015-03-31/functions/x"),
    "query added": lambda s: changed(get(s), path="/2015-03-31/functions/?MaxItems=1"),
    "query changed": lambda s: changed(get(s, path="/2015-03-31/functions/?MaxItems=1"), path="/2015-03-31/functions/?MaxItems=2"),
    "query doubled": lambda s: changed(get(s, path="/2015-03-31/functions/?MaxItems=1"), path="/2015-03-31/functions/?MaxItems=1&MaxItems=1"),
    "body changed": lambda s: changed(describe(s), body=b'{"limit":1}'),
    "body dropped": lambda s: changed(describe(s), body=b""),
    "body appended": lambda s: changed(describe(s), body=b"{} "),
    "foreign payload hash": lambda s: describe(s, headers={"X-Amz-Content-SHA256": "0" * 64}).sign(),
    "unsigned payload": lambda s: describe(s, headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}).sign(),
    "streaming payload": lambda s: describe(s, headers={"X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}).sign(),
    # header and query at once, twice the same
    "presigned and header": lambda s: changed(get(s), path="/2015-03-31/functions/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00"),
    "presigned alone": lambda s: header(get(s, path="/2015-03-31/functions/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=x&X-Amz-Signature=00"), "Authorization", None),
    "credential twice": lambda s: auth(get(s), r"Credential=([^,]+),", r"Credential=\1, Credential=\1,"),
    "signature twice": lambda s: auth(get(s), r"Signature=([0-9a-f]+)", r"Signature=\1, Signature=\1"),
}


def upper(signature):
    """Upper case; a signature of digits alone would not differ, so one letter is made sure of."""
    assert re.search("[a-f]", signature)
    return signature.upper()


def describe_as(server, service):
    """A log request under the scope of `service`."""
    request = describe(server)
    request.service = service
    return request.sign()


@pytest.mark.parametrize("bend", BENT)
def test_bent(shared, bend):
    response = BENT[bend](shared).send()
    assert response.status in (*DENIED, 501) or response.status == 404 and bend.startswith("scope of another"), response
    assert 400 <= response.status < 500 or response.code in BY_NAME, response
    if response.status in DENIED and bend not in ("path with dots",):
        assert response.code in CODES | BY_NAME or bend.startswith("scope of another"), response
    assert "functions" not in response.json and "Functions" not in response.json, response


def test_how_many_were_bent(shared):
    refused = sum(1 for bend in BENT.values() if bend(shared).send().status >= 400)
    assert refused == len(BENT)
    assert refused >= 40
    flint.figure("bent_signatures_refused", refused)


GOOD = {
    "a read": lambda s: get(s),
    "a query": lambda s: get(s, path="/2015-03-31/functions/?MaxItems=10"),
    "queries in any order": lambda s: get(s, path="/2015-03-31/functions/?b=2&a=1"),
    "an empty query value": lambda s: get(s, path="/2015-03-31/functions/?MaxItems=1&x="),
    "a JSON operation": lambda s: describe(s),
    "a stated payload hash": lambda s: describe(s, headers={"X-Amz-Content-SHA256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}),
    "14 minutes ago": lambda s: get(s, clock=at(minutes=-14)),
    "14 minutes ahead": lambda s: get(s, clock=at(minutes=14)),
    "spaces in a header's value": lambda s: get(s, headers={"X-Amz-Meta": "a  b   c "}),
    "another region": lambda s: get(s, region="eu-west-1"),
}


@pytest.mark.parametrize("form", GOOD)
def test_good(shared, form):
    response = GOOD[form](shared).sign().send()
    assert response.status == 200, response


def test_names_with_escapes_are_signed_as_they_are(shared):
    # An ARN in the path: botocore escapes the colons, then signs the escaped path once more.
    path = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Anowhere"
    response = get(shared, path=path).sign().send()
    assert (response.status, response.code) == (404, "ResourceNotFoundException"), response


def test_unknown_key_and_bad_signature_take_the_same_path(shared):
    unknown = get(shared, key="AKIAIOSFODNN7EXAMPLE").sign().send()
    wrong = flip(get(shared), 5).send()
    assert unknown.status == wrong.status == 403
    assert unknown.code == "UnrecognizedClientException" and wrong.code == "InvalidSignatureException"


def test_query_protocol_refusals_are_xml(shared):
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    good = wire.Request(shared, "POST", "/", body, service="sts", headers=form).sign().send()
    assert good.status == 200 and b"<Account>000000000000</Account>" in good.body, good
    bad = flip(wire.Request(shared, "POST", "/", body, service="sts", headers=form), 9).send()
    assert bad.status == 403 and b"<Code>SignatureDoesNotMatch</Code>" in bad.body, bad
