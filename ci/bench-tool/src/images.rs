//! Application images: the start from a warm snapshot against a cold start and the native program, pull and start against
//! podman with crun, and what ten images that share layers take on the disk.
//!
//! Every time is from the command to the first answer of the server that it starts.

use crate::host;
use crate::session::{Cpus, HOME};
use ftl_lab::cluster::Ended;
use ftl_lab::net;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PORT: u16 = 7_000;
/// Starts of each kind in one round.
const STARTS: usize = 5;
/// Whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Programs whose images share the C library, and some of them more.
const TEN: [&str; 10] = [
    "dash",
    "bash",
    "perl",
    "git",
    "curl",
    "python3",
    "sqlite3",
    "redis-server",
    "memcached",
    "openssl",
];

const NODE: &str = "require('http').createServer((q, r) => { r.setHeader('Connection', 'close'); r.end('ok'); })\
    .listen(7000, '127.0.0.1');\n";

const JAVA: &str = "import com.sun.net.httpserver.*; import java.net.*;\n\
    public class Web { public static void main(String[] a) throws Exception {\n\
    HttpServer s = HttpServer.create(new InetSocketAddress(\"127.0.0.1\", 7000), 16);\n\
    s.createContext(\"/\", e -> { e.getResponseHeaders().set(\"Connection\", \"close\"); e.sendResponseHeaders(200, 2);\n\
    e.getResponseBody().write(\"ok\".getBytes()); e.close(); }); s.start(); } }\n";

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum App {
    /// A server of node's http module.
    Node,
    /// A server of the JDK's.
    Java,
    /// Ten images that share layers.
    Ten,
}

impl App {
    /// All of them.
    pub const ALL: [App; 3] = [App::Node, App::Java, App::Ten];

    /// As in the report.
    pub fn name(self) -> &'static str {
        match self {
            App::Node => "node",
            App::Java => "java",
            App::Ten => "ten",
        }
    }
}

/// One application.
#[derive(Clone, Debug, clap::Args)]
pub struct Order {
    /// Which
    #[arg(long)]
    pub app: App,
    /// The ftvm to use
    #[arg(long)]
    pub ftvm: PathBuf,
}

/// What came of it: times in ms, empty where the programs for it are not there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Which.
    pub app: App,
    /// The program on Linux.
    pub native_ms: Vec<f64>,
    /// `ftvm run --cold --image`.
    pub cold_ms: Vec<f64>,
    /// `ftvm run --image`, from the warm snapshot.
    pub warm_ms: Vec<f64>,
    /// `podman run` with crun, image there.
    pub podman_ms: Vec<f64>,
    /// `ftvm image pull` into an empty store, and the first start.
    pub pulled_ms: Vec<f64>,
    /// `podman pull` into an empty store, and the first start.
    pub podman_pulled_ms: Vec<f64>,
    /// Packed snapshot, bytes.
    pub snapshot_bytes: u64,
    /// Disk that the images take, packed and unpacked, bytes.
    pub disk_bytes: u64,
    /// The same if they shared nothing.
    pub alone_bytes: u64,
    /// What could not be measured, and why.
    pub without: Vec<String>,
}

struct Bench<'a> {
    home: &'a Path,
    ftvm: &'a Path,
    registry: String,
}

fn answer() -> io::Result<()> {
    let mut s = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    s.set_read_timeout(Some(PATIENCE))?;
    s.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    s.read_exact(&mut [0])
}

fn done(mut c: Command) -> io::Result<String> {
    let name = format!(
        "{} {:?}",
        c.get_program().display(),
        c.get_args().collect::<Vec<_>>()
    );
    let out = c
        .stdin(Stdio::null())
        .output()
        .map_err(|e| io::Error::other(format!("{name}: {e}")))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_string()),
        false => Err(io::Error::other(format!(
            "{name}: {}",
            String::from_utf8_lossy(&out.stderr)
        ))),
    }
}

/// From the command to the first answer, ms.
fn start(mut c: Command) -> io::Result<f64> {
    let quiet = c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut child = Ended(quiet.spawn()?);
    while answer().is_err() {
        if child.0.try_wait()?.is_some() || began.elapsed() > PATIENCE {
            return Err(io::Error::other(format!(
                "{} never answered",
                c.get_program().display()
            )));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    let ms = began.elapsed().as_secs_f64() * 1e3;
    drop(child);
    // The port is free again for the next.
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).is_ok() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(ms)
}

impl Bench<'_> {
    fn ftvm_in(&self, data: &str, args: &[&str]) -> Command {
        let mut c = Command::new(self.ftvm);
        c.args(args)
            .current_dir(self.home)
            .env("XDG_DATA_HOME", self.home.join(data))
            .env("XDG_RUNTIME_DIR", self.home)
            .env("XDG_STATE_HOME", self.home);
        c
    }

    fn podman(&self, args: &[&str]) -> Command {
        let mut c = Command::new("podman");
        c.arg("--root").arg(self.home.join("podman"));
        c.arg("--runroot").arg(self.home.join("podman-run"));
        c.args([
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
            "--runtime",
            "crun",
        ])
        .args(args);
        c
    }

    /// Writes the application, and returns its command and what the image has to include.
    fn app(&self, app: App) -> io::Result<(Vec<String>, Vec<String>)> {
        let at = |name: &str| self.home.join(name).display().to_string();
        let found = |name: &str| done_sh(&format!("readlink -f \"$(command -v {name})\""));
        match app {
            App::Java => {
                fs::write(self.home.join("Web.java"), JAVA)?;
                let mut c = Command::new("javac");
                c.arg("-d")
                    .arg(self.home.join("classes"))
                    .arg(self.home.join("Web.java"));
                done(c)?;
                let java = found("java")?;
                let home = java.strip_suffix("/bin/java").unwrap_or(&java).to_string();
                let mut include = vec![home.clone(), at("classes")];
                // Configuration that links lead to, and libraries whose own needs count.
                include.extend(
                    done_sh(&format!(
                        "find {home}/ -type l -exec readlink -f {{}} + | grep ^/etc/ | sort -u || true"
                    ))?
                    .lines()
                    .map(str::to_string),
                );
                include.extend(
                    done_sh(&format!("find {home}/lib -name '*.so'"))?
                        .lines()
                        .map(str::to_string),
                );
                let command = [
                    &java,
                    "-Xmx256m",
                    "-XX:+UseSerialGC",
                    "-cp",
                    &at("classes"),
                    "Web",
                ];
                Ok((command.map(str::to_string).to_vec(), include))
            }
            _ => {
                fs::write(self.home.join("web.js"), NODE)?;
                Ok((vec![found("node")?, at("web.js")], vec![at("web.js")]))
            }
        }
    }

    fn starts(&self, app: App, r: &mut Measured) -> io::Result<()> {
        let (command, include) = self.app(app)?;
        let name = format!("{}/{}:1", self.registry, app.name());
        let listed: Vec<String> = command.iter().map(|w| format!("{w:?}")).collect();
        fs::write(
            self.home.join("app.toml"),
            format!(
                "version = 1\ncommand = [{}]\nwarm-until = \"http :{PORT}/\"\n",
                listed.join(", ")
            ),
        )?;
        let mut words = vec![
            "image",
            "build",
            "-f",
            "app.toml",
            "--compress",
            "zstd",
            "--from",
            &command[0],
            "-t",
            &name,
        ];
        words.extend(include.iter().flat_map(|i| ["--include", i.as_str()]));
        done(self.ftvm_in("built", &words))?;
        let shown = done(self.ftvm_in("built", &["image", "inspect", &name]))?;
        let shown: serde_json::Value = serde_json::from_str(&shown)?;
        r.snapshot_bytes = shown["attached"][0]["bytes"].as_u64().unwrap_or(0);
        for _ in 0..STARTS {
            let mut native = Command::new(&command[0]);
            native.args(&command[1..]);
            r.native_ms.push(start(native)?);
            r.cold_ms.push(start(
                self.ftvm_in("built", &["run", "--cold", "--image", &name]),
            )?);
            r.warm_ms
                .push(start(self.ftvm_in("built", &["run", "--image", &name]))?);
        }
        if let Err(e) = self.pulls(&name, r) {
            r.without.push(e.to_string());
        }
        Ok(())
    }

    fn pulls(&self, name: &str, r: &mut Measured) -> io::Result<()> {
        let _registry = self.serve()?;
        done(self.ftvm_in("built", &["image", "push", name]))?;
        let began = Instant::now();
        done(self.ftvm_in("pulled", &["image", "pull", name]))?;
        let pull = began.elapsed().as_secs_f64() * 1e3;
        r.pulled_ms
            .push(pull + start(self.ftvm_in("pulled", &["run", "--image", name]))?);
        let began = Instant::now();
        done(self.podman(&["pull", "-q", "--tls-verify=false", name]))?;
        let pull = began.elapsed().as_secs_f64() * 1e3;
        let run = [
            "run",
            "--rm",
            "--network",
            "host",
            "--cgroups",
            "disabled",
            "--ulimit",
            "host",
            name,
        ];
        r.podman_pulled_ms.push(pull + start(self.podman(&run))?);
        for _ in 0..STARTS {
            r.podman_ms.push(start(self.podman(&run))?);
        }
        Ok(())
    }

    fn serve(&self) -> io::Result<Ended> {
        let config = self.home.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {}}}\n",
            self.home.join("registry").display(),
            self.registry
        );
        fs::write(&config, text)?;
        let mut c = Command::new("docker-registry");
        c.arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = c
            .spawn()
            .map_err(|e| io::Error::other(format!("docker-registry: {e}")))?;
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(&self.registry).is_err() {
            if Instant::now() > end {
                return Err(io::Error::other("docker-registry does not listen"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Ended(child))
    }

    fn disk(&self, r: &mut Measured) -> io::Result<()> {
        let used = |data: &str| -> io::Result<u64> {
            let text = done(self.ftvm_in(data, &["image", "ls", "--json"]))?;
            let v: serde_json::Value = serde_json::from_str(&text)?;
            let n = |k: &str| v["disk"][k].as_u64().unwrap_or(0);
            Ok(n("blobs") + n("roots"))
        };
        for program in TEN {
            let short = program.rsplit('/').next().unwrap_or(program);
            let path = done_sh(&format!("readlink -f \"$(command -v {program})\""))?;
            for data in ["together", short] {
                let name = format!("{short}:1");
                fs::write(
                    self.home.join("app.toml"),
                    format!("version = 1\ncommand = [\"{path}\", \"--version\"]\n"),
                )?;
                done(self.ftvm_in(
                    data,
                    &["image", "build", "-f", "app.toml", "--from", &path, "-t", &name],
                ))?;
                // Unpacks it; what it says of itself does not matter.
                let _ = self
                    .ftvm_in(data, &["run", "--image", &name])
                    .stdin(Stdio::null())
                    .output()?;
            }
            r.alone_bytes += used(short)?;
        }
        r.disk_bytes = used("together")?;
        Ok(())
    }
}

fn done_sh(script: &str) -> io::Result<String> {
    let mut c = Command::new("sh");
    c.args(["-c", script]);
    done(c)
}

/// Carries an order out.
pub fn images(order: &Order) -> Result<Measured, String> {
    let cpus = Cpus::choose()?;
    net::enter()?;
    let home = std::env::temp_dir().join(format!("{HOME}{}", std::process::id()));
    let measured = try_images(order, &home, cpus).map_err(|e| e.to_string());
    // podman's storage has mounts and directories that only it can remove.
    if home.join("podman").exists() {
        let mut c = Command::new("podman");
        c.arg("--root")
            .arg(home.join("podman"))
            .arg("--runroot")
            .arg(home.join("podman-run"));
        let _ = c.args(["system", "reset", "-f"]).output();
    }
    let _ = done_sh(&format!("chmod -R u+rwx {0}; rm -rf {0}", home.display()));
    measured
}

fn try_images(order: &Order, home: &Path, cpus: Cpus) -> io::Result<Measured> {
    fs::create_dir_all(home)?;
    host::pin(&[cpus.server, cpus.other])?;
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let b = Bench {
        home,
        ftvm: &order.ftvm,
        registry: free.to_string(),
    };
    let mut r = Measured {
        app: order.app,
        native_ms: Vec::new(),
        cold_ms: Vec::new(),
        warm_ms: Vec::new(),
        podman_ms: Vec::new(),
        pulled_ms: Vec::new(),
        podman_pulled_ms: Vec::new(),
        snapshot_bytes: 0,
        disk_bytes: 0,
        alone_bytes: 0,
        without: Vec::new(),
    };
    match order.app {
        App::Ten => b.disk(&mut r)?,
        app => b.starts(app, &mut r)?,
    }
    Ok(r)
}
