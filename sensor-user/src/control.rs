//! The socket by which people on this host act on a running sensor: HTTP and JSON over a Unix socket.
//!
//! Who may write to the socket may act: its mode is 0660. Who acts is known from the kernel (SO_PEERCRED), not from what is
//! said; root may say for whom it acts, as sudo does.

mod client;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response as HttpResponse};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use nix::unistd::{Uid, User};
use sensor_core::net::Network;
use sensor_core::respond::{Measure, Selection, Target, Wish};
use sensor_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tracing::{info, warn};

pub use self::client::Client;
use crate::notify::text::plain;
use crate::respond::line::{BlockLine, target};
use crate::respond::lists::{ListName, ListStatus, Lists};
use crate::respond::{Act as _, Listed, Response};

/// Longest request, in octets.
const LONGEST: usize = 16_384;

/// What somebody wants done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Whose packets,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// or requests to whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// IANA protocol number, if not all are meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Port at our side, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Packets a second that pass; 0 for none.
    pub limit: u32,
    /// For how long, in seconds. Nothing for an hour, and not for less than what is enforced already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Why.
    pub reason: String,
    /// For whom root acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// From where whoever acts works on this host: it is never blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<IpAddr>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Blocks: what there are, the one that was put, or those that were lifted.
    #[serde(default)]
    pub blocks: Vec<BlockLine>,
    /// When what was put would have ended before, in seconds since the epoch, if it was enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was_until: Option<f64>,
    /// What of it is blocked all the same, and what to do about that: a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still: Vec<String>,
    /// How far the sensor goes by itself.
    #[serde(default)]
    pub mode: String,
    /// Seconds in which what it does by itself is only counted, because it is new here.
    #[serde(default)]
    pub unarmed_s: u64,
    /// Lists from elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<ListLine>,
    /// Why nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A list from elsewhere: `{"type":"list",...}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "list")]
pub struct ListLine {
    /// What it is called.
    pub name: String,
    /// `mark` or `block`.
    pub action: String,
    /// Where it is from.
    pub source: String,
    /// Networks in it; nothing before it was read for the first time.
    pub entries: Option<usize>,
    /// Those of them that are blocked; nothing where none are to be, or it was not tried yet.
    pub blocked: Option<usize>,
    /// Seconds since it was known to be what its source has.
    pub age_s: Option<u64>,
    /// Why it is not known to be that now.
    pub error: Option<String>,
}

impl ListLine {
    fn of(status: ListStatus, now: Timestamp) -> Self {
        Self {
            age_s: status.age(now).map(|age| age.as_secs()),
            name: status.name.to_string(),
            action: status.action.to_string(),
            source: status.source,
            entries: status.entries,
            blocked: status.blocked,
            error: status.error,
        }
    }
}

/// The socket; it goes with this.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    /// Serves in the background. Needs a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be made, or another sensor has it.
    pub fn serve(path: &Path, response: Response, lists: Option<Arc<Lists>>) -> Result<Self> {
        make_way(path)?;
        let listener = UnixListener::bind(path)
            .with_context(|| format!("make the socket {}; choose another place with respond.socket", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).context("restrict the socket")?;
        let app = router(Desk { response, lists }).into_make_service_with_connect_info::<Peer>();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                warn!(%error, "blocks can no longer be changed by the socket");
            }
        });
        info!(path = %path.display(), "taking orders");
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // A socket that stays is removed by the next sensor.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes what a killed sensor has left.
fn make_way(path: &Path) -> Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("look at {}", path.display())),
    };
    if !kind.is_socket() {
        bail!("{} is no socket; choose another place with respond.socket", path.display());
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("another sensor listens at {}; give this one a --state-dir of its own", path.display());
    }
    fs::remove_file(path).with_context(|| format!("remove the socket {} of a sensor that was killed", path.display()))
}

/// Who is at the other end.
#[derive(Clone, Debug)]
struct Peer(Option<Uid>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let io: &UnixStream = stream.io();
        Self(io.peer_cred().ok().map(|peer| Uid::from_raw(peer.uid())))
    }
}

impl Peer {
    /// As the audit trail calls them.
    fn actor(&self, said: Option<&str>) -> String {
        let Some(uid) = self.0 else { return "local:unknown".to_owned() };
        if let Some(said) = said.filter(|said| uid.is_root() && said.starts_with("local:")) {
            return plain(said);
        }
        let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        format!("local:{name}")
    }
}

/// What orders are about.
struct Desk {
    response: Response,
    lists: Option<Arc<Lists>>,
}

impl Desk {
    /// What is blocked of a network after it was unblocked, and what to do about it.
    fn still(&self, network: Network) -> Vec<String> {
        let listed = self.response.with(|responder, _| {
            let guard = responder.ladder().guard();
            self.lists.as_ref().map_or_else(Vec::new, |lists| lists.blocking(network, guard))
        });
        still(network, &self.response.within(network), &listed)
    }
}

fn router(desk: Desk) -> Router {
    Router::new()
        .route("/v1/blocks", get(list))
        .route("/v1/block", post(block))
        .route("/v1/unblock", post(unblock))
        .layer(DefaultBodyLimit::max(LONGEST))
        .with_state(Arc::new(desk))
}

async fn list(State(desk): State<Arc<Desk>>) -> HttpResponse {
    let mut all = state(&desk.response, desk.response.blocks());
    let now = desk.response.with(|_, at| at.now);
    let lists = desk.lists.iter().flat_map(|lists| lists.status());
    all.lists = lists.map(|status| ListLine::of(status, now)).collect();
    answer(StatusCode::OK, &all)
}

async fn block(State(desk): State<Arc<Desk>>, ConnectInfo(peer): ConnectInfo<Peer>, body: Bytes) -> HttpResponse {
    let request = match read(&body) {
        Ok(request) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    if let Some(session) = request.session {
        desk.response.protect_session(session);
    }
    let Some(target) = request.target() else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "say whose packets: a network, or a host and a port of ours".to_owned(),
        );
    };
    let wish = Wish {
        target,
        measure: if request.limit == 0 { Measure::Drop } else { Measure::Limit(request.limit) },
        span: request.seconds.map(Duration::from_secs),
        actor: peer.actor(request.actor.as_deref()),
        reason: request.reason,
    };
    let (put, before) = desk.response.with(|responder, at| {
        let before = responder.ladder().enforced(&target).map(|block| block.until.epoch_seconds());
        (responder.block(wish, at), before)
    });
    match put {
        Ok(listed) => answer(StatusCode::OK, &Answer { was_until: before, ..state(&desk.response, vec![listed]) }),
        Err(refusal) => refuse(StatusCode::CONFLICT, refusal.to_string()),
    }
}

async fn unblock(State(desk): State<Arc<Desk>>, ConnectInfo(peer): ConnectInfo<Peer>, body: Bytes) -> HttpResponse {
    let request = match read(&body) {
        Ok(request) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    let selection = match request.target() {
        Some(Target::Peer { network, scope: sensor_core::respond::Scope::All }) => Selection::Network(network),
        Some(target) => Selection::Target(target),
        None => {
            return refuse(StatusCode::BAD_REQUEST, "say whose packets: a network, or a host and a port".to_owned());
        }
    };
    let actor = peer.actor(request.actor.as_deref());
    let lifted = desk.response.unblock(selection, &actor, &request.reason);
    let still = request.network.map_or_else(Vec::new, |network| desk.still(network));
    if lifted.is_empty() && !still.is_empty() {
        return refuse(StatusCode::CONFLICT, still.join("; "));
    }
    answer(StatusCode::OK, &Answer { still, ..state(&desk.response, lifted) })
}

/// `within` is by what all of a network is blocked, `listed` the first that lists name of it.
fn still(network: Network, within: &[Target], listed: &[(ListName, Vec<Network>)]) -> Vec<String> {
    let wider = within.iter().filter_map(|target| Some((target, target.network()?)));
    let wider = wider
        .map(|(target, wide)| format!("{network} is blocked as part of {target}: `leuko unblock {wide}` lifts that"));
    let by_list = |(name, named): &(ListName, Vec<Network>)| {
        let first = named.first()?;
        let (others, stay) = if named.len() > 1 { (" and others", "stay") } else { ("", "stays") };
        Some(format!("{first}{others} on the list {name} {stay} blocked: name what is to pass in respond.never"))
    };
    wider.chain(listed.iter().filter_map(by_list)).collect()
}

impl Request {
    fn target(&self) -> Option<Target> {
        target(self.network, self.host, self.protocol, self.port)
    }
}

fn read(body: &Bytes) -> Result<Request, String> {
    serde_json::from_slice(body).map_err(|error| format!("not understood: {error}"))
}

fn state(response: &Response, blocks: Vec<Listed>) -> Answer {
    response.with(|responder, at| {
        let ladder = responder.ladder();
        let since = at.now.since(ladder.armed_since());
        Answer {
            blocks: blocks.iter().map(BlockLine::from).collect(),
            was_until: None,
            still: Vec::new(),
            mode: ladder.policy().mode.to_string(),
            unarmed_s: ladder.policy().observe_first.saturating_sub(since).as_secs(),
            lists: Vec::new(),
            error: None,
        }
    })
}

fn refuse(status: StatusCode, error: String) -> HttpResponse {
    answer(status, &Answer { error: Some(error), ..Answer::default() })
}

fn answer(status: StatusCode, answer: &Answer) -> HttpResponse {
    (status, [(header::CONTENT_TYPE, "application/json")], json!(answer).to_string()).into_response()
}
