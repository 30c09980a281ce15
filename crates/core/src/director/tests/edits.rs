//! The semantics of edits.

use super::*;
use crate::director::write;

#[test]
fn errors_come_in_the_order_of_ipvs() {
    let mut rig = Rig::new();
    let (key, other) = (service(80), service(81));
    let route = |server| Edit::AddServer {
        service: key,
        server,
        settings: ServerSettings::new(ForwardMethod::Route, 1),
    };
    assert_eq!(
        rig.attempt(route(server(80))),
        Err(EditError::ServiceNotDefined)
    );
    rig.apply(add(key, "rr"));
    assert_eq!(
        rig.attempt(add(key, "nosuch")),
        Err(EditError::ServiceExists)
    );
    assert_eq!(
        rig.attempt(add(other, "nosuch")),
        Err(EditError::SchedulerNotFound)
    );
    for address in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let edit = route(ServerKey {
            address: address.into(),
            port: 80,
        });
        assert_eq!(rig.attempt(edit), Err(EditError::Invalid));
    }
    rig.apply(add_server(key, server(80), 1));
    assert_eq!(rig.attempt(route(server(80))), Err(EditError::ServerExists));
    assert_eq!(
        rig.attempt(add_server(key, server(81), 1 << 31)),
        Err(EditError::OutOfRange)
    );
    assert_eq!(
        rig.attempt(edit_server(key, server(81), 1)),
        Err(EditError::NoSuchServer)
    );
    assert_eq!(
        rig.attempt(delete_server(other, server(80))),
        Err(EditError::ServiceNotDefined)
    );
    assert_eq!(
        rig.attempt(delete_server(key, server(81))),
        Err(EditError::NoSuchServer)
    );
    for edit in [
        Edit::DeleteService { service: other },
        Edit::EditService {
            service: other,
            settings: ServiceSettings::scheduled_by("rr"),
        },
        Edit::Zero {
            service: Some(other),
        },
    ] {
        assert_eq!(rig.attempt(edit), Err(EditError::NoSuchService));
    }
}

#[test]
fn services_that_can_not_be_are_refused() {
    let mut rig = Rig::new();
    let settings = |change: fn(&mut ServiceSettings)| {
        let mut settings = ServiceSettings::scheduled_by("rr");
        change(&mut settings);
        settings
    };
    let any_port = ServiceKey::at(Protocol::Tcp, [10, 0, 0, 1], 0);
    let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
    let mapped = ServiceKey::at(Protocol::Tcp, mapped, 80);
    let plain = settings(|_| {});
    let persistent4 = settings(|s| s.persistence = Some(persistent(Family::V4)));
    for (key, wanted, error) in [
        (any_port, plain.clone(), EditError::Invalid),
        (mark(0, Family::V4), plain.clone(), EditError::Invalid),
        (mapped, plain.clone(), EditError::Invalid),
        (service6(80), persistent4.clone(), EditError::Invalid),
        (mark(1, Family::V6), persistent4.clone(), EditError::Invalid),
        (
            service(80),
            settings(|s| s.engine = Some("nosuch".into())),
            EditError::EngineNotFound,
        ),
        (
            service(80),
            settings(|s| {
                s.engine = Some("nosuch".into());
                s.scheduler = "nosuch".into();
            }),
            EditError::SchedulerNotFound,
        ),
    ] {
        assert_eq!(rig.attempt(add_with(key, wanted)), Err(error), "{key}");
    }
    for (prefix, timeout_s, error) in [
        (0, 1, EditError::Invalid),
        (129, 1, EditError::Invalid),
        (128, 0, EditError::OutOfRange),
        (128, 2_678_401, EditError::OutOfRange),
    ] {
        let wanted = ServiceSettings {
            persistence: Some(Persistence {
                timeout_s,
                netmask: Netmask::V6(prefix),
            }),
            ..plain.clone()
        };
        assert_eq!(rig.attempt(add_with(service6(80), wanted)), Err(error));
    }
    rig.apply(add_with(any_port, persistent4));
    let edit = Edit::EditService {
        service: any_port,
        settings: plain,
    };
    assert_eq!(rig.attempt(edit), Err(EditError::Invalid));
    // Of any protocol, as the kernel has it.
    let sip = settings(|s| {
        s.engine = Some("sip".into());
        s.one_packet = true;
    });
    rig.apply(add_with(service(5060), sip));
}

#[test]
fn servers_that_can_not_be_are_refused() {
    let mut rig = Rig::new();
    let (key, key6) = (service(80), service6(80));
    rig.apply(add(key, "rr"));
    rig.apply(add(key6, "rr"));
    let tunnel = ForwardMethod::Tunnel(Tunnel::Ipip);
    let gue = |port| {
        ForwardMethod::Tunnel(Tunnel::Gue {
            port,
            checksum: TunnelChecksum::None,
        })
    };
    // Of another family only through a tunnel.
    for method in [
        ForwardMethod::Masq,
        ForwardMethod::Route,
        ForwardMethod::FullNat,
    ] {
        assert_eq!(
            rig.attempt(add_by(key, server6(1), method)),
            Err(EditError::Invalid)
        );
        assert_eq!(
            rig.attempt(add_by(key6, server(1), method)),
            Err(EditError::Invalid)
        );
    }
    rig.apply(add_by(key, server6(1), tunnel));
    rig.apply(add_by(key6, server(1), tunnel));
    let edit = |method| Edit::EditServer {
        service: key,
        server: server6(1),
        settings: ServerSettings::new(method, 1),
    };
    assert_eq!(
        rig.attempt(edit(ForwardMethod::Masq)),
        Err(EditError::Invalid)
    );
    assert_eq!(rig.attempt(edit(gue(0))), Err(EditError::Invalid));
    rig.apply(edit(gue(1)));
    for address in ["::", "ff02::1", "fe80::1", "::ffff:10.0.0.1"] {
        let server = ServerKey {
            address: address.parse().unwrap(),
            port: 1,
        };
        let edit = add_by(key6, server, ForwardMethod::Route);
        assert_eq!(rig.attempt(edit), Err(EditError::Invalid), "{address}");
    }
}

#[test]
fn an_edited_service_keeps_its_position_if_its_scheduler_is_the_same() {
    let (mut rig, key) = Rig::new().serving("rr", &[1, 2, 3]);
    assert_eq!(rig.ports(&key, 2), [3, 2]);
    let edit = |scheduler: &str| Edit::EditService {
        service: key,
        settings: ServiceSettings {
            persistence: Some(persistent(Family::V4)),
            ..ServiceSettings::scheduled_by(scheduler)
        },
    };
    rig.apply(edit("rr"));
    assert_eq!(rig.ports(&key, 2), [1, 3]);
    assert_eq!(rig.memory().services[rig.index(&key)].persistence.get(), 60);
    for scheduler in ["wlc", "sh", "mh", "twos", "wrr", "dh", "lc"] {
        let before = rig.memory().services[rig.index(&key)].ring.get();
        match rig.attempt(edit(scheduler)) {
            Ok(()) => assert_eq!(rig.named(&key).len(), 3, "{scheduler}"),
            // Maglev's table is larger than this memory.
            Err(error) => {
                assert_eq!(error, EditError::Full("ring words".into()), "{scheduler}");
                let after = rig.memory().services[rig.index(&key)].ring.get();
                assert_eq!(after, before);
            }
        }
        rig.now_ms += GRACE_MS;
    }
    rig.apply(edit("rr"));
    assert_eq!(rig.ports(&key, 2), [3, 2]);
}

/// A packet may have read the service's scheduler before and its ring after.
#[test]
fn no_ring_is_read_in_the_way_of_another() {
    let (mut rig, key) = Rig::new().serving("rr", &[1]);
    let edit = Edit::EditService {
        service: key,
        settings: ServiceSettings::scheduled_by("wlc"),
    };
    let refused = rig.director.apply(&[edit], false, &rig.tables.memory(), 0);
    assert_eq!(refused, []);
    let present = |rig: &Rig| {
        let service = &rig.memory().services[0];
        (service.scheduler.get(), service.ring.get())
    };
    let mut before = present(&rig);
    while let Some(write) = rig.director.poll_write() {
        write::apply(&rig.tables.memory(), &write);
        let after = present(&rig);
        let is_hidden = before.1 == 0 && after.1 == 0;
        assert!(before.0 == after.0 || is_hidden, "{write:?}");
        before = after;
    }
    assert_eq!(rig.named(&key).len(), 1);
}

#[test]
fn timeouts_change_where_they_are_given() {
    let mut rig = Rig::new();
    let set = |tcp, tcp_fin, udp| Edit::SetTimeouts(Timeouts { tcp, tcp_fin, udp });
    assert_eq!(rig.director.timeouts(), Timeouts::default());
    assert_eq!(rig.memory().control.timeout_tcp.get(), 900);
    rig.apply(set(1800, 0, 100));
    assert_eq!(rig.attempt(set(2_678_401, 1, 1)), Err(EditError::Invalid));
    assert_eq!(
        rig.director.timeouts(),
        Timeouts {
            tcp: 1800,
            tcp_fin: 120,
            udp: 100
        }
    );
    assert_eq!(rig.memory().control.timeout_udp.get(), 100);
    rig.restart();
    assert_eq!(
        rig.director.timeouts(),
        Timeouts {
            tcp: 1800,
            tcp_fin: 120,
            udp: 100
        }
    );
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let (mut rig, key) = Rig::new().serving("wrr", &[]);
    rig.apply(add_server(key, server(1), 2));
    rig.apply(add_server(key, server(2), 1));
    let before = rig.director.list(None, AsOf::Now, &rig.memory());
    let edits = [
        edit_server(key, server(1), 7),
        delete_server(key, server(2)),
        add_server(key, server(3), 5),
        Edit::Zero { service: None },
        Edit::Flush,
        add(service(90), "rr"),
        add(key, "rr"),
        add_server(key, server(2), 5),
        Edit::DeleteService {
            service: service(91),
        },
    ];
    let refused = rig.director.apply(&edits, true, &rig.tables.memory(), 0);
    assert_eq!(refused, [(8, EditError::NoSuchService)]);
    assert_eq!(rig.director.poll_write(), None);
    assert_eq!(rig.director.list(None, AsOf::Now, &rig.memory()), before);
    // Without a transaction the others stand.
    assert_eq!(rig.try_all(&edits, false), [(8, EditError::NoSuchService)]);
    let listed = rig.director.list(None, AsOf::Now, &rig.memory()).unwrap();
    assert_eq!(listed.len(), 2);
    let servers = rig.servers(&key);
    assert_eq!(
        servers
            .iter()
            .map(|s| (s.key.port, s.settings.weight))
            .collect::<Vec<_>>(),
        [(2, 5)]
    );
    rig.restart();
    assert_eq!(
        rig.director.list(None, AsOf::Now, &rig.memory()).unwrap(),
        listed
    );
    assert_eq!(rig.director.repairs(), 0);
}

#[test]
fn full_is_said_and_room_comes_back() {
    let (mut rig, key) = Rig::sized(Sizes {
        servers: 3,
        services: 2,
        ..Sizes::default()
    })
    .serving("rr", &[1, 2, 3]);
    let full = Err(EditError::Full("servers".into()));
    assert_eq!(rig.attempt(add_server(key, server(4), 1)), full);
    assert_eq!(rig.servers(&key).len(), 3);
    rig.apply(delete_server(key, server(2)));
    assert_eq!(rig.attempt(add_server(key, server(4), 1)), full);
    // It would be kept for its counters, but room is needed.
    rig.now_ms += GRACE_MS;
    rig.apply(add_server(key, server(4), 1));
    rig.apply(add(service(81), "rr"));
    assert_eq!(
        rig.attempt(add(service(82), "rr")),
        Err(EditError::Full("services".into()))
    );
    rig.apply(Edit::DeleteService {
        service: service(81),
    });
    rig.now_ms += GRACE_MS;
    rig.apply(add(service(82), "rr"));
}

#[test]
fn rings_rest_before_they_are_used_again() {
    // Room for two rings of up to two servers.
    let (mut rig, key) = Rig::sized(Sizes {
        ring_words: 8,
        ..Sizes::default()
    })
    .serving("rr", &[1]);
    rig.apply(edit_server(key, server(1), 2));
    let full = rig.attempt(edit_server(key, server(1), 3));
    assert_eq!(full, Err(EditError::Full("ring words".into())));
    assert_eq!(rig.director.room_at_ms(), Some(GRACE_MS));
    assert_eq!(rig.servers(&key)[0].settings.weight, 2);
    rig.now_ms = GRACE_MS;
    rig.apply(edit_server(key, server(1), 3));
}

#[test]
fn rings_that_no_packet_saw_are_free_at_once() {
    // Room for a few of the rings that these edits would make one by one.
    let mut rig = Rig::sized(Sizes {
        ring_words: 64,
        ..Sizes::default()
    });
    let key = service(80);
    let mut edits = vec![
        add(key, "wrr"),
        add_server(key, server(1), 1),
        add_server(key, server(2), 1),
    ];
    for _ in 0..10 {
        edits.extend([9, 1].map(|weight| edit_server(key, server(1), weight)));
    }
    assert_eq!(rig.try_all(&edits, false), []);
}

#[test]
fn there_is_room_when_the_last_ring_has_rested() {
    let (mut rig, key) = Rig::sized(Sizes {
        ring_words: 16,
        ..Sizes::default()
    })
    .serving("rr", &[]);
    for (now_ms, weight) in [(0, 1), (0, 2), (100, 3), (200, 4)] {
        rig.now_ms = now_ms;
        match weight {
            1 => rig.apply(add_server(key, server(1), weight)),
            _ => rig.apply(edit_server(key, server(1), weight)),
        }
    }
    assert_eq!(rig.director.room_at_ms(), Some(200 + GRACE_MS));
}

#[test]
fn a_deleted_server_comes_back_with_its_connections_and_counters() {
    let (mut rig, key) = Rig::new().serving("rr", &[1, 2]);
    let index = rig.next(&key).unwrap() as usize;
    let port = rig.servers(&key)[0].key.port;
    rig.memory().loads[index].active.add(2);
    rig.memory().counters[index].connections.add(5);
    rig.apply(delete_server(key, server(port)));
    let flags = rig.memory().servers[index].flags.get();
    assert_eq!(
        flags & (server_flags::ALIVE | server_flags::USED),
        server_flags::USED
    );
    let sum = |rig: &Rig| {
        rig.director.list(None, AsOf::Now, &rig.memory()).unwrap()[0]
            .stats
            .connections
    };
    assert_eq!(sum(&rig), 5);
    rig.pass(TRASH_MS * 2);
    rig.restart();
    rig.apply(Edit::DeleteService { service: key });
    rig.apply(add(key, "rr"));
    assert_eq!(sum(&rig), 0);
    rig.apply(add_server(key, server(port), 3));
    let servers = rig.servers(&key);
    assert_eq!((servers[0].active, servers[0].stats.connections), (2, 5));
    assert_eq!(rig.next(&key), Some(index as u32));
    // Once nothing refers to it, the slot is anybody's, and counts from 0.
    rig.memory().loads[index].active.subtract(2);
    rig.apply(delete_server(key, server(port)));
    rig.pass(TRASH_MS - 1);
    assert_ne!(rig.memory().servers[index].flags.get(), 0);
    rig.pass(1);
    assert_eq!(rig.memory().servers[index].flags.get(), 0);
    assert_eq!(rig.memory().counters[index].connections.get(), 0);
}

#[test]
fn zero_is_a_point_to_count_from() {
    let (mut rig, key) = Rig::sized(Sizes {
        cpus: 2,
        ..Sizes::default()
    })
    .serving("rr", &[1]);
    let count = |rig: &Rig, n| {
        rig.memory().counters[0].in_bytes.add(n);
        // Another CPU.
        let second = rig.memory().servers.len();
        rig.memory().counters[second].in_bytes.add(n);
    };
    let shown = |rig: &Rig| {
        let view = rig
            .director
            .list(None, AsOf::Now, &rig.memory())
            .unwrap()
            .remove(0);
        (
            view.stats.in_bytes,
            view.servers.first().map(|s| s.stats.in_bytes),
        )
    };
    count(&rig, 50);
    assert_eq!(shown(&rig), (100, Some(100)));
    rig.apply(Edit::Zero { service: Some(key) });
    assert_eq!(shown(&rig), (0, Some(0)));
    count(&rig, 4);
    assert_eq!(shown(&rig), (8, Some(8)));
    rig.apply(delete_server(key, server(1)));
    assert_eq!(shown(&rig), (8, None));
    // The service keeps what its former servers did.
    rig.pass(TRASH_MS);
    assert_eq!(shown(&rig), (8, None));
}

#[test]
fn a_port_given_as_zero_is_the_virtual_one_and_listed_as_given() {
    let (mut rig, key) = Rig::new().serving("rr", &[0]);
    assert_eq!(rig.next_port(&key), Some(80));
    rig.restart();
    assert_eq!(rig.servers(&key)[0].key, server(0));
    assert_eq!(rig.director.repairs(), 0);
}

#[test]
fn hops_reach_all_servers_of_an_address() {
    let mut rig = Rig::new();
    let hop = |last| Hop {
        interface: 7,
        destination_mac: [2, 0, 0, 0, 0, last],
        source_mac: [2, 1, 2, 3, 4, 5],
        mtu: 1500,
        source: None,
    };
    let address = IpAddr::from([192, 168, 1, 1]);
    for port in [80, 81] {
        rig.apply(add(service(port), "rr"));
        rig.apply(add_server(service(port), server(port), 1));
    }
    assert_eq!(rig.director.server_addresses(), [address]);
    assert_eq!(rig.director.servers_without_hop(), 2);
    rig.director.set_hops([(address, Some(Reach::By(hop(1))))]);
    rig.director.write_all(&rig.tables.memory());
    // One added later has it at once.
    rig.apply(add_server(service(80), server(82), 1));
    assert_eq!(rig.director.servers_without_hop(), 0);
    rig.director.set_hops([(address, Some(Reach::By(hop(9))))]);
    rig.director.write_all(&rig.tables.memory());
    for index in 0..3 {
        let server = &rig.memory().servers[index];
        let flags = server.flags.get();
        assert_ne!(flags & server_flags::HOP_READY, 0);
        let which = (flags & server_flags::HOP) as usize;
        let present = &server.hops[which];
        assert_eq!(present.interface.get(), 7);
        assert_eq!(present.middle.get().to_ne_bytes(), [0, 9, 2, 1]);
        assert_eq!(server.mtu.get() >> (16 * which) & 0xffff, 1500);
    }
    rig.restart();
    assert_eq!(rig.director.servers_without_hop(), 0);
    rig.director.set_hops([(address, None)]);
    rig.director.write_all(&rig.tables.memory());
    assert_eq!(rig.director.servers_without_hop(), 3);
    assert_eq!(
        rig.memory().servers[0].flags.get() & server_flags::HOP_READY,
        0
    );
}

/// A change of more writes than are queued at once says the same to the memory, and one that
/// is refused says nothing.
#[test]
fn a_large_change_is_whole() {
    const SERVICES: u16 = 700;
    let sizes = Sizes {
        services: 1024,
        servers: 2048,
        endpoint_buckets: 4096,
        ring_words: 1 << 14,
        ..Sizes::default()
    };
    let mut edits = Vec::new();
    for port in 1..=SERVICES {
        edits.push(add(service(port), "rr"));
        edits.extend([port, 10_000 + port].map(|at| add_server(service(port), server(at), 1)));
    }
    let mut rig = Rig::sized(sizes);
    let again = [edits.clone(), vec![add(service(1), "rr")]].concat();
    assert_eq!(
        rig.try_all(&again, true),
        [(edits.len(), EditError::ServiceExists)]
    );
    let is_used = |memory: &Memory<'_>| memory.services.iter().any(|s| s.flags.get() != 0);
    assert!(!is_used(&rig.memory()), "some of it was made");
    assert_eq!(rig.try_all(&edits, true), []);
    // Who comes next finds nothing to repair, and all of it.
    rig.restart();
    assert_eq!(rig.director.repairs(), 0);
    for port in 1..=SERVICES {
        let servers = rig.servers(&service(port));
        assert_eq!(servers.len(), 2, "{port}");
    }
}
