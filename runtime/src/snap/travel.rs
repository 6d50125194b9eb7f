//! What of an image cannot travel, or only under conditions: for `checkpoint --dry-run`, and before every
//! snapshot for what is refused.

use super::capture::{self, MOST_NAMELESS};
use super::show_addr;
use super::state::HostState;
use crate::alloc::{self, Side};
use crate::control::{HOW_KEEP, HOW_SHARE, HOW_VOLUMES};
use crate::platform::moved::below;
use crate::platform::net::Kind;
use crate::run::{self, Machine};
use ftl_abi::kernel::Kernel;
use ftl_core::platform::Handle;
use ftl_core::wait::SpaceId;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What becomes of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// No snapshot is taken.
    Refused,
    /// The image finds it gone.
    Lost,
    /// It must be there, as it was, where the image is restored.
    Needed,
    /// What the restoring command has takes its place.
    Replaced,
    /// It is in the snapshot, and is told because it is large.
    Held,
}

/// Something, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Note {
    /// See [`Fate`].
    pub fate: Fate,
    /// What it is: `file`, `connection` and so on.
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// Why, and what can be done.
    pub why: String,
}

impl Note {
    /// As a report has it.
    pub fn json(&self) -> Value {
        let fate = match self.fate {
            Fate::Refused => "refused",
            Fate::Lost => "lost",
            Fate::Needed => "needed",
            Fate::Replaced => "replaced",
            Fate::Held => "held",
        };
        json!({"fate": fate, "kind": self.kind, "name": self.name, "why": self.why})
    }
}

/// Why `files` rows do not travel, beside what [`capture::host_state`] could not take.
pub fn notes(state: &HostState, kernel: &Kernel, unable: Vec<Note>, how: u32) -> Vec<Note> {
    let mut out = unable;
    let add = |out: &mut Vec<Note>, fate, kind, name: String, why: &str| {
        let why = why.to_string();
        out.push(Note {
            fate,
            kind,
            name,
            why,
        });
    };
    let volumes = run::writable_dirs(&kernel.config, &state.moved);
    let all = match how & HOW_VOLUMES {
        0 => Vec::new(),
        _ => super::volumes::list(&kernel.config, &state.moved),
    };
    for row in &state.files {
        let name = String::from_utf8_lossy(&row.path).into_owned();
        let writes = row.flags & libc::O_ACCMODE != libc::O_RDONLY && row.flags & libc::O_PATH == 0;
        let theirs = how & HOW_VOLUMES != 0 && writes && row.regular;
        if row.bytes.is_some() || theirs || all.iter().any(|v| below(&row.path, &v.now).is_some()) {
            continue;
        }
        if writes && row.regular && how & HOW_SHARE == 0 {
            out.push(open_for_writing(name));
        } else if writes && row.regular {
            add(
                &mut out,
                Fate::Needed,
                "volume",
                name,
                "goes on with what it holds at the restore",
            );
        } else if row.hash.is_some() {
            add(&mut out, Fate::Needed, "mapped file", name, "with these contents");
        } else if volumes.iter().any(|v| row.path.starts_with(v)) {
            add(
                &mut out,
                Fate::Needed,
                "volume",
                name,
                "goes on with what it holds at the restore",
            );
        } else {
            add(&mut out, Fate::Needed, "file", name, "open");
        }
    }
    for row in &state.sockets {
        let name = show_addr(&row.local);
        match row.kind {
            k if [Kind::Stream as u8, Kind::Connecting as u8, Kind::Packets as u8].contains(&k) => {
                let name = format!("{name} to {}", show_addr(&row.remote));
                if how & HOW_KEEP != 0 {
                    let why = "connections of host sockets die with their host process; run the image with an address of \
                               its own (--net IF,ip=...), or let them be cut with --tcp close";
                    add(&mut out, Fate::Refused, "connection", name, why);
                } else {
                    add(
                        &mut out,
                        Fate::Lost,
                        "connection",
                        name,
                        "both sides see it reset",
                    );
                }
            }
            _ if row.domain.0 == libc::AF_UNIX => {
                let path = crate::platform::net::unix::path_of(&row.local);
                if !path.is_empty() {
                    add(
                        &mut out,
                        Fate::Needed,
                        "UNIX socket",
                        String::from_utf8_lossy(path).into_owned(),
                        "its directory must be there, and nobody else's socket at the path",
                    );
                }
            }
            k if k == Kind::Listener as u8 => {
                add(&mut out, Fate::Needed, "listener", name, "the port must be free")
            }
            k if k == Kind::Datagram as u8 && row.local.len() > 4 && row.local[2..4] != [0, 0] => {
                add(
                    &mut out,
                    Fate::Needed,
                    "datagram socket",
                    name,
                    "the port must be free",
                );
            }
            _ => {}
        }
    }
    for row in &state.streams {
        if ftl_core::door::is_exec_handle(Handle(row.handle)) {
            const INPUT: u64 = 0;
            if row.handle & 3 == INPUT {
                let name = format!("ftvm exec number {}", (row.handle & 0xffff_ffff) >> 2);
                add(&mut out, Fate::Lost, "streams", name, "as if its caller had gone");
            }
            continue;
        }
        let name = match row.handle {
            0 => "standard input".to_string(),
            1 => "standard output".to_string(),
            2 => "standard error".to_string(),
            h => format!("inherited descriptor {}", h & 0xffff_ffff),
        };
        add(
            &mut out,
            Fate::Replaced,
            "stream",
            name,
            "by that of the restoring command",
        );
    }
    if !state.interface.is_empty() {
        let name = String::from_utf8_lossy(&state.interface).into_owned();
        add(
            &mut out,
            Fate::Needed,
            "interface",
            name,
            "the image's own network is on it",
        );
    }
    out
}

/// The first thing that forbids a snapshot.
pub fn refusal(notes: &[Note]) -> Option<String> {
    let all: Vec<&Note> = notes.iter().filter(|n| n.fate == Fate::Refused).collect();
    let first = all.first()?;
    let more = match all.len() {
        1 => String::new(),
        n => format!(" ({} more: ftvm checkpoint --dry-run)", n - 1),
    };
    Some(format!("{} {}: {}{more}", first.kind, first.name, first.why))
}

/// A file of a volume that is not held.
pub fn open_for_writing(name: String) -> Note {
    Note {
        fate: Fate::Refused,
        kind: "volume",
        name,
        why: "open for writing on a directory that is written through: its contents are not in the snapshot; close it, have them in \
              the snapshot with --volumes snapshot, or let a restore take it as it is then with --volumes share"
            .to_string(),
    }
}

/// A deleted file that is too large.
pub fn too_large(name: &str) -> Note {
    Note {
        fate: Fate::Refused,
        kind: "file",
        name: name.to_string(),
        why: format!(
            "deleted, and larger than {} MiB; close it first",
            MOST_NAMELESS >> 20
        ),
    }
}

/// Something that has no name where a restore could look for it.
pub fn nameless(kind: &'static str, name: &str) -> Note {
    Note {
        fate: Fate::Refused,
        kind,
        name: name.to_string(),
        why: "deleted; close it first".to_string(),
    }
}

fn survey(m: &mut Machine, how: u32) -> Result<(HostState, Vec<Note>), String> {
    let mut files = std::mem::take(&mut m.files);
    let state = capture::survey(m, &mut files, &mut || {});
    m.files = files;
    let (state, unable) = state?;
    let notes = notes(&state, m.kernel, unable, how);
    Ok((state, notes))
}

/// An error if no snapshot may be taken.
pub fn check(m: &mut Machine, how: u32) -> Result<(), String> {
    match refusal(&survey(m, how)?.1) {
        Some(why) => Err(why),
        None => Ok(()),
    }
}

/// Everything but pages, by the process of `here`; an error if no snapshot may be taken.
pub fn checked(m: &mut Machine, here: SpaceId, how: u32) -> Result<HostState, String> {
    let mut files = std::mem::take(&mut m.files);
    let state = capture::survey(m, &mut files, &mut || {});
    m.files = files;
    let (mut state, unable) = state?;
    state.here = here.0;
    match refusal(&notes(&state, m.kernel, unable, how)) {
        Some(why) => Err(why),
        None => Ok(state),
    }
}

/// Writes what does not simply travel to a file, as JSON.
pub fn report(m: &mut Machine, path: &Path) -> Result<(), String> {
    let _side = alloc::enter(Side::Host);
    let how = crate::snap::how();
    let (mut state, notes) = survey(m, how)?;
    let mut report = json!({
        "notes": notes.iter().map(Note::json).collect::<Vec<_>>(),
        "possible": refusal(&notes).is_none(),
        "processes": state.spaces.len(),
    });
    if how & HOW_VOLUMES != 0 {
        // For whoever decides about volumes: what is open, and where.
        state.spaces.clear();
        for row in &mut state.files {
            row.bytes = row.bytes.as_ref().map(|_| Vec::new());
        }
        report["host"] = json!(crate::store::open::digits(&state.encode()));
    }
    std::fs::write(path, report.to_string()).map_err(|e| format!("report {}: {e}", path.display()))
}

/// True if the path is one of a file that exists no more.
pub fn is_deleted(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b" (deleted)") || !path.is_absolute()
}
