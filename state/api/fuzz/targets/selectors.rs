//! Any text as a selector or a quantity: what is read is printed as something that reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use setpoint_api::{FieldSelector, LabelSelector, Quantity};

fuzz_target!(|text: &str| {
    if let Ok(selector) = text.parse::<LabelSelector>() {
        let printed = selector.to_string();
        let again: LabelSelector = printed.parse().expect("what was printed");
        assert_eq!(again.to_string(), printed);
    }
    if let Ok(selector) = text.parse::<FieldSelector>() {
        let printed = selector.to_string();
        let again: FieldSelector = printed.parse().expect("what was printed");
        assert_eq!(again.to_string(), printed);
    }
    if let Ok(quantity) = text.parse::<Quantity>() {
        let printed = quantity.to_string();
        let again: Quantity = printed.parse().expect("what was printed");
        assert_eq!((again, again.to_string()), (quantity, printed));
        drop(quantity.rounded_up_to_milli().to_string());
    }
    if let Ok(value) = serde_json::from_str(text) {
        drop(LabelSelector::from_value(&value));
    }
});
