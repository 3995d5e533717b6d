"""IAM roles, temporary credentials, presigned URLs and code downloads, as stock tools use them."""

import hashlib
import json
import subprocess
import time
import urllib.error
import urllib.request
import uuid

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.exceptions
import pytest

import flint
import wire

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
GRANT = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}]}
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"


@pytest.fixture(scope="module")
def iam(shared):
    return shared.client("iam")


@pytest.fixture
def role(iam):
    """A role of its own; what a test leaves on it goes with it."""
    name = "role-" + uuid.uuid4().hex[:10]
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    yield made
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
    iam.delete_role(RoleName=name)


def refused(code, call, **arguments):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code, caught.value.response
    return caught.value.response


def fetch(url, method="GET"):
    """Status and body of a plain request without any credentials."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_what_stock_tools_do_before_a_function(shared, iam, functions, name):
    """The sequence of the AWS CLI's tutorial, SAM and Terraform: create, wait, attach, put, create a function, undo."""
    role_name = "role-" + name
    made = iam.create_role(
        RoleName=role_name, AssumeRolePolicyDocument=json.dumps(TRUST), Path="/service/", Description="runs",
        MaxSessionDuration=7200, Tags=[{"Key": "team", "Value": "a"}],
    )["Role"]
    assert made["Arn"] == f"arn:aws:iam::000000000000:role/service/{role_name}"
    assert made["AssumeRolePolicyDocument"] == TRUST
    iam.get_waiter("role_exists").wait(RoleName=role_name, WaiterConfig={"Delay": 1, "MaxAttempts": 2})
    iam.attach_role_policy(RoleName=role_name, PolicyArn=BASIC)
    iam.put_role_policy(RoleName=role_name, PolicyName="more", PolicyDocument=json.dumps(GRANT))
    read = iam.get_role(RoleName=role_name)["Role"]
    assert (read["RoleId"], read["MaxSessionDuration"], read["Tags"]) == (made["RoleId"], 7200, [{"Key": "team", "Value": "a"}])
    assert iam.get_role_policy(RoleName=role_name, PolicyName="more")["PolicyDocument"] == GRANT
    attached = iam.list_attached_role_policies(RoleName=role_name)["AttachedPolicies"]
    assert attached == [{"PolicyName": "AWSLambdaBasicExecutionRole", "PolicyArn": BASIC}]
    functions.create_function(
        FunctionName=name, Role=made["Arn"], Handler="app.handler", Runtime=shared.python(),
        Code={"ZipFile": flint.zipped({"app.py": "def handler(event, context):\n    return 1\n"})},
    )
    functions.delete_function(FunctionName=name)
    refused("DeleteConflict", iam.delete_role, RoleName=role_name)
    iam.detach_role_policy(RoleName=role_name, PolicyArn=BASIC)
    assert iam.list_role_policies(RoleName=role_name)["PolicyNames"] == ["more"]
    assert iam.list_instance_profiles_for_role(RoleName=role_name)["InstanceProfiles"] == []
    iam.delete_role_policy(RoleName=role_name, PolicyName="more")
    iam.delete_role(RoleName=role_name)
    refused("NoSuchEntity", iam.get_role, RoleName=role_name)


def test_roles_outlive_a_kill(data):
    with flint.Server(data) as server:
        server.client("iam").create_role(RoleName="kept", AssumeRolePolicyDocument=json.dumps(TRUST))
        assumed = server.client("sts").assume_role(
            RoleArn="arn:aws:iam::000000000000:role/kept", RoleSessionName="me"
        )["Credentials"]
        server.kill()
        server.start()
        assert server.client("iam").get_role(RoleName="kept")["Role"]["RoleName"] == "kept"
        session = as_session(server, "sts", assumed)
        assert session.get_caller_identity()["Arn"] == "arn:aws:sts::000000000000:assumed-role/kept/me"


def test_pages_waiters_and_changes(iam, role):
    names = {role["RoleName"]} | {f"{role['RoleName']}-{n}" for n in range(6)}
    for name in sorted(names - {role["RoleName"]}):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), Path="/paged/")
    try:
        pages = iam.get_paginator("list_roles").paginate(PathPrefix="/paged/", PaginationConfig={"PageSize": 2})
        found = [[r["RoleName"] for r in page["Roles"]] for page in pages]
        assert [len(page) for page in found] == [2, 2, 2] and sum(found, []) == sorted(names - {role["RoleName"]})
    finally:
        for name in names - {role["RoleName"]}:
            iam.delete_role(RoleName=name)
    name = role["RoleName"]
    iam.update_role(RoleName=name, Description="new", MaxSessionDuration=3600)
    other = {**TRUST, "Statement": [{**TRUST["Statement"][0], "Principal": {"Service": "scheduler.amazonaws.com"}}]}
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(other))
    iam.tag_role(RoleName=name, Tags=[{"Key": k, "Value": "v"} for k in "abc"])
    iam.untag_role(RoleName=name, TagKeys=["b"])
    assert [t["Key"] for t in iam.list_role_tags(RoleName=name)["Tags"]] == ["a", "c"]
    read = iam.get_role(RoleName=name)["Role"]
    assert (read["Description"], read["AssumeRolePolicyDocument"]) == ("new", other)
    for policy in ("p1", "p2", "p3"):
        iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(GRANT))
    pages = iam.get_paginator("list_role_policies").paginate(RoleName=name, PaginationConfig={"PageSize": 1})
    assert [p for page in pages for p in page["PolicyNames"]] == ["p1", "p2", "p3"]


def test_refusals_have_the_references_codes(iam, role):
    name = role["RoleName"]
    refused("EntityAlreadyExists", iam.create_role, RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    refused("MalformedPolicyDocument", iam.create_role, RoleName="x", AssumeRolePolicyDocument="{")
    refused("MalformedPolicyDocument", iam.put_role_policy, RoleName=name, PolicyName="p", PolicyDocument=json.dumps(TRUST))
    refused("NoSuchEntity", iam.attach_role_policy, RoleName=name, PolicyArn="arn:aws:iam::000000000000:policy/mine")
    refused("NoSuchEntity", iam.delete_role_policy, RoleName=name, PolicyName="none")
    refused("ValidationError", iam.get_role, RoleName="a b")
    answer = refused("NotImplemented", iam.create_user, UserName="u")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 501 and "iam.CreateUser" in answer["Error"]["Message"]
    boundary = "arn:aws:iam::aws:policy/ReadOnlyAccess"
    answer = refused(
        "NotImplemented", iam.create_role, RoleName="x", AssumeRolePolicyDocument=json.dumps(TRUST),
        PermissionsBoundary=boundary,
    )
    assert "PermissionsBoundary" in answer["Error"]["Message"]


def as_session(server, service, credentials):
    return server.client(
        service, aws_access_key_id=credentials["AccessKeyId"], aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )


def test_a_session_works_everywhere_and_ends(shared, role, functions, iam):
    sts = shared.client("sts")
    # What it may do is what the role may: logs, and to begin with nothing else.
    iam.put_role_policy(RoleName=role["RoleName"], PolicyName="logs", PolicyDocument=json.dumps(GRANT))
    answer = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="me", DurationSeconds=900)
    credentials = answer["Credentials"]
    assert credentials["AccessKeyId"].startswith("ASIA")
    lasts = credentials["Expiration"].timestamp() - time.time()
    assert 890 < lasts <= 901, lasts
    session = as_session(shared, "sts", credentials)
    identity = session.get_caller_identity()
    assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"]
    assert identity["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"] == f"{role['RoleId']}:me"
    as_session(shared, "logs", credentials).describe_log_groups()
    refused("AccessDeniedException", as_session(shared, "lambda", credentials).list_functions)
    iam.attach_role_policy(RoleName=role["RoleName"], PolicyArn="arn:aws:iam::aws:policy/AWSLambda_ReadOnlyAccess")
    as_session(shared, "lambda", credentials).list_functions()
    refused("AccessDenied", session.get_session_token)
    own = sts.get_session_token(DurationSeconds=900)["Credentials"]
    assert as_session(shared, "sts", own).get_caller_identity()["Arn"] == "arn:aws:iam::000000000000:root"

    # Anything bent: a token of another session, a changed one, none, a root key with a token.
    bad = "UnrecognizedClientException"
    for change in (
        {"SessionToken": own["SessionToken"]},
        {"SessionToken": credentials["SessionToken"][:-8] + "AAAAAAA="},
        {"AccessKeyId": own["AccessKeyId"]},
        {"AccessKeyId": shared.environment()["AWS_ACCESS_KEY_ID"]},
    ):
        refused(bad, as_session(shared, "lambda", {**credentials, **change}).list_functions)
    changed = {**credentials, "SecretAccessKey": own["SecretAccessKey"]}
    refused("InvalidSignatureException", as_session(shared, "lambda", changed).list_functions)
    without = shared.client(
        "lambda", aws_access_key_id=credentials["AccessKeyId"], aws_secret_access_key=credentials["SecretAccessKey"]
    )
    refused(bad, without.list_functions)


def test_what_can_not_be_assumed(shared, role):
    sts = shared.client("sts")
    refused("AccessDenied", sts.assume_role, RoleArn="arn:aws:iam::000000000000:role/none", RoleSessionName="me")
    refused("AccessDenied", sts.assume_role, RoleArn="arn:aws:iam::111111111111:role/other", RoleSessionName="me")
    refused("ValidationError", sts.assume_role, RoleArn=role["Arn"], RoleSessionName="me", DurationSeconds=7200)
    refused("ValidationError", sts.assume_role, RoleArn=role["Arn"], RoleSessionName="a b")


def presigned(server, method, url, service, expires=60):
    """botocore's own query signer."""
    variables = server.environment()
    credentials = botocore.credentials.Credentials(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])
    request = botocore.awsrequest.AWSRequest(method=method, url=url)
    botocore.auth.SigV4QueryAuth(credentials, service, variables["AWS_REGION"], expires=expires).add_auth(request)
    return request.url


def test_presigned_urls(shared, functions):
    """What `aws eks get-token` makes, boto3's own URLs, and the same ones bent."""
    who = shared.client("sts").generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
    status, body = fetch(who)
    assert status == 200 and b"arn:aws:iam::000000000000:root" in body, body
    assert fetch(who, "POST")[0] == 403
    assert fetch(who.replace("X-Amz-Expires=60", "X-Amz-Expires=61"))[0] == 403
    assert fetch(who + "&x=1")[0] == 403
    listed = presigned(shared, "GET", shared.url + "/2015-03-31/functions/?MaxItems=1", "lambda")
    status, body = fetch(listed)
    assert status == 200 and "Functions" in json.loads(body)
    assert fetch(presigned(shared, "GET", shared.url + "/2015-03-31/functions/", "lambda", 604801))[0] == 400
    both = wire.Request(shared, "GET", listed.removeprefix(shared.url)).sign()
    assert both.send().status == 400
    brief = presigned(shared, "GET", shared.url + "/2015-03-31/functions/", "lambda", 1)
    assert fetch(brief)[0] == 200
    flint.until(lambda: fetch(brief)[0] == 403, 5, "a URL of one second ends", every=0.2)


def test_the_code_can_be_downloaded(shared, functions, name):
    source = "def handler(event, context):\n    return 1\n"
    shared.create(functions, name, source)
    read = functions.get_function(FunctionName=name)
    status, body = fetch(read["Code"]["Location"])
    assert status == 200
    assert body == flint.zipped({"app.py": source})
    assert len(body) == read["Configuration"]["CodeSize"]
    url = read["Code"]["Location"]
    digest = hashlib.sha256(body).hexdigest()
    assert digest in url
    assert fetch(url.replace(digest, "0" * 64))[0] == 403
    assert fetch(url.split("?")[0])[0] == 403
    assert fetch(url + "0")[0] == 403
    functions.delete_function(FunctionName=name)


def test_wrappers_see_us(shared):
    status, body = fetch(shared.url + "/_localstack/health")
    health = json.loads(body)
    assert status == 200 and health["services"]["lambda"] in ("available", "running") and health["version"]
    assert json.loads(fetch(shared.url + "/_localstack/info")[1])["version"] == health["version"]


def test_the_aws_cli_makes_a_role(shared, aws, name):
    variables = {**flint.clean_environment(), **shared.environment()}
    variables = {k: str(v) for k, v in variables.items()}

    def run(*arguments):
        command = [aws, "--endpoint-url", shared.url, "--output", "json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=variables)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    made = run("iam", "create-role", "--role-name", name, "--assume-role-policy-document", json.dumps(TRUST))["Role"]
    run("iam", "wait", "role-exists", "--role-name", name)
    run("iam", "attach-role-policy", "--role-name", name, "--policy-arn", BASIC)
    assert run("iam", "get-role", "--role-name", name)["Role"]["AssumeRolePolicyDocument"] == TRUST
    assumed = run("sts", "assume-role", "--role-arn", made["Arn"], "--role-session-name", "cli")
    assert assumed["AssumedRoleUser"]["Arn"].endswith(f"assumed-role/{name}/cli")
    run("iam", "detach-role-policy", "--role-name", name, "--policy-arn", BASIC)
    run("iam", "delete-role", "--role-name", name)
