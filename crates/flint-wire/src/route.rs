//! From a request's head to an operation: target header, REST path, form, and the scope of the signature.

use std::sync::LazyLock;

use flint_kit::Fault;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::codec::rest::parse_query;
use crate::codec::{query, serialization};
use crate::gate::scope_of;
use crate::shape::{OperationModel, Protocol, ServiceModel};
use crate::tables::SERVICES;

/// Where a request goes.
#[derive(Debug)]
pub enum Route {
    Operation(Call),
    /// A form: its body names the operation. `None` if the scope does not name a Query service either.
    Form(Option<&'static ServiceModel>),
    /// Nowhere. The fault is told once the caller is known.
    Miss {
        protocol: Protocol,
        service: Option<&'static ServiceModel>,
        fault: Fault,
    },
}

/// An operation and the labels of its path.
#[derive(Debug)]
pub struct Call {
    pub service: &'static ServiceModel,
    pub operation: &'static OperationModel,
    pub labels: Vec<(&'static str, String)>,
}

impl Route {
    /// The protocol in which this request's errors are told.
    pub fn protocol(&self) -> Protocol {
        match self {
            Route::Operation(call) => call.service.protocol,
            Route::Form(_) => Protocol::Query,
            Route::Miss { protocol, .. } => *protocol,
        }
    }

    pub fn service(&self) -> Option<&'static ServiceModel> {
        match self {
            Route::Operation(call) => Some(call.service),
            Route::Form(service) => *service,
            Route::Miss { service, .. } => *service,
        }
    }
}

/// Routes by what the request itself says, then by the scope of its signature.
pub fn route(request: &Parts) -> Route {
    let scope = scope_of(request);
    let scope = &*scope;
    if let Some(target) = request.headers.get("x-amz-target") {
        return by_target(target.to_str().unwrap_or(""), scope, request);
    }
    let path = request.uri.path();
    match rest(request.method.as_str(), path, request.uri.query().unwrap_or("")) {
        Ok(Some(call)) => return Route::Operation(call),
        Ok(None) => {}
        Err(fault) => return Route::Miss { protocol: Protocol::RestJson, service: None, fault },
    }
    // Without a target header a service that speaks both is asked in Query.
    let named = SERVICES.iter().copied().filter(|s| s.signing_name == scope);
    let service = named.max_by_key(|s| s.protocol == Protocol::Query);
    let unknown = |status| Fault::client(status, "UnknownOperationException", "");
    match service {
        Some(service) if service.protocol == Protocol::Query => Route::Form(Some(service)),
        Some(service) if service.protocol == Protocol::RestJson => {
            let fault = Fault {
                message: format!("{} {path} is no operation of {}", request.method, service.name),
                ..unknown(404)
            };
            Route::Miss { protocol: Protocol::RestJson, service: Some(service), fault }
        }
        Some(service) => {
            let fault = Fault { message: "the request has no X-Amz-Target header".to_owned(), ..unknown(400) };
            Route::Miss { protocol: service.protocol, service: Some(service), fault }
        }
        None if path == "/" && is_form(request) => Route::Form(None),
        None => {
            // Those answer XML, and so must their refusal.
            let xml = matches!(scope, "s3" | "cloudfront" | "route53");
            let protocol = if xml { Protocol::Query } else { Protocol::RestJson };
            Route::Miss { protocol, service: None, fault: foreign(scope, "", request) }
        }
    }
}

/// The operation that a form names. `service` is what the scope says; without it the `Version` decides.
///
/// Errors: `InvalidAction` for a name that the service does not have, `MissingAction` for none.
///
/// A queue's address may stand in the path alone: it becomes the label `QueueUrl`.
pub fn by_form(
    service: Option<&'static ServiceModel>,
    scope: &str,
    body: &[u8],
    query: &str,
    path: &str,
) -> Result<Call, Fault> {
    let raw = if body.is_empty() { query.as_bytes() } else { body };
    let form = query::form(raw)?;
    let value = |name: &str| form.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
    let (action, version) = (value("Action"), value("Version"));
    let by_version = || {
        SERVICES.iter().copied().find(|s| s.protocol == Protocol::Query && scope.is_empty() && s.api_version == version)
    };
    let Some(service) = service.or_else(by_version) else {
        let what = [scope, action].into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(".");
        return Err(Fault::not_served(if what.is_empty() {
            "a service that the request does not name"
        } else {
            &what
        }));
    };
    if action.is_empty() {
        return Err(Fault::client(400, "MissingAction", "the form has no parameter Action"));
    }
    match service.operation(action) {
        Some(operation) => {
            let labels = if path == "/" { Vec::new() } else { vec![("QueueUrl", path.to_owned())] };
            Ok(Call { service, operation, labels })
        }
        None => {
            let message = format!("Could not find operation {action} for version {version}");
            Err(Fault::client(400, "InvalidAction", message))
        }
    }
}

/// `Logs_20140328.CreateLogGroup`
fn by_target(target: &str, scope: &str, request: &Parts) -> Route {
    let (prefix, name) = target.rsplit_once('.').unwrap_or((target, ""));
    let service = SERVICES.iter().copied().find(|s| !s.target_prefix.is_empty() && s.target_prefix == prefix);
    let Some(service) = service else {
        // The scope's name is the one that people know: `sqs`, not `AmazonSQS`.
        let known = SERVICES.iter().any(|s| s.signing_name == scope);
        let service = if scope.is_empty() || known { prefix } else { scope };
        return Route::Miss { protocol: json_version(request), service: None, fault: foreign(service, name, request) };
    };
    match service.operation(name) {
        Some(operation) => Route::Operation(Call { service, operation, labels: Vec::new() }),
        None => {
            let message = format!("{name:?} is no operation of {}", service.name);
            let fault = Fault::client(400, "UnknownOperationException", message);
            Route::Miss { protocol: service.protocol, service: Some(service), fault }
        }
    }
}

/// The refusal of a service that has no tables.
fn foreign(service: &str, operation: &str, request: &Parts) -> Fault {
    let legal = |name: &str| name.len() <= 128 && name.bytes().all(|b| b.is_ascii_graphic());
    match (service, operation) {
        ("", _) => {
            let message = format!("{} {} is no operation of any service here", request.method, request.uri.path());
            Fault::client(404, "UnknownOperationException", message)
        }
        (service, "") if legal(service) => Fault::not_served(service),
        (service, operation) if legal(service) && legal(operation) => {
            Fault::not_served(format_args!("{service}.{operation}"))
        }
        _ => Fault::not_served("a service whose name is not legal"),
    }
}

fn json_version(request: &Parts) -> Protocol {
    let content_type = request.headers.get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    if content_type.starts_with(b"application/x-amz-json-1.0") { Protocol::Json10 } else { Protocol::Json11 }
}

fn is_form(request: &Parts) -> bool {
    let content_type = request.headers.get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    content_type.starts_with(b"application/x-www-form-urlencoded")
        || request.uri.query().is_some_and(|q| q.split('&').any(|pair| pair.starts_with("Action=")))
}

/// A path template, taken apart.
struct Template {
    service: &'static ServiceModel,
    operation: &'static OperationModel,
    segments: Vec<Segment>,
    /// The query literals that must be there.
    query: Vec<(&'static str, &'static str)>,
    literals: usize,
}

enum Segment {
    Literal(&'static str),
    Label(&'static str),
    /// The rest of the path.
    Greedy(&'static str),
}

static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(|| {
    let rest = SERVICES.iter().copied().filter(|s| s.protocol == Protocol::RestJson);
    rest.flat_map(|service| service.operations.iter().map(move |operation| Template::new(service, operation))).collect()
});

impl Template {
    fn new(service: &'static ServiceModel, operation: &'static OperationModel) -> Self {
        let (path, query) = operation.uri.split_once('?').unwrap_or((operation.uri, ""));
        let segments: Vec<Segment> = path.trim_matches('/').split('/').map(Segment::new).collect();
        let query: Vec<_> =
            query.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, ""))).collect();
        let literals = segments.iter().filter(|s| matches!(s, Segment::Literal(_))).count() + query.len();
        Self { service, operation, segments, query, literals }
    }

    fn fits(&self, path: &[&str], query: &str) -> bool {
        let greedy = matches!(self.segments.last(), Some(Segment::Greedy(_)));
        let long_enough = if greedy { path.len() >= self.segments.len() } else { path.len() == self.segments.len() };
        long_enough
            && self.segments.iter().zip(path).all(|(segment, text)| match segment {
                Segment::Literal(literal) => literal == text,
                Segment::Label(_) | Segment::Greedy(_) => !text.is_empty(),
            })
            && self.query.iter().all(|(name, value)| {
                query.split('&').any(|pair| pair.split_once('=').unwrap_or((pair, "")) == (*name, *value))
            })
    }

    fn labels(&self, path: &[&str]) -> Result<Vec<(&'static str, String)>, Fault> {
        let decode = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(|t| t.into_owned()).map_err(|_| serialization("The path is not UTF-8 text."))
        };
        let mut labels = Vec::new();
        for (index, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Literal(_) => {}
                Segment::Label(name) => labels.push((*name, decode(path[index])?)),
                Segment::Greedy(name) => labels.push((*name, decode(&path[index..].join("/"))?)),
            }
        }
        Ok(labels)
    }
}

impl Segment {
    fn new(text: &'static str) -> Self {
        match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            None => Segment::Literal(text),
            Some(label) => label.strip_suffix('+').map_or(Segment::Label(label), Segment::Greedy),
        }
    }
}

/// The REST operation of a method and path; of several, the one whose template says most. A trailing slash is allowed.
fn rest(method: &str, path: &str, query: &str) -> Result<Option<Call>, Fault> {
    let Some(path) = path.strip_prefix('/') else { return Ok(None) };
    let path: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    let fitting = TEMPLATES.iter().filter(|t| t.operation.method == method && t.fits(&path, query));
    let Some(template) = fitting.max_by_key(|t| t.literals) else { return Ok(None) };
    parse_query(query)?;
    Ok(Some(Call { service: template.service, operation: template.operation, labels: template.labels(&path)? }))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn routed(method: &str, uri: &str, headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match route(&request.body(()).expect("request").into_parts().0) {
            Route::Operation(call) => {
                let labels: Vec<&str> = call.labels.iter().map(|(_, v)| v.as_str()).collect();
                format!("{}.{}({})", call.service.name, call.operation.name, labels.join(","))
            }
            Route::Form(service) => format!("form {}", service.map_or("?", |s| s.name)),
            Route::Miss { protocol, fault, .. } => format!("{protocol:?} {} {}", fault.status, fault.code),
        }
    }

    #[test]
    fn requests_find_their_operation() {
        let check = |method: &str, uri: &str, want: &str| assert_eq!(routed(method, uri, &[]), want, "{method} {uri}");
        check("POST", "/2015-03-31/functions", "lambda.CreateFunction()");
        check("GET", "/2015-03-31/functions/", "lambda.ListFunctions()");
        check("GET", "/2015-03-31/functions/f", "lambda.GetFunction(f)");
        check("GET", "/2015-03-31/functions/arn%3Aaws%3Alambda", "lambda.GetFunction(arn:aws:lambda)");
        check("POST", "/2015-03-31/functions/f%2Fg/invocations", "lambda.Invoke(f/g)");
        check("GET", "/2018-10-31/layers?find=LayerVersion&Arn=x", "lambda.GetLayerVersionByArn()");
        check("GET", "/2018-10-31/layers", "lambda.ListLayers()");
        check(
            "GET",
            "/2019-09-30/functions/f/provisioned-concurrency?List=ALL",
            "lambda.ListProvisionedConcurrencyConfigs(f)",
        );
        check("GET", "/2019-09-30/functions/f/provisioned-concurrency", "lambda.GetProvisionedConcurrencyConfig(f)");
        check("DELETE", "/2015-03-31/functions/f/policy/s", "lambda.RemovePermission(f,s)");
        check("GET", "//2015-03-31/functions", "RestJson 404 UnknownOperationException");
        check("POST", "/2015-03-31/functions//invocations", "RestJson 404 UnknownOperationException");
        check("GET", "/2015-03-31/functions/%ff", "RestJson 400 SerializationException");
        check("PATCH", "/2015-03-31/functions", "RestJson 404 UnknownOperationException");
        check("GET", "/", "RestJson 404 UnknownOperationException");
        check("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", "form ?");
    }

    #[test]
    fn headers_route_where_paths_do_not() {
        let check =
            |headers: &[(&str, &str)], want: &str| assert_eq!(routed("POST", "/", headers), want, "{headers:?}");
        check(&[("x-amz-target", "Logs_20140328.CreateLogGroup")], "logs.CreateLogGroup()");
        check(&[("x-amz-target", "Logs_20140328.Nothing")], "Json11 400 UnknownOperationException");
        check(&[("x-amz-target", "Flint.Status")], "flint.Status()");
        check(&[("x-amz-target", "AmazonSQS.SendMessage")], "sqs.SendMessage()");
        check(&[("x-amz-target", "DynamoDB_20120810.PutItem")], "Json11 501 NotImplemented");
        let json10 = ("content-type", "application/x-amz-json-1.0");
        check(&[("x-amz-target", "DynamoDB_20120810.PutItem"), json10], "Json10 501 NotImplemented");
        let scope =
            |service: &str| format!("AWS4-HMAC-SHA256 Credential=A/20261121/us-east-1/{service}/aws4_request, x");
        check(&[("authorization", &scope("sts"))], "form sts");
        check(&[("authorization", &scope("logs"))], "Json11 400 UnknownOperationException");
        check(&[("authorization", &scope("lambda"))], "RestJson 404 UnknownOperationException");
        check(&[("authorization", &scope("sqs"))], "form sqs");
        check(&[("authorization", &scope("dynamodb"))], "RestJson 501 NotImplemented");
        check(&[("authorization", &scope("s3"))], "Query 501 NotImplemented");
        check(&[("content-type", "application/x-www-form-urlencoded; charset=utf-8")], "form ?");
    }

    #[test]
    fn forms_name_their_action() {
        let sts = SERVICES.iter().copied().find(|s| s.name == "sts");
        let call = by_form(sts, "sts", b"Action=GetCallerIdentity&Version=2011-06-15", "", "/").expect("routed");
        assert_eq!(call.operation.name, "GetCallerIdentity");
        let call = by_form(None, "", b"Version=2011-06-15&Action=GetCallerIdentity", "", "/").expect("routed");
        assert_eq!(call.service.name, "sts");
        let sqs = SERVICES.iter().copied().find(|s| s.name == "sqs" && s.protocol == Protocol::Query);
        let call = by_form(sqs, "sqs", b"Action=PurgeQueue", "", "/000000000000/orders").expect("routed");
        assert_eq!(call.labels, [("QueueUrl", "/000000000000/orders".to_owned())]);
        let code = |fault: Fault| format!("{} {}", fault.code, fault.message);
        assert_eq!(
            code(by_form(sts, "sts", b"Version=2011-06-15", "", "/").expect_err("none")),
            "MissingAction the form has no parameter Action"
        );
        assert!(
            code(by_form(sts, "sts", b"Action=Fly&Version=1", "", "/").expect_err("none"))
                .starts_with("InvalidAction Could not find operation Fly")
        );
        assert_eq!(
            code(by_form(None, "sns", b"Action=Publish", "", "/").expect_err("none")),
            "NotImplemented not served: sns.Publish"
        );
    }
}
