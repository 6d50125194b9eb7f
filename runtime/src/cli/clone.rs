//! `ftvm clone`: several images from one snapshot.

use super::{options, say, state};
use crate::run::EXIT_FAILED;
use crate::snap::carry;
use crate::snap::clone::{Template, bound};
use crate::snap::file::{FromFiles, STATE};
use crate::snap::restore::EXIT_MISSING;
use crate::snap::state::HostState;
use crate::store::open::Opener;
use ftl_core::snap::hex;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Options of `clone`.
#[derive(clap::Args)]
pub struct CloneArgs {
    /// How many
    #[arg(short, value_name = "N", default_value_t = 1)]
    n: u16,
    /// They are named PREFIX-1, PREFIX-2 and so on [default: clone]
    #[arg(long, value_name = "PREFIX", default_value = "clone", value_parser = options::run_name)]
    name: String,
    /// In the background; output goes to `ftvm logs NAME`. Needed for more than one
    #[arg(short, long)]
    detach: bool,
    /// Host ports for a port of the image: NEW for the first clone, NEW+1 for the second and so on [default: its
    /// own if that is free, else any; all are printed]
    #[arg(short, long = "port", value_name = "OLD:NEW+", value_parser = mapping)]
    ports: Vec<(u16, u16)>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: super::snapshot::Source,
}

fn number(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text} is no port: write a number from 1 to 65535")),
        Ok(n) => Ok(n),
    }
}

fn mapping(text: &str) -> Result<(u16, u16), String> {
    let (old, new) = text
        .split_once(':')
        .ok_or_else(|| format!("{text}: write OLD:NEW or OLD:NEW+"))?;
    Ok((number(old)?, number(new.strip_suffix('+').unwrap_or(new))?))
}

/// `OLD=NEW`, as one ftvm tells another.
pub fn ports(text: &str) -> Result<(u16, u16), String> {
    let (old, new) = text.split_once('=').ok_or("write OLD=NEW")?;
    Ok((number(old)?, number(new)?))
}

/// `clone`. Returns 0, 1, 3 if the snapshot cannot be used here, or the exit code of the one clone.
pub fn clone(args: &CloneArgs) -> i32 {
    match all(args) {
        Ok(code) => code,
        Err((code, why)) => {
            say(&why);
            code
        }
    }
}

fn all(args: &CloneArgs) -> Result<i32, (i32, String)> {
    if args.n != 1 && !args.detach {
        let why = "-n: more than one clone runs in the background only: add -d".to_string();
        return Err((EXIT_FAILED, why));
    }
    let missing = |why| (EXIT_MISSING, why);
    let failed = |why| (1, why);
    let file = &args.source.snapshot;
    let mut opener = args.source.opener().map_err(failed)?;
    carry::hand_over(&mut opener, file)?;
    // One reads the snapshot itself; several share what is read once.
    let (state, template) = match args.n {
        1 => (state_of(&mut opener, file).map_err(missing)?, None),
        _ => {
            let mut source = FromFiles {
                opener,
                name: file.clone(),
                lazy: None,
            };
            let template = Template::load(&mut source).map_err(missing)?;
            (template.state(), Some(template))
        }
    };
    let damaged = || missing(format!("snapshot {}: its state is damaged", file.display()));
    let state = state.ok_or_else(damaged)?;
    if !state.interface.is_empty() {
        let why = format!(
            "snapshot {}: the image has an address of its own, which two cannot have at once; restore it instead",
            file.display()
        );
        return Err((super::run::EXIT_UNSUPPORTED, why));
    }
    let wanted = bound(&state);
    if let Some((old, _)) = args.ports.iter().find(|(old, _)| !wanted.contains_key(old)) {
        return Err((1, format!("-p {old}: the image has no socket on that port")));
    }
    let about = template
        .as_ref()
        .map(|t| Ok((t.describe()?, hex(t.root()))))
        .transpose()
        .map_err(failed)?;
    let (mut told, mut started) = (Vec::new(), Vec::new());
    // Of the clones before: they may not have bound them yet.
    let mut given = BTreeSet::new();
    for k in 0..args.n {
        let map = choose(&wanted, &args.ports, k, &given).map_err(failed)?;
        given.extend(map.iter().map(|(_, new)| *new));
        let name = format!("{}-{}", args.name, k + 1);
        let shown: BTreeMap<String, u16> = map
            .iter()
            .map(|(old, new)| (wanted.get(old).cloned().unwrap_or_default(), *new))
            .collect();
        if !args.json {
            for (addr, new) in &shown {
                say(&format!("{name}: {addr} is port {new} of the host"));
            }
        }
        let about = about
            .as_ref()
            .map(|(file, root)| (file.as_raw_fd(), root.as_str()));
        let mut command = restore(args, &name, about, &map);
        let bad = |e: std::io::Error| failed(format!("{name}: {}", options::reason(&e)));
        if !args.detach {
            return Err(bad(command.exec()));
        }
        started.push(command.spawn().map_err(bad)?);
        told.push(json!({"name": name, "ports": shown}));
    }
    // In the background each says when its image goes on, or why it does not.
    let mut code = 0;
    for mut child in started {
        let status = child.wait().map_err(|e| failed(options::reason(&e)))?;
        code = code.max(status.code().unwrap_or(1));
    }
    if code == 0 && args.json {
        println!("{}", json!({"version": state::SCHEMA, "clones": told}));
    }
    Ok(code)
}

/// The host's side of a snapshot, without its pages; none if that is damaged.
fn state_of(opener: &mut Opener, file: &Path) -> Result<Option<HostState>, String> {
    let path = opener.resolve(file)?;
    let snapshot = opener.one(&path)?;
    Ok(snapshot.manifest().extra(STATE).and_then(HostState::decode))
}

/// The ports of clone number `k`; none of those in `given`, which somebody has already.
pub fn choose(
    wanted: &BTreeMap<u16, String>,
    fixed: &[(u16, u16)],
    k: u16,
    given: &BTreeSet<u16>,
) -> Result<Vec<(u16, u16)>, String> {
    let mut out = Vec::new();
    // Held until all are chosen, so that no port is chosen twice.
    let mut held = Vec::new();
    let mut free = |port: u16| {
        if given.contains(&port) {
            return Err(std::io::ErrorKind::AddrInUse.into());
        }
        let l = std::net::TcpListener::bind(("0.0.0.0", port))?;
        let port = l.local_addr()?.port();
        held.push(l);
        Ok(port)
    };
    for old in wanted.keys() {
        let new = match fixed.iter().find(|(o, _)| o == old) {
            Some((_, first)) => first
                .checked_add(k)
                .ok_or_else(|| format!("-p {old}:{first}+: beyond 65535 for clone {}", k + 1))?,
            None => {
                let mut found = free(*old);
                // The host may name one that is given and not bound yet; it is held, so the next is another.
                for _ in 0..=given.len() {
                    if found.is_err() || found.as_ref().is_ok_and(|p| given.contains(p)) {
                        found = free(0);
                    }
                }
                found.map_err(|e| format!("a port for {old}: {}", options::reason(&e)))?
            }
        };
        out.push((*old, new));
    }
    Ok(out)
}

/// What starts a clone: from a template, whose description has this descriptor and whose snapshot this identity, or from the snapshot.
fn restore(args: &CloneArgs, name: &str, about: Option<(i32, &str)>, map: &[(u16, u16)]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["restore", "--as-clone", "--name", name]);
    if let Some((fd, root)) = about {
        command.args(["--template", &fd.to_string(), "--of", root]);
    }
    if args.detach {
        command.arg("-d");
        command.stdout(std::process::Stdio::null());
    }
    if !map.is_empty() {
        let list: Vec<String> = map.iter().map(|(o, n)| format!("{o}={n}")).collect();
        command.arg("--ports").arg(list.join(","));
    }
    command.args(args.source.words());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_count_up_from_clone_to_clone() {
        assert_eq!(mapping("6379:7000+"), Ok((6379, 7000)));
        assert_eq!(mapping("80:8080"), Ok((80, 8080)));
        assert!(mapping("80").is_err() && mapping("0:1").is_err() && mapping("1:x").is_err());
        let wanted = BTreeMap::from([(6379, String::new())]);
        let none = BTreeSet::new();
        assert_eq!(choose(&wanted, &[(6379, 7000)], 3, &none), Ok(vec![(6379, 7003)]));
        assert!(choose(&wanted, &[(6379, 65535)], 1, &none).is_err());
        // A port that was given is free on the host until its clone has bound it.
        let mut given = BTreeSet::new();
        for k in 0..40 {
            let map = choose(&wanted, &[], k, &given).unwrap();
            assert!(given.insert(map[0].1), "{map:?}");
        }
    }
}
