//! Issue 3: in the hand: Node, the other protocols, the daily tools, and first speed.

use super::Run::{Program, Scenarios};
use super::{Bound, Check, Line};

const fn check(name: &'static str, run: super::Run, limit_s: u64) -> Check {
    Check { name, run, limit_s, bounds: &[] }
}

pub const LINES: &[Line] = &[
    Line {
        number: "1",
        text: "boto3, Debian's AWS CLI and the JavaScript SDK drive every served operation; the violation matrix is green",
        checks: &[
            Check {
                name: "every operation",
                run: Scenarios(&["test_every_operation.py"]),
                limit_s: 600,
                bounds: &[
                    Bound::AtLeast("operations_by_boto3", 1.0),
                    Bound::AtLeast("operations_by_the_aws_cli", 1.0),
                    Bound::AtLeast("operations_by_the_javascript_sdk", 1.0),
                ],
            },
            check("pages and waiters", Scenarios(&["test_pages_and_waiters.py"]), 300),
            check("the JavaScript SDK", Scenarios(&["test_js_sdk.py"]), 300),
            check("roles and sessions", Scenarios(&["test_iam.py"]), 300),
            Check {
                name: "violations",
                run: Scenarios(&["test_violations.py"]),
                limit_s: 300,
                bounds: &[Bound::AtLeast("violation_matrix", 300.0)],
            },
        ],
    },
    Line {
        number: "2",
        text: "one behaviour suite of at least 50 cases with own Python, own Node and the three official clients",
        checks: &[check("runtimes", Scenarios(&["test_runtimes.py"]), 900)],
    },
    Line {
        number: "3",
        text: "Powertools for Python and TypeScript and middy run unmodified in a handler",
        checks: &[check("libraries", Scenarios(&["test_libraries.py"]), 600)],
    },
    Line {
        number: "4",
        text: "an extension and a telemetry subscriber get every event in order over 1,000 invocations; SHUTDOWN comes first",
        checks: &[Check {
            name: "extensions and telemetry",
            run: Scenarios(&["test_extensions.py"]),
            limit_s: 300,
            bounds: &[Bound::AtLeast("telemetry_invocations_in_order", 1000.0)],
        }],
    },
    Line {
        number: "5",
        text: "the first streamed byte is there within 5 ms of its write; a 100 MB stream costs the server at most 16 MiB",
        checks: &[
            check("streams that end, fail and die", Scenarios(&["test_streaming.py"]), 300),
            Check {
                name: "stream bench",
                run: Program(&["cargo", "xtask", "bench", "stream"]),
                limit_s: 900,
                bounds: &[Bound::AtMost("stream_first_byte_p99", 5.0), Bound::AtMost("stream_100mb_memory", 16.0)],
            },
        ],
    },
    Line {
        number: "6",
        text: "an alias at 10 % gets 10 +- 2 % of 2,000 calls; reserved concurrency is exact under load",
        checks: &[
            Check {
                name: "versions and aliases",
                run: Scenarios(&["test_versions.py"]),
                limit_s: 300,
                bounds: &[Bound::AtLeast("alias_share_percent", 8.0), Bound::AtMost("alias_share_percent", 12.0)],
            },
            check("admission under arbitrary load", Program(&["cargo", "test", "--locked", "-p", "flint-engine"]), 600),
        ],
    },
    Line {
        number: "7",
        text: "save to new answer within 300 ms (median of 20), Node and Python; five functions ready in 2 s",
        checks: &[Check {
            name: "development loop",
            run: Scenarios(&["test_dev_loop.py"]),
            limit_s: 300,
            bounds: &[
                Bound::AtMost("save_to_answer_python_ms", 300.0),
                Bound::AtMost("save_to_answer_node_ms", 300.0),
                Bound::AtMost("five_functions_ready_s", 2.0),
            ],
        }],
    },
    Line {
        number: "8",
        text: "warm against the floor: Rust >= 0.6 (goal 0.85), official Node and Python >= 0.75 (goal 0.95), own >= 1.3 x those; \
               added p50 <= 100 us (goal 25); server CPU <= 70 us a call (goal 40)",
        checks: &[Check {
            name: "floor",
            run: Program(&["cargo", "xtask", "bench", "floor"]),
            limit_s: 1800,
            bounds: &[
                Bound::AtLeast("floor_ratio_rust", 0.6),
                Bound::AtLeast("floor_ratio_node", 0.75),
                Bound::AtLeast("floor_ratio_python", 0.75),
                Bound::AtLeast("own_over_official_node", 1.3),
                Bound::AtLeast("own_over_official_python", 1.3),
                Bound::AtMost("added_p50_us_1conn_rust", 100.0),
                Bound::AtMost("added_p50_us_1conn_node", 100.0),
                Bound::AtMost("added_p50_us_1conn_python", 100.0),
                Bound::AtMost("server_cpu_us_rust", 70.0),
                Bound::AtMost("server_cpu_us_node", 70.0),
                Bound::AtMost("server_cpu_us_python", 70.0),
            ],
        }],
    },
    Line {
        number: "9",
        text: "cold, request to first `next`: bootstrap <= 5 ms, Python <= bare start + 12 ms, Node <= bare start + 15 ms; \
               the phases sum within 1 ms",
        checks: &[Check {
            name: "cold",
            run: Program(&["cargo", "xtask", "bench", "cold"]),
            limit_s: 900,
            bounds: &[
                Bound::AtMost("cold_bootstrap_next_p50", 5.0),
                Bound::AtMost("cold_python_over_bare_start", 12.0),
                Bound::AtMost("cold_node_over_bare_start", 15.0),
                Bound::AtMost("cold_bootstrap_phases_off", 1.0),
                Bound::AtMost("cold_python_phases_off", 1.0),
                Bound::AtMost("cold_node_phases_off", 1.0),
            ],
        }],
    },
    Line {
        number: "10",
        text: "1,000 functions: server and spawner <= 40 MiB idle, start to ready <= 100 ms",
        checks: &[Check {
            name: "thousand",
            run: Program(&["cargo", "xtask", "bench", "thousand"]),
            limit_s: 900,
            bounds: &[
                Bound::AtMost("thousand_deployed_pss", 40.0),
                Bound::AtMost("thousand_pss", 40.0),
                Bound::AtMost("thousand_ready", 100.0),
            ],
        }],
    },
    Line {
        number: "11",
        text: "examples and documentation lead a new user; CI within 20 minutes from cold",
        checks: &[
            check("examples", Scenarios(&["test_examples.py"]), 600),
            check("tidy", Program(&["cargo", "xtask", "tidy"]), 120),
            check(
                ".ci/run from cold",
                Program(&[
                    "bash",
                    "-c",
                    "rm -rf \"$COLD_TARGET_DIR\" && CARGO_TARGET_DIR=$COLD_TARGET_DIR CI=true .ci/run",
                ]),
                1200,
            ),
        ],
    },
    Line {
        number: "bad",
        text: "streams that never end, die midway or send after the end; extensions that hang; layers",
        checks: &[
            check("bad input", Scenarios(&["test_bad_input.py"]), 300),
            check("layers", Scenarios(&["test_layers.py"]), 300),
        ],
    },
];
