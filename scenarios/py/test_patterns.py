"""The language of event patterns, case by case as the reference's documents have it, by `TestEventPattern`."""

import json

import botocore.exceptions
import pytest

import flint
import pattern_cases as cases

AROUND = {
    "id": "1", "account": "000000000000", "source": "scenario", "time": "2026-11-27T00:00:00Z", "region": "us-east-1",
    "resources": [], "detail-type": "scenario",
}


@pytest.fixture(scope="module")
def events(shared):
    return shared.client("events")


def matches(events, pattern, event):
    answer = events.test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps({**AROUND, **event}))
    return answer["Result"]


def test_every_example_of_the_documents(events):
    wrong, count, pages = [], 0, set()
    for page, pattern, wanted, unwanted in cases.MATCHING:
        pages.add(page)
        for expected, those in ((True, wanted), (False, unwanted)):
            for event in those:
                count += 1
                if matches(events, pattern, event) is not expected:
                    wrong.append((page, pattern, event, expected))
    assert not wrong, wrong
    flint.figure("pattern_cases", count)
    assert count >= 150 and len(pages) >= 5


def test_what_is_no_pattern_is_refused_in_the_references_words(events):
    wrong = []
    for page, text, reason in cases.REFUSED:
        try:
            events.test_event_pattern(EventPattern=text, Event=json.dumps(AROUND))
            wrong.append((page, text, "taken"))
        except botocore.exceptions.ClientError as error:
            said = error.response["Error"]
            good = said["Message"].startswith("Event pattern is not valid. Reason: " + reason)
            if said["Code"] != "InvalidEventPatternException" or not good:
                wrong.append((page, text, said))
    assert not wrong, wrong
    flint.figure("pattern_cases_refused", len(cases.REFUSED))


@pytest.mark.parametrize("event", ["", "{", "[]", "5", json.dumps({k: v for k, v in AROUND.items() if k != "source"})])
def test_an_event_has_the_mandatory_members(events, event):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        events.test_event_pattern(EventPattern='{"source": ["x"]}', Event=event)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_other_operations_are_refused_by_name(events):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        events.put_rule(Name="r", EventPattern='{"source": ["x"]}')
    said = caught.value.response
    assert said["Error"]["Code"] == "NotImplemented" and "events.PutRule" in said["Error"]["Message"], said
