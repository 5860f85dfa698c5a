//! The sensor's own traffic: connections to its receivers and scrapes of its metrics.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::watch;
use tracing::debug;

/// How often receivers are looked up again.
const REFRESH: Duration = Duration::from_secs(300);

/// Endpoints that are the sensor's own, kept up to date by a task.
#[derive(Clone, Debug)]
pub struct OwnTraffic {
    endpoints: watch::Receiver<BTreeSet<(IpAddr, u16)>>,
}

impl OwnTraffic {
    /// Looks the receivers up now and then, and adds the addresses the metrics listen on. Needs a tokio runtime.
    #[must_use]
    pub fn follow(receivers: Vec<(String, u16)>, metrics: Option<SocketAddr>, own: BTreeSet<IpAddr>) -> Self {
        let listening: BTreeSet<(IpAddr, u16)> = match metrics {
            Some(at) if at.ip().is_unspecified() => own.into_iter().map(|addr| (addr, at.port())).collect(),
            Some(at) => BTreeSet::from([(at.ip(), at.port())]),
            None => BTreeSet::new(),
        };
        let (sender, endpoints) = watch::channel(listening.clone());
        tokio::spawn(async move {
            loop {
                let mut known = listening.clone();
                for (host, port) in &receivers {
                    match tokio::net::lookup_host((host.as_str(), *port)).await {
                        Ok(found) => known.extend(found.map(|found| (found.ip(), found.port()))),
                        Err(error) => debug!(host, %error, "cannot look a receiver up"),
                    }
                }
                if sender.send(known).is_err() {
                    return;
                }
                tokio::time::sleep(REFRESH).await;
            }
        });
        Self { endpoints }
    }

    /// The endpoints, if they have changed since the last call.
    pub fn changed(&mut self) -> Option<BTreeSet<(IpAddr, u16)>> {
        self.endpoints.has_changed().unwrap_or(false).then(|| self.endpoints.borrow_and_update().clone())
    }

    /// The endpoints as they are known now.
    #[must_use]
    pub fn current(&self) -> BTreeSet<(IpAddr, u16)> {
        self.endpoints.borrow().clone()
    }
}
