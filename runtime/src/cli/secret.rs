//! `ftvm secret`, and `run --secret`: what a program must know and nobody else: passwords, keys.
//!
//! A secret is a file of this user's, `$XDG_DATA_HOME/ftvm/secrets/NAME` (else `~/.local/share/...`), directory 0700, file 0600; like
//! podman's it is not encrypted there. A run gets it as a file below /run/secrets, in a file system of the image's memory, or
//! as a variable. It is in no image, no argument, no file of the run's state. An image that was given one says so for its
//! life ([`ftl_abi::config::Config::secret`]): snapshots of it are encrypted or refused, as are links; it is not recorded.

use super::{reason, say, state};
use ftl_abi::config::Secret;
use ftl_images::config as own;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most bytes of one, as podman has it.
const MOST: u64 = 512_000;
/// Longest name.
const LONGEST: usize = 253;

/// Verbs of `secret`.
#[derive(clap::Subcommand)]
pub enum SecretVerb {
    /// Keep a secret for runs that ask for it
    Create(CreateArgs),
    /// List secrets: names only
    Ls(LsArgs),
    /// Remove secrets; runs that have them keep them
    Rm(RmArgs),
}

/// Options of `secret create`.
#[derive(clap::Args)]
pub struct CreateArgs {
    /// In place of one of that name
    #[arg(long)]
    replace: bool,
    /// Its name
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// File that holds it; - is standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
}

/// Options of `secret ls`.
#[derive(clap::Args)]
pub struct LsArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `secret rm`.
#[derive(clap::Args)]
pub struct RmArgs {
    /// The secrets
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// `secret`. Returns 0 or 1.
pub fn main(verb: &SecretVerb) -> i32 {
    let done = match verb {
        SecretVerb::Create(args) => create(args),
        SecretVerb::Ls(args) => list(args),
        SecretVerb::Rm(args) => remove(args),
    };
    match done {
        Ok(()) => 0,
        Err(why) => {
            say(&why);
            1
        }
    }
}

/// A secret's name: a name of a file, of letters that no shell takes for its own.
pub fn name(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    match first && text.len() <= LONGEST && text.bytes().all(good) {
        true => Ok(text.to_string()),
        false => Err(format!(
            "{text:?} is no name of a secret: letters, digits, _, . and -, a letter or digit first"
        )),
    }
}

/// How a run gets a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Its name in this user's store.
    name: String,
    /// What was said of it; the image's own word holds for the rest.
    how: How,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct How {
    env: Option<bool>,
    target: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
}

/// Reads `NAME[,type=mount|env][,target=NAME][,uid=N][,gid=N][,mode=OCTAL]`, as podman's option.
pub fn parse(text: &str) -> Result<Wanted, String> {
    let mut parts = text.split(',');
    let mut how = How::default();
    let first = parts.next().unwrap_or_default();
    let name = name(first.strip_prefix("source=").unwrap_or(first))?;
    for part in parts {
        let wrong = || format!("{part:?}: write type=mount|env, target=NAME, uid=N, gid=N or mode=OCTAL");
        let (key, value) = part.split_once('=').ok_or_else(wrong)?;
        match (key, value) {
            ("type", "mount") => how.env = Some(false),
            ("type", "env") => how.env = Some(true),
            ("target", t) => how.target = Some(t.to_string()),
            ("uid", n) => how.uid = Some(n.parse().map_err(|_| wrong())?),
            ("gid", n) => how.gid = Some(n.parse().map_err(|_| wrong())?),
            ("mode", n) => how.mode = Some(mode(n).ok_or_else(wrong)?),
            _ => return Err(wrong()),
        }
    }
    Ok(Wanted { name, how })
}

fn mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o777)
}

/// What of a secret the image says, where the command line says nothing. An image gets no secret that was not named for it:
/// its author would read every one whose name can be guessed.
pub fn fill(wanted: &mut [Wanted], all: &[own::Secret]) -> Result<(), String> {
    for s in all {
        let Some(w) = wanted.iter_mut().find(|w| w.name == s.name) else {
            return Err(format!(
                "it needs the secret {0}: --secret {0} gives it (ftvm secret create {0} FILE keeps it)",
                s.name
            ));
        };
        let h = &mut w.how;
        if h.env.is_none() && h.target.is_none() {
            h.env = Some(s.env.is_some());
            h.target = s.env.clone().or_else(|| s.target.clone());
        }
        h.uid = h.uid.or(s.uid);
        h.gid = h.gid.or(s.gid);
        h.mode = h.mode.or(s.mode.as_deref().and_then(mode));
    }
    Ok(())
}

/// Variables and files of a run.
pub type Given = (Vec<Vec<u8>>, Vec<Secret>);

/// Reads what is wanted.
pub fn read(wanted: &[Wanted]) -> Result<Given, String> {
    let mut vars = Vec::new();
    let mut files: Vec<Secret> = Vec::new();
    for w in wanted {
        let bad = |why: String| format!("--secret {}: {why}", w.name);
        let bytes = load(&w.name).map_err(bad)?;
        let target = w.how.target.as_deref().unwrap_or(&w.name);
        if w.how.env == Some(true) {
            if target.is_empty() || target.contains(['=', '\0']) {
                return Err(bad(format!("target {target:?} is not the name of a variable")));
            }
            if bytes.contains(&0) {
                return Err(bad("a variable cannot hold a NUL; give it as a file".to_string()));
            }
            vars.push([target.as_bytes(), b"=", &bytes].concat());
            continue;
        }
        let below = "/run/secrets/";
        let file = target.strip_prefix(below).unwrap_or(target);
        let file = name(file).map_err(|_| {
            bad(format!(
                "target {target:?}: secrets are files directly below {below}"
            ))
        })?;
        if files.iter().any(|f| f.name == file.as_bytes()) {
            return Err(bad(format!("target {target:?}: another secret is there")));
        }
        files.push(Secret {
            name: file.into_bytes(),
            owner: (w.how.uid.unwrap_or(0), w.how.gid.unwrap_or(0)),
            mode: w.how.mode.unwrap_or(0o444),
            bytes,
        });
    }
    Ok((vars, files))
}

/// The store of this user; made if missing, refused if others could look into it.
fn dir() -> Result<PathBuf, String> {
    let var = |name| std::env::var_os(name).filter(|d| !d.is_empty());
    let data = match (var("XDG_DATA_HOME"), var("HOME")) {
        (Some(d), _) => PathBuf::from(d),
        (None, Some(home)) => PathBuf::from(home).join(".local/share"),
        (None, None) => return Err("secrets: neither XDG_DATA_HOME nor HOME is set; set one".into()),
    };
    let dir = data.join("ftvm/secrets");
    let bad = |e: std::io::Error| format!("secrets {}: {}", dir.display(), reason(&e));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(bad)?;
    let meta = std::fs::symlink_metadata(&dir).map_err(bad)?;
    // SAFETY: a plain query.
    let uid = unsafe { libc::getuid() };
    match meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0 {
        true => Ok(dir),
        false => Err(format!(
            "secrets {}: not a directory that only you can enter; chmod 700 it, or set XDG_DATA_HOME",
            dir.display()
        )),
    }
}

/// This user has one of that name.
pub fn is_here(text: &str) -> bool {
    let path = name(text).and_then(|name| Ok(dir()?.join(name)));
    path.is_ok_and(|p| p.is_file())
}

fn load(name: &str) -> Result<Vec<u8>, String> {
    let path = dir()?.join(name);
    match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("it is not on this host: ftvm secret create {name} FILE"))
        }
        r => r.map_err(|e| format!("{}: {}", path.display(), reason(&e))),
    }
}

fn create(args: &CreateArgs) -> Result<(), String> {
    let shown = args.file.display();
    let bad = |e: std::io::Error| format!("{shown}: {}", reason(&e));
    let source: Box<dyn Read> = match args.file == Path::new("-") {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(&args.file).map_err(bad)?),
    };
    let mut bytes = Vec::new();
    source.take(MOST + 1).read_to_end(&mut bytes).map_err(bad)?;
    if bytes.is_empty() || bytes.len() as u64 > MOST {
        return Err(format!("{shown}: a secret has 1 to {MOST} bytes"));
    }
    let dir = dir()?;
    let path = dir.join(&args.name);
    // No secret has such a name.
    let new = dir.join(format!(".{}-{}", args.name, std::process::id()));
    let _ = std::fs::remove_file(&new);
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        match args.replace {
            true => std::fs::rename(&new, &path),
            // Fails where one of that name is.
            false => std::fs::hard_link(&new, &path),
        }
    };
    let done = write();
    let _ = std::fs::remove_file(&new);
    match done {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(format!(
            "the secret {} is there already; --replace takes its place",
            args.name
        )),
        r => r.map_err(|e| format!("{}: {}", path.display(), reason(&e))),
    }
}

fn list(args: &LsArgs) -> Result<(), String> {
    let dir = dir()?;
    let bad = |e: std::io::Error| format!("secrets {}: {}", dir.display(), reason(&e));
    let mut names = Vec::new();
    for item in std::fs::read_dir(&dir).map_err(bad)? {
        let item = item.map_err(bad)?.file_name().to_string_lossy().into_owned();
        names.extend(name(&item));
    }
    names.sort();
    match args.json {
        true => println!("{}", json!({"version": state::SCHEMA, "secrets": names})),
        false => names.iter().for_each(|n| println!("{n}")),
    }
    Ok(())
}

fn remove(args: &RmArgs) -> Result<(), String> {
    let dir = dir()?;
    for text in &args.names {
        let path = dir.join(name(text)?);
        std::fs::remove_file(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => format!("no secret is named {text}; ftvm secret ls lists them"),
            _ => format!("{}: {}", path.display(), reason(&e)),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_podman_does() {
        let w = parse("db,type=env,target=DB_PASSWORD").expect("right");
        assert_eq!((w.name.as_str(), w.how.env), ("db", Some(true)));
        assert_eq!(w.how.target.as_deref(), Some("DB_PASSWORD"));
        let w = parse("source=key,uid=7,gid=8,mode=0400").expect("right");
        assert_eq!(
            (w.how.uid, w.how.gid, w.how.mode),
            (Some(7), Some(8), Some(0o400))
        );
        for bad in [
            "",
            "../x",
            ".x",
            "a/b",
            "a,x=1",
            "a,type=file",
            "a,mode=999",
            "a,mode=7777",
            "a,uid=x",
            "a,target",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_image_says_where_a_secret_is_and_the_command_line_wins() {
        let of_image = own::Secret {
            name: "db".to_string(),
            env: Some("DB".to_string()),
            ..own::Secret::default()
        };
        let why = fill(&mut [], std::slice::from_ref(&of_image)).expect_err("not given");
        assert!(why.contains("--secret db"), "{why}");
        let mut w = [parse("db").expect("right")];
        fill(&mut w, std::slice::from_ref(&of_image)).expect("given");
        assert_eq!(
            (w[0].how.env, w[0].how.target.as_deref()),
            (Some(true), Some("DB"))
        );
        let mut w = [parse("db,target=file").expect("right")];
        fill(&mut w, &[of_image]).expect("given");
        assert_eq!((w[0].how.env, w[0].how.target.as_deref()), (None, Some("file")));
    }
}
