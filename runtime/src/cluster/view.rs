//! The cluster as one reading of etcd shows it.

use super::schedule::{self, Fact, Placement};
use super::spec::App;
use super::store::Keys;
use super::{hex, node_id, text_of, texts};
use ftl_core::replica::arbiter::Register;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A node that holds its lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Address of its agent, as other nodes reach it.
    pub agent: String,
    /// Failure domain.
    pub domain: String,
    /// Memory for images, bytes.
    pub memory: u64,
    /// When it joined, seconds since 1970.
    pub joined: u64,
    /// Build of its ftvm.
    pub build: String,
    /// Addresses of its agents of other builds, by build.
    pub older: BTreeMap<String, String>,
    /// Names of the secrets that it has, of those that apps ask for; none if it is `insecure`.
    pub secrets: BTreeSet<String>,
    /// Its links are in the clear.
    pub insecure: bool,
}

impl Node {
    /// As it is kept.
    pub fn encode(&self) -> Value {
        json!({"version": 1, "agent": self.agent, "domain": self.domain, "memory": self.memory, "joined": self.joined,
            "build": self.build, "older": self.older, "secrets": self.secrets, "insecure": self.insecure})
    }

    /// Address of its agent for images of this build.
    pub fn agent_of(&self, build: &str) -> &str {
        self.older.get(build).unwrap_or(&self.agent)
    }

    fn decode(v: &Value) -> Option<Node> {
        Some(Node {
            agent: text_of(v, "agent")?,
            domain: text_of(v, "domain")?,
            memory: v["memory"].as_u64()?,
            joined: v["joined"].as_u64()?,
            build: text_of(v, "build")?,
            // One of a version that knows none of these says nothing of them.
            older: v["older"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(b, at)| Some((b.clone(), at.as_str()?.to_string())))
                .collect(),
            secrets: texts(&v["secrets"]).unwrap_or_default().into_iter().collect(),
            insecure: v["insecure"] == true,
        })
    }
}

/// What a node has of an app.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Of which image.
    pub image: u64,
    /// `primary`, `standby`; `ended`, `failed`, `lost` of one that is not there any more; `stale` of an image that is to go.
    pub role: String,
    /// As `ftvm status` has it; of a run that ended, its exit code.
    pub state: String,
    /// Build of ftvm on which it runs, if it has said.
    pub build: Option<String>,
    /// Nodes to which it could not attach a backup.
    pub avoid: BTreeSet<String>,
}

impl Status {
    /// As it is kept.
    pub fn encode(&self) -> Value {
        json!({"version": 1, "image": format!("{:016x}", self.image), "role": self.role, "state": self.state,
            "build": self.build, "avoid": self.avoid})
    }

    fn decode(v: &Value) -> Option<Status> {
        Some(Status {
            image: hex(&text_of(v, "image")?)?,
            role: text_of(v, "role")?,
            state: text_of(v, "state")?,
            build: text_of(v, "build"),
            avoid: texts(&v["avoid"])?.into_iter().collect(),
        })
    }

    /// A process of it is there.
    pub fn live(&self) -> bool {
        !matches!(self.role.as_str(), "ended" | "failed" | "lost")
    }
}

/// An app and all that is known of it.
#[derive(Clone, Debug)]
pub struct Known {
    /// What is to run.
    pub spec: App,
    /// Revision of its key.
    pub rev: u64,
    /// Where it is to be.
    pub placed: Option<Placement>,
    /// Revision of that key, 0 if there is none. It may be of an image before this one.
    pub place_rev: u64,
    /// Who is primary.
    pub register: Option<Register>,
    /// What nodes have of it.
    pub status: BTreeMap<String, Status>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Identity of the cluster.
    pub id: Option<u64>,
    /// Revision of the store.
    pub revision: u64,
    /// Revision at which an address was given to an app last.
    pub given: u64,
    /// Nodes that hold their lease.
    pub nodes: BTreeMap<String, Node>,
    /// Nodes that are being drained.
    pub cordoned: BTreeSet<String>,
    /// Apps by name.
    pub apps: BTreeMap<String, Known>,
    /// Apps whose keys another version has written: nothing is done about them.
    pub unreadable: BTreeSet<String>,
    /// What is still there of apps that are gone: app and node.
    pub left: BTreeMap<(String, String), Status>,
    names: BTreeMap<u64, String>,
}

/// Images of the apps, whose registers a view needs.
pub fn images(keys: &Keys) -> Vec<u64> {
    let apps = keys.iter().filter(|(k, _)| k.starts_with("apps/"));
    apps.filter_map(|(_, e)| App::decode(&e.value))
        .map(|a| a.image)
        .collect()
}

impl View {
    /// Of keys, and of the registers that were read after them.
    pub fn new(keys: &Keys, registers: &BTreeMap<u64, Register>) -> View {
        let below = |dir: &'static str| {
            keys.iter()
                .filter_map(move |(k, e)| Some((k.strip_prefix(dir)?.strip_prefix('/')?, e)))
        };
        let mut v = View {
            id: keys
                .get("meta")
                .and_then(|e| text_of(&e.value, "id"))
                .and_then(|t| hex(&t)),
            given: keys.get("given").map_or(0, |e| e.rev),
            ..View::default()
        };
        for (name, e) in below("nodes") {
            v.nodes
                .extend(Node::decode(&e.value).map(|n| (name.to_string(), n)));
        }
        v.cordoned = below("cordon").map(|(n, _)| n.to_string()).collect();
        for (name, e) in below("apps") {
            let Some(spec) = App::decode(&e.value) else {
                v.unreadable.insert(name.to_string());
                continue;
            };
            let known = Known {
                register: registers.get(&spec.image).cloned(),
                spec,
                rev: e.rev,
                placed: None,
                place_rev: 0,
                status: BTreeMap::new(),
            };
            v.apps.insert(name.to_string(), known);
        }
        for (name, e) in below("place") {
            let Some(app) = v.apps.get_mut(name) else { continue };
            app.place_rev = e.rev;
            if text_of(&e.value, "image").and_then(|t| hex(&t)) == Some(app.spec.image)
                && let Some(primary) = text_of(&e.value, "primary")
            {
                app.placed = Some(Placement {
                    primary,
                    backup: text_of(&e.value, "backup"),
                });
            }
        }
        for (name, e) in below("status") {
            let Some(((app, node), s)) = name.split_once('/').zip(Status::decode(&e.value)) else {
                continue;
            };
            match v.apps.get_mut(app) {
                Some(a) => drop(a.status.insert(node.to_string(), s)),
                None => drop(v.left.insert((app.to_string(), node.to_string()), s)),
            }
        }
        v.know_names();
        v
    }

    /// Registers name nodes by numbers.
    pub fn know_names(&mut self) {
        let placed = self.apps.values().filter_map(|a| a.placed.as_ref());
        let named = placed.flat_map(|p| std::iter::once(&p.primary).chain(&p.backup));
        let with_status = self.apps.values().flat_map(|a| a.status.keys());
        let all: BTreeSet<&String> = self.nodes.keys().chain(named).chain(with_status).collect();
        self.names = all.into_iter().map(|n| (node_id(n), n.clone())).collect();
    }

    /// The node of a number in a register. One that nothing else names any more is called by its number.
    fn name(&self, id: u64) -> String {
        let known = self.names.get(&id).cloned();
        known.unwrap_or_else(|| format!("#{id:016x}"))
    }

    /// What the register of an app says.
    pub fn fact(&self, app: &Known) -> Fact {
        let Some(r) = &app.register else {
            return Fact::Unstarted;
        };
        let primary = self.name(r.primary.node);
        let here = app.status.get(&primary).filter(|s| s.image == app.spec.image);
        if here.is_some_and(|s| s.role == "ended") {
            return Fact::Over;
        }
        let backup = r.set.iter().find(|m| **m != r.primary);
        Fact::Runs {
            backup: backup.map(|m| self.name(m.node)),
            primary,
        }
    }

    /// What is to change in where apps are to be.
    pub fn plan(&self) -> BTreeMap<String, Placement> {
        let node = |(name, n): (&String, &Node)| {
            let node = schedule::Node {
                domain: n.domain.clone(),
                memory: n.memory,
                schedulable: !self.cordoned.contains(name),
                build: n.build.clone(),
                older: n.older.keys().cloned().collect(),
                secrets: n.secrets.clone(),
            };
            (name.clone(), node)
        };
        let nodes = self.nodes.iter().map(node).collect();
        let app = |(name, a): (&String, &Known)| {
            let app = schedule::App {
                memory: a.spec.memory,
                strict: a.spec.strict,
                placed: a.placed.clone(),
                fact: self.fact(a),
                build: self.build(a),
                avoid: a.status.values().flat_map(|s| s.avoid.iter().cloned()).collect(),
                secrets: a.spec.secrets(),
            };
            (name.clone(), app)
        };
        schedule::plan(&nodes, &self.apps.iter().map(app).collect())
    }

    /// Build of ftvm that an app's image runs on; none: it does not run, or has not said yet.
    pub fn build(&self, app: &Known) -> Option<String> {
        let of_image = app
            .status
            .values()
            .filter(|s| s.image == app.spec.image && s.live());
        of_image.into_iter().find_map(|s| s.build.clone())
    }

    /// Names of the secrets that apps are given when they start.
    pub fn secrets(&self) -> BTreeSet<String> {
        self.apps.values().flat_map(|a| a.spec.secrets()).collect()
    }

    /// How an app stands, in a word for people.
    pub fn state(&self, app: &Known) -> String {
        let Known { spec, status, .. } = app;
        match self.fact(app) {
            Fact::Over => {
                let code = status.values().find(|s| s.role == "ended");
                format!("ENDED ({})", code.map_or("?", |s| s.state.as_str()))
            }
            Fact::Unstarted => {
                let failed = status
                    .values()
                    .find(|s| s.role == "failed" && s.image == spec.image);
                match failed {
                    _ if status.values().any(|s| s.image != spec.image && s.live()) => "STOPPING".to_string(),
                    Some(f) => format!("FAILED ({})", f.state),
                    None if app.placed.as_ref().is_none_or(|p| p.backup.is_none()) => "WAITING".to_string(),
                    None => "STARTING".to_string(),
                }
            }
            Fact::Runs { primary, backup } => {
                let at = |node: &String| status.get(node).filter(|s| s.image == spec.image && s.live());
                let begins =
                    app.register.as_ref().is_some_and(|r| r.epoch == 1) && self.nodes.contains_key(&primary);
                let state = match (at(&primary), &backup) {
                    // The register says so.
                    (Some(_), Some(_)) => "PROTECTED",
                    (None, Some(b)) if at(b).is_some() => "PROTECTED",
                    (Some(p), None) => match p.state.as_str() {
                        "sync" => "SYNCING",
                        "hold" => "HOLD",
                        _ => "UNPROTECTED",
                    },
                    // Its node has not told yet.
                    _ if begins && !status.contains_key(&primary) => "STARTING",
                    // No node is heard that has it.
                    _ => "LOST",
                };
                state.to_string()
            }
        }
    }

    /// Nodes that have something of an app, by role.
    pub fn holders(&self, node: &str) -> Vec<(String, String)> {
        let of_app = |(name, a): (&String, &Known)| {
            let s = a.status.get(node).filter(|s| s.live())?;
            Some((name.clone(), s.role.clone()))
        };
        let left = self.left.iter().filter(|((_, n), s)| n == node && s.live());
        self.apps
            .iter()
            .filter_map(of_app)
            .chain(left.map(|((app, _), s)| (app.clone(), s.role.clone())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Entry;
    use super::*;
    use ftl_core::replica::Member;

    const IMAGE: u64 = 7;

    fn entry(value: Value) -> Entry {
        Entry { value, rev: 3 }
    }

    fn status(role: &str, state: &str) -> Value {
        let s = Status {
            image: IMAGE,
            role: role.to_string(),
            state: state.to_string(),
            build: None,
            avoid: BTreeSet::new(),
        };
        s.encode()
    }

    /// An app with these keys beside its own, and with these nodes in its register.
    fn view(more: &[(&str, Value)], epoch: u32, set: &[&str]) -> View {
        let app = App {
            name: "x".to_string(),
            group: None,
            image: IMAGE,
            created: 0,
            net: "ip=10.0.0.9/24".to_string(),
            options: Vec::new(),
            command: vec!["true".to_string()],
            memory: 1,
            strict: false,
            stop_s: 1,
        };
        let mut keys = Keys::new();
        keys.insert("meta".to_string(), entry(json!({"version": 1, "id": "5"})));
        keys.insert("apps/x".to_string(), entry(app.encode()));
        keys.insert("apps/new".to_string(), entry(json!({"version": 2})));
        let place = json!({"version": 1, "image": format!("{IMAGE:016x}"), "primary": "a", "backup": "b"});
        keys.insert("place/x".to_string(), entry(place));
        for n in ["a", "b", "c"] {
            let node = Node {
                agent: "10.0.0.1:1".to_string(),
                domain: n.to_string(),
                memory: 10,
                joined: 0,
                build: String::new(),
                older: BTreeMap::new(),
                secrets: BTreeSet::new(),
                insecure: false,
            };
            keys.insert(format!("nodes/{n}"), entry(node.encode()));
        }
        for (key, value) in more {
            keys.insert(key.to_string(), entry(value.clone()));
        }
        let member = |n: &&str| Member {
            node: node_id(n),
            inc: 1,
        };
        let set: Vec<Member> = set.iter().map(member).collect();
        let register = set.first().map(|primary| Register {
            epoch,
            primary: *primary,
            set: set.clone(),
        });
        assert_eq!(images(&keys), [IMAGE]);
        View::new(&keys, &register.map(|r| (IMAGE, r)).into_iter().collect())
    }

    fn state(more: &[(&str, Value)], epoch: u32, set: &[&str]) -> String {
        let v = view(more, epoch, set);
        v.state(&v.apps["x"])
    }

    #[test]
    fn the_state_is_the_registers_as_far_as_nodes_are_heard() {
        let primary = |s| ("status/x/a", status("primary", s));
        let standby = ("status/x/b", status("standby", "ready"));
        for (more, epoch, set, says) in [
            (vec![], 1, vec![], "STARTING"),
            (
                vec![("status/x/a", status("failed", "127"))],
                1,
                vec![],
                "FAILED (127)",
            ),
            (vec![], 1, vec!["a"], "STARTING"),
            (vec![primary("boot")], 1, vec!["a"], "UNPROTECTED"),
            (vec![primary("sync"), standby.clone()], 1, vec!["a"], "SYNCING"),
            (
                vec![primary("protected"), standby.clone()],
                2,
                vec!["a", "b"],
                "PROTECTED",
            ),
            // The node of the primary has gone; the backup goes on at any moment.
            (vec![standby.clone()], 2, vec!["a", "b"], "PROTECTED"),
            (vec![], 2, vec!["a", "b"], "LOST"),
            (vec![("status/x/a", status("lost", "lost"))], 1, vec!["a"], "LOST"),
            (vec![primary("hold")], 3, vec!["a"], "HOLD"),
            (
                vec![("status/x/a", status("ended", "3"))],
                3,
                vec!["a"],
                "ENDED (3)",
            ),
        ] {
            assert_eq!(state(&more, epoch, &set), says, "{more:?} {set:?}");
        }
    }

    #[test]
    fn what_another_version_wrote_is_left_alone() {
        let v = view(&[("status/gone/c", status("primary", "solo"))], 2, &["a", "b"]);
        assert_eq!((v.id, v.unreadable.contains("new")), (Some(5), true));
        assert_eq!(v.holders("c"), [("gone".to_string(), "primary".to_string())]);
        assert!(v.holders("a").is_empty());
        // What is fine is not planned anew.
        assert!(v.plan().is_empty());
        let fact = Fact::Runs {
            primary: "a".to_string(),
            backup: Some("b".to_string()),
        };
        assert_eq!(v.fact(&v.apps["x"]), fact);
    }
}
