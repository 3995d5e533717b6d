//! Which room leans on which: the table in ARCHITECTURE.md against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::cmd;

const BEGIN: &str = "<!-- arrows: begin -->";
const END: &str = "<!-- arrows: end -->";

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Every arrow in the manifests is in the table, every arrow in the table is used, every room has a row.
///
/// Arrows of tests count as well; `xtask` and `scenarios` stand beside the house and have no row.
pub fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let page = std::fs::read_to_string(cmd::root().join("ARCHITECTURE.md"))?;
    let allowed = parse(&page).context("ARCHITECTURE.md has no arrow table")?;
    Ok(compare(&allowed, &real(metadata)))
}

fn compare(allowed: &Arrows, real: &Arrows) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (room, leans) in real {
        match allowed.get(room) {
            None => findings.push(format!("{room} has no row in ARCHITECTURE.md's table")),
            Some(may) => findings.extend(leans.difference(may).map(|to| format!("{room} -> {to} is not in the table"))),
        }
    }
    for (room, may) in allowed {
        match real.get(room) {
            None => findings.push(format!("the table's {room} is no crate")),
            Some(leans) => {
                findings.extend(may.difference(leans).map(|to| format!("{room} -> {to} is in the table but unused")));
            }
        }
    }
    findings
}

/// Rows `| crate | purpose | may lean on |` between the two markers.
fn parse(page: &str) -> Option<Arrows> {
    let table = page.split_once(BEGIN)?.1.split_once(END)?.0;
    let mut arrows = Arrows::new();
    for line in table.lines().filter(|line| line.contains('`')) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').collect();
        let [room, .., leans] = cells.as_slice() else { return None };
        arrows.insert(quoted(room).next()?.to_owned(), quoted(leans).map(str::to_owned).collect());
    }
    Some(arrows)
}

/// The words between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn real(metadata: &Value) -> Arrows {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rooms = packages.iter().filter(|p| p["source"].is_null() && is_room(p["name"].as_str().unwrap_or_default()));
    rooms
        .map(|package| {
            let name = package["name"].as_str().unwrap_or_default();
            let leans = package["dependencies"].as_array().into_iter().flatten();
            let leans = leans.filter(|d| d["path"].is_string()).filter_map(|d| d["name"].as_str());
            (name.to_owned(), leans.filter(|to| *to != name).map(str::to_owned).collect())
        })
        .collect()
}

fn is_room(name: &str) -> bool {
    name == "flint" || name.starts_with("flint-")
}

/// Each crate takes the workspace's lints and has at most one integration-test binary.
pub fn furniture(metadata: &Value) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten().filter(|p| p["source"].is_null()) {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = package["manifest_path"].as_str().context("a package without a manifest")?;
        let manifest = std::fs::read_to_string(manifest)?;
        if !manifest.contains("[lints]\nworkspace = true") {
            findings.push(format!("{name} does not take the workspace's lints"));
        }
        let targets = package["targets"].as_array().into_iter().flatten();
        if targets.filter(|t| t["kind"][0] == "test").count() > 1 {
            findings.push(format!("{name} has several integration-test binaries; one is enough (tests/it/main.rs)"));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "x\n<!-- arrows: begin -->\n| room | purpose | may lean on |\n|---|---|---|\n\
        | `flint-a` | first | – |\n| `flint-b` | second | `flint-a` |\n<!-- arrows: end -->\n";

    fn arrows(rows: &[(&str, &[&str])]) -> Arrows {
        rows.iter().map(|(room, to)| ((*room).to_owned(), to.iter().map(|s| (*s).to_owned()).collect())).collect()
    }

    #[test]
    fn the_table_is_read() {
        assert_eq!(parse(PAGE), Some(arrows(&[("flint-a", &[]), ("flint-b", &["flint-a"])])));
        assert_eq!(parse("no table"), None);
    }

    #[test]
    fn differences_are_found_both_ways() {
        let allowed = parse(PAGE).expect("a table");
        assert!(compare(&allowed, &allowed).is_empty());
        let upward = arrows(&[("flint-a", &["flint-b"]), ("flint-b", &[]), ("flint-c", &[])]);
        assert_eq!(
            compare(&allowed, &upward),
            [
                "flint-a -> flint-b is not in the table",
                "flint-c has no row in ARCHITECTURE.md's table",
                "flint-b -> flint-a is in the table but unused",
            ]
        );
    }
}
