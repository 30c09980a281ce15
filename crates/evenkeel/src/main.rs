//! One binary, chosen by the name it is called by or by its first word.

mod commands;
mod lab;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use evenkeel::genhash;
use evenkeel::ipvsadm::{self, Program};
use evenkeel_api::paths::{DEFAULT_INSTANCE, INSTANCE_VARIABLE, is_valid_instance};

/// A layer-4 load balancer with its own eBPF dataplane.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version)]
struct Cli {
    /// Which of several directors on this machine.
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = INSTANCE_VARIABLE,
        default_value = DEFAULT_INSTANCE,
        value_parser = instance
    )]
    instance: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the director in the foreground.
    Run(commands::run::Arguments),
    /// Tells everything that is wrong in configuration files, and touches nothing.
    Check(commands::check::Arguments),
    /// Tells what a keyword of a configuration means.
    Explain(commands::explain::Arguments),
    /// Shows how the director is.
    Status(commands::status::Arguments),
    /// Lists the services.
    Services(commands::services::ServicesArguments),
    /// Lists the real servers.
    Servers(commands::services::ServersArguments),
    /// Lists connections.
    Conns(commands::conns::Arguments),
    /// Takes a server out: no new connections, and those it has are waited for.
    Drain(commands::drain::Arguments),
    /// Shows the busiest services or servers, again and again.
    Top(commands::top::Arguments),
    /// Lists the settings of net.ipv4.vs, or sets some.
    Settings(commands::settings::Arguments),
    /// Tells what would become of a packet, without sending one.
    Trace(commands::trace::Arguments),
    /// Lists the schedulers and what they can do.
    Schedulers(commands::schedulers::Arguments),
    /// Writes configurations of any accepted format as TOML.
    Convert(commands::convert::Arguments),
    /// Prints the rules that make the table, thresholds and timeouts too.
    Save(commands::save::Arguments),
    /// Reads the configuration again and applies it, as a whole or not at all.
    Reload,
    /// Stops the director and takes its packet path off the interfaces.
    Stop(commands::stop::Arguments),
    /// Removes everything of a director, whether it is running or not.
    Purge,
    /// Makes this machine a real server for direct routing or tunnels.
    Realserver(commands::realserver::Arguments),
    /// Edits and lists the table, as ipvsadm does (also by that name).
    #[command(disable_help_flag = true)]
    Ipvsadm {
        /// As ipvsadm's own.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Prints a page's digest for the checks of a configuration, as genhash does (also by that
    /// name).
    #[command(disable_help_flag = true)]
    Genhash {
        /// As genhash's own.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Runs a field case in namespaces of this machine.
    Lab(lab::LabArguments),
}

fn instance(name: &str) -> Result<String, String> {
    if is_valid_instance(name) {
        Ok(name.into())
    } else {
        Err("an instance's name is 1 to 64 letters, digits, - or _".into())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Before clap: every option letter belongs to ipvsadm then.
    let called = |at: usize| {
        arguments
            .get(at)
            .and_then(|word| Program::from_name(word.to_str()?))
    };
    if called(0).is_some() {
        return ipvsadm::main(&arguments);
    }
    if called(1).is_some() {
        return ipvsadm::main(&arguments[1..]);
    }
    for at in 0..2 {
        let name = arguments.get(at).and_then(|word| word.to_str());
        if name.is_some_and(genhash::is_called) {
            return genhash::main(&arguments[at..]);
        }
    }
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(arguments) => commands::run::run(&cli.instance, arguments),
        Command::Check(arguments) => commands::check::run(&arguments),
        Command::Explain(arguments) => commands::explain::run(&arguments),
        Command::Status(arguments) => commands::status::run(&cli.instance, arguments),
        Command::Services(arguments) => commands::services::services(&cli.instance, &arguments),
        Command::Servers(arguments) => commands::services::servers(&cli.instance, &arguments),
        Command::Conns(arguments) => commands::conns::run(&cli.instance, &arguments),
        Command::Drain(arguments) => commands::drain::run(&cli.instance, &arguments),
        Command::Top(arguments) => commands::top::run(&cli.instance, arguments),
        Command::Settings(arguments) => commands::settings::run(&cli.instance, &arguments),
        Command::Trace(arguments) => commands::trace::run(&cli.instance, arguments),
        Command::Schedulers(arguments) => commands::schedulers::run(&arguments),
        Command::Convert(arguments) => commands::convert::run(&arguments),
        Command::Save(arguments) => commands::save::run(&cli.instance, &arguments),
        Command::Reload => commands::reload::run(&cli.instance),
        Command::Stop(arguments) => commands::stop::run(&cli.instance, arguments),
        Command::Purge => commands::purge::run(&cli.instance),
        Command::Realserver(arguments) => commands::realserver::run(arguments),
        Command::Ipvsadm { arguments } => {
            return commands::ipvsadm(&cli.instance, arguments);
        }
        Command::Genhash { arguments } => {
            let name = std::iter::once("genhash".into());
            return genhash::main(&name.chain(arguments).collect::<Vec<_>>());
        }
        Command::Lab(arguments) => lab::run(arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("evenkeel: {}", in_one_line(&error));
        ExitCode::FAILURE
    })
}

/// An error and its causes, as far as they are not told by what stands before them.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_whole() {
        Cli::command().debug_assert();
    }

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("no such file")
            .context("cannot read a.toml: no such file")
            .context("cannot start");
        let line = "cannot start: cannot read a.toml: no such file";
        assert_eq!(in_one_line(&error), line);
    }

    #[test]
    fn instances_have_plain_names() {
        let cli = Cli::try_parse_from(["evenkeel", "status", "--instance", "blue-2"]);
        assert_eq!(cli.unwrap().instance, "blue-2");
        for name in ["", "a/b", "..", "ä", "a.b"] {
            assert!(Cli::try_parse_from(["evenkeel", "status", "--instance", name]).is_err());
        }
    }
}
