//! The file in which a named run keeps its writable layer: a magic number, what the kernel writes, and
//! a checksum of that.

use crate::alloc::{self, Side};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Environment variable by which the supervisor tells the guest process where its layer is kept.
pub const PLACE: &str = "FTVM_LAYER";

/// In a guest process: the file, if the run has a name.
pub fn place() -> Option<PathBuf> {
    let path = crate::stage0::in_place().then(|| std::env::var_os(PLACE))?;
    path.map(PathBuf::from)
}

const MAGIC: &[u8; 8] = b"FTLAYER1";
/// Written to the host when this much has gathered.
const BLOCK: usize = 1 << 16;

/// See the module.
#[derive(Debug)]
pub struct Layer {
    path: PathBuf,
    /// What an earlier run left, and how many bytes of it are still to come.
    input: Option<(File, u64)>,
    output: Option<Output>,
}

#[derive(Debug)]
struct Output {
    file: File,
    block: Vec<u8>,
    sum: crc32fast::Hasher,
}

impl Output {
    fn flush(&mut self) -> io::Result<()> {
        self.sum.update(&self.block);
        self.file.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

/// Length of the kernel's part; an error says what is wrong with the file. `None`: there is none.
pub fn check(path: &Path) -> io::Result<Option<u64>> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        f => f?,
    };
    let damaged = || io::Error::other("damaged; ftvm rm removes the run and what it had written");
    let len = file.metadata()?.len();
    let body = len.checked_sub(MAGIC.len() as u64 + 4).ok_or_else(damaged)?;
    let mut magic = [0; 8];
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(damaged());
    }
    let mut sum = crc32fast::Hasher::new();
    let mut buf = vec![0; BLOCK];
    let mut left = body;
    while left > 0 {
        let n = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut buf[..n])?;
        sum.update(&buf[..n]);
        left -= n as u64;
    }
    let mut end = [0; 4];
    file.read_exact(&mut end)?;
    if u32::from_le_bytes(end) != sum.finalize() {
        return Err(damaged());
    }
    Ok(Some(body))
}

impl Layer {
    /// The layer kept in this file, which may not exist yet.
    pub fn open(path: PathBuf) -> io::Result<Layer> {
        let input = match check(&path)? {
            None => None,
            Some(len) => {
                let mut f = File::open(&path)?;
                f.seek(io::SeekFrom::Start(MAGIC.len() as u64))?;
                Some((f, len))
            }
        };
        Ok(Layer {
            path,
            input,
            output: None,
        })
    }

    fn part(&self) -> PathBuf {
        self.path.with_extension("part")
    }

    /// The next bytes of what an earlier run left, in `buf`.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some((file, left)) = &mut self.input else {
            return Ok(0);
        };
        let room = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let n = file.read(&mut buf[..room])?;
        *left -= n as u64;
        Ok(n)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.output.is_none() {
            use std::os::unix::fs::OpenOptionsExt;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(self.part())?;
            file.write_all(MAGIC)?;
            self.output = Some(Output {
                file,
                block: Vec::with_capacity(BLOCK),
                sum: crc32fast::Hasher::new(),
            });
        }
        if let Some(o) = &mut self.output {
            o.block.extend_from_slice(bytes);
            if o.block.len() >= BLOCK {
                o.flush()?;
            }
        }
        Ok(())
    }

    /// Only a whole layer takes the place of the last one.
    fn done(&mut self) -> io::Result<()> {
        let Some(mut o) = self.output.take() else {
            return Ok(());
        };
        o.flush()?;
        o.file.write_all(&o.sum.finalize().to_le_bytes())?;
        o.file.sync_data()?;
        std::fs::rename(self.part(), &self.path)
    }
}

impl super::Plat {
    fn with_layer<T: Default>(&mut self, what: &str, f: impl FnOnce(&mut Layer) -> io::Result<T>) -> T {
        let _side = alloc::enter(Side::Host);
        let Some(layer) = &mut self.layer else {
            return T::default();
        };
        match f(layer) {
            Ok(v) => v,
            Err(e) => {
                let path = layer.path.display().to_string();
                alloc::set(Side::System);
                crate::run::fail_stop(&format!("{what} the written layer {path}: {e}"));
            }
        }
    }

    /// See [`ftl_core::platform::Host::layer_read`].
    pub(super) fn read_layer(&mut self, max: usize) -> Vec<u8> {
        let mut buf = alloc::on(alloc::input_side(), || vec![0; max]);
        let n = self.with_layer("reading", |l| l.read(&mut buf));
        buf.truncate(n);
        buf
    }

    /// See [`ftl_core::platform::Host::layer_write`].
    pub(super) fn write_layer(&mut self, bytes: &[u8]) {
        self.with_layer("writing", |l| l.write(bytes));
    }

    /// See [`ftl_core::platform::Host::layer_done`].
    pub(super) fn finish_layer(&mut self) {
        self.with_layer("writing", Layer::done);
    }
}
