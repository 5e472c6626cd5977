//! Files that appear, change and vanish as a whole.
//!
//! A file is written under a temporary name in its own directory, synced, renamed, and the directory is synced. Those
//! who write to a directory take turns: each holds a lock on the directory itself, which the kernel frees when the
//! process dies. So one temporary name is enough, and what is found under it was left by a crash and is replaced.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use super::Error;

/// A directory that nobody else of ours changes meanwhile.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    held: Flock<File>,
}

impl Directory {
    /// Opens the directory, makes it where it is missing, and waits for its lock. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lock(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(Error::io("make the directory", path))?;
        let directory = File::open(path).map_err(Error::io("open", path))?;
        let held = Flock::lock(directory, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::io("lock", path)(errno.into()))?;
        Ok(Directory {
            path: path.to_owned(),
            held,
        })
    }

    /// Path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes `name` hold `content`, with these permissions. Whoever opens it sees the old file or the new
    /// one; a process that executes the old one goes on.
    ///
    /// # Errors
    /// [`Error::Io`]; the old file is then still there.
    pub fn replace(&self, name: &str, content: &[u8], mode: u32) -> Result<(), Error> {
        let path = self.join(name);
        let temporary = self.temporary(name);
        let written = write(&temporary, content, mode)
            .map_err(Error::io("write", &temporary))
            .and_then(|()| fs::rename(&temporary, &path).map_err(Error::io("replace", &path)));
        if written.is_err() {
            // Best effort: on a full disk this is what makes room again.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        self.sync()
    }

    /// Renames a file, unless the new name is taken.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let target = self.join(to);
        if target.symlink_metadata().is_ok() {
            return Err(Error::io("rename to", &target)(
                io::ErrorKind::AlreadyExists.into(),
            ));
        }
        let from = self.join(from);
        fs::rename(&from, target).map_err(Error::io("rename", &from))?;
        self.sync()
    }

    /// Removes a file and what a crash left of one; true where there was one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        let was_there = remove(&self.join(name))?;
        let left = remove(&self.temporary(name))?;
        if was_there || left {
            self.sync()?;
        }
        Ok(was_there)
    }

    /// Removes what a crash left of a file that was being written.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_leftover(&self, name: &str) -> Result<(), Error> {
        remove(&self.temporary(name)).map(drop)
    }

    /// A name no runtime takes for a plugin or a configuration.
    fn temporary(&self, name: &str) -> PathBuf {
        self.join(&format!(".{name}.tmp"))
    }

    fn sync(&self) -> Result<(), Error> {
        self.held
            .sync_all()
            .map_err(Error::io("sync the directory", &self.path))
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // A leftover may be anything, also a link to somewhere else: never write through it.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    // Not at creation: the umask must not have a say.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

fn remove(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("remove", path)(error)),
    }
}
