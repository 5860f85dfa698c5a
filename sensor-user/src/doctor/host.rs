//! The rest of the host: the clock, the places that are written to, the port that is listened on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::{AccessFlags, eaccess};
use sensor_core::time::Timestamp;

use super::Check;
use crate::config::Config;
use crate::notify::http;
use crate::store::{Store, StoreError};

const AREA: &str = "host";
/// 2024-01-01; a clock before it was never set.
const PLAUSIBLE: u64 = 1_704_067_200;
const TIMEOUT: Duration = Duration::from_secs(2);

pub async fn checks(config: &Config, now: SystemTime) -> Vec<Check> {
    let mut checks = vec![clock(now, is_synchronised()), state_dir(&config.state_dir)];
    checks.extend(store(&config.state_dir));
    if let Some(path) = &config.log_file {
        checks.push(log_file(path));
    }
    if let Some(address) = config.metrics.listen.address() {
        checks.push(metrics_port(address).await);
    }
    checks
}

fn clock(now: SystemTime, is_synchronised: Option<bool>) -> Check {
    let secs = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let time = Timestamp::from_secs(secs);
    if secs < PLAUSIBLE {
        return Check::ok(AREA, "clock", time.to_string()).fail("the clock was never set: timedatectl set-ntp true");
    }
    match is_synchronised {
        Some(false) => Check::ok(AREA, "clock", format!("{time}, not synchronised"))
            .warn("times of incidents may not match those of other logs: timedatectl set-ntp true"),
        Some(true) => Check::ok(AREA, "clock", format!("{time}, synchronised")),
        None => Check::ok(AREA, "clock", format!("{time}, whether it is synchronised is not told")),
    }
}

/// What systemd-timesyncd says. Asking the kernel takes `adjtimex(2)`, which has no safe wrapper; other time daemons
/// are taken at their word when they run.
fn is_synchronised() -> Option<bool> {
    let exists = |path: &str| Path::new(path).exists();
    if exists("/run/systemd/timesync/synchronized") || exists("/run/chrony") || exists("/run/ntpd.pid") {
        return Some(true);
    }
    exists("/run/systemd/timesync").then_some(false)
}

fn state_dir(dir: &Path) -> Check {
    let check = |found: String| Check::ok(AREA, "state directory", found);
    let advice = "choose a place with --state-dir or state_dir that may be written to";
    match nearest(dir) {
        Some(found) if !found.is_dir() => check(format!("{} is no directory", found.display())).fail(advice),
        Some(found) if !is_writable(&found) => check(format!("{} may not be written to", found.display())).fail(advice),
        Some(found) if found == dir => check(format!("{}, writable", dir.display())),
        Some(_) => check(format!("{}, will be created", dir.display())),
        None => check(format!("{} is nowhere", dir.display())).fail(advice),
    }
}

/// The store of an earlier run, if there is one.
fn store(dir: &Path) -> Option<Check> {
    let check = |found: String| Check::ok(AREA, "store", found);
    match Store::open_existing(dir).and_then(|store| Ok((store.size()?, store.queues()?))) {
        Err(StoreError::Missing(_)) => None,
        Err(error) => Some(check(error.to_string()).fail("`leuko run` cannot keep incidents there")),
        Ok((octets, queues)) => {
            let (waiting, dead) =
                queues.iter().fold((0, 0), |(waiting, dead), queue| (waiting + queue.pending, dead + queue.dead));
            let check = check(format!("{octets} octets, {waiting} events wait in the outbox, {dead} were given up"));
            Some(if dead > 0 {
                check.warn("`leuko notify dead` shows them, `leuko notify resend` tries again")
            } else {
                check
            })
        }
    }
}

fn log_file(path: &Path) -> Check {
    let check = |found: String| Check::ok(AREA, "log file", found);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = if path.exists() { path } else { folder };
    if path.is_dir() || !place.exists() {
        return check(format!("{} cannot be a file", path.display())).fail("correct log_file, or create its directory");
    }
    if !is_writable(place) {
        return check(format!("{} may not be written to", place.display()))
            .fail("correct log_file, or its permissions");
    }
    check(format!("{}, writable", path.display()))
}

/// The directory itself, or the closest one above it that exists.
fn nearest(dir: &Path) -> Option<PathBuf> {
    let here = Path::new(".");
    let above = dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { here } else { dir });
    above.into_iter().find(|dir| dir.exists()).map(Path::to_owned)
}

fn is_writable(path: &Path) -> bool {
    let search = if path.is_dir() { AccessFlags::X_OK } else { AccessFlags::empty() };
    eaccess(path, AccessFlags::W_OK | search).is_ok()
}

async fn metrics_port(address: SocketAddr) -> Check {
    let check = |found: String| Check::ok(AREA, "metrics port", found);
    match TcpListener::bind(address) {
        Ok(_) if address.ip().is_loopback() => check(format!("{address} is free")),
        Ok(_) => check(format!("{address} is free, and open to whoever reaches this host")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if is_leuko(address).await {
                return check(format!("{address} is served by a sensor that runs already"));
            }
            check(format!("{address} is taken by another program")).fail("choose another with --metrics-listen")
        }
        Err(error) => check(format!("{address}: {error}")).fail("choose an address of this host with --metrics-listen"),
    }
}

/// Whether the greeting of [`crate::web`] is served there.
async fn is_leuko(address: SocketAddr) -> bool {
    let ask = async {
        let client = http::client(http::Trust::Nobody).ok()?;
        let answer = client.get(format!("http://{address}/")).timeout(TIMEOUT).send().await.ok()?;
        http::body(answer).await.ok()
    };
    ask.await.is_some_and(|greeting| greeting.starts_with("leuko"))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_fails() {
        assert_eq!(clock(UNIX_EPOCH, Some(true)).verdict, Verdict::Fail);
        let now = UNIX_EPOCH + Duration::from_secs(1_750_000_000);
        for (synchronised, verdict) in [(Some(true), Verdict::Ok), (Some(false), Verdict::Warn), (None, Verdict::Ok)] {
            let check = clock(now, synchronised);
            assert_eq!(check.verdict, verdict);
            assert!(check.found.starts_with("2025-06-15T15:06:40"), "{}", check.found);
        }
    }

    #[test]
    fn places_are_looked_at_without_touching_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(state_dir(dir.path()).verdict, Verdict::Ok);
        let below = dir.path().join("a/b");
        assert!(state_dir(&below).found.contains("will be created") && !below.exists());
        assert_eq!(state_dir(&file).verdict, Verdict::Fail);
        assert_eq!(state_dir(&file.join("below")).verdict, Verdict::Fail);

        assert_eq!(log_file(&file).verdict, Verdict::Ok);
        assert_eq!(log_file(&dir.path().join("new")).verdict, Verdict::Ok);
        assert_eq!(log_file(&below).verdict, Verdict::Fail);
        assert_eq!(log_file(dir.path()).verdict, Verdict::Fail);
    }

    #[tokio::test]
    async fn a_port_is_free_taken_or_ours() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let check = metrics_port(address).await;
        assert_eq!(check.verdict, Verdict::Fail, "{check:?}");
        drop(taken);
        assert_eq!(metrics_port(address).await.verdict, Verdict::Ok);

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let greeting = axum::routing::get(|| async { "leuko, a network anomaly sensor" });
        tokio::spawn(IntoFuture::into_future(axum::serve(listener, axum::Router::new().route("/", greeting))));
        let check = metrics_port(address).await;
        assert!(check.found.contains("runs already"), "{check:?}");
        assert_eq!(metrics_port("192.0.2.1:9101".parse().unwrap()).await.verdict, Verdict::Fail);
    }
}
