//! What stands in the way of the network: firewalls, a taken port, names that nobody resolves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context;
use setpoint_net::Net;
use tokio::net::UdpSocket;

use super::{Finding, Findings, Subject};

/// How long a resolver may take.
const ANSWER: Duration = Duration::from_secs(3);
/// A question for the name servers of the root, which every resolver knows: recursion wanted, one question, `.`, NS, IN.
const QUESTION: [u8; 17] = [0x53, 0x50, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// Looks for chains that drop what pods send.
pub async fn firewall(subject: &Subject) -> Findings {
    let Some(instance) = &subject.instance else {
        return Ok(Vec::new());
    };
    let obstacles = Net::obstacles(&instance.net())
        .await
        .context("cannot look at this host's firewall")?;
    let mut findings: Vec<Finding> = obstacles
        .into_iter()
        .map(|text| match text.split_once("; ") {
            Some((what, advice)) => Finding::warning(what, advice),
            None => Finding::warning(text, "see the firewall's documentation"),
        })
        .collect();
    findings.extend(legacy(&instance.net().instance).await);
    if findings.is_empty() {
        findings.push(Finding::ok("no firewall drops what pods send or receive"));
    }
    Ok(findings)
}

/// Looks at the rules of the legacy iptables, which nftables does not show. Without its tables there is nothing to look at.
async fn legacy(instance: &str) -> Option<Finding> {
    const TABLES: &str = "/proc/net/ip_tables_names";
    let tables = std::fs::read_to_string(TABLES).unwrap_or_default();
    if !tables.lines().any(|table| table == "filter") {
        return None;
    }
    let advice = format!(
        "let what comes from and goes to sp{instance}* through: iptables-legacy -I FORWARD -i sp{instance}+ -j ACCEPT; \
         iptables-legacy -I FORWARD -o sp{instance}+ -j ACCEPT"
    );
    let mut list = tokio::process::Command::new("iptables-legacy");
    list.args(["-S", "FORWARD"])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(ANSWER, list.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            let rules = String::from_utf8_lossy(&output.stdout).into_owned();
            drops_pods(&rules, instance).then(|| {
                let what =
                    "the legacy iptables drop forwarded packets, so pods may reach neither each other nor the outside";
                Finding::warning(what, advice)
            })
        }
        _ => Some(Finding::warning(
            "this host has rules of the legacy iptables, which cannot be listed (iptables-legacy -S FORWARD)",
            format!("if they drop forwarded packets, {advice}"),
        )),
    }
}

/// Says whether the rules of the chain FORWARD drop what no rule lets through, and none names the instance's links.
fn drops_pods(rules: &str, instance: &str) -> bool {
    let drops = rules.lines().any(|line| line.trim() == "-P FORWARD DROP");
    let accepts = |direction: &str| {
        let links = format!("{direction} sp{instance}+");
        rules
            .lines()
            .any(|line| line.contains(&links) && line.contains("-j ACCEPT"))
    };
    drops && !(accepts("-i") && accepts("-o"))
}

/// Looks whether the API's port is free when no daemon has it.
pub fn port(subject: &Subject) -> Findings {
    let Some(instance) = &subject.instance else {
        return Ok(Vec::new());
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, instance.port));
    if subject.daemon.is_some() {
        return Ok(vec![Finding::ok(format!("{address}, the running daemon's"))]);
    }
    Ok(vec![match TcpListener::bind(address) {
        Ok(_) => Finding::ok(format!("{address} is free")),
        Err(error) => Finding::failed(
            format!("{address} cannot be listened on: {error}"),
            "stop what listens there, or start setpoint with another one: setpoint up --api-port PORT",
        ),
    }])
}

/// Asks the resolvers that names of pods' requests are handed to.
pub async fn resolvers(_subject: &Subject) -> Findings {
    const PATH: &str = "/etc/resolv.conf";
    let text = std::fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
    let servers = servers(&text);
    if servers.is_empty() {
        return Ok(vec![Finding::warning(
            format!("{PATH} names no resolver: pods resolve names of the cluster only"),
            "name one there (nameserver ADDRESS)",
        )]);
    }
    let mut findings = Vec::new();
    for server in servers {
        findings.push(match tokio::time::timeout(ANSWER, ask(server)).await {
            Ok(Ok(())) => Finding::ok(format!("{server} answers")),
            Ok(Err(error)) => silent(server, &error.to_string()),
            Err(_) => silent(server, &format!("no answer within {} s", ANSWER.as_secs())),
        });
    }
    Ok(findings)
}

fn silent(server: IpAddr, why: &str) -> Finding {
    Finding::warning(
        format!(
            "the resolver {server} does not answer ({why}): images cannot be pulled and pods cannot look names up by it"
        ),
        "look whether this machine reaches it, or name another one in /etc/resolv.conf",
    )
}

async fn ask(server: IpAddr) -> std::io::Result<()> {
    let own: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect((server, 53)).await?;
    socket.send(&QUESTION).await?;
    let mut answer = [0; 1500];
    loop {
        let length = socket.recv(&mut answer).await?;
        // Whatever it answers, even a refusal, somebody is there.
        if length >= 12 && answer[..2] == QUESTION[..2] && answer[2] & 0x80 != 0 {
            return Ok(());
        }
    }
}

fn servers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then(|| words.next()?.split('%').next()?.parse().ok())?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_rules_stand_in_the_way_unless_they_name_the_links() {
        assert!(!drops_pods("-P FORWARD ACCEPT\n", "ab12"));
        assert!(drops_pods("-P FORWARD DROP\n-A FORWARD -i spab12+ -j ACCEPT\n", "ab12"));
        let open = "-P FORWARD DROP\n-A FORWARD -o spab12+ -j ACCEPT\n-A FORWARD -i spab12+ -j ACCEPT\n";
        assert!(!drops_pods(open, "ab12"));
    }

    #[test]
    fn resolvers_are_read_as_the_system_does() {
        let text = "# x\nsearch a b\nnameserver 1.1.1.1\n nameserver\t::1\nnameserver fe80::1%eth0\nnameserver\nnameservers 2.2.2.2\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["1.1.1.1", "::1", "fe80::1"]);
    }
}
