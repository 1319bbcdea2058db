//! The handle on an instance's network.

mod keep;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use crate::fault::NetStep;
use crate::netlink::{Message, Socket, failed};
use crate::nft::{self, Batch};
use crate::rules::{self, Names, Programmed};
use crate::{
    AddressPair, Applied, AttachRequest, Attachment, Backend, Family, Ipv6Ranges, NetConfig, NetError, Ranges,
    ServiceTable, Subnets, conntrack, firewall, link, ranges, route, sysctl,
};

/// One instance's network on this host; cheap to clone.
///
/// All operations act on the network namespace that the caller's runtime lives in. They run on blocking threads
/// and end even when their future is dropped.
#[derive(Clone, Debug)]
pub struct Net {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: NetConfig,
    names: Names,
    /// Held across each change of the table: what it says is what the kernel has.
    state: Mutex<State>,
    ports: OwnPorts,
}

/// The numbers of the socket that changes the table and of the one before it: what they change is no news.
type OwnPorts = Arc<Mutex<[u32; 2]>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in them is whole at any time; a panic in between leaves it valid.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Pods = BTreeMap<Ipv4Addr, AddressPair>;

#[derive(Debug, Default)]
struct State {
    /// `None` until the first apply, which replaces whatever an earlier process has left.
    programmed: Option<Programmed>,
    table: Option<ServiceTable>,
    /// The pods in the hairpin sets, by their first address.
    pods: Pods,
    /// Kept open: the kernel finishes all pending removals (an RCU grace period) when such a socket is closed.
    socket: Option<Socket>,
    ports: OwnPorts,
}

impl State {
    fn socket(&mut self) -> Result<Socket, NetError> {
        match self.socket.take() {
            Some(socket) => Ok(socket),
            None => {
                let socket = Socket::netfilter()?;
                let port = socket.port()?;
                let mut ports = lock(&self.ports);
                *ports = [port, ports[0]];
                Ok(socket)
            }
        }
    }
}

/// Runs blocking work; it ends even when the caller does not wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<T, NetError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(NetError::Netlink {
            operation: "finish while shutting down".to_owned(),
            source: Box::new(error),
        }),
    }
}

impl Net {
    /// Returns ranges of IPv4 that no address and no route of this host uses (in any routing table).
    ///
    /// Two instances that choose at the same moment may get the same; the second [`Net::open`] then answers
    /// [`NetError::RangeTaken`], and choosing again gives others.
    pub async fn choose_ranges() -> Result<Ranges, NetError> {
        blocking(|| ranges::choose(&ranges::in_use(&mut Socket::route()?, Family::V4)?)).await
    }

    /// Returns ranges of IPv6 that no address and no route of this host uses: unique local addresses, whose forty random bits are taken from
    /// this number.
    pub async fn choose_ipv6_ranges(global_id: u64) -> Result<Ipv6Ranges, NetError> {
        blocking(move || ranges::choose_ipv6(global_id, &ranges::in_use(&mut Socket::route()?, Family::V6)?)).await
    }

    /// Removes what an instance that goes on with IPv4 alone has of IPv6: its table, its routes and the gateway's address. Pods keep theirs
    /// until they end.
    pub async fn leave_ipv6(config: &NetConfig) -> Result<(), NetError> {
        check(config)?;
        let config = config.clone();
        blocking(move || remove_ipv6(&config, &mut Socket::route()?, &mut Socket::netfilter()?)).await
    }

    /// Makes what an instance needs on this host, or repairs it: forwarding, the gateway's addresses, the routes to
    /// services, the nftables tables. Services and pods that are there keep working meanwhile.
    pub async fn open(config: NetConfig) -> Result<Net, NetError> {
        check(&config)?;
        blocking(move || {
            let names = Names::of(&config);
            let mut routes = Socket::route()?;
            let mut filter = Socket::netfilter()?;
            let attached = link::list(&mut routes, &names, &config.ranges)?.into_iter();
            let pods: Pods = attached.map(|pod| (pod.addresses.ipv4, pod.addresses)).collect();
            claim(&mut routes, &config, &names)?;
            if !tables_exist(&mut filter, &config, &names)? {
                write_base(&mut filter, &config, &names, &pods, None)?;
            }
            for Subnets { family, .. } in config.ranges.subnets() {
                sysctl::forward(family)?;
            }
            let ports = OwnPorts::default();
            let state = Mutex::new(State {
                pods,
                ports: Arc::clone(&ports),
                ..State::default()
            });
            Ok(Net {
                inner: Arc::new(Inner {
                    config,
                    names,
                    state,
                    ports,
                }),
            })
        })
        .await
    }

    /// Returns what it was opened with.
    pub fn config(&self) -> &NetConfig {
        &self.inner.config
    }

    /// Connects a pod: a veth into its network namespace, addresses, routes and neighbours on both ends.
    ///
    /// A link that a dead sandbox left for the same address is replaced. On failure nothing is left.
    pub async fn attach(&self, request: AttachRequest) -> Result<Attachment, NetError> {
        let inner = Arc::clone(&self.inner);
        let pod = request.addresses;
        let (ip, ranges) = (pod.ipv4, &inner.config.ranges);
        if !ranges.pods.contains(&ip) || ip == ranges.gateway() || ip == ranges.pods.network() {
            return Err(NetError::Invalid {
                what: format!("{ip} is no address for a pod in {}", ranges.pods),
            });
        }
        if let Some(ip) = pod.ipv6.filter(|_| pod.ipv6 != ranges.addresses(ip).ipv6) {
            let what = match ranges.ipv6 {
                Some(ranges) => format!("{ip} is not the place of {} in {}", pod.ipv4, ranges.pods),
                None => format!("{ip} is no address for a pod: IPv6 is switched off"),
            };
            return Err(NetError::Invalid { what });
        }
        blocking(move || {
            let attachment = link::attach(&inner.names, &inner.config.ranges, &request)?;
            let added = inner.add_hairpin(pod).and_then(|()| link::passed(NetStep::Hairpin));
            if let Err(error) = added {
                // Both are tried: whichever is left would be the next pod's that gets the address.
                let link = Socket::route().and_then(|mut socket| link::delete(&mut socket, &attachment.interface));
                for left in [link, inner.delete_hairpin(ip)].into_iter().filter_map(Result::err) {
                    tracing::warn!(%ip, error = &left as &dyn std::error::Error, "something of a failed attach is left");
                }
                return Err(error);
            }
            Ok(attachment)
        })
        .await
    }

    /// Disconnects a pod, by its first address; fine if it is gone already.
    pub async fn detach(&self, ip: Ipv4Addr) -> Result<(), NetError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            link::delete(&mut Socket::route()?, &inner.names.link(ip))?;
            inner.delete_hairpin(ip)
        })
        .await
    }

    /// Lists this instance's links as the kernel has them, by address.
    pub async fn attached(&self) -> Result<Vec<Attachment>, NetError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || link::list(&mut Socket::route()?, &inner.names, &inner.config.ranges)).await
    }

    /// Makes the services what the table says, in one transaction: the difference to what is there, or everything
    /// when that is not known or somebody has removed it. Established connections go on.
    pub async fn apply(&self, table: &ServiceTable) -> Result<Applied, NetError> {
        let inner = Arc::clone(&self.inner);
        let table = table.clone();
        blocking(move || inner.apply(table)).await
    }

    /// Removes everything of this instance: links, routes, the gateway's address, the table. Forwarding stays on.
    pub async fn remove_all(&self) -> Result<(), NetError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut state = inner.state();
            remove(&inner.config)?;
            *state = State {
                ports: Arc::clone(&inner.ports),
                ..State::default()
            };
            Ok(())
        })
        .await
    }

    /// Removes everything of an instance that is not open here; fine if there is nothing.
    pub async fn remove(config: &NetConfig) -> Result<(), NetError> {
        check(config)?;
        let config = config.clone();
        blocking(move || remove(&config)).await
    }

    /// Keeps this instance's things on the host as they should be, until it is dropped: what others remove or change is
    /// noticed by the kernel's word, and mended; a slow look behind that finds what was missed.
    ///
    /// Others' firewalls are opened for the instance's links where they have a place for that (see `doctor`).
    pub async fn keep(&self) {
        keep::run(&self.inner).await;
    }

    /// Returns what on this host stands in the way of pods, as sentences with advice.
    ///
    /// Rules of the legacy iptables are not seen.
    pub async fn warnings(&self) -> Result<Vec<String>, NetError> {
        Self::obstacles(&self.inner.config).await
    }

    /// Returns the [`warnings`](Net::warnings) for an instance that is not open here.
    pub async fn obstacles(config: &NetConfig) -> Result<Vec<String>, NetError> {
        let (names, subnets) = (Names::of(config), config.ranges.subnets());
        blocking(move || firewall::obstacles(&mut Socket::netfilter()?, &names, &subnets)).await
    }

    /// Returns what of which instances is on this host, open or not: by the instance, the commands that remove it.
    pub async fn traces() -> Result<BTreeMap<String, Vec<String>>, NetError> {
        blocking(|| {
            let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (family, table) in nft::tables(&mut Socket::netfilter()?)? {
                let Some(family) = family else { continue };
                if let Some(instance) = rules::instance_of_table(&table) {
                    let command = format!("nft delete table {} {table}", family.word());
                    found.entry(instance.to_owned()).or_default().push(command);
                }
            }
            for link in route::links(&mut Socket::route()?)? {
                if let Some(instance) = rules::instance_of_link(&link.name) {
                    let command = format!("ip link delete {}", link.name);
                    found.entry(instance.to_owned()).or_default().push(command);
                }
            }
            Ok(found)
        })
        .await
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is written only after the kernel has taken the change.
        lock(&self.state)
    }

    fn add_hairpin(&self, pod: AddressPair) -> Result<(), NetError> {
        let mut state = self.state();
        let mut batch = Batch::new(&self.names.table, Family::V4);
        rules::add_hairpin(&mut batch, &self.config, &[pod]);
        let mut socket = state.socket()?;
        let added = batch.commit(&mut socket);
        state.socket = Some(socket);
        state.pods.insert(pod.ipv4, pod);
        match added {
            // Somebody flushed the table; the next apply writes it anew, this pod included.
            Err(error) if error.is_absence() => Ok(()),
            other => other.map(|_| ()).map_err(NetError::from),
        }
    }

    fn delete_hairpin(&self, ip: Ipv4Addr) -> Result<(), NetError> {
        let mut state = self.state();
        let mut batch = Batch::new(&self.names.table, Family::V4);
        // One that is not known is in no set of IPv6.
        let pod = state.pods.get(&ip).copied().unwrap_or_else(|| ip.into());
        rules::delete_hairpin(&mut batch, &self.config, pod);
        let mut socket = state.socket()?;
        let deleted = batch.commit(&mut socket);
        state.socket = Some(socket);
        state.pods.remove(&ip);
        match deleted {
            Err(error) if error.is_absence() => Ok(()),
            other => other.map(|_| ()).map_err(NetError::from),
        }
    }

    fn apply(&self, table: ServiceTable) -> Result<Applied, NetError> {
        let mut state = self.state();
        let mut socket = state.socket()?;
        let applied = self.apply_with(&mut state, &mut socket, table);
        if applied.is_ok() {
            state.socket = Some(socket);
        }
        applied
    }

    fn apply_with(&self, state: &mut State, socket: &mut Socket, table: ServiceTable) -> Result<Applied, NetError> {
        let there = tables_exist(socket, &self.config, &self.names)?;
        if there && state.programmed.is_some() && state.table.as_ref() == Some(&table) {
            return Ok(Applied::default());
        }
        let subnets = self.config.ranges.subnets();
        if let Some(programmed) = state.programmed.as_ref().filter(|_| there) {
            let next = programmed.next(&table, &subnets);
            let (before, after) = (programmed.udp_backends(), next.udp_backends());
            let opened = programmed.opened_udp_ports(&next);
            let mut batch = Batch::new(&self.names.table, Family::V4);
            programmed.change(&next, &subnets, &mut batch);
            match batch.commit(socket) {
                Ok(messages) => {
                    state.programmed = Some(next);
                    state.table = Some(table);
                    if !before.is_subset(&after) || !opened.is_empty() {
                        let lost = |backend: Backend| before.contains(&backend) && !after.contains(&backend);
                        forget(socket, &subnets, &lost, &opened);
                    }
                    return Ok(Applied {
                        changed: messages > 0,
                        messages,
                    });
                }
                // Somebody else has changed the table: write all of it anew.
                Err(error) if error.is_absence() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let next = Programmed::default().next(&table, &subnets);
        let messages = write_base(socket, &self.config, &self.names, &state.pods, Some(&next))?;
        // What was in force before is not known: whatever a pod answers that is no backend now is stale.
        let after = next.udp_backends();
        let is_pods = |backend: Backend| subnets.iter().any(|subnets| subnets.pods.contains(&backend.ip));
        let lost = |backend: Backend| is_pods(backend) && !after.contains(&backend);
        forget(socket, &subnets, &lost, &BTreeSet::new());
        state.programmed = Some(next);
        state.table = Some(table);
        Ok(Applied {
            changed: true,
            messages,
        })
    }
}

/// Removes stale UDP entries. The rules are in force by now; a client that is left behind is no reason to apply them
/// again.
fn forget(socket: &mut Socket, subnets: &[Subnets], lost: &dyn Fn(Backend) -> bool, opened: &BTreeSet<u16>) {
    let stale = conntrack::Stale { lost, opened };
    for Subnets { family, .. } in subnets {
        if let Err(error) = conntrack::forget(socket, *family, &stale) {
            tracing::warn!(
                %family,
                error = &error as &dyn std::error::Error,
                "UDP clients stay with lost backends"
            );
        }
    }
}

fn check(config: &NetConfig) -> Result<(), NetError> {
    let valid = config.instance.len() == 4
        && config
            .instance
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !valid {
        let what = format!(
            "{:?} is no instance: it is four of the digits 0-9 and a-f",
            config.instance
        );
        return Err(NetError::Invalid { what });
    }
    let Ranges { pods, services, ipv6 } = &config.ranges;
    if pods.prefix_len() > 30 || services.prefix_len() > 30 || pods.contains(services) || services.contains(pods) {
        let what = format!("the ranges {pods} (pods) and {services} (services) overlap or are too small");
        return Err(NetError::Invalid { what });
    }
    if let Some(Ipv6Ranges { pods, services }) = ipv6
        && (pods.prefix_len() > 96 || services.prefix_len() > 124 || pods.contains(services) || services.contains(pods))
    {
        let what = format!("the ranges {pods} (pods) and {services} (services) overlap or are too small");
        return Err(NetError::Invalid { what });
    }
    Ok(())
}

fn write_base(
    socket: &mut Socket,
    config: &NetConfig,
    names: &Names,
    pods: &Pods,
    services: Option<&Programmed>,
) -> Result<usize, NetError> {
    let mut families = Vec::new();
    for Subnets { family, .. } in config.ranges.subnets() {
        // Where nobody knows the services yet, a table that is there keeps them.
        if services.is_some() || !nft::table_exists(socket, family, &names.table)? {
            families.push(family);
        }
    }
    let mut batch = Batch::new(&names.table, Family::V4);
    let pods: Vec<AddressPair> = pods.values().copied().collect();
    rules::base(&mut batch, config, &families, &pods);
    if let Some(services) = services {
        Programmed::default().change(services, &config.ranges.subnets(), &mut batch);
    }
    Ok(batch.commit(socket)?)
}

/// Says whether the tables of all families are there.
fn tables_exist(socket: &mut Socket, config: &NetConfig, names: &Names) -> Result<bool, NetError> {
    for Subnets { family, .. } in config.ranges.subnets() {
        if !nft::table_exists(socket, family, &names.table)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes the gateway's addresses and the routes. That of IPv4 claims the ranges: the kernel gives it to one instance
/// only, and its label says to which. Those of IPv6 are nobody else's by their forty random bits.
fn claim(socket: &mut Socket, config: &NetConfig, names: &Names) -> Result<(), NetError> {
    let (pods, services) = (config.ranges.pods.into(), config.ranges.services.into());
    let gateway = config.ranges.gateway().into();
    let address = route::add_address(route::LOOPBACK, gateway, Some(&names.label));
    let what = address.what().to_owned();
    let routes = |socket: &mut Socket| route::routes(socket, Family::V4);
    match socket.one(address)? {
        // Another's route to the same services would be replaced below.
        Ok(()) if routes(socket)?.iter().any(|route| route.to == services) => {
            ignore_absent(socket, route::delete_address(route::LOOPBACK, gateway))?;
            return Err(NetError::RangeTaken {
                purpose: "service",
                range: services,
            });
        }
        Ok(()) => {}
        Err(Errno::EEXIST) if claimed(socket, config, names)? => {}
        Err(Errno::EEXIST) => {
            return Err(NetError::RangeTaken {
                purpose: "pod",
                range: pods,
            });
        }
        Err(errno) => return Err(failed(&what, errno)),
    }
    claim_rest(socket, config)
}

/// Takes what the address of IPv4 stands for, or takes it again.
fn claim_rest(socket: &mut Socket, config: &NetConfig) -> Result<(), NetError> {
    if config.ranges.ipv6.is_some() {
        // A loopback that has its own switched off, by whomever, would refuse the gateway's.
        sysctl::set("net/ipv6/conf/lo/disable_ipv6", "0")?;
    }
    // A fresh network namespace has its loopback down.
    let mut messages = vec![route::set_up(route::LOOPBACK, None)];
    for subnets in config.ranges.subnets() {
        if subnets.family == Family::V6 {
            messages.push(route::set_address(route::LOOPBACK, subnets.gateway));
        }
        messages.push(route::add_unreachable(subnets.pods));
        let gateway = Some(subnets.gateway);
        messages.push(route::add_link_route(subnets.services, route::LOOPBACK, gateway));
    }
    socket.all(messages)
}

/// Says whether the gateway's address of IPv4 is there and this instance's.
fn claimed(socket: &mut Socket, config: &NetConfig, names: &Names) -> Result<bool, NetError> {
    let gateway = config.ranges.gateway();
    let mine = |address: &route::Address| address.net.addr() == gateway && address.label == names.label;
    Ok(route::addresses(socket, Family::V4)?.iter().any(mine))
}

fn ignore_absent(socket: &mut Socket, message: Message) -> Result<(), NetError> {
    let what = message.what().to_owned();
    match socket.one(message)? {
        Ok(())
        | Err(Errno::ESRCH | Errno::ENODEV | Errno::EADDRNOTAVAIL | Errno::ENOENT | Errno::ENXIO | Errno::EOPNOTSUPP) => {
            Ok(())
        }
        Err(errno) => Err(failed(&what, errno)),
    }
}

fn remove_table(socket: &mut Socket, family: Family, names: &Names) -> Result<(), NetError> {
    let mut batch = Batch::new(&names.table, family);
    // Making it first lets the removal succeed whether or not it was there.
    batch.add_table();
    batch.delete_table();
    batch.commit(socket)?;
    Ok(())
}

fn remove(config: &NetConfig) -> Result<(), NetError> {
    let names = Names::of(config);
    let mut filter = Socket::netfilter()?;
    let mut routes = Socket::route()?;
    link::delete_all(&mut routes, &names)?;
    remove_table(&mut filter, Family::V4, &names)?;
    firewall::close(&mut filter, Family::V4, &names)?;
    // Without the address the routes may be another's.
    if claimed(&mut routes, config, &names)? {
        for subnets in config.ranges.subnets() {
            if subnets.family == Family::V4 {
                unclaim(&mut routes, &subnets)?;
            }
        }
    }
    remove_ipv6(config, &mut routes, &mut filter)
}

fn remove_ipv6(config: &NetConfig, routes: &mut Socket, filter: &mut Socket) -> Result<(), NetError> {
    let names = Names::of(config);
    let tables = nft::tables(filter)?;
    if tables.contains(&(Some(Family::V6), names.table.clone())) {
        remove_table(filter, Family::V6, &names)?;
    }
    firewall::close(filter, Family::V6, &names)?;
    let subnets = config.ranges.subnets();
    for subnets in subnets.iter().filter(|subnets| subnets.family == Family::V6) {
        // Where IPv6 has been switched off since, there is nothing either.
        unclaim(routes, subnets)?;
    }
    Ok(())
}

/// Removes the routes of a family's ranges and the gateway's address.
fn unclaim(socket: &mut Socket, subnets: &Subnets) -> Result<(), NetError> {
    for message in [
        route::delete_link_route(subnets.services, route::LOOPBACK),
        route::delete_unreachable(subnets.pods),
        route::delete_address(route::LOOPBACK, subnets.gateway),
    ] {
        ignore_absent(socket, message)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
