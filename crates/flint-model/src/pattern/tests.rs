use super::{Json, Pattern};

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).expect("the test's JSON")
}

fn check(pattern: &str, event: &str, wanted: bool) {
    let parsed = Pattern::parse(pattern).expect(pattern);
    assert_eq!(parsed.matches(&json(event)), wanted, "{pattern} on {event}");
}

fn refused(pattern: &str, wanted: &str) {
    let error = Pattern::parse(pattern).expect_err(pattern).to_string();
    assert!(error.starts_with(wanted), "{pattern}: {error}");
}

#[test]
fn arrays_of_objects_are_matched_element_by_element() {
    let people = r#"{"people":[{"first":"Ann","last":"Lee"},{"first":"Bob","last":"Ray"}]}"#;
    check(r#"{"people":{"first":["Ann"],"last":["Lee"]}}"#, people, true);
    check(r#"{"people":{"first":["Ann"],"last":["Ray"]}}"#, people, false);
    check(r#"{"people":{"first":[{"exists":false}]}}"#, r#"{"people":[{"first":1},{"last":2}]}"#, false);
    check(r#"{"people":{"first":[{"exists":false}]}}"#, r#"{"people":[]}"#, true);
    check(r#"{"people":{"first":[{"exists":false}],"last":[2]}}"#, r#"{"people":[1,{"last":2}]}"#, true);
    check(r#"{"a":[1]}"#, r#"{"a":[[2],[[1]]]}"#, true);
}

#[test]
fn of_a_name_that_comes_twice_the_last_counts_but_or_adds() {
    check(r#"{"a":[1],"a":[2]}"#, r#"{"a":1}"#, false);
    check(r#"{"a":[1],"a":[2]}"#, r#"{"a":2}"#, true);
    check(r#"{"d":{"a":[1]},"d":{"a":[2],"b":[3]}}"#, r#"{"d":{"a":2,"b":3}}"#, true);
    check(r#"{"a":[1,2],"$or":[{"a":[2]},{"b":[1]}]}"#, r#"{"a":2}"#, true);
    check(r#"{"a":[1,2],"$or":[{"a":[2]},{"b":[1]}]}"#, r#"{"a":1}"#, false);
    check(r#"{"a":[1,2],"$or":[{"a":[2]},{"b":[1]}]}"#, r#"{"a":1,"b":1}"#, true);
}

#[test]
fn a_filter_looks_into_the_body_of_a_message() {
    let wants = |filter: &str, body: &str| {
        let body: String = body.chars().flat_map(|c| if c == '"' { vec!['\\', c] } else { vec![c] }).collect();
        let record = format!(r#"{{"messageId":"m","body":"{body}","attributes":{{"ApproximateReceiveCount":"1"}}}}"#);
        Pattern::parse(filter).expect(filter).matches_record(record.as_bytes(), "body")
    };
    assert!(wants(r#"{"body":{"city":["Riga"]}}"#, r#"{"city":"Riga"}"#));
    assert!(!wants(r#"{"body":{"city":["Riga"]}}"#, r#"{"city":"Oslo"}"#));
    assert!(!wants(r#"{"body":{"city":["Riga"]}}"#, "Riga"));
    assert!(!wants(r#"{"body":{"city":[{"exists":false}]}}"#, "no JSON"));
    assert!(wants(r#"{"body":{"city":[{"exists":false}]}}"#, "{}"));
    assert!(wants(r#"{"body":["hello"]}"#, "hello"));
    assert!(!wants(r#"{"body":["hello"]}"#, r#"{"hello":1}"#));
    assert!(wants(r#"{"attributes":{"ApproximateReceiveCount":["1"]}}"#, "anything"));
    assert!(wants(r#"{"$or":[{"body":{"x":[1]}},{"messageId":["m"]}]}"#, "no JSON"));
}

#[test]
fn errors_say_what_and_where() {
    let whole = Pattern::parse(r#"{"source": ["aws.health"], "detail": {}}"#).expect_err("empty").to_string();
    let place = r#" at [Source: (String)"{"source": ["aws.health"], "detail": {}}"; line: 1, column: 40]"#;
    assert_eq!(whole, format!("Empty objects are not allowed\n{place}"));
    let scalar = Pattern::parse("{\n \"detail\": {\n  \"slug\": \"some\"\n }\n}").expect_err("scalar").to_string();
    assert!(scalar.starts_with("\"slug\" must be an object or an array\n at [Source: (String)\"{\n"), "{scalar}");
    assert!(scalar.ends_with("; line: 3, column: 12]"), "{scalar}");
    let long = format!("{{\"a\":[1],\"b\":\"{}\"}}", "x".repeat(600));
    let long = Pattern::parse(&long).expect_err("scalar").to_string();
    assert!(long.contains("x\"[truncated 116 chars]; line: 1, column: 15]"), "{long}");
}

#[test]
fn hostile_text_is_refused() {
    for text in [
        "",
        " ",
        "[",
        "{",
        "{\"",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":[",
        "{\"a\":[1",
        "{\"a\":[\"\\u12",
        "{\"a\":[1]}}",
        "nul",
        "{a:1}",
        "{\"a\":[01]}",
        "{\"a\":[1.]}",
        "{\"a\":[-]}",
        "{\"a\":[1e]}",
        "{\"a\":[\"\u{1}\"]}",
        "\u{feff}{}",
    ] {
        assert!(Pattern::parse(text).is_err(), "{text}");
    }
    let deep = format!("{}[1]{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    refused(&deep, "Event pattern is nested too deeply");
    assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
    let or = r#"{"$or":[{"a":[1]},{"b":[1]}]"#;
    let wide = format!("{}{}", (0..12).map(|n| format!("{or},\"x{n}\":")).collect::<String>(), "[1]") + &"}".repeat(12);
    refused(&wide, "Rule is too complex");
}

#[test]
fn escapes_are_read_as_json_has_them() {
    check(r#"{"a":["\u00e9\n\ud83d\ude00"]}"#, "{\"a\":\"é\\n😀\"}", true);
    check(r#"{"a":[{"wildcard":"a\\*b*"}]}"#, r#"{"a":"a*bcd"}"#, true);
    check(r#"{"a":[{"wildcard":"a\\*b*"}]}"#, r#"{"a":"axbcd"}"#, false);
    check(r#"{"a":[{"wildcard":"*aa"}]}"#, r#"{"a":"aaa"}"#, true);
    check(r#"{"a":[{"wildcard":"ab*ba"}]}"#, r#"{"a":"aba"}"#, false);
}
