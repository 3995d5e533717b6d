//! Which files an `exclude` means: patterns as in a `.gitignore`, without `!`.
//!
//! `*.png` and `docs` match in every folder, `/run` and `a/b` from the app's folder on; `x/` matches folders only;
//! `*` and `?` stop at a `/`, `**` is any number of folders.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    segments: Vec<String>,
    anchored: bool,
    folders_only: bool,
}

impl FromStr for Pattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| Err(format!("{text:?} is no pattern: {why}"));
        if text.starts_with('!') {
            return bad("`!` is not known here");
        }
        let folders_only = text.ends_with('/');
        let body = text.trim_end_matches('/');
        let anchored = body.contains('/');
        let segments: Vec<String> = body.trim_start_matches('/').split('/').map(str::to_owned).collect();
        if segments.iter().any(|s| s.is_empty() || s == "." || s == "..") {
            return bad("expected names as in a .gitignore, such as *.png, docs/ or /run");
        }
        Ok(Self { segments, anchored, folders_only })
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl Pattern {
    /// Whether it means this path, which is relative to the app's folder and has `/` between names.
    pub fn matches(&self, path: &str, is_folder: bool) -> bool {
        if self.folders_only && !is_folder {
            return false;
        }
        let names: Vec<&str> = path.split('/').collect();
        if self.anchored {
            return path_matches(&self.segments, &names);
        }
        names.last().is_some_and(|name| name_matches(self.segments[0].as_bytes(), name.as_bytes()))
    }
}

fn path_matches(segments: &[String], names: &[&str]) -> bool {
    match (segments.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            path_matches(rest, names) || names.split_first().is_some_and(|(_, names)| path_matches(segments, names))
        }
        (Some((first, rest)), Some((name, names))) => {
            name_matches(first.as_bytes(), name.as_bytes()) && path_matches(rest, names)
        }
        _ => false,
    }
}

/// `*` and `?` in one name: two cursors and the last star to come back to, so that no pattern takes long.
fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_what_a_gitignore_means() {
        let check = |pattern: &str, path: &str, expected: bool| {
            let got = pattern.parse::<Pattern>().unwrap().matches(path, path.ends_with("dir"));
            assert_eq!(got, expected, "{pattern} {path}");
        };
        check("*.png", "photo.png", true);
        check("*.png", "a/b/photo.png", true);
        check("*.png", "photo.jpg", false);
        check("/run", "run", true);
        check("/run", "a/run", false);
        check("docs/", "dir", false);
        check("sub_dir/", "a/sub_dir", true);
        check("sub_dir/", "a/b", false);
        check("a/*.txt", "a/x.txt", true);
        check("a/*.txt", "a/b/x.txt", false);
        check("a/**/x", "a/x", true);
        check("a/**/x", "a/b/c/x", true);
        check("**/x", "x", true);
        check("f?o*r", "fooXbar", true);
        check("f?o", "fo", false);
        check("*a*a*a*a*b", &"a".repeat(200), false);
        for bad in ["", "/", "!x", "a//b", "../x"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
