//! Images of apps (`run --image`) on a node: pulled by digest and unpacked as soon as an app is to be here.
//!
//! In threads: a pull takes as long as it takes, and the daemon goes on. A backup that has not got its image when it is
//! attached is sent it by the primary ([`crate::protect::roots`]), so that only who is to start an app needs this.

use super::node::RETRY;
use super::schedule::Placement;
use super::view::View;
use crate::cli::say;
use ftl_images::image::Image;
use ftl_images::reference::Reference;
use ftl_images::store::{Blob, Store};
use ftl_images::{registry, sign, unpack};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Instant;

/// How an image stands.
enum Fetch {
    /// It is being pulled and unpacked.
    Coming(JoinHandle<Result<(), String>>),
    /// It is unpacked.
    Here,
    /// It is not to be had: since when, and why.
    Failed(Instant, String),
}

/// Gets an image and unpacks it, unless it is here.
fn fetch(text: &str, options: &registry::Options, verify: Option<&Path>) -> Result<(), String> {
    let (store, reference) = (Store::open()?, Reference::parse(text)?);
    let signed = |blob: &Blob| match verify {
        Some(key) => sign::verify(&store, &blob.digest, key).map(drop),
        None => Ok(()),
    };
    let here = store.find(text).map(|(_, blob)| blob);
    let blob = match here.and_then(|blob| signed(&blob).map(|()| blob)) {
        Ok(blob) => blob,
        Err(_) => registry::pull(&store, &reference, options, say, &|_| false, signed)?.0,
    };
    unpack::root(&store, &Image::open(&store, &blob)?).map(drop)
}

/// The images of a node.
pub struct Images {
    registries: registry::Options,
    /// Key by which images must be signed.
    verify_key: Option<String>,
    /// By name with digest.
    all: BTreeMap<String, Fetch>,
}

impl Images {
    /// None yet.
    pub fn new(registries: registry::Options, verify_key: Option<String>) -> Images {
        Images {
            registries,
            verify_key,
            all: BTreeMap::new(),
        }
    }

    /// Fetches those of apps that are to be at `me`, as primaries or as backups.
    pub fn fetch_ahead(&mut self, view: &View, me: &str) {
        let here = |p: &Placement| p.primary == me || p.backup.as_deref() == Some(me);
        let wanted: BTreeSet<&str> = view
            .apps
            .values()
            .filter(|a| a.placed.as_ref().is_some_and(here))
            .filter_map(|a| a.spec.oci())
            .collect();
        self.all
            .retain(|name, f| wanted.contains(name.as_str()) || matches!(f, Fetch::Coming(_)));
        for name in wanted {
            // What failed is told where the app is to start.
            let _ = self.look(name);
        }
    }

    /// True when the image is unpacked here; it is being fetched otherwise, or cannot be had now.
    pub fn look(&mut self, name: &str) -> Result<bool, String> {
        let state = match self.all.remove(name) {
            Some(Fetch::Coming(t)) if t.is_finished() => {
                let done = t
                    .join()
                    .unwrap_or_else(|_| Err("the thread that fetched it has panicked".to_string()));
                match done {
                    Ok(()) => Fetch::Here,
                    Err(why) => {
                        tracing::warn!(reference = name, "image {name}: {why}");
                        Fetch::Failed(Instant::now(), why)
                    }
                }
            }
            Some(Fetch::Failed(at, _)) if at.elapsed() >= RETRY => self.begin(name),
            None => self.begin(name),
            Some(other) => other,
        };
        let answer = match &state {
            Fetch::Here => Ok(true),
            Fetch::Coming(_) => Ok(false),
            Fetch::Failed(_, why) => Err(why.clone()),
        };
        self.all.insert(name.to_string(), state);
        answer
    }

    fn begin(&self, name: &str) -> Fetch {
        let (text, options, verify) = (name.to_string(), self.registries.clone(), self.verify_key.clone());
        Fetch::Coming(std::thread::spawn(move || {
            fetch(&text, &options, verify.as_deref().map(Path::new))
        }))
    }

    /// An app could not be started with it: somebody may have removed it.
    pub fn doubt(&mut self, name: &str) {
        if matches!(self.all.get(name), Some(Fetch::Here)) {
            self.all.remove(name);
        }
    }
}
