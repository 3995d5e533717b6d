# The root logger's handler. Loaded by bootstrap.py when the function imports `logging`.
import os
import sys
import time


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
    form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    handler.setFormatter(logging.Formatter(form, "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(LambdaLoggerFilter())
    logging.getLogger().addHandler(handler)
