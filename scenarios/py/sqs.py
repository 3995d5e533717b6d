"""Two ways to speak SQS with the same words: boto3 (JSON) and Debian's AWS CLI (Query), and a record of what was seen."""

import base64
import json
import re
import subprocess
import uuid

import botocore.exceptions

import flint

# Runs inside Debian's Python: the CLI's own program, many commands in one process.
DRIVER = """
import base64, contextlib, io, json, sys
from awscli.clidriver import create_clidriver
driver = create_clidriver()
for line in sys.stdin:
    words = json.loads(line)
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = driver.main(words)
        except SystemExit as e:
            status = e.code
    out.flush()
    answer = {"status": status, "out": out.buffer.getvalue().decode(), "err": err.getvalue()}
    print(json.dumps(answer), file=sys.__stdout__, flush=True)
"""


class Refused(Exception):
    """An error of the service: its code and its words."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Json:
    """boto3."""

    name = "json"

    def __init__(self, server):
        self.client = server.client("sqs")
        assert self.client.meta.service_model.metadata["protocol"] == "json"

    def call(self, operation, **params):
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
        try:
            answer = getattr(self.client, name)(**params)
        except botocore.exceptions.ClientError as e:
            raise Refused(e.response["Error"]["Code"], e.response["Error"]["Message"]) from e
        answer.pop("ResponseMetadata")
        return answer

    def knows(self, operation):
        return True

    def close(self):
        self.client.close()


class Query:
    """Debian's AWS CLI, whose model of SQS is older than the JSON protocol."""

    name = "query"

    def __init__(self, server, home):
        variables = {k: str(v) for k, v in server.environment().items() if k.startswith("AWS_")}
        variables.pop("AWS_ENDPOINT_URL", None)
        variables |= {"AWS_PAGER": "", "HOME": str(home), "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
        self.url = server.url
        self.process = subprocess.Popen(
            ["/usr/bin/python3", "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=home,
            env={**flint.clean_environment(), **variables},
        )

    def call(self, operation, **params):
        command = re.sub(r"(?<!^)(?=[A-Z])", "-", operation).lower()
        document = json.dumps(params, default=lambda b: base64.b64encode(b).decode())
        words = ["--endpoint-url", self.url, "--no-paginate", "sqs", command, "--cli-input-json", document]
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        done = json.loads(self.process.stdout.readline())
        if done["status"] != 0:
            error = re.search(r"An error occurred \(([^)]+)\) when calling the \w+ operation(?: \([^)]*\))?: (.*)", done["err"], re.S)
            assert error, f"{command} {document[:300]}: {done}"
            raise Refused(error[1], error[2].strip())
        return json.loads(done["out"]) if done["out"].strip() else {}

    def knows(self, operation):
        return "MessageMoveTask" not in operation

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


class Told:
    """What a caller was told: calls, and notes each (operation, outcome) once it was as it has to be."""

    def __init__(self, driver):
        self.driver = driver
        self.seen = set()

    def __call__(self, operation, **params):
        return self.driver.call(operation, **params)

    def ok(self, operation, outcome, **params):
        answer = self.driver.call(operation, **params)
        self.saw(operation, outcome)
        return answer

    def refused(self, operation, outcome, code, **params):
        """The call fails with `code`; answers the message."""
        try:
            answer = self.driver.call(operation, **params)
        except Refused as e:
            assert e.code == code, f"{operation}, {outcome}: {e}, expected {code}"
            self.saw(operation, outcome)
            return e.message
        raise AssertionError(f"{operation}, {outcome}: answered {answer}, expected {code}")

    def saw(self, operation, outcome):
        self.seen.add((operation, outcome))

    # --- what most cases need

    def queue(self, fifo=False, **attributes):
        """A new queue's address."""
        name = "q-" + uuid.uuid4().hex[:12] + (".fifo" if fifo else "")
        if fifo:
            attributes["FifoQueue"] = "true"
        attributes = {k: v if isinstance(v, str) else json.dumps(v) for k, v in attributes.items()}
        return self("CreateQueue", QueueName=name, **({"Attributes": attributes} if attributes else {}))["QueueUrl"]

    def arn(self, url):
        return self.attributes(url, "QueueArn")["QueueArn"]

    def attributes(self, url, *names):
        return self("GetQueueAttributes", QueueUrl=url, AttributeNames=list(names) or ["All"]).get("Attributes", {})

    def receive(self, url, **params):
        params.setdefault("MaxNumberOfMessages", 10)
        return self("ReceiveMessage", QueueUrl=url, **params).get("Messages", [])

    def bodies(self, url, **params):
        return [m["Body"] for m in self.receive(url, **params)]

    def send(self, url, body, **params):
        return self("SendMessage", QueueUrl=url, MessageBody=body, **params)


def code(kind):
    """A code as both protocols tell it."""
    return f"AWS.SimpleQueueService.{kind}"
