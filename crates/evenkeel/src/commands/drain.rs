//! `evenkeel drain`: a server gets no new connections any more, and those it has are
//! waited for.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use evenkeel_api::EditRequest;
use evenkeel_api::client::Client;
use evenkeel_api::connections::{End, Filter, Query, Templates, end_text};
use evenkeel_api::keys;
use evenkeel_core::model::{Edit, Protocol, ServerKey, ServerSettings, ServerView, ServiceKey};
use serde_json::{Value, json};

use super::rows;
use super::services::{ServerName, fetch, server, server_text, service};
use super::text::{counted, duration, print, print_json};

/// Time between two looks at the connections.
const LOOK: Duration = Duration::from_millis(500);
/// Most services whose servers are asked for one by one.
const ONE_BY_ONE: usize = 8;
/// Connections that are named when the time is over.
const NAMED: u64 = 10;

/// Arguments of `evenkeel drain`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The server: its address, and perhaps its port.
    #[arg(value_name = "SERVER", value_parser = server)]
    server: ServerName,
    /// Only in this service, such as tcp:10.0.0.1:80 or mark:1; without it in all.
    #[arg(long, value_name = "SERVICE", value_parser = service)]
    service: Option<ServiceKey>,
    /// Longest to wait: 90s, 10m, 2h.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m")]
    deadline: Duration,
    /// Wait for inactive connections too, which are closing or not yet open.
    #[arg(long)]
    inactive: bool,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

/// The server in one of its services.
#[derive(Clone, Debug)]
struct Place {
    service: ServiceKey,
    server: ServerKey,
    before: ServerSettings,
    /// Connections as they were last seen; nothing: the server is gone from there.
    left: Option<Left>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Left {
    active: u64,
    /// UDP's flows, which are neither open nor closed.
    flows: u64,
    inactive: u64,
    persistent: u64,
}

impl Left {
    fn of(service: &ServiceKey, server: &ServerView) -> Self {
        let is_udp = matches!(
            service,
            ServiceKey::Address {
                protocol: Protocol::Udp,
                ..
            }
        );
        let inactive = u64::from(server.inactive);
        Self {
            active: server.active.into(),
            flows: if is_udp { inactive } else { 0 },
            inactive: if is_udp { 0 } else { inactive },
            persistent: server.persistent.into(),
        }
    }

    /// What is waited for, in words.
    fn in_words(&self) -> String {
        let mut words = counted(self.active, "active connection");
        if self.flows > 0 {
            let _ = write!(words, " and {}", counted(self.flows, "UDP flow"));
        }
        words
    }
}

/// Drains the server.
pub(crate) fn run(instance: &str, arguments: &Arguments) -> Result<ExitCode> {
    let client = Client::new(instance);
    let mut drain = Drain {
        arguments,
        places: places(&client, arguments)?,
        progress: Progress::new(arguments.json),
        client,
        started: Instant::now(),
    };
    drain.quiesce()?;
    let is_drained = drain.wait()?;
    drain.tell(is_drained)?;
    Ok(if is_drained {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Where the server stands.
fn places(client: &Client, arguments: &Arguments) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for service in fetch(client, arguments.service)? {
        for server in &service.servers {
            if arguments.server.is(&server.key) {
                places.push(Place {
                    service: service.key,
                    server: server.key,
                    before: server.settings,
                    left: Some(Left::of(&service.key, server)),
                });
            }
        }
    }
    if places.is_empty() {
        let whose = arguments.service.map_or_else(
            || "no service".into(),
            |key| format!("service {} does not have", keys::service_text(&key)),
        );
        let has = if arguments.service.is_some() {
            ""
        } else {
            " has"
        };
        bail!("{whose}{has} a server {}", arguments.server);
    }
    Ok(places)
}

struct Drain<'a> {
    arguments: &'a Arguments,
    places: Vec<Place>,
    progress: Progress,
    client: Client,
    started: Instant,
}

impl Drain<'_> {
    /// Sets the weights to 0, all of them or none.
    fn quiesce(&self) -> Result<()> {
        let weighted = self.places.iter().filter(|place| place.before.weight > 0);
        let edits = weighted.map(|place| Edit::EditServer {
            service: place.service,
            server: place.server,
            settings: ServerSettings {
                weight: 0,
                ..place.before
            },
        });
        let request = EditRequest {
            transaction: true,
            edits: edits.collect(),
        };
        if let Some(refusal) = self.client.edit(&request)?.refused.first() {
            bail!(
                "cannot set the weight of {} to 0: {}; nothing is changed",
                self.arguments.server,
                refusal.error
            );
        }
        for place in &self.places {
            self.progress.step(&format!(
                "{}  {}  weight {} -> 0",
                keys::service_text(&place.service),
                server_text(&place.server),
                place.before.weight
            ));
        }
        Ok(())
    }

    /// Waits until nothing is left; false: the time is over.
    fn wait(&mut self) -> Result<bool> {
        loop {
            self.look()?;
            let left = self.left();
            let counts = left.active
                + left.flows
                + if self.arguments.inactive {
                    left.inactive
                } else {
                    0
                };
            if counts == 0 {
                self.progress.end();
                return Ok(true);
            }
            let passed = self.started.elapsed();
            let Some(rest) = self.arguments.deadline.checked_sub(passed) else {
                self.progress.end();
                return Ok(false);
            };
            let what = left.in_words();
            self.progress.show(
                left,
                &format!(
                    "{}: {what}, {} inactive, {} s left to wait",
                    self.arguments.server,
                    left.inactive,
                    rest.as_secs()
                ),
            );
            sleep(LOOK.min(rest.max(Duration::from_millis(10))));
        }
    }

    /// Looks at the connections of the server's places.
    fn look(&mut self) -> Result<()> {
        let mut services: Vec<ServiceKey> = self.places.iter().map(|p| p.service).collect();
        services.dedup();
        let table = if services.len() > ONE_BY_ONE {
            fetch(&self.client, None)?
        } else {
            let mut table = Vec::new();
            for key in services {
                // A service that is gone has taken its servers along.
                if let Ok(mut services) = fetch(&self.client, Some(key)) {
                    table.append(&mut services);
                }
            }
            table
        };
        for place in &mut self.places {
            let service = table.iter().find(|service| service.key == place.service);
            let servers = service.into_iter().flat_map(|service| &service.servers);
            let mut servers = servers.filter(|server| server.key == place.server);
            place.left = servers.next().map(|it| Left::of(&place.service, it));
        }
        Ok(())
    }

    fn left(&self) -> Left {
        let all = self.places.iter().filter_map(|place| place.left);
        all.fold(Left::default(), |sum, left| Left {
            active: sum.active + left.active,
            flows: sum.flows + left.flows,
            inactive: sum.inactive + left.inactive,
            persistent: sum.persistent + left.persistent,
        })
    }

    fn tell(&self, is_drained: bool) -> Result<()> {
        if self.arguments.json {
            return print_json(&self.in_json(is_drained)?);
        }
        let left = self.left();
        let server = self.arguments.server;
        let mut text = String::new();
        if is_drained {
            let _ = write!(text, "{server} is drained: no active connections are left");
            if left.inactive > 0 {
                let _ = write!(
                    text,
                    ", {} will expire",
                    counted(left.inactive, "inactive one")
                );
            }
        } else {
            let _ = write!(
                text,
                "{server} is not drained after {} s: {} left, {} inactive",
                self.arguments.deadline.as_secs(),
                left.in_words(),
                left.inactive
            );
        }
        text.push('\n');
        if left.persistent > 0 {
            let clients = counted(left.persistent, "persistent client");
            let _ = writeln!(text, "{clients} may still come back to it");
        }
        if !is_drained {
            self.name_the_rest(&mut text)?;
        }
        print(&text)
    }

    /// What keeps the server busy, by place, and some of the connections.
    fn name_the_rest(&self, text: &mut String) -> Result<()> {
        for place in &self.places {
            if let Some(left) = place.left {
                let _ = writeln!(
                    text,
                    "  {}  {}  {} active, {} inactive",
                    keys::service_text(&place.service),
                    server_text(&place.server),
                    left.active,
                    left.flows + left.inactive
                );
            }
        }
        text.push_str(rows::TITLE);
        for view in self.some_connections()? {
            rows::line(text, &view);
        }
        let _ = writeln!(
            text,
            "its weight stays 0; `evenkeel conns --server {}` lists all of its connections",
            end_text(&self.end())
        );
        Ok(())
    }

    fn some_connections(&self) -> Result<Vec<evenkeel_core::model::ConnectionView>> {
        let query = Query {
            filter: Filter {
                server: Some(self.end()),
                templates: Templates::Without,
                ..Filter::default()
            },
            limit: Some(NAMED),
        };
        let mut some = Vec::new();
        self.client.connections(&query, |view| {
            some.push(view);
            ControlFlow::Continue(())
        })?;
        Ok(some)
    }

    fn end(&self) -> End {
        let ServerName { address, port } = self.arguments.server;
        let bits = if address.is_ipv6() { 128 } else { 32 };
        End {
            network: Some((address, bits)),
            port,
        }
    }

    fn in_json(&self, is_drained: bool) -> Result<Value> {
        let places = self.places.iter().map(|place| {
            let left = place.left.unwrap_or_default();
            json!({
                "service": keys::service_text(&place.service),
                "server": server_text(&place.server),
                "weight_before": place.before.weight,
                "gone": place.left.is_none(),
                "active": left.active,
                "flows": left.flows,
                "inactive": left.inactive,
                "persistent": left.persistent,
            })
        });
        let places: Vec<Value> = places.collect();
        let mut outcome = json!({
            "server": self.arguments.server.to_string(),
            "drained": is_drained,
            "waited_s": self.started.elapsed().as_secs(),
            "places": places,
        });
        if !is_drained {
            let some = self.some_connections()?;
            outcome["connections"] = some.iter().map(rows::in_json).collect();
        }
        Ok(outcome)
    }
}

/// How it goes on, on standard error.
struct Progress {
    is_quiet: bool,
    is_terminal: bool,
    shown: Option<Left>,
}

impl Progress {
    fn new(is_quiet: bool) -> Self {
        Self {
            is_quiet,
            is_terminal: io::stderr().is_terminal(),
            shown: None,
        }
    }

    /// Tells something once.
    fn step(&self, text: &str) {
        if !self.is_quiet {
            eprintln!("{text}");
        }
    }

    /// Tells how much is left: in place on a terminal, else when it has changed.
    fn show(&mut self, left: Left, text: &str) {
        if self.is_quiet {
            return;
        }
        if self.is_terminal {
            // Who can not see it misses nothing that counts.
            let _ = write!(io::stderr(), "\r{text}\x1b[K").and_then(|()| io::stderr().flush());
        } else if self.shown != Some(left) {
            eprintln!("{text}");
        }
        self.shown = Some(left);
    }

    /// Leaves the line that was written in place.
    fn end(&mut self) {
        if self.is_terminal && self.shown.take().is_some() {
            eprintln!();
        }
    }
}
