//! Signs requests: for the command line's client, for calls that Flint makes itself, and for tests.

use flint_base::Timestamp;
use http::header::{AUTHORIZATION, HOST, InvalidHeaderValue};
use http::request::Parts;
use http::{HeaderName, HeaderValue};

use crate::sigv4::canonical::{self, PathRule};
use crate::sigv4::{ALGORITHM, SecretKey, TERMINATOR, key, time};

/// Who signs.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: SecretKey,
    /// `X-Amz-Security-Token` of temporary credentials.
    pub session_token: Option<String>,
}

/// Why a request could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the request's address has no host")]
    NoHost,
    #[error("a header's value is not text")]
    Header(#[from] InvalidHeaderValue),
    #[error("the request can't be put into its canonical form: {0}")]
    Canonical(String),
}

/// Signs `request` (whose body is `payload`) for `service` in `region` at `now`.
///
/// Sets `Host` (from the address, unless it is there), `X-Amz-Date`, `X-Amz-Content-Sha256` and `Authorization`; call it
/// last. Signed are `host`, `content-type` and every `x-amz-*` header.
pub fn sign(
    request: &mut Parts,
    payload: &[u8],
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: Timestamp,
) -> Result<(), Error> {
    if !request.headers.contains_key(HOST) {
        let authority = request.uri.authority().ok_or(Error::NoHost)?;
        request.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
    }
    let date = time::basic(now);
    let hash = key::payload_hash(payload);
    request.headers.insert(HeaderName::from_static("x-amz-date"), HeaderValue::from_str(&date)?);
    request.headers.insert(HeaderName::from_static("x-amz-content-sha256"), HeaderValue::from_str(&hash)?);
    if let Some(token) = &credentials.session_token {
        request.headers.insert(HeaderName::from_static("x-amz-security-token"), HeaderValue::from_str(token)?);
    }
    let names = request.headers.keys().map(|n| n.as_str().to_owned());
    let mut signed: Vec<String> =
        names.filter(|n| n == "host" || n == "content-type" || n.starts_with("x-amz-")).collect();
    signed.sort_unstable();
    let signed = signed.join(";");
    let parts = canonical::Parts {
        method: request.method.as_str(),
        path: request.uri.path(),
        query: request.uri.query().unwrap_or(""),
        headers: &request.headers,
        authority: None,
    };
    let rule = if service == "s3" { PathRule::Once } else { PathRule::Twice };
    let canonical =
        canonical::request(&parts, &signed, &hash, rule).map_err(|refusal| Error::Canonical(refusal.to_string()))?;
    let signature = key::signature(&credentials.secret_key, &date, region, service, &canonical);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{}/{region}/{service}/{TERMINATOR}, SignedHeaders={signed}, Signature={}",
        credentials.access_key,
        &date[..8],
        key::hex_text(&signature),
    );
    request.headers.insert(AUTHORIZATION, HeaderValue::from_str(&authorization)?);
    Ok(())
}
