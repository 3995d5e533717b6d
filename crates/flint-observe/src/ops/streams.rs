//! Log streams.

use std::ops::Bound;
use std::sync::Arc;

use flint_kit::Ctx;
use flint_model::Place;

use crate::api::{CreateLogStream, DeleteLogStream, DescribeLogStreams, DescribedLogStreams, LogStream};
use crate::group::Contents;
use crate::observe::Observe;
use crate::queue::Request;
use crate::streams::{Name, Stream};
use crate::{Error, names, ops, token};

/// Reference: `DescribeLogStreams`, "limit".
const PAGE_MAX: usize = 50;

pub async fn create_log_stream(observe: &Observe, ctx: &Ctx, input: CreateLogStream) -> Result<(), Error> {
    names::check_stream(&input.log_stream_name)?;
    let group = (ctx.place.clone(), input.log_group_name.into());
    let stream = input.log_stream_name.into();
    observe.request(|reply| Request::CreateStream { group, stream, reply }).await
}

/// Differs: the bytes of a deleted stream's events stay counted in `storedBytes` until their segment expires.
pub async fn delete_log_stream(observe: &Observe, ctx: &Ctx, input: DeleteLogStream) -> Result<(), Error> {
    let group = (ctx.place.clone(), input.log_group_name.into());
    let stream = input.log_stream_name.into();
    observe.request(|reply| Request::DeleteStream { group, stream, reply }).await
}

/// In which order streams are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Name,
    LastEventTime,
}

/// A page of streams to be listed.
struct Listing {
    order: Order,
    descending: bool,
    prefix: String,
    after: Option<String>,
    limit: usize,
}

pub async fn describe_log_streams(
    observe: &Arc<Observe>,
    ctx: &Ctx,
    input: DescribeLogStreams,
) -> Result<DescribedLogStreams, Error> {
    let name = ops::group_name(&ctx.place, input.log_group_name, input.log_group_identifier)?;
    let order = match input.order_by.as_deref() {
        None | Some("LogStreamName") => Order::Name,
        Some("LastEventTime") => Order::LastEventTime,
        Some(other) => {
            return Err(Error::Invalid(format!(
                "1 validation error detected: Value '{other}' at 'orderBy' failed to satisfy constraint: Member must \
                 satisfy enum value set: [LogStreamName, LastEventTime]"
            )));
        }
    };
    if order == Order::LastEventTime && input.log_stream_name_prefix.is_some() {
        return Err(Error::Invalid("Cannot order by LastEventTime with a logStreamNamePrefix.".to_owned()));
    }
    let descending = input.descending.unwrap_or(false);
    let prefix = input.log_stream_name_prefix.unwrap_or_default();
    let limit = ops::limit(input.limit, PAGE_MAX)?;
    let scope = format!("streams {:?} {name} {order:?} {descending} {prefix}", ctx.place);
    let after = input.next_token.map(|t| token::text_of(&t, &scope)).transpose()?;
    let place = ctx.place.clone();
    observe
        .read(move |observe| {
            let group = observe.registry.find(&place, &name)?;
            let listing = Listing { order, descending, prefix, after, limit };
            let mut state = group.lock();
            let (_, contents) = state.contents(&group)?;
            let (streams, last) = listing.page(contents)?;
            let log_streams = streams.into_iter().map(|stream| describe(&place, &name, stream)).collect();
            Ok(DescribedLogStreams { log_streams, next_token: last.map(|last| token::of_text(&last, &scope)) })
        })
        .await
}

impl Listing {
    /// The page, and what to go on behind if there is more.
    fn page<'a>(&self, contents: &'a Contents) -> Result<(Vec<&'a Stream>, Option<String>), Error> {
        let mut found = match self.order {
            Order::Name => self.by_name(contents),
            Order::LastEventTime => self.by_time(contents)?,
        };
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        let last = found.last().filter(|_| more).map(|stream| match self.order {
            Order::Name => stream.name.to_string(),
            Order::LastEventTime => format!("{} {}", time(stream), stream.name),
        });
        Ok((found, last))
    }

    fn by_name<'a>(&self, contents: &'a Contents) -> Vec<&'a Stream> {
        let streams = &contents.streams;
        let after = self.after.as_deref();
        let wanted = |stream: &&Stream| stream.name.to_string().starts_with(&self.prefix);
        if self.descending {
            let end = after.map_or(Bound::Unbounded, Bound::Excluded);
            return streams.range(Bound::Unbounded, end).rev().filter(wanted).take(self.limit + 1).collect();
        }
        let start = after.map_or(Bound::Included(self.prefix.as_str()), Bound::Excluded);
        streams.range(start, Bound::Unbounded).take_while(wanted).take(self.limit + 1).collect()
    }

    fn by_time<'a>(&self, contents: &'a Contents) -> Result<Vec<&'a Stream>, Error> {
        let after = match &self.after {
            None => None,
            Some(text) => {
                let parsed = text.split_once(' ').and_then(|(at, name)| Some((at.parse::<i64>().ok()?, name)));
                Some(parsed.ok_or_else(|| Error::Invalid("The specified nextToken is invalid.".to_owned()))?)
            }
        };
        let after = after.map(|(at, name)| (at, Name::new(name)));
        let mut all: Vec<_> = contents.streams.iter().collect();
        let key = |stream: &'a Stream| (time(stream), &stream.name);
        all.retain(|stream| match &after {
            None => true,
            Some((at, name)) if self.descending => key(stream) < (*at, name),
            Some((at, name)) => key(stream) > (*at, name),
        });
        all.sort_unstable_by(|a, b| if self.descending { key(b).cmp(&key(a)) } else { key(a).cmp(&key(b)) });
        all.truncate(self.limit + 1);
        Ok(all)
    }
}

/// When the last event happened; streams without one come first.
fn time(stream: &Stream) -> i64 {
    stream.times().map_or(i64::MIN, |times| times.last)
}

fn describe(place: &Place, group: &str, stream: &Stream) -> LogStream {
    let (name, times) = (stream.name.to_string(), stream.times());
    LogStream {
        creation_time: stream.created(),
        first_event_timestamp: times.map(|t| t.first),
        last_event_timestamp: times.map(|t| t.last),
        last_ingestion_time: times.map(|t| t.last_ingested),
        upload_sequence_token: sequence_token(stream.id),
        arn: names::stream_arn(place, group, &name),
        log_stream_name: name,
        // As the reference does since 2019.
        stored_bytes: 0,
    }
}

/// A token that old clients send back; it is not looked at.
pub(super) fn sequence_token(id: u32) -> String {
    format!("{:056}", u64::from(id) + 1)
}
