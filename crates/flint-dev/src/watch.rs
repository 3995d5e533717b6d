//! Notices when files of a project change, so that they can be deployed on save.
//!
//! Folders are watched one by one, without those that never belong to a package: a `node_modules` or `target` would cost
//! thousands of watches and wake us for nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::app::Build;
use crate::app::project::Project;
use crate::package::is_left_out;
use crate::{App, Error};

/// A save is over when nothing changed for so long: editors write, rename and set modes in a few steps.
const QUIET: Duration = Duration::from_millis(15);
/// A change that goes on is not waited for longer than this many times [`QUIET`].
const QUIET_TIMES_MAX: usize = 15;
/// Paths that are remembered; beyond it everything counts as changed.
const PATHS_MAX: usize = 10_000;

/// Watches the files of a project.
#[derive(Debug)]
pub struct Watch {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    shared: Arc<Shared>,
}

/// What the watcher's thread tells.
#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    paths: BTreeSet<PathBuf>,
    events: u64,
    overflow: bool,
}

/// What changed.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    paths: BTreeSet<PathBuf>,
    /// Too much to be told.
    everything: bool,
}

impl Watch {
    /// Starts to watch. Changes are noticed from now on.
    ///
    /// Errors: [`Error::Watch`].
    pub fn start(project: &Project) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let told = shared.clone();
        let watcher = notify::recommended_watcher(move |event| told.note(event)).map_err(|e| Error::Watch {
            dir: project.root_folders().next().unwrap_or(Path::new(".")).to_owned(),
            reason: e.to_string(),
        })?;
        let mut watch = Self { watcher, watched: BTreeSet::new(), shared };
        watch.cover(project)?;
        Ok(watch)
    }

    /// Watches folders that are new.
    pub fn cover(&mut self, project: &Project) -> Result<(), Error> {
        let mut wanted = BTreeSet::new();
        for root in project.root_folders() {
            wanted.insert(fs::canonicalize(root).map_err(Error::file(root))?);
        }
        for app in &project.apps {
            folders(app, &app.dir, &mut wanted);
        }
        let gone: Vec<PathBuf> = self.watched.difference(&wanted).cloned().collect();
        for dir in gone {
            // Its watch went with the folder, if it was removed.
            drop(self.watcher.unwatch(&dir));
            self.watched.remove(&dir);
        }
        for dir in wanted.difference(&self.watched.clone()) {
            match self.watcher.watch(dir, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(dir.clone())),
                // Removed meanwhile.
                Err(_) if !dir.exists() => {}
                Err(e) => return Err(Error::Watch { dir: dir.clone(), reason: e.to_string() }),
            }
        }
        Ok(())
    }

    /// Waits for a change, and until it is over.
    pub async fn changed(&self) -> Changes {
        loop {
            self.shared.wake.notified().await;
            let mut events = self.shared.seen().events;
            for _ in 0..QUIET_TIMES_MAX {
                tokio::time::sleep(QUIET).await;
                let now = self.shared.seen().events;
                if now == events {
                    break;
                }
                events = now;
            }
            let seen = std::mem::take(&mut *self.shared.seen());
            if seen.overflow || !seen.paths.is_empty() {
                return Changes { paths: seen.paths, everything: seen.overflow };
            }
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: notify::Result<notify::Event>) {
        let mut seen = self.seen();
        match event {
            Ok(event) if event.need_rescan() => seen.overflow = true,
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
            Ok(event) => {
                let fits = seen.paths.len() + event.paths.len() <= PATHS_MAX;
                if fits { seen.paths.extend(event.paths) } else { seen.overflow = true }
            }
            Err(_) => seen.overflow = true,
        }
        seen.events = seen.events.wrapping_add(1);
        drop(seen);
        self.wake.notify_one();
    }
}

impl Changes {
    /// Those of the functions whose package may have changed, or that are new or set otherwise than `before`.
    pub fn touched<'a>(&self, before: &Project, now: &'a Project) -> Vec<&'a App> {
        let is_touched = |app: &&App| {
            self.everything || !before.apps.contains(app) || self.paths.iter().any(|path| belongs(app, path))
        };
        now.apps.iter().filter(is_touched).collect()
    }

    /// The changed files of a function by their names, for a message. What an editor made and removed on the way is left
    /// out.
    pub fn names(&self, app: &App) -> Vec<String> {
        let own: Vec<&PathBuf> = self.paths.iter().filter(|path| belongs(app, path)).collect();
        let name = |path: &&PathBuf| Some(path.strip_prefix(&app.dir).ok()?.display().to_string());
        let there: Vec<String> = own.iter().copied().filter(|path| path.is_file()).filter_map(|p| name(&p)).collect();
        if there.is_empty() { own.iter().filter_map(name).collect() } else { there }
    }
}

/// Whether a change of the file may change the function's package.
fn belongs(app: &App, path: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(&app.dir) else { return false };
    let mut folders = inside.ancestors().filter(|a| !a.as_os_str().is_empty());
    let is_folder = path.is_dir();
    !folders.any(|part| is_ignored(app, part, part != inside || is_folder))
}

fn is_ignored(app: &App, inside: &Path, is_folder: bool) -> bool {
    let name = inside.file_name().unwrap_or_default().to_string_lossy();
    let built = match app.build {
        Build::Npm => "node_modules",
        Build::Cargo { .. } => "target",
        _ => "",
    };
    is_left_out(&name)
        || name == built
        || app.exclude.iter().any(|pattern| pattern.matches(&inside.to_string_lossy(), is_folder))
}

fn folders(app: &App, dir: &Path, found: &mut BTreeSet<PathBuf>) {
    found.insert(dir.to_owned());
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        // A link's folder is not followed: the package holds the link.
        let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
        let inside = path.strip_prefix(&app.dir).unwrap_or(&path);
        if is_folder && !is_ignored(app, inside, true) && !path.join("pyvenv.cfg").exists() {
            folders(app, &path, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLER: &str = "def handler(e, c): pass\n";

    async fn changes(watch: &Watch) -> Changes {
        tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.expect("a change is noticed")
    }

    fn names(apps: Vec<&App>) -> Vec<&str> {
        apps.into_iter().map(|a| a.name.as_str()).collect()
    }

    #[tokio::test]
    async fn a_save_touches_its_function_alone() {
        let dir = tempfile::Builder::new().prefix("apps-").tempdir().unwrap();
        for name in ["one", "two", "one/lib", "one/node_modules"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("one/app.py"), HANDLER).unwrap();
        fs::write(dir.path().join("two/app.py"), HANDLER).unwrap();
        let before = Project::read(vec![dir.path().to_owned()], None).unwrap();
        let mut watch = Watch::start(&before).unwrap();

        fs::write(dir.path().join("one/lib/x.py"), "1").unwrap();
        let seen = changes(&watch).await;
        assert_eq!(names(seen.touched(&before, &before)), ["one"]);
        assert_eq!(seen.names(&before.apps[0]), ["lib/x.py"]);

        // What belongs to no package is noticed at most by the folder it lies in.
        fs::create_dir(dir.path().join("two/__pycache__")).unwrap();
        assert!(changes(&watch).await.touched(&before, &before).is_empty());

        fs::create_dir(dir.path().join("three")).unwrap();
        fs::write(dir.path().join("three/app.py"), HANDLER).unwrap();
        let seen = changes(&watch).await;
        let now = before.again().unwrap();
        assert_eq!(names(seen.touched(&before, &now)), ["three"]);
        watch.cover(&now).unwrap();
        fs::write(dir.path().join("three/app.py"), "handler = 1\n").unwrap();
        assert_eq!(names(changes(&watch).await.touched(&now, &now)), ["three"]);
    }

    #[test]
    fn what_is_excluded_does_not_belong() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("app.py"), HANDLER).unwrap();
        fs::write(dir.path().join("flint.toml"), "exclude = ['docs/', '*.png']").unwrap();
        let app = App::read(dir.path(), Some("f")).unwrap();
        for (file, expected) in [
            ("app.py", true),
            ("a/b.py", true),
            ("docs/a.md", false),
            ("x.png", false),
            (".git/index", false),
            ("a/__pycache__/b.pyc", false),
            ("app.py~", false),
        ] {
            assert_eq!(belongs(&app, &app.dir.join(file)), expected, "{file}");
        }
        assert!(!belongs(&app, Path::new("/elsewhere/app.py")));
    }
}
