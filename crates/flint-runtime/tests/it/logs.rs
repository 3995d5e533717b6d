//! What reaches the log: order, floods, foreign bytes.

use std::sync::Arc;

use flint_runtime::{End, InitEnd, LogFormat, LogLevel, Logging};

use crate::{Function, World, call};

crate::tests![
    order_under_load,
    a_flood_is_dropped_and_counted,
    tracebacks_are_one_event,
    children_write_too,
    a_log_of_documents
];

async fn order_under_load(world: Arc<World>) {
    let source = "import sys\ndef handler(e, c):\n    for i in range(500):\n        print('out', i)\n    sys.stderr.write('err\\n' * 10)\n    print('last', end='')\n    return len('x')\n";
    let function = Function::python(&world, source);
    let mut environment = function.create(&world).await;
    environment.init().await;
    for _ in 0..10 {
        let before = world.log(&environment).len();
        let call = call("{}");
        let id = call.request_id;
        environment.invoke(call).await;
        let log = world.log(&environment);
        let log = &log[before..];
        assert_eq!(log.len(), 500 + 10 + 1 + 3);
        assert!(
            log[0].starts_with("START") && log[512] == format!("END RequestId: {id}") && log[513].starts_with("REPORT")
        );
        let outs: Vec<&String> = log.iter().filter(|l| l.starts_with("out ")).collect();
        assert!(outs.iter().enumerate().all(|(i, l)| **l == format!("out {i}")), "in order");
        assert!(log.contains(&"last".to_owned()), "what has no line feed is there as well");
    }
    environment.close().await;
}

async fn a_flood_is_dropped_and_counted(world: Arc<World>) {
    let source =
        "import os\ndef handler(e, c):\n    for _ in range(160):\n        os.write(1, (b'x' * 99 + b'\\n') * 1000)\n";
    let function = Function::python(&world, source);
    let mut environment = function.create(&world).await;
    environment.init().await;
    let answer = environment.invoke(call("{}")).await;
    assert_eq!(answer.end, End::Ok);
    let log = world.log(&environment);
    let kept = log.iter().filter(|l| l.starts_with('x')).count();
    let dropped: usize = log
        .iter()
        .filter_map(|l| {
            l.strip_prefix("[flint] ")?.split_once(" log lines").map(|(n, _)| n.parse::<usize>().expect("a number"))
        })
        .sum();
    assert!(kept >= 41_000, "the burst is kept: {kept}");
    assert!(dropped > 50_000, "{dropped} dropped, {kept} kept");
    assert_eq!(kept + dropped, 160_000);
    environment.close().await;
}

async fn tracebacks_are_one_event(world: Arc<World>) {
    let source = "import logging\nlogger = logging.getLogger()\nlogger.setLevel('INFO')\ndef handler(e, c):\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        logger.exception('oh no')\n    logger.info('after')\n";
    let function = Function::python(&world, source);
    let mut environment = function.create(&world).await;
    environment.init().await;
    let call = call("{}");
    let id = call.request_id;
    environment.invoke(call).await;
    let log = world.log(&environment);
    assert_eq!(log.len(), 6, "{log:#?}");
    assert!(
        log[2].starts_with("[ERROR]\t")
            && log[2].contains(&format!("Z\t{id}\toh no\nTraceback (most recent call last):\n  File")),
        "{}",
        log[2]
    );
    assert!(log[3].starts_with("[INFO]\t") && log[3].ends_with("\tafter"), "{}", log[3]);
    environment.close().await;
}

async fn children_write_too(world: Arc<World>) {
    let source = "import subprocess\ndef handler(e, c):\n    subprocess.run(['/bin/sh', '-c', 'echo from a child; printf \"\\\\377\\\\n\"'])\n";
    let function = Function::python(&world, source);
    let mut environment = function.create(&world).await;
    environment.init().await;
    environment.invoke(call("{}")).await;
    let log = world.log(&environment);
    assert_eq!((log[2].as_str(), log[3].as_str()), ("from a child", "\u{fffd}"), "{log:?}");
    environment.close().await;
}

async fn a_log_of_documents(world: Arc<World>) {
    let source = "import logging\nlogging.info('loading')\ndef handler(e, c):\n    logging.info('info')\n    logging.debug('debug')\n    \
                  if e: raise ValueError('no way')\n";
    for (level, levels) in [(None, "INFO"), (Some(LogLevel::Debug), "DEBUG"), (Some(LogLevel::Warn), "WARN")] {
        let mut function = Function::python(&world, source);
        let format = LogFormat::Json;
        function.spec.logging = Logging { format, application_level: level, system_level: level };
        let mut environment = function.create(&world).await;
        assert_eq!(environment.init().await, InitEnd::Ready);
        environment.invoke(call("false")).await;
        environment.invoke(call("true")).await;
        let log = world.log(&environment);
        let names: Vec<String> = log
            .iter()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
                let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
                let name =
                    text(&line["type"]).or_else(|| text(&line["message"])).or_else(|| text(&line["errorMessage"]));
                name.unwrap_or_else(|| panic!("{line}")).replace("platform.", "")
            })
            .collect();
        let expected: &[&str] = match levels {
            "INFO" => {
                &["initStart", "loading", "start", "info", "report", "start", "info", "no way", "runtimeDone", "report"]
            }
            "DEBUG" => &[
                "initStart",
                "loading",
                "initReport",
                "start",
                "info",
                "debug",
                "runtimeDone",
                "report",
                "start",
                "info",
                "debug",
                "no way",
                "runtimeDone",
                "report",
            ],
            _ => &["no way", "runtimeDone", "report"],
        };
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        if levels == "DEBUG" {
            // What init wrote may be read a moment after its report.
            names[1..3].sort_unstable_by(|a, b| b.cmp(a));
        }
        assert_eq!(names, expected, "{levels}");
        environment.close().await;
    }
}
