//! The contracts that rooms share: what a service is, what a fault is, and the ports that let one room
//! reach another without importing it.
//!
//! Reading order: [`doc`] (documents), [`fault`], [`ctx`] (who calls), [`service`] and [`switchboard`]
//! (calling an operation), [`body`] and [`events`] (what travels beside a document), [`invoker`] (running a function), [`target`]
//! and [`source`] (events in motion),
//! [`endpoint`] (calls from inside), [`logs`] (where output goes), [`vault`] (what must not lie readable).

pub mod authorizer;
pub mod body;
pub mod ctx;
pub mod dead_letters;
pub mod doc;
pub mod endpoint;
pub mod events;
pub mod fault;
mod implied;
pub mod invoker;
pub mod links;
pub mod logs;
pub mod service;
pub mod source;
pub mod switchboard;
pub mod target;
pub mod vault;

pub use authorizer::{Authorizer, Question};
pub use body::Body;
pub use ctx::{Ctx, Principal};
pub use dead_letters::DeadLetters;
pub use doc::{Doc, Key};
pub use endpoint::{Credentials, Endpoint, Running};
pub use events::{Event, EventStream};
pub use fault::{Fault, FaultKind};
pub use invoker::{AsyncInvoker, FunctionFacts, Invocation, InvokeMode, Invoker, Outcome};
pub use links::Links;
pub use logs::{LogEvent, LogSink};
pub use service::{Input, OperationSpec, Output, Service};
pub use source::{Source, SourceInfo, SourceRecord, Told};
pub use switchboard::Switchboard;
pub use target::{Attribute, AttributeValue, Envelope, Receipt, Target};
pub use vault::Vault;
