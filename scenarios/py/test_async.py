"""Events that nobody waits for: kept before the 202, run in their turn, retried, and never lost."""

import json
import uuid

import botocore.exceptions
import pytest

import flint

# Writes what it was asked into the log, and does what the event says.
WORKER = """
import json, os, time
def handler(event, context):
    print("RAN", event.get("id"), context.aws_request_id)
    if event.get("sleep"):
        time.sleep(event["sleep"])
    if event.get("fail"):
        raise ValueError("no such order: %s" % event["id"])
    return {"done": event.get("id"), "trace": os.environ.get("_X_AMZN_TRACE_ID"), "context": bool(context.client_context)}
"""
RECORDER = """
import json
def handler(event, context):
    print("RECORD", json.dumps(event))
"""


def messages(logs, name, marker):
    """What the function `name` printed behind `marker`."""
    try:
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern=f'"{marker}"')["events"]
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [event["message"].split(marker, 1)[1].strip() for event in events if event["message"].startswith(marker)]


def arn(name):
    return f"arn:aws:lambda:us-east-1:000000000000:function:{name}"


def test_accepted_and_run(shared, functions, logs, name):
    shared.create(functions, name, WORKER)
    answer = functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps({"id": "one"}))
    assert answer["StatusCode"] == 202 and answer["Payload"].read() == b""
    assert "ExecutedVersion" not in answer and "FunctionError" not in answer
    ran = flint.until(lambda: messages(logs, name, "RAN"), 10, "the event runs")
    assert ran == [f"one {answer['ResponseMetadata']['RequestId']}"], "under the id that the caller got"


def test_sizes_and_bad_input(shared, functions, logs, name):
    shared.create(functions, name, WORKER)
    limit = 1_048_576
    payload = json.dumps({"id": "large", "x": "y"})
    payload = payload.replace('"y"', '"' + "y" * (limit - len(payload) + 1) + '"')
    assert len(payload) == limit
    functions.invoke(FunctionName=name, InvocationType="Event", Payload=payload)
    flint.until(lambda: messages(logs, name, "RAN"), 20, "a megabyte runs")
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        functions.invoke(FunctionName=name, InvocationType="Event", Payload=payload + " ")
    error = caught.value.response
    assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("RequestTooLargeException", 413)
    assert f"{limit + 1} byte payload is too large for the Event invocation type" in error["Error"]["Message"]
    for arguments, code in [
        ({"FunctionName": name, "Payload": "{"}, "InvalidRequestContentException"),
        ({"FunctionName": name + "-none"}, "ResourceNotFoundException"),
        ({"FunctionName": name, "Qualifier": "none"}, "ResourceNotFoundException"),
    ]:
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            functions.invoke(InvocationType="Event", **arguments)
        assert caught.value.response["Error"]["Code"] == code


def test_destinations_to_functions(shared, functions, logs, name):
    shared.create(functions, name, WORKER)
    good, bad = name + "-good", name + "-bad"
    for recorder in (good, bad):
        shared.create(functions, recorder, RECORDER)
    functions.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0, MaximumEventAgeInSeconds=300,
        DestinationConfig={"OnSuccess": {"Destination": arn(good)}, "OnFailure": {"Destination": arn(bad)}},
    )
    sent = {}
    for event in ({"id": "fine"}, {"id": "odd", "fail": True}):
        answer = functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
        sent[event["id"]] = answer["ResponseMetadata"]["RequestId"]
    [record] = flint.until(lambda: messages(logs, good, "RECORD"), 10, "the record of a success")
    record = json.loads(record)
    assert set(record) == {"version", "timestamp", "requestContext", "requestPayload", "responseContext", "responsePayload"}
    assert record["requestContext"] == {
        "requestId": sent["fine"], "functionArn": arn(name) + ":$LATEST", "condition": "Success",
        "approximateInvokeCount": 1,
    }
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert record["requestPayload"] == {"id": "fine"} and record["responsePayload"]["done"] == "fine"
    [record] = flint.until(lambda: messages(logs, bad, "RECORD"), 10, "the record of a failure")
    record = json.loads(record)
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["requestId"] == sent["odd"]
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert record["responsePayload"]["errorMessage"] == "no such order: odd"
    assert record["responsePayload"]["errorType"] == "ValueError"


def test_a_dead_letter_queue(shared, functions, name):
    sqs = shared.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    made = shared.create(functions, name, WORKER, DeadLetterConfig={"TargetArn": queue})
    assert made["DeadLetterConfig"] == {"TargetArn": queue}
    functions.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": queue}}
    )
    event = {"id": "odd", "fail": True}
    answer = functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
    request_id = answer["ResponseMetadata"]["RequestId"]
    found = []

    def both():
        messages = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"], WaitTimeSeconds=1)
        found.extend(messages.get("Messages", []))
        return len(found) == 2

    flint.until(both, 10, "the record and the dead letter")
    [letter] = [message for message in found if "MessageAttributes" in message]
    [record] = [message for message in found if "MessageAttributes" not in message]
    assert json.loads(letter["Body"]) == event, "the event as it was"
    attributes = {key: (value["DataType"], value["StringValue"]) for key, value in letter["MessageAttributes"].items()}
    assert attributes == {
        "RequestID": ("String", request_id), "ErrorCode": ("Number", "200"),
        "ErrorMessage": ("String", "no such order: odd"),
    }
    assert json.loads(record["Body"])["requestContext"]["requestId"] == request_id
    changed = functions.update_function_configuration(FunctionName=name, DeadLetterConfig={"TargetArn": ""})
    assert "DeadLetterConfig" not in changed
    for bad, status in ((queue + ".fifo", 400), ("arn:aws:sns:us-east-1:000000000000:t", 501)):
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            functions.update_function_configuration(FunctionName=name, DeadLetterConfig={"TargetArn": bad})
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_the_life_of_a_configuration(shared, functions, name):
    shared.create(functions, name, WORKER)
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.get_function_event_invoke_config(FunctionName=name)
    put = functions.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
    assert put["FunctionArn"] == arn(name) + ":$LATEST" and put["MaximumRetryAttempts"] == 1
    assert put["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}} and "MaximumEventAgeInSeconds" not in put
    updated = functions.update_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=60)
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (1, 60)
    version = functions.publish_version(FunctionName=name)["Version"]
    functions.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    functions.put_function_event_invoke_config(FunctionName=name, Qualifier="live", MaximumRetryAttempts=0)
    pages = functions.get_paginator("list_function_event_invoke_configs")
    found = [c["FunctionArn"] for page in pages.paginate(FunctionName=name, MaxItems=1) for c in page["FunctionEventInvokeConfigs"]]
    assert found == [arn(name) + ":$LATEST", arn(name) + ":live"]
    for bad in ({"MaximumRetryAttempts": 3}, {"MaximumEventAgeInSeconds": 21_601}, {}):
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            functions.put_function_event_invoke_config(FunctionName=name, **bad)
        assert caught.value.response["Error"]["Code"] in ("ValidationException", "InvalidParameterValueException")
    topic = {"OnFailure": {"Destination": "arn:aws:sns:us-east-1:000000000000:t"}}
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        functions.put_function_event_invoke_config(FunctionName=name, DestinationConfig=topic)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    functions.delete_alias(FunctionName=name, Name="live")
    functions.delete_function_event_invoke_config(FunctionName=name)
    assert functions.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"] == []


def test_the_command_line(shared, functions, logs, name):
    shared.create(functions, name, WORKER)
    done = shared.run("invoke", name, "--async", "-p", '{"id": "cli"}', "--data", str(shared.data))
    request_id = done.stdout.strip()
    assert done.returncode == 0 and str(uuid.UUID(request_id)) == request_id, done
    assert flint.until(lambda: messages(logs, name, "RAN"), 10, "it runs") == [f"cli {request_id}"]
    said = json.loads(shared.run("invoke", name, "--async", "--json", "--data", str(shared.data)).stdout)
    assert said["statusCode"] == 202 and uuid.UUID(said["requestId"])
