//! An image with secrets and hooks in a cluster.

use super::{CONNECTIONS, PAUSE, Trial, WHILE, text};
use crate::place;
use ftl_lab::fleet::{App, REGISTRY};
use ftl_lab::load::Load;
use ftl_lab::now_ns;
use ftl_lab::speak::Server;
use std::net::Ipv4Addr;

/// Nodes that have the secrets, and what these say.
const SECRET_AT: [usize; 2] = [1, 3];
const WORDS: &str = "correct-horse-battery-staple";

impl Trial {
    /// What a verb on a node prints; anything but success is an error.
    fn told(&self, node: usize, words: &[&str]) -> Result<String, String> {
        let out = self.fleet.verb_at(node, words).map_err(text)?;
        let said = |b: &[u8]| String::from_utf8_lossy(b).trim().to_string();
        match out.status.success() {
            true => Ok(said(&out.stdout)),
            false => Err(format!("{words:?}: {}: {}", out.status, said(&out.stderr))),
        }
    }

    /// A verb on a node that must fail and say why.
    fn refuses(&self, node: usize, words: &[&str], says: &str) -> Result<(), String> {
        match self.told(node, words) {
            Err(why) if why.contains(says) => Ok(()),
            other => Err(format!("{words:?}: not {says:?}: {other:?}")),
        }
    }

    /// The secrets of the app at its primary, and a checkpoint with its hook there. `hooks`: what hooks have written before.
    fn sealed(&mut self, hooks: &str) -> Result<(), String> {
        let node = self.primary(0)?;
        let run = self.apps[0].name.clone();
        let within =
            |t: &Trial, script: &str| t.told(node, &["exec", &run, "/usr/bin/busybox", "sh", "-c", script]);
        let has = within(self, "cat /run/secrets/words.conf; echo; echo $TOKEN")?;
        if has != format!("{WORDS}\n{WORDS}") {
            return Err(format!("at {} the app has {has:?}", self.fleet.nodes[node].name));
        }
        // The daemons, their agents, the supervisors and the processes of both images.
        let (told, looked) = self.fleet.tellers(WORDS).map_err(text)?;
        if !told.is_empty() || looked < self.fleet.nodes.len() {
            return Err(format!("of {looked} processes, {told:?} tell the secret"));
        }
        let file = self
            .fleet
            .files()
            .join(format!("{node}.ftsnap"))
            .display()
            .to_string();
        let pass = self.fleet.files().join("pass").display().to_string();
        let taken = [
            "checkpoint",
            &run,
            "--leave-running",
            "--encrypt",
            &pass,
            "-o",
            &file,
        ];
        within(self, "touch /ill")?;
        self.refuses(
            node,
            &taken,
            "hook before-checkpoint: exit code 3: it is not well",
        )?;
        if std::path::Path::new(&file).exists() {
            return Err("there is a snapshot although its hook failed".to_string());
        }
        within(self, "rm /ill")?;
        let ending = ["checkpoint", &run, "--encrypt", &pass, "-o", &file];
        self.refuses(node, &ending, "would go on at its backup")?;
        let clear = ["checkpoint", &run, "--leave-running", "-o", &file];
        self.refuses(node, &clear, "the image holds secrets")?;
        self.told(node, &taken)?;
        let said = within(self, "cat /hooks")?;
        if said != format!("{hooks}before\nbefore\nbefore") {
            return Err(format!("hooks have written {said:?}"));
        }
        self.say("a checkpoint waits for its hook, and is encrypted");
        Ok(())
    }

    /// An image with secrets and hooks.
    pub(super) fn secrets(&mut self) -> Result<(), String> {
        let app = App {
            name: "vault".to_string(),
            server: Server::Redis,
            ip: Ipv4Addr::new(10, 77, 0, 150),
        };
        self.apps = vec![app.clone()];
        let mut command = vec![place::on_path(Server::Redis.program())?];
        command.extend(Server::Redis.arguments(&self.fleet.files()).map_err(text)?);
        self.fleet.start_registry().map_err(text)?;
        let of_image = "\
[[secrets]]
name = \"words\"
target = \"words.conf\"
mode = \"0400\"

[hooks.before-checkpoint]
command = [\"/usr/bin/busybox\", \"sh\", \"-c\", \"echo before >> /hooks; test ! -e /ill || { echo it is not well; exit 3; }\"]

[hooks.after-restore]
command = [\"/usr/bin/busybox\", \"sh\", \"-c\", \"echo after >> /hooks\"]
";
        self.fleet
            .push_with("vault:1", &command, &["/usr/bin/busybox"], of_image)
            .map_err(text)?;
        let up = |t: &Trial, more: &str, wait: u32| -> Result<String, String> {
            let file = t.fleet.image_file(&app, "vault:1", more).map_err(text)?;
            Ok(format!(
                "up --insecure-registry {REGISTRY} --wait {wait} {}",
                file.display()
            ))
        };
        // An image gets no secret that its user has not named.
        let named = "limits = { cpus = 0.5 }\n[[secrets]]\nname = \"words\"\n[[secrets]]\nname = \"token\"\nenv = \"TOKEN\"\n";
        self.fails(&up(self, "", 60)?, "the image needs the secret words")?;
        self.fails(&up(self, named, 20)?, "no node has all of its secrets")?;
        self.say("an app whose secrets are nowhere waits");
        let words = self.fleet.files().join("words");
        std::fs::write(&words, WORDS).map_err(text)?;
        let file = words.display().to_string();
        for node in SECRET_AT {
            for name in ["words", "token"] {
                self.told(node, &["secret", "create", name, &file])?;
            }
        }
        std::fs::remove_file(&words).map_err(text)?;
        std::fs::write(self.fleet.files().join("pass"), "eight letters and more\n").map_err(text)?;
        self.fleet.done(&up(self, named, 60)?).map_err(text)?;
        self.protected("it is up")?;
        if !SECRET_AT.contains(&self.primary(0)?) {
            return Err("it was started where its secrets are not".to_string());
        }
        let load = Load::start_at(app.server, app.ip, &self.fleet.client, CONNECTIONS, PAUSE, 7);
        let loads = vec![(app.name.clone(), load.map_err(text)?)];
        std::thread::sleep(WHILE);
        self.sealed("")?;
        self.protected("a checkpoint was taken")?;
        let before = now_ns();
        let first = self.kill(0)?;
        std::thread::sleep(WHILE);
        // The image carries its hooks and its secrets.
        self.sealed("before\nbefore\nbefore\n")?;
        self.judge(loads, before);
        self.protected("in the end")?;
        let last = self.primary(0)?;
        self.fleet.done(&format!("down {}", app.name)).map_err(text)?;
        // From the first node's snapshot, at another one.
        let file = self
            .fleet
            .files()
            .join(format!("{first}.ftsnap"))
            .display()
            .to_string();
        let pass = self.fleet.files().join("pass").display().to_string();
        self.told(
            last,
            &[
                "restore",
                "-d",
                "--name",
                "back",
                "--passphrase-file",
                &pass,
                &file,
            ],
        )?;
        let script = "until grep -q after /hooks; do sleep 0.1; done; cat /hooks /run/secrets/words.conf";
        let said = self.told(last, &["exec", "back", "/usr/bin/busybox", "sh", "-c", script])?;
        if said != format!("before\nbefore\nbefore\nafter\n{WORDS}") {
            return Err(format!("restored, it has {said:?}"));
        }
        self.say("restored from its snapshot, it has run its hook");
        self.told(last, &["rm", "--force", "back"])?;
        let held = self.fleet.holders(WORDS).map_err(text)?;
        let stores = held
            .iter()
            .filter(|p| p.parent().is_some_and(|d| d.ends_with("data/ftvm/secrets")));
        if stores.count() != held.len() || held.len() != 2 * SECRET_AT.len() {
            return Err(format!("a secret is in {held:?}"));
        }
        self.say("its secrets are in their stores, and in no other file and no process' arguments");
        Ok(())
    }
}
