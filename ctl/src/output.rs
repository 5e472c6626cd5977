//! How things are printed: tables for people, JSON and YAML for programs.

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{CellAlignment, LineStyle, Table, presets};
use datastore::KindInfo;
use serde::Serialize;
use serde_json::Value;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table.
    Table,
    /// A table with more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// A value for a program, or `None` where a person is to read it.
pub(crate) fn for_programs(format: Format, value: &impl Serialize) -> Result<Option<String>> {
    Ok(match format {
        Format::Json => Some(format!("{}\n", serde_json::to_string_pretty(value)?)),
        Format::Yaml => Some(datastore::to_yaml(&serde_json::to_value(value)?)),
        Format::Table | Format::Wide => None,
    })
}

/// A table without lines, as kubectl prints them.
pub(crate) fn plain_table(headers: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headers.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    without_trailing_blanks(&table.to_string())
}

/// A table with lines, as calicoctl prints them; the columns from `numbers` on are flush right.
pub(crate) fn lined_table(headers: &[&str], rows: Vec<Vec<String>>, numbers: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED.header_separator(LineStyle::new('+', '-', '+', '+')));
    table.set_header(headers.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    without_trailing_blanks(&table.to_string())
}

fn without_trailing_blanks(text: &str) -> String {
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// A count as JSON: beyond 64 bits JSON has only approximations.
pub(crate) fn number(count: u128) -> Value {
    u64::try_from(count).map_or_else(|_| Value::from(count as f64), Value::from)
}

/// A time for a person: `2026-11-20 13:05:02Z`.
pub(crate) fn time(seconds: u64) -> String {
    let at = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(
        || "-".to_string(),
        |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

/// Text, or a dash for none.
pub(crate) fn or_dash(text: impl Into<String>) -> String {
    let text = text.into();
    if text.is_empty() { "-".to_string() } else { text }
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It is new.
    Created,
    /// It was there and says something else now.
    Configured,
    /// It was there and said so already.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// Says what was done: to a person at once, to a program when all is done.
pub(crate) struct Done {
    format: Format,
    all: Vec<Value>,
}

impl Done {
    pub(crate) fn new(format: Format) -> Self {
        let all = Vec::new();
        Done { format, all }
    }

    pub(crate) fn note(&mut self, kind: &KindInfo, name: &str, outcome: Outcome) {
        let outcome = serde_json::json!(outcome);
        if matches!(self.format, Format::Table | Format::Wide) {
            let word = outcome.as_str().unwrap_or_default();
            // A reader that has gone away keeps nothing from being done.
            let _ = crate::print(&format!("{} \"{name}\" {word}\n", kind.kind.to_lowercase()));
        }
        self.all
            .push(serde_json::json!({"kind": kind.kind, "name": name, "outcome": outcome}));
    }

    /// What a person must know when something goes wrong in the middle.
    pub(crate) fn so_far(&self) -> String {
        match self.all.len() {
            0 => String::new(),
            count => format!(" ({count} before it were done; the same command does the rest)"),
        }
    }

    pub(crate) fn finish(self) -> Result<String> {
        Ok(for_programs(self.format, &self.all)?.unwrap_or_default())
    }
}
