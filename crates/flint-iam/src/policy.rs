//! The form of policy documents. What is malformed is refused, so that a mistake shows when it is made; what documents mean is
//! `evaluate`'s.
//!
//! Reference: IAM User Guide, "Grammar of the IAM JSON policy language".

use serde_json::{Map, Value};

use crate::error::Error;

/// What a document is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Who may assume a role.
    Trust,
    /// What a role may do.
    Identity,
}

/// Checks a document's form.
///
/// Errors: [`Error::MalformedPolicy`].
pub(crate) fn check(document: &str, what: Use) -> Result<(), Error> {
    let policy: Value = serde_json::from_str(document).map_err(|_| malformed("This policy contains invalid Json"))?;
    let Value::Object(policy) = policy else { return Err(malformed("Syntax errors in policy.")) };
    let known = |key: &str| matches!(key, "Version" | "Id" | "Statement");
    if !policy.keys().all(|key| known(key)) {
        return Err(malformed("Syntax errors in policy."));
    }
    match policy.get("Version") {
        None => {}
        Some(Value::String(version)) if version == "2012-10-17" || version == "2008-10-17" => {}
        Some(_) => return Err(malformed("The policy must contain a valid version string")),
    }
    match policy.get("Statement") {
        Some(Value::Object(one)) => statement(one, what),
        Some(Value::Array(all)) if !all.is_empty() => all.iter().try_for_each(|one| match one {
            Value::Object(one) => statement(one, what),
            _ => Err(malformed("Syntax errors in policy.")),
        }),
        _ => Err(malformed("Syntax errors in policy.")),
    }
}

fn statement(statement: &Map<String, Value>, what: Use) -> Result<(), Error> {
    const KNOWN: &[&str] =
        &["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"];
    let either = |a: &str, b: &str| match (statement.get(a), statement.get(b)) {
        (Some(value), None) | (None, Some(value)) => Ok(Some(value)),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(malformed("Syntax errors in policy.")),
    };
    let effect = statement.get("Effect").and_then(Value::as_str);
    let condition = statement.get("Condition").is_none_or(Value::is_object);
    if !statement.keys().all(|k| KNOWN.contains(&k.as_str())) || !matches!(effect, Some("Allow" | "Deny")) || !condition
    {
        return Err(malformed("Syntax errors in policy."));
    }
    let actions = either("Action", "NotAction")?;
    if !actions.is_some_and(is_texts) {
        return Err(malformed("Policy statement must contain actions."));
    }
    let (principal, resource) = (either("Principal", "NotPrincipal")?, either("Resource", "NotResource")?);
    match what {
        Use::Trust if resource.is_some() => Err(malformed("Has prohibited field Resource")),
        Use::Trust if !principal.is_some_and(is_principal) => Err(malformed("Missing required field Principal")),
        Use::Identity if principal.is_some() => Err(malformed("Policy document should not specify a principal.")),
        Use::Identity if !resource.is_some_and(is_texts) => Err(malformed("Policy statement must contain resources.")),
        _ => Ok(()),
    }
}

/// A text, or a list of at least one.
fn is_texts(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::Array(items) => !items.is_empty() && items.iter().all(Value::is_string),
        _ => false,
    }
}

/// `"*"`, or who by kind: `{"Service": "lambda.amazonaws.com"}`.
fn is_principal(value: &Value) -> bool {
    match value {
        Value::String(all) => all == "*",
        Value::Object(kinds) => {
            let known = |kind: &str| matches!(kind, "AWS" | "Service" | "Federated" | "CanonicalUser");
            !kinds.is_empty() && kinds.iter().all(|(kind, who)| known(kind) && is_texts(who))
        }
        _ => false,
    }
}

fn malformed(message: &str) -> Error {
    Error::MalformedPolicy(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(document: &str, what: Use) -> String {
        check(document, what).expect_err(document).to_string()
    }

    #[test]
    fn documents_of_both_uses() {
        let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
        let identity =
            r#"{"Statement":{"Sid":"a","Effect":"Deny","NotAction":["s3:*"],"Resource":"*","Condition":{}}}"#;
        assert!(check(trust, Use::Trust).is_ok());
        assert!(check(identity, Use::Identity).is_ok());
        assert_eq!(refused(trust, Use::Identity), "Policy document should not specify a principal.");
        assert_eq!(refused(identity, Use::Trust), "Has prohibited field Resource");
        assert_eq!(refused("{", Use::Trust), "This policy contains invalid Json");
        for bent in [
            "[]",
            "{}",
            r#"{"Statement":[]}"#,
            r#"{"Statement":[1]}"#,
            r#"{"Statement":{"Effect":"Maybe","Action":"a","Resource":"*"}}"#,
            r#"{"Statement":{"Effect":"Allow","Action":"a","Resource":"*","Resources":"*"}}"#,
            r#"{"Statement":{"Effect":"Allow","Action":"a","Resource":"*"},"More":1}"#,
            r#"{"Statement":{"Effect":"Allow","Action":"a","NotAction":"b","Resource":"*"}}"#,
        ] {
            assert_eq!(refused(bent, Use::Identity), "Syntax errors in policy.", "{bent}");
        }
        let no_action = r#"{"Statement":{"Effect":"Allow","Resource":"*"}}"#;
        assert_eq!(refused(no_action, Use::Identity), "Policy statement must contain actions.");
        let no_resource = r#"{"Statement":{"Effect":"Allow","Action":"a"}}"#;
        assert_eq!(refused(no_resource, Use::Identity), "Policy statement must contain resources.");
        assert_eq!(refused(no_resource, Use::Trust), "Missing required field Principal");
    }

    proptest::proptest! {
        #[test]
        fn any_document_is_well_formed_or_refused(
            text in "\\PC{0,80}",
            statement in "[\\[\\]{}\",:a-z ]{0,30}",
            effect in proptest::sample::select(vec!["\"Allow\"", "\"allow\"", "1", "null", "[]"]),
            action in proptest::sample::select(vec!["\"s3:*\"", "[\"s3:Get\"]", "{}", "[1]", "\"\""]),
        ) {
            let whole = format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":{effect},"Action":{action},"Resource":"*"}}]}}"#);
            let odd = format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#);
            for document in [&text, &whole, &odd] {
                for what in [Use::Trust, Use::Identity] {
                    let taken = check(document, what).is_ok();
                    proptest::prop_assert!(!taken || effect == "\"Allow\"" || document != &whole, "{}", document);
                }
            }
        }
    }
}
