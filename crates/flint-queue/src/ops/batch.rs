//! What the batch operations have in common: the rules of their entries, and an end for each.

use std::collections::BTreeSet;

use crate::Error;
use crate::api::{BatchResult, Failed, Successful};

const MAX_ENTRIES: usize = 10;

/// Checks the ids of a batch's entries.
///
/// Errors: `EmptyBatchRequest`, `TooManyEntriesInBatchRequest`, `InvalidBatchEntryId`, `BatchEntryIdsNotDistinct`.
pub fn check<'a>(ids: impl ExactSizeIterator<Item = &'a str>) -> Result<(), Error> {
    match ids.len() {
        0 => return Err(Error::EmptyBatch),
        found if found > MAX_ENTRIES => return Err(Error::LongBatch(found)),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for id in ids {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if !(1..=80).contains(&id.len()) || !id.bytes().all(legal) {
            return Err(Error::EntryId);
        }
        if !seen.insert(id) {
            return Err(Error::SameIds(id.to_owned()));
        }
    }
    Ok(())
}

impl BatchResult {
    /// Notes an entry's end.
    pub fn push(&mut self, id: String, end: Result<Successful, Error>) {
        match end {
            Ok(successful) => self.successful.push(Successful { id, ..successful }),
            Err(error) => {
                let (code, message, sender_fault) = error.into_entry();
                self.failed.push(Failed { id, code, message: Some(message), sender_fault });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_legal_and_distinct_ids() {
        let code = |ids: &[&str]| match check(ids.iter().copied()) {
            Ok(()) => "ok".to_owned(),
            Err(error) => flint_kit::Fault::from(error).code.to_string(),
        };
        assert_eq!(code(&["a", "B-_9"]), "ok");
        assert_eq!(code(&[]), "EmptyBatchRequest");
        assert_eq!(code(&["a"; 11]), "TooManyEntriesInBatchRequest");
        assert_eq!(code(&["a", "a"]), "BatchEntryIdsNotDistinct");
        for bad in ["", "a b", "é", &"x".repeat(81)] {
            assert_eq!(code(&[bad]), "InvalidBatchEntryId", "{bad}");
        }
    }
}
