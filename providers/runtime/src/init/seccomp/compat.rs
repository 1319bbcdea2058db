//! The other ABI that this machine's kernel runs programs of: 32-bit x86 beside 64-bit, 32-bit ARM beside 64-bit. The default filter holds for
//! it as well; only its calls have numbers of their own.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, sock_filter};

/// What a filter sees of a program of the other ABI (`AUDIT_ARCH_I386`, `AUDIT_ARCH_ARM`); `None` where there is none.
pub(super) const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0x4000_0003)
} else if cfg!(target_arch = "aarch64") {
    Some(0x4000_0028)
} else {
    None
};

/// A call of this machine, and the numbers of those that stand for it: on 32-bit x86, and on 32-bit ARM. What only the others have stands
/// beside what is unlocked in the same way.
type Row = (libc::c_long, &'static [u32], &'static [u32]);

const ROWS: &[Row] = &[
    (libc::SYS_add_key, &[286], &[309]),
    (libc::SYS_keyctl, &[288], &[311]),
    (libc::SYS_request_key, &[287], &[310]),
    (libc::SYS_userfaultfd, &[374], &[388]),
    // With them _sysctl, sysfs, uselib and ustat, and on x86 vm86old and vm86.
    (
        libc::SYS_nfsservctl,
        &[169, 149, 135, 86, 62, 113, 166],
        &[169, 149, 135, 86, 62],
    ),
    (libc::SYS_swapon, &[87], &[87]),
    (libc::SYS_swapoff, &[115], &[115]),
    // And kexec_file_load.
    (libc::SYS_kexec_load, &[283], &[347, 401]),
    (libc::SYS_io_uring_setup, &[425], &[425]),
    (libc::SYS_io_uring_enter, &[426], &[426]),
    (libc::SYS_io_uring_register, &[427], &[427]),
    (libc::SYS_migrate_pages, &[294], &[400]),
    (libc::SYS_move_pages, &[317], &[344]),
    (libc::SYS_fanotify_init, &[338], &[367]),
    (libc::SYS_fsconfig, &[431], &[431]),
    (libc::SYS_fsmount, &[432], &[432]),
    (libc::SYS_fsopen, &[430], &[430]),
    (libc::SYS_fspick, &[433], &[433]),
    (libc::SYS_lookup_dcookie, &[253], &[249]),
    (libc::SYS_mount, &[21], &[21]),
    (libc::SYS_mount_setattr, &[442], &[442]),
    (libc::SYS_move_mount, &[429], &[429]),
    (libc::SYS_open_tree, &[428], &[428]),
    (libc::SYS_pivot_root, &[217], &[218]),
    (libc::SYS_quotactl, &[131], &[131]),
    (libc::SYS_quotactl_fd, &[443], &[443]),
    (libc::SYS_setdomainname, &[121], &[121]),
    (libc::SYS_sethostname, &[74], &[74]),
    (libc::SYS_setns, &[346], &[375]),
    // And umount.
    (libc::SYS_umount2, &[52, 22], &[52]),
    (libc::SYS_unshare, &[310], &[337]),
    (libc::SYS_reboot, &[88], &[88]),
    (libc::SYS_open_by_handle_at, &[342], &[371]),
    (libc::SYS_delete_module, &[129], &[129]),
    (libc::SYS_init_module, &[128], &[128]),
    (libc::SYS_finit_module, &[350], &[379]),
    (libc::SYS_acct, &[51], &[51]),
    (libc::SYS_kcmp, &[349], &[378]),
    // And stime.
    (libc::SYS_settimeofday, &[79, 25], &[79]),
    // Each of the two in two widths of time.
    (libc::SYS_clock_settime, &[264, 404], &[262, 404]),
    (libc::SYS_clock_adjtime, &[343, 405], &[372, 405]),
    (libc::SYS_vhangup, &[111], &[111]),
    (libc::SYS_get_mempolicy, &[275], &[320]),
    (libc::SYS_mbind, &[274], &[319]),
    (libc::SYS_set_mempolicy, &[276], &[321]),
    (libc::SYS_syslog, &[103], &[103]),
    (libc::SYS_bpf, &[357], &[386]),
    (libc::SYS_perf_event_open, &[336], &[364]),
    (libc::SYS_clone, &[120], &[120]),
    (libc::SYS_personality, &[136], &[136]),
    (libc::SYS_socket, &[359], &[281]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, &[101], &[]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, &[110], &[]),
];

/// The call of 32-bit x86 that all those of sockets go through in older programs, and what it makes sockets by. Of which family they are stands
/// in memory, where a filter cannot look: C libraries then use the calls of their own.
const SOCKETCALL: u32 = 102;
const MAKING_SOCKETS: [u32; 2] = [1, 8];

/// Returns the numbers by which programs of the other ABI make a call.
pub(super) fn numbers(call: libc::c_long) -> &'static [u32] {
    let row = ROWS.iter().find(|(own, ..)| *own == call);
    row.map_or(
        &[],
        |(_, x86, arm)| if cfg!(target_arch = "x86_64") { x86 } else { arm },
    )
}

/// Puts what is refused to programs of the other ABI in front of a filter that shuts them out: `rules` by this machine's numbers; `prologue`
/// stands before them.
pub(super) fn before(
    program: BpfProgram,
    rules: &BTreeMap<i64, Vec<SeccompRule>>,
    prologue: BpfProgram,
    missing: u32,
    target: TargetArch,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let Some(architecture) = ARCHITECTURE else {
        return Ok(program);
    };
    let translated = rules.iter().flat_map(|(call, rules)| {
        let numbers = numbers(*call).iter();
        numbers.map(|number| (i64::from(*number), rules.clone()))
    });
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(translated.collect(), SeccompAction::Allow, refused, target)?;
    let judged: BpfProgram = filter.try_into()?;
    let mut body = prologue;
    if cfg!(target_arch = "x86_64") {
        body.extend(sockets(missing));
    }
    // It begins with a look at the architecture, which has been taken.
    body.extend(judged.into_iter().skip(ARCHITECTURE_CHECK));
    let mut whole = vec![
        step(LOAD, 0, 0, 4),
        step(EQUAL, 1, 0, architecture),
        step(JUMP, 0, 0, body.len() as u32),
    ];
    whole.append(&mut body);
    whole.extend(program);
    Ok(whole)
}

/// What `seccompiler` begins each program with: loads the architecture, compares it, ends the process if it is another.
const ARCHITECTURE_CHECK: usize = 3;

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn sockets(missing: u32) -> BpfProgram {
    vec![
        step(LOAD, 0, 0, 0),
        step(EQUAL, 0, 4, SOCKETCALL),
        step(LOAD, 0, 0, 16),
        step(EQUAL, 1, 0, MAKING_SOCKETS[0]),
        step(EQUAL, 0, 1, MAKING_SOCKETS[1]),
        step(RETURN, 0, 0, missing),
    ]
}
