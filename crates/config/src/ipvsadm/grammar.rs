//! From words to a [`Command`], with every complaint of `ipvsadm` in its order:
//! first each option's own argument, as the words come; then scheduler flags;
//! then the table of the command; then what only options together can get wrong.

use evenkeel_core::model::Timeouts;

use super::address::Names;
use super::command::{Command, List, SyncRole, Usage};
use super::draft::{Draft, timeout};
use super::options::Opt;
use super::rules::Verb;
use super::words::{Found, WordError, Words};

/// Reads the words behind the program's name.
///
/// # Errors
/// The message and exit code of `ipvsadm` 1.31 for words that it refuses.
pub fn parse(words: &[&str], names: &dyn Names) -> Result<Command, Usage> {
    if words.is_empty() {
        return Ok(Command::List(List::default()));
    }
    let mut walk = Words::new(words);
    let Ok(Some(first)) = walk.next_option() else {
        return Err(try_help());
    };
    let verb = match first.option {
        Opt::Help => return Ok(Command::Help),
        Opt::Version => return Ok(Command::Version),
        option => Verb::of(option).ok_or_else(try_help)?,
    };
    let mut draft = Draft::new(names);
    match verb {
        Verb::StartDaemon => {
            draft.role = Some(role(&first, "illegal start-daemon parameter specified")?);
        }
        Verb::StopDaemon => draft.role = Some(role(&first, "illegal start_daemon specified")?),
        _ => {}
    }
    loop {
        match walk.next_option() {
            Ok(Some(found)) => draft.option(found, walk.current())?,
            Ok(None) => break,
            Err(error) => return Err(popt_error(walk.current(), error)),
        }
    }
    let mut arguments = walk.arguments().into_iter();
    if verb == Verb::Set {
        draft.timeouts = timeouts(&mut arguments)?;
    }
    if let Some(argument) = arguments.next() {
        return Err(Usage::new(format!("unexpected argument {argument}")));
    }
    draft.finish(verb)
}

/// The way out of a restore inside a restore, and of a first word that is no
/// command.
pub(super) fn try_help() -> Usage {
    Usage {
        message: "Try `ipvsadm -h' or 'ipvsadm --help' for more information.".into(),
        exit_code: 255,
        restore_goes_on: false,
    }
}

fn popt_error(word: &str, error: WordError) -> Usage {
    Usage {
        message: format!("{word}: {}", error.text()),
        exit_code: 255,
        restore_goes_on: true,
    }
}

fn role(found: &Found<'_>, complaint: &str) -> Result<SyncRole, Usage> {
    match found.argument {
        Some("master") => Ok(SyncRole::Master),
        Some("backup") => Ok(SyncRole::Backup),
        _ => Err(Usage::new(complaint)),
    }
}

fn timeouts<'w>(arguments: &mut impl Iterator<Item = &'w str>) -> Result<Timeouts, Usage> {
    let mut next = || {
        arguments
            .next()
            .ok_or_else(|| Usage::new("--set option requires 3 timeout values"))
    };
    let (tcp, tcp_fin, udp) = (next()?, next()?, next()?);
    Ok(Timeouts {
        tcp: timeout(tcp, 0)?,
        tcp_fin: timeout(tcp_fin, 0)?,
        udp: timeout(udp, 0)?,
    })
}
