//! Links and paths in the documents lead somewhere.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Finding;
use crate::cmd;

/// Relative links of every document exist; so do the paths that ARCHITECTURE.md and SPECIFICATION.md name.
pub fn check(files: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = std::fs::read_to_string(cmd::root().join(path))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for target in links(&text) {
            if !cmd::root().join(folder).join(target).exists() {
                findings.push(format!("{}: the link `{target}` leads nowhere", path.display()));
            }
        }
        if ["ARCHITECTURE.md", "SPECIFICATION.md"].iter().any(|name| path == Path::new(name)) {
            for named in paths(&text) {
                if !cmd::root().join(named).exists() {
                    findings.push(format!("{}: the path `{named}` does not exist", path.display()));
                }
            }
        }
    }
    Ok(findings)
}

/// Targets of `[text](target)` that are files, without their fragment.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("](").filter_map(|(at, open)| {
        let target = text[at + open.len()..].split(')').next()?;
        let target = target.split('#').next()?;
        (!target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")).then_some(target)
    })
}

/// Words in backticks that look like a path of this repository.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    const ROOTS: [&str; 7] = ["crates/", "xtask/", "scenarios/", "docs/", "examples/", ".ci/", ".cargo/"];
    let words = text.split('`').skip(1).step_by(2);
    words
        .filter(|word| ROOTS.iter().any(|root| word.starts_with(root)) && !word.contains(['*', ' ', '<', '{']))
        .map(|word| word.split("::").next().unwrap_or(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_paths_are_found() {
        let text = "[a](docs/a.md#x) [b](https://x) [c](#here) `crates/x/src/y.rs::test` `cargo x` `crates/*/src`";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md"]);
        assert_eq!(paths(text).collect::<Vec<_>>(), ["crates/x/src/y.rs"]);
    }
}
