//! Formats of texts that several kinds share: hosts, paths below a domain, addresses, ranges and URLs.

use std::net::IpAddr;

use super::all_invalid;
use super::field::{FieldError, Path};
use crate::names;

const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const HTTP_PATH: &str = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Returns what is wrong with a host whose first label is `*`.
pub(crate) fn wildcard_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > names::SUBDOMAIN_LENGTH {
        errors.push(format!("must be no more than {} bytes", names::SUBDOMAIN_LENGTH));
    }
    let shaped = text
        .strip_prefix("*.")
        .is_some_and(|rest| rest.split('.').all(names::is_label_shaped));
    if !shaped {
        errors.push(WILDCARD.to_owned());
    }
    errors
}

/// Refuses what is not of the form `acme.io/foo`.
pub(crate) fn domain_prefixed_path(errors: &mut Vec<FieldError>, path: &Path, text: &str) {
    if text.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let Some((host, rest)) = text
        .split_once('/')
        .filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(path, text, detail));
        return;
    };
    all_invalid(errors, path, host, names::dns_subdomain(host));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(allowed) {
        errors.push(FieldError::invalid(path, rest, HTTP_PATH));
    }
}

/// Refuses what is not a domain of three segments at least.
pub(crate) fn fully_qualified_name(errors: &mut Vec<FieldError>, path: &Path, text: &str) {
    if text.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let wrong = names::dns_subdomain(text);
    if !wrong.is_empty() {
        errors.push(FieldError::invalid(path, text, wrong.join(",")));
    } else if text.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, text, detail));
    }
}

/// Refuses what is not of the form `example.com/signer-name`.
pub(crate) fn signer_name(errors: &mut Vec<FieldError>, path: &Path, text: &str) {
    if text.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let segments: Vec<&str> = text.split('/').collect();
    let [domain, rest] = segments[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, text, detail));
        return;
    };
    if domain.len() > names::SUBDOMAIN_LENGTH {
        errors.push(FieldError::too_long(path, names::SUBDOMAIN_LENGTH));
    }
    // Of several wrong labels the first is enough.
    let first_wrong = |text: &str, rule: fn(&str) -> Vec<String>| {
        let label = text.split('.').find(|label| !rule(label).is_empty())?;
        let quoted = super::field::quote(label);
        let details = rule(label);
        Some(
            details
                .into_iter()
                .map(move |detail| format!("validating label {quoted}: {detail}")),
        )
    };
    if let Some(details) = first_wrong(domain, names::dns_label) {
        all_invalid(errors, path, domain, details.collect());
    }
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, detail));
    }
    if let Some(details) = first_wrong(rest, names::dns_subdomain) {
        all_invalid(errors, path, rest, details.collect());
    }
    let longest = 2 * names::SUBDOMAIN_LENGTH + names::LABEL_LENGTH + 2;
    if text.len() > longest {
        errors.push(FieldError::too_long(path, longest));
    }
}

/// Returns what is wrong with an address in canonical form.
pub(crate) fn address(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Err(_) => vec![ADDRESS.to_owned()],
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Ok(address) if address.to_string() != text => {
            vec![format!("must be in canonical form (\"{address}\")")]
        }
        Ok(_) => Vec::new(),
    }
}

/// Whether a text is an address, in whatever form.
pub(crate) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// The address as it is written.
    pub address: IpAddr,
    /// How many of its bits are the range's.
    pub length: u8,
}

impl Range {
    /// Reads `a.b.c.d/len`.
    pub fn parse(text: &str) -> Option<Range> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        // Neither a sign nor zeros before the number.
        let plain = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
        let length: u8 = length.parse().ok().filter(|_| plain)?;
        (u32::from(length) <= Range::bits(address)).then_some(Range { address, length })
    }

    fn bits(address: IpAddr) -> u32 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    /// The address's bits, in the lower ones of the number for IPv4.
    fn number(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        }
    }

    /// The bits of an address that are the range's.
    fn prefix(self, address: IpAddr) -> u128 {
        let free = Range::bits(self.address) - u32::from(self.length);
        Range::number(address).checked_shr(free).unwrap_or(0)
    }

    /// Whether the address has no bits set beyond the range's.
    pub fn is_masked(self) -> bool {
        let free = Range::bits(self.address) - u32::from(self.length);
        self.prefix(self.address).checked_shl(free).unwrap_or(0) == Range::number(self.address)
    }

    /// Whether another range lies within, and is smaller.
    pub fn holds_strictly(self, other: Range) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.length < other.length
            && self.prefix(self.address) == self.prefix(other.address)
    }
}

/// Refuses what is no range; `canonical` asks for the form in which Kubernetes writes one.
pub(crate) fn range(errors: &mut Vec<FieldError>, path: &Path, text: &str, canonical: bool) -> Option<Range> {
    let Some(range) = Range::parse(text) else {
        errors.push(FieldError::invalid(path, text, RANGE));
        return None;
    };
    let mapped = matches!(range.address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    let written = format!("{}/{}", range.address, range.length);
    if mapped {
        let detail = "must not have an IPv4-mapped IPv6 address";
        errors.push(FieldError::invalid(path, text, detail));
    } else if !range.is_masked() {
        let detail = "must not have bits set beyond the prefix length";
        errors.push(FieldError::invalid(path, text, detail));
    } else if canonical && written != text {
        let detail = format!("must be in canonical form (\"{written}\")");
        errors.push(FieldError::invalid(path, text, detail));
    }
    Some(range)
}

/// Refuses the URL of a webhook that is not `https://host[/path]`.
pub(crate) fn webhook_url(errors: &mut Vec<FieldError>, path: &Path, text: &str) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest))
            if scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) =>
        {
            (scheme.to_ascii_lowercase(), rest)
        }
        _ => (String::new(), text),
    };
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        let detail = format!(
            "url must be a valid URL: parse {}: net/url: invalid control character in URL{FORM}",
            super::field::quote(text)
        );
        errors.push(FieldError::required(path, detail));
        return;
    }
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(FieldError::invalid(path, scheme, detail));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest
        .strip_prefix("//")
        .map_or("", |rest| rest.split('/').next().unwrap_or(""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if host.is_empty() {
        errors.push(FieldError::invalid(path, host, format!("host must be specified{FORM}")));
    }
    if let Some(user) = user {
        let detail = "user information is not permitted in the URL";
        errors.push(FieldError::invalid(path, user, detail));
    }
    if !fragment.is_empty() {
        errors.push(FieldError::invalid(
            path,
            fragment,
            "fragments are not permitted in the URL",
        ));
    }
    if !query.is_empty() {
        let detail = "query parameters are not permitted in the URL";
        errors.push(FieldError::invalid(path, query, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str, canonical: bool) -> Vec<String> {
        let mut errors = Vec::new();
        range(&mut errors, &Path::new("x"), text, canonical);
        errors.iter().map(|error| error.detail.clone()).collect()
    }

    #[test]
    fn ranges_are_judged_as_on_kubernetes() {
        for good in ["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/64", "1.2.3.4/32", "::/0"] {
            assert!(ranges(good, true).is_empty(), "{good}");
        }
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "x/8",
            "::/129",
        ] {
            assert_eq!(ranges(bad, false), [RANGE], "{bad}");
        }
        assert_eq!(
            ranges("10.0.0.1/8", false),
            ["must not have bits set beyond the prefix length"]
        );
        assert_eq!(ranges("FE80::/64", true), ["must be in canonical form (\"fe80::/64\")"]);
        assert!(ranges("FE80::/64", false).is_empty());
        let range = |text: &str| Range::parse(text).unwrap();
        assert!(range("10.0.0.0/8").holds_strictly(range("10.1.0.0/16")));
        assert!(range("::/0").holds_strictly(range("fe80::/10")));
        for other in ["10.0.0.0/8", "11.0.0.0/16", "::/16"] {
            assert!(!range("10.0.0.0/8").holds_strictly(range(other)), "{other}");
        }
    }

    #[test]
    fn names_below_domains_are_judged_as_on_kubernetes() {
        let wrong = |check: fn(&mut Vec<FieldError>, &Path, &str), text: &str| {
            let mut errors = Vec::new();
            check(&mut errors, &Path::new("x"), text);
            errors.len()
        };
        for (text, expected) in [("a.b/c", 0), ("", 1), ("a", 1), ("a/", 1), ("A/c", 1), ("a/b c", 1)] {
            assert_eq!(wrong(domain_prefixed_path, text), expected, "{text}");
        }
        for (text, expected) in [("a.b.c", 0), ("a.b", 1), ("A.b.c", 1), ("", 1)] {
            assert_eq!(wrong(fully_qualified_name, text), expected, "{text}");
        }
        for (text, expected) in [
            ("a.b/c.d", 0),
            ("a/b", 1),
            ("a.b", 1),
            ("a.B/c", 1),
            ("a.b/", 1),
            ("a.b/c/d", 1),
        ] {
            assert_eq!(wrong(signer_name, text), expected, "{text}");
        }
        for (text, expected) in [
            ("https://a/b", 0),
            ("http://a", 1),
            ("https://", 1),
            ("https://u@a", 1),
            ("https://a?b#c", 2),
            ("a", 2),
        ] {
            assert_eq!(wrong(webhook_url, text), expected, "{text}");
        }
        assert!(wildcard_subdomain("*.example.com").is_empty());
        for bad in ["*", "*.", "a.*.b", "*.*.b"] {
            assert_eq!(wildcard_subdomain(bad), [WILDCARD], "{bad}");
        }
        assert!(address("10.0.0.1").is_empty() && address("fe80::1").is_empty());
        assert_eq!(address("FE80::1"), ["must be in canonical form (\"fe80::1\")"]);
        assert_eq!(address("x"), [ADDRESS]);
    }
}
