//! Amazon Resource Names: `arn:partition:service:region:account:resource`.

use std::fmt;
use std::str::FromStr;

use crate::place::Place;

/// A parsed ARN. The resource part is kept as written.
///
/// Reference: IAM User Guide, "Identify AWS resources with Amazon Resource Names (ARNs)".
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arn {
    pub partition: String,
    pub service: String,
    pub region: String,
    pub account: String,
    pub resource: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an ARN has the form arn:partition:service:region:account:resource, not {0:?}")]
pub struct ParseError(pub String);

impl Arn {
    /// An ARN of `service` in `place`, in the `aws` partition.
    pub fn new(service: &str, place: &Place, resource: impl Into<String>) -> Self {
        Self {
            partition: "aws".to_owned(),
            service: service.to_owned(),
            region: place.region.to_string(),
            account: place.account.to_string(),
            resource: resource.into(),
        }
    }
}

impl FromStr for Arn {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let mut parts = s.splitn(6, ':');
        let mut next = || parts.next().ok_or_else(|| ParseError(s.to_owned()));
        if next()? != "arn" {
            return Err(ParseError(s.to_owned()));
        }
        let arn = Arn {
            partition: next()?.to_owned(),
            service: next()?.to_owned(),
            region: next()?.to_owned(),
            account: next()?.to_owned(),
            resource: next()?.to_owned(),
        };
        if arn.partition.is_empty() || arn.service.is_empty() || arn.resource.is_empty() {
            return Err(ParseError(s.to_owned()));
        }
        Ok(arn)
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arn { partition, service, region, account, resource } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for text in ["arn:aws:lambda:us-east-1:000000000000:function:f:1", "arn:aws:s3:::bucket/key:with:colons"] {
            assert_eq!(text.parse::<Arn>().map(|a| a.to_string()), Ok(text.to_owned()));
        }
        for bad in ["", "arn:aws:lambda", "arn:aws:iam::1:", "urn:aws:lambda:r:a:x", "arn::lambda:r:a:x"] {
            assert!(bad.parse::<Arn>().is_err(), "{bad}");
        }
    }
}
