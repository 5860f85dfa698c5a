//! Puts the programs on interfaces: XDP native or generic, TC by TCX or clsact.

use std::io;

use anyhow::{Context as _, Result, bail};
use aya::programs::links::LinkOrder;
use aya::programs::tc::{self, NlOptions, TcAttachOptions, TcError};
use aya::programs::{ProgramError, TcAttachType, XdpMode};
use aya::sys::SyscallError;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::interface::Interface;
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
    /// Name of the interface.
    pub interface: String,
    /// `native` or `generic`.
    pub xdp: &'static str,
    /// `tcx`, `clsact` or `off`.
    pub egress: &'static str,
}

impl KernelSource {
    /// Attaches to one interface. The programs stay until this source is dropped.
    ///
    /// # Errors
    /// When the interface is not Ethernet, has another XDP program, or the kernel refuses.
    pub fn attach(&mut self, interface: &Interface, xdp: XdpChoice, egress: EgressChoice) -> Result<Attached> {
        let name = interface.name.as_str();
        interface.require_ethernet()?;
        let native = match xdp {
            XdpChoice::Generic => false,
            XdpChoice::Native => {
                self.attach_xdp(name, XdpMode::Driver)?;
                true
            }
            XdpChoice::Auto => match self.attach_xdp(name, XdpMode::Driver) {
                Ok(()) => true,
                Err(error) if is_taken(&error) => return Err(error),
                Err(error) => {
                    warn!(interface = name, error = format!("{error:#}"), "no native XDP, falling back to generic");
                    false
                }
            },
        };
        if !native {
            self.attach_xdp(name, XdpMode::Skb)?;
        }
        let hook = TcHook::choose(egress);
        if !native {
            self.attach_tc(name, TcAttachType::Ingress, hook)?;
        }
        let egress = match egress {
            EgressChoice::Off => "off",
            EgressChoice::Auto | EgressChoice::Tcx | EgressChoice::Clsact => {
                self.attach_tc(name, TcAttachType::Egress, hook)?
            }
        };
        let xdp = if native { "native" } else { "generic" };
        let attached = Attached { interface: name.to_owned(), xdp, egress };
        info!(interface = name, xdp = attached.xdp, egress = attached.egress, "attached");
        Ok(attached)
    }

    fn attach_xdp(&mut self, interface: &str, mode: XdpMode) -> Result<()> {
        let [native, generic] = xdp_programs();
        let (program, adjective) = if mode == XdpMode::Skb { (generic, "generic") } else { (native, "native") };
        let result = self.xdp(program)?.attach(interface, mode).map(|_| ());
        let taken = result.as_ref().err().and_then(os_error).is_some_and(is_busy);
        let result = result.with_context(|| format!("attach {program} to {interface} in {adjective} mode"));
        if taken {
            return result.context(format!(
                "{interface} already has another XDP program (see `ip link show dev {interface}`); stop what attached \
                 it, or choose another interface with --interface"
            ));
        }
        result
    }

    fn attach_tc(&mut self, interface: &str, way: TcAttachType, hook: TcHook) -> Result<&'static str> {
        let program = if way == TcAttachType::Egress { "leuko_egress" } else { "leuko_ingress" };
        if let TcHook::Tcx { or_clsact } = hook {
            let order = TcAttachOptions::TcxOrder(LinkOrder::default());
            match self.classifier(program)?.attach_with_options(interface, way, order) {
                Ok(_) => return Ok("tcx"),
                Err(error) if or_clsact => {
                    warn!(interface, error = format!("{error:#}"), "no TCX, falling back to clsact");
                }
                Err(error) => return Err(error).with_context(|| format!("attach {program} to {interface} by TCX")),
            }
        }
        match tc::qdisc_add_clsact(interface) {
            Ok(()) | Err(TcError::AlreadyAttached) => {}
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => return Err(error).with_context(|| format!("add a clsact qdisc to {interface}")),
        }
        // A clsact filter outlives a killed process, unlike the links of XDP and TCX.
        match tc::qdisc_detach_program(interface, way, program) {
            Ok(()) => warn!(interface, program, "removed the filter that a killed sensor had left"),
            Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => bail!("remove a stale {program} filter from {interface}: {error}"),
        }
        let options = TcAttachOptions::Netlink(NlOptions::default());
        self.classifier(program)?
            .attach_with_options(interface, way, options)
            .with_context(|| format!("attach {program} to {interface} by clsact"))?;
        Ok("clsact")
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
