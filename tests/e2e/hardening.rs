//! What a sensor that runs has given up, and that it does all of its work without.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leuko::source::kernel::pin::unpin;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use support::{Lab, Leuko, Namespace, Need, Pair, Port, Scene, Wire, require, until};

const LONG: Duration = Scene::LONG;
/// A user that every system has, and what is not given away to it.
const NOBODY: u32 = 65_534;

const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const DAC_OVERRIDE: u64 = 1 << 1;
/// `CAP_NET_ADMIN`, `CAP_PERFMON` and `CAP_BPF`.
const USUAL: u64 = NET_ADMIN | 1 << 38 | 1 << 39;

#[test]
fn little_is_kept_and_all_work_goes_on() -> Result<()> {
    let tools = ["ip", "curl", "nmap"].map(Need::Tool);
    if !require(&[&[Need::Root, Need::Leuko], &tools[..]].concat()) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let pair = Pair { client: lab.namespace("client")?, server: lab.namespace("server")? };
    let place = Place::new()?;
    let canary = "[canary]\nevery = \"1s\"\n";
    // Each goes on with the files and pins that the one before has left, whoever that was.
    for (user, more, uid, capabilities) in [
        ("root", "", 0, USUAL),
        ("nobody", "", NOBODY, USUAL),
        ("nobody", canary, NOBODY, USUAL | SYS_ADMIN),
        ("root", "", 0, USUAL | DAC_OVERRIDE),
    ] {
        let mut leuko = place.start(&pair.server, user, more)?;
        told(&leuko, "no interface matches yet")?;
        told(&leuko, "watching")?;
        restricted(&leuko, uid, capabilities)?;
        connect(&pair)?;
        told(&leuko, "attached interface=\"eth0\"")?;
        pair.client.run("nmap", &["-n", "-Pn", "-p1-500", Pair::SERVER], LONG)?;
        let found = leuko.wait_for("a port scan", LONG, |line| line.json["class"] == "port_scan")?.json;
        let id = found["id"].as_str().context("an id")?;
        let metrics = until("metrics of the scan", LONG, || {
            let text = pair.server.http_get("http://127.0.0.1:9101/metrics").ok()?;
            let has = |name: &str| text.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0"));
            let is_tested = more.is_empty() || has("leuko_canaries_total{result=\"found\"}");
            (has("leuko_incidents_total{class=\"port_scan\"") && is_tested).then_some(text)
        })
        .with_context(|| leuko.stderr())?;
        assert!(metrics.contains("leuko_store_up 1"), "{metrics}");
        until("a line of EVE", LONG, || fs::read_to_string(place.eve()).ok()?.contains("port_scan").then_some(()))?;
        let state = place.state();
        let state = state.to_string_lossy();
        let binary = Leuko::binary()?;
        let list = || pair.server.run(&binary.to_string_lossy(), &["incidents", "list", "--state-dir", &state], LONG);
        until("the incident in the store", LONG, || list().ok()?.stdout.contains(&id[..8]).then_some(()))?;
        // The threads that were started meanwhile.
        restricted(&leuko, uid, capabilities)?;
        pair.server.ip("link delete eth0")?;
        told(&leuko, "gone, no longer watched")?;
        let ended = leuko.terminate(Signal::SIGTERM, LONG)?;
        ensure!(ended.success(), "{}", leuko.stderr());
        let log = leuko.stderr();
        assert!(!log.contains("ermission denied") && !log.contains("not permitted"), "{log}");
        assert_eq!(log.contains("keeps CAP_DAC_OVERRIDE"), capabilities & DAC_OVERRIDE != 0, "{log}");
        let owner = if user == "root" && capabilities & DAC_OVERRIDE == 0 { 0 } else { NOBODY };
        for path in [place.state(), place.state().join("leuko.db"), place.pins(), place.pins().join("STATE")] {
            assert_eq!(fs::metadata(&path)?.uid(), owner, "{}", path.display());
        }
        fs::remove_file(place.eve())?;
    }
    Ok(())
}

#[test]
fn a_user_who_cannot_use_the_files_is_not_changed_to() -> Result<()> {
    if !require(&[Need::Root, Need::Leuko, Need::Tool("ip")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let pair = lab.pair()?;
    for (closed, more, why) in [
        (Some("around"), "", "lets it through"),
        (Some("bpf"), "", "lets it through"),
        (None, "[[notify.webhook]]\nurl_file = \"SECRET\"\n", "secret"),
    ] {
        let place = Place::new()?;
        if let Some(closed) = closed {
            fs::set_permissions(place.path(closed), Permissions::from_mode(0o700))?;
        }
        let secret = place.folder.path().join("secret");
        fs::write(&secret, "http://127.0.0.1:9/")?;
        fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
        let more = more.replace("SECRET", &secret.to_string_lossy());
        let mut leuko = place.start(&pair.server, "nobody", &more)?;
        told(&leuko, "watching")?;
        let log = leuko.stderr();
        assert!(log.contains("stays root: nobody may not use") && log.contains(why), "{log}");
        restricted(&leuko, 0, USUAL)?;
        let text = place.doctor(&pair.server)?;
        assert!(text.contains("stays root: nobody may not use") && text.contains("more rights than"), "{text}");
        assert_eq!(fs::metadata(place.state().join("leuko.db"))?.uid(), 0);
        leuko.terminate(Signal::SIGTERM, LONG)?;
    }
    Ok(())
}

#[test]
fn interfaces_elsewhere_are_watched_by_a_user_and_nothing_is_given_up_unasked() -> Result<()> {
    if !require(&[Need::Root, Need::Leuko, Need::Tool("ip")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let (pair, here) = (lab.pair()?, lab.namespace("here")?);
    pair.server.ip("route add default via 10.77.0.5")?;
    let place = Place::new()?;
    let interface = format!("{}:eth0", pair.server.name());
    let mut leuko = place.start_on(&here, &interface, "nobody", "")?;
    told(&leuko, "watching")?;
    restricted(&leuko, NOBODY, USUAL | SYS_ADMIN)?;
    let text = place.doctor(&here)?;
    assert!(text.contains("runs as nobody, with CAP_NET_ADMIN CAP_SYS_ADMIN CAP_PERFMON CAP_BPF"), "{text}");
    let state = place.state();
    for (addr, refusal) in [(Pair::SERVER, "an address of this host"), ("10.77.0.5", "a gateway")] {
        let order = ["block", addr, "--state-dir", &state.to_string_lossy()];
        let told = here.run(&Leuko::binary()?.to_string_lossy(), &order, LONG).err().context("a refusal")?;
        assert!(format!("{told:#}").contains(refusal), "{told:#}");
    }
    leuko.terminate(Signal::SIGTERM, LONG)?;
    drop(leuko);

    let mut leuko = place.start_on(&here, &interface, "nobody", "[harden]\nenabled = false\n")?;
    told(&leuko, "watching")?;
    for status in statuses(&leuko)? {
        assert_eq!((field(&status, "Seccomp")?, field(&status, "NoNewPrivs")?), ("0", "0"));
    }
    leuko.terminate(Signal::SIGTERM, LONG)?;
    Ok(())
}

/// Looks at every thread.
fn restricted(leuko: &Leuko, uid: u32, capabilities: u64) -> Result<()> {
    let statuses = statuses(leuko)?;
    ensure!(statuses.len() > 3, "{} threads", statuses.len());
    for status in statuses {
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            let bits = u64::from_str_radix(field(&status, set)?, 16)?;
            assert_eq!(bits, capabilities, "{set}: {bits:x} for {capabilities:x}\n{}", leuko.stderr());
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(u64::from_str_radix(field(&status, set)?, 16)?, 0, "{set}");
        }
        assert_eq!((field(&status, "NoNewPrivs")?, field(&status, "Seccomp")?), ("1", "2"));
        let ids = [field(&status, "Uid")?, field(&status, "Gid")?].map(|ids| ids.split_whitespace().map(str::to_owned));
        assert!(ids.into_iter().flatten().all(|id| id == uid.to_string()), "{status}");
    }
    Ok(())
}

fn statuses(leuko: &Leuko) -> Result<Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", leuko.id()))?;
    // A thread may have ended since.
    Ok(tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).collect())
}

fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.map(str::trim).with_context(|| format!("{name} in {status}"))
}

fn told(leuko: &Leuko, words: &str) -> Result<()> {
    until(words, LONG, || leuko.stderr().contains(words).then_some(())).with_context(|| leuko.stderr())
}

fn connect(pair: &Pair) -> Result<()> {
    Wire::default().connect(
        Port { namespace: &pair.client, interface: "eth0", addresses: &[&format!("{}/24", Pair::CLIENT)] },
        Port { namespace: &pair.server, interface: "eth0", addresses: &[&format!("{}/24", Pair::SERVER)] },
    )
}

/// Where a sensor keeps what it keeps: a state directory, pins in a BPF filesystem, and a folder for a log of EVE lines
/// that everybody may write to.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let place = Self { folder: tempfile::TempDir::with_prefix("leuko-hardening-")? };
        for name in ["around", "bpf", "log"] {
            fs::create_dir(place.path(name))?;
        }
        for folder in [place.folder.path(), &place.path("around")] {
            fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        }
        fs::set_permissions(place.path("log"), Permissions::from_mode(0o777))?;
        mount(Some("bpf"), &place.path("bpf"), Some("bpf"), MsFlags::empty(), None::<&str>).context("mount a bpffs")?;
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("around/state")
    }

    fn pins(&self) -> PathBuf {
        self.path("bpf/leuko")
    }

    fn eve(&self) -> PathBuf {
        self.path("log/eve.json")
    }

    fn config(&self) -> String {
        self.path("leuko.toml").to_string_lossy().into_owned()
    }

    fn doctor(&self, namespace: &Namespace) -> Result<String> {
        let found = namespace.run(&Leuko::binary()?.to_string_lossy(), &["doctor", "--config", &self.config()], LONG);
        // Its exit code is about other things, too.
        Ok(found.map_or_else(|error| format!("{error:#}"), |output| output.stdout))
    }

    fn start(&self, namespace: &Namespace, user: &str, more: &str) -> Result<Leuko> {
        self.start_on(namespace, "eth*", user, more)
    }

    fn start_on(&self, namespace: &Namespace, interface: &str, user: &str, more: &str) -> Result<Leuko> {
        let harden = if more.contains("[harden]") { "" } else { &format!("[harden]\nuser = \"{user}\"\n") };
        let show = |path: &Path| path.display().to_string();
        let text = format!(
            "interfaces = [\"{interface}\"]\ninterval = \"200ms\"\nstate_dir = \"{}\"\nkernel.pin = \"{}\"\n{more}{harden}\
             [[notify.eve]]\nfile = \"{}\"\nflows = true\nrotate_size = \"4KiB\"\n",
            show(&self.state()),
            show(&self.pins()),
            show(&self.eve()),
        );
        fs::write(self.config(), text)?;
        Leuko::start(namespace, &["run", "--json", "--config", &self.config()])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left then is the folder's own business.
        let _ = unpin(&self.pins());
        let _ = umount2(&self.path("bpf"), MntFlags::MNT_DETACH);
    }
}
