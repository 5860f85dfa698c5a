//! What the socket makes of what it is told.

use sensor_core::respond::Scope;

use super::*;

#[test]
fn requests_say_which_packets() {
    let request = |text: &str| read(&Bytes::copy_from_slice(text.as_bytes()));
    for (text, expected) in [
        (r#"{"network":"203.0.113.7","seconds":60}"#, Some("203.0.113.7")),
        (r#"{"network":"203.0.113.0/24","protocol":6,"port":22}"#, Some("203.0.113.0/24 tcp port 22")),
        (r#"{"host":"192.0.2.1","port":443,"limit":100}"#, Some("requests to 192.0.2.1 port 443")),
        (r#"{"host":"::ffff:192.0.2.1","port":443,"limit":100}"#, Some("requests to 192.0.2.1 port 443")),
        (r#"{"network":"203.0.113.7","host":"192.0.2.1","port":443}"#, None),
        (r#"{"network":"203.0.113.7","port":443}"#, None),
        ("{}", None),
    ] {
        let target = request(text).unwrap().target().map(|target| target.to_string());
        assert_eq!(target.as_deref(), expected, "{text}");
    }
    for (text, mistake) in [("{", "EOF"), (r#"{"net":"x"}"#, "unknown field `net`"), (r#"{"network":"x"}"#, "x")] {
        let error = request(text).unwrap_err();
        assert!(error.contains(mistake), "{text}: {error}");
    }
}

#[test]
fn what_stays_blocked_is_said_with_what_to_do() {
    let net = |text: &str| text.parse::<Network>().unwrap();
    let of = |text: &str, scope| Target::Peer { network: net(text), scope };
    let list = |name: &str, named: &[&str]| {
        (ListName::try_from(name.to_owned()).unwrap(), named.iter().map(|text| net(text)).collect::<Vec<_>>())
    };
    let udp = Scope::Protocol(17);
    for (network, within, listed, expected) in [
        ("203.0.114.7", vec![], vec![list("drop", &[])], &[] as &[&str]),
        (
            "203.0.114.7",
            vec![of("203.0.114.0/24", Scope::All), of("203.0.114.0/25", udp)],
            vec![],
            &[
                "203.0.114.7 is blocked as part of 203.0.114.0/24: `leuko unblock 203.0.114.0/24` lifts that",
                "203.0.114.7 is blocked as part of 203.0.114.0/25 udp: `leuko unblock 203.0.114.0/25` lifts that",
            ],
        ),
        (
            "203.0.115.0/24",
            vec![],
            vec![list("drop", &["203.0.115.9"]), list("tor", &["203.0.115.9", "203.0.115.64/26"])],
            &[
                "203.0.115.9 on the list drop stays blocked: name what is to pass in respond.never",
                "203.0.115.9 and others on the list tor stay blocked: name what is to pass in respond.never",
            ],
        ),
    ] {
        assert_eq!(still(net(network), &within, &listed), expected, "{network}");
    }
}

#[tokio::test]
async fn an_order_that_is_too_long_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leuko.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let nothing = |_: Bytes| async { answer(StatusCode::OK, &Answer::default()) };
    let app = Router::new().route("/v1/block", post(nothing)).layer(DefaultBodyLimit::max(LONGEST));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = Client::connect(&path).unwrap();
    let order = |octets| Request { reason: "x".repeat(octets), ..Request::default() };
    assert_eq!(client.block(&order(100)).await.unwrap(), Answer::default());
    let error = client.block(&order(20_000)).await.unwrap_err().to_string();
    assert!(error.contains("longer than the 16384 octets"), "{error}");
}

#[test]
fn only_root_speaks_for_others() {
    let root = Peer(Some(Uid::from_raw(0)));
    let nobody = Peer(Some(Uid::from_raw(65_534)));
    assert_eq!(root.actor(Some("local:alice")), "local:alice");
    assert_eq!(root.actor(Some("telegram:42")), "local:root");
    assert_eq!(root.actor(None), "local:root");
    assert!(nobody.actor(Some("local:root")).starts_with("local:no"), "{}", nobody.actor(None));
    assert_eq!(Peer(None).actor(Some("local:alice")), "local:unknown");
}

#[test]
fn a_socket_that_was_left_is_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leuko.sock");
    make_way(&path).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(make_way(&path).unwrap_err().to_string().contains("another sensor listens"));
    drop(listener);
    make_way(&path).unwrap();
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    assert!(make_way(&path).unwrap_err().to_string().contains("is no socket"));
    assert!(Client::connect(&path).unwrap_err().to_string().contains("is `leuko run` running"));
}
