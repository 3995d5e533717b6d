//! What can go wrong with an environment that is not the function's own doing.

/// Flint could not give the function a place to run, or lost it. A function that fails is an
/// [`Answer`](crate::Answer), never an `Error`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the sandbox could not be made: {0}")]
    Sandbox(#[from] flint_sandbox::Error),
    #[error("the code directory {path} could not be opened: {source}")]
    Code { path: String, source: std::io::Error },
    #[error("the environment has ended")]
    Gone,
}
