//! `evenkeel conns`

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use evenkeel_api::client::Client;
use evenkeel_api::connections::{End, Filter, Query, Templates, end, protocol};

use super::rows::{TITLE, json_line, line};
use super::screen::Screen;
use super::text::{counted, duration};

/// Bytes that are written at a time.
const OUTPUT_BYTES: usize = 1 << 16;
/// Lines of a watched listing where there is no terminal to tell.
const WATCHED_LINES: usize = 20;

/// What stands behind the options in the help.
const HELP: &str = "An END is 10.0.0.1, 10.0.0.0/8, 10.0.0.1:80, fd00::/64, [fd00::1]:80 or :80.";

/// Arguments of `evenkeel conns`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// Only those of tcp, udp or sctp, or templates of any of them.
    #[arg(long, value_parser = protocol)]
    protocol: Option<u8>,
    /// Only those from here.
    #[arg(long, value_name = "END", value_parser = end)]
    client: Option<End>,
    /// Only those to here.
    #[arg(long = "virtual", value_name = "END", value_parser = end)]
    virtual_address: Option<End>,
    /// Only those with this server.
    #[arg(long, value_name = "END", value_parser = end)]
    server: Option<End>,
    /// Only those in this state, such as ESTABLISHED.
    #[arg(long)]
    state: Option<String>,
    /// Only those by this firewall mark.
    #[arg(long)]
    mark: Option<u32>,
    /// Templates of persistence: as well, nothing else, or none.
    #[arg(long, value_enum, default_value = "also")]
    templates: TemplatesArgument,
    /// At most so many.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Show them again and again, as many as there is room for.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Time between two looks.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s", requires = "watch")]
    interval: Duration,
    /// Print each as a line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TemplatesArgument {
    Also,
    Only,
    None,
}

/// Lists connections.
pub(crate) fn run(instance: &str, arguments: &Arguments) -> Result<ExitCode> {
    let client = Client::new(instance);
    let query = Query {
        filter: Filter {
            protocol: arguments.protocol,
            client: arguments.client,
            virtual_address: arguments.virtual_address,
            server: arguments.server,
            state: arguments
                .state
                .as_ref()
                .map(|state| state.to_ascii_uppercase()),
            mark: arguments.mark,
            templates: match arguments.templates {
                TemplatesArgument::Also => Templates::Also,
                TemplatesArgument::Only => Templates::Only,
                TemplatesArgument::None => Templates::Without,
            },
        },
        limit: arguments.limit,
    };
    if arguments.watch {
        watch(&client, &query, arguments.interval)?;
    } else {
        list(&client, &query, arguments.json)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists them as they come: there may be millions.
fn list(client: &Client, query: &Query, as_json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    let mut text = String::new();
    if !as_json {
        text.push_str(TITLE);
    }
    let mut failure = None;
    client.connections(query, |view| {
        if as_json {
            json_line(&mut text, &view);
        } else {
            line(&mut text, &view);
        }
        if text.len() < OUTPUT_BYTES {
            return ControlFlow::Continue(());
        }
        let written = out.write_all(text.as_bytes());
        text.clear();
        failure = written.err();
        if failure.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    let written = match failure {
        Some(error) => Err(error),
        None => out.write_all(text.as_bytes()).and_then(|()| out.flush()),
    };
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Shows them until nobody looks any more.
fn watch(client: &Client, query: &Query, interval: Duration) -> Result<()> {
    let mut screen = Screen::new();
    loop {
        // Above them the title, below them how many there are.
        let room = screen
            .size()
            .map_or(WATCHED_LINES, |(rows, _)| rows.saturating_sub(3));
        let mut page = String::from(TITLE);
        let mut count = 0;
        client.connections(query, |view| {
            if count < room {
                line(&mut page, &view);
            }
            count += 1;
            ControlFlow::Continue(())
        })?;
        page += &counted(count as u64, "connection");
        if count > room {
            let _ = write!(page, ", {} of them not shown", count - room);
        }
        page.push('\n');
        if !screen.show(&page)? {
            return Ok(());
        }
        sleep(interval);
    }
}
