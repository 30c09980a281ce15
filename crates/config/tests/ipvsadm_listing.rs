//! Listings and saved rules beside the real program's, for a table whose
//! addresses lie on both sides of the sign.

use evenkeel_config::ipvsadm::{Layout, NoNames, listing, save};
use evenkeel_core::model::{
    ForwardMethod, Protocol, Rates, ServerKey, ServerSettings, ServerView, ServiceKey,
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
