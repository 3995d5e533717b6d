//! Extensions that have events and log lines sent to a port of their own.

use std::sync::Arc;
use std::time::Duration;

use flint_base::{Clock, SystemClock};
use flint_runtime::{End, Environment, InitEnd};
use serde_json::Value;

use crate::extensions::{function, source};
use crate::{World, call};

crate::tests![
    every_event_comes_in_order_and_before_the_end,
    one_that_waits_for_the_runtime_is_told_at_once,
    the_logs_api_sends_too,
    one_that_does_not_listen_holds_nothing_up,
    late_and_wrong_subscriptions_are_refused,
];

const HANDLER: &str = "def handler(e, c):\n    print('line', e)\n    return e\n";

/// Subscribes and writes what is sent to it to the log, as one line for each batch.
const LISTENS: &str = r#"
import http.server, threading
class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args):
        pass
    def do_POST(self):
        batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        heard.extend(batch)
        for record in batch:
            if record["type"] == "platform.runtimeDone":
                done.set()
        say("BATCH " + json.dumps(batch))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
heard = []
done = threading.Event()
server = http.server.ThreadingHTTPServer(("0.0.0.0", 4243), Sink)
threading.Thread(target=server.serve_forever, daemon=True).start()
def subscribe(path, version, types, port=4243, **more):
    body = {"schemaVersion": version, "types": types, "buffering": {"timeoutMs": 25},
            "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:%d/" % port}}
    body.update(more)
    api.request("PUT", path, json.dumps(body), {"Lambda-Extension-Identifier": me, "Content-Type": "application/json"})
    answer = api.getresponse()
    return "%d %s" % (answer.status, answer.read().decode())
import socket
say("resolves", socket.gethostbyname("sandbox.localdomain"), socket.gethostbyname("sandbox"))
TELEMETRY, LOGS = "/2022-07-01/telemetry", "/2020-08-15/logs"
"#;

const TELLS: &str = r#"    if event["eventType"] == "INVOKE":
        say("told", event["requestId"])
    else:
        say("bye", event["shutdownReason"], len(heard), heard[-1]["type"])
        sys.exit(0)
"#;

fn listener(world: &World, subscribes: &str, body: &str) -> String {
    source(world, body).replace("while True:", &format!("{LISTENS}\n{subscribes}\nwhile True:"))
}

/// What was sent, in the order in which it came.
fn heard(world: &World, stream: &str) -> Vec<Value> {
    let log = world.log_of(stream);
    let batches = log.iter().filter_map(|line| line.strip_prefix("BATCH "));
    batches.flat_map(|text| serde_json::from_str::<Vec<Value>>(text).expect("a batch")).collect()
}

async fn ready(world: &World, environment: &mut Environment) {
    assert_eq!(environment.init().await, InitEnd::Ready, "{:?}", world.log(environment));
}

async fn every_event_comes_in_order_and_before_the_end(world: Arc<World>) {
    let text = listener(&world, r#"say(subscribe(TELEMETRY, "2022-12-13", ["platform", "function"]))"#, TELLS);
    let (function, _layer) = function(&world, HANDLER, Some(&text));
    let mut environment = function.create(&world).await;
    ready(&world, &mut environment).await;
    let stream = environment.log_stream().to_string();
    let mut expected = Vec::new();
    for n in 0..1000 {
        let call = call(&n.to_string());
        let id = call.request_id.to_string();
        for (kind, what) in [("start", &id), ("function", &format!("line {n}")), ("runtimeDone", &id), ("report", &id)]
        {
            expected.push(format!("{kind} {what}"));
        }
        let answer = environment.invoke(call).await;
        assert_eq!((answer.end, crate::text(&answer)), (End::Ok, n.to_string().as_str()));
        if n % 10 == 0 {
            environment.freeze();
        }
    }
    environment.close().await;
    let log = world.log_of(&stream);
    assert!(log.contains(&"200 OK".to_owned()) && log.contains(&"resolves 127.0.0.1 127.0.0.1".to_owned()), "{log:?}");
    let heard = heard(&world, &stream);
    let kinds = |r: &Value| r["type"].as_str().expect("a type").trim_start_matches("platform.").to_owned();
    let first: Vec<String> = heard.iter().take(4).map(kinds).collect();
    assert_eq!(first, ["initStart", "telemetrySubscription", "initRuntimeDone", "initReport"]);
    let seen = heard.iter().skip(4).map(|r| {
        let record = &r["record"];
        let what = record.as_str().or(record["requestId"].as_str()).unwrap_or_default();
        format!("{} {what}", kinds(r))
    });
    let seen: Vec<String> = seen.collect();
    let differs = seen.iter().zip(&expected).position(|(a, b)| a != b);
    assert_eq!((seen.len(), differs), (expected.len(), None), "{:?}", differs.map(|at| &seen[at]));
    assert_eq!(heard.last().expect("some")["record"]["status"], "success");
    let bye = log.iter().find(|l| l.starts_with("bye")).expect("SHUTDOWN is told");
    assert_eq!(*bye, format!("bye spindown {} platform.report", heard.len()), "all of it came before SHUTDOWN");
}

async fn one_that_waits_for_the_runtime_is_told_at_once(world: Arc<World>) {
    let body = "    if event['eventType'] == 'SHUTDOWN': sys.exit(0)\n    assert done.wait(2.5)\n    done.clear()\n";
    let text =
        listener(&world, r#"subscribe(TELEMETRY, "2022-07-01", ["platform"], buffering={"timeoutMs": 30000})"#, body);
    let (function, _layer) = function(&world, HANDLER, Some(&text));
    let mut environment = function.create(&world).await;
    ready(&world, &mut environment).await;
    for _ in 0..5 {
        let answer = environment.invoke(call("1")).await;
        assert_eq!(answer.end, End::Ok);
        assert!(answer.duration < Duration::from_secs(1), "{answer:?}");
    }
    environment.close().await;
}

async fn the_logs_api_sends_too(world: Arc<World>) {
    let text = listener(&world, r#"say(subscribe(LOGS, "2020-08-15", ["platform", "function"]))"#, TELLS);
    let (function, _layer) = function(&world, HANDLER, Some(&text));
    let mut environment = function.create(&world).await;
    ready(&world, &mut environment).await;
    assert_eq!(environment.invoke(call("7")).await.end, End::Ok);
    let stream = environment.log_stream().to_string();
    environment.close().await;
    let heard = heard(&world, &stream);
    let kinds: Vec<&str> = heard.iter().filter_map(|r| r["type"].as_str()).collect();
    let expected = ["platform.logsSubscription", "platform.start", "function", "platform.end", "platform.report"];
    assert_eq!(kinds, expected);
    assert_eq!(heard[2]["record"], "line 7");
}

async fn one_that_does_not_listen_holds_nothing_up(world: Arc<World>) {
    let text = listener(&world, r#"say(subscribe(TELEMETRY, "2022-12-13", ["platform"], port=5))"#, TELLS)
        .replace(r#", len(heard), heard[-1]["type"]"#, "");
    let (function, _layer) = function(&world, HANDLER, Some(&text));
    let mut environment = function.create(&world).await;
    ready(&world, &mut environment).await;
    for n in 0..20 {
        let answer = environment.invoke(call(&n.to_string())).await;
        assert!(answer.end == End::Ok && answer.duration < Duration::from_secs(1), "{answer:?}");
        environment.freeze();
    }
    let stream = environment.log_stream().to_string();
    let clock = SystemClock::new();
    let began = clock.monotonic();
    environment.close().await;
    assert!(clock.monotonic() - began < Duration::from_secs(1));
    assert!(world.log_of(&stream).contains(&"bye spindown".to_owned()));
}

async fn late_and_wrong_subscriptions_are_refused(world: Arc<World>) {
    let wants = r#"
say("empty", subscribe(TELEMETRY, "2022-12-13", []))
saved, me = me, "nobody"
say("stranger", subscribe(TELEMETRY, "2022-12-13", ["platform"]))
me = saved
say("first", subscribe(LOGS, "2020-08-15", ["function"]))
say("again", subscribe(LOGS, "2020-08-15", ["platform"]))
say("other", subscribe(TELEMETRY, "2022-12-13", ["platform"]))
"#;
    let body = "    if event['eventType'] == 'SHUTDOWN': sys.exit(0)\n    say('late', subscribe(LOGS, '2020-08-15', ['function']))\n";
    let text = listener(&world, wants, body);
    let (function, _layer) = function(&world, HANDLER, Some(&text));
    let mut environment = function.create(&world).await;
    ready(&world, &mut environment).await;
    assert_eq!(environment.invoke(call("1")).await.end, End::Ok);
    let stream = environment.log_stream().to_string();
    environment.close().await;
    let log = world.log_of(&stream);
    for (what, answer) in [
        ("empty", "400 {\"errorMessage\":\"types should not be empty\""),
        ("stranger", "403 {\"errorMessage\":\"Unknown extension\""),
        ("first", "200 OK"),
        ("again", "200 OK"),
        ("other", "403 "),
        ("late", "403 "),
    ] {
        assert!(log.iter().any(|line| line.starts_with(&format!("{what} {answer}"))), "{what}: {log:?}");
    }
    assert!(!heard(&world, &stream).iter().any(|r| r["type"] == "function"), "the second replaces the first");
}
