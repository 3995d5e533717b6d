//! Bytes in and out of every protocol, over the tables.

use bytes::Bytes;
use flint_base::{RequestId, Timestamp};
use flint_kit::{Body, Doc, Fault, Input, Output};
use flint_wire::codec::{self, Incoming};
use flint_wire::shape::{OperationModel, ServiceModel};
use flint_wire::tables::SERVICES;
use http::{HeaderMap, HeaderName, HeaderValue};

pub fn model(service: &str, operation: &str) -> (&'static ServiceModel, &'static OperationModel) {
    let service = SERVICES.iter().copied().find(|s| s.name == service).expect("a service");
    (service, service.operation(operation).expect("an operation"))
}

#[derive(Default)]
pub struct Given<'a> {
    pub headers: &'a [(&'static str, &'a str)],
    pub query: &'a str,
    pub labels: &'a [(&'static str, &'a str)],
    pub body: &'a [u8],
}

pub fn decode(service: &str, operation: &str, given: Given<'_>) -> Result<Input, Fault> {
    let (service, operation) = model(service, operation);
    let headers: HeaderMap = given
        .headers
        .iter()
        .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_bytes(v.as_bytes()).expect("a value")))
        .collect();
    let labels: Vec<_> = given.labels.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
    let body = Bytes::copy_from_slice(given.body);
    codec::decode(service, operation, Incoming { headers: &headers, query: given.query, labels: &labels, body })
}

/// Decodes a body alone.
pub fn body(service: &str, operation: &str, body: &str) -> Result<Doc, Fault> {
    decode(service, operation, Given { body: body.as_bytes(), ..Given::default() }).map(|input| input.doc)
}

pub fn doc(members: &[(&'static str, Doc)]) -> Doc {
    Doc::Map(members.iter().map(|(k, v)| ((*k).into(), v.clone())).collect())
}

fn text(body: &Body) -> &str {
    match body {
        Body::Whole(bytes) => std::str::from_utf8(bytes).expect("text"),
        _ => panic!("a stream"),
    }
}

const ROLE: &str = "arn:aws:iam::000000000000:role/r";

#[test]
fn a_function_is_read() {
    let given = format!(
        r#"{{"FunctionName":"f","Role":"{ROLE}","Code":{{"ZipFile":"UEs="}},"Timeout":3,"MemorySize":128.0,
        "Environment":{{"Variables":{{"B_2":"x","A_1":"y","B_2":"z"}}}},"Tags":{{}},"Unknown":[1,{{"a":null}}],"Description":null,
        "VpcConfig":{{"SubnetIds":[],"SecurityGroupIds":[]}},"TracingConfig":{{"Mode":"PassThrough"}},
        "SnapStart":{{"ApplyOn":"None"}},"PackageType":"Zip","Architectures":["x86_64"],"Layers":[],"Publish":false,
        "KMSKeyArn":"","EphemeralStorage":{{"Size":512}},"LoggingConfig":{{"LogFormat":"Text","LogGroup":"/g"}}}}"#
    );
    let doc = body("lambda", "CreateFunction", &given).expect("reads");
    assert_eq!(doc.text_of("FunctionName"), Some("f"));
    assert_eq!(doc.int_of("Timeout"), Some(3));
    assert_eq!(doc.int_of("MemorySize"), Some(128));
    assert_eq!(doc.get("Description"), None);
    assert_eq!(doc.get("Unknown"), None);
    assert_eq!(doc.get("Code").and_then(|c| c.get("ZipFile")), Some(&Doc::Blob(Bytes::from_static(b"PK"))));
    let variables = doc.get("Environment").and_then(|e| e.get("Variables")).expect("variables");
    let Doc::Map(entries) = variables else { panic!("a map") };
    assert_eq!(entries.len(), 2, "the last of two equal keys wins: {entries:?}");
    assert_eq!(variables.text_of("B_2"), Some("z"));
}

#[test]
fn an_invocation_is_read_without_touching_its_payload() {
    let input = decode(
        "lambda",
        "Invoke",
        Given {
            headers: &[
                ("x-amz-log-type", "Tail"),
                ("x-amz-client-context", "e30="),
                ("x-amz-invocation-type", "DryRun"),
            ],
            query: "Qualifier=%24LATEST&x=y",
            labels: &[("FunctionName", "f")],
            body: b"\xff not json",
        },
    )
    .expect("reads");
    assert_eq!(input.doc.text_of("FunctionName"), Some("f"));
    assert_eq!(input.doc.text_of("Qualifier"), Some("$LATEST"));
    assert_eq!(input.doc.text_of("LogType"), Some("Tail"));
    assert_eq!(input.doc.text_of("InvocationType"), Some("DryRun"));
    assert!(matches!(input.body, Some(Body::Whole(b)) if &b[..] == b"\xff not json"));
}

#[test]
fn bodies_that_do_not_fit_are_the_callers_mistake() {
    let check = |service: &str, operation: &str, text: &str, code: &str, message: &str| {
        let fault = body(service, operation, text).expect_err(text);
        assert_eq!((fault.status, fault.code.as_ref()), (400, code), "{text}: {fault}");
        assert!(fault.message.contains(message), "{text}: {fault}");
    };
    let malformed = "InvalidRequestContentException";
    check("lambda", "CreateFunction", "{", malformed, "Could not parse request body into json: EOF");
    check("lambda", "CreateFunction", "{}x", malformed, "trailing characters");
    check("lambda", "CreateFunction", "{\"FunctionName\":\"\\ud800\"}", malformed, "Could not parse");
    check("lambda", "CreateFunction", &"[".repeat(1000), "SerializationException", "Start of list");
    check("lambda", "CreateFunction", &format!("{{\"x\":{}", "[".repeat(1000)), malformed, "EOF");
    check("lambda", "CreateFunction", "[]", "SerializationException", "Start of list found where not expected");
    check("lambda", "CreateFunction", "5", "SerializationException", "Unexpected value type in payload");
    let wrong = "SerializationException";
    check("lambda", "CreateFunction", r#"{"FunctionName":5}"#, wrong, "NUMBER_VALUE can not be converted to a String");
    check("lambda", "CreateFunction", r#"{"FunctionName":true}"#, wrong, "TRUE_VALUE can not be converted to a String");
    check("lambda", "CreateFunction", r#"{"FunctionName":{}}"#, wrong, "Start of structure or map found");
    check("lambda", "CreateFunction", r#"{"Timeout":"3"}"#, wrong, "STRING_VALUE can not be converted to an Integer");
    check("lambda", "CreateFunction", r#"{"Timeout":3.5}"#, wrong, "NUMBER_VALUE can not be converted to an Integer");
    check("lambda", "CreateFunction", r#"{"Timeout":1e300}"#, wrong, "NUMBER_VALUE");
    check("lambda", "CreateFunction", r#"{"Timeout":18446744073709551615}"#, wrong, "NUMBER_VALUE");
    check("lambda", "CreateFunction", r#"{"Environment":5}"#, wrong, "Unexpected value type in payload");
    check(
        "lambda",
        "CreateFunction",
        r#"{"Code":{"ZipFile":"***"}}"#,
        wrong,
        "STRING_VALUE can not be converted to a Blob",
    );
    check(
        "lambda",
        "CreateFunction",
        r#"{"Publish":"false"}"#,
        wrong,
        "STRING_VALUE can not be converted to a Boolean",
    );
    check("logs", "CreateLogGroup", "{", "SerializationException", "Could not parse request body into json");
    check("logs", "DescribeLogGroups", r#"{"limit":"5"}"#, wrong, "STRING_VALUE");
}

#[test]
fn an_empty_body_is_an_empty_structure() {
    for text in ["", " \n", "{}", "null"] {
        assert_eq!(body("logs", "DescribeLogGroups", text).expect("reads"), doc(&[]), "{text:?}");
    }
}

#[test]
fn query_strings_and_headers_are_read_by_type() {
    let query =
        |query: &str| decode("lambda", "ListFunctions", Given { query, ..Given::default() }).map(|input| input.doc);
    assert_eq!(query("MaxItems=5").expect("reads").int_of("MaxItems"), Some(5));
    assert_eq!(query("Marker=a%2Bb+c").expect("reads").text_of("Marker"), Some("a+b+c"));
    for bad in ["MaxItems=x", "MaxItems=5&MaxItems=6", "Marker=%ff"] {
        assert_eq!(query(bad).expect_err(bad).code, "SerializationException", "{bad}");
    }
}

#[test]
fn a_function_is_written() {
    let (service, operation) = model("lambda", "GetFunctionConfiguration");
    let output = Output::from_doc(doc(&[
        ("FunctionName", Doc::from("f\n\"")),
        ("CodeSize", Doc::Int(3)),
        ("Description", Doc::Null),
        ("Layers", Doc::List(vec![])),
        ("Environment", doc(&[("Variables", doc(&[("A", Doc::from("1"))]))])),
        ("NotInTheShape", Doc::Int(1)),
    ]));
    let id = RequestId::random();
    let answer = codec::encode(service, operation, output, id).expect("writes");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["x-amzn-requestid"], id.to_string());
    assert_eq!(
        text(answer.body()),
        r#"{"FunctionName":"f\n\"","CodeSize":3,"Layers":[],"Environment":{"Variables":{"A":"1"}}}"#
    );
    let (service, operation) = model("lambda", "CreateFunction");
    assert_eq!(codec::encode(service, operation, Output::empty(), id).expect("writes").status(), 201);
    let (service, operation) = model("lambda", "DeleteFunction");
    let output = Output { status: Some(204), ..Output::empty() };
    let answer = codec::encode(service, operation, output, id).expect("writes");
    assert_eq!((answer.status().as_u16(), text(answer.body())), (204, ""));
    let output = Output::from_doc(doc(&[("StatusCode", Doc::Int(204))]));
    assert_eq!(codec::encode(service, operation, output, id).expect("writes").status(), 204);
}

#[test]
fn an_outcome_is_written() {
    let (service, operation) = model("lambda", "Invoke");
    let output = Output {
        doc: doc(&[
            ("FunctionError", Doc::from("Unhandled")),
            ("LogResult", Doc::from("TE9H")),
            ("ExecutedVersion", Doc::from("$LATEST")),
        ]),
        body: Some(Body::Whole(Bytes::from_static(b"{\"errorMessage\":1}"))),
        status: Some(200),
    };
    let answer = codec::encode(service, operation, output, RequestId::random()).expect("writes");
    assert_eq!(answer.headers()["x-amz-function-error"], "Unhandled");
    assert_eq!(answer.headers()["x-amz-log-result"], "TE9H");
    assert_eq!(answer.headers()["x-amz-executed-version"], "$LATEST");
    assert_eq!(text(answer.body()), "{\"errorMessage\":1}");
}

#[test]
fn json_and_xml_answers() {
    let id: RequestId = "6f1c0b1e-8d0b-4a7e-9d54-0a3a2b0b7f11".parse().expect("an id");
    let (service, operation) = model("flint", "ListEnvironments");
    let output = Output::from_doc(doc(&[(
        "Environments",
        Doc::List(vec![doc(&[
            ("Id", Doc::from("e")),
            ("StartedAt", Doc::Time(Timestamp::from_millis(1500))),
            ("ColdStart", doc(&[("TotalMs", Doc::Float(2.5))])),
        ])]),
    )]));
    let answer = codec::encode(service, operation, output, id).expect("writes");
    assert_eq!(answer.headers()["content-type"], "application/x-amz-json-1.1");
    assert_eq!(text(answer.body()), r#"{"Environments":[{"Id":"e","StartedAt":1.5,"ColdStart":{"TotalMs":2.5}}]}"#);
    let (service, operation) = model("logs", "CreateLogGroup");
    let answer = codec::encode(service, operation, Output::empty(), id).expect("writes");
    assert_eq!(text(answer.body()), "");
    let (service, operation) = model("sts", "GetCallerIdentity");
    let output = Output::from_doc(doc(&[("Arn", Doc::from("arn:aws:iam::1:root<&>")), ("Account", Doc::from("1"))]));
    let answer = codec::encode(service, operation, output, id).expect("writes");
    assert_eq!(answer.headers()["content-type"], "text/xml");
    assert_eq!(
        text(answer.body()),
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Account>1</Account><Arn>arn:aws:iam::1:root&lt;&amp;&gt;</Arn></GetCallerIdentityResult><ResponseMetadata>\
         <RequestId>6f1c0b1e-8d0b-4a7e-9d54-0a3a2b0b7f11</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    );
}

#[test]
fn faults_in_every_protocol() {
    let id: RequestId = "6f1c0b1e-8d0b-4a7e-9d54-0a3a2b0b7f11".parse().expect("an id");
    let render = |service: &str, fault: Fault| {
        let service = SERVICES.iter().copied().find(|s| s.name == service).expect("a service");
        codec::fault::encode(service.protocol, Some(service), &fault, id)
    };
    let missing = || Fault::client(404, "ResourceNotFoundException", "Function not found: f");
    let answer = render("lambda", missing());
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers()["x-amzn-errortype"], "ResourceNotFoundException");
    assert_eq!(text(answer.body()), r#"{"Message":"Function not found: f","Type":"User"}"#);
    let throttled = Fault::throttle("TooManyRequestsException", "Rate Exceeded.")
        .with_field("Reason", "ReservedFunctionConcurrentInvocationLimitExceeded")
        .with_field("retryAfterSeconds", "1");
    let answer = render("lambda", throttled);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(
        text(answer.body()),
        r#"{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#
    );
    let answer = render("lambda", Fault::server(500, "ServiceException", "x"));
    assert_eq!(text(answer.body()), r#"{"Message":"x","Type":"Service"}"#);
    let answer = render("lambda", Fault::client(400, "ValidationException", "x"));
    assert_eq!(text(answer.body()), r#"{"message":"x"}"#);
    let answer = render("logs", missing());
    assert_eq!(answer.status(), 404);
    assert_eq!(text(answer.body()), r#"{"__type":"ResourceNotFoundException","message":"Function not found: f"}"#);
    let answer = render("sts", Fault::not_served("sts.AssumeRole"));
    assert_eq!(answer.status(), 501);
    assert_eq!(
        text(answer.body()),
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
         <Code>NotImplemented</Code><Message>not served: sts.AssumeRole</Message></Error>\
         <RequestId>6f1c0b1e-8d0b-4a7e-9d54-0a3a2b0b7f11</RequestId></ErrorResponse>"
    );
}

/// One model, two protocols: names differ, documents do not.
#[test]
fn a_queue_is_spoken_to_in_json_and_in_query() {
    let json = SERVICES.iter().copied().find(|s| s.name == "sqs").expect("sqs");
    let query = SERVICES.iter().copied().filter(|s| s.name == "sqs").nth(1).expect("sqs in Query");
    let decode = |service: &'static ServiceModel, operation: &str, path: &str, body: &str| {
        let operation = service.operation(operation).expect("an operation");
        let labels = if path.is_empty() { vec![] } else { vec![("QueueUrl", path.to_owned())] };
        let body = Bytes::copy_from_slice(body.as_bytes());
        let headers = HeaderMap::new();
        let incoming = Incoming { headers: &headers, query: "", labels: &labels, body };
        codec::decode(service, operation, incoming).map(|input| input.doc)
    };
    let asked =
        r#"{"QueueUrl":"/0/q","MessageBody":"b","MessageAttributes":{"k":{"DataType":"Binary","BinaryValue":"AQ=="}}}"#;
    let form = "Action=SendMessage&MessageBody=b&MessageAttribute.1.Name=k\
                &MessageAttribute.1.Value.DataType=Binary&MessageAttribute.1.Value.BinaryValue=AQ%3D%3D";
    let (one, two) = (decode(json, "SendMessage", "", asked), decode(query, "SendMessage", "/0/q", form));
    let (one, two) = (one.expect("JSON reads"), two.expect("Query reads"));
    for name in ["QueueUrl", "MessageBody", "MessageAttributes"] {
        assert_eq!(one.get(name), two.get(name), "{name}");
        assert!(one.get(name).is_some(), "{name}");
    }
    let lists = "AttributeName.1=All&MessageAttributeName.1=a&MessageAttributeName.2=b";
    let read = decode(query, "ReceiveMessage", "/0/q", lists).expect("reads");
    assert_eq!(read.get("MessageAttributeNames"), Some(&Doc::List(vec![Doc::from("a"), Doc::from("b")])));

    let lacking = [
        decode(json, "SendMessage", "", r#"{"QueueUrl":"/0/q"}"#).map(|_| ()),
        decode(query, "SendMessage", "/0/q", "x=y").map(|_| ()),
    ];
    for fault in lacking {
        let fault = fault.expect_err("no body");
        assert_eq!(
            (fault.code.as_ref(), fault.message.as_str()),
            ("MissingParameter", "The request must contain the parameter MessageBody.")
        );
    }
    let entry = r#"{"QueueUrl":"/0/q","Entries":[{"Id":"a","MessageBody":"b"},{"Id":"a"}]}"#;
    let fault = decode(json, "SendMessageBatch", "", entry).expect_err("no body");
    assert!(fault.message.contains("SendMessageBatchRequestEntry.2.MessageBody"), "{}", fault.message);

    let id = RequestId::random();
    let answered = doc(&[("Attributes", doc(&[("QueueArn", Doc::from("arn"))]))]);
    let encode = |service: &'static ServiceModel| {
        let operation = service.operation("GetQueueAttributes").expect("an operation");
        codec::encode(service, operation, Output::from_doc(answered.clone()), id).expect("encodes")
    };
    assert_eq!(text(encode(json).body()), r#"{"Attributes":{"QueueArn":"arn"}}"#);
    let xml = encode(query);
    assert!(
        text(xml.body()).contains(
            "<GetQueueAttributesResult><Attribute><Name>QueueArn</Name><Value>arn</Value></Attribute></GetQueueAttributesResult>"
        ),
        "{}",
        text(xml.body())
    );

    let fault = Fault::client(400, "QueueDoesNotExist", "gone");
    let told = codec::fault::encode(json.protocol, Some(json), &fault, id);
    assert_eq!(text(told.body()), r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"gone"}"#);
    assert_eq!(told.headers()["x-amzn-query-error"], "AWS.SimpleQueueService.NonExistentQueue;Sender");
    let told = codec::fault::encode(query.protocol, Some(query), &fault, id);
    assert!(text(told.body()).contains("<Code>AWS.SimpleQueueService.NonExistentQueue</Code>"));
    let fault = Fault::client(400, "InvalidParameterValue", "bad");
    let told = codec::fault::encode(json.protocol, Some(json), &fault, id);
    assert!(text(told.body()).contains("com.amazon.coral.service#InvalidParameterValueException"));
    assert_eq!(told.headers()["x-amzn-query-error"], "InvalidParameterValue;Sender");
}
