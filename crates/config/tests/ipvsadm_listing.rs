//! Listings and saved rules beside the real program's, for a table whose
//! addresses lie on both sides of the sign.

use core::net::{IpAddr, Ipv4Addr};

use evenkeel_config::ipvsadm::{Columns, Layout, Names, NoNames, listing, save};
use evenkeel_core::model::{
    Family, ForwardMethod, Protocol, Rates, ServerKey, ServerSettings, ServerView, ServiceKey,
    ServiceSettings, ServiceView, Stats, Tunnel,
};

const RECORDED: &str = include_str!("data/ipvsadm-listing.txt");

/// What was printed for the command.
fn printed(command: &str) -> &'static str {
    let (_, rest) = RECORDED
        .split_once(&format!("$ {command}\n"))
        .expect("recorded");
    rest.split_once("[exit 0]").expect("it ended well").0
}

fn endpoint(word: &str) -> (std::net::IpAddr, u16) {
    let address: std::net::SocketAddr = word.parse().expect("numeric");
    (address.ip(), address.port())
}

/// The table that an unsorted listing shows.
fn table(text: &str) -> Vec<ServiceView> {
    let mut services: Vec<ServiceView> = Vec::new();
    for line in text.lines().skip(3) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["->", server, method, weight, active, inactive] => {
                let (address, port) = endpoint(server);
                let method = match method {
                    "Masq" => ForwardMethod::Masq,
                    "Route" => ForwardMethod::Route,
                    _ => ForwardMethod::Tunnel(Tunnel::Ipip),
                };
                let number = |word: &str| word.parse().expect("a number");
                services
                    .last_mut()
                    .expect("a service first")
                    .servers
                    .push(ServerView {
                        key: ServerKey { address, port },
                        settings: ServerSettings::new(method, number(weight)),
                        active: number(active),
                        inactive: number(inactive),
                        persistent: 0,
                        stats: Stats::default(),
                        rates: Rates::default(),
                    });
            }
            [protocol, service, scheduler] => {
                let (address, port) = endpoint(service);
                let protocol = if protocol == "TCP" {
                    Protocol::Tcp
                } else {
                    Protocol::Udp
                };
                services.push(ServiceView {
                    key: ServiceKey::at(protocol, address, port),
                    settings: ServiceSettings::scheduled_by(scheduler),
                    compatible: true,
                    configured: false,
                    stats: Stats::default(),
                    rates: Rates::default(),
                    servers: Vec::new(),
                });
            }
            _ => panic!("no line of a listing: {line}"),
        }
    }
    services
}

#[test]
fn prints_what_ipvsadm_prints() {
    let unsorted = printed("ipvsadm -Ln --nosort");
    let table = table(unsorted);
    assert!(table.len() > 20, "the recorded table is there");
    let numeric = Layout {
        numeric: true,
        ..Layout::default()
    };
    let as_it_is = Layout {
        unsorted: true,
        ..numeric
    };
    assert_eq!(listing(Some(4096), &table, as_it_is, &NoNames), unsorted);
    assert_eq!(
        listing(Some(4096), &table, numeric, &NoNames),
        printed("ipvsadm -Ln")
    );
    assert_eq!(save(&table, true, &NoNames), printed("ipvsadm -Sn"));
}

fn service(key: ServiceKey, number: u64) -> ServiceView {
    ServiceView {
        key,
        settings: ServiceSettings::scheduled_by("rr"),
        compatible: true,
        configured: false,
        stats: Stats {
            connections: number,
            ..Stats::default()
        },
        rates: Rates {
            connections: number,
            ..Rates::default()
        },
        servers: Vec::new(),
    }
}

fn server(text: &str, method: ForwardMethod, number: u64) -> ServerView {
    let (address, port) = endpoint(text);
    ServerView {
        key: ServerKey { address, port },
        settings: ServerSettings::new(method, 1),
        active: 0,
        inactive: 0,
        persistent: 0,
        stats: Stats {
            in_packets: number,
            ..Stats::default()
        },
        rates: Rates {
            in_packets: number,
            in_bytes: number,
            ..Rates::default()
        },
    }
}

fn columns(columns: Columns) -> Layout {
    Layout {
        columns,
        numeric: true,
        ..Layout::default()
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().skip(2).collect()
}

#[test]
fn large_numbers_end_in_a_letter() {
    let key = ServiceKey::at(Protocol::Tcp, [10, 0, 0, 1], 80);
    let shown = |number, exact| {
        let layout = Layout {
            exact,
            ..columns(Columns::Stats)
        };
        let text = listing(None, &[service(key, number)], layout, &NoNames);
        let (_, numbers) = text.trim_end().rsplit_once(":80").expect("a line");
        numbers[17..].to_owned()
    };
    let zeros = "        0        0        0        0";
    for (number, column) in [
        (99_999_999, " 99999999"),
        (100_000_000, "  100000K"),
        (999_999_999, "  999999K"),
        (1_000_000_000, "    1000M"),
        (99_999_999_999, "   99999M"),
        (100_000_000_000, "     100G"),
        (99_999_999_999_999, "   99999G"),
        (100_000_000_000_000, "     100T"),
        (u64::MAX, "18446744T"),
    ] {
        assert_eq!(shown(number, false), format!("{column}{zeros}"));
    }
    assert_eq!(shown(99_999_999, true), format!(" 99999999{zeros}"));
    assert_eq!(shown(1_234_567_890, true), format!(" 1234567890{zeros}"));
}

#[test]
fn rates_of_servers_have_no_letters_but_for_bytes() {
    let mut service = service(
        ServiceKey::at(Protocol::Udp, [10, 0, 0, 1], 53),
        100_000_000,
    );
    service.servers = vec![server("10.0.0.2:53", ForwardMethod::Masq, 100_000_000)];
    let text = listing(None, &[service], columns(Columns::Rate), &NoNames);
    assert_eq!(
        lines(&text),
        [
            "UDP  10.0.0.1:53                   100000K        0        0        0        0",
            "  -> 10.0.0.2:53                         0 100000000        0  100000K        0",
        ]
    );
}

#[test]
fn marks_and_families_in_their_order() {
    let mark = |mark, family| service(ServiceKey::Mark { mark, family }, 0);
    let mut mixed = service(ServiceKey::at(Protocol::Tcp, [10, 0, 0, 1], 80), 0);
    let gue = |text| {
        let method = ForwardMethod::Tunnel(Tunnel::Gue {
            port: 6080,
            checksum: evenkeel_core::model::TunnelChecksum::None,
        });
        server(text, method, 0)
    };
    mixed.servers = vec![
        server("192.168.1.1:80", ForwardMethod::FullNat, 0),
        gue("[2001:db8:1:2:3:4:5:102]:80"),
        server("32.1.13.183:80", ForwardMethod::Route, 0),
    ];
    let wide: IpAddr = "2001:db8::1".parse().expect("an address");
    let table = [
        mark(7, Family::V6),
        service(ServiceKey::at(Protocol::Sctp, wide, 80), 0),
        mark(7, Family::V4),
        mixed,
        mark(u32::MAX, Family::V4),
        service(ServiceKey::at(Protocol::Udp, [10, 0, 0, 1], 80), 0),
    ];
    let text = listing(None, &table, columns(Columns::Tunnels), &NoNames);
    assert_eq!(
        lines(&text),
        [
            "FWM  -1 rr",
            "TCP  10.0.0.1:80 rr",
            // An IPv4 address stands before and behind an IPv6 one by its first word.
            "  -> 192.168.1.1:80               FullNat n/a           1      0          0         ",
            "  -> 32.1.13.183:80               Route   n/a           1      0          0         ",
            "  -> [2001:db8:1:2:3:4:5:102]:80  Tunnel  gue:6080:-c   1      0          0         ",
            "UDP  10.0.0.1:80 rr",
            "SCTP [2001:db8::1]:80 rr",
            "FWM  7 rr",
            "FWM  7 IPv6 rr",
        ]
    );
}

/// Hosts with long names; a port that has a name.
struct LongNames;

impl Names for LongNames {
    fn address_of(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }
    fn port_of(&self, _: &str, _: Protocol) -> Option<u16> {
        None
    }
    fn host_of(&self, address: IpAddr) -> Option<String> {
        let letter = if address.is_ipv6() { "s" } else { "f" };
        Some(letter.repeat(64))
    }
    fn service_of(&self, _: u16, _: Protocol) -> Option<String> {
        Some("http".into())
    }
}

#[test]
fn long_names_are_cut() {
    let mut service = service(ServiceKey::at(Protocol::Tcp, [10, 0, 0, 1], 80), 0);
    let ipip = ForwardMethod::Tunnel(Tunnel::Ipip);
    service.servers = vec![
        server("10.0.0.2:80", ipip, 0),
        server("[2001:db8::1]:80", ipip, 0),
    ];
    let text = listing(None, &[service], Layout::default(), &LongNames);
    let (four, six) = ("f".repeat(28), "s".repeat(58));
    assert_eq!(
        lines(&text),
        [
            format!("TCP  {four} rr"),
            format!("  -> {four} Tunnel  1      0          0         "),
            format!("  -> [{six} Tunnel  1      0          0         "),
        ]
    );
}

/// Ports of a mark's servers have no protocol, so that nobody knows their names.
#[test]
fn a_marks_ports_are_numbers() {
    let (mark, family) = (1, Family::V4);
    let mut service = service(ServiceKey::Mark { mark, family }, 0);
    service.servers = vec![server("10.0.0.2:80", ForwardMethod::Masq, 0)];
    let text = save(&[service], false, &LongNames);
    assert_eq!(text, "-A -f 1 -s rr\n-a -f 1 -r 10.0.0.2:80 -m -w 1\n");
}
