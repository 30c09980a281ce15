//! Recorded listings of traffic: what they show is read back as values, and these must
//! be printed the same again.

mod common;

use std::net::SocketAddr;

use common::recording::{self, words};
use common::replay::RecordedNames;
use evenkeel_config::ipvsadm::{
    Columns, Command, Layout, List, Listed, connection, connections_title, listing, parse,
};
use evenkeel_core::model::{
    ConnectionView, ForwardMethod, Netmask, Persistence, Protocol, Rates, SchedulerFlags,
    ServerKey, ServerSettings, ServerTraits, ServerView, ServiceKey, ServiceSettings, ServiceView,
    Stats,
};

/// An end of a connection as it is listed, the recorded names included.
fn end(text: &str) -> SocketAddr {
    let text = text
        .replace("web.example.test", "10.0.0.10")
        .replace(":http-alt", ":8080")
        .replace(":http", ":80");
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

fn connections(text: &str, layout: Layout) -> String {
    let mut printed = String::from(connections_title(layout));
    for line in text.lines().skip(2) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [protocol, time, state, client, virtual_address, server] = fields[..] else {
            panic!("{line}");
        };
        let (minutes, seconds) = time.split_once(':').expect("a time");
        let number = |text: &str| text.parse::<u32>().expect("a number");
        let states = evenkeel_core::sweep::STATE_NAMES.iter().copied();
        let state = states.chain(["ASSURED"]).find(|known| *known == state);
        let view = ConnectionView {
            protocol: if protocol == "UDP" { 17 } else { 6 },
            state: state.expect("a known state"),
            remaining_s: number(minutes) * 60 + number(seconds),
            client: end(client),
            virtual_address: end(virtual_address),
            server: end(server),
            traits: ServerTraits::default(),
            mark: None,
            template: false,
            engine: None,
        };
        connection(&mut printed, &view, layout, &RecordedNames);
    }
    printed
}

/// Numbers of a line, from the first on.
fn numbers(fields: &[&str]) -> Vec<u64> {
    let numbers = fields.iter().map(|field| field.parse().ok());
    numbers.map_while(|number| number).collect()
}

fn stats(numbers: &[u64]) -> Stats {
    let [connections, in_packets, out_packets, in_bytes, out_bytes] = numbers[..] else {
        return Stats::default();
    };
    Stats {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    }
}

fn rates(numbers: &[u64]) -> Rates {
    let Stats {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    } = stats(numbers);
    Rates {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    }
}

fn server(fields: &[&str], columns: Columns) -> ServerView {
    let key = end(fields[1]);
    let method = match fields[2] {
        "Route" => ForwardMethod::Route,
        _ => ForwardMethod::Masq,
    };
    let behind = if columns == Columns::Connections {
        3
    } else {
        2
    };
    let numbers = numbers(&fields[behind..]);
    let small = |at: usize| u32::try_from(numbers[at]).expect("a small number");
    let mut view = ServerView {
        key: ServerKey {
            address: key.ip(),
            port: key.port(),
        },
        settings: ServerSettings::new(method, 1),
        active: 0,
        inactive: 0,
        persistent: 0,
        stats: stats(&numbers),
        rates: rates(&numbers),
    };
    match columns {
        Columns::Connections => {
            view.settings.weight = small(0);
            (view.active, view.inactive) = (small(1), small(2));
        }
        Columns::Thresholds => {
            view.settings.upper_threshold = small(0);
            view.settings.lower_threshold = small(1);
            (view.active, view.inactive) = (small(2), small(3));
        }
        Columns::Persistence => {
            view.settings.weight = small(0);
            view.persistent = small(1);
            (view.active, view.inactive) = (small(2), small(3));
        }
        _ => {}
    }
    view
}

fn service(fields: &[&str]) -> ServiceView {
    let protocol = if fields[0] == "UDP" {
        Protocol::Udp
    } else {
        Protocol::Tcp
    };
    let place = end(fields[1]);
    let numbers = numbers(&fields[2..]);
    let word = |name: &str| fields.iter().position(|field| *field == name);
    ServiceView {
        key: ServiceKey::at(protocol, place.ip(), place.port()),
        settings: ServiceSettings {
            persistence: word("persistent").map(|at| Persistence {
                timeout_s: fields[at + 1].parse().expect("seconds"),
                netmask: Netmask::V4([255; 4].into()),
            }),
            one_packet: word("ops").is_some(),
            flags: SchedulerFlags {
                fallback: fields.iter().any(|field| field.contains("-fallback")),
                port: fields.iter().any(|field| field.contains("-port")),
                third: false,
            },
            ..ServiceSettings::scheduled_by(fields[2])
        },
        compatible: true,
        configured: false,
        stats: stats(&numbers),
        rates: rates(&numbers),
        servers: Vec::new(),
    }
}

fn services(text: &str, layout: Layout) -> String {
    let mut table: Vec<ServiceView> = Vec::new();
    for line in text.lines().skip(3) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields[0] == "->" {
            let service = table.last_mut().expect("a service first");
            service.servers.push(server(&fields, layout.columns));
        } else {
            table.push(service(&fields));
        }
    }
    listing(Some(4096), &table, layout, &RecordedNames)
}

#[test]
fn recorded_traffic_is_printed_the_same() {
    let mut lines = 0;
    for recording in recording::all() {
        for step in &recording.steps {
            let words = words(&step.command);
            let Ok(Command::List(List { what, layout })) = parse(&words[1..], &RecordedNames)
            else {
                continue;
            };
            let printed = match what {
                _ if words[0] != "ipvsadm" => continue,
                // Of other recordings the listings are replayed.
                Listed::Connections => connections(&step.output, layout),
                Listed::Services if recording.name.starts_with(['s']) => {
                    services(&step.output, layout)
                }
                Listed::Services if recording.name.starts_with("06") => {
                    services(&step.output, layout)
                }
                _ => continue,
            };
            assert_eq!(printed, step.output, "{}: {}", recording.name, step.command);
            lines += step.output.lines().count();
        }
    }
    assert!(lines > 200, "{lines} lines are compared");
}
