//! A queue's attributes: what can be set, what is legal, what is answered.
//!
//! Reference: SQS API Reference, "CreateQueue" and "SetQueueAttributes".

use std::collections::BTreeMap;

use flint_model::{Arn, Place};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::message::MAX_MESSAGE_BYTES;

/// What `GetQueueAttributes` knows besides the settings.
pub const COUNTED: &[&str] = &[
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];
const NUMBERS: &[(&str, u32, u32)] = &[
    ("DelaySeconds", 0, 900),
    ("MaximumMessageSize", 1_024, 1_048_576),
    ("MessageRetentionPeriod", 60, 1_209_600),
    ("ReceiveMessageWaitTimeSeconds", 0, 20),
    ("VisibilityTimeout", 0, 43_200),
];
const MAX_RECEIVES: u32 = 1_000;
const MAX_SOURCES: usize = 10;

/// A queue's settings. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub delay: u32,
    pub max_bytes: u32,
    pub retention: u32,
    pub wait: u32,
    pub visibility: u32,
    pub fifo: bool,
    #[serde(default)]
    pub content_deduplication: bool,
    /// `DeduplicationScope` is `messageGroup`.
    #[serde(default)]
    pub per_group: bool,
    /// `FifoThroughputLimit` is `perMessageGroupId`. Nothing is throttled either way.
    #[serde(default)]
    pub limit_per_group: bool,
    /// As it was set; it is not evaluated yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrive: Option<Redrive>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrive_allow: Option<RedriveAllow>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// `RedrivePolicy`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// The name of the dead-letter queue, in the same place.
    pub target: String,
    pub target_arn: String,
    pub max_receives: u32,
}

/// `RedriveAllowPolicy`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedriveAllow {
    All,
    None,
    /// ARNs of the queues that may use this one.
    Queues(Vec<String>),
}

impl Settings {
    /// The reference's defaults.
    pub fn new(fifo: bool) -> Self {
        Self {
            delay: 0,
            max_bytes: MAX_MESSAGE_BYTES as u32,
            retention: 345_600,
            wait: 0,
            visibility: 30,
            fifo,
            content_deduplication: false,
            per_group: false,
            limit_per_group: false,
            policy: None,
            redrive: None,
            redrive_allow: None,
            tags: BTreeMap::new(),
        }
    }

    /// Sets attributes. `place` is the queue's.
    ///
    /// Errors: `InvalidAttributeName`, `InvalidAttributeValue`, `InvalidParameterValue`, `NotImplemented` for encryption
    /// with keys.
    pub fn set(&mut self, place: &Place, attributes: &BTreeMap<String, String>) -> Result<(), Error> {
        for (name, value) in attributes {
            self.set_one(place, name, value)?;
        }
        if self.limit_per_group && !self.per_group {
            return Err(Error::value(
                "perMessageGroupId",
                "FifoThroughputLimit",
                "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup.",
            ));
        }
        Ok(())
    }

    fn set_one(&mut self, place: &Place, name: &str, value: &str) -> Result<(), Error> {
        if let Some((_, min, max)) = NUMBERS.iter().find(|(known, ..)| *known == name) {
            let number = value.parse().ok().filter(|n| (*min..=*max).contains(n));
            *self.number(name) = number.ok_or_else(|| Error::AttributeValue(name.to_owned()))?;
            return Ok(());
        }
        match name {
            "Policy" => self.policy = policy(value)?,
            "RedrivePolicy" => self.redrive = Redrive::parse(place, value)?,
            "RedriveAllowPolicy" => self.redrive_allow = RedriveAllow::parse(value)?,
            "FifoQueue" if value == "true" && self.fifo => {}
            "FifoQueue" if value == "false" && !self.fifo => {}
            "FifoQueue" => return Err(Error::AttributeValue(name.to_owned())),
            "ContentBasedDeduplication" | "DeduplicationScope" | "FifoThroughputLimit" if !self.fifo => {
                return Err(Error::AttributeName(name.to_owned()));
            }
            "ContentBasedDeduplication" => self.content_deduplication = one_of(name, value, "false", "true")?,
            "DeduplicationScope" => self.per_group = one_of(name, value, "queue", "messageGroup")?,
            "FifoThroughputLimit" => self.limit_per_group = one_of(name, value, "perQueue", "perMessageGroupId")?,
            "SqsManagedSseEnabled" | "KmsMasterKeyId" | "KmsDataKeyReusePeriodSeconds" => encryption(name, value)?,
            known if COUNTED.contains(&known) || known == "All" => return Err(Error::AttributeName(name.to_owned())),
            _ => return Err(Error::AttributeName(name.to_owned())),
        }
        Ok(())
    }

    fn number(&mut self, name: &str) -> &mut u32 {
        match name {
            "DelaySeconds" => &mut self.delay,
            "MaximumMessageSize" => &mut self.max_bytes,
            "MessageRetentionPeriod" => &mut self.retention,
            "ReceiveMessageWaitTimeSeconds" => &mut self.wait,
            _ => &mut self.visibility,
        }
    }

    /// The attributes that have a value, by name.
    pub fn show(&self) -> BTreeMap<&'static str, String> {
        let mut all = BTreeMap::from([
            ("DelaySeconds", self.delay.to_string()),
            ("MaximumMessageSize", self.max_bytes.to_string()),
            ("MessageRetentionPeriod", self.retention.to_string()),
            ("ReceiveMessageWaitTimeSeconds", self.wait.to_string()),
            ("VisibilityTimeout", self.visibility.to_string()),
            // Said as it is: what lies in the data directory is not encrypted.
            ("SqsManagedSseEnabled", "false".to_owned()),
        ]);
        if self.fifo {
            let text = |first: bool, yes: &str, no: &str| if first { yes } else { no }.to_owned();
            all.insert("FifoQueue", "true".to_owned());
            all.insert("ContentBasedDeduplication", self.content_deduplication.to_string());
            all.insert("DeduplicationScope", text(self.per_group, "messageGroup", "queue"));
            all.insert("FifoThroughputLimit", text(self.limit_per_group, "perMessageGroupId", "perQueue"));
        }
        all.extend(self.policy.clone().map(|policy| ("Policy", policy)));
        all.extend(self.redrive.as_ref().map(|redrive| ("RedrivePolicy", redrive.show())));
        all.extend(self.redrive_allow.as_ref().map(|allow| ("RedriveAllowPolicy", allow.show())));
        all
    }
}

/// Whether `name` is an attribute that `GetQueueAttributes` may be asked for.
pub fn is_attribute(name: &str) -> bool {
    let named = [
        "All",
        "Policy",
        "RedrivePolicy",
        "RedriveAllowPolicy",
        "FifoQueue",
        "ContentBasedDeduplication",
        "DeduplicationScope",
        "FifoThroughputLimit",
        "SqsManagedSseEnabled",
        "KmsMasterKeyId",
        "KmsDataKeyReusePeriodSeconds",
    ];
    named.contains(&name) || COUNTED.contains(&name) || NUMBERS.iter().any(|(known, ..)| *known == name)
}

fn one_of(name: &str, value: &str, no: &str, yes: &str) -> Result<bool, Error> {
    match value {
        _ if value == no => Ok(false),
        _ if value == yes => Ok(true),
        _ => Err(Error::AttributeValue(name.to_owned())),
    }
}

/// There are no keys here yet: the values that ask for nothing pass.
fn encryption(name: &str, value: &str) -> Result<(), Error> {
    match (name, value) {
        (_, "") | ("SqsManagedSseEnabled", "false") => Ok(()),
        ("KmsDataKeyReusePeriodSeconds", text) => {
            let legal = text.parse::<u32>().is_ok_and(|n| (60..=86_400).contains(&n));
            if legal { Ok(()) } else { Err(Error::AttributeValue(name.to_owned())) }
        }
        ("SqsManagedSseEnabled", "true") | ("KmsMasterKeyId", _) => {
            Err(Error::NotServed(format!("Attributes: {name}")))
        }
        _ => Err(Error::AttributeValue(name.to_owned())),
    }
}

fn policy(text: &str) -> Result<Option<String>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(document)) if document.contains_key("Statement") => Ok(Some(text.to_owned())),
        _ => Err(Error::AttributeValue("Policy".to_owned())),
    }
}

impl Redrive {
    fn parse(place: &Place, text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let invalid = |reason: &str| Error::value(text, "RedrivePolicy", reason);
        let Ok(Value::Object(members)) = serde_json::from_str(text) else {
            return Err(invalid("Redrive policy is not a valid JSON map."));
        };
        if let Some(odd) = members.keys().find(|k| !matches!(k.as_str(), "deadLetterTargetArn" | "maxReceiveCount")) {
            return Err(invalid(&format!(
                "Only following attributes are supported: [deadLetterTargetArn, maxReceiveCount], not {odd}."
            )));
        }
        let arn = members.get("deadLetterTargetArn").and_then(Value::as_str);
        let arn =
            arn.ok_or_else(|| invalid("Redrive policy does not contain mandatory attribute: deadLetterTargetArn."))?;
        let max = match members.get("maxReceiveCount") {
            None => return Err(invalid("Redrive policy does not contain mandatory attribute: maxReceiveCount.")),
            Some(Value::String(text)) => text.parse().ok(),
            Some(number) => number.as_u64(),
        };
        let max = max.and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=MAX_RECEIVES).contains(n));
        let max_receives =
            max.ok_or_else(|| invalid("Invalid value for maxReceiveCount: it must be an integer between 1 and 1000."))?;
        let target = name_in(place, arn)
            .ok_or_else(|| invalid("Dead letter target owned by this account and region expected."))?;
        Ok(Some(Self { target, target_arn: arn.to_owned(), max_receives }))
    }

    fn show(&self) -> String {
        serde_json::json!({ "deadLetterTargetArn": self.target_arn, "maxReceiveCount": self.max_receives }).to_string()
    }
}

impl RedriveAllow {
    fn parse(text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let invalid = |reason: &str| Error::value(text, "RedriveAllowPolicy", reason);
        let Ok(Value::Object(members)) = serde_json::from_str(text) else {
            return Err(invalid("Amazon SQS can't create the redrive allow policy, as it is not a valid JSON map."));
        };
        let sources = members.get("sourceQueueArns");
        let kind = members.get("redrivePermission").and_then(Value::as_str);
        match (kind, sources) {
            (Some("allowAll"), None) => Ok(Some(Self::All)),
            (Some("denyAll"), None) => Ok(Some(Self::None)),
            (Some("byQueue"), Some(Value::Array(arns))) if (1..=MAX_SOURCES).contains(&arns.len()) => {
                let arns: Option<Vec<String>> = arns.iter().map(|arn| Some(arn.as_str()?.to_owned())).collect();
                let arns = arns.filter(|arns| arns.iter().all(|arn| is_queue_arn(arn)));
                arns.map(|arns| Some(Self::Queues(arns)))
                    .ok_or_else(|| invalid("sourceQueueArns holds an ARN of no queue."))
            }
            (Some("byQueue"), _) => {
                Err(invalid("sourceQueueArns must hold 1 to 10 ARNs when redrivePermission is byQueue."))
            }
            (Some("allowAll" | "denyAll"), Some(_)) => {
                Err(invalid("sourceQueueArns can be specified only when redrivePermission is byQueue."))
            }
            _ => Err(invalid("redrivePermission must be allowAll, denyAll or byQueue.")),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::All => serde_json::json!({ "redrivePermission": "allowAll" }),
            Self::None => serde_json::json!({ "redrivePermission": "denyAll" }),
            Self::Queues(arns) => serde_json::json!({ "redrivePermission": "byQueue", "sourceQueueArns": arns }),
        }
        .to_string()
    }

    /// Whether the queue `arn` may use this one for its dead letters.
    pub fn admits(&self, arn: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Queues(arns) => arns.iter().any(|known| known == arn),
        }
    }
}

fn is_queue_arn(text: &str) -> bool {
    text.parse::<Arn>().is_ok_and(|arn| arn.service == "sqs")
}

/// The name of the queue that `arn` names, if it is one of `place`.
pub fn name_in(place: &Place, arn: &str) -> Option<String> {
    let arn: Arn = arn.parse().ok()?;
    let ours = arn.service == "sqs" && arn.account == place.account.as_str() && arn.region == place.region.as_str();
    ours.then_some(arn.resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { account: "000000000000".parse().expect("account"), region: "us-east-1".parse().expect("region") }
    }

    fn set(fifo: bool, name: &str, value: &str) -> Result<Settings, String> {
        let mut settings = Settings::new(fifo);
        let attributes = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        settings.set(&place(), &attributes).map_err(|e| flint_kit::Fault::from(e).code.to_string())?;
        Ok(settings)
    }

    #[test]
    fn numbers_keep_their_ranges() {
        for (name, min, max) in NUMBERS {
            for good in [min, max] {
                let settings = set(false, name, &good.to_string()).expect(name);
                assert_eq!(settings.show()[name], good.to_string());
            }
            for bad in [&(i64::from(*max) + 1).to_string(), &(i64::from(*min) - 1).to_string(), "", "x", "1.5"] {
                assert_eq!(set(false, name, bad), Err("InvalidAttributeValue".into()), "{name} {bad}");
            }
        }
    }

    #[test]
    fn names_and_kinds() {
        for (name, value) in [("Nothing", "1"), ("QueueArn", "x"), ("All", "x"), ("ContentBasedDeduplication", "true")]
        {
            assert_eq!(set(false, name, value), Err("InvalidAttributeName".into()), "{name}");
        }
        for (name, value) in [("FifoQueue", "false"), ("ContentBasedDeduplication", "yes"), ("DeduplicationScope", "x")]
        {
            assert_eq!(set(true, name, value), Err("InvalidAttributeValue".into()), "{name}");
        }
        assert_eq!(set(true, "FifoThroughputLimit", "perMessageGroupId"), Err("InvalidParameterValue".into()));
        assert_eq!(set(false, "KmsMasterKeyId", "alias/aws/sqs"), Err("NotImplemented".into()));
        assert_eq!(set(false, "SqsManagedSseEnabled", "true"), Err("NotImplemented".into()));
        assert!(set(false, "SqsManagedSseEnabled", "false").is_ok());
        assert_eq!(set(false, "Policy", "{}"), Err("InvalidAttributeValue".into()));
    }

    #[test]
    fn redrive_policies() {
        let arn = "arn:aws:sqs:us-east-1:000000000000:dead";
        for max in ["3", r#""3""#] {
            let text = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{max}}}"#);
            let redrive = set(false, "RedrivePolicy", &text).expect(&text).redrive.expect("set");
            assert_eq!((redrive.target.as_str(), redrive.max_receives), ("dead", 3));
        }
        assert_eq!(set(false, "RedrivePolicy", "").expect("none").redrive, None);
        for bad in [
            "x".to_owned(),
            "{}".to_owned(),
            format!(r#"{{"deadLetterTargetArn":"{arn}"}}"#),
            format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":0}}"#),
            format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":1001}}"#),
            r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:000000000000:dead","maxReceiveCount":1}"#.to_owned(),
            r#"{"deadLetterTargetArn":"arn:aws:sns:us-east-1:000000000000:dead","maxReceiveCount":1}"#.to_owned(),
        ] {
            assert_eq!(set(false, "RedrivePolicy", &bad), Err("InvalidParameterValue".into()), "{bad}");
        }
        let allow = |text: &str| set(false, "RedriveAllowPolicy", text).map(|s| s.redrive_allow.expect("set"));
        assert_eq!(allow(r#"{"redrivePermission":"denyAll"}"#), Ok(RedriveAllow::None));
        let by = allow(&format!(r#"{{"redrivePermission":"byQueue","sourceQueueArns":["{arn}"]}}"#)).expect("by queue");
        assert!(by.admits(arn) && !by.admits("x") && RedriveAllow::All.admits("x") && !RedriveAllow::None.admits(arn));
        for bad in [
            r#"{"redrivePermission":"x"}"#,
            r#"{"redrivePermission":"byQueue"}"#,
            "[]",
            r#"{"redrivePermission":"byQueue","sourceQueueArns":[]}"#,
        ] {
            assert_eq!(allow(bad), Err("InvalidParameterValue".into()), "{bad}");
        }
    }
}
