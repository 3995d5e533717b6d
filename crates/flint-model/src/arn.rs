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

    /// The account in the text of an ARN; empty where it names none.
    ///
    /// Errors: [`ParseError`] as for the whole.
    pub fn account_of(text: &str) -> Result<&str, ParseError> {
        split(text).map(|[_, _, _, account, _]| account)
    }
}

/// Partition, service, region, account, resource.
fn split(text: &str) -> Result<[&str; 5], ParseError> {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next().ok_or_else(|| ParseError(text.to_owned()));
    if next()? != "arn" {
        return Err(ParseError(text.to_owned()));
    }
    let found = [next()?, next()?, next()?, next()?, next()?];
    let [partition, service, _, _, resource] = found;
    if partition.is_empty() || service.is_empty() || resource.is_empty() {
        return Err(ParseError(text.to_owned()));
    }
    Ok(found)
}

impl FromStr for Arn {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let [partition, service, region, account, resource] = split(s)?.map(str::to_owned);
        Ok(Arn { partition, service, region, account, resource })
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arn { partition, service, region, account, resource } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

/// Whether `text` has the form of an IAM role's ARN: `arn:aws:iam::ACCOUNT:role/PATH/NAME`, where the partition may
/// be another of `aws…` and the account is twelve digits.
///
/// Reference: Lambda API Reference, "CreateFunction", the pattern of `Role`.
pub fn is_role_arn(text: &str) -> bool {
    let Ok(Arn { partition, service, region, account, resource }) = text.parse() else { return false };
    let partition_ok =
        partition.strip_prefix("aws").is_some_and(|r| r.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-'));
    let account_ok = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@-_/".contains(&b);
    let name_ok = resource
        .strip_prefix("role/")
        .is_some_and(|name| name.len() <= 512 && !name.ends_with('/') && !name.is_empty() && name.bytes().all(legal));
    partition_ok && service == "iam" && region.is_empty() && account_ok && name_ok
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

    #[test]
    fn knows_the_form_of_a_role() {
        for good in [
            "arn:aws:iam::000000000000:role/lambda-role",
            "arn:aws-us-gov:iam::123456789012:role/service-role/a/b_c+=,.@x",
        ] {
            assert!(is_role_arn(good), "{good}");
        }
        for bad in [
            "",
            "role",
            "arn:aws:iam::000000000000:user/u",
            "arn:aws:iam::000000000000:role/",
            "arn:aws:iam::000000000000:role/path/",
            "arn:aws:iam::00000000000:role/r",
            "arn:aws:iam::00000000000x:role/r",
            "arn:aws:iam:us-east-1:000000000000:role/r",
            "arn:aws:sts::000000000000:role/r",
            "arn:gcp:iam::000000000000:role/r",
            "arn:aws:iam::000000000000:role/r r",
            "arn:aws:iam::000000000000:role/r\u{e9}",
        ] {
            assert!(!is_role_arn(bad), "{bad}");
        }
    }
}
