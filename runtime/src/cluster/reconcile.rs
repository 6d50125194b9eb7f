//! What a node has to do so that what is becomes what is wanted. Pure: from a [`View`] and from the runs that the node
//! has, orders of the kind that an operator gives. An order is given again until it shows, so none may do harm twice.

use super::schedule::Fact;
use super::view::{Known, View};

/// A run of this node that is a cluster's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Local {
    /// Name of the run.
    pub run: String,
    /// Its app.
    pub app: String,
    /// Identity of its image.
    pub image: u64,
    /// Revision of the store in which its app was known.
    pub revision: u64,
    /// How it stands; none: it has ended.
    pub live: Option<Live>,
    /// Exit code of one that has ended in order.
    pub code: Option<i32>,
}

/// A run that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Live {
    /// It is the image itself and no standby.
    pub primary: bool,
    /// As `ftvm status` has it.
    pub state: String,
    /// Build of ftvm on which it runs, if it has said.
    pub build: Option<String>,
}

/// An order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Start the app, with its backup at this node.
    Start {
        /// The app.
        app: String,
        /// Node of the backup.
        backup: String,
    },
    /// Attach a backup at this node.
    Protect {
        /// The run.
        run: String,
        /// Its app.
        app: String,
        /// Node of the backup.
        backup: String,
        /// Its agent for the build of the image.
        at: String,
        /// In place of the one that it has.
        replace: bool,
    },
    /// Hand the image over to its backup.
    Switchover {
        /// The run.
        run: String,
    },
    /// End the run.
    Stop {
        /// The run.
        run: String,
        /// It is the image itself: asked first, so that its end is confirmed.
        primary: bool,
    },
    /// Forget a run that has ended.
    Remove {
        /// The run.
        run: String,
    },
    /// The start of an app failed before there was an image: forget it after a while, so that it is tried anew.
    Retry {
        /// The run.
        run: String,
    },
}

/// What `me` has to do.
pub fn orders(view: &View, me: &str, locals: &[Local]) -> Vec<Order> {
    let mut all = Vec::new();
    for l in locals.iter().filter(|l| !view.unreadable.contains(&l.app)) {
        let current = view.apps.get(&l.app).filter(|a| a.spec.image == l.image);
        let run = || l.run.clone();
        match (&l.live, current) {
            // A store that was set back does not know what it does not name.
            (_, None) if view.revision < l.revision => {}
            (Some(live), None) => all.push(Order::Stop {
                run: run(),
                primary: live.primary,
            }),
            (None, None) => all.push(Order::Remove { run: run() }),
            (Some(live), Some(app)) if live.primary => all.extend(of_primary(view, me, l, live, app)),
            (None, Some(app)) if app.register.is_none() => all.push(Order::Retry { run: run() }),
            _ => {}
        }
    }
    for (name, app) in &view.apps {
        all.extend(start(view, me, name, app, locals));
    }
    all
}

fn of_primary(view: &View, me: &str, l: &Local, live: &Live, app: &Known) -> Option<Order> {
    let placed = app.placed.as_ref()?;
    let protect = |backup: &String, replace| {
        let node = view.nodes.get(backup).filter(|_| backup != me)?;
        Some(Order::Protect {
            run: l.run.clone(),
            app: l.app.clone(),
            backup: backup.clone(),
            at: node
                .agent_of(live.build.as_deref().unwrap_or_default())
                .to_string(),
            replace,
        })
    };
    // What the register says is older than what the image says; both must agree on who the backup is.
    match (live.state.as_str(), view.fact(app)) {
        (
            "protected",
            Fact::Runs {
                primary,
                backup: Some(held),
            },
        ) if primary == me => {
            if placed.primary == held {
                return Some(Order::Switchover { run: l.run.clone() });
            }
            let wanted = placed.backup.as_ref()?;
            if *wanted == held || placed.primary != me {
                return None;
            }
            protect(wanted, true)
        }
        (
            "solo",
            Fact::Runs {
                primary,
                backup: None,
            },
        ) if primary == me && placed.primary == me => protect(placed.backup.as_ref()?, false),
        _ => None,
    }
}

fn start(view: &View, me: &str, name: &str, app: &Known, locals: &[Local]) -> Option<Order> {
    let placed = app.placed.as_ref()?;
    let backup = placed.backup.as_ref()?;
    let mine = placed.primary == me && app.register.is_none() && view.nodes.contains_key(backup);
    // The image before this one has the same address: it ends first.
    let before = app.status.values().any(|s| s.image != app.spec.image && s.live());
    let here = locals.iter().any(|l| l.app == name);
    (mine && !before && !here).then(|| Order::Start {
        app: name.to_string(),
        backup: backup.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::node_id;
    use super::super::schedule::Placement;
    use super::super::spec::App;
    use super::super::view::{Node, Status};
    use super::*;
    use ftl_core::replica::Member;
    use ftl_core::replica::arbiter::Register;
    use std::collections::BTreeSet;

    const IMAGE: u64 = 7;

    fn view(placed: (&str, Option<&str>), set: &[&str]) -> View {
        let mut v = View::default();
        v.revision = 9;
        for (i, n) in ["a", "b", "c"].into_iter().enumerate() {
            let node = Node {
                agent: format!("10.0.0.{i}:1"),
                domain: n.to_string(),
                memory: 1 << 30,
                joined: 0,
                build: String::new(),
                older: Default::default(),
                secrets: BTreeSet::new(),
                insecure: false,
            };
            v.nodes.insert(n.to_string(), node);
        }
        let member = |n: &&str| Member {
            node: node_id(n),
            inc: 1,
        };
        let set: Vec<Member> = set.iter().map(member).collect();
        let known = Known {
            spec: App {
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
            },
            rev: 1,
            placed: Some(Placement {
                primary: placed.0.to_string(),
                backup: placed.1.map(str::to_string),
            }),
            place_rev: 1,
            register: set.first().map(|p| Register {
                epoch: 1,
                primary: *p,
                set: set.clone(),
            }),
            status: Default::default(),
        };
        v.apps.insert("x".to_string(), known);
        v.know_names();
        v
    }

    fn local(image: u64, live: Option<(bool, &str)>) -> Local {
        Local {
            run: "x".to_string(),
            app: "x".to_string(),
            image,
            revision: 5,
            live: live.map(|(primary, state)| Live {
                primary,
                state: state.to_string(),
                build: None,
            }),
            code: None,
        }
    }

    fn protect(backup: &str, replace: bool) -> Vec<Order> {
        vec![Order::Protect {
            run: "x".to_string(),
            app: "x".to_string(),
            backup: backup.to_string(),
            at: format!("10.0.0.{}:1", backup.bytes().next().unwrap_or(0) - b'a'),
            replace,
        }]
    }

    #[test]
    fn an_app_starts_once_where_it_is_to_be() {
        let v = view(("a", Some("b")), &[]);
        let start = vec![Order::Start {
            app: "x".to_string(),
            backup: "b".to_string(),
        }];
        assert_eq!(orders(&v, "a", &[]), start);
        assert_eq!(orders(&v, "b", &[]), vec![]);
        assert_eq!(orders(&v, "a", &[local(IMAGE, Some((true, "boot")))]), vec![]);
        // There is a register: it was started already, wherever.
        assert_eq!(orders(&view(("a", Some("b")), &["a"]), "a", &[]), vec![]);
        // Without a backup it waits.
        assert_eq!(orders(&view(("a", None), &[]), "a", &[]), vec![]);
        // The image before it is still there.
        let mut v = view(("a", Some("b")), &[]);
        let old = Status {
            image: 6,
            role: "stale".to_string(),
            state: "solo".to_string(),
            build: None,
            avoid: BTreeSet::new(),
        };
        let app = v.apps.get_mut("x").expect("x");
        app.status.insert("c".to_string(), old);
        assert_eq!(orders(&v, "a", &[]), vec![]);
    }

    #[test]
    fn a_lone_primary_gets_the_backup_that_is_wanted() {
        let solo = [local(IMAGE, Some((true, "solo")))];
        assert_eq!(
            orders(&view(("b", Some("c")), &["b"]), "b", &solo),
            protect("c", false)
        );
        // Its node has gone.
        let mut v = view(("b", Some("c")), &["b"]);
        v.nodes.remove("c");
        assert_eq!(orders(&v, "b", &solo), vec![]);
        // The register names another: this one is fenced sooner or later.
        assert_eq!(orders(&view(("b", Some("c")), &["c"]), "b", &solo), vec![]);
        // An image of a build that was here before goes to the agent of that build.
        let mut v = view(("b", Some("c")), &["b"]);
        let c = v.nodes.get_mut("c").expect("c");
        c.older = [("old".to_string(), "10.0.0.2:2".to_string())].into();
        let mut old = solo.clone();
        old[0].live.as_mut().expect("live").build = Some("old".to_string());
        let Some(Order::Protect { at, .. }) = orders(&v, "b", &old).pop() else {
            panic!("no order");
        };
        assert_eq!(at, "10.0.0.2:2");
        assert_eq!(orders(&v, "b", &solo), protect("c", false));
        let syncing = [local(IMAGE, Some((true, "sync")))];
        assert_eq!(orders(&view(("b", Some("c")), &["b"]), "b", &syncing), vec![]);
    }

    #[test]
    fn a_backup_is_replaced_and_an_image_handed_over() {
        let protected = [local(IMAGE, Some((true, "protected")))];
        let both = ["a", "b"];
        assert_eq!(
            orders(&view(("a", Some("c")), &both), "a", &protected),
            protect("c", true)
        );
        assert_eq!(orders(&view(("a", Some("b")), &both), "a", &protected), vec![]);
        let over = vec![Order::Switchover { run: "x".to_string() }];
        assert_eq!(orders(&view(("b", Some("c")), &both), "a", &protected), over);
        // No order for a standby.
        let standby = [local(IMAGE, Some((false, "ready")))];
        assert_eq!(orders(&view(("b", Some("c")), &both), "b", &standby), vec![]);
    }

    #[test]
    fn what_is_not_wanted_any_more_goes() {
        let v = view(("a", Some("b")), &["a", "b"]);
        let stop = |primary| Order::Stop {
            run: "x".to_string(),
            primary,
        };
        assert_eq!(
            orders(&v, "a", &[local(6, Some((true, "solo")))]),
            vec![stop(true)]
        );
        assert_eq!(orders(&v, "a", &[local(6, Some((false, "")))]), vec![stop(false)]);
        // A store that is older than the run's app has been set back: it knows nothing of it.
        let mut older = v.clone();
        older.revision = 4;
        assert_eq!(orders(&older, "a", &[local(6, Some((true, "solo")))]), vec![]);
        assert_eq!(orders(&older, "a", &[local(6, None)]), vec![]);
        let remove = vec![Order::Remove { run: "x".to_string() }];
        assert_eq!(orders(&v, "a", &[local(6, None)]), remove);
        let mut gone = v.clone();
        gone.apps.clear();
        assert_eq!(orders(&gone, "a", &[local(IMAGE, None)]), remove);
        // One that ended as this image stays: it tells how.
        assert_eq!(orders(&v, "a", &[local(IMAGE, None)]), vec![]);
        let v = view(("a", Some("b")), &[]);
        let retry = vec![Order::Retry { run: "x".to_string() }];
        assert_eq!(orders(&v, "a", &[local(IMAGE, None)]), retry);
    }
}
