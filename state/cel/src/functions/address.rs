//! Kubernetes' libraries of IP addresses and of ranges of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Meter, Outcome, Row, no_overload};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "ip",
        signatures: &["(string) -> ip", "cidr.() -> ip"],
        run: ip,
    },
    Row {
        name: "isIP",
        signatures: &["(string) -> bool"],
        run: is_ip,
    },
    Row {
        name: "ip.isCanonical",
        signatures: &["(string) -> bool"],
        run: is_canonical,
    },
    Row {
        name: "family",
        signatures: &["ip.() -> int"],
        run: |args, _| family(args),
    },
    Row {
        name: "isUnspecified",
        signatures: &["ip.() -> bool"],
        run: |args, _| test(args, |ip| ip.is_unspecified()),
    },
    Row {
        name: "isLoopback",
        signatures: &["ip.() -> bool"],
        run: |args, _| test(args, |ip| ip.is_loopback()),
    },
    Row {
        name: "isLinkLocalMulticast",
        signatures: &["ip.() -> bool"],
        run: |args, _| test(args, link_local_multicast),
    },
    Row {
        name: "isLinkLocalUnicast",
        signatures: &["ip.() -> bool"],
        run: |args, _| test(args, link_local_unicast),
    },
    Row {
        name: "isGlobalUnicast",
        signatures: &["ip.() -> bool"],
        run: |args, _| test(args, global_unicast),
    },
    Row {
        name: "cidr",
        signatures: &["(string) -> cidr"],
        run: cidr,
    },
    Row {
        name: "isCIDR",
        signatures: &["(string) -> bool"],
        run: is_cidr,
    },
    Row {
        name: "containsIP",
        signatures: &["cidr.(string) -> bool", "cidr.(ip) -> bool"],
        run: contains_ip,
    },
    Row {
        name: "containsCIDR",
        signatures: &["cidr.(string) -> bool", "cidr.(cidr) -> bool"],
        run: contains_cidr,
    },
    Row {
        name: "prefixLength",
        signatures: &["cidr.() -> int"],
        run: prefix_length,
    },
    Row {
        name: "masked",
        signatures: &["cidr.() -> cidr"],
        run: masked,
    },
];

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let failed = |why: &str| {
        format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): {why}")
    };
    if let Some((address, zone)) = text.split_once('%') {
        return Err(match address.parse::<Ipv6Addr>() {
            Ok(_) if !zone.is_empty() => format!("IP address {text:?} with zone value is not allowed"),
            _ => failed("zone cannot be used here"),
        });
    }
    let address: IpAddr = text.parse().map_err(|_| {
        failed(if text.contains([':', '.']) {
            "unexpected character"
        } else {
            "unable to parse IP"
        })
    })?;
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        address => Ok(address),
    }
}

fn parse_cidr(text: &str) -> Result<(IpAddr, u8), String> {
    let failed = |why: &str| {
        format!("network address parse error during conversion from string: netip.ParsePrefix({text:?}): {why}")
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| failed("no '/'"))?;
    let address: IpAddr = address
        .parse()
        .map_err(|_| failed(&format!("ParseAddr({address:?}): unable to parse IP")))?;
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
    }
    // A leading zero or sign is none of Go's.
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let number = bits.parse::<u8>().ok().filter(|_| plain);
    let number = number.ok_or_else(|| failed(&format!("bad bits after slash: {bits:?}")))?;
    if number > if address.is_ipv4() { 32 } else { 128 } {
        return Err(failed("prefix length out of range"));
    }
    Ok((address, number))
}

fn ip(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::String(text)] => Ok(Value::Ip(parse_ip(text)?)),
        [Value::Cidr(address, _)] => Ok(Value::Ip(*address)),
        _ => no_overload(),
    }
}

fn is_ip(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::String(text)] => Ok(Value::Bool(parse_ip(text).is_ok())),
        _ => no_overload(),
    }
}

fn is_canonical(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::String(text)] => Ok(Value::Bool(parse_ip(text)?.to_string() == **text)),
        _ => no_overload(),
    }
}

fn family(args: &[Value]) -> Outcome {
    match args {
        [Value::Ip(address)] => Ok(Value::Int(if address.is_ipv4() { 4 } else { 6 })),
        _ => no_overload(),
    }
}

fn test(args: &[Value], holds: fn(IpAddr) -> bool) -> Outcome {
    match args {
        [Value::Ip(address)] => Ok(Value::Bool(holds(*address))),
        _ => no_overload(),
    }
}

fn link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// As Go has it: private addresses are global.
fn global_unicast(address: IpAddr) -> bool {
    address != IpAddr::V4(Ipv4Addr::BROADCAST)
        && !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !link_local_unicast(address)
}

fn cidr(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::String(text)] => parse_cidr(text)
            .map(|(address, bits)| Value::Cidr(address, bits))
            .map_err(Into::into),
        _ => no_overload(),
    }
}

fn is_cidr(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::String(text)] => Ok(Value::Bool(parse_cidr(text).is_ok())),
        _ => no_overload(),
    }
}

/// Returns an address with all but its first bits cleared.
fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

fn inside(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    network.is_ipv4() == address.is_ipv4() && mask(network, bits) == mask(address, bits)
}

fn contains_ip(args: &[Value], _: &mut Meter) -> Outcome {
    let (network, bits, address) = match args {
        [Value::Cidr(network, bits), Value::Ip(address)] => (*network, *bits, *address),
        [Value::Cidr(network, bits), Value::String(text)] => (*network, *bits, parse_ip(text)?),
        _ => return no_overload(),
    };
    Ok(Value::Bool(inside(network, bits, address)))
}

fn contains_cidr(args: &[Value], _: &mut Meter) -> Outcome {
    let (network, bits, (inner, more)) = match args {
        [Value::Cidr(network, bits), Value::Cidr(inner, more)] => (*network, *bits, (*inner, *more)),
        [Value::Cidr(network, bits), Value::String(text)] => (*network, *bits, parse_cidr(text)?),
        _ => return no_overload(),
    };
    Ok(Value::Bool(bits <= more && inside(network, bits, inner)))
}

fn prefix_length(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Cidr(_, bits)] => Ok(Value::Int(i64::from(*bits))),
        _ => no_overload(),
    }
}

fn masked(args: &[Value], _: &mut Meter) -> Outcome {
    match args {
        [Value::Cidr(address, bits)] => Ok(Value::Cidr(mask(*address, *bits), *bits)),
        _ => no_overload(),
    }
}
