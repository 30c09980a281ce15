//! The command `ipvsadm`, and its companions `ipvsadm-save` and
//! `ipvsadm-restore`: clients of the daemon that behave as IPVS's own.
//!
//! What words mean and what is printed is decided in [`evenkeel_config::ipvsadm`];
//! here are the ends: standard input and output, the resolver, the socket.

pub mod boot;
mod names;
mod restore;

use std::ffi::OsString;
use std::io::{self, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use evenkeel_api::client::{Client, ClientError};
use evenkeel_api::connections::Query;
use evenkeel_api::{EditRequest, paths};
use evenkeel_config::ipvsadm::{
    Command, HELP, Layout, List, Listed, Names, SAVE_USAGE, VERSION, connection, connections_title,
    listing, parse, refused, save, timeouts,
};
use evenkeel_core::model::{Edit, ServiceKey};

pub use names::SystemNames;

/// Exit code where `ipvsadm` finds no IPVS.
const NO_DIRECTOR: u8 = 2;
/// Exit code for what is not supported yet.
const NOT_SUPPORTED: u8 = 1;
/// Bytes of rules that are read at a time.
const INPUT_BYTES: usize = 1 << 20;
/// Bytes of a long listing that are written at a time.
const OUTPUT_BYTES: usize = 1 << 16;

/// The name it was called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `ipvsadm`
    Ipvsadm,
    /// `ipvsadm-save`
    Save,
    /// `ipvsadm-restore`
    Restore,
}

impl Program {
    /// The program of this name, which may be a path.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.rsplit('/').next()? {
            "ipvsadm" => Some(Self::Ipvsadm),
            "ipvsadm-save" => Some(Self::Save),
            "ipvsadm-restore" => Some(Self::Restore),
            _ => None,
        }
    }
}

/// The three streams.
pub struct Console<'a> {
    /// Rules to restore.
    pub input: BufReader<Box<dyn Read + 'a>>,
    /// Listings.
    pub output: Box<dyn Write + 'a>,
    /// Complaints.
    pub errors: Box<dyn Write + 'a>,
}

impl Console<'static> {
    /// Those of the process.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            input: BufReader::with_capacity(INPUT_BYTES, Box::new(io::stdin())),
            output: Box::new(io::stdout()),
            errors: Box::new(io::stderr()),
        }
    }
}

/// Runs the program whose name is the first argument, as the process's whole
/// work. The instance comes from the environment alone, because every option
/// letter is `ipvsadm`'s.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    let words: Vec<String> = arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (name, words) = words.split_first().unwrap_or((&"ipvsadm", &[]));
    let program = Program::from_name(name).unwrap_or(Program::Ipvsadm);
    let mut console = Console::standard();
    let instance =
        std::env::var(paths::INSTANCE_VARIABLE).unwrap_or_else(|_| paths::DEFAULT_INSTANCE.into());
    if !paths::is_valid_instance(&instance) {
        let _ = writeln!(
            console.errors,
            "{} is `{instance}`, which is no instance name: use 1 to 64 letters, digits, `-`, `_` or `.`",
            paths::INSTANCE_VARIABLE
        );
        return NO_DIRECTOR.into();
    }
    run(
        program,
        words,
        &mut console,
        &SystemNames::default(),
        &Client::new(&instance),
    )
    .into()
}

/// Runs one command line and gives its exit code.
pub fn run(
    program: Program,
    words: &[&str],
    console: &mut Console<'_>,
    names: &dyn Names,
    client: &Client,
) -> u8 {
    let mut session = Session {
        console,
        names,
        client,
    };
    let ended = match program {
        Program::Ipvsadm => session.command(words),
        Program::Save => session.save_script(words),
        Program::Restore => session.restore_script(),
    };
    ended.unwrap_or_else(|failure| session.fail(&failure))
}

/// What keeps a command from being carried out at all.
enum Failure {
    Client(ClientError),
    Input(io::Error),
    Output(io::Error),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// One run of the program.
struct Session<'s, 'a> {
    console: &'s mut Console<'a>,
    names: &'s dyn Names,
    client: &'s Client,
}

impl Session<'_, '_> {
    fn command(&mut self, words: &[&str]) -> Result<u8, Failure> {
        match parse(words, self.names) {
            Ok(Command::Restore) => self.restore(Vec::new()),
            Ok(command) => self.carry_out(command),
            Err(usage) => Ok(self.complain(&usage.message, usage.exit_code)),
        }
    }

    /// `ipvsadm-save`: only `-n` and words without a hyphen are let through.
    fn save_script(&mut self, words: &[&str]) -> Result<u8, Failure> {
        if words
            .iter()
            .any(|word| word.starts_with('-') && *word != "-n")
        {
            let _ = self.console.errors.write_all(SAVE_USAGE.as_bytes());
            return Ok(1);
        }
        self.carry_out(Command::Save {
            numeric: words.contains(&"-n"),
        })
    }

    /// Everything but a restore.
    fn carry_out(&mut self, command: Command) -> Result<u8, Failure> {
        match command {
            Command::Edit(edit) => self.edit(vec![edit]),
            Command::List(list) => self.list(list),
            Command::Save { numeric } => {
                let services = self.client.services(None)?.services;
                self.print(&save(&services, numeric, self.names))
            }
            Command::Help => self.print(HELP),
            Command::Version => self.print(VERSION),
            Command::StartDaemon(_) => Ok(self.not_supported("--start-daemon")),
            Command::StopDaemon { .. } => Ok(self.not_supported("--stop-daemon")),
            // A restore inside a restore is refused before it comes here.
            Command::Restore => Ok(0),
        }
    }

    fn not_supported(&mut self, option: &str) -> u8 {
        self.complain(&format!("not supported yet: {option}"), NOT_SUPPORTED)
    }

    /// Sends the edits, each for itself, and gives the exit code of the last.
    fn edit(&mut self, edits: Vec<Edit>) -> Result<u8, Failure> {
        let count = edits.len();
        let mut refusals = self
            .client
            .edit(&EditRequest {
                transaction: false,
                edits,
            })?
            .refused;
        refusals.sort_by_key(|refusal| refusal.index);
        let mut last = 0;
        for refusal in refusals {
            let refused = refused(&refusal.error);
            let code = self.complain(&refused.message, refused.exit_code);
            if refusal.index + 1 == count {
                last = code;
            }
        }
        Ok(last)
    }

    fn list(&mut self, List { what, layout }: List) -> Result<u8, Failure> {
        match what {
            Listed::Services => self.services(None, layout),
            Listed::Service(service) => self.services(Some(service), layout),
            Listed::Connections => self.connections(layout),
            Listed::Timeouts => {
                let text = timeouts(&self.client.timeouts()?);
                self.print(&text)
            }
            // None can be running; whether there is a director is to be found out
            // all the same.
            Listed::Daemons => {
                self.client.timeouts()?;
                Ok(0)
            }
        }
    }

    fn services(&mut self, only: Option<ServiceKey>, layout: Layout) -> Result<u8, Failure> {
        let table = match self.client.sampled_services(only) {
            Err(ClientError::Refused { status: 404, .. }) if only.is_some() => {
                return Ok(self.complain("No such service", 1));
            }
            table => table?,
        };
        let size = only.is_none().then_some(table.table_size);
        self.print(&listing(size, &table.services, layout, self.names))
    }

    /// Lists connections as they come; there may be millions.
    fn connections(&mut self, layout: Layout) -> Result<u8, Failure> {
        let (names, client) = (self.names, self.client);
        let mut text = String::with_capacity(OUTPUT_BYTES + 256);
        text.push_str(connections_title(layout));
        let mut failure = None;
        client.connections(&Query::default(), |view| {
            connection(&mut text, &view, layout, names);
            if text.len() >= OUTPUT_BYTES {
                if let Err(error) = self.console.output.write_all(text.as_bytes()) {
                    failure = Some(Failure::Output(error));
                    return ControlFlow::Break(());
                }
                text.clear();
            }
            ControlFlow::Continue(())
        })?;
        failure.map_or(Ok(()), Err)?;
        self.print(&text)
    }

    fn print(&mut self, text: &str) -> Result<u8, Failure> {
        let written = self
            .console
            .output
            .write_all(text.as_bytes())
            .and_then(|()| self.console.output.flush());
        match written {
            Ok(()) => Ok(0),
            Err(error) => Err(Failure::Output(error)),
        }
    }

    /// A complaint that cannot be written has nowhere else to go.
    fn complain(&mut self, message: &str, exit_code: u8) -> u8 {
        let _ = writeln!(self.console.errors, "{message}");
        exit_code
    }

    fn fail(&mut self, failure: &Failure) -> u8 {
        match failure {
            Failure::Client(ClientError::Permission { .. }) => self.complain(
                "Can't initialize ipvs: Permission denied (you must be root)\n\
                 Are you sure that IP Virtual Server is built in the kernel or as module?",
                NO_DIRECTOR,
            ),
            Failure::Client(error) => self.complain(&error.to_string(), NO_DIRECTOR),
            Failure::Input(error) => self.complain(
                &format!("cannot read rules from standard input: {error}"),
                NO_DIRECTOR,
            ),
            // The reader has seen enough.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Failure::Output(error) => self.complain(
                &format!("cannot write to standard output: {error}"),
                NO_DIRECTOR,
            ),
        }
    }
}
