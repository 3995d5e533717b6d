"""Each constraint of each served member violated once: the reference's code, status and message, in every protocol."""

import collections
import http.client
import xml.etree.ElementTree

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

import flint
import violations
import wire


class Sender:
    """Signs and sends over one connection."""

    def __init__(self, server):
        variables = server.environment()
        self.credentials = botocore.credentials.Credentials(
            variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]
        )
        self.region, self.url = variables["AWS_REGION"], server.url
        self.connection = http.client.HTTPConnection(*server.address, timeout=20)

    def send(self, service, request):
        method, path, headers, body = request
        signed = botocore.awsrequest.AWSRequest(method=method, url=self.url + path, data=body, headers=headers)
        botocore.auth.SigV4Auth(self.credentials, service, self.region).add_auth(signed)
        self.connection.request(method, path, body=body, headers=dict(signed.headers.items()))
        return wire.Response(self.connection.getresponse())


def told(response, protocol):
    """Code and message as the protocol carries them."""
    if protocol != "query":
        return response.code, response.message
    error = xml.etree.ElementTree.fromstring(response.body)
    texts = {element.tag.split("}")[-1]: element.text or "" for element in error.iter()}
    return texts.get("Code"), texts.get("Message")


@pytest.fixture(scope="module")
def sender(shared):
    return Sender(shared)


SERVICES = {service.name: service for service in violations.load()}


@pytest.mark.parametrize("name", SERVICES)
def test_every_constraint_is_told(sender, name):
    service = SERVICES[name]
    counts, wrong, unserved = collections.Counter(), [], []
    for operation in service.operations():
        cases = list(service.cases(operation))
        if not cases:
            continue
        probe = sender.send(service.signing_name, cases[0].request)
        if told(probe, service.protocol) == ("NotImplemented", f"not served: {name}.{operation}"):
            unserved.append(operation)
            continue
        for case in cases:
            response = sender.send(service.signing_name, case.request)
            code, message = told(response, service.protocol)
            counts["unserved members" if case.status == 501 else "constraints"] += 1
            if (response.status, code, message) != (case.status, case.code, case.message):
                wrong.append(f"{case.id}\n  want {case.status} {case.code} {case.message}\n  got  {response.status} {code} {message}")
    flint.figure(f"violations {name}", counts["constraints"])
    flint.figure(f"unserved members {name}", counts["unserved members"])
    if unserved:
        print("without a service behind them:", ", ".join(unserved))
    assert not wrong, f"{len(wrong)} of {sum(counts.values())}:\n" + "\n".join(line[:900] for line in wrong[:40])


def test_the_matrix_is_not_empty():
    total = sum(1 for s in SERVICES.values() for o in s.operations() for _ in s.cases(o))
    flint.figure("violation_matrix", total)
    assert total >= 300, total
