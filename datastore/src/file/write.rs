//! Create, update and delete: what a writer does while it holds the lock.

use std::{
    fs,
    path::Path,
    sync::{Arc, MutexGuard, PoisonError},
};

use serde_json::Value;
use uuid::Uuid;

use super::{
    disk::{DirLock, unavailable},
    layout::Key,
    manifest::{Manifest, at_path, revision_of},
    objects::{Look, Objects},
};
use crate::{
    DeleteOptions, Error, KindInfo, Resource, Result,
    merge::keep_unknown,
    object::{
        ObjectName, check_is_new, check_precondition, expected_version, metadata_of, refused, set_metadata,
    },
    types::Secret,
};

/// The one writer of the moment.
struct Writing<'a> {
    lock: DirLock,
    /// Revisions up to this one may be in use.
    floor: u64,
    _turn: MutexGuard<'a, bool>,
}

impl Objects {
    /// Stores a new object.
    pub(super) fn create(&self, kind: &'static KindInfo, mut object: Value) -> Result<Arc<Manifest>> {
        let name = ObjectName::of_object(kind, &object)?;
        let (key, name) = (Key::of(&name), name.full());
        check_is_new(kind, &name, &object)?;
        let writing = self.begin()?;
        if !matches!(self.look(kind, &key)?, Look::Missing) {
            return Err(Error::AlreadyExists {
                kind: kind.kind,
                name,
            });
        }
        set_metadata(&mut object, "uid", &Uuid::new_v4().to_string());
        set_metadata(&mut object, "creationTimestamp", &now());
        writing.store(self, kind, &key, object, 0)
    }

    /// Replaces the object the caller read, keeping what its file says beyond the type.
    pub(super) fn update(&self, kind: &'static KindInfo, mut object: Value) -> Result<Arc<Manifest>> {
        let name = ObjectName::of_object(kind, &object)?;
        let (key, name) = (Key::of(&name), name.full());
        let expected = expected_version(kind, &name, &object)?;
        let writing = self.begin()?;
        let stored = self.stored(kind, &key, &name)?;
        check_precondition(kind, &name, "resourceVersion", &expected, stored.version())?;
        let uid = metadata_of(&object, "uid");
        if !uid.is_empty() {
            check_precondition(kind, &name, "uid", uid, stored.uid())?;
        }
        set_metadata(&mut object, "uid", stored.uid());
        let created = metadata_of(&stored.object, "creationTimestamp");
        if !created.is_empty() {
            set_metadata(&mut object, "creationTimestamp", created);
        }
        set_metadata(&mut object, "resourceVersion", stored.version());
        if stored.sealed && object == stored.object {
            return Ok(stored);
        }
        (kind.check_update)(&stored.object, &object).map_err(|e| refused(kind, &name, e))?;
        keep_unknown(&mut object, &stored.raw, &stored.object);
        if stored.sealed && same_content(&object, &stored.raw) {
            return Ok(stored);
        }
        writing.store(self, kind, &key, object, stored.revision)
    }

    /// Deletes an object if the preconditions hold.
    pub(super) fn delete(&self, kind: &'static KindInfo, name: &str, options: &DeleteOptions) -> Result<()> {
        let key = Key::of_full_name(kind, name).map_err(|e| refused(kind, name, e))?;
        let writing = self.begin()?;
        let revision = match (self.look(kind, &key)?, options) {
            // Nothing to compare with, and nothing to compare: even a broken manifest can be deleted.
            (
                Look::Broken { .. },
                DeleteOptions {
                    uid: None,
                    resource_version: None,
                },
            ) => 0,
            _ => {
                let stored = self.stored(kind, &key, name)?;
                if let Some(uid) = &options.uid {
                    check_precondition(kind, name, "uid", uid, stored.uid())?;
                }
                if let Some(version) = &options.resource_version {
                    check_precondition(kind, name, "resourceVersion", version, stored.version())?;
                }
                stored.revision
            }
        };
        let path = key.path(&self.folder(kind));
        writing.take_revision(revision, true)?;
        writing.lock.remove(&path)?;
        self.forget(&path);
        Ok(())
    }

    /// What is there now, in order.
    fn stored(&self, kind: &'static KindInfo, key: &Key, name: &str) -> Result<Arc<Manifest>> {
        match self.look(kind, key)? {
            Look::Good(manifest) => Ok(manifest),
            Look::Broken { invalid, .. } => Err(Error::Invalid(invalid)),
            Look::Missing => Err(Error::NotFound {
                kind: kind.kind,
                name: name.to_string(),
            }),
        }
    }

    /// Waits for the right to write. Before the first write of a process, and wherever the counter is lost, the
    /// directory is looked through: leftovers are removed and the counter is raised above every object's revision.
    fn begin(&self) -> Result<Writing<'_>> {
        let mut turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = DirLock::acquire(&self.root)?;
        let counter = lock.read_revision()?;
        let mut floor = counter.unwrap_or(0);
        if !*turn || counter.is_none() {
            floor = floor.max(tidy(&lock, &self.root)?);
            *turn = true;
        }
        Ok(Writing {
            lock,
            floor,
            _turn: turn,
        })
    }
}

impl Writing<'_> {
    fn take_revision(&self, stored: u64, durable: bool) -> Result<u64> {
        let revision = self.floor.max(stored) + 1;
        self.lock.write_revision(revision, durable)?;
        Ok(revision)
    }

    fn store(
        &self,
        objects: &Objects,
        kind: &'static KindInfo,
        key: &Key,
        object: Value,
        stored: u64,
    ) -> Result<Arc<Manifest>> {
        let path = key.path(&objects.folder(kind));
        let revision = self.take_revision(stored, false)?;
        let (manifest, text) =
            Manifest::compose(kind, object, revision).map_err(|e| at_path(kind, key, &path, e))?;
        let manifest = Arc::new(manifest);
        // Passwords are not for every user of the machine.
        let mode = if kind.kind == Secret::KIND.kind {
            0o600
        } else {
            0o644
        };
        self.lock.write(&path, &text, mode)?;
        objects.remember(path, &text, &manifest);
        Ok(manifest)
    }
}

/// True where an object says what a manifest of ours says already, which bears no version.
fn same_content(object: &Value, raw: &Value) -> bool {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    object == *raw
}

/// Removes what writers that died have left; gives the highest revision that an object bears.
fn tidy(lock: &DirLock, root: &Path) -> Result<u64> {
    let mut highest = 0;
    let mut folders = vec![(root.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        lock.clean(&folder);
        let entries = fs::read_dir(&folder).map_err(|e| unavailable("list", &folder, e))?;
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(file_type) if file_type.is_dir() && depth < 2 => folders.push((path, depth + 1)),
                Ok(file_type) if file_type.is_file() && depth > 0 => {
                    // What cannot be read here is reported by whoever asks for it.
                    let text = fs::read_to_string(&path).unwrap_or_default();
                    highest = highest.max(revision_of(&text));
                }
                _ => {}
            }
        }
    }
    Ok(highest)
}

/// RFC 3339 in whole seconds, as Kubernetes writes it.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
