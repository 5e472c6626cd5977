//! Variables a runtime may set, and what a person reads where they are wrong.

use std::os::unix::ffi::OsStringExt;

use super::*;

/// A good ADD with some variables changed; an empty value unsets one.
fn with(changes: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
    let mut variables = vec![
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "4f2d"),
        ("CNI_NETNS", "/run/netns/pod"),
        ("CNI_IFNAME", "eth0"),
    ];
    variables.extend(changes);
    Environment::read(|name| {
        let latest = variables.iter().rev().find(|(each, _)| *each == name);
        latest.map(|(_, value)| value.into())
    })
}

/// Everything that an ADD asks for.
fn all(environment: &Environment) -> Result<(AttachmentId, PathBuf, Option<PodRef>), EnvironmentError> {
    let netns = environment.netns()?.to_owned();
    Ok((environment.attachment()?, netns, environment.pod()?))
}

#[test]
fn what_containerd_sets_is_understood() {
    let arguments = "K8S_POD_INFRA_CONTAINER_ID=4f2d;K8S_POD_UID=u-1;IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=nginx";
    let environment = with(&[("CNI_ARGS", arguments)]).unwrap();
    assert_eq!(environment.command, Command::Add);
    let (id, netns, pod) = all(&environment).unwrap();
    assert_eq!((id.container_id.as_str(), id.ifname.as_str()), ("4f2d", "eth0"));
    assert_eq!(netns, Path::new("/run/netns/pod"));
    let pod = pod.unwrap();
    assert_eq!(
        (pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()),
        ("default", "nginx", "u-1")
    );
}

#[test]
fn no_arguments_no_pod() {
    for arguments in ["", ";", "IgnoreUnknown=1"] {
        let environment = with(&[("CNI_ARGS", arguments)]).unwrap();
        assert_eq!(environment.pod().unwrap(), None, "{arguments:?}");
    }
}

#[test]
fn bad_variables_say_what_is_wrong() {
    let long_id = "a".repeat(201);
    let long_name = format!("K8S_POD_NAMESPACE=a;K8S_POD_NAME={}", "a".repeat(254));
    let table: &[(&str, &str, &str)] = &[
        ("CNI_COMMAND", "", "CNI_COMMAND is not set"),
        (
            "CNI_COMMAND",
            "add",
            "must be one of ADD, DEL, CHECK, GC, STATUS, VERSION",
        ),
        ("CNI_CONTAINERID", "", "CNI_CONTAINERID is not set"),
        (
            "CNI_CONTAINERID",
            "../x",
            "\"../x\"; it must be at most 200 letters",
        ),
        ("CNI_CONTAINERID", "a b", "\"a b\"; it must be"),
        ("CNI_CONTAINERID", "-a", "the first a letter or a digit"),
        ("CNI_CONTAINERID", &long_id, "at most 200"),
        ("CNI_NETNS", "", "CNI_NETNS is not set"),
        ("CNI_IFNAME", "", "CNI_IFNAME is not set"),
        ("CNI_IFNAME", "sixteen-letters-", "at most 15"),
        ("CNI_IFNAME", "a/b", "\"a/b\""),
        ("CNI_IFNAME", "a:b", "without '/', ':'"),
        ("CNI_IFNAME", "eth%d", "'%'"),
        ("CNI_IFNAME", "..", "not '.' or '..'"),
        ("CNI_IFNAME", "a b", "blanks"),
        ("CNI_ARGS", "A=1;B", "CNI_ARGS holds \"B\"; each part"),
        (
            "CNI_ARGS",
            "K8S_POD_NAME=a",
            "sets K8S_POD_NAME but not K8S_POD_NAMESPACE",
        ),
        (
            "CNI_ARGS",
            "K8S_POD_NAMESPACE=a",
            "sets K8S_POD_NAMESPACE but not K8S_POD_NAME",
        ),
        (
            "CNI_ARGS",
            "K8S_POD_NAMESPACE=a;K8S_POD_NAME=B",
            "K8S_POD_NAME=\"B\"",
        ),
        (
            "CNI_ARGS",
            "K8S_POD_NAMESPACE=;K8S_POD_NAME=b",
            "no Kubernetes name",
        ),
        ("CNI_ARGS", &long_name, "no Kubernetes name"),
    ];
    for (name, value, expected) in table {
        let error = with(&[(name, value)])
            .and_then(|environment| all(&environment))
            .expect_err(&format!("{name}={value}"));
        assert!(
            error.to_string().contains(expected),
            "{name}={value} says {error}"
        );
    }
}

#[test]
fn variable_that_is_not_text_is_refused() {
    let error = Environment::read(|_| Some(OsString::from_vec(vec![0xff])))
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "CNI_COMMAND is not UTF-8");
}

#[test]
fn variable_overrides_configuration_overrides_default() {
    let plain = with(&[]).unwrap();
    assert_eq!(plain.socket(None), Path::new("/run/routelet/cni.sock"));
    assert_eq!(plain.socket(Some("/a")), Path::new("/a"));
    assert_eq!(plain.state_directory(), Path::new("/var/lib/routelet"));
    let set = with(&[("ROUTELET_CNI_SOCKET", "/b"), ("ROUTELET_STATE_DIR", "/c")]).unwrap();
    assert_eq!(set.socket(Some("/a")), Path::new("/b"));
    assert_eq!(set.state_directory(), Path::new("/c"));
}
