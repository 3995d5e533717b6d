//! What the walls cost: launches and a system-call-heavy program with all of them, without any, and without each one.
//!
//! `cargo run --release -p flint-sandbox --features bench --example walls_bench`, as root; prints `name value unit`
//! lines behind what it tells in words. The variants take turns in one run, with a pause before each launch: tight loops
//! hide what a cold start costs. Root, code, `/tmp`, network and cgroups are the same in all of them.

use std::io::{Read as _, Seek as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use flint_base::{Clock as _, SystemClock};
use flint_model::ByteCount;
use flint_sandbox::{Launch, Options, RUNTIME_API, RootId, RootSpec, Sandboxes, Wall, Walls, spawner};
use tokio::io::AsyncReadExt as _;

/// Launches of each variant.
const LAUNCHES: usize = 60;
/// Launches without one wall each, of which nothing is promised.
const SINGLE_LAUNCHES: usize = 30;
const PAUSE: Duration = Duration::from_millis(60);

/// Runs of the system-call-heavy program with all walls and without; batches in each, rounds in each batch.
const RUNS: usize = 24;
const BATCHES: usize = 30;
const ROUNDS: usize = 300;

fn main() {
    let role = std::env::args().nth(1);
    match role.as_deref() {
        None => measure(),
        Some("ready") => {
            let mut connection = TcpStream::connect(RUNTIME_API).expect("the listener is there");
            // Until the other side has seen it and lets go.
            let _ = connection.read(&mut [0]);
        }
        Some("calls") => calls(),
        Some(other) => panic!("there is no role {other}"),
    }
}

fn measure() {
    let options = Options::new(format!("ba{:x}", std::process::id()), 64_990, 64_990);
    let channel = spawner::start(&options).expect("this needs root and cgroups");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let sandboxes = Sandboxes::new(channel, options).expect("a handle");
        let bench = Bench::new(sandboxes).await;
        bench.cold().await;
        bench.busy().await;
    });
}

struct Bench {
    sandboxes: Sandboxes,
    root: RootId,
    /// Holds this program.
    code: tempfile::TempDir,
    clock: SystemClock,
}

impl Bench {
    async fn new(sandboxes: Sandboxes) -> Self {
        let root = sandboxes.define_root(RootSpec::default()).await.expect("a root");
        let code = tempfile::tempdir().expect("a directory");
        let own = std::env::current_exe().expect("a path");
        std::fs::copy(own, code.path().join("program")).expect("a copy");
        let open: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(code.path(), open).expect("a mode");
        Self { sandboxes, root, code, clock: SystemClock::new() }
    }

    fn launch(&self, role: &str, walls: Walls) -> Launch {
        let argv = ["/var/task/program", role].map(Into::into).to_vec();
        let code = std::fs::File::open(self.code.path()).expect("it is there");
        Launch { walls, code: Some(Arc::new(code.into())), ..Launch::new(self.root, argv, ByteCount::from_mib(128)) }
    }

    /// Milliseconds from the request to the program's connection; the sandbox is gone after it.
    async fn start(&self, walls: Walls) -> f64 {
        tokio::time::sleep(PAUSE).await;
        let launch = self.launch("ready", walls);
        let began = self.clock.monotonic();
        let mut sandbox = self.sandboxes.launch(launch).await.expect("a launch");
        let listener = sandbox.take_listener().expect("a listener");
        let connection = tokio::select! {
            connection = listener.accept() => connection.expect("the program connects"),
            exit = sandbox.exited() => panic!("{walls:?}: the program ended before it connected: {exit:?}"),
        };
        let took = self.clock.monotonic() - began;
        drop((connection, listener));
        sandbox.gone().await;
        took.as_secs_f64() * 1000.0
    }

    async fn cold(&self) {
        let (mut all, mut none) = (Vec::new(), Vec::new());
        for _ in 0..LAUNCHES {
            all.push(self.start(Walls::default()).await);
            none.push(self.start(without_any()).await);
        }
        println!(
            "launch to the program's connection, milliseconds, {LAUNCHES} of each, {} ms pauses",
            PAUSE.as_millis()
        );
        println!("  all walls     {}", summary(&mut all));
        println!("  none          {}", summary(&mut none));
        let mut singles: Vec<(Wall, Vec<f64>)> = Wall::ALL.map(|wall| (wall, Vec::new())).into();
        let mut beside = Vec::new();
        for _ in 0..SINGLE_LAUNCHES {
            beside.push(self.start(Walls::default()).await);
            for (wall, series) in &mut singles {
                series.push(self.start(without(*wall)).await);
            }
        }
        let beside = median(&mut beside);
        for (wall, series) in &mut singles {
            println!("  {:<13} {:8.3} less without it", format!("{wall:?}"), beside - median(series));
        }
        println!("walls_cold_ms {:.3} ms", median(&mut all) - median(&mut none));
    }

    /// Nanoseconds of each batch of a run of the busy program.
    async fn run(&self, walls: Walls) -> Vec<f64> {
        let mut sandbox = self.sandboxes.launch(self.launch("calls", walls)).await.expect("a launch");
        let (mut out, mut err) = sandbox.take_output().expect("it has output");
        let (mut text, mut errors) = (String::new(), String::new());
        let (a, b) = tokio::join!(out.read_to_string(&mut text), err.read_to_string(&mut errors));
        a.and(b).expect("readable output");
        sandbox.gone().await;
        let batches: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        assert_eq!(batches.len(), BATCHES, "{errors}");
        batches
    }

    async fn busy(&self) {
        let variants: Vec<(String, Walls)> =
            [("all walls".to_owned(), Walls::default()), ("none".to_owned(), without_any())]
                .into_iter()
                .chain([Wall::Filter, Wall::Landlock].map(|w| (format!("without {w:?}"), without(w))))
                .collect();
        let mut series: Vec<Vec<f64>> = vec![Vec::new(); variants.len()];
        for _ in 0..RUNS {
            for ((_, walls), series) in variants.iter().zip(&mut series) {
                series.extend(self.run(*walls).await);
            }
        }
        println!(
            "{ROUNDS} rounds of {CALLS} system calls, microseconds a round, {RUNS} runs of {BATCHES} batches each"
        );
        let medians: Vec<f64> = series.iter_mut().map(|s| median(s) / ROUNDS as f64 / 1000.0).collect();
        for ((name, _), median) in variants.iter().zip(&medians) {
            println!("  {name:<17} {median:8.3}  {:+.2} % over none", (median / medians[1] - 1.0) * 100.0);
        }
        println!("walls_calls_percent {:.3} %", (medians[0] / medians[1] - 1.0) * 100.0);
    }
}

/// All but one. Without a user namespace there are no capabilities left to drop, nor the right to: both go.
fn without(wall: Wall) -> Walls {
    let walls = Walls::default().without(wall);
    if wall == Wall::User { walls.without(Wall::Capabilities) } else { walls }
}

fn without_any() -> Walls {
    Wall::ALL.into_iter().fold(Walls::default(), Walls::without)
}

fn median(series: &mut [f64]) -> f64 {
    series.sort_by(f64::total_cmp);
    series[series.len() / 2]
}

fn summary(series: &mut [f64]) -> String {
    let median = median(series);
    let at = |percent: usize| series[(series.len() - 1) * percent / 100];
    format!("p10 {:8.3}  median {median:8.3}  p90 {:8.3}  p99 {:8.3}", at(10), at(90), at(99))
}

/// System calls in a round of [`calls`].
const CALLS: usize = 14;

/// A function that does little else than call the kernel: looks for files, reads, writes, and talks over loopback.
fn calls() {
    let clock = SystemClock::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let mut server = listener.accept().expect("the other side").0;
    client.set_nodelay(true).expect("an option");
    server.set_nodelay(true).expect("an option");
    let options = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).to_owned();
    let mut scratch = options.open("/tmp/scratch").expect("a file");
    let (mut out, mut reader) = (std::io::stdout().lock(), [0_u8; 4096]);
    let mut round = |client: &mut TcpStream, server: &mut TcpStream, buffer: &mut [u8; 4096]| {
        // statx, statx of what is not there
        std::fs::metadata("/etc/hosts").expect("it is there");
        assert!(std::fs::metadata("/var/task/absent").is_err());
        // openat, read, close
        let mut file = std::fs::File::open("/var/task/program").expect("it is there");
        file.read_exact(buffer).expect("4 KiB");
        drop(file);
        // pwrite64 twice, pread64, statx, lseek
        scratch.write_all_at(buffer, 0).expect("space");
        scratch.write_all_at(&buffer[..100], 8192).expect("space");
        scratch.read_exact_at(buffer, 0).expect("4 KiB");
        scratch.metadata().expect("it is open");
        scratch.rewind().expect("a file");
        // sendto, recvfrom, there and back
        client.write_all(&buffer[..200]).expect("sent");
        server.read_exact(&mut buffer[..200]).expect("received");
        server.write_all(&buffer[..1000]).expect("sent");
        client.read_exact(&mut buffer[..1000]).expect("received");
    };
    for batch in 0..=BATCHES {
        let began = clock.monotonic();
        for _ in 0..ROUNDS {
            round(&mut client, &mut server, &mut reader);
        }
        // The first warms up.
        if batch > 0 {
            writeln!(out, "{}", (clock.monotonic() - began).as_nanos()).expect("a pipe");
        }
    }
}
