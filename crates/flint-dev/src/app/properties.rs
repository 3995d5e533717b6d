//! `flint.toml`, templates and exclude patterns: any text is an app or an error that a person can read.

use std::fs;

use proptest::prelude::*;

use super::pattern::Pattern;
use super::{file, template};

/// Text made of the pieces that such files have.
fn text(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![4 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => "\\PC{0,6}"];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

const TOML: &[&str] = &[
    "name",
    "handler",
    "memory",
    "timeout",
    "environment",
    "functions",
    "exclude",
    " = ",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ".",
    ",",
    "\n",
    "\"512 MiB\"",
    "\"10 s\"",
    "-1",
    "99999999999999999999",
    "true",
    "#",
    "\\u0000",
];

const YAML: &[&str] = &[
    "Resources:",
    "Globals:",
    "F:",
    "Type: AWS::Serverless::Function",
    "Properties:",
    "CodeUri: .",
    "Handler: a.b",
    "Runtime: python3.11",
    "Environment:",
    "Variables:",
    "\n",
    "\n  ",
    "\n    ",
    "\n      ",
    "- ",
    "!Ref x",
    "&a ",
    "*a",
    "<<: ",
    "{",
    "}",
    "[",
    "]",
    "|",
    ">",
    "? ",
    ": ",
    "\"",
    "'",
    "#",
    "---\n",
    "%YAML 1.2\n",
    "\t",
];

proptest! {
    #[test]
    fn any_text_is_an_app_or_an_error(toml in text(TOML), yaml in text(YAML), name in "[a-z:]{0,6}") {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("flint.toml"), &toml).expect("writes");
        if let Err(error) = file::read(dir.path()) {
            prop_assert!(error.to_string().contains("flint.toml"), "{}", error);
        }
        for yaml in [yaml.clone(), format!("Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      {name}: {yaml}")] {
            let path = dir.path().join("template.yaml");
            fs::write(&path, &yaml).expect("writes");
            if let Ok(apps) = template::read(&path) {
                prop_assert!(!apps.is_empty());
            }
        }
    }

    #[test]
    fn any_pattern_matches_or_is_refused(pattern in "[]*?\\[a-b/!.\\\\{} ]{0,12}", path in "[a-b/. ]{0,12}", folder in any::<bool>()) {
        if let Ok(pattern) = pattern.parse::<Pattern>() {
            let _ = pattern.matches(&path, folder);
        }
    }
}
