//! `GET /_flint/health`: unsigned, because whoever waits for the server has no key yet.

use bytes::Bytes;
use flint_kit::{Body, Doc};
use http::Method;
use http::request::Parts;

use crate::codec::{self, Answer, json};

const PATH: &str = "/_flint/health";

/// The answer to a health request; `None` for any other request.
pub fn answer(request: &Parts, facts: &dyn Fn() -> Doc) -> Option<Answer> {
    if request.uri.path() != PATH || !(request.method == Method::GET || request.method == Method::HEAD) {
        return None;
    }
    let text = json::plain(&facts()).to_string();
    Some(codec::answer(200, Some("application/json"), Body::Whole(Bytes::from(text))))
}
