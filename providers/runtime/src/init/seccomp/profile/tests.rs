use super::*;

/// Runs a filter as the kernel does on a call of this architecture.
fn judged(program: &BpfProgram, call: libc::c_long, arguments: [u64; 6]) -> u32 {
    judged_by(program, OWN.2, call as u32, arguments)
}

/// Runs a filter as the kernel does on a call of a program of an architecture.
pub(in super::super) fn judged_by(program: &BpfProgram, architecture: u32, call: u32, arguments: [u64; 6]) -> u32 {
    let word = |at: u32| -> u32 {
        match at {
            CALL => call,
            ARCHITECTURE => architecture,
            other => {
                let place = other - ARGUMENTS;
                let value = arguments[(place / 8) as usize];
                let high = (place % 8 == 4) == cfg!(target_endian = "little");
                if high { (value >> 32) as u32 } else { value as u32 }
            }
        }
    };
    let (mut at, mut held) = (0usize, 0u32);
    loop {
        let step = &program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
        match step.code {
            LOAD => held = word(step.k),
            AND => held &= step.k,
            JUMP => at += step.k as usize,
            EQUAL => at += jump(held == step.k),
            GREATER => at += jump(held > step.k),
            AT_LEAST => at += jump(held >= step.k),
            RETURN => return step.k,
            other => panic!("{other}"),
        }
    }
}

const NONE: [u64; 6] = [0; 6];
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

fn compiled(text: &str) -> BpfProgram {
    compile(text, CapabilitySet::CHOWN).unwrap()
}

#[test]
fn calls_are_judged_as_the_profile_says() {
    let program = compiled(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
            {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"},
            {"name": "reboot", "action": "SCMP_ACT_KILL_PROCESS"}]}"#,
    );
    assert_eq!(judged(&program, libc::SYS_write, NONE), libc::SECCOMP_RET_ALLOW);
    assert_eq!(judged(&program, libc::SYS_mkdirat, NONE), EPERM);
    assert_eq!(judged(&program, libc::SYS_reboot, NONE), libc::SECCOMP_RET_KILL_PROCESS);
    assert_eq!(judged(&program, libc::SYS_close, NONE), libc::SECCOMP_RET_ERRNO | 38);
}

#[test]
fn conditions_compare_whole_arguments() {
    let big = 1u64 << 32;
    for (op, value, two, holds, fails) in [
        ("EQ", big + 5, 0, vec![big + 5], vec![5, big, big + 4]),
        ("NE", big + 5, 0, vec![5, big, 2 * big + 5], vec![big + 5]),
        ("GT", big + 5, 0, vec![big + 6, 2 * big], vec![big + 5, 6, big]),
        ("GE", big + 5, 0, vec![big + 5, 2 * big], vec![big + 4, 7]),
        ("LT", big + 5, 0, vec![big + 4, 9], vec![big + 5, 2 * big]),
        ("LE", big + 5, 0, vec![big + 5, 9], vec![big + 6, 2 * big]),
        (
            "MASKED_EQ",
            big + 0xf0,
            big + 0x10,
            vec![big + 0x1f],
            vec![0x10, big + 0x20],
        ),
    ] {
        let rule = |args: &str| {
            format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [{args}]}}]}}"#
            )
        };
        let condition = format!(r#"{{"index": 1, "value": {value}, "valueTwo": {two}, "op": "SCMP_CMP_{op}"}}"#);
        let one = compiled(&rule(&condition));
        // With another condition behind it that always holds, the jumps are longer.
        let both = compiled(&rule(&format!(
            r#"{condition}, {{"index": 2, "value": 0, "op": "SCMP_CMP_EQ"}}"#
        )));
        for program in [&one, &both] {
            for argument in &holds {
                let got = judged(program, libc::SYS_ioctl, [0, *argument, 0, 0, 0, 0]);
                assert_eq!(got, EPERM, "{op} {argument:#x}");
            }
            for argument in &fails {
                let got = judged(program, libc::SYS_ioctl, [0, *argument, 0, 0, 0, 0]);
                assert_eq!(got, libc::SECCOMP_RET_ALLOW, "{op} {argument:#x}");
            }
        }
        assert_eq!(
            judged(&both, libc::SYS_ioctl, [0, holds[0], 1, 0, 0, 0]),
            libc::SECCOMP_RET_ALLOW
        );
    }
}

#[test]
fn rules_apply_by_capability_and_architecture() {
    let program = compiled(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["chown"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_CHOWN"]}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"]}},
            {"names": ["sync"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}}]}"#,
    );
    assert_eq!(judged(&program, libc::SYS_chown, NONE), libc::SECCOMP_RET_ALLOW);
    for refused in [libc::SYS_mount, libc::SYS_bpf, libc::SYS_sync] {
        assert_eq!(judged(&program, refused, NONE), EPERM);
    }
}

#[test]
fn what_cannot_be_compiled_is_said() {
    let said = |text: &str| compile(text, CapabilitySet::empty()).unwrap_err();
    assert!(said("{").contains("decoding seccomp profile failed"));
    assert!(said(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#).contains("SCMP_ACT_NOTIFY"));
    let foreign = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]}"#;
    assert!(said(foreign).contains("architecture"));
    let argument = |index: u32, op: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ERRNO",
                "args": [{{"index": {index}, "value": 0, "op": "{op}"}}]}}]}}"#
        )
    };
    assert!(said(&argument(6, "SCMP_CMP_EQ")).contains("argument 6"));
    assert!(said(&argument(0, "SCMP_CMP_LIKE")).contains("SCMP_CMP_LIKE"));
}
