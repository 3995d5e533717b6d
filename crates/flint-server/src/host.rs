//! What this host offers to a server: for `flint doctor`.

use std::path::PathBuf;

use flint_runtime::{Catalog, Match, Search};
pub use flint_sandbox::{Capabilities, CgroupMode, Exception};

/// A look at the host that changes nothing.
#[derive(Clone, Debug)]
pub struct Host {
    pub capabilities: Capabilities,
    /// Runtime identifiers and the versions behind them.
    pub runtimes: Vec<(String, String)>,
}

/// Looks at the host; interpreters are searched for below `homes` as well.
pub fn look(homes: Vec<PathBuf>) -> Host {
    let catalog = Catalog::discover(&Search::host(homes));
    let version = |id: &String| catalog.resolve(id, Match::Exact).map(|r| r.version).unwrap_or_default();
    let runtimes = catalog.available().into_iter().map(|id| (id.clone(), version(&id))).collect();
    Host { capabilities: flint_sandbox::probe(), runtimes }
}
