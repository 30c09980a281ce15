//! Changes of the network are noticed, and next hops are what the kernel's would be.

mod common;

use std::fmt::Write;
use std::net::IpAddr;

use common::{DEADLINE, ip, isolated, link};
use evenkeel_kernel::network::{Event, Network, NextHop};
use tokio::runtime::Builder;

/// Runs `test` in namespaces of its own and in a runtime on the same thread.
fn following<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    isolated(|_| {
        Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test());
    });
}

/// Waits for an event, and gives those before it too.
async fn until(network: &mut Network, wanted: Event) -> Vec<Event> {
    let mut seen = Vec::new();
    let waiting = async {
        loop {
            let event = network.next_event().await.unwrap();
            seen.push(event);
            if event == wanted {
                return;
            }
        }
    };
    let found = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(found.is_ok(), "waited in vain for {wanted:?}, saw {seen:?}");
    seen
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A director with a server's network at v0; the other end is in the same namespace.
fn server_network() {
    ip("link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02");
    ip("addr add 10.1.0.1/24 dev v0");
    ip("link set v0 up");
    ip("link set v1 up");
}

#[test]
fn links_that_come_and_go_are_followed() {
    following(|| async {
        let mut network = Network::open().unwrap();
        ip("link add v0 type veth peer name v1");
        let interface = link("v0").index;
        until(&mut network, Event::LinkChanged { interface }).await;
        assert_eq!(network.link(interface).unwrap().name, "v0");
        ip("link set v0 address 02:00:00:00:00:77");
        until(&mut network, Event::LinkChanged { interface }).await;
        assert_eq!(
            network.link(interface).unwrap().mac,
            Some([2, 0, 0, 0, 0, 0x77])
        );
        ip("link set v0 name other");
        until(&mut network, Event::LinkChanged { interface }).await;
        assert_eq!(network.link(interface).unwrap().name, "other");
        ip("link del other");
        until(&mut network, Event::LinkGone { interface }).await;
        assert!(network.link(interface).is_none());
        assert_eq!(network.links().count(), 1);
    });
}

#[test]
fn a_next_hop_follows_its_neighbour() {
    following(|| async {
        server_network();
        let v0 = link("v0").index;
        let mut network = Network::open().unwrap();
        let server = address("10.1.0.2");
        let changed = Event::NeighbourChanged {
            interface: v0,
            address: server,
        };
        let unresolved = NextHop::Unresolved {
            interface: v0,
            gateway: server,
        };
        let ready = |last| NextHop::Ready {
            interface: v0,
            gateway: server,
            destination_mac: [2, 0, 0, 0, 0, last],
            source_mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            source: Some(address("10.1.0.1")),
        };
        assert_eq!(network.next_hop(server).unwrap(), unresolved);
        ip("neigh replace 10.1.0.2 dev v0 lladdr 02:00:00:00:00:0a nud reachable");
        until(&mut network, changed).await;
        assert_eq!(network.next_hop(server).unwrap(), ready(0x0a));
        // Another state with the same address is nothing to tell; another address is.
        ip("neigh replace 10.1.0.2 dev v0 lladdr 02:00:00:00:00:0a nud stale");
        ip("neigh replace 10.1.0.2 dev v0 lladdr 02:00:00:00:00:0b nud permanent");
        let seen = until(&mut network, changed).await;
        assert_eq!(seen, [changed]);
        assert_eq!(network.next_hop(server).unwrap(), ready(0x0b));
        ip("neigh del 10.1.0.2 dev v0");
        until(&mut network, changed).await;
        assert_eq!(network.next_hop(server).unwrap(), unresolved);
    });
}

#[test]
fn probing_resolves() {
    following(|| async {
        server_network();
        // The same host answers at the other end: v1 takes the server's address and
        // replies for it.
        ip("addr add 10.1.0.2/32 dev v1");
        std::fs::write("/proc/sys/net/ipv4/conf/v1/arp_ignore", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/v1/accept_local", "1").unwrap();
        let v0 = link("v0").index;
        let mut network = Network::open().unwrap();
        let server = address("10.1.0.2");
        network.probe(v0, server).unwrap();
        until(
            &mut network,
            Event::NeighbourChanged {
                interface: v0,
                address: server,
            },
        )
        .await;
    });
}

#[test]
fn routes_decide() {
    following(|| async {
        server_network();
        let v0 = link("v0").index;
        let mut network = Network::open().unwrap();
        let far = address("192.0.2.9");
        assert_eq!(network.next_hop(far).unwrap(), NextHop::Unreachable);
        ip("route add 192.0.2.0/24 via 10.1.0.254 mtu 1300");
        until(&mut network, Event::RoutesChanged).await;
        let gateway = address("10.1.0.254");
        assert_eq!(
            network.next_hop(far).unwrap(),
            NextHop::Unresolved {
                interface: v0,
                gateway
            }
        );
        ip("neigh replace 10.1.0.254 dev v0 lladdr 02:00:00:00:00:fe nud permanent");
        until(
            &mut network,
            Event::NeighbourChanged {
                interface: v0,
                address: gateway,
            },
        )
        .await;
        assert_eq!(
            network.next_hop(far).unwrap(),
            NextHop::Ready {
                interface: v0,
                gateway,
                destination_mac: [2, 0, 0, 0, 0, 0xfe],
                source_mac: [2, 0, 0, 0, 0, 1],
                mtu: 1300,
                source: Some(address("10.1.0.1")),
            }
        );
        assert_eq!(
            network.next_hop(address("10.1.0.1")).unwrap(),
            NextHop::Local
        );
        for kind in ["blackhole", "unreachable", "prohibit"] {
            ip(&format!("route replace {kind} 198.51.100.0/24"));
            let hop = network.next_hop(address("198.51.100.1")).unwrap();
            assert_eq!(hop, NextHop::Unreachable, "{kind}");
        }
        // The kernel tells nothing of the routes by a link that goes down.
        ip("link set v0 down");
        until(&mut network, Event::RoutesChanged).await;
        assert_eq!(network.next_hop(far).unwrap(), NextHop::Unreachable);
    });
}

/// [`server_network`] with IPv6, its addresses usable at once.
fn ipv6_network() {
    server_network();
    ip("addr add 2001:db8:1::1/64 dev v0 nodad");
}

#[test]
fn ipv6_next_hops_follow_routes_and_neighbours() {
    following(|| async {
        ipv6_network();
        let v0 = link("v0").index;
        let mut network = Network::open().unwrap();
        let server = address("2001:db8:1::2");
        let unresolved = |gateway| NextHop::Unresolved {
            interface: v0,
            gateway,
        };
        let ready = |gateway, mtu| NextHop::Ready {
            interface: v0,
            gateway,
            destination_mac: [2, 0, 0, 0, 0, 0x0a],
            source_mac: [2, 0, 0, 0, 0, 1],
            mtu,
            source: Some(address("2001:db8:1::1")),
        };
        let known = |address| Event::NeighbourChanged {
            interface: v0,
            address,
        };
        let learn = |verb: &str, address: IpAddr| {
            let mac = "lladdr 02:00:00:00:00:0a nud permanent";
            ip(&format!("neigh {verb} {address} dev v0 {mac}"));
        };
        assert_eq!(network.next_hop(server).unwrap(), unresolved(server));
        learn("replace", server);
        until(&mut network, known(server)).await;
        assert_eq!(network.next_hop(server).unwrap(), ready(server, 1500));
        learn("del", server);
        until(&mut network, known(server)).await;
        assert_eq!(network.next_hop(server).unwrap(), unresolved(server));

        let (far, gateway) = (address("2001:db8:9::9"), address("fe80::9"));
        assert_eq!(network.next_hop(far).unwrap(), NextHop::Unreachable);
        ip("route add 2001:db8:9::/64 via fe80::9 dev v0 mtu 1400");
        until(&mut network, Event::RoutesChanged).await;
        assert_eq!(network.next_hop(far).unwrap(), unresolved(gateway));
        learn("replace", gateway);
        until(&mut network, known(gateway)).await;
        assert_eq!(network.next_hop(far).unwrap(), ready(gateway, 1400));
        for kind in ["blackhole", "unreachable", "prohibit"] {
            ip(&format!("-6 route replace {kind} 2001:db8:7::/64 dev lo"));
            let hop = network.next_hop(address("2001:db8:7::1")).unwrap();
            assert_eq!(hop, NextHop::Unreachable, "{kind}");
        }
        let own = network.next_hop(address("2001:db8:1::1")).unwrap();
        assert_eq!(own, NextHop::Local);
        // An address that comes or goes is told by its route.
        ip("addr add 2001:db8:5::1/128 dev v0 nodad");
        // There are two of them, one after the other.
        while network.next_hop(address("2001:db8:5::1")).unwrap() != NextHop::Local {
            until(&mut network, Event::RoutesChanged).await;
        }
        // Its rules as well.
        ip("-6 rule add to 2001:db8:9::/64 unreachable");
        while network.next_hop(far).unwrap() != NextHop::Unreachable {
            until(&mut network, Event::RoutesChanged).await;
        }
    });
}

#[test]
fn probing_resolves_ipv6() {
    following(|| async {
        ipv6_network();
        // The other end is another host: in the same one, a neighbour's advertisement of
        // an address of one's own counts for nothing.
        let server = address("2001:db8:1::2");
        common::run("mount", "-t tmpfs tmpfs /run");
        ip("netns add server");
        ip("link set v1 netns server");
        for words in ["addr add 2001:db8:1::2/64 dev v1 nodad", "link set v1 up"] {
            ip(&format!("-n server {words}"));
        }
        let v0 = link("v0").index;
        let mut network = Network::open().unwrap();
        network.probe(v0, server).unwrap();
        let resolved = Event::NeighbourChanged {
            interface: v0,
            address: server,
        };
        until(&mut network, resolved).await;
        assert!(matches!(
            network.next_hop(server).unwrap(),
            NextHop::Ready {
                destination_mac: [2, 0, 0, 0, 0, 2],
                ..
            }
        ));
    });
}

#[test]
fn a_gateway_of_the_other_family_is_found() {
    following(|| async {
        server_network();
        let v0 = link("v0").index;
        let mut network = Network::open().unwrap();
        ip("route add 192.0.2.0/24 via inet6 fe80::9 dev v0");
        assert_eq!(
            network.next_hop(address("192.0.2.1")).unwrap(),
            NextHop::Unresolved {
                interface: v0,
                gateway: address("fe80::9")
            }
        );
    });
}

#[test]
fn lost_notifications_lead_to_reading_everything() {
    following(|| async {
        server_network();
        let v0 = link("v0").index;
        let mut network = Network::open().unwrap();
        // More than the kernel keeps for a reader who does not read.
        let mut batch = String::new();
        for _ in 0..3 {
            for host in 0..8192 {
                let (high, low) = (host / 256, host % 256);
                for word in ["replace", "del"] {
                    writeln!(batch, "route {word} unreachable 172.16.{high}.{low}/32").unwrap();
                }
            }
        }
        batch.push_str("neigh replace 10.1.0.9 dev v0 lladdr 02:00:00:00:00:09 nud permanent\n");
        let file = "/tmp/evenkeel-routes";
        common::run("mount", "-t tmpfs tmpfs /tmp");
        std::fs::write(file, batch).unwrap();
        ip(&format!("-batch {file}"));
        until(&mut network, Event::Resync).await;
        assert!(matches!(
            network.next_hop(address("10.1.0.9")).unwrap(),
            NextHop::Ready { interface, .. } if interface == v0
        ));
    });
}
