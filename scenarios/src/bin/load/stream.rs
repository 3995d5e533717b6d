//! Response streams: how soon the first byte is there, and what a long one costs the server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use scenarios::client::Client;
use scenarios::clock::{monotonic_ns, ms};
use scenarios::figures::{Series, report};
use scenarios::server::Server;
use scenarios::usage::{forget_peak, peak_mib, rss_mib};

use crate::kinds::zipped;

const CALLS: usize = 50;
const PAUSE: Duration = Duration::from_millis(60);
const LONG: usize = 100 << 20;

/// Without a size: the moment of the first write, then silence, then the end.
const HANDLER: &str = "
const { once } = require('events');
const chunk = Buffer.alloc(65536, 'x');
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  if (event.size) {
    for (let n = 0; n < event.size; n += chunk.length) if (!stream.write(chunk)) await once(stream, 'drain');
  } else {
    stream.write(`at:${process.hrtime.bigint()};`);
    await new Promise((done) => setTimeout(done, 100));
  }
  stream.end();
});
";

pub async fn run(binary: &Path) -> Result<()> {
    let server = Server::start(binary)?;
    let node = server.newest("nodejs", ".x")?.identifier;
    let mut client = Client::connect(&server).await?;
    client.create("stream", &node, "app.handler", &zipped("app.js", HANDLER.as_bytes())?).await?;

    let mut first = Series::default();
    for n in 0..=CALLS {
        tokio::time::sleep(PAUSE).await;
        let mut body = client.stream("stream", "{}".into()).await?;
        let (text, seen) = match frame(&mut body).await? {
            Some(text) => (text, monotonic_ns()),
            None => anyhow::bail!("an empty stream"),
        };
        while frame(&mut body).await?.is_some() {}
        // The first call starts an environment.
        if n > 0 {
            first.push(ms(written(&text)?, seen));
        }
    }
    println!("response streams, milliseconds and MiB");
    println!("  first write to first byte {}", first.summary());
    report("stream_first_byte_p50", first.percentile(50.0), "ms")?;
    report("stream_first_byte_p99", first.percentile(99.0), "ms")?;

    let [pid, _] = server.pids()?;
    forget_peak(pid)?;
    let before = rss_mib(pid)?;
    let began = monotonic_ns();
    let mut body = client.stream("stream", format!("{{\"size\":{LONG}}}").into()).await?;
    let mut length = 0;
    while let Some(bytes) = frame(&mut body).await? {
        length += bytes.len();
    }
    let took = ms(began, monotonic_ns()) / 1000.0;
    ensure!(length >= LONG, "the stream ended after {length} bytes");
    let more = peak_mib(pid)? - before;
    println!("  a stream of 100 MiB       +{more:.1} MiB on {before:.1} MiB, {:.0} MiB/s", 100.0 / took);
    report("stream_100mb_memory", more, "MiB")?;
    report("stream_rate", 100.0 / took, "MiB_per_s")
}

/// The next bytes of a body.
async fn frame(body: &mut Incoming) -> Result<Option<Bytes>> {
    loop {
        let Some(frame) = body.frame().await else { return Ok(None) };
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
}

/// The moment that the handler wrote.
fn written(event: &[u8]) -> Result<u64> {
    let text = String::from_utf8_lossy(event);
    let (_, rest) = text.split_once("at:").context("the first write is not in the first bytes")?;
    let (digits, _) = rest.split_once(';').context("a moment")?;
    Ok(digits.parse()?)
}
