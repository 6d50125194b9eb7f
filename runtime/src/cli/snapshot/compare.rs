//! `ftvm snapshot compare`: whether two snapshots hold the same pages. For tests.

use super::super::say;
use crate::store::open::Opener;
use ftl_core::snap::{Hash, State};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Options of `snapshot compare`.
#[derive(clap::Args)]
pub struct CompareArgs {
    /// The two
    #[arg(num_args = 2, required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<PathBuf>,
    /// A zero page is as good as an absent one: right where no file is mapped. Of a restored image, a page that it has
    /// read and never written is the one or the other
    #[arg(long)]
    zero_is_absent: bool,
}

/// Hash of each page, by object and number; `None` for one that is zero.
type Pages = BTreeMap<(String, u64), Option<Hash>>;

fn pages(path: &Path) -> Result<Pages, String> {
    let chain = Opener::new(None).chain(path)?.chain;
    let mut out = Pages::new();
    for (_, run) in chain.runs() {
        let hashes = match run.state {
            State::Data(_) => Some(chain.hashes(&run)),
            State::Zero => None,
            State::Dropped => continue,
        };
        for n in 0..run.count {
            let hash = hashes.map(|h| h[n as usize]);
            out.insert((run.object.to_string(), run.first + n), hash);
        }
    }
    Ok(out)
}

/// `snapshot compare`: an error if a page differs.
pub fn compare(args: &CompareArgs) -> Result<(), String> {
    let [a, b] = [pages(&args.snapshots[0])?, pages(&args.snapshots[1])?];
    let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let content = |side: &Pages, k: &(String, u64)| match args.zero_is_absent {
        true => side.get(k).copied().flatten().map(Some),
        false => side.get(k).copied(),
    };
    let differs = |k: &&(String, u64)| content(&a, k) != content(&b, k);
    let differ: Vec<_> = keys.into_iter().filter(differs).collect();
    let show = |side: &Pages, k: &(String, u64)| match side.get(k) {
        None => "absent",
        Some(None) => "zero",
        Some(Some(_)) => "data",
    };
    for k in differ.iter().take(20) {
        say(&format!(
            "{} page {:#x}: {}, {}",
            k.0,
            k.1,
            show(&a, k),
            show(&b, k)
        ));
    }
    match differ.len() {
        0 => {
            println!("{} pages", a.len());
            Ok(())
        }
        n => Err(format!("{n} of {} pages differ", a.len())),
    }
}
