//! `ftvm snapshot verify`: every page of a snapshot and of its parents.

use super::Source;
use crate::cli::state::SCHEMA;
use ftl_core::snap::hex;
use serde_json::json;

/// Options of `snapshot verify`.
#[derive(clap::Args)]
pub struct VerifyArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Only this one, not those that it is a change of
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    source: Source,
}

/// `snapshot verify`
pub fn verify(args: &VerifyArgs) -> Result<(), String> {
    let mut opener = args.source.opener()?;
    let mut layers = Vec::new();
    let root;
    if args.alone {
        let path = opener.resolve(&args.source.snapshot)?;
        let s = opener.one(&path)?;
        s.verify().map_err(|e| format!("{}: {e}", path.display()))?;
        root = *s.root();
        layers.push((path, s.data_pages()));
    } else {
        let opened = opener.chain(&args.source.snapshot)?;
        for (path, s) in opened.files.iter().zip(opened.chain.layers()) {
            s.verify().map_err(|e| format!("{}: {e}", path.display()))?;
            layers.push((path.clone(), s.data_pages()));
        }
        root = *opened.chain.last().root();
    }
    if args.json {
        let layers: Vec<_> = layers
            .iter()
            .map(|(p, n)| json!({"file": p.to_string_lossy(), "pages": n}))
            .collect();
        println!(
            "{}",
            json!({"version": SCHEMA, "root": hex(&root), "good": true, "layers": layers})
        );
    } else {
        for (path, pages) in &layers {
            println!("{}: good, {pages} pages", path.display());
        }
    }
    Ok(())
}
