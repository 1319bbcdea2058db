//! The engine that ships: one SQLite database.

/// .
pub struct SqliteLog;
/// .
pub struct SqliteOptions;
/// .
pub struct StoreStats;
