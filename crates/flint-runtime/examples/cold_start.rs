//! Prints what a cold start and a warm call take on this host: `cargo run --release -p flint-runtime --example cold_start`.
//!
//! Needs root. Creations are 60 ms apart, because tight loops hide what a cold cache costs.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::{Clock, RequestId, SystemClock};
use flint_kit::{LogEvent, LogSink};
use flint_model::Place;
use flint_runtime::{Call, Catalog, EnvironmentSpec, Environments, InitEnd, Match, Options, Search};
use flint_sandbox::{Sandboxes, spawner};

#[derive(Debug)]
struct Nowhere;

impl LogSink for Nowhere {
    fn append(&self, _: &Place, _: &Arc<str>, _: &Arc<str>, _: Vec<LogEvent>) {}
}

const PYTHON: &str = "def handler(event, context):\n    return event\n";
const NODE: &str = "exports.handler = async (event) => event;\n";

fn main() {
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(30);
    let options = flint_sandbox::Options::new(format!("{:x}", std::process::id()), 64_990, 64_990);
    let channel = spawner::start(&options).expect("root and cgroups");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let sandboxes = Sandboxes::new(channel, options).expect("a spawner");
        let homes = std::env::home_dir().into_iter().collect();
        let catalog = Arc::new(Catalog::discover(&Search::host(homes)));
        let clock = Arc::new(SystemClock::new());
        let options = Options::default();
        let environments =
            Environments::new(sandboxes, catalog.clone(), Arc::new(Nowhere), clock.clone(), options, None);
        for identifier in catalog.available() {
            bench(&environments, &catalog, &*clock, &identifier, rounds).await;
        }
    });
}

async fn bench(environments: &Environments, catalog: &Catalog, clock: &dyn Clock, identifier: &str, rounds: usize) {
    let runtime = catalog.resolve(identifier, Match::Exact).expect("it is available");
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("app.py"), PYTHON).expect("write");
    std::fs::write(dir.path().join("app.js"), NODE).expect("write");
    let spec = Arc::new(EnvironmentSpec {
        place: Place { account: "000000000000".parse().expect("one"), region: "us-east-1".parse().expect("one") },
        function: "bench".parse().expect("a name"),
        version: "$LATEST".into(),
        arn: "arn:aws:lambda:us-east-1:000000000000:function:bench".into(),
        role: "arn:aws:iam::000000000000:role/r".into(),
        runtime,
        handler: "app.handler".to_owned(),
        code: Arc::from(dir.path()),
        variables: Vec::new(),
        memory_mb: 256,
        timeout: Duration::from_secs(10),
        ephemeral_mb: 512,
        log_group: "/aws/lambda/bench".into(),
        logging: flint_runtime::Logging::default(),
        layers: None,
        init_limit: Duration::from_secs(10),
    });
    let mut columns: [Vec<f64>; 6] = Default::default();
    for _ in 0..rounds {
        let began = clock.monotonic();
        let mut environment = environments.create(spec.clone(), None).await.expect("a sandbox");
        if environment.init().await != InitEnd::Ready {
            return;
        }
        let ready = clock.monotonic();
        environment.invoke(call()).await;
        let cold = environment.cold_start();
        let warm = clock.monotonic();
        for _ in 0..100 {
            environment.invoke(call()).await;
        }
        let warm = (clock.monotonic() - warm) / 100;
        for (column, span) in
            columns.iter_mut().zip([ready - began, cold.sandbox, cold.runtime, cold.init, cold.first_invoke, warm])
        {
            column.push(span.as_secs_f64() * 1000.0);
        }
        environment.close().await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let median = |column: &mut Vec<f64>| {
        column.sort_by(f64::total_cmp);
        (column[column.len() / 10], column[column.len() / 2])
    };
    println!("{identifier}: ms, p10/median of {rounds}");
    for (name, column) in
        ["to first next", "sandbox", "runtime", "init", "first call", "warm call"].iter().zip(&mut columns)
    {
        let (low, middle) = median(column);
        println!("  {name:14} {low:8.2} {middle:8.2}");
    }
}

fn call() -> Call {
    Call {
        request_id: RequestId::random(),
        arn: "arn:aws:lambda:us-east-1:000000000000:function:bench".into(),
        payload: Bytes::from_static(b"{\"key\": \"value\"}"),
        client_context: None,
        trace: None,
        timeout: Duration::from_secs(10),
        max_response: flint_runtime::call::MAX_RESPONSE,
    }
}
