//! `cargo xtask codegen [--models DIR] [--check]`: writes the static shape tables of `flint-wire`.
//!
//! Input: the reduced service models and `overlay.json` under `crates/flint-wire/models`, all committed, so that
//! neither writing nor checking needs a network. With `--models DIR` the reduced copies are renewed first from the
//! `botocore/data` folder of the pinned package:
//!
//! ```sh
//! pip download --no-deps botocore==1.44.5 && unzip -d models botocore-*.whl
//! cargo xtask codegen --models models/botocore/data
//! ```

mod emit;
mod reduce;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The package that the reduced models come from.
const BOTOCORE: &str = "1.44.5";

/// A service and the operations whose shapes we carry. The Switchboard has the last word on what is served: an
/// operation that has shapes here and no service behind it is refused by name like any other.
struct Served {
    name: &'static str,
    /// The model's folder under `botocore/data`; `None` for Flint's own service, whose model is written by hand.
    folder: Option<&'static str>,
    operations: &'static [&'static str],
}

/// Everything that we serve. Adding an operation starts here.
const SERVED: &[Served] = &[
    Served { name: "events", folder: Some("events/2015-10-07"), operations: &["TestEventPattern"] },
    Served {
        name: "flint",
        folder: None,
        operations: &[
            "CreateBackup",
            "DropFailures",
            "GetEvent",
            "GetFailureGroup",
            "GetRedrive",
            "ListEnvironments",
            "ListEvents",
            "ListFailures",
            "ListFunctionStats",
            "ListRuntimes",
            "RedriveFailures",
            "ReplayEvent",
            "Status",
            "StopRedrive",
        ],
    },
    Served {
        name: "iam",
        folder: Some("iam/2010-05-08"),
        operations: &[
            "AttachRolePolicy",
            "CreateRole",
            "DeleteRole",
            "DeleteRolePolicy",
            "DetachRolePolicy",
            "GetRole",
            "GetRolePolicy",
            "ListAttachedRolePolicies",
            "ListInstanceProfilesForRole",
            "ListRolePolicies",
            "ListRoleTags",
            "ListRoles",
            "PutRolePolicy",
            "TagRole",
            "UntagRole",
            "UpdateAssumeRolePolicy",
            "UpdateRole",
        ],
    },
    Served {
        name: "lambda",
        folder: Some("lambda/2015-03-31"),
        operations: &[
            "CreateAlias",
            "CreateEventSourceMapping",
            "CreateFunction",
            "DeleteAlias",
            "DeleteEventSourceMapping",
            "DeleteFunction",
            "DeleteFunctionConcurrency",
            "DeleteFunctionEventInvokeConfig",
            "DeleteLayerVersion",
            "GetAccountSettings",
            "GetAlias",
            "GetEventSourceMapping",
            "GetFunction",
            "GetFunctionCodeSigningConfig",
            "GetFunctionConcurrency",
            "GetFunctionConfiguration",
            "GetFunctionEventInvokeConfig",
            "GetFunctionRecursionConfig",
            "GetLayerVersion",
            "GetLayerVersionByArn",
            "GetRuntimeManagementConfig",
            "Invoke",
            "InvokeWithResponseStream",
            "ListAliases",
            "ListEventSourceMappings",
            "ListFunctionEventInvokeConfigs",
            "ListFunctions",
            "ListLayerVersions",
            "ListLayers",
            "ListTags",
            "ListVersionsByFunction",
            "PublishLayerVersion",
            "PublishVersion",
            "PutFunctionConcurrency",
            "PutFunctionEventInvokeConfig",
            "PutFunctionRecursionConfig",
            "TagResource",
            "UntagResource",
            "UpdateAlias",
            "UpdateEventSourceMapping",
            "UpdateFunctionCode",
            "UpdateFunctionConfiguration",
            "UpdateFunctionEventInvokeConfig",
        ],
    },
    Served {
        name: "logs",
        folder: Some("logs/2014-03-28"),
        operations: &[
            "CreateLogGroup",
            "CreateLogStream",
            "DeleteLogGroup",
            "DeleteLogStream",
            "DeleteRetentionPolicy",
            "DescribeLogGroups",
            "DescribeLogStreams",
            "FilterLogEvents",
            "GetLogEvents",
            "PutLogEvents",
            "PutRetentionPolicy",
        ],
    },
    Served {
        name: "sqs",
        folder: Some("sqs/2012-11-05"),
        operations: &[
            "AddPermission",
            "CancelMessageMoveTask",
            "ChangeMessageVisibility",
            "ChangeMessageVisibilityBatch",
            "CreateQueue",
            "DeleteMessage",
            "DeleteMessageBatch",
            "DeleteQueue",
            "GetQueueAttributes",
            "GetQueueUrl",
            "ListDeadLetterSourceQueues",
            "ListMessageMoveTasks",
            "ListQueueTags",
            "ListQueues",
            "PurgeQueue",
            "ReceiveMessage",
            "RemovePermission",
            "SendMessage",
            "SendMessageBatch",
            "SetQueueAttributes",
            "StartMessageMoveTask",
            "TagQueue",
            "UntagQueue",
        ],
    },
    Served {
        name: "sts",
        folder: Some("sts/2011-06-15"),
        operations: &["AssumeRole", "GetCallerIdentity", "GetSessionToken"],
    },
];

/// Runs the command with the arguments after `codegen`.
pub fn run(args: &[String]) -> Result<()> {
    let mut check = false;
    let mut models = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--check" => check = true,
            "--models" => models = Some(PathBuf::from(args.next().context("--models wants a folder")?)),
            other => bail!("unknown argument `{other}`; usage: cargo xtask codegen [--models DIR] [--check]"),
        }
    }
    let wire = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent folder")?;
    let wire = wire.join("crates/flint-wire");
    if let Some(models) = models {
        ensure!(!check, "--check reads the committed models only");
        renew(&models, &wire)?;
    }
    let stale = write(&wire, check)?;
    if !stale.is_empty() {
        bail!("stale: {}; run `cargo xtask codegen` and commit the result", stale.join(", "));
    }
    Ok(())
}

/// Renews the reduced models from a `botocore/data` folder.
fn renew(models: &Path, wire: &Path) -> Result<()> {
    for service in SERVED {
        let Some(folder) = service.folder else { continue };
        let path = models.join(folder).join("service-2.json.gz");
        let file = std::fs::File::open(&path)
            .with_context(|| format!("{} (unpack botocore {BOTOCORE} there)", path.display()))?;
        let model: Value = serde_json::from_reader(flate2::read::GzDecoder::new(file))?;
        let reduced = reduce::reduce(&model, service.operations)?;
        let mut text = serde_json::to_string_pretty(&reduced)?;
        text.push('\n');
        std::fs::write(wire.join("models").join(format!("{}.json", service.name)), text)?;
    }
    Ok(())
}

/// Writes (or, with `check`, compares) every table; answers the names of those that differed under `check`.
fn write(wire: &Path, check: bool) -> Result<Vec<String>> {
    let overlay = read(&wire.join("models/overlay.json"))?;
    let services = SERVED.iter().map(|s| (s.name, !overlay[s.name]["query"].is_null()));
    let mut files = vec![("mod.rs".to_owned(), emit::index(services))];
    for service in SERVED {
        let model = read(&wire.join("models").join(format!("{}.json", service.name)))?;
        let source = emit::table(service.name, &model, &overlay[service.name], service.operations)
            .with_context(|| format!("the model of {}", service.name))?;
        files.push((format!("{}.rs", service.name), source));
    }
    let mut stale = Vec::new();
    for (name, source) in files {
        let source = rustfmt(&source)?;
        let path = wire.join("src/tables").join(&name);
        if std::fs::read_to_string(&path).is_ok_and(|now| now == source) {
            continue;
        }
        if check {
            stale.push(name);
        } else {
            std::fs::write(&path, source).with_context(|| path.display().to_string())?;
        }
    }
    Ok(stale)
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn rustfmt(source: &str) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent folder")?;
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("rustfmt (rustup component add rustfmt)")?;
    let mut stdin = child.stdin.take().context("rustfmt's input")?;
    let text = source.to_owned();
    // rustfmt reads its input to the end before it writes; the thread keeps that an assumption of nobody.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    ensure!(output.status.success(), "rustfmt refused generated source");
    Ok(String::from_utf8(output.stdout)?)
}
