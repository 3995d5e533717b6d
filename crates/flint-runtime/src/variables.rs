//! The environment variables that a function finds.
//!
//! Reference: Lambda Developer Guide, "Working with Lambda environment variables" (defined runtime environment
//! variables). `AWS_XRAY_DAEMON_ADDRESS` is left out as there is no daemon. `AWS_ENDPOINT_URL` (AWS SDKs and Tools Reference Guide,
//! "Service-specific endpoints") is ours: it leads the SDKs to Flint. A function may set it otherwise; the credentials it can't.

use std::ffi::OsString;

use flint_kit::Credentials;
use flint_sandbox::{CODE_DIR, RUNTIME_API};

use crate::catalog::Kind;
use crate::spec::{EnvironmentSpec, LogFormat};

/// Where the bootstraps lie inside.
pub(crate) const RUNTIME_DIR: &str = "/var/runtime";

/// The platform's variables, then the function's own, which win where a name may be set by both. `access` is Flint's address and
/// what calls are signed with.
pub(crate) fn inside(
    spec: &EnvironmentSpec,
    log_stream: &str,
    access: Option<(&str, &Credentials)>,
) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = Vec::with_capacity(28 + spec.variables.len());
    let mut set = |name: &str, value: String| {
        variables.retain(|(known, _)| known != name);
        variables.push((name.into(), value.into()));
    };
    set("AWS_LAMBDA_RUNTIME_API", RUNTIME_API.to_string());
    set("_HANDLER", spec.handler.clone());
    set("AWS_REGION", spec.place.region.to_string());
    set("AWS_DEFAULT_REGION", spec.place.region.to_string());
    if let Some((url, credentials)) = access {
        set("AWS_ENDPOINT_URL", url.to_owned());
        set("AWS_ACCESS_KEY_ID", credentials.access_key_id.clone());
        set("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key.clone());
        set("AWS_SESSION_TOKEN", credentials.session_token.clone());
    }
    set("AWS_LAMBDA_FUNCTION_NAME", spec.function.to_string());
    set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", spec.memory_mb.to_string());
    set("AWS_LAMBDA_FUNCTION_VERSION", spec.version.to_string());
    set("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned());
    set("AWS_LAMBDA_LOG_GROUP_NAME", spec.log_group.to_string());
    set("AWS_LAMBDA_LOG_STREAM_NAME", log_stream.to_owned());
    set("LAMBDA_TASK_ROOT", CODE_DIR.to_owned());
    set("LAMBDA_RUNTIME_DIR", RUNTIME_DIR.to_owned());
    set("LANG", "en_US.UTF-8".to_owned());
    set("TZ", ":UTC".to_owned());
    set("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin".to_owned());
    let libraries = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib";
    set("LD_LIBRARY_PATH", libraries.to_owned());
    // Custom runtimes have no AWS_EXECUTION_ENV, as the reference says.
    if spec.runtime.kind != Kind::Provided {
        set("AWS_EXECUTION_ENV", format!("AWS_Lambda_{}", spec.runtime.identifier));
    }
    match spec.runtime.kind {
        Kind::Python => {
            set("PYTHONPATH", RUNTIME_DIR.to_owned());
            // The locale of LANG need not exist in the root; UTF-8 must not depend on it.
            set("PYTHONUTF8", "1".to_owned());
            // The code is read-only, so there is nowhere to keep compiled files.
            set("PYTHONDONTWRITEBYTECODE", "1".to_owned());
        }
        Kind::Node => {
            set("NODE_PATH", "/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task".to_owned())
        }
        Kind::Provided => {}
    }
    if spec.logging.format == LogFormat::Json {
        set("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned());
        set("AWS_LAMBDA_LOG_LEVEL", spec.logging.application_level.unwrap_or_default().name().to_owned());
    } else {
        set("AWS_LAMBDA_LOG_FORMAT", "Text".to_owned());
    }
    for (name, value) in &spec.variables {
        set(name, value.clone());
    }
    variables
}
