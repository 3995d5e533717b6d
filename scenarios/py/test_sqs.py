"""SQS by the tools that people have: boto3 (JSON) and Debian's AWS CLI (Query). The cases are in sqs_*.py."""

import urllib.request

import pytest

import flint
import sqs
import sqs_fifo
import sqs_messages
import sqs_queues

CASES = [*sqs_queues.CASES, *sqs_messages.CASES, *sqs_fifo.CASES]


@pytest.fixture(params=["json", "query"])
def driver(request, shared, aws, tmp_path):
    driver = sqs.Json(shared) if request.param == "json" else sqs.Query(shared, tmp_path)
    yield driver
    driver.close()


def test_every_case(driver):
    told = sqs.Told(driver)
    failures = []
    for case in CASES:
        try:
            case(told)
        except Exception as e:  # every case is tried, whatever became of the ones before
            failures.append(f"{case.__name__}: {type(e).__name__}: {e}")
    assert not failures, "\n\n".join(failures)
    print(f"figure: sqs_cases_{driver.name} {len(told.seen)}")
    if driver.name == "json":
        # The CLI's are among them.
        flint.figure("sqs_cases", len(told.seen))
    operations = {operation for operation, _ in told.seen}
    assert len(operations) == (23 if driver.name == "json" else 20), sorted(operations)


def test_the_cli_itself(aws, shared, tmp_path):
    """The driver of the cases runs the CLI's program in one process; this is the command as people type it."""
    import subprocess

    variables = {k: str(v) for k, v in shared.environment().items() if k.startswith("AWS_") and k != "AWS_ENDPOINT_URL"}
    done = subprocess.run(
        [aws, "--endpoint-url", shared.url, "sqs", "create-queue", "--queue-name", "typed", "--output", "text"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, stdin=subprocess.DEVNULL,
        env={**flint.clean_environment(), **variables, "HOME": str(tmp_path), "AWS_PAGER": ""},
    )
    assert done.returncode == 0 and done.stdout.strip() == f"{shared.url}/000000000000/typed", done


def test_the_address_may_be_the_path(shared):
    """`POST /account/name`, as older clients call on a queue's address; also with a GET's query string."""
    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials

    client = shared.client("sqs")
    url = client.create_queue(QueueName="by-path")["QueueUrl"]
    variables = shared.environment()
    keys = botocore.credentials.Credentials(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])

    def call(form):
        request = botocore.awsrequest.AWSRequest(
            "POST", url, data=form, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        botocore.auth.SigV4Auth(keys, "sqs", variables["AWS_REGION"]).add_auth(request)
        prepared = request.prepare()
        asked = urllib.request.Request(url, data=prepared.body, headers=dict(prepared.headers), method="POST")
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.headers["content-type"], answer.read().decode()

    kind, text = call(b"Action=SendMessage&Version=2012-11-05&MessageBody=by+path")
    assert kind == "text/xml" and "<SendMessageResponse xmlns=" in text and "<MD5OfMessageBody>" in text
    _, text = call(b"Action=ReceiveMessage&Version=2012-11-05&AttributeName.1=All")
    assert "<Body>by path</Body>" in text and "<Attribute><Name>SenderId</Name>" in text


def test_each_region_has_its_own_queues(shared):
    here, there = shared.client("sqs"), shared.client("sqs", region_name="eu-west-1")
    url = here.create_queue(QueueName="one-region")["QueueUrl"]
    with pytest.raises(there.exceptions.QueueDoesNotExist):
        there.get_queue_url(QueueName="one-region")
    assert there.create_queue(QueueName="one-region")["QueueUrl"] == url
    here.send_message(QueueUrl=url, MessageBody="here")
    assert "Messages" not in there.receive_message(QueueUrl=url)
    arn = there.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    assert arn == "arn:aws:sqs:eu-west-1:000000000000:one-region"
