//! `events.k8s.io/v1 Event` and the core Event that it is stored as: the same fields under other names.

use serde_json::Value;

use super::{put, take};
use crate::scheme::Conversion;

/// Between events.k8s.io/v1 and core/v1.
pub const EVENT: Conversion = Conversion {
    from_stored: |event| rename(event, |(core, own)| (core, own)),
    to_stored: |event| rename(event, |(core, own)| (own, core)),
};

/// The fields that the two versions name differently: in core, in events.k8s.io.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

type Pair = (&'static str, &'static str);

fn rename(event: &mut Value, way: impl Fn(Pair) -> Pair) {
    let Some(map) = event.as_object_mut() else { return };
    for pair in NAMES {
        let (from, to) = way(*pair);
        if let Some(value) = take(map, &[from]) {
            put(map, &[to], value);
        }
    }
}
