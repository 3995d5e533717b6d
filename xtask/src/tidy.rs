//! `cargo xtask tidy`: what a compiler does not see.
//!
//! Every rule prints all its findings; the command fails when there is one.

mod arrows;
mod files;
mod licences;
mod links;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::cmd;

/// One broken rule, as a line for a person.
type Finding = String;

pub fn run() -> Result<()> {
    let text = cmd::output(cmd::cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let files = files::listed()?;

    let rules: [(&str, Vec<Finding>); 6] = [
        ("arrows between rooms", arrows::check(&metadata)?),
        ("furniture of the rooms", arrows::furniture(&metadata)?),
        ("licences of dependencies", licences::check(&metadata)),
        ("hand-written files", files::check(&files)?),
        ("links and paths in documents", links::check(&files)?),
        ("generated files", generated()?),
    ];
    let mut broken = 0;
    for (rule, findings) in &rules {
        println!("tidy: {rule}: {}", if findings.is_empty() { "ok" } else { "BROKEN" });
        for finding in findings {
            println!("  {finding}");
        }
        broken += findings.len();
    }
    if broken > 0 {
        bail!("tidy found {broken} broken rule(s)");
    }
    Ok(())
}

/// The shape tables are what `codegen` would write today.
fn generated() -> Result<Vec<Finding>> {
    let check = std::process::Command::new(std::env::current_exe()?).args(["codegen", "--check"]).output()?;
    if check.status.success() {
        return Ok(Vec::new());
    }
    let told = String::from_utf8_lossy(&check.stderr).into_owned() + &String::from_utf8_lossy(&check.stdout);
    Ok(told.lines().map(str::to_owned).collect())
}
