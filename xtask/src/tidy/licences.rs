//! Licences of everything that is linked or used to build.

use serde_json::Value;

use super::Finding;

/// What a dependency may be under. A licence exception (`WITH`) only adds permissions.
const ALLOWED: [&str; 11] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "CC0-1.0",
];

/// Every package states a licence that we may take.
pub fn check(metadata: &Value) -> Vec<Finding> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter_map(|package| {
            let name = package["name"].as_str().unwrap_or("?");
            match package["license"].as_str() {
                Some(licence) if acceptable(licence) => None,
                Some(licence) => Some(format!("{name}: `{licence}` is not on the list")),
                None => Some(format!("{name}: states no licence")),
            }
        })
        .collect()
}

/// Evaluates an SPDX expression (old crates write `/` for `OR`).
fn acceptable(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest) && rest.is_empty()
}

fn any_of(words: &mut &[&str]) -> bool {
    let mut verdict = all_of(words);
    while take(words, "OR") {
        verdict |= all_of(words);
    }
    verdict
}

fn all_of(words: &mut &[&str]) -> bool {
    let mut verdict = one(words);
    while take(words, "AND") {
        verdict &= one(words);
    }
    verdict
}

fn one(words: &mut &[&str]) -> bool {
    if take(words, "(") {
        let verdict = any_of(words);
        return take(words, ")") && verdict;
    }
    let Some((licence, rest)) = words.split_first() else { return false };
    *words = rest;
    if take(words, "WITH") {
        *words = words.get(1..).unwrap_or_default();
    }
    ALLOWED.contains(licence)
}

fn take(words: &mut &[&str], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::acceptable;

    #[test]
    fn expressions_are_evaluated() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "MIT OR GPL-3.0-only",
            "Apache-2.0 WITH LLVM-exception",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "0BSD OR MIT OR Apache-2.0",
        ] {
            assert!(acceptable(good), "{good}");
        }
        for bad in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "", "(MIT", "MIT extra", "AGPL-3.0 OR GPL-2.0"] {
            assert!(!acceptable(bad), "{bad}");
        }
    }
}
