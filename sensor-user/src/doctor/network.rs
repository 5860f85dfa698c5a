//! The interfaces: there, up, of the right kind, and what XDP will be like on them.

use aya::programs::loaded_programs;

use super::{Check, kernel};
use crate::config::Config;
use crate::config::interface::{InterfaceSpec, NamePattern};
use crate::source::kernel::attach::XdpChoice;
use crate::source::kernel::interface::Interface;
use crate::source::kernel::watch::choice::{Choice, Skip};
use crate::source::kernel::watch::{Finding, Place, or_default_route};
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
    let mut checks = match or_default_route(&config.interfaces) {
        Ok(specs) => Place::of(&specs).iter_mut().flat_map(|place| place_checks(place, config, try_attach)).collect(),
        Err(error) => vec![Check::ok(AREA, "default route", "not found").fail(format!("{error:#}"))],
    };
    if kernel::is_privileged() {
        checks.push(other_programs(&names_of_xdp_programs()));
    }
    checks
}

fn place_checks(place: &mut Place, config: &Config, try_attach: bool) -> Vec<Check> {
    let findings = place.survey();
    let spec =
        |pattern: &NamePattern| InterfaceSpec { namespace: place.name.clone(), pattern: pattern.clone() }.to_string();
    let findings = match findings {
        Ok(findings) => findings,
        Err(error) => {
            let specs: Vec<String> = place.patterns.iter().map(spec).collect();
            return vec![Check::ok(AREA, specs.join(", "), "not found").fail(format!("{error:#}"))];
        }
    };
    let checks = findings.iter().flat_map(|(pattern, finding)| match finding {
        Finding::Missing(message) => vec![Check::ok(AREA, spec(pattern), "not found").fail(message)],
        Finding::Nothing => {
            let check = Check::ok(AREA, spec(pattern), "no interface matches yet");
            vec![check.warn("one that appears is watched from then on; is this what is meant?")]
        }
        Finding::Found(interface, choice) => interface_checks(interface, choice, config, try_attach),
    });
    checks.collect()
}

fn interface_checks(interface: &Interface, choice: &Choice, config: &Config, try_attach: bool) -> Vec<Check> {
    match &choice.skip {
        Some(why @ Skip::Upper { .. }) => {
            let check = Check::ok(AREA, interface.to_string(), format!("not watched: {why}"));
            return vec![if choice.by_name { check.warn("take it off the list, or what it stands on") } else { check }];
        }
        Some(why @ Skip::NotEthernet { .. }) if !choice.by_name => {
            return vec![Check::ok(AREA, interface.to_string(), format!("not watched: {why}"))];
        }
        Some(Skip::NotEthernet { .. }) | None => {}
    }
    let driver = driver(interface, interface.driver().as_deref(), config.kernel.xdp_mode);
    let mut checks = vec![link(interface), driver];
    if try_attach {
        checks.push(attach(interface, config));
    }
    checks
}

fn link(interface: &Interface) -> Check {
    let check = |found: String| Check::ok(AREA, interface.to_string(), found);
    if let Err(error) = interface.require_ethernet() {
        return check("no Ethernet".to_owned()).fail(format!("{error:#}"));
    }
    if !interface.link.up {
        let advice = format!("{} link set dev {} up", interface.ip(), interface.link.name);
        return check("Ethernet, down".to_owned()).warn(advice);
    }
    check("Ethernet, up".to_owned())
}

fn driver(interface: &Interface, driver: Option<&str>, mode: XdpChoice) -> Check {
    let check = |found: String| Check::ok(AREA, format!("{interface} driver"), found);
    let Some(driver) = driver else {
        if interface.namespace.name().is_some() {
            return check("not told in another namespace; whether it has native XDP shows when attaching".to_owned());
        }
        return check("virtual interface; whether it has native XDP shows when attaching".to_owned());
    };
    let is_native = NATIVE.contains(&driver);
    match mode {
        XdpChoice::Off => check(format!("{driver}; kernel.xdp_mode is off")),
        XdpChoice::Native if !is_native => check(format!("{driver}, not known to have native XDP"))
            .warn("kernel.xdp_mode = \"native\" may be refused: choose auto or off"),
        XdpChoice::Auto if !is_native => {
            check(format!("{driver}, not known to have native XDP; TC is used, at more cost for each packet"))
        }
        XdpChoice::Auto | XdpChoice::Native if FLAPPING.contains(&driver) => check(format!("{driver}, native XDP"))
            .warn("its link may go down for a moment when the sensor starts or stops; kernel.xdp_mode = \"off\" avoids that"),
        XdpChoice::Auto | XdpChoice::Native => check(format!("{driver}, native XDP")),
    }
}

/// Attaches as `leuko run` would; dropping the source detaches.
fn attach(interface: &Interface, config: &Config) -> Check {
    let name = format!("{interface} attach");
    let options = LoadOptions { flows: 1024, seed: 0, ..LoadOptions::default() };
    let attached = KernelSource::load(options)
        .and_then(|mut source| source.attach(interface, config.kernel.xdp_mode, config.kernel.egress));
    match attached {
        Ok(attached) => {
            let found = format!("xdp {}, egress {}; detached again", attached.xdp, attached.egress);
            let check = Check::ok(AREA, name, found);
            if attached.is_behind() { check.warn(BEHIND) } else { check }
        }
        Err(error) => Check::ok(AREA, name, "refused").fail(format!("{error:#}")),
    }
}

const BEHIND: &str =
    "another XDP program is attached: what it drops is not seen, and attackers are dropped after it, at TC";

/// Which interface a program is attached to cannot be told without netlink; that there are any is worth knowing.
fn other_programs(names: &[String]) -> Check {
    let check = |found: String| Check::ok(AREA, "other XDP programs", found);
    if names.iter().any(|name| name.starts_with("leuko_xdp")) {
        return check(names.join(", ")).warn("a sensor seems to run already");
    }
    if names.is_empty() {
        return check("none on this host".to_owned());
    }
    check(names.join(", ")).warn(
        "an interface takes one XDP program (`ip link` shows to which these are attached); the sensor then works at TC",
    )
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
        Interface::find("lo").unwrap()
    }

    #[test]
    fn drivers_are_judged_by_the_mode_asked_for() {
        for (name, mode, verdict, words) in [
            (Some("virtio_net"), XdpChoice::Auto, Verdict::Ok, "virtio_net, native XDP"),
            (Some("ixgbe"), XdpChoice::Auto, Verdict::Warn, "ixgbe"),
            (Some("ixgbe"), XdpChoice::Off, Verdict::Ok, "is off"),
            (Some("e1000e"), XdpChoice::Auto, Verdict::Ok, "TC is used"),
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
        let mut tunnel = interface();
        tunnel.link.hardware = 65_534;
        assert_eq!(link(&tunnel).verdict, Verdict::Fail);
        let config = Config { interfaces: vec!["nosuch0".to_owned().try_into().unwrap()], ..Config::default() };
        let checks = checks(&config, false);
        assert_eq!((checks[0].name.as_str(), checks[0].verdict), ("nosuch0", Verdict::Fail));
        assert!(checks[0].advice.as_ref().unwrap().contains("there are:"), "{checks:?}");
    }

    #[test]
    fn patterns_and_namespaces_are_understood() {
        let config = |spec: &str| Config { interfaces: vec![spec.to_owned().try_into().unwrap()], ..Config::default() };
        for (spec, verdict, words) in [
            ("nosuch*", Verdict::Warn, "no interface matches yet"),
            ("no-such-namespace:eth*", Verdict::Fail, "not found"),
            ("lo", Verdict::Ok, "Ethernet, up"),
        ] {
            let checks = checks(&config(spec), false);
            assert_eq!((checks[0].name.as_str(), checks[0].verdict, checks[0].found.as_str()), (spec, verdict, words));
        }
    }

    #[test]
    fn what_is_counted_elsewhere_is_no_fault_unless_it_was_named() {
        let skip = Some(Skip::Upper { lower: vec!["eth0".to_owned()] });
        for (by_name, verdict) in [(false, Verdict::Ok), (true, Verdict::Warn)] {
            let checks =
                interface_checks(&interface(), &Choice { by_name, skip: skip.clone() }, &Config::default(), true);
            assert_eq!((checks.len(), checks[0].verdict), (1, verdict));
            assert!(checks[0].found.contains("counted on eth0"), "{checks:?}");
        }
    }

    #[test]
    fn other_programs_are_named() {
        assert_eq!(other_programs(&[]).verdict, Verdict::Ok);
        assert!(other_programs(&["xdp_dispatcher".into()]).found.contains("xdp_dispatcher"));
        assert!(other_programs(&["leuko_xdp".into()]).advice.unwrap().contains("run already"));
    }
}
