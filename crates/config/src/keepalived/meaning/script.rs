//! Programs that are run, and what would keep them from being run.

use std::path::Path;

use evenkeel_core::model::{Script, User};

use super::super::text::{At, Report, cells};
use super::super::tree::Node;
use super::super::values::warning;
use super::super::words::{Word, escaped};
use super::global::Global;
use crate::files::Files;

/// Whom scripts run as where nothing says it.
const USUAL_USER: &str = "keepalived_script";

/// All scripts of a configuration.
#[derive(Debug, Default)]
pub(super) struct Scripts(Vec<(At, Word, Script)>);

impl Scripts {
    /// What a keyword says about a program; `user` also who runs it.
    pub(super) fn read(
        &mut self,
        node: &Node,
        with_user: bool,
        report: &mut Report,
    ) -> Option<Script> {
        let Some(words) = escaped(&node.text) else {
            let message = format!(
                "the quotes behind {} are not closed; it is ignored",
                node.name()
            );
            report.add(node.warning_at(1, message));
            return None;
        };
        // As it is read in keepalived: the first word is taken apart once more.
        let word = words.get(1)?;
        let command = escaped(&cells(&word.text)).unwrap_or_default();
        let command: Vec<String> = command.into_iter().map(|word| word.text).collect();
        if command.is_empty() {
            let message = format!("the command behind {} is empty; it is ignored", node.name());
            report.add(warning(&node.at, word, message));
            return None;
        }
        let user = with_user.then(|| user(&words[2..])).flatten();
        let (most, takes) = if with_user {
            (4, "a user and a group")
        } else {
            (2, "nothing")
        };
        if let Some(extra) = words.get(most) {
            let message = format!(
                "{} takes {takes} behind the command; this is ignored",
                node.name()
            );
            let hint = "write the command with its arguments in quotes";
            report.add(warning(&node.at, extra, message).hinting(hint));
        }
        let script = Script { command, user };
        self.0.push((node.at.clone(), word.clone(), script.clone()));
        Some(script)
    }

    /// Another user for the last script that was read.
    pub(super) fn set_user(&mut self, user: &User) {
        if let Some((_, _, script)) = self.0.last_mut() {
            script.user = Some(user.clone());
        }
    }

    /// Warns of what would keep scripts from being run on this machine.
    pub(super) fn check(&self, global: &Global, files: &dyn Files, report: &mut Report) {
        let mut told_security = false;
        for (at, word, script) in &self.0 {
            check_user(at, word, script, global, files, report);
            if !script.command[0].starts_with('/') {
                continue;
            }
            let path = Path::new(&script.command[0]);
            let Ok(status) = files.status(path) else {
                let message = format!("there is no program {}", path.display());
                let hint = "it will fail each time it is run";
                report.add(warning(at, word, message).hinting(hint));
                continue;
            };
            if !status.is_file || !status.is_executable() {
                let message = format!("{} is not executable", path.display());
                let hint = format!("chmod +x {}", path.display());
                report.add(warning(at, word, message).hinting(hint));
            }
            if !runs_as_root(script, global, files) {
                continue;
            }
            if let Some(open) = open_to_others(path, files) {
                let message = format!("others than root can change {}", open.display());
                let found = warning(at, word, message);
                report.add(if global.script_security {
                    found.expecting("enable_script_security keeps it from being run as root")
                } else {
                    found.hinting("make it root's own, or name a user that it runs as")
                });
            } else if !global.script_security && !told_security {
                told_security = true;
                let message = "programs are run as root without enable_script_security";
                let hint = "write enable_script_security in global_defs, or a script_user";
                report.add(warning(at, word, message).hinting(hint));
            }
        }
    }
}

fn runs_as_root(script: &Script, global: &Global, files: &dyn Files) -> bool {
    match script.user.as_ref().or(global.script_user.as_ref()) {
        Some(user) => matches!(user.name.as_str(), "root" | "0"),
        None => !files.has_user(USUAL_USER),
    }
}

fn check_user(
    at: &At,
    word: &Word,
    script: &Script,
    global: &Global,
    files: &dyn Files,
    report: &mut Report,
) {
    let Some(user) = script.user.as_ref() else {
        if global.script_user.is_none() && global.script_security && !files.has_user(USUAL_USER) {
            let message = format!("there is no user {USUAL_USER} to run this as");
            let hint = "write script_user in global_defs, or make that user";
            report.add(warning(at, word, message).hinting(hint));
        }
        return;
    };
    if !files.has_user(&user.name) {
        let message = format!("there is no user {} to run this as", user.name);
        let hint = "arguments stand in the same quotes as the command";
        report.add(warning(at, word, message).hinting(hint));
    } else if let Some(group) = user.group.as_ref().filter(|group| !files.has_group(group)) {
        let message = format!("there is no group {group} to run this as");
        report.add(warning(at, word, message));
    }
}

/// The path, or a directory above it, that others than root can change.
fn open_to_others<'p>(path: &'p Path, files: &dyn Files) -> Option<&'p Path> {
    path.ancestors().find(|part| {
        let status = files.status(part);
        status.is_ok_and(|status| status.is_open_to_others())
    })
}

/// A user, and a group or none.
pub(super) fn user(words: &[Word]) -> Option<User> {
    let name = words.first()?.text.clone();
    let group = words.get(1).map(|word| word.text.clone());
    Some(User { name, group })
}
