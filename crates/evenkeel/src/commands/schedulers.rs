//! `evenkeel schedulers`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use evenkeel_core::model::Scheduler;
use serde_json::{Value, json};

use super::text::{Side, Table, print, print_json};

/// Arguments of `evenkeel schedulers`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// What a scheduler can do.
struct Abilities {
    /// It heeds weights beyond 0.
    weighs: bool,
    /// It looks at how many connections servers have.
    counts: bool,
    /// Every director with the same servers gives a client the same one.
    agrees: bool,
    /// Its flags.
    flags: &'static [&'static str],
    /// What it goes by.
    rule: &'static str,
}

const fn abilities(scheduler: Scheduler) -> Abilities {
    let (weighs, counts, agrees, flags, rule): (_, _, _, &[&str], _) = match scheduler {
        Scheduler::Rr => (false, false, false, &[], "each in turn"),
        Scheduler::Wrr => (
            true,
            false,
            false,
            &[],
            "each in turn, as often as its weight",
        ),
        Scheduler::Lc => (false, true, false, &[], "the fewest connections"),
        Scheduler::Wlc => (
            true,
            true,
            false,
            &[],
            "the fewest connections for its weight",
        ),
        Scheduler::Lblc => (
            true,
            true,
            false,
            &[],
            "one for each virtual address, else as wlc",
        ),
        Scheduler::Lblcr => (
            true,
            true,
            false,
            &[],
            "some for each virtual address, else as wlc",
        ),
        Scheduler::Dh => (false, false, true, &[], "by the virtual address"),
        Scheduler::Sh => (
            true,
            false,
            true,
            &["sh-fallback", "sh-port"],
            "by the client's address, with sh-port its port too",
        ),
        Scheduler::Sed => (true, true, false, &[], "the shortest expected delay"),
        Scheduler::Nq => (true, true, false, &[], "an idle one, else as sed"),
        Scheduler::Fo => (true, false, false, &[], "the highest weight"),
        Scheduler::Ovf => (
            true,
            true,
            false,
            &[],
            "the highest weight that has fewer active connections than that",
        ),
        Scheduler::Mh => (
            true,
            false,
            true,
            &["mh-fallback", "mh-port"],
            "by the client's address, with mh-port its port too; a change moves few clients",
        ),
        Scheduler::Twos => (
            true,
            true,
            false,
            &[],
            "the less loaded of two that are drawn",
        ),
    };
    Abilities {
        weighs,
        counts,
        agrees,
        flags,
        rule,
    }
}

/// Prints all schedulers.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.json {
        let all: Vec<Value> = Scheduler::ALL.iter().copied().map(in_json).collect();
        print_json(&json!(all))?;
    } else {
        print(&table().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn in_json(scheduler: Scheduler) -> Value {
    let it = abilities(scheduler);
    json!({
        "name": scheduler.name(),
        "weights": it.weighs,
        "connections": it.counts,
        "agrees": it.agrees,
        "flags": it.flags,
        "rule": it.rule,
    })
}

fn table() -> Table {
    let mut table = Table::new(&[
        ("scheduler", Side::Left),
        ("weights", Side::Left),
        ("connections", Side::Left),
        ("agrees", Side::Left),
        ("flags", Side::Left),
        ("goes by", Side::Left),
    ]);
    let yes = |is_so: bool| String::from(if is_so { "yes" } else { "-" });
    for scheduler in Scheduler::ALL {
        let it = abilities(*scheduler);
        let flags = match it.flags {
            [] => "-".into(),
            flags => flags.join(","),
        };
        table.row(vec![
            scheduler.name().into(),
            yes(it.weighs),
            yes(it.counts),
            yes(it.agrees),
            flags,
            it.rule.into(),
        ]);
    }
    table
}
