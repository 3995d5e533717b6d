//! Sizes and manners of hand-written files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Finding;
use crate::cmd;

/// The most lines that a hand-written file may have.
const LINES_MAX: usize = 700;

/// The files of the project, relative to its root: tracked ones and new ones that are not ignored.
pub fn listed() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(cmd::root()).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    let names = cmd::output(&mut git)?;
    let names = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    Ok(names.filter(|path| cmd::root().join(path).is_file()).collect())
}

/// No hand-written source is too long, and no test is switched off.
pub fn check(files: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in files.iter().filter(|path| is_source(path)) {
        let bytes = std::fs::read(cmd::root().join(path))?;
        let text = String::from_utf8_lossy(&bytes);
        if is_generated(&text) {
            continue;
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            findings.push(format!("{}: {lines} lines, the limit is {LINES_MAX}", path.display()));
        }
        findings.extend(manners(path, &text));
    }
    Ok(findings)
}

fn manners(path: &Path, text: &str) -> Vec<Finding> {
    // Spelt apart so that this file does not find itself.
    let ignored = concat!("#[", "ignore");
    let skipped = concat!("pytest.mark.", "skip");
    let todo = concat!("TO", "DO");
    let rules = [
        (ignored, "an ignored test"),
        (skipped, "a skipped test"),
        (todo, "an unfinished thought"),
        ("dbg!(", "a dbg!"),
    ];
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (needle, what) in rules {
            if line.contains(needle) && !line.contains("\"dbg!(\"") {
                findings.push(format!("{}:{}: {what}", path.display(), number + 1));
            }
        }
    }
    findings
}

fn is_source(path: &Path) -> bool {
    matches!(path.extension().and_then(|e| e.to_str()), Some("rs" | "py" | "sh" | "md" | "mjs" | "js" | "toml"))
}

/// Generated files say so in their first lines.
fn is_generated(text: &str) -> bool {
    text.lines().take(5).any(|line| line.contains("@generated"))
}
