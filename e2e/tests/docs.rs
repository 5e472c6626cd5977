//! The documentation stays true where a machine can tell: every path it names exists, every link leads somewhere.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn documents() -> Vec<PathBuf> {
    let mut documents = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        documents.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|p| p.extension().is_some_and(|e| e == "md")),
        );
    }
    documents
}

/// What stands between single backticks and looks like a path of ours: `agent/src/kernel/`, `e2e/topologies/demo.yaml`.
fn paths(text: &str) -> Vec<&str> {
    let folders: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| format!("{}/", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    let quoted = text.split('`').skip(1).step_by(2);
    let ours = |path: &&str| {
        folders.iter().any(|folder| path.starts_with(folder)) && !path.contains([' ', '<', '*'])
    };
    quoted.filter(ours).collect()
}

/// Targets of `[text](target)`, without those on the web.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|t| !t.contains("://") && !t.is_empty())
        .collect()
}

#[test]
fn every_path_that_the_documentation_names_exists() {
    let mut named = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for path in paths(&text) {
            named += 1;
            assert!(
                root().join(path).exists(),
                "{}: there is no {path}",
                document.display()
            );
        }
    }
    assert!(named > 20, "only {named} paths found: the search is broken");
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            let target = document.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
        }
    }
}

#[test]
fn the_architecture_is_one_page() {
    let lines = fs::read_to_string(root().join("docs/ARCHITECTURE.md"))
        .unwrap()
        .lines()
        .count();
    assert!(lines <= 200, "{lines} lines");
}
