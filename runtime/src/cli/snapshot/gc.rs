//! `ftvm snapshot gc`: pages that no snapshot of the store needs.

use super::size;
use crate::cli::state::SCHEMA;
use crate::store::{Store, gc as collector};
use ftl_core::snap::PAGE_LEN;
use serde_json::json;

/// Options of `snapshot gc`.
#[derive(clap::Args)]
pub struct GcArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// `snapshot gc`
pub fn gc(args: &GcArgs) -> Result<(), String> {
    let done = collector::collect(Store::open()?, args.dry_run)?;
    if args.json {
        println!(
            "{}",
            json!({"version": SCHEMA, "dry_run": args.dry_run, "snapshots": done.snapshots, "pages": done.pages,
                "live": done.live, "removed": done.removed, "leftovers": done.leftovers})
        );
    } else {
        println!(
            "{} snapshots need {} of {} pages; {} {}",
            done.snapshots,
            done.live,
            done.pages,
            size(done.removed * PAGE_LEN as u64),
            if args.dry_run {
                "would be removed"
            } else {
                "removed"
            }
        );
    }
    Ok(())
}
