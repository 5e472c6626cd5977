//! `routectl ipam`: how full the pools are, read from the datastore.

use anyhow::Result;
use datastore::Store;
use ipam::report::{BlockUse, PoolUse, utilisation};
use serde_json::{Value, json};

use crate::output::{Format, for_programs, lined_table, number};

const HEADERS: [&str; 6] = [
    "GROUPING",
    "CIDR",
    "IPS TOTAL",
    "IPS IN USE",
    "IPS RESERVED",
    "IPS FREE",
];
/// Columns before the numbers.
const WORDS: usize = 2;

/// Prints the pools, and the blocks of each if that is asked for.
pub(crate) async fn show(store: &Store, show_blocks: bool, format: Format) -> Result<String> {
    let (pools, blocks) = (store.list().await?, store.list().await?);
    let pools = utilisation(&pools, &blocks, &store.list().await?);
    let value = json!({"pools": pools.iter().map(|pool| pool_json(pool, show_blocks)).collect::<Vec<_>>()});
    if let Some(text) = for_programs(format, &value)? {
        return Ok(text);
    }
    let wide = format == Format::Wide;
    let mut rows = Vec::new();
    for pool in &pools {
        rows.push(row(
            "IP Pool",
            pool.cidr.to_string(),
            [pool.total, pool.in_use, pool.reserved, pool.free],
            || pool.name.clone(),
        ));
        for block in pool.blocks.iter().filter(|_| show_blocks) {
            let counts = [block.total, block.in_use, block.reserved, block.free];
            rows.push(row("Block", block.cidr.to_string(), counts, || {
                block.affinity.clone().unwrap_or_else(|| "(nobody)".to_string())
            }));
        }
    }
    if wide {
        let headers: Vec<_> = ["NAME"].into_iter().chain(HEADERS).collect();
        return Ok(lined_table(&headers, rows, WORDS + 1));
    }
    rows.iter_mut().for_each(|row| drop(row.remove(0)));
    Ok(lined_table(&HEADERS, rows, WORDS))
}

fn row(grouping: &str, cidr: String, counts: [u128; 4], name: impl Fn() -> String) -> Vec<String> {
    let [total, in_use, reserved, free] = counts;
    let share = |count| with_share(count, total);
    vec![
        name(),
        grouping.to_string(),
        cidr,
        count(total),
        share(in_use),
        share(reserved),
        share(free),
    ]
}

/// `12 (19%)`.
fn with_share(part: u128, total: u128) -> String {
    let percent = if total == 0 {
        0.0
    } else {
        part as f64 * 100.0 / total as f64
    };
    format!("{} ({percent:.0}%)", count(part))
}

/// A count: in full, or in five digits where it is a /64 of them.
fn count(count: u128) -> String {
    if count < 1_000_000_000 {
        return count.to_string();
    }
    let text = format!("{:.4e}", count as f64);
    match text.split_once('e') {
        Some((digits, exponent)) => format!("{digits}e+{exponent}"),
        None => text,
    }
}

fn pool_json(pool: &PoolUse, show_blocks: bool) -> Value {
    let mut value = json!({
        "name": pool.name,
        "cidr": pool.cidr,
        "total": number(pool.total),
        "inUse": number(pool.in_use),
        "reserved": number(pool.reserved),
        "free": number(pool.free),
    });
    if show_blocks {
        value["blocks"] = pool.blocks.iter().map(block_json).collect();
    }
    value
}

fn block_json(block: &BlockUse) -> Value {
    json!({
        "cidr": block.cidr,
        "affinity": block.affinity,
        "total": number(block.total),
        "inUse": number(block.in_use),
        "reserved": number(block.reserved),
        "free": number(block.free),
        "borrowed": number(block.borrowed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_share() {
        for (part, total, text) in [
            (12, 64, "12 (19%)"),
            (0, 64, "0 (0%)"),
            (64, 64, "64 (100%)"),
            (0, 0, "0 (0%)"),
            (65_536, 1 << 64, "65536 (0%)"),
            (1 << 64, 1 << 64, "1.8447e+19 (100%)"),
        ] {
            assert_eq!(with_share(part, total), text);
        }
    }
}
