//! Nodes: whether they still report, what that means for their pods, and pods of nodes that are no more.

pub mod lifecycle;
pub mod orphans;
pub mod taints;
