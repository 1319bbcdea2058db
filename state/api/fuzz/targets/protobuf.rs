//! Any bytes as a body in protobuf: they are refused or become an object, and what becomes one can be checked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use setpoint_api::schema::builtin;
use setpoint_api::{meta, protobuf};

fuzz_target!(|data: &[u8]| {
    // Every body begins like this: spare the fuzzer to find it out.
    let body = [b"k8s\0", data].concat();
    for bytes in [data, &body] {
        let Ok(mut object) = protobuf::decode(bytes) else {
            continue;
        };
        let (group, version) = meta::group_version(meta::api_version(&object));
        if let Some(schema) = builtin(group, version, meta::kind(&object))
            && schema.check_types(&object).is_ok()
        {
            schema.prune(&mut object);
            schema.normalize(&mut object);
        }
    }
});
