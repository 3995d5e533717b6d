"""Requests by hand: botocore's signer, then whatever a test bends, over http.client."""

import datetime
import http.client
import json

import botocore.auth
import botocore.awsrequest
import botocore.credentials


class Request:
    """One signed request that a test may bend before (fields) or after (headers) signing."""

    def __init__(self, server, method="GET", path="/2015-03-31/functions/", body=b"", service="lambda", region=None,
                 headers=None, key=None, secret=None, token=None, clock=None):
        variables = server.environment()
        self.server = server
        self.method, self.path, self.body = method, path, body
        self.service, self.region = service, region or variables["AWS_REGION"]
        self.key = variables["AWS_ACCESS_KEY_ID"] if key is None else key
        self.secret = variables["AWS_SECRET_ACCESS_KEY"] if secret is None else secret
        self.token = token
        self.extra = dict(headers or {})
        self.clock = clock
        self.headers = {}

    def sign(self):
        request = botocore.awsrequest.AWSRequest(
            method=self.method, url=self.server.url + self.path, data=self.body, headers=dict(self.extra)
        )
        credentials = botocore.credentials.Credentials(self.key, self.secret, self.token)
        signer = botocore.auth.SigV4Auth(credentials, self.service, self.region)
        if self.clock is None:
            signer.add_auth(request)
        else:
            shifted(signer, request, self.clock)
        self.headers = dict(request.headers.items())
        return self

    def send(self, timeout=10):
        host, port = self.server.address
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
        try:
            names = {name.lower() for name in self.headers}
            connection.putrequest(self.method, self.path, skip_host="host" in names, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            if "content-length" not in names and (self.body or self.method in ("POST", "PUT")):
                connection.putheader("Content-Length", str(len(self.body)))
            connection.endheaders(self.body or None)
            return Response(connection.getresponse())
        finally:
            connection.close()


class Response:
    def __init__(self, raw):
        self.status = raw.status
        self.headers = {k.lower(): v for k, v in raw.getheaders()}
        self.body = raw.read()

    @property
    def code(self):
        """The error's code, from the header or the body."""
        code = self.headers.get("x-amzn-errortype") or self.json.get("__type", "") or self.json.get("code", "")
        return code.split("#")[-1].split(":")[0]

    @property
    def message(self):
        return self.json.get("message") or self.json.get("Message") or ""

    @property
    def json(self):
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def __repr__(self):
        return f"Response({self.status}, {self.headers}, {self.body[:400]!r})"


def shifted(signer, request, clock):
    """Signs as if it were `clock` (a naive UTC datetime)."""
    stamp = clock.strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = stamp
    signer._modify_request_before_signing(request)
    del request.headers["X-Amz-Date"]
    request.headers["X-Amz-Date"] = stamp
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    signer._inject_signature_to_request(request, signature)


def now():
    return datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
