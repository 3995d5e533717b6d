//! Which server, which region, as whom: from flags, variables and what a server left in its data directory.
//!
//! A data directory that was named must hold what is asked of it: nothing else stands in for it.
//!
//! The order of an endpoint: `--endpoint`, the data directory that was named, `AWS_ENDPOINT_URL`, a usual data
//! directory that holds one, `http://127.0.0.1:4566`. Of credentials: the data directory that was named, the
//! `AWS_*` variables, the data directory that the endpoint came from, and a pair that only `flint dev` accepts. Of the
//! region: `--region`, the data directory that was named, the `AWS_*` variables, the data directory that the endpoint came
//! from, `us-east-1`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Error;
use crate::client::{Credentials, Endpoint, Source, Target};

/// The file in a data directory with the address of the server that runs on it.
pub const ENDPOINT_FILE: &str = "endpoint";
/// The file in a data directory with the root key pairs.
pub const CREDENTIALS_FILE: &str = "credentials.json";
const REGION_DEFAULT: &str = "us-east-1";

/// What a person said, and what surrounds the command.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub data: Option<PathBuf>,
    pub variables: Variables,
    /// Data directories to look into when nothing names one.
    pub usual_data: Vec<PathBuf>,
}

/// The standard AWS variables, read by the door.
#[derive(Clone, Default)]
pub struct Variables {
    pub endpoint_url: Option<String>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    pub region: Option<String>,
}

/// What a data directory says.
#[derive(Debug, Default)]
struct Left {
    endpoint: Option<Endpoint>,
    region: Option<String>,
    credentials: Option<Credentials>,
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variables").field("endpoint_url", &self.endpoint_url).finish_non_exhaustive()
    }
}

impl Wanted {
    /// Errors: [`Error::Endpoint`] for what is none; [`Error::File`] if the data directory that was named cannot be
    /// read, [`Error::NotStarted`] if no server has left its address and keys there.
    pub fn target(&self) -> Result<Target, Error> {
        let named = match &self.data {
            Some(dir) => self.named(dir)?,
            None => Left::default(),
        };
        let mut found = Left::default();
        let (endpoint, source) = if let Some(said) = &self.endpoint {
            (said.parse()?, Source::Flag)
        } else if let (Some(endpoint), Some(dir)) = (named.endpoint, &self.data) {
            (endpoint, Source::Data(dir.clone()))
        } else if let Some(variable) = self.variables.endpoint_url.as_deref().filter(|v| !v.is_empty()) {
            let endpoint: Endpoint = variable.parse()?;
            let other = self.usual().map(|(dir, left)| (dir.clone(), left.endpoint));
            let instead_of = other.and_then(|(dir, other)| Some((dir, other.filter(|other| *other != endpoint)?)));
            (endpoint, Source::Variable { instead_of })
        } else if let Some((dir, left)) = self.usual() {
            let endpoint = left.endpoint.clone();
            found = left;
            (endpoint.unwrap_or_else(Endpoint::default_local), Source::Data(dir.clone()))
        } else {
            (Endpoint::default_local(), Source::Default)
        };
        let of_variables = match (&self.variables.access_key_id, &self.variables.secret_access_key) {
            (Some(id), Some(secret)) if !id.is_empty() => {
                Some(Credentials { access_key: id.clone(), secret_key: secret.clone() })
            }
            _ => None,
        };
        let dev = || Credentials { access_key: "test".into(), secret_key: "test".into() };
        let said = self.region.clone().or(named.region).or_else(|| self.variables.region.clone()).or(found.region);
        Ok(Target {
            endpoint,
            region: said.filter(|r| !r.is_empty()).unwrap_or_else(|| REGION_DEFAULT.into()),
            credentials: named.credentials.or(of_variables).or(found.credentials).unwrap_or_else(dev),
            source,
        })
    }

    /// What the data directory that was named says. Keys are needed always; an address, unless another one was said.
    fn named(&self, dir: &Path) -> Result<Left, Error> {
        let not_started = |missing| Error::NotStarted { dir: dir.to_owned(), missing };
        match fs::metadata(dir) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(not_started("data yet")),
            Err(e) => return Err(Error::File { path: dir.to_owned(), source: e }),
        }
        let left = read(dir)?;
        if left.endpoint.is_none() && self.endpoint.is_none() {
            return Err(not_started("address"));
        }
        if left.credentials.is_none() {
            return Err(not_started("keys"));
        }
        Ok(left)
    }

    /// The first usual data directory that holds an address. One that cannot be read is somebody else's.
    fn usual(&self) -> Option<(&PathBuf, Left)> {
        let mut all = self.usual_data.iter().filter_map(|dir| Some((dir, read(dir).ok()?)));
        all.find(|(_, left)| left.endpoint.is_some())
    }
}

fn read(dir: &Path) -> Result<Left, Error> {
    let mut left = Left::default();
    if let Some(text) = read_file(&dir.join(ENDPOINT_FILE))? {
        let mut lines = text.lines();
        left.endpoint = Some(lines.next().unwrap_or_default().parse()?);
        // Servers before the region was written had one line.
        left.region = lines.next().filter(|region| !region.is_empty()).map(str::to_owned);
    }
    let path = dir.join(CREDENTIALS_FILE);
    if let Some(text) = read_file(&path)? {
        left.credentials = Some(credentials(&text).map_err(|reason| Error::Settings { path, reason })?);
    }
    Ok(left)
}

fn read_file(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::File { path: path.to_owned(), source: e }),
    }
}

/// The first key pair of the file, which is that of the server's default account.
fn credentials(text: &str) -> Result<Credentials, String> {
    #[derive(Deserialize)]
    struct File {
        keys: Vec<Key>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Key {
        access_key_id: String,
        secret_access_key: String,
    }
    let file: File = serde_json::from_str(text).map_err(|e| format!("is not a key file: {e}"))?;
    let key = file.keys.into_iter().next().ok_or("holds no key pair")?;
    Ok(Credentials { access_key: key.access_key_id, secret_key: key.secret_access_key })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str =
        r#"{"version":1,"keys":[{"account":"000000000000","accessKeyId":"AKIAX","secretAccessKey":"s"}]}"#;

    fn data(endpoint: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(ENDPOINT_FILE), format!("{endpoint}\n")).unwrap();
        fs::write(dir.path().join(CREDENTIALS_FILE), KEYS).unwrap();
        dir
    }

    fn variables() -> Variables {
        Variables {
            endpoint_url: Some("http://var:1".into()),
            access_key_id: Some("VAR".into()),
            secret_access_key: Some("v".into()),
            region: Some("eu-west-1".into()),
        }
    }

    fn check(wanted: &Wanted, endpoint: &str, region: &str, key: &str) {
        let target = wanted.target().unwrap();
        let got = (target.endpoint.to_string(), target.region, target.credentials.access_key);
        assert_eq!(got, (endpoint.to_owned(), region.to_owned(), key.to_owned()), "{wanted:?}");
    }

    #[test]
    fn what_is_named_wins() {
        let (one, two) = (data("http://one:1"), data("http://two:1"));
        let usual_data = vec![PathBuf::from("/nonexistent"), two.path().to_owned()];
        let mut wanted = Wanted { usual_data, ..Wanted::default() };
        check(&Wanted::default(), "http://127.0.0.1:4566", "us-east-1", "test");
        check(&wanted, "http://two:1", "us-east-1", "AKIAX");
        wanted.variables = variables();
        check(&wanted, "http://var:1", "eu-west-1", "VAR");
        wanted.data = Some(one.path().to_owned());
        check(&wanted, "http://one:1", "eu-west-1", "AKIAX");
        wanted.endpoint = Some("http://flag:1".into());
        wanted.region = Some("us-west-2".into());
        check(&wanted, "http://flag:1", "us-west-2", "AKIAX");
    }

    #[test]
    fn the_servers_region_is_taken() {
        let dir = data("http://one:1\neu-north-1");
        let mut wanted = Wanted { usual_data: vec![dir.path().to_owned()], ..Wanted::default() };
        check(&wanted, "http://one:1", "eu-north-1", "AKIAX");
        wanted.variables = Variables { endpoint_url: None, ..variables() };
        check(&wanted, "http://one:1", "eu-west-1", "VAR");
        wanted.data = Some(dir.path().to_owned());
        check(&wanted, "http://one:1", "eu-north-1", "AKIAX");
    }

    #[test]
    fn nothing_stands_in_for_a_directory_that_was_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut wanted = Wanted { data: Some(dir.path().to_owned()), variables: variables(), ..Wanted::default() };
        let missing = |wanted: &Wanted| match wanted.target() {
            Err(Error::NotStarted { missing, .. }) => missing,
            other => panic!("{other:?}"),
        };
        assert_eq!(missing(&wanted), "address");
        fs::write(dir.path().join(ENDPOINT_FILE), "http://one:1\n").unwrap();
        assert_eq!(missing(&wanted), "keys");
        fs::write(dir.path().join(CREDENTIALS_FILE), KEYS).unwrap();
        check(&wanted, "http://one:1", "eu-west-1", "AKIAX");
        wanted.data = Some(dir.path().join("none"));
        assert_eq!(missing(&wanted), "data yet");
    }

    #[test]
    fn who_named_the_server_is_known() {
        let dir = data("http://one:1");
        let source = |wanted: &Wanted| wanted.target().unwrap().source.to_string();
        let path = dir.path().display();
        let mut wanted = Wanted { usual_data: vec![dir.path().to_owned()], ..Wanted::default() };
        assert_eq!(source(&Wanted::default()), " (the default)");
        assert_eq!(source(&wanted), format!(" (from {path})"));
        assert_eq!(Source::Data(".flint".into()).to_string(), " (from ./.flint)");
        wanted.variables = variables();
        assert_eq!(source(&wanted), " (from AWS_ENDPOINT_URL)");
        let Source::Variable { instead_of: Some((_, other)) } = wanted.target().unwrap().source else { panic!() };
        assert_eq!(other.to_string(), "http://one:1");
        wanted.variables.endpoint_url = Some("http://one:1".into());
        assert_eq!(wanted.target().unwrap().source, Source::Variable { instead_of: None });
        wanted.endpoint = Some("http://flag:1".into());
        assert_eq!(source(&wanted), " (from --endpoint)");
    }

    #[test]
    fn a_wrong_directory_is_an_error_only_if_it_was_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(ENDPOINT_FILE), "nonsense").unwrap();
        let usual = Wanted { usual_data: vec![dir.path().to_owned()], ..Wanted::default() };
        check(&usual, "http://127.0.0.1:4566", "us-east-1", "test");
        assert!(Wanted { data: Some(dir.path().to_owned()), ..Wanted::default() }.target().is_err());
        assert!(Wanted { data: Some(dir.path().join("none")), ..Wanted::default() }.target().is_err());
    }
}
