//! What must hold of ftl-core for any input. The properties are shared with the crate's own tests.

pub mod check;
pub mod link;

use ftl_core::snap::{Chain, Header, SnapError, Snapshot, forge};

/// A file as it is, and with all its checksums put right.
pub fn snapshot(data: &[u8]) {
    let _ = Header::parse(data);
    forge::check(data.to_vec());
    forge::check(forge::repair(data.to_vec()));
}

/// A change of a known snapshot: the chain is refused, or reads and can be squashed.
pub fn chain(data: &[u8]) {
    let full = || Snapshot::open(Box::new(forge::sample(false, None))).expect("whole");
    let Ok(change) = Snapshot::open(Box::new(forge::repair(data.to_vec()))) else {
        return;
    };
    let Ok(chain) = Chain::new(vec![full(), change]) else {
        return;
    };
    let mut file = Vec::new();
    let done = chain.squash::<SnapError>(true, None, &mut |b| {
        file.extend_from_slice(b);
        Ok(())
    });
    if done.is_ok() {
        let again = Snapshot::open(Box::new(file)).expect("what was written can be opened");
        assert_eq!(again.verify(), Ok(()));
        assert_eq!(again.data_pages(), chain.data_pages());
    }
}
