//! Power cuts: the server runs on ext4 on a disk of our own; a picture of that disk at any moment is mounted, and a server
//! started on it must have every message that was acknowledged before.
//!
//! The control is the same with a kernel that lies: `strace` answers the syncs in the kernel's place. It must lose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flint_store::testing::Rng;
use scenarios::client::Client;
use scenarios::figures::report;
use tokio::task::block_in_place;

use crate::book::Totals;
use crate::fuse::{Disk, Keep};
use crate::load::{self, Size};
use crate::node::Node;
use crate::round::Round;
use crate::scratch::{Mount, Scratch};

/// Room for a log with its spares.
const DISK: u64 = 512 << 20;
/// No sinks: what was acknowledged stays in its queue.
const SIZE: Size =
    Size { senders: 4, groups: 4, sinks: 0, callers: 0, attempts: false, pause: Duration::from_millis(12) };
/// Pictures of one run; then a disk of its own again.
const PER_RUN: u64 = 5;

pub async fn run(binary: &Path, images: u64) -> Result<()> {
    let (mut taken, mut lost, mut totals) = (0, 0, Totals::default());
    while taken < images {
        let count = PER_RUN.min(images - taken);
        lost += one_run(binary, &[], count, Some(&mut totals)).await?;
        taken += count;
    }
    println!("{taken} power cuts: {lost} acknowledged messages lost");
    report("power_loss_images", taken as f64, "")?;
    report("acknowledged_lost", lost as f64, "")?;
    report("order_violations", totals.order as f64, "")?;

    let lies = [
        "strace",
        "-f",
        "-qqq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync,fsync",
        "-e",
        "inject=fdatasync,fsync:retval=0",
    ];
    let lies: Vec<String> = lies.iter().map(ToString::to_string).collect();
    let control = one_run(binary, &lies, 2, None).await?;
    println!("the control, with syncs that lie: {control} lost");
    report("control_lost", control as f64, "")?;
    ensure!(lost == 0 && totals.order == 0, "a power cut lost what was acknowledged");
    ensure!(control > 0, "the control must lose: the pictures prove nothing");
    Ok(())
}

/// One server on one disk, and `count` pictures of it. Acknowledged messages that are missing from them.
async fn one_run(binary: &Path, before: &[String], count: u64, mut totals: Option<&mut Totals>) -> Result<u64> {
    let folder = Scratch::new()?;
    let disk = Disk::mount(folder.path(), DISK)?;
    let mounted = block_in_place(|| Mount::make(&disk.file(), &folder.path().join("mnt"), true))?;
    let mut rng = Rng::new(scenarios::clock::monotonic_ns());
    let mut round = Round::on(Node::new(binary, &mounted.path.join("data")), &folder.path().join("ledger"), SIZE)?;
    round.start(before).await?.context("the server does not start on the disk")?;
    let mut lost = 0;
    for n in 0..count {
        tokio::time::sleep(Duration::from_millis(200 + rng.below(1500))).await;
        // First what must be there, then the picture.
        let acknowledged = round.scene.book().acknowledged_ids();
        let keep = match totals {
            Some(_) => [Keep::Nothing, Keep::Half, Keep::Half, Keep::All][rng.below(4) as usize],
            None => Keep::Nothing,
        };
        let image = folder.path().join(format!("image-{n}"));
        block_in_place(|| disk.picture(&image, keep, &mut rng))?;
        let found = look(binary, &image, &folder.path().join(format!("look-{n}"))).await;
        let found = match (&totals, found) {
            (_, Ok(found)) => found,
            // The control may lose everything, the file system included.
            (None, Err(_)) => Vec::new(),
            (Some(_), Err(e)) => return Err(e.context(format!("picture {n}, {keep:?}"))),
        };
        let there: BTreeSet<&str> = found.iter().map(String::as_str).collect();
        let missing = acknowledged.iter().filter(|id| !there.contains(id.as_str())).count() as u64;
        println!("  {keep:?}: {} acknowledged, {} there, {missing} lost", acknowledged.len(), found.len());
        lost += missing;
        if let Some(totals) = &mut totals {
            totals.acknowledged += acknowledged.len() as u64;
            totals.order += u64::from(!in_order(&found));
        }
        std::fs::remove_file(image)?;
    }
    println!("  {} syncs reached the disk", disk.syncs());
    // As the machine would: nothing is brought to an end.
    round.kill()?;
    round.stop().await?;
    drop(mounted);
    Ok(lost)
}

/// Starts a server on a picture and takes everything out of its queues.
async fn look(binary: &Path, image: &Path, at: &Path) -> Result<Vec<String>> {
    let mounted = block_in_place(|| Mount::make(image, at, false))?;
    let mut node = Node::new(binary, &mounted.path.join("data"));
    node.start(&[])?.context("the server does not start on the picture")?;
    let access = node.access()?;
    let mut client = Client::to(&access).await?;
    let found = load::drain(&mut client).await;
    node.stop()?;
    found
}

/// Whether each group's messages came in their order and without gaps.
fn in_order(found: &[String]) -> bool {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    found.iter().filter_map(|id| id.strip_prefix("f-")?.split_once('-')).all(|(group, n)| {
        let (before, n) = (last.entry(group).or_default(), n.parse().unwrap_or(0));
        let is_next = n == *before + 1;
        *before = n;
        is_next
    })
}
