//! Where packets of others would go is what the kernel's own routing says.

mod common;

use std::fs;
use std::net::IpAddr;

use common::{ip, isolated, link};
use evenkeel_kernel::network::{Asker, Forward};

const UDP: u8 = 17;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Clients at c0, servers at s0.
fn networks() {
    for (name, v4, v6, mac) in [
        ("c0", "10.1.0.1/24", "fd01::1/64", "02:00:00:00:00:01"),
        ("s0", "10.2.0.1/24", "fd02::1/64", "02:00:00:00:00:02"),
    ] {
        ip(&format!(
            "link add {name} address {mac} type veth peer name {name}p"
        ));
        ip(&format!("addr add {v4} dev {name}"));
        ip(&format!("addr add {v6} dev {name} nodad"));
        ip(&format!("link set {name} up"));
        ip(&format!("link set {name}p up"));
    }
    for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{family}"), "1").unwrap();
    }
    for (server, mac) in [
        ("10.2.0.11", "02:00:00:00:00:11"),
        ("fd02::11", "02:00:00:00:00:11"),
    ] {
        ip(&format!(
            "neigh add {server} lladdr {mac} dev s0 nud permanent"
        ));
    }
}

#[test]
fn ways_between_others_are_told() {
    isolated(|_| {
        networks();
        let (clients, servers) = (link("c0").index, link("s0").index);
        ip("route add 10.3.0.0/16 via 10.2.0.11 dev s0 mtu 1400");
        ip("route add unreachable 10.4.0.0/16");
        ip("tuntap add dev t0 mode tun");
        ip("link set t0 up");
        ip("route add 10.5.0.0/16 dev t0");
        // Nobody behind it has an address of a link.
        let behind = Forward::Unresolved {
            interface: link("t0").index,
        };
        let mut asker = Asker::open().unwrap();
        assert_eq!(asker.link_named("c0").map(|link| link.index), Some(clients));
        assert_eq!(asker.link(servers).map(|link| &*link.name), Some("s0"));
        assert_eq!(asker.towards(address("10.1.0.7")).unwrap(), Some(clients));
        assert_eq!(asker.towards(address("192.0.2.1")).unwrap(), None);
        let ready = |mtu| Forward::Ready {
            interface: servers,
            destination_mac: [2, 0, 0, 0, 0, 0x11],
            source_mac: [2, 0, 0, 0, 0, 2],
            mtu,
        };
        let unresolved = Forward::Unresolved { interface: servers };
        for (from, to, expected) in [
            ("10.1.0.7", "10.2.0.11", ready(1500)),
            ("fd01::7", "fd02::11", ready(1500)),
            // There is no way back to this one.
            ("192.0.2.1", "10.2.0.11", ready(1500)),
            ("10.1.0.7", "10.3.9.9", ready(1400)),
            ("10.1.0.7", "10.2.0.12", unresolved),
            ("fd01::7", "fd02::12", unresolved),
            ("10.1.0.7", "10.5.0.1", behind),
            ("10.1.0.7", "10.4.0.1", Forward::None),
            ("10.1.0.7", "10.1.0.1", Forward::None),
            ("10.1.0.7", "192.0.2.1", Forward::None),
        ] {
            let way = asker.forward(address(from), address(to), UDP, clients);
            assert_eq!(way.unwrap(), expected, "{from} to {to}");
        }
        fs::write("/proc/sys/net/ipv4/conf/c0/forwarding", "0").unwrap();
        let way = asker.forward(address("10.1.0.7"), address("10.2.0.11"), UDP, clients);
        assert_eq!(way.unwrap(), Forward::ForwardingOff);
    });
}

#[test]
fn rules_for_an_interface_count() {
    isolated(|_| {
        networks();
        let clients = link("c0").index;
        ip("rule add iif c0 table 77");
        ip("route add default via 10.2.0.11 dev s0 table 77");
        let mut asker = Asker::open().unwrap();
        let way = asker.forward(address("10.1.0.7"), address("192.0.2.1"), UDP, clients);
        let servers = link("s0").index;
        assert!(matches!(way.unwrap(), Forward::Ready { interface, .. } if interface == servers));
    });
}
