//! `PutLogEvents`: the rules for a batch, and what of it is taken.

use std::ops::Range;

use bytes::Bytes;
use flint_base::Timestamp;
use flint_kit::Ctx;

use crate::api::{InputLogEvent, PutEvents, PutLogEvents, RejectedEvents};
use crate::observe::Observe;
use crate::queue::Request;
use crate::record::MESSAGE_BYTES_MAX;
use crate::{Error, ops};

// Reference: `PutLogEvents`, the list of constraints.
const EVENTS_MAX: usize = 10_000;
const BATCH_BYTES_MAX: usize = 1_048_576;
const EVENT_COST: usize = 26;
const HOUR_MS: i64 = 60 * 60 * 1000;
const FUTURE_MS_MAX: i64 = 2 * HOUR_MS;
const AGE_MS_MAX: i64 = 14 * 24 * HOUR_MS;
const SPAN_MS_MAX: i64 = 24 * HOUR_MS;

pub async fn put_log_events(observe: &Observe, ctx: &Ctx, input: PutLogEvents) -> Result<PutEvents, Error> {
    check_batch(&input.log_events)?;
    // Settings and names alone: no file is read here unless the group is used for the first time.
    let group = observe.registry.find(&ctx.place, &input.log_group_name)?;
    let now = observe.clock.now().as_millis();
    let (kept, rejected) = window(&input.log_events, now, group.meta().expiry(now))?;
    let mut events = input.log_events;
    events.truncate(kept.end);
    let events = events
        .drain(kept.start..)
        .map(|e| (Timestamp::from_millis(e.timestamp), Bytes::from(e.message)))
        .collect::<Vec<_>>();
    let group = (ctx.place.clone(), input.log_group_name.into());
    let stream = input.log_stream_name.into();
    observe.request(|reply| Request::Put { group, stream, events, reply }).await?;
    Ok(PutEvents { next_sequence_token: ops::streams::sequence_token(0), rejected_log_events_info: rejected })
}

fn check_batch(events: &[InputLogEvent]) -> Result<(), Error> {
    let refuse = |text: String| Err(Error::Invalid(text));
    if events.is_empty() || events.len() > EVENTS_MAX {
        return refuse(format!(
            "1 validation error detected: Value at 'logEvents' failed to satisfy constraint: Member must have length \
             between 1 and {EVENTS_MAX}"
        ));
    }
    if events.iter().any(|e| e.timestamp < 0 || e.message.is_empty()) {
        return refuse(
            "Log events must have a timestamp of at least 0 and a message of at least 1 character.".to_owned(),
        );
    }
    if let Some(long) = events.iter().map(|e| e.message.len()).find(|n| *n > MESSAGE_BYTES_MAX) {
        return refuse(format!("Log event too large: {long} bytes exceeds limit of {MESSAGE_BYTES_MAX}"));
    }
    let bytes: usize = events.iter().map(|e| e.message.len() + EVENT_COST).sum();
    if bytes > BATCH_BYTES_MAX {
        return refuse(format!("Upload too large: {bytes} bytes exceeds limit of {BATCH_BYTES_MAX}"));
    }
    if events.windows(2).any(|pair| pair[0].timestamp > pair[1].timestamp) {
        return refuse("Log events in a single PutLogEvents request must be in chronological order.".to_owned());
    }
    Ok(())
}

/// Which events are taken, and which are not for their time. `events` are in order.
fn window(events: &[InputLogEvent], now: i64, expiry: i64) -> Result<(Range<usize>, Option<RejectedEvents>), Error> {
    let before = |limit: i64| events.partition_point(|e| e.timestamp < limit);
    let too_old = before(now.saturating_sub(AGE_MS_MAX));
    let expired = before(expiry);
    let too_new = before(now.saturating_add(FUTURE_MS_MAX + 1));
    let kept = too_old.max(expired).min(too_new)..too_new;
    if let [first, .., last] = &events[kept.clone()]
        && last.timestamp - first.timestamp > SPAN_MS_MAX
    {
        let text = "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.";
        return Err(Error::Invalid(text.to_owned()));
    }
    let some = |index: usize| (index > 0).then_some(index);
    let rejected = (kept.len() < events.len()).then(|| RejectedEvents {
        too_new_log_event_start_index: (too_new < events.len()).then_some(too_new),
        too_old_log_event_end_index: some(too_old),
        expired_log_event_end_index: some(expired),
    });
    Ok((kept, rejected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(times: &[i64]) -> Vec<InputLogEvent> {
        times.iter().map(|t| InputLogEvent { timestamp: *t, message: "m".to_owned() }).collect()
    }

    #[test]
    fn events_of_other_times_are_left_out_and_named() {
        let now = 100 * 24 * HOUR_MS;
        let old = now - AGE_MS_MAX - 1;
        let new = now + FUTURE_MS_MAX + 1;
        let (kept, rejected) = window(&events(&[old, old, now - 1, now, new]), now, i64::MIN).expect("taken");
        let rejected = rejected.expect("some are rejected");
        assert_eq!(kept, 2..4);
        assert_eq!(rejected.too_old_log_event_end_index, Some(2));
        assert_eq!(rejected.too_new_log_event_start_index, Some(4));
        assert_eq!(rejected.expired_log_event_end_index, None);
        let (kept, rejected) = window(&events(&[now - 10, now]), now, now - 5).expect("taken");
        assert_eq!((kept, rejected.and_then(|r| r.expired_log_event_end_index)), (1..2, Some(1)));
        let (kept, rejected) = window(&events(&[new]), now, i64::MIN).expect("taken");
        assert_eq!((kept.len(), rejected.and_then(|r| r.too_new_log_event_start_index)), (0, Some(0)));
        assert!(window(&events(&[now - 1, now]), now, i64::MIN).expect("taken").1.is_none());
        assert!(window(&events(&[now - SPAN_MS_MAX - 1, now]), now, i64::MIN).is_err());
        // What is rejected does not count for the span.
        assert!(window(&events(&[old, now]), now, i64::MIN).is_ok());
    }

    #[test]
    fn batches_follow_the_reference() {
        assert!(check_batch(&events(&[1, 1, 2])).is_ok());
        let big = |n: usize| vec![InputLogEvent { timestamp: 1, message: "x".repeat(n) }];
        assert!(check_batch(&big(BATCH_BYTES_MAX - EVENT_COST)).is_ok());
        for bad in [
            events(&[]),
            events(&[2, 1]),
            events(&[-1]),
            events(&vec![1; EVENTS_MAX + 1]),
            big(0),
            big(BATCH_BYTES_MAX - EVENT_COST + 1),
            big(MESSAGE_BYTES_MAX + 1),
        ] {
            assert!(matches!(check_batch(&bad), Err(Error::Invalid(_))));
        }
    }
}
