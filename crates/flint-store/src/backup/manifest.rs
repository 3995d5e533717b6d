//! The manifest: what a backup is made of.

use std::fmt::Write as _;

use flint_base::Timestamp;
use sha2::{Digest, Sha256};

use crate::backup::Summary;

/// Its name in the backup.
pub(super) const NAME: &str = "MANIFEST";
/// The layout that this binary writes and the newest that it reads.
const LAYOUT: u32 = 1;

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Path in the backup, with `/` between its parts.
    pub name: String,
    /// Lower-case hexadecimal digits.
    pub sha256: String,
    /// In bytes.
    pub len: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub store: String,
    pub version: u64,
    pub made: Timestamp,
    pub files: Vec<FileEntry>,
}

impl Manifest {
    pub fn render(&self) -> String {
        let mut text = format!(
            "flint-backup {LAYOUT}\nstore {}\nversion {}\nmade {}\n",
            self.store,
            self.version,
            self.made.as_millis()
        );
        for FileEntry { name, sha256, len } in &self.files {
            writeln!(text, "file {sha256} {len} {name}").expect("a text takes what is written");
        }
        let sum = hex::encode(Sha256::digest(&text));
        text + &format!("sha256 {sum}\n")
    }

    /// Errors: one phrase that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let damaged = || "its MANIFEST is damaged".to_owned();
        let first = text.lines().next().and_then(|line| line.strip_prefix("flint-backup ")).ok_or_else(damaged)?;
        let layout: u32 = first.parse().map_err(|_| damaged())?;
        if layout > LAYOUT {
            return Err(format!("its layout is {layout}, this binary knows {LAYOUT}; use the newer binary"));
        }
        Self::fields(text).filter(|manifest| manifest.render() == text).ok_or_else(damaged)
    }

    fn fields(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let store = field("store")?.to_owned();
        let version = field("version")?.parse().ok()?;
        let made = Timestamp::from_millis(field("made")?.parse().ok()?);
        let mut files = Vec::new();
        for line in lines {
            // The line with the checksum ends it; whoever calls compares the whole.
            let Some(rest) = line.strip_prefix("file ") else { break };
            let mut parts = rest.splitn(3, ' ');
            let (sha256, len, name) = (parts.next()?, parts.next()?, parts.next()?);
            if !is_plain(name) {
                return None;
            }
            files.push(FileEntry { name: name.to_owned(), sha256: sha256.to_owned(), len: len.parse().ok()? });
        }
        Some(Self { store, version, made, files })
    }

    pub fn summary(&self) -> Summary {
        Summary {
            store: self.store.clone(),
            version: self.version,
            made: self.made,
            files: self.files.len(),
            bytes: self.files.iter().map(|file| file.len).sum(),
        }
    }
}

/// True for a path that stays below the directory that it is joined to.
fn is_plain(name: &str) -> bool {
    name.split('/').all(|part| !matches!(part, "" | "." | "..")) && !name.contains(['\0', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let file = |name: &str| FileEntry { name: name.to_owned(), sha256: "ab".repeat(32), len: 7 };
        let files = vec![file("format"), file("log/00000000000000000001")];
        Manifest { store: "0f".repeat(16), version: 12, made: Timestamp::from_millis(1_700_000_000_123), files }
    }

    #[test]
    fn what_is_rendered_is_read() {
        assert_eq!(Manifest::parse(&sample().render()), Ok(sample()));
    }

    #[test]
    fn a_bent_or_shortened_manifest_is_refused() {
        let text = sample().render();
        for at in 0..text.len() {
            assert!(Manifest::parse(&text[..at]).is_err(), "cut at {at}");
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let bent = String::from_utf8(bytes).expect("one low bit of ASCII");
            assert!(Manifest::parse(&bent).is_err(), "bent at {at}");
        }
        assert!(Manifest::parse(&(text + "\n")).is_err());
        let newer = sample().render().replace("flint-backup 1", "flint-backup 2");
        assert!(Manifest::parse(&newer).unwrap_err().contains("layout is 2"));
    }

    #[test]
    fn a_name_that_leaves_the_directory_is_refused() {
        for name in ["../x", "/etc/passwd", "a//b", "a/./b", "", "a/.."] {
            let mut manifest = sample();
            manifest.files[0].name = name.to_owned();
            assert!(Manifest::parse(&manifest.render()).is_err(), "{name}");
        }
    }
}
