//! What a receiver hears of blocks.

use std::time::{Duration, UNIX_EPOCH};

use sensor_core::respond::Scope;

use super::*;
use crate::notify::testing::{Answer, Fake, Post, until};
use crate::respond::testing::{limited, observed, peer, requests, scoped};

fn start(url: &str, blocks: Vec<Block>) -> (Hook, watch::Sender<Arc<Vec<Block>>>) {
    let config: HookConfig = toml::from_str(&format!("url = \"{url}\"\nsecret = \"hunter2\"")).unwrap();
    let (sender, receiver) = watch::channel(Arc::new(blocks));
    let clock = Arc::new(|| UNIX_EPOCH + Duration::from_secs(1_750_000_000));
    let retry = Retry { first: Duration::from_millis(1), longest: Duration::from_millis(2) };
    (Hook::start_at(&config, receiver, clock, retry).unwrap(), sender)
}

fn told(posts: &[Post]) -> Vec<String> {
    let line = |post: &Post| format!("{} {}", post.body["action"], post.body["block"]["network"]).replace('"', "");
    posts.iter().map(line).collect()
}

#[tokio::test]
async fn changes_are_told_one_by_one_and_signed() {
    let server = Fake::ok().await;
    let (hook, state) = start(
        &server.url,
        vec![peer("192.0.2.1/32", 60), limited("192.0.2.2/32", 10, 60), observed("192.0.2.0/32", 60)],
    );
    let posts = server.wait_for(2).await;
    assert_eq!(
        posts[0].body,
        json!({
            "action": "block",
            "at": 1_750_000_000.0,
            "block": {
                "type": "block",
                "network": "192.0.2.1",
                "limit": 0,
                "enforced": true,
                "since": 0.0,
                "until": 60.0,
                "by": "incident:inc-1",
                "reason": "brute force",
            },
        })
    );
    let id = "block-192.0.2.1-0-60000000000";
    assert_eq!(posts[0].headers["webhook-id"], id);
    let signer = Signer::new(&"hunter2".to_owned().try_into().unwrap()).unwrap();
    let signed = signer.headers(id, 1_750_000_000, &posts[0].text);
    assert_eq!(posts[0].headers["webhook-signature"], signed["webhook-signature"]);
    assert_eq!(posts[1].body["block"]["limit"], 10);

    let scope = Scope::Port { proto: 6, port: 22 };
    state.send_replace(Arc::new(vec![peer("192.0.2.1/32", 90), scoped("192.0.2.3/32", scope, 60)]));
    let posts = server.wait_for(5).await;
    assert_eq!(told(&posts[2..]), ["unblock 192.0.2.2", "block 192.0.2.1", "block 192.0.2.3"]);
    let block = &posts[4].body["block"];
    assert_eq!((&block["protocol"], &block["port"]), (&json!(6), &json!(22)));

    state.send_replace(Arc::new(vec![requests("192.0.2.9", 443, 7, 60)]));
    let posts = server.wait_for(8).await;
    let block = &posts[7].body["block"];
    assert_eq!((&block["host"], &block["port"], block.get("network")), (&json!("192.0.2.9"), &json!(443), None));
    until(|| hook.health() == HookHealth { delivered: 8, lost: 0, error: None }).await;
}

#[tokio::test]
async fn trouble_is_borne_for_a_while() {
    let server = Fake::start(|_, post| {
        let network = &post.body["block"]["network"];
        match network.as_str().unwrap_or_default() {
            "192.0.2.1" => Answer::Json(503, json!({})),
            "192.0.2.2" => Answer::Json(404, json!("hunter2")),
            _ => Answer::Json(200, json!({})),
        }
    })
    .await;
    let (hook, _state) =
        start(&server.url, vec![peer("192.0.2.1/32", 60), peer("192.0.2.2/32", 60), peer("192.0.2.3/32", 60)]);
    until(|| hook.health().delivered == 1).await;
    let posts = server.posts();
    let count = |network: &str| posts.iter().filter(|post| post.body["block"]["network"] == network).count();
    assert_eq!(["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(count), [ATTEMPTS as usize, 1, 1]);
    assert_eq!(posts[0].headers["webhook-id"], posts[5].headers["webhook-id"]);
    assert_eq!(hook.health(), HookHealth { delivered: 1, lost: 2, error: None });
}

#[tokio::test]
async fn what_is_over_before_it_could_be_told_is_not_told() {
    let server = Fake::start(|number, _| Answer::Json(if number < 2 { 503 } else { 200 }, json!({}))).await;
    let (_hook, state) = start(&server.url, vec![peer("192.0.2.1/32", 60), peer("192.0.2.2/32", 60)]);
    server.wait_for(1).await;
    state.send_replace(Arc::new(vec![peer("192.0.2.1/32", 60)]));
    let posts = server.wait_for(3).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!((told(&posts)[2].as_str(), server.posts().len()), ("block 192.0.2.1", 3));
}
