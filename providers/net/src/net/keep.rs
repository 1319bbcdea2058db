//! An instance's network kept as it should be, whoever else changes this host's.
//!
//! The kernel says when a table, a route, an address, a link or forwarding has changed. What is said only wakes: the
//! host is looked at, and what is missing is made again. Changes of the instance's own table are told apart by the
//! socket that made them; after another's the whole table is written anew, since nobody knows what is left of it.
//!
//! Where somebody undoes it again and again, each mending waits longer than the one before.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::{Instant, sleep_until};

use super::{Inner, Pods, blocking, claim, claim_rest, claimed, lock, tables_exist, write_base};
use crate::netlink::{Listener, Notice, Socket};
use crate::{NetError, Subnets, firewall, link, nft, route, sysctl};

/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE` and `_IPV4_NETCONF` (forwarding), as bits.
const ROUTE_GROUPS: u32 = 1 << 0 | 1 << 4 | 1 << 6 | 1 << 23;
/// `RTNLGRP_IPV6_IFADDR`, `_IPV6_ROUTE` and `_IPV6_NETCONF`, as bits.
const ROUTE_GROUPS_OF_IPV6: u32 = 1 << 8 | 1 << 10 | 1 << 24;
/// `NFNLGRP_NFTABLES`, as a bit.
const FILTER_GROUPS: u32 = 1 << 6;

/// Changes come in swarms: they are looked at together.
const GATHER: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// So many mendings are quick before they begin to wait for each other.
const QUICK: u32 = 16;
/// Without a mending for so long, the next ones are quick again.
const CALM: Duration = Duration::from_secs(60);
/// A slow safety net behind the notices.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What notices have said since the last look.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    /// Something may have changed.
    any: bool,
    /// Somebody else has changed the instance's table.
    table: bool,
}

/// Keeps it so until dropped.
pub(super) async fn run(inner: &Arc<Inner>) {
    loop {
        if let Err(error) = listen(inner).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "changes of this host's network are not heard; trying again"
            );
        }
        tokio::time::sleep(LONGEST_WAIT).await;
    }
}

async fn listen(inner: &Arc<Inner>) -> Result<(), NetError> {
    let has_ipv6 = inner.config.ranges.ipv6.is_some();
    let mut routes = Listener::route(ROUTE_GROUPS | if has_ipv6 { ROUTE_GROUPS_OF_IPV6 } else { 0 })?;
    let mut filter = Listener::netfilter(FILTER_GROUPS)?;
    let mut news = News {
        any: true,
        table: false,
    };
    let mut mendings: u32 = 0;
    let mut mended_at: Option<Instant> = None;
    loop {
        let look_again = Instant::now() + LOOK_AGAIN;
        while !news.any && Instant::now() < look_again {
            hear(inner, &mut routes, &mut filter, look_again, &mut news).await?;
        }
        if mended_at.is_none_or(|at| at.elapsed() > CALM) {
            mendings = 0;
        }
        let gathered = Instant::now() + pause(mendings);
        while Instant::now() < gathered {
            hear(inner, &mut routes, &mut filter, gathered, &mut news).await?;
        }
        let News { table, .. } = std::mem::take(&mut news);
        let own = Arc::clone(inner);
        match blocking(move || own.mend(table)).await {
            Ok(mended) if mended.is_empty() => {}
            Ok(mended) => {
                tracing::warn!(
                    mended = mended.join(", "),
                    "somebody has changed this instance's network; it is mended"
                );
                mended_at = Some(Instant::now());
                mendings = mendings.saturating_add(1);
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "this instance's network cannot be mended; trying again"
                );
                // It is not forgotten what was to be mended.
                news = News { any: true, table };
                mended_at = Some(Instant::now());
                mendings = mendings.saturating_add(QUICK / 4);
            }
        }
    }
}

/// Returns how long to gather before a look, after so many mendings.
fn pause(mendings: u32) -> Duration {
    let doublings = mendings.saturating_sub(QUICK).min(10);
    (GATHER * (1 << doublings)).min(LONGEST_WAIT)
}

/// Hears what is said next, or nothing until that time.
async fn hear(
    inner: &Inner,
    routes: &mut Listener,
    filter: &mut Listener,
    until: Instant,
    news: &mut News,
) -> Result<(), NetError> {
    let table = inner.names.table.as_bytes();
    let mut heard = News::default();
    let of_tables = |notice: Notice<'_>| {
        // Looked up now: the socket may be newer than this wait.
        let own = lock(&inner.ports).contains(&notice.port);
        if let Some(change) = nft::change(&notice).filter(|change| !own && change.family.is_some()) {
            heard.any = true;
            heard.table |= change.table == table;
        }
    };
    let mut of_routes = false;
    tokio::select! {
        lost = filter.hear(of_tables) => {
            let lost = lost?;
            heard.any |= lost;
            heard.table |= lost;
        }
        lost = routes.hear(|_| of_routes = true) => of_routes |= lost?,
        () = sleep_until(until) => {}
    }
    news.any |= heard.any || of_routes;
    news.table |= heard.table;
    Ok(())
}

impl Inner {
    /// Makes again what is missing, and says what that was; `touched` says that somebody has changed the table.
    fn mend(&self, touched: bool) -> Result<Vec<String>, NetError> {
        let mut mended = Vec::new();
        // No pod is attached or detached half-way, as far as its rules go.
        let mut state = self.state();
        let mut routes = Socket::route()?;
        for Subnets { family, .. } in self.config.ranges.subnets() {
            if sysctl::forward(family)? {
                let parameter = sysctl::forwarding(family).replace('/', ".");
                mended.push(format!("forwarding ({parameter})"));
            }
        }
        self.mend_routes(&mut routes, &state.pods, &mut mended)?;
        let mut socket = state.socket()?;
        let there = tables_exist(&mut socket, &self.config, &self.names)?;
        match state.table.clone() {
            Some(table) if !there || touched => {
                state.programmed = None;
                self.apply_with(&mut state, &mut socket, table)?;
                mended.push(format!("the table {}", self.names.table));
            }
            // The first apply writes the whole of it.
            None if !there => {
                write_base(&mut socket, &self.config, &self.names, &state.pods, None)?;
                mended.push(format!("the table {}", self.names.table));
            }
            _ => {}
        }
        for Subnets { family, .. } in self.config.ranges.subnets() {
            for chain in firewall::open(&mut socket, family, &self.names)? {
                tracing::info!(
                    chain,
                    %family,
                    "the chain for others' rules of this host's firewall was brought up to date"
                );
            }
        }
        state.socket = Some(socket);
        Ok(mended)
    }

    fn mend_routes(&self, socket: &mut Socket, pods: &Pods, mended: &mut Vec<String>) -> Result<(), NetError> {
        let subnets = self.config.ranges.subnets();
        let links = route::links(socket)?;
        let loopback = links.iter().any(|link| link.index == route::LOOPBACK && link.up);
        let address = claimed(socket, &self.config, &self.names)?;
        let mut whole = loopback && address;
        for subnets in &subnets {
            whole &= is_whole(socket, subnets)?;
        }
        if !whole {
            if address {
                claim_rest(socket, &self.config)?;
            } else {
                claim(socket, &self.config, &self.names)?;
            }
            let gateways: Vec<String> = subnets.iter().map(|subnets| subnets.gateway.to_string()).collect();
            let gateways = gateways.join(" and ");
            mended.push(format!("the address {gateways} and the routes of the ranges"));
        }
        // As they are now: an address that goes takes the routes with it that prefer it.
        let mut routes = Vec::new();
        for Subnets { family, .. } in &subnets {
            routes.extend(route::routes(socket, *family)?);
        }
        for found in links {
            let ip = self.names.link_address(&found.name);
            let Some(pod) = ip.and_then(|ip| pods.get(&ip)) else {
                continue;
            };
            if link::mend(socket, &subnets, &found, *pod, &routes)? {
                mended.push(format!("the link {} of the pod {pod}", found.name));
            }
        }
        Ok(())
    }
}

/// Says whether a family has its gateway's address and the routes of its ranges.
fn is_whole(socket: &mut Socket, subnets: &Subnets) -> Result<bool, NetError> {
    let addresses = route::addresses(socket, subnets.family)?;
    let routes = route::routes(socket, subnets.family)?;
    let has_route = |to: IpNet| routes.iter().any(|route| route.to == to);
    let services = |route: &route::Route| route.to == subnets.services && route.out == Some(route::LOOPBACK);
    Ok(addresses.iter().any(|address| address.net.addr() == subnets.gateway)
        && has_route(subnets.pods)
        && routes.iter().any(services))
}
