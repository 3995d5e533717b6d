"""boto3 drives the whole life of a function: create, wait, invoke with tail, update, list, read logs, delete."""

import hashlib
import base64
import json
import threading

import botocore.exceptions
import pytest

import flint

HELLO = """
import json, os
print("module loaded")
def handler(event, context):
    print("hello", json.dumps(event))
    return {
        "event": event, "greeting": os.environ.get("GREETING"), "name": context.function_name,
        "memory": context.memory_limit_in_mb, "arn": context.invoked_function_arn,
        "request": context.aws_request_id, "left": context.get_remaining_time_in_millis(),
        "group": context.log_group_name, "stream": context.log_stream_name,
        "client": context.client_context.custom if context.client_context else None,
    }
"""


def refused(code, call, **arguments):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code, caught.value.response
    return caught.value.response


def test_the_whole_life(shared, functions, logs, name):
    created = shared.create(
        functions, name, HELLO, Description="says hello", Timeout=5, MemorySize=192,
        Environment={"Variables": {"GREETING": "good day"}}, Tags={"team": "a"},
    )
    assert created["FunctionArn"] == f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert created["Version"] == "$LATEST" and created["PackageType"] == "Zip"
    archive = flint.zipped({"app.py": HELLO})
    assert created["CodeSha256"] == base64.b64encode(hashlib.sha256(archive).digest()).decode()
    assert created["CodeSize"] == len(archive)

    # Invoke with tail: the answer, the context, the log lines.
    answer = flint.invoke(functions, name, {"n": 1})
    assert (answer.status, answer.error, answer.version) == (200, None, "$LATEST"), answer
    said = answer.json
    assert said["event"] == {"n": 1} and said["greeting"] == "good day" and said["name"] == name
    assert int(said["memory"]) == 192 and said["arn"] == created["FunctionArn"]
    assert said["request"] == answer.request_id and 0 < said["left"] <= 5000
    assert said["group"] == f"/aws/lambda/{name}"
    for piece in ("START RequestId:", 'hello {"n": 1}', "END RequestId:", "REPORT RequestId:", "Init Duration:"):
        assert piece in answer.tail, answer.tail
    warm = flint.invoke(functions, name, {"n": 2})
    assert "Init Duration" not in warm.tail, "the second call is warm"
    assert warm.json["stream"] == said["stream"], "one environment served both"

    context = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
    raw = functions.invoke(FunctionName=name, Payload=b"{}", ClientContext=context)
    assert json.loads(raw["Payload"].read())["client"] == {"k": "v"}

    dry = functions.invoke(FunctionName=name, InvocationType="DryRun", Payload=b"{}")
    assert dry["StatusCode"] == 204

    # Configuration and code move on; the revision changes each time.
    before = functions.get_function_configuration(FunctionName=name)
    assert before["State"] == "Active" and before["LastUpdateStatus"] == "Successful"
    updated = functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"GREETING": "good night"}}, Timeout=7, MemorySize=256,
        RevisionId=before["RevisionId"],
    )
    assert updated["RevisionId"] != before["RevisionId"] and updated["Timeout"] == 7
    functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    after = flint.invoke(functions, name, {}).json
    assert after["greeting"] == "good night" and int(after["memory"]) == 256
    refused(
        "PreconditionFailedException", functions.update_function_configuration, FunctionName=name, Timeout=8,
        RevisionId=before["RevisionId"],
    )

    code = flint.zipped({"app.py": "def handler(event, context):\n    return 'second'\n"})
    checked = functions.update_function_code(FunctionName=name, ZipFile=code, DryRun=True)
    assert flint.invoke(functions, name, {}).json != "second", "a dry run changes nothing"
    changed = functions.update_function_code(FunctionName=name, ZipFile=code)
    assert changed["CodeSha256"] == checked["CodeSha256"] != created["CodeSha256"]
    functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    assert flint.invoke(functions, name, {}).json == "second"

    # Reads.
    read = functions.get_function(FunctionName=name)
    assert read["Configuration"]["FunctionName"] == name and read["Tags"] == {"team": "a"}
    assert functions.get_function(FunctionName=created["FunctionArn"])["Configuration"]["FunctionName"] == name
    listed = [f["FunctionName"] for page in functions.get_paginator("list_functions").paginate() for f in page["Functions"]]
    assert name in listed

    # Logs.
    group = f"/aws/lambda/{name}"
    flint.until(
        lambda: logs.filter_log_events(logGroupName=group, filterPattern='"hello" "2"')["events"], 5, "the log arrives"
    )
    groups = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert [g["logGroupName"] for g in groups] == [group]
    streams = logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True)["logStreams"]
    assert said["stream"] in [s["logStreamName"] for s in streams]
    lines = logs.get_log_events(logGroupName=group, logStreamName=said["stream"], startFromHead=True)["events"]
    messages = [line["message"].rstrip("\n") for line in lines]
    starts = [m for m in messages if m.startswith("START RequestId: ")]
    assert messages.index("module loaded") < messages.index(starts[0]), messages
    assert len([m for m in messages if m.startswith("REPORT ")]) == len(starts), messages
    reports = logs.filter_log_events(logGroupName=group, filterPattern="REPORT")["events"]
    assert reports and all("REPORT" in e["message"] for e in reports)
    assert not logs.filter_log_events(logGroupName=group, filterPattern="nowhere")["events"]
    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["retentionInDays"] == 7

    # Delete.
    functions.delete_function(FunctionName=name)
    refused("ResourceNotFoundException", functions.get_function, FunctionName=name)
    refused("ResourceNotFoundException", functions.invoke, FunctionName=name, Payload=b"{}")
    logs.delete_log_group(logGroupName=group)
    refused("ResourceNotFoundException", logs.describe_log_streams, logGroupName=group)


def test_create_survives_a_restart(data):
    with flint.Server(data) as server:
        client = server.client("lambda")
        server.create(client, "kept", "def handler(event, context):\n    return event['n'] + 1\n")
        assert flint.invoke(client, "kept", {"n": 1}).json == 2
        revision = client.get_function_configuration(FunctionName="kept")["RevisionId"]
    with flint.Server(data) as server:
        client = server.client("lambda")
        assert client.get_function_configuration(FunctionName="kept")["RevisionId"] == revision
        assert flint.invoke(client, "kept", {"n": 2}).json == 3
        logs = server.client("logs")
        events = logs.filter_log_events(logGroupName="/aws/lambda/kept", filterPattern="REPORT")["events"]
        assert len(events) >= 2, "lines of the earlier life are still there"


def test_an_error_of_the_function_is_the_callers_document(shared, functions, name):
    shared.create(functions, name, "def handler(event, context):\n    raise ValueError('no good')\n")
    answer = flint.invoke(functions, name, {})
    assert (answer.status, answer.error) == (200, "Unhandled")
    document = answer.json
    assert document["errorType"] == "ValueError" and document["errorMessage"] == "no good"
    assert document["requestId"] == answer.request_id
    assert any("raise ValueError('no good')" in line for line in document["stackTrace"])
    assert flint.invoke(functions, name, {}).error == "Unhandled", "the environment goes on"


def test_parallel_calls_scale_out(shared, functions, name):
    source = "import time\ndef handler(event, context):\n    time.sleep(0.5)\n    return context.log_stream_name\n"
    shared.create(functions, name, source)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(flint.invoke(functions, name, {}).json)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6 and len(set(answers)) == 6, "one request per environment at a time"


def test_a_bootstrap_of_ones_own(shared, functions, name):
    echo = flint.Path(flint.BINARY).with_name("echo-bootstrap").read_bytes()
    functions.create_function(
        FunctionName=name, Role=flint.ROLE, Handler="none", Runtime="provided.al2023",
        Code={"ZipFile": flint.zipped({"bootstrap!": echo})},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    assert flint.invoke(functions, name, {"deep": [1, 2, 3]}).json == {"deep": [1, 2, 3]}


def test_large_payloads_pass(shared, functions, name):
    shared.create(functions, name, "def handler(event, context):\n    return event\n", Timeout=20, MemorySize=512)
    text = "x" * 5_000_000
    assert flint.invoke(functions, name, text, tail=False).json == text


def test_logs_of_ones_own(logs, name):
    group = f"/scenario/{name}"
    logs.create_log_group(logGroupName=group)
    refused("ResourceAlreadyExistsException", logs.create_log_group, logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    listed = logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert [s["logStreamName"] for s in listed] == ["s"]
    refused("ResourceNotFoundException", logs.create_log_stream, logGroupName=group + "x", logStreamName="s")
    logs.delete_log_group(logGroupName=group)


def test_an_unknown_runtime_names_what_there_is(shared, functions, name):
    response = refused(
        "InvalidParameterValueException", functions.create_function, FunctionName=name, Role=flint.ROLE,
        Handler="a.b", Runtime="ruby3.3", Code={"ZipFile": flint.zipped({"a.rb": ""})},
    )
    assert shared.python() in response["Error"]["Message"], response


def test_what_is_not_served_is_refused_by_name(shared, functions, name):
    shared.create(functions, name, "def handler(event, context):\n    return 1\n")
    response = refused("NotImplemented", functions.create_function_url_config, FunctionName=name, AuthType="NONE")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert "CreateFunctionUrlConfig" in response["Error"]["Message"]
    response = refused(
        "NotImplemented", functions.update_function_configuration, FunctionName=name,
        VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
    )
    assert "VpcConfig" in response["Error"]["Message"]
    # A value that equals the reference's default is none.
    functions.update_function_configuration(FunctionName=name, TracingConfig={"Mode": "PassThrough"}, VpcConfig={})
