//! Requests and replies between server and spawner.
//!
//! A request is an id, a kind and a body; descriptors travel beside it. Replies come in the order of the requests and
//! repeat the id. Arguments, environment and paths are opaque bytes on both sides.

use std::ffi::CStr;

use crate::codec::{Malformed, Reader, Writer};
use crate::error::Stage;
use crate::measure::Held;
use crate::walls::Walls;

/// Files that one root may have, and their bytes together.
pub const MAX_ROOT_FILES: usize = 4096;
pub const MAX_ROOT_BYTES: u64 = 64 << 20;
pub const MAX_ROOT_BINDS: usize = 64;
/// Arguments and variables that one launch may have.
pub const MAX_STRINGS: usize = 8192;

const DEFINE_ROOT: u8 = 1;
const CREATE_SLOT: u8 = 2;
const LAUNCH: u8 = 3;
const UNPACK: u8 = 4;
const DESTROY_SLOT: u8 = 5;
const KILL_SLOT: u8 = 6;
const SOCKET: u8 = 7;
const SETTLE_SLOT: u8 = 8;
const MEASURE: u8 = 9;

/// What a sandbox's init is sent where there is no freezer. Should both be due, the kernel hands out the first one first, so
/// that a thaw is never lost.
pub const FREEZE_SIGNAL: libc::c_int = libc::SIGUSR1;
pub const THAW_SIGNAL: libc::c_int = libc::SIGUSR2;

/// A generated file of a root; its bytes come from the memfd beside the message, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct FileHead<'a> {
    pub path: &'a CStr,
    pub mode: u32,
    pub length: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub struct LaunchRequest<'a> {
    pub slot: u32,
    pub root: u32,
    pub argv: Vec<&'a CStr>,
    /// `NAME=value`.
    pub env: Vec<&'a CStr>,
    pub cwd: &'a CStr,
    pub hostname: &'a [u8],
    pub memory: u64,
    pub pids: u32,
    pub tmp_bytes: u64,
    pub tmp_inodes: u64,
    pub open_files: u64,
    /// A descriptor of the code directory travels beside the message, then one of the layer directory.
    pub has_code: bool,
    pub has_layer: bool,
    pub walls: Walls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackRequest {
    pub slot: u32,
    pub bytes: u64,
    pub entries: u32,
    pub depth: u32,
    pub memory: u64,
    pub cpu_seconds: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    DefineRoot {
        binds: Vec<(&'a CStr, &'a CStr)>,
        files: Vec<FileHead<'a>>,
    },
    CreateSlot,
    Launch(LaunchRequest<'a>),
    Unpack(UnpackRequest),
    DestroySlot {
        slot: u32,
    },
    KillSlot {
        slot: u32,
    },
    /// Whether a slot that was given back has been taken down.
    SettleSlot {
        slot: u32,
    },
    /// A TCP socket in the slot's network namespace, not connected.
    Socket {
        slot: u32,
    },
    /// How much memory the slot's processes hold, where no cgroup counts it.
    Measure {
        slot: u32,
    },
}

impl<'a> Request<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<(u64, Self), Malformed> {
        let mut r = Reader::new(bytes);
        let id = r.u64()?;
        let request = match r.u8()? {
            DEFINE_ROOT => decode_root(&mut r)?,
            CREATE_SLOT => Self::CreateSlot,
            LAUNCH => Self::Launch(decode_launch(&mut r)?),
            UNPACK => Self::Unpack(UnpackRequest {
                slot: r.u32()?,
                bytes: r.u64()?,
                entries: r.u32()?,
                depth: r.u32()?,
                memory: r.u64()?,
                cpu_seconds: r.u64()?,
            }),
            DESTROY_SLOT => Self::DestroySlot { slot: r.u32()? },
            KILL_SLOT => Self::KillSlot { slot: r.u32()? },
            SOCKET => Self::Socket { slot: r.u32()? },
            SETTLE_SLOT => Self::SettleSlot { slot: r.u32()? },
            MEASURE => Self::Measure { slot: r.u32()? },
            _ => return Err(Malformed),
        };
        r.end()?;
        Ok((id, request))
    }
}

fn decode_root<'a>(r: &mut Reader<'a>) -> Result<Request<'a>, Malformed> {
    let mut binds = Vec::new();
    let count = r.count(8)?;
    if count > MAX_ROOT_BINDS {
        return Err(Malformed);
    }
    for _ in 0..count {
        binds.push((r.text()?, r.text()?));
    }
    let mut files = Vec::new();
    let count = r.count(16)?;
    if count > MAX_ROOT_FILES {
        return Err(Malformed);
    }
    for _ in 0..count {
        files.push(FileHead { path: r.text()?, mode: r.u32()?, length: r.u64()? });
    }
    Ok(Request::DefineRoot { binds, files })
}

fn decode_launch<'a>(r: &mut Reader<'a>) -> Result<LaunchRequest<'a>, Malformed> {
    let (slot, root) = (r.u32()?, r.u32()?);
    let argv = decode_strings(r)?;
    let env = decode_strings(r)?;
    if argv.is_empty() {
        return Err(Malformed);
    }
    let launch = LaunchRequest {
        slot,
        root,
        argv,
        env,
        cwd: r.text()?,
        hostname: r.bytes()?,
        memory: r.u64()?,
        pids: r.u32()?,
        tmp_bytes: r.u64()?,
        tmp_inodes: r.u64()?,
        open_files: r.u64()?,
        has_code: r.u8()? != 0,
        has_layer: r.u8()? != 0,
        #[cfg(feature = "bench")]
        walls: Walls::from_bits(r.u8()?),
        #[cfg(not(feature = "bench"))]
        walls: Walls::default(),
    };
    if launch.hostname.len() > 64 { Err(Malformed) } else { Ok(launch) }
}

fn decode_strings<'a>(r: &mut Reader<'a>) -> Result<Vec<&'a CStr>, Malformed> {
    let count = r.count(5)?;
    if count > MAX_STRINGS {
        return Err(Malformed);
    }
    (0..count).map(|_| r.text()).collect()
}

fn begin(id: u64, kind: u8) -> Writer {
    let mut w = Writer::default();
    w.u64(id);
    w.u8(kind);
    w
}

pub fn encode_define_root(id: u64, spec: &crate::api::RootSpec) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut w = begin(id, DEFINE_ROOT);
    w.u32(spec.binds.len() as u32);
    for bind in &spec.binds {
        w.text(bind.source.as_os_str().as_bytes());
        w.text(bind.target.as_os_str().as_bytes());
    }
    w.u32(spec.files.len() as u32);
    for file in &spec.files {
        w.text(file.path.as_os_str().as_bytes());
        w.u32(file.mode);
        w.u64(file.content.len() as u64);
    }
    w.finish()
}

pub fn encode_create_slot(id: u64) -> Vec<u8> {
    begin(id, CREATE_SLOT).finish()
}

pub fn encode_launch(id: u64, slot: u32, launch: &crate::api::Launch) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut w = begin(id, LAUNCH);
    w.u32(slot);
    w.u32(launch.root.0);
    w.u32(launch.argv.len() as u32);
    for argument in &launch.argv {
        w.text(argument.as_bytes());
    }
    w.u32(launch.env.len() as u32);
    let mut pair = Vec::new();
    for (name, value) in &launch.env {
        pair.clear();
        pair.extend_from_slice(name.as_bytes());
        pair.push(b'=');
        pair.extend_from_slice(value.as_bytes());
        w.text(&pair);
    }
    w.text(launch.cwd.as_bytes());
    w.bytes(launch.hostname.as_bytes());
    w.u64(launch.memory.bytes());
    w.u32(launch.pids);
    w.u64(launch.tmp.bytes());
    w.u64(launch.tmp_inodes);
    w.u64(launch.open_files);
    w.u8(u8::from(launch.code.is_some()));
    w.u8(u8::from(!launch.layers.is_empty()));
    #[cfg(feature = "bench")]
    w.u8(launch.walls.bits());
    w.finish()
}

pub fn encode_unpack(id: u64, request: &UnpackRequest) -> Vec<u8> {
    let mut w = begin(id, UNPACK);
    w.u32(request.slot);
    w.u64(request.bytes);
    w.u32(request.entries);
    w.u32(request.depth);
    w.u64(request.memory);
    w.u64(request.cpu_seconds);
    w.finish()
}

pub fn encode_destroy_slot(id: u64, slot: u32) -> Vec<u8> {
    let mut w = begin(id, DESTROY_SLOT);
    w.u32(slot);
    w.finish()
}

pub fn encode_kill_slot(id: u64, slot: u32) -> Vec<u8> {
    let mut w = begin(id, KILL_SLOT);
    w.u32(slot);
    w.finish()
}

pub fn encode_settle_slot(id: u64, slot: u32) -> Vec<u8> {
    let mut w = begin(id, SETTLE_SLOT);
    w.u32(slot);
    w.finish()
}

pub fn encode_socket(id: u64, slot: u32) -> Vec<u8> {
    let mut w = begin(id, SOCKET);
    w.u32(slot);
    w.finish()
}

pub fn encode_measure(id: u64, slot: u32) -> Vec<u8> {
    let mut w = begin(id, MEASURE);
    w.u32(slot);
    w.finish()
}

/// A step that failed and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub stage: Stage,
    pub errno: i32,
}

impl Failure {
    pub fn new(stage: Stage, error: &std::io::Error) -> Self {
        Self { stage, errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

/// Names `stage` as the place where an I/O error happened.
pub trait At<T> {
    fn at(self, stage: Stage) -> Result<T, Failure>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, stage: Stage) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(stage, &error))
    }
}

/// The descriptors that may come with a new slot, in this order; a bit of the mask says which do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotFile {
    Listener = 0,
    Freeze = 1,
    Kill = 2,
    MemoryUsage = 3,
    MemoryPeak = 4,
    /// `memory.oom_control` (version 1) or `memory.events` (version 2).
    Oom = 5,
    /// The eventfd that fires when the group runs out of memory (version 1).
    OomEvent = 6,
    /// `cpuacct.usage` (version 1) or `cpu.stat` (version 2).
    Cpu = 7,
    /// `cpu.cfs_quota_us` (version 1) or `cpu.max` (version 2), where the options ask for it.
    CpuQuota = 8,
    /// The second listener, where the options ask for it.
    Endpoint = 9,
}

pub const SLOT_FILES: usize = 10;

/// Which of the two forms the files of a slot have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotForm {
    /// `Freeze` is a version 1 `freezer.state`.
    pub freezer_v1: bool,
    /// `Cpu` is `cpu.stat`.
    pub cpu_stat: bool,
    /// `CpuQuota` is `cpu.max`.
    pub cpu_max: bool,
    /// The server has the right to send signals to init; they freeze, thaw and kill where there are no files for it.
    pub signals: bool,
}

/// What a reply says; its descriptors travel beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Root {
        root: u32,
    },
    Slot {
        slot: u32,
        mask: u32,
        form: SlotForm,
    },
    Started {
        pid: u32,
        began_ns: u64,
    },
    Done,
    Measured(Held),
    /// Every slot is in use.
    Full,
    /// The slot is not empty yet; it will be taken down when it is.
    Leaving,
    Failed(Failure),
}

impl Reply {
    pub fn encode(&self, id: u64) -> Vec<u8> {
        let mut w = Writer::default();
        w.u64(id);
        match *self {
            Self::Root { root } => {
                w.u8(1);
                w.u32(root);
            }
            Self::Slot { slot, mask, form } => {
                w.u8(2);
                w.u32(slot);
                w.u32(mask);
                w.u8(u8::from(form.freezer_v1));
                w.u8(u8::from(form.cpu_stat));
                w.u8(u8::from(form.cpu_max));
                w.u8(u8::from(form.signals));
            }
            Self::Started { pid, began_ns } => {
                w.u8(3);
                w.u32(pid);
                w.u64(began_ns);
            }
            Self::Done => w.u8(4),
            Self::Full => w.u8(5),
            Self::Leaving => w.u8(7),
            Self::Measured(Held { heap, shared }) => {
                w.u8(8);
                w.u64(heap);
                w.u64(shared);
            }
            Self::Failed(Failure { stage, errno }) => {
                w.u8(6);
                w.u8(stage as u8);
                w.u32(errno as u32);
            }
        }
        w.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<(u64, Self), Malformed> {
        let mut r = Reader::new(bytes);
        let id = r.u64()?;
        let reply = match r.u8()? {
            1 => Self::Root { root: r.u32()? },
            2 => Self::Slot {
                slot: r.u32()?,
                mask: r.u32()?,
                form: SlotForm {
                    freezer_v1: r.u8()? != 0,
                    cpu_stat: r.u8()? != 0,
                    cpu_max: r.u8()? != 0,
                    signals: r.u8()? != 0,
                },
            },
            3 => Self::Started { pid: r.u32()?, began_ns: r.u64()? },
            4 => Self::Done,
            5 => Self::Full,
            6 => Self::Failed(Failure { stage: Stage::from_code(r.u8()?), errno: r.u32()? as i32 }),
            7 => Self::Leaving,
            8 => Self::Measured(Held { heap: r.u64()?, shared: r.u64()? }),
            _ => return Err(Malformed),
        };
        r.end()?;
        Ok((id, reply))
    }
}

/// What the sandbox's own processes write into the status pipe. Every record has [`Status::SIZE`] bytes, so that a
/// write is atomic and the reader needs no framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Failed(Failure),
    /// About to `execve`; the kernel's monotonic clock in nanoseconds after each step.
    Running {
        stamps: [u64; 6],
    },
    Code(i32),
    Signal(i32),
}

impl Status {
    pub const SIZE: usize = 56;

    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        let value = match *self {
            Self::Failed(Failure { stage, errno }) => {
                out[0] = b'F';
                out[1] = stage as u8;
                errno
            }
            Self::Running { stamps } => {
                out[0] = b'R';
                for (i, stamp) in stamps.iter().enumerate() {
                    out[8 + 8 * i..16 + 8 * i].copy_from_slice(&stamp.to_le_bytes());
                }
                0
            }
            Self::Code(code) => {
                out[0] = b'C';
                code
            }
            Self::Signal(signal) => {
                out[0] = b'S';
                signal
            }
        };
        out[4..8].copy_from_slice(&value.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let value = i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        Some(match bytes[0] {
            b'F' => Self::Failed(Failure { stage: Stage::from_code(bytes[1]), errno: value }),
            b'R' => {
                let mut stamps = [0; 6];
                for (i, stamp) in stamps.iter_mut().enumerate() {
                    let mut one = [0; 8];
                    one.copy_from_slice(&bytes[8 + 8 * i..16 + 8 * i]);
                    *stamp = u64::from_le_bytes(one);
                }
                Self::Running { stamps }
            }
            b'C' => Self::Code(value),
            b'S' => Self::Signal(value),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Launch, RootId};
    use flint_model::ByteCount;

    #[test]
    fn a_launch_survives_the_crossing_and_every_cut_of_it_is_refused() {
        let mut launch = Launch::new(RootId(3), vec!["/bin/sh".into(), "".into()], ByteCount::from_mib(128));
        launch.env.push(("A".into(), "b=c".into()));
        let bytes = encode_launch(9, 5, &launch);
        let (id, request) = Request::decode(&bytes).unwrap();
        assert_eq!(id, 9);
        let Request::Launch(l) = request else { panic!("not a launch") };
        assert_eq!((l.slot, l.root, l.argv[0], l.env[0]), (5, 3, c"/bin/sh", c"A=b=c"));
        for cut in 0..bytes.len() {
            assert!(Request::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Request::decode(&longer).is_err());
    }

    #[test]
    fn replies_and_statuses_survive_the_crossing() {
        assert_eq!(Request::decode(&encode_settle_slot(7, 4)), Ok((7, Request::SettleSlot { slot: 4 })));
        assert_eq!(Request::decode(&encode_socket(7, 4)), Ok((7, Request::Socket { slot: 4 })));
        assert_eq!(Request::decode(&encode_measure(7, 4)), Ok((7, Request::Measure { slot: 4 })));
        let failure = Failure { stage: Stage::Proc, errno: 13 };
        for reply in [
            Reply::Root { root: 1 },
            Reply::Slot {
                slot: 2,
                mask: 5,
                form: SlotForm { freezer_v1: true, cpu_stat: false, cpu_max: true, signals: true },
            },
            Reply::Measured(Held { heap: 5, shared: u64::MAX }),
            Reply::Started { pid: 3, began_ns: 4 },
            Reply::Done,
            Reply::Full,
            Reply::Leaving,
            Reply::Failed(failure),
        ] {
            assert_eq!(Reply::decode(&reply.encode(8)), Ok((8, reply)));
        }
        for status in [
            Status::Failed(failure),
            Status::Running { stamps: [1, 2, 3, 4, 5, u64::MAX] },
            Status::Code(255),
            Status::Signal(9),
        ] {
            assert_eq!(Status::decode(&status.encode()), Some(status));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_message_or_refused(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120),
            kind in 0u8..9,
            count in 0u32..5,
        ) {
            let _ = Request::decode(&bytes);
            if let Ok((id, reply)) = Reply::decode(&bytes) {
                proptest::prop_assert_eq!(Reply::decode(&reply.encode(id)), Ok((id, reply)));
            }
            // With a good beginning, so that the kinds and counts are reached.
            let mut shaped = 7u64.to_le_bytes().to_vec();
            shaped.push(kind);
            shaped.extend_from_slice(&count.to_le_bytes());
            shaped.extend_from_slice(&bytes);
            let _ = Request::decode(&shaped);
            let mut status = [0; Status::SIZE];
            status.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            if let Some(found) = Status::decode(&status) {
                proptest::prop_assert_eq!(Status::decode(&found.encode()), Some(found));
            }
        }
    }
}
