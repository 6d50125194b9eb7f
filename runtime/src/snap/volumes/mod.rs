//! Volumes in snapshots: which there are, what becomes of each (`checkpoint --volumes`), and what stands against it.
//!
//! * [`hold`] puts their contents into a snapshot while the image stands.
//! * [`give`] makes directories from them again, before a restored image is started.
//!
//! Both run in the supervisor or in a command's own process. What is in the image's process is [`relocate`], before it begins, and
//! [`hold`] for tests that want a snapshot at one entry.

pub mod give;
pub mod hold;

use super::state::HostState;
use super::travel::{Fate, Note};
use crate::door::start;
use crate::platform::moved::{Map, Moved, below};
use crate::run::Spec;
use crate::sys::{HostErr, sys};
use ftl_abi::kernel::Config;
use ftl_core::snap::{Root, VolumePolicy, VolumeState, hex};
use serde_json::{Value, json};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What becomes of a volume.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// No snapshot while a file in it is open for writing.
    Fail,
    /// A restore takes it as it is then.
    Share,
    /// Its contents are in the snapshot.
    Snapshot,
}

/// What becomes of all volumes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Of those that are not named. To hold what is read-only it must be named.
    pub default: Policy,
    /// Path in the image, policy.
    pub named: Vec<(String, Policy)>,
}

/// A host directory in the image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Volume {
    /// Path in the image.
    pub guest: Vec<u8>,
    /// On the host, as the image was started.
    pub host: Vec<u8>,
    /// On the host, now: another one since a restore with contents.
    pub now: Vec<u8>,
    /// `:ro`
    pub read_only: bool,
}

/// An open file of the image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// Path on the host.
    pub path: Vec<u8>,
    /// A regular file, open for writing.
    pub writes: bool,
}

fn word(p: Policy) -> &'static str {
    match p {
        Policy::Fail => "fail",
        Policy::Share => "share",
        Policy::Snapshot => "snapshot",
    }
}

impl Rules {
    /// A snapshot is refused while files of volumes are open for writing.
    pub fn none() -> Rules {
        Rules {
            default: Policy::Fail,
            named: Vec::new(),
        }
    }

    /// `[GUEST=]fail|share|snapshot`, each; the last of a kind counts.
    pub fn parse(words: &[String]) -> Result<Rules, String> {
        let mut rules = Rules::none();
        for w in words {
            let (guest, policy) = match w.rsplit_once('=') {
                Some((guest, policy)) => (Some(guest), policy),
                None => (None, w.as_str()),
            };
            let policy = <Policy as clap::ValueEnum>::from_str(policy, false)
                .map_err(|_| format!("--volumes {w}: write fail, share or snapshot, or GUEST=POLICY"))?;
            match guest {
                None => rules.default = policy,
                Some(g) if g.starts_with('/') => {
                    let clean = crate::cli::clean_path(g.as_bytes());
                    rules
                        .named
                        .push((String::from_utf8_lossy(&clean).into_owned(), policy));
                }
                Some(_) => return Err(format!("--volumes {w}: the path in the image must be absolute")),
            }
        }
        Ok(rules)
    }

    /// For an order.
    pub fn json(&self) -> Value {
        let named: Vec<Value> = self.named.iter().map(|(g, p)| json!([g, word(*p)])).collect();
        json!({"default": word(self.default), "named": named})
    }

    /// From an order.
    pub fn of_json(v: &Value) -> Option<Rules> {
        let policy = |v: &Value| {
            v.as_str()
                .and_then(|p| <Policy as clap::ValueEnum>::from_str(p, false).ok())
        };
        let named = v["named"].as_array()?.iter();
        Some(Rules {
            default: policy(&v["default"])?,
            named: named
                .map(|n| Some((n[0].as_str()?.to_string(), policy(&n[1])?)))
                .collect::<Option<_>>()?,
        })
    }

    /// Something may be held by them.
    pub fn hold(&self) -> bool {
        self.default == Policy::Snapshot || self.named.iter().any(|(_, p)| *p == Policy::Snapshot)
    }

    fn named(&self, v: &Volume) -> Option<Policy> {
        let found = self.named.iter().rev().find(|(g, _)| g.as_bytes() == v.guest);
        found.map(|(_, p)| *p)
    }

    fn of(&self, v: &Volume) -> Policy {
        match self.named(v) {
            Some(p) => p,
            None if v.read_only && self.default == Policy::Snapshot => Policy::Share,
            None => self.default,
        }
    }

    /// The policy of each. One that is read-only and not named is held where its directory is in that of one that is: a copy of it
    /// is in the snapshot anyway.
    pub fn each<'a>(&self, all: &'a [Volume]) -> Result<Vec<(&'a Volume, Policy)>, String> {
        if let Some((guest, _)) = self
            .named
            .iter()
            .find(|(g, _)| !all.iter().any(|v| v.guest == g.as_bytes()))
        {
            let there: Vec<String> = all.iter().map(|v| shown(&v.guest)).collect();
            return Err(format!(
                "--volumes {guest}=...: the image has no volume there, but at: {}",
                there.join(" ")
            ));
        }
        let mut each: Vec<(&Volume, Policy)> = all.iter().map(|v| (v, self.of(v))).collect();
        if self.default == Policy::Snapshot {
            let held: Vec<&Volume> = each
                .iter()
                .filter(|(_, p)| *p == Policy::Snapshot)
                .map(|(v, _)| *v)
                .collect();
            for (v, policy) in &mut each {
                let inside = held.iter().any(|h| below(&v.now, &h.now).is_some());
                if self.named(v).is_none() && inside {
                    *policy = Policy::Snapshot;
                }
            }
        }
        Ok(each)
    }
}

/// A path for messages.
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The volumes of an image that was started so; `moved`: which are elsewhere since, and where. A directory at two places of the image
/// is there twice.
pub fn list(config: &Config, moved: &[(Vec<u8>, Vec<u8>)]) -> Vec<Volume> {
    let mounts = &config.mounts;
    let cwd = &config.cwd;
    let own = (mounts.cwd && cwd.len() > 1).then(|| (cwd.clone(), cwd.clone(), false));
    let all = own.into_iter().chain(mounts.volumes.iter().cloned());
    // An unpacked image is known by its name, and is not changed.
    let all = all.filter(|(host, ..)| host.starts_with(b"/"));
    all.map(|(host, guest, read_only)| {
        let now = moved.iter().find(|(was, _)| *was == host);
        Volume {
            guest,
            now: now.map_or_else(|| host.clone(), |(_, now)| now.clone()),
            host,
            read_only,
        }
    })
    .collect()
}

/// The same of a snapshot.
pub fn of_state(state: &HostState) -> Result<Vec<Volume>, String> {
    let (spec, _) = start::decode(&state.start, false).ok_or("the image's start is damaged")?;
    Ok(list(&spec.config, &state.moved))
}

/// Open files of a snapshot that have names.
pub fn open_files(state: &HostState) -> Vec<Open> {
    let rows = state.files.iter().filter(|r| r.bytes.is_none());
    rows.map(|r| Open {
        path: r.path.clone(),
        writes: r.regular && r.flags & libc::O_PATH == 0 && r.flags & libc::O_ACCMODE != libc::O_RDONLY,
    })
    .collect()
}

/// The innermost of some volumes that a path is in.
fn home<'a>(all: &[(&'a Volume, Policy)], path: &[u8]) -> Option<(&'a Volume, Policy)> {
    let inside = all.iter().filter(|(v, _)| below(path, &v.now).is_some());
    inside.max_by_key(|(v, _)| v.now.len()).copied()
}

/// What is to be said of volumes that are not held.
pub fn notes(all: &[(&Volume, Policy)], open: &[Open]) -> Vec<Note> {
    let mut out = Vec::new();
    for f in open.iter().filter(|f| f.writes) {
        match home(all, &f.path) {
            Some((_, Policy::Fail)) => out.push(super::travel::open_for_writing(shown(&f.path))),
            None if all.iter().any(|(_, p)| *p != Policy::Share) => out.push(Note {
                fate: Fate::Refused,
                kind: "file",
                name: shown(&f.path),
                why: "open for writing, and in no volume's directory: that was moved or replaced since the image has it".to_string(),
            }),
            _ => {}
        }
    }
    for (v, policy) in all.iter().filter(|(_, p)| *p != Policy::Snapshot) {
        // A restored image has a copy of the whole directory, and would find this volume in it.
        let around = all
            .iter()
            .find(|(h, p)| *p == Policy::Snapshot && below(&v.now, &h.now).is_some());
        if let Some((h, _)) = around {
            let (inner, outer) = (shown(&v.guest), shown(&h.guest));
            out.push(Note {
                fate: Fate::Refused,
                kind: "volume",
                name: title(v),
                why: format!(
                    "its directory is in that of {outer}, which is to be held, so that it cannot be left out: write --volumes \
                     {inner}=snapshot too, or --volumes {outer}={}",
                    word(*policy)
                ),
            });
        } else if v.now != v.host && all.iter().any(|(_, p)| *p == Policy::Snapshot) {
            // There is one map of numbers, which the next restore makes anew.
            let inner = shown(&v.guest);
            out.push(Note {
                fate: Fate::Refused,
                kind: "volume",
                name: title(v),
                why: format!(
                    "a restore gave the image this directory, and others are to be held: by the numbers of their files both have to be; \
                     write --volumes {inner}=snapshot too, or hold none"
                ),
            });
        } else {
            out.push(Note {
                fate: Fate::Needed,
                kind: "volume",
                name: title(v),
                why: "goes on with what it holds at the restore".to_string(),
            });
        }
    }
    out
}

/// A volume for messages.
pub fn title(v: &Volume) -> String {
    match v.guest == v.now {
        true => shown(&v.guest),
        false => format!("{} ({})", shown(&v.guest), shown(&v.now)),
    }
}

/// Which numbers the image knows the files by that an earlier restore has moved. Without them files would be taken for others.
fn map_of(state: &HostState) -> Result<Map, String> {
    if state.moved_map.is_empty() {
        return Ok(Map::default());
    }
    Map::decode(&state.moved_map)
        .ok_or_else(|| "volumes: the numbers of files that a restore gave the image are damaged".to_string())
}

/// For the manifest.
pub fn states(all: &[(&Volume, Policy)]) -> Vec<VolumeState> {
    let states = all.iter().map(|(v, p)| VolumeState {
        host: v.now.clone(),
        guest: v.guest.clone(),
        read_only: v.read_only,
        policy: match p {
            Policy::Fail => VolumePolicy::Fail,
            Policy::Share => VolumePolicy::Share,
            Policy::Snapshot => VolumePolicy::Snapshot,
        },
    });
    states.collect()
}

/// Adds to the image's report of a dry run (`travel::report`) what becomes of its volumes.
pub fn report(path: &Path, rules: &Rules) -> Result<(), String> {
    let bad = |e: std::io::Error| format!("report {}: {}", path.display(), crate::cli::reason(&e));
    let text = std::fs::read(path).map_err(bad)?;
    let mut report: Value = serde_json::from_slice(&text).map_err(|e| format!("the image's report: {e}"))?;
    let odd = || "the image's report is not whole".to_string();
    let (bytes, rest) = report["host"]
        .as_str()
        .map(|s| s.as_bytes().as_chunks::<2>())
        .ok_or_else(odd)?;
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let state = bytes.iter().map(|[a, b]| Some(digit(*a)? << 4 | digit(*b)?));
    let state = state.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty());
    let state = state.and_then(|s| HostState::decode(&s)).ok_or_else(odd)?;
    let all = of_state(&state)?;
    let all = rules.each(&all)?;
    let mut found = notes(&all, &open_files(&state));
    found.extend(hold::survey(&state, &all));
    let list = report["notes"].as_array_mut().ok_or_else(odd)?;
    let refused = found.iter().any(|n| n.fate == Fate::Refused);
    // Volumes first: what they hold is most of what there is to say.
    list.splice(0..0, found.iter().map(Note::json));
    if refused {
        report["possible"] = json!(false);
    }
    if let Some(r) = report.as_object_mut() {
        r.remove("host");
    }
    std::fs::write(path, report.to_string()).map_err(bad)
}

/// By this environment variable a restore tells the image's first process where the map of its volumes is.
pub const PLACE: &str = "FTVM_VOLUMES";

/// By this one it tells of which snapshot they are.
pub const OF: &str = "FTVM_VOLUMES_OF";

/// The map that this restored image was given. An error if it is of another snapshot than `root`: the file was replaced between the
/// reading of its volumes and of its pages.
pub fn given(root: Option<&Root>) -> Result<Option<PathBuf>, String> {
    let told = |name| std::env::var_os(name).filter(|_| crate::stage0::in_place());
    let Some(path) = told(PLACE) else { return Ok(None) };
    match (told(OF), root) {
        (Some(of), Some(root)) if of != hex(root).as_str() => {
            Err("snapshot: it was replaced meanwhile".to_string())
        }
        _ => Ok(Some(PathBuf::from(path))),
    }
}

/// A snapshot's paths become those of this host: volumes that it holds are where the restore has put them. Those that an earlier
/// restore had put somewhere, and that were not held, are where they were.
pub fn relocate(
    state: &mut HostState,
    spec: &mut Spec,
    given: Option<&Path>,
) -> Result<Option<Moved>, String> {
    // Of a snapshot that holds none it is not meant.
    let given = given.filter(|_| state.held);
    let map = match given {
        Some(file) => Map::load(file)?,
        None if state.held => {
            return Err("snapshot: it holds volumes, which were not unpacked".to_string());
        }
        None if state.moved_map.is_empty() => return Ok(None),
        None => map_of(state)?,
    };
    let mut dirs = Vec::new();
    for v in list(&spec.config, &state.moved) {
        let now = match given {
            Some(_) => map.leads(&v.now).unwrap_or(v.now),
            None => v.now,
        };
        if now != v.host {
            dirs.push((v.host, now));
        }
    }
    if given.is_some() {
        for row in &mut state.files {
            if let Some(path) = map.leads(&row.path) {
                row.path = path;
            }
        }
        for row in &mut state.sockets {
            for addr in [&mut row.local, &mut row.peer] {
                if let Some(path) = map.leads(crate::platform::net::unix::path_of(addr)) {
                    addr.truncate(2);
                    addr.extend_from_slice(&path);
                    addr.push(0);
                }
            }
        }
    }
    // A root that is a volume.
    let root = spec
        .config
        .mounts
        .volumes
        .iter()
        .any(|(_, guest, _)| guest == b"/");
    if root && let Some((_, now)) = dirs.iter().find(|(was, _)| *was == spec.rootfs) {
        spec.rootfs.clone_from(now);
    }
    let mut moved = Moved::new(dirs, map);
    moved.opened_at(ftl_abi::fs::HOST_ROOT, &spec.rootfs);
    for row in &state.files {
        moved.opened_at(ftl_core::platform::Handle(row.handle), &row.path);
    }
    Ok(Some(moved))
}

/// Opens a file whose permissions do not allow it any more, as those of one that was made with them did: for a moment they do. Only for files
/// that nobody but the image has.
pub fn open_forbidden(path: &CStr, flags: i32) -> Result<u64, HostErr> {
    let look = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: a C string; the descriptor is owned right after.
    let node = unsafe { OwnedFd::from_raw_fd(sys!(libc::SYS_open, path.as_ptr(), look)? as i32) };
    let link = CString::new(format!("/proc/self/fd/{}", node.as_raw_fd())).unwrap_or_default();
    let bad = |e: std::io::Error| HostErr(e.raw_os_error().unwrap_or(libc::EIO));
    let meta = std::fs::metadata(format!("/proc/self/fd/{}", node.as_raw_fd())).map_err(bad)?;
    let mode = meta.permissions().mode() & 0o7777;
    // SAFETY: C strings.
    unsafe {
        sys!(libc::SYS_chmod, link.as_ptr(), mode | 0o600)?;
        let opened = sys!(libc::SYS_open, link.as_ptr(), flags);
        sys!(libc::SYS_chmod, link.as_ptr(), mode)?;
        opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(guest: &str, now: &str, read_only: bool) -> Volume {
        Volume {
            guest: guest.into(),
            host: now.into(),
            now: now.into(),
            read_only,
        }
    }

    #[test]
    fn rules_name_volumes() {
        let words = |w: &[&str]| Rules::parse(&w.iter().map(|w| w.to_string()).collect::<Vec<_>>());
        let rules = words(&["snapshot", "/ro=snapshot", "/b/=share"]).unwrap();
        let all = [
            volume("/a", "/x/a", false),
            volume("/b", "/x/b", false),
            volume("/ro", "/usr", true),
            volume("/ro2", "/etc", true),
        ];
        let policies = |rules: &Rules, all: &[Volume]| -> Vec<Policy> {
            rules.each(all).unwrap().iter().map(|(_, p)| *p).collect()
        };
        assert_eq!(
            policies(&rules, &all),
            [Policy::Snapshot, Policy::Share, Policy::Snapshot, Policy::Share]
        );
        // In a directory that is held: with it, but if the user says otherwise.
        let nested = [volume("/a", "/x", false), volume("/ro", "/x/ro", true)];
        let of = |w: &[&str]| policies(&words(w).unwrap(), &nested);
        assert_eq!(of(&["snapshot"]), [Policy::Snapshot, Policy::Snapshot]);
        assert_eq!(of(&["snapshot", "/ro=share"]), [Policy::Snapshot, Policy::Share]);
        assert_eq!(of(&["/a=snapshot"]), [Policy::Snapshot, Policy::Fail]);
        assert_eq!(Rules::of_json(&rules.json()), Some(rules.clone()));
        assert!(rules.hold() && !words(&["share"]).unwrap().hold());
        assert_eq!(words(&[]).unwrap().default, Policy::Fail);
        assert!(words(&["keep"]).is_err() && words(&["a=share"]).is_err());
        let why = words(&["/c=share"]).unwrap().each(&all).unwrap_err();
        assert!(why.contains("no volume there, but at: /a /b /ro /ro2"), "{why}");
    }

    #[test]
    fn a_file_counts_for_the_innermost_volume() {
        let all = [volume("/a", "/x", false), volume("/b", "/x/b", false)];
        let refused = |policies: [Policy; 2], path: &str| {
            let of = [(&all[0], policies[0]), (&all[1], policies[1])];
            let open = Open {
                path: path.into(),
                writes: true,
            };
            let notes = notes(&of, &[open]);
            notes.iter().any(|n| n.fate == Fate::Refused)
        };
        let outer = [Policy::Fail, Policy::Share];
        assert!(!refused(outer, "/x/b/f") && refused(outer, "/x/f") && refused(outer, "/x/bb"));
        let inner = [Policy::Share, Policy::Fail];
        assert!(refused(inner, "/x/b/f") && !refused(inner, "/x/f"));
        // Its directory has another name by now.
        assert!(refused([Policy::Share, Policy::Snapshot], "/y/f"));
        assert!(!refused([Policy::Snapshot; 2], "/x/b/f"));
    }

    #[test]
    fn what_is_in_a_held_directory_cannot_be_left_out() {
        let all = [
            volume("/a", "/x", false),
            volume("/b", "/x/b", false),
            volume("/c", "/x", true),
        ];
        let refused = |policies: [Policy; 3]| -> Vec<String> {
            let of: Vec<_> = all.iter().zip(policies).collect();
            let found = notes(&of, &[]).into_iter().filter(|n| n.fate == Fate::Refused);
            found.map(|n| n.name + ": " + &n.why).collect()
        };
        use Policy::{Fail, Share, Snapshot};
        let said = refused([Snapshot, Share, Snapshot]);
        assert!(
            said.len() == 1
                && said[0].contains("/b (/x/b): ")
                && said[0].contains("/b=snapshot too, or --volumes /a=share"),
            "{said:?}"
        );
        // The same directory at another place of the image.
        assert_eq!(refused([Snapshot, Snapshot, Fail]).len(), 1);
        assert_eq!(refused([Snapshot; 3]), [""; 0]);
        // Around one that is held, others may be shared.
        assert_eq!(refused([Share, Snapshot, Share]), [""; 0]);
    }
}
