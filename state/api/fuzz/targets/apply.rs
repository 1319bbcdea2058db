//! Any configuration applied to any object: `[live, applied]`. Nothing may panic, and what was applied by force can be applied again.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use setpoint_api::apply::{Scope, Writer, owners_in_object, owners_in_scale, server_side, track_update};
use setpoint_api::schema::builtin;

fuzz_target!(|data: &[u8]| {
    let Ok((live, applied)) = serde_json::from_slice::<(Value, Value)>(data) else {
        return;
    };
    let writer = Writer {
        manager: "me",
        api_version: "apps/v1",
        subresource: "",
        now: Timestamp::UNIX_EPOCH,
        scope: Scope::Without(&[&["status"]]),
    };
    for (group, kind) in [("apps", "Deployment"), ("", "Pod")] {
        let schema = builtin(group, "v1", kind).expect("a built-in kind");
        if let Err(error) = server_side(&schema, Some(&live), &applied, false, &writer) {
            assert!(error.status().is_failure());
        }
        // The server applies to what it has decoded before.
        if schema.check_types(&live).is_ok()
            && let Ok(once) = server_side(&schema, Some(&live), &applied, true, &writer)
        {
            let twice = server_side(&schema, Some(&once), &applied, true, &writer).expect("it was applied before");
            assert_eq!(twice, once, "applying twice changes nothing");
        }
        let mut new = applied.clone();
        track_update(&schema, Some(&live), &mut new, &writer);
        track_update(&schema, None, &mut new, &writer);
    }
    let path = ["spec".to_owned(), "replicas".to_owned()];
    drop(owners_in_scale(&live, &path));
    drop(owners_in_object(&live, &applied, &path, "apps/v1"));
});
