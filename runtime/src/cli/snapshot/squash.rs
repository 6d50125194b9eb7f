//! `ftvm snapshot squash`: a chain as one full snapshot.

use super::{Source, size};
use crate::cli::state::SCHEMA;
use crate::snap::file::STATE;
use crate::snap::state::HostState;
use crate::store::crypt;
use crate::store::file::Unpublished;
use crate::store::open::passphrase;
use crate::store::write::Fault;
use ftl_core::snap::hex;
use serde_json::json;
use std::path::PathBuf;

/// Options of `snapshot squash`.
#[derive(clap::Args)]
pub struct SquashArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Compress pages; a restore then cannot map them
    #[arg(long)]
    compress: bool,
    /// Encrypt with the passphrase in this file
    #[arg(long, value_name = "FILE")]
    encrypt: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
}

/// `snapshot squash`. Returns the exit code: 3 if the chain cannot be used, 1 if the file cannot be written.
pub fn squash(args: &SquashArgs) -> i32 {
    match write(args) {
        Ok(()) => 0,
        Err((code, why)) => {
            crate::cli::say(&why);
            code
        }
    }
}

const REFUSED: i32 = crate::door::replay::EXIT_INCOMPATIBLE;

fn write(args: &SquashArgs) -> Result<(), (i32, String)> {
    let failed = |why: String| (1, why);
    let mut opener = args.source.opener().map_err(failed)?;
    let opened = opener
        .chain(&args.source.snapshot)
        .map_err(|why| (REFUSED, why))?;
    let state = opened.chain.manifest().extra(STATE).and_then(HostState::decode);
    if args.encrypt.is_none() && state.is_some_and(|s| s.has_secrets()) {
        let why = format!(
            "{}: the image holds secrets; give --encrypt FILE",
            args.source.snapshot.display()
        );
        return Err(failed(why));
    }
    let key = match &args.encrypt {
        Some(path) => {
            let lock = crypt::new_lock().map_err(failed)?;
            let words = passphrase(path).map_err(failed)?;
            Some((lock, crypt::cipher(&lock, &words).map_err(failed)?))
        }
        None => None,
    };
    let mut file = Unpublished::create(&args.output).map_err(failed)?;
    let mut bytes = 0;
    let root = opened.chain.squash(args.compress, key, &mut |b| {
        bytes += b.len() as u64;
        file.write(b).map_err(Fault::Store)
    });
    let root = root.map_err(|e| match e {
        Fault::Snapshot(e) => (REFUSED, format!("{}: {e}", args.source.snapshot.display())),
        Fault::Store(why) => (1, why),
    })?;
    file.publish().map_err(failed)?;
    let pages = opened.chain.data_pages();
    if args.json {
        let file = args.output.to_string_lossy();
        println!(
            "{}",
            json!({"version": SCHEMA, "root": hex(&root), "file": file, "bytes": bytes, "pages": pages,
                "layers": opened.files.len()})
        );
    } else {
        println!(
            "{}: {} of {} snapshots, {pages} pages\nroot {}",
            args.output.display(),
            size(bytes),
            opened.files.len(),
            hex(&root)
        );
    }
    Ok(())
}
