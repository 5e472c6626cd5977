//! What can be done with a lab that is up.

use std::{env, path::PathBuf};

use e2e::{Lab, report::say};

/// Prints commands that can be typed as they are.
pub(crate) fn print(lab: &Lab) {
    let program = env::current_exe().unwrap_or_else(|_| PathBuf::from("lab"));
    say(format_args!(
        "\nAs root, with\n  alias lab={}\n",
        program.display()
    ));
    for (verb, rest, what) in commands(lab) {
        let name = if lab.name() == "routelet" {
            String::new()
        } else {
            format!(" --name {}", lab.name())
        };
        say(format_args!("  {:<50} {what}", format!("lab {verb}{name}{rest}")));
    }
    if let Some(router) = lab.routers().next() {
        say(format_args!("\nBIRD's view of it:"));
        say(format_args!(
            "  birdc -s {} show route",
            router.control_socket().display()
        ));
    }
    if lab.api_server().is_none() {
        say(format_args!(
            "\nThe datastore, as manifests to read and edit:\n  {}",
            lab.datastore().display()
        ));
    } else {
        say(format_args!(
            "\nThe datastore, the lab's own API server, from any node:\n  \
             lab exec --name {} {} -- kubectl get ippools,ipamblocks,nodes",
            lab.name(),
            lab.nodes().next().map_or("NODE", |node| node.name()),
        ));
    }
    if let Some(node) = lab.nodes().next() {
        say(format_args!(
            "The log of an agent:\n  {}",
            node.log_path().display()
        ));
    }
    let down = if lab.name() == "routelet" {
        "make lab-down".to_string()
    } else {
        format!("lab down {}", lab.name())
    };
    say(format_args!("\nTo remove every trace of it: {down}"));
}

/// A verb, what follows it and the lab's name, and what it does.
fn commands(lab: &Lab) -> Vec<(&'static str, String, &'static str)> {
    let Some(node) = lab.nodes().next().map(|node| node.name()) else {
        return Vec::new();
    };
    vec![
        ("exec", format!(" {node}"), "a shell on a node"),
        (
            "exec",
            format!(" {node} -- ip route"),
            "its kernel's routes; `proto 80` are routelet's",
        ),
        (
            "exec",
            format!(" {node} -- routectl node status"),
            "its BGP sessions",
        ),
        (
            "exec",
            format!(" {node} -- routectl ipam show --show-blocks"),
            "how full the pools and blocks are",
        ),
        (
            "attach",
            format!(" {node} web"),
            "a pod called web, attached by routelet-cni",
        ),
        ("exec", " web -- ip address".to_string(), "inside it"),
        ("detach", " web".to_string(), "remove it"),
        (
            "status",
            String::new(),
            "nodes, pods, blocks, sessions and routes as tables",
        ),
    ]
}
