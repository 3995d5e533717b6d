//! The system call filter: an allow-list, compiled once, installed by every child just before it forks the function.
//!
//! Four answers: allowed; success without doing anything, for what is without meaning inside; `EPERM` for what exists to
//! change the machine or to look into others; `ENOSYS` for everything else, known or not, because that is what libraries
//! have fallbacks for (`clone3` among them: its flags lie in memory, where no filter can see them). Calls of another
//! architecture's table kill the process.
//!
//! The program is a binary search, because the kernel runs it for every number when it is installed: the calls that are
//! allowed whatever their arguments go into a bitmap, and the program does not run for them again.

mod list;

use std::io;

pub use list::Filters;

/// One compiled program.
pub type Program = Vec<libc::sock_filter>;

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// Fails with this error number; with 0 it seems to succeed.
    Fail(u16),
    /// When one of the alternatives holds it passes, else it fails with the error number.
    When(Vec<Vec<Test>>, Pass, u16),
}

/// What passing means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The kernel does it.
    Allow,
    /// The filter answers 0.
    Answer,
}

/// One condition on the lower half of an argument. The kernel itself looks at no more of the arguments that are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// `argument & mask == value`
    Bits { argument: u8, mask: u32, value: u32 },
    /// The argument is the number of a bit of `set`.
    OneOf { argument: u8, set: u64 },
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JEQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JGE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JA: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RET: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_IMM) as u16;
const TO_X: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
const SHIFT_BY_X: u16 = (libc::BPF_ALU | libc::BPF_RSH | libc::BPF_X) as u16;

/// `struct seccomp_data`: nr, arch, instruction pointer, six arguments of 64 bits.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

fn step(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn fail(errno: u16) -> u32 {
    libc::SECCOMP_RET_ERRNO | u32::from(errno)
}

/// Compiles a table of (number, verdict), sorted by number without repetitions; every other number gets `otherwise`.
pub fn compile(table: &[(u32, Verdict)], otherwise: &Verdict) -> Program {
    // Neighbours with one verdict become one range: (first number, verdict).
    let mut ranges: Vec<(u32, &Verdict)> = vec![(0, otherwise)];
    let mut push = |from: u32, verdict| match ranges.last_mut() {
        Some((start, last)) if *start == from => *last = verdict,
        Some((_, last)) if *last == verdict => {}
        _ => ranges.push((from, verdict)),
    };
    for (number, verdict) in table {
        push(*number, verdict);
        push(*number + 1, otherwise);
    }
    // A range that was overwritten may now equal the one before it.
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    let mut program = vec![
        step(LOAD, ARCH),
        branch(JEQ, AUDIT_ARCH, 1, 0),
        step(RET, libc::SECCOMP_RET_KILL_PROCESS),
        step(LOAD, NR),
    ];
    program.extend(search(&ranges));
    program
}

fn search(ranges: &[(u32, &Verdict)]) -> Program {
    if let [(_, verdict)] = ranges {
        return leaf(verdict);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let left = search(low);
    let mut program = vec![branch(JGE, high[0].0, 0, 1), step(JA, left.len() as u32)];
    program.extend(left);
    program.extend(search(high));
    program
}

fn leaf(verdict: &Verdict) -> Program {
    match verdict {
        Verdict::Allow => vec![step(RET, libc::SECCOMP_RET_ALLOW)],
        Verdict::Fail(errno) => vec![step(RET, fail(*errno))],
        Verdict::When(alternatives, pass, errno) => {
            let pass = match pass {
                Pass::Allow => libc::SECCOMP_RET_ALLOW,
                Pass::Answer => fail(0),
            };
            let mut program: Program = alternatives.iter().flat_map(|tests| block(tests, pass)).collect();
            program.push(step(RET, fail(*errno)));
            program
        }
    }
}

/// Returns `pass` when all of the tests hold; when one does not, goes on behind its own end.
fn block(tests: &[Test], pass: u32) -> Program {
    let mut block = vec![step(RET, pass)];
    // From the last to the first, because a test that fails jumps over all that follow it.
    for test in tests.iter().rev() {
        let mut program = code(test, block.len() as u8);
        program.extend(block);
        block = program;
    }
    block
}

/// One test; `rest` is how many instructions lie between it and the end of its block.
fn code(test: &Test, rest: u8) -> Program {
    let load = |argument: u8| step(LOAD, ARGS + 8 * u32::from(argument));
    match *test {
        Test::Bits { argument, mask: u32::MAX, value } => vec![load(argument), branch(JEQ, value, 0, rest)],
        Test::Bits { argument, mask, value } => {
            vec![load(argument), step(AND, mask), branch(JEQ, value, 0, rest)]
        }
        Test::OneOf { argument, set } => vec![
            load(argument),
            branch(JGE, 64, rest + 10, 0),
            branch(JGE, 32, 3, 0),
            step(TO_X, 0),
            step(LOAD_NUMBER, set as u32),
            step(JA, 3),
            step(AND, 31),
            step(TO_X, 0),
            step(LOAD_NUMBER, (set >> 32) as u32),
            step(SHIFT_BY_X, 0),
            step(AND, 1),
            branch(JEQ, 1, 0, rest),
        ],
    }
}

/// Puts the programs into force for this process and all that it starts; for ever.
pub fn install(programs: &[Program]) -> io::Result<()> {
    for program in programs {
        let header = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: `header` describes `program`, which the kernel copies.
        crate::sys::check(unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const header)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tiny machine for the programs above.
    fn run(program: &Program, arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(nr.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend(0_u64.to_le_bytes());
        args.iter().for_each(|a| data.extend(a.to_le_bytes()));
        let (mut at, mut acc, mut x) = (0, 0_u32, 0);
        loop {
            let op = program[at];
            at += 1;
            match op.code {
                LOAD => acc = u32::from_le_bytes(data[op.k as usize..op.k as usize + 4].try_into().unwrap()),
                AND => acc &= op.k,
                JEQ => at += usize::from(if acc == op.k { op.jt } else { op.jf }),
                JGE => at += usize::from(if acc >= op.k { op.jt } else { op.jf }),
                JA => at += op.k as usize,
                LOAD_NUMBER => acc = op.k,
                TO_X => x = acc,
                SHIFT_BY_X => acc >>= x,
                RET => return op.k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn bits(argument: u8, mask: u32, value: u32) -> Test {
        Test::Bits { argument, mask, value }
    }

    #[test]
    fn the_program_says_what_the_table_says() {
        let table = [
            (0, Verdict::Allow),
            (3, Verdict::Allow),
            (4, Verdict::Allow),
            (7, Verdict::Fail(1)),
            (
                9,
                Verdict::When(
                    vec![
                        vec![bits(0, u32::MAX, 2), bits(1, 0xf, 1)],
                        vec![bits(0, u32::MAX, 6), Test::OneOf { argument: 1, set: 1 | 1 << 31 | 1 << 32 | 1 << 63 }],
                        vec![bits(0, u32::MAX, 5)],
                    ],
                    Pass::Allow,
                    13,
                ),
            ),
            (11, Verdict::When(vec![vec![bits(0, u32::MAX, 0)]], Pass::Answer, 1)),
        ];
        let program = compile(&table, &Verdict::Fail(38));
        let ask = |nr, a, b| run(&program, AUDIT_ARCH, nr, [a, b, 0, 0, 0, 0]);
        for nr in [0, 3, 4] {
            assert_eq!(ask(nr, 0, 0), libc::SECCOMP_RET_ALLOW, "{nr}");
        }
        for nr in [1, 2, 5, 6, 8, 10, 500, 0x4000_0000, u32::MAX] {
            assert_eq!(ask(nr, 0, 0), fail(38), "{nr}");
        }
        assert_eq!(ask(7, 0, 0), fail(1));
        assert_eq!(ask(9, 2, 0x81), libc::SECCOMP_RET_ALLOW);
        assert_eq!(ask(9, 2, 2), fail(13));
        assert_eq!(ask(9, 5, 2), libc::SECCOMP_RET_ALLOW);
        assert_eq!(ask(9, 7, 1), fail(13));
        for bit in 0..100 {
            let allowed = [0, 31, 32, 63].contains(&bit);
            assert_eq!(ask(9, 6, bit) == libc::SECCOMP_RET_ALLOW, allowed, "{bit}");
        }
        assert_eq!(ask(9, 6, u64::from(u32::MAX)), fail(13));
        assert_eq!((ask(11, 0, 0), ask(11, 1, 0)), (fail(0), fail(1)));
        assert_eq!(run(&program, 0x4000_0003, 0, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn the_real_lists_hold_what_they_must() {
        let filters = Filters::compile().unwrap();
        let program = &filters.sandbox()[0];
        assert!(program.len() < 4096);
        let ask = |nr: libc::c_long, args| run(program, AUDIT_ARCH, nr as u32, args);
        let one = |a: u64| [a, 0, 0, 0, 0, 0];
        for nr in [libc::SYS_read, libc::SYS_execve, libc::SYS_futex, libc::SYS_openat, libc::SYS_close_range] {
            assert_eq!(ask(nr, [0; 6]), libc::SECCOMP_RET_ALLOW, "{nr}");
        }
        for nr in [libc::SYS_mount, libc::SYS_ptrace, libc::SYS_bpf, libc::SYS_unshare, libc::SYS_setns] {
            assert_eq!(ask(nr, [0; 6]), fail(libc::EPERM as u16), "{nr}");
        }
        assert_eq!(ask(libc::SYS_clone3, [0; 6]), fail(libc::ENOSYS as u16));
        assert_eq!(ask(libc::SYS_clone, one(libc::SIGCHLD as u64)), libc::SECCOMP_RET_ALLOW);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID] {
            assert_eq!(ask(libc::SYS_clone, one(flag as u32 as u64 | 17)), fail(libc::EPERM as u16));
        }
        let socket = |domain: i32, kind: i32, protocol: i32| {
            ask(libc::SYS_socket, [domain as u64, kind as u64, protocol as u64, 0, 0, 0])
        };
        assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 6), libc::SECCOMP_RET_ALLOW);
        assert_eq!(socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0), libc::SECCOMP_RET_ALLOW);
        assert_ne!(socket(libc::AF_INET, libc::SOCK_RAW, 1), libc::SECCOMP_RET_ALLOW);
        assert_ne!(socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0), libc::SECCOMP_RET_ALLOW);
        assert_ne!(socket(libc::AF_PACKET, libc::SOCK_RAW, 0), libc::SECCOMP_RET_ALLOW);
        assert_ne!(ask(libc::SYS_ioctl, [0, 0x5412, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        let option = |level: i32, name: u64| ask(libc::SYS_setsockopt, [3, level as u64, name, 0, 0, 0]);
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_REUSEADDR as u64), libc::SECCOMP_RET_ALLOW);
        assert_eq!(option(libc::IPPROTO_TCP, libc::TCP_NODELAY as u64), libc::SECCOMP_RET_ALLOW);
        for (level, name) in [
            (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER as u64),
            (libc::SOL_SOCKET, libc::SO_ATTACH_BPF as u64),
            (libc::IPPROTO_TCP, libc::TCP_ULP as u64),
            (libc::IPPROTO_IP, 64),
            (libc::IPPROTO_IPV6, 64),
            (libc::IPPROTO_UDP, 100),
            (libc::SOL_PACKET, 1),
        ] {
            assert_eq!(option(level, name), fail(libc::ENOPROTOOPT as u16), "{level} {name}");
        }
        // The kernel would load a module for each of these.
        for (kind, protocol) in [(libc::SOCK_STREAM, 132), (libc::SOCK_STREAM, 262), (libc::SOCK_DGRAM, 115)] {
            assert_ne!(socket(libc::AF_INET, kind, protocol), libc::SECCOMP_RET_ALLOW, "{protocol}");
        }
        for nr in [libc::SYS_sync, libc::SYS_fsync, libc::SYS_mlock] {
            assert_eq!(ask(nr, [0; 6]), fail(0), "{nr}");
        }
        // What passes without conditions gives one and the same answer for all arguments, and what passes for some only is
        // known: the rest of the table can't be reached.
        let open: Vec<_> = (0..1024).filter(|&nr| ask(nr, [0; 6]) == libc::SECCOMP_RET_ALLOW).collect();
        let reachable = Filters::reachable().unwrap();
        println!("{reachable} calls reachable, {} without conditions", open.len());
        assert!(open.len() <= reachable && reachable <= 150, "{reachable}: {open:?}");
    }

    #[test]
    fn what_is_allowed_always_is_so_without_a_look_at_the_arguments() {
        // The kernel's bitmap holds only numbers that the program allows by number and architecture alone.
        let filters = Filters::compile().unwrap();
        let program = &filters.sandbox()[0];
        for nr in [libc::SYS_read, libc::SYS_futex, libc::SYS_openat, libc::SYS_sendto, libc::SYS_epoll_pwait] {
            let (mut at, mut acc) = (0, 0);
            let answer = loop {
                let op = program[at];
                at += 1;
                match (op.code, op.k) {
                    (LOAD, NR) => acc = nr as u32,
                    (LOAD, ARCH) => acc = AUDIT_ARCH,
                    (JEQ, k) => at += usize::from(if acc == k { op.jt } else { op.jf }),
                    (JGE, k) => at += usize::from(if acc >= k { op.jt } else { op.jf }),
                    (JA, k) => at += k as usize,
                    (RET, k) => break k,
                    other => panic!("{nr} meets {other:x?}"),
                }
            };
            assert_eq!(answer, libc::SECCOMP_RET_ALLOW, "{nr}");
        }
    }
}
