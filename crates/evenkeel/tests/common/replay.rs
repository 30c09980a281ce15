//! Replays recordings against a daemon, through its socket.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Cursor, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use evenkeel::ipvsadm::{Console, Program, run};
use evenkeel_api::client::Client;
use evenkeel_config::ipvsadm::{Names, parse};
use evenkeel_core::model::Protocol;

use super::recording::{Recording, words};

/// The names of the machine that the recordings were made on.
pub(crate) struct RecordedNames;

const WEB: (&str, Ipv4Addr) = ("web.example.test", Ipv4Addr::new(10, 0, 0, 10));
const SERVICES: &[(&str, u16)] = &[
    ("http", 80),
    ("https", 443),
    ("http-alt", 8080),
    ("domain", 53),
];

impl Names for RecordedNames {
    fn address_of(&self, host: &str) -> Option<Ipv4Addr> {
        (host == WEB.0).then_some(WEB.1)
    }
    fn port_of(&self, service: &str, _: Protocol) -> Option<u16> {
        SERVICES
            .iter()
            .find(|(name, _)| *name == service)
            .map(|(_, port)| *port)
    }
    fn host_of(&self, address: IpAddr) -> Option<String> {
        (address == WEB.1).then(|| WEB.0.into())
    }
    fn service_of(&self, port: u16, _: Protocol) -> Option<String> {
        SERVICES
            .iter()
            .find(|(_, known)| *known == port)
            .map(|(name, _)| (*name).into())
    }
}

/// What a command printed, on both streams, and its exit code.
pub(crate) struct Outcome {
    pub(crate) output: String,
    pub(crate) exit: u8,
}

impl Outcome {
    /// What is not supported yet, if this is what it says.
    pub(crate) fn unsupported(&self) -> Option<&str> {
        let name = self
            .output
            .strip_prefix("not supported yet: ")?
            .strip_suffix('\n')?;
        (self.exit == 1 && !name.contains('\n')).then_some(name)
    }
}

/// Both streams into one text, as a terminal shows them.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a command line (`ipvsadm …`) in this process.
pub(crate) fn command(client: &Client, line: &str, input: &str) -> Outcome {
    let words = words(line);
    let program = Program::from_name(words[0]).expect("a command of ours");
    let text = Shared::default();
    let mut console = Console {
        input: BufReader::new(Box::new(Cursor::new(input.to_owned()))),
        output: Box::new(text.clone()),
        errors: Box::new(text.clone()),
    };
    let exit = run(program, &words[1..], &mut console, &RecordedNames, client);
    drop(console);
    let output = String::from_utf8(text.0.take()).expect("text");
    Outcome { output, exit }
}

/// The little of a shell that recordings use: a file that is written, read, or
/// compared.
#[derive(Default)]
struct Shell {
    files: BTreeMap<String, String>,
}

impl Shell {
    /// Runs a line; nothing if it is of another program.
    fn run(&mut self, client: &Client, line: &str) -> Option<Outcome> {
        let is_ours = Program::from_name(words(line)[0]).is_some();
        if !is_ours {
            return None;
        }
        if let Some((line, file)) = line.split_once(" | tee ") {
            let outcome = command(client, line, "");
            self.files.insert(file.into(), outcome.output.clone());
            return Some(outcome);
        }
        if let Some((line, file)) = line.split_once(" < ") {
            return Some(command(client, line, self.files.get(file)?));
        }
        if let Some((line, rest)) = line.split_once(" | diff - ") {
            let file = rest.strip_suffix(" && echo SAME")?;
            let same = command(client, line, "").output == *self.files.get(file)?;
            return Some(Outcome {
                output: if same { "SAME\n" } else { "not the same\n" }.into(),
                exit: u8::from(!same),
            });
        }
        Some(command(client, line, ""))
    }
}

/// What became of a recording.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Commands whose output and exit code were compared.
    pub(crate) compared: usize,
    /// Commands left out because the table already differed.
    pub(crate) skipped: usize,
    /// What was not supported.
    pub(crate) unsupported: BTreeSet<String>,
}

/// Replays a recording from an empty table on, after the commands that made the
/// table the recording starts with.
///
/// A command that answers "not supported yet" is left out, and so is one of another
/// program. After the former all that follow are left out as well, but for those that
/// do not depend on what is running: usage errors. Everything else must match byte for
/// byte; only the size of the connection table is the daemon's own.
///
/// # Panics
/// On the first difference.
pub(crate) fn replay(client: &Client, recording: &Recording, prelude: &[&str]) -> Report {
    let start = ["ipvsadm -C", "ipvsadm --set 900 120 300"];
    for line in start.iter().chain(prelude) {
        let outcome = command(client, line, "");
        assert_eq!(
            (outcome.exit, outcome.output.as_str()),
            (0, ""),
            "{}: {line}",
            recording.name
        );
    }
    let size = client.services(None).expect("a daemon").table_size;
    let mut report = Report::default();
    let mut shell = Shell::default();
    let mut differs = false;
    for step in &recording.steps {
        let words = words(&step.command);
        let is_ours = Program::from_name(words[0]) == Some(Program::Ipvsadm);
        let usage = is_ours && parse(&words[1..], &RecordedNames).is_err();
        let outcome = if differs && !usage {
            None
        } else {
            shell.run(client, &step.command)
        };
        let Some(outcome) = outcome else {
            report.skipped += 1;
            continue;
        };
        if let Some(name) = outcome.unsupported() {
            report.unsupported.insert(name.into());
            report.skipped += 1;
            differs = true;
            continue;
        }
        let expected = step
            .output
            .replace("(size=4096)", &format!("(size={size})"));
        assert_eq!(
            (outcome.output.as_str(), outcome.exit),
            (expected.as_str(), step.exit),
            "{}: {}",
            recording.name,
            step.command
        );
        report.compared += 1;
    }
    report
}
