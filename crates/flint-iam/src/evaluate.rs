//! What policies say: the evaluation of identity policies, fail-closed. Pure.
//!
//! A statement says something if it is understood to its last word: an effect, actions and resources, with the wildcards `*` and
//! `?`. What is not understood (`Condition`, `NotAction`, `NotResource`, principals, policy variables) never allows; in a `Deny` it
//! counts as if it always applied: to what the statement's actions name, or to everything where that is not understood either.
//!
//! Reference: IAM User Guide, "Policy evaluation logic" (an explicit deny wins, then an allow, else it is denied) and "IAM JSON
//! policy elements: Resource" (a `*` goes beyond a colon only as the last character of its segment).

use flint_kit::Question;
use serde_json::{Map, Value};

use crate::policy::{self, Use};

/// What policies say about a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// A statement denies it.
    Denied,
    /// No statement allows it.
    Unmentioned,
}

/// Policies, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    allows: bool,
    actions: Which,
    resources: Which,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    Everything,
    Patterns(Vec<String>),
}

impl Rights {
    /// Adds the statements of an identity policy. One that is malformed denies everything.
    pub fn add(&mut self, document: &str) {
        if policy::check(document, Use::Identity).is_err() {
            let (actions, resources) = (Which::Everything, Which::Everything);
            return self.statements.push(Statement { allows: false, actions, resources });
        }
        self.statements.extend(statements(document).iter().filter_map(read));
    }

    /// Adds the right to do `actions` on everything.
    pub fn grant(&mut self, actions: &[&str]) {
        let actions = Which::Patterns(actions.iter().map(|action| action.to_ascii_lowercase()).collect());
        self.statements.push(Statement { allows: true, actions, resources: Which::Everything });
    }

    pub fn judge(&self, question: &Question<'_>) -> Verdict {
        let said = |allows: bool| self.statements.iter().any(|s| s.allows == allows && s.applies(question));
        if said(false) {
            Verdict::Denied
        } else if said(true) {
            Verdict::Allowed
        } else {
            Verdict::Unmentioned
        }
    }
}

impl Statement {
    fn applies(&self, question: &Question<'_>) -> bool {
        let action = question.action.to_ascii_lowercase();
        let named = match &self.actions {
            Which::Everything => true,
            Which::Patterns(patterns) => patterns.iter().any(|p| matches(p.as_bytes(), action.as_bytes(), false)),
        };
        named && self.covers(question.resource)
    }

    fn covers(&self, resource: &str) -> bool {
        match &self.resources {
            Which::Everything => true,
            // Roles are asked about without their paths, so that a pattern with one can't be compared.
            Which::Patterns(_) if !self.allows && resource.starts_with("arn:aws:iam:") => true,
            Which::Patterns(patterns) => {
                patterns.iter().any(|p| matches(p.as_bytes(), resource.as_bytes(), self.allows))
            }
        }
    }
}

/// Whether `trust`, the trust policy of a role of account `account`, lets a session of the role `role` (an ARN) with the ARN
/// `session` assume it. Statements that deny apply to everyone.
///
/// Reference: IAM User Guide, "AWS JSON policy elements: Principal".
pub(crate) fn trusts(trust: &str, account: &str, role: &str, session: &str) -> bool {
    if policy::check(trust, Use::Trust).is_err() {
        return false;
    }
    let root = format!("arn:aws:iam::{account}:root");
    let is_named = |who: &str| [account, &root, role, session, "*"].contains(&who);
    let assumes = |s: &Map<String, Value>| {
        let named = |action: &String| matches(action.to_ascii_lowercase().as_bytes(), b"sts:assumerole", false);
        texts(s.get("Action")).map(|actions| actions.iter().any(named))
    };
    let mut trusted = false;
    for statement in &statements(trust) {
        let allows = statement.get("Effect").and_then(Value::as_str) == Some("Allow");
        if !allows && assumes(statement) != Some(false) {
            return false;
        }
        let names = match statement.get("Principal") {
            Some(Value::String(_)) => true,
            Some(Value::Object(kinds)) => texts(kinds.get("AWS")).is_some_and(|all| all.iter().any(|w| is_named(w))),
            _ => false,
        };
        trusted |= allows && names && assumes(statement) == Some(true) && !statement.contains_key("Condition");
    }
    trusted
}

/// The statements of a document that is well-formed.
fn statements(document: &str) -> Vec<Map<String, Value>> {
    let policy: Value = serde_json::from_str(document).unwrap_or_default();
    match policy.get("Statement") {
        Some(Value::Object(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(|one| one.as_object().cloned()).collect(),
        _ => Vec::new(),
    }
}

/// `None` if the statement says nothing: an allowance that is not understood.
fn read(statement: &Map<String, Value>) -> Option<Statement> {
    let allows = statement.get("Effect").and_then(Value::as_str) == Some("Allow");
    let actions = texts(statement.get("Action")).map(|all| all.iter().map(|a| a.to_ascii_lowercase()).collect());
    let resources = texts(statement.get("Resource")).filter(|all| !all.iter().any(|r| r.contains("${")));
    if allows {
        let plain = ["Condition", "NotAction", "NotResource", "Principal", "NotPrincipal"];
        let understood = !plain.iter().any(|key| statement.contains_key(*key));
        let (actions, resources) = (Which::Patterns(actions?), Which::Patterns(resources?));
        return understood.then_some(Statement { allows, actions, resources });
    }
    // An incomplete ARN stands for more than it names.
    let whole = |all: &Vec<String>| all.iter().all(|r| r == "*" || r.split(':').count() >= 6);
    Some(Statement {
        allows,
        actions: actions.map_or(Which::Everything, Which::Patterns),
        resources: resources.filter(whole).map_or(Which::Everything, Which::Patterns),
    })
}

/// A text or a list of texts.
fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    match value? {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Whether `pattern` (`*`: any text, `?`: any character) is all of `text`. In `segments`, `?` is no colon, and `*` goes beyond a colon
/// only at the end of a segment.
fn matches(pattern: &[u8], text: &[u8], segments: bool) -> bool {
    // Which beginnings of the text the pattern so far can be.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for (at, &wanted) in pattern.iter().enumerate() {
        if wanted == b'*' {
            let goes_on = !segments || matches!(pattern.get(at + 1), None | Some(b':' | b'*'));
            for (n, &byte) in text.iter().enumerate() {
                reached[n + 1] |= reached[n] && (goes_on || byte != b':');
            }
            continue;
        }
        let mut any = false;
        for (n, &byte) in text.iter().enumerate().rev() {
            let fits = wanted == byte || (wanted == b'?' && !(segments && byte == b':'));
            reached[n + 1] = reached[n] && fits;
            any |= reached[n + 1];
        }
        reached[0] = false;
        if !any {
            return false;
        }
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: &str = "arn:aws:sqs:us-east-1:111111111111:orders";

    fn judge(documents: &[&str], action: &str, resource: &str) -> Verdict {
        let mut rights = Rights::default();
        documents.iter().for_each(|document| rights.add(document));
        rights.judge(&Question { action, resource })
    }

    fn policy(statement: &str) -> String {
        format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
    }

    /// The verdict on `sqs:SendMessage` on a queue, beside a statement that allows all.
    fn beside_all(statement: &str) -> Verdict {
        let all = policy(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#);
        judge(&[&all, &policy(statement)], "sqs:SendMessage", QUEUE)
    }

    fn alone(statement: &str) -> Verdict {
        judge(&[&policy(statement)], "sqs:SendMessage", QUEUE)
    }

    #[test]
    fn what_is_not_allowed_is_refused() {
        assert_eq!(judge(&[], "sqs:SendMessage", QUEUE), Verdict::Unmentioned);
        for good in [
            r#"{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"arn:aws:sqs:us-east-1:111111111111:orders"}"#,
            r#"{"Effect":"Allow","Action":["s3:*","SQS:sendmessage"],"Resource":["x","arn:aws:sqs:*:*:ord*"]}"#,
            r#"{"Effect":"Allow","Action":"sqs:Send*","Resource":"*"}"#,
            r#"{"Effect":"Allow","Action":"*","Resource":"arn:aws:sqs:*"}"#,
            r#"{"Effect":"Allow","Action":"sqs:SendMessag?","Resource":"arn:aws:sqs:us-east-?:111111111111:o?ders"}"#,
        ] {
            assert_eq!(alone(good), Verdict::Allowed, "{good}");
        }
        for other in [
            r#"{"Effect":"Allow","Action":"sqs:Receive*","Resource":"*"}"#,
            r#"{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"arn:aws:sqs:us-east-1:111111111111:order"}"#,
            r#"{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"arn:aws:sqs:us-east-1:111111111111:Orders"}"#,
            r#"{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"arn:aws:sqs:us-east-1:1*1s:orders"}"#,
            r#"{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"arn:aws:s*s:orders"}"#,
            r#"{"Effect":"Allow","Action":"sqs","Resource":"*"}"#,
            r#"{"Effect":"Allow","Action":"sqs:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}"#,
            r#"{"Effect":"Allow","Action":"sqs:*","Resource":"*","Condition":{}}"#,
            r#"{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}"#,
            r#"{"Effect":"Allow","Action":"sqs:*","NotResource":"arn:aws:sqs:us-east-1:111111111111:other"}"#,
            r#"{"Effect":"Allow","Action":"sqs:*","Resource":["*","arn:aws:sqs:*:*:${aws:username}"]}"#,
        ] {
            assert_eq!(alone(other), Verdict::Unmentioned, "{other}");
        }
    }

    #[test]
    fn a_denial_wins_and_what_is_not_understood_in_it_applies() {
        for deny in [
            r#"{"Effect":"Deny","Action":"sqs:SendMessage","Resource":"*"}"#,
            r#"{"Effect":"Deny","Action":"sqs:*","Resource":"arn:aws:s*s:*:*:orders"}"#,
            r#"{"Effect":"Deny","Action":"sqs:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}"#,
            r#"{"Effect":"Deny","NotAction":"sqs:SendMessage","Resource":"*"}"#,
            r#"{"Effect":"Deny","Action":"sqs:SendMessage","NotResource":"arn:aws:sqs:us-east-1:111111111111:orders"}"#,
            r#"{"Effect":"Deny","Action":"sqs:SendMessage","Resource":"arn:aws:sqs:*:*:${aws:username}"}"#,
            r#"{"Effect":"Deny","Action":"sqs:SendMessage","Resource":"arn:aws:sqs"}"#,
        ] {
            assert_eq!(beside_all(deny), Verdict::Denied, "{deny}");
        }
        for other in [
            r#"{"Effect":"Deny","Action":"sqs:ReceiveMessage","Resource":"*"}"#,
            r#"{"Effect":"Deny","Action":"sqs:*","Resource":"arn:aws:sqs:us-east-1:111111111111:other"}"#,
            r#"{"Effect":"Deny","Action":"s3:*","NotResource":"x"}"#,
            r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#,
        ] {
            assert_eq!(beside_all(other), Verdict::Allowed, "{other}");
        }
        assert_eq!(judge(&["{"], "sqs:SendMessage", QUEUE), Verdict::Denied, "a document that can't be read");
        let by_path =
            policy(r#"{"Effect":"Deny","Action":"iam:*","Resource":"arn:aws:iam::111111111111:role/admin/boss"}"#);
        let all = policy(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#);
        let boss = "arn:aws:iam::111111111111:role/boss";
        assert_eq!(judge(&[&all, &by_path], "iam:PutRolePolicy", boss), Verdict::Denied);
    }

    #[test]
    fn a_role_is_trusted_by_name_only() {
        const ROLE: &str = "arn:aws:iam::111111111111:role/r";
        const SESSION: &str = "arn:aws:sts::111111111111:assumed-role/r/s";
        let check = |statement: &str| trusts(&policy(statement), "111111111111", ROLE, SESSION);
        for good in [
            r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:role/r"},"Action":"sts:AssumeRole"}"#,
            r#"{"Effect":"Allow","Principal":{"AWS":["x","111111111111"]},"Action":"sts:*"}"#,
            r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"sts:AssumeRole"}"#,
            r#"{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}"#,
        ] {
            assert!(check(good), "{good}");
        }
        for bad in [
            r#"{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}"#,
            r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:role/other"},"Action":"sts:AssumeRole"}"#,
            r#"{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:TagSession"}"#,
            r#"{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole","Condition":{"Bool":{"x":"y"}}}"#,
            r#"{"Effect":"Allow","NotPrincipal":{"AWS":"x"},"Action":"sts:AssumeRole"}"#,
            r#"{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"},{"Effect":"Deny","Principal":{"AWS":"x"},"Action":"sts:*"}"#,
        ] {
            assert!(!check(bad), "{bad}");
        }
        assert!(!trusts("{", "111111111111", ROLE, SESSION));
    }

    /// The definition of a pattern without segments, letter by letter.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) if naive(rest, text) => true,
            (Some((b'*', _)), Some((_, tail))) => naive(pattern, tail),
            (Some((b'?', rest)), Some((_, tail))) => naive(rest, tail),
            (Some((p, rest)), Some((t, tail))) if p == t => naive(rest, tail),
            _ => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn patterns_match_what_they_should(pattern in "[ab:*?]{0,7}", text in "[ab:]{0,8}") {
            let (p, t) = (pattern.as_bytes(), text.as_bytes());
            proptest::prop_assert_eq!(matches(p, t, false), naive(p, t));
            // The narrower reading, which allows, never matches more than the wider one, which denies.
            proptest::prop_assert!(!matches(p, t, true) || matches(p, t, false));
        }

        #[test]
        fn no_document_allows_what_a_denial_names(
            document in "\\PC{0,80}",
            rest in "[\\[\\]{}\",:a-zA-Z* ]{0,60}",
        ) {
            let deny = policy(r#"{"Effect":"Deny","Action":"sqs:*","Resource":"*"}"#);
            let odd = format!(r#"{{"Statement":{{"Effect":"Allow","Action":"*","Resource":"*"{rest}}}}}"#);
            for document in [document.as_str(), odd.as_str()] {
                proptest::prop_assert_eq!(judge(&[document, &deny], "sqs:SendMessage", QUEUE), Verdict::Denied);
            }
        }
    }
}
