//! What `/proc` shows inside: the own processes, the own size, and next to nothing of the host.
//!
//! Deny by default: the spawner looks once at what the kernel has there, and everything that is not named here is
//! covered, known or not. What programs size themselves by (`meminfo`, `cpuinfo`, `stat`, `loadavg`) is generated for the
//! memory of the function, once for each size, and bound over the kernel's.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use super::root;
use crate::sys::{fds, mount};

/// Where the generated files are in every root. Closed to all but root, who nobody inside is.
const SIZES: &CStr = c"/var/proc";

/// Sizes that are kept for one root; the one that was made first goes first.
const MAX_SIZES: usize = 64;

/// They stay as they are: own namespaces, what `uname` and the clock tell anyway, and the file systems' names.
const KEPT: [&[u8]; 5] = [b"sys", b"sysvipc", b"uptime", b"version", b"filesystems"];

/// They are replaced.
const GENERATED: [&CStr; 4] = [c"meminfo", c"cpuinfo", c"stat", c"loadavg"];

/// Covered whatever their permissions say.
const ALWAYS: [&[u8]; 3] = [b"kcore", b"kmsg", b"sysrq-trigger"];

/// What the host's `/proc` looks like.
pub struct Survey {
    /// Files that get the null device, directories that get an empty one; absolute.
    files: Vec<CString>,
    dirs: Vec<CString>,
    /// The host's `cpuinfo`, a part for each processor.
    processors: Vec<String>,
    /// When the host booted, seconds since 1970: `ps` reckons start times from it, and the clock tells it anyway.
    booted: String,
}

impl Survey {
    pub fn take() -> io::Result<Self> {
        // It tells two boots of a machine apart, and two machines.
        let mut files = vec![c"/proc/sys/kernel/random/boot_id".to_owned()];
        let mut dirs = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.as_bytes();
            let generated = GENERATED.iter().any(|g| g.to_bytes() == name);
            if generated || KEPT.contains(&name) || name.iter().all(u8::is_ascii_digit) {
                continue;
            }
            // A process that ended meanwhile is not asked; what else vanished needs no cover.
            let Ok(about) = entry.metadata() else { continue };
            let path = CString::new([b"/proc/", name].concat()).map_err(|_| io::ErrorKind::InvalidData)?;
            if about.is_dir() {
                dirs.push(path);
            } else if about.is_file() && (about.permissions().mode() & 0o006 != 0 || ALWAYS.contains(&name)) {
                files.push(path);
            }
        }
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let stat = std::fs::read_to_string("/proc/stat")?;
        let booted = stat.lines().find(|line| line.starts_with("btime ")).unwrap_or("btime 0").to_owned();
        Ok(Self { files, dirs, processors: split_processors(&cpuinfo), booted })
    }

    /// The four files for a function with this much memory, in the order of [`GENERATED`].
    fn texts(&self, memory: u64) -> [String; 4] {
        let count = processors(memory).min(self.processors.len());
        let mut cpuinfo = String::new();
        let mut stat = "cpu  0 0 0 0 0 0 0 0 0 0\n".to_owned();
        for (n, part) in self.processors[..count].iter().enumerate() {
            cpuinfo.push_str(part);
            writeln!(stat, "cpu{n} 0 0 0 0 0 0 0 0 0 0").expect("writing to a string");
        }
        let booted = &self.booted;
        writeln!(stat, "intr 0\nctxt 0\n{booted}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\nsoftirq 0")
            .expect("writing to a string");
        [meminfo(memory), cpuinfo, stat, "0.00 0.00 0.00 1/1 1\n".to_owned()]
    }
}

/// The parts of `cpuinfo`, each with the empty line behind it; at least one, so that there is something to show.
fn split_processors(cpuinfo: &str) -> Vec<String> {
    let parts: Vec<String> = cpuinfo
        .split("\n\n")
        .filter(|part| part.starts_with("processor"))
        .map(|part| format!("{}\n\n", part.trim_end()))
        .collect();
    if parts.is_empty() { vec!["processor\t: 0\n\n".to_owned()] } else { parts }
}

/// How many processors a function of this size is told of, where the host has as many.
///
/// Two up to 3,008 MB, then one for each 1,769 MB. Reference: Lambda Developer Guide, "Configuring memory" (1,769 MB are one
/// vCPU, 10,240 MB six); the two of the small ones is what such functions see there.
fn processors(memory: u64) -> usize {
    const MIB: u64 = 1 << 20;
    if memory <= 3008 * MIB { 2 } else { memory.div_ceil(1769 * MIB) as usize }
}

/// All of it free: the file stays as it is while the function runs.
fn meminfo(memory: u64) -> String {
    let total = memory / 1024;
    let mut text = String::new();
    let mut say = |name: &str, kib: u64| {
        writeln!(text, "{:<15} {kib:>8} kB", format!("{name}:")).expect("writing to a string");
    };
    for name in ["MemTotal", "MemFree", "MemAvailable"] {
        say(name, total);
    }
    for name in [
        "Buffers",
        "Cached",
        "SwapCached",
        "Active",
        "Inactive",
        "Unevictable",
        "Mlocked",
        "SwapTotal",
        "SwapFree",
        "Dirty",
        "Writeback",
        "AnonPages",
        "Mapped",
        "Shmem",
        "KReclaimable",
        "Slab",
        "SReclaimable",
        "SUnreclaim",
        "KernelStack",
        "PageTables",
    ] {
        say(name, 0);
    }
    say("CommitLimit", total);
    say("Committed_AS", 0);
    text.push_str("HugePages_Total:       0\nHugePages_Free:        0\n");
    text
}

/// The generated files of one root, on a small file system of their own.
pub struct Sizes {
    dir: OwnedFd,
    made: VecDeque<u64>,
}

impl Sizes {
    /// Attaches the file system to a root that is being built.
    pub fn attach(root: RawFd) -> io::Result<Self> {
        let options = [(c"size", c"8m"), (c"nr_inodes", c"1k"), (c"mode", c"0700")];
        let dir = mount::new_fs(c"tmpfs", &options, mount::NOSUID | mount::NODEV | mount::NOEXEC)?;
        mount::attach(dir.as_raw_fd(), root, c"var/proc")?;
        // All sandboxes of a root share the files. Without root they are their owner's too: they see it read-only.
        let shown = mount::clone_tree(dir.as_raw_fd(), c"")?;
        mount::set_attributes(shown.as_raw_fd(), mount::RDONLY)?;
        mount::attach(shown.as_raw_fd(), root, c"var/proc")?;
        Ok(Self { dir, made: VecDeque::new() })
    }

    /// The directory inside with the files for this much memory.
    pub fn directory(&mut self, survey: &Survey, memory: u64) -> io::Result<CString> {
        let name = text(memory.to_string());
        if !self.made.contains(&memory) {
            if self.made.len() >= MAX_SIZES {
                self.forget_one()?;
            }
            let root = self.dir.as_raw_fd();
            fds::mkdir_at(root, &name, 0o700)?;
            let dir = fds::open_at(root, &name, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
            for (file, content) in GENERATED.iter().zip(survey.texts(memory)) {
                root::put_file(dir.as_raw_fd(), file, 0o444, content.as_bytes())?;
            }
            self.made.push_back(memory);
        }
        Ok(text(format!("{}/{memory}", SIZES.to_str().expect("a literal of plain letters"))))
    }

    /// Sandboxes that have its files bound keep them.
    fn forget_one(&mut self) -> io::Result<()> {
        let Some(memory) = self.made.pop_front() else { return Ok(()) };
        let name = text(memory.to_string());
        let dir = fds::open_at(self.dir.as_raw_fd(), &name, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        for file in GENERATED {
            fds::unlink_at(dir.as_raw_fd(), file)?;
        }
        fds::rmdir_at(self.dir.as_raw_fd(), &name)
    }
}

fn text(text: String) -> CString {
    CString::new(text).expect("numbers and literals hold no NUL")
}

/// Puts a fresh, read-only `/proc` of this pid namespace into a sandbox that is being made, and covers it; the path is that
/// of the generated files.
pub fn mount(proc: OwnedFd, covers: Option<(&Survey, &CStr)>) -> io::Result<()> {
    mount::attach(proc.as_raw_fd(), libc::AT_FDCWD, c"/proc")?;
    let Some((survey, sizes)) = covers else { return Ok(()) };
    // The spawner writes to this file system by a descriptor of its own; in here it is read-only from now on.
    let generated = fds::open(SIZES, libc::O_PATH | libc::O_NOFOLLOW)?;
    mount::set_attributes(generated.as_raw_fd(), mount::RDONLY)?;
    let sizes = fds::open(sizes, libc::O_PATH | libc::O_NOFOLLOW)?;
    for file in GENERATED {
        cover(sizes.as_raw_fd(), file, proc.as_raw_fd(), file)?;
    }
    let null = fds::open(c"/dev/null", libc::O_PATH | libc::O_NOFOLLOW)?;
    if !fds::is_null_device(null.as_raw_fd())? {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for file in &survey.files {
        cover(null.as_raw_fd(), c"", libc::AT_FDCWD, file)?;
    }
    for dir in &survey.dirs {
        cover(libc::AT_FDCWD, root::EMPTY, libc::AT_FDCWD, dir)?;
    }
    Ok(())
}

/// Binds one thing over another; what does not exist any more needs no cover.
fn cover(source: RawFd, path: &CStr, dir: RawFd, target: &CStr) -> io::Result<()> {
    let tree = mount::clone_tree(source, path)?;
    match mount::attach(tree.as_raw_fd(), dir, target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_function_s() {
        let survey = Survey {
            files: Vec::new(),
            dirs: Vec::new(),
            processors: split_processors("processor\t: 0\na : b\n\nprocessor\t: 1\n\nprocessor\t: 2\n\n"),
            booted: "btime 7".to_owned(),
        };
        let [meminfo, cpuinfo, stat, _] = survey.texts(128 << 20);
        assert!(
            meminfo.starts_with("MemTotal:         131072 kB\nMemFree:          131072 kB\nMemAvailable:"),
            "{meminfo}"
        );
        assert_eq!(cpuinfo, "processor\t: 0\na : b\n\nprocessor\t: 1\n\n");
        assert!(stat.contains("cpu1 0") && !stat.contains("cpu2") && stat.contains("\nbtime 7\n"), "{stat}");
        assert_eq!(survey.texts(10_240 << 20)[1].matches("processor").count(), 3, "the host has no more");
        for (mib, count) in [(128, 2), (3008, 2), (3009, 2), (3539, 3), (5307, 3), (5308, 4), (8845, 5), (10_240, 6)] {
            assert_eq!(processors(mib << 20), count, "{mib}");
        }
    }

    #[test]
    fn the_survey_leaves_nothing_out() {
        let survey = Survey::take().unwrap();
        let covered = |path: &str| survey.files.iter().chain(&survey.dirs).any(|c| c.to_bytes() == path.as_bytes());
        for path in
            ["/proc/kallsyms", "/proc/interrupts", "/proc/irq", "/proc/vmstat", "/proc/diskstats", "/proc/cgroups"]
        {
            assert!(covered(path) || std::fs::metadata(path).is_err(), "{path}");
        }
        for path in ["/proc/self", "/proc/1", "/proc/net", "/proc/mounts", "/proc/sys", "/proc/meminfo"] {
            assert!(!covered(path), "{path}");
        }
    }
}
