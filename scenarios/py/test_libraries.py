"""The libraries that handlers are written with, unmodified: Powertools for Python and for TypeScript, and middy.

They come from their registries, by name and version, into a cache under `target`.
"""

import json
import shutil
import sys

import pytest

import clients
import flint

POWERTOOLS_PYTHON = ["aws-lambda-powertools[parser,tracer]==3.37.0"]
# The newest that says it runs on Node 20.
POWERTOOLS_NODE = [f"@aws-lambda-powertools/{name}@2.35.0" for name in ("logger", "metrics", "tracer", "parser")]
MIDDY = ["@middy/core@6.4.5", "@middy/http-json-body-parser@6.4.5", "@middy/http-error-handler@6.4.5"]
ZOD = "zod@4.1.13"

ORDER = {"id": 7, "items": [{"name": "bolt", "count": 3}, {"name": "nut", "count": 4}]}
VARIABLES = {"POWERTOOLS_SERVICE_NAME": "orders", "POWERTOOLS_METRICS_NAMESPACE": "Shop", "POWERTOOLS_LOG_LEVEL": "INFO"}

# The daemon's address is a socket of the handler's own, so that the scenario sees what the tracer sends.
PYTHON = '''
import json, socket
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.parser import BaseModel, ValidationError, event_parser

daemon = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
daemon.bind(("127.0.0.1", 2000))
daemon.settimeout(2)

logger, metrics, tracer = Logger(), Metrics(), Tracer()

class Item(BaseModel):
    name: str
    count: int

class Order(BaseModel):
    id: int
    items: list[Item]

@tracer.capture_method
def total(order):
    tracer.put_annotation(key="order", value=order.id)
    return sum(item.count for item in order.items)

@logger.inject_lambda_context(log_event=True)
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler
@event_parser(model=Order)
def handle(order, context):
    logger.append_keys(order_id=order.id)
    logger.info("counting", extra={"lines": len(order.items)})
    logger.debug("not at this level")
    metrics.add_metric(name="Items", unit=MetricUnit.Count, value=total(order))
    metrics.add_dimension(name="kind", value="parts")
    return {"total": total(order)}

def handler(event, context):
    try:
        answer = handle(event, context)
    except ValidationError as error:
        return {"refused": [".".join(map(str, e["loc"])) for e in error.errors()]}
    segments = []
    for _ in range(3):
        segments.append(json.loads(daemon.recv(65536).decode().partition("\\n")[2]))
    return {**answer, "segments": segments, "remaining": context.get_remaining_time_in_millis()}
'''

NODE = '''
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import middy from '@middy/core';
import { Logger } from '@aws-lambda-powertools/logger';
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics';
import { logMetrics } from '@aws-lambda-powertools/metrics/middleware';
import { Tracer } from '@aws-lambda-powertools/tracer';
import { captureLambdaHandler } from '@aws-lambda-powertools/tracer/middleware';
import { parser } from '@aws-lambda-powertools/parser/middleware';
import { z } from 'zod';

const daemon = createSocket('udp4');
daemon.unref();
daemon.bind(2000, '127.0.0.1');
await once(daemon, 'listening');
const segments = [];
daemon.on('message', (data) => segments.push(JSON.parse(data.toString().split('\\n')[1])));

const logger = new Logger();
const metrics = new Metrics();
const tracer = new Tracer();
const schema = z.object({ id: z.number(), items: z.array(z.object({ name: z.string(), count: z.number() })) });

const counted = middy(async (order) => {
  logger.appendKeys({ order_id: order.id });
  logger.info('counting', { lines: order.items.length });
  logger.debug('not at this level');
  const total = order.items.reduce((sum, item) => sum + item.count, 0);
  tracer.putAnnotation('order', order.id);
  metrics.addMetric('Items', MetricUnit.Count, total);
  metrics.addDimension('kind', 'parts');
  return { total };
})
  .use(injectLambdaContext(logger, { logEvent: true }))
  .use(logMetrics(metrics, { captureColdStartMetric: true }))
  .use(captureLambdaHandler(tracer))
  .use(parser({ schema }));

export const handler = async (event, context) => {
  let answer;
  try {
    answer = await counted(event, context);
  } catch (error) {
    if (error.name !== 'ParseError') throw error;
    return { refused: error.cause.map((issue) => issue.path.join('.')) };
  }
  for (let n = 0; n < 100 && segments.length < 1; n++) await new Promise((done) => setTimeout(done, 20));
  return { ...answer, segments, remaining: context.getRemainingTimeInMillis() };
};
'''

MIDDY_APP = '''
import middy from '@middy/core';
import httpJsonBodyParser from '@middy/http-json-body-parser';
import httpErrorHandler from '@middy/http-error-handler';

const steps = [];
const note = (name) => ({
  before: () => { steps.push(`${name} before`); },
  after: ({ response }) => { steps.push(`${name} after`); response.steps = steps.splice(0); },
  onError: () => { steps.length = 0; },
});

export const handler = middy()
  .use(httpErrorHandler({ logger: (error) => console.error('middy:', error.message) }))
  .use(note('outer'))
  .use(httpJsonBodyParser())
  .handler(async (event, context, { signal }) => {
    if (event.body.fail) throw new Error(event.body.fail);
    return { statusCode: 200, body: JSON.stringify({ twice: event.body.n * 2, aborted: signal.aborted }) };
  });
'''


def python_packages(runtime):
    version = runtime.removeprefix("python")

    def install(directory):
        clients.run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target",
                     str(directory), "--python-version", version, "--only-binary=:all:", "--platform",
                     "manylinux2014_x86_64", *POWERTOOLS_PYTHON], directory)

    return clients.tree(clients.cached(f"powertools-python-{version}", install))


def node_packages(name, packages):
    if not shutil.which("npm"):
        clients.lacks("the packages need npm")

    def install(directory):
        clients.run(["npm", "install", "--no-audit", "--no-fund", "--omit=dev", "--prefix", str(directory), *packages],
                    directory)

    found = clients.tree(clients.cached(name, install) / "node_modules", "node_modules/")
    # What only a compiler reads would double the archive.
    return {n: c for n, c in found.items() if not n.endswith((".d.ts", ".d.cts", ".d.mts", ".map", ".md"))}


def documents(tail):
    """The lines of a log that are JSON objects."""
    return [json.loads(line) for line in tail.splitlines() if line.startswith("{")]


def check_powertools(answer, name):
    assert answer.error is None, answer
    result, lines = answer.json, documents(answer.tail)
    assert result["total"] == 7 and 0 < result["remaining"] <= 30_000

    counting = [line for line in lines if line.get("message") == "counting"]
    assert len(counting) == 1, answer.tail
    expected = {"level": "INFO", "service": "orders", "order_id": 7, "lines": 2, "function_name": name}
    assert {key: counting[0].get(key) for key in expected} == expected
    assert counting[0]["function_request_id"] == answer.request_id
    assert counting[0]["function_arn"].endswith(f":function:{name}")
    assert int(counting[0]["function_memory_size"]) == 512 and counting[0]["cold_start"] is True
    assert "not at this level" not in answer.tail

    metrics = {metric["Name"]: (line, line["_aws"]["CloudWatchMetrics"][0]["Namespace"])
               for line in lines if "_aws" in line for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert set(metrics) == {"Items", "ColdStart"}, answer.tail
    items, space = metrics["Items"]
    value = items["Items"]
    assert (value, items["kind"], items["service"], space) in [(7, "parts", "orders", "Shop"), ([7.0], "parts", "orders", "Shop")]


def annotations(segments):
    found = {}
    for segment in segments:
        found.update(segment.get("annotations", {}))
        found.update(annotations(segment.get("subsegments", [])))
    return found


@pytest.fixture
def trace():
    """A caller that samples: the tracers send nothing otherwise."""
    return "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


def invoke(functions, name, event, trace=None):
    def add(request, **_):
        if trace:
            request.headers.add_header("X-Amzn-Trace-Id", trace)

    functions.meta.events.register("before-sign.lambda.Invoke", add)
    try:
        return flint.invoke(functions, name, event)
    finally:
        functions.meta.events.unregister("before-sign.lambda.Invoke", add)


def test_powertools_for_python(shared, functions, name, trace):
    files = {**python_packages(shared.python()), "app.py": PYTHON}
    shared.create(functions, name, files, Timeout=30, MemorySize=512, Environment={"Variables": VARIABLES})
    answer = invoke(functions, name, ORDER, trace)
    check_powertools(answer, name)
    segments = answer.json["segments"]
    assert {s["name"] for s in segments} >= {"## handle", "## app.total"}, segments
    assert {s["trace_id"] for s in segments} == {"1-5759e988-bd862e3fe1be46a994272793"}
    assert annotations(segments).get("order") == 7
    refused = invoke(functions, name, {"id": 7, "items": [{"name": "bolt"}]})
    assert refused.json == {"refused": ["items.0.count"]}, refused


def test_powertools_for_typescript(shared, functions, name, trace):
    files = {**node_packages("powertools-node", [*POWERTOOLS_NODE, MIDDY[0], ZOD]), "app.mjs": NODE}
    shared.create(functions, name, files, Runtime=clients.node(shared), Timeout=30, MemorySize=512,
                  Environment={"Variables": VARIABLES})
    answer = invoke(functions, name, ORDER, trace)
    check_powertools(answer, name)
    segments = answer.json["segments"]
    assert {s["trace_id"] for s in segments} == {"1-5759e988-bd862e3fe1be46a994272793"}
    assert annotations(segments).get("order") == 7, segments
    refused = invoke(functions, name, {"id": 7, "items": [{"name": "bolt"}]})
    assert refused.json == {"refused": ["items.0.count"]}, refused


def test_middy(shared, functions, name):
    files = {**node_packages("middy", MIDDY), "app.mjs": MIDDY_APP}
    shared.create(functions, name, files, Runtime=clients.node(shared), Timeout=30, MemorySize=256)
    headers = {"Content-Type": "application/json"}
    for n in (21, 4):
        answer = invoke(functions, name, {"headers": headers, "body": json.dumps({"n": n})})
        assert json.loads(answer.json["body"]) == {"twice": 2 * n, "aborted": False}, answer
        assert answer.json["steps"] == ["outer before", "outer after"]
    answer = invoke(functions, name, {"headers": headers, "body": "{"})
    assert answer.json["statusCode"] == 415 and "Invalid or malformed JSON" in answer.json["body"], answer
    answer = invoke(functions, name, {"headers": headers, "body": json.dumps({"fail": "no way"})})
    assert answer.json["statusCode"] == 500 and "middy: no way" in answer.tail, answer
