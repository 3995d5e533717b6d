//! The system call filter: an allow-list, compiled once, installed by every child just before it forks the function.
//!
//! Three answers: allowed; `EPERM` for what exists to change the machine or to look into others; `ENOSYS` for everything
//! else, known or not, because that is what libraries have fallbacks for (`clone3` among them: its flags lie in memory,
//! where no filter can see them). Calls of another architecture's table kill the process.
//!
//! The program is a binary search, because the kernel runs it for every number when it is installed.

mod list;

use std::io;

pub use list::Filters;

/// One compiled program.
pub type Program = Vec<libc::sock_filter>;

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// Fails with this error number.
    Fail(u16),
    /// Allowed when one of the alternatives holds, else fails with the error number.
    When(Vec<Vec<Test>>, u16),
}

/// One condition on the lower half of an argument: `argument & mask == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    pub argument: u8,
    pub mask: u32,
    pub value: u32,
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JEQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JGE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JA: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RET: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

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
        Verdict::When(alternatives, errno) => {
            let mut program = Vec::new();
            for tests in alternatives {
                let mut block = Vec::new();
                for (i, test) in tests.iter().enumerate() {
                    block.push(step(LOAD, ARGS + 8 * u32::from(test.argument)));
                    block.push(step(AND, test.mask));
                    // To the next alternative: over the rest of this one's tests and its return.
                    let rest = 3 * (tests.len() - i - 1) + 1;
                    block.push(branch(JEQ, test.value, 0, rest as u8));
                }
                block.push(step(RET, libc::SECCOMP_RET_ALLOW));
                program.extend(block);
            }
            program.push(step(RET, fail(*errno)));
            program
        }
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
        let (mut at, mut acc) = (0, 0_u32);
        loop {
            let op = program[at];
            at += 1;
            match op.code {
                LOAD => acc = u32::from_le_bytes(data[op.k as usize..op.k as usize + 4].try_into().unwrap()),
                AND => acc &= op.k,
                JEQ => at += usize::from(if acc == op.k { op.jt } else { op.jf }),
                JGE => at += usize::from(if acc >= op.k { op.jt } else { op.jf }),
                JA => at += op.k as usize,
                RET => return op.k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
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
                        vec![Test { argument: 0, mask: u32::MAX, value: 2 }, Test { argument: 1, mask: 0xf, value: 1 }],
                        vec![Test { argument: 0, mask: u32::MAX, value: 5 }],
                    ],
                    13,
                ),
            ),
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
        assert_eq!(ask(9, 6, 1), fail(13));
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
        let reachable = (0..600).filter(|&nr| ask(nr, [0; 6]) == libc::SECCOMP_RET_ALLOW).count();
        println!("{reachable} calls reachable without conditions");
        assert!(reachable <= 180, "{reachable}");
    }
}
