//! `evenkeel status`

mod health;

use std::fmt::{self, Display};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use evenkeel_api::client::{Client, ClientError};
use evenkeel_api::delivery::{Deliveries, Delivery};
use evenkeel_api::{ConnectionStatus, InterfaceStatus, ReasonCount, Status, paths};
use evenkeel_daemon::shared::Swept;
use evenkeel_datapath::Reason;

use super::stop::is_there;

/// Arguments of `evenkeel status`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Arguments {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Shows how the director is.
pub(crate) fn run(instance: &str, arguments: Arguments) -> Result<ExitCode> {
    let status = match Client::new(instance).status() {
        Err(ClientError::Unreachable { .. }) if is_there(&paths::pins(instance)) => {
            bail!(
                "no daemon of instance {instance} runs; its forwarding goes on, \
                 kept by {}: `evenkeel run` takes it over, `evenkeel purge` removes it",
                paths::pins(instance).display()
            )
        }
        other => other?,
    };
    if arguments.json {
        let text = serde_json::to_string_pretty(&status).context("cannot write JSON")?;
        println!("{text}");
    } else {
        print!("{}", Page(&status));
    }
    Ok(ExitCode::SUCCESS)
}

/// The status as a page to read.
struct Page<'a>(&'a Status);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        writeln!(
            f,
            "evenkeel {}, instance {}, process {}, up {}",
            status.version,
            status.instance,
            status.pid,
            duration(status.uptime_s)
        )?;
        let origin = if status.adopted {
            "found running and taken over"
        } else {
            "made at the start"
        };
        writeln!(
            f,
            "dataplane    {origin}, memory layout {}",
            status.layout_version
        )?;
        writeln!(f, "services     {}", status.services)?;
        write!(f, "servers      {}", status.servers)?;
        if status.servers_without_hop > 0 {
            write!(
                f,
                ", {} of them without a known next hop",
                status.servers_without_hop
            )?;
        }
        writeln!(f)?;
        connections(f, &status.connections)?;
        interfaces(f, &status.interfaces)?;
        health::write(f, &status.virtual_servers)?;
        news(f, &status.deliveries)?;
        reasons(f, &status.reasons)
    }
}

fn connections(f: &mut fmt::Formatter<'_>, table: &ConnectionStatus) -> fmt::Result {
    let ConnectionStatus {
        capacity,
        bytes_per_entry,
        in_use,
        states,
    } = table;
    let percent = in_use * 100 / (*capacity).max(1);
    writeln!(
        f,
        "connections  {in_use} of {capacity} ({percent} %), {bytes_per_entry} bytes each"
    )?;
    for ReasonCount { name, count } in states {
        writeln!(f, "             {count:>10} {name}")?;
    }
    Ok(())
}

fn interfaces(f: &mut fmt::Formatter<'_>, interfaces: &[InterfaceStatus]) -> fmt::Result {
    if interfaces.is_empty() {
        return writeln!(f, "\ninterfaces   none: no packet reaches the director");
    }
    let width = |of: fn(&InterfaceStatus) -> &str| {
        interfaces
            .iter()
            .map(|interface| of(interface).len())
            .max()
            .unwrap_or(0)
    };
    let (names, hooks) = (width(|i| &i.name), width(|i| &i.hook));
    writeln!(f, "\ninterfaces")?;
    for InterfaceStatus {
        name, hook, why, ..
    } in interfaces
    {
        writeln!(f, "  {name:names$}  {hook:hooks$}  {why}")?;
    }
    Ok(())
}

/// What became of news; nothing where there were none.
fn news(f: &mut fmt::Formatter<'_>, deliveries: &Deliveries) -> fmt::Result {
    let ways = [
        ("scripts", &deliveries.scripts),
        ("pipes", &deliveries.pipes),
        ("mail", &deliveries.mail),
    ];
    let mut used = ways.iter().filter(|(_, way)| **way != Delivery::default());
    let mut first = true;
    used.try_for_each(|(name, way)| {
        if std::mem::take(&mut first) {
            writeln!(f, "\nnews")?;
        }
        let Delivery {
            delivered,
            failed,
            dropped,
            waiting,
            last_error,
        } = way;
        write!(
            f,
            "  {name:7}  {delivered} delivered, {failed} failed, {dropped} dropped, {waiting} wait"
        )?;
        if let Some(error) = last_error {
            write!(f, "; the last in vain: {error}")?;
        }
        writeln!(f)
    })
}

fn reasons(f: &mut fmt::Formatter<'_>, reasons: &[ReasonCount]) -> fmt::Result {
    if reasons.is_empty() {
        return Ok(());
    }
    let width = reasons
        .iter()
        .map(|reason| reason.name.len())
        .max()
        .unwrap_or(0);
    writeln!(f, "\npackets and connections out of the ordinary")?;
    for ReasonCount { name, count } in reasons {
        let of_path = Reason::ALL
            .iter()
            .map(|&(_, name, meaning)| (name, meaning));
        let mut known = of_path.chain(Swept::ALL.iter().copied());
        let known = known.find(|(other, _)| other == name);
        let meaning = known.map_or("", |(_, meaning)| meaning.trim());
        writeln!(f, "  {count:>12}  {name:width$}  {meaning}")?;
    }
    Ok(())
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(3 * 3600 + 120), "3 h 2 min");
        assert_eq!(duration(90_000), "1 d 1 h");
    }

    #[test]
    fn the_page() {
        let status = Status {
            version: "0.1.0".into(),
            instance: "default".into(),
            pid: 7,
            uptime_s: 75,
            adopted: true,
            layout_version: 1,
            interfaces: vec![InterfaceStatus {
                name: "eth0".into(),
                index: 2,
                hook: "xdp+tc (tcx)".into(),
                why: "a physical interface with native XDP".into(),
            }],
            connections: ConnectionStatus {
                capacity: 1024,
                bytes_per_entry: 36,
                in_use: 512,
                states: vec![ReasonCount {
                    name: "ESTABLISHED".into(),
                    count: 512,
                }],
            },
            services: 1,
            servers: 2,
            servers_without_hop: 1,
            reasons: vec![ReasonCount {
                name: "no_server".into(),
                count: 3,
            }],
            virtual_servers: Vec::new(),
            deliveries: Deliveries {
                mail: Delivery {
                    delivered: 4,
                    failed: 1,
                    waiting: 2,
                    last_error: Some("connection refused".into()),
                    ..Delivery::default()
                },
                ..Deliveries::default()
            },
        };
        let expected = "\
evenkeel 0.1.0, instance default, process 7, up 1 min 15 s
dataplane    found running and taken over, memory layout 1
services     1
servers      2, 1 of them without a known next hop
connections  512 of 1024 (50 %), 36 bytes each
                    512 ESTABLISHED

interfaces
  eth0  xdp+tc (tcx)  a physical interface with native XDP

news
  mail     4 delivered, 1 failed, 0 dropped, 2 wait; the last in vain: connection refused

packets and connections out of the ordinary
             3  no_server  Dropped: the service has no server that takes connections.
";
        assert_eq!(Page(&status).to_string(), expected);
    }
}
