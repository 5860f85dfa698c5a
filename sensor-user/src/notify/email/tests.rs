//! Against servers that speak SMTP, well or badly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use sensor_core::incident::{Change, Language};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::letter::Scribe;
use super::*;
use crate::notify::testing::{Rig, incident, logs, until};
use crate::notify::view::Author;
use crate::notify::{NotifyConfig, Outcome};

/// What a server says to a command.
#[derive(Clone, Copy)]
enum Say {
    As(&'static str),
    Nothing,
    HangUp,
}

/// A letter as it came.
#[derive(Clone, Debug, Default)]
struct Letter {
    to: Vec<String>,
    text: String,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    commands: Vec<String>,
    letters: Vec<Letter>,
}

/// A mail server that says what it is told to, and `250` otherwise.
#[derive(Clone)]
struct Server {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    /// `say` is given how often this verb was heard, from 0, and the command; `.` is the end of a letter, the empty command the
    /// greeting.
    async fn start(say: impl Fn(usize, &str) -> Option<Say> + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let this = Self { port, seen: Arc::clone(&seen) };
        tokio::spawn(async move {
            let heard = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
            while let Ok((stream, _)) = listener.accept().await {
                seen.lock().unwrap().connections += 1;
                let say = say.clone();
                let heard = Arc::clone(&heard);
                let say = move |command: &str| {
                    let verb = command.split(' ').next().unwrap().to_owned();
                    let mut heard = heard.lock().unwrap();
                    let times = heard.entry(verb).or_default();
                    *times += 1;
                    say(*times - 1, command)
                };
                tokio::spawn(talk(stream, Arc::clone(&seen), say));
            }
        });
        this
    }

    async fn kind() -> Self {
        Self::start(|_, _| None).await
    }

    fn rig(&self, more: &str) -> Rig {
        self.rig_to("[\"ops@example.org\"]", more)
    }

    fn rig_to(&self, to: &str, more: &str) -> Rig {
        let tls = if more.contains("tls =") { "" } else { "tls = \"none\"" };
        let cool_down = if more.contains("cool_down") { "" } else { "cool_down = \"1ms\"" };
        Rig::start(&format!(
            "[[email]]\nhost = \"127.0.0.1\"\nport = {}\nfrom = \"Leuko <leuko@example.org>\"\nto = {to}\n\
             {tls}\n{cool_down}\n{more}\n",
            self.port
        ))
    }

    fn letters(&self) -> Vec<Letter> {
        self.seen.lock().unwrap().letters.clone()
    }

    fn heard(&self, verb: &str) -> usize {
        self.seen.lock().unwrap().commands.iter().filter(|command| command.starts_with(verb)).count()
    }

    async fn wait_for(&self, letters: usize) -> Vec<Letter> {
        until(|| self.letters().len() >= letters).await;
        self.letters()
    }
}

async fn talk(stream: TcpStream, seen: Arc<Mutex<Seen>>, say: impl Fn(&str) -> Option<Say>) {
    let mut stream = BufReader::new(stream);
    let (mut command, mut letter, mut in_letter) = (String::new(), Letter::default(), false);
    loop {
        let usual = match command.split(' ').next().unwrap() {
            "" => "220 ready",
            "EHLO" => "250-mail\r\n250 AUTH PLAIN LOGIN",
            "AUTH" => "235 welcome",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        match say(&command).unwrap_or(Say::As(usual)) {
            Say::As(answer) => {
                if stream.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                    return;
                }
                match command.as_str() {
                    "DATA" => in_letter = answer.starts_with('3'),
                    "." if answer.starts_with('2') => seen.lock().unwrap().letters.push(std::mem::take(&mut letter)),
                    _ if command.starts_with("MAIL") => letter = Letter::default(),
                    _ if command.starts_with("RCPT") && answer.starts_with('2') => letter.to.push(command.clone()),
                    _ => {}
                }
            }
            Say::Nothing => std::future::pending().await,
            Say::HangUp => return,
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if in_letter && line != ".\r\n" {
                letter.text.push_str(&line);
                continue;
            }
            in_letter = false;
            command = line.trim_end().to_owned();
            seen.lock().unwrap().commands.push(command.clone());
            break;
        }
    }
}

/// The headers of a letter by name, unfolded. A name that is there twice has both.
fn headers(text: &str) -> BTreeMap<String, Vec<String>> {
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    let mut headers = BTreeMap::<String, Vec<String>>::new();
    for line in head.replace("\r\n ", " ").split("\r\n") {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}"));
        headers.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    headers
}

fn count(rig: &Rig, outcome: Outcome) -> u64 {
    rig.count("email", outcome)
}

#[tokio::test]
async fn letters_about_an_incident_are_a_thread_over_one_connection() {
    let server = Server::kind().await;
    let rig = server.rig("");
    rig.send(Change::Opened, &incident("a"));
    server.wait_for(1).await;
    rig.send(Change::Closed, &incident("a"));
    let letters = server.wait_for(2).await;
    until(|| count(&rig, Outcome::Delivered) == 2).await;
    assert_eq!(server.seen.lock().unwrap().connections, 1);

    let [first, second] = [0, 1].map(|n: usize| headers(&letters[n].text));
    for (name, value) in [
        ("From", "Leuko <leuko@example.org>"),
        ("To", "ops@example.org"),
        ("Message-ID", "<a.1@web-1>"),
        ("Auto-Submitted", "auto-generated"),
        ("X-Leuko-Incident", "a"),
        ("X-Leuko-Severity", "medium"),
    ] {
        assert_eq!(first[name], [value], "{name}");
    }
    assert!(first["Content-Type"][0].starts_with("multipart/alternative;"), "{first:?}");
    assert!(!first.contains_key("References"), "{first:?}");
    assert_eq!(second["Message-ID"], ["<a.2@web-1>"]);
    assert_eq!((&second["In-Reply-To"], &second["References"]), (&first["Message-ID"], &first["Message-ID"]));
    for words in ["text/plain", "text/html", "203.0.113.5 probed 812 ports of 192.0.2.10 &lt;tcp&gt; &amp; more"] {
        assert!(letters[0].text.replace("=\r\n", "").contains(words), "{words}: {}", letters[0].text);
    }
    assert_eq!(letters[0].to, ["RCPT TO:<ops@example.org>"]);
}

#[tokio::test]
async fn trouble_is_waited_out_and_the_letter_written_again_is_the_same() {
    let server = Server::start(|times, command| match (times, command) {
        (0, "") => Some(Say::As("421 busy")),
        (1, "") => Some(Say::As("554 not from this address, for now")),
        (0, ".") => Some(Say::As("451 disk full")),
        (1, ".") => Some(Say::HangUp),
        (2, ".") => Some(Say::Nothing),
        (4, "DATA") => Some(Say::As("nonsense")),
        _ => None,
    })
    .await;
    let rig = server.rig("timeout = \"300ms\"");
    rig.send(Change::Opened, &incident("a"));
    let letters = server.wait_for(1).await;
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    assert!(count(&rig, Outcome::Retried) >= 5, "{}", count(&rig, Outcome::Retried));
    assert_eq!(headers(&letters[0].text)["Message-ID"], ["<a.1@web-1>"]);
}

#[tokio::test]
async fn what_is_refused_for_good_is_given_up_and_the_next_goes_on() {
    let server = Server::start(|times, command| (command == "." && times == 0).then_some(Say::As("554 spam"))).await;
    let rig = server.rig("");
    rig.send(Change::Opened, &incident("a"));
    until(|| count(&rig, Outcome::Dead) == 1).await;
    rig.send(Change::Opened, &incident("b"));
    let letters = server.wait_for(1).await;
    assert_eq!(headers(&letters[0].text)["X-Leuko-Incident"], ["b"]);
}

#[tokio::test]
async fn a_recipient_who_is_refused_does_not_keep_it_from_the_others() {
    let server = Server::start(|_, command| match command {
        "RCPT TO:<gone@example.org>" => Some(Say::As("550 no such user")),
        "RCPT TO:<full@example.org>" => Some(Say::As("452 mailbox full")),
        _ => None,
    })
    .await;
    let rig = server.rig_to("[\"gone@example.org\", \"ops@example.org\", \"full@example.org\"]", "");
    rig.send(Change::Opened, &incident("a"));
    let letters = server.wait_for(1).await;
    until(|| count(&rig, Outcome::Delivered) == 1).await;
    assert_eq!(letters[0].to, ["RCPT TO:<ops@example.org>"]);
    assert_eq!(count(&rig, Outcome::Retried), u64::from(ATTEMPTS) - 1);
}

#[tokio::test]
async fn a_refused_password_is_complained_of_once_and_never_logged() {
    let (_guard, log) = logs();
    let server = Server::start(|_, command| {
        command
            .starts_with("AUTH")
            .then_some(Say::As("535 hunter2 aHVudGVyMg== AGxldWtvAGh1bnRlcjI= is not the password"))
    })
    .await;
    let rig = server.rig("username = \"leuko\"\npassword = \"hunter2\"");
    rig.send(Change::Opened, &incident("a"));
    rig.send(Change::Opened, &incident("b"));
    until(|| count(&rig, Outcome::Retried) == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((server.heard("AUTH"), server.heard("MAIL")), (1, 0));
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(log.contains("*** *** *** is not the password") && !log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn without_encryption_nothing_is_said() {
    let server = Server::kind().await;
    let rig = server.rig("tls = \"starttls\"\nusername = \"leuko\"\npassword = \"hunter2\"");
    rig.send(Change::Opened, &incident("a"));
    until(|| count(&rig, Outcome::Retried) > 0).await;
    assert_eq!((server.heard("AUTH"), server.heard("MAIL")), (0, 0));
}

#[tokio::test]
async fn a_burst_is_one_letter() {
    let server = Server::kind().await;
    let rig = server.rig("rate_limit = \"2/1h\"");
    for n in 0..40 {
        rig.send(Change::Opened, &incident(&format!("i{n}")));
    }
    until(|| count(&rig, Outcome::Delivered) == 40).await;
    let letters = server.letters();
    assert!(letters.len() <= 2, "{}", letters.len());
    let last = letters.last().unwrap();
    assert!(headers(&last.text)["Message-ID"][0].contains("-digest-"), "{}", last.text);
    assert!(last.text.replace("=\r\n", "").contains("[i39.1]"), "{}", last.text);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let table = "[[email]]\nfrom = \"a@b.c\"\nto = [\"d@e.f\"]\n";
    for (more, words) in [
        ("host = \"mail:25\"\nto = []", "duplicate key"),
        ("host = \"mail/x\"", "host is the name"),
        ("host = \"mail\"\nusername = \"u\"", "username needs a password"),
        ("host = \"mail\"\npassword = \"hunter2\"", "password needs a username"),
        ("host = \"mail\"\ntls = \"none\"\nusername = \"u\"\npassword = \"hunter2\"", "plain text"),
        ("host = \"mail\"\ntls = \"ssl\"", "unknown variant"),
        ("host = \"mail\"\ncc = []", "unknown field"),
    ] {
        let error = toml::from_str::<NotifyConfig>(&format!("{table}{more}")).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("hunter2\" is"), "{more}\n{error}");
    }
    for to in ["", "nobody", "a@b\\r\\nBcc: c@d", "ñ@example.org"] {
        let toml = format!("[[email]]\nhost = \"mail\"\nfrom = \"a@b.c\"\nto = [\"{to}\"]");
        assert!(toml::from_str::<NotifyConfig>(&toml).is_err(), "{to}");
    }
    let config: NotifyConfig = toml::from_str(&format!("{table}host = \"mail\"")).unwrap();
    assert_eq!((config.email[0].port, config.email[0].tls), (587, Tls::Starttls));
    let again: NotifyConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever names a host, or is quoted, writes no header and no part of a letter.
    #[test]
    fn hostile_text_stays_in_its_place(
        sensor in hostile(), summary in hostile(), id in hostile(), name in hostile(), value in hostile(), count in 1_usize..3
    ) {
        let config: NotifyConfig =
            toml::from_str("[[email]]\nhost = \"mail\"\nfrom = \"a@b.c\"\nto = [\"d@e.f\"]").unwrap();
        let templates = Arc::new(Templates::load(None, Language::Es).unwrap());
        let author = Author { sensor, language: Language::Es, dashboard: None };
        let scribe = Scribe::new(&config.email[0], author, templates);
        let mut hostile = incident(&id);
        hostile.summary = summary;
        hostile.evidence = [(name, serde_json::Value::String(value))].into();
        let event = Event {
            seq: 1,
            n: 2,
            change: Change::Updated,
            rose: true,
            told: true,
            at: hostile.last_seen,
            kept_at: hostile.last_seen,
            incident: hostile,
        };
        let digest = scribe.digest(&vec![event.clone(); count]).unwrap();
        for (letter, own) in [(scribe.event(&event).unwrap(), 12), (digest, 9)] {
            let text = String::from_utf8(letter.formatted()).unwrap();
            let headers = headers(&text);
            prop_assert_eq!(headers.len(), own, "{:?}", headers);
            prop_assert!(headers.values().all(|values| values.len() == 1), "{:?}", headers);
            prop_assert_eq!(&headers["To"], &["d@e.f"]);
            let boundary = headers["Content-Type"][0].split('"').nth(1).unwrap().to_owned();
            prop_assert_eq!(text.matches(&format!("\r\n--{boundary}\r\n")).count(), 2);
            prop_assert!(text.split("\r\n").all(|line| line.len() <= 998 && line.is_ascii() && !line.contains('\n')));
            let html = text.split("text/html").nth(1).unwrap();
            prop_assert!(!html.contains("<script"), "{}", html);
        }
    }
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just("x\r\nBcc: all@example.org\r\n\r\n<script>alert(1)</script>".to_owned()),
        Just("=?utf-8?q?=0D=0ABcc:_all@example.org?=".to_owned()),
        Just("<script src=//x></script>\n.\nQUIT\n".to_owned()),
        Just("ñ".repeat(3000)),
    ]
}
