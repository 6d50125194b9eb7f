//! A new image from a directory, a program or another image.

use crate::config::{ANNOTATION, App, VolumePolicy};
use crate::digest::Digest;
use crate::image::{Compression, Image};
use crate::pack::{self, Node, Nodes, Notes};
use crate::reference::Reference;
use crate::store::{Blob, Store};
use crate::{MEDIA_CONFIG, MEDIA_MANIFEST, Result, archive, elf, reason};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// PATH of an image whose author names none, as other builders have it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image is made of.
pub struct Plan<'a> {
    /// A directory, a program, a layout, or the name of an image.
    pub from: &'a Path,
    /// `ftvm.toml`
    pub app: App,
    /// Further host files and directories, for a program.
    pub include: &'a [PathBuf],
    /// Compression of new layers.
    pub compression: Compression,
}

/// What came of it.
pub struct Built {
    /// The manifest.
    pub blob: Blob,
    /// Lines for the user: what is not in it, what it may need.
    pub notes: Notes,
}

/// Builds an image and names it.
pub fn build(store: &Store, plan: &Plan<'_>, name: &Reference) -> Result<Built> {
    let mut notes = Notes::new();
    let mut app = plan.app.clone();
    let made = if plan.from.join("oci-layout").is_file() || is_tar(plan.from) {
        // Without a name: nobody else's build can take it, and one that is killed leaves none.
        let read = archive::contents(store, plan.from)?;
        let (_, first) = read.images.first().ok_or("no image is in it")?;
        over(store, plan, &Image::open(store, first)?, &mut app, &mut notes)?
    } else if plan.from.is_dir() {
        let mut nodes = pack::directory(plan.from)?;
        add_include(plan, &mut nodes, Cache::Needed, &mut notes)?;
        add_volumes(&app, &mut nodes);
        let layers = [nodes];
        tell_lacking(&layers, &mut notes);
        new(store, plan, &layers, &app, &mut notes)?
    } else if elf::is_elf(plan.from) {
        let layers = program(plan, &mut app, &mut notes)?;
        tell_lacking(&layers, &mut notes);
        new(store, plan, &layers, &app, &mut notes)?
    } else if plan.from.exists() {
        return Err(format!(
            "{}: neither a directory, an ELF program nor an OCI image",
            plan.from.display()
        ));
    } else {
        let text = plan.from.to_string_lossy();
        let (_, blob) = store
            .find(&text)
            .map_err(|e| format!("--from {text}: no such file, and {e}"))?;
        over(store, plan, &Image::open(store, &blob)?, &mut app, &mut notes)?
    };
    store.tag(name, &made)?;
    Ok(Built { blob: made, notes })
}

/// Only a program that is named brings its libraries; those of a directory are its author's matter, and told.
fn tell_lacking(layers: &[Nodes], notes: &mut Notes) {
    const MOST: usize = 10;
    let all = elf::lacking(layers);
    for (library, who) in all.iter().take(MOST) {
        notes.push(format!(
            "{who}: asks for {library}, which is not in the image; --include PROGRAM brings what a program needs"
        ));
    }
    if all.len() > MOST {
        notes.push(format!(
            "{} more libraries are not in the image",
            all.len() - MOST
        ));
    }
}

fn is_tar(path: &Path) -> bool {
    use std::io::Read;
    let mut head = [0; 512];
    std::fs::File::open(path)
        .and_then(|mut f| f.read_exact(&mut head))
        .is_ok()
        && &head[257..262] == b"ustar"
}

/// A program with what it needs, in up to three layers, so that images of one host share those below: the C library, other
/// libraries, the program.
fn program(plan: &Plan<'_>, app: &mut App, notes: &mut Notes) -> Result<Vec<Nodes>> {
    let path = std::path::absolute(plan.from).map_err(|e| reason(&e))?;
    let needs = needs_here(&path)?;
    const LIBC: &[&str] = &[
        "ld-linux-x86-64.so.2",
        "libc.so.6",
        "libm.so.6",
        "libdl.so.2",
        "libpthread.so.0",
        "librt.so.1",
        "libresolv.so.2",
        "libutil.so.1",
        "libanl.so.1",
    ];
    let (mut libc, mut libs, mut top) = (Nodes::new(), Nodes::new(), Nodes::new());
    for file in &needs.files {
        let own = file
            .file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| LIBC.contains(&n));
        elf::add(file, if own { &mut libc } else { &mut libs })?;
    }
    // The C library is the same layer whichever of its parts a program needs.
    if let Some(dir) = needs
        .files
        .iter()
        .find(|f| f.ends_with("libc.so.6"))
        .and_then(|f| f.parent())
    {
        for part in LIBC {
            if dir.join(part).exists() {
                elf::add(&dir.join(part), &mut libc)?;
            }
        }
    }
    elf::add(&path, &mut top)?;
    if needs.cache {
        elf::add(Path::new(elf::CACHE), &mut top)?;
    }
    add_include(plan, &mut top, Cache::Needed, notes)?;
    top.entry(b"tmp".to_vec()).or_insert(Node::Dir(0o1777));
    add_volumes(app, &mut top);
    // What is below already is not repeated.
    libs.retain(|k, v| libc.get(k) != Some(v));
    top.retain(|k, v| libc.get(k) != Some(v) && libs.get(k) != Some(v));
    if app.command.is_empty() {
        app.command = vec![path.display().to_string()];
    }
    for line in &needs.maybe {
        notes.push(format!("may still be asked for: {line}"));
    }
    Ok([libc, libs, top].into_iter().filter(|n| !n.is_empty()).collect())
}

/// What a program needs, all of which is on this host.
fn needs_here(path: &Path) -> Result<elf::Needs> {
    let needs = elf::needs(path)?;
    if needs.missing.is_empty() {
        return Ok(needs);
    }
    let all: Vec<String> = needs
        .missing
        .iter()
        .map(|(n, who)| format!("{n} (for {})", who.display()))
        .collect();
    Err(format!(
        "{}: libraries that are not on this host: {}",
        path.display(),
        all.join(", ")
    ))
}

/// Which cache of libraries the programs of an image find.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    /// This host's, if they need one and the tree has none.
    Needed,
    /// That of the image below: ours would hide its libraries.
    OfBase,
}

fn add_include(plan: &Plan<'_>, nodes: &mut Nodes, cache: Cache, notes: &mut Notes) -> Result<()> {
    let here = Path::new(elf::CACHE);
    for path in plan.include {
        let full = std::path::absolute(path).map_err(|e| format!("{}: {}", path.display(), reason(&e)))?;
        elf::add(&full, nodes)?;
        // What a program among them needs comes along too.
        if full.is_file() && elf::is_elf(&full) {
            let needs = needs_here(&full)?;
            for file in &needs.files {
                elf::add(file, nodes)?;
            }
            let there = nodes.contains_key(elf::CACHE.trim_start_matches('/').as_bytes());
            match cache {
                _ if !needs.cache => {}
                Cache::Needed if !there => elf::add(here, nodes)?,
                _ => notes.push(format!(
                    "{}: finds a library by {} alone; the image has its own, which may not name it",
                    full.display(),
                    elf::CACHE
                )),
            }
        }
    }
    Ok(())
}

/// Volumes that are part of the image need their directory.
fn add_volumes(app: &App, nodes: &mut Nodes) {
    let paths = app
        .volumes
        .iter()
        .map(|v| v.path.as_str())
        .chain(app.workdir.as_deref());
    for path in paths {
        let mut at = Vec::new();
        for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
            if !at.is_empty() {
                at.push(b'/');
            }
            at.extend_from_slice(part.as_bytes());
            if !matches!(nodes.get(&at), Some(Node::Host(_) | Node::Link(_))) {
                nodes.entry(at.clone()).or_insert(Node::Dir(0o755));
            }
        }
    }
}

fn new(store: &Store, plan: &Plan<'_>, trees: &[Nodes], app: &App, notes: &mut Notes) -> Result<Blob> {
    let (mut layers, mut diffs) = (Vec::new(), Vec::new());
    for tree in trees {
        let (blob, diff) = pack::layer(store, tree, plan.compression, notes)?;
        layers.push(blob.json());
        diffs.push(diff);
    }
    if app.command.is_empty() {
        return Err("command is missing: the image needs one to be run; write it into ftvm.toml".to_string());
    }
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diffs.iter().map(Digest::to_string).collect::<Vec<_>>()},
    });
    finish(store, config, layers, Map::new(), app)
}

/// Another image with our configuration: its layers stay as they are.
fn over(store: &Store, plan: &Plan<'_>, image: &Image, app: &mut App, notes: &mut Notes) -> Result<Blob> {
    let config_blob = serde_json::to_value(image.manifest.config()).map_err(|e| e.to_string())?;
    let bytes = store.read(&Blob::from_json(&config_blob)?.digest, crate::store::MAX_CONFIG)?;
    let mut config: Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    let mut layers: Vec<Value> = image.layers.iter().map(|(b, ..)| b.json()).collect();
    let mut nodes = Nodes::new();
    add_include(plan, &mut nodes, Cache::OfBase, notes)?;
    if !nodes.is_empty() {
        let (blob, diff) = pack::layer(store, &nodes, plan.compression, notes)?;
        layers.push(blob.json());
        if let Some(d) = config
            .pointer_mut("/rootfs/diff_ids")
            .and_then(Value::as_array_mut)
        {
            d.push(diff.to_string().into());
        }
        // One line of history for each layer, or none at all.
        if let Some(c) = config.as_object_mut() {
            c.remove("history");
        }
    }
    let annotations = serde_json::to_value(image.manifest.annotations()).map_err(|e| e.to_string())?;
    let annotations = annotations.as_object().cloned().unwrap_or_default();
    finish(store, config, layers, annotations, app)
}

fn finish(
    store: &Store,
    mut config: Value,
    layers: Vec<Value>,
    mut annotations: Map<String, Value>,
    app: &App,
) -> Result<Blob> {
    describe(&mut config, app);
    let config = store.put(MEDIA_CONFIG, config.to_string().as_bytes())?;
    annotations.insert(ANNOTATION.to_string(), app.to_json().into());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MEDIA_MANIFEST,
        "config": config.json(),
        "layers": layers,
        "annotations": annotations,
    });
    let blob = store.put(MEDIA_MANIFEST, manifest.to_string().as_bytes())?;
    // What we cannot read ourselves is not given a name.
    Image::open(store, &blob)?;
    Ok(blob)
}

/// What other runtimes understand of `ftvm.toml`. What it does not say stays as it is.
fn describe(config: &mut Value, app: &App) {
    if let Some(t) = pack::created() {
        config["created"] = t.into();
    }
    if !config["config"].is_object() {
        config["config"] = json!({});
    }
    let c = &mut config["config"];
    if let Some((program, rest)) = app.command.split_first() {
        c["Entrypoint"] = json!([program]);
        c["Cmd"] = json!(rest);
    }
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let given = c
        .get("Env")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    for entry in std::iter::once(PATH).chain(given) {
        if let Some((k, v)) = entry.split_once('=') {
            env.insert(k.to_string(), v.to_string());
        }
    }
    env.extend(app.environment.clone());
    c["Env"] = env
        .into_iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect::<Vec<_>>()
        .into();
    if let Some(user) = &app.user {
        c["User"] = user.as_str().into();
    }
    if let Some(dir) = &app.workdir {
        c["WorkingDir"] = dir.as_str().into();
    }
    let set = |keys: Vec<String>| Value::Object(keys.into_iter().map(|k| (k, json!({}))).collect());
    if !app.volumes.is_empty() {
        let kept = app.volumes.iter().filter(|v| v.policy != VolumePolicy::ReadOnly);
        c["Volumes"] = set(kept.map(|v| v.path.clone()).collect());
    }
    if !app.expose.is_empty() {
        let port = |p: &String| {
            if p.contains('/') {
                p.clone()
            } else {
                format!("{p}/tcp")
            }
        };
        c["ExposedPorts"] = set(app.expose.iter().map(port).collect());
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
