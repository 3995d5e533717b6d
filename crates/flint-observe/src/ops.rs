//! The operations, by what they are about.

pub mod events;
pub mod groups;
pub mod put;
pub mod streams;

use flint_model::Place;

use crate::{Error, names};

/// The group's name out of `logGroupName` and `logGroupIdentifier`, of which a caller gives one.
fn group_name(place: &Place, name: Option<String>, identifier: Option<String>) -> Result<String, Error> {
    match (name, identifier) {
        (Some(name), None) => Ok(name),
        (None, Some(identifier)) => names::group_of_identifier(place, &identifier),
        (None, None) => Err(Error::Invalid("logGroupName or logGroupIdentifier must be specified.".to_owned())),
        (Some(_), Some(_)) => {
            Err(Error::Invalid("logGroupName and logGroupIdentifier cannot both be specified.".to_owned()))
        }
    }
}

/// A `limit` within `1..=max`; `max` where none is given.
fn limit(given: Option<i64>, max: usize) -> Result<usize, Error> {
    let Some(given) = given else { return Ok(max) };
    let rule = match usize::try_from(given) {
        Ok(limit) if (1..=max).contains(&limit) => return Ok(limit),
        Ok(limit) if limit > max => format!("Member must have value less than or equal to {max}"),
        _ => "Member must have value greater than or equal to 1".to_owned(),
    };
    Err(Error::Invalid(format!(
        "1 validation error detected: Value '{given}' at 'limit' failed to satisfy constraint: {rule}"
    )))
}
