//! The nouns that callers hand in and get back.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flint_model::ByteCount;

use crate::error::Stage;
use crate::walls::Walls;

/// Where the Runtime API listens inside every sandbox.
pub const RUNTIME_API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9001);

/// The id that a function's process has inside its sandbox, as user and as group.
pub const INSIDE_ID: u32 = 993;

/// Where the code tree appears inside.
pub const CODE_DIR: &str = "/var/task";

/// Where the layer tree appears inside.
pub const LAYER_DIR: &str = "/opt";

/// How the spawner is set up. Fixed for its whole life.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory's identity: 1 to 64 lower-case hex digits. Names the cgroups, so that a later life of the same
    /// data directory finds and sweeps what an earlier one left.
    pub data_id: String,
    /// First host uid (and gid) of the first range that may be leased. Several servers lease disjoint ranges.
    pub uid_base: u32,
    /// Size of one range: the most sandboxes that one server can have at a time. 1..=65,536.
    pub uid_count: u32,
    /// Host uid of the server after it dropped its privileges; what the unpack helper writes belongs to it.
    pub service_uid: u32,
    /// Host gid of the server after it dropped its privileges.
    pub service_gid: u32,
    /// Slots (network namespace, listener, cgroups) that are kept ready. 0..=256.
    pub idle_slots: usize,
    /// Where the images of `/tmp` lie, files without names. None, or a host without loop devices: `/tmp` is in memory.
    pub image_dir: Option<PathBuf>,
    /// Whether [`crate::Sandbox::limit_cpu`] is wanted; it costs a descriptor for each sandbox.
    pub cpu_quota: bool,
    /// The port on a sandbox's loopback, beside [`RUNTIME_API`]'s, where a second listener is made; none for no such listener.
    /// 1024..=65,535.
    pub endpoint_port: Option<u16>,
    /// This process is not root: sandboxes run as its own user, in user namespaces, with the limits that a user may set.
    pub rootless: bool,
    /// Nothing is done by halves: where a wall or a limit can't be had there is no sandbox.
    pub strict: bool,
}

impl Options {
    /// The usual ranges: above what `useradd`, `systemd-nspawn` and dynamic users hand out.
    pub fn new(data_id: impl Into<String>, service_uid: u32, service_gid: u32) -> Self {
        Self {
            data_id: data_id.into(),
            uid_base: 1_900_000_000,
            uid_count: 4096,
            service_uid,
            service_gid,
            idle_slots: 4,
            image_dir: None,
            cpu_quota: false,
            endpoint_port: None,
            rootless: false,
            strict: false,
        }
    }

    /// Without root: everything runs as the user who starts it.
    pub fn rootless(data_id: impl Into<String>) -> Self {
        let (uid, gid) = crate::sys::process::ids();
        Self { rootless: true, ..Self::new(data_id, uid, gid) }
    }
}

/// What a root file system has besides the host's libraries.
///
/// Every root holds the host's `/usr` (without `/usr/local`), a minimal `/etc`, `/dev`, and empty `/var/task`, `/opt`,
/// `/tmp` and `/proc`; all of it read-only. One root serves every sandbox of one runtime.
#[derive(Clone, Debug, Default)]
pub struct RootSpec {
    /// Host directories that appear read-only inside, such as an interpreter's prefix at `/var/lang`. At most 64.
    pub binds: Vec<Bind>,
    /// Generated files, such as a bootstrap under `/var/runtime`. At most 4,096 and 64 MiB together.
    pub files: Vec<RootFile>,
}

/// A host directory that appears read-only inside a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// An absolute path on the host; ancestors may be closed to everyone but root.
    pub source: PathBuf,
    /// An absolute path inside, without `..`.
    pub target: PathBuf,
}

/// A generated file inside a root, owned by root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootFile {
    /// An absolute path inside, without `..`; missing parents are made with mode 0755.
    pub path: PathBuf,
    /// Permission bits; only the lowest nine count.
    pub mode: u32,
    pub content: Arc<[u8]>,
}

/// A root that the spawner holds ready. Lives as long as the spawner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RootId(pub(crate) u32);

/// One process to start in a sandbox of its own.
#[derive(Clone, Debug)]
pub struct Launch {
    pub root: RootId,
    /// Program and arguments; the program is an absolute path inside. At least one, together at most 64 KiB with `env`.
    pub argv: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Absolute path inside.
    pub cwd: OsString,
    /// Directory that appears read-only at `/var/task`. Must be on a mount of the host's mount namespace.
    pub code: Option<Arc<OwnedFd>>,
    /// Directories of layers; one at most for now, at `/opt`.
    pub layers: Vec<Arc<OwnedFd>>,
    /// Hard limit on memory, no swap; the whole group is killed beyond it.
    pub memory: ByteCount,
    /// Processes and threads, the sandbox's own init included.
    pub pids: u32,
    /// Bytes of `/tmp`.
    pub tmp: ByteCount,
    /// Files and directories in `/tmp`.
    pub tmp_inodes: u64,
    /// Descriptors per process (`RLIMIT_NOFILE`, soft and hard).
    pub open_files: u64,
    /// Host name inside, at most 64 bytes.
    pub hostname: String,
    /// All of them, but in a bench.
    pub walls: Walls,
}

impl Launch {
    /// A launch with the reference's limits: 1,024 processes and descriptors, 512 MiB of `/tmp`.
    ///
    /// Reference: Lambda Developer Guide, "Lambda quotas".
    pub fn new(root: RootId, argv: Vec<OsString>, memory: ByteCount) -> Self {
        Self {
            root,
            argv,
            env: Vec::new(),
            cwd: CODE_DIR.into(),
            code: None,
            layers: Vec::new(),
            memory,
            pids: 1024,
            tmp: ByteCount::from_mib(512),
            tmp_inodes: 32_768,
            open_files: 1024,
            hostname: "sandbox".to_owned(),
            walls: Walls::default(),
        }
    }
}

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub how: How,
    /// The memory limit killed something in it.
    pub oom: bool,
}

/// The way in which the sandbox's main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It exited with this status, 0..=255.
    Code(i32),
    /// A signal ended it; 9 also when the whole sandbox was killed.
    Signal(i32),
    /// It never ran: this step of the set-up failed with this error number.
    SetupFailed { stage: Stage, errno: i32 },
    /// The spawner died and took the sandbox along: nothing that the workload did.
    Abandoned,
}

/// How long each step from request to `execve` took, by the kernel's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Spawner: request read, limits written, trees opened.
    pub prepare: Duration,
    /// `clone3` until the child runs.
    pub clone: Duration,
    /// Cgroups and the network namespace joined.
    pub join: Duration,
    /// Code, `/tmp`, `/dev/shm`, `/proc` mounted.
    pub mount: Duration,
    /// Identity, user namespace, capabilities, system call filter.
    pub confine: Duration,
    /// The main process forked and about to `execve`.
    pub exec: Duration,
}

impl Phases {
    pub fn total(&self) -> Duration {
        self.prepare + self.clone + self.join + self.mount + self.confine + self.exec
    }
}

/// What the unpack helper may produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes written, all files together.
    pub bytes: ByteCount,
    /// Files, directories and links together.
    pub entries: u32,
    /// Components of one path.
    pub depth: u32,
    /// Wall-clock time before the helper is killed.
    pub time: Duration,
}

impl Default for UnpackLimits {
    /// 250 MiB unzipped, the reference's limit; 65,536 entries, 64 deep, one minute.
    ///
    /// Reference: Lambda Developer Guide, "Lambda quotas".
    fn default() -> Self {
        Self { bytes: ByteCount(262_144_000), entries: 65_536, depth: 64, time: Duration::from_secs(60) }
    }
}

/// What the unpack helper produced; all of it is on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    pub bytes: ByteCount,
    /// Files and links, without directories.
    pub files: u32,
}

/// How many sandboxes and slots there are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Sandboxes (and unpack helpers) that were launched and are not yet gone.
    pub live: usize,
    /// Slots that are ready for a launch.
    pub idle: usize,
    /// Slots whose cgroups and namespaces are being taken down.
    pub leaving: usize,
}

/// The listener bound at [`RUNTIME_API`] inside the sandbox's network namespace, accepted on from outside.
pub type RuntimeListener = tokio::net::TcpListener;
