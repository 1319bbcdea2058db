//! Profiles from files (`seccompProfile.type: Localhost`), in the format of Docker, of which that of OCI is a part, compiled to a filter.
//!
//! What a profile may say of a call is tried in the order in which it stands there: the first rule whose conditions hold decides. Calls that this
//! architecture does not have are left out, as other runtimes do.

use std::collections::BTreeMap;

use rustix::thread::CapabilitySet;
use seccompiler::{BpfProgram, sock_filter};
use serde::Deserialize;

use super::super::privileges;
use super::calls;

/// What the kernel takes, in instructions.
const LONGEST: usize = 4096;
/// The offsets of what a filter sees (`struct seccomp_data`).
const CALL: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// The kernel's number of the architecture, as a profile and as a filter name it.
#[cfg(target_arch = "x86_64")]
const OWN: (&str, &str, u32) = ("SCMP_ARCH_X86_64", "amd64", 0xc000_003e);
#[cfg(target_arch = "aarch64")]
const OWN: (&str, &str, u32) = ("SCMP_ARCH_AARCH64", "arm64", 0xc000_00b7);
#[cfg(target_arch = "riscv64")]
const OWN: (&str, &str, u32) = ("SCMP_ARCH_RISCV64", "riscv64", 0xc000_00f3);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<Architecture>>,
    #[serde(default)]
    syscalls: Option<Vec<Calls>>,
}

#[derive(Debug, Deserialize)]
struct Architecture {
    architecture: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

/// Where a rule applies (Docker's addition).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// One way to decide about a call.
#[derive(Debug)]
struct Rule {
    conditions: Vec<Argument>,
    verdict: u32,
}

/// Compiles a profile for a container that may hold `allowed`. The error says what is wrong with the profile.
pub(super) fn compile(text: &str, allowed: CapabilitySet) -> Result<BpfProgram, String> {
    let profile: Profile =
        serde_json::from_str(text).map_err(|error| format!("decoding seccomp profile failed: {error}"))?;
    let named = profile.architectures.iter().flatten();
    let mapped = profile.arch_map.iter().flatten().map(|known| &known.architecture);
    let architectures: Vec<&String> = named.chain(mapped).collect();
    if !architectures.is_empty() && !architectures.iter().any(|name| *name == OWN.0) {
        return Err(format!("the seccomp profile is not for this architecture ({})", OWN.0));
    }
    let default = verdict(&profile.default_action, profile.default_errno_ret)?;
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for calls in profile.syscalls.iter().flatten() {
        let includes = calls
            .includes
            .as_ref()
            .is_none_or(|filter| applies(filter, allowed, true));
        let excludes = calls
            .excludes
            .as_ref()
            .is_some_and(|filter| applies(filter, allowed, false));
        if !includes || excludes {
            continue;
        }
        let verdict = verdict(&calls.action, calls.errno_ret)?;
        let names = calls.names.iter().flatten().chain(&calls.name);
        for number in names.filter_map(|name| calls::number(name)) {
            rules.entry(number).or_default().push(Rule {
                conditions: calls.args.clone().unwrap_or_default(),
                verdict,
            });
        }
    }
    let program = assemble(&rules, default)?;
    if program.len() > LONGEST {
        return Err(format!(
            "the seccomp profile is too long for the kernel ({} instructions)",
            program.len()
        ));
    }
    Ok(program)
}

/// Whether a filter names this container: all of what it names for `includes`, any of it for `excludes`.
fn applies(filter: &Filter, allowed: CapabilitySet, all: bool) -> bool {
    let holds = |name: &String| privileges::is_among(name, allowed);
    let mut answers: Vec<bool> = filter.caps.iter().flatten().map(holds).collect();
    if let Some(arches) = filter.arches.as_ref().filter(|arches| !arches.is_empty()) {
        answers.push(arches.iter().any(|name| name == OWN.1 || name == OWN.0));
    }
    if filter.min_kernel.as_ref().is_some_and(|version| !version.is_empty()) {
        // Older kernels than any profile names (4.8) do not have what this runtime mounts with.
        answers.push(true);
    }
    if all {
        answers.iter().all(|answer| *answer)
    } else {
        answers.iter().any(|answer| *answer)
    }
}

fn verdict(action: &str, errno: Option<u32>) -> Result<u32, String> {
    let errno = errno.unwrap_or(libc::EPERM as u32) & libc::SECCOMP_RET_DATA;
    Ok(match action {
        "SCMP_ACT_ALLOW" => libc::SECCOMP_RET_ALLOW,
        "SCMP_ACT_ERRNO" => libc::SECCOMP_RET_ERRNO | errno,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => libc::SECCOMP_RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => libc::SECCOMP_RET_KILL_PROCESS,
        "SCMP_ACT_LOG" => libc::SECCOMP_RET_LOG,
        "SCMP_ACT_TRAP" => libc::SECCOMP_RET_TRAP,
        "SCMP_ACT_TRACE" => libc::SECCOMP_RET_TRACE | errno,
        other => return Err(format!("the seccomp profile's action {other:?} is not supported")),
    })
}

fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn assemble(rules: &BTreeMap<u32, Vec<Rule>>, default: u32) -> Result<BpfProgram, String> {
    let mut program = vec![
        step(LOAD, 0, 0, ARCHITECTURE),
        step(EQUAL, 1, 0, OWN.2),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(LOAD, 0, 0, CALL),
    ];
    if cfg!(target_arch = "x86_64") {
        // The numbers of x32 are others, of which the profile does not speak.
        program.push(step(AT_LEAST, 0, 1, 0x4000_0000));
        program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    }
    for (number, rules) in rules {
        let mut body = Vec::new();
        for rule in rules {
            body.extend(decide(rule)?);
        }
        if rules.iter().all(|rule| !rule.conditions.is_empty()) {
            body.push(step(RETURN, 0, 0, default));
        }
        match u8::try_from(body.len()) {
            Ok(length) => program.push(step(EQUAL, 0, length, *number)),
            Err(_) => {
                program.push(step(EQUAL, 1, 0, *number));
                program.push(step(JUMP, 0, 0, body.len() as u32));
            }
        }
        program.append(&mut body);
    }
    program.push(step(RETURN, 0, 0, default));
    Ok(program)
}

/// One rule: every condition that does not hold jumps behind its end.
fn decide(rule: &Rule) -> Result<BpfProgram, String> {
    // From the last to the first, so that what is to be jumped over is known.
    let mut tail = vec![step(RETURN, 0, 0, rule.verdict)];
    for condition in rule.conditions.iter().rev() {
        let over = u8::try_from(tail.len()).map_err(|_| "a rule of the seccomp profile is too long".to_owned())?;
        let mut whole = hold(condition, over)?;
        whole.append(&mut tail);
        tail = whole;
    }
    Ok(tail)
}

/// Goes on behind itself if a condition holds, and `over` instructions further if not.
fn hold(condition: &Argument, over: u8) -> Result<BpfProgram, String> {
    if condition.index > 5 {
        return Err(format!(
            "a system call has no argument {} (seccomp profile)",
            condition.index
        ));
    }
    let place = ARGUMENTS + 8 * condition.index;
    let (low_at, high_at) = if cfg!(target_endian = "little") {
        (place, place + 4)
    } else {
        (place + 4, place)
    };
    let split = |value: u64| ((value >> 32) as u32, value as u32);
    let (high, low) = split(condition.value);
    let failing = over.checked_add(3).ok_or("a rule of the seccomp profile is too long")?;
    // In each: load the high half, compare, load the low half, compare.
    let ordered = |compare: u16, holds: bool| {
        let (yes, no) = if holds { (0, over) } else { (over, 0) };
        // Above decides at once, equal looks at the low half, below decides the other way.
        let (above, below) = if holds { (3, over + 2) } else { (over + 3, 2) };
        vec![
            step(LOAD, 0, 0, high_at),
            step(GREATER, above, 0, high),
            step(EQUAL, 0, below, high),
            step(LOAD, 0, 0, low_at),
            step(compare, yes, no, low),
        ]
    };
    Ok(match condition.op.as_str() {
        "SCMP_CMP_EQ" => vec![
            step(LOAD, 0, 0, high_at),
            step(EQUAL, 0, failing - 1, high),
            step(LOAD, 0, 0, low_at),
            step(EQUAL, 0, over, low),
        ],
        "SCMP_CMP_NE" => vec![
            step(LOAD, 0, 0, high_at),
            step(EQUAL, 0, 2, high),
            step(LOAD, 0, 0, low_at),
            step(EQUAL, over, 0, low),
        ],
        "SCMP_CMP_GT" => ordered(GREATER, true),
        "SCMP_CMP_GE" => ordered(AT_LEAST, true),
        "SCMP_CMP_LE" => ordered(GREATER, false),
        "SCMP_CMP_LT" => ordered(AT_LEAST, false),
        "SCMP_CMP_MASKED_EQ" => {
            let (wanted_high, wanted_low) = split(condition.value_two);
            vec![
                step(LOAD, 0, 0, high_at),
                step(AND, 0, 0, high),
                step(EQUAL, 0, failing, wanted_high),
                step(LOAD, 0, 0, low_at),
                step(AND, 0, 0, low),
                step(EQUAL, 0, over, wanted_low),
            ]
        }
        other => return Err(format!("the seccomp profile's operator {other:?} is unknown")),
    })
}

#[cfg(test)]
pub(super) mod tests;
