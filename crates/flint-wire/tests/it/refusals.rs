//! What is refused by name, and what is invalid in the reference's words.

use crate::codecs::body;

const ROLE: &str = "arn:aws:iam::000000000000:role/r";

/// A good CreateFunction request with `extra` members.
fn create(extra: &str) -> String {
    let comma = if extra.is_empty() { "" } else { "," };
    format!(r#"{{"FunctionName":"f","Role":"{ROLE}","Code":{{"ZipFile":"UEs="}}{comma}{extra}}}"#)
}

#[test]
fn members_that_are_not_honoured_are_refused_by_name() {
    let check = |extra: &str, path: &str| {
        let fault = body("lambda", "CreateFunction", &create(extra)).expect_err(extra);
        assert_eq!((fault.status, fault.code.as_ref()), (501, "NotImplemented"), "{extra}");
        assert_eq!(fault.message, format!("not served: lambda.CreateFunction: {path}"), "{extra}");
    };
    check(r#""VpcConfig":{"SubnetIds":["subnet-1"]}"#, "VpcConfig.SubnetIds");
    check(r#""VpcConfig":{"Ipv6AllowedForDualStack":true}"#, "VpcConfig.Ipv6AllowedForDualStack");
    check(r#""TracingConfig":{"Mode":"Active"}"#, "TracingConfig.Mode");
    check(r#""SnapStart":{"ApplyOn":"PublishedVersions"}"#, "SnapStart.ApplyOn");
    check(r#""PackageType":"Image""#, "PackageType");
    check(r#""Architectures":["arm64"]"#, "Architectures");
    check(r#""FileSystemConfigs":[{"Arn":"a","LocalMountPath":"/mnt/x"}]"#, "FileSystemConfigs");
    check(r#""KMSKeyArn":"arn:aws:kms:us-east-1:000000000000:key/k""#, "KMSKeyArn");
    check(r#""ImageConfig":{"Command":["a"]}"#, "ImageConfig.Command");
    check(r#""DurableConfig":{"RetentionPeriodInDays":1}"#, "DurableConfig.RetentionPeriodInDays");
    let s3 = format!(r#"{{"FunctionName":"f","Role":"{ROLE}","Code":{{"S3Bucket":"bucket","S3Key":"k"}}}}"#);
    let fault = body("lambda", "CreateFunction", &s3).expect_err("refused");
    assert_eq!(fault.message, "not served: lambda.CreateFunction: Code.S3Bucket");
    let mapping = r#"{"FunctionName":"f","EventSourceArn":"arn:aws:sqs:us-east-1:000000000000:q","Topics":["t"]}"#;
    let fault = body("lambda", "CreateEventSourceMapping", mapping).expect_err("refused");
    assert_eq!(fault.message, "not served: lambda.CreateEventSourceMapping: Topics");
}

#[test]
fn defaults_of_the_reference_pass() {
    for extra in [
        r#""VpcConfig":{}"#,
        r#""VpcConfig":{"SubnetIds":[],"SecurityGroupIds":[],"Ipv6AllowedForDualStack":false}"#,
        r#""TracingConfig":{"Mode":"PassThrough"}"#,
        r#""TracingConfig":{}"#,
        r#""SnapStart":{"ApplyOn":"None"}"#,
        r#""Publish":false"#,
        r#""PackageType":"Zip""#,
        r#""Architectures":["x86_64"]"#,
        r#""Layers":[]"#,
        r#""DeadLetterConfig":{"TargetArn":"arn:aws:sqs:us-east-1:000000000000:q"}"#,
        r#""DeadLetterConfig":{"TargetArn":""}"#,
        r#""DeadLetterConfig":{}"#,
        r#""FileSystemConfigs":[]"#,
        r#""ImageConfig":{}"#,
        r#""LoggingConfig":{"LogFormat":"Text"}"#,
        r#""Tags":{}"#,
        r#""Publish":null"#,
    ] {
        assert!(body("lambda", "CreateFunction", &create(extra)).is_ok(), "{extra}");
    }
}

#[test]
fn constraints_are_told_in_the_references_words() {
    let check = |service: &str, operation: &str, text: &str, code: &str, message: &str| {
        let fault = body(service, operation, text).expect_err(text);
        assert_eq!((fault.status, fault.code.as_ref()), (400, code), "{text}");
        assert_eq!(fault.message, message, "{text}");
    };
    let lambda = |extra: &str, message: &str| {
        check("lambda", "CreateFunction", &create(extra), "ValidationException", message);
    };
    lambda(
        r#""MemorySize":64"#,
        "1 validation error detected: Value '64' at 'memorySize' failed to satisfy constraint: Member must have value \
         greater than or equal to 128",
    );
    lambda(
        r#""Timeout":901,"Handler":"a b""#,
        "2 validation errors detected: Value 'a b' at 'handler' failed to satisfy constraint: Member must satisfy regular \
         expression pattern: [^\\s]+; Value '901' at 'timeout' failed to satisfy constraint: Member must have value less \
         than or equal to 900",
    );
    lambda(
        r#""EphemeralStorage":{}"#,
        "1 validation error detected: Value null at 'ephemeralStorage.size' failed to satisfy constraint: Member must not \
         be null",
    );
    lambda(
        r#""Environment":{"Variables":{"1":"secret"}}"#,
        "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy \
         constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]",
    );
    lambda(
        r#""Tags":{"a":null}"#,
        "1 validation error detected: Value '{a=null}' at 'tags' failed to satisfy constraint: Map value must satisfy \
         constraint: [Member must have length less than or equal to 256, Member must have length greater than or equal to \
         0, Member must satisfy regular expression pattern: ([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)]",
    );
    check(
        "lambda",
        "CreateFunction",
        "{}",
        "ValidationException",
        "3 validation errors detected: Value null at 'code' failed to satisfy constraint: Member must not be null; Value \
         null at 'functionName' failed to satisfy constraint: Member must not be null; Value null at 'role' failed to \
         satisfy constraint: Member must not be null",
    );
    check(
        "logs",
        "CreateLogGroup",
        r#"{"logGroupName":"a b"}"#,
        "InvalidParameterException",
        "1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy constraint: Member must satisfy \
         regular expression pattern: [\\.\\-_/#A-Za-z0-9]+",
    );
    check(
        "logs",
        "DescribeLogStreams",
        r#"{"logGroupName":"g","orderBy":"Size","limit":51}"#,
        "InvalidParameterException",
        "2 validation errors detected: Value '51' at 'limit' failed to satisfy constraint: Member must have value less \
         than or equal to 50; Value 'Size' at 'orderBy' failed to satisfy constraint: Member must satisfy enum value set: \
         [LogStreamName, LastEventTime]",
    );
    check(
        "logs",
        "PutLogEvents",
        r#"{"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":1,"message":"m"},{"timestamp":1,"message":""},null]}"#,
        "InvalidParameterException",
        "2 validation errors detected: Value '' at 'logEvents.2.member.message' failed to satisfy constraint: Member must \
         have length greater than or equal to 1; Value null at 'logEvents.3.member' failed to satisfy constraint: Member \
         must not be null",
    );
}

#[test]
fn messages_stay_short() {
    let long = "x".repeat(1 << 20);
    let fault = body("lambda", "CreateFunction", &create(&format!(r#""Description":"{long}""#))).expect_err("too long");
    assert!(fault.message.len() < 4096);
    let events = vec![r#"{"timestamp":1,"message":""}"#; 10_000].join(",");
    let text = format!(r#"{{"logGroupName":"g","logStreamName":"s","logEvents":[{events}]}}"#);
    let fault = body("logs", "PutLogEvents", &text).expect_err("empty messages");
    assert!(fault.message.starts_with("100 validation errors detected: "), "{}", fault.message.len());
}

#[test]
fn any_runtime_passes_because_the_engine_knows_them() {
    assert!(body("lambda", "CreateFunction", &create(r#""Runtime":"cobol60""#)).is_ok());
}
