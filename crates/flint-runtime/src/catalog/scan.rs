//! The search itself: where version managers keep interpreters, and what a directory says about one.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Interpreter, Kind, Search};

/// Directories that are one installation each, below a home: `*` stands for every entry.
const HOME_PREFIXES: &[&str] = &[
    ".pyenv/versions/*",
    ".local/share/uv/python/*",
    ".local/share/mise/installs/python/*",
    ".local/share/mise/installs/node/*",
    ".asdf/installs/python/*",
    ".asdf/installs/nodejs/*",
    ".nvm/versions/node/*",
    ".local/share/fnm/node-versions/*/installation",
    ".fnm/node-versions/*/installation",
    ".volta/tools/image/node/*",
    "n/n/versions/node/*",
    "miniconda3",
    "miniconda3/envs/*",
    "miniforge3",
    "miniforge3/envs/*",
    "anaconda3",
    "anaconda3/envs/*",
];

/// The same below the root.
const ROOT_PREFIXES: &[&str] = &["usr", "usr/local", "usr/local/n/versions/node/*", "opt/conda", "opt/conda/envs/*"];

/// How many installations one pattern may give; a directory with more is not a version manager's.
const MOST: usize = 256;

pub(super) fn scan(search: &Search) -> Vec<Interpreter> {
    let mut prefixes = Vec::new();
    for pattern in ROOT_PREFIXES {
        expand(&search.root, pattern, &mut prefixes);
    }
    for home in &search.homes {
        for pattern in HOME_PREFIXES {
            expand(home, pattern, &mut prefixes);
        }
    }
    search.pyenv_roots.iter().for_each(|root| expand(root, "versions/*", &mut prefixes));
    search.nvm_roots.iter().for_each(|root| expand(root, "versions/node/*", &mut prefixes));

    let mut found: Vec<Interpreter> = prefixes.iter().flat_map(|prefix| look(search, prefix)).collect();
    found.extend(search.installations.iter().flat_map(|folder| installation(search, folder)));
    // Within one version the latest patch wins, then what needs no mount.
    found.sort_by(|a, b| {
        let key = |i: &Interpreter| (i.kind as u8, super::number_of(i));
        key(a).cmp(&key(b)).then(b.version.cmp(&a.version)).then(a.prefix.cmp(&b.prefix)).then(a.binary.cmp(&b.binary))
    });
    found.dedup_by(|a, b| a.binary == b.binary);
    found
}

/// The interpreters of a folder that was named, and that is their tree: a link in its `bin` leads to none.
pub(super) fn installation(search: &Search, folder: &Path) -> Vec<Interpreter> {
    let Ok(folder) = fs::canonicalize(folder) else { return Vec::new() };
    let mut found = look(search, &folder);
    found.retain(|i| i.prefix.as_ref() == Some(&folder));
    found
}

fn expand(base: &Path, pattern: &str, out: &mut Vec<PathBuf>) {
    match pattern.split_once('*') {
        None => out.push(base.join(pattern)),
        Some((before, after)) => {
            let Ok(entries) = fs::read_dir(base.join(before)) else { return };
            let after = after.trim_start_matches('/');
            let paths = entries.flatten().map(|e| e.path()).map(|p| if after.is_empty() { p } else { p.join(after) });
            out.extend(paths.take(MOST));
        }
    }
}

/// The interpreters whose binaries lie in `prefix/bin`.
fn look(search: &Search, prefix: &Path) -> Vec<Interpreter> {
    let Ok(entries) = fs::read_dir(prefix.join("bin")) else { return Vec::new() };
    let named = entries.flatten().filter_map(|e| {
        let name = e.file_name().into_string().ok()?;
        Some((kind_of(&name)?, name, e.path()))
    });
    named.filter_map(|(kind, name, path)| interpreter(search, kind, &name, &path)).collect()
}

fn kind_of(name: &str) -> Option<Kind> {
    let minor = name.strip_prefix("python3.");
    if minor.is_some_and(|m| !m.is_empty() && m.len() <= 3 && m.bytes().all(|b| b.is_ascii_digit())) {
        Some(Kind::Python)
    } else {
        (name == "node").then_some(Kind::Node)
    }
}

fn interpreter(search: &Search, kind: Kind, name: &str, path: &Path) -> Option<Interpreter> {
    let binary = fs::canonicalize(path).ok()?;
    is_program(&binary).then_some(())?;
    let prefix = binary.parent()?.parent()?.to_owned();
    // A link into a home directory's own `bin` would mount that home.
    if search.homes.iter().any(|home| fs::canonicalize(home).is_ok_and(|home| home == prefix)) {
        return None;
    }
    let version = match kind {
        // The link's name may be another one's: what is there decides.
        Kind::Python => python_version(&prefix, binary.file_name()?.to_str()?, name, &binary)?,
        _ => node_version(&prefix, &binary)?,
    };
    let root = fs::canonicalize(&search.root).ok()?;
    let inside = Path::new("/").join(binary.strip_prefix(&root).unwrap_or(&binary));
    let prefix = (prefix != root.join("usr")).then_some(prefix);
    Some(Interpreter { kind, version, binary, prefix, inside })
}

/// An ELF file that may be executed; version managers' shims are scripts.
fn is_program(path: &Path) -> bool {
    let mut magic = [0; 4];
    let Ok(mut file) = fs::File::open(path) else { return false };
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        && file.read_exact(&mut magic).is_ok()
        && magic == *b"\x7fELF"
}

fn python_version(prefix: &Path, file_name: &str, name: &str, binary: &Path) -> Option<(u32, u32, u32)> {
    let minor_of = |n: &str| n.strip_prefix("python3.").and_then(|m| m.parse::<u32>().ok());
    let minor = minor_of(file_name).or_else(|| minor_of(name))?;
    prefix.join(format!("lib/python3.{minor}")).is_dir().then_some(())?;
    let of_minor = |v: &(u32, u32, u32)| v.0 == 3 && v.1 == minor;
    let header = prefix.join(format!("include/python3.{minor}/patchlevel.h"));
    let version = defined(&header, "PY_VERSION")
        .and_then(|text| parse(text.trim_matches('"')))
        .or_else(|| parse_name(prefix))
        .or_else(|| ask(binary))
        .filter(of_minor);
    Some(version.unwrap_or((3, minor, 0)))
}

fn node_version(prefix: &Path, binary: &Path) -> Option<(u32, u32, u32)> {
    let header = prefix.join("include/node/node_version.h");
    let part = |name| defined(&header, name)?.parse().ok();
    let from_header = || Some((part("NODE_MAJOR_VERSION")?, part("NODE_MINOR_VERSION")?, part("NODE_PATCH_VERSION")?));
    let named = prefix.file_name().filter(|name| *name == "installation").and(prefix.parent()).unwrap_or(prefix);
    from_header().or_else(|| parse_name(named)).or_else(|| ask(binary))
}

/// The value of `#define NAME VALUE`.
fn defined(header: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(header).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "#define" && words.next()? == name).then(|| words.next())?.map(str::to_owned)
    })
}

/// `3.12.1`, `v20.11.1`, `cpython-3.12.1-linux-x86_64-gnu`
fn parse_name(prefix: &Path) -> Option<(u32, u32, u32)> {
    let name = prefix.file_name()?.to_str()?;
    name.split('-').find_map(parse)
}

fn parse(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.trim().trim_start_matches('v').splitn(3, '.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    let patch: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
    Some((major, minor, patch.parse().ok()?))
}

/// Runs `BIN --version`. Discovery happens with full privileges, so only what root alone can have put there is run.
fn ask(binary: &Path) -> Option<(u32, u32, u32)> {
    let meta = fs::metadata(binary).ok()?;
    if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        return None;
    }
    let output = Command::new(binary)
        .arg("--version")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().last().and_then(parse)
}
