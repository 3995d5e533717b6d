//! `flint runtime`: the runtimes that the server has.

use std::process::ExitCode;

use flint_dev::client::platform::RuntimeInfo;

use crate::cli::{Runtime, RuntimeCommand};
use crate::surroundings::data_of_up;
use crate::ui::{self, Advised};

pub(super) async fn run(flags: Runtime) -> anyhow::Result<ExitCode> {
    match flags.command {
        RuntimeCommand::List { json, server } => {
            let runtimes = super::client(&server)?.runtimes().await?;
            if json {
                ui::json(&runtimes)?;
                return Ok(ExitCode::SUCCESS);
            }
            let or_dash = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "-".into());
            let rows: Vec<_> =
                runtimes.into_iter().map(|r| [r.identifier, or_dash(r.version), or_dash(r.source)]).collect();
            ui::table(["RUNTIME", "VERSION", "FROM"], &rows)?;
        }
        RuntimeCommand::Add { folder, data } => {
            let data = data.unwrap_or_else(data_of_up);
            let added = flint_server::runtimes::add(&data, &folder)?;
            let found = added.found.iter().map(|(identifier, version)| format!("{identifier} ({version})"));
            let (found, path) = (found.collect::<Vec<_>>().join(", "), added.path.display());
            let verb = if added.is_new { "added" } else { "was added before:" };
            ui::line(format_args!(
                "{verb} {found} in {path}; the server of {} takes it at its next start",
                data.display()
            ))?;
        }
        RuntimeCommand::Explain { identifier, server } => {
            let runtimes = super::client(&server)?.runtimes().await?;
            for fact in explain(&identifier, &runtimes)? {
                ui::line(fact)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What an identifier means on this server, in lines.
fn explain(identifier: &str, runtimes: &[RuntimeInfo]) -> Result<Vec<String>, Advised> {
    if identifier == "provided" || identifier.starts_with("provided.") {
        return Ok(vec![
            format!(
                "{identifier} runs the executable file `bootstrap` of the package, which speaks the Lambda Runtime API"
            ),
            "`flint deploy` builds it from a Cargo.toml or a go.mod; every host can run it".into(),
        ]);
    }
    let Some(language) = Language::of(identifier) else {
        let message = format!("{identifier} is no runtime that Flint knows");
        return Err(Advised {
            message,
            hint: "pythonX.Y, nodejsX.x, or provided.al2023 with a program of your own".into(),
        });
    };
    if let Some(found) = runtimes.iter().find(|r| r.identifier == identifier) {
        let version = found.version.as_deref().unwrap_or_default();
        let source = found.source.as_deref().unwrap_or("the host");
        return Ok(vec![
            format!("{identifier} is {} {version} from {source}", language.name),
            format!("handlers: {}", language.handlers),
            "a later patch of the same version in one of the usual places is taken at the server's next start".into(),
        ]);
    }
    let mut others: Vec<(&str, u32)> =
        runtimes.iter().filter_map(|r| Some((r.identifier.as_str(), language.number(&r.identifier)?))).collect();
    others.sort_by_key(|(_, number)| *number);
    let wanted = language.number(identifier).unwrap_or_default();
    // As the server does in dev mode: the next later one, else the last.
    let nearest = others.iter().find(|(_, number)| *number > wanted).or(others.last()).map(|(name, _)| *name);
    let has = match others.as_slice() {
        [] => format!("no {} at all", language.name),
        all => all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
    };
    let place = format!(
        "install it in {}, or name its folder with `flint runtime add`, and start the server again",
        language.places
    );
    Err(Advised {
        message: format!("this server does not have {identifier}: it has {has}"),
        hint: match nearest {
            Some(nearest) => format!("{place}; or say runtime = \"{nearest}\", which `flint dev` takes in its place"),
            None => place,
        },
    })
}

struct Language {
    name: &'static str,
    before: &'static str,
    after: &'static str,
    handlers: &'static str,
    places: &'static str,
}

const LANGUAGES: [Language; 2] = [
    Language {
        name: "Python",
        before: "python3.",
        after: "",
        handlers: "FILE.FUNCTION, such as app.handler for `def handler(event, context)` in app.py",
        places: "/usr, /usr/local, or by pyenv, uv, mise, asdf or conda",
    },
    Language {
        name: "Node.js",
        before: "nodejs",
        after: ".x",
        handlers: "FILE.EXPORT, such as index.handler for `export const handler` in index.mjs",
        places: "/usr, /usr/local, or by nvm, fnm, volta, mise, asdf or n",
    },
];

impl Language {
    fn of(identifier: &str) -> Option<&'static Language> {
        LANGUAGES.iter().find(|language| language.number(identifier).is_some())
    }

    fn number(&self, identifier: &str) -> Option<u32> {
        identifier.strip_prefix(self.before)?.strip_suffix(self.after)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(identifier: &str, part: &str) {
        let has = ["python3.11", "python3.13", "provided.al2023"];
        let runtimes: Vec<_> =
            has.iter().map(|i| RuntimeInfo { identifier: (*i).into(), ..Default::default() }).collect();
        let said = match explain(identifier, &runtimes) {
            Ok(lines) => lines.join("\n"),
            Err(e) => format!("{} / {}", e.message, e.hint),
        };
        assert!(said.contains(part), "{identifier}: {said}");
    }

    #[test]
    fn explains_what_is_there_and_what_is_not() {
        check("python3.11", "python3.11 is Python");
        check("python3.12", "it has python3.11, python3.13 / install it in");
        check("python3.12", "runtime = \"python3.13\"");
        check("python3.14", "runtime = \"python3.13\"");
        check("nodejs20.x", "no Node.js at all");
        check("provided.al2023", "`bootstrap`");
        check("java21", "no runtime that Flint knows");
    }
}
