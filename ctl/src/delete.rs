//! `routectl delete`: objects by name, or those that manifests name. What else a manifest says does not matter: one that
//! breaks a rule names its object as well as any.

use anyhow::{Result, bail};
use datastore::{DeleteOptions, Error, KindInfo, Store};

use crate::{
    get::{full_name, kind_of},
    input::{Input, guard, refuse},
    output::{Done, Format, Outcome},
};

/// An object to delete, by its full name.
pub(crate) type Named = (&'static KindInfo, String);

/// Objects named on the command line.
pub(crate) fn named(kind: &str, names: &[String], namespace: Option<&str>) -> Result<Vec<Named>> {
    let kind = kind_of(kind)?;
    names
        .iter()
        .map(|name| Ok((kind, full_name(kind, name, namespace)?)))
        .collect()
}

/// Objects that manifests name.
pub(crate) fn of_files(inputs: &[Input]) -> Vec<Named> {
    inputs
        .iter()
        .map(|input| (input.document.kind, input.document.name.clone()))
        .collect()
}

/// Deletes objects; one that is missing does not keep the others.
pub(crate) async fn delete(
    store: &Store,
    objects: &[Named],
    ignore_not_found: bool,
    force: bool,
    format: Format,
) -> Result<String> {
    let problems: Vec<_> = objects
        .iter()
        .filter_map(|(kind, name)| {
            let text = guard(kind, name, force).err()?;
            Some(format!("{} \"{name}\": {text}", kind.kind))
        })
        .collect();
    refuse(&problems)?;
    let (mut done, mut failures) = (Done::new(format), Vec::new());
    for (kind, name) in objects {
        match store.backend().delete(kind, name, DeleteOptions::default()).await {
            Ok(()) => done.note(kind, name, Outcome::Deleted),
            Err(Error::NotFound { .. }) if ignore_not_found => {}
            Err(error) => failures.push(error.to_string()),
        }
    }
    let text = done.finish()?;
    if failures.is_empty() {
        return Ok(text);
    }
    crate::print(&text)?;
    bail!("{}", failures.join("\n"))
}
