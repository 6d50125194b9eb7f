//! A link's security without its I/O: bytes in the clear on one side, bytes of the wire on the other. For whoever has a
//! socket and buffers of its own ([`crate::protect`]'s pipes); [`super::conn::Link`] is for everybody else.

use super::{LinkError, PROTOCOL, Security, keys, refused};
use rustls::Connection;
use rustls::pki_types::ServerName;
use std::io::{ErrorKind, Read, Write};

/// Says, from each side, "I accept your key": TLS 1.3 alone does not tell the side that connects.
const ACCEPTED: u8 = 0x06;

/// Most bytes in the clear that wait for the handshake.
const MAX_EARLY: usize = 1 << 20;

/// One end.
pub struct Session {
    /// `None`: in the clear.
    tls: Option<Box<Connection>>,
    /// Given before the peer was known.
    early: Vec<u8>,
    said: bool,
    up: bool,
}

impl Session {
    /// The end that connects.
    pub fn client(security: &Security) -> Result<Session, LinkError> {
        let Security::Tls { client, .. } = security else {
            return Ok(Session::clear());
        };
        let name = ServerName::try_from(keys::NODE_NAME).map_err(|e| LinkError::Refused(e.to_string()))?;
        let c = rustls::ClientConnection::new(client.clone(), name).map_err(|e| refused(&e))?;
        Ok(Session::over(c.into()))
    }

    /// The end that was connected to.
    pub fn server(security: &Security) -> Result<Session, LinkError> {
        let Security::Tls { server, .. } = security else {
            return Ok(Session::clear());
        };
        let c = rustls::ServerConnection::new(server.clone()).map_err(|e| refused(&e))?;
        Ok(Session::over(c.into()))
    }

    fn clear() -> Session {
        Session {
            tls: None,
            early: Vec::new(),
            said: true,
            up: true,
        }
    }

    fn over(mut c: Connection) -> Session {
        // What is written is taken from it at once.
        c.set_buffer_limit(None);
        Session {
            tls: Some(Box::new(c)),
            early: Vec::new(),
            said: false,
            up: false,
        }
    }

    /// True once both sides have accepted each other.
    #[cfg(test)]
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// True if bytes are encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Appends to `wire` what begins the handshake; the end that connects calls it once.
    pub fn start(&mut self, wire: &mut Vec<u8>) -> Result<(), LinkError> {
        self.emit(wire)
    }

    /// Appends to `wire` what carries `plain`. Before the link is up it is kept and goes with the handshake's end.
    pub fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), LinkError> {
        let Some(tls) = &mut self.tls else {
            wire.extend_from_slice(plain);
            return Ok(());
        };
        if !self.up {
            if self.early.len() + plain.len() > MAX_EARLY {
                return Err(LinkError::Refused(
                    "too much was sent before the peer was known".into(),
                ));
            }
            self.early.extend_from_slice(plain);
            return Ok(());
        }
        tls.writer().write_all(plain)?;
        self.emit(wire)
    }

    /// Takes bytes that have arrived; appends to `plain` what they carry, to `wire` what they ask for. After an error the
    /// caller still sends `wire`, which says why, and closes.
    pub fn open(
        &mut self,
        mut arrived: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(arrived);
            return Ok(());
        };
        let mut piece = [0; 16 << 10];
        while !arrived.is_empty() {
            tls.read_tls(&mut arrived)?;
            let got = tls.process_new_packets();
            if let Err(e) = &got {
                let why = refused(e);
                while tls.wants_write() && tls.write_tls(wire).is_ok() {}
                return Err(why);
            }
            loop {
                match tls.reader().read(&mut piece) {
                    Ok(0) => break,
                    Ok(n) => {
                        let mut bytes = &piece[..n];
                        if !self.up {
                            if bytes[0] != ACCEPTED || tls.alpn_protocol() != Some(PROTOCOL) {
                                return Err(LinkError::Refused(
                                    "the peer is not an ftvm of this kind".into(),
                                ));
                            }
                            self.up = true;
                            bytes = &bytes[1..];
                        }
                        plain.extend_from_slice(bytes);
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e.into()),
                }
            }
        }
        self.emit(wire)
    }

    fn emit(&mut self, wire: &mut Vec<u8>) -> Result<(), LinkError> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        if !tls.is_handshaking() && !self.said {
            self.said = true;
            tls.writer().write_all(&[ACCEPTED])?;
        }
        if self.up && !self.early.is_empty() {
            tls.writer().write_all(&self.early)?;
            self.early = Vec::new();
        }
        while tls.wants_write() {
            tls.write_tls(wire)?;
        }
        Ok(())
    }
}
