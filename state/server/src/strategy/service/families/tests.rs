use super::*;

const SINGLE_V4: &str = "10.96.0.0/16";
const DUAL: &str = "10.96.0.0/16,fd00:1:96::/112";
const DUAL_V6: &str = "fd00:1:96::/112,10.96.0.0/16";

fn object(value: Value) -> Spec {
    let Value::Object(mut spec) = value else { unreachable!() };
    spec.entry("type").or_insert("ClusterIP".into());
    spec
}

/// Allocates as a create or an update does.
fn result(cluster: &str, spec: Value, before: Option<&Spec>) -> Result<Spec, Vec<String>> {
    let ranges = Ranges::parse(cluster, 30000..=32767).unwrap();
    let mut spec = object(spec);
    link(&mut spec, before);
    let taken = || HashSet::from(["10.96.0.1", "10.96.0.77", "fd00:1:96::77"].map(|ip| ip.parse().unwrap()));
    match allocate(&ranges, &mut spec, before, taken) {
        Ok(()) => Ok(spec),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

/// What came of it: policy, families, and the family of each address.
fn shown(spec: &Spec) -> String {
    let of_ip = |ip: &&str| ip.parse().map_or((*ip).to_owned(), |ip| family(ip).to_owned());
    let ips: Vec<String> = list(spec, "clusterIPs").iter().map(of_ip).collect();
    if let Some(first) = list(spec, "clusterIPs").first() {
        assert_eq!(text(spec, "clusterIP"), *first);
    }
    let families = list(spec, "ipFamilies").join(",");
    format!("{} {families} {}", text(spec, "ipFamilyPolicy"), ips.join(","))
}

fn create(cluster: &str, spec: Value) -> String {
    match result(cluster, spec, None) {
        Ok(spec) => shown(&spec),
        Err(errors) => errors.join("; "),
    }
}

fn made(cluster: &str, spec: Value) -> Spec {
    result(cluster, spec, None).unwrap()
}

#[test]
fn a_new_service_gets_what_it_asks_for_where_the_cluster_has_it() {
    let selector = json!({"app": "a"});
    let not_dual = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services";
    let cases = [
        (SINGLE_V4, json!({}), "SingleStack IPv4 IPv4"),
        (DUAL, json!({}), "SingleStack IPv4 IPv4"),
        (DUAL_V6, json!({}), "SingleStack IPv6 IPv6"),
        (DUAL, json!({"ipFamilies": ["IPv6"]}), "SingleStack IPv6 IPv6"),
        (
            SINGLE_V4,
            json!({"ipFamilyPolicy": PREFER}),
            "PreferDualStack IPv4 IPv4",
        ),
        (
            DUAL,
            json!({"ipFamilyPolicy": PREFER}),
            "PreferDualStack IPv4,IPv6 IPv4,IPv6",
        ),
        (
            DUAL,
            json!({"ipFamilyPolicy": REQUIRE}),
            "RequireDualStack IPv4,IPv6 IPv4,IPv6",
        ),
        (
            DUAL,
            json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv6"]}),
            "RequireDualStack IPv6,IPv4 IPv6,IPv4",
        ),
        (
            DUAL,
            json!({"ipFamilyPolicy": PREFER, "clusterIP": "fd00:1:96::5"}),
            "PreferDualStack IPv6,IPv4 IPv6,IPv4",
        ),
        (
            DUAL,
            json!({"ipFamilyPolicy": PREFER, "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:1:96::9"]}),
            "PreferDualStack IPv4,IPv6 IPv4,IPv6",
        ),
        (SINGLE_V4, json!({"ipFamilyPolicy": REQUIRE}), not_dual),
        (
            SINGLE_V4,
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            SINGLE_V4,
            json!({"clusterIP": "fd00:1:96::5"}),
            "spec.clusterIPs[0]: Invalid value: [\"fd00:1:96::5\"]: IPv6 is not configured on this cluster",
        ),
        (
            DUAL,
            json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": SINGLE}),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ),
        (
            DUAL,
            json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:1:96::9"]}),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
        ),
        (
            DUAL,
            json!({"clusterIPs": ["10.96.0.9"]}),
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\"]: must be empty when `clusterIP` is not specified",
        ),
        (
            DUAL,
            json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.8"]}),
            "spec.clusterIPs: Invalid value: [\"10.96.0.8\"]: first value must match `clusterIP`",
        ),
        (
            DUAL,
            json!({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv6"]}),
            "spec.clusterIPs[0]: Invalid value: \"10.96.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            DUAL,
            json!({"ipFamilyPolicy": PREFER, "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "10.96.0.8"]}),
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\",\"10.96.0.8\"]: may specify no more than one IP for each IP family",
        ),
        (
            DUAL,
            json!({"ipFamilies": ["IPv6"], "clusterIP": "fd00:1:96::77"}),
            "spec.clusterIPs: Invalid value: [\"fd00:1:96::77\"]: failed to allocate IP fd00:1:96::77: provided IP is already allocated",
        ),
        (
            DUAL,
            json!({"clusterIP": "fd00:2::1"}),
            "spec.clusterIPs: Invalid value: [\"fd00:2::1\"]: failed to allocate IP fd00:2::1: the provided IP (fd00:2::1) is not in the valid range. The range of valid IPs is fd00:1:96::/112",
        ),
        // Headless, with and without a selector.
        (
            DUAL,
            json!({"clusterIP": "None", "selector": selector}),
            "SingleStack IPv4 None",
        ),
        (
            DUAL,
            json!({"clusterIP": "None", "selector": selector, "ipFamilyPolicy": PREFER}),
            "PreferDualStack IPv4,IPv6 None",
        ),
        (
            SINGLE_V4,
            json!({"clusterIP": "None", "selector": selector, "ipFamilyPolicy": REQUIRE}),
            not_dual,
        ),
        (DUAL, json!({"clusterIP": "None"}), "RequireDualStack IPv4,IPv6 None"),
        (
            SINGLE_V4,
            json!({"clusterIP": "None"}),
            "RequireDualStack IPv4,IPv6 None",
        ),
        (
            SINGLE_V4,
            json!({"clusterIP": "None", "ipFamilyPolicy": SINGLE}),
            "SingleStack IPv4 None",
        ),
        (
            SINGLE_V4,
            json!({"clusterIP": "None", "ipFamilies": ["IPv6"], "ipFamilyPolicy": SINGLE}),
            "SingleStack IPv6 None",
        ),
    ];
    for (cluster, spec, expected) in cases {
        assert_eq!(create(cluster, spec.clone()), expected, "{cluster} {spec}");
    }
}

#[test]
fn a_service_is_upgraded_and_downgraded_by_its_policy() {
    let single = made(DUAL, json!({}));
    let policy = |before: &Spec, policy: &str| {
        let mut spec = Value::Object(before.clone());
        spec["ipFamilyPolicy"] = policy.into();
        result(DUAL, spec, Some(before)).unwrap()
    };
    let dual = policy(&single, REQUIRE);
    assert_eq!(shown(&dual), "RequireDualStack IPv4,IPv6 IPv4,IPv6");
    assert_eq!(text(&dual, "clusterIP"), text(&single, "clusterIP"), "the first stays");
    assert_eq!(shown(&policy(&dual, PREFER)), "PreferDualStack IPv4,IPv6 IPv4,IPv6");
    let back = policy(&dual, SINGLE);
    assert_eq!(shown(&back), "SingleStack IPv4 IPv4");
    assert_eq!(text(&back, "clusterIP"), text(&single, "clusterIP"));
    // A manifest that says the policy alone.
    let replaced = result(DUAL, json!({"ipFamilyPolicy": SINGLE}), Some(&dual)).unwrap();
    assert_eq!(shown(&replaced), "SingleStack IPv4 IPv4");
    // One that says nothing keeps all.
    let kept = result(DUAL, json!({}), Some(&dual)).unwrap();
    assert_eq!(list(&kept, "clusterIPs"), list(&dual, "clusterIPs"));
    assert_eq!(text(&kept, "ipFamilyPolicy"), REQUIRE);
}

#[test]
fn the_second_address_is_given_up_only_by_the_policy() {
    let dual = made(DUAL, json!({"ipFamilyPolicy": PREFER}));
    let first = text(&dual, "clusterIP");
    let spec = json!({"ipFamilyPolicy": PREFER, "clusterIP": first, "clusterIPs": [first], "ipFamilies": ["IPv4"]});
    assert_eq!(
        result(DUAL, spec, Some(&dual)).unwrap_err(),
        [
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary cluster IP",
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary IP family",
        ]
    );
}

#[test]
fn a_service_that_prefers_two_stays_when_the_cluster_changes() {
    let before = made(SINGLE_V4, json!({"ipFamilyPolicy": PREFER}));
    let same = result(DUAL, Value::Object(before.clone()), Some(&before)).unwrap();
    assert_eq!(shown(&same), "PreferDualStack IPv4 IPv4");
    let before = made(DUAL, json!({"ipFamilyPolicy": PREFER}));
    let same = result(SINGLE_V4, Value::Object(before.clone()), Some(&before)).unwrap();
    assert_eq!(shown(&same), "PreferDualStack IPv4,IPv6 IPv4,IPv6");
}

#[test]
fn what_was_an_external_name_is_given_all() {
    let before = object(json!({"type": "ExternalName", "externalName": "a.example"}));
    let spec = json!({"ipFamilyPolicy": REQUIRE});
    let after = result(DUAL, spec, Some(&before)).unwrap();
    assert_eq!(shown(&after), "RequireDualStack IPv4,IPv6 IPv4,IPv6");
}
