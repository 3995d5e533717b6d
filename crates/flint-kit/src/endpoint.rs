//! Flint's own endpoint inside an execution environment: how a function calls what Flint serves.
//!
//! Whoever makes environments asks for credentials before a process starts, and hands over the listener that was made in the
//! environment's network once it has. What comes in there is served like any other call.

use std::fmt::{self, Debug};
use std::future::Future;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flint_model::{FunctionName, Place};

/// How long an environment's credentials are good. They are variables of a process and can't be changed.
pub const CREDENTIALS_LIFE: Duration = Duration::from_secs(12 * 3600);

/// The age from which on an environment takes no more calls, so that its credentials outlive the last one: an init and a call, of
/// at most 15 minutes each.
pub const ENVIRONMENT_LIFE: Duration = Duration::from_secs(11 * 3600);

/// Lets environments in.
pub trait Endpoint: Send + Sync + Debug {
    /// Its address inside, such as `http://127.0.0.1:4566`.
    fn url(&self) -> &str;

    /// Credentials for one environment of `function`: a session of its role, which ends when they are dropped.
    ///
    /// `role` is the ARN that the function is configured with.
    fn admit(&self, place: &Place, function: &FunctionName, role: &str) -> Credentials;

    /// Serves an environment's listener, which is non-blocking, until dropped.
    fn serve(&self, listener: TcpListener, running: Arc<dyn Running>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// What an environment does at the moment.
pub trait Running: Send + Sync + Debug {
    /// The trace header of the event that it handles or handled last, or, before its first one, of the call that it was made for.
    fn trace(&self) -> Option<Arc<str>>;
}

/// Temporary credentials. Their debug form has no secret.
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
    /// Ends the session when dropped.
    pub loan: Box<dyn Send + Sync>,
}

impl Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_outlive_the_last_call() {
        let longest = Duration::from_secs(2 * 900);
        assert!(CREDENTIALS_LIFE - ENVIRONMENT_LIFE > longest);
        let credentials = Credentials {
            access_key_id: "ASIAX".to_owned(),
            secret_access_key: "s3cr3t".to_owned(),
            session_token: "t0k3n".to_owned(),
            loan: Box::new(()),
        };
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("t0k3n"));
    }
}
