//! Issue 2: a function runs, one line from wire to wall.

use super::Run::{Program, Scenarios};
use super::{Bound, Check, Line};

const fn check(name: &'static str, run: super::Run, limit_s: u64) -> Check {
    Check { name, run, limit_s, bounds: &[] }
}

pub const LINES: &[Line] = &[
    Line {
        number: "1",
        text: "README's two commands work; .ci/run is green within 15 minutes from cold",
        checks: &[
            check("README command one, after the build", Program(&["examples/thumbnail/run"]), 60),
            check("README command two", Program(&["cargo", "xtask", "test"]), 900),
            check(
                ".ci/run from cold",
                Program(&[
                    "bash",
                    "-c",
                    "rm -rf \"$COLD_TARGET_DIR\" && CARGO_TARGET_DIR=$COLD_TARGET_DIR CI=true .ci/run",
                ]),
                900,
            ),
        ],
    },
    Line {
        number: "2",
        text: "boto3 and the AWS CLI drive the whole life of a function and read its logs",
        checks: &[
            check("boto3", Scenarios(&["test_boto3.py"]), 180),
            check("aws cli", Scenarios(&["test_aws_cli.py"]), 240),
        ],
    },
    Line {
        number: "3",
        text: "bent signatures are refused (at least 40), good ones pass; dev refuses what a browser could send",
        checks: &[
            Check {
                name: "signatures",
                run: Scenarios(&["test_signatures.py"]),
                limit_s: 180,
                bounds: &[Bound::AtLeast("bent_signatures_refused", 40.0)],
            },
            check("dev", Scenarios(&["test_dev_gate.py"]), 120),
        ],
    },
    Line {
        number: "4",
        text: "seen from inside a function; the same probe unconfined is the control",
        checks: &[check("inside", Scenarios(&["test_inside.py"]), 120)],
    },
    Line {
        number: "5",
        text: "timeout, exit, crash, init error, init timeout, OOM, oversize: documents and log lines by golden files",
        checks: &[check("endings", Scenarios(&["test_endings.py"]), 240)],
    },
    Line {
        number: "6",
        text: "200 cold starts with mixed endings leave nothing behind",
        checks: &[Check {
            name: "leaks",
            run: Scenarios(&["test_leaks.py"]),
            limit_s: 600,
            bounds: &[Bound::AtLeast("cold_starts", 200.0), Bound::AtMost("left_behind", 0.0)],
        }],
    },
    Line {
        number: "7",
        text: "kill -9 of the server and of the spawner, 20 times each under load; torn tails; flipped bits",
        checks: &[
            Check {
                name: "storm",
                run: Scenarios(&["test_storm.py"]),
                limit_s: 600,
                bounds: &[
                    Bound::AtLeast("server_kills", 20.0),
                    Bound::AtLeast("spawner_kills", 20.0),
                    Bound::AtMost("acknowledged_lost", 0.0),
                    Bound::AtMost("serving_again_max_s", 1.0),
                    Bound::AtMost("processes_gone_max_s", 1.0),
                ],
            },
            check("store", Program(&["cargo", "test", "--locked", "-p", "flint-store"]), 600),
        ],
    },
    Line {
        number: "8",
        text: "two servers side by side under load do not touch each other",
        checks: &[check("neighbours", Scenarios(&["test_neighbours.py"]), 240)],
    },
    Line {
        number: "9",
        text: "store alone, 64 callers, 512 B: at least 0.9 x plain append + fdatasync (goal 1.2)",
        checks: &[Check {
            name: "store bench",
            run: Program(&["cargo", "xtask", "bench", "store"]),
            limit_s: 300,
            bounds: &[Bound::AtLeast("store_ratio_plain", 0.9)],
        }],
    },
    Line {
        number: "10",
        text: "cold starts of bootstrap and Python against a bare spawn, warm p50 and throughput at 1 and 16 connections",
        checks: &[
            check("cold", Program(&["cargo", "xtask", "bench", "cold"]), 300),
            check("warm", Program(&["cargo", "xtask", "bench", "warm"]), 300),
        ],
    },
    Line {
        number: "11",
        text: "ARCHITECTURE.md's paths exist; no hand-written file over 700 lines",
        checks: &[check("tidy", Program(&["cargo", "xtask", "tidy"]), 120)],
    },
    Line {
        number: "bad",
        text: "bad input gets the reference's error; a full disk refuses and heals; a second server refuses in one line",
        checks: &[
            Check {
                name: "bad input",
                run: Scenarios(&["test_bad_input.py"]),
                limit_s: 240,
                bounds: &[Bound::AtLeast("malformed_requests", 40.0)],
            },
            check("full disk", Scenarios(&["test_full_disk.py"]), 120),
            check("one data directory", Scenarios(&["test_contract.py"]), 120),
        ],
    },
];
