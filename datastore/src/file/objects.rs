//! The objects in the directory: finding, reading and writing them, without async.
//!
//! Reads take no lock: a file is replaced as a whole, so each is seen old or new. What was parsed is kept, and a
//! file is read again when its inode, size or times differ, or when they are so recent that a second change in the
//! same clock tick could hide behind them.
//!
//! A manifest that does not parse is an error of whoever asks for it, and a line in the log where it is left out of
//! a list. Its last good version stays in force for as long as this process lives and the file is there. It cannot be updated: an update would lose what the hand wrote.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::{
    disk::unavailable,
    layout::{EXTENSION, Key},
    manifest::{Manifest, at_path, content_hash},
};
use crate::{Error, FieldError, Invalid, KindInfo, Result, object::refused};

/// Longer manifests are refused; the Kubernetes API's limit is lower.
const MAX_SIZE: u64 = 4 << 20;
/// A file's times tell all its changes apart once they are older than this (several ticks of the slowest clock).
const TIMES_SETTLE: Duration = Duration::from_millis(50);

/// The directory and what is known of it.
pub(super) struct Objects {
    pub(super) root: PathBuf,
    parsed: Mutex<HashMap<PathBuf, Parsed>>,
    /// Files of another ending that were logged.
    misnamed: Mutex<BTreeSet<PathBuf>>,
    /// Held by the writer of this process; true once the directory has been looked through before a first write.
    pub(super) writer: Mutex<bool>,
}

/// What one file held when it was read.
struct Parsed {
    signature: Signature,
    /// False where the signature was too young to trust.
    settled: bool,
    hash: String,
    outcome: Result<Arc<Manifest>, Box<Invalid>>,
    last_good: Option<Arc<Manifest>>,
    /// True once its outcome was logged.
    logged: bool,
}

/// Changes whenever a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A look at one file.
#[derive(Debug, Clone)]
pub(super) enum Look {
    /// There is none.
    Missing,
    /// It is in order.
    Good(Arc<Manifest>),
    /// It is not.
    Broken {
        invalid: Box<Invalid>,
        /// Names this content.
        hash: String,
        last_good: Option<Arc<Manifest>>,
    },
}

/// The files of a kind.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Manifests.
    pub(super) keys: BTreeSet<Key>,
    /// Files that look like manifests but have another ending.
    pub(super) misnamed: BTreeSet<PathBuf>,
}

impl Objects {
    pub(super) fn new(root: PathBuf) -> Self {
        Objects {
            root,
            parsed: Mutex::default(),
            misnamed: Mutex::default(),
            writer: Mutex::default(),
        }
    }

    /// The folder of a kind.
    pub(super) fn folder(&self, kind: &KindInfo) -> PathBuf {
        self.root.join(kind.plural)
    }

    /// All usable objects of a kind, ordered by name.
    pub(super) fn list(&self, kind: &KindInfo) -> Result<Vec<Arc<Manifest>>> {
        let mut manifests = Vec::new();
        let files = self.files(kind)?;
        for path in files.misnamed {
            let invalid = misnamed(kind, &path);
            if self.misnamed().insert(path) {
                tracing::warn!("{invalid}");
            }
        }
        for key in files.keys {
            match self.look(kind, &key)? {
                Look::Good(manifest) => manifests.push(manifest),
                Look::Broken {
                    invalid, last_good, ..
                } => {
                    self.log_once(kind, &key, &invalid, last_good.is_some());
                    manifests.extend(last_good);
                }
                Look::Missing => {}
            }
        }
        Ok(manifests)
    }

    /// One usable object.
    pub(super) fn get(&self, kind: &'static KindInfo, name: &str) -> Result<Arc<Manifest>> {
        let key = Key::of_full_name(kind, name).map_err(|e| refused(kind, name, e))?;
        match self.look(kind, &key)? {
            Look::Good(manifest) => Ok(manifest),
            Look::Broken {
                invalid,
                last_good: Some(manifest),
                ..
            } => {
                self.log_once(kind, &key, &invalid, true);
                Ok(manifest)
            }
            Look::Broken { invalid, .. } => Err(Error::Invalid(invalid)),
            Look::Missing => {
                self.must_be_there()?;
                Err(Error::NotFound {
                    kind: kind.kind,
                    name: name.to_string(),
                })
            }
        }
    }

    /// The files of a kind. The directory itself must be there: one that is not (an unmounted disk) is no empty one.
    pub(super) fn files(&self, kind: &KindInfo) -> Result<Listing> {
        let mut listing = Listing::default();
        let folder = self.folder(kind);
        if kind.namespaced {
            for namespace in self.namespaces(kind)? {
                self.files_in(&folder.join(&namespace), &namespace, &mut listing)?;
            }
        } else {
            self.files_in(&folder, "", &mut listing)?;
        }
        Ok(listing)
    }

    /// The subfolders of a namespaced kind.
    pub(super) fn namespaces(&self, kind: &KindInfo) -> Result<BTreeSet<String>> {
        let names = self.entries(&self.folder(kind))?;
        let is_folder = |name: &String| !name.starts_with('.') && self.folder(kind).join(name).is_dir();
        Ok(names.into_iter().filter(is_folder).collect())
    }

    fn files_in(&self, folder: &Path, namespace: &str, listing: &mut Listing) -> Result<()> {
        for name in self.entries(folder)? {
            if let Some(key) = Key::of_file(namespace, &name) {
                listing.keys.insert(key);
            } else if let Some((stem, "yml" | "json")) = name.rsplit_once('.')
                && !stem.starts_with('.')
            {
                listing.misnamed.insert(folder.join(&name));
            }
        }
        Ok(())
    }

    fn entries(&self, folder: &Path) -> Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.must_be_there()?;
                return Ok(Vec::new());
            }
            Err(e) => return Err(unavailable("list", folder, e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| unavailable("list", folder, e))?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    fn must_be_there(&self) -> Result<()> {
        match fs::metadata(&self.root) {
            Ok(_) => Ok(()),
            Err(e) => Err(unavailable("read", &self.root, e)),
        }
    }

    /// Reads a file, unless what was parsed of it still holds.
    pub(super) fn look(&self, kind: &KindInfo, key: &Key) -> Result<Look> {
        let path = key.path(&self.folder(kind));
        let metadata = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Ok(self.forget(&path)),
            Err(e) if is_missing(&e) => return Ok(self.forget(&path)),
            Err(e) => return Err(unavailable("read", &path, e)),
        };
        if let Some(look) = self.remembered(&path, &metadata) {
            return Ok(look);
        }
        let (bytes, metadata) = match read(&path) {
            Ok(read) => read,
            Err(e) if is_missing(&e) => return Ok(self.forget(&path)),
            Err(e) => return Err(unavailable("read", &path, e)),
        };
        Ok(self.parse(kind, key, &path, &bytes, &metadata))
    }

    /// Logs a broken manifest whose error no caller gets, once for each content.
    fn log_once(&self, kind: &KindInfo, key: &Key, invalid: &Invalid, kept: bool) {
        let path = key.path(&self.folder(kind));
        let mut parsed = self.parsed();
        let first = parsed
            .get_mut(&path)
            .is_some_and(|entry| !std::mem::replace(&mut entry.logged, true));
        match (first, kept) {
            (false, _) => {}
            (true, true) => tracing::warn!("{invalid}; its last good version stays in force"),
            (true, false) => tracing::warn!("{invalid}; it is left out"),
        }
    }

    /// True where a hand may still be writing the file.
    pub(super) fn is_being_edited(&self, kind: &KindInfo, key: &Key, quiet: Duration) -> bool {
        fs::metadata(key.path(&self.folder(kind)))
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age < quiet))
    }

    fn remembered(&self, path: &Path, metadata: &Metadata) -> Option<Look> {
        let parsed = self.parsed();
        let entry = parsed.get(path)?;
        (entry.settled && entry.signature == Signature::of(metadata)).then(|| entry.look())
    }

    fn parse(&self, kind: &KindInfo, key: &Key, path: &Path, bytes: &[u8], metadata: &Metadata) -> Look {
        let hash = content_hash(bytes);
        let signature = Signature::of(metadata);
        let settled = signature.is_settled();
        if let Some(entry) = self.parsed().get_mut(path)
            && entry.hash == hash
        {
            entry.signature = signature;
            entry.settled = settled;
            return entry.look();
        }
        let outcome = if metadata.len() > MAX_SIZE {
            let message = format!("{} bytes long: expected at most {MAX_SIZE}", metadata.len());
            Err(at_path(kind, key, path, FieldError::new("", message)))
        } else {
            Manifest::parse(kind, key, path, bytes).map(Arc::new)
        };
        let mut parsed = self.parsed();
        let last_good = match (&outcome, parsed.remove(path)) {
            (Ok(manifest), _) => Some(Arc::clone(manifest)),
            (Err(_), before) => before.and_then(|entry| entry.last_good),
        };
        let entry = Parsed {
            signature,
            settled,
            hash,
            outcome,
            last_good,
            logged: false,
        };
        let look = entry.look();
        parsed.insert(path.to_path_buf(), entry);
        look
    }

    /// Notes what was just written. Its signature is not trusted: a hand may have been there since.
    pub(super) fn remember(&self, path: PathBuf, text: &str, manifest: &Arc<Manifest>) {
        let Ok(metadata) = fs::metadata(&path) else {
            return;
        };
        let entry = Parsed {
            signature: Signature::of(&metadata),
            settled: false,
            hash: content_hash(text.as_bytes()),
            outcome: Ok(Arc::clone(manifest)),
            last_good: Some(Arc::clone(manifest)),
            logged: false,
        };
        self.parsed().insert(path, entry);
    }

    pub(super) fn forget(&self, path: &Path) -> Look {
        self.parsed().remove(path);
        Look::Missing
    }

    fn misnamed(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.misnamed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parsed(&self) -> MutexGuard<'_, HashMap<PathBuf, Parsed>> {
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said of a file with another ending.
pub(super) fn misnamed(kind: &KindInfo, path: &Path) -> Box<Invalid> {
    let right = path.with_extension(EXTENSION);
    let name = |path: &Path, part: fn(&Path) -> Option<&std::ffi::OsStr>| {
        part(path).unwrap_or_default().to_string_lossy().into_owned()
    };
    Box::new(Invalid {
        kind: kind.kind,
        name: name(path, Path::file_stem),
        path: Some(path.to_path_buf()),
        line: None,
        field: String::new(),
        message: format!(
            "not read: manifests end in .{EXTENSION}, so name it {}",
            name(&right, Path::file_name)
        ),
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn read(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    (&file).take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    // After reading: a change in between shows as a signature that does not match the next look.
    Ok((bytes, file.metadata()?))
}

impl Parsed {
    fn look(&self) -> Look {
        match &self.outcome {
            Ok(manifest) => Look::Good(Arc::clone(manifest)),
            Err(invalid) => Look::Broken {
                invalid: invalid.clone(),
                hash: self.hash.clone(),
                last_good: self.last_good.clone(),
            },
        }
    }
}

impl Signature {
    fn of(metadata: &Metadata) -> Self {
        Signature {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self) -> bool {
        let (seconds, nanoseconds) = self.modified.max(self.changed);
        let changed = Duration::new(
            seconds.try_into().unwrap_or_default(),
            nanoseconds.try_into().unwrap_or_default(),
        );
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH + changed)
            .is_ok_and(|age| age > TIMES_SETTLE)
    }
}
