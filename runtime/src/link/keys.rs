//! Keys of nodes. A directory has `authority.pem` (whom to believe), `cert.pem` and `key.pem` (who we are), and where keys
//! are made also `authority-key.pem`, which nodes do not need.

use super::{PROTOCOL, Security};
use crate::cli::reason;
use crate::store::file::Unpublished;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Name in every node's certificate. `.internal` is reserved for private use.
pub const NODE_NAME: &str = "node.ftvm.internal";

const AUTHORITY_NAME: &str = "ftvm authority";
/// An authority outlives the keys that it signs.
const AUTHORITY_DAYS: u64 = 3650;
/// Hosts' clocks differ.
const BEFORE: Duration = Duration::from_secs(3600);

const AUTHORITY: &str = "authority.pem";
const AUTHORITY_KEY: &str = "authority-key.pem";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";

fn wrong(e: rcgen::Error) -> String {
    format!("making keys: {e}")
}

fn generate() -> Result<KeyPair, String> {
    KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(wrong)
}

fn authority_params() -> Result<CertificateParams, String> {
    let mut p = CertificateParams::new(Vec::new()).map_err(wrong)?;
    p.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
    p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    p.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(p)
}

fn valid(p: &mut CertificateParams, from: SystemTime, days: u64) {
    let since = from.duration_since(UNIX_EPOCH).unwrap_or_default();
    let day0 = rcgen::date_time_ymd(1970, 1, 1);
    p.not_before = day0 + since.saturating_sub(BEFORE);
    p.not_after = day0 + (since + Duration::from_secs(days * 86_400));
}

/// An authority: its certificate and its key.
pub struct Authority {
    /// PEM.
    pub cert: String,
    key: KeyPair,
}

impl Authority {
    /// A new one.
    pub fn new(now: SystemTime) -> Result<Authority, String> {
        let key = generate()?;
        let mut p = authority_params()?;
        valid(&mut p, now, AUTHORITY_DAYS);
        let cert = p.self_signed(&key).map_err(wrong)?;
        Ok(Authority {
            cert: cert.pem(),
            key,
        })
    }

    /// The one that was made in a directory.
    pub fn open(dir: &Path) -> Result<Authority, String> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).map_err(|e| {
                format!(
                    "{}: {}; ftvm keygen --out DIR makes an authority",
                    path.display(),
                    reason(&e)
                )
            })
        };
        private(&dir.join(AUTHORITY_KEY))?;
        let key = KeyPair::from_pem(&read(AUTHORITY_KEY)?)
            .map_err(|e| format!("{}: {e}", dir.join(AUTHORITY_KEY).display()))?;
        Ok(Authority {
            cert: read(AUTHORITY)?,
            key,
        })
    }

    /// Signs a new key for a node: certificate and key, both PEM.
    pub fn node(&self, name: &str, now: SystemTime, days: u64) -> Result<(String, String), String> {
        let key = generate()?;
        let names = vec![NODE_NAME.to_string(), format!("{name}.{NODE_NAME}")];
        let mut p = CertificateParams::new(names).map_err(wrong)?;
        p.distinguished_name.push(DnType::CommonName, name);
        p.use_authority_key_identifier_extension = true;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        valid(&mut p, now, days);
        let issuer = Issuer::new(authority_params()?, &self.key);
        let cert: Certificate = p.signed_by(&key, &issuer).map_err(wrong)?;
        Ok((cert.pem(), key.serialize_pem()))
    }
}

/// Makes a directory with a node's keys: of a new authority, or of that in `authority`.
pub fn make(out: &Path, authority: Option<&Path>, name: &str, days: u64) -> Result<(), String> {
    let now = SystemTime::now();
    let made = std::fs::DirBuilder::new().mode(0o700).create(out);
    made.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => format!("{}: exists; name a new directory", out.display()),
        _ => format!("{}: {}", out.display(), reason(&e)),
    })?;
    let write = |name: &str, text: &str| {
        let mut file = Unpublished::create(&out.join(name))?;
        file.write(text.as_bytes())?;
        file.publish()
    };
    let signer = match authority {
        Some(dir) => Authority::open(dir)?,
        None => {
            let new = Authority::new(now)?;
            write(AUTHORITY_KEY, &new.key.serialize_pem())?;
            new
        }
    };
    let (cert, key) = signer.node(name, now, days)?;
    write(AUTHORITY, &signer.cert)?;
    write(CERT, &cert)?;
    write(KEY, &key)
}

/// The host's time by a plain call: in a guest process the host's vDSO is not for us.
#[derive(Debug)]
struct Clock;

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let ns = crate::sys::clock_ns(libc::CLOCK_REALTIME);
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(ns)))
    }
}

/// Refuses a key that others can read.
fn private(path: &Path) -> Result<(), String> {
    let meta = std::fs::metadata(path).map_err(|e| format!("{}: {}", path.display(), reason(&e)))?;
    if meta.mode() & 0o077 != 0 {
        return Err(format!(
            "{}: others can read it; chmod 600 it, or make new keys",
            path.display()
        ));
    }
    Ok(())
}

/// Loads the keys of a directory.
pub fn load(dir: &Path) -> Result<Security, String> {
    let text = |name: &str| {
        let path = dir.join(name);
        std::fs::read(&path)
            .map_err(|e| format!("{}: {}; ftvm keygen makes keys", path.display(), reason(&e)))
    };
    let (authority, cert, key) = (text(AUTHORITY)?, text(CERT)?, text(KEY)?);
    private(&dir.join(KEY))?;
    from_pem(&authority, &cert, &key).map_err(|(name, why)| format!("{}: {why}", dir.join(name).display()))
}

/// Configurations of both sides from PEM; the file's name with an error.
pub fn from_pem(authority: &[u8], cert: &[u8], key: &[u8]) -> Result<Security, (&'static str, String)> {
    let certs =
        |name: &'static str, pem: &[u8]| -> Result<Vec<CertificateDer<'static>>, (&'static str, String)> {
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            match all {
                Ok(all) if !all.is_empty() => Ok(all),
                Ok(_) => Err((name, "no certificate in it".into())),
                Err(e) => Err((name, e.to_string())),
            }
        };
    let mut roots = RootCertStore::empty();
    for root in certs(AUTHORITY, authority)? {
        roots.add(root).map_err(|e| (AUTHORITY, e.to_string()))?;
    }
    let roots = Arc::new(roots);
    let chain = certs(CERT, cert)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| (KEY, e.to_string()))?;
    let mut provider = rustls::crypto::ring::default_provider();
    // The shorter key first: it is the faster one, and as safe here.
    provider.cipher_suites = vec![
        rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        rustls::crypto::ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    let provider = Arc::new(provider);
    let versions: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|e| (AUTHORITY, e.to_string()))?;
    let mut server = ServerConfig::builder_with_details(provider.clone(), Arc::new(Clock))
        .with_protocol_versions(versions)
        .map_err(|e| (CERT, e.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(|e| (CERT, e.to_string()))?;
    // Each link is a new handshake: no state of one is left for another.
    server.send_tls13_tickets = 0;
    server.alpn_protocols = vec![PROTOCOL.to_vec()];
    let mut client = ClientConfig::builder_with_details(provider, Arc::new(Clock))
        .with_protocol_versions(versions)
        .map_err(|e| (CERT, e.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| (CERT, e.to_string()))?;
    client.resumption = rustls::client::Resumption::disabled();
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Security::Tls {
        client: Arc::new(client),
        server: Arc::new(server),
    })
}
