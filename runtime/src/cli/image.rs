//! `ftvm image`: build, warm, push, pull, save, load, ls, inspect, rm, sign, verify, keygen.

use super::state::SCHEMA;
use super::{attach, say};
use ftl_images::artifact::{self, Artifact};
use ftl_images::build::{self, Plan};
use ftl_images::config::{App, Until};
use ftl_images::image::{Compression, Image};
use ftl_images::reference::Reference;
use ftl_images::registry::{self, Options};
use ftl_images::store::{Blob, Store};
use ftl_images::{archive, sign, unpack};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Verbs of `image`.
#[derive(clap::Subcommand)]
pub enum ImageVerb {
    /// Make an image from a directory, a program (its libraries come along) or another image
    Build(BuildArgs),
    /// Take a snapshot of the started program of an image that is here: for another build of ftvm, another CPU, or an image of
    /// somebody else's
    Warm(WarmArgs),
    /// Send an image and what belongs to it to a registry
    Push(PushArgs),
    /// Fetch an image, its signatures and its warm snapshot from a registry
    Pull(PullArgs),
    /// Write an image and what belongs to it to a file, which skopeo and podman read as oci-archive
    Save(SaveArgs),
    /// Read images from a file or from the directory of an OCI layout
    Load(LoadArgs),
    /// List images
    Ls(LsArgs),
    /// Print what an image holds, as JSON
    Inspect(InspectArgs),
    /// Attach a snapshot or a log to the image that it belongs to; push and pull --all carry it
    Attach(attach::AttachArgs),
    /// Write a snapshot or log that belongs to an image to a file or directory, to restore or replay it
    Extract(attach::ExtractArgs),
    /// Remove a signature, snapshot or log from an image
    Detach(attach::OneArgs),
    /// Remove images, and what no other image needs of them
    Rm(RmArgs),
    /// Sign an image, and its warm snapshot, with a key of minisign's kind
    Sign(SignArgs),
    /// Check that an image has a signature by a key: exit 0 if it has
    Verify(VerifyArgs),
    /// Make a pair of keys for sign and verify, without a passphrase
    Keygen(KeysArgs),
}

/// Options of `image build`.
#[derive(clap::Args)]
pub struct BuildArgs {
    /// How the application is run [default: ftvm.toml if it is there]
    #[arg(short, long, value_name = "ftvm.toml")]
    file: Option<PathBuf>,
    /// What the image is made of: a directory (its root), an x86-64 ELF program, an OCI layout or archive, or the name of
    /// an image that is here
    #[arg(long, value_name = "PATH|REF")]
    from: PathBuf,
    /// Name of the image
    #[arg(short, long, value_name = "REF", value_parser = Reference::parse)]
    tag: Reference,
    /// Put a file or directory of this host into the image, at the same path
    #[arg(long, value_name = "PATH")]
    include: Vec<PathBuf>,
    /// Compression of new layers
    #[arg(long, value_enum, default_value = "gzip")]
    compress: Compress,
    #[command(flatten)]
    warm: WarmHow,
}

/// How a snapshot of the started program is taken.
#[derive(clap::Args)]
pub struct WarmHow {
    /// Start the program, wait until it is warm, and keep a snapshot of it with the image, from which `run --image` starts:
    /// "http :PORT/PATH" is answered with 2xx or 3xx, somebody listens on "tcp :PORT", or it has printed "log TEXT" [default:
    /// warm-until of ftvm.toml]
    #[arg(long, value_name = "CONDITION", value_parser = Until::parse)]
    warm_until: Option<Until>,
    /// Give the program so long to become warm
    #[arg(long, value_name = "TIME", value_parser = super::options::interval, default_value = "60s")]
    warm_timeout: std::time::Duration,
    /// Encrypt that snapshot with the passphrase in this file; `run --image` then needs --passphrase-file
    #[arg(long, value_name = "FILE")]
    warm_encrypt: Option<PathBuf>,
}

/// Options of `image warm`.
#[derive(clap::Args)]
pub struct WarmArgs {
    #[command(flatten)]
    how: WarmHow,
    /// The image
    #[arg(value_name = "REF")]
    image: String,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Compress {
    Gzip,
    Zstd,
    None,
}

/// How registries are spoken to.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Way {
    /// Speak HTTP without TLS to this registry; 127.0.0.1 and localhost need no such option
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    /// Trust the certificates in this file (PEM) instead of the host's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Way {
    /// The same for the client.
    pub fn options(&self) -> Options {
        Options {
            insecure: self.insecure_registry.clone(),
            ca_file: self.ca_file.clone(),
        }
    }
}

/// Options of `image push`.
#[derive(clap::Args)]
pub struct PushArgs {
    #[command(flatten)]
    way: Way,
    /// The image
    #[arg(value_name = "REF")]
    image: String,
    /// Where it goes, if its own name is not the place
    #[arg(value_name = "DESTINATION", value_parser = Reference::parse)]
    to: Option<Reference>,
}

/// Options of `image pull`.
#[derive(clap::Args)]
pub struct PullArgs {
    #[command(flatten)]
    way: Way,
    /// Keep it only if it has a signature by this key (minisign's public key)
    #[arg(long, value_name = "FILE")]
    verify_key: Option<PathBuf>,
    /// Fetch all that belongs to it: snapshots for other builds of ftvm, attached snapshots and logs
    #[arg(long)]
    all: bool,
    /// Unpack its root, and its warm snapshot, now and not when it is run first: for hosts that keep backups
    #[arg(long)]
    unpack: bool,
    /// The image
    #[arg(value_name = "REF", value_parser = Reference::parse)]
    image: Reference,
}

/// Options of `image save`.
#[derive(clap::Args)]
pub struct SaveArgs {
    /// The file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The image
    #[arg(value_name = "REF")]
    image: String,
}

/// Options of `image load`.
#[derive(clap::Args)]
pub struct LoadArgs {
    /// File or directory
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    /// Name of the image [default: as it says]
    #[arg(short, long, value_name = "REF", value_parser = Reference::parse)]
    tag: Option<Reference>,
}

/// Options of `image ls`.
#[derive(clap::Args)]
pub struct LsArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `image inspect`.
#[derive(clap::Args)]
pub struct InspectArgs {
    /// The image
    #[arg(value_name = "REF")]
    image: String,
}

/// Options of `image rm`.
#[derive(clap::Args)]
pub struct RmArgs {
    /// The images
    #[arg(value_name = "REF", required = true)]
    images: Vec<String>,
}

/// Options of `image sign`.
#[derive(clap::Args)]
pub struct SignArgs {
    /// Secret key (`ftvm image keygen`, minisign -G)
    #[arg(short, long, value_name = "FILE", required_unless_present = "signature")]
    key: Option<PathBuf>,
    /// File with the passphrase of the key
    #[arg(long, value_name = "FILE", requires = "key")]
    passphrase_file: Option<PathBuf>,
    /// Attach a signature that minisign made of the line `sha256:...` (ftvm image inspect)
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    signature: Option<PathBuf>,
    /// The image
    #[arg(value_name = "REF")]
    image: String,
}

/// Options of `image verify`.
#[derive(clap::Args)]
pub struct VerifyArgs {
    /// Public key
    #[arg(short, long, value_name = "FILE")]
    key: PathBuf,
    /// The image
    #[arg(value_name = "REF")]
    image: String,
}

/// Options of `image keygen`.
#[derive(clap::Args)]
pub struct KeysArgs {
    /// The secret key's file; the public key gets the same name with .pub behind it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// `image`. Returns 0 or 1.
pub fn main(verb: &ImageVerb) -> i32 {
    let done = match verb {
        ImageVerb::Build(args) => build(args),
        ImageVerb::Warm(args) => warm_up(args),
        ImageVerb::Push(args) => push(args),
        ImageVerb::Pull(args) => pull(args),
        ImageVerb::Save(args) => save(args),
        ImageVerb::Load(args) => load(args),
        ImageVerb::Ls(args) => ls(args),
        ImageVerb::Inspect(args) => inspect(args),
        ImageVerb::Attach(args) => open(&args.image).and_then(|(store, _, image)| {
            println!("{}", attach::attach(&store, &image, args)?.blob.digest);
            Ok(())
        }),
        ImageVerb::Extract(args) => {
            open(&args.one.image).and_then(|(store, _, image)| attach::extract(&store, &image, args))
        }
        ImageVerb::Detach(args) => open(&args.image).and_then(|(store, _, image)| {
            println!("{}", attach::detach(&store, &image, args)?);
            Ok(())
        }),
        ImageVerb::Rm(args) => rm(args),
        ImageVerb::Sign(args) => sign_image(args),
        ImageVerb::Verify(args) => verify(args),
        ImageVerb::Keygen(args) => keygen(args),
    };
    match done {
        Ok(()) => 0,
        Err(why) => {
            say(&why);
            1
        }
    }
}

fn open(text: &str) -> Result<(Store, Option<String>, Image), String> {
    let store = Store::open()?;
    let (name, blob) = store.find(text)?;
    let image = Image::open(&store, &blob)?;
    Ok((store, name, image))
}

/// Reads `ftvm.toml`; without one, an image says nothing of its own.
fn app(file: Option<&Path>) -> Result<App, String> {
    let default = Path::new("ftvm.toml");
    let path = match file {
        Some(f) => f,
        None if default.exists() => default,
        None => {
            return Ok(App {
                version: ftl_images::config::VERSION,
                ..App::default()
            });
        }
    };
    let text =
        std::fs::read_to_string(path).map_err(|e| format!("{}: {}", path.display(), super::reason(&e)))?;
    let app = App::parse(&text).map_err(|w| w.tell(&path.display().to_string()))?;
    super::from_image::check(&app).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(app)
}

fn build(args: &BuildArgs) -> Result<(), String> {
    let store = Store::open()?;
    let plan = Plan {
        from: &args.from,
        app: app(args.file.as_deref())?,
        include: &args.include,
        compression: match args.compress {
            Compress::Gzip => Compression::Gzip,
            Compress::Zstd => Compression::Zstd,
            Compress::None => Compression::None,
        },
    };
    let built = build::build(&store, &plan, &args.tag)?;
    for note in &built.notes {
        say(note);
    }
    // The image itself is good, and has its name.
    warm(
        &store,
        &args.tag.to_string(),
        &Image::open(&store, &built.blob)?,
        &args.warm,
    )?;
    println!("{}", built.blob.digest);
    Ok(())
}

/// Takes the snapshot that the options or the image ask for; nothing if neither does.
fn warm(store: &Store, called: &str, image: &Image, how: &WarmHow) -> Result<bool, String> {
    let own = image.app.as_ref().and_then(|a| a.warm_until.as_deref());
    let until = match (&how.warm_until, own) {
        (Some(u), _) => u.clone(),
        (None, Some(text)) => Until::parse(text)?,
        (None, None) => return Ok(false),
    };
    let how = super::warm::How {
        until: &until,
        limit: how.warm_timeout,
        encrypt: how.warm_encrypt.as_deref(),
    };
    let made =
        super::warm::take(store, image, &how).map_err(|why| format!("{called} has no snapshot: {why}"))?;
    say(&format!(
        "{called}: warm ({until}), {} KiB",
        made.layer.size.div_ceil(1024)
    ));
    Ok(true)
}

fn warm_up(args: &WarmArgs) -> Result<(), String> {
    let (store, _, image) = open(&args.image)?;
    if !warm(&store, &args.image, &image, &args.how)? {
        return Err(format!(
            "{}: it does not say when it is warm; give --warm-until",
            args.image
        ));
    }
    println!("{}", image.manifest_blob.digest);
    Ok(())
}

fn push(args: &PushArgs) -> Result<(), String> {
    let (store, _, image) = open(&args.image)?;
    let to = match &args.to {
        Some(r) => r.clone(),
        None => Reference::parse(&args.image)?,
    };
    registry::push(&store, &image, &to, &args.way.options(), say)?;
    println!("{}", image.manifest_blob.digest);
    Ok(())
}

fn pull(args: &PullArgs) -> Result<(), String> {
    let store = Store::open()?;
    let check = |blob: &Blob| match &args.verify_key {
        Some(key) => sign::verify(&store, &blob.digest, key).map(drop),
        None => Ok(()),
    };
    let left = std::cell::Cell::new(0);
    let wanted = |a: &Artifact| {
        let take = args.all || super::warm::is_for_us(a);
        left.set(left.get() + u32::from(!take));
        take
    };
    let (blob, _) = registry::pull(&store, &args.image, &args.way.options(), say, &wanted, check)?;
    if left.get() > 0 {
        say(&format!(
            "{} snapshots or logs that belong to it stay in the registry; --all fetches them",
            left.get()
        ));
    }
    if args.unpack {
        unpack::root(&store, &Image::open(&store, &blob)?)?;
        for one in artifact::of(&store, &blob.digest)?
            .iter()
            .filter(|a| super::warm::is_for_us(a))
        {
            super::warm::ready(&store, one)?;
        }
    }
    println!("{}", blob.digest);
    Ok(())
}

fn save(args: &SaveArgs) -> Result<(), String> {
    let (store, name, image) = open(&args.image)?;
    let path = std::path::absolute(&args.output).map_err(|e| format!("{}: {e}", args.output.display()))?;
    let mut file = crate::store::file::Unpublished::create(&path)?;
    let out = std::io::BufWriter::with_capacity(1 << 18, Sink(&mut file));
    archive::save(&store, &image, name.as_deref(), out)?;
    file.publish()
}

/// A file that appears when it is whole.
struct Sink<'a>(&'a mut crate::store::file::Unpublished);

impl Write for Sink<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(buf).map_err(std::io::Error::other)?;
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn load(args: &LoadArgs) -> Result<(), String> {
    let store = Store::open()?;
    for (name, blob) in archive::load(&store, &args.input, args.tag.as_ref())? {
        println!("{} {}", blob.digest, name.name());
    }
    Ok(())
}

fn ls(args: &LsArgs) -> Result<(), String> {
    let store = Store::open()?;
    let all = store.list()?;
    let counted = |d| -> Result<(usize, usize), String> {
        let attached = artifact::of(&store, &d)?;
        let signatures = attached.iter().filter(|a| a.kind == sign::ARTIFACT).count();
        Ok((signatures, attached.iter().filter(|a| a.is_warm()).count()))
    };
    let mut rows = Vec::new();
    for e in all.iter().filter(|e| e.subject.is_none()) {
        let bytes = Image::open(&store, &e.blob).map(|i| i.layers.iter().map(|(b, ..)| b.size).sum::<u64>());
        rows.push((
            e.name.clone().unwrap_or_default(),
            e.blob.digest,
            bytes,
            counted(e.blob.digest)?,
        ));
    }
    let (blobs, roots) = store.disk_use();
    if args.json {
        let images: Vec<Value> = rows
            .iter()
            .map(|(name, digest, bytes, (signatures, warm))| {
                json!({"name": name, "digest": digest.to_string(), "bytes": bytes.as_ref().ok(),
                    "signatures": signatures, "warm": warm, "error": bytes.as_ref().err()})
            })
            .collect();
        println!(
            "{}",
            json!({"version": SCHEMA, "images": images, "disk": {"blobs": blobs, "roots": roots}})
        );
        return Ok(());
    }
    for (name, digest, bytes, (signatures, warm)) in &rows {
        let size = match bytes {
            Ok(b) => format!("{} KiB", b.div_ceil(1024)),
            Err(_) => "damaged".to_string(),
        };
        let signed = if *signatures > 0 { "  signed" } else { "" };
        let warm = if *warm > 0 { "  warm" } else { "" };
        let name = if name.is_empty() { "(no name)" } else { name };
        println!("{}  {size:>12}  {name}{signed}{warm}", &digest.hex()[..12]);
    }
    if !rows.is_empty() {
        say(&format!(
            "on disk: {} KiB packed, {} KiB unpacked, shared layers once",
            blobs.div_ceil(1024),
            roots.div_ceil(1024)
        ));
    }
    Ok(())
}

fn inspect(args: &InspectArgs) -> Result<(), String> {
    let (store, name, image) = open(&args.image)?;
    let digest = image.manifest_blob.digest;
    let text = |e: serde_json::Error| e.to_string();
    let told = json!({
        "version": SCHEMA,
        "name": name,
        "digest": digest.to_string(),
        "manifest": serde_json::to_value(&image.manifest).map_err(text)?,
        "config": serde_json::to_value(&image.config).map_err(text)?,
        "ftvm": image.app.as_ref().map(serde_json::to_value).transpose().map_err(text)?,
        "chain": image.chain().to_string(),
        "unpacked": store.root_path(&image.chain()).is_dir(),
        "signatures": sign::of(&store, &digest)?.iter().map(|a| a.blob.digest.to_string()).collect::<Vec<_>>(),
        "attached": artifact::below(&store, &digest)?.iter().map(|a| {
            json!({"digest": a.blob.digest.to_string(), "type": a.kind, "subject": a.subject.to_string(),
                "bytes": a.layer.size, "annotations": a.notes})
        }).collect::<Vec<_>>(),
    });
    let pretty = serde_json::to_string_pretty(&told).map_err(text)?;
    println!("{pretty}");
    Ok(())
}

fn rm(args: &RmArgs) -> Result<(), String> {
    let store = Store::open()?;
    let (mut wrong, mut gone) = (Vec::new(), Vec::new());
    for text in &args.images {
        match store.untag(text) {
            Ok(blob) => {
                println!("{}", blob.digest);
                gone.push(blob.digest);
            }
            Err(why) => wrong.push(why),
        }
    }
    let (_, used) = store.collect(super::from_image::of_runs)?;
    for digest in used.iter().filter(|d| gone.contains(d)) {
        say(&format!(
            "{digest}: a run needs it: it stays, without a name, until the first ftvm image rm after the run's end (of a named run: after its ftvm rm)"
        ));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    }
}

fn sign_image(args: &SignArgs) -> Result<(), String> {
    let (store, _, image) = open(&args.image)?;
    let blob = &image.manifest_blob;
    let words = |key: &Path| match &args.passphrase_file {
        Some(file) => {
            let secret = crate::store::open::passphrase(file)?;
            String::from_utf8(secret).map_err(|_| format!("{}: no text", file.display()))
        }
        None => Err(format!(
            "{} has a passphrase; name its file with --passphrase-file",
            key.display()
        )),
    };
    let made = match (&args.key, &args.signature) {
        (Some(key), _) => {
            super::warm::each_warm(&store, &image, |snapshot| {
                sign::sign(&store, snapshot, key, || words(key)).map(drop)
            })?;
            sign::sign(&store, blob, key, || words(key))?
        }
        (None, Some(file)) => {
            let text =
                std::fs::read(file).map_err(|e| format!("{}: {}", file.display(), super::reason(&e)))?;
            sign::attach(&store, blob, &text)?
        }
        (None, None) => return Err("name a key or a signature".to_string()),
    };
    println!("{}", made.digest);
    Ok(())
}

fn verify(args: &VerifyArgs) -> Result<(), String> {
    let (store, _, image) = open(&args.image)?;
    let comment = sign::verify(&store, &image.manifest_blob.digest, &args.key)?;
    println!("{}", image.manifest_blob.digest);
    say(&format!("signed by the key in {}: {comment}", args.key.display()));
    Ok(())
}

fn keygen(args: &KeysArgs) -> Result<(), String> {
    let (secret, public) = sign::new_keys()?;
    let mut name = args.output.clone().into_os_string();
    name.push(".pub");
    let write = |path: &Path, mode, text: &str| {
        let open = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path);
        open.and_then(|mut f| f.write_all(text.as_bytes()))
            .map_err(|e| format!("{}: {}", path.display(), super::reason(&e)))
    };
    write(&args.output, 0o600, &secret)?;
    write(Path::new(&name), 0o644, &public)?;
    println!("{}", Path::new(&name).display());
    Ok(())
}
