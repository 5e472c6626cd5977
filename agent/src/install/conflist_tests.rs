use super::*;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(place.settings().conf_dir).unwrap();
        fs::create_dir(place.settings().bin_dir).unwrap();
        place
    }

    fn settings(&self) -> Settings {
        Settings {
            conf_dir: self.directory.path().join("net.d"),
            bin_dir: self.directory.path().join("bin"),
            portmap: Portmap::Auto,
            socket: "/run/routelet/cni.sock".into(),
            ipv4: true,
            ipv6: false,
            disable_calico: false,
        }
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.settings().conf_dir.join(name), content).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.settings().conf_dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn ours(&self) -> String {
        fs::read_to_string(self.settings().conf_dir.join(NAME)).unwrap()
    }
}

const CALICO: &str =
    r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico"},{"type":"portmap"}]}"#;

#[test]
fn it_names_the_plugin_first_and_portmap_where_it_is() {
    let place = Place::new();
    let written = place.settings().write().unwrap();
    assert!(written.written && written.first.is_empty());
    let document: Value = serde_json::from_str(&place.ours()).unwrap();
    assert_eq!(document["cniVersion"], "1.0.0");
    assert_eq!(document["name"], "k8s-pod-network");
    assert_eq!(document["plugins"].as_array().unwrap().len(), 1);
    assert_eq!(document["plugins"][0]["type"], "routelet-cni");
    assert_eq!(document["plugins"][0]["socket"], "/run/routelet/cni.sock");
    assert_eq!(document["plugins"][0]["ipam"]["assign_ipv6"], false);

    fs::write(place.settings().bin_dir.join("portmap"), "").unwrap();
    assert!(place.settings().write().unwrap().written, "portmap has come");
    let document: Value = serde_json::from_str(&place.ours()).unwrap();
    assert_eq!(document["plugins"][1]["type"], "portmap");
    assert_eq!(document["plugins"][1]["capabilities"]["portMappings"], true);
    let never = Settings {
        portmap: Portmap::Never,
        ..place.settings()
    };
    assert_eq!(never.render()["plugins"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_there_already_is_not_written_again_and_what_changed_is() {
    let place = Place::new();
    place.settings().write().unwrap();
    assert!(!place.settings().write().unwrap().written);
    let dual = Settings {
        ipv6: true,
        socket: "/elsewhere/cni.sock".into(),
        ..place.settings()
    };
    assert!(
        dual.write().unwrap().written,
        "an agent started otherwise has its own words"
    );
    assert!(place.ours().contains("/elsewhere/cni.sock"));
    assert_eq!(place.names(), [NAME]);
}

#[test]
fn what_somebody_else_made_of_it_is_neither_overwritten_nor_removed() {
    let base = Place::new().settings().render();
    let with = |pointer: &str, value: Value| {
        let mut document = base.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = value;
        document.to_string()
    };
    let cases = [
        ("{".to_string(), "it is not JSON"),
        ("[]".to_string(), "the document is no object"),
        ("{}".to_string(), "it has no plugins"),
        (
            with("/disableCheck", json!(true)),
            "the document has the key \"disableCheck\"",
        ),
        (
            with("/plugins/0/mtu", json!(1400)),
            "plugins[0] has the key \"mtu\"",
        ),
        (
            with("/plugins/0/type", json!("bridge")),
            "plugins[0] is of type \"bridge\"",
        ),
        (
            with(
                "/plugins/0/ipam",
                json!({"type": "routelet", "ipv4_pools": ["a"]}),
            ),
            "plugins[0].ipam has the key \"ipv4_pools\"",
        ),
        (
            with("/plugins", json!([base["plugins"][0], {"type": "bandwidth"}])),
            "plugins[1] is of type \"bandwidth\"",
        ),
    ];
    for (content, reason) in cases {
        let place = Place::new();
        place.put(NAME, &content);
        for error in [
            place.settings().write().unwrap_err(),
            remove(&place.settings().conf_dir).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains(reason) && text.contains(NAME), "{content}: {text}");
        }
        assert_eq!(place.ours(), content, "it was touched");
    }
}

#[test]
fn what_goes_before_ours_is_reported_and_left_alone() {
    let place = Place::new();
    place.put("10-calico.conflist", CALICO);
    place.put("05-cilium.conf", r#"{"name":"x","type":"cilium-cni"}"#);
    place.put("00-broken.json", "{");
    place.put("87-podman.conflist", r#"{"plugins":[{"type":"bridge"}]}"#);
    place.put("00-notes.txt", "");
    let written = place.settings().write().unwrap();
    let first: Vec<_> = written
        .first
        .iter()
        .map(|other| {
            let text = other.to_string();
            text.rsplit_once('/').unwrap().1.to_string()
        })
        .collect();
    assert_eq!(
        first,
        [
            "00-broken.json (cannot be read)",
            "05-cilium.conf (cilium-cni)",
            "10-calico.conflist (calico, portmap)",
        ]
    );
    assert!(written.disabled.is_empty());
    assert_eq!(place.names().len(), 6, "all are there: {:?}", place.names());
}

#[test]
fn calicos_is_set_aside_and_brought_back() {
    let place = Place::new();
    place.put("10-calico.conflist", CALICO);
    place.put("05-cilium.conf", r#"{"name":"x","type":"cilium-cni"}"#);
    let settings = Settings {
        disable_calico: true,
        ..place.settings()
    };
    let written = settings.write().unwrap();
    assert_eq!(written.disabled, [settings.conf_dir.join("10-calico.conflist")]);
    let aside = "10-calico.conflist.disabled-by-routelet";
    assert_eq!(place.names(), ["05-cilium.conf", aside, NAME]);
    assert!(settings.write().unwrap().disabled.is_empty(), "once");

    let removed = remove(&settings.conf_dir).unwrap();
    assert!(removed.removed);
    assert_eq!(removed.restored, [settings.conf_dir.join("10-calico.conflist")]);
    assert_eq!(place.names(), ["05-cilium.conf", "10-calico.conflist"]);
    assert_eq!(
        fs::read_to_string(settings.conf_dir.join("10-calico.conflist")).unwrap(),
        CALICO
    );
    let again = remove(&settings.conf_dir).unwrap();
    assert!(!again.removed && again.restored.is_empty());
}

#[test]
fn a_newer_one_of_calicos_is_not_replaced_by_the_one_set_aside() {
    let place = Place::new();
    place.put("10-calico.conflist", CALICO);
    let settings = Settings {
        disable_calico: true,
        ..place.settings()
    };
    settings.write().unwrap();
    place.put(
        "10-calico.conflist",
        r#"{"plugins":[{"type":"calico","new":true}]}"#,
    );
    assert!(remove(&settings.conf_dir).unwrap().restored.is_empty());
    let kept = fs::read_to_string(settings.conf_dir.join("10-calico.conflist")).unwrap();
    assert!(kept.contains("new"), "{kept}");
}

/// Every state that a kill can leave, for it may come between any two steps. In none of them is there no
/// configuration.
#[test]
fn what_a_crash_left_is_finished() {
    let aside = "10-calico.conflist.disabled-by-routelet";
    let temporary = format!(".{NAME}.tmp");
    let good = format!("{:#}\n", Place::new().settings().render());
    let states: [&[(&str, &str)]; 4] = [
        &[("10-calico.conflist", CALICO), (&temporary, "{\"cni")],
        &[("10-calico.conflist", CALICO), (NAME, "ours")],
        &[(aside, CALICO), (NAME, "ours")],
        &[(aside, CALICO), (NAME, "ours"), (&temporary, "{\"cni")],
    ];
    for state in states {
        let place = Place::new();
        let settings = Settings {
            disable_calico: true,
            ..place.settings()
        };
        for (name, content) in state {
            place.put(name, if *content == "ours" { &good } else { content });
        }
        settings.write().unwrap();
        assert_eq!(place.names(), [aside, NAME], "from {state:?}");
        remove(&settings.conf_dir).unwrap();
        assert_eq!(place.names(), ["10-calico.conflist"], "from {state:?}");
    }
}

#[test]
fn nothing_is_made_where_nothing_is_to_be_removed() {
    let directory = tempfile::tempdir().unwrap();
    let conf_dir = directory.path().join("net.d");
    assert!(!remove(&conf_dir).unwrap().removed);
    assert!(!conf_dir.exists());
}
