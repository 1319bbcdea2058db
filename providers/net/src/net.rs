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
    Applied, AttachRequest, Attachment, Backend, NetConfig, NetError, Ranges, ServiceTable, conntrack, firewall, link,
    ranges, route, sysctl,
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

#[derive(Debug, Default)]
struct State {
    /// `None` until the first apply, which replaces whatever an earlier process has left.
    programmed: Option<Programmed>,
    table: Option<ServiceTable>,
    /// The pods in the hairpin set.
    pods: BTreeSet<Ipv4Addr>,
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
    /// Returns ranges that no address and no route of this host uses (in any routing table).
    ///
    /// Two instances that choose at the same moment may get the same; the second [`Net::open`] then answers
    /// [`NetError::RangeTaken`], and choosing again gives others.
    pub async fn choose_ranges() -> Result<Ranges, NetError> {
        blocking(|| ranges::choose(&ranges::in_use(&mut Socket::route()?)?)).await
    }

    /// Makes what an instance needs on this host, or repairs it: forwarding, the gateway's address, the routes to
    /// services, the nftables table. Services and pods that are there keep working meanwhile.
    pub async fn open(config: NetConfig) -> Result<Net, NetError> {
        check(&config)?;
        blocking(move || {
            let names = Names::of(&config);
            let mut routes = Socket::route()?;
            let mut filter = Socket::netfilter()?;
            let pods = link::list(&mut routes, &names)?
                .into_iter()
                .map(|attachment| attachment.ip);
            let pods: BTreeSet<Ipv4Addr> = pods.collect();
            claim(&mut routes, &config, &names)?;
            if !nft::table_exists(&mut filter, &names.table)? {
                write_base(&mut filter, &config, &names, &pods, None)?;
            }
            sysctl::set("net/ipv4/ip_forward", "1")?;
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
        let ip = request.ip;
        let ranges = &inner.config.ranges;
        if !ranges.pods.contains(&ip) || ip == ranges.gateway() || ip == ranges.pods.network() {
            return Err(NetError::Invalid {
                what: format!("{ip} is no address for a pod in {}", ranges.pods),
            });
        }
        blocking(move || {
            let attachment = link::attach(&inner.names, inner.config.ranges.gateway(), &request)?;
            let added = inner.add_hairpin(ip).and_then(|()| link::passed(NetStep::Hairpin));
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

    /// Disconnects a pod; fine if it is gone already.
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
        let names = self.inner.names.clone();
        blocking(move || link::list(&mut Socket::route()?, &names)).await
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
        let (names, pods) = (Names::of(config), config.ranges.pods);
        blocking(move || firewall::obstacles(&mut Socket::netfilter()?, &names, pods)).await
    }

    /// Returns what of which instances is on this host, open or not: by the instance, the commands that remove it.
    pub async fn traces() -> Result<BTreeMap<String, Vec<String>>, NetError> {
        blocking(|| {
            let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for table in nft::tables(&mut Socket::netfilter()?)? {
                if let Some(instance) = rules::instance_of_table(&table) {
                    let command = format!("nft delete table ip {table}");
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

    fn add_hairpin(&self, ip: Ipv4Addr) -> Result<(), NetError> {
        let mut state = self.state();
        let mut batch = Batch::new(&self.names.table);
        rules::add_hairpin(&mut batch, &[ip]);
        let mut socket = state.socket()?;
        let added = batch.commit(&mut socket);
        state.socket = Some(socket);
        state.pods.insert(ip);
        match added {
            // Somebody flushed the table; the next apply writes it anew, this pod included.
            Err(error) if error.is_absence() => Ok(()),
            other => other.map(|_| ()).map_err(NetError::from),
        }
    }

    fn delete_hairpin(&self, ip: Ipv4Addr) -> Result<(), NetError> {
        let mut state = self.state();
        let mut batch = Batch::new(&self.names.table);
        rules::delete_hairpin(&mut batch, ip);
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
        let there = nft::table_exists(socket, &self.names.table)?;
        if there && state.programmed.is_some() && state.table.as_ref() == Some(&table) {
            return Ok(Applied::default());
        }
        let pods = self.config.ranges.pods;
        if let Some(programmed) = state.programmed.as_ref().filter(|_| there) {
            let next = programmed.next(&table);
            let (before, after) = (programmed.udp_backends(), next.udp_backends());
            let opened = programmed.opened_udp_ports(&next);
            let mut batch = Batch::new(&self.names.table);
            programmed.change(&next, pods, &mut batch);
            match batch.commit(socket) {
                Ok(messages) => {
                    state.programmed = Some(next);
                    state.table = Some(table);
                    if !before.is_subset(&after) || !opened.is_empty() {
                        let lost = |backend: Backend| before.contains(&backend) && !after.contains(&backend);
                        forget(socket, &lost, &opened);
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
        let next = Programmed::default().next(&table);
        let messages = write_base(socket, &self.config, &self.names, &state.pods, Some(&next))?;
        // What was in force before is not known: whatever a pod answers that is no backend now is stale.
        let after = next.udp_backends();
        let lost = |backend: Backend| pods.contains(&backend.ip) && !after.contains(&backend);
        forget(socket, &lost, &BTreeSet::new());
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
fn forget(socket: &mut Socket, lost: &dyn Fn(Backend) -> bool, opened: &BTreeSet<u16>) {
    let stale = conntrack::Stale { lost, opened };
    if let Err(error) = conntrack::forget(socket, &stale) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "UDP clients stay with lost backends"
        );
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
    let Ranges { pods, services } = &config.ranges;
    if pods.prefix_len() > 30 || services.prefix_len() > 30 || pods.contains(services) || services.contains(pods) {
        let what = format!("the ranges {pods} (pods) and {services} (services) overlap or are too small");
        return Err(NetError::Invalid { what });
    }
    Ok(())
}

fn write_base(
    socket: &mut Socket,
    config: &NetConfig,
    names: &Names,
    pods: &BTreeSet<Ipv4Addr>,
    services: Option<&Programmed>,
) -> Result<usize, NetError> {
    let mut batch = Batch::new(&names.table);
    let pods: Vec<Ipv4Addr> = pods.iter().copied().collect();
    rules::base(&mut batch, config, &pods);
    if let Some(services) = services {
        Programmed::default().change(services, config.ranges.pods, &mut batch);
    }
    Ok(batch.commit(socket)?)
}

/// Takes the gateway's address and the routes. The address claims the ranges: the kernel gives it to one instance
/// only, and its label says to which.
fn claim(socket: &mut Socket, config: &NetConfig, names: &Names) -> Result<(), NetError> {
    let Ranges { pods, services } = config.ranges;
    let gateway = config.ranges.gateway();
    let address = route::add_address(route::LOOPBACK, gateway, Some(&names.label));
    let what = address.what().to_owned();
    match socket.one(address)? {
        // Another's route to the same services would be replaced below.
        Ok(()) if route::routes(socket)?.iter().any(|route| route.to == services) => {
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
    socket.all(claim_messages(config))
}

fn claim_messages(config: &NetConfig) -> Vec<Message> {
    let Ranges { pods, services } = config.ranges;
    vec![
        // A fresh network namespace has its loopback down.
        route::set_up(route::LOOPBACK, None),
        route::add_unreachable(pods.trunc()),
        route::add_link_route(services.trunc(), route::LOOPBACK, Some(config.ranges.gateway())),
    ]
}

/// Says whether the gateway's address is there and this instance's.
fn claimed(socket: &mut Socket, config: &NetConfig, names: &Names) -> Result<bool, NetError> {
    let gateway = config.ranges.gateway();
    let mine = |address: &route::Address| address.net.addr() == gateway && address.label == names.label;
    Ok(route::addresses(socket)?.iter().any(mine))
}

fn ignore_absent(socket: &mut Socket, message: Message) -> Result<(), NetError> {
    let what = message.what().to_owned();
    match socket.one(message)? {
        Ok(()) | Err(Errno::ESRCH | Errno::ENODEV | Errno::EADDRNOTAVAIL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(failed(&what, errno)),
    }
}

fn remove_table(socket: &mut Socket, names: &Names) -> Result<(), NetError> {
    let mut batch = Batch::new(&names.table);
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
    remove_table(&mut filter, &names)?;
    firewall::close(&mut filter, &names)?;
    // Without the address the routes may be another's.
    if claimed(&mut routes, config, &names)? {
        let Ranges { pods, services } = config.ranges;
        ignore_absent(&mut routes, route::delete_link_route(services.trunc(), route::LOOPBACK))?;
        ignore_absent(&mut routes, route::delete_unreachable(pods.trunc()))?;
        ignore_absent(
            &mut routes,
            route::delete_address(route::LOOPBACK, config.ranges.gateway()),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
