//! How records become batches, and batches events.
//!
//! Pure.

use bytes::{BufMut, Bytes, BytesMut};
use flint_kit::SourceRecord;

/// Bytes of an event (Lambda quotas, "Invocation payload", synchronous: 6 MB).
pub(crate) const EVENT_BYTES_MAX: usize = 6 << 20;

const HEAD: &[u8] = b"{\"Records\":[";
const TAIL: &[u8] = b"]}";

/// The event of a batch.
pub(crate) fn event(records: &[SourceRecord]) -> Bytes {
    let bytes: usize = records.iter().map(|record| record.document.len() + 1).sum();
    let mut out = BytesMut::with_capacity(HEAD.len() + bytes + TAIL.len());
    out.put_slice(HEAD);
    for (at, record) in records.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(&record.document);
    }
    out.put_slice(TAIL);
    out.freeze()
}

/// Cuts records, in their order, into batches of at most `size` records and 6 MB. A record that is larger goes alone.
///
/// With `isolate`, records that failed before come in smaller batches, ten times smaller each time, so that one that
/// always fails ends alone and does not take its neighbours along.
pub(crate) fn cut(mut records: Vec<SourceRecord>, size: usize, isolate: bool, fifo: bool) -> Vec<Vec<SourceRecord>> {
    let most = |record: &SourceRecord| if isolate { share(size, record.receive_count) } else { size.max(1) };
    if isolate && !fifo {
        records.sort_by_key(|record| record.receive_count);
    }
    let mut batches: Vec<Vec<SourceRecord>> = Vec::new();
    let (mut bytes, mut room) = (0, 0);
    for record in records {
        let len = record.document.len() + 1;
        match batches.last_mut() {
            Some(batch)
                if batch.len() < room.min(most(&record))
                    && bytes + len + HEAD.len() + TAIL.len() <= EVENT_BYTES_MAX =>
            {
                room = room.min(most(&record));
                bytes += len;
                batch.push(record);
            }
            _ => {
                room = most(&record);
                bytes = len;
                batches.push(vec![record]);
            }
        }
    }
    batches
}

/// The size of a batch for records that were handed out so often.
fn share(size: usize, receive_count: u32) -> usize {
    let tenth = |size: usize, _| size.div_ceil(10);
    (1..receive_count.min(8)).fold(size, tenth).max(1)
}

#[cfg(test)]
pub(crate) mod tests {
    use flint_base::EventId;
    use flint_model::Lineage;

    use super::*;

    pub(crate) fn record(id: &str, group: Option<&str>, receive_count: u32) -> SourceRecord {
        SourceRecord {
            handle: format!("h-{id}"),
            id: id.to_owned(),
            document: format!("{{\"messageId\":\"{id}\"}}").into(),
            group: group.map(str::to_owned),
            receive_count,
            lineage: Lineage::root(EventId::from_bytes([7; 16])),
            trace: None,
        }
    }

    fn check(counts: &[u32], size: usize, isolate: bool, fifo: bool, expected: &[&[usize]]) {
        let records = counts.iter().enumerate().map(|(at, count)| record(&at.to_string(), None, *count)).collect();
        let batches = cut(records, size, isolate, fifo);
        let ids: Vec<Vec<usize>> =
            batches.iter().map(|batch| batch.iter().map(|record| record.id.parse().unwrap()).collect()).collect();
        assert_eq!(ids, expected, "{counts:?}");
    }

    #[test]
    fn an_event_is_a_list_of_records() {
        let records = [record("a", None, 1), record("b", None, 1)];
        assert_eq!(event(&records), r#"{"Records":[{"messageId":"a"},{"messageId":"b"}]}"#);
    }

    #[test]
    fn batches_have_their_size_and_keep_the_order() {
        check(&[1, 1, 1, 1, 1], 2, false, false, &[&[0, 1], &[2, 3], &[4]]);
        check(&[1, 3, 1], 10, false, false, &[&[0, 1, 2]]);
        check(&[], 10, true, false, &[]);
    }

    #[test]
    fn what_failed_before_comes_in_smaller_batches() {
        check(&[1, 2, 1, 3], 10, true, false, &[&[0, 2], &[1], &[3]]);
        check(&[1, 2, 1], 10, true, true, &[&[0], &[1], &[2]]);
        check(&[2; 12], 100, true, false, &[&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], &[10, 11]]);
        check(&[3, 3], 100, true, false, &[&[0], &[1]]);
        assert_eq!([share(10_000, 1), share(10_000, 2), share(10_000, 5), share(1, 9)], [10_000, 1_000, 1, 1]);
    }

    #[test]
    fn an_event_has_at_most_6_mb() {
        let large = |id: &str, len: usize| SourceRecord { document: vec![b'x'; len].into(), ..record(id, None, 1) };
        let records =
            vec![large("a", 3 << 20), large("b", 3 << 20), large("c", 100), large("d", 7 << 20), large("e", 1)];
        let batches = cut(records, 10, false, false);
        let lens: Vec<usize> = batches.iter().map(Vec::len).collect();
        assert_eq!(lens, [1, 2, 1, 1]);
        assert!(batches.iter().all(|batch| event(batch).len() <= EVENT_BYTES_MAX || batch.len() == 1));
    }
}
