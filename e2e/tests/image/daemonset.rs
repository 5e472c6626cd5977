//! What the DaemonSet's manifest says of its containers.

use std::{fs, path::Path};

use serde_yaml::Value;

/// The DaemonSet, and the ConfigMap it reads.
pub(crate) struct DaemonSet {
    pod: Value,
    config: Value,
}

/// One of its containers.
pub(crate) struct Spec(pub(crate) Value);

impl DaemonSet {
    pub(crate) fn read(workspace: &Path) -> Self {
        let read = |name: &str| -> Value {
            let text = fs::read_to_string(workspace.join("manifests/base").join(name)).unwrap();
            serde_yaml::from_str(&text).unwrap()
        };
        let daemonset = read("daemonset.yaml");
        let config = read("config.yaml");
        assert_eq!(daemonset["kind"], "DaemonSet");
        assert_eq!(config["kind"], "ConfigMap");
        DaemonSet {
            pod: daemonset["spec"]["template"]["spec"].clone(),
            config: config["data"].clone(),
        }
    }

    /// A setting of the ConfigMap.
    pub(crate) fn config(&self, key: &str) -> String {
        self.config[key].as_str().unwrap().to_string()
    }

    pub(crate) fn container(&self, name: &str) -> Spec {
        let of = |list: &str| self.pod[list].as_sequence().cloned().unwrap();
        let mut all = [of("initContainers"), of("containers")].concat().into_iter();
        Spec(all.find(|container| container["name"] == name).unwrap())
    }

    /// The container's variables, those of the ConfigMap too; the kubelet fills in the pod's node and namespace.
    pub(crate) fn env(&self, spec: &Spec, node_name: &str) -> Vec<(String, String)> {
        let mut env = Vec::new();
        if !spec.0["envFrom"].is_null() {
            let data = self.config.as_mapping().unwrap();
            env.extend(data.iter().map(|(key, value)| (text(key), text(value))));
        }
        for variable in spec.0["env"].as_sequence().into_iter().flatten() {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("spec.nodeName") => node_name.to_string(),
                Some("metadata.namespace") => "kube-system".to_string(),
                Some(other) => panic!("{other}"),
                None => text(&variable["value"]),
            };
            env.push((text(&variable["name"]), value));
        }
        env
    }
}

impl Spec {
    pub(crate) fn args(&self) -> Vec<String> {
        self.0["args"].as_sequence().unwrap().iter().map(text).collect()
    }

    pub(crate) fn capabilities(&self) -> Vec<String> {
        let add = self.0["securityContext"]["capabilities"]["add"].as_sequence();
        add.into_iter().flatten().map(text).collect()
    }

    pub(crate) fn read_only_root(&self) -> bool {
        self.0["securityContext"]["readOnlyRootFilesystem"]
            .as_bool()
            .unwrap()
    }

    /// Volume, path in the container, read-only.
    pub(crate) fn mounts(&self) -> Vec<(String, String, bool)> {
        let mounts = self.0["volumeMounts"].as_sequence().unwrap();
        let one = |mount: &Value| {
            let read_only = mount["readOnly"].as_bool().unwrap_or(false);
            (text(&mount["name"]), text(&mount["mountPath"]), read_only)
        };
        mounts.iter().map(one).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_string()
}
