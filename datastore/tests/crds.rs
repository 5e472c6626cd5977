//! `manifests/crds` is what the types say, and `gen-crds` keeps it so.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use datastore::crd;

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds")
}

fn gen_crds(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gen-crds"))
        .args(args)
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_committed_definitions_are_those_of_the_types() {
    let output = gen_crds(&["--check", "--out", &committed().display().to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_file_that_differs_is_named_with_the_command_that_mends_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("crds");
    let out = out.to_str().expect("a path");
    let written = gen_crds(&["--out", out]);
    assert!(written.status.success(), "{}", text(&written.stderr));
    assert_eq!(
        text(&written.stdout).lines().count(),
        crd::files().expect("files").len()
    );
    assert!(gen_crds(&["--check", "--out", out]).status.success());

    let pools = Path::new(out).join("crd.projectcalico.org_ippools.yaml");
    let good = fs::read_to_string(&pools).expect("written");
    fs::write(&pools, good.replace("maximum: 128", "maximum: 129")).expect("written");
    let stray = Path::new(out).join("crd.projectcalico.org_gateways.yaml");
    fs::write(&stray, "").expect("written");
    let checked = gen_crds(&["--check", "--out", out]);
    let said = text(&checked.stderr);
    assert!(!checked.status.success(), "{said}");
    assert!(said.contains("`cargo run -p datastore --bin gen-crds`"), "{said}");
    for path in [&pools, &stray] {
        assert!(said.contains(&path.display().to_string()), "{said}");
    }
    assert!(stray.exists(), "a check changes nothing");

    assert!(gen_crds(&["--out", out]).status.success());
    assert_eq!(fs::read_to_string(&pools).expect("written"), good);
    assert!(!stray.exists());
}
