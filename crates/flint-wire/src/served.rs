//! Refusing by name what we do not honour.
//!
//! A member that is not served passes if its value is the reference's default: absent, empty, `false`, or one of the
//! texts that the overlay lists. Stock tools send those, and ignoring them changes nothing.

use flint_kit::{Doc, Fault};

use crate::shape::{Kind, Member, Shape};

/// Refuses a request that sets a member which we do not honour.
///
/// Errors: `NotImplemented` (501), `not served: lambda.CreateFunction: VpcConfig.SubnetIds`.
pub fn check(service: &str, operation: &str, shape: &Shape, doc: &Doc) -> Result<(), Fault> {
    match offender(shape, doc) {
        None => Ok(()),
        Some(path) => Err(Fault::not_served(format_args!("{service}.{operation}: {path}"))),
    }
}

/// The path of the first member that is set and not honoured.
fn offender(shape: &Shape, doc: &Doc) -> Option<String> {
    match (&shape.kind, doc) {
        (Kind::Structure(members), Doc::Map(_)) => members.iter().find_map(|member| {
            let value = doc.get(member.name)?;
            let inner = if member.served { offender(member.shape, value) } else { beyond_default(member, value) };
            inner.map(|path| join(member.name, &path))
        }),
        (Kind::List(item), Doc::List(items)) => items.iter().find_map(|value| offender(item.shape, value)),
        (Kind::Map(entries), Doc::Map(values)) => values.iter().find_map(|(_, value)| offender(entries.value, value)),
        _ => None,
    }
}

/// The path below `member` of a value that is not a default; empty if it is the member itself.
fn beyond_default(member: &Member, value: &Doc) -> Option<String> {
    let refused = Some(String::new());
    match (&member.shape.kind, value) {
        (_, Doc::Null | Doc::Bool(false)) => None,
        (Kind::Structure(members), Doc::Map(_)) => members.iter().find_map(|inner| {
            let path = beyond_default(inner, value.get(inner.name)?)?;
            Some(join(inner.name, &path))
        }),
        (_, Doc::Text(text)) if text.is_empty() || member.accepts.contains(&text.as_str()) => None,
        (_, Doc::List(items)) => {
            let default = |item: &Doc| item.text().is_some_and(|text| member.accepts.contains(&text));
            if items.iter().all(default) { None } else { refused }
        }
        (_, Doc::Map(entries)) if entries.is_empty() => None,
        (_, Doc::Blob(bytes)) if bytes.is_empty() => None,
        (_, Doc::Int(n)) if member.accepts.contains(&n.to_string().as_str()) => None,
        _ => refused,
    }
}

fn join(name: &str, path: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{name}.{path}") }
}
