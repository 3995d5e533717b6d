//! What a server can be told. The door fills this from flags, `FLINT_*` variables and the file.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use flint_engine::Ceilings;
use flint_model::Place;
pub use flint_store::journal::Limits;

use crate::error::Error;

/// How much a caller is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every request carries a valid signature.
    Up,
    /// A developer's own machine: loopback only, any credentials.
    Dev,
}

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct Options {
    pub mode: Mode,
    /// The data directory; made if it is not there.
    pub data: PathBuf,
    /// Port 0 asks for a free one.
    pub listen: SocketAddr,
    /// Account and region of a request that names no other.
    pub place: Place,
    /// The user and group that the server becomes, if root starts it: an unprivileged one that owns nothing else. `None`:
    /// [`DEFAULT_USER`]. Without root it stays who it is.
    pub user: Option<u32>,
    /// Functions of several tenants: starts only where every wall and limit can be enforced.
    pub multi_tenant: bool,
    /// Allows an address that is not loopback without TLS.
    pub plain_http: bool,
    /// Memory for all environments together in MB; `None`: 80 % of what the host has free.
    pub memory_budget_mb: Option<u64>,
    /// Invocations that an account may have in flight.
    pub concurrency: u64,
    /// Invocations at once for events that nobody waits for; `None`: as many as the processors have time for.
    pub background: Option<usize>,
    /// The most that a function may ask for.
    pub ceilings: Ceilings,
    /// Exactly the CPU time that goes with a function's memory, after its init.
    pub parity: bool,
    /// How long an idle environment is kept.
    pub idle_timeout: Duration,
    /// How long an init may take.
    pub init_limit: Duration,
    /// First host uid that sandboxes may use.
    pub uid_base: u32,
    /// Home directories in which interpreters are looked for.
    pub homes: Vec<PathBuf>,
    /// A file outside the data directory that holds the master key.
    pub master_key_file: Option<PathBuf>,
    /// The master key itself; with neither it lies in the data directory.
    pub master_key: Option<Secret>,
    /// Ends when standard input does: how `flint dev` takes its server along.
    pub end_with_stdin: bool,
    /// How long the journal keeps what.
    pub journal: Limits,
    /// What goes to the log on standard error, as `tracing` filters are written.
    pub log: String,
}

/// A text that no log shows. Its debug form is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The user that the server becomes unless it is told another: above what hosts hand out.
pub const DEFAULT_USER: u32 = 1_899_999_000;

impl Options {
    /// The defaults of `flint up`.
    pub fn new(mode: Mode, data: PathBuf, listen: SocketAddr, place: Place) -> Self {
        Self {
            mode,
            data,
            listen,
            place,
            user: None,
            multi_tenant: false,
            plain_http: false,
            memory_budget_mb: None,
            concurrency: 1_000,
            background: None,
            ceilings: Ceilings::default(),
            parity: false,
            idle_timeout: Duration::from_secs(600),
            init_limit: Duration::from_secs(10),
            uid_base: 1_900_000_000,
            homes: Vec::new(),
            master_key_file: None,
            master_key: None,
            end_with_stdin: false,
            journal: Limits::default(),
            log: "warn,flint=info".to_owned(),
        }
    }

    /// Refuses what is not safe or can't be meant.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let open = !self.listen.ip().is_loopback();
        if open && self.mode == Mode::Dev {
            let why =
                "flint dev accepts any credentials, so it listens on loopback only; use flint up for other addresses";
            return Err(Error::Option(why.to_owned()));
        }
        if open && !self.plain_http {
            return Err(Error::Public(self.listen.ip()));
        }
        if self.master_key.is_some() && self.master_key_file.is_some() {
            return Err(Error::Option(
                "the master key is given twice: say --master-key-file or FLINT_MASTER_KEY".to_owned(),
            ));
        }
        if self.user == Some(0) {
            return Err(Error::Option("the server never runs as root: choose another --user".to_owned()));
        }
        // A ceiling below what the smallest function has would leave none.
        let most = Ceilings::default();
        for (option, value, range) in [
            ("--max-memory (MB)", self.ceilings.memory_mb, 128..=most.memory_mb),
            ("--max-tmp (MB)", self.ceilings.ephemeral_mb, 512..=most.ephemeral_mb),
            ("--max-timeout (seconds)", self.ceilings.timeout_s, 1..=most.timeout_s),
        ] {
            if !range.contains(&value) {
                let why = format!("{option} is {value}: expected {} to {}", range.start(), range.end());
                return Err(Error::Option(why));
            }
        }
        if self.multi_tenant && self.mode == Mode::Dev {
            let why = "flint dev accepts any credentials, so it serves no tenants: use flint up with --multi-tenant";
            return Err(Error::Option(why.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mode: Mode, listen: &str) -> Options {
        let place =
            Place { account: "000000000000".parse().expect("legal"), region: "us-east-1".parse().expect("legal") };
        Options::new(mode, "data".into(), listen.parse().expect("an address"), place)
    }

    #[test]
    fn an_open_address_must_be_meant() {
        assert!(options(Mode::Up, "127.0.0.1:0").check().is_ok());
        assert!(options(Mode::Up, "[::1]:0").check().is_ok());
        assert!(options(Mode::Up, "0.0.0.0:0").check().is_err());
        assert!(Options { plain_http: true, ..options(Mode::Up, "0.0.0.0:0") }.check().is_ok());
        assert!(Options { plain_http: true, ..options(Mode::Dev, "0.0.0.0:0") }.check().is_err());
        assert!(Options { multi_tenant: true, ..options(Mode::Up, "127.0.0.1:0") }.check().is_ok());
        assert!(Options { multi_tenant: true, ..options(Mode::Dev, "127.0.0.1:0") }.check().is_err());
        assert!(Options { user: Some(0), ..options(Mode::Up, "127.0.0.1:0") }.check().is_err());
    }

    #[test]
    fn a_ceiling_leaves_room_for_the_smallest_function() {
        let most = Ceilings::default();
        let with = |ceilings| Options { ceilings, ..options(Mode::Up, "127.0.0.1:0") }.check();
        assert!(with(Ceilings { memory_mb: 128, ephemeral_mb: 512, timeout_s: 1 }).is_ok());
        for bad in [
            Ceilings { memory_mb: 127, ..most },
            Ceilings { memory_mb: 10_241, ..most },
            Ceilings { ephemeral_mb: 511, ..most },
            Ceilings { timeout_s: 0, ..most },
            Ceilings { timeout_s: 901, ..most },
        ] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
    }
}
