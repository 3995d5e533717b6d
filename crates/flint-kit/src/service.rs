//! What a service is: a name, a list of operations, and a call.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Body, Ctx, Doc, Fault};

/// What the switchboard must know of an operation before it is called.
#[derive(Clone, Copy, Debug)]
pub struct OperationSpec {
    /// As in the API reference: `CreateFunction`.
    pub name: &'static str,
    /// As in an IAM policy: `lambda:CreateFunction`.
    pub action: &'static str,
    /// The ARN that the call is about, or `*`.
    pub resource: fn(&Ctx, &Doc) -> String,
}

/// A decoded request: the modelled members, and the payload member (if the shape has one) as bytes.
#[derive(Debug, Default)]
pub struct Input {
    pub doc: Doc,
    pub body: Option<Body>,
}

/// A result to be encoded.
#[derive(Debug, Default)]
pub struct Output {
    pub doc: Doc,
    pub body: Option<Body>,
    /// Overrides the status of the model, where the operation has a member for it (`Invoke`: `StatusCode`).
    pub status: Option<u16>,
}

/// A set of operations under one name. Reached through the [`crate::Switchboard`] only.
#[async_trait]
pub trait Service: Send + Sync + Debug {
    /// The endpoint prefix: `lambda`, `logs`, `sts`.
    fn name(&self) -> &'static str;

    fn operations(&self) -> &'static [OperationSpec];

    /// Runs one of [`Service::operations`].
    async fn call(&self, ctx: &Ctx, operation: &str, input: Input) -> Result<Output, Fault>;
}

impl Input {
    pub fn from_doc(doc: Doc) -> Self {
        Self { doc, body: None }
    }

    /// The document as the operation's input struct. The wire has validated it against the model already, so a
    /// mismatch is a bug of ours or of a caller inside: `ValidationException`, 400.
    pub fn parse<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let doc = std::mem::take(&mut self.doc);
        doc.parse().map_err(|e| Fault::client(400, "ValidationException", e.to_string()))
    }
}

impl Output {
    pub fn from_doc(doc: Doc) -> Self {
        Self { doc, body: None, status: None }
    }

    /// The output struct as a document. `None` members are left out.
    pub fn render<T: Serialize>(value: &T) -> Result<Self, Fault> {
        let doc =
            Doc::render(value).map_err(|e| Fault::server(500, "ServiceException", "internal error").because(e))?;
        Ok(Self::from_doc(doc))
    }

    pub fn empty() -> Self {
        Self::from_doc(Doc::Map(Vec::new()))
    }
}
