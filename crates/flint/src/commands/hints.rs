//! What to do about a call that failed, by the error that ended it.

use flint_dev::Client;
use flint_dev::client::lambda::FunctionConfiguration;
use flint_dev::{Endpoint, Source};
use flint_model::function::FunctionRef;
use serde_json::Value;

use crate::ui::Advised;

/// Functions that are named when another one was asked for.
const NAMED_MAX: usize = 10;

/// What an error document says.
#[derive(Debug, Default)]
pub(super) struct Cause {
    kind: String,
    message: String,
    /// Where a syntax error is, if only the trace tells.
    place: Option<String>,
    /// The place in the function's own code from which the error came: `app.py:7`.
    frame: Option<String>,
}

impl Cause {
    pub(super) fn read(document: &[u8]) -> Self {
        let document: Value = serde_json::from_slice(document).unwrap_or_default();
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        let first = document.get("trace").and_then(|trace| trace.get(0)).and_then(Value::as_str).unwrap_or_default();
        let is_line = first.rsplit_once(':').is_some_and(|(_, line)| line.parse::<u32>().is_ok());
        let place = is_line.then(|| first.trim_start_matches("file://").trim_start_matches("/var/task/").to_owned());
        let frames =
            |key: &str| document.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        // Python tells the innermost frame last, Node first.
        let frame =
            frames("stackTrace").filter_map(own_frame).next_back().or_else(|| frames("trace").find_map(own_frame));
        Self { kind: text("errorType"), message: text("errorMessage"), place, frame }
    }

    /// In a few words. `function` is what was called, if it is known.
    pub(super) fn text(&self, function: Option<&FunctionConfiguration>) -> String {
        let mut text = match (self.kind.as_str(), function) {
            ("", _) => self.message.clone(),
            ("Runtime.OutOfMemory", Some(f)) => format!("{}: it needed more than {} MB", self.kind, f.memory_size),
            (kind, _) => format!("{kind}: {}", self.message),
        };
        match (&self.place, &self.frame) {
            (Some(place), _) if self.kind == "Runtime.UserCodeSyntaxError" => text.push_str(&format!(" ({place})")),
            (_, Some(frame)) => text.push_str(&format!(" (at {frame})")),
            _ => {}
        }
        text
    }

    /// The next step. `name` is how the function was called, `request` the call's id.
    pub(super) fn hint(&self, name: &str, request: Option<&str>, function: Option<&FunctionConfiguration>) -> String {
        let logs = match request {
            Some(id) => format!("flint logs {name} --request {id}"),
            None => format!("flint logs {name}"),
        };
        let now = |what: fn(&FunctionConfiguration) -> String| {
            function.map_or(String::new(), |f| format!(" (it is {} now)", what(f)))
        };
        let has = |words: &[&str]| words.iter().any(|word| self.message.contains(word));
        match self.kind.as_str() {
            "Runtime.ImportModuleError" => self.missing_module(),
            "Sandbox.Timedout" => format!(
                "timeout = \"10 s\" in flint.toml{}, then flint deploy; {logs} shows how far it came; functions have no \
                 outbound network, so that a call to elsewhere hangs",
                now(|f| format!("{} s", f.timeout))
            ),
            "Runtime.OutOfMemory" => {
                let more = function.map_or(256, |f| (f.memory_size * 2).min(10_240));
                let now = now(|f| format!("{} MiB", f.memory_size));
                format!("memory = \"{more} MiB\" in flint.toml{now}, then flint deploy")
            }
            "Runtime.HandlerNotFound" | "Runtime.MalformedHandlerName" => format!(
                "handler = \"FILE.FUNCTION\" in flint.toml{}, as the function is called in the file, then flint deploy",
                now(|f| f.handler.clone().unwrap_or_default())
            ),
            "Runtime.UserCodeSyntaxError" => "mend the line that it names, then flint deploy".into(),
            "Runtime.MarshalError" => {
                "return what JSON can hold: text, numbers, lists and dicts; str(...) or isoformat() for the rest".into()
            }
            "Function.ResponseSizeTooLarge" => {
                "answer less than 6 MB, or stream the answer: `flint invoke --stream`".into()
            }
            _ if has(&[
                "name resolution",
                "Name or service not known",
                "is unreachable",
                "ENOTFOUND",
                "EAI_AGAIN",
                "ENETUNREACH",
            ]) =>
            {
                "functions have no outbound network yet: pass what it needs in the event, or put it in the package"
                    .into()
            }
            _ if has(&["Read-only file system", "EROFS"]) => "code and root are read-only: write to /tmp".into(),
            _ => logs,
        }
    }

    /// The module that is missing, and where it should be said.
    fn missing_module(&self) -> String {
        let quoted = |after: &str| self.message.split_once(after).and_then(|(_, rest)| rest.split('\'').next());
        let own = quoted("Unable to import module '");
        match (quoted("No module named '"), quoted("Cannot find package '")) {
            (Some(module), _) if own != Some(module) => {
                let package = module.split('.').next().unwrap_or(module);
                format!("put {package} (or what PyPI calls it) in requirements.txt, then flint deploy")
            }
            (None, Some(package)) => format!("npm install {package}, which writes package.json, then flint deploy"),
            _ => "handler = \"FILE.FUNCTION\" in flint.toml names the file; requirements.txt or package.json, what it imports; \
                  then flint deploy"
                .into(),
        }
    }
}

/// File and line of a frame in the function's own code: `  File "/var/task/app.py", line 7, in handler` or
/// `    at handler (file:///var/task/index.mjs:11:27)`.
fn own_frame(frame: &str) -> Option<String> {
    let (_, rest) = frame.split_once("/var/task/")?;
    if let Some((file, line)) = rest.split_once("\", line ") {
        let line: String = line.chars().take_while(char::is_ascii_digit).collect();
        return (!file.contains("site-packages")).then(|| format!("{file}:{line}"));
    }
    let mut parts = rest.split(')').next()?.split(':');
    let (file, line) = (parts.next()?, parts.next()?);
    (!file.contains("node_modules")).then(|| format!("{file}:{line}"))
}

/// An error with what is deployed, if the function that was asked for is not.
pub(super) async fn advised(client: &Client, function: &str, error: flint_dev::Error) -> anyhow::Error {
    if !error.is_not_found() {
        return error.into();
    }
    let target = client.target();
    let message = format!("{error}; asked {}{}", target.endpoint, target.source);
    let asked = function.parse::<FunctionRef>().ok();
    if let Some(name) = asked.as_ref().filter(|f| f.qualifier.is_some()).map(|f| f.name.to_string())
        && let (Ok(versions), Ok(aliases)) = (client.versions(&name).await, client.aliases(&name).await)
    {
        return Advised { message, hint: qualified(&name, &versions, &aliases) }.into();
    }
    let known = client.function_stats(None).await.map(|list| list.functions).unwrap_or_default();
    let names: Vec<&str> = known.iter().map(|f| f.function_name.as_str()).collect();
    let asked = asked.map_or_else(|| function.to_owned(), |f| f.name.to_string());
    let mut hint = other(&asked, &names);
    if let Source::Variable { instead_of: Some((dir, there)) } = &target.source {
        hint = format!("{}; {hint}", elsewhere(dir, there));
    }
    Advised { message, hint }.into()
}

/// The server of a usual data directory was passed over for the one that a variable names.
fn elsewhere(dir: &std::path::Path, there: &Endpoint) -> String {
    let dir = dir.display();
    format!("{dir} names another server, {there}: --data {dir} or `unset AWS_ENDPOINT_URL` takes that one")
}

/// What a function has, for whoever asked for a version or alias that it does not have.
fn qualified(name: &str, versions: &[String], aliases: &[String]) -> String {
    let or_none = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    format!("{name} has the versions {} and the aliases {}", or_none(versions), or_none(aliases))
}

fn other(asked: &str, names: &[&str]) -> String {
    if let Some(near) = nearest(asked, names) {
        return format!("did you mean {near}? `flint list` shows all");
    }
    match names {
        [] => "no function is deployed; `flint deploy DIR` deploys one".to_owned(),
        names => {
            let shown = names[..names.len().min(NAMED_MAX)].join(", ");
            let more = if names.len() > NAMED_MAX { " and more (`flint list`)" } else { "" };
            format!("there are {shown}{more}; `flint deploy DIR` deploys another")
        }
    }
}

/// The name that differs least, if that is in a third of its letters at most.
fn nearest<'a>(asked: &str, names: &[&'a str]) -> Option<&'a str> {
    let (distance, name) = names.iter().map(|name| (distance(asked, name), *name)).min()?;
    (distance <= asked.chars().count().max(3) / 3).then_some(name)
}

/// Letters to insert, delete or replace to make one of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, message: &str, hint: &str) {
        let document = serde_json::json!({ "errorType": kind, "errorMessage": message });
        let cause = Cause::read(document.to_string().as_bytes());
        let f = FunctionConfiguration { memory_size: 128, timeout: 3, ..Default::default() };
        let said = cause.hint("f", Some("1-2"), Some(&f));
        assert!(said.contains(hint), "{kind}: {said}");
    }

    #[test]
    fn the_place_in_ones_own_code_is_named() {
        for (document, expected) in [
            (
                r#"{"errorType":"KeyError","errorMessage":"x","stackTrace":["  File \"/var/task/app.py\", line 7, in handler\n    a\n",
                   "  File \"/var/task/site-packages/lib.py\", line 1, in f\n"]}"#,
                "KeyError: x (at app.py:7)",
            ),
            (
                r#"{"errorType":"TypeError","errorMessage":"x","trace":["TypeError: x","    at f (/var/task/node_modules/a/b.js:1:2)",
                   "    at handler (file:///var/task/index.mjs:11:27)","    at run (/var/runtime/bootstrap.cjs:1:1)"]}"#,
                "TypeError: x (at index.mjs:11)",
            ),
            (r#"{"errorType":"E","errorMessage":"x","stackTrace":[]}"#, "E: x"),
        ] {
            assert_eq!(Cause::read(document.as_bytes()).text(None), expected);
        }
    }

    #[test]
    fn each_end_has_its_next_step() {
        let python = "Unable to import module 'app': No module named 'PIL.Image'";
        check("Runtime.ImportModuleError", python, "put PIL (or what PyPI calls it) in requirements.txt");
        let own = "Unable to import module 'app': No module named 'app'";
        check("Runtime.ImportModuleError", own, "handler = \"FILE.FUNCTION\"");
        let node = "Error: Cannot find package 'sharp' imported from /var/task/index.mjs";
        check("Runtime.ImportModuleError", node, "npm install sharp");
        check("Sandbox.Timedout", "", "timeout = \"10 s\" in flint.toml (it is 3 s now)");
        check("Runtime.OutOfMemory", "", "memory = \"256 MiB\" in flint.toml (it is 128 MiB now)");
        check("Runtime.HandlerNotFound", "", "handler = \"FILE.FUNCTION\"");
        check("Runtime.MarshalError", "", "JSON can hold");
        check("gaierror", "[Errno -3] Temporary failure in name resolution", "no outbound network");
        check("OSError", "[Errno 30] Read-only file system: '/x'", "write to /tmp");
        check("ValueError", "no", "flint logs f --request 1-2");
    }

    #[test]
    fn names_the_cause() {
        let text = |document: &str, memory_size| {
            let f = FunctionConfiguration { memory_size, ..Default::default() };
            Cause::read(document.as_bytes()).text(Some(&f))
        };
        assert_eq!(text(r#"{"errorType":"ValueError","errorMessage":"bad\nnews"}"#, 1), "ValueError: bad news");
        assert_eq!(text("not json", 1), "");
        let oom = r#"{"errorType":"Runtime.OutOfMemory","errorMessage":"RequestId: x Error: Runtime exited"}"#;
        assert_eq!(text(oom, 128), "Runtime.OutOfMemory: it needed more than 128 MB");
        let syntax = r#"{"errorType":"Runtime.UserCodeSyntaxError","errorMessage":"SyntaxError: Unexpected token",
                         "trace":["/var/task/index.mjs:2","  return {"]}"#;
        assert_eq!(text(syntax, 1), "Runtime.UserCodeSyntaxError: SyntaxError: Unexpected token (index.mjs:2)");
    }

    #[test]
    fn the_nearest_name_is_meant() {
        let names = ["hello", "thumbnail", "orders"];
        assert_eq!(nearest("helo", &names), Some("hello"));
        assert_eq!(nearest("thumbnial", &names), Some("thumbnail"));
        assert_eq!(nearest("f", &names), None);
        assert_eq!(nearest("mails", &names), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert!(other("x", &names).contains("there are hello, thumbnail, orders;"));
        let (versions, aliases) = (["$LATEST".to_owned(), "1".to_owned()], ["live".to_owned()]);
        assert_eq!(qualified("f", &versions, &aliases), "f has the versions $LATEST, 1 and the aliases live");
    }
}
