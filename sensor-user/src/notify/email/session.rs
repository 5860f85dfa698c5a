//! A conversation with a mail server, kept for a while for the next letter.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use tokio::time::Instant;
use tracing::warn;

use super::{EmailConfig, Tls};
use crate::notify::sink::Refusal;
use crate::notify::text::{clip, plain};
use crate::secret::Secret;

/// For whom a letter waits when a recipient is refused for the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Nobody gets it before all do, so that nobody gets it twice.
    ForAll,
    /// Whoever can have it gets it.
    ForSome,
}

/// A mail server, and the connection to it if there is one.
pub struct Session {
    host: String,
    port: u16,
    tls: Tls,
    parameters: Option<TlsParameters>,
    login: Option<(String, Secret)>,
    open: Option<Open>,
}

struct Open {
    connection: AsyncSmtpConnection,
    used: Instant,
}

/// What was being done when an error came: the same answer means something else in each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    Login,
    Letter,
}

impl Session {
    /// No connection yet.
    ///
    /// # Errors
    /// When the password or a certificate cannot be read.
    pub fn new(config: &EmailConfig) -> Result<Self> {
        let login = match &config.login {
            Some((username, password)) => {
                Some((username.clone(), password.load().context("read the password of the mail server")?))
            }
            None => None,
        };
        let parameters = match config.tls {
            Tls::None => None,
            Tls::Starttls | Tls::Tls => Some(parameters(config)?),
        };
        Ok(Self { host: config.host.clone(), port: config.port, tls: config.tls, parameters, login, open: None })
    }

    /// Sends a letter. When this is given up half-way, the connection is gone with it.
    pub async fn send(&mut self, envelope: &Envelope, letter: &[u8], patience: Patience) -> Result<(), Refusal> {
        let mut connection = match self.take().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        match transact(&mut connection, envelope, letter, patience).await {
            Ok(()) => {
                self.open = Some(Open { connection, used: Instant::now() });
                Ok(())
            }
            Err(error) => {
                connection.abort().await;
                Err(self.refusal(&error, Stage::Letter))
            }
        }
    }

    /// Ends a connection that was not used for so long.
    pub async fn hang_up_after(&mut self, idle: Duration) {
        if self.open.as_ref().is_some_and(|open| open.used.elapsed() >= idle)
            && let Some(mut open) = self.open.take()
        {
            open.connection.abort().await;
        }
    }

    /// The connection of the letter before, if the server still listens.
    async fn take(&mut self) -> Option<AsyncSmtpConnection> {
        let mut connection = self.open.take()?.connection;
        connection.test_connected().await.then_some(connection)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Refusal> {
        let hello = ClientId::default();
        let at_once = self.parameters.clone().filter(|_| self.tls == Tls::Tls);
        let server = (self.host.as_str(), self.port);
        let connection = AsyncSmtpConnection::connect_tokio1(server, None, &hello, at_once, None).await;
        let mut connection = connection.map_err(|error| self.refusal(&error, Stage::Greeting))?;
        if let (Tls::Starttls, Some(parameters)) = (self.tls, &self.parameters) {
            let encrypted = connection.starttls(parameters.clone(), &hello).await;
            encrypted.map_err(|error| self.refusal(&error, Stage::Greeting))?;
        }
        if let Some((username, password)) = &self.login {
            let credentials = Credentials::new(username.clone(), password.expose().to_owned());
            let known = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
            known.map_err(|error| self.refusal(&error, Stage::Login))?;
        }
        Ok(connection)
    }

    /// `text` without the password, and without the forms in which it was sent: a server may quote what it did not take.
    fn hide(&self, text: &str) -> String {
        let Some((username, password)) = &self.login else { return text.to_owned() };
        let sent = [format!("\0{username}\0{}", password.expose()), password.expose().to_owned()];
        let hidden = sent.iter().fold(text.to_owned(), |text, sent| text.replace(&STANDARD.encode(sent), "***"));
        password.redact(&hidden)
    }

    fn refusal(&self, error: &Error, stage: Stage) -> Refusal {
        let why = clip(self.hide(plain(&error.to_string()).trim()).as_str(), 300);
        // RFC 4954: authentication is required, too weak, invalid, or needs encryption.
        let unknown =
            error.status().is_some_and(|code| matches!(code.to_string().as_str(), "530" | "534" | "535" | "538"));
        let lasting = error.is_permanent() || error.is_client();
        match stage {
            _ if unknown => Refusal::Credentials(why),
            Stage::Login if lasting => Refusal::Credentials(why),
            Stage::Letter if lasting => Refusal::Never(why),
            // What is said before the letter was seen is not about the letter.
            Stage::Greeting | Stage::Login | Stage::Letter => Refusal::later(why),
        }
    }
}

fn parameters(config: &EmailConfig) -> Result<TlsParameters> {
    let mut parameters = TlsParameters::builder(config.host.clone());
    if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path).with_context(|| format!("read the certificates in {}", path.display()))?;
        let roots =
            Certificate::from_pem(&pem).with_context(|| format!("{} has no certificates in PEM", path.display()))?;
        parameters = parameters.add_root_certificate(roots);
    }
    parameters.build().context("load the CA certificates of the system (install the package ca-certificates)")
}

async fn transact(
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    letter: &[u8],
    patience: Patience,
) -> Result<(), Error> {
    connection.command(Mail::new(envelope.from().cloned(), Vec::new())).await?;
    let (mut taken, mut later, mut never) = (0_usize, None, None);
    for to in envelope.to() {
        match connection.command(Rcpt::new(to.clone(), Vec::new())).await {
            Ok(_) => taken += 1,
            Err(error) if error.is_permanent() => {
                warn!(%to, %error, "the mail server refuses a recipient");
                never = Some(error);
            }
            Err(error) if error.is_transient() => later = Some(error),
            Err(error) => return Err(error),
        }
    }
    if let Some(error) = later {
        if taken == 0 || patience == Patience::ForAll {
            return Err(error);
        }
        warn!(%error, "the mail server still refuses a recipient: the others get the letter");
    }
    if let Some(error) = never.filter(|_| taken == 0) {
        return Err(error);
    }
    connection.command(Data).await?;
    connection.message(letter).await?;
    Ok(())
}
