//! The lab: network namespaces, real servers and the `leuko` binary for end-to-end tests.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use support::{Http, Lab, Leuko, Need, Pair, require};
//!
//! if !require(&[Need::Root, Need::Leuko, Need::Tool("nmap")]) {
//!     return Ok(());
//! }
//! let pair = Lab::new()?.pair()?;
//! let _web = Http::start(&pair.server, 80)?;
//! let leuko = Leuko::start(&pair.server, &["run", "--interface", "eth0", "--json"])?;
//! pair.client.run("nmap", &["-n", "-p1-1000", Pair::SERVER], Duration::from_secs(30))?;
//! leuko.wait_for("a port scan", Duration::from_secs(10), |line| line.json["class"] == "port_scan")?;
//! # Ok(())
//! # }
//! ```

mod skip;

mod scene;

mod netns;

mod leuko;
mod load;
mod pins;
mod servers;

mod process;
mod traffic;
mod wait;

pub use leuko::{Leuko, Line};
pub use load::{Counts, Load, Pace};
pub use netns::{Lab, Namespace, Pair, Port, Wire};
pub use pins::BpfFolder;
pub use process::{Guard, Output, run_timeout, tool};
pub use scene::{Scene, Sensor};
pub use servers::{Alertmanager, Dns, FakeTelegram, Http, Iperf, Prometheus, Sshd, Webhook};
pub use skip::{Need, require};
pub use traffic::{Pattern, Traffic, stress_factor, syn_frame, tcp_frame, udp_frame};
pub use wait::{Deadline, until};
