//! The accounts' root key pairs, in `credentials.json` of the data directory.
//!
//! The file is written whole (temporary file, fsync, rename, fsync of the directory) with mode 0600. There is at most
//! one key pair per account.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flint_model::AccountId;
use hmac::Mac;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::sessions::mac;

/// The file's name inside the data directory.
pub const FILE_NAME: &str = "credentials.json";

/// The newest version of the file that this program reads.
const VERSION: u32 = 1;
/// A file larger than this is not ours.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What can be wrong with the key file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is not a key file: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("{path} has version {found}, this program reads up to {VERSION}: start a newer one")]
    Newer { path: PathBuf, found: u32 },
}

/// A secret access key. Its debug form is redacted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretKey(String);

impl SecretKey {
    pub(crate) fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself: for signatures and for `flint env`, never for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// The key pair of an account's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RootKey {
    pub account: AccountId,
    /// `AKIA` and sixteen characters.
    pub access_key_id: String,
    /// Forty characters.
    pub secret_access_key: SecretKey,
}

impl RootKey {
    /// A fresh pair from the operating system's random source: 80 bits of id, 240 of secret.
    pub fn generate(account: AccountId) -> Self {
        let access_key_id = format!("AKIA{}", text::<16>(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"));
        let secret = text::<40>(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
        Self { account, access_key_id, secret_access_key: SecretKey(secret) }
    }
}

/// The key pairs of a data directory.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    keys: Vec<RootKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    version: u32,
    keys: Vec<RootKey>,
}

impl KeyRing {
    /// Reads the key pairs of the data directory `dir`; none if there is no file yet.
    ///
    /// A file that others may read is given mode 0600 again.
    ///
    /// Errors: [`Error::Io`], [`Error::Damaged`], [`Error::Newer`].
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE_NAME);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(Error::Io { action: "open", path, source }),
        };
        tighten(&file, &path)?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|source| Error::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        parse(&text, path)
    }

    /// Reads the key pairs of `dir` and makes one for `account` if it has none. The directory must exist, and the
    /// caller holds its lock.
    ///
    /// Errors: as [`KeyRing::load`]; nothing is replaced when the file cannot be understood.
    pub fn load_or_create(dir: &Path, account: &AccountId) -> Result<Self, Error> {
        let mut ring = Self::load(dir)?;
        if ring.of(account).is_none() {
            ring.keys.push(RootKey::generate(account.clone()));
            ring.store(dir)?;
        }
        Ok(ring)
    }

    /// The key pair of `account`.
    pub fn of(&self, account: &AccountId) -> Option<&RootKey> {
        self.keys.iter().find(|key| key.account == *account)
    }

    /// The key pair with this access key id.
    pub fn find(&self, access_key_id: &str) -> Option<&RootKey> {
        self.keys.iter().find(|key| key.access_key_id == access_key_id)
    }

    /// A key of the server's own for `purpose`: for what it signs itself. It is the same as long as the first key pair
    /// is; of an empty ring it is another one each time.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let fresh: Vec<u8> = random_bytes().take(32).collect();
        let secret = self.keys.first().map_or(&fresh[..], |key| key.secret_access_key.expose().as_bytes());
        mac(secret, format!("flint 1 {purpose}").as_bytes()).finalize().into_bytes().into()
    }

    fn store(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE_NAME);
        let temporary = dir.join(format!(".{FILE_NAME}.new"));
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        let stored = Stored { version: VERSION, keys: self.keys.clone() };
        let mut text = serde_json::to_vec_pretty(&stored).expect("plain structs of text always render");
        text.push(b'\n');
        // What an interrupted start left could have other permissions; `create_new` must make the file.
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &temporary)(e)),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed("create", &temporary))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("rename to", &path))?;
        File::open(dir).and_then(|d| d.sync_all()).map_err(failed("sync", dir))
    }
}

/// The key pair of `account` in the data directory `dir`, made at the first call.
///
/// Errors: as [`KeyRing::load_or_create`].
pub fn load_or_create(dir: &Path, account: &AccountId) -> Result<RootKey, Error> {
    let ring = KeyRing::load_or_create(dir, account)?;
    Ok(ring.of(account).expect("load_or_create makes the account's key").clone())
}

fn parse(text: &str, path: PathBuf) -> Result<KeyRing, Error> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let damaged = |e: serde_json::Error| Error::Damaged {
        path: path.clone(),
        // The parser's own words could quote a secret.
        reason: format!("not the expected JSON at line {}, column {}", e.line(), e.column()),
    };
    let Version { version } = serde_json::from_str(text).map_err(damaged)?;
    if version > VERSION {
        return Err(Error::Newer { path, found: version });
    }
    let stored: Stored = serde_json::from_str(text).map_err(damaged)?;
    let whole = |key: &RootKey| !key.access_key_id.is_empty() && !key.secret_access_key.0.is_empty();
    if !stored.keys.iter().all(whole) {
        return Err(Error::Damaged { path, reason: "a key is empty".to_owned() });
    }
    Ok(KeyRing { keys: stored.keys })
}

/// Takes away what group and others may do with the key file.
fn tighten(file: &File, path: &Path) -> Result<(), Error> {
    let io = |action| {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    };
    let mode = file.metadata().map_err(io("inspect"))?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others could read the key file; its mode is 0600 again");
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(io("set the mode of"))?;
    }
    Ok(())
}

/// `N` characters drawn evenly from `alphabet`, whose length is a power of two.
pub(crate) fn text<const N: usize>(alphabet: &[u8]) -> String {
    debug_assert!(alphabet.len().is_power_of_two());
    let mut random = random_bytes();
    (0..N)
        .map(|_| {
            let byte = random.next().expect("the source never ends");
            char::from(alphabet[usize::from(byte) & (alphabet.len() - 1)])
        })
        .collect()
}

/// Bytes of the operating system's random source, drawn through version 4 UUIDs: the two bytes that carry the version
/// and variant bits are left out.
fn random_bytes() -> impl Iterator<Item = u8> {
    std::iter::repeat_with(|| Uuid::new_v4().into_bytes())
        .flat_map(|id| id.into_iter().enumerate().filter(|(i, _)| !matches!(i, 6 | 8)).map(|(_, byte)| byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: &str) -> AccountId {
        id.parse().expect("twelve digits")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn the_first_start_makes_a_key_and_the_next_finds_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = load_or_create(dir.path(), &account("000000000000")).expect("makes");
        assert!(made.access_key_id.starts_with("AKIA"));
        assert_eq!((made.access_key_id.len(), made.secret_access_key.expose().len()), (20, 40));
        assert_eq!(mode(&dir.path().join(FILE_NAME)), 0o600);
        assert_eq!(load_or_create(dir.path(), &account("000000000000")).expect("finds"), made);
        let other = load_or_create(dir.path(), &account("111111111111")).expect("makes another");
        assert_ne!(other.secret_access_key, made.secret_access_key);
        let ring = KeyRing::load(dir.path()).expect("loads");
        assert_eq!(ring.find(&made.access_key_id), Some(&made));
        assert_eq!(ring.of(&account("111111111111")), Some(&other));
        assert_eq!(ring.find("AKIAUNKNOWN"), None);
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn what_an_interrupted_start_left_does_not_matter() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(".credentials.json.new"), b"{").expect("writes");
        load_or_create(dir.path(), &account("000000000000")).expect("makes");
        assert_eq!(mode(&dir.path().join(FILE_NAME)), 0o600);
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_and_kept() {
        for (text, expected) in [
            ("", "is not a key file"),
            ("{}", "is not a key file"),
            (r#"{"version": 2, "future": true}"#, "start a newer one"),
            (
                r#"{"version": 1, "keys": [{"account": "1", "accessKeyId": "A", "secretAccessKey": "s3cr3t"}]}"#,
                "key file",
            ),
            (
                r#"{"version": 1, "keys": [{"account": "000000000000", "accessKeyId": "", "secretAccessKey": ""}]}"#,
                "empty",
            ),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join(FILE_NAME);
            fs::write(&path, text).expect("writes");
            let error = load_or_create(dir.path(), &account("000000000000")).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("s3cr3t"), "{error}");
            assert_eq!(fs::read_to_string(&path).expect("reads"), text);
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_closed_again() {
        let dir = tempfile::tempdir().expect("a directory");
        load_or_create(dir.path(), &account("000000000000")).expect("makes");
        let path = dir.path().join(FILE_NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("sets");
        KeyRing::load(dir.path()).expect("loads");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn derived_keys_hang_on_the_pair_and_the_purpose() {
        let dir = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::load_or_create(dir.path(), &account("000000000000")).expect("makes");
        let again = KeyRing::load_or_create(dir.path(), &account("111111111111")).expect("finds");
        assert_eq!(ring.derive("a"), again.derive("a"));
        assert_ne!(ring.derive("a"), ring.derive("b"));
        assert_ne!(KeyRing::default().derive("a"), KeyRing::default().derive("a"));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let key = RootKey::generate(account("000000000000"));
        assert!(!format!("{key:?}").contains(key.secret_access_key.expose()));
    }
}
