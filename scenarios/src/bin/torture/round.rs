//! A round: a server, its clients, whatever is done to the server, and the judgement.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::book::Book;
use crate::ledger::Ledger;
use crate::load::{self, HIDDEN_S, Scene, Size};
use crate::node::Node;

pub struct Round {
    pub node: Node,
    pub scene: Scene,
    lives: watch::Sender<Option<(u32, scenarios::server::Access)>>,
    rest: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
    life: u32,
    size: Size,
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
        let scene = Scene { book: Arc::new(Mutex::new(Book::default())), ledger, lives: seen, resting };
        Ok(Self { node, scene, lives, rest, tasks: JoinSet::new(), life: 0, size })
    }

    /// Starts the server and, the first time, the clients. Milliseconds until it was ready, or `None` if it died on the way.
    pub async fn start(&mut self, before: &[String]) -> Result<Option<f64>> {
        let Some(ready) = self.node.start(before)? else { return Ok(None) };
        let access = self.node.access()?;
        if self.life == 0 {
            if let Err(error) = load::prepare(&access).await {
                println!("  no queues: {error:#}");
                return Ok(None);
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
        let limit = Duration::from_secs(HIDDEN_S * 3 + 20);
        let settled = tokio::time::timeout(limit, async {
            loop {
                if let Some(ended) = self.tasks.try_join_next() {
                    ended??;
                }
                if self.scene.book().missing().is_empty() && load::depth(&access).await? == 0 {
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
            // The judgement says what is missing.
            Err(_) => println!("  not settled within {limit:?}: {} left in the queues", load::depth(&access).await?),
        }
        self.scene.book().close();
        Ok(())
    }

    /// Ends everything, the server as well.
    pub async fn end(mut self) -> Result<()> {
        self.lives.send_replace(None);
        self.tasks.shutdown().await;
        self.node.stop()
    }
}
