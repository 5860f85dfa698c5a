//! Asks a server for a list: only whether it has changed, if it can tell, and for no more than a list may be.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use reqwest::header::{
    CONTENT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode};

use super::cache::{Cache, Draft, Mark};
use super::config::ListUrl;
use super::lines::TOTAL_LIMIT;
use crate::notify::http::{self, Trust};

/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// Octets of a mark of the server that is kept.
const MARK_LIMIT: usize = 1024;

/// What the server says.
pub enum Answer {
    /// The list is the one of the mark.
    Same,
    /// It is another, which is in this draft.
    New(Draft),
}

/// Asks for a list of which there may be a copy with this mark.
///
/// # Errors
/// There is no such answer in time; the error does not hold the address.
pub async fn fetch(url: &ListUrl, mark: Option<&Mark>, cache: &Cache, timeout: Duration) -> Result<Answer> {
    let asked = tokio::time::timeout(timeout, ask(url, mark, cache)).await;
    asked.unwrap_or_else(|_| Err(anyhow!("the server takes longer than {} s", timeout.as_secs_f64())))
}

async fn ask(url: &ListUrl, mark: Option<&Mark>, cache: &Cache) -> Result<Answer> {
    let mut request = client(url)?.get(url.url().clone());
    let etag = mark.and_then(|mark| mark.etag.as_deref());
    let modified = mark.and_then(|mark| mark.modified.as_deref());
    for (name, value) in [(IF_NONE_MATCH, etag), (IF_MODIFIED_SINCE, modified)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            request = request.header(name, value);
        }
    }
    let response = request.send().await.map_err(|error| anyhow!(http::describe(error)))?;
    match response.status() {
        StatusCode::NOT_MODIFIED if etag.or(modified).is_some() => Ok(Answer::Same),
        StatusCode::OK => download(response, cache).await.map(Answer::New),
        status => bail!("the server says {status}"),
    }
}

async fn download(mut response: Response, cache: &Cache) -> Result<Draft> {
    let headers = response.headers();
    if let Some(encoding) = text(headers, CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
        bail!("the server sends the list compressed ({encoding}), although it was not asked to");
    }
    if response.content_length().is_some_and(|octets| octets > TOTAL_LIMIT) {
        bail!(too_large());
    }
    let mut draft = cache.begin(text(headers, ETAG), text(headers, LAST_MODIFIED))?;
    let mut octets = 0;
    while let Some(part) = response.chunk().await.map_err(|error| anyhow!(http::describe(error)))? {
        octets += part.len() as u64;
        if octets > TOTAL_LIMIT {
            bail!(too_large());
        }
        draft.write(&part)?;
    }
    Ok(draft)
}

fn too_large() -> String {
    format!("the list is larger than {} MB", TOTAL_LIMIT / 1_000_000)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (value.len() <= MARK_LIMIT).then(|| value.to_owned())
}

/// Roots are needed also for an address without TLS that leads to one with it, if there are any.
fn client(url: &ListUrl) -> Result<Client> {
    let policy = || Policy::custom(follow);
    let checked = http::client_following(policy(), Trust::SystemRoots);
    if url.is_https() { checked } else { checked.or_else(|_| http::client_following(policy(), Trust::Nobody)) }
        .context("ask for the list")
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS {
        attempt.error(format!("more than {REDIRECTS} redirects"))
    } else if was_https && attempt.url().scheme() != "https" {
        attempt.error("a redirect to an address without TLS")
    } else {
        attempt.follow()
    }
}
