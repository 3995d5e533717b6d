//! Log lines as JSON, and levels, against the official clients' documented forms.

use super::*;

const JSON: &[(&str, &str)] = &[("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "INFO")];

const ID: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";

/// Each line as a document, without its time and stack.
fn documents(ran: &Ran, stack: &str) -> Vec<Value> {
    let document = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let time = value["timestamp"].take();
        assert!(time.as_str().is_some_and(|t| t.starts_with("20") && t.ends_with('Z')), "{line}");
        value.as_object_mut().expect("an object").remove("timestamp");
        value.as_object_mut().expect("an object").remove(stack);
        value
    };
    ran.log.lines().map(document).collect()
}

#[tokio::test]
async fn python_writes_json_lines_and_keeps_to_the_level() {
    let app = r#"
import logging
log = logging.getLogger("mine")
def f(event, context):
    log.debug("hidden")
    log.info("shown %d", 1, extra={"order": 7})
    log.warning({"a": "ü"})
    try:
        1 / 0
    except Exception:
        log.exception("two\nlines")
    raise ValueError("no way")
"#;
    for rig in rigs(Kind::Python) {
        let around = Surroundings { variables: JSON, ..Surroundings::default() };
        let ran = rig.run_in(&[("app.py", app)], "app.f", "{}", around).await;
        let lines = documents(&ran, "stackTrace");
        let base = |level: &str, message: Value| json!({"level": level, "message": message, "logger": "mine", "requestId": ID});
        let mut first = base("INFO", json!("shown 1"));
        first["order"] = json!(7);
        assert_eq!(lines[..2], [first, base("WARNING", json!({"a": "ü"}))]);
        let mut third = base("ERROR", json!("two\nlines"));
        third["errorType"] = json!("ZeroDivisionError");
        third["errorMessage"] = json!("division by zero");
        let location = lines[2]["location"].as_str().expect("a location");
        assert!(location.ends_with("app.py:f:11"), "{location}");
        third["location"] = json!(location);
        assert_eq!(lines[2], third);
        let last = json!({"level": "ERROR", "errorMessage": "no way", "errorType": "ValueError", "requestId": ID});
        assert_eq!(lines[3..], [last]);
        ran.error("ValueError", "no way");
    }
}

#[tokio::test]
async fn node_writes_json_lines_and_keeps_to_the_level() {
    let app = r#"
exports.f = async () => {
  console.debug("hidden"); console.trace("hidden");
  console.log("one\ntwo");
  console.warn("n=%d", 3, { a: 1 });
  console.error("went wrong:", new RangeError("far"));
  console.info({ an: "object" });
  console.fatal("last");
  const loop = {}; loop.loop = loop;
  console.log(loop);
  throw new TypeError("no way");
};
"#;
    for rig in rigs(Kind::Node) {
        let around = Surroundings { variables: JSON, ..Surroundings::default() };
        let ran = rig.run_in(&[("app.js", app)], "app.f", "{}", around).await;
        let mut lines = documents(&ran, "stackTrace");
        let base = |level: &str, message: Value| json!({"level": level, "requestId": ID, "message": message});
        assert_eq!(lines[..2], [base("INFO", json!("one\ntwo")), base("WARN", json!("n=3 { a: 1 }"))]);
        let message = lines[2]["message"].take();
        assert!(message.as_str().is_some_and(|m| m.starts_with("went wrong: RangeError: far\n")), "{message}");
        let mut error = base("ERROR", Value::Null);
        error["errorType"] = json!("RangeError");
        error["errorMessage"] = json!("far");
        assert_eq!(lines[2], error);
        assert_eq!(lines[3..5], [base("INFO", json!({"an": "object"})), base("FATAL", json!("last"))]);
        assert!(lines[5]["message"].as_str().is_some_and(|m| m.contains("[Circular")), "{}", lines[5]);
        lines[6]["message"].as_object_mut().expect("the error").remove("stackTrace");
        assert_eq!(lines[6..], [base("ERROR", json!({"errorType": "TypeError", "errorMessage": "no way"}))]);
        ran.error("TypeError", "no way");
    }
}

#[tokio::test]
async fn text_lines_keep_to_a_level_as_well() {
    let around = || Surroundings { variables: &[("AWS_LAMBDA_LOG_LEVEL", "ERROR")], ..Surroundings::default() };
    let node = "exports.f = async () => { console.warn('hidden'); console.error('shown'); };";
    for rig in rigs(Kind::Node) {
        let ran = rig.run_in(&[("app.js", node)], "app.f", "{}", around()).await;
        assert!(ran.log.ends_with(&format!("\t{ID}\tERROR\tshown\n")) && ran.log.lines().count() == 1, "{}", ran.log);
    }
    let python = "import logging\ndef f(e, c):\n    logging.warning('hidden')\n    logging.error('shown')\n";
    for rig in rigs(Kind::Python) {
        let ran = rig.run_in(&[("app.py", python)], "app.f", "{}", around()).await;
        assert!(ran.log.starts_with("[ERROR]\t") && ran.log.ends_with("\tshown\n"), "{}", ran.log);
        assert_eq!(ran.log.lines().count(), 1, "{}", ran.log);
    }
}
