//! Where an object lives: `DIR/<plural>/[<namespace>/]<name>.yaml`, and which names may live there.
//!
//! Names are those of Kubernetes (RFC 1123 subdomains), so none can leave the directory. A name may have 253
//! characters and a file name 255 bytes; where `<name>.yaml` is too long, the file is called
//! `<first 200 characters>~<first 16 hex digits of the name's SHA-256>.yaml`. A `~` is in no name, so the two
//! ways never meet.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{
    FieldError, KindInfo,
    object::{ObjectName, full_name},
};

/// Longest name that is a file's stem as it is.
const MAX_STEM: usize = 250;
/// The ending of a manifest.
pub(super) const EXTENSION: &str = "yaml";

/// An object's place: namespace (empty where the kind has none) and file stem, both checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) namespace: String,
    stem: String,
}

impl Key {
    /// The place of `name`, or of `namespace/name` for a namespaced kind.
    pub(super) fn of_full_name(kind: &KindInfo, full_name: &str) -> Result<Self, FieldError> {
        Ok(Key::of(&ObjectName::of_full_name(kind, full_name)?))
    }

    /// The place of an object with this metadata.
    pub(super) fn new(kind: &KindInfo, namespace: &str, name: &str) -> Result<Self, FieldError> {
        Ok(Key::of(&ObjectName::new(kind, namespace, name)?))
    }

    /// The place of an object of this name.
    pub(super) fn of(name: &ObjectName) -> Self {
        Key {
            namespace: name.namespace.clone(),
            stem: stem(&name.name),
        }
    }

    /// The place of a file found in a folder; `None` where it is no manifest's name.
    pub(super) fn of_file(namespace: &str, file_name: &str) -> Option<Self> {
        let (stem, extension) = file_name.rsplit_once('.')?;
        (extension == EXTENSION && !stem.is_empty() && !stem.starts_with('.')).then(|| Key {
            namespace: namespace.to_string(),
            stem: stem.to_string(),
        })
    }

    /// The manifest.
    pub(super) fn path(&self, kind_folder: &Path) -> PathBuf {
        self.folder(kind_folder).join(self.file_name())
    }

    /// The folder the manifest is in.
    pub(super) fn folder(&self, kind_folder: &Path) -> PathBuf {
        if self.namespace.is_empty() {
            kind_folder.to_path_buf()
        } else {
            kind_folder.join(&self.namespace)
        }
    }

    /// The manifest's file name.
    pub(super) fn file_name(&self) -> String {
        format!("{}.{EXTENSION}", self.stem)
    }

    /// The object's name as far as its place tells, for messages.
    pub(super) fn full_name(&self) -> String {
        full_name(&self.namespace, &self.stem)
    }
}

fn stem(name: &str) -> String {
    if name.len() <= MAX_STEM {
        return name.to_string();
    }
    let hash = hex(&Sha256::digest(name.as_bytes()), 16);
    let head: String = name.chars().take(200).collect();
    format!("{head}~{hash}")
}

/// The first digits of a hash in hexadecimal.
pub(super) fn hex(bytes: &[u8], digits: usize) -> String {
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Resource,
        types::{IpPool, Node},
    };

    #[test]
    fn names_that_leave_the_directory_or_are_none_of_kubernetes_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc",
            "a\0b",
            "A",
            "a_b",
            ".a",
            "a.",
            "a..b",
            "-a",
            "a~b",
            &"a".repeat(254),
        ] {
            let error = Key::of_full_name(&IpPool::KIND, name).expect_err(name);
            assert_eq!(error.field, "metadata.name", "{name:?}");
        }
        for name in ["a", "10-0-0-0-24", "a.b-c.9", &"a".repeat(253)] {
            let key = Key::of_full_name(&Node::KIND, name).expect(name);
            assert!(key.file_name().len() <= 255);
        }
    }

    #[test]
    fn long_names_that_differ_only_at_the_end_live_in_different_files() {
        let base = "n".repeat(252);
        let one = Key::new(&Node::KIND, "", &format!("{base}1")).expect("a name");
        let two = Key::new(&Node::KIND, "", &format!("{base}2")).expect("a name");
        assert_ne!(one.file_name(), two.file_name());
        assert_eq!(Key::of_file("", &one.file_name()), Some(one));
    }

    #[test]
    fn only_manifests_are_objects() {
        for name in [
            ".tmp",
            ".routelet.tmp",
            ".yaml",
            "a.yaml~",
            "a.yml",
            "a.json",
            ".a.yaml.swp",
            ".a.yaml",
            "README",
            "4913",
        ] {
            assert_eq!(Key::of_file("", name), None, "{name}");
        }
        assert!(Key::of_file("", "a.b.yaml").is_some());
    }
}
