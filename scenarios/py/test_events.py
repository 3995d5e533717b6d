"""`flint events`: what happened to events, in a line each, and one event's whole story."""

import json
import select
import subprocess
import time

import pytest

import flint
from test_dlq import Told, lines

ANSWERS = """
def handler(event, context):
    print("said", event.get("n"))
    if event.get("fail"):
        raise KeyError(event["n"])
    return {"doubled": 2 * event["n"]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with flint.Server(tmp_path_factory.mktemp("events") / "data") as server:
        functions = server.client("lambda")
        for name in ("one", "two"):
            server.create(functions, name, ANSWERS)
            functions.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
        yield server


def accept(server, name, **event):
    answer = server.client("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
    return answer["ResponseMetadata"]["RequestId"]


def entries_of(told, *args, wanted):
    return flint.until(lambda: (lambda found: found if wanted(found) else None)(lines(told, "events", *args)), 15, "entries")


def test_the_list_and_its_filters(server):
    told = Told(server)
    good, bad = accept(server, "one", n=1), accept(server, "two", n=2, fail=True)
    ends = entries_of(told, "--id", good, wanted=lambda e: {x["Kind"] for x in e} >= {"accepted", "finished", "settled"})
    assert {e["EventId"] for e in ends} == {good} and {e["TraceId"] for e in ends} == {f"1-{good[:8]}-{good[9:].replace('-', '')}"}
    finished = [e for e in ends if e["Kind"] == "finished"][0]
    assert finished["Outcome"] == "succeeded" and finished["BilledMs"] >= 1 and finished["EnvironmentId"]
    entries_of(told, "--id", bad, wanted=lambda e: "discarded" in {x["Kind"] for x in e})

    failed = lines(told, "events", "--outcome", "failed", "-n", "100")
    assert {e["EventId"] for e in failed} == {bad}, failed
    assert all("two" in e["Target"] for e in lines(told, "events", "--function", "two", "-n", "100"))
    assert {e["Kind"] for e in lines(told, "events", "--kind", "discarded")} == {"discarded"}
    assert {e["EventId"] for e in lines(told, "events", "--trace", good)} == {good}
    assert lines(told, "events", "--since", "1h", "--until", "30m") == []
    assert len(lines(told, "events", "-n", "2")) == 2
    places = [[int(n) for n in e["Position"].split(".")] for e in lines(told, "events", "-n", "100")]
    assert places == sorted(places), "newest last"
    text = told.text("events")
    assert "discarded" in text and "KeyError at app.py:5 in handler" in text and good in text, text
    assert "nothing of the kind" in told.text("events", "--function", "none")


def test_pages_go_on(server):
    told = Told(server)
    ids = [accept(server, "one", n=n) for n in range(30)]
    entries_of(told, "--kind", "settled", "-n", "500", wanted=lambda e: {x["EventId"] for x in e} >= set(ids))
    client, seen, token = server, [], {}
    while True:
        page = ask(client, "ListEvents", MaxItems=7, **token)
        seen += [e["Position"] for e in page["Entries"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    keys = [tuple(int(n) for n in position.split(".")) for position in seen]
    assert len(set(seen)) == len(seen) >= 90 and keys == sorted(keys, reverse=True)


def ask(server, operation, **members):
    """A call of service `flint` with botocore's signer."""
    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials
    import urllib.request

    variables = server.environment()
    key = botocore.credentials.Credentials(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"Flint.{operation}"}
    request = botocore.awsrequest.AWSRequest("POST", server.url + "/", data=json.dumps(members), headers=headers)
    botocore.auth.SigV4Auth(key, "flint", variables["AWS_REGION"]).add_auth(request)
    sent = urllib.request.Request(server.url + "/", data=json.dumps(members).encode(), headers=dict(request.headers))
    return json.load(urllib.request.urlopen(sent, timeout=30))


def test_one_event_tells_its_story(server):
    told = Told(server)
    bad = accept(server, "one", n=21, fail=True)
    entries_of(told, "--id", bad, wanted=lambda e: {"discarded", "finished"} <= {x["Kind"] for x in e})
    text = told.text("events", "show", bad)
    for piece in ("accepted", "discarded", "KeyError at app.py:5 in handler", "waits: flint dlq", '"fail": true',
                  "said 21", "START RequestId", '"errorType": "KeyError"'):
        assert piece in text, (piece, text)
    assert told("events", "show", bad[:13])["EventId"] == bad, "the beginning of an id will do"
    good = accept(server, "one", n=4)
    entries_of(told, "--id", good, wanted=lambda e: {"settled", "finished"} <= {x["Kind"] for x in e})
    [event] = told("events", "show", good)["Events"]
    assert json.loads(event["Payload"]) == {"n": 4} and json.loads(event["Answer"]) == {"doubled": 8}

    # A replay is part of the chain, and says so.
    again = told("replay", good)
    assert again["Differs"] is False and json.loads(again["Answer"]) == {"doubled": 8}, again
    chain = flint.until(lambda: (lambda c: c if len(c["Events"]) == 2 else None)(told("events", "show", good)), 10, "the replay")
    assert [e.get("ReplayOf") for e in chain["Events"]] == [None, good] and chain["Events"][1]["CauseId"] == good
    assert f"replay of {good}" in told.text("events", "show", good)


def test_a_replay_runs_the_version_that_is_asked_for(server):
    told, functions = Told(server), server.client("lambda")
    server.create(functions, "versions", ANSWERS)
    first = functions.publish_version(FunctionName="versions")["Version"]
    good = accept(server, "versions", n=5)
    entries_of(told, "--id", good, wanted=lambda e: {"settled", "finished"} <= {x["Kind"] for x in e})
    archive = flint.zipped({"app.py": ANSWERS.replace("2 * event", "3 * event")})
    functions.update_function_code(FunctionName="versions", ZipFile=archive)
    functions.get_waiter("function_updated_v2").wait(FunctionName="versions", WaiterConfig={"Delay": 1})
    new = told("replay", good)
    assert new["Differs"] is True and json.loads(new["Answer"]) == {"doubled": 15}, new
    assert json.loads(new["FormerAnswer"]) == {"doubled": 10}
    old = told("replay", good, "--version", first)
    assert (old["Differs"], old["ExecutedVersion"]) == (False, first), old
    text = told.text("replay", good)
    assert "the answer differs" in text and '{"doubled": 10}' in text and '{"doubled": 15}' in text, text


def test_follow(server):
    command = [flint.BINARY, "events", "--follow", "--json", "-n", "1", "--function", "one", "--data", str(server.data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=flint.clean_environment())
    try:
        process.stdout.readline()
        event = accept(server, "one", n=77)
        kinds, deadline = set(), time.monotonic() + 15
        while not {"accepted", "settled"} <= kinds:
            entry = json.loads(process.stdout.readline())
            if entry["EventId"] == event:
                kinds.add(entry["Kind"])
            assert time.monotonic() < deadline, kinds
    finally:
        process.terminate()
        process.wait()


def test_what_a_consumer_does_with_a_message_is_its_end(server):
    told, sqs = Told(server), server.client("sqs")
    url = sqs.create_queue(QueueName="consumed")["QueueUrl"]
    send = lambda text: sqs.send_message(QueueUrl=url, MessageBody=text)["MessageId"]
    story = lambda event: [(e["Kind"], e.get("ErrorType")) for e in told("events", "show", event)["Events"][0]["Entries"]]
    gone = send("one")
    handle = sqs.receive_message(QueueUrl=url)["Messages"][0]["ReceiptHandle"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
    assert story(gone) == [("accepted", None), ("settled", None)]
    purged, also = send("two"), send("three")
    sqs.purge_queue(QueueUrl=url)
    later = send("four")
    assert story(later) == [("accepted", None)]
    for event in (purged, also):
        assert story(event) == [("accepted", None), ("discarded", "Purged")]
    end = told("events", "show", purged)["Events"][0]["Entries"][-1]
    assert end["ErrorMessage"] == "PurgeQueue took 2 messages", end
    assert "Purged" in told.text("events", "show", purged)
    sqs.delete_queue(QueueUrl=url)
    assert story(later) == [("accepted", None), ("discarded", "QueueDeleted")]

def test_follow_only_what_is_new(server):
    before = accept(server, "one", n=1)
    entries_of(Told(server), "--id", before, wanted=lambda e: {"settled", "finished"} <= {x["Kind"] for x in e})
    command = [flint.BINARY, "events", "-f", "--json", "-n", "0", "--function", "one", "--data", str(server.data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=flint.clean_environment())
    try:
        sent = set()

        def arrived():
            sent.add(accept(server, "one", n=2))
            return select.select([process.stdout], [], [], 0.5)[0]

        flint.until(arrived, 15, "an entry")
        first = json.loads(process.stdout.readline())
        assert first["EventId"] in sent, "nothing from before"
    finally:
        process.terminate()
        process.wait()


def test_a_beginning_that_several_ids_have(server):
    told = Told(server)
    sqs = server.client("sqs")
    url = sqs.create_queue(QueueName="alike")["QueueUrl"]
    # Ids of messages begin with the time.
    ids = [sqs.send_message(QueueUrl=url, MessageBody="x")["MessageId"] for _ in range(5)]
    for command in ("events", "show"), ("replay",), ("dlq", "drop"):
        text = told.text(*command, ids[0][:6], check=False)
        assert "give more of the id" in text, text
