//! Guest programs: found in `guests/c/FAMILY/NAME.c`, described by the directives they begin with, compiled when needed.
//!
//! Directives are `// key: value` lines before the first other line: `needs` (`ipv6`, `root`, `avx512f`: natively
//! skipped where the host lacks it; `threads` is for the reader), `modes` (builds, see [`BUILDS`]), `exit`, `args`,
//! `stdin`, `racy`, `timeout` (seconds), `uncut` (why it cannot be cut), `held` (it says where it is to be cut). Other `//` lines are prose.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, io};

/// A compiler and its arguments, by the name that directives use.
pub struct Build {
    /// Name in directives and trials.
    pub name: &'static str,
    compiler: &'static str,
    flags: &'static [&'static str],
}

/// All builds a program can ask for; without `modes:` it is built `static` and `dynamic`.
pub const BUILDS: &[Build] = &[
    Build {
        name: "static",
        compiler: "gcc",
        flags: &["-static", "-no-pie", "-pthread"],
    },
    Build {
        name: "static-pie",
        compiler: "gcc",
        flags: &["-static-pie", "-fPIE", "-pthread"],
    },
    Build {
        name: "dynamic",
        compiler: "gcc",
        flags: &["-pie", "-fPIE", "-pthread", "-rdynamic"],
    },
    Build {
        name: "nopie",
        compiler: "gcc",
        flags: &["-no-pie", "-fno-pie", "-pthread"],
    },
    Build {
        name: "musl",
        compiler: "musl-gcc",
        flags: &["-static", "-pthread"],
    },
    Build {
        name: "musl-dynamic",
        compiler: "musl-gcc",
        flags: &["-pthread"],
    },
    Build {
        name: "bare",
        compiler: "gcc",
        flags: &[
            "-nostdlib",
            "-static",
            "-no-pie",
            "-fno-pie",
            "-ffreestanding",
            "-fno-stack-protector",
            "-fcf-protection=none",
            "-mno-red-zone",
        ],
    },
];
const COMMON_FLAGS: &[&str] = &[
    "-std=gnu11",
    "-O1",
    "-g0",
    "-Wall",
    "-Wextra",
    "-Werror=implicit-function-declaration",
];
const LIBRARIES: &[&str] = &["-lm"];

/// One guest program.
pub struct Program {
    /// Folder under `guests/c`.
    pub family: String,
    /// File name without `.c`.
    pub name: String,
    source: PathBuf,
    /// Builds it is to pass in.
    pub builds: Vec<&'static Build>,
    /// Host features it cannot do without.
    pub needs: Vec<String>,
    /// Exit code it states.
    pub exit: i32,
    /// Arguments.
    pub args: Vec<String>,
    /// Standard input.
    pub stdin: Option<String>,
    /// Only lines that begin with `invariant` are compared.
    pub racy: bool,
    /// It cannot be cut into parts that together do what the whole does.
    pub uncut: bool,
    /// It says where it is to be cut ([`crate::cut::held`]).
    pub held: bool,
    /// Hard limit of one run.
    pub limit: Duration,
}

/// All programs under `top` (`guests/c`), sorted.
pub fn discover(top: &Path) -> Result<Vec<Program>, String> {
    let mut found = Vec::new();
    for family in sorted(top).map_err(|e| format!("{}: {e}", top.display()))? {
        if !family.is_dir() {
            continue;
        }
        for source in sorted(&family).map_err(|e| format!("{}: {e}", family.display()))? {
            if source.extension().is_some_and(|e| e == "c") {
                found.push(Program::read(&source).map_err(|e| format!("{}: {e}", source.display()))?);
            }
        }
    }
    Ok(found)
}

fn sorted(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(dir)?
        .map(|e| e.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn stem(path: Option<&Path>) -> String {
    path.and_then(Path::file_stem)
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

impl Program {
    fn read(source: &Path) -> Result<Program, String> {
        let text = fs::read_to_string(source).map_err(|e| e.to_string())?;
        let mut program = Program {
            family: stem(source.parent()),
            name: stem(Some(source)),
            source: source.to_path_buf(),
            builds: Vec::new(),
            needs: Vec::new(),
            exit: 0,
            args: Vec::new(),
            stdin: None,
            racy: false,
            uncut: false,
            held: false,
            // Only what hangs takes as long, on a machine that is busy elsewhere too.
            limit: Duration::from_secs(60),
        };
        for line in text.lines() {
            let Some(line) = line.strip_prefix("//") else {
                break;
            };
            let (key, value) = line.split_once(':').unwrap_or((line, ""));
            program.directive(key.trim(), value.trim())?;
        }
        if program.builds.is_empty() {
            program.directive("modes", "static dynamic")?;
        }
        Ok(program)
    }

    fn directive(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<i32>().map_err(|e| format!("{key}: {e}"));
        match key {
            "needs" => self.needs = value.split_whitespace().map(str::to_owned).collect(),
            "modes" => {
                for name in value.split_whitespace() {
                    let build = BUILDS
                        .iter()
                        .find(|b| b.name == name)
                        .ok_or(format!("no build {name}"))?;
                    self.builds.push(build);
                }
            }
            "exit" => self.exit = number()?,
            "args" => self.args = value.split_whitespace().map(str::to_owned).collect(),
            "stdin" => self.stdin = Some(value.replace("\\n", "\n")),
            "racy" => self.racy = true,
            "uncut" if value.is_empty() => return Err("uncut: say why".to_string()),
            "uncut" => self.uncut = true,
            "held" => self.held = true,
            "timeout" => self.limit = Duration::from_secs(number()?.unsigned_abs().into()),
            _ => {}
        }
        Ok(())
    }

    /// What of `needs` this host lacks.
    pub fn lacking(&self) -> Option<&str> {
        self.needs.iter().map(String::as_str).find(|need| match *need {
            "ipv6" => !Path::new("/proc/net/if_inet6").exists(),
            "root" => !rustix::process::getuid().is_root(),
            "threads" => false,
            flag => !cpu_flags().contains(&format!(" {flag} ")),
        })
    }

    /// Compiles it, or finds it in the cache under the hash of all that goes in.
    pub fn compile(&self, build: &Build, cache: &Path) -> Result<PathBuf, String> {
        let key = self.key(build)?;
        let dir = cache.join(&self.family);
        let out = dir.join(format!("{}.{}.{key:016x}", self.name, build.name));
        if out.exists() {
            return Ok(out);
        }
        fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
        let fresh = out.with_extension(format!("{key:016x}.{}", std::process::id()));
        let mut gcc = Command::new(build.compiler);
        gcc.args(COMMON_FLAGS)
            .args(build.flags)
            .arg("-o")
            .arg(&fresh)
            .arg(&self.source);
        if build.name != "bare" {
            gcc.args(LIBRARIES);
        }
        let done = gcc.output().map_err(|e| format!("{}: {e}", build.compiler))?;
        if !done.status.success() {
            return Err(format!(
                "does not compile:\n{}",
                String::from_utf8_lossy(&done.stderr)
            ));
        }
        self.forget_older(&dir, build);
        fs::rename(&fresh, &out).map_err(|e| e.to_string())?;
        Ok(out)
    }

    fn key(&self, build: &Build) -> Result<u64, String> {
        let mut hasher = DefaultHasher::new();
        fs::read(&self.source)
            .map_err(|e| e.to_string())?
            .hash(&mut hasher);
        let top = self
            .source
            .parent()
            .and_then(Path::parent)
            .unwrap_or(Path::new("."));
        for path in sorted(top).map_err(|e| e.to_string())? {
            if path.extension().is_some_and(|e| e == "h") {
                fs::read(path).map_err(|e| e.to_string())?.hash(&mut hasher);
            }
        }
        (
            build.compiler,
            build.flags,
            COMMON_FLAGS,
            LIBRARIES,
            compiler_version(),
        )
            .hash(&mut hasher);
        Ok(hasher.finish())
    }

    fn forget_older(&self, dir: &Path, build: &Build) {
        let prefix = format!("{}.{}.", self.name, build.name);
        for path in sorted(dir).unwrap_or_default() {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let finished = name.matches('.').count() == 2;
            if finished && name.starts_with(&prefix) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn compiler_version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let out = Command::new("gcc").arg("-dumpfullversion").output();
        out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default()
    })
}

fn cpu_flags() -> &'static str {
    static FLAGS: OnceLock<String> = OnceLock::new();
    FLAGS.get_or_init(|| {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = info.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
        format!("{line} ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> Result<Program, String> {
        let dir = crate::place::Scratch::new().map_err(|e| e.to_string())?;
        let path = dir.cwd().join("p.c");
        fs::write(&path, text).map_err(|e| e.to_string())?;
        Program::read(&path)
    }

    #[test]
    fn reads_directives_and_passes_over_prose() {
        let p = program(
            "// modes: musl bare\n// exit: 134\n// args: a b\n// Prose: with a colon.\n// racy\n// timeout: 7\nint x; // exit: 1\n",
        );
        let p = p.unwrap();
        assert_eq!(
            p.builds.iter().map(|b| b.name).collect::<Vec<_>>(),
            ["musl", "bare"]
        );
        assert_eq!(
            (p.exit, p.args.len(), p.racy, p.limit.as_secs()),
            (134, 2, true, 7)
        );
        assert_eq!(program("int x;").unwrap().builds.len(), 2);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(program("// modes: nosuch\n").is_err());
        assert!(program("// exit: many\n").is_err());
        assert!(program("// uncut:\n").is_err());
    }

    #[test]
    fn every_program_of_the_repository_can_be_read() {
        let all = discover(&crate::place::repository().join("guests/c")).unwrap();
        assert!(all.len() > 150);
    }
}
