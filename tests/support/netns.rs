//! Network namespaces with veth pairs between them, removed when they are dropped.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{Guard, Output, run_timeout, tool};

/// A set of network namespaces with names of their own.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
}

impl Lab {
    /// An empty lab. Removes what labs of processes that are gone have left.
    ///
    /// # Errors
    /// When this machine cannot list its network namespaces.
    pub fn new() -> Result<Self> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        for name in leftovers()? {
            // Another test process may be removing it too.
            let _ = remove(&name);
        }
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { prefix: format!("{PREFIX}{}-{number}-", std::process::id()) })
    }

    /// A new network namespace, with its loopback up and a silent IPv6.
    ///
    /// # Errors
    /// Without root, or when a namespace of this name exists.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        let namespace = Namespace { name: format!("{}{name}", self.prefix) };
        {
            // iproute2 prepares its folder when it makes the first one: not by two at a time.
            static ADDING: Mutex<()> = Mutex::new(());
            let _adding = ADDING.lock();
            ip(&["netns", "add", &namespace.name])?;
        }
        namespace.shell(QUIET)?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// A client and a server, connected by `eth0` on both sides.
    ///
    /// # Errors
    /// As [`Lab::namespace`].
    pub fn pair(&self) -> Result<Pair> {
        self.pair_on(Wire::default())
    }

    /// As [`Lab::pair`], with a wire of one's own.
    ///
    /// # Errors
    /// As [`Lab::namespace`].
    pub fn pair_on(&self, wire: Wire) -> Result<Pair> {
        let pair = Pair { client: self.namespace("client")?, server: self.namespace("server")? };
        let client = &[&*format!("{}/24", Pair::CLIENT), &*format!("{}/64", Pair::CLIENT_V6)];
        let server = &[&*format!("{}/24", Pair::SERVER), &*format!("{}/64", Pair::SERVER_V6)];
        wire.connect(
            Port { namespace: &pair.client, interface: "eth0", addresses: client },
            Port { namespace: &pair.server, interface: "eth0", addresses: server },
        )?;
        Ok(pair)
    }

    /// The namespaces of this lab that exist.
    ///
    /// # Errors
    /// When this machine cannot list its network namespaces.
    pub fn existing(&self) -> Result<Vec<String>> {
        Ok(names()?.into_iter().filter(|name| name.starts_with(&self.prefix)).collect())
    }
}

/// Two connected namespaces.
#[derive(Debug)]
pub struct Pair {
    /// Where traffic begins.
    pub client: Namespace,
    /// Where servers and Leuko run.
    pub server: Namespace,
}

impl Pair {
    /// IPv4 address of the client.
    pub const CLIENT: &str = "10.77.0.1";
    /// IPv4 address of the server.
    pub const SERVER: &str = "10.77.0.2";
    /// IPv6 address of the client.
    pub const CLIENT_V6: &str = "fd77::1";
    /// IPv6 address of the server.
    pub const SERVER_V6: &str = "fd77::2";

    /// Another station on the segment, with a hardware address of its own. It reaches the server and other neighbours, but
    /// not the client, on whose wire it is.
    ///
    /// # Errors
    /// As [`Lab::namespace`], and when the kernel has no macvlan.
    pub fn neighbour(&self, lab: &Lab, name: &str, address: &str) -> Result<Namespace> {
        let neighbour = lab.namespace(name)?;
        let netns = neighbour.name();
        // It gets its name inside: this namespace has an eth0 already.
        self.client.ip(&format!("link add link eth0 name {name} netns {netns} type macvlan mode bridge"))?;
        neighbour.ip(&format!("link set {name} name eth0"))?;
        neighbour.ip(&format!("address add {address}/24 dev eth0"))?;
        neighbour.ip("link set eth0 up")?;
        Ok(neighbour)
    }
}

/// One end of a wire.
#[derive(Debug, Clone, Copy)]
pub struct Port<'a> {
    /// Where it is.
    pub namespace: &'a Namespace,
    /// Its name there.
    pub interface: &'a str,
    /// Its addresses with prefix length, `10.77.0.1/24`.
    pub addresses: &'a [&'a str],
}

/// A veth pair.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    /// Octets of the longest IP packet.
    pub mtu: u32,
    /// Whether segmentation, coalescing and checksums are left to the other side, as on real network cards.
    pub offloads: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self { mtu: 1500, offloads: true }
    }
}

impl Wire {
    /// Connects two namespaces; both interfaces are up afterwards.
    ///
    /// # Errors
    /// When an interface of that name exists or an address is not one.
    pub fn connect(self, one: Port<'_>, other: Port<'_>) -> Result<()> {
        let mtu = self.mtu.to_string();
        let end =
            |port: Port<'_>| ["name", port.interface, "mtu", &mtu, "netns", &port.namespace.name].map(str::to_owned);
        let (near, far) = (end(one), end(other));
        let words = ["link", "add"].map(str::to_owned).into_iter().chain(near);
        let words = words.chain(["type", "veth", "peer"].map(str::to_owned)).chain(far);
        ip(&words.collect::<Vec<_>>())?;
        for port in [one, other] {
            self.configure(port)?;
        }
        Ok(())
    }

    fn configure(self, port: Port<'_>) -> Result<()> {
        let Port { namespace, interface, addresses } = port;
        if !self.offloads {
            let mut ethtool = namespace.command("ethtool");
            ethtool.args([
                "-K", interface, "gro", "off", "gso", "off", "tso", "off", "tx", "off", "rx", "off", "sg", "off",
            ]);
            run_timeout(ethtool, QUICK)?.success()?;
        }
        for address in addresses {
            let at_once = if address.contains(':') { "nodad" } else { "" };
            namespace.ip(&format!("address add {address} dev {interface} {at_once}"))?;
        }
        namespace.ip(&format!("link set {interface} up"))?;
        Ok(())
    }
}

/// A network namespace; what runs in it is killed and it is removed when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Its name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `nsenter` and `setns`.
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// A command that will run inside. Mounts are its own: `/sys` shows the interfaces inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(tool("ip").unwrap_or_else(|_| "ip".into()));
        command.args(["netns", "exec", &self.name]).arg(tool(program).unwrap_or_else(|_| program.into()));
        command
    }

    /// Runs a program inside to its end.
    ///
    /// # Errors
    /// When it does not succeed in time.
    pub fn run(&self, program: &str, args: &[&str], timeout: Duration) -> Result<Output> {
        let output = run_timeout(self.command(program).args(args), timeout).and_then(Output::success);
        output.with_context(|| format!("{program} {} in {}", args.join(" "), self.name))
    }

    /// Starts a program inside.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, program: &str, args: &[&str]) -> Result<Guard> {
        Guard::spawn(self.command(program).args(args))
    }

    /// Runs `ip` on this namespace: `ip("route add default via 10.77.0.2")`.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn ip(&self, args: &str) -> Result<String> {
        let args: Vec<_> = ["-n", &self.name].into_iter().chain(args.split_whitespace()).collect();
        ip(&args)
    }

    /// Writes a kernel setting inside: `sysctl("net/ipv4/ip_forward", "1")`.
    ///
    /// # Errors
    /// When there is no such setting.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.shell(&format!("echo {value} > /proc/sys/{name}"))
    }

    /// The hardware address of an interface inside.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn mac(&self, interface: &str) -> Result<String> {
        let link = self.ip(&format!("-o link show dev {interface}"))?;
        let mut words = link.split_whitespace().skip_while(|word| *word != "link/ether");
        words.nth(1).map(str::to_owned).with_context(|| format!("no hardware address in: {link}"))
    }

    /// As [`Namespace::mac`], as octets.
    ///
    /// # Errors
    /// As [`Namespace::mac`].
    pub fn mac_octets(&self, interface: &str) -> Result<[u8; 6]> {
        let text = self.mac(interface)?;
        let octets: Vec<u8> = text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<_, _>>()?;
        octets.try_into().map_err(|_| anyhow!("{text} is no hardware address"))
    }

    /// What an HTTP server answers inside, by curl. Any status is an answer.
    ///
    /// # Errors
    /// When there is no answer within five seconds.
    pub fn http_get(&self, url: &str) -> Result<String> {
        Ok(self.run("curl", &["-sS", "--noproxy", "*", "--max-time", "5", url], Duration::from_secs(10))?.stdout)
    }

    /// Calls a function on a thread that is inside, and waits for it. Sockets and links it makes stay inside.
    ///
    /// Only the network is that of the namespace: `/sys` shows the interfaces outside.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    /// When the function does.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        let file = fs::File::open(self.path()).with_context(|| format!("open {}", self.path().display()))?;
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", self.name))?;
                Ok(act())
            });
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Whether a process is in this namespace already.
    pub(crate) fn holds(&self, process: u32) -> bool {
        let inode = |path: &Path| fs::metadata(path).map(|file| file.ino()).ok();
        let own = inode(&self.path());
        own.is_some() && own == inode(Path::new(&format!("/proc/{process}/ns/net")))
    }

    fn shell(&self, script: &str) -> Result<()> {
        self.run("sh", &["-c", script], QUICK).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A drop has nobody to tell; the next lab removes what is left.
        let _ = remove(&self.name);
    }
}

/// Where iproute2 keeps them.
const FOLDER: &str = "/run/netns";

/// Followed by the process that made it, `-`, the number of the lab, `-`, and its name there.
const PREFIX: &str = "leuko-";

/// A timeout for what should be immediate.
const QUICK: Duration = Duration::from_secs(10);

/// Only the traffic of the test: no router solicitation, no duplicate address detection, no link-local address. What cannot
/// be turned off are the two reports of the multicast group of an IPv6 address (RFC 3810): they are sent at once
/// when the kernel notices that the wire is up, which may take it a second.
const QUIET: &str = "\
cd /proc/sys/net/ipv6/conf 2>/dev/null || exit 0
for of in all default; do
  echo 0 > $of/accept_ra; echo 0 > $of/autoconf; echo 0 > $of/accept_dad; echo 0 > $of/dad_transmits
  echo 1 > $of/addr_gen_mode; echo 1 > $of/mldv2_unsolicited_report_interval
done";

fn ip(args: &[impl AsRef<str>]) -> Result<String> {
    let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
    let output = run_timeout(Command::new(tool("ip")?).args(&args), QUICK).and_then(Output::success);
    Ok(output.with_context(|| format!("ip {}", args.join(" ")))?.stdout)
}

fn names() -> Result<Vec<String>> {
    if !Path::new(FOLDER).exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(FOLDER).with_context(|| format!("list {FOLDER}"))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn leftovers() -> Result<Vec<String>> {
    Ok(names()?.into_iter().filter(|name| owner(name).is_some_and(|owner| !alive(owner))).collect())
}

/// The process that made a namespace of a lab.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

fn alive(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

fn remove(name: &str) -> Result<()> {
    ensure!(name.starts_with(PREFIX), "{name} is not of a lab");
    for process in ip(&["netns", "pids", name])?.split_whitespace() {
        // It may have ended since.
        let _ = kill(Pid::from_raw(process.parse()?), Signal::SIGKILL);
    }
    ip(&["netns", "delete", name]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_labs_have_an_owner() {
        assert_eq!(owner("leuko-4711-0-client"), Some(4711));
        assert_eq!(owner("leuko-client"), None);
        assert_eq!(owner("docker-4711-0"), None);
    }

    #[test]
    fn a_namespace_of_somebody_else_is_never_removed() {
        assert!(remove("docker-1").is_err());
    }
}
