//! DELs that wait on disk for an agent that was away.
//!
//! A DEL must succeed even where nobody can serve it, or a node whose agent is down could never finish a pod. The
//! plugin writes such a DEL to `<state>/pending-del/`, one file an attachment; the agent replays the directory
//! before it serves its socket. A file is written as temporary file, fsync, rename, fsync of the directory, and
//! everything happens under one lock, so that a file is whole, is replayed once, and is never lost.
//!
//! An ADD of the same attachment takes a waiting DEL back ([`Queue::forget`]).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::protocol::{AttachmentId, DelRequest};

/// Name of the directory under the state directory.
const DIRECTORY: &str = "pending-del";
/// What a queued DEL's file name ends with.
const SUFFIX: &str = ".json";
/// Longest wait for somebody else's lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// The queue of a node.
#[derive(Debug, Clone)]
pub struct Queue {
    directory: PathBuf,
}

impl Queue {
    /// The queue under a state directory. Nothing is made before there is something to queue.
    pub fn new(state_directory: &Path) -> Self {
        Self {
            directory: state_directory.join(DIRECTORY),
        }
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Queues a DEL, durably. Queueing it again changes nothing.
    ///
    /// # Errors
    /// What the file system says; `TimedOut` where somebody else holds the lock too long.
    pub fn push(&self, request: &DelRequest) -> io::Result<()> {
        let _locked = self.lock()?;
        let temporary = self.directory.join(".new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(request)?)?;
        file.sync_all()?;
        fs::rename(&temporary, self.file_of(&request.id))?;
        sync(&self.directory)
    }

    /// Takes back a waiting DEL of an attachment that is made anew. Costs one system call where there is none.
    ///
    /// # Errors
    /// As [`Queue::push`].
    pub fn forget(&self, id: &AttachmentId) -> io::Result<()> {
        let path = self.file_of(id);
        if !path.exists() {
            return Ok(());
        }
        let locked = self.lock()?;
        locked.delete(&path)
    }

    /// Locks the queue against plugins and other agents until the result is dropped.
    ///
    /// # Errors
    /// As [`Queue::push`].
    pub fn lock(&self) -> io::Result<Locked<'_>> {
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(".lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        let start = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    return Ok(Locked {
                        queue: self,
                        _lock: lock,
                    });
                }
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) if start.elapsed() < PATIENCE => file = back,
                Err((_, Errno::EWOULDBLOCK)) => return Err(io::ErrorKind::TimedOut.into()),
                Err((_, errno)) => return Err(errno.into()),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A container ID holds no `@`, so that no two attachments share a file.
    fn file_of(&self, id: &AttachmentId) -> PathBuf {
        self.directory
            .join(format!("{}@{}{SUFFIX}", id.container_id, id.ifname))
    }
}

/// The queue, held.
#[derive(Debug)]
pub struct Locked<'a> {
    queue: &'a Queue,
    _lock: Flock<File>,
}

/// A queued DEL.
#[derive(Debug)]
pub struct Entry {
    /// Its file.
    pub path: PathBuf,
    /// What was asked; an error where somebody wrote into the file.
    pub request: io::Result<DelRequest>,
}

impl Locked<'_> {
    /// What waits, in order of file names.
    ///
    /// # Errors
    /// What the file system says of the directory.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.queue.directory)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(SUFFIX) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths
            .into_iter()
            .map(|path| Entry {
                request: fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?)),
                path,
            })
            .collect())
    }

    /// Removes a DEL that has been served, durably.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self, entry: &Entry) -> io::Result<()> {
        self.delete(&entry.path)
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync(&self.queue.directory),
        }
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(container_id: &str, ifname: &str) -> DelRequest {
        DelRequest {
            id: AttachmentId {
                container_id: container_id.into(),
                ifname: ifname.into(),
            },
            network: "pods".into(),
        }
    }

    fn waiting(queue: &Queue) -> Vec<DelRequest> {
        let entries = queue.lock().unwrap().entries().unwrap();
        entries.into_iter().map(|entry| entry.request.unwrap()).collect()
    }

    #[test]
    fn queued_once_until_removed() {
        let state = tempfile::tempdir().unwrap();
        let queue = Queue::new(state.path());
        for name in ["eth0", "eth0", "net1"] {
            queue.push(&request("a.b", name)).unwrap();
        }
        assert_eq!(waiting(&queue), [request("a.b", "eth0"), request("a.b", "net1")]);

        let locked = queue.lock().unwrap();
        let first = locked.entries().unwrap().remove(0);
        locked.remove(&first).unwrap();
        locked.remove(&first).unwrap();
        drop(locked);
        assert_eq!(waiting(&queue), [request("a.b", "net1")]);
    }

    #[test]
    fn add_takes_it_back() {
        let state = tempfile::tempdir().unwrap();
        let queue = Queue::new(state.path());
        queue.forget(&request("a", "eth0").id).unwrap();
        assert!(!queue.directory().exists(), "nothing is made for nothing");
        queue.push(&request("a", "eth0")).unwrap();
        queue.push(&request("b", "eth0")).unwrap();
        queue.forget(&request("a", "eth0").id).unwrap();
        assert_eq!(waiting(&queue), [request("b", "eth0")]);
    }

    #[test]
    fn broken_file_does_not_hide_the_others() {
        let state = tempfile::tempdir().unwrap();
        let queue = Queue::new(state.path());
        queue.push(&request("b", "eth0")).unwrap();
        fs::write(queue.directory().join("a@eth0.json"), "{").unwrap();
        let locked = queue.lock().unwrap();
        let entries = locked.entries().unwrap();
        assert!(entries[0].request.is_err());
        assert_eq!(*entries[1].request.as_ref().unwrap(), request("b", "eth0"));
        locked.remove(&entries[0]).unwrap();
        assert_eq!(locked.entries().unwrap().len(), 1);
    }

    #[test]
    fn writers_at_once_lose_nothing() {
        let state = tempfile::tempdir().unwrap();
        thread::scope(|scope| {
            for writer in 0..4 {
                let queue = Queue::new(state.path());
                scope.spawn(move || {
                    for number in 0..10 {
                        queue
                            .push(&request(&format!("{writer}-{number}"), "eth0"))
                            .unwrap();
                    }
                });
            }
        });
        assert_eq!(waiting(&Queue::new(state.path())).len(), 40);
    }
}
