"""One script that calls every served operation once, driven by boto3, by Debian's AWS CLI and by the JavaScript SDK v3."""

import base64
import json
import os
import re
import subprocess
import time

import botocore
import pytest

import flint
import violations
from test_js_sdk import HERE, modules  # noqa: F401 (a fixture)

ACCOUNT = "000000000000"
TRUST = json.dumps({
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
})
GRANT = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}]})
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
SOURCE = "def handler(event, context):\n    return event\n"


class Blob:
    """Bytes of a request, which every driver passes in its own way."""

    def __init__(self, content):
        self.content = content


def script(name, runtime, region, mapping):
    """(service, operation, arguments), in an order that works; `mapping` is an event source mapping of another function."""
    role, layer = f"arn:aws:iam::{ACCOUNT}:role/{name}", f"arn:aws:lambda:{region}:{ACCOUNT}:layer:{name}"
    arn = f"arn:aws:lambda:{region}:{ACCOUNT}:function:{name}"
    code, other = flint.zipped({"app.py": SOURCE}), flint.zipped({"app.py": SOURCE + "# again\n"})
    of_role, of_function = {"RoleName": name}, {"FunctionName": name}
    of_mapping = {"UUID": mapping["UUID"]}
    group = {"logGroupName": f"/{name}"}
    stream = {**group, "logStreamName": "s"}
    rows = {
        "iam": [
            ("CreateRole", {**of_role, "AssumeRolePolicyDocument": TRUST}),
            ("GetRole", of_role),
            ("ListRoles", {"MaxItems": 1}),
            ("UpdateRole", {**of_role, "Description": "d"}),
            ("UpdateAssumeRolePolicy", {**of_role, "PolicyDocument": TRUST}),
            ("PutRolePolicy", {**of_role, "PolicyName": "p", "PolicyDocument": GRANT}),
            ("GetRolePolicy", {**of_role, "PolicyName": "p"}),
            ("ListRolePolicies", of_role),
            ("AttachRolePolicy", {**of_role, "PolicyArn": BASIC}),
            ("ListAttachedRolePolicies", of_role),
            ("TagRole", {**of_role, "Tags": [{"Key": "k", "Value": "v"}]}),
            ("ListRoleTags", of_role),
            ("UntagRole", {**of_role, "TagKeys": ["k"]}),
            ("ListInstanceProfilesForRole", of_role),
        ],
        "sts": [
            ("GetCallerIdentity", {}),
            ("AssumeRole", {"RoleArn": role, "RoleSessionName": "me"}),
            ("GetSessionToken", {}),
        ],
        "lambda": [
            ("PublishLayerVersion", {"LayerName": name, "Content": {"ZipFile": Blob(flint.zipped({"python/m.py": "X = 1\n"}))}}),
            ("GetLayerVersion", {"LayerName": name, "VersionNumber": 1}),
            ("GetLayerVersionByArn", {"Arn": f"{layer}:1"}),
            ("ListLayers", {"MaxItems": 1}),
            ("ListLayerVersions", {"LayerName": name}),
            ("CreateFunction", {
                **of_function, "Role": role, "Handler": "app.handler", "Runtime": runtime, "Code": {"ZipFile": Blob(code)},
                "Layers": [f"{layer}:1"], "Tags": {"a": "b"},
            }),
            ("GetFunction", of_function),
            ("GetFunctionConfiguration", of_function),
            ("ListFunctions", {"MaxItems": 1}),
            ("Invoke", {**of_function, "Payload": Blob(b'{"n": 1}')}),
            ("InvokeWithResponseStream", {**of_function, "Payload": Blob(b'{"n": 1}')}),
            ("UpdateFunctionCode", {**of_function, "ZipFile": Blob(other)}),
            ("UpdateFunctionConfiguration", {**of_function, "Timeout": 9}),
            ("PublishVersion", of_function),
            ("ListVersionsByFunction", of_function),
            ("CreateAlias", {**of_function, "Name": "live", "FunctionVersion": "1"}),
            ("GetAlias", {**of_function, "Name": "live"}),
            ("UpdateAlias", {**of_function, "Name": "live", "Description": "d"}),
            ("ListAliases", of_function),
            ("DeleteAlias", {**of_function, "Name": "live"}),
            ("TagResource", {"Resource": arn, "Tags": {"k": "v"}}),
            ("ListTags", {"Resource": arn}),
            ("UntagResource", {"Resource": arn, "TagKeys": ["k"]}),
            ("GetAccountSettings", {}),
            ("PutFunctionConcurrency", {**of_function, "ReservedConcurrentExecutions": 5}),
            ("GetFunctionConcurrency", of_function),
            ("DeleteFunctionConcurrency", of_function),
            ("GetFunctionCodeSigningConfig", of_function),
            ("PutFunctionRecursionConfig", {**of_function, "RecursiveLoop": "Allow"}),
            ("GetFunctionRecursionConfig", of_function),
            ("PutFunctionEventInvokeConfig", {**of_function, "MaximumRetryAttempts": 1}),
            ("UpdateFunctionEventInvokeConfig", {**of_function, "MaximumEventAgeInSeconds": 60}),
            ("GetFunctionEventInvokeConfig", of_function),
            ("ListFunctionEventInvokeConfigs", of_function),
            ("DeleteFunctionEventInvokeConfig", of_function),
            ("CreateEventSourceMapping", {**of_function, "EventSourceArn": mapping["EventSourceArn"]}),
            ("ListEventSourceMappings", of_function),
            ("GetEventSourceMapping", of_mapping),
            ("UpdateEventSourceMapping", {**of_mapping, "BatchSize": 5}),
            ("DeleteEventSourceMapping", of_mapping),
            ("GetRuntimeManagementConfig", of_function),
            ("DeleteFunction", of_function),
            ("DeleteLayerVersion", {"LayerName": name, "VersionNumber": 1}),
        ],
        "logs": [
            ("CreateLogGroup", group),
            ("CreateLogStream", stream),
            ("PutLogEvents", {**stream, "logEvents": [{"timestamp": int(time.time() * 1000), "message": "m"}]}),
            ("GetLogEvents", stream),
            ("FilterLogEvents", group),
            ("DescribeLogGroups", {"logGroupNamePrefix": f"/{name}"}),
            ("DescribeLogStreams", group),
            ("PutRetentionPolicy", {**group, "retentionInDays": 7}),
            ("DeleteRetentionPolicy", group),
            ("DeleteLogStream", stream),
            ("DeleteLogGroup", group),
        ],
    }
    end = [
        ("iam", "DetachRolePolicy", {**of_role, "PolicyArn": BASIC}),
        ("iam", "DeleteRolePolicy", {**of_role, "PolicyName": "p"}),
        ("iam", "DeleteRole", of_role),
    ]
    return [(service, *row) for service, calls in rows.items() for row in calls] + end


MAPPING = {"UUID": "u", "EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:q"}


def test_the_script_names_every_operation():
    named = {(service, operation) for service, operation, _ in script("n", "python3", "us-east-1", MAPPING)}
    carried = {(s.name, o) for s in violations.load() if s.name != "flint" for o in s.operations()}
    assert named == carried, named ^ carried


@pytest.fixture
def steps(shared, name):
    region = shared.environment()["AWS_REGION"]
    functions, queues = shared.client("lambda"), shared.client("sqs")
    queue = queues.create_queue(QueueName=f"q-{name}")["QueueUrl"]
    source = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    functions.create_function(
        FunctionName=f"other-{name}", Runtime=shared.python(), Role=f"arn:aws:iam::{ACCOUNT}:role/r", Handler="app.handler",
        Code={"ZipFile": flint.zipped({"app.py": SOURCE})},
    )
    mapping = functions.create_event_source_mapping(FunctionName=f"other-{name}", EventSourceArn=source)
    enabled = lambda: functions.get_event_source_mapping(UUID=mapping["UUID"])["State"] == "Enabled"  # noqa: E731
    flint.until(enabled, 10, "the mapping to be enabled")
    return script(name, shared.python(), region, mapping)


def plain(value, blob):
    """The arguments with every blob as `blob` makes it."""
    if isinstance(value, Blob):
        return blob(value.content)
    if isinstance(value, dict):
        return {k: plain(v, blob) for k, v in value.items()}
    return [plain(v, blob) for v in value] if isinstance(value, list) else value


def test_boto3(shared, steps):
    clients = {service: shared.client(service) for service in ("iam", "sts", "lambda", "logs")}
    for service, operation, arguments in steps:
        answer = getattr(clients[service], botocore.xform_name(operation))(**plain(arguments, bytes))
        if operation == "InvokeWithResponseStream":
            assert [list(event) for event in answer["EventStream"]] == [["PayloadChunk"], ["InvokeComplete"]]
    flint.figure("operations_by_boto3", len(steps))


@pytest.mark.timeout(300)
def test_the_aws_cli(shared, aws, steps):
    environment = {**flint.clean_environment(), **{k: str(v) for k, v in shared.environment().items()}}
    driven, unknown = 0, []
    for service, operation, arguments in steps:
        document = json.dumps(plain(arguments, lambda content: base64.b64encode(content).decode()))
        command = [aws, "--endpoint-url", shared.url, "--output", "json", service, kebab(operation)]
        if operation == "Invoke":
            # A command that writes a file takes no document.
            payload = base64.b64encode(arguments["Payload"].content).decode()
            command += ["--function-name", arguments["FunctionName"], "--payload", payload, "/dev/null"]
        else:
            command += ["--cli-input-json", document]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
        if "Invalid choice" in done.stderr or "argument operation" in done.stderr:
            unknown.append(operation)  # newer than this CLI, or a stream, which it has no command for
            continue
        assert done.returncode == 0, f"{operation}: {done.stderr}"
        driven += 1
    print("unknown to this CLI:", ", ".join(unknown))
    assert len(unknown) <= 4, unknown
    flint.figure("operations_by_the_aws_cli", driven)


def kebab(operation):
    return botocore.xform_name(operation, "-")


def test_the_javascript_sdk(shared, modules, steps):  # noqa: F811
    document = [
        [service, operation, plain(arguments, lambda content: {"$blob": base64.b64encode(content).decode()})]
        for service, operation, arguments in steps
    ]
    environment = {
        **flint.clean_environment(), **{k: str(v) for k, v in shared.environment().items()},
        "FLINT_URL": shared.url, "FLINT_MODULES": str(modules), "HOME": os.environ.get("HOME", "/"),
    }
    command = ["node", str(HERE / "drive.mjs")]
    done = subprocess.run(
        command, input=json.dumps(document), capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    flint.figure("operations_by_the_javascript_sdk", int(re.search(r"driven (\d+)", done.stdout)[1]))
    assert f"driven {len(steps)}" in done.stdout, done.stdout
