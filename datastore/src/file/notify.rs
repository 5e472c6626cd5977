//! inotify, shared by all watches of a process (a user may have only 128 instances): it tells each watch which of
//! its files to look at again. Events are hints and nothing more; what counts is what the look finds.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::{sync::Notify, task::JoinHandle};

use super::layout::Key;
use crate::{KindInfo, Result};

use super::{disk::create_dir, objects::Objects};

/// Room for a few hundred events a read.
const BUFFER: usize = 16 * 1024;
/// Files to look at one by one; more than that, and the whole folder is looked through.
const MAX_HINTS: usize = 256;

/// What a watch has been told and not yet looked at.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Look at everything.
    pub(super) all: bool,
    /// Look at these; true where the last that happened to the file was an unlink.
    pub(super) files: BTreeMap<Key, bool>,
}

/// One watch's ear.
#[derive(Debug)]
pub(super) struct Signal {
    folder: PathBuf,
    namespaced: bool,
    hints: Mutex<Hints>,
    notify: Notify,
}

impl Signal {
    /// Takes what there is.
    pub(super) fn take(&self) -> Hints {
        std::mem::take(&mut *lock(&self.hints))
    }

    /// Returns once there is something to take.
    pub(super) async fn wait(&self) {
        self.notify.notified().await;
    }

    fn all(&self) {
        lock(&self.hints).all = true;
        self.notify.notify_one();
    }

    /// Notes an event on an entry of a folder at or below ours.
    fn touch(&self, folder: &Path, name: &str, mask: EventMask) {
        let namespace = match folder.strip_prefix(&self.folder) {
            Ok(below) if below.as_os_str().is_empty() => "",
            Ok(below) if self.namespaced => below.to_str().unwrap_or_default(),
            _ => return,
        };
        if mask.contains(EventMask::ISDIR) {
            return self.all();
        }
        if namespace.is_empty() == self.namespaced {
            return;
        }
        let mut hints = lock(&self.hints);
        match Key::of_file(namespace, name) {
            Some(key) => {
                hints.files.insert(key, mask.contains(EventMask::DELETE));
            }
            // An editor's or a writer's own file, or one with another ending.
            None if name.starts_with('.') || name.ends_with('~') => return,
            None => hints.all = true,
        }
        if hints.files.len() > MAX_HINTS {
            *hints = Hints {
                all: true,
                files: BTreeMap::new(),
            };
        }
        drop(hints);
        self.notify.notify_one();
    }
}

/// The process's inotify instance on one directory.
pub(super) struct Notifier {
    kernel: Option<Kernel>,
    signals: Mutex<Vec<Weak<Signal>>>,
}

struct Kernel {
    watches: Mutex<Watches>,
    folders: Mutex<HashMap<WatchDescriptor, PathBuf>>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Notifier {
    fn drop(&mut self) {
        if let Some(reader) = self
            .kernel
            .as_ref()
            .and_then(|kernel| lock(&kernel.reader).take())
        {
            reader.abort();
        }
    }
}

impl Notifier {
    /// Starts to listen; must be called within a tokio runtime. Without inotify, watches look by the clock.
    pub(super) fn start() -> Arc<Self> {
        let opened = Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; BUFFER]));
        let events = match opened {
            Ok(events) => Some(events),
            Err(e) => {
                tracing::warn!(error = %e, "inotify is not available (fs.inotify.max_user_instances?): polling");
                None
            }
        };
        let notifier = Arc::new(Notifier {
            kernel: events.as_ref().map(|events| Kernel {
                watches: Mutex::new(events.watches()),
                folders: Mutex::default(),
                reader: Mutex::default(),
            }),
            signals: Mutex::default(),
        });
        if let (Some(events), Some(kernel)) = (events, &notifier.kernel) {
            let reader = tokio::spawn(read_events(events, Arc::downgrade(&notifier)));
            *lock(&kernel.reader) = Some(reader);
        }
        notifier
    }

    /// One that hears nothing, as on a machine without inotify.
    #[cfg(test)]
    pub(super) fn deaf() -> Arc<Self> {
        Arc::new(Notifier {
            kernel: None,
            signals: Mutex::default(),
        })
    }

    /// An ear for one kind.
    pub(super) fn subscribe(&self, folder: PathBuf, namespaced: bool) -> Arc<Signal> {
        let signal = Arc::new(Signal {
            folder,
            namespaced,
            hints: Mutex::default(),
            notify: Notify::new(),
        });
        let mut signals = lock(&self.signals);
        signals.retain(|signal| signal.strong_count() > 0);
        signals.push(Arc::downgrade(&signal));
        signal
    }

    /// Makes the kernel watch a kind's folders, as they are now; false where it cannot, and polling must do. To be
    /// called before every full look: a folder that was made anew needs a new watch, and one that is watched
    /// already costs nothing.
    pub(super) fn cover(&self, objects: &Objects, kind: &KindInfo) -> Result<bool> {
        let folder = objects.folder(kind);
        if objects.root.is_dir()
            && let Err(error) = create_dir(&folder)
        {
            tracing::debug!(%error, "the folder will be watched once it is there");
        }
        let mut covered = self.add(&objects.root) & self.add(&folder);
        if kind.namespaced {
            for namespace in objects.namespaces(kind)? {
                covered &= self.add(&folder.join(namespace));
            }
        }
        Ok(covered)
    }

    fn add(&self, folder: &Path) -> bool {
        let Some(kernel) = &self.kernel else {
            return false;
        };
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        // Under the lock, so that no event of the new watch is looked up before its folder is known.
        let mut folders = lock(&kernel.folders);
        match lock(&kernel.watches).add(folder, mask) {
            Ok(watch) => {
                folders.insert(watch, folder.to_path_buf());
                true
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => {
                tracing::debug!(folder = %folder.display(), error = %e, "cannot watch: polling");
                false
            }
        }
    }

    fn handle_event(&self, event: &EventOwned) {
        let signals: Vec<_> = lock(&self.signals).iter().filter_map(Weak::upgrade).collect();
        let Some(kernel) = &self.kernel else {
            return;
        };
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            signals.iter().for_each(|signal| signal.all());
            return;
        }
        let folder = {
            let mut folders = lock(&kernel.folders);
            if event.mask.contains(EventMask::IGNORED) {
                folders.remove(&event.wd)
            } else {
                folders.get(&event.wd).cloned()
            }
        };
        let Some(folder) = folder else {
            return;
        };
        match event.name.as_ref().and_then(|name| name.to_str()) {
            Some(name) => {
                for signal in &signals {
                    // A kind's folder that comes or goes is an event of the directory's.
                    if signal.folder == folder.join(name) {
                        signal.all();
                    }
                    signal.touch(&folder, name, event.mask);
                }
            }
            None => signals
                .iter()
                .filter(|signal| folder.starts_with(&signal.folder) || signal.folder.starts_with(&folder))
                .for_each(|signal| signal.all()),
        }
    }
}

async fn read_events(mut events: EventStream<Vec<u8>>, notifier: Weak<Notifier>) {
    while let Some(event) = events.next().await {
        let Some(notifier) = notifier.upgrade() else {
            return;
        };
        match event {
            Ok(event) => notifier.handle_event(&event),
            Err(e) => {
                tracing::warn!(error = %e, "cannot read inotify events: looking by the clock");
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(namespaced: bool) -> Signal {
        Signal {
            folder: PathBuf::from("/d/pods"),
            namespaced,
            hints: Mutex::default(),
            notify: Notify::new(),
        }
    }

    fn hints(signal: &Signal) -> (bool, Vec<(String, bool)>) {
        let Hints { all, files } = signal.take();
        (
            all,
            files
                .into_iter()
                .map(|(key, unlinked)| (key.full_name(), unlinked))
                .collect(),
        )
    }

    #[test]
    fn events_become_hints_on_the_files_of_the_kind() {
        let wide = signal(false);
        wide.touch(Path::new("/d/pods"), "a.yaml", EventMask::CREATE);
        wide.touch(Path::new("/d/pods"), "a.yaml", EventMask::DELETE);
        wide.touch(Path::new("/d/pods"), "b.yaml", EventMask::DELETE);
        wide.touch(Path::new("/d/pods"), "b.yaml", EventMask::MOVED_TO);
        for (folder, name) in [
            ("/d/pods", ".routelet.tmp"),
            ("/d/pods", "a.yaml~"),
            ("/d/pods/red", "c.yaml"),
            ("/d", "pods.yaml"),
        ] {
            wide.touch(Path::new(folder), name, EventMask::CLOSE_WRITE);
        }
        assert_eq!(
            hints(&wide),
            (false, vec![("a".to_string(), true), ("b".to_string(), false)])
        );

        let narrow = signal(true);
        narrow.touch(Path::new("/d/pods/red"), "a.yaml", EventMask::CLOSE_WRITE);
        narrow.touch(Path::new("/d/pods"), "stray.yaml", EventMask::CLOSE_WRITE);
        assert_eq!(hints(&narrow), (false, vec![("red/a".to_string(), false)]));
        narrow.touch(Path::new("/d/pods"), "blue", EventMask::CREATE | EventMask::ISDIR);
        assert!(hints(&narrow).0);
    }

    #[test]
    fn a_flood_of_events_becomes_one_look_at_everything() {
        let signal = signal(false);
        for at in 0..10 * MAX_HINTS {
            signal.touch(
                Path::new("/d/pods"),
                &format!("{at}.yaml"),
                EventMask::CLOSE_WRITE,
            );
        }
        assert!(lock(&signal.hints).files.len() <= MAX_HINTS);
        assert!(hints(&signal).0);
    }
}
