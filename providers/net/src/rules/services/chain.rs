//! The chains of services: one backend is chosen, or who comes is looked at first.

use ipnet::IpNet;

use super::{Chain, Gate, endpoint};
use crate::address::octets;
use crate::nft::{Batch, Element, Register, Rule, SetSpec, Value, Verdict, address_type};
use crate::rules::{Layout, RETURN_MARK, TYPE_PORT};

/// The client's address.
const CLIENT: Register = Register::new(4);

/// Appends a chain that chooses one of its backends.
pub(super) fn add_chain(batch: &mut Batch, name: &str, chain: &Chain, clients: Option<String>, pods: IpNet) {
    batch.add_chain(name, None, &chain.name);
    let elsewhere = chain.backends.iter().any(|backend| !pods.contains(&backend.ip));
    let family = batch.family();
    let layout = Layout::of(family);
    let (address, port) = (layout.chosen(), layout.chosen_port());
    let rule = || {
        if elsewhere {
            Rule::new(family).set_mark(RETURN_MARK)
        } else {
            Rule::new(family)
        }
    };
    if let Some(clients) = &clients {
        // A remembered backend counts only while it is one of the service's.
        let id = batch.next_id();
        batch.add_set(SetSpec {
            name: "__set%d",
            key: &[family.length(), 2],
            key_type: address_type(family) << 6 | TYPE_PORT,
            value: Value::None,
            anonymous: Some(id),
            timeout: None,
        });
        let backends: Vec<_> = chain
            .backends
            .iter()
            .map(|backend| Element::Key(endpoint(*backend)))
            .collect();
        batch.add_elements("__set%d", Some(id), &backends);
        let known = rule()
            .load_source(CLIENT)
            .map(clients, None, CLIENT, address)
            .in_set("__set%d", Some(id), address)
            .remember(clients, CLIENT, address)
            .destination_nat(address, port);
        batch.add_rule(name, &known);
    }
    let choose = match chain.backends.as_slice() {
        [only] => rule()
            .load(&octets(only.ip), address)
            .load(&only.port.to_be_bytes(), port),
        several => {
            let id = batch.next_id();
            batch.add_set(SetSpec {
                name: "__map%d",
                key: &[4],
                key_type: 4,
                value: Value::Endpoint,
                anonymous: Some(id),
                timeout: None,
            });
            let elements: Vec<_> = (0_u32..)
                .zip(several)
                .map(|(number, backend)| Element::Value(number.to_ne_bytes().to_vec(), endpoint(*backend)))
                .collect();
            batch.add_elements("__map%d", Some(id), &elements);
            let count = u32::try_from(several.len()).unwrap_or(u32::MAX);
            rule()
                .load_random(count, address)
                .map("__map%d", Some(id), address, address)
        }
    };
    // The map would keep an old backend for a client that it knows: out with it first.
    let choose = match &clients {
        Some(clients) => choose
            .load_source(CLIENT)
            .forget(clients, CLIENT, address)
            .remember(clients, CLIENT, address),
        None => choose,
    };
    batch.add_rule(name, &choose.destination_nat(address, port));
}

/// Appends a chain that sends on by where a connection comes from.
pub(super) fn add_gate(batch: &mut Batch, name: &str, gate: &Gate, pods: IpNet) {
    batch.add_chain(name, None, gate.service());
    let family = batch.family();
    let rule = || Rule::new(family);
    match gate {
        Gate::Policy { here, elsewhere, .. } => {
            let here = here.verdict();
            batch.add_rule(name, &rule().source_in(pods).verdict(&here));
            batch.add_rule(name, &rule().source_is_local().verdict(&here));
            batch.add_rule(name, &rule().verdict(&elsewhere.verdict()));
        }
        Gate::Sources { ranges, then, .. } => {
            for range in ranges {
                batch.add_rule(name, &rule().source_in(*range).verdict(&then.verdict()));
            }
            batch.add_rule(name, &rule().verdict(&Verdict::Drop));
        }
    }
}
