//! Manifests that the user gives: files, directories of files, standard input. All is read and all errors are
//! collected before anything happens, so that a person mends them in one go.

use std::{
    fmt::Write,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use datastore::{Document, FieldError, KindInfo};

/// Endings of files in a directory that are manifests, as kubectl has it.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// Kinds that agents write, each with what a wrong one does.
const OF_AGENTS: [(&str, &str); 3] = [
    ("IPAMBlock", "a wrong one gives an address to two pods"),
    ("BlockAffinity", "a wrong one gives a block to two nodes"),
    ("IPAMHandle", "a wrong one leaks addresses"),
];

/// An object that the user gave.
pub(crate) struct Input {
    /// The file, or `standard input`.
    pub(crate) source: String,
    pub(crate) document: Document,
}

impl Input {
    /// `FILE:LINE: document N: KIND "NAME": FIELD: MESSAGE`.
    pub(crate) fn complain(&self, error: FieldError) -> String {
        let about = format!("{} \"{}\"", self.document.kind.kind, self.document.name);
        describe(
            &self.source,
            self.document.number,
            &about,
            &self.document.locate(error),
        )
    }

    /// The same for an error that knows its line already.
    pub(crate) fn complain_at(&self, error: &FieldError) -> String {
        let about = format!("{} \"{}\"", self.document.kind.kind, self.document.name);
        describe(&self.source, self.document.number, &about, error)
    }
}

fn describe(source: &str, number: usize, about: &str, error: &FieldError) -> String {
    let mut text = source.to_string();
    // Writing to a String does not fail.
    if let Some(line) = error.line {
        let _ = write!(text, ":{line}");
    }
    let _ = write!(text, ": document {number}: ");
    for part in [about, &error.field] {
        if !part.is_empty() {
            let _ = write!(text, "{part}: ");
        }
    }
    text + &error.message
}

/// Fails with all problems, if there are any.
pub(crate) fn refuse(problems: &[String]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    bail!("nothing was changed:\n{}", problems.join("\n"))
}

/// Reads every object of every file.
pub(crate) fn read(files: &[PathBuf], recursive: bool) -> Result<Vec<Input>> {
    let (mut inputs, mut problems) = (Vec::new(), Vec::new());
    for (source, text) in texts(files, recursive)? {
        for document in Document::read_all(&text) {
            match document {
                Ok(document) => inputs.push(Input {
                    source: source.clone(),
                    document,
                }),
                Err(error) => problems.push(describe(&source, error.number, &error.about, &error.error)),
            }
        }
    }
    refuse(&problems)?;
    if inputs.is_empty() {
        let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        bail!("there is no manifest in {}", names.join(", "));
    }
    Ok(inputs)
}

/// The text of every file, with its name.
fn texts(files: &[PathBuf], recursive: bool) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for file in files {
        if file.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .context("cannot read standard input")
                .map_err(in_one_line)?;
            texts.push(("standard input".to_string(), text));
        } else if file.is_dir() {
            for file in files_in(file, recursive)? {
                texts.push(text_of(&file)?);
            }
        } else {
            texts.push(text_of(file)?);
        }
    }
    Ok(texts)
}

fn text_of(file: &Path) -> Result<(String, String)> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read {}", file.display()))
        .map_err(in_one_line)?;
    Ok((file.display().to_string(), text))
}

/// The manifests in a directory, ordered by name.
fn files_in(dir: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)
        .with_context(|| format!("cannot list {}", dir.display()))
        .map_err(in_one_line)?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let ending = path.extension().unwrap_or_default();
        if path.is_dir() {
            if recursive && !hidden {
                found.extend(files_in(&path, recursive)?);
            }
        } else if !hidden && ENDINGS.iter().any(|known| ending == *known) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn in_one_line(error: anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// Says what changing an object of a kind that agents write may do: as an error, or with `force` as a warning.
pub(crate) fn guard(kind: &KindInfo, name: &str, force: bool) -> Result<(), String> {
    let Some((kind, harm)) = OF_AGENTS.iter().find(|(of_agents, _)| kind.kind == *of_agents) else {
        return Ok(());
    };
    let text = format!("written by agents and not by hand: {harm}");
    if force {
        eprintln!("warning: {kind} \"{name}\": {text}");
        Ok(())
    } else {
        Err(format!("{text} (--force does it all the same)"))
    }
}
