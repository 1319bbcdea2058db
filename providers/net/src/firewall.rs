//! Other people's firewalls, as far as they stop what pods send and receive.
//!
//! Docker and ufw let the kernel drop forwarded packets by default, whatever another table accepts. Each documents a chain
//! for rules of others: there, and nowhere else, this instance lets its links through, by two rules whose comment is the name
//! of its table. They are there while something leads to the chain, and go with the instance.
//!
//! Both speak through iptables-nft, so that the rules are made of nothing that it does not print. What the legacy iptables
//! has cannot be seen from here.

use nix::errno::Errno;

use ipnet::Ipv4Net;

use crate::NetError;
use crate::netlink::Socket;
use crate::nft::{self, BaseChain, Batch, BatchError, Hook, Listed, Rule, Verdict};
use crate::rules::Names;

/// The table of iptables' filter rules, and the chains in it where others may put theirs.
const TABLE: &str = "filter";
const PLACES: [&str; 2] = ["DOCKER-USER", "ufw-before-forward"];
/// One for what comes from pods, one for what goes to them.
const RULES: usize = 2;

/// Lets the instance's links through where a firewall has a place for that; returns the chains that were changed.
pub(crate) fn open(socket: &mut Socket, names: &Names) -> Result<Vec<String>, NetError> {
    let rules = nft::rules(socket, TABLE)?;
    let mut changed = Vec::new();
    for place in PLACES {
        let own: Vec<&Listed> = own_rules(&rules, names).filter(|rule| rule.chain == place).collect();
        let is_reached = reached(&rules, place);
        if own.len() == if is_reached { RULES } else { 0 } {
            continue;
        }
        let mut batch = Batch::new(TABLE);
        for rule in own {
            batch.delete_rule(place, rule.handle);
        }
        if is_reached {
            for rule in [Rule::new().leaves_by(&names.links), Rule::new().came_by(&names.links)] {
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
pub(crate) fn close(socket: &mut Socket, names: &Names) -> Result<(), NetError> {
    let rules = nft::rules(socket, TABLE)?;
    let mut batch = Batch::new(TABLE);
    for rule in own_rules(&rules, names).filter(|rule| PLACES.contains(&rule.chain.as_str())) {
        batch.delete_rule(&rule.chain, rule.handle);
    }
    commit(batch, socket).map(drop)
}

/// Says whether what iptables' FORWARD chain drops by default is let through for the instance.
pub(crate) fn is_open(rules: &[Listed], names: &Names) -> bool {
    let complete = |place: &str| own_rules(rules, names).filter(|rule| rule.chain == place).count() == RULES;
    PLACES.iter().any(|place| reached(rules, place) && complete(place))
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

/// Returns what stops what pods send or receive, as sentences with advice after a semicolon.
pub(crate) fn obstacles(socket: &mut Socket, names: &Names, pods: Ipv4Net) -> Result<Vec<String>, NetError> {
    let links = &names.links;
    let rules = nft::rules(socket, TABLE)?;
    let is_iptables = |chain: &BaseChain| chain.family == "ip" && chain.table == TABLE;
    let mut found = Vec::new();
    for chain in nft::base_chains_that_drop(socket, Hook::Forward)? {
        if is_iptables(&chain) && is_open(&rules, names) {
            continue;
        }
        let BaseChain { family, table, chain } = chain;
        found.push(format!(
            "the firewall drops forwarded packets (nftables chain {family} {table} {chain}), so pods may reach neither each \
             other nor the outside; accept what comes from and goes to {links}* in that chain: iptables -I FORWARD -i \
             {links}+ -j ACCEPT; iptables -I FORWARD -o {links}+ -j ACCEPT"
        ));
    }
    // As many bytes of the range as are its own: a firewall that was told of it compares these.
    let whole = usize::from(pods.prefix_len() / 8).max(1);
    let range = &pods.network().octets()[..whole];
    for chain in nft::base_chains_that_drop(socket, Hook::Input)? {
        if nft::mentions(socket, &chain.table, range)? {
            continue;
        }
        let BaseChain { family, table, chain } = chain;
        found.push(format!(
            "the firewall drops what comes in (nftables chain {family} {table} {chain}), so pods may not reach the cluster's \
             DNS on this host; accept what comes from {pods}: ufw allow from {pods}, or iptables -I INPUT -s {pods} -j ACCEPT"
        ));
    }
    if nft::tables(socket)?.iter().any(|table| table == "firewalld") && !nft::mentions(socket, "firewalld", range)? {
        found.push(format!(
            "firewalld runs and does not know the pods' range, so it rejects what they send; trust it: firewall-cmd \
             --permanent --zone=trusted --add-source={pods} && firewall-cmd --reload"
        ));
    }
    Ok(found)
}
