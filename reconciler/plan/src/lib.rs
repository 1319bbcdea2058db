//! Pure: what git says against what runs.
