//! Other people's firewalls, as far as they stop what pods send and receive.
//!
//! Docker and ufw let the kernel drop forwarded packets by default, whatever another table accepts. Each documents a chain
//! for rules of others: there, and nowhere else, this instance lets its links through, by two rules whose comment is the name
//! of its table. They are there while something leads to the chain, and go with the instance.
//!
//! Both speak through iptables-nft and ip6tables-nft, so that the rules are made of nothing that these do not print. What the legacy
//! iptables has cannot be seen from here.

use nix::errno::Errno;

use ipnet::IpNet;

use crate::address::octets;
use crate::netlink::Socket;
use crate::nft::{self, BaseChain, Batch, BatchError, Hook, Listed, Rule, Verdict};
use crate::rules::Names;
use crate::{Family, NetError, Subnets};

/// The table of iptables' filter rules, and the chains in it where others may put theirs.
const TABLE: &str = "filter";
const fn places(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["DOCKER-USER", "ufw-before-forward"],
        Family::V6 => ["DOCKER-USER", "ufw6-before-forward"],
    }
}
/// One for what comes from pods, one for what goes to them.
const RULES: usize = 2;

/// Lets the instance's links through where a firewall has a place for that; returns the chains that were changed.
pub(crate) fn open(socket: &mut Socket, family: Family, names: &Names) -> Result<Vec<String>, NetError> {
    let rules = nft::rules(socket, family, TABLE)?;
    let mut changed = Vec::new();
    for place in places(family) {
        let own: Vec<&Listed> = own_rules(&rules, names).filter(|rule| rule.chain == place).collect();
        let is_reached = reached(&rules, place);
        if own.len() == if is_reached { RULES } else { 0 } {
            continue;
        }
        let mut batch = Batch::new(TABLE, family);
        for rule in own {
            batch.delete_rule(place, rule.handle);
        }
        if is_reached {
            let rule = || Rule::new(family);
            for rule in [rule().leaves_by(&names.links), rule().came_by(&names.links)] {
                batch.insert_rule(place, &rule.count().verdict(&Verdict::Accept), &names.table);
            }
        }
        if commit(batch, socket)? {
            changed.push(place.to_owned());
        }
    }
    Ok(changed)
}

/// Takes the instance's rules out of others' chains.
pub(crate) fn close(socket: &mut Socket, family: Family, names: &Names) -> Result<(), NetError> {
    let rules = nft::rules(socket, family, TABLE)?;
    let mut batch = Batch::new(TABLE, family);
    for rule in own_rules(&rules, names).filter(|rule| places(family).contains(&rule.chain.as_str())) {
        batch.delete_rule(&rule.chain, rule.handle);
    }
    commit(batch, socket).map(drop)
}

/// Says whether what iptables' FORWARD chain drops by default is let through for the instance.
fn is_open(rules: &[Listed], family: Family, names: &Names) -> bool {
    let complete = |place: &str| own_rules(rules, names).filter(|rule| rule.chain == place).count() == RULES;
    places(family)
        .iter()
        .any(|place| reached(rules, place) && complete(place))
}

fn own_rules<'a>(rules: &'a [Listed], names: &'a Names) -> impl Iterator<Item = &'a Listed> {
    rules
        .iter()
        .filter(|rule| rule.comment.as_deref() == Some(names.table.as_str()))
}

fn reached(rules: &[Listed], chain: &str) -> bool {
    rules.iter().any(|rule| rule.leads_to.iter().any(|to| to == chain))
}

/// Returns false if the firewall was changed meanwhile, of which a notice tells.
fn commit(batch: Batch, socket: &mut Socket) -> Result<bool, NetError> {
    match batch.commit(socket) {
        Ok(count) => Ok(count > 0),
        Err(BatchError::Refused {
            errno: Errno::ENOENT | Errno::ERESTART | Errno::EBUSY,
            ..
        }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The commands of iptables for a family.
const fn command(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

/// The families whose packets pass a chain.
fn families(chain: &BaseChain, subnets: &[Subnets]) -> Vec<Subnets> {
    let passes = |family: Family| chain.family == "inet" || chain.family == family.word();
    subnets
        .iter()
        .filter(|subnets| passes(subnets.family))
        .copied()
        .collect()
}

/// As many bytes of the range as are its own: a firewall that was told of it compares these.
fn whole_bytes(range: IpNet) -> Vec<u8> {
    let mut bytes = octets(range.network());
    bytes.truncate(usize::from(range.prefix_len() / 8).max(1));
    bytes
}

/// Returns what stops what pods send or receive, as sentences with advice after a semicolon.
pub(crate) fn obstacles(socket: &mut Socket, names: &Names, subnets: &[Subnets]) -> Result<Vec<String>, NetError> {
    let links = &names.links;
    let mut found = Vec::new();
    for chain in nft::base_chains_that_drop(socket, Hook::Forward)? {
        for Subnets { family, .. } in families(&chain, subnets) {
            let is_iptables = chain.family == family.word() && chain.table == TABLE;
            if is_iptables && is_open(&nft::rules(socket, family, TABLE)?, family, names) {
                continue;
            }
            let iptables = command(family);
            let BaseChain { family, table, chain } = &chain;
            found.push(format!(
                "the firewall drops forwarded packets (nftables chain {family} {table} {chain}), so pods may reach neither each \
                 other nor the outside; accept what comes from and goes to {links}* in that chain: {iptables} -I FORWARD -i \
                 {links}+ -j ACCEPT; {iptables} -I FORWARD -o {links}+ -j ACCEPT"
            ));
        }
    }
    for chain in nft::base_chains_that_drop(socket, Hook::Input)? {
        // The cluster's DNS is at an address of IPv4.
        for Subnets { pods, .. } in families(&chain, subnets).into_iter().filter(is_ipv4) {
            if nft::mentions(socket, &chain.table, &whole_bytes(pods))? {
                continue;
            }
            let BaseChain { family, table, chain } = &chain;
            found.push(format!(
                "the firewall drops what comes in (nftables chain {family} {table} {chain}), so pods may not reach the cluster's \
                 DNS on this host; accept what comes from {pods}: ufw allow from {pods}, or iptables -I INPUT -s {pods} -j ACCEPT"
            ));
        }
    }
    if nft::tables(socket)?.iter().any(|(_, table)| table == "firewalld") {
        for Subnets { pods, .. } in subnets {
            if nft::mentions(socket, "firewalld", &whole_bytes(*pods))? {
                continue;
            }
            found.push(format!(
                "firewalld runs and does not know the pods' range, so it rejects what they send; trust it: firewall-cmd \
                 --permanent --zone=trusted --add-source={pods} && firewall-cmd --reload"
            ));
        }
    }
    Ok(found)
}

fn is_ipv4(subnets: &Subnets) -> bool {
    subnets.family == Family::V4
}
