"""The behaviours of the runtime suite, in Python. `app.js` and `main.rs` say the same."""

import os
import signal
import sys
import time

print("init")
count = 0


class CustomError(Exception):
    pass


def custom():
    raise CustomError("of my own")


def context_of(context):
    client = context.client_context
    return {
        "function_name": context.function_name,
        "function_version": context.function_version,
        "memory": int(context.memory_limit_in_mb),
        "request_id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "log_group": context.log_group_name,
        "log_stream": context.log_stream_name,
        "remaining": context.get_remaining_time_in_millis(),
        "custom": client and client.custom,
        "env": client and client.env,
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
    }


def do(what, event, context):
    global count
    if what == "count":
        count += 1
        return count
    if what == "context":
        return context_of(context)
    if what == "remaining":
        first = context.get_remaining_time_in_millis()
        time.sleep(0.1)
        return [first, context.get_remaining_time_in_millis()]
    if what == "variable":
        return os.environ.get(event["name"])
    if what == "directory":
        return os.getcwd()
    if what == "write":
        try:
            with open(event["path"], "w") as file:
                file.write("x")
            return "written"
        except OSError:
            return "refused"
    if what == "read":
        with open(event["path"]) as file:
            return file.read()
    if what == "size":
        return len(event["text"])
    if what == "fill":
        return "x" * (event["size"] - 2)
    if what == "raise":
        raise ValueError(event.get("message", "no way"))
    if what == "custom":
        custom()
    if what == "print":
        for line in event["lines"]:
            print(line)
        return None
    if what == "print_error":
        sys.stderr.write(event["line"] + "\n")
        return None
    if what == "print_unfinished":
        sys.stdout.write(event["line"])
        sys.stdout.flush()
        return None
    if what == "exit":
        os._exit(event["code"])
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what in ("sleep", "kill"):
        time.sleep(event.get("seconds", 60))
        return "slept"
    if what == "eat":
        held = []
        while True:
            held.append(bytearray(8 << 20))
    raise AssertionError(what)


def handler(event, context):
    if isinstance(event, dict) and "do" in event:
        return do(event["do"], event, context)
    return event


def other(event, context):
    return "other"
