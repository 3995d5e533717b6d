//! Decoders never panic, whatever comes; what is written is read back the same.

use bytes::Bytes;
use flint_base::{RequestId, Timestamp};
use flint_kit::{Body, Doc, Key, Output};
use flint_wire::codec::{self, Incoming, json};
use flint_wire::shape::{Kind, OperationModel, Place, ServiceModel, Shape};
use flint_wire::tables::SERVICES;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use proptest::strategy::Union;

fn served() -> Vec<(&'static ServiceModel, &'static OperationModel)> {
    let all = SERVICES.iter().copied().flat_map(|s| s.operations.iter().map(move |o| (s, o)));
    all.filter(|(_, o)| o.shapes.is_some()).collect()
}

fn operation() -> impl Strategy<Value = (&'static ServiceModel, &'static OperationModel)> {
    prop::sample::select(served())
}

/// Documents of a shape, as a service could answer them.
fn docs(shape: &'static Shape, depth: u32) -> BoxedStrategy<Doc> {
    match shape.kind {
        Kind::Text => "[ -~äß\u{1F600}\n\"\\\\]{0,12}".prop_map(Doc::Text).boxed(),
        Kind::Blob => prop::collection::vec(any::<u8>(), 0..16).prop_map(|b| Doc::Blob(Bytes::from(b))).boxed(),
        Kind::Boolean => any::<bool>().prop_map(Doc::Bool).boxed(),
        Kind::Integer => any::<i32>().prop_map(|n| Doc::Int(n.into())).boxed(),
        Kind::Long => any::<i64>().prop_map(Doc::Int).boxed(),
        Kind::Double => any::<i32>().prop_map(|n| Doc::Float(f64::from(n) / 16.0)).boxed(),
        Kind::Timestamp => (0i64..4_000_000_000_000).prop_map(|ms| Doc::Time(Timestamp::from_millis(ms))).boxed(),
        _ if depth == 0 => Just(Doc::Null).boxed(),
        Kind::List(item) => prop::collection::vec(docs(item.shape, depth - 1), 0..3).prop_map(Doc::List).boxed(),
        Kind::Map(entries) => prop::collection::btree_map("[a-zA-Z0-9._-]{1,5}", docs(entries.value, depth - 1), 0..3)
            .prop_map(|m| Doc::Map(m.into_iter().map(|(k, v)| (Key::Owned(k), v)).collect()))
            .boxed(),
        Kind::Structure(members) => {
            let mut all: BoxedStrategy<Vec<(Key, Doc)>> = Just(Vec::new()).boxed();
            for member in members.iter().filter(|m| m.place == Place::Body) {
                let one = prop::option::weighted(0.3, docs(member.shape, depth - 1));
                all = (all, one)
                    .prop_map(move |(mut all, value)| {
                        all.extend(value.filter(|v| *v != Doc::Null).map(|v| (Key::Borrowed(member.name), v)));
                        all
                    })
                    .boxed();
            }
            all.prop_map(Doc::Map).boxed()
        }
    }
}

/// Every shape of a body, in requests and answers of the JSON protocols.
fn bodies() -> Vec<&'static Shape> {
    let shapes = served().into_iter().filter_map(|(_, o)| o.shapes.as_ref());
    shapes.flat_map(|s| [s.input, s.output]).filter(|s| s.payload().is_none()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(
        (service, operation) in operation(),
        body in prop::collection::vec(any::<u8>(), 0..200),
        query in "[ -~]{0,60}",
        header in prop::collection::vec(0x20u8..=0xff, 0..30),
        label in "\\PC{0,20}",
    ) {
        decode_all(service, operation, &body, &query, &header, &label);
    }

    #[test]
    fn arbitrary_json_never_panics((service, operation) in operation(), body in json_text()) {
        decode_all(service, operation, body.as_bytes(), "", b"", "f");
    }

    #[test]
    fn arbitrary_forms_never_panic(body in "([A-Za-z.0-9%+]{0,12}=[ -~]{0,8}&){0,8}") {
        let sts = SERVICES.iter().copied().find(|s| s.name == "sts").expect("sts");
        if let Ok(call) = flint_wire::route::by_form(Some(sts), "sts", body.as_bytes(), "", "/") {
            decode_all(call.service, call.operation, body.as_bytes(), "", b"", "");
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        (shape, doc) in prop::sample::select(bodies()).prop_flat_map(|s| (Just(s), docs(s, 6)))
    ) {
        let service = SERVICES[0];
        let bytes = json::render(shape, &doc).expect("documents of a shape can be written");
        let back = json::decode(service, shape, &bytes).expect("what we wrote can be read");
        prop_assert_eq!(sorted(back), sorted(doc));
    }

    #[test]
    fn answers_of_any_document_never_panic(
        (service, operation) in operation(),
        doc in any_doc(),
        status in prop::option::of(any::<u16>()),
    ) {
        let output = Output { doc, body: Some(Body::empty()), status };
        let _ = codec::encode(service, operation, output, RequestId::random());
    }
}

fn decode_all(
    service: &'static ServiceModel,
    operation: &'static OperationModel,
    body: &[u8],
    query: &str,
    header: &[u8],
    label: &str,
) {
    let mut headers = HeaderMap::new();
    for name in ["x-amz-invocation-type", "x-amz-log-type", "x-amz-client-context"] {
        if let Ok(value) = HeaderValue::from_bytes(header) {
            headers.insert(name, value);
        }
    }
    let labels = [("FunctionName", label.to_owned())];
    let body = Bytes::copy_from_slice(body);
    let result = codec::decode(service, operation, Incoming { headers: &headers, query, labels: &labels, body });
    if let Err(fault) = result {
        assert!(fault.status < 500 || fault.status == 501, "{fault}");
    }
}

/// JSON that often has members of the shapes.
fn json_text() -> impl Strategy<Value = String> {
    let names: Vec<&'static str> =
        served().iter().flat_map(|(_, o)| o.shapes.as_ref().expect("served").input.members()).map(|m| m.wire).collect();
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        "[ -~]{0,8}".prop_map(|s| serde_json::Value::from(s).to_string()),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        let name = prop::sample::select(names.clone());
        Union::new([
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(","))).boxed(),
            prop::collection::vec((name, inner), 0..6)
                .prop_map(|v| {
                    let members: Vec<String> = v.into_iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                    format!("{{{}}}", members.join(","))
                })
                .boxed(),
        ])
    })
}

/// Documents that need not fit any shape.
fn any_doc() -> impl Strategy<Value = Doc> {
    let names: Vec<&'static str> = served()
        .iter()
        .flat_map(|(_, o)| o.shapes.as_ref().expect("served").output.members())
        .map(|m| m.name)
        .collect();
    let leaf = prop_oneof![
        Just(Doc::Null),
        any::<bool>().prop_map(Doc::Bool),
        any::<i64>().prop_map(Doc::Int),
        any::<f64>().prop_map(Doc::Float),
        "\\PC{0,8}".prop_map(Doc::Text),
        any::<i64>().prop_map(|ms| Doc::Time(Timestamp::from_millis(ms))),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(|b| Doc::Blob(b.into())),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        let name = prop::sample::select(names.clone()).prop_map(Key::Borrowed);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Doc::List),
            prop::collection::vec((name, inner), 0..6).prop_map(Doc::Map),
        ]
    })
}

/// Members of structures come back in the table's order.
fn sorted(doc: Doc) -> Doc {
    match doc {
        Doc::Map(members) => {
            let mut members: Vec<_> = members.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Doc::Map(members)
        }
        Doc::List(items) => Doc::List(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
