//! `routectl`, the command line of Routelet: what the agent on this node is doing, and what is in the datastore.
//!
//! `node`, `routes` and `why` ask the agent over its admin socket; `ipam`, `get`, `apply` and `delete` work on the
//! datastore themselves, so they work from anywhere, with or without an agent. Only `apply` and `delete` change anything.

mod agent_view;
mod apply;
mod cli;
mod columns;
mod delete;
mod get;
mod input;
mod ipam_view;
mod output;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Result, anyhow, ensure};
use clap::Parser;
use datastore::Store;

use cli::{Cli, Command, IpamCommand, NodeCommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .init();
    let done = run(&cli).and_then(|text| print(&text));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Each error is one line that says how to mend it; the causes behind it are in that line already.
            eprintln!("routectl: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(cli: &Cli) -> Result<String> {
    let format = cli.output;
    match &cli.command {
        Command::Node(NodeCommand::Status) => agent_view::status(&cli.admin_socket, format),
        Command::Node(NodeCommand::Pods) => agent_view::pods(&cli.admin_socket, format),
        Command::Routes { prefix } => agent_view::routes(&cli.admin_socket, *prefix, format),
        Command::Why { prefix } => agent_view::why(&cli.admin_socket, *prefix, format),
        Command::Ipam(IpamCommand::Show { show_blocks }) => {
            ipam_view::show(&open(&cli.datastore).await?, *show_blocks, format).await
        }
        Command::Get {
            kind,
            name,
            namespace,
        } => {
            let store = open(&cli.datastore).await?;
            get::get(&store, kind, name.as_deref(), namespace.as_deref(), format).await
        }
        Command::Apply { files, force } => {
            let objects = input::read(&files.files, files.recursive)?;
            apply::apply(&open(&cli.datastore).await?, objects, force.force, format).await
        }
        Command::Delete {
            kind,
            names,
            namespace,
            from,
            ignore_not_found,
            force,
        } => {
            let objects = match kind {
                Some(kind) => delete::named(kind, names, namespace.as_deref())?,
                None => delete::of_files(&input::read(&from.files, from.recursive)?),
            };
            let store = open(&cli.datastore).await?;
            delete::delete(&store, &objects, *ignore_not_found, force.force, format).await
        }
    }
}

/// Opens a datastore that is there: a reader that makes a directory where a path was mistyped helps nobody.
async fn open(address: &str) -> Result<Store> {
    if let Some(dir) = address.strip_prefix("file:").filter(|dir| !dir.is_empty()) {
        ensure!(
            Path::new(dir).exists(),
            "there is no datastore at {dir} (--datastore or ROUTELET_DATASTORE names another one)"
        );
    }
    let hint = "(--datastore or ROUTELET_DATASTORE names another one)";
    Store::open(address)
        .await
        .map_err(|error| anyhow!("{error} {hint}"))
}

/// Prints; a reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
