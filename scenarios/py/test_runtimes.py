"""One behaviour suite for every runtime client: what a function sees and how it ends does not depend on who runs it.

Where the clients differ from each other, the case says so (`pick`); the table is in `docs/runtimes.md`.
"""

import base64
import json
import re
import uuid

import pytest

import clients

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def cases(values):
    def add(function):
        for name, value in values.items():
            CASES[f"{function.__name__}:{name}"] = lambda subject, value=value: function(subject, value)
        return function

    return add


@pytest.fixture(scope="module", params=list(clients.CLIENTS))
def subject(request, shared, functions):
    return clients.Subject(request.param, shared, functions, f"r-{uuid.uuid4().hex[:8]}")


# --- events and answers


@cases({
    "null": "null", "true": "true", "false": "false", "zero": "0", "negative": "-17", "float": "-1.5", "exponent": "1e3",
    "2_to_53": "9007199254740992", "empty_text": '""', "text": '"text"', "unicode": '"grüß dich, 世界"',
    "beyond_the_basic_plane": r'"\ud83d\ude00 😀"', "escapes": r'"\" \\ \/ \b \f \n \r \t \u0001"', "empty_array": "[]",
    "array": '[1, [2, [3, "x", null]]]', "empty_object": "{}", "object": '{"b": {"c": [1, {"d": null}]}, "a": 1}',
    "empty_key": '{"": {"": 1}}', "duplicate_key": '{"a": 1, "a": 2}', "white_space": ' \n\t{ "a" : 1 } \r\n',
    "deep": "[" * 100 + "]" * 100, "many_keys": json.dumps({str(n): n for n in range(5000)}),
    "line_separators": '"\u2028\u2029\x7f"',
})
def echo(subject, payload):
    answer = subject.raw(payload.encode())
    assert (answer.status, answer.error) == (200, None), answer
    assert json.loads(answer.body) == json.loads(payload)


@case
def key_order_is_kept(subject):
    answer = subject.raw(b'{"z": 1, "a": 2, "m": 3}')
    assert list(json.loads(answer.body)) == ["z", "a", "m"]


@case
def a_number_beyond_doubles(subject):
    # JavaScript has no such number.
    expected = subject.pick(node=12345678901234567000, rest=12345678901234567890)
    assert subject.raw(b"12345678901234567890").json == expected


@case
def how_answers_are_written(subject):
    """Spaces and escapes, for callers that compare bytes. The Python client escapes before Python 3.12."""
    minor = int(subject.recipe["Runtime"].removeprefix("python3.")) if subject.language == "python" else 0
    text = '"\\u00fc"' if subject.language == "python" and minor < 12 else '"ü"'
    expected = subject.pick(python=f'{{"a": [1, 2], "b": {text}}}', rest=f'{{"a":[1,2],"b":{text}}}')
    assert subject.raw('{"a":[1,2],"b":"ü"}'.encode()).body.decode() == expected


@case
def no_payload(subject):
    assert subject.raw(b"").json == {}


@case
def a_large_event(subject):
    assert subject.do("size", text="ü" * 1_000_000).json == 1_000_000


@case
def the_largest_answer(subject):
    answer = subject.do("fill", size=6_291_556)
    assert (answer.error, len(answer.body)) == (None, 6_291_556)


@case
def an_answer_that_is_too_large(subject):
    answer = subject.do("fill", size=6_291_557)
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Function.ResponseSizeTooLarge", answer
    assert subject.do("count").error is None


# --- the context


def context(subject, function=None):
    return subject.do("context", function).json


@case
def context_function_name(subject):
    assert context(subject)["function_name"] == subject.function()


@case
def context_version(subject):
    assert context(subject)["function_version"] == "$LATEST"


@case
def context_memory(subject):
    assert context(subject)["memory"] == 256


@case
def context_request_id(subject):
    answer = subject.do("context")
    assert answer.json["request_id"] == answer.request_id


@case
def context_arn(subject):
    assert context(subject)["arn"].endswith(f":function:{subject.function()}")


@case
def context_log_group(subject):
    assert context(subject)["log_group"] == f"/aws/lambda/{subject.function()}"


@case
def context_log_stream(subject):
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", context(subject)["log_stream"])


@case
def context_remaining_time(subject):
    assert 15_000 < context(subject)["remaining"] <= 20_000


@case
def context_remaining_time_falls(subject):
    first, second = subject.do("remaining").json
    assert 80 <= first - second <= 1000


@case
def context_without_client_context(subject):
    found = context(subject)
    assert (found["custom"], found["env"]) == (None, None)


CLIENT_CONTEXT = base64.b64encode(json.dumps({
    "custom": {"k": "grüß"}, "env": {"e": "1"},
    "client": {"installation_id": "i", "app_title": "t", "app_version_name": "v", "app_version_code": "c",
               "app_package_name": "p"},
}).encode()).decode()


@case
def context_with_client_context(subject):
    found = subject.raw(b'{"do": "context"}', ClientContext=CLIENT_CONTEXT).json
    # The crate looks for `environment`, where the SDKs write `env`.
    assert (found["custom"], found["env"]) == ({"k": "grüß"}, subject.pick(rust={}, rest={"e": "1"}))


@case
def context_of_two_calls_differs(subject):
    first, second = context(subject), context(subject)
    assert first["request_id"] != second["request_id"] and first["log_group"] == second["log_group"]


# --- surroundings


@cases({
    "own": ("GREETING", "grüß dich"), "region": ("AWS_REGION", "us-east-1"), "task_root": ("LAMBDA_TASK_ROOT", "/var/task"),
    "handler": ("_HANDLER", "app.handler"), "init_type": ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
    "time_zone": ("TZ", ":UTC"), "memory": ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"), "unknown": ("NOT_THERE", None),
})
def variable(subject, pair):
    name, expected = pair
    assert subject.do("variable", name=name).json == expected


@case
def variable_execution_environment(subject):
    runtime = subject.recipe["Runtime"]
    expected = None if runtime.startswith("provided") else f"AWS_Lambda_{runtime}"
    assert subject.do("variable", name="AWS_EXECUTION_ENV").json == expected


@case
def working_directory(subject):
    assert subject.do("directory").json == "/var/task"


@case
def tmp_can_be_written_and_lasts(subject):
    assert subject.do("write", path="/tmp/kept").json == "written"
    assert subject.do("read", path="/tmp/kept").json == "x"


@case
def code_can_not_be_written(subject):
    assert subject.do("write", path="/var/task/new").json == "refused"


@case
def root_can_not_be_written(subject):
    assert subject.do("write", path="/new").json == "refused"


# --- errors


@case
def an_error_has_type_and_message(subject):
    answer = subject.do("raise")
    assert (answer.status, answer.error) == (200, "Unhandled")
    assert (answer.json["errorType"], answer.json["errorMessage"]) == ("ValueError", "no way")


@case
def an_error_has_a_stack(subject):
    keys = subject.pick(
        python={"errorType", "errorMessage", "requestId", "stackTrace"}, node={"errorType", "errorMessage", "trace"},
        # The crate knows no stack.
        rust={"errorType", "errorMessage"},
    )
    answer = subject.do("raise")
    assert set(answer.json) == keys
    for key in keys & {"stackTrace", "trace"}:
        assert any("app." in line for line in answer.json[key])


@case
def an_error_of_an_own_type(subject):
    answer = subject.do("custom")
    assert (answer.json["errorType"], answer.json["errorMessage"]) == ("CustomError", "of my own")


@case
def an_error_in_other_letters(subject):
    assert subject.do("raise", message="grüß 世界 😀 \"q\"\nline").json["errorMessage"] == "grüß 世界 😀 \"q\"\nline"


@case
def a_long_error(subject):
    # Node's own output is asynchronous beyond what a pipe holds (64 KiB), so a longer one could be logged late.
    assert subject.do("raise", message="x" * 20_000).json["errorMessage"] == "x" * 20_000


@case
def an_error_is_logged(subject):
    line = subject.pick(python="[ERROR] ValueError: no way", node="\tERROR\tInvoke Error \t", rust="END RequestId")
    assert line in subject.do("raise").tail


@case
def an_error_keeps_the_environment(subject):
    before = subject.do("count").json
    subject.do("raise")
    assert subject.do("count").json == before + 1


# --- ends


@case
def an_exit(subject):
    answer = subject.do("exit", code=3)
    assert answer.error == "Unhandled" and answer.json == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer.request_id} Error: Runtime exited with error: exit status 3",
    }


@case
def an_exit_with_0(subject):
    answer = subject.do("exit", code=0)
    assert answer.json["errorType"] == "Runtime.ExitError"
    assert answer.json["errorMessage"].endswith("Runtime exited without providing a reason"), answer


@case
def a_kill(subject):
    answer = subject.do("kill")
    assert answer.json["errorMessage"].endswith("Runtime exited with error: signal: killed"), answer


@case
def after_an_exit_all_is_new(subject):
    subject.do("count")
    subject.do("exit", code=1)
    assert subject.do("count").json == 1


@case
def a_timeout(subject):
    function = subject.function(Timeout=1)
    answer = subject.do("sleep", function)
    assert answer.json == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds",
    }
    assert "Status: timeout" in answer.tail


@case
def after_a_timeout_the_next_is_served(subject):
    function = subject.function(Timeout=1)
    subject.do("sleep", function)
    assert subject.do("count", function).json == 1


@case
def just_in_time(subject):
    assert subject.do("sleep", subject.function(Timeout=2), seconds=0.5).json == "slept"


@case
def out_of_memory(subject):
    answer = subject.do("eat", subject.function(MemorySize=128))
    assert answer.json["errorType"] == "Runtime.OutOfMemory", answer


# --- logs


def own_lines(answer):
    lines = answer.tail.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("START RequestId: " + answer.request_id))
    end = next(n for n, line in enumerate(lines) if line.startswith("END RequestId: " + answer.request_id))
    return lines[start + 1 : end]


@case
def platform_lines(subject):
    answer = subject.do("count")
    lines = [line for line in answer.tail.splitlines() if line]
    assert lines[-3] == f"START RequestId: {answer.request_id} Version: $LATEST"
    assert lines[-2] == f"END RequestId: {answer.request_id}"
    assert lines[-1].startswith(f"REPORT RequestId: {answer.request_id}\tDuration: ")


@case
def lines_are_logged_in_order(subject):
    lines = [f"line {n}" for n in range(100)]
    assert own_lines(subject.do("print", lines=lines)) == lines


@case
def standard_error_is_logged(subject):
    assert own_lines(subject.do("print_error", line="to error")) == ["to error"]


@case
def a_line_without_an_end_is_logged(subject):
    assert own_lines(subject.do("print_unfinished", line="no end")) == ["no end"]


@case
def letters_are_logged_as_they_are(subject):
    assert own_lines(subject.do("print", lines=["grüß 世界 😀"])) == ["grüß 世界 😀"]


@case
def the_tail_has_4096_bytes(subject):
    answer = subject.do("print", lines=["x" * 99] * 100)
    assert len(answer.tail.encode()) == 4096 and "\tMax Memory Used: " in answer.tail


@case
def an_init_is_logged_once(subject):
    subject.do("exit", code=1)
    first, second = subject.do("count"), subject.do("count")
    assert "Init Duration" not in second.tail and "init" not in own_lines(second) and first.json == 1


# --- state


@case
def an_environment_is_used_again(subject):
    first = subject.do("count").json
    assert [subject.do("count").json for _ in range(5)] == list(range(first + 1, first + 6))


@case
def many_calls_in_a_row(subject):
    for n in range(100):
        assert subject.raw(str(n).encode()).json == n


# --- handlers and inits (the Rust client is its own program: it has no handler to look for)


def init(subject, handler, error_type, message):
    answer = subject.raw(b"[1]", subject.function(handler))
    if subject.language == "rust":
        assert answer.json == [1]
        return
    assert answer.error == "Unhandled", answer
    document = answer.json
    assert document["errorType"] == error_type, answer
    assert message in document["errorMessage"], answer


@case
def another_handler(subject):
    expected = subject.pick(rust=[1], rest="other")
    assert subject.raw(b"[1]", subject.function("app.other")).json == expected


@case
def a_handler_in_a_folder(subject):
    assert subject.raw(b"[1]", subject.function("deep/er/app.handler")).json == [1]


@case
def a_handler_that_is_not_there(subject):
    message = subject.pick(
        python="Handler 'nowhere' missing on module 'app'", node="app.nowhere is undefined or not exported", rust=""
    )
    init(subject, "app.nowhere", "Runtime.HandlerNotFound", message)


@case
def a_module_that_is_not_there(subject):
    message = subject.pick(python="Unable to import module 'nowhere'", node="Cannot find module 'nowhere'", rust="")
    init(subject, "nowhere.handler", "Runtime.ImportModuleError", message)


@case
def a_handler_without_a_dot(subject):
    message = subject.pick(python="Bad handler 'app'", node="Bad handler", rust="")
    init(subject, "app", "Runtime.MalformedHandlerName", message)


@case
def a_syntax_error(subject):
    message = subject.pick(python="Syntax error in module 'broken'", node="SyntaxError", rust="")
    init(subject, "broken.handler", "Runtime.UserCodeSyntaxError", message)


@case
def an_error_at_init(subject):
    init(subject, "raises.handler", "KeyError", "at init")


@case
def an_exit_at_init(subject):
    init(subject, "leaves.handler", "Runtime.ExitError", "Runtime exited with error: exit status 3")


@pytest.mark.parametrize("name", CASES)
def test_behaviour(subject, name):
    CASES[name](subject)


def test_there_are_enough_cases():
    assert len(CASES) >= 50
