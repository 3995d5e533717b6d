//! What a function's answer says of the records of its batch.
//!
//! Pure. Reference: Lambda Developer Guide, "Handling errors for an SQS event source in Lambda", success and failure
//! conditions of `ReportBatchItemFailures`.

use std::collections::{BTreeMap, BTreeSet};

use flint_kit::SourceRecord;
use serde::Deserialize;
use serde_json::Value;

/// Which of `records` failed by a partial answer, by their place in the batch; `None`: the answer is malformed or names
/// what was not in the batch, and all of it failed.
///
/// With `fifo` what comes behind a failure in its group failed too, whatever the answer says: its order would be lost.
pub(crate) fn failed(answer: &[u8], records: &[SourceRecord], fifo: bool) -> Option<BTreeSet<usize>> {
    // A record may be in a batch twice, if its visibility ended while a window was open: both failed then.
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        places.entry(record.id.as_str()).or_default().push(at);
    }
    let mut failed = BTreeSet::new();
    for id in identifiers(answer)? {
        failed.extend(places.get(id.as_str())?);
    }
    if fifo {
        let mut broken = BTreeSet::new();
        for (at, record) in records.iter().enumerate() {
            if failed.contains(&at) {
                broken.insert(record.group.clone());
            } else if broken.contains(&record.group) {
                failed.insert(at);
            }
        }
    }
    Some(failed)
}

/// The identifiers of an answer; `None` if it is malformed.
fn identifiers(answer: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        item_identifier: String,
    }
    if answer.iter().all(u8::is_ascii_whitespace) {
        return Some(Vec::new());
    }
    let members = match serde_json::from_slice(answer).ok()? {
        Value::Null => return Some(Vec::new()),
        Value::Object(members) => members,
        _ => return None,
    };
    let items = match members.get("batchItemFailures") {
        None | Some(Value::Null) => return Some(Vec::new()),
        Some(items) => Vec::<Item>::deserialize(items).ok()?,
    };
    items.into_iter().map(|item| Some(item.item_identifier).filter(|id| !id.is_empty())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::batch::tests::record;

    fn check(answer: &str, fifo: bool, expected: Option<&[usize]>) {
        let records = [record("a", Some("x"), 1), record("b", Some("y"), 1), record("c", Some("x"), 1)];
        let found = failed(answer.as_bytes(), &records, fifo);
        assert_eq!(found, expected.map(|places| places.iter().copied().collect()), "{answer}");
    }

    #[test]
    fn the_reference_s_conditions() {
        for success in ["", "  ", "null", "{}", r#"{"batchItemFailures":[]}"#, r#"{"batchItemFailures":null}"#] {
            check(success, false, Some(&[]));
        }
        check(r#"{"statusCode":200}"#, false, Some(&[]));
        for failure in [
            "nonsense",
            r#""ok""#,
            "[]",
            "7",
            r#"{"batchItemFailures":{}}"#,
            r#"{"batchItemFailures":"a"}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":7}]}"#,
            r#"{"batchItemFailures":[{"id":"a"}]}"#,
            r#"{"batchItemFailures":["a"]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"unknown"}]}"#,
        ] {
            check(failure, false, None);
        }
    }

    #[test]
    fn a_record_that_is_there_twice_failed_twice() {
        let records = [record("a", None, 1), record("b", None, 1), record("a", None, 2)];
        let answer = br#"{"batchItemFailures":[{"itemIdentifier":"a"}]}"#;
        assert_eq!(failed(answer, &records, false), Some(BTreeSet::from([0, 2])), "neither may be settled");
    }

    #[test]
    fn what_failed_and_what_stands_behind_it_in_its_group() {
        let first = r#"{"batchItemFailures":[{"itemIdentifier":"a"}]}"#;
        check(first, false, Some(&[0]));
        check(first, true, Some(&[0, 2]));
        let twice =
            r#"{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"b"},{"more":1,"itemIdentifier":"c"}]}"#;
        check(twice, true, Some(&[1, 2]));
    }
}
