//! Bugs that are planted to see whether the simulation finds them. They sit at the seams: in the disk and the store that the rooms
//! are given, and in the source that delivery polls. Nothing of them is in what is shipped.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A commit is acknowledged when its frame was written: the sync that makes it durable is that of the next one.
    AckBeforeCommit,
    /// Now and then the row that says when an event is tried again is not written.
    LostTimer,
    /// Now and then a record is handed out a second time while it is out.
    DoubleDelivery,
    /// The first two records of a batch come in the wrong order.
    OrderSwap,
    /// A mapping's records are deleted when they are handed out, before their function did anything.
    SettleFirst,
    /// Now and then what a failed event leaves for its dead-letter queue is not written.
    LostLetter,
    /// Now and then a message that is moved to a dead-letter queue is not written there.
    LostMove,
    /// Now and then nobody writes down that a deduplication id was used.
    LostDuplicate,
}

/// What a commit loses now and then.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Only commits that delete a row in here.
    pub with: Option<&'static str>,
    /// Rows that are not put.
    pub of: &'static str,
}

impl Bug {
    pub const ALL: [Bug; 8] = [
        Bug::AckBeforeCommit,
        Bug::LostTimer,
        Bug::DoubleDelivery,
        Bug::OrderSwap,
        Bug::SettleFirst,
        Bug::LostLetter,
        Bug::LostMove,
        Bug::LostDuplicate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Bug::AckBeforeCommit => "ack-before-commit",
            Bug::LostTimer => "lost-timer",
            Bug::DoubleDelivery => "double-delivery",
            Bug::OrderSwap => "order-swap",
            Bug::SettleFirst => "settle-first",
            Bug::LostLetter => "lost-letter",
            Bug::LostMove => "lost-move",
            Bug::LostDuplicate => "lost-duplicate",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }

    pub fn is_of_source(self) -> bool {
        matches!(self, Bug::DoubleDelivery | Bug::OrderSwap | Bug::SettleFirst)
    }

    pub fn loss(self) -> Option<Loss> {
        let (with, of) = match self {
            Bug::LostTimer => (Some("async-events"), "async-events"),
            Bug::LostLetter => (Some("async-events"), "outbox"),
            Bug::LostMove => (Some("sqs-message"), "sqs-message"),
            Bug::LostDuplicate => (None, "sqs-duplicate"),
            _ => return None,
        };
        Some(Loss { with, of })
    }
}
