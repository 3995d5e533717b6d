//! A thousand functions: what the server costs idle, and how soon it serves again.

use std::path::Path;

use anyhow::Result;
use scenarios::client::Client;
use scenarios::figures::{Series, report};
use scenarios::server::Server;
use scenarios::usage::pss_mib;

use crate::kinds::zipped;

const FUNCTIONS: usize = 1000;
const CALLERS: usize = 8;
const RESTARTS: usize = 5;

pub async fn run(binary: &Path) -> Result<()> {
    let mut server = Server::start(binary)?;
    let python = server.newest("python3.", "")?.identifier;
    let mut tasks = Vec::new();
    for caller in 0..CALLERS {
        let (mut client, python) = (Client::connect(&server).await?, python.clone());
        tasks.push(tokio::spawn(async move {
            for n in (caller..FUNCTIONS).step_by(CALLERS) {
                let code = format!("def handler(event, context):\n    return {n}\n");
                let archive = zipped("app.py", code.as_bytes())?;
                client.create(&format!("thousand-{n}"), &python, "app.handler", &archive).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    println!("{FUNCTIONS} functions, idle: proportional share of memory of server and spawner; start to ready");
    idle(&server, "after the deploys", "thousand_deployed_pss").await?;
    let mut ready = Series::default();
    for _ in 0..RESTARTS {
        let (again, restart) = server.restart()?;
        server = again;
        ready.push(restart.ready_ms);
    }
    idle(&server, "after a restart", "thousand_pss").await?;
    println!("  start to ready      {} ms", ready.summary());
    report("thousand_ready", ready.percentile(50.0), "ms")?;
    // One of them, to see that they are there.
    let body = Client::connect(&server).await?.invoke("thousand-999", "null".into()).await?;
    anyhow::ensure!(body == "999", "thousand-999 answered {body:?}");
    Ok(())
}

async fn idle(server: &Server, when: &str, figure: &str) -> Result<()> {
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let [own, spawner] = server.pids()?;
    let (own, spawner) = (pss_mib(own)?, pss_mib(spawner)?);
    println!("  {when:<19} {:6.1} MiB (server {own:.1}, spawner {spawner:.1})", own + spawner);
    report(figure, own + spawner, "MiB")
}
