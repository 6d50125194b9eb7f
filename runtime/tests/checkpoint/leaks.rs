//! What many checkpoints leave behind, in the image and in its supervisor: nothing.

use super::{Place, often, supervisor};
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn many_checkpoints_leak_nothing() {
    let p = Place::new("many");
    p.start("a");
    let image = |pid: u32| -> u32 {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    };
    let above = supervisor(&p, "a");
    let pid = image(above);
    let facts = || {
        // The shell's `sleep` holds its locale's files while it lives, a dozen of them: the most at any moment is what
        // compares, over as many of its rounds, however long a busy machine takes for them.
        let until = p.count() + 30;
        let end = Instant::now() + Duration::from_secs(60);
        let mut fds = 0;
        while p.count() < until {
            assert!(Instant::now() < end, "the counter stands at {}", p.count());
            for _ in 0..10 {
                fds = fds.max(fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // Without what others have mapped too: how many they are is not this test's.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kib = ["RssAnon:", "RssShmem:"].map(|what| {
            let kib = status.lines().find_map(|l| l.strip_prefix(what)).unwrap();
            kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        });
        (fds, kib.iter().sum::<u64>())
    };
    let once = || drop(p.good(&["checkpoint", "a", "-o", "a.ftsnap", "--leave-running"]));
    for _ in 0..5 {
        once();
    }
    let (fds, kib) = facts();
    // Of the supervisor, which copies: descriptors, threads and memory of its own, with what is on the disk.
    let beside = || {
        let count = |what: &str| fs::read_dir(format!("/proc/{above}/{what}")).unwrap().count();
        let status = fs::read_to_string(format!("/proc/{above}/status")).unwrap();
        let kib = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
        let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap();
        let files = fs::read_dir(&p.0).unwrap().count();
        (count("fd"), count("task"), files, kib)
    };
    let before = beside();
    for _ in 0..often(30, 200) {
        once();
    }
    let (fds_then, kib_then) = facts();
    // The thread of the last order may still be on its way out.
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let after = beside();
        if after.0 <= before.0 + 4
            && after.1 <= before.1 + 1
            && after.2 == before.2
            && after.3 <= before.3 + 16_384
        {
            break;
        }
        assert!(
            Instant::now() < end,
            "descriptors, threads, files, KiB: {before:?}, then {after:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let open = || {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .collect::<Vec<_>>()
    };
    assert!(
        fds_then <= fds + 8,
        "{fds} descriptors before, {fds_then} after; now {:?}",
        open()
    );
    assert!(kib_then <= kib + 4096, "{kib} KiB before, {kib_then} after");
    let left: Vec<_> = fs::read_dir(&p.0)
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(
        !left.iter().any(|n| n.to_string_lossy().contains(".part-")),
        "{left:?}"
    );
}
