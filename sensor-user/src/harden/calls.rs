//! seccomp: system calls that no sensor makes.
//!
//! A list of what is refused, not of what is allowed: the C library, SQLite and the runtime may use another call tomorrow
//! for what they do today, and a sensor that does not start protects nobody.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use libc::{c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Other processes, the kernel's own code, mounts, clocks, keys, and ways around files that are kept from us.
const NEVER: [c_long; 47] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const NEVER_HERE: [c_long; 6] = [
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_kexec_file_load,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: [c_long; 0] = [];

const PROGRAMS: [c_long; 2] = [libc::SYS_execve, libc::SYS_execveat];

/// Kinds of namespaces that clone(2) makes.
const NAMESPACES: [c_int; 7] = [
    libc::CLONE_NEWNET,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Refuses them to this thread and those it starts. Of namespaces, only those of the network may be made and entered, if
/// any; programs may be started if that is said.
///
/// # Errors
/// When the kernel has no filters, or none for this machine.
pub fn refuse(namespaces: bool, programs: bool) -> Result<(), Error> {
    // What clone3(2) is asked for is out of a filter's sight; the C library then uses clone(2).
    apply_filter(&compile(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)?)?;
    apply_filter(&compile(rules(namespaces, programs)?, libc::EPERM)?)
}

fn rules(namespaces: bool, programs: bool) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, BackendError> {
    let never = NEVER.iter().chain(&NEVER_HERE).chain(PROGRAMS.iter().filter(|_| !programs));
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = never.map(|call| (*call, Vec::new())).collect();
    let made = NAMESPACES.map(|kind| condition(0, SeccompCmpOp::MaskedEq(flag(kind)), flag(kind)));
    rules.insert(libc::SYS_clone, made.into_iter().collect::<Result<_, _>>()?);
    let other_than_network = |argument| condition(argument, SeccompCmpOp::Ne, flag(libc::CLONE_NEWNET));
    for (call, argument) in [(libc::SYS_unshare, 0), (libc::SYS_setns, 1)] {
        let refused = if namespaces { vec![other_than_network(argument)?] } else { Vec::new() };
        rules.insert(call, refused);
    }
    #[cfg(target_arch = "x86_64")]
    rules.extend(X32.map(|call| (call, Vec::new())));
    Ok(rules)
}

/// Numbers by which the x32 ABI, where a kernel has it, makes the same calls.
#[cfg(target_arch = "x86_64")]
const X32: std::ops::RangeInclusive<c_long> = 0x4000_0000..=0x4000_0000 + 547;

fn flag(kind: c_int) -> u64 {
    u64::from(kind.cast_unsigned())
}

fn condition(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)?])
}

fn compile(rules: BTreeMap<c_long, Vec<SeccompRule>>, errno: c_int) -> Result<BpfProgram, BackendError> {
    let refused = SeccompAction::Errno(errno.cast_unsigned());
    SeccompFilter::new(rules, SeccompAction::Allow, refused, TargetArch::try_from(ARCH)?)?.try_into()
}
