# The root logger's handler. Loaded by bootstrap.py when the function imports `logging`.
import os
import sys
import time

# Attributes that every record has; what else a record has came with `extra`.
OWN = set("""name msg args levelname levelno pathname filename module exc_info exc_text stack_info lineno funcName created
msecs relativeCreated thread threadName processName process aws_request_id tenant_id""".split())


def as_json(logging):
    import json
    import traceback

    encode = json.JSONEncoder(ensure_ascii=False, default=str).encode

    class JsonFormatter(logging.Formatter):
        def format(self, record):
            record.levelno = min(50, max(0, record.levelno)) // 10 * 10
            record.levelname = logging.getLevelName(record.levelno)
            whole = isinstance(record.msg, dict) and not record.args
            info = record.exc_info
            document = {
                "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
                "level": record.levelname,
                "message": record.msg if whole else record.getMessage(),
                "logger": record.name,
                "stackTrace": traceback.format_tb(info[2]) if info else None,
                "errorType": info[0].__name__ if info and info[0] else None,
                "errorMessage": str(info[1]) if info else None,
                "requestId": record.aws_request_id,
                "location": "%s:%s:%s" % (record.pathname, record.funcName, record.lineno) if info else None,
                "tenantId": record.tenant_id,
            }
            for name, value in record.__dict__.items():
                if name not in OWN and name not in document:
                    document[name] = value
            return encode({name: value for name, value in document.items() if value is not None})

    return JsonFormatter()


def set_up(logging):
    class LambdaLoggerHandler(logging.Handler):
        def emit(self, record):
            try:
                text = self.format(record).rstrip("\n").replace("\n", "\r") + "\n"
            except Exception:
                self.handleError(record)
                return
            data = text.encode("utf-8", "backslashreplace")
            while data:
                data = data[os.write(1, data) :]

    class LambdaLoggerFilter(logging.Filter):
        def filter(self, record):
            record.aws_request_id = sys.modules["__main__"].request_id or ""
            record.tenant_id = None
            return True

    logging.Formatter.converter = time.gmtime
    handler = LambdaLoggerHandler()
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON":
        handler.setFormatter(as_json(logging))
    else:
        form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
        handler.setFormatter(logging.Formatter(form, "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(LambdaLoggerFilter())
    root = logging.getLogger()
    # Python has no TRACE.
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper().replace("TRACE", "DEBUG")
    if level in logging._nameToLevel:
        root.setLevel(level)
    root.addHandler(handler)
