//! A manifest's text: reading it, with errors that name line and field, and writing it.
//!
//! What we write ends in a comment, the seal: `# routelet: revision 17, sha256 0123456789abcdef`. The revision is
//! the object's `resourceVersion`; it is not in `metadata`, where `kubectl apply` would take it for a precondition.
//! The hash covers the text and the revision, so a hand edit breaks the seal, and then the object's
//! `resourceVersion` is `17-<hash of the file>`: a write based on what was there before the edit is a conflict, and
//! so no edit is lost. A `resourceVersion` that a hand puts into `metadata` means nothing here.
//!
//! A manifest without a `uid` has one that is computed from its kind and name, until a write stores it: the
//! same in every process, but also the same for an object that was deleted and written again by hand.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    layout::{Key, hex},
    lines::line_of,
    yaml::to_yaml,
};
use crate::{
    FieldError, Invalid, KindInfo,
    merge::unknown_fields,
    object::{check_kind, full_name, metadata_of, set_metadata},
    types::CALICO_GROUP,
};

const SEAL: &str = "# routelet: revision ";
const SEAL_HASH: &str = ", sha256 ";
/// Hexadecimal digits of a hash in a seal and in a version.
const HASH_DIGITS: usize = 16;

/// A manifest that is in order.
#[derive(Debug, PartialEq)]
pub(super) struct Manifest {
    /// All that the file says.
    pub(super) raw: Value,
    /// What the type knows of it, with `uid` and `resourceVersion` as they count.
    pub(super) object: Value,
    /// The revision in the seal, broken or not; 0 without.
    pub(super) revision: u64,
    /// False after a hand edit, until the next write.
    pub(super) sealed: bool,
}

impl Manifest {
    /// Reads a manifest's bytes; `key` and `path` say where it was found.
    pub(super) fn parse(kind: &KindInfo, key: &Key, path: &Path, bytes: &[u8]) -> Result<Self, Box<Invalid>> {
        let invalid = |error: FieldError| at_path(kind, key, path, error);
        let text = str::from_utf8(bytes).map_err(|e| {
            let before = bytes.get(..e.valid_up_to()).unwrap_or_default();
            invalid(FieldError {
                field: String::new(),
                line: Some(before.iter().filter(|byte| **byte == b'\n').count() + 1),
                message: "not UTF-8 text".to_string(),
            })
        })?;
        let manifest = Self::parse_text(kind, key, text).map_err(|mut error| {
            error.line = error.line.or_else(|| line_of(text, &error.field));
            invalid(error)
        })?;
        manifest.log_unknown(kind, path, text);
        Ok(manifest)
    }

    /// Says which fields of a hand-written spec have no effect: most often they are misspelt. Kubernetes' own kinds
    /// have many that are no concern of ours.
    fn log_unknown(&self, kind: &KindInfo, path: &Path, text: &str) {
        if self.sealed || kind.group != CALICO_GROUP {
            return;
        }
        let spec = |value: &Value| value.get("spec").cloned().unwrap_or_default();
        for field in unknown_fields("spec", &spec(&self.raw), &spec(&self.object)) {
            let line = line_of(text, &field).unwrap_or(1);
            tracing::warn!(
                "{}:{line}: {field}: no such field in {}: it has no effect",
                path.display(),
                kind.kind
            );
        }
    }

    fn parse_text(kind: &KindInfo, key: &Key, text: &str) -> Result<Self, FieldError> {
        let seal = Seal::find(text);
        let sealed = seal.as_ref().is_some_and(|seal| seal.intact);
        let raw = read_raw(text, sealed)?;
        check_kind(kind, &raw)?;
        let metadata = |field: &str| raw.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
        let name = metadata("name").unwrap_or_default();
        check_place(kind, key, metadata("namespace").unwrap_or_default(), name)?;
        let mut object = if sealed {
            (kind.parse_json)(raw.clone())?
        } else {
            (kind.parse_yaml)(text)?
        };
        let uid = match metadata("uid") {
            None | Some("") => computed_uid(kind, key),
            Some(uid) => checked_uid(uid)?,
        };
        let revision = seal.map_or(0, |seal| seal.revision);
        let version = if sealed {
            revision.to_string()
        } else {
            format!("{revision}-{}", content_hash(text.as_bytes()))
        };
        set_metadata(&mut object, "uid", &uid);
        set_metadata(&mut object, "resourceVersion", &version);
        Ok(Manifest {
            raw,
            object,
            revision,
            sealed,
        })
    }

    /// Makes a manifest of an object that is about to be written, and its text.
    pub(super) fn compose(
        kind: &KindInfo,
        mut raw: Value,
        revision: u64,
    ) -> Result<(Self, String), FieldError> {
        if let Some(metadata) = raw.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
        }
        let body = to_yaml(&raw);
        let mut object = (kind.parse_json)(raw.clone())?;
        set_metadata(&mut object, "resourceVersion", &revision.to_string());
        let hash = seal_hash(&body, revision);
        let text = format!("{body}{SEAL}{revision}{SEAL_HASH}{hash}\n");
        let manifest = Manifest {
            raw,
            object,
            revision,
            sealed: true,
        };
        Ok((manifest, text))
    }

    /// `metadata.resourceVersion` as it counts.
    pub(super) fn version(&self) -> &str {
        metadata_of(&self.object, "resourceVersion")
    }

    /// `metadata.uid` as it counts.
    pub(super) fn uid(&self) -> &str {
        metadata_of(&self.object, "uid")
    }
}

/// Adds the place to an error.
pub(super) fn at_path(kind: &KindInfo, key: &Key, path: &Path, error: FieldError) -> Box<Invalid> {
    Box::new(Invalid {
        kind: kind.kind,
        name: key.full_name(),
        path: Some(path.to_path_buf()),
        line: error.line,
        field: error.field,
        message: error.message,
    })
}

/// Names a state of a file.
pub(super) fn content_hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes), HASH_DIGITS)
}

/// The revision that a text bears, whether or not the seal is intact; 0 without.
pub(super) fn revision_of(text: &str) -> u64 {
    Seal::find(text).map_or(0, |seal| seal.revision)
}

/// The last line of what we write.
struct Seal {
    revision: u64,
    intact: bool,
}

impl Seal {
    /// Revisions beyond this are a hand's; ours would take millions of years to reach it.
    const HIGHEST: u64 = 1 << 53;

    fn find(text: &str) -> Option<Self> {
        let start = text.rfind(SEAL)?;
        let (body, seal) = text.split_at_checked(start)?;
        let (revision, hash) = seal.strip_prefix(SEAL)?.split_once(SEAL_HASH)?;
        let revision = revision
            .parse()
            .ok()
            .filter(|revision| *revision < Self::HIGHEST)?;
        Some(Seal {
            revision,
            intact: hash.strip_suffix('\n') == Some(&seal_hash(body, revision)),
        })
    }
}

fn seal_hash(body: &str, revision: u64) -> String {
    let hash = Sha256::new()
        .chain_update(body.as_bytes())
        .chain_update(revision.to_be_bytes())
        .finalize();
    hex(&hash, HASH_DIGITS)
}

fn read_raw(text: &str, sealed: bool) -> Result<Value, FieldError> {
    if !sealed {
        // YAML's own tree refuses a key given twice, where JSON's takes the last.
        serde_yaml::from_str::<serde_yaml::Value>(text).map_err(|e| crate::resource::yaml_error(&e))?;
    }
    let raw: Value = serde_yaml::from_str(text).map_err(|e| crate::resource::yaml_error(&e))?;
    if raw.is_object() {
        Ok(raw)
    } else {
        let message = "expected one manifest: apiVersion, kind, metadata, …";
        Err(FieldError {
            line: Some(1),
            ..FieldError::new("", message)
        })
    }
}

fn check_place(kind: &KindInfo, key: &Key, namespace: &str, name: &str) -> Result<(), FieldError> {
    let said = Key::new(kind, namespace, name)?;
    if said == *key {
        return Ok(());
    }
    let field = if said.namespace == key.namespace {
        "metadata.name"
    } else {
        "metadata.namespace"
    };
    let (said_at, place) = (
        said.path(Path::new(kind.plural)),
        key.path(Path::new(kind.plural)),
    );
    Err(FieldError::new(
        field,
        format!(
            "{} belongs in {}, and this is {}: rename the file or the object",
            full_name(namespace, name),
            said_at.display(),
            place.display()
        ),
    ))
}

fn checked_uid(uid: &str) -> Result<String, FieldError> {
    match Uuid::try_parse(uid) {
        Ok(_) => Ok(uid.to_string()),
        Err(_) => {
            let message = format!("\"{uid}\" is no UUID: leave it out, one will be given");
            Err(FieldError::new("metadata.uid", message))
        }
    }
}

fn computed_uid(kind: &KindInfo, key: &Key) -> String {
    let hash = Sha256::new()
        .chain_update(kind.kind.as_bytes())
        .chain_update([0])
        .chain_update(key.full_name().as_bytes())
        .finalize();
    let mut bytes = [0; 16];
    bytes
        .iter_mut()
        .zip(hash)
        .for_each(|(byte, hashed)| *byte = hashed);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}
