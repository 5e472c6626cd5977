//! Nothing that ships contains code under another licence than a permissive one.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// Licences that the code of a static Apache-2.0 binary may have.
const ALLOWED: [&str; 8] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];
/// Packages of the workspace that end up in a binary for users.
const SHIPPED: [&str; 3] = ["agent", "cni", "ctl"];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        // What Routelet is built for; on other systems dependencies have other dependencies.
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .args(["--filter-platform", "aarch64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `A AND (B OR C)`: each part of the AND must have an alternative that is allowed.
fn is_allowed(expression: &str) -> bool {
    expression.split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')']).replace('/', " OR ");
        part.split(" OR ")
            .any(|licence| ALLOWED.contains(&licence.trim().trim_matches(['(', ')'])))
    })
}

/// Ids of the packages that these depend on, directly or not, to be built or to run; not for tests.
fn closure<'a>(metadata: &'a Value, roots: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<_, _> = nodes
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let mut todo: Vec<&str> = roots.collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if seen.insert(id) {
            for dependency in nodes[id]["deps"].as_array().unwrap() {
                let kinds = dependency["dep_kinds"].as_array().unwrap();
                if kinds.iter().any(|kind| kind["kind"] != "dev") {
                    todo.push(dependency["pkg"].as_str().unwrap());
                }
            }
        }
    }
    seen
}

#[test]
fn no_gpl_code_ships() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |package: &Value| package["name"].as_str().unwrap().to_string();
    let roots = packages
        .iter()
        .filter(|package| SHIPPED.contains(&package["name"].as_str().unwrap()));
    let ids = closure(&metadata, roots.map(|package| package["id"].as_str().unwrap()));
    assert!(
        ids.len() > 50,
        "only {} packages: the graph was not read",
        ids.len()
    );

    let mut rejected = Vec::new();
    for package in packages
        .iter()
        .filter(|package| ids.contains(package["id"].as_str().unwrap()))
    {
        let licence = package["license"].as_str().unwrap_or("none given");
        if !is_allowed(licence) {
            rejected.push(format!("{} ({licence})", name(package)));
        }
    }
    assert!(rejected.is_empty(), "these would ship: {}", rejected.join(", "));
}

#[test]
fn the_check_tells_licences_apart() {
    for allowed in [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR GPL-3.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
    ] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in [
        "GPL-3.0",
        "LGPL-2.1-or-later",
        "MIT AND GPL-2.0",
        "AGPL-3.0-only",
        "none given",
    ] {
        assert!(!is_allowed(refused), "{refused}");
    }
}
