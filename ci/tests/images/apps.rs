//! Servers of Debian's packages as images: built, signed, pushed, pulled, verified and run by ftvm; and the same image, from the
//! same registry, under podman with its own runtime.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use ftl_ci::bounded;

use crate::host::{Done, Host, free_port, io, same, up};

/// A server: what its image is made of, and a question with the answer to it.
struct App {
    name: &'static str,
    /// Its `ftvm.toml`; `{port}` is where it listens on 127.0.0.1.
    toml: String,
    from: String,
    include: Vec<String>,
    /// A command of the host's that asks it.
    ask: Vec<String>,
    answer: String,
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|w| w.to_string()).collect()
}

/// The whole way of one application.
fn way(mut h: Host, app: App, port: u16) -> Done {
    let r = h.registry()?;
    let image = format!("{r}/{}:1", app.name);
    h.write("app.toml", &app.toml)?;
    let mut build = words(&[
        "image",
        "build",
        "-f",
        "app.toml",
        "--compress",
        "zstd",
        "-t",
        &image,
    ]);
    build.extend(["--from".to_string(), app.from.clone()]);
    build.extend(
        app.include
            .iter()
            .flat_map(|i| ["--include".to_string(), i.clone()]),
    );
    let build: Vec<&str> = build.iter().map(String::as_str).collect();
    let digest = h.ftvm(&build)?.good()?;
    h.ftvm(&["image", "keygen", "-o", "key"])?.good()?;
    h.ftvm(&["image", "sign", "-k", "key", &image])?.good()?;
    h.ftvm(&["image", "push", &image])?.good()?;
    h.elsewhere();
    let key = ["--verify-key", "key.pub"];
    let pulled = h.ftvm(&["image", "pull", key[0], key[1], &image])?.good()?;
    same("pulled", pulled, digest)?;
    h.ftvm(&["image", "verify", "-k", "key.pub", &image])?.good()?;
    h.detached(&["run", "-d", "--name", "app", key[0], key[1], "--image", &image])?;
    let said = asked(&h, &app, port).map_err(|e| {
        let log = h.ftvm(&["logs", "app"]).map(|s| s.out).unwrap_or_default();
        format!("{e}\n{log}")
    })?;
    h.ftvm(&["stop", "app"])?.good()?;
    same("under ftvm", said, app.answer.clone())?;
    podman(&h, &app, &image, port)
}

fn asked(h: &Host, app: &App, port: u16) -> Done<String> {
    up(port)?;
    let args: Vec<&str> = app.ask[1..].iter().map(String::as_str).collect();
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        // One that listens may not be ready yet.
        let said = h.ask(&app.ask[0], &args)?;
        if said.code == 0 || Instant::now() > limit {
            return said.good();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// podman with crun, in a mount namespace of its own. crun refuses a hybrid cgroup tree; it makes no group here.
fn in_podman(h: &Host, args: &[&str]) -> Done<Command> {
    let top = h.scratch.side().join("podman");
    io(fs::create_dir_all(&top))?;
    // Locks of its own too: the usual ones are in memory that every podman of the host shares, whatever its storage.
    let conf = top.join("containers.conf");
    let text = format!(
        "[engine]\nlock_type = \"file\"\ntmp_dir = \"{0}/tmp\"\nstatic_dir = \"{0}/static\"\n",
        top.display()
    );
    io(fs::write(&conf, text))?;
    let mut c = h.command("unshare");
    c.env("CONTAINERS_CONF", conf);
    let unshare = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-Urm"
    };
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec podman \"$@\"";
    c.args([unshare, "sh", "-c", script, "sh"]);
    c.arg("--root").arg(top.join("storage"));
    c.arg("--runroot").arg(top.join("run"));
    c.args([
        "--storage-driver",
        "vfs",
        "--cgroup-manager",
        "cgroupfs",
        "--events-backend",
        "file",
    ]);
    c.args(["--runtime", "crun"]).args(args);
    Ok(c)
}

/// Limits that whoever runs this may set; nothing of the host but its network.
const RUN: [&str; 10] = [
    "run",
    "--rm",
    "--network",
    "host",
    "--cgroups",
    "disabled",
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1024:1024",
];

fn podman(h: &Host, app: &App, image: &str, port: u16) -> Done {
    let with = |args: &[&str]| -> Done<bounded::Outcome> {
        io(bounded::run(in_podman(h, args)?, None, Duration::from_secs(120)))
    };
    let pulled = with(&["pull", "-q", "--tls-verify=false", image])?;
    if pulled.code != 0 {
        return Err(format!("podman pull: {}", pulled.tail()));
    }
    let mut c = in_podman(h, &[&RUN[..], &["--name", "app", image]].concat())?;
    let log = h.scratch.side().join("podman.log");
    let out = io(fs::File::create(&log))?;
    c.stdin(std::process::Stdio::null())
        .stdout(io(out.try_clone())?)
        .stderr(out);
    let mut child = io(c.spawn())?;
    let said = asked(h, app, port);
    let stopped = with(&["stop", "-t", "5", "app"])?;
    // It removes the container when that has ended; killed before, it would leave its locks.
    let limit = Instant::now() + Duration::from_secs(60);
    while io(child.try_wait())?.is_none() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    let log = fs::read_to_string(&log).unwrap_or_default();
    same(
        "under podman",
        said.map_err(|e| format!("{e}\n{log}"))?,
        app.answer.clone(),
    )?;
    match stopped.code {
        0 => Ok(()),
        _ => Err(format!("podman stop: {}", stopped.tail())),
    }
}

/// podman can run a container of its own here, or why not.
pub fn podman_works() -> Done {
    let h = Host::new()?;
    h.small("small:1", "hello")?;
    h.ftvm(&["image", "save", "-o", "small.tar", "small:1"])?.good()?;
    let with = |args: &[&str]| -> Done<bounded::Outcome> {
        io(bounded::run(in_podman(&h, args)?, None, Duration::from_secs(60)))
    };
    let file = h.cwd().join("small.tar").display().to_string();
    for args in [
        &["load", "-q", "-i", &file][..],
        &[&RUN[..], &["small:1"]].concat(),
    ] {
        let done = with(args)?;
        if done.code != 0 {
            return Err(format!("podman {}: {}", args[0], done.tail()));
        }
    }
    Ok(())
}

pub fn redis() -> Done {
    let port = free_port()?;
    let p = port.to_string();
    let app = App {
        name: "kv",
        toml: format!(
            "version = 1\ncommand = [\"/usr/bin/redis-server\", \"--save\", \"\", \"--bind\", \"127.0.0.1\", \"--port\", \"{p}\"]\n\
             workdir = \"/data\"\nexpose = [\"{p}\"]\n[[volumes]]\npath = \"/data\"\n"
        ),
        from: "/usr/bin/redis-server".to_string(),
        include: Vec::new(),
        ask: words(&[
            "redis-cli",
            "-p",
            &p,
            "eval",
            "return redis.call('incrby', 'a', 41) + 1",
            "0",
        ]),
        answer: "42".to_string(),
    };
    way(Host::new()?, app, port)
}

pub fn nginx() -> Done {
    let h = Host::new()?;
    let port = free_port()?;
    let top = h.scratch.side();
    io(fs::create_dir_all(top.join("www")))?;
    io(fs::write(top.join("www/index.html"), "it is nginx\n"))?;
    let (www, conf) = (top.join("www"), top.join("nginx.conf"));
    let text = format!(
        "daemon off; master_process off; user root; pid /run/nginx.pid; error_log stderr; events {{}} \
         http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {}; }} }}",
        www.display()
    );
    io(fs::write(&conf, text))?;
    let app = App {
        name: "web",
        toml: format!(
            "version = 1\ncommand = [\"/usr/sbin/nginx\", \"-c\", \"{}\"]\n[[volumes]]\npath = \"/var/log/nginx\"\n\
             [[volumes]]\npath = \"/var/lib/nginx\"\n[[volumes]]\npath = \"/run\"\n",
            conf.display()
        ),
        from: "/usr/sbin/nginx".to_string(),
        include: words(&[
            "/etc/passwd",
            "/etc/group",
            &conf.display().to_string(),
            &www.display().to_string(),
        ]),
        ask: words(&["curl", "-sf", &format!("http://127.0.0.1:{port}/")]),
        answer: "it is nginx".to_string(),
    };
    way(h, app, port)
}

pub fn node() -> Done {
    let h = Host::new()?;
    let port = free_port()?;
    let node = h.ask("sh", &["-c", "readlink -f $(command -v node)"])?.good()?;
    let file = h.scratch.side().join("web.js");
    io(fs::write(
        &file,
        format!(
            "require('http').createServer((q, r) => r.end('it is ' + [1, 2, 3].map(x => x * x).join()))\
             .listen({port}, '127.0.0.1');\nprocess.on('SIGTERM', () => process.exit(0));\n"
        ),
    ))?;
    let file = file.display().to_string();
    let app = App {
        name: "node",
        toml: format!("version = 1\ncommand = [\"{node}\", \"{file}\"]\n"),
        from: node,
        include: vec![file],
        ask: words(&["curl", "-sf", &format!("http://127.0.0.1:{port}/")]),
        answer: "it is 1,4,9".to_string(),
    };
    way(h, app, port)
}

/// PostgreSQL with a cluster that it makes at its start, as another user than root: many processes, shared memory.
pub fn postgres() -> Done {
    let h = Host::new()?;
    let port = free_port()?;
    let lib = h
        .ask("sh", &["-c", "ls -d /usr/lib/postgresql/* | sort -V | tail -1"])?
        .good()?;
    let version = lib.rsplit('/').next().unwrap_or_default().to_string();
    let bin = format!("{lib}/bin");
    let start = "d=/var/lib/pg; mkdir -p $d; chown postgres $d; cd /; \
        exec setpriv --reuid postgres --regid postgres --clear-groups sh -e -c \\\"\
        initdb -D $d -A trust -U postgres --no-sync -E UTF8 --locale C > /dev/null; exec postgres -D $d -h 127.0.0.1 -p $0 -c unix_socket_directories=\\\"";
    let app = App {
        name: "db",
        toml: format!(
            "version = 1\ncommand = [\"/bin/sh\", \"-e\", \"-c\", \"{}\"]\nenvironment = {{ PATH = \"{bin}:/usr/bin:/bin\" }}\n\
             expose = [\"{port}\"]\n[[volumes]]\npath = \"/var/lib/pg\"\n",
            start.replace("$0", &port.to_string())
        ),
        from: format!("{bin}/postgres"),
        include: words(&[
            &format!("{bin}/initdb"),
            &format!("{lib}/lib"),
            &format!("/usr/share/postgresql/{version}"),
            "/usr/share/postgresql-common",
            "/usr/share/zoneinfo",
            "/usr/bin/setpriv",
            "/bin/sh",
            "/bin/mkdir",
            "/bin/chown",
            "/etc/passwd",
            "/etc/group",
        ]),
        ask: words(&[
            "psql",
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "postgres",
            "-qAt",
            "-c",
            "create table t as select generate_series(1, 1000) n; select sum(n) from t",
        ]),
        answer: "500500".to_string(),
    };
    way(h, app, port)
}
