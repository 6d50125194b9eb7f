//! Placement: which node runs an app, and which keeps its backup. A pure function of what etcd says.
//!
//! Every node computes it from the same keys and writes what differs by compare-and-swap, so no node is special.
//! It says what is *wanted*. What *is* comes from the register of each image ([`Fact`]), which alone decides who may
//! emit: a wrong placement costs protection or time, never an answer.
//!
//! # Rules, apps in the order of their names
//!
//! 1. What is fine stays. A backup in the register's set stays although its node's lease has expired: a node that is
//!    only slow to renew it still holds everything. If it is dead, its primary takes it out of the set.
//! 2. The primary is where the register says, unless that node is cordoned and the backup in the set could go on.
//! 3. New ones go to nodes that live, are not cordoned and have the memory: a backup never beside its primary and, as
//!    far as can be had, in another failure domain; then where the fewest apps are; then by name. An image and its
//!    backup need the same build of ftvm: while nodes are upgraded, backups go to those that have it. An app that is given
//!    secrets starts where they all are; its backup gets them with the image's memory, wherever that is.
//!
//! An app counts its memory on every node that runs it, keeps its backup, or is to do so.

use std::collections::{BTreeMap, BTreeSet};

/// A node that holds its lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What dies together: a rack, a room.
    pub domain: String,
    /// Memory for images, bytes.
    pub memory: u64,
    /// It takes new apps and keeps what it has; else it is being drained.
    pub schedulable: bool,
    /// Build of its ftvm: it starts images of that one, and a backup needs that of the image.
    pub build: String,
    /// Builds of which it keeps backups besides.
    pub older: BTreeSet<String>,
    /// Names of secrets that apps are to be given, and that it has.
    pub secrets: BTreeSet<String>,
}

/// Where an app is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// Node that runs it.
    pub primary: String,
    /// Node that keeps its backup; none: no node could.
    pub backup: Option<String>,
}

/// What the register of an app's image says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// There is none: the image was not started yet.
    Unstarted,
    /// It runs, as far as the register goes.
    Runs {
        /// The only node that may emit.
        primary: String,
        /// The other member of the set.
        backup: Option<String>,
    },
    /// It has ended by itself.
    Over,
}

/// An app.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct App {
    /// Bytes that it takes on a node.
    pub memory: u64,
    /// Its backup is to be in another failure domain, or there is to be none.
    pub strict: bool,
    /// What was wanted so far.
    pub placed: Option<Placement>,
    /// What is.
    pub fact: Fact,
    /// Build of ftvm that its image runs on; none: it does not run, or has not said yet.
    pub build: Option<String>,
    /// Nodes to which a backup could not be attached, lately.
    pub avoid: BTreeSet<String>,
    /// Names of the secrets that it is given when it starts.
    pub secrets: BTreeSet<String>,
}

impl App {
    /// Nodes that hold it, or are to.
    fn nodes(&self) -> BTreeSet<&str> {
        let mut all = BTreeSet::new();
        if self.fact == Fact::Over {
            return all;
        }
        if let Fact::Runs { primary, backup } = &self.fact {
            all.insert(primary.as_str());
            all.extend(backup.as_deref());
        }
        if let Some(p) = &self.placed {
            all.insert(p.primary.as_str());
            all.extend(p.backup.as_deref());
        }
        all
    }

    fn runs_at(&self) -> Option<&str> {
        match (&self.fact, &self.placed) {
            (Fact::Runs { primary, .. }, _) => Some(primary),
            (Fact::Unstarted, Some(p)) => Some(&p.primary),
            _ => None,
        }
    }
}

/// See the module. Returns what is to change, by app.
pub fn plan(nodes: &BTreeMap<String, Node>, apps: &BTreeMap<String, App>) -> BTreeMap<String, Placement> {
    let mut s = Scheduler {
        nodes,
        apps: apps.clone(),
    };
    let mut changes = BTreeMap::new();
    for name in apps.keys() {
        let app = &s.apps[name];
        let Some(wanted) = s.place(name, app) else {
            continue;
        };
        if app.placed.as_ref() != Some(&wanted) {
            changes.insert(name.clone(), wanted.clone());
            if let Some(app) = s.apps.get_mut(name) {
                app.placed = Some(wanted);
            }
        }
    }
    changes
}

struct Scheduler<'a> {
    nodes: &'a BTreeMap<String, Node>,
    /// With the changes so far.
    apps: BTreeMap<String, App>,
}

impl Scheduler<'_> {
    /// It lives and takes apps.
    fn usable(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|n| n.schedulable)
    }

    /// It lives and is being drained.
    fn leaving(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|n| !n.schedulable)
    }

    /// It could give the app what it needs to start.
    fn has_secrets(&self, node: &str, app: &App) -> bool {
        let node = self.nodes.get(node);
        node.is_some_and(|n| n.secrets.is_superset(&app.secrets))
    }

    fn domain(&self, node: &str) -> Option<&str> {
        self.nodes.get(node).map(|n| n.domain.as_str())
    }

    fn apps_on<'b>(&'b self, node: &'b str) -> impl Iterator<Item = (&'b String, &'b App)> {
        self.apps.iter().filter(move |(_, a)| a.nodes().contains(node))
    }

    fn has_room(&self, node: &str, name: &str, app: &App) -> bool {
        if app.nodes().contains(node) {
            return true;
        }
        let used = self
            .apps_on(node)
            .filter(|(n, _)| *n != name)
            .fold(0u64, |sum, (_, a)| sum.saturating_add(a.memory));
        used.saturating_add(app.memory) <= self.nodes[node].memory
    }

    /// What is wanted; `None`: nothing can be said, or nothing is to change.
    fn place(&self, name: &str, app: &App) -> Option<Placement> {
        match &app.fact {
            Fact::Over => None,
            Fact::Unstarted => self.start(name, app),
            Fact::Runs { primary, backup } => Some(self.keep(name, app, primary, backup.as_deref())),
        }
    }

    fn start(&self, name: &str, app: &App) -> Option<Placement> {
        // Without a backup it has not begun anywhere.
        let placed = app.placed.as_ref().filter(|p| p.backup.is_some());
        if let Some(p) = placed.filter(|p| self.usable(&p.primary) && self.has_secrets(&p.primary, app)) {
            let fits =
                |b: &String| self.usable(b) && !app.avoid.contains(b) && self.may_pair(app, &p.primary, b);
            if p.backup.as_ref().is_some_and(fits) {
                return None;
            }
            // It may have begun there.
            let backup = self.backup(name, app, &p.primary, None);
            return Some(Placement {
                primary: p.primary.clone(),
                backup,
            });
        }
        let runs_at = |node: &str| self.apps.values().filter(|a| a.runs_at() == Some(node)).count();
        let mut hosts: Vec<&String> = self
            .nodes
            .keys()
            .filter(|n| self.usable(n) && self.has_secrets(n, app) && self.has_room(n, name, app))
            .collect();
        hosts.sort_by_key(|n| (runs_at(n), self.apps_on(n).count(), (*n).clone()));
        // One that leaves no room for a backup anywhere is of no use.
        hosts.into_iter().find_map(|p| {
            self.backup(name, app, p, None).map(|b| Placement {
                primary: p.clone(),
                backup: Some(b),
            })
        })
    }

    fn keep(&self, name: &str, app: &App, primary: &str, backup: Option<&str>) -> Placement {
        let placed = app.placed.as_ref().and_then(|p| p.backup.as_deref());
        match backup {
            Some(b) if self.leaving(primary) && self.usable(b) => Placement {
                primary: b.to_string(),
                backup: self.next_backup(name, app, b, placed),
            },
            Some(b) if !self.leaving(b) => Placement {
                primary: primary.to_string(),
                backup: Some(b.to_string()),
            },
            // A backup that is being drained stays until another node can take its place.
            Some(b) => Placement {
                primary: primary.to_string(),
                backup: self
                    .next_backup(name, app, primary, placed)
                    .or_else(|| Some(b.to_string())),
            },
            None => Placement {
                primary: primary.to_string(),
                backup: self.next_backup(name, app, primary, placed),
            },
        }
    }

    /// It was primary until just now: it has probably died, whatever its lease says.
    fn suspect(app: &App, primary: &str, node: &str) -> bool {
        let gone = app.placed.as_ref().filter(|p| p.primary != primary);
        gone.is_some_and(|p| p.primary == node)
    }

    /// The one that was chosen, if it can still be had.
    fn next_backup(&self, name: &str, app: &App, primary: &str, placed: Option<&str>) -> Option<String> {
        let fits = |b: &&str| {
            self.usable(b) && *b != primary && !app.avoid.contains(*b) && self.may_pair(app, primary, b)
        };
        match placed.filter(fits) {
            Some(b) => Some(b.to_string()),
            None => self.backup(name, app, primary, placed),
        }
    }

    /// They may keep the same app.
    fn may_pair(&self, app: &App, primary: &str, backup: &str) -> bool {
        let own = self.nodes.get(primary).map(|n| n.build.as_str());
        let keeps = |build: &str| {
            let node = self.nodes.get(backup);
            node.is_some_and(|n| n.build == build || n.older.contains(build))
        };
        let same = app.build.as_deref().or(own).is_none_or(keeps);
        same && (!app.strict || self.domain(primary) != self.domain(backup))
    }

    /// The best node for a backup. One that is to be avoided is taken when there is no other, the last one last.
    fn backup(&self, name: &str, app: &App, primary: &str, last: Option<&str>) -> Option<String> {
        let near = self.domain(primary);
        self.nodes
            .keys()
            .filter(|n| self.usable(n) && n.as_str() != primary)
            .filter(|n| self.may_pair(app, primary, n) && self.has_room(n, name, app))
            .min_by_key(|n| {
                let avoided = app.avoid.contains(*n) || Scheduler::suspect(app, primary, n);
                let is_last = avoided && last == Some(n.as_str());
                let same = self.domain(n) == near;
                (is_last, avoided, same, self.apps_on(n).count(), (*n).clone())
            })
            .cloned()
    }
}

#[cfg(test)]
mod tests;
