//! `evenkeel settings`

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use evenkeel_api::client::Client;
use evenkeel_api::{EditRequest, SettingView};
use evenkeel_config::native::nearest;
use evenkeel_core::model::{Edit, SYSCTL_PREFIX, Sysctl, SysctlValue};
use evenkeel_daemon::warnings::without_effect;
use serde_json::{Value, json};

use super::text::{Side, Table, print, print_json};

/// Arguments of `evenkeel settings`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Show this one, such as `net.ipv4.vs.expire_nodest_conn` or `expire_nodest_conn`
    /// alone; or set it. Without any: show all.
    #[arg(value_name = "NAME[=VALUE]", value_parser = word)]
    words: Vec<Word>,
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// A setting, and what it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    setting: Sysctl,
    value: Option<SysctlValue>,
}

fn word(text: &str) -> Result<Word, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (text, None),
    };
    let setting = Sysctl::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Sysctl::ALL.iter().map(|setting| setting.name()).collect();
        let short = name.strip_prefix(SYSCTL_PREFIX).unwrap_or(name);
        match nearest(short, &known) {
            Some(near) => format!("there is no setting {name}; did you mean {near}?"),
            None => format!("there is no setting {name}; `evenkeel settings` lists them"),
        }
    })?;
    let value = value.map(|value| {
        let read = value.parse::<SysctlValue>().ok();
        let read = read.filter(|value| setting.check(*value, setting.default()).is_ok());
        read.ok_or_else(|| format!("{} takes {}", setting.name(), setting.kind()))
    });
    Ok(Word {
        setting,
        value: value.transpose()?,
    })
}

/// Sets those that have a value, and shows the others.
pub(crate) fn run(instance: &str, arguments: &Arguments) -> Result<ExitCode> {
    let client = Client::new(instance);
    let words = &arguments.words;
    let set = |word: &Word| Some((word.setting, word.value?));
    let edits: Vec<Edit> = words
        .iter()
        .filter_map(set)
        .map(|(setting, value)| Edit::Set { setting, value })
        .collect();
    if !edits.is_empty() {
        let transaction = true;
        let response = client.edit(&EditRequest { transaction, edits })?;
        if let Some(refusal) = response.refused.first() {
            bail!("nothing is set: {}", refusal.error);
        }
    }
    let is_shown = |view: &SettingView| {
        words.is_empty() || words.iter().any(|word| word.setting == view.setting)
    };
    let all = client.settings()?;
    let shown: Vec<SettingView> = all.into_iter().filter(is_shown).collect();
    if arguments.json {
        print_json(&shown.iter().map(setting_json).collect())?;
    } else if words.iter().any(|word| word.value.is_some()) {
        // As `sysctl` does.
        let lines = shown.iter().map(|view| {
            let (name, value) = (view.setting.name(), view.value);
            format!("{SYSCTL_PREFIX}{name} = {value}\n")
        });
        print(&lines.collect::<String>())?;
    } else {
        print(&table(&shown))?;
    }
    for (setting, value) in words.iter().filter_map(set) {
        if let Some(warning) = without_effect(setting, value) {
            eprintln!("evenkeel: {warning}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(settings: &[SettingView]) -> String {
    let mut table = Table::new(&[
        ("setting", Side::Left),
        ("value", Side::Right),
        ("default", Side::Right),
        ("meaning", Side::Left),
    ]);
    for view in settings {
        let meaning = match &view.without_effect {
            Some(why) => format!("{} (no effect: {why})", view.meaning),
            None => view.meaning.clone(),
        };
        table.row(vec![
            format!("{SYSCTL_PREFIX}{}", view.setting.name()),
            view.value.to_string(),
            view.default.to_string(),
            meaning,
        ]);
    }
    table.to_string()
}

fn setting_json(view: &SettingView) -> Value {
    json!({
        "setting": format!("{SYSCTL_PREFIX}{}", view.setting.name()),
        "value": view.value,
        "default": view.default,
        "takes": view.takes,
        "meaning": view.meaning,
        "without_effect": view.without_effect,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        let number = |setting, value: u32| {
            let value = Some(SysctlValue::Number(value));
            Ok(Word { setting, value })
        };
        let tcp = Sysctl::SloppyTcp;
        assert_eq!(word("net.ipv4.vs.sloppy_tcp=1"), number(tcp, 1));
        assert_eq!(word("sloppy_tcp = 0"), number(tcp, 0));
        let (setting, value) = (tcp, None);
        assert_eq!(word("sloppy_tcp"), Ok(Word { setting, value }));
        let pair = word("sync_threshold=3 50").unwrap();
        assert_eq!(pair.value, Some(SysctlValue::Pair([3, 50])));
        for (text, message) in [
            (
                "net.ipv4.vs.slopy_tcp=1",
                "there is no setting net.ipv4.vs.slopy_tcp; did you mean sloppy_tcp?",
            ),
            (
                "forward",
                "there is no setting forward; `evenkeel settings` lists them",
            ),
            ("sloppy_tcp=2", "sloppy_tcp takes 0 or 1"),
            ("sloppy_tcp=", "sloppy_tcp takes 0 or 1"),
            (
                "drop_entry=4",
                "drop_entry takes a whole number from 0 to 3",
            ),
        ] {
            assert_eq!(word(text), Err(message.into()));
        }
    }
}
