//! Environments in real sandboxes: every way in which a call can end, field by field and line by line.
//!
//! These tests need root, cgroups and a Python of 3.6 or later, and fail without them. They bring their own `main`,
//! because a spawner can be made only while the process has one thread. Names given as arguments select tests.

mod endings;
mod extensions;
mod inits;
mod logs;
mod pool;
mod streams;
mod telemetry;

use std::collections::HashMap;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flint_base::{RequestId, SystemClock};
use flint_kit::{LogEvent, LogSink};
use flint_model::Place;
use flint_runtime::{
    Answer, Call, Catalog, Environment, EnvironmentSpec, Environments, Kind, Match, Options, Resolved, Search,
};
use flint_sandbox::{Sandboxes, spawner};

type Test = (&'static str, fn(Arc<World>) -> Pin<Box<dyn Future<Output = ()> + Send>>);

#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[$crate::Test] = &[$((stringify!($name), |world| Box::pin($name(world)))),*];
    };
}

/// Longest that one test may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every test gets.
pub struct World {
    pub sandboxes: Sandboxes,
    pub environments: Environments,
    pub python: Resolved,
    pub catalog: Arc<Catalog>,
    sink: Arc<Sink>,
}

/// Keeps what is logged, by stream.
#[derive(Debug, Default)]
struct Sink(Mutex<HashMap<String, Vec<LogEvent>>>);

impl LogSink for Sink {
    fn append(&self, _: &Place, _: &Arc<str>, stream: &Arc<str>, events: Vec<LogEvent>) {
        self.0.lock().unwrap().entry(stream.to_string()).or_default().extend(events);
    }
}

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let id: String = format!("rt{}", std::process::id()).bytes().map(|b| format!("{b:02x}")).collect();
    let options = flint_sandbox::Options::new(id, 64_990, 64_990);
    let channel = spawner::start(&options).expect("these tests need root and cgroups");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let failed = runtime.block_on(async {
        let sandboxes = Sandboxes::new(channel, options).unwrap();
        let world = Arc::new(World::new(sandboxes));
        let mut failed = 0;
        for (name, test) in [
            endings::TESTS,
            inits::TESTS,
            logs::TESTS,
            pool::TESTS,
            streams::TESTS,
            extensions::TESTS,
            telemetry::TESTS,
        ]
        .concat()
        {
            if !names.is_empty() && !names.iter().any(|n| name.contains(n.as_str())) {
                continue;
            }
            let outcome = tokio::time::timeout(PATIENCE, tokio::spawn(test(Arc::clone(&world)))).await;
            let ok = matches!(outcome, Ok(Ok(())));
            println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
            failed += usize::from(!ok);
        }
        failed
    });
    drop(runtime);
    if failed > 0 {
        println!("{failed} failed");
        std::process::exit(1);
    }
}

impl World {
    fn new(sandboxes: Sandboxes) -> Self {
        let catalog = Arc::new(Catalog::discover(&Search::host(std::env::home_dir().into_iter().collect())));
        let newest = catalog.interpreters().iter().rfind(|i| i.kind == Kind::Python && i.version >= (3, 6, 0));
        let newest = newest.expect("these tests need a Python of 3.6 or later").version;
        let python = catalog.resolve(&format!("python{}.{}", newest.0, newest.1), Match::Exact).unwrap();
        let sink = Arc::new(Sink::default());
        let environments = Environments::new(
            sandboxes.clone(),
            catalog.clone(),
            sink.clone(),
            Arc::new(SystemClock::new()),
            Options::default(),
            None,
        );
        Self { sandboxes, environments, python, catalog, sink }
    }

    /// What an environment has logged so far, one string an event.
    pub fn log(&self, environment: &Environment) -> Vec<String> {
        self.log_of(environment.log_stream())
    }

    /// The same of an environment that may be gone.
    pub fn log_of(&self, stream: &str) -> Vec<String> {
        let all = self.sink.0.lock().unwrap();
        let events = all.get(stream).cloned().unwrap_or_default();
        events.iter().map(|e| String::from_utf8_lossy(&e.message).into_owned()).collect()
    }
}

/// A function to be: its files, and a spec that can be changed before it is used.
pub struct Function {
    pub spec: EnvironmentSpec,
    dir: tempfile::TempDir,
}

impl Function {
    /// Python, handler `app.handler`.
    pub fn python(world: &World, source: &str) -> Self {
        let function = Self::new(world.python.clone());
        function.file("app.py", source, 0o644);
        function
    }

    pub fn new(runtime: Resolved) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let place = Place { account: "000000000000".parse().unwrap(), region: "us-east-1".parse().unwrap() };
        let spec = EnvironmentSpec {
            place,
            function: "f".parse().unwrap(),
            version: "$LATEST".into(),
            arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
            role: "arn:aws:iam::000000000000:role/r".into(),
            runtime,
            handler: "app.handler".to_owned(),
            code: Arc::from(dir.path()),
            variables: vec![("GREETING".to_owned(), "hello".to_owned())],
            memory_mb: 128,
            timeout: Duration::from_secs(3),
            ephemeral_mb: 512,
            log_group: "/aws/lambda/f".into(),
            logging: flint_runtime::Logging::default(),
            layers: None,
            init_limit: Duration::from_secs(10),
        };
        Self { spec, dir }
    }

    pub fn file(&self, name: &str, text: &str, mode: u32) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn into_dir(self) -> tempfile::TempDir {
        self.dir
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub async fn create(&self, world: &World) -> Environment {
        world.environments.create(Arc::new(self.spec.clone()), None).await.expect("a sandbox")
    }
}

pub fn call(payload: &str) -> Call {
    Call {
        request_id: RequestId::random(),
        arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        client_context: None,
        trace: None,
        timeout: Duration::from_secs(3),
        max_response: flint_runtime::call::MAX_RESPONSE,
    }
}

pub fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.payload).expect("UTF-8")
}

pub fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.payload).unwrap_or_else(|e| panic!("{e}: {}", text(answer)))
}

/// Replaces what differs from run to run: the id, times and memory. `log` after this equals a golden text.
pub fn normal(log: &[String], id: RequestId) -> String {
    let number = |text: &str, what: &str| text.parse::<f64>().map_or_else(|_| text.to_owned(), |_| what.to_owned());
    let line = |line: &String| {
        let line = line.replace(&id.to_string(), "ID");
        if let Some((time, rest)) = line.split_once(" ID Task timed out") {
            assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
            return format!("TIME ID Task timed out{rest}").trim_end().to_owned();
        }
        if !line.starts_with("REPORT") && !line.starts_with("INIT_REPORT") {
            return line;
        }
        let field = |field: &str| match field.rsplit_once(": ") {
            Some((name @ ("Duration" | "Billed Duration" | "Init Duration" | "INIT_REPORT Init Duration"), value)) => {
                format!("{name}: {} ms", number(value.trim_end_matches(" ms"), "N"))
            }
            Some((name @ "Max Memory Used", value)) => {
                format!("{name}: {} MB", number(value.trim_end_matches(" MB"), "N"))
            }
            _ => field.to_owned(),
        };
        line.split('\t').map(field).collect::<Vec<_>>().join("<TAB>")
    };
    log.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A golden log: the section of `endings.log` with this name, with the lines that name its source left out.
pub fn golden(name: &str) -> String {
    let all = include_str!("../golden/endings.log");
    let lines = all.lines().skip_while(|l| *l != format!("## {name}")).skip(1);
    let text: Vec<&str> = lines.take_while(|l| !l.starts_with("## ")).filter(|l| !l.starts_with("# ")).collect();
    assert!(!text.is_empty(), "no golden log {name}");
    text.join("\n").trim_end().to_owned()
}
