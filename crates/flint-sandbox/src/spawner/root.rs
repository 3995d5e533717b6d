//! Roots: read-only file systems, each built once in a mount namespace that only a descriptor keeps alive.
//!
//! A root is a small tmpfs with the host's `/usr` bound into it, a generated `/etc`, a `/dev` of six nodes, and what the
//! caller adds. A sandbox gets a copy of the namespace, so that it starts inside the root with nothing of the host's
//! behind it: no pivot and no unmount in the path of a launch.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::base;
use super::proc::Sizes;
use crate::cgroup::c_path;
use crate::error::Stage;
use crate::message::{At as _, Failure, FileHead, MAX_ROOT_BYTES};
use crate::sys::{fds, mount, process};

/// Where the empty directory for masks is.
pub const EMPTY: &CStr = c"/var/empty";

/// Where the unpack helper finds the staging directory.
pub const STAGING: &CStr = c"/staging";

/// Attributes of everything that comes from the host.
pub const FROM_HOST: u64 = mount::RDONLY | mount::NOSUID | mount::NODEV;

/// A host tree that waits to be attached.
struct Tree {
    fd: OwnedFd,
    target: CString,
}

/// A root that is ready.
pub struct Root {
    pub namespace: OwnedFd,
    pub sizes: Sizes,
}

/// How roots are built on this host.
pub struct Builder {
    pub host_mounts: RawFd,
    /// Device nodes can't be made: the host's are bound in.
    pub rootless: bool,
}

impl Builder {
    /// Builds a root.
    pub fn build(&self, binds: &[(&CStr, &CStr)], files: &[FileHead<'_>], contents: RawFd) -> Result<Root, Failure> {
        let total = files.iter().try_fold(0_u64, |sum, f| sum.checked_add(f.length));
        if total.is_none_or(|t| t > MAX_ROOT_BYTES) {
            return Err(Failure { stage: Stage::Request, errno: libc::EFBIG });
        }
        let trees = host_trees(binds).at(Stage::Root)?;
        let devices = if self.rootless { Some(host_devices().at(Stage::Root)?) } else { None };
        let (namespace, sizes) = in_new_namespace(self.host_mounts, |root| {
            furnish(root)?;
            furnish_dev(root, devices.as_deref())?;
            for tree in &trees {
                let target = relative(&tree.target)?;
                make_parents(root, target.to_bytes())?;
                make_dir(root, &target)?;
                mount::attach(tree.fd.as_raw_fd(), root, &target)?;
            }
            let empty = mount::clone_tree(root, c"var/empty")?;
            mount::set_attributes(empty.as_raw_fd(), FROM_HOST | mount::NOEXEC)?;
            match mount::attach(empty.as_raw_fd(), root, c"usr/local") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut offset = 0;
            for file in files {
                write_file(root, file, contents, offset)?;
                offset += file.length;
            }
            Sizes::attach(root)
        })?;
        Ok(Root { namespace, sizes })
    }

    /// The root of the unpack helper: nothing but the place where the staging directory goes.
    pub fn build_empty(&self) -> Result<OwnedFd, Failure> {
        in_new_namespace(self.host_mounts, |root| make_dir(root, c"staging")).map(|(namespace, ())| namespace)
    }
}

/// Runs `fill` on a new tmpfs in a new mount namespace, makes it that namespace's read-only root, and comes back.
fn in_new_namespace<T>(host_mounts: RawFd, fill: impl FnOnce(RawFd) -> io::Result<T>) -> Result<(OwnedFd, T), Failure> {
    process::unshare(libc::CLONE_NEWNS).at(Stage::Root)?;
    let build = || {
        mount::make_all_private()?;
        let namespace = fds::open(c"/proc/self/ns/mnt", libc::O_RDONLY)?;
        let root = mount::new_fs(c"tmpfs", &[(c"size", c"96m"), (c"nr_inodes", c"16k"), (c"mode", c"0755")], 0)?;
        // Any directory will do: it is covered in this namespace only, until the root changes.
        mount::attach(root.as_raw_fd(), libc::AT_FDCWD, c"/usr")?;
        let filled = fill(root.as_raw_fd())?;
        mount::become_root(root.as_raw_fd())?;
        mount::set_attributes(root.as_raw_fd(), FROM_HOST)?;
        Ok((namespace, filled))
    };
    let built: io::Result<(OwnedFd, T)> = build();
    // Whatever happened: back to where the host's trees are. A half-made root vanishes with its namespace.
    process::set_ns(host_mounts, libc::CLONE_NEWNS).at(Stage::Root)?;
    built.at(Stage::Root)
}

/// Clones the host's trees while this process is still in the host's mount namespace.
fn host_trees(binds: &[(&CStr, &CStr)]) -> io::Result<Vec<Tree>> {
    let mut trees = Vec::new();
    let mut add = |source: &Path, target: &CStr| -> io::Result<()> {
        trees.push(Tree { fd: host_tree(&c_path(source)?)?, target: target.to_owned() });
        Ok(())
    };
    add(Path::new("/usr"), c"/usr")?;
    // On hosts without the merged layout these are directories of their own.
    for top in [c"/bin", c"/sbin", c"/lib", c"/lib32", c"/lib64", c"/libx32"] {
        let path = Path::new(std::ffi::OsStr::from_bytes(top.to_bytes()));
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
            add(path, top)?;
        }
    }
    for (path, target) in etc_directories() {
        add(&path, &target)?;
    }
    for (source, target) in binds {
        let source = Path::new(std::ffi::OsStr::from_bytes(source.to_bytes()));
        if !source.is_absolute() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let source = std::fs::canonicalize(source)?;
        if !source.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        add(&source, target)?;
    }
    Ok(trees)
}

/// A copy of a host tree without what is mounted below it. To a spawner that is not root the kernel gives it only whole,
/// because what is mounted may be there to hide something.
fn host_tree(path: &CStr) -> io::Result<OwnedFd> {
    match mount::clone_tree(libc::AT_FDCWD, path) {
        Ok(tree) => mount::set_attributes(tree.as_raw_fd(), FROM_HOST).map(|()| tree),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let tree = mount::clone_whole_tree(libc::AT_FDCWD, path)?;
            mount::set_whole_attributes(tree.as_raw_fd(), FROM_HOST).map(|()| tree)
        }
        Err(error) => Err(error),
    }
}

/// The nodes of `/dev`: name, major, minor.
const DEVICES: [(&CStr, u32, u32); 6] =
    [(c"null", 1, 3), (c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)];

/// The host's own nodes, each as a detached mount.
fn host_devices() -> io::Result<Vec<OwnedFd>> {
    DEVICES.iter().map(|(name, major, minor)| base::device(name, (*major, *minor))).collect()
}

/// The parts of the host's `/etc` that libraries need and that hold nothing secret.
fn etc_directories() -> Vec<(std::path::PathBuf, CString)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/etc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let bytes = name.as_bytes();
        let wanted = [b"alternatives".as_slice(), b"ca-certificates", b"pki", b"crypto-policies"].contains(&bytes)
            || bytes.starts_with(b"java")
            || bytes == b"ssl";
        if wanted && entry.file_type().is_ok_and(|t| t.is_dir()) {
            let mut target = b"/etc/".to_vec();
            target.extend_from_slice(bytes);
            if let Ok(target) = CString::new(target) {
                found.push((entry.path(), target));
            }
        }
    }
    found
}

/// Everything in a root that is generated.
fn furnish(root: RawFd) -> io::Result<()> {
    for dir in [
        c"usr",
        c"etc",
        c"dev",
        c"proc",
        c"tmp",
        c"opt",
        c"var",
        c"run",
        c"home",
        c"root",
        c"mnt",
        c"var/task",
        c"var/runtime",
        c"var/lang",
        c"var/empty",
        c"var/tmp",
        c"var/log",
        c"var/proc",
    ] {
        make_dir(root, dir)?;
    }
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        if let Ok(target) = std::fs::read_link(Path::new("/").join(name)) {
            let name = CString::new(name).expect("the literals above hold no NUL");
            fds::symlink_at(&c_path(&target)?, root, &name)?;
        }
    }
    let id = crate::api::INSIDE_ID;
    let passwd = format!(
        "root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:{id}:{id}::/home/sbx_user1051:/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
    );
    let group = format!("root:x:0:\nsbx_user1051:x:{id}:\nnogroup:x:65534:\n");
    let loader_cache = std::fs::read("/etc/ld.so.cache").unwrap_or_default();
    let texts: [(&CStr, &[u8]); 9] = [
        (c"etc/passwd", passwd.as_bytes()),
        (c"etc/group", group.as_bytes()),
        (c"etc/hosts", b"127.0.0.1 localhost sandbox sandbox.localdomain\n::1 localhost\n"),
        (c"etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"),
        (c"etc/resolv.conf", b""),
        (c"etc/host.conf", b"multi on\n"),
        (c"etc/shells", b"/bin/sh\n"),
        (c"etc/protocols", b"tcp 6 TCP\nudp 17 UDP\n"),
        (c"etc/services", b"http 80/tcp\nhttps 443/tcp\ndomain 53/tcp\ndomain 53/udp\n"),
    ];
    for (path, text) in texts {
        put_file(root, path, 0o644, text)?;
    }
    if !loader_cache.is_empty() {
        put_file(root, c"etc/ld.so.cache", 0o644, &loader_cache)?;
    }
    fds::symlink_at(c"/usr/share/zoneinfo/UTC", root, c"etc/localtime")?;
    fds::symlink_at(c"/proc/self/mounts", root, c"etc/mtab")
}

/// Six device nodes that give nothing away, and the names for standard streams. The nodes are `bound`, or made.
fn furnish_dev(root: RawFd, bound: Option<&[OwnedFd]>) -> io::Result<()> {
    let attributes = mount::NOSUID | mount::NOEXEC;
    let dev = mount::new_fs(c"tmpfs", &[(c"size", c"64k"), (c"nr_inodes", c"64"), (c"mode", c"0755")], attributes)?;
    let dir = dev.as_raw_fd();
    for (name, major, minor) in DEVICES {
        if bound.is_some() {
            create_file(dir, name, 0)?;
        } else {
            fds::mknod_at(dir, name, libc::S_IFCHR | 0o666, major, minor)?;
            open_to_all(dir, name)?;
        }
    }
    for (target, name) in [
        (c"/proc/self/fd", c"fd"),
        (c"/proc/self/fd/0", c"stdin"),
        (c"/proc/self/fd/1", c"stdout"),
        (c"/proc/self/fd/2", c"stderr"),
    ] {
        fds::symlink_at(target, dir, name)?;
    }
    make_dir(dir, c"shm")?;
    mount::attach(dir, root, c"dev")?;
    for (node, (name, ..)) in bound.into_iter().flatten().zip(DEVICES) {
        mount::attach(node.as_raw_fd(), dir, name)?;
    }
    mount::set_attributes(dir, attributes | mount::RDONLY)
}

/// Mode 0666 whatever the umask says.
fn open_to_all(dir: RawFd, name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated.
    crate::sys::check_int(unsafe { libc::fchmodat(dir, name.as_ptr(), 0o666, 0) }).map(drop)
}

fn make_dir(root: RawFd, path: &CStr) -> io::Result<()> {
    match fds::mkdir_at(root, path, 0o755) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// `/a/b` as `a/b`, when it is absolute and has no empty, `.` or `..` component.
fn relative(path: &CStr) -> io::Result<CString> {
    let bad = || io::Error::from_raw_os_error(libc::EINVAL);
    let rest = path.to_bytes().strip_prefix(b"/").ok_or_else(bad)?;
    if rest.split(|&b| b == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
        return Err(bad());
    }
    CString::new(rest).map_err(|_| bad())
}

/// Makes the directories above `path`.
fn make_parents(root: RawFd, path: &[u8]) -> io::Result<()> {
    for (i, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
        let parent = CString::new(&path[..i]).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        make_dir(root, &parent)?;
    }
    Ok(())
}

pub(super) fn put_file(root: RawFd, path: &CStr, mode: u32, content: &[u8]) -> io::Result<()> {
    let file = create_file(root, path, mode)?;
    fds::write_all(file.as_raw_fd(), content)
}

fn create_file(root: RawFd, path: &CStr, mode: u32) -> io::Result<OwnedFd> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let file = fds::open_at(root, path, flags, mode)?;
    fds::chmod(file.as_raw_fd(), mode & 0o777)?;
    Ok(file)
}

/// Copies one generated file out of the memfd; a memfd that is shorter than promised is an error.
fn write_file(root: RawFd, head: &FileHead<'_>, contents: RawFd, offset: u64) -> io::Result<()> {
    let path = relative(head.path)?;
    make_parents(root, path.to_bytes())?;
    let file = create_file(root, &path, head.mode)?;
    let mut buffer = [0_u8; 16 * 1024];
    let mut done = 0;
    while done < head.length {
        let want = (head.length - done).min(buffer.len() as u64) as usize;
        let n = fds::read_at(contents, &mut buffer[..want], (offset + done) as i64)?;
        if n == 0 {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        fds::write_all(file.as_raw_fd(), &buffer[..n])?;
        done += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_inside_are_absolute_and_plain() {
        assert_eq!(relative(c"/var/lang").unwrap().as_c_str(), c"var/lang");
        for bad in [c"var", c"/", c"/a/../b", c"/a//b", c"/./a", c"", c"/a/"] {
            assert!(relative(bad).is_err(), "{bad:?}");
        }
    }
}
