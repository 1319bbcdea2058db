//! Disks that fill up, fail, turn read-only or lose power, and files that are not what was written.
//!
//! All of it is real: each test runs in a mount namespace of its own, on file systems made for it, which go with its process. That
//! needs root.

mod damaged;
mod disk;
mod failing;
mod full;
mod writing;

/// Runs a test in a mount namespace of its own.
macro_rules! isolated {
    ($($(#[$attribute:meta])* async fn $name:ident() $body:block)*) => {
        $($(#[$attribute])*
        #[test]
        fn $name() {
            crate::disk::isolated(concat!(module_path!(), "::", stringify!($name)), async $body);
        })*
    };
}
pub(crate) use isolated;

/// What the engine can tell or do. What it cannot yet is not asked of it.
pub struct Abilities {
    /// A full disk is `Full`, not any failure.
    pub full_is_told: bool,
    /// A damaged file is `Damaged`, not any failure.
    pub damage_is_told: bool,
    /// What is sealed is never given wrong.
    pub seals: bool,
    /// A refresh needs no disk, also when writes are refused.
    pub beats_go_on: bool,
    /// The past is read on although nothing can be written.
    pub reads_go_on: bool,
}

/// The engine as it is.
pub const ENGINE: Abilities = Abilities {
    full_is_told: true,
    damage_is_told: true,
    seals: true,
    beats_go_on: true,
    reads_go_on: true,
};
