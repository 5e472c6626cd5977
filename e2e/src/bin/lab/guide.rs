//! What can be done with a lab that is up.

use std::{env, path::PathBuf};

use e2e::Lab;

/// Prints commands that can be typed as they are.
pub(crate) fn print(lab: &Lab) {
    let program = env::current_exe().unwrap_or_else(|_| PathBuf::from("lab"));
    let name = if lab.name() == "routelet" {
        String::new()
    } else {
        format!(" --name {}", lab.name())
    };
    let say = |verb: &str, rest: &str, comment: &str| {
        let command = format!("{}{verb}{name}{rest}", "lab ");
        println!("  {command:<52} {comment}");
    };
    println!("\nAs root, with\n  alias lab={}\n", program.display());
    if let Some(node) = lab.nodes().next() {
        let node = node.name();
        say(
            "exec",
            &format!(" {node}"),
            "a shell on node {node}".replace("{node}", node).as_str(),
        );
        say(
            "exec",
            &format!(" {node} -- ip route"),
            "its kernel's routes; `proto 80` are routelet's",
        );
        say(
            "exec",
            &format!(" {node} -- routectl node status"),
            "its BGP sessions",
        );
        say(
            "exec",
            &format!(" {node} -- routectl ipam show --show-blocks"),
            "who has which addresses",
        );
        say(
            "attach",
            &format!(" {node} web"),
            "a pod called web, attached by routelet-cni",
        );
        say("exec", " web -- ip address", "inside it");
        say("detach", " web", "remove it");
    }
    if let Some(router) = lab.routers().next() {
        let birdc = format!(
            " {} -- birdc -s {} show route",
            router.name(),
            router.control_socket().display()
        );
        say("exec", &birdc, "BIRD's view");
    }
    say("status", "", "all tables at once");
    println!(
        "\n  The datastore, as manifests to read and edit:  {}",
        lab.datastore().display()
    );
    if let Some(node) = lab.nodes().next() {
        println!(
            "  The agents' logs:                              {}",
            node.log_path().display()
        );
    }
    let down = if lab.name() == "routelet" {
        "make lab-down".to_string()
    } else {
        format!("lab down {}", lab.name())
    };
    println!("  Remove every trace:                            {down}");
}
