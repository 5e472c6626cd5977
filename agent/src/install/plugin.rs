//! The plugin's binary in the runtime's directory.
//!
//! What it replaces is not kept: an earlier release brings its own plugin along when it is rolled back to, and a second
//! file in that directory would be there for ever. Runtimes may execute the plugin at any moment, so the file is
//! replaced as a whole; where it is the same already it is not touched.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{Error, atomic::Directory};

/// Its name there, and `type` in a configuration.
pub const NAME: &str = "routelet-cni";
/// Anybody may read and execute it.
const MODE: u32 = 0o755;

/// What installing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// There was none.
    New,
    /// There was another one.
    Replaced,
    /// It was there.
    Unchanged,
}

impl std::fmt::Display for Installed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Installed::New => "installed",
            Installed::Replaced => "replaced",
            Installed::Unchanged => "unchanged",
        })
    }
}

/// Where the plugin is that came with this program: beside it.
///
/// # Errors
/// Where the kernel does not say what this program is.
pub fn beside_this_program() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(NAME))
}

/// Copies the plugin from `source`, a file or the directory it is in. Blocks.
///
/// # Errors
/// [`Error`]; what was there is then still there.
pub fn install(source: &Path, bin_dir: &Path) -> Result<Installed, Error> {
    let source = if source.is_dir() {
        source.join(NAME)
    } else {
        source.to_owned()
    };
    let content = read(&source)?;
    let directory = Directory::lock(bin_dir)?;
    let target = directory.join(NAME);
    let outcome = match target.symlink_metadata() {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o7777 == MODE => {
            let installed = fs::read(&target).map_err(Error::io("read", &target))?;
            if installed == content {
                // A crash after the rename has left nothing, one before it the half of a copy.
                directory.remove_leftover(NAME)?;
                return Ok(Installed::Unchanged);
            }
            Installed::Replaced
        }
        Ok(_) => Installed::Replaced,
        Err(_) => Installed::New,
    };
    directory.replace(NAME, &content, MODE)?;
    Ok(outcome)
}

/// Removes the plugin; true where there was one. Blocks.
///
/// # Errors
/// [`Error::Io`].
pub fn uninstall(bin_dir: &Path) -> Result<bool, Error> {
    if !bin_dir.exists() {
        return Ok(false);
    }
    Directory::lock(bin_dir)?.remove(NAME)
}

/// The plugin. It is small enough to be held as a whole.
fn read(source: &Path) -> Result<Vec<u8>, Error> {
    let wrong = |reason| Error::NoPlugin {
        path: source.to_owned(),
        reason,
    };
    let found = fs::metadata(source).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => wrong("there is no such file"),
        _ => Error::io("read", source)(error),
    })?;
    if !found.is_file() {
        return Err(wrong("it is not a file"));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Err(wrong("it is not executable"));
    }
    let content = fs::read(source).map_err(Error::io("read", source))?;
    if content.is_empty() {
        return Err(wrong("it is empty"));
    }
    Ok(content)
}

#[cfg(test)]
#[path = "plugin_tests.rs"]
mod tests;
