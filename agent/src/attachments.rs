//! The record of the pods attached to this node: one JSON file an attachment in the state directory.
//!
//! It is what lets the agent be killed at any moment: a record is durable (file and directory synced) before the
//! plugin gets its reply, and gone before the addresses it names can be given to another pod. Records bear the boot
//! id: after a reboot the pods of the earlier boot are known to be gone.
//!
//! What it does not do: it neither assigns addresses nor touches the kernel; see [`crate::cni_server`].

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use cni::protocol::{AttachmentId, PodRef};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A pod's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Which.
    pub id: AttachmentId,
    /// Handle of its addresses in IPAM.
    pub handle: String,
    /// The pod, where the runtime named one.
    pub pod: Option<PodRef>,
    /// Host-side device.
    pub host_device: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// `/proc/sys/kernel/random/boot_id` at the time.
    pub boot_id: String,
    /// Grows with every attachment made here: of two on one device the later one has it.
    pub order: u64,
    /// What is to become of it.
    pub state: State,
}

/// What is to become of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// The pod uses it.
    Active,
    /// The pod is gone; its addresses could not be released yet (the datastore was away).
    Releasing,
}

/// The attachments, by identity.
pub type Table = BTreeMap<AttachmentId, Attachment>;

/// The record: in memory and on disk. One per state directory; cheap to clone.
#[derive(Debug, Clone)]
pub struct Attachments {
    directory: Arc<PathBuf>,
    table: Arc<watch::Sender<Arc<Table>>>,
    /// Held as long as the agent lives; the kernel gives it back however the agent ends.
    _lock: Arc<Flock<File>>,
}

impl Attachments {
    /// Reads the record below `state_directory`. A file that does not parse is set aside (renamed to `*.broken`),
    /// reported, and does not keep the agent from starting.
    ///
    /// # Errors
    /// Where the directory cannot be made or read, and `AddrInUse` where another agent has it open.
    pub fn open(state_directory: &Path) -> io::Result<Self> {
        let directory = state_directory.join("attachments");
        fs::create_dir_all(&directory)?;
        let lock = lock(&directory)?;
        let mut table = Table::new();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("json") => match read(&path) {
                    Ok(attachment) => {
                        table.insert(attachment.id.clone(), attachment);
                    }
                    Err(error) => set_aside(&path, &error),
                },
                // What a crash left of a write that never counted.
                Some("tmp") => fs::remove_file(&path)?,
                _ => {}
            }
        }
        Ok(Attachments {
            directory: Arc::new(directory),
            table: Arc::new(watch::Sender::new(Arc::new(table))),
            _lock: Arc::new(lock),
        })
    }

    /// The newest state.
    pub fn table(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }

    /// Told of every change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Table>> {
        self.table.subscribe()
    }

    /// One attachment.
    pub fn get(&self, id: &AttachmentId) -> Option<Attachment> {
        self.table.borrow().get(id).cloned()
    }

    /// A number above that of every attachment.
    pub fn next_order(&self) -> u64 {
        self.table
            .borrow()
            .values()
            .map(|attachment| attachment.order)
            .max()
            .unwrap_or(0)
            + 1
    }

    /// Records an attachment, or changes it; durable when it returns. Blocks on the disk.
    ///
    /// # Errors
    /// Where the disk refuses it; the record is then as before.
    pub fn put(&self, attachment: Attachment) -> io::Result<()> {
        write(&self.directory, &attachment)?;
        self.table.send_modify(|table| {
            Arc::make_mut(table).insert(attachment.id.clone(), attachment);
        });
        Ok(())
    }

    /// Forgets an attachment; durable when it returns. Blocks on the disk.
    ///
    /// # Errors
    /// Where the disk refuses it.
    pub fn remove(&self, id: &AttachmentId) -> io::Result<()> {
        match fs::remove_file(self.directory.join(file_name(id))) {
            Ok(()) => File::open(&*self.directory)?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.table
            .send_if_modified(|table| table.contains_key(id) && Arc::make_mut(table).remove(id).is_some());
        Ok(())
    }
}

fn lock(directory: &Path) -> io::Result<Flock<File>> {
    let file = File::create(directory.join(".lock"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => {
            io::Error::new(io::ErrorKind::AddrInUse, "another agent is using it")
        }
        errno => errno.into(),
    })
}

/// `@` occurs in no container id (CNI specification, "Parameters"), so the name is unambiguous.
fn file_name(id: &AttachmentId) -> String {
    format!("{}@{}.json", id.container_id, id.ifname)
}

fn read(path: &Path) -> io::Result<Attachment> {
    let attachment: Attachment = serde_json::from_slice(&fs::read(path)?)?;
    if path.file_name().and_then(|name| name.to_str()) != Some(&file_name(&attachment.id)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file's name is not that of its content",
        ));
    }
    Ok(attachment)
}

fn write(directory: &Path, attachment: &Attachment) -> io::Result<()> {
    let path = directory.join(file_name(&attachment.id));
    let temporary = path.with_extension("tmp");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(&serde_json::to_vec_pretty(attachment)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(directory)?.sync_all()
    });
    if written.is_err() {
        // Best effort: on a full disk this is what makes room again.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn set_aside(path: &Path, error: &io::Error) {
    tracing::error!(path = %path.display(), %error, "attachment record cannot be read; set aside as *.broken");
    if let Err(error) = fs::rename(path, path.with_extension("json.broken")) {
        tracing::error!(path = %path.display(), %error, "cannot set it aside");
    }
}

/// This boot's id.
///
/// # Errors
/// Where `/proc` is not mounted.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container: &str) -> Attachment {
        Attachment {
            id: AttachmentId {
                container_id: container.into(),
                ifname: "eth0".into(),
            },
            handle: format!("net.{container}"),
            pod: None,
            host_device: "cali0".into(),
            addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            boot_id: "boot".into(),
            order: 1,
            state: State::Active,
        }
    }

    #[test]
    fn survives_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let record = Attachments::open(directory.path()).unwrap();
        record.put(attachment("a.b-c")).unwrap();
        record.put(attachment("d")).unwrap();
        record
            .put(Attachment {
                state: State::Releasing,
                ..attachment("d")
            })
            .unwrap();
        record.remove(&attachment("a.b-c").id).unwrap();
        record.remove(&attachment("never").id).unwrap();
        let before = record.table();
        drop(record);
        let again = Attachments::open(directory.path()).unwrap();
        assert_eq!(again.table(), before);
        assert_eq!(again.table().len(), 1);
        assert_eq!(again.get(&attachment("d").id).unwrap().state, State::Releasing);
    }

    #[test]
    fn one_agent_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Attachments::open(directory.path()).unwrap();
        let refused = Attachments::open(directory.path()).unwrap_err();
        assert_eq!(refused.to_string(), "another agent is using it");
        drop(first);
        Attachments::open(directory.path()).unwrap();
    }

    #[test]
    fn a_broken_file_is_set_aside_and_the_rest_is_read() {
        let directory = tempfile::tempdir().unwrap();
        Attachments::open(directory.path())
            .unwrap()
            .put(attachment("good"))
            .unwrap();
        let files = directory.path().join("attachments");
        fs::write(files.join("bad@eth0.json"), "{").unwrap();
        fs::copy(files.join("good@eth0.json"), files.join("other@eth0.json")).unwrap();
        fs::write(files.join("half@eth0.tmp"), "{").unwrap();
        let record = Attachments::open(directory.path()).unwrap();
        assert_eq!(record.table().len(), 1);
        assert!(files.join("bad@eth0.json.broken").exists() && files.join("other@eth0.json.broken").exists());
        assert!(!files.join("half@eth0.tmp").exists());
    }
}
