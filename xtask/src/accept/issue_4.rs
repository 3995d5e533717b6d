//! Issue 4: hostile code stays inside, limits are exact.

use super::Run::{Program, Scenarios};
use super::{Bound, Check, Line};

const fn check(name: &'static str, run: super::Run, limit_s: u64) -> Check {
    Check { name, run, limit_s, bounds: &[] }
}

pub const LINES: &[Line] = &[
    Line {
        number: "1",
        text: "hostile suite: hybrid, version 1 only, version 2 on a fake tree, rootless; controls fire, harmlessly",
        checks: &[
            Check {
                name: "hostile suite",
                run: Scenarios(&["hostile"]),
                limit_s: 360,
                bounds: &[Bound::AtLeast("hostile_cases", 120.0), Bound::AtMost("hostile_undecided", 0.0)],
            },
            Check {
                name: "hostile suite, version 1 only",
                run: Program(&["cargo", "xtask", "hostile", "--v1-only"]),
                limit_s: 600,
                bounds: &[Bound::AtLeast("hostile_cases", 120.0), Bound::AtMost("hostile_undecided", 0.0)],
            },
            check("drivers on a fake tree", Program(&["cargo", "test", "--locked", "-p", "flint-sandbox"]), 600),
            check("rootless", Scenarios(&["test_rootless.py"]), 300),
        ],
    },
    Line {
        number: "2",
        text: "reachable system calls counted, at most 150; at least 25 ordinary programs work",
        checks: &[Check {
            name: "ordinary programs",
            run: Scenarios(&["test_programs.py"]),
            limit_s: 600,
            bounds: &[Bound::AtMost("reachable_system_calls", 150.0), Bound::AtLeast("ordinary_programs", 25.0)],
        }],
    },
    Line {
        number: "3",
        text: "/tmp: 512 MB of a 128 MB function, then ENOSPC; heap, inodes and children stop at their limits; store syncs stay fast",
        checks: &[Check {
            name: "limits",
            run: Scenarios(&["test_limits.py"]),
            limit_s: 600,
            bounds: &[Bound::AtMost("commit_p99_beside_a_writer", 3.0)],
        }],
    },
    Line {
        number: "4",
        text: "--parity: a CPU-bound loop at 128 MB takes 13.8 +- 15 % times that at 1,769 MB",
        checks: &[Check {
            name: "parity",
            run: Scenarios(&["test_parity.py"]),
            limit_s: 600,
            bounds: &[Bound::AtLeast("parity_ratio", 11.73), Bound::AtMost("parity_ratio", 15.87)],
        }],
    },
    Line {
        number: "5",
        text: "bombs, spins, floods: the peer answers within 5 s, server memory at most +64 MiB, everything gone after",
        checks: &[Check {
            name: "resources",
            run: Scenarios(&["hostile/test_resources.py"]),
            limit_s: 600,
            bounds: &[Bound::AtMost("peer_answer_max_s", 5.0), Bound::AtMost("server_growth_mib", 64.0)],
        }],
    },
    Line {
        number: "6",
        text: "4 x 2,500 bad endings, 16 in parallel, leave nothing; server memory slope below 1 MiB",
        checks: &[Check {
            name: "endings",
            run: Program(&["cargo", "xtask", "torture", "endings"]),
            limit_s: 5400,
            bounds: &[
                Bound::AtLeast("bad_endings", 10_000.0),
                Bound::AtMost("left_behind", 0.0),
                Bound::AtMost("memory_slope_mib", 1.0),
            ],
        }],
    },
    Line {
        number: "7",
        text: "broken HTTP (at least 40), 500 slow connections, HTTP/2 abuse: refused, server alive, good calls answer in time",
        checks: &[Check {
            name: "front",
            run: Scenarios(&["test_front.py"]),
            limit_s: 600,
            bounds: &[Bound::AtLeast("broken_messages", 40.0), Bound::AtMost("good_calls_over_bound_ms", 0.0)],
        }],
    },
    Line {
        number: "8",
        text: "from deadline to empty cgroup: p99 <= 50 ms on an idle machine",
        checks: &[Check {
            name: "kill to gone",
            run: Program(&["cargo", "xtask", "bench", "gone"]),
            limit_s: 600,
            bounds: &[Bound::AtMost("deadline_to_empty_p99", 50.0)],
        }],
    },
    Line {
        number: "9",
        text: "all layers together: <= 3 ms a cold start, <= 2 % on a system-call-heavy function",
        checks: &[Check {
            name: "cost of the walls",
            run: Program(&["cargo", "xtask", "bench", "walls"]),
            limit_s: 900,
            bounds: &[Bound::AtMost("walls_cold_ms", 3.0), Bound::AtMost("walls_calls_percent", 2.0)],
        }],
    },
    Line {
        number: "10",
        text: "SECURITY.md names a test for each claim; the earlier cold and warm figures still hold",
        checks: &[
            check("tidy", Program(&["cargo", "xtask", "tidy"]), 120),
            check("cold", Program(&["cargo", "xtask", "accept", "3", "--only", "9"]), 900),
        ],
    },
    Line {
        number: "bad",
        text: "the Runtime API, packages and parsers under hostile input",
        checks: &[
            check("runtime API", Program(&["cargo", "test", "--locked", "-p", "flint-runtime"]), 600),
            check("bad input", Scenarios(&["test_bad_input.py"]), 300),
        ],
    },
];
