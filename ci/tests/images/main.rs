//! Application images: built, pushed to a real registry, pulled, verified, run; and what must not go through.
//!
//! `cargo test -p ftl-ci --test images [FILTER]`. Environment: `FTVM_BIN`. Every trial has a store, a state folder and, if it
//! needs one, a registry (docker-registry, on loopback) of its own.

mod apps;
mod hooks;
mod host;
mod login;
mod secrets;
mod size;
mod warm;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use ftl_ci::place;
use host::{BUILD, Done, Host, dying, free_port, io, same, up};
use libtest_mimic::{Arguments, Trial};

/// The same input gives the same digest, whoever builds it where; skopeo reads what is built, as a layout and as a file.
fn build() -> Done {
    let mut h = Host::new()?;
    let first = h.small("small:1", "hello")?;
    same("the same again", &h.small("small:2", "hello")?, &first)?;
    h.elsewhere();
    same("in another store", &h.small("small:1", "hello")?, &first)?;
    h.back();
    same(
        "run",
        h.ftvm(&["run", "--image", "small:1"])?.good()?,
        "hello".into(),
    )?;
    h.ftvm(&["image", "save", "-o", "small.tar", "small:1"])?.good()?;
    let seen = h
        .ask(
            "skopeo",
            &["inspect", "--format", "{{.Digest}}", "oci-archive:small.tar"],
        )?
        .good()?;
    same("skopeo of the file", seen, first.clone())?;
    h.elsewhere();
    h.ftvm(&["image", "rm", "small:1"])?.good()?;
    h.ftvm(&["run", "--image", "small:1"])?
        .refused(3, "ftvm image pull small:1")?;
    h.ftvm(&["image", "load", "-i", "small.tar"])?.good()?;
    same(
        "run what was loaded",
        h.ftvm(&["run", "--image", "small:1"])?.good()?,
        "hello".into(),
    )?;
    // Another builder's image, with zstd and gzip layers, and our configuration over it.
    h.ask(
        "skopeo",
        &[
            "copy",
            "-q",
            "--dest-compress-format",
            "zstd",
            "oci-archive:small.tar",
            "oci:other:x",
        ],
    )?
    .good()?;
    h.write("over.toml", "version = 1\ncommand = [\"/usr/bin/dash\", \"-c\", \"echo over $A\"]\nenvironment = { A = \"it\" }\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "over.toml",
        "--from",
        "other",
        "-t",
        "over:1",
    ])?
    .good()?;
    same(
        "run over another",
        h.ftvm(&["run", "--image", "over:1"])?.good()?,
        "over it".into(),
    )?;
    // A name of a file in another directory does not matter, an unknown key does.
    h.write("bad.toml", "version = 1\ncomand = [\"x\"]\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "bad.toml",
        "--from",
        "/usr/bin/dash",
        "-t",
        "bad:1",
    ])?
    .refused(1, "bad.toml, line 2: unknown key comand; did you mean command?")?;
    h.write("cpus.toml", "version = 1\n[limits]\ncpus = 0\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "cpus.toml",
        "--from",
        "/usr/bin/dash",
        "-t",
        "bad:1",
    ])?
    .refused(1, "cpus.toml, line 3: 0 is no number of CPUs")
}

/// A directory as root: links, hard links, modes, whole directories; the image's layer is what a run writes.
fn tree() -> Done {
    let h = Host::new()?;
    h.write(
        "small.toml",
        "version = 1\ncommand = [\"/usr/bin/dash\"]\nworkdir = \"/work\"\n",
    )?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "small.toml",
        "--from",
        "/usr/bin/dash",
        "--include",
        "/usr/bin/stat",
        "-t",
        "base:1",
    ])?
    .good()?;
    let tree = h.cwd().join("tree");
    io(fs::create_dir_all(tree.join("a/b")))?;
    io(fs::write(tree.join("a/one"), "one"))?;
    io(fs::hard_link(tree.join("a/one"), tree.join("a/two")))?;
    io(std::os::unix::fs::symlink("/a/one", tree.join("a/b/link")))?;
    io(fs::copy("/usr/bin/busybox", tree.join("sh")))?;
    h.write("tree.toml", "version = 1\ncommand = [\"/sh\", \"-c\", \"cat /a/b/link; echo more > /a/one; cat /a/two /a/one; id -u; pwd\"]\nuser = \"7:8\"\nworkdir = \"/a\"\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "tree.toml",
        "--from",
        "tree",
        "-t",
        "tree:1",
    ])?
    .good()?;
    let said = h.ftvm(&["run", "--image", "tree:1", "--user", "root"])?.good()?;
    // A hard link on the frozen root stays one in the layer: Linux shows the same through both names.
    if !said.starts_with("one") || !said.ends_with("0\n/a") {
        return Err(format!("printed {said}"));
    }
    same(
        "the root is as it was",
        h.ftvm(&[
            "run",
            "--image",
            "tree:1",
            "--user",
            "root",
            "--",
            "-c",
            "cat /a/one",
        ])?
        .good()?,
        "one".into(),
    )
}

/// To a real registry and back, with a signature; what is not signed, or by another key, does not run.
fn registry() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    let name = format!("{r}/some/app:1");
    let digest = h.small(&name, "hello")?;
    h.ftvm(&["image", "keygen", "-o", "key"])?.good()?;
    h.ftvm(&["image", "keygen", "-o", "other"])?.good()?;
    h.ftvm(&["image", "verify", "-k", "key.pub", &name])?
        .refused(1, "has no signature here")?;
    h.ftvm(&["run", "--image", &name, "--verify-key", "key.pub"])?
        .refused(125, "has no signature here")?;
    h.ftvm(&["image", "sign", "-k", "key", &name])?.good()?;
    h.ftvm(&["image", "push", &name])?.good()?;
    let seen = h
        .ask(
            "skopeo",
            &[
                "inspect",
                "--tls-verify=false",
                "--format",
                "{{.Digest}}",
                &format!("docker://{name}"),
            ],
        )?
        .good()?;
    same("skopeo in the registry", seen, digest.clone())?;
    h.elsewhere();
    h.ftvm(&["image", "pull", "--verify-key", "other.pub", &name])?
        .refused(1, "none of its 1 signatures is by the key")?;
    same("names after a refused pull", h.names()?, 0)?;
    same(
        "pulled",
        h.ftvm(&["image", "pull", "--verify-key", "key.pub", &name])?
            .good()?,
        digest.clone(),
    )?;
    same(
        "run",
        h.ftvm(&["run", "--image", &name, "--verify-key", "key.pub"])?
            .good()?,
        "hello".into(),
    )?;
    h.ftvm(&["run", "--image", &name, "--verify-key", "other.pub"])?
        .refused(125, "none of its 1 signatures")?;
    // The signature of another image is none of this one.
    let second = format!("{r}/some/app:2");
    h.small(&second, "another")?;
    let inspected = h.ftvm(&["image", "inspect", &name])?.good()?;
    let artifact = inspected
        .split("\"signatures\": [")
        .nth(1)
        .and_then(|s| s.split('"').nth(1))
        .ok_or("no signature")?;
    let manifest = io(fs::read_to_string(
        h.data.join("ftvm/images/blobs/sha256").join(&artifact[7..]),
    ))?;
    let layer = manifest
        .split("\"layers\":[{\"digest\":\"sha256:")
        .nth(1)
        .and_then(|s| s.get(..64))
        .ok_or("no layer")?;
    io(fs::copy(
        h.data.join("ftvm/images/blobs/sha256").join(layer),
        h.cwd().join("stolen.minisig"),
    ))?;
    h.ftvm(&["image", "sign", "--signature", "stolen.minisig", &second])?
        .good()?;
    h.ftvm(&["image", "verify", "-k", "key.pub", &second])?
        .refused(1, "none of its 1 signatures is by the key")?;
    h.ftvm(&["image", "verify", "-k", "key.pub", &name])?
        .good()
        .map(drop)
}

/// A layer that is damaged in the registry; a manifest that is; media types that nobody knows.
fn damaged() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    let name = format!("{r}/app:1");
    h.small(&name, "hello")?;
    h.ftvm(&["image", "push", &name])?.good()?;
    let blobs = h.registry_blobs();
    let layer = blobs.first().ok_or("no blobs in the registry")?;
    let good = io(fs::read(layer))?;
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    io(fs::write(layer, &bad))?;
    h.elsewhere();
    h.ftvm(&["image", "pull", &name])?
        .refused(1, "they are thrown away")?;
    same("names after a damaged layer", h.names()?, 0)?;
    h.ftvm(&["run", "--image", &name])?
        .refused(3, "ftvm image pull")?;
    io(fs::write(layer, &good))?;
    h.ftvm(&["image", "pull", &name])?.good()?;
    same("run", h.ftvm(&["run", "--image", &name])?.good()?, "hello".into())?;
    // Damaged in the store behind our back: found when it is unpacked.
    h.ftvm(&["image", "rm", &name])?.good()?;
    h.ftvm(&["image", "pull", &name])?.good()?;
    let stored = h.data.join("ftvm/images/blobs/sha256");
    let largest = io(fs::read_dir(&stored))?
        .flatten()
        .max_by_key(|e| e.metadata().map_or(0, |m| m.len()))
        .ok_or("no blobs")?;
    let mut bytes = io(fs::read(largest.path()))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    io(fs::write(largest.path(), bytes))?;
    h.ftvm(&["run", "--image", &name])?.refused(125, "unpacking")?;
    same(
        "roots",
        io(fs::read_dir(h.data.join("ftvm/images/roots")))?.count(),
        0,
    )
}

/// The registry dies in the middle of a layer: an error, no image; the next pull goes on where it was.
fn dies() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    h.small(&format!("{r}/app:1"), "hello")?;
    h.ftvm(&["image", "push", &format!("{r}/app:1")])?.good()?;
    h.elsewhere();
    let way = dying(&r, 600_000)?;
    h.ftvm(&["image", "pull", &format!("{way}/app:1")])?
        .refused(1, "tried 4 times")?;
    same("names", h.names()?, 0)?;
    let ingest = h.data.join("ftvm/images/ingest");
    let part = io(fs::read_dir(&ingest))?
        .flatten()
        .find(|e| e.file_name().to_string_lossy().ends_with(".part"))
        .ok_or("nothing was kept")?;
    let kept = io(part.metadata())?.len();
    if kept == 0 {
        return Err("the part that was fetched is empty".into());
    }
    // What is left would not do for the layer from its beginning: the part must be used.
    let size = h
        .registry_blobs()
        .first()
        .and_then(|b| fs::metadata(b).ok())
        .map_or(0, |m| m.len());
    let way = dying(&r, (size - kept) as i64 + 500_000)?;
    match size > size - kept + 500_000 {
        true => {}
        false => {
            return Err(format!(
                "only {kept} of {size} bytes were kept: this shows nothing"
            ));
        }
    }
    h.ftvm(&["image", "pull", &format!("{way}/app:1")])?.good()?;
    same(
        "run",
        h.ftvm(&["run", "--image", &format!("{way}/app:1")])?.good()?,
        "hello".into(),
    )
}

/// A full disk during pull and during unpacking: a small file system in a namespace of our own.
fn full() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    let name = format!("{r}/app:1");
    h.small(&name, "hello")?;
    h.ftvm(&["image", "push", &name])?.good()?;
    h.elsewhere();
    io(fs::create_dir_all(&h.data))?;
    let ftvm = place::ftvm()?;
    for (size, verb, why) in [
        ("1m", "image pull", "No space left"),
        ("3m", "run", "No space left"),
    ] {
        let data = h.data.display();
        let script = format!(
            "mount -t tmpfs -o size={size},mode=700 tmpfs {data} || exit 99; f={}; \
             case '{verb}' in run) $f image pull {name} >&2 || exit 98; $f run --image {name} && exit 97;; \
             *) $f image pull {name} && exit 97;; esac; \
             ls {data}/ftvm/images/roots | grep -v lock; $f image ls | wc -l",
            ftvm.display()
        );
        let said = h.ask("unshare", &["-Urm", "sh", "-c", &script])?;
        let names = if verb == "run" { "1" } else { "0" };
        if !said.err.contains(why) || said.out.trim() != names || said.code != 0 {
            return Err(format!(
                "{verb}: exit code {}\n{}\n{}",
                said.code, said.out, said.err
            ));
        }
    }
    Ok(())
}

/// redis: an image that is pulled, run, checkpointed, and restored where the image has to be pulled first.
fn redis() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    let name = format!("{r}/kv:1");
    h.write("kv.toml", "version = 1\ncommand = [\"/usr/bin/redis-server\", \"--save\", \"\"]\nworkdir = \"/data\"\nexpose = [\"6379\"]\n[[volumes]]\npath = \"/data\"\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "kv.toml",
        "--from",
        "/usr/bin/redis-server",
        "-t",
        &name,
    ])?
    .good()?;
    h.ftvm(&["image", "push", &name])?.good()?;
    let port = free_port()?;
    let p = port.to_string();
    h.detached(&[
        "run", "-d", "--name", "kv", "--image", &name, "--", "--save", "", "--port", &p,
    ])?;
    up(port)?;
    same(
        "set",
        h.ask("redis-cli", &["-p", &p, "set", "a", "b"])?.good()?,
        "OK".into(),
    )?;
    h.ftvm(&["checkpoint", "kv", "-o", "kv.ftsnap"])?.good()?;
    h.ftvm(&["rm", "--force", "kv"])?.good()?;
    h.elsewhere();
    h.ftvm(&["restore", "kv.ftsnap"])?.refused(3, "ftvm image pull")?;
    h.ftvm(&["image", "pull", &name])?.good()?;
    h.detached(&["restore", "-d", "--name", "kv", "kv.ftsnap"])?;
    up(port)?;
    same(
        "get",
        h.ask("redis-cli", &["-p", &p, "get", "a"])?.good()?,
        "b".into(),
    )?;
    // Its root stays while it runs.
    h.ftvm(&["image", "rm", &name])?.good()?;
    same(
        "get again",
        h.ask("redis-cli", &["-p", &p, "get", "a"])?.good()?,
        "b".into(),
    )?;
    h.ftvm(&["stop", "kv"])?.good().map(drop)
}

/// nginx with files of the host that it asks for by name.
fn nginx() -> Done {
    let h = Host::new()?;
    let port = free_port()?;
    io(fs::create_dir_all(h.cwd().join("etc")))?;
    let conf = format!(
        "daemon off; master_process off; pid /run/nginx.pid; error_log stderr; events {{}} \
         http {{ access_log off; server {{ listen 127.0.0.1:{port}; root /var/www/html; }} }}"
    );
    // Its configuration comes by a second build over the first: another layer.
    h.write("nginx.toml", "version = 1\ncommand = [\"/usr/sbin/nginx\", \"-c\", \"/etc/ftl.conf\"]\n[[volumes]]\npath = \"/var/log/nginx\"\n[[volumes]]\npath = \"/var/lib/nginx\"\n[[volumes]]\npath = \"/run\"\n")?;
    let include = ["--include", "/etc/passwd", "--include", "/etc/group"];
    let mut words = vec![
        "image",
        "build",
        "-f",
        "nginx.toml",
        "--from",
        "/usr/sbin/nginx",
        "-t",
        "web:1",
    ];
    words.extend(include);
    h.ftvm(&words)?.good()?;
    io(fs::create_dir_all(h.cwd().join("www")))?;
    h.write("www/index.html", "it is nginx\n")?;
    io(fs::write(h.cwd().join("etc/ftl.conf"), conf))?;
    let (etc, www) = (h.cwd().join("etc/ftl.conf"), h.cwd().join("www"));
    let conf = format!("{}:/conf:ro", etc.parent().ok_or("no folder")?.display());
    let www = format!("{}:/var/www/html:ro", www.display());
    h.detached(&[
        "run",
        "-d",
        "--name",
        "web",
        "--image",
        "web:1",
        "-v",
        &conf,
        "-v",
        &www,
        "--",
        "-c",
        "/conf/ftl.conf",
    ])?;
    up(port).map_err(|e| {
        format!(
            "{e}\n{}",
            h.ftvm(&["logs", "web"]).map(|s| s.out).unwrap_or_default()
        )
    })?;
    same(
        "page",
        h.ask("curl", &["-s", &format!("http://127.0.0.1:{port}/")])?
            .good()?,
        "it is nginx".into(),
    )?;
    h.ftvm(&["stop", "web"])?.good().map(drop)
}

/// node, natively and in its image, run and recorded and replayed.
fn node() -> Done {
    let h = Host::new()?;
    let node = h.ask("sh", &["-c", "readlink -f $(command -v node)"])?.good()?;
    let script = "console.log(process.versions.node, [1,2,3].map(x => x * x).join())";
    let native = h.ask(&node, &["-e", script])?.good()?;
    h.write("node.toml", "version = 1\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "node.toml",
        "--from",
        &node,
        "-t",
        "node:1",
        "--compress",
        "zstd",
    ])?
    .good()?;
    same(
        "run",
        h.ftvm(&["run", "--image", "node:1", "--", "-e", script])?
            .good()?,
        native.clone(),
    )?;
    same(
        "record",
        h.ftvm(&["record", "-o", "log", "--image", "node:1", "--", "-e", script])?
            .good()?,
        native.clone(),
    )?;
    same("replay", h.ftvm(&["replay", "log"])?.good()?, native)
}

/// The command line wins over the image, and a named run stays with the image that it was made of.
fn options() -> Done {
    let h = Host::new()?;
    let toml = |line: &str| {
        format!(
            "version = 1\ncommand = [\"/usr/bin/busybox\", \"sh\", \"-c\", \"echo {line} $A $(hostname) $(id -u)\"]\n\
             hostname = \"inside\"\nenvironment = {{ A = \"1\" }}\n"
        )
    };
    h.write("a.toml", &toml("old"))?;
    h.ftvm(&BUILD)?.good()?;
    same(
        "image",
        h.ftvm(&["run", "--image", "a:1"])?.good()?,
        "old 1 inside 0".into(),
    )?;
    let given = [
        "run",
        "--image",
        "a:1",
        "-e",
        "A=2",
        "--hostname",
        "outside",
        "--user",
        "5",
    ];
    same("options", h.ftvm(&given)?.good()?, "old 2 outside 5".into())?;
    same(
        "named",
        h.ftvm(&["run", "--name", "n", "--image", "a:1"])?.good()?,
        "old 1 inside 0".into(),
    )?;
    h.write("a.toml", &toml("new"))?;
    h.ftvm(&BUILD)?.good()?;
    same(
        "new",
        h.ftvm(&["run", "--image", "a:1"])?.good()?,
        "new 1 inside 0".into(),
    )?;
    let again = || h.ftvm(&["start", "-a", "n"]);
    same("again", again()?.good()?, "old 1 inside 0".into())?;
    same("names", h.names()?, 2)?;
    // Neither the removal of another image nor of its own takes what `start` needs.
    h.ftvm(&["image", "rm", "a:1"])?.good()?;
    same("after rm", again()?.good()?, "old 1 inside 0".into())?;
    let roots = || -> Done<usize> {
        let dir = h.data.join("ftvm/images/roots");
        Ok(io(fs::read_dir(dir))?
            .flatten()
            .filter(|e| e.path().is_dir())
            .count())
    };
    same("roots", roots()?, 1)?;
    let aside = h.data.with_extension("aside");
    io(fs::rename(&h.data, &aside))?;
    again()?.refused(3, "ftvm image pull docker.io/library/a@sha256:")?;
    io(fs::remove_dir_all(&h.data))?;
    io(fs::rename(&aside, &h.data))?;
    h.ftvm(&["rm", "n"])?.good()?;
    h.ftvm(&["image", "rm", "nothing:1"])?.refused(1, "no image")?;
    same("names at the end", h.names()?, 0)?;
    same("roots at the end", roots()?, 0)?;
    h.ftvm(&BUILD)?.good()?;
    h.ftvm(&["run", "--image", "a:1", "--rootfs", "/"])?
        .refused(125, "cannot be used with")?;
    h.ftvm(&["image", "rm", "nothing:1"])?
        .refused(1, "no image nothing:1 is here")
}

const TRIALS: &[(&str, fn() -> Done, &[&str])] = &[
    ("build", build, &["skopeo", "dash"]),
    ("tree", tree, &["busybox"]),
    ("options", options, &["busybox"]),
    ("registry", registry, &["docker-registry", "skopeo"]),
    ("damaged", damaged, &["docker-registry"]),
    ("dies", dies, &["docker-registry"]),
    (
        "tls",
        login::tls,
        &["docker-registry", "openssl", "perl", "ip", "unshare"],
    ),
    ("full", full, &["docker-registry"]),
    ("large", size::large, &["docker-registry", "busybox", "sha256sum"]),
    ("layers", size::layers, &["busybox"]),
    ("redis", redis, &["docker-registry", "redis-server", "redis-cli"]),
    ("nginx", nginx, &["nginx", "curl"]),
    ("node", node, &["node"]),
    ("warm", warm::node, &["node", "curl", "docker-registry"]),
    ("warm-choice", warm::choice, &["node", "curl"]),
    ("warm-refused", warm::refused, &["dash"]),
    ("warm-encrypted", warm::encrypted, &["node"]),
    ("warm-again", warm::again, &["node", "curl"]),
    ("hooks", hooks::run, &["busybox"]),
    ("hooks-fail", hooks::fail, &["busybox"]),
    ("hooks-warm", hooks::warm, &["busybox"]),
    ("secrets", secrets::store, &["busybox"]),
    ("secrets-image", secrets::image, &["busybox"]),
    ("attached", warm::attached, &["node", "curl", "docker-registry"]),
];

/// Servers of Debian's packages, also under podman's own runtime: what they need beside podman.
const APPS: &[(&str, fn() -> Done, &[&str])] = &[
    ("redis", apps::redis, &["redis-server", "redis-cli"]),
    ("nginx", apps::nginx, &["nginx", "curl"]),
    ("node", apps::node, &["node", "curl"]),
    ("postgres", apps::postgres, &["postgres", "psql", "setpriv"]),
];

/// The program is on the search path, or where Debian puts servers.
fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path)
        .chain(more)
        .any(|d| d.join(program).is_file())
}

fn main() -> ExitCode {
    if let Err(e) = place::shed_descriptors() {
        eprintln!("images: cannot start without inherited descriptors: {e}");
        return ExitCode::FAILURE;
    }
    let args = Arguments::from_args();
    let podman = match ["podman", "crun", "docker-registry", "unshare"]
        .iter()
        .all(|p| have(p))
    {
        true => apps::podman_works(),
        false => Err("podman, crun, docker-registry or unshare is missing (ci/install)".to_string()),
    };
    if let Err(why) = &podman {
        eprintln!("images/apps: ignored, podman's own runtime does not work here: {why}");
    }
    let under_both = APPS.iter().map(|(name, trial, needs)| {
        let missing = podman.is_err() || needs.iter().any(|n| !have(n));
        Trial::test(format!("images/apps/{name}"), || Ok(trial()?)).with_ignored_flag(missing)
    });
    let trials = TRIALS
        .iter()
        .map(|(name, trial, needs)| {
            let missing: Vec<&&str> = needs.iter().filter(|n| !have(n)).collect();
            if !missing.is_empty() {
                eprintln!("images/{name}: ignored, missing: {missing:?} (ci/install)");
            }
            Trial::test(format!("images/{name}"), || Ok(trial()?)).with_ignored_flag(!missing.is_empty())
        })
        .chain(under_both)
        .collect();
    libtest_mimic::run(&args, trials).exit_code()
}
