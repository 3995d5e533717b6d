//! Constraints of the models, in the reference's words.
//!
//! `2 validation errors detected: Value '..' at 'memorySize' failed to satisfy constraint: Member must ..; Value ..`:
//! people and tools read these texts, so they follow the reference to the letter.

use flint_kit::{Doc, Fault};

use crate::codec::query;
use crate::pattern;
use crate::shape::{Kind, Place, ServiceModel, Shape};

/// A request with more errors than this gets the first ones.
const MOST: usize = 100;

/// Longer values are cut in messages.
const SHOWN: usize = 1024;

/// Checks `doc` against the constraints of `shape`.
///
/// Errors: the service's code for invalid values, 400, all violations in one message.
pub fn check(service: &ServiceModel, shape: &Shape, doc: &Doc) -> Result<(), Fault> {
    if !service.missing_code.is_empty()
        && let Some(path) = missing(shape, doc)
    {
        let message = format!("The request must contain the parameter {path}.");
        return Err(Fault::client(400, service.missing_code, message));
    }
    let mut found = Vec::new();
    members(shape, doc, None, &mut found);
    if found.is_empty() {
        return Ok(());
    }
    let noun = if found.len() == 1 { "error" } else { "errors" };
    let message = format!("{} validation {noun} detected: {}", found.len(), found.join("; "));
    Err(Fault::client(400, service.invalid_code, message))
}

/// The first required member that is not there, as the Query protocol names it: `SendMessageBatchRequestEntry.1.Id`.
fn missing(shape: &Shape, doc: &Doc) -> Option<String> {
    shape.members().iter().find_map(|member| match (doc.get(member.name), &member.shape.kind) {
        (None, _) => (member.required && member.place != Place::Payload).then(|| member.name.to_owned()),
        (Some(Doc::List(items)), Kind::List(item)) => items.iter().enumerate().find_map(|(index, value)| {
            Some(format!("{}.{}.{}", query::wire(member), index + 1, missing(item.shape, value)?))
        }),
        (Some(Doc::Map(entries)), Kind::Map(kind)) => entries.iter().enumerate().find_map(|(index, (_, value))| {
            Some(format!("{}.{}.Value.{}", query::wire(member), index + 1, missing(kind.value, value)?))
        }),
        (Some(value), _) => missing(member.shape, value).map(|inner| format!("{}.{inner}", member.name)),
    })
}

/// Where a value stands. Put into words only for a report: most requests have nothing to report.
#[derive(Clone, Copy)]
struct Path<'a> {
    above: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Member(&'a str),
    /// Counts from 1.
    Item(usize),
    Entry(&'a str),
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(above) = self.above {
            write!(f, "{above}.")?;
        }
        match self.step {
            Step::Member(name) => f.write_str(&lower_first(name)),
            Step::Item(index) => write!(f, "{index}.member"),
            Step::Entry(key) => write!(f, "{key}.member"),
        }
    }
}

fn members(shape: &Shape, doc: &Doc, above: Option<&Path<'_>>, found: &mut Vec<String>) {
    for member in shape.members() {
        let here = Path { above, step: Step::Member(member.name) };
        match doc.get(member.name) {
            Some(value) => check_value(member.shape, value, &here, found),
            None if member.required && member.place != Place::Payload => {
                report("Value null", &here, "Member must not be null", found);
            }
            None => {}
        }
    }
}

fn check_value(shape: &Shape, value: &Doc, path: &Path<'_>, found: &mut Vec<String>) {
    if found.len() >= MOST {
        return;
    }
    for broken in violations(shape, value) {
        report(&show(shape, value), path, &broken, found);
    }
    match (&shape.kind, value) {
        (Kind::Structure(_), Doc::Map(_)) => members(shape, value, Some(path), found),
        (Kind::List(item), Doc::List(items)) if is_scalar(item.shape) => {
            let breaks = |value: &Doc| is_null(value) || !violations(item.shape, value).is_empty();
            let rule = items.iter().any(breaks).then(|| constraints(item.shape));
            rule.iter().for_each(|all| {
                report(&show(shape, value), path, &format!("Member must satisfy constraint: [{all}]"), found);
            });
        }
        (Kind::List(item), Doc::List(items)) => {
            for (index, value) in items.iter().enumerate() {
                let here = Path { above: Some(path), step: Step::Item(index + 1) };
                if is_null(value) {
                    report("Value null", &here, "Member must not be null", found);
                } else {
                    check_value(item.shape, value, &here, found);
                }
            }
        }
        (Kind::Map(entries), Doc::Map(values)) => {
            let bad_key = |key: &str| !violations(entries.key, &Doc::Text(key.to_owned())).is_empty();
            if values.iter().any(|(key, _)| bad_key(key)) {
                let rule = format!("Map keys must satisfy constraint: [{}]", constraints(entries.key));
                report(&show(shape, value), path, &rule, found);
            }
            if is_scalar(entries.value) {
                if values.iter().any(|(_, v)| is_null(v) || !violations(entries.value, v).is_empty()) {
                    let rule = format!("Map value must satisfy constraint: [{}]", constraints(entries.value));
                    report(&show(shape, value), path, &rule, found);
                }
            } else {
                for (key, inner) in values {
                    let here = Path { above: Some(path), step: Step::Entry(key) };
                    check_value(entries.value, inner, &here, found);
                }
            }
        }
        _ => {}
    }
}

/// The constraints of `shape` that `value` breaks; none for null.
fn violations(shape: &Shape, value: &Doc) -> Vec<String> {
    let mut broken = Vec::new();
    let size = match value {
        Doc::Int(n) => Some(*n),
        Doc::Float(n) => Some(*n as i64),
        Doc::Text(text) => i64::try_from(text.chars().count()).ok(),
        Doc::Blob(bytes) => i64::try_from(bytes.len()).ok(),
        Doc::List(items) => i64::try_from(items.len()).ok(),
        Doc::Map(entries) if matches!(shape.kind, Kind::Map(_)) => i64::try_from(entries.len()).ok(),
        _ => None,
    };
    if let Some(size) = size {
        if shape.max.is_some_and(|max| size > max) {
            broken.extend(bounds(shape).0);
        }
        if shape.min.is_some_and(|min| size < min) {
            broken.extend(bounds(shape).1);
        }
    }
    if let Doc::Text(text) = value {
        broken.extend(shape.pattern.filter(|p| !pattern::matches(p, text)).map(pattern_rule));
        if !shape.one_of.is_empty() && !shape.one_of.contains(&text.as_str()) {
            broken.push(enum_rule(shape));
        }
    }
    broken
}

/// All constraints of a shape, as they are listed for the items of lists and maps.
fn constraints(shape: &Shape) -> String {
    let (max, min) = bounds(shape);
    let mut all: Vec<String> = max.into_iter().chain(min).collect();
    all.extend(shape.pattern.map(pattern_rule));
    if !shape.one_of.is_empty() {
        all.push(enum_rule(shape));
    }
    if all.is_empty() {
        all.push("Member must not be null".to_owned());
    }
    all.join(", ")
}

/// The texts of the upper and the lower bound.
fn bounds(shape: &Shape) -> (Option<String>, Option<String>) {
    let what = match shape.kind {
        Kind::Integer | Kind::Long | Kind::Double => "value",
        _ => "length",
    };
    (
        shape.max.map(|max| format!("Member must have {what} less than or equal to {max}")),
        shape.min.map(|min| format!("Member must have {what} greater than or equal to {min}")),
    )
}

fn pattern_rule(pattern: &str) -> String {
    format!("Member must satisfy regular expression pattern: {pattern}")
}

fn enum_rule(shape: &Shape) -> String {
    format!("Member must satisfy enum value set: [{}]", shape.one_of.join(", "))
}

fn report(value: &str, path: &Path<'_>, rule: &str, found: &mut Vec<String>) {
    if found.len() < MOST {
        found.push(format!("{value} at '{path}' failed to satisfy constraint: {rule}"));
    }
}

/// `Value 'x'`, or `Value` alone where the value is a secret.
fn show(shape: &Shape, value: &Doc) -> String {
    let secret = shape.sensitive
        || match shape.kind {
            Kind::List(item) => item.shape.sensitive,
            Kind::Map(entries) => entries.key.sensitive || entries.value.sensitive,
            Kind::Blob => true,
            _ => false,
        };
    if secret {
        return "Value".to_owned();
    }
    let mut text = plain(value);
    if text.len() > SHOWN {
        let end = (0..=SHOWN).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    format!("Value '{text}'")
}

fn plain(value: &Doc) -> String {
    match value {
        Doc::Null => "null".to_owned(),
        Doc::Bool(b) => b.to_string(),
        Doc::Int(n) => n.to_string(),
        // As the reference writes doubles: `0.0`.
        Doc::Float(n) => format!("{n:?}"),
        Doc::Text(text) => text.clone(),
        Doc::Blob(bytes) => format!("{} bytes", bytes.len()),
        Doc::Time(at) => at.to_iso8601(),
        Doc::List(items) => format!("[{}]", items.iter().take(SHOWN).map(plain).collect::<Vec<_>>().join(", ")),
        Doc::Map(entries) => {
            let entries = entries.iter().take(SHOWN).map(|(key, value)| format!("{key}={}", plain(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn is_scalar(shape: &Shape) -> bool {
    !matches!(shape.kind, Kind::Structure(_) | Kind::List(_) | Kind::Map(_))
}

fn is_null(value: &Doc) -> bool {
    *value == Doc::Null
}

/// `KMSKeyArn` as `kMSKeyArn`, which is what the reference says.
fn lower_first(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
