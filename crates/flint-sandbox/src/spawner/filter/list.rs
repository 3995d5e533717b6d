//! Which system calls a function, and the unpack helper, may make.
//!
//! The function's list is what Node, Python, Go, Rust and Java programs use, with their libraries' older spellings of the
//! same calls. A call earns its place by a program that needs it and that has no other way: what every library falls
//! back from (`clone3`, `copy_file_range`, `rseq`, `renameat2`, POSIX timers, `membarrier`) answers ENOSYS.
//! `reachable` counts what is left; 150 is the promise.

use super::{Pass, Program, Test, Verdict, compile};

/// The compiled programs.
pub struct Filters {
    sandbox: [Program; 1],
    unpack: [Program; 1],
}

impl Filters {
    /// Compiles both. Errors: a number that is listed twice, named.
    pub fn compile() -> Result<Self, String> {
        let otherwise = Verdict::Fail(libc::ENOSYS as u16);
        Ok(Self {
            sandbox: [compile(&table(FUNCTION, true)?, &otherwise)],
            unpack: [compile(&table(UNPACK, false)?, &otherwise)],
        })
    }

    /// How many system calls a function can reach, those included whose arguments decide.
    ///
    /// Errors: as [`Filters::compile`].
    #[cfg(test)]
    pub fn reachable() -> Result<usize, String> {
        let table = table(FUNCTION, true)?;
        let open = |v: &Verdict| matches!(v, Verdict::Allow | Verdict::When(_, Pass::Allow, _));
        Ok(table.iter().filter(|(_, verdict)| open(verdict)).count())
    }

    pub fn sandbox(&self) -> &[Program] {
        &self.sandbox
    }

    pub fn unpack(&self) -> &[Program] {
        &self.unpack
    }
}

fn table(allowed: &[libc::c_long], function: bool) -> Result<Vec<(u32, Verdict)>, String> {
    let all = |list: &[libc::c_long], verdict: &Verdict| -> Vec<(u32, Verdict)> {
        list.iter().map(|&nr| (nr as u32, verdict.clone())).collect()
    };
    let mut table = all(allowed, &Verdict::Allow);
    table.extend(all(REFUSED, &Verdict::Fail(libc::EPERM as u16)));
    if function {
        table.extend(all(ANSWERED, &Verdict::Fail(0)));
        table.extend(all(NOT_SUPPORTED, &Verdict::Fail(libc::EOPNOTSUPP as u16)));
        table.extend(all(BY_REFERENCE, &Verdict::Fail(libc::EINVAL as u16)));
        table.extend(conditional());
    }
    table.sort_by_key(|(nr, _)| *nr);
    if let Some(pair) = table.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("system call {} is listed twice", pair[0].0));
    }
    Ok(table)
}

const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

fn is(argument: u8, value: u32) -> Test {
    Test::Bits { argument, mask: u32::MAX, value }
}

/// Calls whose arguments decide.
fn conditional() -> Vec<(u32, Verdict)> {
    let eperm = libc::EPERM as u16;
    let any_of = |argument: u8, values: &[u32], errno: i32| {
        Verdict::When(values.iter().map(|&v| vec![is(argument, v)]).collect(), Pass::Allow, errno as u16)
    };
    let mut list = vec![
        (
            libc::SYS_clone,
            Verdict::When(vec![vec![Test::Bits { argument: 0, mask: NAMESPACES, value: 0 }]], Pass::Allow, eperm),
        ),
        (libc::SYS_socket, Verdict::When(sockets(), Pass::Allow, libc::EAFNOSUPPORT as u16)),
        (libc::SYS_socketpair, any_of(0, &[libc::AF_UNIX as u32], libc::EAFNOSUPPORT)),
        (libc::SYS_setsockopt, Verdict::When(socket_options(), Pass::Allow, libc::ENOPROTOOPT as u16)),
        // Everything that pushes characters into a terminal or speaks to a driver is absent.
        (libc::SYS_ioctl, any_of(1, IOCTLS, libc::ENOTTY)),
        (libc::SYS_prctl, any_of(0, PRCTLS, libc::EPERM)),
        // Asking, and the default: the answer to both is 0, nothing else was ever set.
        (libc::SYS_personality, Verdict::When(vec![vec![is(0, 0)], vec![is(0, u32::MAX)]], Pass::Answer, eperm)),
        (libc::SYS_mknodat, Verdict::When(vec![vec![fifo(2)]], Pass::Allow, eperm)),
    ];
    #[cfg(target_arch = "x86_64")]
    list.push((libc::SYS_mknod, Verdict::Fail(eperm)));
    list.into_iter().map(|(nr, verdict)| (nr as u32, verdict)).collect()
}

fn fifo(argument: u8) -> Test {
    Test::Bits { argument, mask: libc::S_IFMT, value: libc::S_IFIFO }
}

/// Local sockets, TCP and UDP. The protocol is looked at too: under the same family and type hide others (MPTCP, SCTP,
/// L2TP, SMC, ping) whose modules the kernel would load.
fn sockets() -> Vec<Vec<Test>> {
    // The lowest four bits are the type, above them are flags.
    let kind = |kind: i32| Test::Bits { argument: 1, mask: 0xf, value: kind as u32 };
    let mut list: Vec<Vec<Test>> = Vec::new();
    for domain in [libc::AF_INET, libc::AF_INET6] {
        list.push(vec![is(0, domain as u32), kind(libc::SOCK_STREAM), one_of(2, &[0, 6])]);
        list.push(vec![is(0, domain as u32), kind(libc::SOCK_DGRAM), one_of(2, &[0, 17])]);
    }
    for one in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        list.push(vec![is(0, libc::AF_UNIX as u32), kind(one)]);
    }
    // Listing the own interfaces (`getifaddrs`); changing them takes a capability.
    list.push(vec![is(0, libc::AF_NETLINK as u32), is(2, libc::NETLINK_ROUTE as u32)]);
    list
}

fn one_of(argument: u8, values: &[u32]) -> Test {
    Test::OneOf { argument, set: values.iter().fold(0, |set, &v| set | 1 << v) }
}

/// The options that clients and servers set. Absent: filter programs, kernel TLS and other upper layers, encapsulation,
/// packet filters' tables, busy polling, marks.
fn socket_options() -> Vec<Vec<Test>> {
    let level = |level: i32, options: &[u32]| vec![is(1, level as u32), one_of(2, options)];
    vec![
        // REUSEADDR, BROADCAST, SNDBUF, RCVBUF, KEEPALIVE, OOBINLINE, PRIORITY, LINGER, REUSEPORT, PASSCRED, RCVLOWAT,
        // SNDLOWAT, RCVTIMEO, SNDTIMEO, TIMESTAMP, TIMESTAMPNS, RXQ_OVFL
        level(libc::SOL_SOCKET, &[2, 6, 7, 8, 9, 10, 12, 13, 15, 16, 18, 19, 20, 21, 29, 35, 40]),
        // NODELAY, MAXSEG, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, SYNCNT, LINGER2, DEFER_ACCEPT, WINDOW_CLAMP, QUICKACK,
        // CONGESTION, USER_TIMEOUT, FASTOPEN, NOTSENT_LOWAT, FASTOPEN_CONNECT
        level(libc::IPPROTO_TCP, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 18, 23, 25, 30]),
        // TOS, TTL, PKTINFO, MTU_DISCOVER, RECVERR, RECVTTL, RECVTOS, BIND_ADDRESS_NO_PORT, MULTICAST_IF, _TTL, _LOOP,
        // ADD_MEMBERSHIP, DROP_MEMBERSHIP
        level(libc::IPPROTO_IP, &[1, 2, 8, 10, 11, 12, 13, 24, 32, 33, 34, 35, 36]),
        // UNICAST_HOPS, MULTICAST_IF, _HOPS, _LOOP, JOIN_GROUP, LEAVE_GROUP, MTU_DISCOVER, RECVERR, V6ONLY, RECVPKTINFO,
        // PKTINFO, RECVHOPLIMIT, HOPLIMIT
        level(libc::IPPROTO_IPV6, &[16, 17, 18, 19, 20, 21, 23, 25, 26, 49, 50, 51, 52]),
        // RECVTCLASS, TCLASS
        vec![is(1, libc::IPPROTO_IPV6 as u32), is(2, 66)],
        vec![is(1, libc::IPPROTO_IPV6 as u32), is(2, 67)],
        // CORK
        level(libc::IPPROTO_UDP, &[1]),
        // EXT_ACK, GET_STRICT_CHK
        level(libc::SOL_NETLINK, &[11, 12]),
    ]
}

const IOCTLS: &[u32] = &[
    0x5401, // TCGETS: is it a terminal?
    0x5413, // TIOCGWINSZ
    0x540f, // TIOCGPGRP
    0x541b, // FIONREAD
    0x5421, // FIONBIO
    0x5450, // FIONCLEX
    0x5451, // FIOCLEX
    0x8910, 0x8912, 0x8913, 0x8915, 0x8919, 0x891b, 0x8921, 0x8927, 0x8933, // SIOCGIF*: the own interfaces
];

const PRCTLS: &[u32] = &[
    1,          // SET_PDEATHSIG
    2,          // GET_PDEATHSIG
    3,          // GET_DUMPABLE
    4,          // SET_DUMPABLE
    15,         // SET_NAME
    16,         // GET_NAME
    23,         // CAPBSET_READ
    29,         // SET_TIMERSLACK
    30,         // GET_TIMERSLACK
    36,         // SET_CHILD_SUBREAPER
    37,         // GET_CHILD_SUBREAPER
    38,         // SET_NO_NEW_PRIVS
    39,         // GET_NO_NEW_PRIVS
    41,         // SET_THP_DISABLE
    42,         // GET_THP_DISABLE
    0x53564d41, // SET_VMA
];

/// Named so that they answer "not permitted": they change the machine, look into others, or make a new world.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_syslog,
    libc::SYS_quotactl,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    libc::SYS_fanotify_init,
    libc::SYS_vhangup,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
    // There is one id inside: a change of owner is either nothing or not allowed.
    libc::SYS_fchown,
    libc::SYS_fchownat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    // Not next to a chosen neighbour.
    libc::SYS_sched_setaffinity,
    libc::SYS_setpriority,
];

/// Answered with 0 by the filter, without reaching the kernel. A function's files end with its environment, so there is
/// nothing to make durable, and a flush would be the host's: `sync` writes back everybody's data. Nothing is ever swapped,
/// so there is nothing to lock. The rest is advice.
const ANSWERED: &[libc::c_long] = &[
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_msync,
    libc::SYS_sync_file_range,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
];

/// They move pages between files and sockets by reference. This is what they answer for descriptors that can't, so
/// everyone who uses them copies instead.
const BY_REFERENCE: &[libc::c_long] = &[libc::SYS_sendfile, libc::SYS_splice, libc::SYS_tee, libc::SYS_vmsplice];

/// What a file system without extended attributes and without preallocation answers.
const NOT_SUPPORTED: &[libc::c_long] = &[
    libc::SYS_fallocate,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

const FUNCTION: &[libc::c_long] = &[
    // Files.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_openat,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_memfd_create,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Processes and threads.
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_tkill,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getpgid,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpriority,
    libc::SYS_getrusage,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_times,
    libc::SYS_restart_syscall,
    // Signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    // Time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_setitimer,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // Network.
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_accept,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_shutdown,
    libc::SYS_getrandom,
    // The older spellings of the same.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_create,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_inotify_init,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getpgrp,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_alarm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pause,
];

/// Reading one file, writing many, nothing else.
const UNPACK: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_mkdirat,
    libc::SYS_symlinkat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fchmod,
    libc::SYS_fsync,
    libc::SYS_syncfs,
    libc::SYS_fcntl,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
