//! The rules for names, ARNs, and where a group's directory is.

use std::path::{Path, PathBuf};

use flint_model::{Arn, Place};
use sha2::{Digest, Sha256};

use crate::Error;

/// Characters of the longest name of a group or a stream.
const NAME_MAX: usize = 512;
/// Bytes of a directory's name above which it is shortened; file systems allow 255.
const DIR_NAME_MAX: usize = 200;

/// Checks the name of a group that is to be made.
///
/// Reference: CloudWatch Logs API Reference, "CreateLogGroup".
pub fn check_group(name: &str) -> Result<(), Error> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-/#".contains(&b);
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(legal) {
        return Err(constraint("logGroupName", name, r"[\.\-_/#A-Za-z0-9]+"));
    }
    if name.len() >= 4 && name.as_bytes()[..4].eq_ignore_ascii_case(b"aws/") {
        return Err(Error::Invalid("Log groups starting with AWS/ are reserved for AWS.".to_owned()));
    }
    Ok(())
}

/// Checks the name of a stream that is to be made.
///
/// Reference: CloudWatch Logs API Reference, "CreateLogStream".
pub fn check_stream(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.chars().count() > NAME_MAX || name.contains([':', '*']) {
        return Err(constraint("logStreamName", name, "[^:*]*"));
    }
    Ok(())
}

fn constraint(member: &str, value: &str, pattern: &str) -> Error {
    let rule = match value.chars().count() {
        0 => "Member must have length greater than or equal to 1".to_owned(),
        n if n > NAME_MAX => format!("Member must have length less than or equal to {NAME_MAX}"),
        _ => format!("Member must satisfy regular expression pattern: {pattern}"),
    };
    Error::Invalid(format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {rule}"
    ))
}

/// The ARN of a group, without the trailing `:*`.
pub fn group_arn(place: &Place, group: &str) -> String {
    Arn::new("logs", place, format!("log-group:{group}")).to_string()
}

/// The ARN of a stream.
pub fn stream_arn(place: &Place, group: &str, stream: &str) -> String {
    Arn::new("logs", place, format!("log-group:{group}:log-stream:{stream}")).to_string()
}

/// The group's name out of a name or an ARN (with or without the trailing `:*`).
///
/// Errors: [`Error::Invalid`] for an ARN of another service; [`Error::GroupMissing`] for one of another place.
pub fn group_of_identifier(place: &Place, identifier: &str) -> Result<String, Error> {
    if !identifier.starts_with("arn:") {
        return Ok(identifier.to_owned());
    }
    let invalid = || Error::Invalid(format!("Invalid log group identifier: {identifier}"));
    let arn: Arn = identifier.parse().map_err(|_| invalid())?;
    let name = arn.resource.strip_prefix("log-group:").ok_or_else(invalid)?;
    if arn.service != "logs" {
        return Err(invalid());
    }
    if arn.region != place.region.as_str() || arn.account != place.account.as_str() {
        return Err(Error::GroupMissing);
    }
    Ok(name.strip_suffix(":*").unwrap_or(name).to_owned())
}

/// The directory of a group below `root`.
pub fn group_dir(root: &Path, place: &Place, group: &str) -> PathBuf {
    root.join(place.account.as_str()).join(place.region.as_str()).join(group_dir_name(group))
}

/// A directory's name for a group: its own name with `/`, `#`, `%` and a leading `.` written as `%XX`; a long one is
/// cut and ends with a `~` (which no group's name has) and a hash of the whole.
pub fn group_dir_name(group: &str) -> String {
    let mut name = String::with_capacity(group.len() + 16);
    for (i, c) in group.chars().enumerate() {
        match c {
            '/' | '#' | '%' => name.push_str(&format!("%{:02X}", u32::from(c))),
            '.' if i == 0 => name.push_str("%2E"),
            _ => name.push(c),
        }
    }
    if name.len() <= DIR_NAME_MAX {
        return name;
    }
    let hash = hex::encode(&Sha256::digest(group.as_bytes())[..16]);
    // Legal names are ASCII; the loop is for what is none.
    let mut cut = DIR_NAME_MAX - hash.len() - 1;
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    name.truncate(cut);
    format!("{name}~{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { account: "000000000000".parse().expect("an account"), region: "us-east-1".parse().expect("a region") }
    }

    #[test]
    fn directories_are_legal_and_tell_groups_apart() {
        for (group, dir) in [
            ("/aws/lambda/f", "%2Faws%2Flambda%2Ff"),
            ("..", "%2E."),
            (".draft", "%2Edraft"),
            ("a#b_c-d.e", "a%23b_c-d.e"),
        ] {
            assert_eq!(group_dir_name(group), dir);
        }
        let (a, b) = (format!("{}a", "/".repeat(511)), format!("{}b", "/".repeat(511)));
        assert_ne!(group_dir_name(&a), group_dir_name(&b));
        assert_eq!(group_dir_name(&a).len(), DIR_NAME_MAX);
        assert!(group_dir_name(&"é/".repeat(300)).len() <= DIR_NAME_MAX);
    }

    #[test]
    fn names_follow_the_reference() {
        for good in ["/aws/lambda/f", "a", "#a.b_c-1", &"x".repeat(512)] {
            assert!(check_group(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a:b", "é", "aws/x", "AWS/x", &"x".repeat(513)] {
            assert!(check_group(bad).is_err(), "{bad}");
        }
        for good in ["2026/11/21/[$LATEST]0123", "é", "a b"] {
            assert!(check_stream(good).is_ok(), "{good}");
        }
        for bad in ["", "a:b", "a*", &"x".repeat(513)] {
            assert!(check_stream(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn identifiers_are_names_or_arns_of_this_place() {
        let arn = group_arn(&place(), "/a/b");
        assert_eq!(arn, "arn:aws:logs:us-east-1:000000000000:log-group:/a/b");
        assert_eq!(group_of_identifier(&place(), &arn).expect("parses"), "/a/b");
        assert_eq!(group_of_identifier(&place(), &format!("{arn}:*")).expect("parses"), "/a/b");
        assert_eq!(group_of_identifier(&place(), "/a/b").expect("parses"), "/a/b");
        assert!(matches!(
            group_of_identifier(&place(), "arn:aws:logs:us-east-1:111111111111:log-group:g"),
            Err(Error::GroupMissing)
        ));
        for bad in ["arn:aws:s3:::b", "arn:x", "arn:aws:logs:us-east-1:000000000000:destination:d"] {
            assert!(matches!(group_of_identifier(&place(), bad), Err(Error::Invalid(_))), "{bad}");
        }
    }
}
