//! How long a server with full queues takes to serve again after `kill -9`, and what it holds in memory then.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::report;
use scenarios::lean::{Lean, sqs};
use scenarios::server::Server;
use scenarios::usage::rss_mib;
use serde_json::{Value, json};

use crate::queue::fill;

/// Restarts of each size; the median counts.
const ROUNDS: usize = 5;

pub async fn run(binary: &Path) -> Result<()> {
    println!(
        "restart: queued messages of 256 bytes, kill -9, until a message of the queue is received; medians of {ROUNDS}"
    );
    for (name, count) in [("100k", 100_000), ("1m", 1_000_000)] {
        let mut server = Server::start(binary)?;
        let url = fill(&server, "full", count).await?;
        let (mut times, mut ready, mut memory) = (Vec::new(), Vec::new(), 0.0f64);
        for round in 0..ROUNDS {
            let (next, began, ready_ns) = server.kill_and_start()?;
            server = next;
            let asked = monotonic_ns();
            let received = receive(&server, &url).await?;
            if received == 0 {
                bail!("nothing was received after restart {round}");
            }
            // Without the time of the command that this program asks for its keys.
            times.push(ms(began, ready_ns) + ms(asked, monotonic_ns()));
            ready.push(ms(began, ready_ns));
            let told = counted(&server, &url).await?;
            let taken = ((round + 1) * 10) as u64;
            let queued = count as u64 / 640 * 640;
            if told + taken < queued || told > queued {
                bail!("{told} messages are said to be there, of {queued}, {taken} of them received");
            }
            memory = memory.max(rss_mib(server.pids()?[0])?);
        }
        times.sort_by(f64::total_cmp);
        ready.sort_by(f64::total_cmp);
        let (median, ready) = (times[ROUNDS / 2], ready[ROUNDS / 2]);
        println!(
            "  {name:>4} queued: {median:7.0} ms to the first message, {ready:7.0} ms to ready, {memory:6.0} MiB resident"
        );
        report(&format!("restart_{name}_ms"), median, "ms")?;
        report(&format!("restart_{name}_resident_mib"), memory, "mib")?;
    }
    Ok(())
}

async fn ask(server: &Server, operation: &str, document: Value) -> Result<Value> {
    let access = server.access();
    let mut lean = Lean::connect(&access.address, Bytes::new()).await?;
    let answer = lean.exchange(&sqs(&access, operation, document.to_string().as_bytes())?).await?;
    Ok(serde_json::from_slice(answer)?)
}

async fn receive(server: &Server, url: &str) -> Result<usize> {
    let asked = json!({ "QueueUrl": address(server, url)?, "MaxNumberOfMessages": 10 });
    let answer = ask(server, "ReceiveMessage", asked).await?;
    Ok(answer["Messages"].as_array().map_or(0, Vec::len))
}

async fn counted(server: &Server, url: &str) -> Result<u64> {
    let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
    let asked = json!({ "QueueUrl": address(server, url)?, "AttributeNames": names });
    let answer = ask(server, "GetQueueAttributes", asked).await?;
    let number = |name: &str| answer["Attributes"][name].as_str()?.parse::<u64>().ok();
    number(names[0]).zip(number(names[1])).map(|(a, b)| a + b).context("counts")
}

/// The queue's address on a server that has another port now.
fn address(server: &Server, url: &str) -> Result<String> {
    let path = url.splitn(4, '/').nth(3).context("an address")?;
    Ok(format!("http://{}/{path}", server.address))
}
