//! Names of images: `[REGISTRY/]NAME[:TAG][@sha256:DIGEST]`.

use crate::digest::Digest;
use std::fmt;

/// Where a name without a registry is looked for, as docker and podman do.
const HUB: &str = "docker.io";

/// A name of an image, complete.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Reference {
    /// Host, with a port if it has one.
    pub registry: String,
    /// Path in the registry.
    pub repository: String,
    /// Tag, if named.
    pub tag: Option<String>,
    /// Manifest, if named.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a name. Without tag and digest it means `latest`.
    pub fn parse(text: &str) -> Result<Reference, String> {
        let wrong =
            |why: &str| format!("{text:?} is not the name of an image: {why}; write [REGISTRY/]NAME[:TAG]");
        let (rest, digest) = match text.split_once('@') {
            Some((rest, d)) => (rest, Some(Digest::parse(d).map_err(|e| wrong(&e))?)),
            None => (text, None),
        };
        let (registry, path) = match rest.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (HUB, rest),
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        let host_ok = |h: &str| {
            !h.is_empty()
                && h.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
                && !h.starts_with(['.', '-', ':'])
                // A port is a number.
                && h.rsplit_once(':').is_none_or(|(_, port)| port.ends_with(']') || port.parse::<u16>().is_ok())
        };
        if !host_ok(registry) {
            return Err(wrong("no such registry"));
        }
        let part_ok = |p: &str| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
            let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            p.bytes().all(inner) && ends(p.bytes().next()) && ends(p.bytes().last()) && !p.contains("..")
        };
        if path.len() > 255 || !path.split('/').all(part_ok) {
            return Err(wrong("lower-case letters, digits and . _ - between slashes"));
        }
        if let Some(tag) = tag {
            let first = tag
                .bytes()
                .next()
                .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
            let rest = tag
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            if !first || !rest || tag.len() > 128 {
                return Err(wrong("the tag has letters, digits and . _ -"));
            }
        }
        let official = registry == HUB && !path.contains('/');
        Ok(Reference {
            registry: registry.to_string(),
            repository: if official {
                format!("library/{path}")
            } else {
                path.to_string()
            },
            tag: match (tag, digest) {
                (Some(t), _) => Some(t.to_string()),
                (None, None) => Some("latest".to_string()),
                (None, Some(_)) => None,
            },
            digest,
        })
    }

    /// What it is called in the store: without the digest if there is a tag. What was asked for by digest alone has a name of its
    /// own, which no other image ever takes.
    pub fn name(&self) -> String {
        match (&self.tag, &self.digest) {
            (Some(t), _) => format!("{}/{}:{t}", self.registry, self.repository),
            (None, Some(d)) => format!("{}/{}@{d}", self.registry, self.repository),
            (None, None) => format!("{}/{}", self.registry, self.repository),
        }
    }

    /// What a registry is asked for.
    pub fn manifest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(d), _) => d.to_string(),
            (None, Some(t)) => t.clone(),
            (None, None) => "latest".to_string(),
        }
    }

    /// The same repository's manifest of that digest, as it is pulled.
    pub fn at(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }

    /// The registry is this host.
    pub fn is_loopback(&self) -> bool {
        let host = self
            .registry
            .rsplit_once(':')
            .map_or(self.registry.as_str(), |(h, _)| h);
        host == "localhost" || host == "127.0.0.1" || host == "[::1]"
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match (&self.tag, &self.digest) {
            (Some(_), Some(d)) => write!(f, "@{d}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        let name = |t: &str| Reference::parse(t).map(|r| r.to_string());
        assert_eq!(name("kv"), Ok("docker.io/library/kv:latest".into()));
        assert_eq!(name("me/kv:1"), Ok("docker.io/me/kv:1".into()));
        assert_eq!(name("registry:5000/kv:1"), Ok("registry:5000/kv:1".into()));
        assert_eq!(name("localhost/a/b"), Ok("localhost/a/b:latest".into()));
        let d = Digest::of(b"");
        assert_eq!(name(&format!("h.example/a@{d}")), Ok(format!("h.example/a@{d}")));
        let both = Reference::parse(&format!("h.example/a:1@{d}"));
        assert_eq!(both.map(|r| r.at(&d)), Ok(format!("h.example/a@{d}")));
        for bad in [
            "",
            "A",
            "a b",
            "a:",
            "h.example/",
            "h.example/../x",
            "a//b",
            "a@sha256:1",
            "-h.x/a",
            "a/../b",
            "a:b/c",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
        assert!(Reference::parse("127.0.0.1:5000/a").is_ok_and(|r| r.is_loopback()));
        assert!(Reference::parse("127.0.0.1.example:5000/a").is_ok_and(|r| !r.is_loopback()));
    }
}
