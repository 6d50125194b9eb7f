//! Push and pull by the OCI distribution API.
//!
//! TLS with the host's certificates; plain HTTP to this host's loopback, and where the user says so. A blob is fetched into a file
//! that the next pull continues, and is part of the store when its digest is right; an image has its name when everything
//! of it is there. An answer is tried again if the connection broke or the registry was unable (5xx, 429), not if it says no.

use crate::artifact::Artifact;
use crate::auth::{Challenge, challenges, credentials};
use crate::digest::Digest;
use crate::image::{self, Image, canonical};
use crate::reference::Reference;
use crate::store::{Blob, MAX_CONFIG, MAX_MANIFEST, Store};
use crate::{MEDIA_INDEX, MEDIA_MANIFEST, Result, archive, artifact, reason, sign};
use oci_spec::image::ImageManifest;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, ResponseExt, SendBody};

/// Attempts of one request, with pauses between them.
const ATTEMPTS: u32 = 4;
/// First pause; doubled each time.
const PAUSE: Duration = Duration::from_millis(250);
/// A registry that neither answers nor sends for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json";

/// What is to be tried again, or not.
enum Failure {
    /// The connection broke, or the registry is unable for now.
    Later(String),
    /// It will not help.
    Final(String),
}

use Failure::{Final, Later};

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To fetch.
    Pull,
    /// To send, and to see what is there.
    Push,
}

impl Access {
    /// As token servers call it.
    fn actions(self) -> &'static [&'static str] {
        match self {
            Access::Pull => &["pull"],
            Access::Push => &["pull", "push"],
        }
    }
}

/// What a user chose.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Registries (`HOST[:PORT]`) that are spoken to without TLS, beside loopback.
    pub insecure: Vec<String>,
    /// Certificates (PEM) that are trusted instead of the host's.
    pub ca_file: Option<std::path::PathBuf>,
}

/// What a body is sent from, from its beginning each time.
trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

/// One repository of a registry.
pub struct Client {
    agent: Agent,
    base: String,
    registry: String,
    repository: String,
    /// What we ask a token server for: `repository:NAME` and actions.
    scopes: BTreeMap<String, BTreeSet<String>>,
    token: Option<String>,
    basic: Option<String>,
    tell: fn(&str),
}

impl Client {
    /// For the repository of a name. `tell` gets lines about progress.
    pub fn new(reference: &Reference, options: &Options, access: Access, tell: fn(&str)) -> Result<Client> {
        Client::patient(reference, options, access, tell, SILENCE)
    }

    /// The same for a registry that may be silent for so long.
    fn patient(
        reference: &Reference,
        options: &Options,
        access: Access,
        tell: fn(&str),
        silence: Duration,
    ) -> Result<Client> {
        let plain = reference.is_loopback() || options.insecure.contains(&reference.registry);
        let host = match reference.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            h => h,
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(silence))
            .timeout_recv_response(Some(silence))
            // Of one read or write: a body may take as long as it likes while bytes come.
            .timeout_per_read(Some(silence))
            .timeout_per_write(Some(silence))
            .user_agent("ftvm");
        if !plain {
            let roots = roots(options)?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let tls = ureq::tls::TlsConfig::builder()
                .provider(ureq::tls::TlsProvider::Rustls)
                .unversioned_rustls_crypto_provider(provider)
                .root_certs(roots);
            config = config.tls_config(tls.build()).https_only(true);
        }
        Ok(Client {
            agent: config.build().into(),
            base: format!(
                "{}://{host}/v2/{}",
                if plain { "http" } else { "https" },
                reference.repository
            ),
            registry: reference.registry.clone(),
            repository: reference.repository.clone(),
            scopes: BTreeMap::from([(
                format!("repository:{}", reference.repository),
                access.actions().iter().map(|a| a.to_string()).collect(),
            )]),
            token: None,
            basic: credentials(&reference.registry),
            tell,
        })
    }

    fn error(&self, e: &ureq::Error) -> Failure {
        let why = format!("registry {}: {e}", self.registry);
        match e {
            ureq::Error::Tls(_) | ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) => Final(why),
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => Final(why),
            _ => Later(why),
        }
    }

    fn retry<T>(
        &mut self,
        mut once: impl FnMut(&mut Client) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let mut pause = PAUSE;
        for n in 1.. {
            match once(self) {
                Ok(v) => return Ok(v),
                Err(Final(why)) => return Err(why),
                Err(Later(why)) if n == ATTEMPTS => return Err(format!("{why}; tried {ATTEMPTS} times")),
                Err(Later(why)) => (self.tell)(&format!("{why}; trying again")),
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }

    /// One request; authenticated if the registry asks for it, also if it does no longer take the token that we have.
    fn send(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        mut body: Option<(&mut dyn Source, u64)>,
    ) -> std::result::Result<Response<Body>, Failure> {
        for again in [true, false] {
            let mut b = ureq::http::Request::builder().method(method).uri(url);
            for (k, v) in headers {
                b = b.header(*k, *v);
            }
            if let Some(t) = self.token.as_ref().filter(|_| self.is_own(url)) {
                b = b.header("authorization", t);
            }
            let sent = match &mut body {
                Some((src, len)) => {
                    src.rewind().map_err(|e| Final(reason(&e)))?;
                    let b = b.header("content-length", len.to_string());
                    let request = b
                        .body(SendBody::from_reader(src))
                        .map_err(|e| Final(e.to_string()))?;
                    self.agent.run(request)
                }
                None => {
                    let request = b.body(()).map_err(|e| Final(e.to_string()))?;
                    self.agent.run(request)
                }
            };
            let response = sent.map_err(|e| self.error(&e))?;
            // A storage that the registry has sent us to has no business with its password.
            let own = self.is_own(&response.get_uri().to_string());
            if response.status() == StatusCode::UNAUTHORIZED && again && own {
                self.authenticate(&response)?;
                continue;
            }
            return Ok(response);
        }
        unreachable!("the second answer is returned")
    }

    /// The address is one of the repository's.
    fn is_own(&self, url: &str) -> bool {
        url.strip_prefix(&self.base)
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// Gets what a `WWW-Authenticate` asks for.
    fn authenticate(&mut self, response: &Response<Body>) -> std::result::Result<(), Failure> {
        let asked: Vec<Challenge> = response
            .headers()
            .get_all("www-authenticate")
            .iter()
            .filter_map(|h| h.to_str().ok())
            .flat_map(challenges)
            .collect();
        let refused = |why: &str| Final(format!("registry {}: {why}", self.registry));
        let by = |scheme: &str| asked.iter().find(|c| c.scheme.eq_ignore_ascii_case(scheme));
        let Some(bearer) = by("bearer") else {
            if by("basic").is_none() {
                let scheme = asked.first().map_or("", |c| c.scheme.as_str());
                return Err(refused(&format!(
                    "it asks for {scheme:?}, which is not known here"
                )));
            }
            let basic = self.basic.clone().ok_or_else(|| {
                refused("it asks for a name and a password; podman login or docker login keeps them")
            })?;
            self.token = Some(format!("Basic {basic}"));
            return Ok(());
        };
        let realm = bearer
            .field("realm")
            .ok_or_else(|| refused("its challenge names no realm"))?;
        if !realm.starts_with("https://") && self.base.starts_with("https://") {
            return Err(refused("it asks to send the password without encryption"));
        }
        // What it asks for and what we shall want: the first request of a push may need no more than pull.
        for scope in bearer.field("scope").unwrap_or_default().split(' ') {
            if let Some((what, actions)) = scope.rsplit_once(':') {
                let all = self.scopes.entry(what.to_string()).or_default();
                all.extend(actions.split(',').map(str::to_string));
            }
        }
        let mut query: Vec<String> = Vec::new();
        if let Some(service) = bearer.field("service") {
            query.push(format!("service={}", encode(service)));
        }
        for (what, actions) in &self.scopes {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            query.push(format!(
                "scope={}",
                encode(&format!("{what}:{}", actions.join(",")))
            ));
        }
        let sign = if realm.contains('?') { '&' } else { '?' };
        let mut request = self.agent.get(format!("{realm}{sign}{}", query.join("&")));
        if let Some(basic) = &self.basic {
            request = request.header("authorization", format!("Basic {basic}"));
        }
        let mut answer = request.call().map_err(|e| self.error(&e))?;
        if !answer.status().is_success() {
            return Err(self.no("its token server", &answer));
        }
        let text = answer
            .body_mut()
            .with_config()
            .limit(1 << 20)
            .read_to_string()
            .map_err(|e| self.error(&e))?;
        let v: Value = serde_json::from_str(&text).map_err(|e| refused(&e.to_string()))?;
        let token = v
            .get("token")
            .or_else(|| v.get("access_token"))
            .and_then(Value::as_str);
        self.token = Some(format!(
            "Bearer {}",
            token.ok_or_else(|| refused("its token server gives no token"))?
        ));
        Ok(())
    }

    fn no(&self, what: &str, response: &Response<Body>) -> Failure {
        let status = response.status();
        let why = format!("registry {}: {what}: {status}", self.registry);
        match status.as_u16() {
            429 | 500..=599 => Later(why),
            401 | 403 => Final(format!(
                "{why}; it does not let us in (podman login or docker login keeps a password)"
            )),
            _ => Final(why),
        }
    }

    /// A manifest by tag or digest, checked against the digest if there is one.
    fn manifest(&mut self, which: &str) -> Result<(Blob, Vec<u8>)> {
        let url = format!("{}/manifests/{which}", self.base);
        let (media, bytes) = self.retry(|c| {
            let mut r = c.send("GET", &url, &[("accept", ACCEPT)], None)?;
            if r.status() != StatusCode::OK {
                return Err(c.no(&format!("{}:{which}", c.repository), &r));
            }
            let media = r
                .headers()
                .get("content-type")
                .and_then(|h| h.to_str().ok())
                .unwrap_or_default()
                .to_string();
            let bytes = r
                .body_mut()
                .with_config()
                .limit(MAX_MANIFEST)
                .read_to_vec()
                .map_err(|e| c.error(&e))?;
            Ok((media, bytes))
        })?;
        let digest = Digest::of(&bytes);
        if let Ok(asked) = Digest::parse(which)
            && asked != digest
        {
            return Err(format!(
                "registry {}: asked for {asked}, got {digest}",
                self.registry
            ));
        }
        let media = media.split(';').next().unwrap_or_default().trim().to_string();
        let blob = Blob {
            media: canonical(&media).to_string(),
            digest,
            size: bytes.len() as u64,
        };
        Ok((blob, bytes))
    }

    /// Fetches a blob into the store.
    fn blob(&mut self, store: &Store, blob: &Blob) -> Result<()> {
        if store.has(blob) {
            return Ok(());
        }
        let (path, mut file) = store.partial(blob)?;
        let url = format!("{}/blobs/{}", self.base, blob.digest);
        self.retry(|c| {
            let disk = |e: std::io::Error| Final(format!("{}: {}", path.display(), reason(&e)));
            let have = file.metadata().map_err(disk)?.len();
            if have > blob.size {
                file.set_len(0).map_err(disk)?;
            }
            let mut have = if have > blob.size { 0 } else { have };
            if have == blob.size {
                return Ok(());
            }
            let range = format!("bytes={have}-");
            let headers: &[(&str, &str)] = if have > 0 { &[("range", &range)] } else { &[] };
            let mut r = c.send("GET", &url, headers, None)?;
            match r.status() {
                StatusCode::PARTIAL_CONTENT => {}
                StatusCode::OK => have = 0,
                _ => return Err(c.no(&format!("blob {}", blob.digest), &r)),
            }
            file.set_len(have).map_err(disk)?;
            file.seek(SeekFrom::Start(have)).map_err(disk)?;
            // One byte more than was said is too many.
            let mut body = r
                .body_mut()
                .with_config()
                .limit(u64::MAX)
                .reader()
                .take(blob.size - have + 1);
            let mut buf = vec![0; 1 << 16];
            loop {
                let n = match body.read(&mut buf) {
                    Ok(n) => n,
                    Err(e) => {
                        return Err(Later(format!(
                            "registry {}: blob {}: {}",
                            c.registry,
                            blob.digest,
                            reason(&e)
                        )));
                    }
                };
                if n == 0 {
                    break;
                }
                file.write_all(&buf[..n]).map_err(disk)?;
                have += n as u64;
            }
            match have.cmp(&blob.size) {
                std::cmp::Ordering::Less => Err(Later(format!(
                    "registry {}: blob {}: ended after {have} of {} bytes",
                    c.registry, blob.digest, blob.size
                ))),
                _ => Ok(()),
            }
        })?;
        store.publish(blob, &path, &mut file)
    }

    /// Manifests that belong to another one: by the referrers API, or by the tag that stands for it (OCI distribution 1.1).
    fn referrers(&mut self, digest: &Digest) -> Result<Vec<Value>> {
        let api = format!("{}/referrers/{digest}", self.base);
        let tag = format!("{}/manifests/{}", self.base, fallback_tag(digest));
        for url in [api, tag] {
            let found = self.retry(|c| {
                let mut r = c.send("GET", &url, &[("accept", MEDIA_INDEX)], None)?;
                match r.status().as_u16() {
                    200 => r
                        .body_mut()
                        .with_config()
                        .limit(MAX_MANIFEST)
                        .read_to_vec()
                        .map(Some)
                        .map_err(|e| c.error(&e)),
                    400..=499 if r.status().as_u16() != 429 => Ok(None),
                    _ => Err(c.no("referrers", &r)),
                }
            })?;
            let Some(bytes) = found else { continue };
            let v: Value = serde_json::from_slice(&bytes)
                .map_err(|e| format!("registry {}: referrers: {e}", self.registry))?;
            let rows = v
                .get("manifests")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            return Ok(rows);
        }
        Ok(Vec::new())
    }

    fn has_blob(&mut self, blob: &Blob) -> Result<bool> {
        let url = format!("{}/blobs/{}", self.base, blob.digest);
        self.retry(|c| {
            let r = c.send("HEAD", &url, &[], None)?;
            match r.status().as_u16() {
                200 => Ok(true),
                404 => Ok(false),
                _ => Err(c.no(&format!("blob {}", blob.digest), &r)),
            }
        })
    }

    fn push_blob(&mut self, store: &Store, blob: &Blob) -> Result<()> {
        if self.has_blob(blob)? {
            return Ok(());
        }
        let start = format!("{}/blobs/uploads/", self.base);
        self.retry(|c| {
            let r = c.send("POST", &start, &[("content-length", "0")], None)?;
            if r.status() != StatusCode::ACCEPTED {
                return Err(c.no("an upload", &r));
            }
            let at = r
                .headers()
                .get("location")
                .and_then(|h| h.to_str().ok())
                .unwrap_or_default();
            let root = c.base.split("/v2/").next().unwrap_or_default();
            let at = if at.starts_with('/') {
                format!("{root}{at}")
            } else {
                at.to_string()
            };
            let sign = if at.contains('?') { '&' } else { '?' };
            let url = format!("{at}{sign}digest={}", encode(&blob.digest.to_string()));
            let mut file = store.blob(&blob.digest).map_err(Final)?;
            let headers = [("content-type", "application/octet-stream")];
            let r = c.send("PUT", &url, &headers, Some((&mut file, blob.size)))?;
            match r.status() {
                StatusCode::CREATED => Ok(()),
                _ => Err(c.no(&format!("blob {}", blob.digest), &r)),
            }
        })
    }

    fn push_manifest(&mut self, which: &str, media: &str, bytes: &[u8]) -> Result<()> {
        let url = format!("{}/manifests/{which}", self.base);
        self.retry(|c| {
            let mut src = std::io::Cursor::new(bytes);
            let r = c.send(
                "PUT",
                &url,
                &[("content-type", media)],
                Some((&mut src, bytes.len() as u64)),
            )?;
            match r.status() {
                StatusCode::CREATED | StatusCode::OK => Ok(()),
                _ => Err(c.no(&format!("{}:{which}", c.repository), &r)),
            }
        })
    }
}

/// Tag of the index of a manifest's referrers, for registries without the API.
fn fallback_tag(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

/// What a name means now: the manifest for this machine, and the configuration of ftvm in it. Nothing is kept.
pub fn resolve(
    reference: &Reference,
    options: &Options,
    tell: fn(&str),
) -> Result<(Digest, Option<crate::config::App>)> {
    let mut c = Client::new(reference, options, Access::Pull, tell)?;
    let (blob, _, manifest) = c.image(reference)?;
    let own = manifest
        .annotations()
        .as_ref()
        .and_then(|a| a.get(crate::config::ANNOTATION))
        .map(|t| crate::config::App::from_json(t).map_err(|e| format!("{reference}: {e}")))
        .transpose()?;
    Ok((blob.digest, own))
}

/// What of an image's artifacts is fetched: asked with each before its contents are.
pub type Wanted<'a> = dyn Fn(&Artifact) -> bool + 'a;

/// Fetches an image, its signatures and what else of its artifacts is wanted. Returns its manifest, and bytes that were fetched.
///
/// `check` sees the manifest when everything of it is in the store; if it refuses, the image gets no name.
pub fn pull(
    store: &Store,
    reference: &Reference,
    options: &Options,
    tell: fn(&str),
    wanted: &Wanted<'_>,
    check: impl FnOnce(&Blob) -> Result<()>,
) -> Result<(Blob, u64)> {
    let mut c = Client::new(reference, options, Access::Pull, tell)?;
    let (_, bytes, _) = c.image(reference)?;
    let mut parts = archive::children(&bytes)?;
    // The configuration first: it says whether we can use the rest at all.
    parts.reverse();
    if parts.first().is_some_and(|b| b.size > MAX_CONFIG) {
        return Err(format!(
            "{reference}: a configuration of more than {MAX_CONFIG} bytes"
        ));
    }
    let mut fetched = 0;
    let manifest = store.put(MEDIA_MANIFEST, &bytes)?;
    for (n, part) in parts.iter().enumerate() {
        if !store.has(part) {
            if n > 0 {
                tell(&format!("{}: {} bytes", part.digest, part.size));
            }
            c.blob(store, part)?;
            fetched += part.size;
        }
        if n == 0 {
            Image::open(store, &manifest).map_err(|e| format!("{reference}: {e}"))?;
        }
    }
    for a in c.artifacts(store, &manifest.digest, wanted, &mut fetched)? {
        store.attach(&a.blob, &a.kind, &a.subject)?;
    }
    check(&manifest)?;
    store.tag(reference, &manifest)?;
    Ok((manifest, fetched))
}

/// Most artifacts of one image that are looked at.
const MAX_ARTIFACTS: usize = 1000;

impl Client {
    /// The manifest of an image for this machine, as bytes too.
    fn image(&mut self, reference: &Reference) -> Result<(Blob, Vec<u8>, ImageManifest)> {
        let (mut blob, mut bytes) = self.manifest(&reference.manifest())?;
        if blob.media == MEDIA_INDEX {
            let index = serde_json::from_slice(&bytes).map_err(|e| format!("{reference}: {e}"))?;
            let one = image::choose(&index).map_err(|e| format!("{reference}: {e}"))?;
            (blob, bytes) = self.manifest(&one.digest.to_string())?;
        }
        if blob.media != MEDIA_MANIFEST {
            return Err(format!(
                "{reference}: media type {:?} is not an image",
                blob.media
            ));
        }
        let manifest = image::manifest(&bytes).map_err(|e| format!("{reference}: {e}"))?;
        Ok((blob, bytes, manifest))
    }

    /// Fetches what belongs to a manifest, and the signatures of that.
    fn artifacts(
        &mut self,
        store: &Store,
        subject: &Digest,
        wanted: &Wanted<'_>,
        fetched: &mut u64,
    ) -> Result<Vec<Artifact>> {
        let mut out = Vec::new();
        let mut next = vec![*subject];
        while let Some(subject) = next.pop() {
            for row in self.referrers(&subject)?.iter().take(MAX_ARTIFACTS) {
                let kind = row
                    .get("artifactType")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if !artifact::KNOWN.contains(&kind) {
                    continue;
                }
                let (blob, bytes) = self.manifest(&Blob::from_json(row)?.digest.to_string())?;
                let one = Artifact::parse(blob, &bytes)?;
                if one.subject != subject {
                    return Err(format!(
                        "{}: belongs to {}, not to {subject}",
                        one.blob.digest, one.subject
                    ));
                }
                if one.kind != sign::ARTIFACT && !wanted(&one) {
                    continue;
                }
                for part in archive::children(&bytes)? {
                    let most = if part == one.layer && one.kind != sign::ARTIFACT {
                        u64::MAX
                    } else {
                        MAX_CONFIG
                    };
                    if part.size > most {
                        return Err(format!("{}: a signature of {} bytes", one.blob.digest, part.size));
                    }
                    if !store.has(&part) {
                        if part.size > MAX_CONFIG {
                            (self.tell)(&format!("{}: {} bytes", part.digest, part.size));
                        }
                        self.blob(store, &part)?;
                        *fetched += part.size;
                    }
                }
                store.put(MEDIA_MANIFEST, &bytes)?;
                // What belongs to a signature would be nobody's.
                if one.kind != sign::ARTIFACT {
                    next.push(one.blob.digest);
                }
                out.push(one);
                if out.len() > MAX_ARTIFACTS {
                    return Err(format!(
                        "{subject}: more than {MAX_ARTIFACTS} artifacts belong to it"
                    ));
                }
            }
        }
        Ok(out)
    }

    /// Sends what belongs to a manifest that is there already.
    fn push_artifacts(&mut self, store: &Store, subject: &Digest) -> Result<()> {
        let ours = artifact::of(store, subject)?;
        for a in &ours {
            let text = store.read(&a.blob.digest, MAX_MANIFEST)?;
            for part in archive::children(&text)? {
                self.push_blob(store, &part)?;
            }
            self.push_manifest(&a.blob.digest.to_string(), MEDIA_MANIFEST, &text)?;
            self.push_artifacts(store, &a.blob.digest)?;
        }
        // A registry without the referrers API keeps them under a tag that its clients make.
        let known = self.referrers(subject)?;
        let listed = |d: &Digest| {
            let d = d.to_string();
            known
                .iter()
                .any(|k| k.get("digest").and_then(Value::as_str) == Some(d.as_str()))
        };
        if ours.iter().all(|a| listed(&a.blob.digest)) {
            return Ok(());
        }
        // What others have attached stays.
        let mut rows: Vec<Value> = known.clone();
        rows.extend(ours.iter().filter(|a| !listed(&a.blob.digest)).map(Artifact::row));
        let index = json!({"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": rows}).to_string();
        self.push_manifest(&fallback_tag(subject), MEDIA_INDEX, index.as_bytes())
    }
}

/// Sends an image and what belongs to it.
pub fn push(
    store: &Store,
    image: &Image,
    reference: &Reference,
    options: &Options,
    tell: fn(&str),
) -> Result<()> {
    let mut c = Client::new(reference, options, Access::Push, tell)?;
    let digest = image.manifest_blob.digest;
    let bytes = store.read(&digest, MAX_MANIFEST)?;
    for part in archive::children(&bytes)? {
        c.push_blob(store, &part)?;
    }
    let tag = reference.tag.clone().unwrap_or_else(|| digest.to_string());
    c.push_manifest(&digest.to_string(), MEDIA_MANIFEST, &bytes)?;
    c.push_artifacts(store, &digest)?;
    // The name last: who sees it finds its signatures.
    c.push_manifest(&tag, MEDIA_MANIFEST, &bytes)
}

/// Certificates that are trusted.
fn roots(options: &Options) -> Result<ureq::tls::RootCerts> {
    const PLACES: &[&str] = &[
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    let own = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let file = options
        .ca_file
        .clone()
        .or(own)
        .or_else(|| PLACES.iter().map(std::path::PathBuf::from).find(|p| p.is_file()));
    let file =
        file.ok_or("no certificates are on this host (package ca-certificates); name a file with --ca-file")?;
    let text = std::fs::read(&file).map_err(|e| format!("{}: {}", file.display(), reason(&e)))?;
    let certs: Vec<_> = ureq::tls::parse_pem(&text)
        .filter_map(|item| match item {
            Ok(ureq::tls::PemItem::Certificate(c)) => Some(c),
            _ => None,
        })
        .collect();
    if certs.is_empty() {
        return Err(format!("{}: no certificate is in it", file.display()));
    }
    Ok(ureq::tls::RootCerts::Specific(Arc::new(certs)))
}

/// Percent-encoding of a value in a query.
fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
