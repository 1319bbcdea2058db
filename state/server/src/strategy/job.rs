//! Jobs: their selector needs the uid that only the server gives.

use serde_json::Value;
use setpoint_api::{Status, strategy};

use super::{Scene, Strategy};

pub(crate) struct Jobs;

impl Strategy for Jobs {
    fn create(&self, _: &Scene<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        strategy::job::generate_selector(object);
        Ok(())
    }
}
