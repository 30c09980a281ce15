//! What Debian's start script of `ipvsadm` reads: `/etc/default/ipvsadm`, which says
//! whether rules are loaded, and the rules.

use evenkeel_core::model::Edit;

use super::address::Names;
use super::command::{Command, SyncRole};
use super::restore::{parse_line, words_of_line};

/// Where Debian has what the start script goes by.
pub const DEFAULTS_FILE: &str = "/etc/default/ipvsadm";
/// Where Debian has the rules.
pub const RULES_FILE: &str = "/etc/ipvsadm.rules";

/// Something in a file that is not done as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Line, from 1.
    pub line: usize,
    /// What about it.
    pub message: String,
}

/// What `/etc/default/ipvsadm` says; what it does not say is as the start script has
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `AUTO`: the rules are loaded at the start.
    pub auto: bool,
    /// `DAEMON`: which synchronisation daemons are started, and the line that says so.
    pub daemons: Option<(String, usize)>,
    /// `IFACE`: the interface of these.
    pub interface: String,
    /// `SYNCID`: their synchronisation id.
    pub sync_id: String,
    /// Lines that are more than an assignment.
    pub remarks: Vec<Remark>,
}

/// Reads `/etc/default/ipvsadm`: assignments as the shell has them, of which nothing
/// is carried out.
#[must_use]
pub fn defaults(text: &str) -> Defaults {
    let mut defaults = Defaults {
        auto: false,
        daemons: None,
        interface: "eth0".into(),
        sync_id: "0".into(),
        remarks: Vec::new(),
    };
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let Some((name, value)) = assignment(text) else {
            defaults.remarks.push(Remark {
                line,
                message: format!("{text:?} is no plain assignment and is left out"),
            });
            continue;
        };
        match name {
            "AUTO" => defaults.auto = value == "true",
            "DAEMON" => {
                let is_some = !matches!(value.as_str(), "none" | "");
                defaults.daemons = is_some.then_some((value, line));
            }
            "IFACE" => defaults.interface = value,
            "SYNCID" => defaults.sync_id = value,
            // The start script would not look at it either.
            _ => {}
        }
    }
    defaults
}

/// `NAME=value`, the value perhaps in quotation marks, a comment perhaps behind it.
fn assignment(text: &str) -> Option<(&str, String)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.strip_prefix("export ").unwrap_or(name).trim_start();
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (value, behind) = match quote {
        Some(quote) => rest[1..].split_once(quote)?,
        None => rest.split_at(
            rest.find(|c: char| c.is_whitespace() || c == ';')
                .unwrap_or(rest.len()),
        ),
    };
    let behind = behind.trim_start();
    let ends_there = behind.is_empty() || behind == ";" || behind.starts_with('#');
    let is_plain = quote == Some('\'') || !value.contains(['$', '`', '\\', '"', '\'']);
    (ends_there && is_plain).then(|| (name, value.into()))
}

/// A file of rules as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What is to be done, each with its line.
    pub edits: Vec<(usize, Edit)>,
    /// Lines that are not understood, or not carried out.
    pub remarks: Vec<Remark>,
}

/// Reads a file of rules, as the start script gives it to `ipvsadm -R`: without the
/// lines that begin with `#`, and up to the line that would end it.
#[must_use]
pub fn rules(text: &str, names: &dyn Names) -> Rules {
    let mut rules = Rules::default();
    let mut remark = |line, message: String| rules.remarks.push(Remark { line, message });
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        let words = words_of_line(text);
        if text.starts_with('#') || words.is_empty() {
            continue;
        }
        match parse_line(&words, names) {
            Ok(Command::Edit(edit)) => rules.edits.push((line, edit)),
            Ok(Command::StartDaemon(daemon)) => {
                let role = match daemon.role {
                    SyncRole::Master => "master",
                    SyncRole::Backup => "backup",
                };
                remark(line, format!("not supported yet: --start-daemon {role}"));
            }
            Ok(Command::StopDaemon { .. }) => {
                remark(line, "not supported yet: --stop-daemon".into());
            }
            Ok(_) => remark(line, "a listing, which nobody would see".into()),
            Err(usage) if usage.restore_goes_on => remark(line, usage.message),
            Err(usage) => {
                let message = usage.message.trim_end();
                remark(
                    line,
                    format!("{message}; as with `ipvsadm -R`, no line behind it is read"),
                );
                break;
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::super::NoNames;
    use super::*;

    #[test]
    fn debians_own_file_says_no() {
        let text =
            "# ipvsadm\n\nAUTO=\"false\"\n\nDAEMON=\"none\"\n\nIFACE=\"eth0\"\t\n# SYNCID=\"0\"\n";
        let read = defaults(text);
        assert_eq!(read, defaults(""));
        assert_eq!((read.auto, read.daemons), (false, None));
    }

    #[test]
    fn assignments_as_the_shell_has_them() {
        let text = "AUTO=true # yes\n  export DAEMON='both';\nIFACE=ens192,ens224\nSYNCID=\"7\"\n\
                    OTHER=1\n";
        let expected = Defaults {
            auto: true,
            daemons: Some(("both".into(), 2)),
            interface: "ens192,ens224".into(),
            sync_id: "7".into(),
            remarks: Vec::new(),
        };
        assert_eq!(defaults(text), expected);
        // As the start script compares it.
        assert!(!defaults("AUTO=yes").auto);
        assert!(!defaults("AUTO=true\nAUTO=false").auto);
    }

    #[test]
    fn what_only_a_shell_could_tell_is_remarked() {
        let text = "AUTO=$(cat /x)\nif true; then\nAUTO=\"true\nIFACE=\"$DEV\"\nAUTO = true\n";
        let read = defaults(text);
        assert!(!read.auto);
        let lines: Vec<usize> = read.remarks.iter().map(|remark| remark.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn rules_up_to_the_line_that_ends_them() {
        let text = "# ipvsadm.rules\n-A -t 10.0.0.1:80 -s rr\n\n-A -t 10.0.0.2:80 -q\n-L -n\n\
                    --start-daemon backup\nipvsadm -a -t 10.0.0.1:80 -r 10.0.0.3 -m\n\
                    -A -t 10.0.0.4 -s rr\n-A -t 10.0.0.5:80\n";
        let read = rules(text, &NoNames);
        let lines: Vec<usize> = read.edits.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 7]);
        let remarks: Vec<String> = read
            .remarks
            .iter()
            .map(|remark| format!("{}: {}", remark.line, remark.message))
            .collect();
        assert_eq!(
            remarks,
            [
                "4: -q: unknown option",
                "5: a listing, which nobody would see",
                "6: not supported yet: --start-daemon backup",
                "8: Zero port specified for non-persistent service; as with `ipvsadm -R`, no line \
                 behind it is read",
            ]
        );
    }
}
