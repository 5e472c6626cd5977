//! The directory of a lab: what is needed to work with it, and to clean it after any crash.
//!
//! `<root>/<lab>/` with `<root>` being `/run/routelet-lab` or `ROUTELET_LAB_DIR`:
//!
//! - `lock`: locked by the command that builds, changes or dismantles the lab; holds its process id
//! - `ready`: there once the lab is complete
//! - `topology.yaml`, `datastore/`, `pods/<pod>.json`
//! - `namespaces`, `processes`: what was made, each recorded before it is made
//! - `<node>/`: `run/`, `state/`, `routelet.log`; `<router>/`: `bird.conf`, `bird.ctl`, `bird.log`
//!
//! A lab's directory appears locked and under its final name in one step, and vanishes in one step, so two commands
//! that race for a name cannot both have it.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::{
    net::Netns,
    process::{Recorded, recorded, start_time},
};

const ROOT: &str = "/run/routelet-lab";
const ROOT_VARIABLE: &str = "ROUTELET_LAB_DIR";
const MAX_NAME: usize = 20;

/// The lock of a lab; released when dropped.
#[derive(Debug)]
pub struct Lock(Flock<File>);

impl Lock {
    fn is_at(&self, path: &Path) -> bool {
        let inode = |metadata: fs::Metadata| metadata.ino();
        self.0.metadata().map(inode).ok() == fs::metadata(path).map(inode).ok()
    }
}

/// What there is of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Absent,
    /// It is up.
    Ready,
    /// A command is working on it: its process id.
    Busy(i32),
    /// The command that built it ended before it was complete.
    Broken,
}

/// The directory of a lab.
#[derive(Debug, Clone)]
pub struct LabDir {
    name: String,
    root: PathBuf,
}

impl LabDir {
    /// The directory for a lab of that name, whether or not it exists.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn named(name: &str) -> Result<Self> {
        let root = env::var_os(ROOT_VARIABLE).filter(|root| !root.is_empty());
        Self::within(root.map_or_else(|| PathBuf::from(ROOT), PathBuf::from), name)
    }

    fn within(root: PathBuf, name: &str) -> Result<Self> {
        // No '-': namespaces are called <lab>-<node>, and the lab must be told from that.
        let fits = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.len() <= MAX_NAME
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !fits {
            bail!(
                "\"{name}\" cannot be the name of a lab: give a lower-case letter, then up to 19 letters or digits"
            );
        }
        Ok(LabDir {
            name: name.to_string(),
            root,
        })
    }

    /// Names of all labs there are, complete or not.
    ///
    /// # Errors
    /// The directory of labs cannot be read.
    pub fn list() -> Result<Vec<String>> {
        let root = LabDir::named("any")?.root;
        let entries = match fs::read_dir(&root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", root.display())),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<_> = names
            .filter(|name| LabDir::within(root.clone(), name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory.
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// What there is of the lab.
    pub fn state(&self) -> State {
        if !self.path().exists() {
            return State::Absent;
        }
        match self.try_lock() {
            Ok(_) if self.path().join("ready").exists() => State::Ready,
            Ok(_) => State::Broken,
            Err(Some(owner)) => State::Busy(owner),
            Err(None) => State::Absent,
        }
    }

    /// Makes the directory, locked. `Ok(None)` where there is one of that name.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn create(&self) -> Result<Option<Lock>> {
        let fresh = self
            .root
            .join(format!(".new-{}-{}", self.name, std::process::id()));
        let attempt = || -> io::Result<Option<Lock>> {
            fs::create_dir_all(&fresh)?;
            let lock = lock_file(&fresh.join("lock"))?.ok_or(io::ErrorKind::WouldBlock)?;
            match fs::rename(&fresh, self.path()) {
                Ok(()) => Ok(Some(lock)),
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    fs::remove_dir_all(&fresh)?;
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        };
        attempt().with_context(|| format!("cannot make {}", self.path().display()))
    }

    /// Takes the lock of an existing lab.
    ///
    /// # Errors
    /// There is no such lab, or another command has the lock.
    pub fn lock(&self) -> Result<Lock> {
        match self.try_lock() {
            Ok(lock) => Ok(lock),
            Err(Some(owner)) => bail!("lab {} is in use by process {owner}", self.name),
            Err(None) => bail!("there is no lab \"{}\"", self.name),
        }
    }

    /// `Err(Some(pid))` where another process has the lock, `Err(None)` where there is no lab.
    fn try_lock(&self) -> Result<Lock, Option<i32>> {
        let path = self.path().join("lock");
        match lock_file(&path) {
            // The directory may have gone away between the two.
            Ok(Some(lock)) => lock.is_at(&path).then_some(lock).ok_or(None),
            Ok(None) => Err(Some(read_pid(&path))),
            Err(_) => Err(None),
        }
    }

    /// Removes the directory, in one step as others see it, and what an earlier crash left half-made.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self, _lock: Lock) -> Result<()> {
        let gone = self
            .root
            .join(format!(".gone-{}-{}", self.name, std::process::id()));
        fs::rename(self.path(), &gone).with_context(|| format!("cannot remove {}", self.path().display()))?;
        fs::remove_dir_all(&gone).with_context(|| format!("cannot remove {}", gone.display()))?;
        self.sweep();
        // Fails while there are other labs.
        let _ = fs::remove_dir(&self.root);
        Ok(())
    }

    /// Removes directories of this lab that a command made or put aside before it was killed.
    pub fn sweep(&self) {
        let prefixes = [format!(".new-{}-", self.name), format!(".gone-{}-", self.name)];
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let maker = prefixes
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix.as_str())?.parse().ok());
            if maker.is_some_and(|pid| start_time(pid).is_none()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Says that the lab is complete.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn mark_ready(&self) -> Result<()> {
        Ok(fs::write(self.path().join("ready"), "")?)
    }

    /// Creates a namespace, recorded beforehand.
    ///
    /// # Errors
    /// There is one of that name already, or the kernel refuses.
    pub fn create_namespace(&self, namespace: &Netns) -> Result<()> {
        if namespace.exists() {
            bail!(
                "there is a network namespace \"{name}\" that is not this lab's; \
                 give the lab another name, or remove it with `ip netns delete {name}`",
                name = namespace.name()
            );
        }
        self.record(namespace)?;
        namespace.create()
    }

    /// One write a line: pods are made side by side, and what is appended in pieces is mixed up.
    fn record(&self, namespace: &Netns) -> Result<()> {
        let mut record = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join("namespaces"))?;
        Ok(record.write_all(format!("{}\n", namespace.name()).as_bytes())?)
    }

    /// The namespaces recorded.
    pub fn namespaces(&self) -> Vec<Netns> {
        let text = fs::read_to_string(self.path().join("namespaces")).unwrap_or_default();
        let names = text.lines().filter(|name| !name.is_empty());
        names.map(Netns::named).collect()
    }

    /// Where processes are recorded.
    pub fn process_record(&self) -> PathBuf {
        self.path().join("processes")
    }

    /// The processes recorded, dead or alive.
    pub fn processes(&self) -> Vec<Recorded> {
        recorded(&self.process_record())
    }
}

fn lock_file(path: &Path) -> io::Result<Option<Lock>> {
    // Opened without `create` where the lab exists: a lock must not appear in a directory that is going away.
    let fresh = path.parent().is_some_and(|dir| {
        dir.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(".new-"))
    });
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(fresh)
        .truncate(false)
        .open(path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)?;
            write!(lock, "{}", std::process::id())?;
            Ok(Some(Lock(lock)))
        }
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

fn read_pid(path: &Path) -> i32 {
    let mut text = String::new();
    let read = File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    read.ok()
        .and_then(|_| text.trim().parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(root: &tempfile::TempDir, name: &str) -> LabDir {
        LabDir::within(root.path().to_path_buf(), name).unwrap()
    }

    #[test]
    fn namespaces_made_side_by_side_are_all_recorded() {
        let root = tempfile::tempdir().unwrap();
        let dir = dir(&root, "parallel");
        fs::create_dir_all(dir.path()).unwrap();
        let name = |thread: usize, count: usize| format!("parallel-{thread}-{count}");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let dir = &dir;
                scope.spawn(move || {
                    for count in 0..100 {
                        dir.record(&Netns::named(name(thread, count))).unwrap();
                    }
                });
            }
        });
        let recorded: std::collections::BTreeSet<String> = dir
            .namespaces()
            .iter()
            .map(|netns| netns.name().to_string())
            .collect();
        for (thread, count) in (0..8).flat_map(|thread| (0..100).map(move |count| (thread, count))) {
            assert!(
                recorded.contains(&name(thread, count)),
                "{} is lost",
                name(thread, count)
            );
        }
        assert_eq!(recorded.len(), 800);
    }

    #[test]
    fn names_have_no_hyphen() {
        for bad in ["", "a-b", "A", "1a", "../x", "abcdefghijklmnopqrstu"] {
            assert!(LabDir::within(PathBuf::from("/tmp"), bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_had_by_one_and_vanishes_with_it() {
        let root = tempfile::tempdir().unwrap();
        let lab = dir(&root, "one");
        assert_eq!(lab.state(), State::Absent);
        let lock = lab.create().unwrap().unwrap();
        assert!(lab.create().unwrap().is_none());
        assert_eq!(
            lab.state(),
            State::Busy(i32::try_from(std::process::id()).unwrap())
        );
        let error = lab.lock().unwrap_err().to_string();
        assert!(error.contains("lab one is in use by process"), "{error}");
        lab.remove(lock).unwrap();
        assert_eq!(lab.state(), State::Absent);
        assert!(!root.path().exists() || fs::read_dir(root.path()).unwrap().next().is_none());
    }

    #[test]
    fn a_lab_that_was_not_completed_is_broken() {
        let root = tempfile::tempdir().unwrap();
        let lab = dir(&root, "two");
        drop(lab.create().unwrap().unwrap());
        assert_eq!(lab.state(), State::Broken);
        lab.mark_ready().unwrap();
        assert_eq!(lab.state(), State::Ready);
    }

    #[test]
    fn what_a_killed_command_put_aside_is_swept() {
        let root = tempfile::tempdir().unwrap();
        let lab = dir(&root, "three");
        let live = root.path().join(format!(".new-three-{}", std::process::id()));
        let dead = root.path().join(format!(".gone-three-{}", i32::MAX));
        let others = root.path().join(format!(".gone-other-{}", i32::MAX));
        for path in [&live, &dead, &others] {
            fs::create_dir(path).unwrap();
        }
        lab.sweep();
        assert_eq!(
            (live.exists(), dead.exists(), others.exists()),
            (true, false, true)
        );
    }
}
