//! The directory as a disk sees it: the lock between processes, durable writes, the revision counter.
//!
//! - Every write happens under an exclusive `flock` on `DIR/.lock`. Within a process a mutex comes first, so that
//!   threads queue fairly and only one of them polls the file.
//! - A file is replaced by writing `.routelet.tmp` beside it, `fsync`, `rename`, `fsync` of the folder: whenever the
//!   process or the machine dies, the old or the new file is there. One writer at a time means one temporary name
//!   a folder is enough, and what a dead writer left is truncated by the next.
//! - `DIR/.revision` holds the last revision given to a write. It is written before the object, without `fsync`
//!   (the page cache outlives a killed process); after a power cut it may be behind, so each process compares it
//!   with the objects before its first write. A delete leaves no object to compare with: it does `fsync`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag},
};

use crate::{Error, Result};

/// The temporary file beside the one that is written.
pub(super) const TEMPORARY: &str = ".routelet.tmp";
const LOCK: &str = ".lock";
const REVISION: &str = ".revision";
/// How long a writer waits for the others; each holds the lock for milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// Pauses between attempts double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LAST_PAUSE: Duration = Duration::from_millis(2);

/// An [`Error::Unavailable`] about a path.
pub(super) fn unavailable(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Unavailable {
        action,
        target: path.display().to_string(),
        source,
    }
}

/// The right to write, until dropped.
pub(super) struct DirLock {
    _file: Flock<File>,
    dir: PathBuf,
}

impl DirLock {
    /// Waits for the lock; creates the directory where it is missing.
    pub(super) fn acquire(dir: &Path) -> Result<Self> {
        create_dir(dir)?;
        let path = dir.join(LOCK);
        let deadline = Instant::now() + LOCK_PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(&path)
                .map_err(|e| unavailable("open", &path, e))?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) if is_still_at(&file, &path) => {
                    return Ok(DirLock {
                        _file: file,
                        dir: dir.to_path_buf(),
                    });
                }
                // Somebody removed the directory and made it anew while we waited.
                Ok(_) => create_dir(dir)?,
                Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => {}
                Err((_, errno)) => return Err(unavailable("lock", &path, errno.into())),
            }
            if Instant::now() >= deadline {
                let cause = io::Error::new(io::ErrorKind::TimedOut, "another process has held it for 10 s");
                return Err(unavailable("lock", &path, cause));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// The last revision given out; `None` where the counter is missing or garbage.
    pub(super) fn read_revision(&self) -> Result<Option<u64>> {
        let path = self.dir.join(REVISION);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(64).read_to_string(&mut text)) {
            Ok(_) => Ok(text.trim().parse().ok().filter(|revision| *revision < 1 << 60)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
            Err(e) => Err(unavailable("read", &path, e)),
        }
    }

    /// Notes a revision as given out. One write of fixed width: it is there whole or not at all.
    pub(super) fn write_revision(&self, revision: u64, durable: bool) -> Result<()> {
        let path = self.dir.join(REVISION);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .and_then(|file| {
                file.write_all_at(format!("{revision:020}\n").as_bytes(), 0)?;
                file.set_len(21)?;
                if durable {
                    file.sync_all()?;
                    sync_dir(&self.dir)?;
                }
                Ok(())
            })
            .map_err(|e| unavailable("write", &path, e))
    }

    /// Replaces a file, or creates it with its folder; durable when it returns, and on failure nothing has changed.
    /// A file keeps its permissions; a new one gets `mode`.
    pub(super) fn write(&self, path: &Path, content: &str, mode: u32) -> Result<()> {
        let folder = path.parent().unwrap_or(&self.dir);
        create_dir(folder)?;
        let temporary = folder.join(TEMPORARY);
        let permissions = fs::metadata(path).map_or_else(
            |_| Permissions::from_mode(mode),
            |metadata| metadata.permissions(),
        );
        let written =
            write_synced(&temporary, content, permissions).and_then(|()| fs::rename(&temporary, path));
        if let Err(error) = written {
            // The first error is the one to tell; what cannot be removed is truncated by the next write.
            let _ = fs::remove_file(&temporary);
            return Err(unavailable("write", path, error));
        }
        sync_dir(folder).map_err(|e| unavailable("write", path, e))
    }

    /// Deletes a file; durable when it returns.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|e| unavailable("delete", path, e))?;
        sync_dir(path.parent().unwrap_or(&self.dir)).map_err(|e| unavailable("delete", path, e))
    }

    /// Removes what a writer that died left in a folder.
    pub(super) fn clean(&self, folder: &Path) {
        match fs::remove_file(folder.join(TEMPORARY)) {
            Ok(()) => tracing::info!(folder = %folder.display(), "removed what an interrupted write left"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => tracing::debug!(folder = %folder.display(), error = %e, "cannot clean up"),
        }
    }
}

fn write_synced(path: &Path, content: &str, permissions: Permissions) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    file.set_permissions(permissions)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// Creates a folder and its parents where they are missing, durably.
pub(super) fn create_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_dir(parent)?;
    }
    match DirBuilder::new().mode(0o755).create(dir) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(unavailable("open", dir, io::ErrorKind::NotADirectory.into()));
        }
        Err(e) => return Err(unavailable("create directory", dir, e)),
    }
    match dir.parent() {
        Some(parent) => sync_dir(parent).map_err(|e| unavailable("create directory", dir, e)),
        None => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// True where the path still leads to the file that is locked.
fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(locked), Ok(there)) => (locked.dev(), locked.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
