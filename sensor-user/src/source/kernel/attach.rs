//! Puts the programs on interfaces: XDP native or generic, TC by TCX or clsact.

use std::{io, mem};

use anyhow::{Context as _, Result, bail};
use aya::programs::links::LinkOrder;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, TcAttachType, XdpMode};
use aya::sys::SyscallError;
use clap::ValueEnum;
use nix::net::if_::if_nametoindex;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::interface::{Interface, InterfaceId};
use super::namespace::Namespace;
use super::{KernelSource, xdp_programs};

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum XdpChoice {
    /// Native, or generic where the driver has no XDP.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the stack, behind GRO; ingress is then accounted at TC.
    Generic,
}

/// How packets that leave are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum EgressChoice {
    /// TCX, or clsact on kernels before 6.6.
    #[default]
    Auto,
    /// TCX (Linux 6.6).
    Tcx,
    /// A clsact qdisc with a BPF filter.
    Clsact,
    /// Not at all: for mirror ports, which only receive.
    Off,
}

/// What was attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The interface as it is written in the configuration.
    pub interface: String,
    /// `native` or `generic`.
    pub xdp: &'static str,
    /// `tcx`, `clsact` or `off`.
    pub egress: &'static str,
}

/// What holds the programs on one interface. Dropping it detaches them.
#[derive(Debug)]
pub struct InterfaceLinks {
    namespace: Namespace,
    xdp: Option<XdpLink>,
    tc: Vec<SchedClassifierLink>,
}

impl Drop for InterfaceLinks {
    fn drop(&mut self) {
        let (xdp, tc) = (self.xdp.take(), mem::take(&mut self.tc));
        // A clsact filter is no file descriptor: it is removed by netlink, which knows the namespace of its thread only.
        if let Err(error) = self.namespace.inside(move || drop((xdp, tc))) {
            warn!(error = format!("{error:#}"), "cannot enter a network namespace to detach");
        }
    }
}

impl KernelSource {
    /// Attaches to one interface, in its namespace. The programs stay until [`KernelSource::detach_from`] it, or until
    /// this source is dropped.
    ///
    /// # Errors
    /// When the interface is not Ethernet, has another XDP program, or the kernel refuses; nothing stays attached then.
    pub fn attach(&mut self, interface: &Interface, xdp: XdpChoice, egress: EgressChoice) -> Result<Attached> {
        interface.require_ethernet()?;
        let (links, attached) = interface.namespace.inside(|| self.attach_inside(interface, xdp, egress))??;
        self.links.insert(interface.id(), links);
        info!(interface = attached.interface, xdp = attached.xdp, egress = attached.egress, "attached");
        Ok(attached)
    }

    /// Detaches from one interface, or forgets it when it is gone. False when nothing was attached to it.
    pub fn detach_from(&mut self, interface: InterfaceId) -> bool {
        self.links.remove(&interface).is_some()
    }

    fn attach_inside(
        &mut self,
        interface: &Interface,
        xdp: XdpChoice,
        egress: EgressChoice,
    ) -> Result<(InterfaceLinks, Attached)> {
        let mut links = InterfaceLinks { namespace: interface.namespace.clone(), xdp: None, tc: Vec::new() };
        let native = match xdp {
            XdpChoice::Generic => false,
            XdpChoice::Native => {
                links.xdp = Some(self.attach_xdp(interface, XdpMode::Driver)?);
                true
            }
            XdpChoice::Auto => match self.attach_xdp(interface, XdpMode::Driver) {
                Ok(link) => {
                    links.xdp = Some(link);
                    true
                }
                Err(error) if is_taken(&error) => return Err(error),
                Err(error) => {
                    still_called(interface)?;
                    let error = format!("{error:#}");
                    warn!(interface = %interface, error, "no native XDP, falling back to generic");
                    false
                }
            },
        };
        if !native {
            links.xdp = Some(self.attach_xdp(interface, XdpMode::Skb)?);
        }
        let hook = TcHook::choose(egress);
        if !native {
            let (link, _) = self.attach_tc(interface, TcAttachType::Ingress, hook)?;
            links.tc.push(link);
        }
        let egress = match egress {
            EgressChoice::Off => "off",
            EgressChoice::Auto | EgressChoice::Tcx | EgressChoice::Clsact => {
                let (link, by) = self.attach_tc(interface, TcAttachType::Egress, hook)?;
                links.tc.push(link);
                by
            }
        };
        let xdp = if native { "native" } else { "generic" };
        Ok((links, Attached { interface: interface.to_string(), xdp, egress }))
    }

    fn attach_xdp(&mut self, interface: &Interface, mode: XdpMode) -> Result<XdpLink> {
        let [native, generic] = xdp_programs();
        let (program, adjective) = if mode == XdpMode::Skb { (generic, "generic") } else { (native, "native") };
        let xdp = self.xdp(program)?;
        let result = xdp.attach_to_if_index(interface.link.index, mode).and_then(|link| xdp.take_link(link));
        let taken = result.as_ref().err().and_then(os_error).is_some_and(is_busy);
        let result = result.with_context(|| format!("attach {program} to {interface} in {adjective} mode"));
        if taken {
            let (ip, name) = (interface.ip(), &interface.link.name);
            return result.context(format!(
                "{interface} already has another XDP program (see `{ip} link show dev {name}`); stop what attached it, \
                 or choose another interface with --interface"
            ));
        }
        result
    }

    fn attach_tc(
        &mut self,
        interface: &Interface,
        way: TcAttachType,
        hook: TcHook,
    ) -> Result<(SchedClassifierLink, &'static str)> {
        let program = if way == TcAttachType::Egress { "leuko_egress" } else { "leuko_ingress" };
        let name = interface.link.name.as_str();
        let classifier = self.classifier(program)?;
        let mut attach = |options: TcAttachOptions| -> Result<SchedClassifierLink, ProgramError> {
            let link = classifier.attach_with_options(name, way, options)?;
            classifier.take_link(link)
        };
        if let TcHook::Tcx { or_clsact } = hook {
            match attach(TcAttachOptions::TcxOrder(LinkOrder::default())) {
                Ok(link) => return still_called(interface).map(|()| (link, "tcx")),
                Err(error) if or_clsact => {
                    warn!(interface = %interface, error = format!("{error:#}"), "no TCX, falling back to clsact");
                }
                Err(error) => return Err(error).with_context(|| format!("attach {program} to {interface} by TCX")),
            }
        }
        match tc::qdisc_add_clsact(name) {
            Ok(()) | Err(TcError::AlreadyAttached) => {}
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => return Err(error).with_context(|| format!("add a clsact qdisc to {interface}")),
        }
        // A clsact filter outlives a killed process, unlike the links of XDP and TCX.
        match tc::qdisc_detach_program(name, way, program) {
            Ok(()) => {
                warn!(interface = %interface, program, "removed the filter that a killed sensor had left");
            }
            Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => bail!("remove a stale {program} filter from {interface}: {error}"),
        }
        let link = attach(TcAttachOptions::Netlink(NlOptions::default()))
            .with_context(|| format!("attach {program} to {interface} by clsact"))?;
        still_called(interface).map(|()| (link, "clsact"))
    }
}

/// TC programs are attached by name; the interface may have been renamed, and the name given to another. One that is
/// gone is not told from one that lacks something by the kernel's refusal.
fn still_called(interface: &Interface) -> Result<()> {
    let name = interface.link.name.as_str();
    match if_nametoindex(name) {
        Ok(index) if index == interface.link.index => Ok(()),
        Ok(_) | Err(_) => bail!("{interface} was renamed or removed while programs were attached to it"),
    }
}

/// How TC programs are attached.
#[derive(Clone, Copy)]
enum TcHook {
    Tcx { or_clsact: bool },
    Clsact,
}

impl TcHook {
    const fn choose(egress: EgressChoice) -> Self {
        match egress {
            EgressChoice::Tcx => Self::Tcx { or_clsact: false },
            EgressChoice::Clsact => Self::Clsact,
            EgressChoice::Auto | EgressChoice::Off => Self::Tcx { or_clsact: true },
        }
    }
}

fn is_taken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ProgramError>().and_then(os_error).is_some_and(is_busy)
}

fn is_busy(errno: i32) -> bool {
    errno == libc::EBUSY || errno == libc::EEXIST
}

fn os_error(error: &ProgramError) -> Option<i32> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(syscall) = error.downcast_ref::<SyscallError>() {
            return syscall.io_error.raw_os_error();
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        cause = error.source();
    }
    None
}
