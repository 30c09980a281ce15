//! Random configurations: whatever the file can say.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use evenkeel_core::model::{
    Alerts, Check, Connect, DatabaseProbe, DnsRecord, Ends, HeaderDemand, HttpProbe, HttpVersion,
    JsonDemand, LdapProbe, Mail, Notify, Page, PageRegex, Pipe, Probe, Quorum, Script, Secret,
    Sorry, SysctlKind, Timing, Tls, UdpProbe, UdpReply, User, VirtualServer,
};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::sample::select;

use super::*;

/// A text without control characters, not empty.
fn line() -> impl Strategy<Value = String> {
    "[ -~äß→🐟]{1,10}"
}

/// Any text without NUL, not empty.
fn text() -> impl Strategy<Value = String> {
    "[ -~ä\n\t\r\u{1b}\u{7f}\"'\\\\]{1,10}"
}

fn family() -> impl Strategy<Value = Family> {
    select(vec![Family::V4, Family::V6])
}

/// One of few addresses, so that some are equal.
fn address(family: Family) -> impl Strategy<Value = IpAddr> {
    (1_u8..30).prop_map(move |host| match family {
        Family::V4 => [10, 0, 0, host].into(),
        Family::V6 => format!("fd00::{host}").parse().unwrap(),
    })
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    family().prop_flat_map(address)
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (1_u64..u64::from(u32::MAX)).prop_map(Duration::from_secs),
        (1_u64..10_000_000).prop_map(Duration::from_micros),
        Just(Duration::from_secs(3)),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
}

fn range(most: u16) -> impl Strategy<Value = RangeInclusive<u16>> {
    (1..=most, 1..=most).prop_map(|(a, b)| a.min(b)..=a.max(b))
}

fn user() -> impl Strategy<Value = User> {
    (line(), of(line())).prop_map(|(name, group)| User { name, group })
}

fn script() -> BoxedStrategy<Script> {
    (vec(text(), 1..4), of(user()))
        .prop_map(|(command, user)| Script { command, user })
        .boxed()
}

fn notify() -> impl Strategy<Value = Notify> {
    (of(script()), of(script())).prop_map(|(up, down)| Notify { up, down })
}

fn secret() -> impl Strategy<Value = Secret> {
    text().prop_map(Secret)
}

fn interface() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9.\"\\\\]{0,10}"
}

fn connect() -> BoxedStrategy<Connect> {
    (
        any_address(),
        prop_oneof![Just(80), 1..=u16::MAX],
        of(any_address()),
        prop_oneof![Just(0), any::<u16>()],
        of(interface()),
        prop_oneof![Just(0), any::<u32>()],
        time(),
    )
        .prop_map(
            |(address, port, from, from_port, interface, mark, timeout)| Connect {
                to: SocketAddr::new(address, port),
                from,
                from_port,
                interface,
                mark,
                timeout,
            },
        )
        .boxed()
}

fn tls() -> BoxedStrategy<Tls> {
    (of(line()), of(text()), of(text()), of(text()), of(secret()))
        .prop_map(|(sni, authorities, certificate, key, password)| Tls {
            sni,
            authorities,
            certificate,
            key,
            password,
        })
        .boxed()
}

fn regex() -> impl Strategy<Value = PageRegex> {
    let option = select(vec!["caseless".to_owned(), "dotall".into()]);
    let pattern = prop_oneof!["[a-z ä\n\"']{1,9}", Just(r"^\d+\s\x20$".to_owned()),];
    (
        pattern,
        vec(option, 0..3),
        any::<bool>(),
        0_u16..9,
        0_u16..9,
    )
        .prop_map(
            |(pattern, options, absent, min_offset, max_offset)| PageRegex {
                pattern,
                options,
                absent,
                min_offset: min_offset.into(),
                max_offset: max_offset.into(),
            },
        )
}

fn page() -> BoxedStrategy<Page> {
    let statuses = vec(range(999), 0..3);
    let digest = of(any::<[u8; 16]>());
    let host = of(prop_oneof![
        line(),
        Just("www.example.org:81".into()),
        Just("10.0.0.1".into())
    ]);
    let header =
        ("[A-Za-z][A-Za-z-]{0,9}", of("[ -~]{0,12}")).prop_map(|(name, value)| HeaderDemand {
            name,
            value: value.map(|value| value.trim().to_owned()),
        });
    let json =
        ("(/[a-z=]{0,5}){0,3}", text()).prop_map(|(pointer, value)| JsonDemand { pointer, value });
    let demands = (vec(header, 0..3), vec(json, 0..3));
    (line(), host, statuses, digest, of(regex()), demands)
        .prop_map(
            |(path, host, statuses, digest, regex, (headers, json))| Page {
                headers,
                json,
                path,
                host,
                statuses,
                digest,
                regex,
            },
        )
        .boxed()
}

fn http() -> BoxedStrategy<Probe> {
    let version = select(vec![
        HttpVersion::V1_0,
        HttpVersion::V1_0Close,
        HttpVersion::V1_1,
    ]);
    (
        connect(),
        of(tls()),
        version,
        vec(page(), 1..4),
        any::<bool>(),
    )
        .prop_map(|(connect, tls, version, pages, fast_recovery)| {
            Probe::Http(HttpProbe {
                connect,
                tls,
                version,
                pages,
                fast_recovery,
            })
        })
        .boxed()
}

fn udp() -> BoxedStrategy<Probe> {
    let payload = prop_oneof![text().prop_map(String::into_bytes), vec(any::<u8>(), 0..9)];
    let byte = prop_oneof![
        any::<u8>().prop_map(|byte| (byte, 0xff)),
        Just((0x40, 0xf0)),
        any::<(u8, u8)>()
    ];
    let reply = (
        vec(byte, 0..5),
        0_u16..9,
        prop_oneof![Just(u16::MAX), 9_u16..99],
    );
    let reply = reply.prop_map(|(start, min_length, max_length)| UdpReply {
        start,
        min_length,
        max_length,
    });
    (connect(), of(payload), of(reply))
        .prop_map(|(connect, payload, reply)| {
            Probe::Udp(UdpProbe {
                connect,
                payload,
                reply,
            })
        })
        .boxed()
}

fn database() -> BoxedStrategy<DatabaseProbe> {
    (
        connect(),
        of(tls()),
        of(line()),
        of(secret()),
        of(line()),
        of(text()),
    )
        .prop_map(
            |(connect, tls, user, password, database, query)| DatabaseProbe {
                connect,
                tls,
                user,
                password,
                database,
                query,
            },
        )
        .boxed()
}

fn ldap() -> BoxedStrategy<Probe> {
    (
        connect(),
        of(tls()),
        of(line()),
        of(secret()),
        of(line()),
        of(line()),
    )
        .prop_map(|(connect, tls, bind, password, base, filter)| {
            Probe::Ldap(LdapProbe {
                connect,
                tls,
                bind,
                password,
                base,
                filter,
            })
        })
        .boxed()
}

fn probe() -> BoxedStrategy<Probe> {
    let record = select(DnsRecord::ALL).prop_map(|(record, ..)| record);
    let hosts = vec(connect(), 1..4);
    prop_oneof![
        connect().prop_map(Probe::Tcp),
        connect().prop_map(Probe::Ping),
        http(),
        (hosts, line()).prop_map(|(hosts, helo)| Probe::Smtp { hosts, helo }),
        (connect(), record, prop_oneof![Just(String::new()), line()]).prop_map(
            |(connect, record, name)| Probe::Dns {
                connect,
                record,
                name
            }
        ),
        (script(), time(), any::<bool>()).prop_map(|(script, timeout, dynamic)| {
            Probe::Script {
                script,
                timeout,
                dynamic,
            }
        }),
        udp(),
        (line(), line(), -3..3).prop_map(|(name, path, weight)| Probe::File { name, path, weight }),
        database().prop_map(Probe::Postgres),
        database().prop_map(Probe::Mysql),
        database().prop_map(Probe::Redis),
        ldap(),
        (connect(), of(tls()), line()).prop_map(|(connect, tls, service)| Probe::Grpc {
            connect,
            tls,
            service
        }),
    ]
    .boxed()
}

fn check() -> BoxedStrategy<Check> {
    let timing = (time(), of(time()), 0_u32..9, time());
    (
        probe(),
        timing,
        any::<bool>(),
        any::<bool>(),
        of(any::<i32>()),
    )
        .prop_map(
            |(probe, timing, starts_down, log_all_failures, weight)| Check {
                probe,
                timing: Timing {
                    interval: timing.0,
                    warmup: timing.1.unwrap_or_default(),
                    retries: timing.2,
                    retry_interval: timing.3,
                },
                starts_down,
                log_all_failures,
                weight,
            },
        )
        .boxed()
}

fn method() -> impl Strategy<Value = ForwardMethod> {
    let checksum = select(vec![
        TunnelChecksum::None,
        TunnelChecksum::Full,
        TunnelChecksum::Remote,
    ]);
    let gue = (1..=u16::MAX, checksum).prop_map(|(port, checksum)| Tunnel::Gue { port, checksum });
    let gre = select(vec![TunnelChecksum::None, TunnelChecksum::Full])
        .prop_map(|checksum| Tunnel::Gre { checksum });
    prop_oneof![
        Just(ForwardMethod::Masq),
        Just(ForwardMethod::FullNat),
        Just(ForwardMethod::Route),
        Just(ForwardMethod::Tunnel(Tunnel::Ipip)),
        gue.prop_map(ForwardMethod::Tunnel),
        gre.prop_map(ForwardMethod::Tunnel),
    ]
}

fn server_settings() -> impl Strategy<Value = ServerSettings> {
    let weight = prop_oneof![Just(1), 0_u32..=i32::MAX as u32];
    (method(), weight, 0_u32..9, 0_u32..9).prop_map(|(method, weight, upper, more)| {
        ServerSettings {
            method,
            weight,
            upper_threshold: upper + more,
            lower_threshold: upper,
        }
    })
}

/// Packets by some methods keep their port, unless the service has IPVS's ways.
fn keeps_port(method: ForwardMethod) -> bool {
    matches!(method, ForwardMethod::Route | ForwardMethod::Tunnel(_))
}

/// A server as the file can have it, whose services are of this family and have this port.
fn target(
    family: Family,
    port: u16,
    compatible: bool,
) -> BoxedStrategy<(ServerKey, ServerSettings)> {
    let ports = prop_oneof![Just(port), any::<u16>()];
    (address(family), any_address(), ports, server_settings())
        .prop_map(move |(near, far, own, settings)| {
            let is_tunnel = matches!(settings.method, ForwardMethod::Tunnel(_));
            let is_kept = keeps_port(settings.method) && !compatible;
            let key = ServerKey {
                address: if is_tunnel { far } else { near },
                port: if is_kept { port } else { own },
            };
            (key, settings)
        })
        .boxed()
}

fn server(family: Family, port: u16, compatible: bool) -> BoxedStrategy<RealServer> {
    (
        target(family, port, compatible),
        any::<bool>(),
        vec(check(), 0..3),
        notify(),
        any::<bool>(),
    )
        .prop_map(
            |((key, settings), inhibit, checks, notify, mail)| RealServer {
                key,
                settings,
                inhibit,
                checks,
                notify,
                mail,
            },
        )
        .boxed()
}

fn sorry(family: Family, port: u16, compatible: bool) -> BoxedStrategy<Sorry> {
    prop_oneof![
        "(/[ -~]{1,9})?".prop_map(|directory| Sorry::Builtin {
            directory: Some(directory).filter(|path| !path.is_empty()),
        }),
        (target(family, port, compatible), any::<bool>()).prop_map(|((key, settings), inhibit)| {
            Sorry::Server {
                key,
                settings,
                inhibit,
            }
        }),
    ]
    .boxed()
}

/// Endpoints of one family; `number` keeps those of several services apart.
fn ends(family: Family, number: u16) -> BoxedStrategy<Vec<Ends>> {
    let address_of = move |host: u16| -> IpAddr {
        match family {
            Family::V4 => [10, 1, number as u8, host as u8].into(),
            Family::V6 => format!("fd00:{number:x}::{host:x}").parse().unwrap(),
        }
    };
    let addresses = (protocol(), 0_u16..3, 0_u16..3).prop_map(move |(protocol, more, ports)| {
        let port = 1000 * more + 80;
        vec![Ends::Addresses {
            protocol,
            first: address_of(1),
            last: address_of(1 + more),
            ports: port..=port + ports,
        }]
    });
    let addresses = addresses.boxed();
    let mark = u32::from(number) + 1;
    prop_oneof![
        addresses.clone(),
        Just(vec![Ends::Mark { mark, family }]),
        addresses.prop_map(move |mut ends| {
            ends.push(Ends::Addresses {
                protocol: Protocol::Udp,
                first: address_of(100),
                last: address_of(100),
                ports: 80..=80,
            });
            ends.push(Ends::Mark { mark, family });
            ends
        }),
    ]
    .boxed()
}

fn settings(family: Family, is_udp: bool, any_port: bool) -> BoxedStrategy<ServiceSettings> {
    let netmask = match family {
        Family::V4 => any::<u32>()
            .prop_map(|bits| Netmask::V4(bits.into()))
            .boxed(),
        Family::V6 => (1_u8..=128).prop_map(Netmask::V6).boxed(),
    };
    let netmask = prop_oneof![Just(Netmask::host(family)), netmask];
    let persistence = (1_u32..=2_678_400, netmask, any::<bool>());
    let clamp = prop_oneof![
        Just(MssClamp::Off),
        Just(MssClamp::Way),
        (28_u16..=65_495).prop_map(MssClamp::Bytes),
    ];
    let flags = any::<(bool, bool, bool)>();
    let has_persistence = any::<bool>();
    (
        select(Scheduler::ALL),
        flags,
        (has_persistence, persistence),
        any::<bool>(),
        of(any::<bool>()),
        of(clamp),
    )
        .prop_map(
            move |(scheduler, flags, (persists, kept), one_packet, compatible, clamp)| {
                let persists = persists || any_port;
                ServiceSettings {
                    scheduler: scheduler.name().into(),
                    flags: SchedulerFlags {
                        fallback: flags.0,
                        port: flags.1,
                        third: flags.2,
                    },
                    persistence: persists.then_some(Persistence {
                        timeout_s: kept.0,
                        netmask: kept.1,
                    }),
                    one_packet: one_packet && is_udp,
                    engine: (persists && kept.2).then(|| "sip".into()),
                    compatible,
                    mss_clamp: clamp,
                }
            },
        )
        .boxed()
}

fn is_udp(ends: &[Ends]) -> bool {
    ends.iter().all(|ends| {
        matches!(
            ends,
            Ends::Mark { .. }
                | Ends::Addresses {
                    protocol: Protocol::Udp,
                    ..
                }
        )
    })
}

fn service(number: u16) -> BoxedStrategy<VirtualServer> {
    let front = family().prop_flat_map(move |family| (Just(family), ends(family, number)));
    let front = front.prop_flat_map(|(family, ends)| {
        let settings = settings(family, is_udp(&ends), false);
        (Just(family), Just(ends), settings)
    });
    front
        .prop_flat_map(|(family, ends, settings)| {
            let port = super::super::servers::usual_port(&ends);
            let compatible = settings.compatible == Some(true);
            let server = server(family, port, compatible);
            let shared = vec(check(), 0..3);
            (
                of(line()),
                Just(ends),
                Just(settings),
                (vec(server, 0..4), shared),
                (1_u32..9, 0_u32..9),
                of(sorry(family, port, compatible)),
                any::<(bool, bool, bool)>(),
                notify(),
            )
                .prop_map(
                    |(
                        group,
                        ends,
                        settings,
                        (mut servers, shared),
                        quorum,
                        sorry,
                        flags,
                        notify,
                    )| {
                        let mut seen = std::collections::HashSet::new();
                        servers.retain(|server| seen.insert(server.key));
                        for server in &mut servers {
                            server.checks.splice(0..0, shared.iter().cloned());
                        }
                        VirtualServer {
                            group,
                            ends,
                            settings,
                            servers,
                            quorum: Quorum {
                                weight: quorum.0,
                                hysteresis: quorum.1 % quorum.0,
                            },
                            sorry,
                            ha_suspend: flags.0,
                            omega: flags.1,
                            notify,
                            mail: flags.2,
                        }
                    },
                )
        })
        .boxed()
}

fn alerts() -> BoxedStrategy<Alerts> {
    let mail = (
        line(),
        1..=u16::MAX,
        time(),
        of(line()),
        of(line()),
        vec(line(), 1..4),
        any::<bool>(),
    )
        .prop_map(|(server, port, timeout, helo, from, to, quiet)| Mail {
            server,
            port,
            timeout,
            helo,
            from,
            to,
            quiet,
        });
    let pipe = (text(), of(user()), of(script()));
    let pipe = pipe.prop_map(|(path, user, reader)| Pipe { path, user, reader });
    (
        of(line()),
        of(mail),
        vec(pipe, 0..3),
        of(user()),
        any::<(bool, bool, bool)>(),
    )
        .prop_map(|(router_id, mail, pipes, script_user, flags)| Alerts {
            router_id,
            mail,
            pipes,
            script_user,
            script_security: flags.0,
            at_start: flags.1,
            servers_only: flags.2,
        })
        .boxed()
}

fn mark_rule() -> BoxedStrategy<MarkRule> {
    let prefixes = family().prop_flat_map(|family| {
        let prefix = address(family).prop_map(|address| Prefix {
            address,
            bits: if address.is_ipv4() { 32 } else { 128 },
        });
        let prefix = prefix.boxed();
        (of(prefix.clone()), of(prefix))
    });
    (
        1..=u32::MAX,
        of(protocol()),
        prefixes,
        btree_map(1..=u16::MAX, 0_u16..9, 0..4),
        interface(),
    )
        .prop_map(
            |(mark, protocol, (source, destination), ports, interface)| MarkRule {
                mark,
                protocol,
                source,
                destination,
                ports: (ports.into_iter())
                    .map(|(low, more)| low..=low.saturating_add(more))
                    .collect(),
                interface: Some(interface),
            },
        )
        .boxed()
}

fn sysctls() -> impl Strategy<Value = Vec<(Sysctl, SysctlValue)>> {
    let of_one = |sysctl: Sysctl| match sysctl.kind() {
        SysctlKind::Number(range) => range.prop_map(SysctlValue::Number).boxed(),
        SysctlKind::PowerOfTwo(_) => Just(SysctlValue::Number(4)).boxed(),
        SysctlKind::Threshold => Just(SysctlValue::Pair([2, 7])).boxed(),
    };
    let one = select(Sysctl::ALL).prop_flat_map(move |sysctl| (Just(sysctl), of_one(sysctl)));
    vec(one, 0..4).prop_map(|mut all| {
        all.sort_by_key(|(sysctl, _)| *sysctl);
        all.dedup_by_key(|(sysctl, _)| *sysctl);
        all
    })
}

fn dataplane() -> BoxedStrategy<Dataplane> {
    (
        10_u32..=24,
        10_u32..=24,
        1_u32..=1 << 16,
        1_u32..=1 << 20,
        64_u32..=1 << 24,
        select(vec![Hook::Auto, Hook::Xdp, Hook::Tc]),
        vec(interface(), 0..3),
    )
        .prop_map(
            |(connections, wide, services, servers, ring_words, hook, interfaces)| Dataplane {
                connections: 1 << connections,
                wide_connections: 1 << wide,
                services,
                servers,
                ring_words,
                hook,
                interfaces,
            },
        )
        .boxed()
}

fn start() -> impl Strategy<Value = Start> {
    let rules = prop_oneof![
        Just(IpvsadmRules::Auto),
        Just(IpvsadmRules::Never),
        "/[ -~]{1,9}".prop_map(|path| IpvsadmRules::File(path.into())),
    ];
    (rules, any::<bool>()).prop_map(|(ipvsadm_rules, flush)| Start {
        ipvsadm_rules,
        flush,
    })
}

fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
    vec(any_address(), 0..4).prop_map(|mut all| {
        all.sort();
        all.dedup();
        all
    })
}

/// What may stand in a file.
pub(super) fn config() -> BoxedStrategy<Config> {
    let services = (of(service(0)), of(service(1)));
    let services = services.prop_map(|(one, other)| one.into_iter().chain(other).collect());
    let nat = (addresses(), range(u16::MAX));
    let nat = nat.prop_map(|(addresses, ports)| SourceNat { addresses, ports });
    (
        (
            dataplane(),
            1_u32..9999,
            1_u32..9999,
            1_u32..9999,
            1_u32..99,
        ),
        start(),
        select(vec![Flush::Nothing, Flush::Configured, Flush::Everything]),
        alerts(),
        sysctls(),
        any::<(bool, bool)>(),
        (of(nat), addresses(), vec(mark_rule(), 0..3)),
        services,
    )
        .prop_map(
            |(
                (dataplane, tcp, tcp_fin, udp, udp_quiesced),
                start,
                flush,
                alerts,
                ipvs,
                compat,
                (source_nat, closed, marks),
                services,
            )| {
                let services: Vec<VirtualServer> = services;
                let nowhere = Place {
                    file: "".into(),
                    line: 0,
                    column: 0,
                };
                let placed = services.into_iter().map(|service| PlacedService {
                    servers: vec![nowhere.clone(); service.servers.len()],
                    service,
                    place: nowhere.clone(),
                });
                Config {
                    dataplane,
                    timeouts: Timeouts { tcp, tcp_fin, udp },
                    udp_quiesced,
                    start,
                    stop: Stop { flush },
                    alerts,
                    ipvs,
                    compat: Compat {
                        services: compat.0,
                        ipvsadm: compat.1,
                    },
                    source_nat,
                    closed,
                    marks,
                    services: placed.collect(),
                }
            },
        )
        .boxed()
}
