//! Which settings are legal, beyond what the shape tables check on the wire.
//!
//! Pure. Wordings are the reference's where it has one.

use std::collections::BTreeMap;

use flint_model::arn::is_role_arn;
use flint_runtime::{Kind, LogFormat, LogLevel, Logging, Resolved};

use crate::api::{DeadLetterConfig, LoggingConfig, Settings};
use crate::error::Error;
use crate::function::Config;
use crate::variables::Variables;

/// Names that the runtime sets and a function may not.
///
/// Reference: Lambda Developer Guide, "Defined runtime environment variables", reserved variables.
const RESERVED: [&str; 19] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

/// Bytes that all names and values may take together (Lambda quotas, "Environment variables": 4 KB).
const VARIABLES_BYTES_MAX: usize = 4096;

const DEFAULT_TIMEOUT_S: u32 = 3;
const DEFAULT_MEMORY_MB: u32 = 128;
const DEFAULT_EPHEMERAL_MB: u32 = 512;

/// The most that the operator lets a function ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// `MemorySize`; `--max-memory`.
    pub memory_mb: u32,
    /// `EphemeralStorage.Size`; `--max-tmp`.
    pub ephemeral_mb: u32,
    /// `Timeout`; `--max-timeout`.
    pub timeout_s: u32,
}

impl Default for Ceilings {
    /// The reference's own.
    ///
    /// Reference: Lambda Developer Guide, "Lambda quotas".
    fn default() -> Self {
        Self { memory_mb: 10_240, ephemeral_mb: 10_240, timeout_s: 900 }
    }
}

/// The configuration of a new function.
pub(crate) fn new_config(settings: Settings, ceilings: &Ceilings) -> Result<Config, Error> {
    let missing = |name: &str| {
        Error::InvalidParameter(format!(
            "{name} is mandatory for functions created with deployment packages of type Zip."
        ))
    };
    let empty = Config {
        runtime: settings.runtime.clone().ok_or_else(|| missing("Runtime"))?,
        handler: settings.handler.clone().ok_or_else(|| missing("Handler"))?,
        role: String::new(),
        description: String::new(),
        timeout_s: DEFAULT_TIMEOUT_S,
        memory_mb: DEFAULT_MEMORY_MB,
        ephemeral_mb: DEFAULT_EPHEMERAL_MB,
        variables: Variables::default(),
        log_group: None,
        logging: Logging::default(),
        layers: Vec::new(),
        dead_letter: None,
    };
    apply(empty, settings, ceilings)
}

/// `config` with `settings` on top, all checked.
pub(crate) fn apply(mut config: Config, settings: Settings, ceilings: &Ceilings) -> Result<Config, Error> {
    if let Some(runtime) = settings.runtime {
        config.runtime = runtime;
    }
    if let Some(handler) = settings.handler {
        config.handler = handler;
    }
    if let Some(role) = settings.role {
        config.role = role;
    }
    if let Some(description) = settings.description {
        config.description = description;
    }
    if let Some(seconds) = settings.timeout {
        config.timeout_s = seconds;
    }
    if let Some(mb) = settings.memory_size {
        config.memory_mb = mb;
    }
    if let Some(storage) = settings.ephemeral_storage {
        config.ephemeral_mb = storage.size;
    }
    if let Some(environment) = settings.environment {
        config.variables = Variables::Known(environment.variables);
    }
    if let Some(logging) = settings.logging_config {
        config.logging = parse_logging(&logging)?;
        config.log_group = logging.log_group;
    }
    if let Some(target) = settings.dead_letter_config {
        config.dead_letter = parse_dead_letter(target)?;
    }
    check(&config)?;
    check_ceilings(&config, ceilings)?;
    Ok(config)
}

/// A standard queue of the function's own place, or none. Topics are not served.
///
/// Reference: Lambda Developer Guide, "Adding a dead-letter queue".
fn parse_dead_letter(config: DeadLetterConfig) -> Result<Option<String>, Error> {
    let Some(text) = config.target_arn.filter(|text| !text.is_empty()) else { return Ok(None) };
    let invalid = |why: &str| Error::InvalidParameter(format!("The dead-letter target {text} is invalid: {why}"));
    let arn: flint_model::Arn = text.parse().map_err(|_| invalid("the ARN of a standard queue is expected"))?;
    match arn.service.as_str() {
        "sqs" if arn.resource.ends_with(".fifo") => Err(invalid("a standard queue is expected, this one is FIFO")),
        "sqs" => Ok(Some(text)),
        other => Err(Error::NotServed(format!("lambda: DeadLetterConfig.TargetArn of {other}"))),
    }
}

/// Levels belong to the JSON format only (API reference, `LoggingConfig`).
fn parse_logging(logging: &LoggingConfig) -> Result<Logging, Error> {
    let level = |name: &Option<String>| match name.as_deref() {
        None => Ok(None),
        Some(text) => LEVELS
            .into_iter()
            .find(|level| level.name() == text)
            .map(Some)
            .ok_or_else(|| Error::InvalidParameter(format!("{text} is no log level"))),
    };
    let format = match logging.log_format.as_deref() {
        Some("JSON") => LogFormat::Json,
        _ => LogFormat::Text,
    };
    let parsed = Logging {
        format,
        application_level: level(&logging.application_log_level)?,
        system_level: level(&logging.system_log_level)?,
    };
    if format == LogFormat::Text && (parsed.application_level.is_some() || parsed.system_level.is_some()) {
        let why = "LogLevel is not supported when LogFormat is set to \"Text\". Remove LogLevel from your request or change the LogFormat to \"JSON\" and try again.";
        return Err(Error::InvalidParameter(why.to_owned()));
    }
    Ok(parsed)
}

/// From the most talkative on.
pub(crate) const LEVELS: [LogLevel; 6] =
    [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error, LogLevel::Fatal];

/// Stands in for an interpreter that the host had when the function was made and has no more: an environment of it
/// fails to start, and says why.
pub(crate) fn missing_runtime(identifier: &str) -> Resolved {
    Resolved {
        identifier: identifier.to_owned(),
        version: String::new(),
        kind: Kind::Provided,
        prefix: None,
        binary: format!("/var/lang/bin/{identifier}").into(),
        approximate: false,
    }
}

fn check(config: &Config) -> Result<(), Error> {
    if !is_role_arn(&config.role) {
        let why = format!(
            "1 validation error detected: Value '{}' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\\d{{12}}:role/?[a-zA-Z_0-9+=,.@\\-_/]+",
            config.role
        );
        return Err(Error::InvalidParameter(why));
    }
    check_handler(&config.handler)?;
    // What can't be read is what was stored.
    config.variables.known().map_or(Ok(()), check_variables)?;
    let in_range = [
        ("timeout", config.timeout_s, 1..=900),
        ("memorySize", config.memory_mb, 128..=10_240),
        ("ephemeralStorage.size", config.ephemeral_mb, 512..=10_240),
    ];
    for (name, value, range) in in_range {
        if !range.contains(&value) {
            let why = format!("'{name}' is {value}: expected {} to {}", range.start(), range.end());
            return Err(Error::InvalidParameter(why));
        }
    }
    Ok(())
}

/// Worded like the reference's own refusals of what an account may not have.
fn check_ceilings(config: &Config, ceilings: &Ceilings) -> Result<(), Error> {
    for (name, value, most, option) in [
        ("MemorySize", config.memory_mb, ceilings.memory_mb, "--max-memory"),
        ("EphemeralStorage.Size", config.ephemeral_mb, ceilings.ephemeral_mb, "--max-tmp"),
        ("Timeout", config.timeout_s, ceilings.timeout_s, "--max-timeout"),
    ] {
        if value > most {
            let why = format!(
                "'{name}' value {value} failed to satisfy constraint: Member must have value less than or equal to {most} (the operator's {option})"
            );
            return Err(Error::InvalidParameter(why));
        }
    }
    Ok(())
}

/// A handler names something inside the package, so it can be no path out of it.
fn check_handler(handler: &str) -> Result<(), Error> {
    let climbs = handler.split('/').any(|part| part == "..");
    if handler.is_empty() || handler.starts_with('/') || climbs || handler.contains('\0') {
        return Err(Error::InvalidParameter(format!("Handler {handler:?} names no file inside the package")));
    }
    Ok(())
}

fn check_variables(variables: &BTreeMap<String, String>) -> Result<(), Error> {
    let mut total = 0;
    let mut reserved = Vec::new();
    for (name, value) in variables {
        total += name.len() + value.len();
        let mut bytes = name.bytes();
        let legal = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
            && name.len() >= 2
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if RESERVED.contains(&name.as_str()) {
            reserved.push(name.as_str());
        } else if !legal {
            let why = format!("Environment variable name {name:?} must match [a-zA-Z]([a-zA-Z0-9_])+");
            return Err(Error::InvalidParameter(why));
        }
        if value.contains('\0') {
            return Err(Error::InvalidParameter(format!("Environment variable {name} contains a NUL character")));
        }
    }
    if !reserved.is_empty() {
        let why = format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {}",
            reserved.join(", ")
        );
        return Err(Error::InvalidParameter(why));
    }
    if total > VARIABLES_BYTES_MAX {
        let why = format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {total} bytes"
        );
        return Err(Error::InvalidParameter(why));
    }
    Ok(())
}

/// Tags of one function (Lambda API Reference, `TagResource`).
const TAGS_MAX: usize = 50;

/// Prefixes that are no user's: the reference's own, and ours for settings, of which there are none yet.
///
/// Reference: Lambda Developer Guide, "Using tags on Lambda functions" (tag restrictions).
const TAGS_RESERVED: [&str; 2] = ["aws:", "flint:"];

/// Number and names of a function's tags. A name that looks like a setting and is none is refused, not kept and ignored.
pub(crate) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > TAGS_MAX {
        return Err(Error::InvalidParameter(format!("a function has at most {TAGS_MAX} tags")));
    }
    let is_reserved = |key: &&String| TAGS_RESERVED.iter().any(|p| key.to_ascii_lowercase().starts_with(p));
    match tags.keys().find(is_reserved) {
        Some(key) => Err(Error::InvalidParameter(format!("the tag {key:?} has a prefix that is reserved"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            runtime: Some("python3.11".into()),
            handler: Some("app.handler".into()),
            role: Some("arn:aws:iam::000000000000:role/r".into()),
            ..Default::default()
        }
    }

    fn with_variable(name: &str, value: &str) -> Settings {
        let variables = [(name.to_owned(), value.to_owned())].into();
        Settings { environment: Some(crate::api::Environment { variables }), ..settings() }
    }

    fn check(settings: Settings, expected: &str) {
        match new_config(settings, &Ceilings::default()) {
            Ok(_) => assert_eq!(expected, "", "accepted"),
            Err(e) => assert!(!expected.is_empty() && e.to_string().contains(expected), "{e}"),
        }
    }

    #[test]
    fn defaults_are_the_reference_s() {
        let config = new_config(settings(), &Ceilings::default()).expect("legal");
        assert_eq!((config.timeout_s, config.memory_mb, config.ephemeral_mb), (3, 128, 512));
    }

    #[test]
    fn refuses_what_the_reference_refuses() {
        check(settings(), "");
        check(Settings { runtime: None, ..settings() }, "Runtime is mandatory");
        check(Settings { handler: None, ..settings() }, "Handler is mandatory");
        check(Settings { role: Some("root".into()), ..settings() }, "at 'role'");
        check(Settings { handler: Some("../x.y".into()), ..settings() }, "inside the package");
        check(Settings { timeout: Some(0), ..settings() }, "'timeout'");
        check(Settings { timeout: Some(901), ..settings() }, "'timeout'");
        check(Settings { memory_size: Some(127), ..settings() }, "'memorySize'");
        let dead = |arn: &str| Settings {
            dead_letter_config: Some(DeadLetterConfig { target_arn: Some(arn.to_owned()) }),
            ..settings()
        };
        check(dead("arn:aws:sqs:us-east-1:000000000000:q"), "");
        check(dead(""), "");
        check(dead("arn:aws:sqs:us-east-1:000000000000:q.fifo"), "standard queue");
        check(dead("arn:aws:sns:us-east-1:000000000000:t"), "not served: lambda: DeadLetterConfig.TargetArn of sns");
        check(dead("queue"), "standard queue");
        check(with_variable("OK_NAME", "v"), "");
        check(with_variable("1BAD", "v"), "must match");
        check(with_variable("AWS_REGION", "v"), "Reserved keys used in this request: AWS_REGION");
        check(with_variable("BIG", &"x".repeat(4096)), "exceeded the 4KB limit");
        check(with_variable("NUL", "a\0b"), "NUL");
    }

    #[test]
    fn tags_that_are_no_users_are_refused() {
        let tags = |key: &str| check_tags(&[(key.to_owned(), String::new())].into());
        assert!(tags("team").is_ok() && tags("awsome").is_ok() && tags("x:aws:").is_ok());
        assert!(tags("aws:cloudformation:stack-name").is_err() && tags("Flint:walls").is_err());
        let many = |count: usize| check_tags(&(0..count).map(|n| (n.to_string(), String::new())).collect());
        assert!(many(50).is_ok() && many(51).is_err());
    }

    #[test]
    fn an_update_leaves_what_it_does_not_name() {
        let none = Ceilings::default();
        let before = new_config(with_variable("KEEP", "1"), &none).expect("legal");
        let after = apply(before.clone(), Settings { timeout: Some(9), ..Default::default() }, &none).expect("legal");
        assert_eq!(after, Config { timeout_s: 9, ..before });
    }

    #[test]
    fn the_operator_s_ceilings_are_refused_by_name() {
        let low = Ceilings { memory_mb: 256, ephemeral_mb: 600, timeout_s: 60 };
        type Change = fn(&mut Settings, u32);
        let cases: [(Change, u32, &str, &str); 3] = [
            (|s, n| s.memory_size = Some(n), 256, "MemorySize", "--max-memory"),
            (
                |s, n| s.ephemeral_storage = Some(crate::api::EphemeralStorage { size: n }),
                600,
                "EphemeralStorage.Size",
                "--max-tmp",
            ),
            (|s, n| s.timeout = Some(n), 60, "Timeout", "--max-timeout"),
        ];
        for (change, most, name, option) in cases {
            let with = |n| {
                let mut settings = settings();
                change(&mut settings, n);
                settings
            };
            let config = new_config(with(most), &low).expect("within the ceilings");
            let refused = new_config(with(most + 1), &low).expect_err("over the ceiling").to_string();
            let expected = format!(
                "'{name}' value {} failed to satisfy constraint: Member must have value less than or equal to {most} (the operator's {option})",
                most + 1
            );
            assert_eq!(refused, expected);
            assert_eq!(apply(config, with(most + 1), &low).expect_err("an update too").to_string(), expected);
        }
    }
}
