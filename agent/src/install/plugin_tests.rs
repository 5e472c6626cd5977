use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new(plugin: &str) -> Self {
        let place = Place {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(place.source()).unwrap();
        place.release(plugin);
        place
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn bin_dir(&self) -> PathBuf {
        self.directory.path().join("opt/cni/bin")
    }

    fn release(&self, plugin: &str) {
        let path = self.source().join(NAME);
        fs::write(&path, plugin).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn install(&self) -> Installed {
        install(&self.source(), &self.bin_dir()).unwrap()
    }

    /// Name, content and permissions of everything in the directory.
    fn installed(&self) -> Vec<(String, String, u32)> {
        let mut all: Vec<_> = fs::read_dir(self.bin_dir())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let mode = entry.path().symlink_metadata().unwrap().permissions().mode() & 0o7777;
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap(), mode)
            })
            .collect();
        all.sort();
        all
    }
}

fn only(content: &str) -> Vec<(String, String, u32)> {
    vec![(NAME.to_string(), content.to_string(), 0o755)]
}

#[test]
fn it_is_installed_replaced_and_left_alone_where_it_is_the_same() {
    let place = Place::new("one");
    assert_eq!(place.install(), Installed::New);
    assert_eq!(place.installed(), only("one"));
    let inode = place.bin_dir().join(NAME).metadata().unwrap().ino();
    assert_eq!(place.install(), Installed::Unchanged);
    assert_eq!(
        place.bin_dir().join(NAME).metadata().unwrap().ino(),
        inode,
        "it was written again"
    );
    place.release("two");
    assert_eq!(place.install(), Installed::Replaced);
    assert_eq!(place.installed(), only("two"));
    assert!(uninstall(&place.bin_dir()).unwrap());
    assert!(!uninstall(&place.bin_dir()).unwrap());
    assert_eq!(place.installed(), []);
}

#[test]
fn other_plugins_are_not_touched() {
    let place = Place::new("ours");
    fs::create_dir_all(place.bin_dir()).unwrap();
    fs::write(place.bin_dir().join("portmap"), "theirs").unwrap();
    place.install();
    uninstall(&place.bin_dir()).unwrap();
    assert_eq!(
        fs::read_to_string(place.bin_dir().join("portmap")).unwrap(),
        "theirs"
    );
}

#[test]
fn wrong_permissions_are_put_right() {
    let place = Place::new("one");
    place.install();
    fs::set_permissions(place.bin_dir().join(NAME), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place.install(), Installed::Replaced);
    assert_eq!(place.installed(), only("one"));
}

#[test]
fn a_link_is_replaced_and_not_followed() {
    let place = Place::new("ours");
    let elsewhere = place.directory.path().join("elsewhere");
    fs::write(&elsewhere, "theirs").unwrap();
    fs::create_dir_all(place.bin_dir()).unwrap();
    symlink(&elsewhere, place.bin_dir().join(NAME)).unwrap();
    symlink(&elsewhere, place.bin_dir().join(format!(".{NAME}.tmp"))).unwrap();
    assert_eq!(place.install(), Installed::Replaced);
    assert_eq!(place.installed(), only("ours"));
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "theirs");
}

/// Every state that a kill can leave, for it may come between any two steps.
#[test]
fn what_a_crash_left_is_finished() {
    type Crash = fn(&Place);
    let temporary = |place: &Place| place.bin_dir().join(format!(".{NAME}.tmp"));
    let half: Crash = |place| fs::write(place.bin_dir().join(format!(".{NAME}.tmp")), "tw").unwrap();
    let whole: Crash = |place| fs::write(place.bin_dir().join(format!(".{NAME}.tmp")), "two").unwrap();
    let renamed: Crash = |place| {
        whole_renamed(place);
    };
    fn whole_renamed(place: &Place) {
        place.release("two");
        place.install();
    }
    for (name, crash) in [
        ("half a copy", half),
        ("a whole copy", whole),
        ("renamed", renamed),
    ] {
        let place = Place::new("one");
        place.install();
        crash(&place);
        place.release("two");
        place.install();
        assert_eq!(place.installed(), only("two"), "{name}");
        // Nothing to do, but a leftover of an even earlier crash.
        half(&place);
        assert_eq!(place.install(), Installed::Unchanged);
        assert!(!temporary(&place).exists(), "{name}");
    }
}

#[test]
fn what_is_no_plugin_is_refused_and_the_old_one_stays() {
    let place = Place::new("one");
    place.install();
    let source = place.source().join(NAME);
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 4] = [
        ("it is empty", |path| fs::write(path, "").unwrap()),
        ("it is not executable", |path| {
            fs::write(path, "x").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("there is no such file", |path| fs::remove_file(path).unwrap()),
        ("it is not a file", |path| fs::create_dir(path).unwrap()),
    ];
    for (reason, spoil) in spoils {
        spoil(&source);
        let error = install(&place.source(), &place.bin_dir())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(reason) && error.contains(source.to_str().unwrap()),
            "{error}"
        );
        assert_eq!(place.installed(), only("one"));
    }
}

#[test]
fn a_directory_that_cannot_be_is_named() {
    let place = Place::new("one");
    let file = place.directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = install(&place.source(), &file.join("bin"))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot make the directory "), "{error}");
    fs::create_dir_all(place.bin_dir().join(NAME)).unwrap();
    let error = install(&place.source(), &place.bin_dir())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot replace ") && error.contains(NAME),
        "{error}"
    );
    let left: Vec<_> = fs::read_dir(place.bin_dir())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, [NAME], "a failure leaves nothing behind");
}
