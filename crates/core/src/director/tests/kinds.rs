//! Services and servers of all kinds: what packets find in the memory.

use evenkeel_datapath::layout::{
    endpoint_kind, features, mapped, method, server_flags, service_flags, tunnel,
};

use super::*;
use crate::director::endpoints::Key;
use crate::director::records::read_words;
use crate::model::SchedulerFlags;

fn features_of(rig: &Rig) -> u32 {
    rig.memory().control.features.get()
}

fn server_index(rig: &Rig, service: &ServiceKey, server: &ServerKey) -> usize {
    let service = rig.director.live_service(service).unwrap();
    rig.director.state.server_named(service, server).unwrap() as usize
}

fn at(server: &ServerKey, port: u16, protocol: Protocol, kind: u32) -> Key {
    Key::at(server.address, port, protocol.number(), kind)
}

/// Adds a persistent service.
fn add_persistent(rig: &mut Rig, service: ServiceKey) {
    rig.apply(add_with(
        service,
        ServiceSettings {
            persistence: Some(persistent(service.family())),
            ..ServiceSettings::scheduled_by("wlc")
        },
    ));
}

#[test]
fn services_of_all_kinds_are_found() {
    let any_port = ServiceKey::at(Protocol::Sctp, [10, 0, 0, 9], 0);
    let ftp = ServiceKey::at(Protocol::Tcp, [10, 0, 0, 9], 21);
    let keys = [
        (service(80), 0),
        (ftp, service_flags::WIDE),
        (service6(53), service_flags::WIDE | service_flags::IPV6),
        (any_port, service_flags::WIDE),
        (mark(7, Family::V4), service_flags::WIDE),
        (
            mark(7, Family::V6),
            service_flags::WIDE | service_flags::IPV6,
        ),
        (mark(u32::MAX, Family::V4), service_flags::WIDE),
    ];
    let mut rig = Rig::new();
    for (key, _) in keys {
        add_persistent(&mut rig, key);
    }
    for restarted in [false, true] {
        for (key, flags) in keys {
            let index = rig.index(&key);
            let record = &rig.memory().services[index];
            let endpoint = rig
                .director
                .state
                .services()
                .get(index as u32)
                .unwrap()
                .endpoint();
            assert_eq!(rig.find(endpoint), Some(index as u32), "{key}");
            let kind = service_flags::WIDE | service_flags::IPV6;
            assert_eq!(record.flags.get() & kind, flags, "{key} {restarted}");
            assert_eq!(record.persistence.get(), 60);
        }
        let there = features::MARKS
            | features::FOREIGN_MARKS
            | features::ANY_PORT
            | features::IPV6
            | features::FTP;
        assert_eq!(features_of(&rig), there);
        rig.restart();
        assert_eq!(rig.director.repairs(), 0);
    }
    let listed = rig.director.list(None, AsOf::Now, &rig.memory()).unwrap();
    assert_eq!(listed.len(), keys.len());
    for (key, _) in keys {
        rig.apply(Edit::DeleteService { service: key });
    }
    rig.pass(GRACE_MS);
    rig.pass(GRACE_MS);
    assert_eq!(rig.endpoint_count(), 0);
    assert_eq!(features_of(&rig), 0);
}

/// The writes of an edit, made, and told as numbers: the features while they are
/// written, and nothing for an endpoint.
fn features_and_endpoints(rig: &mut Rig, edit: Edit) -> Vec<Option<u32>> {
    let memory = rig.tables.memory();
    assert_eq!(rig.director.apply(&[edit], true, &memory, rig.now_ms), []);
    let mut told = vec![];
    while let Some(write) = rig.director.poll_write() {
        write::apply(&memory, &write);
        match write {
            Write::Features(features) => told.push(Some(features)),
            Write::Endpoint { .. } | Write::WideEndpoint { .. } => told.push(None),
            _ => {}
        }
    }
    told
}

#[test]
fn packets_look_for_what_is_there_before_it_is_and_until_it_is_not() {
    let ftp = ServiceKey::at(Protocol::Tcp, [10, 0, 0, 9], 21);
    let mut rig = Rig::new();
    let settings = |key: &ServiceKey| ServiceSettings {
        persistence: Some(persistent(key.family())),
        ..ServiceSettings::scheduled_by("wlc")
    };
    for (key, bits) in [(service6(80), features::IPV6), (ftp, features::FTP)] {
        let added = features_and_endpoints(&mut rig, add_with(key, settings(&key)));
        assert_eq!(added, [Some(bits), None], "{key}");
        rig.restart();
        let deleted = features_and_endpoints(&mut rig, Edit::DeleteService { service: key });
        assert_eq!(deleted, [None, Some(0)], "{key}");
    }
    // Only persistent clients have data connections that must go to the same server.
    rig.apply(add_with(ftp, settings(&ftp)));
    rig.apply(Edit::EditService {
        service: ftp,
        settings: ServiceSettings::scheduled_by("wlc"),
    });
    assert_eq!(features_of(&rig), 0);
    rig.restart();
    assert_eq!(features_of(&rig), 0);
}

#[test]
fn a_mark_is_found_beside_the_same_number_as_an_address() {
    let mut rig = Rig::new();
    let mark = mark(u32::from_ne_bytes([10, 0, 0, 10]), Family::V4);
    rig.apply(add(mark, "rr"));
    rig.apply(add(service(80), "rr"));
    assert_ne!(rig.index(&mark), rig.index(&service(80)));
    let record = &rig.memory().services[rig.index(&mark)];
    assert_eq!(record.mark.get(), u32::from_ne_bytes([10, 0, 0, 10]));
    assert_eq!((record.address.get(), record.port.get()), (0, 0));
    assert_eq!(read_words(&record.wide_address), [0; 4]);
}

#[test]
fn settings_come_back_as_they_were_given() {
    let full = ServiceSettings {
        scheduler: "mh".into(),
        flags: SchedulerFlags {
            fallback: true,
            port: true,
            third: true,
        },
        persistence: Some(Persistence {
            timeout_s: 2_678_400,
            netmask: Netmask::V4([255, 0, 255, 0].into()),
        }),
        one_packet: true,
        engine: Some("sip".into()),
        compatible: None,
        mss_clamp: Some(MssClamp::Bytes(1300)),
    };
    let prefix = ServiceSettings {
        persistence: Some(Persistence {
            timeout_s: 1,
            netmask: Netmask::V6(64),
        }),
        ..ServiceSettings::scheduled_by("sh")
    };
    let methods = [
        ForwardMethod::Masq,
        ForwardMethod::Route,
        ForwardMethod::FullNat,
        ForwardMethod::Tunnel(Tunnel::Ipip),
        ForwardMethod::Tunnel(Tunnel::Gue {
            port: 6080,
            checksum: TunnelChecksum::Remote,
        }),
        ForwardMethod::Tunnel(Tunnel::Gre {
            checksum: TunnelChecksum::Full,
        }),
    ];
    let mut rig = Rig::sized(Sizes {
        ring_words: 1 << 18,
        ..Sizes::default()
    });
    rig.apply(add_with(service(80), full.clone()));
    rig.apply(add_with(service6(80), prefix.clone()));
    for (port, method) in (1..).zip(methods) {
        rig.apply(Edit::AddServer {
            service: service(80),
            server: server(port),
            settings: ServerSettings {
                upper_threshold: 9,
                lower_threshold: 3,
                ..ServerSettings::new(method, u32::from(port - 1))
            },
        });
        rig.apply(add_by(service6(80), server6(port), method));
    }
    let before = rig.director.list(None, AsOf::Now, &rig.memory()).unwrap();
    let of = |key| before.iter().find(|view| view.key == key).unwrap();
    assert_eq!(of(service(80)).settings, full);
    assert_eq!(of(service6(80)).settings, prefix);
    for view in &before {
        let listed = view.servers.iter().rev().map(|s| s.settings.method);
        assert!(listed.eq(methods), "{view:?}");
    }
    rig.restart();
    assert_eq!(rig.director.repairs(), 0);
    assert_eq!(
        rig.director.list(None, AsOf::Now, &rig.memory()).unwrap(),
        before
    );
}

#[test]
fn what_a_server_is_found_by_follows_its_method() {
    const NARROW: u32 = endpoint_kind::SERVER;
    const WIDE: u32 = endpoint_kind::WIDE_SERVER;
    let tunnel = ForwardMethod::Tunnel(Tunnel::Ipip);
    let mut rig = Rig::new();
    let (key, target) = (service(80), server(8080));
    rig.apply(add(key, "wlc"));
    rig.apply(add_by(key, target, tunnel));
    let methods = [
        (ForwardMethod::Masq, Some(NARROW), 0),
        (
            ForwardMethod::FullNat,
            Some(WIDE),
            features::FULL_NAT | features::WIDE_SERVERS,
        ),
        (ForwardMethod::Route, None, 0),
        (
            ForwardMethod::FullNat,
            Some(WIDE),
            features::FULL_NAT | features::WIDE_SERVERS,
        ),
        (tunnel, None, features::TUNNELS),
    ];
    for (method, kind, features) in methods {
        rig.apply(Edit::EditServer {
            service: key,
            server: target,
            settings: ServerSettings::new(method, 1),
        });
        for other in [NARROW, WIDE] {
            let found = rig.find(at(&target, 8080, Protocol::Tcp, other));
            assert_eq!(found.is_some(), Some(other) == kind, "{method:?}");
        }
        assert_eq!(features_of(&rig), features, "{method:?}");
    }
    rig.restart();
    assert_eq!(rig.director.repairs(), 0);
}

#[test]
fn servers_without_a_port_of_their_own_answer_from_any() {
    const WIDE: u32 = endpoint_kind::WIDE_SERVER;
    let mut rig = Rig::new();
    let (by_mark, any_port) = (
        mark(1, Family::V4),
        ServiceKey::at(Protocol::Udp, [10, 0, 0, 1], 0),
    );
    rig.apply(add(by_mark, "rr"));
    rig.apply(add_by(by_mark, server(0), ForwardMethod::Masq));
    rig.apply(add_by(by_mark, server(25), ForwardMethod::Masq));
    // Of each protocol, since a mark has packets of all.
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        for port in [0, 25] {
            assert!(rig.find(at(&server(0), port, protocol, WIDE)).is_some());
        }
    }
    let there = features::MARKS | features::FOREIGN_MARKS | features::WIDE_SERVERS;
    assert_eq!(features_of(&rig), there);
    let record = &rig.memory().servers[server_index(&rig, &by_mark, &server(0))];
    assert_eq!(record.ports.get(), 0);
    rig.apply(Edit::DeleteService { service: by_mark });
    rig.pass(TRASH_MS);
    rig.pass(GRACE_MS);
    assert_eq!((rig.endpoint_count(), features_of(&rig)), (0, 0));

    add_persistent(&mut rig, any_port);
    rig.apply(add_by(any_port, server(0), ForwardMethod::Masq));
    assert!(rig.find(at(&server(0), 0, Protocol::Udp, WIDE)).is_some());
    assert!(rig.find(at(&server(0), 0, Protocol::Tcp, WIDE)).is_none());
    assert_eq!(
        features_of(&rig),
        features::ANY_PORT | features::WIDE_SERVERS
    );
}

#[test]
fn features_are_there_as_long_as_a_server_is_not_forgotten() {
    let (mut rig, key) = Rig::new().serving("rr", &[]);
    rig.apply(add_by(key, server(1), ForwardMethod::FullNat));
    let full_nat = features::FULL_NAT | features::WIDE_SERVERS;
    let index = server_index(&rig, &key, &server(1));
    rig.memory().loads[index].persistent.set(1);
    rig.apply(delete_server(key, server(1)));
    rig.pass(TRASH_MS);
    assert_eq!(features_of(&rig), full_nat);
    rig.restart();
    assert_eq!(features_of(&rig), full_nat);
    rig.memory().loads[index].persistent.set(0);
    rig.pass(TRASH_MS);
    assert_eq!(features_of(&rig), 0);
}

#[test]
fn records_tell_packets_all_they_need() {
    let mut rig = Rig::new();
    let (key, target) = (service(80), server6(0));
    rig.apply(add(key, "wlc"));
    rig.apply(Edit::AddServer {
        service: key,
        server: target,
        settings: ServerSettings {
            upper_threshold: 100,
            lower_threshold: 50,
            ..ServerSettings::new(
                ForwardMethod::Tunnel(Tunnel::Gue {
                    port: 6080,
                    checksum: TunnelChecksum::Full,
                }),
                5,
            )
        },
    });
    let record = &rig.memory().servers[server_index(&rig, &key, &target)];
    let flags = record.flags.get();
    let expected = server_flags::IPV6 | server_flags::WEIGHTED | server_flags::ALIVE;
    assert_eq!(flags & expected, expected);
    assert_eq!(
        flags >> server_flags::METHOD_SHIFT & server_flags::METHOD,
        method::TUNNEL
    );
    let port = u32::from(6080_u16.to_be());
    let word = tunnel::GUE | tunnel::CHECKSUM | port << tunnel::PORT_SHIFT;
    assert_eq!(record.tunnel.get(), word);
    let virtual_address = u32::from_ne_bytes([10, 0, 0, 10]);
    assert_eq!(record.address.get(), 0);
    assert_eq!(record.virtual_address.get(), virtual_address);
    assert_eq!(
        read_words(&record.wide_virtual_address),
        mapped(virtual_address)
    );
    let words = [0x2001_0db8_u32, 0, 0, 0x0001_0001].map(u32::to_be);
    assert_eq!(read_words(&record.wide_address), words);
    let port = u32::from(80_u16.to_be());
    assert_eq!(record.ports.get(), port | port << 16);
    assert_eq!(
        (record.upper_threshold.get(), record.lower_threshold.get()),
        (100, 50)
    );
}

#[test]
fn thresholds_end_overload_as_the_kernel_does() {
    let (mut rig, key) = Rig::new().serving("wlc", &[1]);
    let set = |upper_threshold, lower_threshold| Edit::EditServer {
        service: key,
        server: server(1),
        settings: ServerSettings {
            upper_threshold,
            lower_threshold,
            ..ServerSettings::new(ForwardMethod::Masq, 1)
        },
    };
    assert_eq!(rig.attempt(set(0, 1)), Err(EditError::OutOfRange));
    assert_eq!(rig.attempt(set(1, 2)), Err(EditError::OutOfRange));
    rig.apply(set(10, 0));
    for (upper, stays) in [(10, true), (9, true), (10, false), (11, false), (0, false)] {
        rig.memory().loads[0].overloaded.set(1);
        rig.apply(set(upper, 0));
        let overloaded = rig.memory().loads[0].overloaded.get();
        assert_eq!(overloaded == 1, stays, "{upper}");
    }
}

#[test]
fn ways_into_tunnels_have_less_room() {
    let gue = |checksum| Tunnel::Gue { port: 1, checksum };
    let gre = |checksum| Tunnel::Gre { checksum };
    let mut rig = Rig::new();
    let (key, key6) = (service(80), service6(80));
    rig.apply(add(key, "rr"));
    rig.apply(add(key6, "rr"));
    let source: IpAddr = [192, 168, 1, 254].into();
    for address in [server(1).address, server6(1).address] {
        rig.reach(address, Some(source));
    }
    for (method, less) in [
        (ForwardMethod::Route, 0),
        (ForwardMethod::Tunnel(Tunnel::Ipip), 0),
        (ForwardMethod::Tunnel(gue(TunnelChecksum::None)), 12),
        (ForwardMethod::Tunnel(gue(TunnelChecksum::Full)), 12),
        (ForwardMethod::Tunnel(gue(TunnelChecksum::Remote)), 12),
        (ForwardMethod::Tunnel(gre(TunnelChecksum::None)), 4),
        (ForwardMethod::Tunnel(gre(TunnelChecksum::Full)), 8),
        (ForwardMethod::Tunnel(gre(TunnelChecksum::Remote)), 4),
        (ForwardMethod::Masq, 0),
    ] {
        let outer = matches!(method, ForwardMethod::Tunnel(_));
        for (key, server, header) in [(key, server(1), 20), (key6, server6(1), 40)] {
            let settings = ServerSettings::new(method, 1);
            let edit = Edit::EditServer {
                service: key,
                server,
                settings,
            };
            if rig.attempt(edit).is_err() {
                rig.apply(add_by(key, server, method));
            }
            let record = &rig.memory().servers[server_index(&rig, &key, &server)];
            let flags = record.flags.get();
            assert_ne!(flags & server_flags::HOP_READY, 0);
            let room = record.mtu.get() >> (16 * (flags & server_flags::HOP)) & 0xffff;
            let header = if outer { header } else { 0 };
            assert_eq!(room, 1500 - header - less, "{method:?}");
            let source = u32::from_ne_bytes([192, 168, 1, 254]);
            assert_eq!(read_words(&record.source), mapped(source));
        }
    }
}

#[test]
fn a_local_server_needs_no_hop() {
    let (mut rig, key) = Rig::new().serving("rr", &[1]);
    let flags = |rig: &Rig, index: usize| {
        rig.memory().servers[index].flags.get() & (server_flags::LOCAL | server_flags::HOP_READY)
    };
    let set = |rig: &mut Rig, reach| {
        rig.director.set_hop(server(1).address, reach);
        rig.director.write_all(&rig.tables.memory());
    };
    set(&mut rig, Some(Reach::Local));
    assert_eq!(flags(&rig, 0), server_flags::LOCAL);
    assert_eq!(rig.director.servers_without_hop(), 0);
    rig.apply(add_server(key, server(2), 1));
    assert_eq!(flags(&rig, 1), server_flags::LOCAL);
    rig.restart();
    assert_eq!(rig.director.repairs(), 0);
    assert_eq!(flags(&rig, 0), server_flags::LOCAL);
    set(&mut rig, None);
    assert_eq!((flags(&rig, 0), flags(&rig, 1)), (0, 0));
}
