//! Checks, shown as they are made and counted; and whether the output may have colours.

use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
};

use anyhow::Result;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// May standard output have colours? Only on a terminal, and not where `NO_COLOR` says no.
pub fn has_colour() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a line to standard output. A reader that has gone away (`| head`) is no reason to stop: there may be a lab
/// to take down.
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Counts checks.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    failed: usize,
    colour: bool,
}

impl Report {
    /// A report on standard output.
    pub fn new() -> Self {
        Report {
            colour: has_colour(),
            ..Report::default()
        }
    }

    /// Counts a check and shows it on a line; gives back what it found, if it passed.
    pub fn check<T>(&mut self, what: impl fmt::Display, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.passed += 1;
                self.say(format_args!("  {} {what}", self.paint(GREEN, "ok")));
                Some(value)
            }
            Err(error) => {
                self.failed += 1;
                self.say(format_args!("  {} {what}: {error:#}", self.paint(RED, "FAILED")));
                None
            }
        }
    }

    /// Counts a check that is shown elsewhere, as a cell of a table.
    pub fn count(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Counts a failure that ended the work before its checks could be made.
    pub fn abort(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        self.say(format_args!("  {} {error:#}", self.paint(RED, "FAILED")));
    }

    /// Shows a heading.
    pub fn heading(&self, text: &str) {
        self.say(format_args!("\n{}", self.paint(BOLD, text)));
    }

    /// Shows a line.
    pub fn say(&self, line: impl fmt::Display) {
        say(line);
    }

    /// Did every check pass?
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// `N passed, N failed`.
    pub fn summary(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colour {
            format!("{style}{text}{PLAIN}")
        } else {
            text.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn counts_and_is_not_good_when_nothing_was_checked() {
        let mut report = Report::default();
        assert!(!report.is_good());
        assert_eq!(report.check("one", Ok(1)), Some(1));
        assert!(report.is_good());
        assert_eq!(report.check("two", Err::<(), _>(anyhow!("no"))), None);
        report.count(true);
        assert!(!report.is_good());
        assert_eq!(report.summary(), "2 passed, 1 failed");
    }
}
