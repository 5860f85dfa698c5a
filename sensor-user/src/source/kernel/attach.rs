//! Puts the programs on interfaces: XDP in the driver, TC by TCX or clsact.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io, mem};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
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
use super::{KernelSource, xdp_program};

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum XdpChoice {
    /// Native, or at TC where the driver has no XDP or another program has it.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// Packets that arrive are accounted at TC, which is no later than generic XDP, and undoes what GRO has merged.
    #[serde(alias = "generic")]
    #[value(alias = "generic")]
    Off,
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
    /// `native`, `taken` by another program, or `off`.
    pub xdp: &'static str,
    /// `tcx`, `clsact` or `off`.
    pub egress: &'static str,
}

impl Attached {
    /// Whether packets that arrive are seen by XDP.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.xdp == NATIVE
    }

    /// Whether another XDP program comes first.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.xdp == TAKEN
    }
}

/// What holds the programs on one interface. Dropping it detaches those that are not pinned.
#[derive(Debug)]
pub struct InterfaceLinks {
    namespace: Namespace,
    xdp: Option<XdpLink>,
    tc: Vec<SchedClassifierLink>,
    /// Where links are pinned.
    pins: Vec<PathBuf>,
}

impl InterfaceLinks {
    /// Pins a link, if links are pinned.
    fn keep<L>(&mut self, link: L, pin: Option<PathBuf>) -> Result<L>
    where
        L: TryFrom<FdLink>,
        FdLink: TryFrom<L>,
    {
        let Some(path) = pin else {
            return Ok(link);
        };
        let unpinnable = || anyhow!("this kernel has no links that can be pinned; run without --pin");
        let link = FdLink::try_from(link).map_err(|_| unpinnable())?;
        let link = link.pin(&path).with_context(|| format!("pin a link to {}", path.display()))?;
        self.pins.push(path);
        L::try_from(link.into()).map_err(|_| unpinnable())
    }

    /// Removes the pins, so that nothing stays attached.
    fn unpin(&mut self) {
        for path in self.pins.drain(..) {
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => warn!(path = %path.display(), %error, "cannot remove a pin: the program stays attached"),
            }
        }
    }
}

impl Drop for InterfaceLinks {
    fn drop(&mut self) {
        let (xdp, mut tc) = (self.xdp.take(), mem::take(&mut self.tc));
        if !self.pins.is_empty() {
            // A clsact filter stays if nobody takes it away; the other links are pinned.
            tc.drain(..).filter(|link| <&FdLink>::try_from(link).is_err()).for_each(mem::forget);
        }
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
    /// When the interface is not Ethernet, has another XDP program and XDP was asked for, or the kernel refuses; nothing stays
    /// attached then.
    pub fn attach(&mut self, interface: &Interface, xdp: XdpChoice, egress: EgressChoice) -> Result<Attached> {
        interface.require_ethernet()?;
        let namespace = interface.namespace.clone();
        let mut links = InterfaceLinks { namespace, xdp: None, tc: Vec::new(), pins: Vec::new() };
        let attached = interface.namespace.inside(|| self.attach_inside(interface, xdp, egress, &mut links))?;
        let attached = attached.inspect_err(|_| links.unpin())?;
        self.links.insert(interface.id(), links);
        info!(interface = attached.interface, xdp = attached.xdp, egress = attached.egress, "attached");
        Ok(attached)
    }

    /// Detaches from one interface, or forgets it when it is gone. False when nothing was attached to it.
    pub fn detach_from(&mut self, interface: InterfaceId) -> bool {
        self.links.remove(&interface).map(|mut links| links.unpin()).is_some()
    }

    /// Removes the pins of links that an earlier process has left and this one does not go on with.
    ///
    /// # Errors
    /// When the folder of pins cannot be read.
    pub fn remove_stale_links(&self) -> io::Result<()> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        let in_use: BTreeSet<&PathBuf> = self.links.values().flat_map(|links| &links.pins).collect();
        for path in pins.links()?.iter().filter(|path| !in_use.contains(path)) {
            info!(path = %path.display(), "detached from an interface that is not watched any more");
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn attach_inside(
        &mut self,
        interface: &Interface,
        xdp: XdpChoice,
        egress: EgressChoice,
        links: &mut InterfaceLinks,
    ) -> Result<Attached> {
        let xdp = self.attach_xdp_as(interface, xdp, links)?;
        let hook = TcHook::choose(egress);
        if xdp != NATIVE {
            self.attach_tc(interface, TcAttachType::Ingress, hook, links)?;
        }
        let egress = match egress {
            EgressChoice::Off => "off",
            EgressChoice::Auto | EgressChoice::Tcx | EgressChoice::Clsact => {
                self.attach_tc(interface, TcAttachType::Egress, hook, links)?
            }
        };
        Ok(Attached { interface: interface.to_string(), xdp, egress })
    }

    /// Attaches XDP as it was chosen, and says how.
    fn attach_xdp_as(
        &mut self,
        interface: &Interface,
        choice: XdpChoice,
        links: &mut InterfaceLinks,
    ) -> Result<&'static str> {
        if choice == XdpChoice::Off {
            return Ok(OFF);
        }
        let Err(error) = self.attach_xdp(interface, links) else {
            return Ok(NATIVE);
        };
        let is_taken = is_taken(&error);
        if choice == XdpChoice::Native || is_taken && self.sensors.contains(&interface.link.xdp) {
            return Err(error);
        }
        still_called(interface)?;
        let error = format!("{error:#}");
        if is_taken {
            warn!(interface = %interface, error, "packets that arrive are counted and dropped at TC, after that program");
            return Ok(TAKEN);
        }
        warn!(interface = %interface, error, "no native XDP: packets that arrive are counted and dropped at TC");
        Ok(OFF)
    }

    /// Where a link is pinned, if links are.
    fn pin_of(&self, interface: &Interface, hook: &str) -> Option<PathBuf> {
        Some(self.pins.as_ref()?.link(hook, interface.id()))
    }

    fn attach_xdp(&mut self, interface: &Interface, links: &mut InterfaceLinks) -> Result<()> {
        let (program, pin) = (xdp_program(), self.pin_of(interface, NATIVE));
        let xdp = self.xdp(program)?;
        if let Some(link) = pin.as_deref().and_then(pinned::<XdpLink>) {
            // In one step: no packet is missed.
            if let Ok(link) = xdp.attach_to_link(link).and_then(|link| xdp.take_link(link)) {
                links.xdp = Some(link);
                links.pins.extend(pin);
                return Ok(());
            }
            discard(pin.as_deref());
        }
        let link = xdp.attach_to_if_index(interface.link.index, XdpMode::Driver).and_then(|link| xdp.take_link(link));
        let taken = link.as_ref().err().and_then(os_error).is_some_and(is_busy);
        let link = link.with_context(|| format!("attach {program} to {interface}"));
        if taken {
            let (ip, name) = (interface.ip(), &interface.link.name);
            return link.map(drop).context(format!(
                "{interface} already has another XDP program (see `{ip} link show dev {name}`); stop what attached it \
                 (`leuko unpin`, if it was a sensor with --pin), or let packets be counted after it with --xdp-mode off"
            ));
        }
        links.xdp = Some(links.keep(link?, pin)?);
        Ok(())
    }

    fn attach_tc(
        &mut self,
        interface: &Interface,
        way: TcAttachType,
        hook: TcHook,
        links: &mut InterfaceLinks,
    ) -> Result<&'static str> {
        let (program, hook_name) =
            if way == TcAttachType::Egress { ("leuko_egress", "egress") } else { ("leuko_ingress", "ingress") };
        let name = interface.link.name.as_str();
        let pin = self.pin_of(interface, hook_name);
        let classifier = self.classifier(program)?;
        if let Some(link) = pin.as_deref().and_then(pinned::<SchedClassifierLink>) {
            if let Ok(link) = classifier.attach_to_link(link).and_then(|link| classifier.take_link(link)) {
                links.tc.push(link);
                links.pins.extend(pin);
                return Ok("tcx");
            }
            discard(pin.as_deref());
        }
        let mut attach = |options: TcAttachOptions| -> Result<SchedClassifierLink, ProgramError> {
            let link = classifier.attach_with_options(name, way, options)?;
            classifier.take_link(link)
        };
        if let TcHook::Tcx { or_clsact } = hook {
            match attach(TcAttachOptions::TcxOrder(LinkOrder::default())) {
                Ok(link) => {
                    let link = links.keep(link, pin)?;
                    links.tc.push(link);
                    return still_called(interface).map(|()| "tcx");
                }
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
        links.tc.push(link);
        still_called(interface).map(|()| "clsact")
    }
}

/// How XDP is attached, in logs and pins.
const NATIVE: &str = "native";
const TAKEN: &str = "taken";
const OFF: &str = "off";

/// The link that an earlier process has pinned, if there is one of this kind.
fn pinned<L: TryFrom<FdLink>>(path: &Path) -> Option<L> {
    L::try_from(PinnedLink::from_pin(path).ok()?.into()).ok()
}

/// Removes the pin of a link that cannot be used: its interface is gone, perhaps.
fn discard(path: Option<&Path>) {
    if let Some(error) = path.and_then(|path| fs::remove_file(path).err()) {
        warn!(%error, "cannot remove the pin of a link that is of no use");
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
