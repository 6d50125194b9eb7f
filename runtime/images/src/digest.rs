//! SHA-256 digests as OCI writes them.

use std::fmt;
use std::io::{Read, Write};

/// A SHA-256 digest. Other algorithms are refused where they are read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut h = Hasher::default();
        h.update(bytes);
        h.finish()
    }

    /// `sha256:` and 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Digest, String> {
        let Some(hex) = text.strip_prefix("sha256:") else {
            return Err(format!(
                "{text:?} is not a SHA-256 digest: no other kind is known here"
            ));
        };
        Digest::from_hex(hex)
            .ok_or_else(|| format!("{text:?} is not a digest: sha256: and 64 hexadecimal digits"))
    }

    /// 64 lower-case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Digest> {
        let hex = hex.as_bytes();
        if hex.len() != 64 {
            return None;
        }
        let nibble = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut out = [0; 32];
        for (o, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
            *o = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Digest(out))
    }

    /// Without the algorithm: a file's name in a layout.
    pub fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A digest that is being computed.
pub struct Hasher(ring::digest::Context);

impl Default for Hasher {
    fn default() -> Hasher {
        Hasher(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl Hasher {
    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all bytes so far.
    pub fn finish(self) -> Digest {
        let done = self.0.finish();
        let mut out = [0; 32];
        out.copy_from_slice(done.as_ref());
        Digest(out)
    }
}

/// Bytes on their way, hashed and counted.
pub struct Hashed<T> {
    /// Where they go to or come from.
    pub inner: T,
    /// Their digest so far.
    pub hasher: Hasher,
    /// Their number so far.
    pub len: u64,
}

impl<T> Hashed<T> {
    /// None so far.
    pub fn new(inner: T) -> Hashed<T> {
        Hashed {
            inner,
            hasher: Hasher::default(),
            len: 0,
        }
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(&buf[..n]);
        self.len += n as u64;
        Ok(n)
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hasher.update(&buf[..n]);
        self.len += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_as_they_are_written() {
        let d = Digest::of(b"{}");
        let text = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(d.to_string(), text);
        assert_eq!(Digest::parse(text), Ok(d));
        assert!(Digest::parse(&text.to_uppercase()).is_err());
        assert!(Digest::parse("sha512:00").is_err_and(|e| e.contains("no other kind")));
        assert!(Digest::parse("sha256:../../x").is_err());
    }
}
