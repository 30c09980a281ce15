//! `evenkeel top`

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use evenkeel_api::Status;
use evenkeel_api::client::Client;
use evenkeel_api::keys;
use evenkeel_core::model::{Rates, ServiceView};
use serde_json::{Value, json};

use super::screen::Screen;
use super::services::{connections, fetch, server_text};
use super::text::{Side, Table, counted, duration, offer, scaled};

/// Lines where there is no terminal to tell.
const LINES: usize = 20;

/// Arguments of `evenkeel top`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Arguments {
    /// What is compared.
    #[arg(long, value_enum, default_value = "services")]
    by: By,
    /// By what; the most first.
    #[arg(long, value_enum, default_value = "bytes")]
    sort: Sort,
    /// Time between two looks.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    interval: Duration,
    /// End after so many looks.
    #[arg(long, value_name = "LOOKS")]
    count: Option<u64>,
    /// Print each look as a line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Services,
    Servers,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    /// Bytes per second, both ways.
    Bytes,
    /// Packets per second, both ways.
    Packets,
    /// New connections per second.
    Rate,
    /// Active connections.
    Active,
    /// All connections.
    Connections,
}

/// Shows the busiest until nobody looks any more.
pub(crate) fn run(instance: &str, arguments: Arguments) -> Result<ExitCode> {
    let client = Client::new(instance);
    let mut screen = Screen::new();
    let mut looks = 0;
    loop {
        let status = client.status()?;
        let services = fetch(&client, None)?;
        let mut rows = rows(&services, arguments.by);
        rows.sort_by_key(|row| Reverse(row.rank(arguments.sort)));
        let page = if arguments.json {
            let rows: Vec<Value> = rows.iter().map(Row::in_json).collect();
            format!("{}\n", json!({ "uptime_s": status.uptime_s, "rows": rows }))
        } else {
            // Above them three lines and the heads.
            let room = screen
                .size()
                .map_or(LINES, |(lines, _)| lines.saturating_sub(5));
            page(&status, &services, &rows, room)
        };
        let goes_on = if arguments.json {
            offer(&page)
        } else {
            screen.show(&page)
        };
        looks += 1;
        if !goes_on? || arguments.count == Some(looks) {
            return Ok(ExitCode::SUCCESS);
        }
        sleep(arguments.interval);
    }
}

/// A service, or a server in one.
struct Row {
    name: String,
    rates: Rates,
    active: u64,
    inactive: u64,
}

impl Row {
    fn rank(&self, sort: Sort) -> u64 {
        let rates = &self.rates;
        match sort {
            Sort::Bytes => rates.in_bytes.saturating_add(rates.out_bytes),
            Sort::Packets => rates.in_packets.saturating_add(rates.out_packets),
            Sort::Rate => rates.connections,
            Sort::Active => self.active,
            Sort::Connections => self.active + self.inactive,
        }
    }

    fn in_json(&self) -> Value {
        json!({
            "name": self.name,
            "active": self.active,
            "inactive": self.inactive,
            "rates": self.rates,
        })
    }
}

fn rows(services: &[ServiceView], by: By) -> Vec<Row> {
    let of_service = |service: &ServiceView| {
        let [active, inactive, _] = connections(service);
        Row {
            name: keys::service_text(&service.key),
            rates: service.rates,
            active,
            inactive,
        }
    };
    match by {
        By::Services => services.iter().map(of_service).collect(),
        By::Servers => {
            let servers = services.iter().flat_map(|service| {
                let name = keys::service_text(&service.key);
                service.servers.iter().map(move |server| Row {
                    name: format!("{name} -> {}", server_text(&server.key)),
                    rates: server.rates,
                    active: server.active.into(),
                    inactive: server.inactive.into(),
                })
            });
            servers.collect()
        }
    }
}

fn page(status: &Status, services: &[ServiceView], rows: &[Row], room: usize) -> String {
    let mut total = Rates::default();
    for service in services {
        let rates = &service.rates;
        total.connections += rates.connections;
        total.in_packets += rates.in_packets;
        total.out_packets += rates.out_packets;
        total.in_bytes += rates.in_bytes;
        total.out_bytes += rates.out_bytes;
    }
    let mut page = String::new();
    // Writing into a string cannot fail.
    let _ = writeln!(
        page,
        "instance {}: {}, {}, {} of {} connections",
        status.instance,
        counted(status.services.into(), "service"),
        counted(status.servers.into(), "server"),
        status.connections.in_use,
        status.connections.capacity
    );
    let _ = writeln!(
        page,
        "{} conn/s; in {} packets/s, {} B/s; out {} packets/s, {} B/s\n",
        scaled(total.connections),
        scaled(total.in_packets),
        scaled(total.in_bytes),
        scaled(total.out_packets),
        scaled(total.out_bytes)
    );
    let mut table = Table::new(&[
        ("name", Side::Left),
        ("conn/s", Side::Right),
        ("in p/s", Side::Right),
        ("out p/s", Side::Right),
        ("in B/s", Side::Right),
        ("out B/s", Side::Right),
        ("active", Side::Right),
        ("inactive", Side::Right),
    ]);
    for row in rows.iter().take(room) {
        let rates = &row.rates;
        table.row(vec![
            row.name.clone(),
            scaled(rates.connections),
            scaled(rates.in_packets),
            scaled(rates.out_packets),
            scaled(rates.in_bytes),
            scaled(rates.out_bytes),
            row.active.to_string(),
            row.inactive.to_string(),
        ]);
    }
    page + &table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, bytes: u64, active: u64) -> Row {
        Row {
            name: name.into(),
            rates: Rates {
                in_bytes: bytes,
                in_packets: bytes / 1000,
                ..Rates::default()
            },
            active,
            inactive: 1,
        }
    }

    #[test]
    fn the_most_comes_first() {
        let mut rows = [row("a", 10, 3), row("b", 30, 1), row("c", 20, 2)];
        for (sort, expected) in [
            (Sort::Bytes, "bca"),
            (Sort::Active, "acb"),
            (Sort::Connections, "acb"),
        ] {
            rows.sort_by_key(|row| Reverse(row.rank(sort)));
            let order: String = rows.iter().map(|row| row.name.as_str()).collect();
            assert_eq!(order, expected, "{sort:?}");
        }
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
            interfaces: vec![],
            connections: evenkeel_api::ConnectionStatus {
                capacity: 1024,
                in_use: 512,
                ..Default::default()
            },
            services: 2,
            servers: 1,
            servers_without_hop: 0,
            reasons: vec![],
            virtual_servers: vec![],
            deliveries: evenkeel_api::delivery::Deliveries::default(),
        };
        let rows = [
            row("tcp:10.0.0.10:80", 12_345_678, 500),
            row("mark:1", 0, 0),
        ];
        let expected = "\
instance default: 2 services, 1 server, 512 of 1024 connections
0 conn/s; in 0 packets/s, 0 B/s; out 0 packets/s, 0 B/s

name              conn/s  in p/s  out p/s  in B/s  out B/s  active  inactive
tcp:10.0.0.10:80       0   12.3k        0   12.3M        0     500         1
";
        assert_eq!(page(&status, &[], &rows, 1), expected);
    }
}
