//! Why a request's signature was not accepted, and the reference's codes for it.

use flint_kit::Fault;

use crate::shape::Protocol;

/// The messages are the reference's, because people paste them into search boxes.
///
/// Reference: IAM User Guide, "Troubleshoot Signature Version 4 requests"; "Common Errors" of each service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Missing Authentication Token")]
    Missing,
    #[error("{0}")]
    Incomplete(String),
    #[error("{0}")]
    Invalid(String),
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
         Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
    #[error("The security token included in the request is invalid.")]
    Unrecognized,
    #[error("The security token included in the request is expired")]
    Expired,
    /// A form of signature that we do not verify.
    #[error("not served: {0}")]
    NotServed(&'static str),
}

impl Refusal {
    pub(crate) fn incomplete(message: impl Into<String>) -> Self {
        Self::Incomplete(message.into())
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// The fault as a service of `protocol` words it.
    pub fn fault(&self, protocol: Protocol) -> Fault {
        let query = protocol == Protocol::Query;
        let pick = |json: &'static str, xml: &'static str| if query { xml } else { json };
        let (status, code) = match self {
            Refusal::Missing => (403, pick("MissingAuthenticationTokenException", "MissingAuthenticationToken")),
            Refusal::Incomplete(_) => (400, pick("IncompleteSignatureException", "IncompleteSignature")),
            Refusal::Invalid(_) | Refusal::Mismatch => {
                (403, pick("InvalidSignatureException", "SignatureDoesNotMatch"))
            }
            Refusal::Unrecognized => (403, pick("UnrecognizedClientException", "InvalidClientTokenId")),
            Refusal::Expired => (403, pick("ExpiredTokenException", "ExpiredToken")),
            Refusal::NotServed(what) => return Fault::not_served(what),
        };
        Fault::client(status, code, self.to_string())
    }
}
