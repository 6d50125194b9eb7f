//! `ftvm snapshot inspect`: what a snapshot holds, as far as it can be known.

use super::{Source, size, utc};
use crate::cli::state::SCHEMA;
use crate::door::record::build_id;
use crate::store::file::HostFile;
use ftl_core::snap::{HandleKind, Header, Object, PAGE_LEN, Place, Snapshot, State, hex};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Options of `snapshot inspect`.
#[derive(clap::Args)]
pub struct InspectArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

/// `snapshot inspect`
pub fn inspect(args: &InspectArgs) -> Result<(), String> {
    let mut opener = args.source.opener()?;
    let path = opener.resolve(&args.source.snapshot)?;
    let src = HostFile::open(&path)?;
    let header = Snapshot::header_of(&src).map_err(|e| format!("{}: {e}", path.display()))?;
    // An encrypted one tells its header to whoever has no key.
    let body = match header.lock.is_some() && opener.passphrase.is_none() {
        true => None,
        false => Some(opener.one(&path)?),
    };
    let root = Snapshot::stated_root(&src).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut facts = of_header(&header);
    facts["root"] = json!(hex(&root));
    facts["version"] = json!(SCHEMA);
    facts["bytes"] = json!(ftl_core::snap::ReadAt::len(&src));
    if let Some(s) = &body {
        of_body(s, &mut facts);
    }
    println!(
        "{}",
        if args.json {
            facts.to_string()
        } else {
            text(&facts, body.as_ref())
        }
    );
    Ok(())
}

fn of_header(h: &Header) -> Value {
    json!({
        "image": format!("{:016x}", h.image),
        "build": crate::store::open::digits(&h.build),
        "same_build": h.build == build_id(),
        "ftvm": h.version,
        "parent": h.parent.map(|p| hex(&p)),
        "compressed": h.compressed,
        "encrypted": h.lock.is_some(),
        "in_store": h.external,
        "with_runtime": h.with_runtime,
        "with_volumes": h.with_volumes,
    })
}

/// Pages of one object: with content, stated to be zero, dropped.
#[derive(Default)]
struct Count {
    data: u64,
    zero: u64,
    dropped: u64,
}

fn counts(s: &Snapshot) -> (BTreeMap<Object, Count>, u64) {
    let (mut all, mut mappable): (BTreeMap<Object, Count>, u64) = Default::default();
    for run in s.runs() {
        let c = all.entry(run.object).or_default();
        match run.state {
            State::Data(place) => {
                c.data += run.count;
                if matches!(place, Place::Raw { .. } | Place::External) {
                    mappable += run.count;
                }
            }
            State::Zero => c.zero += run.count,
            State::Dropped => c.dropped += run.count,
        }
    }
    (all, mappable)
}

fn of_body(s: &Snapshot, out: &mut Value) {
    let m = s.manifest();
    let lossy = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let (objects, mappable) = counts(s);
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for h in &m.handles {
        let kind = match h.kind {
            HandleKind::File { .. } => "file",
            HandleKind::Stream { .. } => "stream",
            HandleKind::Listener { .. } => "listener",
            HandleKind::Connection { .. } => "connection",
            HandleKind::Datagram { .. } => "datagram",
            HandleKind::Opaque(_) => "opaque",
        };
        *kinds.entry(kind).or_default() += 1;
    }
    let objects: Vec<Value> = objects
        .iter()
        .map(|(o, c)| json!({"object": o.to_string(), "pages": c.data, "zero": c.zero, "dropped": c.dropped}))
        .collect();
    let files: Vec<Value> = m
        .files
        .iter()
        .map(|f| json!({"path": lossy(&f.path), "bytes": f.size, "blake3": hex(&f.blake3)}))
        .collect();
    let volumes: Vec<Value> = m
        .volumes
        .iter()
        .map(|v| {
            let policy = format!("{:?}", v.policy).to_lowercase();
            json!({"host": lossy(&v.host), "guest": lossy(&v.guest), "read_only": v.read_only, "policy": policy})
        })
        .collect();
    for (name, value) in [
        ("created_s", json!(m.created.s)),
        ("entries", json!(m.entries)),
        ("log_position", json!(m.log_position)),
        ("monotonic_ns", json!(m.clock.mono)),
        ("processes", json!(m.spaces)),
        ("pages", json!(s.data_pages())),
        ("mappable_pages", json!(mappable)),
        ("objects", json!(objects)),
        ("handles", json!(kinds)),
        ("files", json!(files)),
        ("volumes", json!(volumes)),
        ("stands_for", json!(m.stands_for.map(|r| hex(&r)))),
        (
            "extra",
            json!(
                m.extra
                    .iter()
                    .map(|(n, b)| (n.clone(), b.len()))
                    .collect::<BTreeMap<_, _>>()
            ),
        ),
    ] {
        out[name] = value;
    }
}

fn text(f: &Value, s: Option<&Snapshot>) -> String {
    let word = |name: &str| f[name].as_str().unwrap_or("none").to_string();
    let number = |name: &str| f[name].as_u64().unwrap_or(0);
    let build = if f["same_build"] == true {
        "this build"
    } else {
        "another build"
    };
    let mut kept = Vec::new();
    for (name, say) in [
        ("compressed", "compressed"),
        ("encrypted", "encrypted"),
        ("in_store", "pages in the page store"),
        ("with_runtime", "with its runtime"),
        ("with_volumes", "with volumes"),
    ] {
        if f[name] == true {
            kept.push(say);
        }
    }
    let mut lines = vec![
        format!("root      {}", word("root")),
        match &f["parent"] {
            Value::String(p) => format!("parent    {p}"),
            _ => "parent    none: a full snapshot".to_string(),
        },
        format!(
            "image     {}, written by ftvm {} ({build}, {})",
            word("image"),
            word("ftvm"),
            word("build")
        ),
        format!(
            "file      {}{}{}",
            size(number("bytes")),
            if kept.is_empty() { "" } else { ", " },
            kept.join(", ")
        ),
    ];
    let Some(s) = s else {
        lines.push("content   encrypted; --passphrase-file shows it".into());
        return lines.join("\n");
    };
    let m = s.manifest();
    lines.push(format!(
        "taken     {}, after {} kernel entries",
        utc(m.created.s),
        m.entries
    ));
    lines.push(format!(
        "pages     {} with content, {}",
        s.data_pages(),
        size(s.data_pages() * PAGE_LEN as u64)
    ));
    for (o, c) in counts(s).0 {
        lines.push(format!(
            "  {:<16} {:>9} pages, {} zero, {} dropped",
            o.to_string(),
            c.data,
            c.zero,
            c.dropped
        ));
    }
    if let Some(kinds) = f["handles"].as_object().filter(|k| !k.is_empty()) {
        let kinds: Vec<String> = kinds.iter().map(|(k, n)| format!("{n} {k}")).collect();
        lines.push(format!("handles   {}", kinds.join(", ")));
    }
    for file in f["files"].as_array().into_iter().flatten() {
        lines.push(format!(
            "needs     {} as it was ({} bytes)",
            file["path"].as_str().unwrap_or(""),
            file["bytes"]
        ));
    }
    for v in f["volumes"].as_array().into_iter().flatten() {
        let text = |n: &str| v[n].as_str().unwrap_or("").to_string();
        lines.push(format!(
            "volume    {} at {}: {}",
            text("host"),
            text("guest"),
            text("policy")
        ));
    }
    lines.join("\n")
}
