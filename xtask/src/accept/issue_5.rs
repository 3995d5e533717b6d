//! Issue 5: events are never lost: the journal, asynchronous invocation, queues, event source mappings.

use super::Run::{Program, Scenarios};
use super::{Bound, Check, Line};

const fn check(name: &'static str, run: super::Run, limit_s: u64) -> Check {
    Check { name, run, limit_s, bounds: &[] }
}

/// What every run of the promise must keep, however it is hurt.
const KEPT: [Bound; 4] = [
    Bound::AtMost("acknowledged_lost", 0.0),
    Bound::AtMost("duplicates_over_bound", 0.0),
    Bound::AtMost("order_violations", 0.0),
    Bound::AtMost("deduplication_violations", 0.0),
];

pub const LINES: &[Line] = &[
    Line {
        number: "1",
        text: "SQS: at least 120 distinct (operation, outcome) cases by boto3 (JSON) and the AWS CLI (Query), FIFO included",
        checks: &[Check {
            name: "sqs",
            run: Scenarios(&["test_sqs*.py"]),
            limit_s: 600,
            bounds: &[Bound::AtLeast("sqs_cases", 120.0)],
        }],
    },
    Line {
        number: "2",
        text: "nothing acknowledged is lost: kills, kills at syncs, crash states, power loss, EIO and ENOSPC, 10,000 seeds",
        checks: &[
            Check {
                name: "simulation",
                run: Program(&["cargo", "xtask", "simulate", "--seeds", "0..10000"]),
                limit_s: 3600,
                bounds: &[
                    Bound::AtLeast("seeds_green", 10_000.0),
                    Bound::AtMost("seeds_failed", 0.0),
                    Bound::AtLeast("planted_bugs_found", 8.0),
                    Bound::AtMost("planted_bugs_missed", 0.0),
                ],
            },
            Check {
                name: "random kills",
                run: Program(&["cargo", "xtask", "torture", "kills", "--kills", "1000"]),
                limit_s: 7200,
                bounds: &[
                    Bound::AtLeast("random_kills", 1000.0),
                    Bound::AtLeast("through_functions", 10_000.0),
                    Bound::AtMost("misplaced", 0.0),
                    Bound::AtMost("left_behind", 0.0),
                    KEPT[0],
                    KEPT[1],
                    KEPT[2],
                    KEPT[3],
                ],
            },
            Check {
                name: "a kill at every fdatasync",
                run: Program(&["cargo", "xtask", "torture", "syncs"]),
                limit_s: 3600,
                bounds: &[
                    Bound::AtLeast("sync_kills", 120.0),
                    Bound::AtLeast("sync_kills_with_functions", 60.0),
                    Bound::AtMost("misplaced", 0.0),
                    Bound::AtMost("left_behind", 0.0),
                    KEPT[0],
                    KEPT[1],
                    KEPT[2],
                    KEPT[3],
                ],
            },
            Check {
                name: "every EIO and ENOSPC",
                run: Program(&["cargo", "xtask", "torture", "faults"]),
                limit_s: 3600,
                bounds: &[Bound::AtLeast("injected_faults", 40.0), KEPT[0], KEPT[1], KEPT[2], KEPT[3]],
            },
            Check {
                name: "crash states of a recorded trace",
                run: Program(&["cargo", "xtask", "torture", "states", "--states", "2000"]),
                limit_s: 3600,
                bounds: &[Bound::AtLeast("crash_states", 2000.0), Bound::AtMost("acknowledged_lost", 0.0)],
            },
            Check {
                name: "power loss; the control loses",
                run: Program(&["cargo", "xtask", "torture", "images", "--images", "20"]),
                limit_s: 3600,
                bounds: &[
                    Bound::AtLeast("power_loss_images", 20.0),
                    Bound::AtMost("acknowledged_lost", 0.0),
                    Bound::AtLeast("control_lost", 1.0),
                ],
            },
        ],
    },
    Line {
        number: "3",
        text: "asynchronous attempts, waits, ages, destination and dead-letter records equal the reference field by field",
        checks: &[
            check("asynchronous invocation", Scenarios(&["test_async.py"]), 600),
            check("golden records", Program(&["cargo", "test", "--locked", "-p", "flint-delivery"]), 600),
        ],
    },
    Line {
        number: "4",
        text: "one poison message among 100; partial answers; a FIFO group moves on; at least 150 pattern cases",
        checks: &[
            check("poison", Scenarios(&["test_poison.py"]), 600),
            check("mappings", Scenarios(&["test_mappings.py"]), 600),
            Check {
                name: "patterns",
                run: Scenarios(&["test_patterns.py"]),
                limit_s: 300,
                bounds: &[Bound::AtLeast("pattern_cases", 150.0)],
            },
        ],
    },
    Line {
        number: "5",
        text: "flint dlq: 5,000 failures of 3 causes are 3 groups; one redrive drains them at the set rate; flint replay",
        checks: &[
            Check {
                name: "dead letters in sight",
                run: Scenarios(&["test_dlq.py"]),
                limit_s: 900,
                bounds: &[
                    Bound::AtLeast("dlq_groups", 3.0),
                    Bound::AtMost("dlq_groups", 3.0),
                    Bound::AtLeast("redrive_5000_at_1000", 4.5),
                    Bound::AtMost("redrive_5000_at_1000", 15.0),
                ],
            },
            check("redrives over a kill", Scenarios(&["test_redrive.py"]), 300),
            check("events and replays", Scenarios(&["test_events.py"]), 300),
            check("the walk-through", Scenarios(&["test_examples.py"]), 600),
        ],
    },
    Line {
        number: "6",
        text: "fn -> queue -> fn stops at 16 with its lineage shown; a three-hop chain is one trace",
        checks: &[
            Check {
                name: "lineage",
                run: Scenarios(&["test_lineage.py"]),
                limit_s: 600,
                bounds: &[
                    Bound::AtLeast("queue_loop_passes", 16.0),
                    Bound::AtMost("queue_loop_passes", 16.0),
                    Bound::AtMost("three_hops_traces", 1.0),
                ],
            },
            Check {
                name: "lineage from inside, by stock SDKs",
                run: Scenarios(&["test_from_inside.py"]),
                limit_s: 600,
                bounds: &[
                    Bound::AtLeast("inside_loop_passes", 16.0),
                    Bound::AtMost("inside_loop_passes", 16.0),
                    Bound::AtLeast("inside_chain_traces", 1.0),
                    Bound::AtMost("inside_chain_traces", 1.0),
                ],
            },
        ],
    },
    Line {
        number: "7",
        text: "store >= 1.0 x append + fdatasync, >= 0.5 x the zero-written floor; durable sends >= 1.0 x Redis, >= 0.3 x bare hyper",
        checks: &[
            Check {
                name: "store",
                run: Program(&["cargo", "xtask", "bench", "store"]),
                limit_s: 300,
                bounds: &[
                    Bound::AtLeast("store_ratio_plain", 1.0),
                    Bound::AtLeast("store_ratio_zeros", 0.5),
                    Bound::AtMost("store_p50", 1.0),
                ],
            },
            Check {
                name: "queue over the wire",
                run: Program(&["cargo", "xtask", "bench", "queue"]),
                limit_s: 600,
                bounds: &[
                    Bound::AtLeast("sends_times_redis", 1.0),
                    Bound::AtLeast("sends_times_hyper", 0.3),
                    Bound::AtLeast("cycles_rate", 8000.0),
                ],
            },
        ],
    },
    Line {
        number: "8",
        text: "queue to handler: p50 at most 1 ms over a warm direct invoke, idle",
        checks: &[Check {
            name: "hop",
            run: Program(&["cargo", "xtask", "bench", "hop"]),
            limit_s: 300,
            bounds: &[Bound::AtMost("hop_over_direct_p50", 1.0)],
        }],
    },
    Line {
        number: "9",
        text: "100k queued: serving again in 250 ms (1 s at most); 1M: 500 ms (2 s at most), memory <= 256 MiB",
        checks: &[Check {
            name: "restart",
            run: Program(&["cargo", "xtask", "bench", "restart"]),
            limit_s: 900,
            bounds: &[
                Bound::AtMost("restart_100k_ms", 250.0),
                Bound::AtMost("restart_1m_ms", 500.0),
                Bound::AtMost("restart_1m_resident_mib", 256.0),
            ],
        }],
    },
    Line {
        number: "10",
        text: "backlog of 100k, both cores busy: another function's sync invoke keeps p99 <= idle + 25 ms, median of 5 runs",
        checks: &[Check {
            name: "neighbour",
            run: Program(&["cargo", "xtask", "bench", "neighbour"]),
            limit_s: 900,
            bounds: &[Bound::AtMost("neighbour_p99_over_idle", 25.0)],
        }],
    },
    Line {
        number: "11",
        text: "a backup under load restores to exactly a committed state; a damaged backup is refused",
        checks: &[
            Check {
                name: "backup and restore",
                run: Scenarios(&["test_backup.py"]),
                limit_s: 600,
                bounds: &[
                    Bound::AtLeast("backups_restored", 5.0),
                    Bound::AtMost("acknowledged_lost", 0.0),
                    Bound::AtLeast("damaged_backups_refused", 20.0),
                    Bound::AtMost("damaged_backups_taken", 0.0),
                ],
            },
            check("every region of a backup, bent", Program(&["cargo", "test", "--locked", "-p", "flint-store"]), 600),
        ],
    },
    Line {
        number: "12",
        text: "SPECIFICATION.md lists each promise with its test; docs by task; .ci/run within 25 minutes from cold",
        checks: &[
            check("tidy", Program(&["cargo", "xtask", "tidy"]), 120),
            check("the example", Program(&["examples/orders/run"]), 300),
            check(
                ".ci/run from cold",
                Program(&[
                    "bash",
                    "-c",
                    "rm -rf \"$COLD_TARGET_DIR\" && CARGO_TARGET_DIR=$COLD_TARGET_DIR CI=true .ci/run",
                ]),
                1500,
            ),
        ],
    },
];
