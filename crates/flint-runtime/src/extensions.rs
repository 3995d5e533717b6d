//! Extensions: processes beside the runtime, or threads in it, that are told of every invocation and of the end.
//!
//! [`Extensions`] is the state machine, free of any socket; `api::extension` speaks HTTP for it. An init is over, and so
//! is an invocation, when the runtime and every extension have asked for what comes next.
//!
//! Differs from the reference: external extensions start beside the runtime, not before it; one that dies without a word
//! shows as a time-out; the runtime itself gets no SIGTERM; after a time-out or a crash everything is killed and nobody is
//! told.
//!
//! Reference: Lambda Developer Guide, "Using the Lambda Extensions API to create extensions" (version 2020-01-01).

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flint_base::Timestamp;
use tokio::sync::Notify;

use crate::api::Failure;

/// Reference: Lambda Developer Guide, "Adding layers and extensions": up to ten extensions.
const MOST: usize = 10;

/// Where external extensions lie in the tree at `/opt`.
const DIRECTORY: &str = "extensions";

/// How long external extensions may take to end.
pub(crate) const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// What an extension is told at its registration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) function: String,
    pub(crate) version: String,
    pub(crate) handler: String,
    pub(crate) account: String,
}

/// Why a request of an extension is refused, with the name that the API has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    MissingName,
    BadRequest,
    BadEvent,
    NoShutdownForInternal,
    AlreadyRegistered,
    RegistrationClosed,
    TooMany,
    MissingIdentifier,
    UnknownIdentifier,
    WrongState,
}

#[derive(Debug, Default)]
pub(crate) struct Extensions {
    pub(crate) facts: Facts,
    /// File names in `/opt/extensions`.
    external: Vec<String>,
    state: Mutex<State>,
    /// Anything has changed.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    members: Vec<Member>,
    /// The first init is over.
    closed: bool,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Member {
    id: String,
    name: String,
    external: bool,
    invoke: bool,
    shutdown: bool,
    /// It asks for an event at this moment.
    waiting: bool,
    event: Option<Bytes>,
}

/// The names of the external extensions in a tree of layers.
pub(crate) fn external_in(layers: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let Ok(entries) = std::fs::read_dir(layers.join(DIRECTORY)) else { return Vec::new() };
    let runs = |entry: &std::fs::DirEntry| {
        std::fs::metadata(entry.path()).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let names = entries.flatten().filter(runs).filter_map(|e| e.file_name().into_string().ok());
    // The script that starts them takes no hidden files.
    let mut names: Vec<String> = names.filter(|n| !n.starts_with('.')).collect();
    names.sort();
    names
}

/// The environment's side.
impl Extensions {
    pub(crate) fn new(facts: Facts, external: Vec<String>) -> Self {
        Self { facts, external, ..Self::default() }
    }

    /// Waits until every extension asks for an event: those that must register, and those that have. Or until one reports
    /// that it failed.
    pub(crate) async fn idle(&self) -> Result<(), Failure> {
        loop {
            // Made before the look, so that what happens in between is not missed.
            let news = self.news.notified();
            {
                let state = self.lock();
                if let Some(failure) = &state.failure {
                    return Err(failure.clone());
                }
                let registered = |name: &String| state.members.iter().any(|m| m.external && m.name == *name);
                if self.external.iter().all(registered) && state.members.iter().all(|m| m.waiting) {
                    return Ok(());
                }
            }
            news.await;
        }
    }

    /// The first init is over: nobody may register any more.
    pub(crate) fn close_registration(&self) {
        self.lock().closed = true;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.external.is_empty() && self.lock().members.is_empty()
    }

    /// Tells those who want to know of an invocation.
    pub(crate) fn invoke(&self, id: &str, arn: &str, trace: Option<&str>, deadline: Timestamp) {
        // The usual case costs a look.
        if self.is_empty() {
            return;
        }
        let mut document = serde_json::json!({
            "eventType": "INVOKE",
            "deadlineMs": deadline.as_millis(),
            "requestId": id,
            "invokedFunctionArn": arn,
        });
        if let Some(trace) = trace {
            document["tracing"] = serde_json::json!({ "type": "X-Amzn-Trace-Id", "value": trace });
        }
        self.tell(&document, |member| member.invoke);
    }

    /// Tells those who want to know of the end. False if there is nobody.
    pub(crate) fn shut_down(&self, deadline: Timestamp) -> bool {
        let document = serde_json::json!({
            "eventType": "SHUTDOWN",
            "shutdownReason": "spindown",
            "deadlineMs": deadline.as_millis(),
        });
        self.tell(&document, |member| member.shutdown)
    }

    /// Whether somebody wants to know of the end.
    pub(crate) fn wants_shut_down(&self) -> bool {
        self.lock().members.iter().any(|m| m.shutdown)
    }

    fn tell(&self, document: &serde_json::Value, who: impl Fn(&Member) -> bool) -> bool {
        let event = Bytes::from(document.to_string());
        let mut told = false;
        let mut state = self.lock();
        for member in state.members.iter_mut().filter(|m| who(m)) {
            member.event = Some(event.clone());
            // It is at work from now on, whether it has read this or not.
            member.waiting = false;
            told = true;
        }
        drop(state);
        self.news.notify_waiters();
        told
    }

    /// Whether an event has not been fetched.
    pub(crate) fn undelivered(&self) -> bool {
        self.lock().members.iter().any(|m| m.event.is_some())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The extensions' side.
impl Extensions {
    /// Gives the identifier that all further requests carry.
    pub(crate) fn register(&self, name: &str, events: &[String]) -> Result<String, Refusal> {
        if name.is_empty() {
            return Err(Refusal::MissingName);
        }
        if events.iter().any(|e| e != "INVOKE" && e != "SHUTDOWN") {
            return Err(Refusal::BadEvent);
        }
        let external = self.external.iter().any(|n| n == name);
        let wants = |event: &str| events.iter().any(|e| e == event);
        if !external && wants("SHUTDOWN") {
            return Err(Refusal::NoShutdownForInternal);
        }
        let mut state = self.lock();
        if state.members.iter().any(|m| m.name == name) {
            return Err(Refusal::AlreadyRegistered);
        }
        if state.closed {
            return Err(Refusal::RegistrationClosed);
        }
        if state.members.len() >= MOST {
            return Err(Refusal::TooMany);
        }
        let id = uuid::Uuid::new_v4().to_string();
        state.members.push(Member {
            id: id.clone(),
            name: name.to_owned(),
            external,
            invoke: wants("INVOKE"),
            shutdown: wants("SHUTDOWN"),
            waiting: false,
            event: None,
        });
        drop(state);
        self.news.notify_waiters();
        Ok(id)
    }

    /// Waits for the next event. Dropping the future means that the extension is gone or asks anew.
    pub(crate) async fn next(&self, id: &str) -> Result<Bytes, Refusal> {
        self.set_waiting(id, true)?;
        let _asking = Asking { extensions: self, id };
        loop {
            let news = self.news.notified();
            {
                let mut state = self.lock();
                if state.failure.is_some() {
                    return Err(Refusal::WrongState);
                }
                let member = state.members.iter_mut().find(|m| m.id == id).ok_or(Refusal::UnknownIdentifier)?;
                if let Some(event) = member.event.take() {
                    member.waiting = false;
                    return Ok(event);
                }
            }
            news.await;
        }
    }

    /// The name of the one with this identifier.
    pub(crate) fn name_of(&self, id: &str) -> Result<String, Refusal> {
        let state = self.lock();
        state.members.iter().find(|m| m.id == id).map(|m| m.name.clone()).ok_or(Refusal::UnknownIdentifier)
    }

    fn set_waiting(&self, id: &str, waiting: bool) -> Result<(), Refusal> {
        let mut state = self.lock();
        let member = state.members.iter_mut().find(|m| m.id == id).ok_or(Refusal::UnknownIdentifier)?;
        // An event that waits for it keeps it at work.
        member.waiting = waiting && member.event.is_none();
        drop(state);
        self.news.notify_waiters();
        Ok(())
    }

    /// `init/error` and `exit/error`: `kind` is `Extension.InitError` or `Extension.ExitError`.
    pub(crate) fn failed(&self, id: &str, kind: &str, error_type: &str) -> Result<(), Refusal> {
        let mut state = self.lock();
        let member = state.members.iter().find(|m| m.id == id).ok_or(Refusal::UnknownIdentifier)?;
        let message = format!("extension {} failed: {error_type}", member.name);
        let document = serde_json::json!({ "errorType": kind, "errorMessage": message });
        state.failure = Some(Failure { error_type: kind.to_owned(), document: document.to_string().into() });
        drop(state);
        self.news.notify_waiters();
        Ok(())
    }
}

/// An extension asks for an event as long as this lives.
struct Asking<'a> {
    extensions: &'a Extensions,
    id: &'a str,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        // Gone altogether is fine too.
        let _ = self.extensions.set_waiting(self.id, false);
    }
}

#[cfg(test)]
mod tests;
