//! The walls around a function, by name.
//!
//! In a build with the feature `bench` a launch may leave some out, so that their cost can be told. Only this crate's own
//! bench asks for that feature; in every other build there is no such choice, and [`Walls`] holds nothing.

/// One of the walls that a bench may leave out. Root, code, `/tmp`, network and cgroups are there always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wall {
    /// Namespaces of processes, of shared memory, of host names and of cgroups.
    Namespaces,
    /// The user namespace.
    User,
    /// Empty capability sets.
    Capabilities,
    /// Covers and generated files in `/proc`.
    Proc,
    /// Resource limits and the keyring of its own.
    Limits,
    Landlock,
    /// The system call filter.
    Filter,
}

impl Wall {
    pub const ALL: [Self; 7] =
        [Self::Namespaces, Self::User, Self::Capabilities, Self::Proc, Self::Limits, Self::Landlock, Self::Filter];
}

/// Which walls stand; by default all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walls {
    #[cfg(feature = "bench")]
    without: u8,
}

#[cfg(feature = "bench")]
impl Walls {
    /// All but one.
    #[must_use]
    pub fn without(self, wall: Wall) -> Self {
        Self { without: self.without | 1 << wall as u8 }
    }

    pub(crate) fn bits(self) -> u8 {
        self.without
    }

    pub(crate) fn from_bits(without: u8) -> Self {
        Self { without }
    }

    pub(crate) fn stand(self, wall: Wall) -> bool {
        self.without >> wall as u8 & 1 == 0
    }
}

#[cfg(not(feature = "bench"))]
impl Walls {
    #[expect(clippy::unused_self, reason = "the build with the choice asks the value")]
    pub(crate) const fn stand(self, _: Wall) -> bool {
        true
    }
}

#[cfg(all(test, not(feature = "bench")))]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_choice() {
        assert_eq!(size_of::<Walls>(), 0);
        assert!(Wall::ALL.iter().all(|&wall| Walls::default().stand(wall)));
    }
}
