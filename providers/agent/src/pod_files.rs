//! The files that every pod gets: /etc/hosts, /etc/hostname and /etc/resolv.conf. Pure; the host's own resolv.conf comes in as text.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use setpoint_net::AddressPair;

/// The longest host name that the kernel takes, in characters.
const FULL_NAME_LIMIT: usize = 64;
/// The most search domains that a resolver takes.
const SEARCH_LIMIT: usize = 32;
/// The most characters that a resolver takes of them together, and of one.
const SEARCH_LENGTH: (usize, usize) = (2048, 253);
/// The most name servers that a resolver takes.
const SERVER_LIMIT: usize = 3;

/// Returns the pod's host name: `spec.hostname` or its name, cut to what the kernel takes.
pub fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let over = spec.and_then(|spec| spec.hostname_override.clone());
    let wanted = over
        .or_else(|| spec.and_then(|spec| spec.hostname.clone()))
        .filter(|name| !name.is_empty());
    let name = wanted.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    let mut name: String = name.chars().take(63).collect();
    while name.ends_with(['-', '.']) {
        name.pop();
    }
    name
}

/// Returns the pod's full name in DNS, if it has a subdomain.
pub fn domain_name(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let subdomain = spec.subdomain.as_deref().filter(|name| !name.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!(
        "{}.{subdomain}.{namespace}.svc.{cluster_domain}",
        hostname(pod)
    ))
}

/// Returns the host name that the sandbox gets.
///
/// # Errors
/// In the kubelet's words: a full name that is longer than a host name may be.
pub fn sandbox_hostname(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let full = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.set_hostname_as_fqdn == Some(true));
    match domain_name(pod, cluster_domain).filter(|_| full) {
        Some(name) if name.len() > FULL_NAME_LIMIT => Err(format!(
            "Failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long ({FULL_NAME_LIMIT} is the max, {} characters requested)",
            name.len()
        )),
        Some(name) => Ok(name),
        None => Ok(hostname(pod)),
    }
}

/// Returns the text of /etc/hosts.
pub fn hosts(pod: &Pod, addresses: Option<AddressPair>, cluster_domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for ip in addresses.iter().flat_map(AddressPair::all) {
        let full = domain_name(pod, cluster_domain)
            .map(|name| format!("{name}\t"))
            .unwrap_or_default();
        text.push_str(&format!("{ip}\t{full}{}\n", hostname(pod)));
    }
    text.push_str(&host_aliases(pod));
    text
}

/// Returns the lines of `hostAliases`.
pub fn host_aliases(pod: &Pod) -> String {
    let aliases = pod.spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten());
    let lines: String = aliases
        .map(|alias| {
            format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.clone().unwrap_or_default().join("\t")
            )
        })
        .collect();
    if lines.is_empty() {
        lines
    } else {
        format!("\n# Entries added by HostAliases.\n{lines}")
    }
}

/// Returns the text of /etc/resolv.conf, and in the kubelet's words what was left out because a resolver takes no more.
pub fn resolv_conf(pod: &Pod, host: &str, dns: Ipv4Addr, cluster_domain: &str) -> (String, Vec<String>) {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let on_host = spec.host_network == Some(true);
    let mut resolver = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Resolver::default(),
        "ClusterFirstWithHostNet" => Resolver::cluster(host, dns, namespace, cluster_domain),
        "ClusterFirst" if !on_host => Resolver::cluster(host, dns, namespace, cluster_domain),
        _ => Resolver::read(host),
    };
    if let Some(config) = &spec.dns_config {
        resolver.servers.extend(config.nameservers.iter().flatten().cloned());
        resolver.search.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            resolver
                .options
                .retain(|known| known.split(':').next() != Some(name.as_str()));
            let value = option
                .value
                .as_ref()
                .map(|value| format!(":{value}"))
                .unwrap_or_default();
            resolver.options.push(format!("{name}{value}"));
        }
    }
    let omitted = resolver.limit();
    (resolver.text(), omitted)
}

/// Returns the host's resolv.conf as it holds inside a pod: name servers on the host's loopback (such as systemd's stub at
/// 127.0.0.53) answer nobody there; the cluster's DNS, which asks them, stands in for them.
pub fn host_servers_for_pods(host: &str, dns: Ipv4Addr) -> String {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let server = words
            .next()
            .filter(|word| *word == "nameserver")
            .and_then(|_| words.next());
        match server.and_then(|server| server.parse::<IpAddr>().ok()) {
            Some(server) if server.is_loopback() => format!("nameserver {dns}\n"),
            _ => format!("{line}\n"),
        }
    };
    host.lines().map(line).collect()
}

#[derive(Default)]
struct Resolver {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn cluster(host: &str, dns: Ipv4Addr, namespace: &str, domain: &str) -> Self {
        let mut search = vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.to_owned(),
        ];
        search.extend(Self::read(host).search);
        Self {
            servers: vec![dns.to_string()],
            search,
            options: vec!["ndots:5".to_owned()],
        }
    }

    fn read(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => {
                    resolver.search = words.filter(|word| *word != ".").map(str::to_owned).collect()
                }
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver
    }

    /// Leaves out what is there twice or too much; returns what is to be said of the second.
    fn limit(&mut self) -> Vec<String> {
        unique(&mut self.servers);
        unique(&mut self.search);
        let mut omitted = Vec::new();
        if self.servers.len() > SERVER_LIMIT {
            self.servers.truncate(SERVER_LIMIT);
            omitted.push(format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
                self.servers.join(" ")
            ));
        }
        let wanted = self.search.len();
        let (all, one) = SEARCH_LENGTH;
        self.search.truncate(SEARCH_LIMIT);
        self.search.retain(|domain| domain.len() <= one);
        while self.search.join(" ").len() > all {
            self.search.pop();
        }
        if self.search.len() < wanted {
            omitted.push(format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
                self.search.join(" ")
            ));
        }
        omitted
    }

    fn text(self) -> String {
        let mut text = String::new();
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|entry| seen.insert(entry.clone()));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const HOST: &str = "# host\nnameserver 9.9.9.9\nsearch corp.example\noptions timeout:2\n";

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"name": "web-1", "namespace": "shop"}, "spec": spec}))
            .expect("a pod")
    }

    fn resolv(spec: Value) -> String {
        resolv_conf(&pod(spec), HOST, Ipv4Addr::new(10, 42, 0, 1), "cluster.local").0
    }

    #[test]
    fn cluster_first_asks_the_cluster_and_searches_its_domains_before_the_hosts() {
        let expected = "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.42.0.1\noptions ndots:5\n";
        assert_eq!(resolv(json!({})), expected);
        assert_eq!(
            resolv(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})),
            expected
        );
    }

    #[test]
    fn default_and_host_network_use_the_hosts() {
        let expected = "search corp.example\nnameserver 9.9.9.9\noptions timeout:2\n";
        assert_eq!(resolv(json!({"dnsPolicy": "Default"})), expected);
        assert_eq!(resolv(json!({"hostNetwork": true})), expected);
    }

    #[test]
    fn a_stub_on_the_hosts_loopback_is_replaced_by_the_cluster_which_asks_it() {
        let host = "# stub\nnameserver 127.0.0.53\nnameserver 9.9.9.9\noptions edns0 trust-ad\nsearch lan\n";
        let text = host_servers_for_pods(host, Ipv4Addr::new(10, 42, 0, 1));
        let pod = pod(json!({"dnsPolicy": "Default"}));
        assert_eq!(
            resolv_conf(&pod, &text, Ipv4Addr::new(10, 42, 0, 1), "cluster.local").0,
            "search lan\nnameserver 10.42.0.1\nnameserver 9.9.9.9\noptions edns0 trust-ad\n"
        );
    }

    #[test]
    fn none_takes_only_what_the_pod_says_and_options_override() {
        let config = json!({"nameservers": ["1.1.1.1"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        assert_eq!(
            resolv(json!({"dnsPolicy": "None", "dnsConfig": config})),
            "search a.b\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"
        );
        assert!(resolv(json!({"dnsConfig": config})).ends_with("options ndots:2 edns0\n"));
    }

    #[test]
    fn what_a_resolver_does_not_take_is_left_out_and_said() {
        let cut = |servers: usize, searches: Vec<String>| {
            let servers: Vec<String> = (1..=servers).map(|number| format!("1.1.1.{number}")).collect();
            let config = json!({"nameservers": servers, "searches": searches});
            let pod = pod(json!({"dnsPolicy": "None", "dnsConfig": config}));
            resolv_conf(&pod, HOST, Ipv4Addr::new(10, 42, 0, 1), "cluster.local").1
        };
        let domains = |count: usize, length: usize| -> Vec<String> {
            (0..count).map(|number| format!("{number:a>length$}")).collect()
        };
        assert_eq!(cut(3, domains(32, 8)), Vec::<String>::new());
        let servers = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 1.1.1.1 1.1.1.2 1.1.1.3";
        assert_eq!(cut(4, domains(1, 8)), [servers]);
        let search = |kept: &[String]| {
            let kept = kept.join(" ");
            format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {kept}"
            )
        };
        assert_eq!(cut(1, domains(33, 8)), [search(&domains(32, 8))]);
        assert_eq!(cut(1, domains(1, 254)), [search(&[])]);
        // Twenty of 100 characters with the spaces between them are 2019.
        assert_eq!(cut(1, domains(21, 100)), [search(&domains(20, 100))]);
    }

    #[test]
    fn a_full_name_that_no_host_can_have_is_refused() {
        let name = |subdomain: &str, full: bool| {
            let pod = pod(json!({"subdomain": subdomain, "setHostnameAsFQDN": full}));
            sandbox_hostname(&pod, "cluster.local")
        };
        assert_eq!(name("db", false), Ok("web-1".to_owned()));
        assert_eq!(name("", true), Ok("web-1".to_owned()));
        assert_eq!(name("db", true), Ok("web-1.db.shop.svc.cluster.local".to_owned()));
        // All but the subdomain has 29 characters.
        let longest = "d".repeat(35);
        assert_eq!(name(&longest, true).map(|name| name.len()), Ok(64));
        let longer = "d".repeat(36);
        assert_eq!(
            name(&longer, true),
            Err(format!(
                "Failed to construct FQDN from pod hostname and cluster domain, FQDN web-1.{longer}.shop.svc.cluster.local is too long (64 is the max, 65 characters requested)"
            ))
        );
    }

    #[test]
    fn hosts_name_the_pod_its_subdomain_and_aliases() {
        let pod = pod(json!({"subdomain": "db", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x", "y"]}]}));
        let text = hosts(&pod, Some(Ipv4Addr::new(10, 42, 0, 7).into()), "cluster.local");
        assert!(
            text.contains("10.42.0.7\tweb-1.db.shop.svc.cluster.local\tweb-1\n"),
            "{text}"
        );
        assert!(text.ends_with("1.2.3.4\tx\ty\n"), "{text}");
        let both = AddressPair {
            ipv4: Ipv4Addr::new(10, 42, 0, 7),
            ipv6: "fd00:0:1:42::7".parse().ok(),
        };
        let text = hosts(&pod, Some(both), "cluster.local");
        let lines = "10.42.0.7\tweb-1.db.shop.svc.cluster.local\tweb-1\nfd00:0:1:42::7\tweb-1.db.shop.svc.cluster.local\tweb-1\n";
        assert!(text.contains(lines), "{text}");
    }
}
