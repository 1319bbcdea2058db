//! The rules of ServiceCIDRs and IPAddresses.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, format, given, immutable};
use crate::meta::{self, at, list_at, str_at};
use crate::names;

/// Returns what is wrong with a new IPAddress.
pub fn address(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = meta::name(object);
    if !name.is_empty() {
        all_invalid(&mut errors, &Path::new("metadata.name"), name, format::address(name));
    }
    let path = Path::new("spec.parentRef");
    let Some(parent) = at(object, &["spec", "parentRef"]).filter(|parent| parent.is_object()) else {
        errors.push(FieldError::required(path, ""));
        return errors;
    };
    let text = |key: &str| str_at(parent, &[key]);
    if !text("group").is_empty() {
        let wrong = names::dns_subdomain(text("group"));
        all_invalid(&mut errors, &path.child("group"), text("group"), wrong);
    }
    for key in ["resource", "name"] {
        super::required_segment(&mut errors, &path.child(key), text(key));
    }
    if !text("namespace").is_empty() {
        let wrong = names::path_segment(text("namespace"));
        all_invalid(&mut errors, &path.child("namespace"), text("namespace"), wrong);
    }
    errors
}

/// Returns what is wrong with the change of an IPAddress.
pub fn address_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let parent = |object: &'_ Value| at(object, &["spec", "parentRef"]).cloned();
    immutable(
        &mut errors,
        &Path::new("spec.parentRef"),
        parent(new).as_ref(),
        parent(old).as_ref(),
    );
    errors
}

/// Returns what is wrong with a new ServiceCIDR.
pub fn range(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("spec.cidrs");
    let cidrs = list_at(object, &["spec", "cidrs"]);
    if cidrs.is_empty() {
        errors.push(FieldError::required(path, "at least one CIDR required"));
        return errors;
    }
    if cidrs.len() > 2 {
        let shown = at(object, &["spec"]).cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(path, shown, "may only hold up to 2 values"));
        return errors;
    }
    let texts = cidrs.iter().map(|cidr| cidr.as_str().unwrap_or(""));
    let ranges: Vec<_> = texts
        .enumerate()
        .map(|(index, text)| format::range(&mut errors, &path.index(index), text, true))
        .collect();
    if let [Some(one), Some(other)] = ranges[..]
        && one.address.is_ipv4() == other.address.is_ipv4()
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(path, cidrs.to_vec(), detail));
    }
    errors
}

/// Returns what is wrong with the change of a ServiceCIDR: a range of the other family may be added, no more.
pub fn range_update(new: &Value, old: &Value) -> Vec<FieldError> {
    const IMMUTABLE: &str = "field is immutable";
    let path = Path::new("spec.cidrs");
    let (after, before) = (list_at(new, &["spec", "cidrs"]), list_at(old, &["spec", "cidrs"]));
    let mut errors = Vec::new();
    if after.len() != before.len() && (before.len(), after.len()) != (1, 2) {
        let shown = given(new, "spec").and_then(|spec| given(spec, "cidrs"));
        errors.push(FieldError::invalid(
            path,
            shown.cloned().unwrap_or(Value::Null),
            IMMUTABLE,
        ));
        return errors;
    }
    for (index, (after_one, before_one)) in after.iter().zip(before).enumerate() {
        if after_one != before_one {
            errors.push(FieldError::invalid(path.index(index), after_one.clone(), IMMUTABLE));
        }
    }
    if after.len() != before.len() {
        errors.extend(range(new));
    }
    errors
}
