# The Python runtime: loads the handler, then asks the Runtime API for events, one at a time.
#
# A cold start waits for every line and every import here, so: no `socket`, `http`, `json`, `logging`, `traceback` or
# `importlib` (together some 25 ms), their C cores instead. What only a failure or a user of `logging` needs lies beside
# this file and is loaded then. Runs on Python 3.6 and later; behaves as the official runtime client's documentation says.
import os
import sys
import time
import _frozen_importlib
import _socket

HERE = os.path.dirname(os.path.abspath(__file__))
API = "/2018-06-01/runtime/"
environ = os.environ
request_id = None  # of the event in flight; the log handler writes it


class Fault(Exception):
    """An error with a type of the platform's."""

    def __init__(self, kind, message, trace=None):
        Exception.__init__(self, message)
        self.kind = kind
        self.message = message
        self.trace = trace


def helper(name, cache={}):
    """The names of a file beside this one, loaded when first needed, independent of the function's sys.path."""
    if name not in cache:
        path = os.path.join(HERE, name + ".py")
        with open(path, encoding="utf-8") as file:
            code = compile(file.read(), path, "exec")
        cache[name] = names = {"__name__": name, "__file__": path, "runtime": sys.modules["__main__"]}
        exec(code, names)
    return cache[name]


# JSON. The scanner and the encoder of the interpreter's own C module, without the package around them.


class Scan:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"-Infinity": -float("inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__


def slow_loads(text):
    import json

    return json.loads(text)


def make_loads():
    try:
        from _json import make_scanner

        scan = make_scanner(Scan)
    except Exception:
        return slow_loads

    def loads(data):
        try:
            text = data.decode("utf-8").strip(" \t\n\r")
            value, end = scan(text, 0)
            if end == len(text):
                return value
        except (StopIteration, UnicodeDecodeError):
            pass
        # What is odd goes to the real thing, which knows other encodings and words the error.
        return slow_loads(bytes(data))

    return loads


class Decimals:
    """Turns decimal.Decimal into a number; the C encoder knows no such thing, so it writes a marked text first."""

    def __init__(self):
        self.mark = None

    def default(self, value):
        decimal = sys.modules.get("decimal")
        if decimal is not None and isinstance(value, decimal.Decimal):
            if value.is_nan():
                return float("nan")
            self.mark = self.mark or "D" + os.urandom(12).hex()
            return self.mark + str(value) + self.mark
        raise TypeError("Object of type %s is not JSON serializable" % value.__class__.__name__)

    def finish(self, text):
        if self.mark is None:
            return text
        return text.replace('"' + self.mark, "").replace(self.mark + '"', "")


def make_dumps(ascii_only):
    try:
        from _json import encode_basestring, encode_basestring_ascii, make_encoder

        escape = encode_basestring_ascii if ascii_only else encode_basestring
        make_encoder({}, None, escape, None, ": ", ", ", False, False, True)
    except Exception:
        make_encoder = None

    def dumps(value):
        decimals = Decimals()
        if make_encoder is None:
            import json

            return decimals.finish(json.dumps(value, ensure_ascii=ascii_only, default=decimals.default))
        encode = make_encoder({}, decimals.default, escape, None, ": ", ", ", False, False, True)
        return decimals.finish("".join(encode(value, 0)))

    return dumps


loads = make_loads()
# The reference writes characters as they are from Python 3.12 on, and escaped before.
dumps = make_dumps(sys.version_info < (3, 12))


# The Runtime API over one connection that is kept.


class Client:
    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.address = (host, int(port))
        self.host = address.encode()
        self.next_request = b"GET " + API.encode() + b"invocation/next HTTP/1.1\r\nHost: " + self.host + b"\r\n\r\n"
        self.connect()

    def connect(self):
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.connect(self.address)
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)

    def next(self):
        status, headers, body = self.exchange(self.next_request)
        if status != 200:
            raise RuntimeError("the Runtime API answered %d: %r" % (status, body))
        return headers, body

    def post(self, path, body, headers=""):
        head = "POST %s%s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n"
        head = head % (API, path, self.host.decode(), headers, len(body))
        return self.exchange(head.encode("latin-1", "replace") + body)[0]

    def exchange(self, request):
        try:
            self.socket.sendall(request)
            return self.answer()
        except (ConnectionError, EOFError):
            # The connection went away while nothing was under way. An answer that was taken already is refused now,
            # which does no harm.
            self.socket.close()
            self.connect()
            self.socket.sendall(request)
            return self.answer()

    def answer(self):
        data = self.socket.recv(65536)
        while True:
            if not data:
                raise EOFError
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                break
            more = self.socket.recv(65536)
            if not more:
                raise EOFError
            data += more
        lines = data[:end].decode("utf-8", "replace").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        body = data[end + 4 :]
        if len(body) < length:
            whole = bytearray(length)
            whole[: len(body)] = body
            at = len(body)
            view = memoryview(whole)
            while at < length:
                got = self.socket.recv_into(view[at:])
                if got == 0:
                    raise EOFError
                at += got
            body = bytes(whole)
        return int(lines[0].split(" ")[1]), headers, body


# What the handler sees.


class CognitoIdentity(object):
    __slots__ = ["cognito_identity_id", "cognito_identity_pool_id"]

    def __init__(self):
        self.cognito_identity_id = None
        self.cognito_identity_pool_id = None

    def __repr__(self):
        return "CognitoIdentity([cognito_identity_id=%s,cognito_identity_pool_id=%s])" % (
            self.cognito_identity_id,
            self.cognito_identity_pool_id,
        )


class LambdaContext(object):
    def __init__(self, headers):
        self.aws_request_id = request_id
        self.log_group_name = environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.identity = CognitoIdentity()
        self.client_context = None
        if "lambda-runtime-client-context" in headers or "lambda-runtime-cognito-identity" in headers:
            helper("_context")["fill"](self, headers)
        self._deadline_ms = int(headers.get("lambda-runtime-deadline-ms", 0))

    def get_remaining_time_in_millis(self):
        return max(self._deadline_ms - int(time.time() * 1000), 0)

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        names = "aws_request_id log_group_name log_stream_name function_name memory_limit_in_mb function_version "
        names += "invoked_function_arn client_context identity tenant_id"
        return "LambdaContext([%s])" % ",".join("%s=%s" % (n, getattr(self, n)) for n in names.split())


# Surroundings.


def open_streams():
    """Every write reaches the pipe at once, so that nothing is lost with a process that is killed."""
    import io

    class Stream(io.TextIOWrapper):
        def write(self, text):
            count = super().write(text)
            self.flush()
            return count

    for name in ("stdout", "stderr"):
        old = getattr(sys, name)
        errors = old.errors if name == "stderr" else "backslashreplace"
        stream = Stream(old.detach(), encoding="utf-8", errors=errors, newline="\n")
        stream.mode = "w"
        setattr(sys, name, stream)
        setattr(sys, "__" + name + "__", stream)


class WhenLoggingIsImported:
    """Sets up the root logger as the reference does, but only for those who import `logging`."""

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            helper("_logging")["set_up"](module)

        spec.loader.exec_module = exec_module
        return spec


def set_up():
    open_streams()
    version = "python%d.%d" % sys.version_info[:2]
    task = environ.get("LAMBDA_TASK_ROOT", "/var/task")
    first = [task, "/opt/python/lib/%s/site-packages" % version, "/opt/python"]
    sys.path[:] = first + [p for p in sys.path if p not in first]
    sys.argv = [""]
    sys.meta_path.insert(0, WhenLoggingIsImported())
    # The interpreter runs without `site`, whose directories belong to the host; `exit` and `quit` come from there.
    if sys.flags.no_site:
        import _sitebuiltins
        import builtins

        builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
        builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")


def load_handler(handler):
    module_name, dot, name = handler.rpartition(".")
    if not dot:
        message = "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % handler
        raise Fault("Runtime.MalformedHandlerName", message)
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = "Cannot use built-in module %s as a handler module" % module_name
        raise Fault("Runtime.BuiltInModuleConflict", message)
    try:
        if not module_name.replace("/", "."):
            raise ValueError("Empty module name")
        module = _frozen_importlib._gcd_import(module_name.replace("/", "."))
    except ImportError as e:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, e))
    except SyntaxError as e:
        trace = ['  File "%s" Line %s\n    %s' % (e.filename, e.lineno, e.text)]
        message = "Syntax error in module '%s': %s" % (module_name, e)
        raise Fault("Runtime.UserCodeSyntaxError", message, trace)
    try:
        return getattr(module, name)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % (name, module_name))


def run_one(client, handler, headers, body):
    content_type = "application/json"
    try:
        context = LambdaContext(headers)
        try:
            event = loads(body)
        except Exception as e:
            raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % e)
        result = handler(event, context)
        if isinstance(result, bytes):
            content_type = "application/unknown"
        else:
            try:
                result = dumps(result).encode("utf-8")
            except Exception as e:
                raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % e)
    except Exception as e:
        helper("_errors")["report_call"](client, e, request_id)
        return
    path = "invocation/" + request_id + "/response"
    # A response that is refused for its size (413) is reported by the platform, which has refused it.
    client.post(path, result, "Content-Type: " + content_type + "\r\n")


def main():
    global request_id
    set_up()
    # Connecting first tells the platform that the interpreter is up and that what follows is the function's own init.
    client = Client(environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        handler = load_handler(environ.get("_HANDLER", ""))
    except Exception as e:
        helper("_errors")["report_init"](client, e)
        sys.exit(1)
    while True:
        headers, body = client.next()
        request_id = headers["lambda-runtime-aws-request-id"]
        trace = headers.get("lambda-runtime-trace-id")
        if trace is not None:
            environ["_X_AMZN_TRACE_ID"] = trace
        elif "_X_AMZN_TRACE_ID" in environ:
            del environ["_X_AMZN_TRACE_ID"]
        run_one(client, handler, headers, body)


if __name__ == "__main__":
    main()
