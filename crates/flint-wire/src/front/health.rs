//! `GET /_flint/health`, and the twins that existing wrappers and scripts poll: `/_localstack/health` and
//! `/_localstack/info`. Unsigned, because whoever waits for the server has no key yet.

use bytes::Bytes;
use flint_kit::{Body, Doc};
use http::Method;
use http::request::Parts;
use serde_json::{Map, Value, json};

use crate::codec::{self, Answer, json as plain};

/// What the twins say of themselves; wrappers only look whether it is there.
const EDITION: &str = "flint";

/// The answer to a health request; `None` for any other request.
pub fn answer(request: &Parts, facts: &dyn Fn() -> Doc) -> Option<Answer> {
    if !(request.method == Method::GET || request.method == Method::HEAD) {
        return None;
    }
    let document = match request.uri.path() {
        "/_flint/health" => plain::plain(&facts()),
        "/_localstack/health" => wrapped_health(&facts()),
        "/_localstack/info" => wrapped_info(&facts()),
        _ => return None,
    };
    let text = document.to_string();
    Some(codec::answer(200, Some("application/json"), Body::Whole(Bytes::from(text))))
}

/// `{"services": {"lambda": "running"}, "edition": "..", "version": ".."}`
fn wrapped_health(facts: &Doc) -> Value {
    let services = facts.get("services").map_or_else(|| Value::Object(Map::new()), plain::plain);
    json!({ "services": services, "edition": EDITION, "version": version(facts) })
}

/// The members that wrappers read of `/_localstack/info`.
fn wrapped_info(facts: &Doc) -> Value {
    json!({ "version": version(facts), "edition": EDITION, "is_license_activated": false })
}

fn version(facts: &Doc) -> &str {
    facts.text_of("version").unwrap_or("")
}
