//! What is large, and what has many parts.

use std::fs;
use std::io::Write;

use crate::host::{BUILD, Done, Host, io, same};

/// MiB of the large file: a layer of more than what may unpack to a hundred times its size.
const LARGE: usize = 300;
/// Images that are built over one another, each with one layer more.
const LAYERS: usize = 40;

/// A layer of 300 MiB that does not shrink: through a registry, into another store, and read in the image.
pub fn large() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    let tree = h.cwd().join("tree");
    io(fs::create_dir_all(&tree))?;
    io(fs::copy("/usr/bin/busybox", tree.join("busybox")))?;
    let mut file = io(fs::File::create(tree.join("large")))?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0u8; 1 << 20];
    for _ in 0..LARGE {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        io(file.write_all(&block))?;
    }
    drop(file);
    let sum = h.ask("sha256sum", &["tree/large"])?.good()?;
    let sum = sum.split_whitespace().next().unwrap_or_default().to_string();
    h.write(
        "a.toml",
        "version = 1\ncommand = [\"/busybox\", \"sha256sum\", \"/large\"]\n",
    )?;
    let name = format!("{r}/large:1");
    let build = [
        "image",
        "build",
        "-f",
        "a.toml",
        "--from",
        "tree",
        "--compress",
        "zstd",
        "-t",
        &name,
    ];
    h.ftvm(&build)?.good()?;
    h.ftvm(&["image", "push", &name])?.good()?;
    h.elsewhere();
    h.ftvm(&["image", "pull", &name])?.good()?;
    let said = h.ftvm(&["run", "--image", &name])?.good()?;
    same("the large file", said, format!("{sum}  /large"))
}

/// An image of many layers: each is there, and a file that all of them have is the last one's.
pub fn layers() -> Done {
    let h = Host::new()?;
    let dir = h.cwd().join("all");
    io(fs::create_dir_all(dir.join("parts")))?;
    let toml = format!(
        "version = 1\ncommand = [\"/usr/bin/busybox\", \"sh\", \"-c\", \"ls {0}/parts | wc -l; cat {0}/last\"]\n",
        dir.display()
    );
    h.write("a.toml", &toml)?;
    h.ftvm(&BUILD)?.good()?;
    let last = dir.join("last");
    for n in 1..=LAYERS {
        let part = dir.join("parts").join(n.to_string());
        io(fs::write(&part, "part"))?;
        io(fs::write(&last, format!("layer {n}\n")))?;
        let (part, last) = (part.display().to_string(), last.display().to_string());
        let mut build = vec!["image", "build", "-f", "a.toml", "--from", "a:1", "-t", "a:1"];
        build.extend(["--include", &part, "--include", &last]);
        h.ftvm(&build)?.good()?;
    }
    let said = h.ftvm(&["run", "--image", "a:1"])?.good()?;
    same("layers", said, format!("{LAYERS}\nlayer {LAYERS}"))
}
