//! What a call does beyond its own action and resource, and has to be allowed as well.
//!
//! Without it a right to make functions would be the right to become every role, and a right to move messages the right to send
//! and receive them.
//!
//! Reference: Lambda Developer Guide, "Granting permissions to pass a role to a service" (IAM User Guide); SQS Developer Guide,
//! "Configuring queue permissions for dead-letter queue redrive".

use crate::Doc;

/// Further actions and the resources that they are about.
pub(crate) fn by(service: &str, operation: &str, input: &Doc) -> Vec<(&'static str, String)> {
    let text = |member: &str| input.text_of(member).unwrap_or("*").to_owned();
    match (service, operation) {
        ("lambda", "CreateFunction" | "UpdateFunctionConfiguration") => {
            let role = input.text_of("Role").map(str::to_owned);
            role.map(|role| ("iam:PassRole", role)).into_iter().collect()
        }
        ("sqs", "StartMessageMoveTask") => vec![
            ("sqs:ReceiveMessage", text("SourceArn")),
            ("sqs:DeleteMessage", text("SourceArn")),
            // Without a destination it is every queue that the messages came from.
            ("sqs:SendMessage", text("DestinationArn")),
        ],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(service: &str, operation: &str, members: &[(&'static str, &str)], expected: &[(&str, &str)]) {
        let doc = Doc::Map(members.iter().map(|(name, value)| ((*name).into(), Doc::from(*value))).collect());
        let found = by(service, operation, &doc);
        let found: Vec<_> = found.iter().map(|(action, resource)| (*action, resource.as_str())).collect();
        assert_eq!(found, expected, "{service}.{operation}");
    }

    #[test]
    fn roles_are_passed_and_messages_moved() {
        check("lambda", "CreateFunction", &[("Role", "r")], &[("iam:PassRole", "r")]);
        check("lambda", "UpdateFunctionConfiguration", &[], &[]);
        check("lambda", "Invoke", &[("Role", "r")], &[]);
        let all = [("sqs:ReceiveMessage", "a"), ("sqs:DeleteMessage", "a"), ("sqs:SendMessage", "*")];
        check("sqs", "StartMessageMoveTask", &[("SourceArn", "a")], &all);
    }
}
