//! Passwords of sessions, from the secrets that BGPPeers and BGPConfiguration refer to.
//!
//! Where a password is asked for and cannot be had there is no session: never one without. A reference names a secret
//! in the agent's own namespace, as Calico has it.

use datastore::types::{BgpConfigurationSpec, Password, SecretKeyRef};

use crate::snapshot::Snapshot;

/// Whether anything refers to a secret.
pub fn are_wanted(snapshot: &Snapshot) -> bool {
    let is_reference = |password: &Option<Password>| reference(password.as_ref()).is_some();
    let mut settings = snapshot.bgp_configurations.all.values();
    let mut peers = snapshot.bgp_peers.all.values();
    settings.any(|object| is_reference(&object.spec.node_mesh_password))
        || peers.any(|object| is_reference(&object.spec.password))
}

/// The password of the mesh's sessions.
///
/// # Errors
/// One is asked for and cannot be had: why.
pub fn of_mesh(
    snapshot: &Snapshot,
    settings: &BgpConfigurationSpec,
) -> Result<Option<bgp::Password>, String> {
    of(snapshot, settings.node_mesh_password.as_ref()).map_err(|why| format!("spec.nodeMeshPassword: {why}"))
}

/// The password of a peer's session.
///
/// # Errors
/// One is asked for and cannot be had: why.
pub fn of_peer(
    snapshot: &Snapshot,
    peer: &datastore::types::BgpPeerSpec,
) -> Result<Option<bgp::Password>, String> {
    of(snapshot, peer.password.as_ref()).map_err(|why| format!("spec.password: {why}"))
}

fn of(snapshot: &Snapshot, password: Option<&Password>) -> Result<Option<bgp::Password>, String> {
    reference(password).map_or(Ok(None), |reference| resolve(snapshot, reference))
}

fn reference(password: Option<&Password>) -> Option<&SecretKeyRef> {
    password.and_then(|password| password.secret_key_ref.as_ref())
}

fn resolve(snapshot: &Snapshot, reference: &SecretKeyRef) -> Result<Option<bgp::Password>, String> {
    let SecretKeyRef { name, key, optional } = reference;
    let full_name = format!("{}/{name}", snapshot.namespace);
    if !snapshot.secrets.synced {
        let why = snapshot.secrets.refused.as_deref().unwrap_or("not read yet");
        return Err(format!("Secret \"{full_name}\" cannot be read: {why}"));
    }
    let absent = |what: String| match optional {
        Some(true) => Ok(None),
        _ => Err(what),
    };
    let Some(secret) = snapshot.secrets.all.get(&full_name) else {
        return absent(format!(
            "there is no Secret \"{full_name}\" (for its key \"{key}\")"
        ));
    };
    let about = |what: String| format!("key \"{key}\" of Secret \"{full_name}\": {what}");
    match secret.value(key) {
        Ok(None) => absent(format!("Secret \"{full_name}\" has no key \"{key}\"")),
        Ok(Some(value)) if value.ends_with(b"\n") => Err(about(
            "ends in a line break, which no peer's password does: write the value without it".to_string(),
        )),
        Ok(Some(value)) => bgp::Password::new(value)
            .map(Some)
            .map_err(|error| about(error.to_string())),
        Err(error) => Err(about(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use datastore::types::{BgpConfiguration, Secret};

    use super::*;
    use crate::desired::{
        Desired, desired,
        tests::{cluster, ip, objects, peer},
    };

    fn refers_to(name: &str, key: &str) -> Option<Password> {
        let secret_key_ref = Some(SecretKeyRef {
            name: name.into(),
            key: key.into(),
            optional: None,
        });
        Some(Password { secret_key_ref })
    }

    /// A peer that wants `key` of the secret `bgp`, which has two usable keys.
    fn wants(name: &str, key: &str) -> Snapshot {
        let mut snapshot = cluster();
        snapshot.bgp_peers = objects([peer("tor", |spec| {
            spec.peer_ip = Some("192.168.33.1".into());
            spec.password = refers_to(name, key);
        })]);
        let mut secret = Secret::new("kube-system", "bgp");
        secret.data.insert("tor".into(), "czNjcmV0".into());
        secret.data.insert("broken".into(), "s3cret".into());
        secret.data.insert("line".into(), "czNjcmV0Cg==".into());
        secret.string_data.insert("mesh".into(), "m3sh".into());
        secret.string_data.insert("long".into(), "s3cret".repeat(20));
        snapshot.secrets = objects([("kube-system/bgp".to_string(), secret)]);
        snapshot
    }

    fn password_of(wanted: &Desired, address: &str) -> Option<bgp::Password> {
        let peers = &wanted.bgp.as_ref().unwrap().peers;
        peers[&ip(address)].config.password.clone()
    }

    #[test]
    fn a_peer_and_the_mesh_have_their_own_passwords() {
        let mut snapshot = wants("bgp", "tor");
        let spec = BgpConfigurationSpec {
            node_mesh_password: refers_to("bgp", "mesh"),
            ..BgpConfigurationSpec::default()
        };
        let settings = BgpConfiguration::new("default", spec);
        snapshot.bgp_configurations = objects([("default".to_string(), settings)]);
        let wanted = desired(&snapshot);
        assert!(wanted.problems.is_empty(), "{:?}", wanted.problems);
        assert_eq!(
            password_of(&wanted, "192.168.33.1"),
            bgp::Password::new("s3cret").ok()
        );
        assert_eq!(
            password_of(&wanted, "192.168.33.12"),
            bgp::Password::new("m3sh").ok()
        );

        snapshot.secrets = objects([]);
        let wanted = desired(&snapshot);
        assert!(
            wanted.bgp.unwrap().peers.is_empty(),
            "no session without its password"
        );
        assert_eq!(wanted.problems.len(), 2);
    }

    #[test]
    fn where_there_is_no_password_there_is_no_session_and_the_reason_is_named() {
        for (name, key, said) in [
            (
                "other",
                "tor",
                "spec.password: there is no Secret \"kube-system/other\" (for its key \"tor\"); the",
            ),
            (
                "bgp",
                "spine",
                "spec.password: Secret \"kube-system/bgp\" has no key \"spine\"; the session is not made",
            ),
            (
                "bgp",
                "broken",
                "key \"broken\" of Secret \"kube-system/bgp\": is not base64",
            ),
            ("bgp", "line", "ends in a line break"),
            ("bgp", "long", "has 120 octets: expected 1 to 80"),
        ] {
            let mut snapshot = wants(name, key);
            // The mesh would have a session with the same address.
            snapshot.bgp_peers = objects([peer("tor", |spec| {
                spec.peer_ip = Some("192.168.33.12".into());
                spec.password = refers_to(name, key);
            })]);
            let wanted = desired(&snapshot);
            let problems = format!("{:?}", wanted.problems).replace("\\\"", "\"");
            assert!(problems.contains(said), "{problems}");
            assert!(
                problems.contains("BGPPeer \"tor\"") && !problems.contains("s3cret"),
                "{problems}"
            );
            let peers = wanted.bgp.unwrap().peers;
            assert_eq!(peers.keys().copied().collect::<Vec<_>>(), [ip("192.168.34.11")]);
        }
    }

    #[test]
    fn an_optional_password_may_be_absent_but_not_unknown() {
        let mut snapshot = wants("other", "tor");
        snapshot.bgp_peers = objects([peer("tor", |spec| {
            spec.peer_ip = Some("192.168.33.1".into());
            spec.password = refers_to("other", "tor");
            if let Some(Password {
                secret_key_ref: Some(reference),
            }) = &mut spec.password
            {
                reference.optional = Some(true);
            }
        })]);
        assert_eq!(password_of(&desired(&snapshot), "192.168.33.1"), None);
        snapshot.secrets = crate::cache::Objects::default();
        snapshot.secrets.refused = Some("forbidden".into());
        assert!(
            !desired(&snapshot)
                .bgp
                .unwrap()
                .peers
                .contains_key(&ip("192.168.33.1"))
        );
    }

    #[test]
    fn secrets_are_waited_for_where_one_is_needed_and_can_be_read() {
        let mut snapshot = wants("bgp", "tor");
        snapshot.secrets.synced = false;
        assert_eq!(snapshot.waiting_for(), ["Secret"]);
        assert!(desired(&snapshot).bgp.is_none());

        snapshot.secrets.refused = Some("may not list secrets".into());
        let wanted = desired(&snapshot);
        let problems = format!("{:?}", wanted.problems);
        assert!(
            problems.contains("cannot be read: may not list secrets"),
            "{problems}"
        );
        let peers = wanted.bgp.unwrap().peers;
        assert!(!peers.contains_key(&ip("192.168.33.1")) && peers.contains_key(&ip("192.168.33.12")));

        snapshot.secrets.refused = None;
        snapshot.bgp_peers = objects([peer("tor", |spec| spec.peer_ip = Some("192.168.33.1".into()))]);
        assert!(snapshot.waiting_for().is_empty());
        assert!(desired(&snapshot).problems.is_empty());
    }
}
