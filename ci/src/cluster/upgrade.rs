//! An upgrade of ftvm, node by node.

use super::{NODES, TERM, Trial, text};
use crate::place;
use serde_json::Value;
use std::path::PathBuf;

impl Trial {
    /// A program that differs from ours in its version alone, which is part of its build's identity.
    fn next_build(&self) -> Result<PathBuf, String> {
        let old = concat!(env!("CARGO_PKG_VERSION"), " ").as_bytes();
        let mut new = old.to_vec();
        let digit = &mut new[old.len() - 2];
        *digit = if *digit == b'9' { b'8' } else { *digit + 1 };
        let mut bytes = std::fs::read(place::ftvm()?).map_err(text)?;
        let places: Vec<usize> = (0..bytes.len() - old.len())
            .filter(|i| bytes[*i..].starts_with(old))
            .collect();
        for at in &places {
            bytes[*at..at + old.len()].copy_from_slice(&new);
        }
        let path = self.fleet.files().join("ftvm-next");
        std::fs::write(&path, bytes).map_err(text)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).map_err(text)?;
        match places.is_empty() {
            false => Ok(path),
            true => Err("ftvm does not hold its version".to_string()),
        }
    }

    /// Each node keeps the ftvm of before beside the next one: images that run on it stay protected, and outlive a node.
    pub(super) fn upgrade(&mut self) -> Result<(), String> {
        let next = self.next_build()?;
        let before = std::path::absolute(place::ftvm()?).map_err(text)?;
        let older = format!("--older-ftvm {}", before.display());
        let names: Vec<String> = self.apps.iter().map(|a| a.name.clone()).collect();
        let first = self.ps().ok_or("no cluster")?;
        let same = |v: &Value| {
            names.iter().all(|n| {
                let (a, b) = (Trial::app(v, n), Trial::app(&first, n));
                a["state"] == "PROTECTED" && a["image"] == b["image"] && a["build"] == b["build"]
            })
        };
        for i in 0..NODES {
            let name = self.fleet.nodes[i].name.clone();
            self.fleet.end_daemon(i, TERM).map_err(text)?;
            self.fleet.nodes[i].ftvm = Some(next.clone());
            self.fleet.join_with(i, &older).map_err(text)?;
            let build = |v: &Value| {
                let nodes = v["nodes"].as_array().cloned().unwrap_or_default();
                let node = nodes.into_iter().find(|n| n["name"] == name.as_str());
                node.map(|n| n["build"].clone())
            };
            let old = build(&first);
            self.wait(
                &format!("{name} has the next ftvm; images run on, protected"),
                |v| {
                    let joined = build(v).is_some_and(|b| Some(&b) != old.as_ref());
                    same(v) && joined && v["nodes"].as_array().is_some_and(|n| n.len() == NODES)
                },
            )?;
        }
        let dead = self.kill(0)?;
        match same(&self.ps().ok_or("no cluster")?) {
            true => self.fleet.join(dead).map_err(text),
            false => Err("images are not those of before".to_string()),
        }
    }

    /// Every app is started anew, with the build that all nodes have now.
    pub(super) fn renew(&mut self) -> Result<(), String> {
        for app in self.apps.clone() {
            self.fleet.done(&format!("down {}", app.name)).map_err(text)?;
            let file = self.fleet.app_file(&app, &[]).map_err(text)?;
            self.fleet.done(&format!("up {}", file.display())).map_err(text)?;
        }
        self.protected("started anew with the next ftvm")?;
        let v = self.ps().ok_or("no cluster")?;
        let next = &v["nodes"][0]["build"];
        match self
            .apps
            .iter()
            .all(|a| Trial::app(&v, &a.name)["build"] == *next)
        {
            true => Ok(()),
            false => Err(format!("apps do not run on {next}: {v}")),
        }
    }
}
