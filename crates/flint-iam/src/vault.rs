//! The vault: envelope encryption under the data directory's master key.
//!
//! A data key is 32 random bytes, sealed under a key that is derived from the master key; a secret is sealed under a data
//! key. Both by XChaCha20-Poly1305 with a random nonce of 192 bits in front, and with the owner (and the place) as
//! associated data. The store remembers which master key it was sealed with, by an id that tells nothing about the key.
//!
//! The master key lies in `master.key` of the data directory (mode 0600), or comes from outside and is not kept.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use flint_kit::vault::{Unopened, Vault};
use flint_store::{Batch, CommitError, Keyspace, ReadError, Store, record};
use hmac::Mac;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::sessions::mac;

/// The master key's file inside the data directory.
pub const FILE_NAME: &str = "master.key";

/// A key file is one line; a larger one is another file.
const FILE_BYTES_MAX: u64 = 4096;

/// Key: the word `master`. Value: [`MasterRecord`].
const MASTER: Keyspace = Keyspace::new("vault");

const LAYOUT: u8 = 1;

const NONCE: usize = 24;

/// Which master key the store was sealed with.
#[derive(Serialize, Deserialize)]
struct MasterRecord {
    id: String,
}

/// What can be wrong with the master key. Each message is the one line that a person sees.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} the master key {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{origin} is no master key: expected 32 bytes as 64 hexadecimal digits or in base64")]
    Form { origin: String },
    #[error("{path} may be read by others (mode {mode:04o}): a master key's file is for its owner alone, mode 0600")]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "the master key of this data directory is missing: put {FILE_NAME} back, or name it with --master-key-file or FLINT_MASTER_KEY"
    )]
    Missing,
    #[error(
        "the master key ({given}, from {origin}) is not the one that this data directory was sealed with ({sealed}): nothing is changed"
    )]
    Wrong { given: String, sealed: String, origin: String },
    #[error("the master key's record is damaged: {0}")]
    Record(#[from] record::Error),
    #[error("the master key's record cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("the master key's record cannot be written: {0}")]
    Commit(#[from] CommitError),
}

/// 32 secret bytes and where they come from. Its debug form is redacted.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Zeroizing<[u8; 32]>,
    origin: String,
}

impl MasterKey {
    /// A key as people write it: 64 hexadecimal digits, or base64 of 32 bytes.
    ///
    /// Errors: [`Error::Form`], which does not repeat the text.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let text = text.trim();
        let decoded = match text.len() {
            64 => hex::decode(text).ok(),
            _ => BASE64_STANDARD.decode(text).ok(),
        };
        let bytes = decoded.map(Zeroizing::new).and_then(|b| <[u8; 32]>::try_from(&b[..]).ok());
        let bytes = bytes.ok_or_else(|| Error::Form { origin: origin.to_owned() })?;
        Ok(Self { bytes: Zeroizing::new(bytes), origin: origin.to_owned() })
    }

    /// Reads a key from a file that only its owner may read.
    ///
    /// Errors: [`Error::Io`], [`Error::Open`], [`Error::Form`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |action| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        let file = File::open(path).map_err(failed("open"))?;
        let mode = file.metadata().map_err(failed("inspect"))?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(Error::Open { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed("read"))?;
        Self::parse(&text, &path.display().to_string())
    }

    fn generate() -> Self {
        let key = Key::generate();
        Self { bytes: Zeroizing::new(key.into()), origin: FILE_NAME.to_owned() }
    }

    /// Writes `master.key` whole: temporary file, sync, rename, sync of the directory.
    fn store(&self, dir: &Path) -> Result<(), Error> {
        let (path, temporary) = (dir.join(FILE_NAME), dir.join(format!(".{FILE_NAME}.new")));
        let failed = |action| {
            let path = path.clone();
            move |source| Error::Io { action, path, source }
        };
        // What an interrupted start left could have other permissions; `create_new` must make the file.
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("replace")(e)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed("create"))?;
        let text = Zeroizing::new(format!("{}\n", hex::encode(*self.bytes)));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("write"))?;
        fs::rename(&temporary, &path).map_err(failed("rename"))?;
        File::open(dir).and_then(|d| d.sync_all()).map_err(failed("sync the directory of"))
    }

    fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(mac(&*self.bytes, format!("flint 1 {purpose}").as_bytes()).finalize().into_bytes().into())
    }

    /// Names the key without telling anything about it.
    fn id(&self) -> String {
        hex::encode(&self.derive("master key id")[..8])
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// The vault of a data directory.
pub struct KeyVault {
    wrap: XChaCha20Poly1305,
}

impl KeyVault {
    /// The vault of the data directory `dir` with the key that was `given`, or its own, which is made at the first start.
    ///
    /// Errors: the key is missing or is not the one that the store was sealed with ([`Error::Missing`], [`Error::Wrong`]),
    /// or one of them can't be read. Nothing is replaced then.
    pub async fn open(dir: &Path, store: &dyn Store, given: Option<MasterKey>) -> Result<Self, Error> {
        let place = flint_store::Key::default().text("master");
        let sealed: Option<MasterRecord> = match store.get(MASTER, &place)? {
            Some(found) => Some(record::decode(LAYOUT, &found.value)?),
            None => None,
        };
        let key = match given {
            Some(key) => key,
            None => own(dir, sealed.is_none())?,
        };
        let id = key.id();
        match sealed {
            Some(sealed) if sealed.id != id => {
                return Err(Error::Wrong { given: id, sealed: sealed.id, origin: key.origin });
            }
            Some(_) => {}
            None => {
                let value = record::encode(LAYOUT, &MasterRecord { id });
                store.commit(Batch::new().insert(MASTER, place, value)).await?;
            }
        }
        Ok(Self::new(&key))
    }

    /// A vault under `key`.
    pub fn new(key: &MasterKey) -> Self {
        Self { wrap: cipher(&key.derive("wrap data keys")) }
    }

    fn unwrap(&self, data_key: &[u8], owner: &str) -> Result<XChaCha20Poly1305, Unopened> {
        let bytes = Zeroizing::new(open(&self.wrap, &["data key", owner], data_key)?);
        let bytes = <[u8; 32]>::try_from(&bytes[..]).map_err(|_| Unopened)?;
        Ok(cipher(&Zeroizing::new(bytes)))
    }
}

impl Vault for KeyVault {
    fn data_key(&self, owner: &str) -> Vec<u8> {
        let key = Zeroizing::new(<[u8; 32]>::from(Key::generate()));
        seal(&self.wrap, &["data key", owner], &*key)
    }

    fn seal(&self, data_key: &[u8], owner: &str, place: &str, plain: &[u8]) -> Result<Vec<u8>, Unopened> {
        Ok(seal(&self.unwrap(data_key, owner)?, &["sealed", owner, place], plain))
    }

    fn open(&self, data_key: &[u8], owner: &str, place: &str, sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        open(&self.unwrap(data_key, owner)?, &["sealed", owner, place], sealed)
    }
}

impl fmt::Debug for KeyVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyVault(..)")
    }
}

/// The key in the data directory; a fresh one if there is none and `first` says that nothing was sealed yet.
fn own(dir: &Path, first: bool) -> Result<MasterKey, Error> {
    let path = dir.join(FILE_NAME);
    match MasterKey::read(&path) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            if !first {
                return Err(Error::Missing);
            }
            let key = MasterKey::generate();
            key.store(dir)?;
            Ok(key)
        }
        Err(Error::Open { .. }) => {
            // Ours: closed again, as the other key file is.
            tracing::warn!(path = %path.display(), "others could read the master key; its mode is 0600 again");
            let closed = fs::set_permissions(&path, fs::Permissions::from_mode(0o600));
            closed.map_err(|source| Error::Io { action: "set the mode of", path: path.clone(), source })?;
            MasterKey::read(&path)
        }
        other => other,
    }
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key))
}

fn seal(cipher: &XChaCha20Poly1305, words: &[&str], plain: &[u8]) -> Vec<u8> {
    let nonce = XNonce::generate();
    let payload = Payload { msg: plain, aad: &bound(words) };
    let sealed = cipher.encrypt(&nonce, payload).expect("secrets are far shorter than the cipher's limit of 256 GiB");
    [&nonce[..], &sealed].concat()
}

fn open(cipher: &XChaCha20Poly1305, words: &[&str], sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE).ok_or(Unopened)?;
    let nonce = <[u8; NONCE]>::try_from(nonce).map_err(|_| Unopened)?;
    cipher.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: &bound(words) }).map_err(|_| Unopened)
}

/// Associated data: each word with its length, so that no two lists read the same.
fn bound(words: &[&str]) -> Vec<u8> {
    let mut out = b"flint 1".to_vec();
    for word in words {
        out.extend_from_slice(&(word.len() as u64).to_be_bytes());
        out.extend_from_slice(word.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use flint_store::MemoryStore;
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::parse(&hex::encode([byte; 32]), "a test").expect("32 bytes")
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_alone() {
        let vault = KeyVault::new(&key(1));
        let data_key = vault.data_key("f");
        let sealed = vault.seal(&data_key, "f", "f:1", b"secret").expect("seals");
        assert_eq!(vault.open(&data_key, "f", "f:1", &sealed).expect("opens"), b"secret");
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_ne!(vault.seal(&data_key, "f", "f:1", b"secret").expect("seals"), sealed, "a nonce of its own");
        for (owner, place) in [("f", "f:2"), ("g", "f:1"), ("f", ""), ("", "f:1"), ("ff", ":1")] {
            assert_eq!(vault.open(&data_key, owner, place, &sealed), Err(Unopened), "{owner} {place}");
        }
        assert_eq!(vault.open(&vault.data_key("f"), "f", "f:1", &sealed), Err(Unopened), "another data key");
        assert_eq!(KeyVault::new(&key(2)).open(&data_key, "f", "f:1", &sealed), Err(Unopened), "another master key");
        assert_eq!(vault.seal(&data_key, "g", "g:1", b"x"), Err(Unopened), "another owner's data key");
    }

    #[test]
    fn a_flipped_bit_is_refused_wherever_it_is() {
        let vault = KeyVault::new(&key(1));
        let data_key = vault.data_key("f");
        let sealed = vault.seal(&data_key, "f", "p", b"secret").expect("seals");
        for bit in 0..sealed.len() * 8 {
            let mut bent = sealed.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(vault.open(&data_key, "f", "p", &bent), Err(Unopened), "bit {bit}");
        }
        for bit in 0..data_key.len() * 8 {
            let mut bent = data_key.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(vault.open(&bent, "f", "p", &sealed), Err(Unopened), "bit {bit} of the data key");
        }
        for length in 0..sealed.len() {
            assert_eq!(vault.open(&data_key, "f", "p", &sealed[..length]), Err(Unopened), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_were_sealed(bytes in prop::collection::vec(any::<u8>(), 0..120), plain in "\\PC{0,40}") {
            let vault = KeyVault::new(&key(1));
            let data_key = vault.data_key("f");
            prop_assert_eq!(vault.open(&data_key, "f", "p", &bytes), Err(Unopened));
            prop_assert_eq!(vault.open(&bytes, "f", "p", &bytes), Err(Unopened));
            let sealed = vault.seal(&data_key, "f", "p", plain.as_bytes()).expect("seals");
            prop_assert_eq!(vault.open(&data_key, "f", "p", &sealed).expect("opens"), plain.as_bytes());
        }

        #[test]
        fn any_text_is_a_key_or_refused(text in "\\PC{0,80}") {
            if let Err(error) = MasterKey::parse(&text, "here") {
                prop_assert!(text.len() < 8 || !error.to_string().contains(&text));
            }
        }
    }

    #[tokio::test]
    async fn the_first_start_makes_a_key_and_later_ones_want_it() {
        let (dir, store) = (tempfile::tempdir().expect("a directory"), MemoryStore::default());
        let path = dir.path().join(FILE_NAME);
        let vault = KeyVault::open(dir.path(), &store, None).await.expect("opens");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let data_key = vault.data_key("f");
        let again = KeyVault::open(dir.path(), &store, None).await.expect("opens again");
        assert!(again.seal(&data_key, "f", "p", b"x").is_ok());

        let text = fs::read_to_string(&path).expect("reads");
        let given = MasterKey::parse(&text, "outside").expect("a key");
        fs::remove_file(&path).expect("removes");
        assert!(matches!(KeyVault::open(dir.path(), &store, None).await, Err(Error::Missing)));
        assert!(!path.exists(), "a lost key is not replaced");
        KeyVault::open(dir.path(), &store, Some(given)).await.expect("opens with the key from outside");
        let wrong = KeyVault::open(dir.path(), &store, Some(key(1))).await.expect_err("refused").to_string();
        assert!(wrong.contains("a test") && !wrong.contains(&hex::encode([1; 32])), "{wrong}");

        fs::write(&path, "not a key\n").expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("sets");
        assert!(matches!(KeyVault::open(dir.path(), &store, None).await, Err(Error::Form { .. })));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600, "closed again");
    }

    #[test]
    fn a_key_from_outside_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        fs::write(&path, hex::encode([7; 32])).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("sets");
        assert!(matches!(MasterKey::read(&path), Err(Error::Open { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("sets");
        let key = MasterKey::read(&path).expect("reads");
        assert!(!format!("{key:?}").contains("07"), "{key:?}");
        let base64 = MasterKey::parse(&BASE64_STANDARD.encode([7; 32]), "x").expect("32 bytes");
        assert_eq!(base64.id(), key.id());
    }
}
