//! Any patch to any object: `[document, patch]`. No patch may panic or make what cannot be read again, and what is patched in
//! full is patched the same way again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use setpoint_api::meta::nests_deeper;
use setpoint_api::patch::{json, merge, strategic};
use setpoint_api::schema::{builtin, duplicates};

fuzz_target!(|data: &[u8]| {
    drop(duplicates(data));
    let Ok((document, patch)) = serde_json::from_slice::<(Value, Value)>(data) else {
        return;
    };
    match json::apply(&document, &patch) {
        Ok(patched) => assert!(!nests_deeper(&patched, 126), "it can be read again"),
        Err(error) => assert!(error.status().is_failure()),
    }
    drop(json::unknown_members(&patch));
    if let Ok(once) = merge::apply(&document, &patch) {
        assert_eq!(merge::apply(&once, &patch).ok(), Some(once));
    }
    for (group, kind) in [("", "Pod"), ("apps", "Deployment"), ("", "Service")] {
        let schema = builtin(group, "v1", kind).expect("a built-in kind");
        if let Ok(mut patched) = strategic::apply(&schema, &document, &patch)
            && schema.check_types(&patched).is_ok()
        {
            drop(schema.unknown_fields(&patched));
            schema.prune(&mut patched);
            schema.normalize(&mut patched);
            let once = patched.clone();
            schema.normalize(&mut patched);
            assert_eq!(patched, once, "what is normal stays as it is");
        }
    }
});
