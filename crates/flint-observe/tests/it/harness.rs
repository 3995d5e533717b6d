//! A data directory, a clock that stands still, and calls as a caller makes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::{RequestId, Timestamp, VirtualClock};
use flint_kit::{Ctx, Doc, Fault, Input, LogEvent, Principal, Service};
use flint_model::{ByteCount, Place};
use flint_observe::{Observe, Options};

pub const NOW: i64 = 1_795_251_600_000;
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Logs {
    pub observe: Arc<Observe>,
    pub clock: Arc<VirtualClock>,
    pub dir: PathBuf,
    service: Arc<dyn Service>,
    _kept: Option<tempfile::TempDir>,
}

/// Small segments, so that tests cross many.
pub fn options() -> Options {
    Options { segment: ByteCount(4096), ..Options::default() }
}

pub fn place() -> Place {
    Place { account: "000000000000".parse().expect("account"), region: "us-east-1".parse().expect("region") }
}

pub fn ctx(place: Place) -> Ctx {
    Ctx {
        request_id: RequestId::random(),
        principal: Principal::Root { account: place.account.clone(), access_key: "AKIAEXAMPLE".to_owned() },
        place,
        received: Timestamp::from_millis(NOW),
        base_url: "http://127.0.0.1:1".into(),
        lineage: None,
        trace: None,
    }
}

impl Logs {
    pub fn new() -> Self {
        Self::with(options())
    }

    pub fn with(options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut logs = Self::open(dir.path(), options);
        logs._kept = Some(dir);
        logs
    }

    pub fn open(dir: &Path, options: Options) -> Self {
        let clock = Arc::new(VirtualClock::at(Timestamp::from_millis(NOW)));
        let observe = Observe::open(dir, clock.clone(), options).expect("opens");
        let service = observe.service();
        Self { observe, clock, dir: dir.to_owned(), service, _kept: None }
    }

    /// Ends this life of the data directory and begins the next.
    pub fn reopen(self) -> Self {
        self.reopen_after(|_| {})
    }

    /// The same, with something done to the files in between.
    pub fn reopen_after(mut self, between: impl FnOnce(&Path)) -> Self {
        self.observe.close();
        between(&self.dir);
        let kept = self._kept.take();
        let mut next = Self::open(&self.dir, options());
        next._kept = kept;
        next
    }

    pub async fn try_call(&self, operation: &str, input: &[(&'static str, Doc)]) -> Result<Doc, Fault> {
        let doc = Doc::Map(input.iter().map(|(k, v)| ((*k).into(), v.clone())).collect());
        assert!(self.service.operations().iter().any(|spec| spec.name == operation));
        self.service.call(&ctx(place()), operation, Input::from_doc(doc)).await.map(|out| out.doc)
    }

    pub async fn call(&self, operation: &str, input: &[(&'static str, Doc)]) -> Doc {
        self.try_call(operation, input).await.unwrap_or_else(|e| panic!("{operation}: {e}"))
    }

    /// The code, the status and the message of a fault.
    pub async fn refused(&self, operation: &str, input: &[(&'static str, Doc)]) -> (String, u16, String) {
        let fault = self.try_call(operation, input).await.expect_err(operation);
        (fault.code.into_owned(), fault.status, fault.message)
    }

    pub async fn create(&self, group: &str, streams: &[&str]) {
        self.call("CreateLogGroup", &[("logGroupName", group.into())]).await;
        for stream in streams {
            self.call("CreateLogStream", &[("logGroupName", group.into()), ("logStreamName", (*stream).into())]).await;
        }
    }

    pub async fn put(&self, group: &str, stream: &str, events: &[(i64, &str)]) -> Doc {
        let event = |(at, message): &(i64, &str)| {
            Doc::Map(vec![("timestamp".into(), Doc::Int(*at)), ("message".into(), Doc::from(*message))])
        };
        let events = Doc::List(events.iter().map(event).collect());
        let input = [("logGroupName", group.into()), ("logStreamName", stream.into()), ("logEvents", events)];
        self.call("PutLogEvents", &input).await
    }

    pub fn append(&self, group: &str, stream: &str, lines: &[(i64, &str)]) {
        let event = |(at, line): &(i64, &str)| LogEvent {
            at: Timestamp::from_millis(*at),
            message: Bytes::copy_from_slice(line.as_bytes()),
        };
        let events = lines.iter().map(event).collect();
        self.observe.sink().append(&place(), &group.into(), &stream.into(), events);
    }

    /// All messages of a group by `FilterLogEvents`, page after page.
    pub async fn messages(&self, group: &str, more: &[(&'static str, Doc)]) -> Vec<String> {
        let mut input = vec![("logGroupName", Doc::from(group))];
        input.extend_from_slice(more);
        let mut found = Vec::new();
        loop {
            let page = self.call("FilterLogEvents", &input).await;
            found.extend(texts(&page, "events", "message"));
            let Some(token) = page.text_of("nextToken") else { return found };
            input.retain(|(name, _)| *name != "nextToken");
            input.push(("nextToken", token.into()));
        }
    }
}

/// The members `member` of the list `list`.
pub fn texts(doc: &Doc, list: &str, member: &str) -> Vec<String> {
    items(doc, list).iter().map(|item| item.text_of(member).unwrap_or_default().to_owned()).collect()
}

pub fn items<'a>(doc: &'a Doc, list: &str) -> &'a [Doc] {
    match doc.get(list) {
        Some(Doc::List(items)) => items,
        _ => &[],
    }
}

/// All files below `dir` whose name ends with `suffix`, sorted.
pub fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("lists") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
