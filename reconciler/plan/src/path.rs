//! Paths as people read them.
