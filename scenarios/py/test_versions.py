"""Versions, aliases by weight, reserved concurrency, tags and account settings, by boto3."""

import concurrent.futures
import json
import threading

import botocore
import pytest

import flint


def source(number):
    return {"app.py": f"def handler(event, context):\n    return [{number}, context.function_version, context.invoked_function_arn]\n"}


@pytest.fixture
def published(shared, functions, name):
    """A function with versions 1 and 2, and the alias `live` on 1 with a tenth of the calls on 2."""
    functions.create_function(
        FunctionName=name, Runtime=shared.python(), Role=flint.ROLE, Handler="app.handler",
        Code={"ZipFile": flint.zipped(source(1))}, Publish=True,
    )
    answer = functions.update_function_code(FunctionName=name, ZipFile=flint.zipped(source(2)), Publish=True)
    assert answer["Version"] == "2" and answer["FunctionArn"].endswith(f":{name}:2")
    functions.create_alias(
        FunctionName=name, Name="live", FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}},
    )
    yield name
    functions.delete_function(FunctionName=name)


def code_of(caught):
    return caught.value.response["Error"]["Code"]


def test_a_version_is_published_once_and_stays(functions, published):
    again = functions.publish_version(FunctionName=published)
    assert again["Version"] == "2", "nothing changed since"
    functions.update_function_code(FunctionName=published, ZipFile=flint.zipped(source(3)))
    for version, expected in (("1", 1), ("2", 2), ("$LATEST", 3)):
        answer = functions.invoke(FunctionName=published, Qualifier=version)
        number, inside, arn = json.load(answer["Payload"])
        assert (number, inside, answer["ExecutedVersion"]) == (expected, version, version)
        assert arn.endswith(f":{published}:{version}")
    pages = functions.get_paginator("list_versions_by_function").paginate(
        FunctionName=published, PaginationConfig={"PageSize": 1}
    )
    assert [one["Version"] for page in pages for one in page["Versions"]] == ["$LATEST", "1", "2"]
    functions.get_waiter("published_version_active").wait(FunctionName=published, Qualifier="2")
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        functions.publish_version(FunctionName=published, CodeSha256="AAAA")
    assert code_of(caught) == "InvalidParameterValueException"
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        functions.invoke(FunctionName=published, Qualifier="9")
    assert code_of(caught) == "ResourceNotFoundException"


def test_an_alias_splits_its_calls_by_weight(functions, published):
    counts = {"1": 0, "2": 0}

    def call(_):
        answer = functions.invoke(FunctionName=published, Qualifier="live")
        number, inside, arn = json.load(answer["Payload"])
        assert answer["ExecutedVersion"] == inside == str(number) and arn.endswith(":live")
        return inside

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for version in pool.map(call, range(2000)):
            counts[version] += 1
    share = counts["2"] / 20
    flint.figure("alias_share_percent", share)
    assert 8 <= share <= 12, counts


def test_the_life_of_an_alias(functions, published):
    alias = functions.get_alias(FunctionName=published, Name="live")
    assert alias["FunctionVersion"] == "1" and alias["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.1}}
    functions.update_alias(FunctionName=published, Name="live", FunctionVersion="2", RoutingConfig={})
    alias = functions.get_alias(FunctionName=published, Name="live")
    assert alias["FunctionVersion"] == "2" and "RoutingConfig" not in alias
    for call, arguments, expected in (
        (functions.create_alias, {"Name": "live", "FunctionVersion": "1"}, "ResourceConflictException"),
        (functions.create_alias, {"Name": "other", "FunctionVersion": "7"}, "ResourceNotFoundException"),
        (functions.update_alias, {"Name": "none", "Description": "x"}, "ResourceNotFoundException"),
        (functions.update_alias, {"Name": "live", "RevisionId": "stale"}, "PreconditionFailedException"),
        (functions.delete_function, {"Qualifier": "2"}, "ResourceConflictException"),
        (functions.delete_function, {"Qualifier": "$LATEST"}, "InvalidParameterValueException"),
    ):
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            call(FunctionName=published, **arguments)
        assert code_of(caught) == expected, arguments
    configuration = functions.get_function(FunctionName=published, Qualifier="live")["Configuration"]
    assert configuration["Version"] == "2" and configuration["FunctionArn"].endswith(":live")
    assert [one["Name"] for one in functions.list_aliases(FunctionName=published)["Aliases"]] == ["live"]
    functions.delete_alias(FunctionName=published, Name="live")
    functions.delete_alias(FunctionName=published, Name="live")
    functions.delete_function(FunctionName=published, Qualifier="2")


def test_reserved_concurrency_is_exact(shared, functions, name):
    """Calls that overlap count themselves on the host's side; the limit is never passed and never left unused."""
    limit = 3
    shared.create(functions, name, "import time\ndef handler(event, context):\n    time.sleep(0.05)\n    return 1\n")
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=limit)
    quiet = shared.client("lambda")
    done, throttled = 0, 0
    lock = threading.Lock()
    stop = threading.Event()

    def caller():
        nonlocal done, throttled
        while not stop.is_set():
            try:
                quiet.invoke(FunctionName=name)
                with lock:
                    done += 1
                    if done >= 150:
                        stop.set()
            except botocore.exceptions.ClientError as error:
                assert error.response["Error"]["Code"] == "TooManyRequestsException"
                assert error.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
                with lock:
                    throttled += 1
                stop.wait(0.005)

    threads = [threading.Thread(target=caller) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done >= 150 and throttled > 0
    environments = len(json.loads(shared.run("ps", name, "--data", str(shared.data), "--json").stdout))
    flint.figure("environments_at_limit", environments)
    assert environments == limit, "as many as the limit ran side by side, and not one more"

    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        quiet.invoke(FunctionName=name)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert functions.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 0
    assert functions.get_function(FunctionName=name)["Concurrency"] == {"ReservedConcurrentExecutions": 0}
    functions.delete_function_concurrency(FunctionName=name)
    assert quiet.invoke(FunctionName=name)["StatusCode"] == 200
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=950)
    assert "below its minimum value of [100]" in str(caught.value)


def test_tags_and_account_settings(shared, functions, name):
    arn = shared.create(functions, name, "def handler(event, context):\n    return 1\n")["FunctionArn"]
    functions.tag_resource(Resource=arn, Tags={"a": "1", "b": "2"})
    functions.untag_resource(Resource=arn, TagKeys=["a"])
    assert functions.list_tags(Resource=arn)["Tags"] == {"b": "2"}
    settings = functions.get_account_settings()
    assert settings["AccountLimit"]["ConcurrentExecutions"] == 1000
    assert settings["AccountUsage"]["FunctionCount"] >= 1


def test_versions_and_aliases_survive_a_restart(data):
    with flint.Server(data) as server:
        client = server.client("lambda")
        client.create_function(
            FunctionName="kept", Runtime=server.python(), Role=flint.ROLE, Handler="app.handler",
            Code={"ZipFile": flint.zipped(source(1))}, Publish=True,
        )
        client.update_function_code(FunctionName="kept", ZipFile=flint.zipped(source(2)))
        client.create_alias(FunctionName="kept", Name="live", FunctionVersion="1")
        client.put_function_concurrency(FunctionName="kept", ReservedConcurrentExecutions=5)
    with flint.Server(data) as server:
        client = server.client("lambda")
        assert json.load(client.invoke(FunctionName="kept:live")["Payload"])[0] == 1
        assert json.load(client.invoke(FunctionName="kept")["Payload"])[0] == 2
        limits = client.get_account_settings()["AccountLimit"]
        assert limits["UnreservedConcurrentExecutions"] == 995
        assert client.publish_version(FunctionName="kept")["Version"] == "2"


def test_a_caller_that_hangs_up_leaves_the_environment_whole(shared, functions, name):
    """The call ends as it would, and the next one finds the same environment, with its state."""
    shared.create(
        functions, name,
        "import time\nn = 0\ndef handler(event, context):\n    global n\n    n += 1\n    time.sleep(event.get('s', 0))\n    return n\n",
        Timeout=10,
    )
    assert json.load(functions.invoke(FunctionName=name, Payload="{}")["Payload"]) == 1
    hasty = shared.client("lambda", timeout=0.5)
    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        hasty.invoke(FunctionName=name, Payload='{"s": 1.5}')

    def calls():
        return [one["Invocations"] for one in json.loads(shared.run("ps", name, "--data", str(shared.data), "--json").stdout)]

    flint.until(lambda: calls() == [2], 10, "the call of the lost caller has ended")
    assert json.load(functions.invoke(FunctionName=name, Payload="{}")["Payload"]) == 3
    assert calls() == [3]
