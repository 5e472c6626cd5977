//! The plugin: one call by a container runtime, one JSON answer (CNI specification, 0.3.1 to 1.1.0).
//!
//! A call is an environment (`environment`) and a network configuration on standard input (`configuration`).
//! The verbs that touch an attachment are a file each: `add`, `del`, `check`. What a runtime reads is made in
//! `answer`. Whatever goes wrong, a panic included, ends as a CNI error on standard output and exit status 1.
//!
//! GC answers success and deletes nothing: the agent knows every attachment and finds dead ones itself.

mod add;
mod agent;
mod answer;
mod check;
mod configuration;
mod del;
mod document;
mod environment;
mod namespace;
mod sysctl;
mod wiring;

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal, Read, Write},
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

use self::{
    agent::Conversation,
    answer::CniVersion,
    configuration::{Configuration, ConfigurationError},
    environment::{Command, Environment, EnvironmentError},
};
use crate::{
    netlink::NetlinkError,
    protocol::{Failure, Verb, code},
};

/// Largest network configuration, in octets. Runtimes pass a few kilobytes; a prevResult may add some.
const MAX_CONFIGURATION: u64 = 1 << 20;

/// Serves one call. The whole program.
pub fn main() -> ExitCode {
    if called_by_hand() {
        let _ = writeln!(io::stderr(), "{}", about());
        return ExitCode::FAILURE;
    }
    let mut version = CniVersion::LATEST;
    let outcome = guarded(|| serve(&mut version));
    let (text, status) = match outcome {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(result)) => (result, ExitCode::SUCCESS),
        Err(failure) => (answer::error(version, &failure), ExitCode::FAILURE),
    };
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => status,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A runtime sets `CNI_COMMAND`; a person who tries the program out sets nothing.
fn called_by_hand() -> bool {
    env::var_os("CNI_COMMAND").is_none()
        && (io::stdin().is_terminal() || !env::vars_os().any(|(name, _)| is_cni_variable(&name)))
}

fn is_cni_variable(name: &OsString) -> bool {
    name.to_string_lossy().starts_with("CNI_")
}

/// What it is, who calls it, its version.
fn about() -> String {
    format!(
        "routelet-cni {}: the CNI plugin of Routelet; container runtimes call it with CNI_COMMAND and the other CNI_* \
         variables set and the network configuration on standard input (CNI {})",
        env!("CARGO_PKG_VERSION"),
        answer::supported()
    )
}

/// Runs the call; a panic becomes a failure that says where it was.
fn guarded<T>(call: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    static PLACE: Mutex<String> = Mutex::new(String::new());
    panic::set_hook(Box::new(|info| {
        *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
    panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(
            Failure::new(code::INTERNAL, "this is a bug in routelet-cni, please report it")
                .because(place.replace('\n', " ")),
        )
    })
}

/// Answers the call. `version` is set as soon as it is known, for the error's sake.
fn serve(version: &mut CniVersion) -> Result<Option<Value>, Failure> {
    let environment = Environment::read(|name| env::var_os(name))?;
    let input = standard_input()?;
    if environment.command == Command::Version {
        return Ok(Some(answer::version(&input)));
    }
    let configuration = Configuration::parse(&input)?;
    *version = configuration.version;
    configuration.must_know(environment.command)?;
    match environment.command {
        Command::Add => add::add(&environment, &configuration).map(Some),
        Command::Del => del::del(&environment, &configuration).map(|()| None),
        Command::Check => check::check(&environment, &configuration).map(|()| None),
        Command::Status => status(&environment, &configuration).map(|()| None),
        Command::Gc | Command::Version => Ok(None),
    }
}

/// STATUS: can an ADD be served?
fn status(environment: &Environment, configuration: &Configuration) -> Result<(), Failure> {
    let ask = || -> Result<(), agent::AgentError> {
        let mut conversation = Conversation::open(&environment.socket(configuration.socket()?))?;
        conversation.send(Verb::Status)?;
        conversation.reply(agent::STATUS_PATIENCE).map(drop)
    };
    ask().map_err(|error| {
        let mut failure = Failure::from(error);
        if failure.code == code::TRY_AGAIN {
            failure.code = code::NOT_AVAILABLE;
        }
        failure
    })
}

fn standard_input() -> Result<Vec<u8>, ConfigurationError> {
    let mut input = Vec::new();
    io::stdin().take(MAX_CONFIGURATION + 1).read_to_end(&mut input)?;
    if input.len() as u64 > MAX_CONFIGURATION {
        return Err(ConfigurationError::TooLong {
            most: MAX_CONFIGURATION,
        });
    }
    Ok(input)
}

impl From<EnvironmentError> for Failure {
    fn from(error: EnvironmentError) -> Self {
        Self::new(code::INVALID_ENVIRONMENT, error.to_string())
    }
}

impl From<NetlinkError> for Failure {
    fn from(error: NetlinkError) -> Self {
        Self::new(code::KERNEL, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_becomes_a_cni_error() {
        let failure = guarded(|| -> Result<(), Failure> { panic!("lost my way") }).unwrap_err();
        drop(panic::take_hook());
        assert_eq!(failure.code, code::INTERNAL);
        assert!(failure.details.contains("lost my way"), "{failure}");
        assert!(failure.details.contains("plugin/mod.rs"), "{failure}");
    }

    #[test]
    fn about_says_who_calls_it() {
        let about = about();
        for part in ["routelet-cni", env!("CARGO_PKG_VERSION"), "CNI_COMMAND", "1.1.0"] {
            assert!(about.contains(part), "{part} is not in {about}");
        }
    }
}
