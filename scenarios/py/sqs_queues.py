"""Cases of queues: made, found, set, tagged, allowed, purged, deleted."""

import json
import uuid

from sqs import code

MISSING = code("NonExistentQueue")


def creating(t):
    name = "n-" + uuid.uuid4().hex
    url = t.ok("CreateQueue", "made", QueueName=name)["QueueUrl"]
    assert url.endswith(f"/000000000000/{name}")
    assert t.ok("CreateQueue", "there already", QueueName=name)["QueueUrl"] == url
    same = t.ok("CreateQueue", "there with the same attributes", QueueName=name, Attributes={"DelaySeconds": "0"})
    assert same["QueueUrl"] == url
    t.refused(
        "CreateQueue", "there with other attributes", "QueueAlreadyExists", QueueName=name,
        Attributes={"VisibilityTimeout": "31"},
    )
    made = t.ok(
        "CreateQueue", "with attributes and tags", QueueName=name + "-t", tags={"a": "b"},
        Attributes={"VisibilityTimeout": "7", "MaximumMessageSize": "1024", "ReceiveMessageWaitTimeSeconds": "0"},
    )["QueueUrl"]
    assert t.attributes(made)["VisibilityTimeout"] == "7"
    assert t("ListQueueTags", QueueUrl=made)["Tags"] == {"a": "b"}
    for bad, outcome in [("a b", "a bad name"), ("x" * 81, "a long name"), ("a.fifo", "a FIFO name alone")]:
        t.refused("CreateQueue", outcome, "InvalidParameterValue", QueueName=bad)
    t.refused("CreateQueue", "an unknown attribute", "InvalidAttributeName", QueueName=name + "-u", Attributes={"Colour": "red"})
    t.refused("CreateQueue", "a bad value", "InvalidAttributeValue", QueueName=name + "-v", Attributes={"DelaySeconds": "901"})
    t.refused("CreateQueue", "a FIFO attribute", "InvalidAttributeName", QueueName=name + "-w", Attributes={"ContentBasedDeduplication": "true"})
    t.refused("CreateQueue", "encryption", "NotImplemented", QueueName=name + "-x", Attributes={"KmsMasterKeyId": "alias/aws/sqs"})
    t.refused(
        "CreateQueue", "dead letters nowhere", "InvalidParameterValue", QueueName=name + "-y",
        Attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:nowhere", "maxReceiveCount": 2})},
    )
    fifo = t.ok("CreateQueue", "FIFO", QueueName=name + ".fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    assert t.attributes(fifo)["FifoQueue"] == "true"
    t.refused("CreateQueue", "FIFO without the name", "InvalidParameterValue", QueueName=name + "-z", Attributes={"FifoQueue": "true"})


def finding(t):
    url = t.queue()
    name = url.rsplit("/", 1)[1]
    assert t.ok("GetQueueUrl", "found", QueueName=name)["QueueUrl"] == url
    found = t.ok("GetQueueUrl", "found by its owner", QueueName=name, QueueOwnerAWSAccountId="000000000000")
    assert found["QueueUrl"] == url
    t.refused("GetQueueUrl", "missing", MISSING, QueueName=name + "x")
    t.refused("GetQueueUrl", "another account's", MISSING, QueueName=name, QueueOwnerAWSAccountId="111111111111")


def listing(t):
    prefix = "l-" + uuid.uuid4().hex[:8]
    urls = sorted(t("CreateQueue", QueueName=f"{prefix}-{n}")["QueueUrl"] for n in range(5))
    assert set(urls) <= set(t.ok("ListQueues", "all")["QueueUrls"])
    assert t.ok("ListQueues", "by prefix", QueueNamePrefix=prefix)["QueueUrls"] == urls
    assert not t.ok("ListQueues", "none", QueueNamePrefix=prefix + "-x").get("QueueUrls")
    pages, token = [], {}
    while True:
        page = t.ok("ListQueues", "by pages", QueueNamePrefix=prefix, MaxResults=2, **token)
        pages.append(page["QueueUrls"])
        if not page.get("NextToken"):
            break
        token = {"NextToken": page["NextToken"]}
    assert [len(p) for p in pages] == [2, 2, 1] and sum(pages, []) == urls
    t.refused("ListQueues", "a bad page", "InvalidParameterValue", MaxResults=1001)
    t.refused("ListQueues", "a bad token", "InvalidParameterValue", MaxResults=2, NextToken="%%%")


def attributes(t):
    url = t.queue()
    shown = t.ok("GetQueueAttributes", "all", QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert shown["VisibilityTimeout"] == "30" and shown["MessageRetentionPeriod"] == "345600"
    assert shown["MaximumMessageSize"] == "1048576" and shown["QueueArn"].endswith(url.rsplit("/", 1)[1])
    one = t.ok("GetQueueAttributes", "named", QueueUrl=url, AttributeNames=["DelaySeconds", "QueueArn"])["Attributes"]
    assert set(one) == {"DelaySeconds", "QueueArn"}
    assert not t.ok("GetQueueAttributes", "none asked for", QueueUrl=url).get("Attributes")
    t.refused("GetQueueAttributes", "an unknown name", "InvalidAttributeName", QueueUrl=url, AttributeNames=["Colour"])
    t.refused("GetQueueAttributes", "a missing queue", MISSING, QueueUrl=url + "x", AttributeNames=["All"])
    t.refused("GetQueueAttributes", "no address", "InvalidAddress", QueueUrl="http://localhost", AttributeNames=["All"])
    t.refused(
        "GetQueueAttributes", "another account's", "AccessDenied",
        QueueUrl=url.replace("000000000000", "111111111111"), AttributeNames=["All"],
    )

    def set_to(outcome, **given):
        t.ok("SetQueueAttributes", outcome, QueueUrl=url, Attributes=given)
        now = t.attributes(url)
        assert {k: now.get(k) for k in given} == given

    set_to("numbers", VisibilityTimeout="0", DelaySeconds="900", MaximumMessageSize="1024", MessageRetentionPeriod="60", ReceiveMessageWaitTimeSeconds="20")
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    set_to("a policy", Policy=policy)
    t.ok("SetQueueAttributes", "a policy removed", QueueUrl=url, Attributes={"Policy": ""})
    assert "Policy" not in t.attributes(url)
    for attribute, values in {
        "VisibilityTimeout": ["-1", "43201", "x"], "DelaySeconds": ["901"], "MaximumMessageSize": ["1023", "1048577"],
        "MessageRetentionPeriod": ["59", "1209601"], "ReceiveMessageWaitTimeSeconds": ["21"], "Policy": ["{"],
    }.items():
        for value in values:
            t.refused("SetQueueAttributes", f"a bad {attribute}", "InvalidAttributeValue", QueueUrl=url, Attributes={attribute: value})
    t.refused("SetQueueAttributes", "an unknown name", "InvalidAttributeName", QueueUrl=url, Attributes={"Colour": "red"})
    t.refused("SetQueueAttributes", "a count", "InvalidAttributeName", QueueUrl=url, Attributes={"ApproximateNumberOfMessages": "1"})
    t.refused("SetQueueAttributes", "another kind of queue", "InvalidAttributeValue", QueueUrl=url, Attributes={"FifoQueue": "true"})
    t.refused("SetQueueAttributes", "encryption", "NotImplemented", QueueUrl=url, Attributes={"SqsManagedSseEnabled": "true"})
    t.refused("SetQueueAttributes", "a missing queue", MISSING, QueueUrl=url + "x", Attributes={"DelaySeconds": "1"})
    for bad in ["x", "{}", json.dumps({"deadLetterTargetArn": "x", "maxReceiveCount": 1})]:
        t.refused("SetQueueAttributes", "a bad redrive policy", "InvalidParameterValue", QueueUrl=url, Attributes={"RedrivePolicy": bad})
    t.refused(
        "SetQueueAttributes", "a bad redrive-allow policy", "InvalidParameterValue", QueueUrl=url,
        Attributes={"RedriveAllowPolicy": json.dumps({"redrivePermission": "byQueue"})},
    )


def tags(t):
    url = t.queue()
    assert not t.ok("ListQueueTags", "none", QueueUrl=url).get("Tags")
    t.ok("TagQueue", "added", QueueUrl=url, Tags={"a": "1", "b": "2"})
    t.ok("TagQueue", "changed", QueueUrl=url, Tags={"a": "3"})
    assert t.ok("ListQueueTags", "some", QueueUrl=url)["Tags"] == {"a": "3", "b": "2"}
    t.ok("UntagQueue", "removed", QueueUrl=url, TagKeys=["a"])
    t.ok("UntagQueue", "not there", QueueUrl=url, TagKeys=["zzz"])
    assert t("ListQueueTags", QueueUrl=url)["Tags"] == {"b": "2"}
    t.refused("TagQueue", "too many", "InvalidParameterValue", QueueUrl=url, Tags={f"k{n}": "v" for n in range(51)})
    t.refused("TagQueue", "a reserved key", "InvalidParameterValue", QueueUrl=url, Tags={"aws:x": "v"})
    for operation, more in [("TagQueue", {"Tags": {"a": "b"}}), ("UntagQueue", {"TagKeys": ["a"]}), ("ListQueueTags", {})]:
        t.refused(operation, "a missing queue", MISSING, QueueUrl=url + "x", **more)


def permissions(t):
    url = t.queue()
    grant = {"QueueUrl": url, "AWSAccountIds": ["111111111111"], "Actions": ["SendMessage"]}
    t.ok("AddPermission", "added", Label="one", **grant)
    policy = json.loads(t.attributes(url)["Policy"])
    assert [s["Sid"] for s in policy["Statement"]] == ["one"]
    assert policy["Statement"][0]["Action"] == "SQS:SendMessage"
    t.refused("AddPermission", "a label that is there", "InvalidParameterValue", Label="one", **grant)
    t.refused("AddPermission", "a bad label", "InvalidParameterValue", Label="a b", **grant)
    t.refused("AddPermission", "a bad action", "InvalidParameterValue", Label="two", **grant | {"Actions": ["CreateQueue"]})
    t.refused("AddPermission", "a bad account", "InvalidParameterValue", Label="two", **grant | {"AWSAccountIds": ["x"]})
    t.refused("AddPermission", "a missing queue", MISSING, Label="two", **grant | {"QueueUrl": url + "x"})
    t.ok("RemovePermission", "removed", QueueUrl=url, Label="one")
    assert "Policy" not in t.attributes(url)
    t.refused("RemovePermission", "no such label", "InvalidParameterValue", QueueUrl=url, Label="one")
    t.refused("RemovePermission", "a missing queue", MISSING, QueueUrl=url + "x", Label="one")


def ending(t):
    url = t.queue()
    for n in range(3):
        t.send(url, str(n))
    held = t.receive(url, MaxNumberOfMessages=1)[0]["ReceiptHandle"]
    t.ok("PurgeQueue", "emptied", QueueUrl=url)
    counts = t.attributes(url)
    assert counts["ApproximateNumberOfMessages"] == counts["ApproximateNumberOfMessagesNotVisible"] == "0"
    assert t.receive(url) == []
    t.ok("DeleteMessage", "gone with a purge", QueueUrl=url, ReceiptHandle=held)
    t.refused("PurgeQueue", "twice in a minute", code("PurgeQueueInProgress"), QueueUrl=url)
    t.send(url, "after")
    assert t.bodies(url) == ["after"]
    t.refused("PurgeQueue", "a missing queue", MISSING, QueueUrl=url + "x")
    t.ok("DeleteQueue", "deleted", QueueUrl=url)
    t.refused("DeleteQueue", "a missing queue", MISSING, QueueUrl=url)
    t.refused("ReceiveMessage", "a deleted queue", MISSING, QueueUrl=url)
    again = t.ok("CreateQueue", "the name of a deleted one", QueueName=url.rsplit("/", 1)[1])["QueueUrl"]
    assert again == url and t.receive(url) == []
    t.refused("DeleteMessage", "a handle of the one before", "ReceiptHandleIsInvalid", QueueUrl=url, ReceiptHandle=held)


CASES = [creating, finding, listing, attributes, tags, permissions, ending]
