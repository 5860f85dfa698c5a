//! The kernel: new enough, willing, and able to take the programs.

use std::fs;
use std::path::Path;

use anyhow::Result;
use sensor_ebpf::abi::FlowSlot;

use super::Check;
use crate::config::Config;
use crate::source::kernel::attach::EgressChoice;
use crate::source::kernel::{KernelSource, LoadOptions, xdp_program};

const AREA: &str = "kernel";

/// The oldest kernel that is supported.
const OLDEST: (u32, u32) = (5, 15);
/// TCX.
const TCX: (u32, u32) = (6, 6);

/// Bits of `CapEff`, from `linux/capability.h`.
const CAPABILITIES: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
const CAP_SYS_ADMIN: u32 = 21;

pub fn checks(config: &Config) -> Vec<Check> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let missing = missing_capabilities(&read("/proc/self/status"));
    vec![
        version(read("/proc/sys/kernel/osrelease").trim(), config.kernel.egress),
        type_information(Path::new("/sys/kernel/btf/vmlinux").exists()),
        compiler(read("/proc/sys/net/core/bpf_jit_enable").trim()),
        file_system(&read("/proc/mounts"), config.kernel.pin.as_deref()),
        rights(&missing),
        programs(config, missing.is_empty()),
    ]
}

/// Whether this process may load and attach programs.
pub fn is_privileged() -> bool {
    missing_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default()).is_empty()
}

fn version(release: &str, egress: EgressChoice) -> Check {
    let check = Check::ok(AREA, "version", release);
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return check.warn("this kernel does not say its version; Linux 5.15 or newer is needed");
    };
    if (major, minor) < OLDEST {
        return check.fail("Linux 5.15 or newer is needed");
    }
    match egress {
        EgressChoice::Tcx if (major, minor) < TCX => {
            check.fail("kernel.egress = \"tcx\" needs Linux 6.6: choose auto or clsact")
        }
        EgressChoice::Auto if (major, minor) < TCX => {
            Check::ok(AREA, "version", format!("{release}, before TCX (6.6): outgoing packets are seen by clsact"))
        }
        EgressChoice::Auto | EgressChoice::Tcx | EgressChoice::Clsact | EgressChoice::Off => check,
    }
}

fn type_information(is_there: bool) -> Check {
    if is_there {
        return Check::ok(AREA, "type information", "BTF at /sys/kernel/btf/vmlinux");
    }
    Check::ok(AREA, "type information", "no BTF at /sys/kernel/btf/vmlinux")
        .warn("choose a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of the distributions are")
}

fn compiler(setting: &str) -> Check {
    let check = |found| Check::ok(AREA, "compiler", found);
    match setting {
        "0" => check("BPF programs are interpreted, which is slow").warn("sysctl net.core.bpf_jit_enable=1"),
        // A kernel with CONFIG_BPF_JIT_ALWAYS_ON may hide the setting in containers.
        "" => check("not told (net.core.bpf_jit_enable)"),
        _ => check("BPF programs are compiled"),
    }
}

/// Where pins would be, if they are asked for.
fn file_system(mounts: &str, pin: Option<&Path>) -> Check {
    let mut mounted = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let is_there = mounted.any(|fields| {
        fields.get(2) == Some(&"bpf") && pin.is_none_or(|pin| fields.get(1).is_some_and(|at| pin.starts_with(at)))
    });
    let name = "bpf file system";
    match (is_there, pin) {
        (true, _) => Check::ok(AREA, name, "mounted"),
        (false, None) => Check::ok(AREA, name, "not mounted, and not needed"),
        (false, Some(pin)) => Check::ok(AREA, name, format!("none where {} is", pin.display()))
            .fail("mount one with `mount -t bpf bpf /sys/fs/bpf`, or leave out --pin"),
    }
}

fn rights(missing: &[&str]) -> Check {
    if missing.is_empty() {
        return Check::ok(AREA, "rights", "sufficient to load and attach programs");
    }
    let advice = "run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (systemd: AmbientCapabilities=)";
    Check::ok(AREA, "rights", format!("missing: {}", missing.join(", "))).fail(advice)
}

/// What `/proc/self/status` lacks. `CAP_SYS_ADMIN` stands for the newer two.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or_default();
    let has = |bit: u32| effective >> bit & 1 == 1;
    let is_missing = |bit: u32| !has(bit) && (bit < CAP_SYS_ADMIN || !has(CAP_SYS_ADMIN));
    CAPABILITIES.iter().filter(|(_, bit)| is_missing(*bit)).map(|(name, _)| *name).collect()
}

/// Loads everything as `leuko run` would, and attaches nothing.
fn programs(config: &Config, is_privileged: bool) -> Check {
    let flows = config.kernel.flows.get();
    let name = "programs";
    if !is_privileged {
        return Check::ok(AREA, name, "not loaded").skip("needs the rights above");
    }
    match load(flows) {
        Ok(programs) => {
            let megabytes = u64::from(flows) * size_of::<FlowSlot>() as u64 / 1_000_000;
            Check::ok(AREA, name, format!("{programs} accepted; {flows} flows take {megabytes} MB"))
        }
        Err(error) => {
            let advice = "an older kernel, lockdown mode or too little memory may be the reason; see also kernel.flows";
            Check::ok(AREA, name, format!("{error:#}")).fail(advice)
        }
    }
}

fn load(flows: u32) -> Result<usize> {
    let mut source = KernelSource::load(LoadOptions { flows, seed: 0, ..LoadOptions::default() })?;
    source.xdp(xdp_program())?;
    for program in ["leuko_ingress", "leuko_egress"] {
        source.classifier(program)?;
    }
    Ok(crate::source::kernel::PROGRAMS.len())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn versions_are_judged_by_what_they_can() {
        for (release, egress, verdict, words) in [
            ("6.18.44-generic", EgressChoice::Tcx, Verdict::Ok, "6.18.44"),
            ("6.6.0", EgressChoice::Auto, Verdict::Ok, "6.6.0"),
            ("5.15.0-91-generic", EgressChoice::Auto, Verdict::Ok, "clsact"),
            ("5.15.0", EgressChoice::Tcx, Verdict::Fail, "5.15.0"),
            ("5.14.0-362.el9", EgressChoice::Auto, Verdict::Fail, "5.14"),
            ("4.19", EgressChoice::Off, Verdict::Fail, "4.19"),
            ("", EgressChoice::Off, Verdict::Warn, ""),
        ] {
            let check = version(release, egress);
            assert_eq!(check.verdict, verdict, "{release}");
            assert!(check.found.contains(words), "{}", check.found);
        }
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        for (bits, missing) in [
            ("000001ffffffffff", &[] as &[&str]),
            ("0000000000201000", &[]),
            ("000000c000001000", &[]),
            ("0000000000001000", &["CAP_PERFMON", "CAP_BPF"]),
            ("0000000000200000", &["CAP_NET_ADMIN"]),
            ("0", &["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]),
            ("rubbish", &["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]),
        ] {
            let status = format!("Name:\tleuko\nCapPrm:\t000001ffffffffff\nCapEff:\t{bits}\n");
            assert_eq!(missing_capabilities(&status), missing, "{bits}");
        }
        assert_eq!(rights(&["CAP_BPF"]).verdict, Verdict::Fail);
        assert_eq!(programs(&Config::default(), false).verdict, Verdict::Skip);
    }

    #[test]
    fn small_things_are_told() {
        assert_eq!(compiler("0").verdict, Verdict::Warn);
        assert_eq!(compiler("1").verdict, Verdict::Ok);
        assert_eq!(type_information(false).verdict, Verdict::Warn);
        assert_eq!(file_system("bpf /sys/fs/bpf bpf rw 0 0\n", None).found, "mounted");
        assert!(file_system("tmpfs /bpf tmpfs rw 0 0\n", None).found.contains("not needed"));
        for (mounts, verdict) in [
            ("bpf /sys/fs/bpf bpf rw 0 0\n", Verdict::Ok),
            ("bpf /mnt/bpf bpf rw 0 0\n", Verdict::Fail),
            ("tmpfs /sys/fs/bpf tmpfs rw 0 0\n", Verdict::Fail),
        ] {
            assert_eq!(file_system(mounts, Some(Path::new("/sys/fs/bpf/leuko"))).verdict, verdict, "{mounts}");
        }
    }
}
