//! What command lines ask of the director, and that saved rules ask for the table
//! that they were saved from.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_config::ipvsadm::{
    Columns, Command, Layout, List, Listed, NoNames, parse, save, words_of_line,
};
use evenkeel_core::model::{
    Edit, Family, ForwardMethod, Netmask, Persistence, Protocol, Rates, Scheduler, SchedulerFlags,
    ServerKey, ServerSettings, ServerView, ServiceKey, ServiceSettings, ServiceView, Stats, Tunnel,
    TunnelChecksum,
};
use proptest::prelude::*;

fn command(line: &str) -> Command {
    let words: Vec<&str> = line.split_whitespace().collect();
    parse(&words, &NoNames).unwrap_or_else(|usage| panic!("{line}: {}", usage.message))
}

fn edit(line: &str) -> Edit {
    match command(line) {
        Command::Edit(edit) => edit,
        other => panic!("{line}: {other:?}"),
    }
}

const fn mark(mark: u32, family: Family) -> ServiceKey {
    ServiceKey::Mark { mark, family }
}

#[test]
fn services_with_all_that_they_can_have() {
    let settings = |line: &str| match edit(line) {
        Edit::AddService { service, settings } | Edit::EditService { service, settings } => {
            (service, settings)
        }
        other => panic!("{line}: {other:?}"),
    };
    let (service, plain) = settings("-A -t 10.0.0.1:80");
    assert_eq!(
        service,
        ServiceKey::at(Protocol::Tcp, [10, 0, 0, 1], 80),
        "{service}"
    );
    assert_eq!(plain, ServiceSettings::scheduled_by("wlc"));
    let (service, sip) = settings("-E -u [fd00::1]:5060 -s mh -p -M 64 -o --pe sip -b mh-port");
    assert_eq!(service.to_string(), "UDP [fd00::1]:5060");
    assert_eq!(
        sip,
        ServiceSettings {
            scheduler: "mh".into(),
            flags: SchedulerFlags {
                port: true,
                ..SchedulerFlags::default()
            },
            persistence: Some(Persistence {
                timeout_s: 360,
                netmask: Netmask::V6(64),
            }),
            one_packet: true,
            engine: Some("sip".into()),
            compatible: None,
            mss_clamp: None,
        }
    );
    let (service, masked) = settings("-A -f 4294967295 -p 5 -M 255.0.255.0");
    assert_eq!(service, mark(u32::MAX, Family::V4));
    let netmask = Netmask::V4(Ipv4Addr::new(255, 0, 255, 0));
    let timeout_s = 5;
    assert_eq!(masked.persistence, Some(Persistence { timeout_s, netmask }));
    let (service, host) = settings("-A -f 1 -6 -p 5");
    assert_eq!(service, mark(1, Family::V6));
    assert_eq!(
        host.persistence.map(|p| p.netmask),
        Some(Netmask::V6(128)),
        "a client for itself"
    );
    // A mask alone says nothing.
    let (_, unmasked) = settings("-A --sctp-service 10.0.0.1:80 -M 255.0.0.0");
    assert_eq!(unmasked.persistence, None);
}

#[test]
fn servers_with_all_that_they_can_have() {
    let server = |line: &str| match edit(line) {
        Edit::AddServer {
            server, settings, ..
        }
        | Edit::EditServer {
            server, settings, ..
        } => (server.port, settings),
        other => panic!("{line}: {other:?}"),
    };
    for (options, port, method) in [
        ("", 80, ForwardMethod::Route),
        ("-m", 8080, ForwardMethod::Masq),
        ("--full-nat", 8080, ForwardMethod::FullNat),
        ("-i", 80, ForwardMethod::Tunnel(Tunnel::Ipip)),
        (
            "-i --tun-type gue --tun-port 6080 --tun-remcsum",
            80,
            ForwardMethod::Tunnel(Tunnel::Gue {
                port: 6080,
                checksum: TunnelChecksum::Remote,
            }),
        ),
        (
            "-i --tun-type gre --tun-csum",
            80,
            ForwardMethod::Tunnel(Tunnel::Gre {
                checksum: TunnelChecksum::Full,
            }),
        ),
    ] {
        let line = format!("-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -w 7 -x 9 -y 4 {options}");
        let settings = ServerSettings {
            upper_threshold: 9,
            lower_threshold: 4,
            ..ServerSettings::new(method, 7)
        };
        assert_eq!(server(&line), (port, settings), "{line}");
    }
    // A mark has no port that direct routing could ask for.
    assert_eq!(server("-e -f 1 -r 10.0.0.2:8080 -g").0, 8080);
    assert_eq!(server("-e -f 1 -r 10.0.0.2").0, 0);
    let twice = ["-a", "-f", "1", "-r", "10.0.0.2", "-m", "--full-nat"];
    let usage = parse(&twice, &NoNames).expect_err("one method too many");
    assert_eq!(
        usage.message,
        "multiple 'forwarding-method' options specified"
    );
}

#[test]
fn listings() {
    let list = |line: &str| match command(line) {
        Command::List(list) => list,
        other => panic!("{line}: {other:?}"),
    };
    let plain = List::default();
    assert_eq!(list("-L --sort"), plain);
    assert_eq!(
        list("-L -f 3 -6 --tun-info --stats -X").what,
        Listed::Service(mark(3, Family::V6))
    );
    let layout = |columns, exact| Layout {
        columns,
        exact,
        ..Layout::default()
    };
    // The first of them counts, wherever it stands.
    assert_eq!(
        list("-L --tun-info --stats -X --rate").layout,
        layout(Columns::Stats, true)
    );
    assert_eq!(
        list("-L --tun-info --thresholds").layout,
        layout(Columns::Thresholds, false)
    );
    let connections = list("-Lcn --persistent-conn");
    assert_eq!(connections.what, Listed::Connections);
    assert_eq!(connections.layout.columns, Columns::Persistence);
    assert!(connections.layout.numeric);
    assert_eq!(list("-L --daemon --syncid 3").what, Listed::Daemons);
}

fn address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => any::<u32>()
            .prop_map(|bits| Ipv4Addr::from_bits(bits).into())
            .boxed(),
        Family::V6 => prop_oneof![any::<u128>(), any::<u32>().prop_map(u128::from)]
            .prop_map(|bits| Ipv6Addr::from_bits(bits).into())
            .boxed(),
    }
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(vec![Family::V4, Family::V6])
}

fn method() -> impl Strategy<Value = ForwardMethod> {
    let checksum = prop::sample::select(vec![TunnelChecksum::None, TunnelChecksum::Full]);
    let any_checksum = prop::sample::select(vec![TunnelChecksum::Full, TunnelChecksum::Remote]);
    prop_oneof![
        Just(ForwardMethod::Masq),
        Just(ForwardMethod::Route),
        Just(ForwardMethod::FullNat),
        Just(ForwardMethod::Tunnel(Tunnel::Ipip)),
        checksum.prop_map(|checksum| ForwardMethod::Tunnel(Tunnel::Gre { checksum })),
        (1_u16.., any_checksum)
            .prop_map(|(port, checksum)| ForwardMethod::Tunnel(Tunnel::Gue { port, checksum })),
    ]
}

fn key(family: Family) -> impl Strategy<Value = ServiceKey> {
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    prop_oneof![
        (protocol, address(family), any::<u16>())
            .prop_map(|(protocol, address, port)| ServiceKey::at(protocol, address, port)),
        // Larger ones are written with a sign, which ipvsadm does not read.
        (1..=i32::MAX as u32).prop_map(move |mark| ServiceKey::Mark { mark, family }),
    ]
}

fn settings(key: ServiceKey) -> impl Strategy<Value = ServiceSettings> {
    let family = key.family();
    let netmask = match family {
        Family::V4 => any::<u32>()
            .prop_map(|bits| Netmask::V4(Ipv4Addr::from_bits(bits)))
            .boxed(),
        Family::V6 => (1_u8..=128).prop_map(Netmask::V6).boxed(),
    };
    let netmask = prop_oneof![Just(Netmask::host(family)), netmask];
    let persistence = (1_u32..=2_678_400, netmask)
        .prop_map(|(timeout_s, netmask)| Persistence { timeout_s, netmask });
    let udp = !matches!(key, ServiceKey::Address { protocol, .. } if protocol != Protocol::Udp);
    let needed = matches!(key, ServiceKey::Address { port: 0, .. });
    let flags = any::<(bool, bool, bool)>().prop_map(|(fallback, port, third)| SchedulerFlags {
        fallback,
        port,
        third,
    });
    (
        prop::sample::select(Scheduler::ALL.to_vec()),
        flags,
        prop::option::of(persistence),
        any::<bool>(),
        prop::option::of(Just("sip")),
    )
        .prop_filter("a port of 0 needs persistence", move |(_, _, p, ..)| {
            !needed || p.is_some()
        })
        .prop_map(move |(scheduler, mut flags, persistence, ops, engine)| {
            // ipvsadm has no name for the third flag of these two.
            flags.third &= !matches!(scheduler, Scheduler::Sh | Scheduler::Mh);
            ServiceSettings {
                scheduler: scheduler.name().into(),
                flags,
                persistence,
                one_packet: ops && udp,
                engine: engine.map(Into::into),
                compatible: None,
                mss_clamp: None,
            }
        })
}

fn server(service: ServiceKey) -> impl Strategy<Value = ServerView> {
    let family = service.family();
    (
        address(family),
        address(Family::V6),
        any::<u16>(),
        method(),
        0..=i32::MAX as u32,
    )
        .prop_map(move |(own, other, port, method, weight)| {
            let tunnel = matches!(method, ForwardMethod::Tunnel(_));
            let keeps_port = tunnel || method == ForwardMethod::Route;
            let port = match service {
                ServiceKey::Address { port, .. } if keeps_port => port,
                _ => port,
            };
            ServerView {
                key: ServerKey {
                    address: if tunnel { other } else { own },
                    port,
                },
                settings: ServerSettings::new(method, weight),
                active: 0,
                inactive: 0,
                persistent: 0,
                stats: Stats::default(),
                rates: Rates::default(),
            }
        })
}

fn service() -> impl Strategy<Value = ServiceView> {
    family()
        .prop_flat_map(key)
        .prop_flat_map(|key| {
            let servers = prop::collection::vec(server(key), 0..4);
            (Just(key), settings(key), servers)
        })
        .prop_map(|(key, settings, servers)| ServiceView {
            key,
            settings,
            compatible: true,
            configured: false,
            stats: Stats::default(),
            rates: Rates::default(),
            servers,
        })
}

proptest! {
    #[test]
    fn saved_rules_make_the_table(service in service()) {
        let text = save(std::slice::from_ref(&service), true, &NoNames);
        let mut servers = service.servers.clone();
        for (line, text) in text.lines().enumerate() {
            let command = parse(&words_of_line(text), &NoNames);
            let command = command.map_err(|usage| TestCaseError::fail(usage.message))?;
            match command {
                Command::Edit(Edit::AddService { service: key, settings }) => {
                    prop_assert_eq!((line, key), (0, service.key));
                    prop_assert_eq!(&settings, &service.settings);
                }
                Command::Edit(Edit::AddServer { service: key, server, settings }) => {
                    prop_assert_eq!(key, service.key);
                    let place = servers
                        .iter()
                        .position(|view| view.key == server && view.settings == settings);
                    prop_assert!(place.is_some(), "{}", text);
                    servers.remove(place.unwrap_or(0));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert!(servers.is_empty(), "{} are not saved", servers.len());
    }
}
