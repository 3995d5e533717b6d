//! Every name that callers write: any text is taken or refused, and what is taken reads back the same.

use proptest::prelude::*;

use crate::arn::{Arn, is_role_arn};
use crate::{AccountId, FunctionName, FunctionRef, Qualifier, Region};

/// Text with the pieces that names are made of.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "arn",
            ":",
            "aws",
            "lambda",
            "iam",
            "us-east-1",
            "000000000000",
            "function",
            "role/",
            "$LATEST",
            "f",
            "1",
            "/",
            "..",
            "\0",
            "\n",
            "é",
            "99999999999999999999",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// No name leads out of a path, breaks a line or a key.
fn is_harmless(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
}

proptest! {
    #[test]
    fn names_and_arns_are_taken_or_refused(text in text()) {
        if let Ok(name) = text.parse::<FunctionName>() {
            prop_assert!(is_harmless(name.as_str()) && name.as_str() == text);
        }
        if let Ok(qualifier) = text.parse::<Qualifier>() {
            prop_assert!(is_harmless(&qualifier.to_string()));
            prop_assert_eq!(qualifier.to_string().parse::<Qualifier>().expect("legal"), qualifier);
        }
        if let Ok(function) = text.parse::<FunctionRef>() {
            prop_assert!(is_harmless(function.name.as_str()));
        }
        if let Ok(arn) = text.parse::<Arn>() {
            prop_assert_eq!(arn.to_string(), text.as_str());
        }
        if let Ok(account) = text.parse::<AccountId>() {
            prop_assert!(account.as_str().len() == 12 && is_harmless(account.as_str()));
        }
        if let Ok(region) = text.parse::<Region>() {
            prop_assert!(is_harmless(region.as_str()));
        }
        if is_role_arn(&text) {
            prop_assert!(text.is_ascii() && text.starts_with("arn:aws"));
        }
    }
}
