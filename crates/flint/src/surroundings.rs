//! The one place that reads the environment. clap reads the `FLINT_*` variables that stand for flags.

use std::path::PathBuf;

use flint_dev::python::Search;
use flint_dev::target::{Variables, Wanted};

use crate::cli::Where;

/// Where `flint up` keeps its data unless it is told, when root starts it.
const DATA_OF_UP: &str = "/var/lib/flint";
/// Where `flint dev` keeps its data unless it is told.
pub(crate) const DATA_OF_DEV: &str = ".flint";

#[expect(clippy::disallowed_methods, reason = "the door reads the environment for the rooms")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// The master key for secrets at rest. No flag: a command line can be read by everyone on the host.
pub(crate) fn master_key() -> Option<String> {
    variable("FLINT_MASTER_KEY")
}

/// What the flags and the standard AWS variables say about a server.
pub(crate) fn wanted(flags: &Where) -> Wanted {
    Wanted {
        endpoint: flags.endpoint.clone(),
        region: flags.region.as_ref().map(ToString::to_string),
        data: flags.data.clone(),
        variables: Variables {
            endpoint_url: variable("AWS_ENDPOINT_URL"),
            access_key_id: variable("AWS_ACCESS_KEY_ID"),
            secret_access_key: variable("AWS_SECRET_ACCESS_KEY"),
            region: variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")),
        },
        usual_data: [Some(DATA_OF_DEV.into()), own_data(), Some(DATA_OF_UP.into())].into_iter().flatten().collect(),
    }
}

/// Where `flint up` keeps its data unless it is told.
pub(crate) fn data_of_up() -> PathBuf {
    let root = rustix::process::geteuid().is_root();
    if root { None } else { own_data() }.unwrap_or_else(|| DATA_OF_UP.into())
}

/// A user's own place for a server's data. See the XDG Base Directory Specification.
fn own_data() -> Option<PathBuf> {
    let said = variable("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let usual = || variable("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    said.or_else(usual).map(|dir| dir.join("flint"))
}

/// Where this machine's Pythons may be.
pub(crate) fn python_search() -> Search {
    let path = variable("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default();
    let mut versions: Vec<PathBuf> =
        variable("PYENV_ROOT").map(|root| PathBuf::from(root).join("versions")).into_iter().collect();
    versions.extend(homes().into_iter().map(|home| home.join(".pyenv/versions")));
    Search { path, versions }
}

/// Home directories that may hold interpreters: the caller's, and that of whoever called `sudo`.
pub(crate) fn homes() -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = variable("HOME").map(PathBuf::from).into_iter().collect();
    if let Some(user) = variable("SUDO_USER").filter(|u| !u.contains('/')) {
        let home = if user == "root" { PathBuf::from("/root") } else { PathBuf::from("/home").join(user) };
        if !homes.contains(&home) {
            homes.push(home);
        }
    }
    homes
}

/// Where this command keeps what it remembers. See the XDG Base Directory Specification.
pub(crate) fn state_dir() -> Option<PathBuf> {
    let said = variable("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let usual = || variable("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    said.or_else(usual).map(|dir| dir.join("flint"))
}

/// Whether colours are unwelcome. See <https://no-color.org>.
pub(crate) fn no_color() -> bool {
    variable("NO_COLOR").is_some() || variable("TERM").as_deref() == Some("dumb")
}
