//! Nodes say themselves what they are when they register.

use super::Strategy;

pub(crate) struct Nodes;

impl Strategy for Nodes {
    fn takes_status_on_create(&self) -> bool {
        true
    }
}
