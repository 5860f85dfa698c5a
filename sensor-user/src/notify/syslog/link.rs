//! Ways to a syslog daemon, opened when there is something to say and again when they break.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Address;

/// How long the other side is given to hang up on what it was sent, or to say that nobody is there.
const HANG_UP: Duration = Duration::from_millis(20);

/// A daemon, and the way to it if there is one.
pub struct Link {
    address: Address,
    tls: Option<TlsConnector>,
    way: Option<Way>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

enum Way {
    Udp(UdpSocket),
    Local(UnixDatagram),
    /// Messages are preceded by their length.
    Counted(Box<dyn Stream>),
    /// Messages end with a line feed.
    Lines(Box<dyn Stream>),
}

impl Link {
    /// No way yet.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn new(address: &Address, ca_file: Option<&Path>) -> Result<Self> {
        let tls = match address {
            Address::Tls(..) => Some(connector(ca_file)?),
            Address::Udp(..) | Address::Tcp(..) | Address::Unix(_) => None,
        };
        Ok(Self { address: address.clone(), tls, way: None })
    }

    /// Writes messages. When this fails or is given up half-way, some may have been sent.
    pub async fn send(&mut self, lines: &[String]) -> io::Result<()> {
        let mut way = self.way.take();
        if let Some(old) = &mut way
            && old.is_over().await
        {
            way = None;
        }
        let mut way = match way {
            Some(way) => way,
            None => self.open().await?,
        };
        way.write(lines).await?;
        self.way = Some(way);
        Ok(())
    }

    async fn open(&self) -> io::Result<Way> {
        match &self.address {
            Address::Udp(host, port) => {
                let to = tokio::net::lookup_host((host.as_str(), *port)).await?.next();
                let to = to.ok_or_else(|| io::Error::other("the host has no address"))?;
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(to).await?;
                Ok(Way::Udp(socket))
            }
            Address::Tcp(host, port) => Ok(Way::Counted(Box::new(TcpStream::connect((host.as_str(), *port)).await?))),
            Address::Tls(host, port) => {
                let connector = self.tls.as_ref().ok_or_else(|| io::Error::other("no certificates were loaded"))?;
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let plain = TcpStream::connect((host.as_str(), *port)).await?;
                Ok(Way::Counted(Box::new(connector.connect(name, plain).await?)))
            }
            Address::Unix(path) => local(path).await,
        }
    }
}

impl Way {
    async fn write(&mut self, lines: &[String]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => {
                for line in lines {
                    socket.send(line.as_bytes()).await?;
                }
                // The host says if nobody listens there; a daemon says nothing.
                match timeout(HANG_UP, socket.recv(&mut [0; 256])).await {
                    Ok(Err(refused)) => Err(refused),
                    Ok(Ok(_)) | Err(_) => Ok(()),
                }
            }
            Self::Local(socket) => {
                for line in lines {
                    socket.send(line.as_bytes()).await?;
                }
                Ok(())
            }
            Self::Counted(stream) => {
                let frames: String = lines.iter().map(|line| format!("{} {line}", line.len())).collect();
                write_to(stream, &frames).await
            }
            Self::Lines(stream) => {
                let frames: String = lines.iter().map(|line| format!("{line}\n")).collect();
                write_to(stream, &frames).await
            }
        }
    }

    /// Whether the other side has hung up. A daemon has nothing to say, so all it can send is the end.
    async fn is_over(&mut self) -> bool {
        match self {
            Self::Udp(socket) => socket.take_error().is_ok_and(|error| error.is_some()),
            Self::Local(socket) => socket.take_error().is_ok_and(|error| error.is_some()),
            Self::Counted(stream) | Self::Lines(stream) => ends_within(stream, Duration::ZERO).await,
        }
    }
}

async fn write_to(stream: &mut Box<dyn Stream>, frames: &str) -> io::Result<()> {
    stream.write_all(frames.as_bytes()).await?;
    stream.flush().await?;
    if ends_within(stream, HANG_UP).await {
        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the syslog daemon has hung up"));
    }
    Ok(())
}

async fn ends_within(stream: &mut Box<dyn Stream>, patience: Duration) -> bool {
    let mut said = [0; 256];
    loop {
        match timeout(patience, stream.read(&mut said)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}

async fn local(path: &Path) -> io::Result<Way> {
    let socket = UnixDatagram::unbound()?;
    match socket.connect(path) {
        Ok(()) => Ok(Way::Local(socket)),
        // A few daemons listen for streams.
        Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
            Ok(Way::Lines(Box::new(UnixStream::connect(path).await?)))
        }
        Err(error) => Err(error),
    }
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let found = CertificateDer::pem_file_iter(path)
            .with_context(|| format!("read the certificates in {}", path.display()))?
            .collect::<Result<Vec<_>, _>>();
        let found = found.ok().filter(|found| !found.is_empty());
        let found = found.with_context(|| format!("{} has no certificates in PEM", path.display()))?;
        for root in found {
            roots.add(root).with_context(|| format!("a certificate in {}", path.display()))?;
        }
    }
    if roots.is_empty() {
        bail!("the system has no CA certificates: install the package ca-certificates, or set ca_file");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.context("choose versions of TLS")?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
