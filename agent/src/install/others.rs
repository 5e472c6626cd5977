//! Configurations of other network providers in the runtime's directory.
//!
//! A runtime takes the file whose name sorts first, so `10-calico.conflist` goes before ours. Such a file is reported.
//! Calico's can be set aside: renamed so that no runtime takes it for a configuration, and back when we go.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Error, atomic::Directory, conflist};

/// What libcni takes for a configuration.
const EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];
/// Appended to what is set aside.
const ASIDE: &str = ".disabled-by-routelet";

/// A configuration of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// The file.
    pub path: PathBuf,
    /// Types of its plugins, in order; empty where it cannot be read.
    pub plugins: Vec<String>,
}

impl std::fmt::Display for Other {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.plugins.is_empty() {
            f.write_str(" (cannot be read)")
        } else {
            write!(f, " ({})", self.plugins.join(", "))
        }
    }
}

/// The configurations that sort before ours. Where one is valid, the runtime uses it and not ours.
///
/// # Errors
/// [`Error::Io`].
pub fn before_ours(conf_dir: &Path) -> Result<Vec<Other>, Error> {
    let names = names(conf_dir)?;
    let first = names
        .iter()
        .filter(|name| is_configuration(name) && name.as_str() < conflist::NAME);
    Ok(first.map(|name| read(conf_dir.join(name))).collect())
}

/// Sets Calico's configurations aside.
pub(super) fn disable_calico(directory: &Directory, conf_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut disabled = Vec::new();
    for name in names(conf_dir)?.iter().filter(|name| is_configuration(name)) {
        let other = read(conf_dir.join(name));
        if other.plugins.first().is_some_and(|first| first == "calico") {
            let aside = format!("{name}{ASIDE}");
            // One from an earlier time: what Calico wrote since is what would be wanted back.
            directory.remove(&aside)?;
            directory.rename(name, &aside)?;
            disabled.push(other.path);
        }
    }
    Ok(disabled)
}

/// Brings back what was set aside. Where there is a newer file of the name, that one stays.
pub(super) fn restore_calico(directory: &Directory, conf_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut restored = Vec::new();
    for aside in names(conf_dir)? {
        let Some(name) = aside.strip_suffix(ASIDE) else {
            continue;
        };
        if !conf_dir.join(name).exists() {
            directory.rename(&aside, name)?;
            restored.push(conf_dir.join(name));
        }
    }
    Ok(restored)
}

fn is_configuration(name: &str) -> bool {
    let extension = Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// The names in the directory, sorted; none where there is no directory.
fn names(conf_dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(conf_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", conf_dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", conf_dir))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn read(path: PathBuf) -> Other {
    let content = fs::read(&path).unwrap_or_default();
    let document: Value = serde_json::from_slice(&content).unwrap_or_default();
    let of = |plugin: &Value| plugin.get("type").and_then(Value::as_str).map(str::to_string);
    let plugins = match document.get("plugins").and_then(Value::as_array) {
        Some(list) => list.iter().filter_map(of).collect(),
        None => of(&document).into_iter().collect(),
    };
    Other { path, plugins }
}
