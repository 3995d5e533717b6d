//! The query form of a signature: presigned URLs.
//!
//! Reference: IAM User Guide, "Create a signed AWS API request" ("Add the signature to the query string"); S3 API
//! Reference, "Authenticating Requests: Using Query Parameters".

use std::time::Duration;

use flint_base::Timestamp;
use percent_encoding::percent_decode_str;

use super::{ALGORITHM, Refusal, time};

/// The longest life of a presigned URL: a week.
pub const LONGEST: u64 = 604_800;

/// The parameters of a signature in the query string, in any case: whoever bends one must not pass as unsigned.
const NAMES: &[&str] = &[
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-security-token",
    "awsaccesskeyid",
];

/// The signature's own parameter, which the canonical request leaves out.
const SIGNATURE: &str = "X-Amz-Signature";

/// What a presigned URL says, decoded.
#[derive(Debug)]
pub(crate) struct Presigned {
    pub credential: String,
    pub signed_headers: String,
    pub signature: String,
    pub token: Option<String>,
    /// In the basic form.
    pub date: String,
    pub signed_at: Timestamp,
    expires: Duration,
}

/// Whether the query string holds any part of a signature.
pub(crate) fn is_signed(query: &str) -> bool {
    !query.is_empty() && query.split('&').any(|pair| NAMES.contains(&name_of(pair).to_ascii_lowercase().as_str()))
}

/// The service's name in the credential scope of a presigned URL.
pub(crate) fn scope_service(query: &str) -> Option<String> {
    let pair = query.split('&').find(|pair| name_of(pair) == "X-Amz-Credential")?;
    let (_, value) = pair.split_once('=')?;
    decode(value).split('/').nth(3).map(str::to_owned)
}

/// The query string as it was signed.
pub(crate) fn without_signature(query: &str) -> String {
    let kept: Vec<&str> = query.split('&').filter(|pair| name_of(pair) != SIGNATURE).collect();
    kept.join("&")
}

impl Presigned {
    /// Errors: a parameter that is missing, bent, or there twice.
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let value = |name: &str| {
            let mut found = query.split('&').filter(|pair| name_of(pair) == name);
            match (found.next(), found.next()) {
                (Some(pair), None) => Ok(Some(decode(pair.split_once('=').map_or("", |(_, v)| v)))),
                (None, _) => Ok(None),
                (Some(_), Some(_)) => {
                    Err(Refusal::incomplete(format!("The query string holds '{name}' more than once.")))
                }
            }
        };
        let required = |name: &str| {
            value(name)?.filter(|v| !v.is_empty()).ok_or_else(|| {
                Refusal::incomplete(format!(
                    "AWS query-string parameters must include '{name}'. Re-examine the query-string parameters."
                ))
            })
        };
        if required("X-Amz-Algorithm")? != ALGORITHM {
            return Err(Refusal::incomplete(format!("X-Amz-Algorithm only supports \"{ALGORITHM}\".")));
        }
        let credential = required("X-Amz-Credential")?;
        let signature = required(SIGNATURE)?;
        let signed_headers = required("X-Amz-SignedHeaders")?;
        let date = required("X-Amz-Date")?;
        let signed_at = time::parse_basic(&date).ok_or_else(|| {
            Refusal::incomplete("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\".")
        })?;
        let expires = required("X-Amz-Expires")?;
        let seconds = Some(&expires).filter(|e| e.bytes().all(|b| b.is_ascii_digit())).and_then(|e| e.parse().ok());
        let seconds: u64 = seconds.ok_or_else(|| Refusal::incomplete("X-Amz-Expires should be a number."))?;
        if !(1..=LONGEST).contains(&seconds) {
            return Err(Refusal::incomplete(format!(
                "X-Amz-Expires must be between 1 and {LONGEST} seconds (a week)."
            )));
        }
        let token = value("X-Amz-Security-Token")?;
        Ok(Self {
            credential,
            signed_headers,
            signature,
            token,
            date,
            signed_at,
            expires: Duration::from_secs(seconds),
        })
    }

    /// When the URL ends.
    pub fn expires_at(&self) -> Timestamp {
        self.signed_at.saturating_add(self.expires)
    }
}

fn name_of(pair: &str) -> String {
    decode(pair.split_once('=').map_or(pair, |(name, _)| name))
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Action=x&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20261121%2Fus-east-1%2Fsts%2F\
                        aws4_request&X-Amz-Date=20261121T090000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&\
                        X-Amz-Signature=ab";

    #[test]
    fn a_query_is_read_and_what_is_bent_is_refused() {
        let good = Presigned::parse(GOOD).expect("well formed");
        assert_eq!(good.expires_at().since(good.signed_at), Duration::from_secs(60));
        assert_eq!(scope_service(GOOD).as_deref(), Some("sts"));
        assert!(!without_signature(GOOD).contains("Signature="));
        let text = |from: &str, to: &str| Presigned::parse(&GOOD.replace(from, to)).expect_err(to).to_string();
        assert!(text("&X-Amz-Expires=60", "").contains("must include 'X-Amz-Expires'"));
        assert!(text("Expires=60", "Expires=0").contains("between 1 and 604800"));
        assert!(text("Expires=60", "Expires=604801").contains("between 1 and 604800"));
        assert!(text("Expires=60", "Expires=-1").contains("a number"));
        assert!(text("Expires=60", "Expires=99999999999999999999").contains("a number"));
        assert!(text("T090000Z", "").contains("ISO8601"));
        assert!(text("SHA256", "SHA1").contains("only supports"));
        assert!(text("Action=x", "X-Amz-Date=20261121T090000Z").contains("more than once"));
    }

    #[test]
    fn any_trace_of_a_signature_is_seen() {
        for query in ["X-Amz-Signature=0", "a=1&x-amz-credential=0", "X%2DAmz-Signature=0", "AWSAccessKeyId=x"] {
            assert!(is_signed(query), "{query}");
        }
        assert!(!is_signed("a=X-Amz-Signature&Expires=1"));
    }
}
