//! `ftvm snapshot ls`, `add` and `rm`: the page store's snapshots.

use super::{Source, utc};
use crate::cli::state::SCHEMA;
use crate::store::Store;
use crate::store::file::HostFile;
use ftl_core::snap::{Snapshot, hex};
use serde_json::json;

/// Options of `snapshot ls`.
#[derive(clap::Args)]
pub struct LsArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `snapshot ls`
pub fn ls(args: &LsArgs) -> Result<(), String> {
    let store = Store::open()?;
    let mut rows = Vec::new();
    for e in store.list()? {
        let header = HostFile::open(&e.path)
            .and_then(|src| Snapshot::header_of(&src).map_err(|why| why.to_string()))
            .map_err(|why| format!("{}: {why}", e.path.display()));
        rows.push((e, header));
    }
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(e, h)| {
                json!({
                    "root": hex(&e.root),
                    "added_s": e.added_s,
                    "image": h.as_ref().ok().map(|h| format!("{:016x}", h.image)),
                    "parent": h.as_ref().ok().and_then(|h| h.parent).map(|p| hex(&p)),
                    "ftvm": h.as_ref().ok().map(|h| h.version.clone()),
                    "damage": h.as_ref().err(),
                })
            })
            .collect();
        println!("{}", json!({"version": SCHEMA, "snapshots": rows}));
        return Ok(());
    }
    println!("{:<16}  {:<16}  {:<16}  ADDED", "SNAPSHOT", "PARENT", "IMAGE");
    for (e, h) in &rows {
        match h {
            Ok(h) => {
                let parent = h.parent.map_or("-".to_string(), |p| hex(&p)[..16].to_string());
                println!(
                    "{}  {parent:<16}  {:016x}  {}",
                    &hex(&e.root)[..16],
                    h.image,
                    utc(e.added_s)
                );
            }
            Err(why) => println!("{}  {why}", &hex(&e.root)[..16]),
        }
    }
    Ok(())
}

/// Options of `snapshot add`.
#[derive(clap::Args)]
pub struct AddArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

/// `snapshot add`
pub fn add(args: &AddArgs) -> Result<(), String> {
    let mut opener = args.source.opener()?;
    let opened = opener.chain(&args.source.snapshot)?;
    if opened.chain.layers().iter().any(|l| l.header().lock.is_some()) {
        return Err(format!(
            "{}: encrypted; the page store keeps pages in the clear, squash it without --encrypt first if that is meant",
            args.source.snapshot.display()
        ));
    }
    let (store, packs) = opener.store()?;
    let (root, added) = crate::store::write::add(store, packs, &opened.chain)?;
    if args.json {
        println!(
            "{}",
            json!({"version": SCHEMA, "root": hex(&root), "pages": added.pages, "new_pages": added.new_pages})
        );
    } else {
        println!(
            "{}  {} pages, {} of them new",
            hex(&root),
            added.pages,
            added.new_pages
        );
    }
    Ok(())
}

/// Options of `snapshot rm`.
#[derive(clap::Args)]
pub struct RmArgs {
    /// Also if snapshots in the store are changes of it
    #[arg(short, long)]
    force: bool,
    /// First digits of their identities
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
}

/// `snapshot rm`
pub fn rm(args: &RmArgs) -> Result<(), String> {
    let store = Store::open()?;
    for name in &args.snapshots {
        let found = store.find(name)?;
        let child = store.list()?.into_iter().find(|e| {
            let header = HostFile::open(&e.path)
                .ok()
                .and_then(|src| Snapshot::header_of(&src).ok());
            header.is_some_and(|h| h.parent == Some(found.root))
        });
        if let Some(child) = child.filter(|_| !args.force) {
            return Err(format!(
                "{} is the parent of {}; remove that first, add it as a full one (ftvm snapshot add), or use --force",
                &hex(&found.root)[..16],
                &hex(&child.root)[..16]
            ));
        }
        store.remove(&found.root)?;
        println!("{}", hex(&found.root));
    }
    Ok(())
}
