use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A file system of our own with a home in it.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, path: &str) -> PathBuf {
        fs::canonicalize(self.0.path()).expect("exists").join(path)
    }

    fn file(&self, path: &str, content: &[u8], mode: u32) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, content).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
    }

    /// Writable by others, so that discovery never runs it.
    fn elf(&self, path: &str) {
        self.file(path, b"\x7fELF....", 0o777);
    }

    fn python(&self, prefix: &str, minor: u32) {
        self.elf(&format!("{prefix}/bin/python3.{minor}"));
        fs::create_dir_all(self.path(&format!("{prefix}/lib/python3.{minor}"))).expect("lib");
    }

    fn catalog(&self) -> Catalog {
        Catalog::discover(&Search { root: self.path(""), homes: vec![self.path("home/u")], ..Search::default() })
    }
}

fn host() -> Tree {
    let tree = Tree::new();
    tree.python("usr", 11);
    tree.file("usr/include/python3.11/patchlevel.h", b"#define PY_VERSION      \"3.11.2\"\n", 0o644);
    tree.python("home/u/.pyenv/versions/3.12.1", 12);
    tree.python("home/u/.pyenv/versions/3.11.7", 11);
    tree.file("home/u/.pyenv/shims/python3.13", b"#!/bin/sh\n", 0o755);
    tree.file("home/u/.pyenv/versions/3.13.0/bin/python3.13", b"#!/bin/sh\n", 0o755);
    tree.elf("home/u/.nvm/versions/node/v20.11.1/bin/node");
    tree.elf("home/u/.local/share/fnm/node-versions/v22.3.0/installation/bin/node");
    tree
}

#[test]
fn finds_what_is_there_and_no_shims() {
    let catalog = host().catalog();
    assert_eq!(
        catalog.available(),
        ["python3.11", "python3.12", "nodejs20.x", "nodejs22.x", "provided.al2", "provided.al2023"]
    );
    assert_eq!(catalog.interpreters().len(), 5);
}

#[test]
fn resolves_to_the_place_inside() {
    let tree = host();
    let catalog = tree.catalog();
    let twelve = catalog.resolve("python3.12", Match::Exact).expect("there");
    assert_eq!(twelve.binary, Path::new("/var/lang/bin/python3.12"));
    assert_eq!(twelve.prefix, Some(tree.path("home/u/.pyenv/versions/3.12.1")));
    assert_eq!((twelve.version.as_str(), twelve.kind, twelve.approximate), ("3.12.1", Kind::Python, false));
    // The later patch wins over the host's own.
    assert_eq!(catalog.resolve("python3.11", Match::Exact).expect("there").version, "3.11.7");
    let node = catalog.resolve("nodejs22.x", Match::Exact).expect("there");
    assert_eq!((node.version.as_str(), node.binary.as_path()), ("22.3.0", Path::new("/var/lang/bin/node")));
    let own = catalog.resolve("provided.al2023", Match::Exact).expect("always");
    assert_eq!((own.kind, own.binary.as_path()), (Kind::Provided, Path::new("/var/task/bootstrap")));
}

#[test]
fn what_is_part_of_usr_needs_no_mount() {
    let tree = Tree::new();
    tree.python("usr", 11);
    let found = tree.catalog().resolve("python3.11", Match::Exact).expect("there");
    assert_eq!((found.prefix, found.binary.as_path()), (None, Path::new("/usr/bin/python3.11")));
    assert_eq!(found.version, "3.11.0", "nobody could tell the patch");
}

#[test]
fn the_nearest_is_the_next_later_one_or_else_the_last() {
    let catalog = host().catalog();
    let nearest = |id: &str| {
        let found = catalog.resolve(id, Match::Nearest).expect("something");
        (found.version, found.approximate)
    };
    assert_eq!(nearest("python3.9"), ("3.11.7".to_owned(), true));
    assert_eq!(nearest("python3.14"), ("3.12.1".to_owned(), true));
    assert_eq!(nearest("python3.12"), ("3.12.1".to_owned(), false));
    assert_eq!(nearest("nodejs18.x"), ("20.11.1".to_owned(), true));
}

#[test]
fn what_is_not_there_is_refused_with_the_list() {
    let catalog = host().catalog();
    for id in ["python3.13", "java21", "", "python", "python3", "python3.+1", "nodejs20", "provided.al3", "go1.x"] {
        let refused = catalog.resolve(id, Match::Exact).expect_err(id);
        assert_eq!(refused.asked, id);
        assert!(refused.to_string().contains("python3.12"), "{refused}");
    }
    assert!(catalog.resolve("java21", Match::Nearest).is_err());
}

#[test]
fn links_lead_to_the_real_binary_and_a_home_is_never_mounted() {
    let tree = Tree::new();
    tree.python("home/u/.pyenv/versions/3.12.1", 12);
    fs::create_dir_all(tree.path("usr/local/bin")).expect("directories");
    symlink(tree.path("home/u/.pyenv/versions/3.12.1/bin/python3.12"), tree.path("usr/local/bin/python3.12"))
        .expect("link");
    assert_eq!(tree.catalog().interpreters().len(), 1);

    let tree = Tree::new();
    tree.python("home/u", 12);
    fs::create_dir_all(tree.path("usr/local/bin")).expect("directories");
    symlink(tree.path("home/u/bin/python3.12"), tree.path("usr/local/bin/python3.12")).expect("link");
    assert!(tree.catalog().interpreters().is_empty());
}

#[test]
fn an_installation_that_is_named_is_its_own_folder_alone() {
    let tree = host();
    tree.python("opt/py", 14);
    tree.elf("opt/node-v23.1.0/bin/node");
    fs::create_dir_all(tree.path("opt/links/bin")).expect("directories");
    symlink(tree.path("opt/py/bin/python3.14"), tree.path("opt/links/bin/python3.14")).expect("link");
    let of = |folders: &[&str]| {
        let installations = folders.iter().map(|f| tree.path(f)).collect();
        let root = tree.path("");
        Catalog::discover(&Search { root, homes: vec![tree.path("home/u")], installations, ..Search::default() })
    };
    let catalog = of(&["opt/py", "opt/node-v23.1.0", "opt/none"]);
    let found = catalog.resolve("python3.14", Match::Exact).expect("there");
    assert_eq!(
        (found.prefix, found.binary.as_path()),
        (Some(tree.path("opt/py")), Path::new("/var/lang/bin/python3.14"))
    );
    assert_eq!(catalog.resolve("nodejs23.x", Match::Exact).expect("there").version, "23.1.0");
    // Neither what a link leads to, nor a tree above or below, nor a home.
    for folder in ["opt/links", "opt", "opt/py/bin", "home/u"] {
        assert!(of(&[folder]).resolve("python3.14", Match::Exact).is_err(), "{folder}");
        assert!(Catalog::installation(&tree.path(folder), vec![]).interpreters().is_empty(), "{folder}");
    }
}

#[test]
fn this_host_is_searched_without_harm() {
    let catalog = Catalog::discover(&Search::host(Vec::new()));
    for found in catalog.interpreters() {
        assert!(found.binary.is_absolute() && found.version.0 > 0, "{found:?}");
    }
}
