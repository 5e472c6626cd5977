//! `lab`: a small data centre in network namespaces, with the real binaries in it.

mod args;
mod demo;
mod guide;
mod tables;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use e2e::{
    Lab, Topology, interrupt,
    lab::down,
    labdir::{LabDir, State},
    preflight,
    report::say,
    uml,
};

use args::{Args, Verb};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = interrupt::install().map_err(Into::into).and_then(|()| run(&args));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    match &args.verb {
        Verb::Demo { topology, name, ipip } => {
            let shown = topology.is_default() && uml::kernel_has_ipip();
            let ipip = ipip.as_deref().or(shown.then_some("CrossSubnet"));
            return demo(name, topology.read()?, ipip);
        }
        Verb::Up { topology, name } => up(name, topology.read()?)?,
        Verb::Down { names, all } => take_down(names, *all)?,
        Verb::List => list()?,
        Verb::Status { name } => tables::show_all(&Lab::open(name)?)?,
        Verb::Attach { name, node, pod } => attach(name, node, pod)?,
        Verb::Detach { name, pod } => detach(name, pod)?,
        Verb::Exec { name, place, words } => return exec(name, place, words),
    }
    Ok(ExitCode::SUCCESS)
}

fn demo(name: &str, mut topology: Topology, ipip: Option<&str>) -> Result<ExitCode> {
    if let Some(mode) = ipip {
        topology.set_ipip_mode(mode);
        if mode != "Never"
            && let Some(code) = uml::rerun_without_ipip()?
        {
            return Ok(code);
        }
    }
    demo::run(name, topology)
}

fn up(name: &str, topology: Topology) -> Result<()> {
    preflight::check()?;
    if LabDir::named(name)?.state() == State::Ready {
        say(format_args!("Lab {name} is up already."));
        guide::print(&Lab::open(name)?);
        return Ok(());
    }
    let lab = Lab::build(name, topology)?;
    if let Err(error) = lab.start().and_then(|()| lab.wait_sessions()) {
        eprintln!("{}", lab.log_tails());
        return Err(error);
    }
    lab.keep()?;
    say(format_args!("Lab {name} is up."));
    guide::print(&Lab::open(name)?);
    Ok(())
}

fn take_down(names: &[String], all: bool) -> Result<()> {
    let names = if all { LabDir::list()? } else { names.to_vec() };
    if names.is_empty() {
        say(format_args!("There is no lab."));
    }
    for name in names {
        let existed = down(&name)?;
        say(format_args!(
            "Lab {name} {}.",
            if existed { "is gone" } else { "was not there" }
        ));
    }
    Ok(())
}

fn list() -> Result<()> {
    let names = LabDir::list()?;
    if names.is_empty() {
        say(format_args!("There is no lab."));
    }
    for name in names {
        let state = match LabDir::named(&name)?.state() {
            State::Absent => continue,
            State::Ready => "up".to_string(),
            State::Busy(owner) => format!("in use by process {owner}"),
            State::Broken => format!("incomplete (`lab down {name}` removes it)"),
        };
        say(format_args!("{name}: {state}"));
    }
    Ok(())
}

fn attach(name: &str, node: &str, pod: &str) -> Result<()> {
    let mut lab = Lab::open(name)?;
    lab.lock()?;
    let attachment = lab.attach(pod, node)?;
    for address in attachment.addresses {
        say(format_args!("{pod} on {node}: {address}"));
    }
    Ok(())
}

fn detach(name: &str, pod: &str) -> Result<()> {
    let mut lab = Lab::open(name)?;
    lab.lock()?;
    lab.detach(pod)?;
    say(format_args!("{pod} is gone."));
    Ok(())
}

/// Runs a command on a node (with the variables of our programs), a router or a pod, on this very terminal.
fn exec(name: &str, place: &str, words: &[String]) -> Result<ExitCode> {
    let lab = Lab::open(name)?;
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_string());
    let (program, args) = match words.split_first() {
        Some((program, args)) => (program.as_str(), args),
        None => (shell.as_str(), &[] as &[String]),
    };
    let mut command = command_at(&lab, place, program)?;
    let status = command
        .args(args)
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

fn command_at(lab: &Lab, place: &str, program: &str) -> Result<Command> {
    if let Ok(node) = lab.find_node(place) {
        return Ok(node.command(program));
    }
    if lab.find_router(place).is_err() && lab.pod(place).is_err() {
        bail!(
            "there is no node, router or pod \"{place}\" in lab {}",
            lab.name()
        );
    }
    Ok(lab.netns(place).command(program))
}
