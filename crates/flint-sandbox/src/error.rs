//! What can go wrong, for the operator ([`Error`]) and for the owner of an archive ([`UnpackError`]).

use std::fmt;
use std::io;

use flint_model::ByteCount;

/// A failure of the platform, not of the workload.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spawner must be made before the first thread is.
    #[error("the spawner must be started while the process has one thread, it has {0}")]
    Threaded(usize),
    /// This host or this user can't isolate anything.
    #[error("sandboxes need {0}")]
    Missing(String),
    #[error("sandbox option {name}: {problem}")]
    Option { name: &'static str, problem: String },
    /// The spawner could not set itself up.
    #[error("the spawner did not start: {0}")]
    Start(String),
    /// The spawner died; every sandbox died with it and the server has to exit.
    #[error("the spawner is gone")]
    SpawnerGone,
    /// The launch or the root is not something that the spawner would accept.
    #[error("{0}")]
    Invalid(String),
    /// A step failed in the spawner or in the sandbox's set-up.
    #[error("sandbox set-up failed at {stage}: {source}")]
    Setup { stage: Stage, source: io::Error },
    /// Every host uid of the leased range is in use.
    #[error("all {0} sandbox slots are in use (uid_count)")]
    NoSlots(u32),
    #[error("sandbox channel: {0}")]
    Channel(#[source] io::Error),
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive's owner has to change it.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// No space for what it holds.
    #[error("no space left for the unpacked archive")]
    NoSpace,
    /// Reading the archive or writing the files failed.
    #[error("unpacking failed: {0}")]
    Io(#[source] io::Error),
    /// The helper ran out of time, was killed or broke off.
    #[error("the unpack helper did not finish: {0}")]
    Helper(String),
    #[error(transparent)]
    Sandbox(#[from] Error),
}

/// What is wrong with an archive. Entry names are shown with control characters escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("not a readable zip archive: {0}")]
    NotZip(String),
    #[error("entry {entry}: {problem}")]
    Entry { entry: String, problem: String },
    #[error("the unpacked size exceeds {} bytes", .0.bytes())]
    TooLarge(ByteCount),
    #[error("more than {0} entries")]
    TooManyEntries(u32),
}

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// A step of making a sandbox; in the order in which they happen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Stage { $($(#[$doc])* $name = $code,)* }

        impl Stage {
            pub(crate) fn from_code(code: u8) -> Self {
                match code {
                    $($code => Self::$name,)*
                    _ => Self::Unknown,
                }
            }

            fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

stages! {
    Unknown = 0, "an unknown step";
    Request = 1, "reading the request";
    Root = 2, "building the root file system";
    Network = 3, "making the network namespace";
    Cgroup = 4, "making the cgroups";
    Limits = 5, "writing the limits";
    Trees = 6, "opening the code";
    Clone = 7, "clone3";
    Join = 8, "joining the cgroups";
    Net = 9, "joining the network namespace";
    Code = 10, "mounting the code";
    Tmp = 11, "mounting /tmp";
    Proc = 12, "mounting /proc";
    Host = 13, "setting host name and resource limits";
    Identity = 14, "changing to the sandbox's user";
    UserNamespace = 15, "entering the user namespace";
    Capabilities = 16, "dropping capabilities";
    Descriptors = 17, "closing descriptors";
    Filter = 18, "installing the system call filter";
    Fork = 19, "forking the main process";
    Cwd = 20, "changing to the working directory";
    Exec = 21, "execve";
    Lifeline = 22, "checking that the spawner lives";
    Enter = 23, "entering the root file system";
    Landlock = 24, "restricting files by Landlock";
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
