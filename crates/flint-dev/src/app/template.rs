//! A minimal `template.yaml`: functions with plain properties. Everything else in it is refused by its name, so that
//! nothing is left out in silence.
//!
//! Reference: SAM specification, `AWS::Serverless::Function`; CloudFormation, `AWS::Lambda::Function`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};

use super::{App, Said};
use crate::Error;

const TRANSFORM: &str = "AWS::Serverless-2016-10-31";

/// What stands where, for messages: `Resources.Hello.Properties.Runtime`.
struct Node<'a> {
    path: String,
    yaml: &'a Yaml<'a>,
}

/// What is wrong with a template; all of it, not only the first.
#[derive(Default)]
struct Refused(Vec<String>);

/// Reads every function of a template, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<App>, Error> {
    let settings = |reason: String| Error::Settings { path: path.to_owned(), reason };
    let text = fs::read_to_string(path).map_err(Error::file(path))?;
    let documents = Yaml::load_from_str(&text).map_err(|e| settings(format!("is not YAML: {e}")))?;
    let [document] = documents.as_slice() else { return Err(settings("holds no template".into())) };
    let mut refused = Refused::default();
    let found = functions(document, &mut refused);
    if !refused.0.is_empty() {
        return Err(settings(format!("not served: {}", refused.0.join(", "))));
    }
    if found.is_empty() {
        return Err(settings("holds no function".into()));
    }
    let base = path.parent().unwrap_or(Path::new("."));
    let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
    found.into_iter().map(|(code, said)| App::new(&base.join(code), said, None)).collect()
}

/// The folder of each function's code and what is said of it.
fn functions(document: &Yaml<'_>, refused: &mut Refused) -> Vec<(String, Said)> {
    let root = Node { path: String::new(), yaml: document };
    let mut found = Vec::new();
    let mut globals = Properties::default();
    let mut resources = Vec::new();
    for (key, node) in root.entries(refused) {
        match key.as_str() {
            "AWSTemplateFormatVersion" | "Description" => {}
            "Transform" if node.text().as_deref() == Some(TRANSFORM) => {}
            "Globals" => {
                for (key, node) in node.entries(refused) {
                    match key.as_str() {
                        "Function" => globals = Properties::read(&node, refused),
                        _ => refused.name(&node),
                    }
                }
            }
            "Resources" => resources = node.entries(refused),
            _ => refused.name(&node),
        }
    }
    for (id, resource) in resources {
        let mut kind = None;
        let mut properties = Properties::default();
        for (key, node) in resource.entries(refused) {
            match key.as_str() {
                "Type" => kind = node.text(),
                "Properties" => properties = Properties::read(&node, refused),
                _ => refused.name(&node),
            }
        }
        match kind.as_deref() {
            Some("AWS::Serverless::Function" | "AWS::Lambda::Function") => {
                found.push(properties.over(&globals).said(&id));
            }
            Some(other) => refused.0.push(format!("{} ({other})", resource.path)),
            None => refused.0.push(format!("{} has no Type", resource.path)),
        }
    }
    found
}

#[derive(Clone, Debug, Default)]
struct Properties {
    texts: BTreeMap<String, String>,
    numbers: BTreeMap<String, u32>,
    variables: BTreeMap<String, String>,
}

impl Properties {
    fn read(node: &Node<'_>, refused: &mut Refused) -> Self {
        let mut all = Self::default();
        for (key, node) in node.entries(refused) {
            let text = node.text();
            match (key.as_str(), text) {
                ("CodeUri" | "Code" | "Handler" | "Runtime" | "FunctionName" | "Role", Some(text)) => {
                    all.texts.insert(if key == "Code" { "CodeUri".into() } else { key }, text);
                }
                ("MemorySize" | "Timeout", Some(text)) => match text.parse() {
                    Ok(number) if in_range(&key, number) => drop(all.numbers.insert(key, number)),
                    _ => refused.0.push(format!("{}: {text}", node.path)),
                },
                ("PackageType", Some(text)) if text == "Zip" => {}
                ("Architectures", _) if node.is_list_of("x86_64") => {}
                ("Environment", None) => {
                    for (key, node) in node.entries(refused) {
                        match key.as_str() {
                            "Variables" => all.variables = node.texts(refused),
                            _ => refused.name(&node),
                        }
                    }
                }
                _ => refused.name(&node),
            }
        }
        all
    }

    fn over(mut self, globals: &Self) -> Self {
        for (key, value) in &globals.texts {
            self.texts.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for (key, value) in &globals.numbers {
            self.numbers.entry(key.clone()).or_insert(*value);
        }
        for (key, value) in &globals.variables {
            self.variables.entry(key.clone()).or_insert_with(|| value.clone());
        }
        self
    }

    fn said(mut self, id: &str) -> (String, Said) {
        let code = self.texts.remove("CodeUri").unwrap_or_else(|| ".".into());
        let said = Said {
            name: Some(self.texts.remove("FunctionName").unwrap_or_else(|| id.to_owned())),
            handler: self.texts.remove("Handler"),
            runtime: self.texts.remove("Runtime"),
            memory_mb: self.numbers.get("MemorySize").copied(),
            timeout_s: self.numbers.get("Timeout").copied(),
            environment: self.variables,
            role: self.texts.remove("Role"),
            ..Said::default()
        };
        (code, said)
    }
}

fn in_range(key: &str, number: u32) -> bool {
    if key == "Timeout" { (1..=900).contains(&number) } else { (128..=10_240).contains(&number) }
}

impl<'a> Node<'a> {
    /// What a mapping holds. Anything else is refused.
    fn entries(&self, refused: &mut Refused) -> Vec<(String, Node<'a>)> {
        let Yaml::Mapping(mapping) = self.yaml else {
            refused.name(self);
            return Vec::new();
        };
        let entry = |(key, yaml): (&Yaml<'a>, &'a Yaml<'a>)| {
            let key = text_of(key).unwrap_or_else(|| "?".into());
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            (key, Node { path, yaml })
        };
        mapping.iter().map(entry).collect()
    }

    fn text(&self) -> Option<String> {
        text_of(self.yaml)
    }

    fn texts(&self, refused: &mut Refused) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (key, node) in self.entries(refused) {
            match node.text() {
                Some(text) => drop(texts.insert(key, text)),
                None => refused.name(&node),
            }
        }
        texts
    }

    fn is_list_of(&self, only: &str) -> bool {
        matches!(self.yaml, Yaml::Sequence(items) if items.iter().all(|i| text_of(i).as_deref() == Some(only)))
    }
}

/// Plain values as CloudFormation takes them: as text. A float has lost how it was written, so it has to be quoted.
fn text_of(yaml: &Yaml<'_>) -> Option<String> {
    match yaml {
        Yaml::Value(Scalar::String(text)) => Some(text.to_string()),
        Yaml::Value(Scalar::Integer(number)) => Some(number.to_string()),
        Yaml::Value(Scalar::Boolean(value)) => Some(value.to_string()),
        _ => None,
    }
}

impl Refused {
    /// Names what is there, with its intrinsic function if it is one.
    fn name(&mut self, node: &Node<'_>) {
        let what = match node.yaml {
            Yaml::Tagged(tag, _) => format!("{} (!{})", node.path, tag.suffix),
            Yaml::Mapping(mapping) if mapping.len() == 1 => {
                let key = mapping.iter().next().and_then(|(key, _)| text_of(key)).unwrap_or_default();
                let is_intrinsic = key == "Ref" || key.starts_with("Fn::");
                if is_intrinsic { format!("{} ({key})", node.path) } else { node.path.clone() }
            }
            _ => node.path.clone(),
        };
        self.0.push(if what.is_empty() { "what is no mapping".into() } else { what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apps(template: &str) -> Result<Vec<App>, String> {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["orders", "mails"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
            fs::write(dir.path().join(sub).join("app.py"), "def handler(e, c): pass\n").unwrap();
        }
        let path = dir.path().join("template.yaml");
        fs::write(&path, template).unwrap();
        read(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn functions_with_plain_properties_are_read() {
        let apps = apps(
            "AWSTemplateFormatVersion: '2010-09-09'\nTransform: AWS::Serverless-2016-10-31\n\
             Globals:\n  Function:\n    Runtime: python3.12\n    Timeout: 7\n    Environment: {Variables: {A: 1}}\n\
             Resources:\n  Orders:\n    Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: orders/\n      \
             Handler: app.handler\n      MemorySize: 256\n      Architectures: [x86_64]\n      \
             Environment:\n        Variables:\n          B: yes\n\
             \x20 Mails:\n    Type: AWS::Lambda::Function\n    Properties:\n      Code: mails\n      FunctionName: mailer\n      \
             Role: arn:aws:iam::000000000000:role/r\n      Timeout: 9\n",
        )
        .unwrap();
        let [orders, mails] = apps.as_slice() else { panic!() };
        assert_eq!((orders.name.as_str(), orders.memory_mb, orders.timeout_s), ("Orders", 256, 7));
        assert_eq!((orders.environment["A"].as_str(), orders.environment["B"].as_str()), ("1", "yes"));
        assert_eq!((mails.name.as_str(), mails.handler.as_str(), mails.timeout_s), ("mailer", "app.handler", 9));
        assert!(mails.role.is_some());
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let resource = |body: &str| {
            format!(
                "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: orders\n{body}"
            )
        };
        for (template, names) in [
            (resource("      Events: {Api: {Type: Api}}\n"), vec!["Resources.F.Properties.Events"]),
            (resource("      Handler: !Ref H\n"), vec!["Resources.F.Properties.Handler (!Ref)"]),
            (resource("      Role: {'Fn::GetAtt': [R, Arn]}\n"), vec!["Resources.F.Properties.Role (Fn::GetAtt)"]),
            (resource("      Timeout: 901\n"), vec!["Resources.F.Properties.Timeout: 901"]),
            (resource("      Architectures: [arm64]\n"), vec!["Architectures"]),
            (resource("    DependsOn: X\nOutputs: {}\n"), vec!["Resources.F.DependsOn", "Outputs"]),
            ("Resources: {Q: {Type: 'AWS::SQS::Queue'}}".into(), vec!["Resources.Q (AWS::SQS::Queue)"]),
            ("Resources: {Q: {}}".into(), vec!["Resources.Q has no Type"]),
            ("[1]".into(), vec!["no mapping"]),
            ("Resources: {}".into(), vec!["no function"]),
            ("a: b: c".into(), vec!["not YAML"]),
            (String::new(), vec!["no template"]),
        ] {
            let error = apps(&template).unwrap_err();
            assert!(names.iter().all(|n| error.contains(n)), "{template}: {error}");
        }
    }
}
