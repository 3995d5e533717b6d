//! The form of the static shape tables that `cargo xtask codegen` writes to [`crate::tables`], and the lookups on them.
//!
//! Tables are data: every protocol reads the same ones to decode, validate and encode. Shapes exist for operations
//! that we serve; names and routes exist for all operations of a modelled service, so that a refusal can name them.

/// How a service's operations travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP bindings per operation, JSON bodies (Lambda).
    RestJson,
    /// `X-Amz-Target` and `application/x-amz-json-1.0`.
    Json10,
    /// `X-Amz-Target` and `application/x-amz-json-1.1`.
    Json11,
    /// `Action=` forms in, XML out.
    Query,
}

/// A modelled service.
#[derive(Debug)]
pub struct ServiceModel {
    /// As in [`flint_kit::Service::name`].
    pub name: &'static str,
    /// The name in a credential scope.
    pub signing_name: &'static str,
    pub protocol: Protocol,
    /// `2015-03-31`: the `Version` of Query requests.
    pub api_version: &'static str,
    /// The part of `X-Amz-Target` before the dot; empty for the other protocols.
    pub target_prefix: &'static str,
    /// The namespace of XML answers; empty for the JSON protocols.
    pub xml_namespace: &'static str,
    /// The code of a validation error.
    pub invalid_code: &'static str,
    /// The code for a required member that is not there; empty if that is a validation error like any other.
    pub missing_code: &'static str,
    /// The code for a body that is no JSON.
    pub malformed_code: &'static str,
    /// The namespace of `__type` in a service that speaks Query beside JSON: its JSON errors tell the Query code in
    /// `x-amzn-query-error`. Empty for other services.
    pub error_namespace: &'static str,
    /// Sorted by name.
    pub operations: &'static [OperationModel],
    /// The error shapes that served operations name, sorted by code.
    pub errors: &'static [ErrorModel],
}

/// One operation: its route, and its shapes if we serve it.
#[derive(Debug)]
pub struct OperationModel {
    pub name: &'static str,
    pub method: &'static str,
    /// The path template, with a query literal where the model has one: `/2018-10-31/layers?find=LayerVersion`.
    pub uri: &'static str,
    /// The status of a success.
    pub status: u16,
    /// The largest request body in bytes, after any content coding is undone.
    pub body_limit: usize,
    /// `None` for an operation that is known by name only.
    pub shapes: Option<Shapes>,
}

/// What a served operation takes and answers.
#[derive(Debug)]
pub struct Shapes {
    pub input: &'static Shape,
    pub output: &'static Shape,
    /// The element around a Query answer; empty for the other protocols.
    pub result_wrapper: &'static str,
}

/// The form of one value and the constraints on it.
#[derive(Debug)]
pub struct Shape {
    pub name: &'static str,
    pub kind: Kind,
    /// Of the value of a number, the characters of a text, the items of a list or map.
    pub min: Option<i64>,
    pub max: Option<i64>,
    /// A regular expression that the whole text must match.
    pub pattern: Option<&'static str>,
    /// The legal texts; empty if any is.
    pub one_of: &'static [&'static str],
    /// Never shown in messages.
    pub sensitive: bool,
}

#[derive(Debug)]
pub enum Kind {
    Structure(&'static [Member]),
    List(&'static Item),
    Map(&'static Entries),
    Text,
    Blob,
    Boolean,
    /// 32-bit in the model.
    Integer,
    /// 64-bit in the model.
    Long,
    Double,
    Timestamp,
}

/// The items of a list.
#[derive(Debug)]
pub struct Item {
    pub shape: &'static Shape,
    /// The element's name in Query and XML: `member` unless the model says otherwise.
    pub wire: &'static str,
    /// No wrapping element in Query and XML.
    pub flattened: bool,
}

/// The entries of a map.
#[derive(Debug)]
pub struct Entries {
    pub key: &'static Shape,
    pub value: &'static Shape,
    /// The name of a flattened map's entries in Query and XML; empty if it is the member's.
    pub wire: &'static str,
    /// The elements' names in Query and XML: `key` and `value` unless the model says otherwise.
    pub key_wire: &'static str,
    pub value_wire: &'static str,
    /// No wrapping element in Query and XML.
    pub flattened: bool,
}

/// A member of a structure.
#[derive(Debug)]
pub struct Member {
    /// As in the API reference.
    pub name: &'static str,
    /// As on the wire: a JSON key, an element, a header's or query parameter's name.
    pub wire: &'static str,
    pub place: Place,
    pub required: bool,
    /// Whether we honour it. What is not honoured is refused by name unless it has a default value.
    pub served: bool,
    /// The texts that equal the reference's default, where empty, `false` and absent are not all of them.
    pub accepts: &'static [&'static str],
    pub shape: &'static Shape,
}

/// Where a member travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Body,
    /// The whole body.
    Payload,
    Uri,
    Query,
    Header,
    /// Every header with the prefix in `wire`.
    Headers,
    Status,
}

/// An error shape, as far as rendering needs it.
#[derive(Debug)]
pub struct ErrorModel {
    pub code: &'static str,
    /// The code in Query; empty if it is the same.
    pub query_code: &'static str,
    /// `message` or `Message`.
    pub message: &'static str,
    /// Lambda's `Type` member (`User` or `Service`).
    pub typed: bool,
    /// The members that travel in headers: (member, header).
    pub headers: &'static [(&'static str, &'static str)],
}

impl ServiceModel {
    pub fn operation(&self, name: &str) -> Option<&'static OperationModel> {
        let operations = self.operations;
        operations.binary_search_by(|o| o.name.cmp(name)).ok().map(|i| &operations[i])
    }

    pub fn error(&self, code: &str) -> Option<&'static ErrorModel> {
        let errors = self.errors;
        errors.binary_search_by(|e| e.code.cmp(code)).ok().map(|i| &errors[i])
    }
}

/// The shape of an operation without input or output.
pub static UNIT: Shape = Shape::new("Unit", Kind::Structure(&[]));

impl OperationModel {
    /// An operation that is known by name only.
    pub const fn known(
        name: &'static str,
        method: &'static str,
        uri: &'static str,
        status: u16,
        body_limit: usize,
    ) -> Self {
        Self { name, method, uri, status, body_limit, shapes: None }
    }
}

impl Member {
    /// A member of the body that is optional and honoured.
    pub const fn new(name: &'static str, wire: &'static str, shape: &'static Shape) -> Self {
        Self { name, wire, place: Place::Body, required: false, served: true, accepts: &[], shape }
    }
}

impl Shape {
    /// A shape without constraints.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, min: None, max: None, pattern: None, one_of: &[], sensitive: false }
    }

    /// The members of a structure; none for anything else.
    pub fn members(&self) -> &'static [Member] {
        match self.kind {
            Kind::Structure(members) => members,
            _ => &[],
        }
    }

    pub fn member(&self, name: &str) -> Option<&'static Member> {
        self.members().iter().find(|m| m.name == name)
    }

    /// The member that is the whole body.
    pub fn payload(&self) -> Option<&'static Member> {
        self.members().iter().find(|m| m.place == Place::Payload)
    }
}
