//! Writes `manifests/crds` from the types, or with `--check` says whether it still is what they say.
//!
//! Only files that differ are written; a file of a kind that is no more is removed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use datastore::crd;

const USAGE: &str = "\
Writes the CustomResourceDefinitions of Calico's kinds, made from the Rust types.

Usage: gen-crds [--check] [--out DIRECTORY]

  --check            Write nothing; fail where a file differs from the types
  --out DIRECTORY    Where the files are [default: manifests/crds of this checkout]
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(said) => {
            print!("{said}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("gen-crds: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> Result<String, String> {
    let mut check = false;
    let mut out = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/crds"));
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--check" => check = true,
            "--out" => out = args.next().ok_or("--out needs a directory")?.into(),
            "-h" | "--help" => return Ok(USAGE.to_string()),
            other => return Err(format!("unknown argument {other}\n\n{USAGE}")),
        }
    }
    let files = crd::files().map_err(|e| e.to_string())?;
    let mut differing = Vec::new();
    for (name, text) in &files {
        let path = out.join(name);
        if fs::read_to_string(&path).is_ok_and(|there| there == *text) {
            continue;
        }
        if !check {
            fs::create_dir_all(&out).map_err(|e| format!("cannot make {}: {e}", out.display()))?;
            fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        }
        differing.push(path);
    }
    for path in strays(&out, &files) {
        if !check {
            fs::remove_file(&path).map_err(|e| format!("cannot remove {}: {e}", path.display()))?;
        }
        differing.push(path);
    }
    let names: String = differing
        .iter()
        .map(|path| format!("{}\n", path.display()))
        .collect();
    if check && !differing.is_empty() {
        let command = crd::COMMAND;
        return Err(format!(
            "these are not what the types say; run `{command}` and commit:\n{names}"
        ));
    }
    Ok(names)
}

/// Definitions that no type has.
fn strays(out: &Path, files: &[(String, String)]) -> Vec<PathBuf> {
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    let mut strays: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| {
            files
                .iter()
                .all(|(name, _)| path.file_name() != Some(name.as_ref()))
        })
        .collect();
    strays.sort();
    strays
}
