//! Bugs that are planted to see whether the simulation finds them.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A commit is acknowledged when it is handed over, not when it is on stable storage.
    AckBeforeCommit,
}

impl Bug {
    pub const ALL: [Bug; 1] = [Bug::AckBeforeCommit];

    pub fn name(self) -> &'static str {
        match self {
            Bug::AckBeforeCommit => "ack-before-commit",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}
