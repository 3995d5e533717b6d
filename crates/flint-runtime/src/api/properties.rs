//! The state machine against a model of itself, and the HTTP under it against arbitrary bytes.

use flint_base::SystemClock;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::serve::serve_one;
use super::*;

fn api() -> Api {
    Api::new(Arc::new(SystemClock::new()), Extensions::default())
}

fn event(id: &str, stream: Option<Outlet>) -> Event {
    Event {
        id: id.to_owned(),
        deadline: Timestamp::from_millis(0),
        arn: "arn".into(),
        trace: None,
        client_context: None,
        payload: Bytes::from_static(b"{}"),
        limit: 100,
        stream,
    }
}

/// What a runtime may do, and the environment in between. The number says for which event: 0 the last one, 1 the one
/// before, and so on.
#[derive(Clone, Copy, Debug)]
enum Step {
    Offer { streams: bool },
    Next,
    Expects(usize),
    Answer(usize, Kind),
    BeginStream(usize),
    EndStream(usize),
    InitError,
    Take,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Response,
    Error,
    TooLarge,
    Streamed,
}

fn kind_of(reported: &Reported) -> Kind {
    match reported {
        Reported::Response(_) => Kind::Response,
        Reported::Error(_) => Kind::Error,
        Reported::TooLarge => Kind::TooLarge,
        Reported::Streamed(_) => Kind::Streamed,
    }
}

fn reported(kind: Kind) -> Reported {
    match kind {
        Kind::Response => Reported::Response(Bytes::from_static(b"1")),
        Kind::Error => Reported::Error(failure()),
        Kind::TooLarge => Reported::TooLarge,
        Kind::Streamed => Reported::Streamed(Ok(())),
    }
}

fn failure() -> Failure {
    Failure { error_type: "E".to_owned(), document: Bytes::from_static(b"{}") }
}

/// The rules, said once more and as simply as they go.
#[derive(Debug, Default)]
struct Model {
    offered: usize,
    ready: bool,
    failed: bool,
    waiting: Option<bool>,
    /// Stage, and whether it may be streamed.
    flight: Option<(Stage, bool)>,
    reported: Option<Kind>,
    /// Answers that were taken, by event.
    answers: Vec<usize>,
}

impl Model {
    /// An answer for the event `back` before the last one: refused unless that is in flight and open.
    fn open(&self, back: usize) -> Result<(), Refusal> {
        match self.flight {
            Some((Stage::Open, _)) if back == 0 => Ok(()),
            Some(_) if back == 0 => Err(Refusal::WrongState),
            _ => Err(Refusal::UnknownId),
        }
    }

    fn answered(&mut self, kind: Kind) {
        self.flight = self.flight.map(|(_, streams)| (Stage::Answered, streams));
        self.reported = Some(kind);
        self.answers.push(self.offered);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop::sample::select(vec![Kind::Response, Kind::Error, Kind::TooLarge]);
    let step = prop_oneof![
        3 => any::<bool>().prop_map(|streams| Step::Offer { streams }),
        4 => Just(Step::Next),
        2 => (0usize..3).prop_map(Step::Expects),
        4 => (0usize..3, kind).prop_map(|(back, kind)| Step::Answer(back, kind)),
        2 => (0usize..3).prop_map(Step::BeginStream),
        2 => (0usize..3).prop_map(Step::EndStream),
        1 => Just(Step::InitError),
        2 => Just(Step::Take),
    ];
    prop::collection::vec(step, 0..60)
}

fn id(offered: usize, back: usize) -> String {
    // Before the first event there are ids too, of nothing.
    format!("id-{}", offered as i64 - back as i64)
}

fn run(steps: &[Step]) {
    let (api, mut model) = (api(), Model::default());
    for step in steps {
        match *step {
            Step::Offer { streams } => {
                // The environment offers when the event before is done with.
                let free =
                    model.waiting.is_none() && !matches!(model.flight, Some((Stage::Open | Stage::Streaming, _)));
                if !free || model.failed {
                    continue;
                }
                model.offered += 1;
                let outlet = streams.then(|| Outlet { to: crate::stream::response_stream().0, limit: 100 });
                api.offer(event(&id(model.offered, 0), outlet));
                (model.waiting, model.flight, model.reported) = (Some(streams), None, None);
            }
            Step::Next => {
                let busy = matches!(model.flight, Some((Stage::Open | Stage::Streaming, _)));
                let next = api.next().now_or_never();
                if model.failed || busy {
                    assert!(matches!(next, Some(Err(Refusal::WrongState))), "{next:?}");
                    continue;
                }
                model.ready = true;
                match model.waiting.take() {
                    Some(streams) => {
                        let event = next.expect("an event waits").expect("it may ask");
                        assert_eq!(event.id, id(model.offered, 0));
                        model.flight = Some((Stage::Open, streams));
                    }
                    None => assert!(next.is_none(), "{next:?}"),
                }
            }
            Step::Expects(back) => {
                assert_eq!(api.expects(&id(model.offered, back)), model.open(back).map(|()| 100));
            }
            Step::Answer(back, kind) => {
                let expected = model.open(back);
                assert_eq!(api.answer(&id(model.offered, back), reported(kind)), expected);
                if expected.is_ok() {
                    model.answered(kind);
                }
            }
            Step::BeginStream(back) => {
                let begun = api.begin_stream(&id(model.offered, back));
                match (model.open(back), model.flight) {
                    (Err(refusal), _) => assert_eq!(begun.err(), Some(refusal)),
                    (Ok(()), Some((_, true))) => {
                        assert!(begun.expect("it may").is_some());
                        model.flight = Some((Stage::Streaming, false));
                    }
                    (Ok(()), _) => assert!(begun.expect("it may").is_none()),
                }
            }
            Step::EndStream(back) => {
                api.streamed(&id(model.offered, back), Ok(()));
                if back == 0 && matches!(model.flight, Some((Stage::Streaming, _))) {
                    model.answered(Kind::Streamed);
                }
            }
            Step::InitError => {
                let expected = if model.ready || model.failed { Err(Refusal::WrongState) } else { Ok(()) };
                assert_eq!(api.init_failed(failure()), expected);
                model.failed |= expected.is_ok();
            }
            Step::Take => assert_eq!(api.take_reported().as_ref().map(kind_of), model.reported.take()),
        }
    }
    let mut once = model.answers.clone();
    once.dedup();
    assert_eq!(once, model.answers, "one answer an event");
}

/// Requests of a runtime and what is none, in any order.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let path = prop::sample::select(vec![
        "/2018-06-01/runtime/invocation/next",
        "/2018-06-01/runtime/invocation/x/response",
        "/2018-06-01/runtime/invocation//response",
        "/2018-06-01/runtime/invocation/../invocation/next",
        "/2018-06-01/runtime/init/error",
        "/2018-06-01/ping",
        "/2020-01-01/extension/register",
        "/2020-01-01/extension/event/next",
        "/2022-07-01/telemetry",
        "/",
        "*",
    ]);
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "CONNECT", "HEAD"]);
    let field = prop::sample::select(vec![
        "Content-Length: 2\r\n",
        "Content-Length: 99999999\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Lambda-Runtime-Function-Response-Mode: streaming\r\n",
        "Lambda-Runtime-Function-Error-Type: \u{ff}\r\n",
        "Lambda-Extension-Name: e\r\n",
        "Lambda-Extension-Identifier: e\r\n",
        "Expect: 100-continue\r\n",
        "Upgrade: h2c\r\n",
        "X",
    ]);
    let request = (method, path, prop::collection::vec(field, 0..4))
        .prop_map(|(m, p, f)| format!("{m} {p} HTTP/1.1\r\nHost: x\r\n{}\r\n", f.concat()).into_bytes());
    let piece = prop_oneof![
        4 => request,
        1 => Just(b"{}".to_vec()),
        1 => Just(b"2\r\n{}\r\n0\r\n\r\n".to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// Sends `bytes` as one connection and gives the statuses that came back.
async fn statuses(api: &Arc<Api>, bytes: &[u8]) -> Vec<u16> {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (mut read, mut write) = tokio::io::split(ours);
    let talk = async {
        // It may hang up before it has read everything.
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
        let mut answer = Vec::new();
        let _ = read.read_to_end(&mut answer).await;
        answer
    };
    let ((), answer) = tokio::join!(serve_one(api.clone(), theirs, 16 * 1024), talk);
    let text = String::from_utf8_lossy(&answer);
    text.split("HTTP/1.1 ").skip(1).map(|part| part[..3].parse().expect("a status")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_keeps_to_the_rules(steps in steps()) {
        run(&steps);
    }

    #[test]
    fn any_bytes_are_refused_and_leave_the_event_alone(bytes in bytes()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let api = Arc::new(api());
            let id = "8d5a2c6e-7a52-4c1a-b8a9-0f6f5e8f6f3b";
            api.offer(event(id, None));
            assert_eq!(api.next().await.expect("the event").id, id);
            let served = tokio::time::timeout(Duration::from_secs(20), statuses(&api, &bytes)).await;
            for status in served.expect("it ends with the connection") {
                // A ping, and the registration of an extension, are good at any time before the first init's end.
                assert!(status == 200 || status == 100 || (400..500).contains(&status), "{status}");
            }
            assert_eq!(api.take_reported(), None, "nobody else answers");
            assert_eq!(api.answer(id, reported(Kind::Response)), Ok(()));
        });
    }

    #[test]
    fn extensions_are_few_and_known_by_their_identifiers(
        names in prop::collection::vec("[a-c]{0,2}", 0..40),
        stranger in "\\PC{0,40}",
        closes_at in 0usize..40,
    ) {
        let extensions = Extensions::default();
        let mut known: Vec<(String, String)> = Vec::new();
        for (n, name) in names.iter().enumerate() {
            if n == closes_at {
                extensions.close_registration();
            }
            if let Ok(id) = extensions.register(name, &["INVOKE".to_owned()]) {
                prop_assert!(n < closes_at && !name.is_empty() && known.iter().all(|(other, _)| other != name));
                known.push((name.clone(), id));
            }
        }
        prop_assert!(known.len() <= 10);
        for (name, id) in &known {
            prop_assert_eq!(&extensions.name_of(id).expect("known"), name);
        }
        prop_assert!(extensions.name_of(&stranger).is_err());
        prop_assert!(extensions.failed(&stranger, "Extension.InitError", "E").is_err());
        let next = extensions.next(&stranger).now_or_never();
        prop_assert!(matches!(next, Some(Err(_))), "a stranger never waits");
    }
}
