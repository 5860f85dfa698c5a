//! The HTTP client of the sinks, and errors that say what happened without saying to which URL.

use std::error::Error as _;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::{Certificate, Client, ClientBuilder, Response, redirect};

use super::value::HttpUrl;

/// Longest part of an answer that is read, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a client meets servers whose certificate must be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Against the roots of the operating system: `SSL_CERT_FILE`, `SSL_CERT_DIR`, or where the distribution keeps them.
    SystemRoots,
    /// Plain HTTP only: no root is read, and none needs to be installed.
    Nobody,
}

/// A client that uses the ring provider, follows no redirect and ignores proxy variables of the environment.
///
/// Redirects and proxies would carry a token to a host that the configuration does not name, and that
/// [`super::Sinks::endpoints`] therefore does not know.
///
/// # Errors
/// With [`Trust::SystemRoots`] when the system has no CA certificates.
pub fn client(trust: Trust) -> Result<Client> {
    build(builder(), trust)
}

/// A client for what is public, which goes where it is sent as far as `policy` allows.
///
/// # Errors
/// As [`client`].
pub fn client_following(policy: redirect::Policy, trust: Trust) -> Result<Client> {
    build(builder().redirect(policy), trust)
}

/// A client of a server at a socket of this host.
///
/// # Errors
/// None that anybody has seen.
pub fn client_at(socket: &Path) -> Result<Client> {
    build(builder().unix_socket(socket), Trust::Nobody)
}

fn build(builder: ClientBuilder, trust: Trust) -> Result<Client> {
    match trust {
        Trust::SystemRoots => builder.build().context(
            "load the CA certificates of the system (install the package ca-certificates, \
             or set SSL_CERT_FILE to a PEM file of roots)",
        ),
        Trust::Nobody => builder.tls_certs_only([]).build().context("build the HTTP client"),
    }
}

fn builder() -> ClientBuilder {
    use_ring();
    Client::builder()
        .user_agent(concat!("leuko/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none())
        .no_proxy()
}

/// The client for one address, which may be signed by authorities of the user besides those of the system.
///
/// # Errors
/// As [`client`]; or the file has no certificates.
pub fn client_for(url: &HttpUrl, ca_file: Option<&Path>) -> Result<Client> {
    let trust = if url.is_https() { Trust::SystemRoots } else { Trust::Nobody };
    let Some(path) = ca_file else { return client(trust) };
    let pem = std::fs::read(path).with_context(|| format!("read the certificates in {}", path.display()))?;
    let roots = Certificate::from_pem_bundle(&pem).ok().filter(|roots| !roots.is_empty());
    let roots = roots.with_context(|| format!("{} has no certificates in PEM", path.display()))?;
    builder().tls_certs_merge(roots).build().context("build the HTTP client")
}

/// The error and its causes in one line, without the URL: a Telegram URL holds the token.
#[must_use]
pub fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

/// The answer's body, cut at 64 KiB.
///
/// # Errors
/// When the connection ends before the body does.
pub async fn body(mut response: Response) -> Result<String, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = ANSWER_LIMIT - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn use_ring() {
    static ONCE: Once = Once::new();
    // An error means that a provider is installed already, which serves as well.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn roots_of_the_system_are_found() {
        client(Trust::SystemRoots).expect("ca-certificates is installed");
    }

    /// The environment is per process, so the case runs in a child.
    #[test]
    fn missing_roots_are_an_error_only_where_https_is_used() {
        if std::env::var_os("SSL_CERT_FILE").is_some_and(|file| file == "/nonexistent/roots.pem") {
            let error = format!("{:#}", client(Trust::SystemRoots).unwrap_err());
            assert!(error.contains("install the package ca-certificates"), "{error}");
            client(Trust::Nobody).unwrap();
            return;
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "notify::http::tests::missing_roots_are_an_error_only_where_https_is_used"])
            .env("SSL_CERT_FILE", "/nonexistent/roots.pem")
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && printed.contains("1 passed"), "{printed}");
    }

    /// A TLS server whose certificate is the only root of the system, so to speak; the client is a child process again.
    #[test]
    fn https_works_with_the_roots_of_the_system() {
        const NAME: &str = "notify::http::tests::https_works_with_the_roots_of_the_system";
        if let Ok(url) = std::env::var("LEUKO_TEST_HTTPS") {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let get = async {
                // In this order: the server serves one connection at a time, and a good one stays open.
                let error = describe(client(Trust::Nobody).unwrap().get(&url).send().await.unwrap_err());
                assert!(error.contains("UnknownIssuer") && !error.contains("localhost"), "{error}");
                let answer = client(Trust::SystemRoots).unwrap().get(&url).send().await.map_err(describe).unwrap();
                assert!(answer.status().is_success());
            };
            runtime.block_on(get);
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let openssl = |args: &str| {
            let mut command = Command::new("openssl");
            command.current_dir(dir.path()).args(args.split(' ')).stdin(Stdio::piped()).stdout(Stdio::null());
            command.stderr(Stdio::null());
            command
        };
        let made = openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 \
             -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE",
        )
        .status();
        if !made.is_ok_and(|status| status.success()) {
            skip("openssl cannot make a certificate");
            return;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server =
            openssl(&format!("s_server -www -accept 127.0.0.1:{port} -key key.pem -cert cert.pem")).spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.try_wait().unwrap().is_none(), "openssl s_server has ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env("LEUKO_TEST_HTTPS", format!("https://localhost:{port}/"))
            .env("SSL_CERT_FILE", dir.path().join("cert.pem"))
            .env_remove("SSL_CERT_DIR")
            .output();
        server.kill().unwrap();
        server.wait().unwrap();
        let child = child.unwrap();
        let printed = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && printed.contains("1 passed"), "{printed}");
    }

    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn skip(why: &str) {
        assert!(std::env::var("CI").is_err(), "{why}");
        eprintln!("skipped: {why}");
    }
}
