"""Layers: published, merged at /opt in order, kept by the functions that use them."""

import json
import os
import urllib.request

import botocore
import pytest

import flint

HANDLER = """
import os, sys
import told
def handler(event, context):
    return {
        "told": told.WHO,
        "low": open("/opt/data/low.txt").read() if os.path.exists("/opt/data/low.txt") else None,
        "writable": os.access("/opt", os.W_OK),
    }
"""


def layer(functions, name, files):
    answer = functions.publish_layer_version(
        LayerName=name, Content={"ZipFile": flint.zipped(files)}, Description="for a test",
        CompatibleRuntimes=["python3.11"],
    )
    return answer


def test_layers_lie_on_each_other_in_order(shared, functions, name):
    low = layer(functions, f"{name}-low", {"python/told.py": "WHO = 'low'\n", "data/low.txt": "kept"})
    high = layer(functions, f"{name}-high", {"python/told.py": "WHO = 'high'\n"})
    assert low["Version"] == 1 and low["LayerVersionArn"].endswith(f":layer:{name}-low:1")
    made = shared.create(
        functions, name, HANDLER, Layers=[low["LayerVersionArn"], high["LayerVersionArn"]],
    )
    assert [one["Arn"] for one in made["Layers"]] == [low["LayerVersionArn"], high["LayerVersionArn"]]

    def answer():
        return json.load(functions.invoke(FunctionName=name)["Payload"])

    assert answer() == {"told": "high", "low": "kept", "writable": False}
    functions.update_function_configuration(FunctionName=name, Layers=[low["LayerVersionArn"]])
    assert answer()["told"] == "low"

    # A deleted version stays with the function that has it, and its number is not used again.
    functions.delete_layer_version(LayerName=f"{name}-low", VersionNumber=1)
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        functions.get_layer_version(LayerName=f"{name}-low", VersionNumber=1)
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"
    functions.update_function_configuration(FunctionName=name, Description="again")
    assert answer()["told"] == "low"
    assert layer(functions, f"{name}-low", {"python/told.py": ""})["Version"] == 2
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        functions.update_function_configuration(FunctionName=name, Layers=[low["LayerVersionArn"] + "9"])
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
    functions.update_function_configuration(FunctionName=name, Layers=[])
    failed = functions.invoke(FunctionName=name)
    assert failed["FunctionError"] == "Unhandled" and b"told" in failed["Payload"].read()


def test_layers_are_listed_and_fetched(functions, name):
    for text in ("1", "2", "3"):
        layer(functions, name, {"data": text})
    pages = functions.get_paginator("list_layer_versions").paginate(LayerName=name, PaginationConfig={"PageSize": 2})
    assert [one["Version"] for page in pages for one in page["LayerVersions"]] == [3, 2, 1]
    mine = [one for one in functions.list_layers(CompatibleRuntime="python3.11")["Layers"] if one["LayerName"] == name]
    assert mine[0]["LatestMatchingVersion"]["Version"] == 3
    assert not [one for one in functions.list_layers(CompatibleRuntime="nodejs20.x")["Layers"] if one["LayerName"] == name]
    arn = mine[0]["LatestMatchingVersion"]["LayerVersionArn"]
    found = functions.get_layer_version_by_arn(Arn=arn)
    with urllib.request.urlopen(found["Content"]["Location"]) as answer:
        assert len(answer.read()) == found["Content"]["CodeSize"]


def test_layers_survive_a_restart(data):
    with flint.Server(data) as server:
        client = server.client("lambda")
        arns = [
            layer(client, kind, {"python/told.py": f"WHO = '{kind}'\n"})["LayerVersionArn"] for kind in ("one", "two")
        ]
        server.create(client, "user", HANDLER, Layers=arns)
    with flint.Server(data) as server:
        client = server.client("lambda")
        assert json.load(client.invoke(FunctionName="user")["Payload"])["told"] == "two"
        assert layer(client, "one", {"x": ""})["Version"] == 2
    assert os.path.isdir(data / "code")
