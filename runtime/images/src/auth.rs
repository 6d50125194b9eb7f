//! How a registry asks who we are, and what the user keeps for that.

use base64::Engine;
use serde_json::Value;

/// One way in that a `WWW-Authenticate` names (RFC 9110, 11.6.1).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// As written.
    pub scheme: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(k, _)| k.eq_ignore_ascii_case(name));
        found.map(|(_, v)| v.as_str())
    }
}

/// Reads `SCHEME KEY=VALUE, KEY="VALUE, QUOTED", SCHEME ...`; what is none of it is passed over.
pub fn challenges(text: &str) -> Vec<Challenge> {
    let mut out: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let Some(value) = behind.trim_start().strip_prefix('=') else {
            if !word.is_empty() {
                let scheme = word.to_string();
                out.push(Challenge {
                    scheme,
                    ..Challenge::default()
                });
                rest = behind;
                continue;
            }
            // A stray quote.
            let mut left = behind.chars();
            if left.next().is_none() {
                return out;
            }
            rest = left.as_str();
            continue;
        };
        let value = value.trim_start();
        let mut read = String::new();
        match value.strip_prefix('"') {
            Some(quoted) => {
                let mut left = quoted.chars();
                while let Some(c) = left.next().filter(|c| *c != '"') {
                    read.extend(if c == '\\' { left.next() } else { Some(c) });
                }
                rest = left.as_str();
            }
            None => {
                let end = value.find([' ', '\t', ',']).unwrap_or(value.len());
                read.push_str(&value[..end]);
                rest = &value[end..];
            }
        }
        if let Some(c) = out.last_mut().filter(|_| !word.is_empty()) {
            c.fields.push((word.to_string(), read));
        }
    }
}

/// `name:password` in base64, as docker and podman keep it.
pub fn credentials(registry: &str) -> Option<String> {
    let var = |n: &str| {
        std::env::var_os(n)
            .filter(|v| !v.is_empty())
            .map(std::path::PathBuf::from)
    };
    let files = [
        var("REGISTRY_AUTH_FILE"),
        var("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")),
        var("DOCKER_CONFIG").map(|d| d.join("config.json")),
        var("HOME").map(|d| d.join(".docker/config.json")),
    ];
    let key = if registry == "docker.io" {
        "https://index.docker.io/v1/"
    } else {
        registry
    };
    files.into_iter().flatten().find_map(|f| {
        let v: Value = serde_json::from_slice(&std::fs::read(f).ok()?).ok()?;
        let auths = v.get("auths")?;
        let auth = auths
            .get(key)
            .or_else(|| auths.get(registry))?
            .get("auth")?
            .as_str()?;
        let good = base64::engine::general_purpose::STANDARD.decode(auth).ok()?;
        good.contains(&b':').then(|| auth.to_string())
    })
}
