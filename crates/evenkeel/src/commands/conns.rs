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
use evenkeel_api::connections::{End, Filter, Query, Templates, end, protocol, protocol_text};
use evenkeel_core::model::ConnectionView;
use serde_json::json;

use super::screen::Screen;
use super::services::method_name;
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
            let _ = writeln!(text, "{}", in_json(&view));
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

/// Above the connections.
pub(super) const TITLE: &str = "protocol  state        expires  client                 virtual                server                 method\n";

/// Adds a connection's line.
pub(super) fn line(text: &mut String, view: &ConnectionView) {
    let start = text.len();
    let ConnectionView {
        state, remaining_s, ..
    } = view;
    let (client, server) = (view.client.to_string(), view.server.to_string());
    let protocol = protocol_text(view.protocol);
    let virtual_address = view.virtual_address.to_string();
    // Writing into a string cannot fail.
    let _ = write!(
        text,
        "{protocol:<8}  {state:<11}  {remaining_s:>5} s  {client:<21}  {virtual_address:<21}  {server:<21}  {:<6}  {}",
        method_name(view.traits.method),
        notes(view)
    );
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

fn notes(view: &ConnectionView) -> String {
    let mut notes = Vec::new();
    for (is_true, note) in [
        (view.template, "template"),
        (view.traits.deleted, "server deleted"),
        (
            view.traits.quiesced && !view.traits.deleted,
            "server quiesced",
        ),
        (view.traits.local, "local"),
    ] {
        if is_true {
            notes.push(note.to_owned());
        }
    }
    notes.extend(view.mark.map(|mark| format!("mark {mark}")));
    let engine = view.engine.as_ref();
    notes.extend(engine.map(|engine| format!("{} {}", engine.name, engine.data)));
    notes.join(", ")
}

pub(super) fn in_json(view: &ConnectionView) -> serde_json::Value {
    json!({
        "protocol": protocol_text(view.protocol),
        "state": view.state,
        "expires_s": view.remaining_s,
        "client": view.client.to_string(),
        "virtual": view.virtual_address.to_string(),
        "server": view.server.to_string(),
        "method": method_name(view.traits.method),
        "template": view.template,
        "server_deleted": view.traits.deleted,
        "server_quiesced": view.traits.quiesced,
        "local": view.traits.local,
        "mark": view.mark,
        "engine": view.engine.as_ref().map(|engine| &engine.name),
        "engine_data": view.engine.as_ref().map(|engine| &engine.data),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_core::model::{EngineData, MethodKind, ServerTraits};

    #[test]
    fn lines() {
        let plain = ConnectionView {
            protocol: 6,
            state: "ESTABLISHED",
            remaining_s: 899,
            client: ([10, 0, 0, 2], 43986).into(),
            virtual_address: ([10, 0, 0, 10], 80).into(),
            server: ([192, 168, 1, 1], 8080).into(),
            traits: ServerTraits::default(),
            mark: None,
            template: false,
            engine: None,
        };
        let template = ConnectionView {
            protocol: 0,
            state: "NONE",
            remaining_s: 300,
            client: "[2001:db8::]:0".parse().unwrap(),
            virtual_address: "[::7]:0".parse().unwrap(),
            traits: ServerTraits {
                method: MethodKind::FullNat,
                deleted: true,
                quiesced: true,
                local: true,
            },
            mark: Some(7),
            template: true,
            engine: Some(EngineData {
                name: "sip".into(),
                data: "abc@x".into(),
            }),
            ..plain.clone()
        };
        let mut text = String::from(TITLE);
        line(&mut text, &plain);
        line(&mut text, &template);
        let expected = "\
protocol  state        expires  client                 virtual                server                 method
tcp       ESTABLISHED    899 s  10.0.0.2:43986         10.0.0.10:80           192.168.1.1:8080       masq
any       NONE           300 s  [2001:db8::]:0         [::7]:0                192.168.1.1:8080       full-nat  template, server deleted, local, mark 7, sip abc@x
";
        assert_eq!(text, expected);
        let json = in_json(&template);
        assert_eq!(json["engine_data"], "abc@x");
        assert_eq!(json["mark"], 7);
        assert!(in_json(&plain)["mark"].is_null());
    }
}
