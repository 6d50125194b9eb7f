use super::*;
use proptest::prelude::*;

fn nodes(all: &[(&str, &str)]) -> BTreeMap<String, Node> {
    let node = |domain: &str| Node {
        domain: domain.to_string(),
        memory: 1000,
        schedulable: true,
        build: "1".to_string(),
        older: BTreeSet::new(),
        secrets: BTreeSet::new(),
    };
    all.iter().map(|(n, d)| (n.to_string(), node(d))).collect()
}

fn app(placed: Option<(&str, Option<&str>)>, fact: Fact) -> App {
    App {
        memory: 100,
        strict: false,
        placed: placed.map(|(p, b)| Placement {
            primary: p.to_string(),
            backup: b.map(str::to_string),
        }),
        fact,
        build: None,
        avoid: BTreeSet::new(),
        secrets: BTreeSet::new(),
    }
}

fn runs(primary: &str, backup: Option<&str>) -> Fact {
    Fact::Runs {
        primary: primary.to_string(),
        backup: backup.map(str::to_string),
    }
}

fn one(nodes: &BTreeMap<String, Node>, a: App) -> Option<(String, Option<String>)> {
    let apps = BTreeMap::from([("x".to_string(), a)]);
    plan(nodes, &apps).remove("x").map(|p| (p.primary, p.backup))
}

fn pair(p: &str, b: Option<&str>) -> Option<(String, Option<String>)> {
    Some((p.to_string(), b.map(str::to_string)))
}

#[test]
fn a_new_app_is_spread_over_domains() {
    let all = nodes(&[("a", "r1"), ("b", "r1"), ("c", "r2")]);
    assert_eq!(one(&all, app(None, Fact::Unstarted)), pair("a", Some("c")));
    // Where there is one domain, another node does.
    let all = nodes(&[("a", "r1"), ("b", "r1")]);
    assert_eq!(one(&all, app(None, Fact::Unstarted)), pair("a", Some("b")));
    let mut strict = app(None, Fact::Unstarted);
    strict.strict = true;
    assert_eq!(one(&all, strict), None);
    // One node is none.
    assert_eq!(one(&nodes(&[("a", "r1")]), app(None, Fact::Unstarted)), None);
}

#[test]
fn apps_are_spread_over_nodes() {
    let all = nodes(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    let apps: BTreeMap<String, App> = (0..4)
        .map(|i| (format!("x{i}"), app(None, Fact::Unstarted)))
        .collect();
    let plan = plan(&all, &apps);
    let primaries: BTreeSet<&String> = plan.values().map(|p| &p.primary).collect();
    let backups: BTreeSet<&Option<String>> = plan.values().map(|p| &p.backup).collect();
    assert_eq!((primaries.len(), backups.len()), (4, 4), "{plan:?}");
}

#[test]
fn memory_is_counted() {
    let mut all = nodes(&[("a", "1"), ("b", "2"), ("c", "3")]);
    all.get_mut("a").expect("a").memory = 99;
    assert_eq!(one(&all, app(None, Fact::Unstarted)), pair("b", Some("c")));
    all.get_mut("b").expect("b").memory = 99;
    assert_eq!(one(&all, app(None, Fact::Unstarted)), None);
}

#[test]
fn what_is_fine_stays() {
    let all = nodes(&[("a", "r1"), ("b", "r1"), ("c", "r2")]);
    // Worse than what would be chosen now, but good.
    assert_eq!(one(&all, app(Some(("b", Some("a"))), runs("b", Some("a")))), None);
    // The lease of the backup's node has expired: the register says that it holds everything.
    assert_eq!(one(&all, app(Some(("b", Some("z"))), runs("b", Some("z")))), None);
}

#[test]
fn a_takeover_is_followed_and_mended() {
    let all = nodes(&[("b", "r1"), ("c", "r2"), ("d", "r1")]);
    let after = app(Some(("a", Some("b"))), runs("b", None));
    assert_eq!(one(&all, after), pair("b", Some("c")));
    // The lease of the node that died has not ended yet.
    let all = nodes(&[("a", "r2"), ("b", "r1"), ("d", "r1")]);
    let after = app(Some(("a", Some("b"))), runs("b", None));
    assert_eq!(one(&all, after), pair("b", Some("d")));
    // The backup's node has gone too.
    let all = nodes(&[("c", "r2"), ("d", "r1")]);
    let after = app(Some(("d", Some("b"))), runs("d", None));
    assert_eq!(one(&all, after), pair("d", Some("c")));
}

#[test]
fn a_cordoned_primary_moves_to_its_backup() {
    let mut all = nodes(&[("a", "1"), ("b", "2"), ("c", "3")]);
    all.get_mut("a").expect("a").schedulable = false;
    let at = |placed| app(placed, runs("a", Some("b")));
    assert_eq!(one(&all, at(Some(("a", Some("b"))))), pair("b", Some("c")));
    assert_eq!(one(&all, at(Some(("b", Some("c"))))), None);
    // Its backup is being drained too: that one moves first.
    all.get_mut("b").expect("b").schedulable = false;
    assert_eq!(one(&all, at(Some(("a", Some("b"))))), pair("a", Some("c")));
}

#[test]
fn a_cordoned_backup_moves_if_there_is_a_place() {
    let mut all = nodes(&[("a", "1"), ("b", "2"), ("c", "3")]);
    all.get_mut("b").expect("b").schedulable = false;
    let at = || app(Some(("a", Some("b"))), runs("a", Some("b")));
    assert_eq!(one(&all, at()), pair("a", Some("c")));
    all.remove("c");
    assert_eq!(one(&all, at()), None);
}

#[test]
fn a_node_that_could_not_be_attached_is_avoided() {
    let all = nodes(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let mut x = app(Some(("a", Some("b"))), runs("a", None));
    x.avoid.insert("b".to_string());
    assert_eq!(one(&all, x.clone()), pair("a", Some("c")));
    // All were tried: the other one again.
    x.avoid.insert("c".to_string());
    assert_eq!(one(&all, x), pair("a", Some("c")));
}

#[test]
fn a_backup_has_the_build_of_its_image() {
    let mut all = nodes(&[("a", "1"), ("b", "2"), ("c", "3")]);
    all.get_mut("b").expect("b").build = "2".to_string();
    assert_eq!(one(&all, app(None, Fact::Unstarted)), pair("a", Some("c")));
    let mut x = app(Some(("a", Some("c"))), runs("a", None));
    // Its node was upgraded under it.
    x.build = Some("2".to_string());
    assert_eq!(one(&all, x.clone()), pair("a", Some("b")));
    // Another one keeps that build beside its own.
    all.get_mut("b").expect("b").schedulable = false;
    assert_eq!(one(&all, x.clone()), pair("a", None));
    x.placed.as_mut().expect("placed").backup = None;
    all.get_mut("c").expect("c").older = BTreeSet::from(["2".to_string()]);
    assert_eq!(one(&all, x), pair("a", Some("c")));
    all.get_mut("c").expect("c").older.clear();
    all.get_mut("b").expect("b").schedulable = true;
    // A backup that could not be attached anywhere else stays where it is, drained or not.
    all.get_mut("c").expect("c").schedulable = false;
    let mut x = app(Some(("a", Some("c"))), runs("a", Some("c")));
    x.build = Some("1".to_string());
    assert_eq!(one(&all, x), None);
}

#[test]
fn an_app_starts_where_its_secrets_are() {
    let mut all = nodes(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let names = |list: &[&str]| list.iter().map(|n| n.to_string()).collect::<BTreeSet<String>>();
    let with = |placed, fact| App {
        secrets: names(&["db", "token"]),
        ..app(placed, fact)
    };
    all.get_mut("b").expect("b").secrets = names(&["db"]);
    assert_eq!(one(&all, with(None, Fact::Unstarted)), None);
    all.get_mut("c").expect("c").secrets = names(&["token", "db", "other"]);
    // Its backup can be anywhere.
    assert_eq!(one(&all, with(None, Fact::Unstarted)), pair("c", Some("a")));
    // Where it was to start they are not there any more.
    let placed = Some(("a", Some("b")));
    assert_eq!(one(&all, with(placed, Fact::Unstarted)), pair("c", Some("b")));
    // One that runs has them.
    assert_eq!(one(&all, with(placed, runs("a", Some("b")))), None);
    assert_eq!(one(&all, with(placed, runs("a", None))), None);
}

fn node_name() -> impl Strategy<Value = String> {
    (0..6u8).prop_map(|i| format!("n{i}"))
}

/// Sets of two names, all of them mostly.
fn some_secrets(likely: f64) -> impl Strategy<Value = BTreeSet<String>> {
    let one = move |name: &'static str| {
        proptest::bool::weighted(likely).prop_map(move |b| b.then(|| name.to_string()))
    };
    (one("s0"), one("s1")).prop_map(|(a, b)| a.into_iter().chain(b).collect())
}

fn some_build() -> impl Strategy<Value = String> {
    proptest::bool::weighted(0.8).prop_map(|b| format!("b{}", u8::from(b)))
}

fn some_nodes() -> impl Strategy<Value = BTreeMap<String, Node>> {
    let node = (
        0..3u8,
        0..1200u64,
        proptest::bool::weighted(0.8),
        some_build(),
        proptest::collection::btree_set(some_build(), 0..2),
        some_secrets(0.8),
    )
        .prop_map(|(d, memory, schedulable, build, older, secrets)| Node {
            domain: format!("d{d}"),
            memory,
            schedulable,
            build,
            older,
            secrets,
        });
    proptest::collection::btree_map(node_name(), node, 0..6)
}

fn some_app() -> impl Strategy<Value = App> {
    let two = || (node_name(), proptest::option::of(node_name()));
    let apart = |(p, b): (String, Option<String>)| (b.filter(|b| *b != p), p);
    let placed = proptest::option::of(two().prop_map(move |t| {
        let (backup, primary) = apart(t);
        Placement { primary, backup }
    }));
    let fact = prop_oneof![
        Just(Fact::Unstarted),
        Just(Fact::Over),
        two().prop_map(move |t| {
            let (backup, primary) = apart(t);
            Fact::Runs { primary, backup }
        }),
    ];
    (
        1..400u64,
        any::<bool>(),
        placed,
        fact,
        proptest::option::of(some_build()),
        proptest::collection::btree_set(node_name(), 0..2),
        some_secrets(0.2),
    )
        .prop_map(|(memory, strict, placed, fact, build, avoid, secrets)| App {
            memory,
            strict,
            placed,
            fact,
            build,
            avoid,
            secrets,
        })
}

fn some_apps() -> impl Strategy<Value = BTreeMap<String, App>> {
    proptest::collection::btree_map((0..8u8).prop_map(|i| format!("x{i}")), some_app(), 0..8)
}

fn apply(apps: &mut BTreeMap<String, App>, changes: &BTreeMap<String, Placement>) {
    for (name, p) in changes {
        apps.get_mut(name).expect("an app").placed = Some(p.clone());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Plans come to an end, and every change has a place to go to.
    #[test]
    fn plans_are_stable_and_possible(nodes in some_nodes(), apps in some_apps()) {
        let changes = plan(&nodes, &apps);
        for (name, p) in &changes {
            let app = &apps[name];
            prop_assert_ne!(Some(&p.primary), p.backup.as_ref());
            let held = app.nodes();
            // Whoever is new to the app lives, takes apps and has the room.
            for n in std::iter::once(&p.primary).chain(&p.backup).filter(|n| !held.contains(n.as_str())) {
                let node = nodes.get(n);
                prop_assert!(node.is_some_and(|n| n.schedulable), "{} at {}", name, n);
            }
            if let Some(b) = p.backup.as_ref().and_then(|b| nodes.get(b)).filter(|_| !held.contains(p.backup.as_deref().unwrap_or_default())) {
                let build = app.build.as_ref().or(nodes.get(&p.primary).map(|n| &n.build));
                prop_assert!(build.is_none_or(|w| *w == b.build || b.older.contains(w)), "{}: a backup with another build", name);
            }
            if app.fact == Fact::Unstarted && app.placed.as_ref().is_none_or(|o| o.primary != p.primary) {
                let node = &nodes[&p.primary];
                prop_assert!(node.secrets.is_superset(&app.secrets), "{} at {}", name, p.primary);
            }
            if let Fact::Runs { primary, backup } = &app.fact {
                // The primary is the register's, or goes to who holds everything.
                prop_assert!(p.primary == *primary || Some(&p.primary) == backup.as_ref());
            }
        }
        // What moves away makes room for what was looked at before it, so it may take a round for each app.
        let mut after = apps.clone();
        apply(&mut after, &changes);
        let rounds = (0..=apps.len()).find(|_| {
            let more = plan(&nodes, &after);
            apply(&mut after, &more);
            more.is_empty()
        });
        prop_assert!(rounds.is_some(), "no end");
    }

    /// New placements never fill a node beyond its memory.
    #[test]
    fn memory_is_never_promised_twice(nodes in some_nodes(), mut apps in some_apps()) {
        let used = |apps: &BTreeMap<String, App>, n: &str| -> u64 {
            apps.values().filter(|a| a.nodes().contains(n)).map(|a| a.memory).sum()
        };
        let before: BTreeMap<&String, u64> = nodes.keys().map(|n| (n, used(&apps, n))).collect();
        let changes = plan(&nodes, &apps);
        apply(&mut apps, &changes);
        for (n, node) in &nodes {
            let now = used(&apps, n);
            prop_assert!(now <= node.memory || now <= before[n], "{}: {} of {}", n, now, node.memory);
        }
    }

    /// A run that is protected by nodes which are not being drained stays where it is, whoever else comes or goes.
    #[test]
    fn what_is_protected_stays(nodes in some_nodes(), mut apps in some_apps()) {
        for app in apps.values_mut() {
            if let Fact::Runs { primary, backup } = &app.fact {
                app.placed = Some(Placement { primary: primary.clone(), backup: backup.clone() });
            }
        }
        let changes = plan(&nodes, &apps);
        let fixed = |n: &String| nodes.get(n).is_none_or(|n| n.schedulable);
        for (name, app) in &apps {
            if let Fact::Runs { primary, backup: Some(b) } = &app.fact && fixed(primary) && fixed(b) {
                prop_assert!(!changes.contains_key(name), "{}: {:?}", name, changes.get(name));
            }
        }
    }

    /// A machine: faults and drains at random, each step carried out as nodes would. In the end every app is
    /// protected by two live nodes, in two domains if its nodes can be, and nothing is on a drained node.
    #[test]
    fn every_app_is_protected_in_the_end(
        steps in proptest::collection::vec((0..3u8, 0..6usize), 0..12), count in 1..6usize,
    ) {
        let all: Vec<String> = (0..6).map(|i| format!("n{i}")).collect();
        let full: BTreeMap<String, Node> = all.iter().enumerate().map(|(i, n)| (n.clone(), Node {
            domain: format!("d{}", i % 3), memory: 100_000, schedulable: true, build: "1".to_string(),
            older: BTreeSet::new(), secrets: BTreeSet::new(),
        })).collect();
        let mut up = full.clone();
        let mut apps: BTreeMap<String, App> = (0..count)
            .map(|i| (format!("x{i}"), app(None, Fact::Unstarted))).collect();
        let settle = |up: &BTreeMap<String, Node>, apps: &mut BTreeMap<String, App>| {
            for _ in 0..20 {
                let changes = plan(up, apps);
                apply(apps, &changes);
                let mut moved = false;
                for a in apps.values_mut() {
                    let Some(p) = a.placed.clone() else { continue };
                    let next = match &a.fact {
                        Fact::Unstarted => runs(&p.primary, p.backup.as_deref()),
                        // Handed over, without a backup at first.
                        Fact::Runs { backup: Some(b), .. } if p.primary == *b => runs(b, None),
                        // Attached, or replaced.
                        Fact::Runs { primary, .. } => runs(primary, p.backup.as_deref()),
                        Fact::Over => Fact::Over,
                    };
                    moved |= a.fact != next;
                    a.fact = next;
                }
                if changes.is_empty() && !moved {
                    return true;
                }
            }
            false
        };
        prop_assert!(settle(&up, &mut apps));
        for (what, who) in steps {
            let n = &all[who];
            let usable = up.values().filter(|n| n.schedulable).count();
            match what {
                // It dies; its images go on at their backups.
                0 if usable > 3 => {
                    up.remove(n);
                    for a in apps.values_mut() {
                        a.fact = match a.fact.clone() {
                            Fact::Runs { primary, backup: Some(b) } if primary == *n => runs(&b, None),
                            Fact::Runs { primary, backup: Some(b) } if b == *n => runs(&primary, None),
                            other => other,
                        };
                    }
                }
                1 if usable > 3 => {
                    if let Some(n) = up.get_mut(n) {
                        n.schedulable = false;
                    }
                }
                _ => {
                    up.insert(n.clone(), full[n].clone());
                }
            }
            prop_assert!(settle(&up, &mut apps));
        }
        for (name, a) in &apps {
            let Fact::Runs { primary, backup: Some(b) } = &a.fact else {
                return Err(TestCaseError::fail(format!("{name}: {:?}", a.fact)));
            };
            for n in [primary, b] {
                prop_assert!(up.get(n).is_some_and(|n| n.schedulable), "{} at {}", name, n);
            }
        }
    }
}
