"""Every paginator and every waiter that boto3 has for an operation that we serve."""

import json
import time
import uuid

import botocore.exceptions
import botocore.session
import pytest

import flint
import violations

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
GRANT = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}]}
SOURCE = "def handler(event, context):\n    print('said', event)\n    return 1\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A server with three of everything that can be listed."""
    with flint.Server(tmp_path_factory.mktemp("paged") / "data") as server:
        yield World(server)


class World:
    def __init__(self, server):
        self.server = server
        self.clients = {name: server.client(name) for name in ("lambda", "logs", "iam")}
        functions, logs, iam = self.clients.values()
        for name in ("f", "g", "h"):
            server.create(functions, name, SOURCE)
        for number in range(3):
            functions.update_function_configuration(FunctionName="f", Timeout=10 + number)
            self.attempt("lambda", "publish_version", FunctionName="f")
            self.attempt("lambda", "create_alias", FunctionName="f", Name=f"alias{number}", FunctionVersion="1")
            for layer in ("l", f"l{number}"):
                self.attempt(
                    "lambda", "publish_layer_version", LayerName=layer,
                    Content={"ZipFile": flint.zipped({f"python/m{number}.py": "X = 1\n"})},
                )
        queues = server.client("sqs")
        for number in range(3):
            functions.put_function_event_invoke_config(
                FunctionName="f", Qualifier=("$LATEST", "1", "alias0")[number], MaximumRetryAttempts=1
            )
            url = queues.create_queue(QueueName=f"q{number}")["QueueUrl"]
            arn = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            functions.create_event_source_mapping(FunctionName="f", EventSourceArn=arn)
        for group in ("/a", "/b", "/c"):
            logs.create_log_group(logGroupName=group)
            logs.create_log_stream(logGroupName="/a", logStreamName="s" + group[1:])
        now = time.time_ns() // 1_000_000
        events = [{"timestamp": now + n, "message": f"event {n}"} for n in range(5)]
        logs.put_log_events(logGroupName="/a", logStreamName="sa", logEvents=events)
        for number in range(3):
            iam.create_role(RoleName="r" if number == 0 else f"r{number}", AssumeRolePolicyDocument=json.dumps(TRUST))
            iam.put_role_policy(RoleName="r", PolicyName=f"p{number}", PolicyDocument=json.dumps(GRANT))
            iam.attach_role_policy(RoleName="r", PolicyArn=f"arn:aws:iam::aws:policy/P{number}")
            iam.tag_role(RoleName="r", Tags=[{"Key": f"k{number}", "Value": "v"}])

    def attempt(self, service, method, **arguments):
        try:
            getattr(self.clients[service], method)(**arguments)
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "NotImplemented":
                raise


# Paginator: (arguments, the list in the answer, how many items there are).
PAGES = {
    "lambda": {
        "ListFunctions": ({}, "Functions", 3),
        "ListVersionsByFunction": ({"FunctionName": "f"}, "Versions", 4),
        "ListAliases": ({"FunctionName": "f"}, "Aliases", 3),
        "ListEventSourceMappings": ({}, "EventSourceMappings", 3),
        "ListFunctionEventInvokeConfigs": ({"FunctionName": "f"}, "FunctionEventInvokeConfigs", 3),
        "ListLayers": ({}, "Layers", 4),
        "ListLayerVersions": ({"LayerName": "l"}, "LayerVersions", 3),
    },
    "logs": {
        "DescribeLogGroups": ({}, "logGroups", 3),
        "DescribeLogStreams": ({"logGroupName": "/a"}, "logStreams", 3),
        "FilterLogEvents": ({"logGroupName": "/a"}, "events", 5),
    },
    "iam": {
        "ListRoles": ({}, "Roles", 3),
        "ListRolePolicies": ({"RoleName": "r"}, "PolicyNames", 3),
        "ListAttachedRolePolicies": ({"RoleName": "r"}, "AttachedPolicies", 3),
        "ListRoleTags": ({"RoleName": "r"}, "Tags", 3),
        "ListInstanceProfilesForRole": ({"RoleName": "r"}, "InstanceProfiles", 0),
    },
}


def carried(service):
    """The operations whose shapes the tables carry."""
    return set(next(s for s in violations.load() if s.name == service).operations())


@pytest.mark.parametrize("service", PAGES)
def test_the_table_names_every_paginator(service):
    known = botocore.session.Session().get_paginator_model(service)._paginator_config
    assert set(known) & carried(service) == set(PAGES[service])


@pytest.mark.parametrize("service,operation", [(s, o) for s, rows in PAGES.items() for o in rows])
def test_pages_make_the_whole(world, service, operation):
    arguments, key, count = PAGES[service][operation]
    paginator = world.clients[service].get_paginator(botocore.xform_name(operation))
    try:
        whole = [item for page in paginator.paginate(**arguments) for item in page[key]]
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Message"] == f"not served: {service}.{operation}":
            pytest.skip("not served yet")
        raise
    assert len(whole) == count, whole
    for size in (1, 2, count or 1):
        pages = [page[key] for page in paginator.paginate(**arguments, PaginationConfig={"PageSize": size})]
        assert [item for page in pages for item in page] == whole
        assert all(len(page) <= size for page in pages), [len(page) for page in pages]
        assert len(pages) >= -(-count // size)


WAITERS = {
    "lambda": {
        "FunctionExists": {"FunctionName": "f"},
        "FunctionActive": {"FunctionName": "f"},
        "FunctionActiveV2": {"FunctionName": "f"},
        "FunctionUpdated": {"FunctionName": "f"},
        "FunctionUpdatedV2": {"FunctionName": "f"},
        "PublishedVersionActive": {"FunctionName": "f", "Qualifier": "1"},
    },
    "iam": {"RoleExists": {"RoleName": "r"}},
}


@pytest.mark.parametrize("service", WAITERS)
def test_the_table_names_every_waiter(service):
    model = botocore.session.Session().get_waiter_model(service)
    known = {name for name in model.waiter_names if model.get_waiter(name).operation in carried(service)}
    assert known == set(WAITERS[service])


@pytest.mark.parametrize("service,name", [(s, n) for s, rows in WAITERS.items() for n in rows])
def test_waiters_see_what_they_wait_for(world, service, name):
    waiter = world.clients[service].get_waiter(botocore.xform_name(name))
    waiter.wait(**WAITERS[service][name], WaiterConfig={"Delay": 1, "MaxAttempts": 5})


def test_a_waiter_gives_up_on_what_is_not_there(world):
    nothing = "none-" + uuid.uuid4().hex[:8]
    for service, name, arguments in (("lambda", "function_exists", {"FunctionName": nothing}), ("iam", "role_exists", {"RoleName": nothing})):
        with pytest.raises(botocore.exceptions.WaiterError):
            world.clients[service].get_waiter(name).wait(**arguments, WaiterConfig={"Delay": 1, "MaxAttempts": 1})
