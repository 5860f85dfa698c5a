//! The interfaces: there, up, of the right kind, and what XDP will be like on them.

use aya::programs::loaded_programs;

use super::{Check, kernel};
use crate::config::Config;
use crate::source::kernel::attach::XdpChoice;
use crate::source::kernel::interface::Interface;
use crate::source::kernel::{KernelSource, LoadOptions};

const AREA: &str = "network";

/// Drivers known to have native XDP in recent kernels, by their name in sysfs. A hint: attaching is what decides.
const NATIVE: [&str; 37] = [
    "am65-cpsw-nuss",
    "atlantic",
    "bnxt_en",
    "cpsw",
    "cpsw-switch",
    "dpaa_eth",
    "ena",
    "fec",
    "fsl_dpaa2_eth",
    "fsl_enetc",
    "fsl_enetc_vf",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "intel-eth-pci",
    "ixgbe",
    "ixgbevf",
    "lan966x-switch",
    "mana",
    "mlx4_core",
    "mlx5_core",
    "mtk_soc_eth",
    "mvneta",
    "mvpp2",
    "netsec",
    "nfp",
    "nicvf",
    "qede",
    "rvu_nicpf",
    "rvu_nicvf",
    "sfc",
    "tsnep",
    "virtio_net",
    "vmxnet3",
];

/// Drivers that may set their rings up anew when a program comes or goes: the link is then gone for a moment.
const FLAPPING: [&str; 12] =
    ["atlantic", "bnxt_en", "ena", "i40e", "ice", "igb", "igc", "ixgbe", "mlx4_core", "mlx5_core", "qede", "sfc"];

/// `BPF_PROG_TYPE_XDP` of `linux/bpf.h`.
const PROG_TYPE_XDP: u32 = 6;

pub fn checks(config: &Config, try_attach: bool) -> Vec<Check> {
    let interfaces: Vec<_> = if config.interfaces.is_empty() {
        vec![("default route".to_owned(), Interface::of_default_route())]
    } else {
        config.interfaces.iter().map(|name| (name.to_string(), Interface::find(name.as_str()))).collect()
    };
    let mut checks = Vec::new();
    for (asked, found) in interfaces {
        match found {
            Err(error) => checks.push(Check::ok(AREA, asked, "not found").fail(format!("{error:#}"))),
            Ok(interface) => {
                checks.push(link(&interface));
                checks.push(driver(&interface, interface.driver().as_deref(), config.kernel.xdp_mode));
                if try_attach {
                    checks.push(attach(&interface, config));
                }
            }
        }
    }
    if kernel::is_privileged() {
        checks.push(other_programs(&names_of_xdp_programs()));
    }
    checks
}

fn link(interface: &Interface) -> Check {
    let check = |found: String| Check::ok(AREA, interface.name.as_str(), found);
    if let Err(error) = interface.require_ethernet() {
        return check("no Ethernet".to_owned()).fail(format!("{error:#}"));
    }
    if !interface.is_up() {
        return check("Ethernet, down".to_owned()).warn(format!("ip link set dev {} up", interface.name));
    }
    check("Ethernet, up".to_owned())
}

fn driver(interface: &Interface, driver: Option<&str>, mode: XdpChoice) -> Check {
    let check = |found: String| Check::ok(AREA, format!("{} driver", interface.name), found);
    let Some(driver) = driver else {
        return check("virtual interface; whether it has native XDP shows when attaching".to_owned());
    };
    let is_native = NATIVE.contains(&driver);
    match mode {
        XdpChoice::Generic => check(format!("{driver}; generic XDP is configured")),
        XdpChoice::Native if !is_native => check(format!("{driver}, not known to have native XDP"))
            .warn("kernel.xdp_mode = \"native\" may be refused: choose auto or generic"),
        XdpChoice::Auto if !is_native => {
            check(format!("{driver}, not known to have native XDP; generic XDP is used, at more cost for each packet"))
        }
        XdpChoice::Auto | XdpChoice::Native if FLAPPING.contains(&driver) => check(format!("{driver}, native XDP"))
            .warn("its link may go down for a moment when the sensor starts or stops; generic XDP avoids that"),
        XdpChoice::Auto | XdpChoice::Native => check(format!("{driver}, native XDP")),
    }
}

/// Attaches as `leuko run` would; dropping the source detaches.
fn attach(interface: &Interface, config: &Config) -> Check {
    let name = format!("{} attach", interface.name);
    let options = LoadOptions { flows: 1024, seed: 0, ..LoadOptions::default() };
    let attached = KernelSource::load(options)
        .and_then(|mut source| source.attach(interface, config.kernel.xdp_mode, config.kernel.egress));
    match attached {
        Ok(attached) => {
            Check::ok(AREA, name, format!("xdp {}, egress {}; detached again", attached.xdp, attached.egress))
        }
        Err(error) => Check::ok(AREA, name, "refused").fail(format!("{error:#}")),
    }
}

/// Which interface a program is attached to cannot be told without netlink; that there are any is worth knowing.
fn other_programs(names: &[String]) -> Check {
    let check = |found: String| Check::ok(AREA, "other XDP programs", found);
    if names.iter().any(|name| name.starts_with("leuko_xdp")) {
        return check(names.join(", ")).warn("a sensor seems to run already: two on one interface are refused");
    }
    if names.is_empty() {
        return check("none on this host".to_owned());
    }
    check(names.join(", ")).warn("an interface takes one XDP program: `ip link` shows to which these are attached")
}

fn names_of_xdp_programs() -> Vec<String> {
    let programs = loaded_programs().filter_map(Result::ok);
    let xdp = programs.filter(|program| program.program_type() as u32 == PROG_TYPE_XDP);
    xdp.map(|program| program.name_as_str().unwrap_or("without a name").to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn interface() -> Interface {
        Interface { name: "lo".into(), hardware: 1 }
    }

    #[test]
    fn drivers_are_judged_by_the_mode_asked_for() {
        for (name, mode, verdict, words) in [
            (Some("virtio_net"), XdpChoice::Auto, Verdict::Ok, "virtio_net, native XDP"),
            (Some("ixgbe"), XdpChoice::Auto, Verdict::Warn, "ixgbe"),
            (Some("ixgbe"), XdpChoice::Generic, Verdict::Ok, "generic"),
            (Some("e1000e"), XdpChoice::Auto, Verdict::Ok, "generic XDP is used"),
            (Some("e1000e"), XdpChoice::Native, Verdict::Warn, "not known"),
            (None, XdpChoice::Native, Verdict::Ok, "virtual interface"),
        ] {
            let check = driver(&interface(), name, mode);
            assert_eq!((check.verdict, check.found.contains(words)), (verdict, true), "{check:?}");
        }
        assert!(FLAPPING.iter().all(|driver| NATIVE.contains(driver)));
        assert!(NATIVE.is_sorted());
    }

    #[test]
    fn an_interface_that_is_missing_or_carries_no_ethernet_fails() {
        let tunnel = Interface { name: "tun0".into(), hardware: 65_534 };
        assert_eq!(link(&tunnel).verdict, Verdict::Fail);
        let config = Config { interfaces: vec!["nosuch0".to_owned().try_into().unwrap()], ..Config::default() };
        let checks = checks(&config, false);
        assert_eq!((checks[0].name.as_str(), checks[0].verdict), ("nosuch0", Verdict::Fail));
        assert!(checks[0].advice.as_ref().unwrap().contains("there are:"), "{checks:?}");
    }

    #[test]
    fn other_programs_are_named() {
        assert_eq!(other_programs(&[]).verdict, Verdict::Ok);
        assert!(other_programs(&["xdp_dispatcher".into()]).found.contains("xdp_dispatcher"));
        assert!(other_programs(&["leuko_xdp".into()]).advice.unwrap().contains("run already"));
    }
}
