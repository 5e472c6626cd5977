//! What a lab needs before it can be built. Each thing that is missing is one line, with how to mend it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

/// Programs, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 4] = [
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("bird", "bird2"),
    ("birdc", "bird2"),
];
/// Debian keeps some of them where a user's PATH does not look.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
const BIN_DIR_VARIABLE: &str = "ROUTELET_BIN_DIR";

/// The binaries under test.
#[derive(Debug, Clone)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// Their directory: `ROUTELET_BIN_DIR`, else where this very program was built.
    ///
    /// # Errors
    /// One is missing there.
    pub fn find() -> Result<Self> {
        let dir = match env::var_os(BIN_DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => beside_this_program()?,
        };
        // The plugin is called from another directory.
        let dir = fs::canonicalize(&dir).unwrap_or(dir);
        for name in ["routelet", "routelet-cni", "routectl"] {
            if !dir.join(name).is_file() {
                bail!(
                    "{name} is not in {}: run `make build`, or set {BIN_DIR_VARIABLE} to where it is",
                    dir.display()
                );
            }
        }
        Ok(Binaries { dir })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The agent.
    pub fn routelet(&self) -> PathBuf {
        self.dir.join("routelet")
    }

    /// The CNI plugin.
    pub fn routelet_cni(&self) -> PathBuf {
        self.dir.join("routelet-cni")
    }

    /// The command line.
    pub fn routectl(&self) -> PathBuf {
        self.dir.join("routectl")
    }
}

fn beside_this_program() -> Result<PathBuf> {
    let mut dir = env::current_exe()?;
    dir.pop();
    // A test is built into target/<profile>/deps.
    if dir.ends_with("deps") {
        dir.pop();
    }
    Ok(dir)
}

/// PATH, with the directories of system programs.
pub fn system_path() -> String {
    let path = env::var("PATH").unwrap_or_default();
    let mut dirs: Vec<&str> = path.split(':').filter(|dir| !dir.is_empty()).collect();
    dirs.extend(
        SYSTEM_DIRS
            .iter()
            .filter(|dir| !path.split(':').any(|known| known == **dir)),
    );
    dirs.join(":")
}

/// Checks all but the binaries under test.
///
/// # Errors
/// What is missing, one line a thing.
pub fn check() -> Result<()> {
    let mut missing = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing
            .push("a lab needs root to make network namespaces: run this again as root (sudo)".to_string());
    }
    let path = system_path();
    let is_there = |program: &str| path.split(':').any(|dir| Path::new(dir).join(program).is_file());
    for (program, package) in PROGRAMS {
        if !is_there(program) {
            missing.push(format!(
                "`{program}` is missing: run `make deps`, or `apt-get install {package}`"
            ));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{}", missing.join("\n"))
}
