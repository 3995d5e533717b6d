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
}

impl Bug {
    pub const ALL: [Bug; 4] = [Bug::AckBeforeCommit, Bug::LostTimer, Bug::DoubleDelivery, Bug::OrderSwap];

    pub fn name(self) -> &'static str {
        match self {
            Bug::AckBeforeCommit => "ack-before-commit",
            Bug::LostTimer => "lost-timer",
            Bug::DoubleDelivery => "double-delivery",
            Bug::OrderSwap => "order-swap",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }

    pub fn is_of_source(self) -> bool {
        matches!(self, Bug::DoubleDelivery | Bug::OrderSwap)
    }
}
