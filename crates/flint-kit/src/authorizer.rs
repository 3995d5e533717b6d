//! The port that decides whether a principal may do something.

use std::fmt::Debug;

use crate::{Ctx, Fault};

/// What is asked before every operation.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The action, as in an IAM policy: `lambda:InvokeFunction`.
    pub action: &'a str,
    /// The resource's ARN, or `*` for operations that name none.
    pub resource: &'a str,
}

/// Answers [`Question`]s. Missing input is a denial, never a pass.
pub trait Authorizer: Send + Sync + Debug {
    /// `Err` carries the fault that the caller sees (`AccessDeniedException`, 403).
    fn authorize(&self, ctx: &Ctx, question: &Question<'_>) -> Result<(), Fault>;
}
