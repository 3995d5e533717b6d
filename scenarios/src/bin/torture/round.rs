//! A round: a server, its clients, whatever is done to the server, and the judgement.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use scenarios::client::Client;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::host::Host;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::book::{Book, Finding, Totals};
use crate::ends::Ends;
use crate::functions;
use crate::ledger::Ledger;
use crate::load::{self, HIDDEN_S, Scene, Size};
use crate::node::Node;

/// Longest that anything of a server may be there after its end, or after the start of the next.
const GONE_MS: f64 = 3000.0;
/// In every so many lives the spawner is killed first.
const SPAWNER_EVERY: u32 = 4;
/// A second attempt comes after a minute.
const ATTEMPT_S: u64 = 60;

pub struct Round {
    pub node: Node,
    pub scene: Scene,
    lives: watch::Sender<Option<(u32, scenarios::server::Access)>>,
    rest: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
    life: u32,
    /// When each life began (CLOCK_MONOTONIC, nanoseconds).
    starts: Vec<u64>,
    size: Size,
    /// What traces the server from when all is prepared.
    pub tracer: Option<Vec<String>>,
}

impl Round {
    /// A round on a new data directory below `folder`; the server is not started yet.
    pub fn new(binary: &Path, folder: &Path, size: Size) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        Self::on(Node::new(binary, &folder.join("data")), &folder.join("ledger"), size)
    }

    pub fn on(node: Node, ledger: &Path, size: Size) -> Result<Self> {
        let (ledger, _thread) = Ledger::create(ledger)?;
        let ((lives, seen), (rest, resting)) = (watch::channel(None), watch::channel(false));
        let (book, ends) = (Arc::new(Mutex::new(Book::default())), Arc::new(Mutex::new(Ends::default())));
        let scene = Scene { book, ends, ledger, lives: seen, resting };
        Ok(Self { node, scene, lives, rest, tasks: JoinSet::new(), life: 0, starts: Vec::new(), size, tracer: None })
    }

    /// Starts the server and, the first time, the clients. Milliseconds until it was ready, or `None` if it died on the way.
    pub async fn start(&mut self, before: &[String]) -> Result<Option<f64>> {
        let began = monotonic_ns();
        let Some(ready) = self.node.start(before)? else { return Ok(None) };
        self.starts.push(began);
        let access = self.node.access()?;
        if self.life == 0 {
            if let Err(error) = load::prepare(&access, self.size).await {
                println!("  no queues: {error:#}");
                return Ok(None);
            }
            if let Some(strace) = self.tracer.take() {
                self.node.attach(&strace)?;
            }
            self.tasks = load::start(&self.scene, self.size);
        }
        self.life += 1;
        self.lives.send_replace(Some((self.life, access)));
        Ok(Some(ready))
    }

    /// The clients hear that it is down before it is.
    pub fn kill(&mut self) -> Result<()> {
        self.lives.send_replace(None);
        self.node.kill()
    }

    /// Likewise, and the next start; nothing of what ran in the life before may be there then. Milliseconds until it was ready.
    pub async fn kill_and_start(&mut self) -> Result<f64> {
        let host = Host::new(&self.node.data, [0, 0])?;
        let before: Vec<(u32, u64)> = host.processes().into_iter().filter_map(|pid| Some((pid, born(pid)?))).collect();
        if self.life.is_multiple_of(SPAWNER_EVERY) {
            // What it tells its clients on its way down holds as well.
            self.node.kill_spawner();
        }
        self.kill()?;
        let ready = self.start(&[]).await?.context("the server does not start again")?;
        let alive =
            || -> Vec<u32> { before.iter().filter(|(pid, at)| born(*pid) == Some(*at)).map(|(pid, _)| *pid).collect() };
        if !gone_in_time(|| alive().is_empty()).await {
            let why = format!("processes {:?} of life {}", alive(), self.life - 1);
            self.scene.book().findings.push(Finding::LeftBehind(why));
        }
        Ok(ready)
    }

    /// The server ended by itself.
    pub fn gone(&mut self) {
        self.lives.send_replace(None);
    }

    /// Nothing new is sent; waits until everything that was acknowledged came and the queues are empty, or until that can't be
    /// any more; judges.
    pub async fn settle(&mut self) -> Result<()> {
        self.rest.send_replace(true);
        let access = self.node.access()?;
        // What was out when the server died is hidden for so long; and then some, for a slow machine.
        let attempts = if self.size.callers > 0 { 2 * ATTEMPT_S } else { 0 };
        let limit = Duration::from_secs(HIDDEN_S * 3 + 20 + attempts);
        let settled = tokio::time::timeout(limit, async {
            loop {
                if let Some(ended) = self.tasks.try_join_next() {
                    ended??;
                }
                let quiet = self.scene.book().missing().is_empty() && self.scene.ends().missing().is_empty();
                if quiet && load::depth(&access, self.size).await? == 0 {
                    return Ok::<_, anyhow::Error>(());
                }
                if !self.node.is_up()? {
                    bail!("the server ended by itself while all was quiet");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        match settled.await {
            Ok(outcome) => outcome.context("settling")?,
            // The judgement says what is missing; and here whether the server or a client of ours is stuck.
            Err(_) => {
                let left = load::depth(&access, self.size).await?;
                let found = tokio::time::timeout(Duration::from_secs(5), async {
                    load::drain(&mut Client::to(&access).await?).await
                });
                println!("  not settled within {limit:?}: {left} left in the queues; a new client: {:?}", found.await);
            }
        }
        if self.size.callers > 0 {
            let scene = self.scene.clone();
            functions::read_logs(&access, &self.starts, |id, run| scene.ends().ran(id, run)).await?;
        }
        self.scene.book().close();
        let findings = self.scene.ends().judge();
        self.scene.book().findings.extend(findings);
        Ok(())
    }

    /// Ends everything, the server as well, of which nothing may be left; adds what was found. Whether all is well.
    pub async fn judged(mut self, totals: &mut Totals) -> Result<bool> {
        self.stop().await?;
        let host = Host::new(&self.node.data, [0, 0])?;
        if !gone_in_time(|| host.holdings().is_empty_of_kernel()).await {
            let left = host.holdings().rows().map(|(name, count)| format!("{count} {name}")).join(", ");
            self.scene.book().findings.push(Finding::LeftBehind(left));
        }
        totals.add(&self.scene.book(), &self.scene.ends());
        Ok(self.scene.book().findings.is_empty())
    }

    /// Ends everything, the server as well.
    pub async fn stop(&mut self) -> Result<()> {
        self.lives.send_replace(None);
        self.tasks.shutdown().await;
        self.node.stop()
    }
}

async fn gone_in_time(gone: impl Fn() -> bool) -> bool {
    let began = monotonic_ns();
    while ms(began, monotonic_ns()) < GONE_MS {
        if gone() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gone()
}

/// When a process began, in clock ticks; with its number that tells it apart from any other.
fn born(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A name may hold anything; behind its last parenthesis come numbers: the 22nd field is the 20th of them.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
