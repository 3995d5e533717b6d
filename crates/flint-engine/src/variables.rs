//! A version's environment variables: known to whoever runs it, sealed at rest, never printed.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flint_kit::Vault;

use crate::error::Error;
use crate::function::{Function, Head, label};

/// Names and values; or what lies in the store, if that does not open.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Variables {
    Known(BTreeMap<String, String>),
    /// In base64. Kept as it is, so that a change of something else does not lose it.
    Sealed(String),
}

impl Variables {
    /// `None` if they can't be read.
    pub(crate) fn known(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Variables::Known(map) => Some(map),
            Variables::Sealed(_) => None,
        }
    }
}

impl Default for Variables {
    fn default() -> Self {
        Variables::Known(BTreeMap::new())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Variables::Known(map) => write!(f, "Variables({})", map.len()),
            Variables::Sealed(_) => f.write_str("Variables(sealed)"),
        }
    }
}

/// Whose variables they are: the function's ARN, and which function of that name.
pub(crate) fn owner(arn: &str, head: &Head) -> String {
    format!("{arn}#{}", head.incarnation)
}

/// The variables of `function` as they are stored. `None` if there are none.
///
/// Errors: [`Error::Sealed`] if the function's data key does not open.
pub(crate) fn seal(vault: &dyn Vault, head: &Head, function: &Function) -> Result<Option<String>, Error> {
    match &function.config.variables {
        Variables::Known(map) if map.is_empty() => Ok(None),
        Variables::Known(map) => {
            let plain = serde_json::to_vec(map).expect("a map of texts is JSON");
            let place = label(function.version);
            let sealed = vault.seal(&head.data_key, &owner(&function.arn(), head), &place, &plain);
            sealed.map(|bytes| Some(BASE64_STANDARD.encode(bytes))).map_err(|_| Error::Sealed(function.arn()))
        }
        Variables::Sealed(kept) => Ok(Some(kept.clone())),
    }
}

/// The opposite of [`seal`], for the function with this ARN and version.
pub(crate) fn open(
    vault: &dyn Vault,
    head: &Head,
    arn: &str,
    version: Option<u64>,
    sealed: Option<String>,
) -> Variables {
    let Some(sealed) = sealed else { return Variables::default() };
    let opened = BASE64_STANDARD
        .decode(&sealed)
        .ok()
        .and_then(|bytes| vault.open(&head.data_key, &owner(arn, head), &label(version), &bytes).ok())
        .and_then(|plain| serde_json::from_slice(&plain).ok());
    opened.map_or(Variables::Sealed(sealed), Variables::Known)
}
