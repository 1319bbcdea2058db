//! The seccomp profile that containers run with by default: a deny list of what containerd's default profile refuses,
//! relaxed by capabilities that were added as there.
//!
//! A deny list can be passed by what it does not know: programs of the machine's 32-bit ABI are held to the same list by their own numbers
//! (see [`compat`]), those of any other are killed by the architecture check, and x32's numbers fail.

mod calls;
mod compat;
mod profile;

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use rustix::thread::CapabilitySet;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use crate::spec::{Seccomp, Security};

/// Calls that no capability of a container unlocks.
const NEVER: &[libc::c_long] = &[
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_nfsservctl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_kexec_load,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
];

/// Calls by the capability that unlocks them.
const UNLOCKED: &[(CapabilitySet, &[libc::c_long])] = &[
    (
        CapabilitySet::SYS_ADMIN,
        &[
            libc::SYS_fanotify_init,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fsopen,
            libc::SYS_fspick,
            libc::SYS_lookup_dcookie,
            libc::SYS_mount,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_pivot_root,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_setdomainname,
            libc::SYS_sethostname,
            libc::SYS_setns,
            libc::SYS_umount2,
            libc::SYS_unshare,
        ],
    ),
    (CapabilitySet::SYS_BOOT, &[libc::SYS_reboot]),
    (CapabilitySet::DAC_READ_SEARCH, &[libc::SYS_open_by_handle_at]),
    (
        CapabilitySet::SYS_MODULE,
        &[libc::SYS_delete_module, libc::SYS_init_module, libc::SYS_finit_module],
    ),
    (CapabilitySet::SYS_PACCT, &[libc::SYS_acct]),
    (CapabilitySet::SYS_PTRACE, &[libc::SYS_kcmp]),
    (
        CapabilitySet::SYS_TIME,
        &[libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime],
    ),
    (CapabilitySet::SYS_TTY_CONFIG, &[libc::SYS_vhangup]),
    (
        CapabilitySet::SYS_NICE,
        &[libc::SYS_get_mempolicy, libc::SYS_mbind, libc::SYS_set_mempolicy],
    ),
    (CapabilitySet::SYSLOG, &[libc::SYS_syslog]),
    (CapabilitySet::BPF.union(CapabilitySet::SYS_ADMIN), &[libc::SYS_bpf]),
    (
        CapabilitySet::PERFMON.union(CapabilitySet::SYS_ADMIN),
        &[libc::SYS_perf_event_open],
    ),
    #[cfg(target_arch = "x86_64")]
    (CapabilitySet::SYS_RAWIO, &[libc::SYS_ioperm, libc::SYS_iopl]),
];

/// `CLONE_NEW*` that need administration: all but threads' and processes' flags.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// Personalities that programs may take (Linux, 32-bit, no randomisation…); the query is 0xffffffff.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Returns the filter for a container; `None` runs without one.
pub(super) fn program(security: &Security, allowed: CapabilitySet) -> io::Result<Option<BpfProgram>> {
    match &security.seccomp {
        _ if security.privileged => return Ok(None),
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Profile(text) => {
            let compiled = profile::compile(text, allowed).map_err(io::Error::other);
            return compiled.map(Some);
        }
        Seccomp::RuntimeDefault => {}
    }
    // Only what is unlocked beyond the default set makes a difference; almost no container asks for that.
    let default = DEFAULT.get_or_init(|| compile(CapabilitySet::empty()).map_err(|error| error.to_string()));
    if UNLOCKED.iter().any(|(unlocking, _)| allowed.intersects(*unlocking)) {
        return compile(allowed).map(Some);
    }
    default.clone().map(Some).map_err(io::Error::other)
}

static DEFAULT: OnceLock<Result<BpfProgram, String>> = OnceLock::new();

/// Looks whether a container's profile can be made a filter; the error says what is wrong with it.
pub(crate) fn check(security: &Security, allowed: CapabilitySet) -> Result<(), String> {
    match &security.seccomp {
        Seccomp::Profile(text) => profile::compile(text, allowed).map(drop),
        Seccomp::RuntimeDefault | Seccomp::Unconfined => Ok(()),
    }
}

/// Compiles the default filter now, so that forked processes have it.
pub(crate) fn prepare() {
    DEFAULT.get_or_init(|| compile(CapabilitySet::empty()).map_err(|error| error.to_string()));
}

/// What a process needs that moves bytes from one pipe to another, and what its allocator and its end take.
const STREAMS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What a process never needs that makes files, besides what the default filter refuses.
const NO_FILES: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_memfd_create,
    libc::SYS_chroot,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    libc::SYS_prctl,
    libc::SYS_setuid,
    libc::SYS_setgid,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// The filter of a process that only reads and writes what it was given: all else is refused.
pub(crate) fn only_streams() -> io::Result<BpfProgram> {
    let rules = STREAMS.iter().map(|call| (*call, Vec::new())).collect();
    let target = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, target).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

/// The filter of a process that unpacks files: the default one, and nothing of processes, sockets and programs.
pub(crate) fn only_files() -> io::Result<BpfProgram> {
    compile_with(CapabilitySet::empty(), NO_FILES)
}

fn compile(allowed: CapabilitySet) -> io::Result<BpfProgram> {
    compile_with(allowed, &[])
}

fn compile_with(allowed: CapabilitySet, also: &[libc::c_long]) -> io::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in NEVER {
        rules.insert(*call, Vec::new());
    }
    for (unlocking, calls) in UNLOCKED {
        if !allowed.intersects(*unlocking) {
            rules.extend(calls.iter().map(|call| (*call, Vec::new())));
        }
    }
    let administration = allowed.contains(CapabilitySet::SYS_ADMIN);
    if !administration {
        // Each namespace flag alone must be refused: "any of these bits" is one rule per bit.
        let bits = (0..64).map(|bit| 1u64 << bit).filter(|bit| NEW_NAMESPACES & bit != 0);
        let each = bits.map(|bit| rule(vec![(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), bit)]));
        rules.insert(libc::SYS_clone, each.collect::<io::Result<_>>()?);
    }
    let others = PERSONALITIES
        .iter()
        .map(|known| (0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *known));
    rules.insert(libc::SYS_personality, vec![rule(others.collect())?]);
    let refused_families = [libc::AF_VSOCK, libc::AF_ALG];
    let families = refused_families
        .iter()
        .map(|family| rule(vec![(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *family as u64)]));
    rules.insert(libc::SYS_socket, families.collect::<io::Result<_>>()?);
    rules.extend(also.iter().map(|call| (*call, Vec::new())));

    let target = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules.clone(), SeccompAction::Allow, refused, target).map_err(io::Error::other)?;
    let body: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    let mut program = prologue(administration, cfg!(target_arch = "x86_64"));
    program.extend(body);
    // Workers run this program alone: to them the other ABI stays closed.
    if !also.is_empty() {
        return Ok(program);
    }
    let before = prologue(administration, false);
    compat::before(program, &rules, before, MISSING, target).map_err(io::Error::other)
}

/// What is answered where a filter cannot look.
const MISSING: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

fn rule(conditions: Vec<(u8, SeccompCmpArgLen, SeccompCmpOp, u64)>) -> io::Result<SeccompRule> {
    let conditions = conditions
        .into_iter()
        .map(|(argument, length, operator, value)| SeccompCondition::new(argument, length, operator, value));
    let conditions = conditions.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    SeccompRule::new(conditions).map_err(io::Error::other)
}

/// Answers ENOSYS where a filter cannot look (clone3 takes its flags in memory; C libraries then use clone) and to x32's numbers.
/// The number of clone3 is the same for all.
fn prologue(administration: bool, x32: bool) -> BpfProgram {
    const LOAD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let mut program = vec![sock_filter {
        code: LOAD,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    if !administration {
        program.push(sock_filter {
            code: JUMP_EQUAL,
            jt: 0,
            jf: 1,
            k: libc::SYS_clone3 as u32,
        });
        program.push(sock_filter {
            code: RETURN,
            jt: 0,
            jf: 0,
            k: MISSING,
        });
    }
    if x32 {
        program.push(sock_filter {
            code: JUMP_AT_LEAST,
            jt: 0,
            jf: 1,
            k: 0x4000_0000,
        });
        program.push(sock_filter {
            code: RETURN,
            jt: 0,
            jf: 0,
            k: MISSING,
        });
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_filter_compiles_and_fits_the_kernels_limit() {
        let filter = program(&Security::default(), CapabilitySet::CHOWN).unwrap().unwrap();
        assert!(filter.len() < 4096);
    }

    #[test]
    fn the_filters_of_workers_compile() {
        assert!(only_streams().unwrap().len() < 4096);
        assert!(only_files().unwrap().len() < 4096);
    }

    #[test]
    fn programs_of_the_other_abi_are_held_to_the_same_list() {
        use profile::tests::judged_by;
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        let Some(other) = compat::ARCHITECTURE else { return };
        let filter = program(&Security::default(), CapabilitySet::CHOWN).unwrap().unwrap();
        let calls = NEVER.iter().chain(UNLOCKED.iter().flat_map(|(_, calls)| *calls));
        for call in calls {
            let only_here = [
                #[cfg(target_arch = "x86_64")]
                libc::SYS_kexec_file_load,
                // They stand beside nfsservctl.
                #[cfg(target_arch = "x86_64")]
                libc::SYS__sysctl,
                #[cfg(target_arch = "x86_64")]
                libc::SYS_sysfs,
                #[cfg(target_arch = "x86_64")]
                libc::SYS_uselib,
                #[cfg(target_arch = "x86_64")]
                libc::SYS_ustat,
            ];
            let numbers = compat::numbers(*call);
            assert!(!numbers.is_empty() || only_here.contains(call), "{call}");
            for number in numbers {
                assert_eq!(judged_by(&filter, other, *number, [0; 6]), refused, "{number}");
            }
        }
        let judge = |call: libc::c_long, first: u64| {
            let number = compat::numbers(call)[0];
            judged_by(&filter, other, number, [first, 0, 0, 0, 0, 0])
        };
        assert_eq!(judge(libc::SYS_clone, libc::CLONE_NEWUSER as u64), refused);
        assert_eq!(judge(libc::SYS_clone, libc::CLONE_VM as u64), libc::SECCOMP_RET_ALLOW);
        assert_eq!(judge(libc::SYS_socket, libc::AF_ALG as u64), refused);
        assert_eq!(judge(libc::SYS_socket, libc::AF_INET as u64), libc::SECCOMP_RET_ALLOW);
        assert_eq!(judge(libc::SYS_personality, 0x4_0000), refused);
        assert_eq!(judged_by(&filter, other, libc::SYS_clone3 as u32, [0; 6]), MISSING);
        // write, exit
        for number in [4, 1] {
            assert_eq!(judged_by(&filter, other, number, [0; 6]), libc::SECCOMP_RET_ALLOW);
        }
        if cfg!(target_arch = "x86_64") {
            let sockets = [(1, MISSING), (8, MISSING), (2, libc::SECCOMP_RET_ALLOW)];
            for (what, answer) in sockets {
                assert_eq!(judged_by(&filter, other, 102, [what, 0, 0, 0, 0, 0]), answer, "{what}");
            }
        }
        // A third is none of ours, and for a worker neither is this one.
        let killed = libc::SECCOMP_RET_KILL_PROCESS;
        assert_eq!(judged_by(&filter, 0x8000_0016, 1, [0; 6]), killed);
        assert_eq!(judged_by(&only_files().unwrap(), other, 1, [0; 6]), killed);
    }

    #[test]
    fn administration_unlocks_calls() {
        let with = program(&Security::default(), CapabilitySet::SYS_ADMIN)
            .unwrap()
            .unwrap();
        let without = program(&Security::default(), CapabilitySet::empty()).unwrap().unwrap();
        assert!(with.len() < without.len());
    }

    #[test]
    fn privileged_and_unconfined_containers_have_none() {
        let privileged = Security {
            privileged: true,
            ..Security::default()
        };
        let unconfined = Security {
            seccomp: Seccomp::Unconfined,
            ..Security::default()
        };
        assert!(program(&privileged, CapabilitySet::empty()).unwrap().is_none());
        assert!(program(&unconfined, CapabilitySet::empty()).unwrap().is_none());
    }
}
