//! The Lambda operations that the command line asks.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Answer, Client, QUICK, Request, from_json, to_json};
use crate::Error;

/// The reference's longest function timeout is 900 s; queueing and a cold start come on top.
pub(super) const INVOKE: Duration = Duration::from_secs(1000);

/// What is unreserved in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `FunctionConfiguration`, as far as this client reads it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FunctionConfiguration {
    pub function_name: String,
    pub function_arn: String,
    pub version: String,
    pub last_modified: String,
    pub runtime: Option<String>,
    pub handler: Option<String>,
    pub memory_size: u32,
    pub timeout: u32,
    pub code_size: u64,
    pub code_sha256: String,
    pub revision_id: String,
    pub environment: Option<Environment>,
    pub role: String,
    pub state: Option<String>,
    pub state_reason: Option<String>,
    pub last_update_status: Option<String>,
    pub last_update_status_reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Environment {
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
}

/// What a function is apart from its code.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Settings {
    pub runtime: String,
    pub handler: String,
    pub memory_size: u32,
    pub timeout: u32,
    pub environment: Environment,
    /// Left as it is on an update if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoked {
    pub status: u16,
    pub executed_version: Option<String>,
    /// `Handled` or `Unhandled` when the function failed; the payload is then the error document.
    pub function_error: Option<String>,
    /// The last 4 KB of the invocation's log, where it was asked for.
    pub log_tail: Option<String>,
    pub request_id: Option<String>,
    pub payload: Bytes,
}

/// Whether the answer carries the end of the invocation's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTail {
    None,
    Tail,
}

impl Client {
    /// `GetFunctionConfiguration`; `None` if there is no such function.
    pub async fn function(&self, name: &str) -> Result<Option<FunctionConfiguration>, Error> {
        let path = format!("/2015-03-31/functions/{}/configuration", segment(name));
        match self.rest("GetFunctionConfiguration", Method::GET, path, Bytes::new()).await {
            Ok(answer) => from_json("GetFunctionConfiguration", &answer.body).map(Some),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// `ListFunctions`, page by page.
    pub async fn functions(&self) -> Result<Vec<FunctionConfiguration>, Error> {
        self.pages("ListFunctions", "/2015-03-31/functions".into(), "Functions").await
    }

    /// `ListVersionsByFunction`: the numbers of the versions, `$LATEST` first.
    pub async fn versions(&self, name: &str) -> Result<Vec<String>, Error> {
        let path = format!("/2015-03-31/functions/{}/versions", segment(name));
        let found: Vec<FunctionConfiguration> = self.pages("ListVersionsByFunction", path, "Versions").await?;
        Ok(found.into_iter().map(|f| f.version).collect())
    }

    /// `ListAliases`: their names.
    pub async fn aliases(&self, name: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Alias {
            name: String,
        }
        let path = format!("/2015-03-31/functions/{}/aliases", segment(name));
        let found: Vec<Alias> = self.pages("ListAliases", path, "Aliases").await?;
        Ok(found.into_iter().map(|alias| alias.name).collect())
    }

    /// All pages of a list: each has its items in `member` and, unless it is the last, a `NextMarker`.
    async fn pages<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: String,
        member: &str,
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        let mut query = String::new();
        loop {
            let answer = self.rest(operation, Method::GET, format!("{path}{query}"), Bytes::new()).await?;
            let mut page: serde_json::Map<String, Value> = from_json(operation, &answer.body)?;
            let items: Vec<T> = match page.remove(member) {
                Some(items) => {
                    serde_json::from_value(items).map_err(|e| Error::Answer { operation, reason: e.to_string() })?
                }
                None => Vec::new(),
            };
            all.extend(items);
            match page.get("NextMarker").and_then(Value::as_str).filter(|marker| !marker.is_empty()) {
                Some(marker) => query = format!("?Marker={}", segment(marker)),
                None => return Ok(all),
            }
        }
    }

    /// `CreateFunction` from a zip archive in the request.
    pub async fn create_function(
        &self,
        name: &str,
        role: &str,
        settings: &Settings,
        zip: &[u8],
    ) -> Result<FunctionConfiguration, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Input<'a> {
            function_name: &'a str,
            role: &'a str,
            code: Code,
            #[serde(flatten)]
            settings: &'a Settings,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Code {
            zip_file: String,
        }
        let input = Input { function_name: name, role, code: Code { zip_file: STANDARD.encode(zip) }, settings };
        let path = "/2015-03-31/functions".to_owned();
        let answer = self.rest("CreateFunction", Method::POST, path, to_json(&input)).await?;
        from_json("CreateFunction", &answer.body)
    }

    /// `UpdateFunctionCode` from a zip archive in the request.
    pub async fn update_function_code(&self, name: &str, zip: &[u8]) -> Result<FunctionConfiguration, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Input {
            zip_file: String,
        }
        let path = format!("/2015-03-31/functions/{}/code", segment(name));
        let input = Input { zip_file: STANDARD.encode(zip) };
        let answer = self.rest("UpdateFunctionCode", Method::PUT, path, to_json(&input)).await?;
        from_json("UpdateFunctionCode", &answer.body)
    }

    /// `UpdateFunctionConfiguration`.
    pub async fn update_function_configuration(
        &self,
        name: &str,
        settings: &Settings,
    ) -> Result<FunctionConfiguration, Error> {
        let path = format!("/2015-03-31/functions/{}/configuration", segment(name));
        let answer = self.rest("UpdateFunctionConfiguration", Method::PUT, path, to_json(settings)).await?;
        from_json("UpdateFunctionConfiguration", &answer.body)
    }

    /// `DeleteFunction`.
    pub async fn delete_function(&self, name: &str) -> Result<(), Error> {
        let path = format!("/2015-03-31/functions/{}", segment(name));
        self.rest("DeleteFunction", Method::DELETE, path, Bytes::new()).await.map(drop)
    }

    /// `Invoke` with `RequestResponse`. A function that fails is not an `Err`: see [`Invoked::function_error`].
    pub async fn invoke(&self, name: &str, payload: Bytes, tail: LogTail) -> Result<Invoked, Error> {
        self.call(name, payload, "RequestResponse", tail).await
    }

    /// `Invoke` with the type `Event`: the answer says that the event is kept, and under which id.
    pub async fn invoke_event(&self, name: &str, payload: Bytes) -> Result<Invoked, Error> {
        self.call(name, payload, "Event", LogTail::None).await
    }

    async fn call(&self, name: &str, payload: Bytes, kind: &str, tail: LogTail) -> Result<Invoked, Error> {
        let mut headers =
            vec![("content-type", "application/octet-stream".to_owned()), ("x-amz-invocation-type", kind.to_owned())];
        if tail == LogTail::Tail {
            headers.push(("x-amz-log-type", "Tail".to_owned()));
        }
        let request = Request {
            operation: "Invoke",
            service: "lambda",
            method: Method::POST,
            path: format!("/2015-03-31/functions/{}/invocations", segment(name)),
            headers,
            body: payload,
            limit: INVOKE,
        };
        let answer = self.send(request).await?;
        let header = |name: &str| answer.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let log_tail = header("x-amz-log-result")
            .and_then(|text| STANDARD.decode(text).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Invoked {
            status: answer.status,
            executed_version: header("x-amz-executed-version"),
            function_error: header("x-amz-function-error"),
            log_tail,
            request_id: header("x-amzn-requestid"),
            payload: answer.body,
        })
    }

    async fn rest(&self, operation: &'static str, method: Method, path: String, body: Bytes) -> Result<Answer, Error> {
        let headers = if body.is_empty() { vec![] } else { vec![("content-type", "application/json".to_owned())] };
        self.send(Request { operation, service: "lambda", method, path, headers, body, limit: QUICK }).await
    }
}

pub(super) fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}
