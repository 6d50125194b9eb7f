//! Links between hosts: messages over TCP, both ends authenticated by TLS 1.3 (DESIGN §9, I9).
//!
//! * [`keys`]: an authority and the keys it signs (`ftvm keygen`). **Whoever has a key of the authority is a node**; names
//!   and addresses are not checked, so that a host may change them.
//! * [`Security`]: a link is refused without keys unless the user said `--insecure`.
//! * [`conn::Link`]: length-prefixed messages, blocking or not. What a peer sends is bounded before it is kept, and memory
//!   is taken for bytes that have arrived, never for a length that was stated.
//! * [`session::Session`]: the same security for whoever has its own socket and framing.
//!
//! **Vectors.** The cryptography (*ring*) uses AVX. The supervisor, the agent and the command line have no guest state and
//! use a link as they like. A guest process has: a vCPU that sends or receives must have saved the whole vector state of
//! its context (upper halves and mask registers too) before it calls into this module, and load it again after
//! ([`vectors::Keeper`]). ci/check-vectors lists *ring* as allowed on that condition alone. *ring* and not AWS-LC, because it needs a C compiler only, is small,
//! and works in a static-PIE that is mapped a second time.
//!
//! No thread-locals and no global state: a link may live in the host arena and be used by whichever process has the token.

pub mod conn;
pub mod keys;
pub mod session;
#[cfg(test)]
mod tests;
pub mod vectors;

use crate::cli::reason;
use conn::Link;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use std::fmt;
#[cfg(test)]
use std::net::{SocketAddr, TcpListener};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What both sides speak; another version is refused in the handshake.
const PROTOCOL: &[u8] = b"ftvm-link/1";

/// Why a link does not come up, or has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkError {
    /// The peer has closed it, orderly.
    Closed,
    /// Nothing came in time.
    Timeout,
    /// The peer is not one of ours, or broke the rules.
    Refused(String),
    /// The host said so.
    Io(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Closed => write!(f, "the peer has closed the link"),
            LinkError::Timeout => write!(f, "the peer did not answer in time"),
            LinkError::Refused(why) => write!(f, "link refused: {why}"),
            LinkError::Io(why) => write!(f, "link: {why}"),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<std::io::Error> for LinkError {
    fn from(e: std::io::Error) -> LinkError {
        use std::io::ErrorKind::{TimedOut, UnexpectedEof, WouldBlock};
        match e.kind() {
            TimedOut | WouldBlock => LinkError::Timeout,
            UnexpectedEof => LinkError::Io("the peer has gone in the middle".into()),
            _ => LinkError::Io(reason(&e)),
        }
    }
}

/// How links of this process are secured.
#[derive(Clone)]
pub enum Security {
    /// By the keys of a directory.
    Tls {
        /// As the side that connects.
        client: Arc<ClientConfig>,
        /// As the side that listens.
        server: Arc<ServerConfig>,
    },
    /// Not at all: whoever reaches the port may do what a node may.
    Insecure,
}

impl Security {
    /// From `--tls-dir` and `--insecure`.
    pub fn from_options(tls_dir: Option<&Path>, insecure: bool) -> Result<Security, String> {
        match (tls_dir, insecure) {
            (Some(_), true) => Err("--tls-dir and --insecure exclude each other; drop one".into()),
            (Some(dir), false) => keys::load(dir),
            (None, true) => Ok(Security::Insecure),
            (None, false) => Err(
                "a link needs keys: make them with ftvm keygen --out DIR and give --tls-dir DIR on both hosts (--insecure only on networks where nobody else is)"
                    .into(),
            ),
        }
    }

    /// True if peers are authenticated.
    #[cfg(test)]
    pub fn is_tls(&self) -> bool {
        matches!(self, Security::Tls { .. })
    }
}

/// Connects to `HOST:PORT`, handshake included.
#[cfg(test)]
pub fn connect(addr: &str, security: &Security, limit: Duration) -> Result<Link, LinkError> {
    connect_saying(addr, &[], security, limit)
}

/// The same; `clear` is sent before the handshake, for whoever must know where the link belongs before it can be read.
pub fn connect_saying(
    addr: &str,
    clear: &[u8],
    security: &Security,
    limit: Duration,
) -> Result<Link, LinkError> {
    use std::io::Write;
    let wrong = |e: &std::io::Error| LinkError::Io(format!("{addr}: {}", reason(e)));
    let mut last = LinkError::Io(format!("{addr}: no such host"));
    for to in addr.to_socket_addrs().map_err(|e| wrong(&e))? {
        match TcpStream::connect_timeout(&to, limit) {
            Ok(mut socket) => {
                socket.write_all(clear)?;
                let tls = match security {
                    Security::Tls { client, .. } => {
                        let name = ServerName::try_from(keys::NODE_NAME)
                            .map_err(|e| LinkError::Refused(e.to_string()))?;
                        let c =
                            rustls::ClientConnection::new(client.clone(), name).map_err(|e| refused(&e))?;
                        Some(rustls::Connection::from(c))
                    }
                    Security::Insecure => None,
                };
                let mut link = Link::new(socket, tls)?;
                link.handshake(limit)?;
                return Ok(link);
            }
            Err(e) => last = wrong(&e),
        }
    }
    Err(last)
}

/// A port on which peers connect.
#[cfg(test)]
pub struct Listener {
    socket: TcpListener,
    security: Security,
}

#[cfg(test)]
impl Listener {
    /// Listens on `HOST:PORT`.
    pub fn bind(addr: &str, security: Security) -> Result<Listener, LinkError> {
        let socket = TcpListener::bind(addr).map_err(|e| LinkError::Io(format!("{addr}: {}", reason(&e))))?;
        Ok(Listener { socket, security })
    }

    /// Its address, with the port that the host chose for port 0.
    pub fn local(&self) -> Result<SocketAddr, LinkError> {
        Ok(self.socket.local_addr()?)
    }

    /// Takes the next connection. The caller then does [`Link::handshake`], where others need not wait for it: a peer may
    /// be slow on purpose.
    pub fn accept(&self) -> Result<(Link, SocketAddr), LinkError> {
        let (socket, from) = self.socket.accept()?;
        Ok((over(socket, &self.security)?, from))
    }
}

/// The side that was connected to, over a socket that the caller has accepted. [`Link::handshake`] follows.
pub fn over(socket: TcpStream, security: &Security) -> Result<Link, LinkError> {
    let tls = match security {
        Security::Tls { server, .. } => {
            let c = rustls::ServerConnection::new(server.clone()).map_err(|e| refused(&e))?;
            Some(rustls::Connection::from(c))
        }
        Security::Insecure => None,
    };
    Link::new(socket, tls)
}

/// What a TLS error means to a user.
fn refused(e: &rustls::Error) -> LinkError {
    use rustls::{AlertDescription as Alert, CertificateError as Cert, Error};
    let why = match e {
        Error::InvalidCertificate(Cert::Expired | Cert::ExpiredContext { .. }) => {
            "the peer's certificate has expired; make new keys with ftvm keygen".to_string()
        }
        Error::InvalidCertificate(Cert::NotValidYet | Cert::NotValidYetContext { .. }) => {
            "the peer's certificate is not valid yet: the clocks of the hosts differ".to_string()
        }
        Error::InvalidCertificate(Cert::UnknownIssuer | Cert::BadSignature) => {
            "the peer's key was signed by another authority; use keys of one ftvm keygen on both hosts"
                .to_string()
        }
        Error::InvalidCertificate(_) => format!("the peer's certificate is not that of a node ({e})"),
        Error::NoCertificatesPresented => "the peer has no key; give it --tls-dir".to_string(),
        Error::InvalidMessage(_) => "the peer does not speak TLS; give it --tls-dir".to_string(),
        Error::AlertReceived(Alert::CertificateExpired) => {
            "our certificate has expired; make new keys with ftvm keygen".to_string()
        }
        Error::AlertReceived(Alert::UnknownCA | Alert::DecryptError | Alert::BadCertificate) => {
            "the peer does not accept our key: it was signed by another authority".to_string()
        }
        Error::AlertReceived(Alert::CertificateRequired) => {
            "the peer asks for a key; give --tls-dir".to_string()
        }
        Error::AlertReceived(Alert::NoApplicationProtocol) | Error::NoApplicationProtocol => {
            "the peer is not an ftvm of this kind".to_string()
        }
        _ => e.to_string(),
    };
    LinkError::Refused(why)
}
