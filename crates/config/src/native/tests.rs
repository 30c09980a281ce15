//! The configuration file as its users write it.

use evenkeel_core::model::{
    Family, ForwardMethod, MssClamp, Netmask, Persistence, Prefix, Protocol, RealServer, Scheduler,
    SchedulerFlags, ServerKey, ServerSettings, ServiceKey, ServiceSettings, Tunnel, TunnelChecksum,
};
use proptest::prelude::*;

use super::*;

mod checks;
mod models;
mod writing;

fn mistakes(text: &str) -> Vec<String> {
    parse(text, "e.toml")
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn nothing_is_the_default() {
    assert_eq!(parse("", "e.toml"), Ok(Config::default()));
    assert_eq!(
        parse("# nothing\n[dataplane]\n", "e.toml"),
        Ok(Config::default())
    );
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [dataplane]
        connections = 1_000_000
        wide_connections = 5000
        services = 10
        servers = 0x20
        ring_words = 4096
        hook = "tc"
        interfaces = ["eth0", "vlan.7"]
        [timeouts]
        tcp = 60
        tcp_fin = 5
        udp = 7
        udp_quiesced = 8
        [start]
        ipvsadm_rules = "/etc/lvs.rules"
        flush = true
        [stop]
        flush = "configured"
        [compat]
        services = "ipvs"
        ipvsadm = "none"
        [source_nat]
        addresses = ["10.2.0.7", "fd02::7"]
        ports = "20000-20999"
        [closed]
        addresses = ["10.0.0.10"]
    "#;
    let config = parse(text, "e.toml").unwrap();
    let expected = Config {
        compat: Compat {
            services: true,
            ipvsadm: false,
        },
        source_nat: Some(SourceNat {
            addresses: vec!["10.2.0.7".parse().unwrap(), "fd02::7".parse().unwrap()],
            ports: 20_000..=20_999,
        }),
        ..Config::default()
    };
    let expected = Config {
        dataplane: Dataplane {
            connections: 1 << 20,
            wide_connections: 1 << 13,
            services: 10,
            servers: 32,
            ring_words: 4096,
            hook: Hook::Tc,
            interfaces: vec!["eth0".into(), "vlan.7".into()],
        },
        timeouts: Timeouts {
            tcp: 60,
            tcp_fin: 5,
            udp: 7,
        },
        udp_quiesced: 8,
        closed: vec![[10, 0, 0, 10].into()],
        start: Start {
            ipvsadm_rules: IpvsadmRules::File("/etc/lvs.rules".into()),
            flush: true,
        },
        stop: Stop {
            flush: Flush::Configured,
        },
        ..expected
    };
    assert_eq!(config, expected);
    for key in TABLES.iter().flat_map(|(_, keys)| *keys) {
        assert!(text.contains(&format!("{} =", key.name)), "{}", key.name);
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text = "conections = 5\n\
                [dataplane]\n\
                connections = 12\n\
                \x20 servrs = 5\n\
                hook = \"xpd\"\n\
                interfaces = [\"eth0\", \"a/b\", 7]\n\
                services = \"many\"\n\
                [timeout]\n\
                [timeouts]\n\
                tcp = -1\n\
                udp = 1.5\n\
                [start]\n\
                ipvsadm_rules = \"nevr\"\n";
    assert_eq!(
        mistakes(text),
        [
            "e.toml:1:1: unknown table conections; known are [dataplane], [timeouts], \
             [start], [stop], [compat], [source_nat], [closed], \
             [alerts], [ipvs], [[mark]], [[service]]",
            "e.toml:3:15: connections = 12: expected is a whole number from 1024 to 16777216",
            "e.toml:4:3: unknown key servrs; did you mean servers?",
            "e.toml:5:8: hook = \"xpd\": expected is \"auto\" or \"xdp\" or \"tc\"; \
             did you mean \"xdp\"?",
            "e.toml:6:23: interfaces = \"a/b\": expected is the name of an interface, \
             1 to 15 bytes without / and blanks",
            "e.toml:6:30: interfaces = 7: expected is the name of an interface, \
             1 to 15 bytes without / and blanks",
            "e.toml:7:12: services = \"many\": expected is a whole number from 1 to 65536",
            "e.toml:8:2: unknown table timeout; did you mean [timeouts]?",
            "e.toml:10:7: tcp = -1: expected is a whole number from 1 to 2678400",
            "e.toml:11:7: udp = 1.5: expected is a whole number from 1 to 2678400",
            "e.toml:13:17: ipvsadm_rules = \"nevr\": expected is \"auto\" or \"never\" or a \
             path that begins with /; did you mean \"never\"?",
        ]
    );
}

/// The keys of a part of the manual, each with what stands beside it first, and the rest.
fn rows(manual: &str, title: &str) -> Vec<(String, String, String)> {
    let start = manual.find(&format!("\n## {title}\n"));
    let start = start.unwrap_or_else(|| panic!("the manual has no part {title}"));
    let rest = &manual[start + 1..];
    let part = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
    let rows = part.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.strip_suffix('`')?;
        let first = cells.next()?.replace(',', "");
        Some((name.into(), first, cells.collect()))
    });
    rows.collect()
}

fn names<T>(keys: &[Key<T>]) -> Vec<(&'static str, Kind)> {
    keys.iter()
        .map(|key| (key.name, key.kind.clone()))
        .collect()
}

#[test]
fn the_manual_has_every_key_with_its_range() {
    let manual = include_str!("../../../../docs/configuration.md");
    let mut parts: Vec<(String, Vec<(&str, Kind)>)> = TABLES
        .iter()
        .map(|(table, keys)| (format!("`[{table}]`"), names(keys)))
        .collect();
    parts.push(("`[[service]]`".into(), names(SERVICE_KEYS)));
    parts.push(("`[[service.server]]`".into(), names(SERVER_KEYS)));
    parts.push(("`[[mark]]`".into(), names(MARK_KEYS)));
    parts.push(("`[alerts]`".into(), names(ALERTS_KEYS)));
    parts.push(("`[alerts.mail]`".into(), names(MAIL_KEYS)));
    parts.push(("`[[alerts.pipe]]`".into(), names(PIPE_KEYS)));
    parts.push(("Scripts".into(), names(SCRIPT_KEYS)));
    parts.push(("`sorry_server`".into(), names(SORRY_KEYS)));
    let all = [names(CHECK_KEYS), names(RUN_KEYS), names(CONNECT_KEYS)];
    parts.push(("`[[service.server.check]]`".into(), all.concat()));
    let own = [names(PAGE_KEYS), names(PROBE_KEYS)].concat();
    parts.push(("Keys of single types of checks".into(), own));
    parts.push(("TLS of checks".into(), names(TLS_KEYS)));
    for (title, keys) in parts {
        let rows = rows(manual, &title);
        let documented: Vec<&str> = rows.iter().map(|(name, ..)| name.as_str()).collect();
        let known: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
        assert_eq!(documented, known, "{title}");
        for ((name, takes, _), (_, kind)) in rows.iter().zip(keys) {
            match kind {
                // What all of a table take may stand above it.
                Kind::Number(range) | Kind::FlagOrNumber(range) if title != "`[timeouts]`" => {
                    let text = format!("{} to {}", range.start(), range.end());
                    assert!(takes.contains(&text), "{title} {name}: {takes}");
                }
                Kind::Word(words) | Kind::Words(words) | Kind::WordOrPath(words) => {
                    let all = words
                        .iter()
                        .all(|word| takes.contains(&format!("`\"{word}\"`")));
                    assert!(all, "{title} {name}: {takes}");
                }
                _ => {}
            }
        }
    }
    let settings = rows(manual, "`[ipvs]`");
    let documented: Vec<&str> = settings.iter().map(|(name, ..)| name.as_str()).collect();
    let known: Vec<&str> = Sysctl::ALL.iter().map(|sysctl| sysctl.name()).collect();
    assert_eq!(documented, known);
    for ((name, default, rest), &sysctl) in settings.iter().zip(Sysctl::ALL) {
        assert_eq!(*default, sysctl.default().to_string(), "{name}");
        let why = rest.split_once("*No effect*: ").map(|(_, why)| why);
        let why = why.map(|why| why.trim_end_matches(" |"));
        assert_eq!(why, sysctl.without_effect(), "{name}");
    }
}

#[test]
fn the_manuals_examples_are_right() {
    let manual = include_str!("../../../../docs/configuration.md");
    let examples: Vec<&str> = manual
        .split("```")
        .filter_map(|block| block.strip_prefix("toml"))
        .collect();
    assert!(examples.len() >= 5);
    let mut expected = Config::default();
    expected.dataplane.interfaces = vec!["eth0".into(), "eth1".into()];
    assert_eq!(parse(examples[0], "manual"), Ok(expected));
    for example in examples {
        let config = parse(example, "manual");
        assert!(config.is_ok(), "{example}{:?}", config.unwrap_err());
    }
}

#[test]
fn what_is_no_toml_has_a_place_too() {
    let found = mistakes("[dataplane]\nhook = \n");
    assert!(found[0].starts_with("e.toml:2:"), "{found:?}");
    assert!(found[0].contains("this is no TOML"), "{found:?}");
    assert!(!mistakes("dataplane = 3\n").is_empty());
    assert!(!mistakes("[dataplane]\nhook = \"tc\"\nhook = \"xdp\"\n").is_empty());
}

fn one_service(text: &str) -> PlacedService {
    let mut services = parse(text, "e.toml").unwrap().services;
    assert_eq!(services.len(), 1);
    services.remove(0)
}

#[test]
fn every_key_of_a_service_is_read() {
    let text = r#"
        [[service]]
        address = "10.0.0.10"
        port = 443
        protocol = "tcp"
        scheduler = "mh"
        scheduler_flags = ["mh-port", "mh-fallback"]
        persistence = 300
        netmask = "255.255.255.0"
        one_packet = false
        persistence_engine = "sip"
        compat = "ipvs"
        mss_clamp = 1400

        [[service.server]]
        address = "192.168.1.1"
        port = 8443
        method = "full-nat"
        weight = 5
        upper_threshold = 100
        lower_threshold = 50

        [[service.server]]
        address = "fd00::1"
        method = "gue"
        tunnel_port = 6080
        tunnel_checksum = "remote"
    "#;
    let PlacedService {
        service,
        place,
        servers,
    } = one_service(text);
    assert_eq!((place.line, place.column), (3, 19));
    let key = ServiceKey::at(Protocol::Tcp, [10, 0, 0, 10], 443);
    assert_eq!(service.keys().collect::<Vec<_>>(), [key]);
    let settings = ServiceSettings {
        flags: SchedulerFlags {
            fallback: true,
            port: true,
            third: false,
        },
        persistence: Some(Persistence {
            timeout_s: 300,
            netmask: Netmask::V4([255, 255, 255, 0].into()),
        }),
        engine: Some("sip".into()),
        compatible: Some(true),
        mss_clamp: Some(MssClamp::Bytes(1400)),
        ..ServiceSettings::scheduled_by("mh")
    };
    assert_eq!(service.settings, settings);
    let places: Vec<usize> = servers.iter().map(|place| place.line).collect();
    assert_eq!(places, [16, 24]);
    let at = |address: &str, port| ServerKey {
        address: address.parse().unwrap(),
        port,
    };
    let gue = ForwardMethod::Tunnel(Tunnel::Gue {
        port: 6080,
        checksum: TunnelChecksum::Remote,
    });
    let first = ServerSettings {
        upper_threshold: 100,
        lower_threshold: 50,
        ..ServerSettings::new(ForwardMethod::FullNat, 5)
    };
    let told = |key, settings| RealServer {
        mail: true,
        ..RealServer::unwatched(key, settings)
    };
    let expected = [
        told(at("192.168.1.1", 8443), first),
        told(at("fd00::1", 443), ServerSettings::new(gue, 1)),
    ];
    assert_eq!(service.servers, expected);
}

#[test]
fn services_of_marks_and_of_defaults() {
    let mark = one_service(
        "[[service]]\nmark = 7\nfamily = \"v6\"\nserver = [{ address = \"fd00::1\" }]\n",
    );
    let key = ServiceKey::Mark {
        mark: 7,
        family: Family::V6,
    };
    assert_eq!(mark.service.keys().collect::<Vec<_>>(), [key]);
    let server = &mark.service.servers[0];
    assert_eq!(server.key.port, 0);
    assert_eq!(server.settings, ServerSettings::new(ForwardMethod::Masq, 1));
    assert_eq!(mark.service.settings.scheduler, "wlc");
    assert_eq!(mark.service.settings.compatible, Some(false));
    let with_netmask = |netmask: &str, address: &str| {
        let text = format!(
            "[compat]\nservices = \"ipvs\"\n[[service]]\naddress = \"{address}\"\nport = 0\n\
             persistence = 60\nnetmask = {netmask}\n"
        );
        let settings = one_service(&text).service.settings;
        assert_eq!(settings.compatible, Some(true));
        settings.persistence.unwrap().netmask
    };
    let v4 = Netmask::V4([255, 255, 0, 0].into());
    assert_eq!(with_netmask("16", "10.0.0.1"), v4);
    assert_eq!(with_netmask("64", "fd00::1"), Netmask::V6(64));
}

#[test]
fn every_mistake_in_services_is_told() {
    let text = r#"[[service]]
port = 80
family = "v6"
[[service]]
address = "10.0.0.1"
[[service]]
address = "10.0.0.1"
port = 0
netmask = 24
[[service]]
address = "224.0.0.1"
port = 65536
[[service]]
mark = 1
protocol = "tcp"
scheduler = "wlcc"
scheduler_flags = ["sh-port", "mhport"]
[[service]]
mark = 1
one_packet = 1
[[service]]
address = "fd00::1"
port = 80
one_packet = true
scheduler_flags = ["sh-port"]
persistence = 10
netmask = "255.255.255.0"
[[service.server]]
address = "10.0.0.1"
[[service.server]]
address = "fd00::2"
method = "route"
port = 81
tunnel_port = 5
upper_threshold = 1
lower_threshold = 2
[[service.server]]
method = "gue"
[[service.server]]
address = "fd00::3"
method = "gre"
tunnel_checksum = "remote"
[[service.server]]
address = "fd00::3"
weigth = 5
"#;
    assert_eq!(
        mistakes(text),
        [
            "e.toml:1:1: nothing says which packets are the service's; \
             write address and port, or mark",
            "e.toml:3:10: family goes with a mark",
            "e.toml:4:1: the service has no port; write port = 0 for any, with persistence",
            "e.toml:8:8: a service of any port needs persistence; write persistence = 300",
            "e.toml:9:11: netmask goes with persistence",
            "e.toml:11:11: address = \"224.0.0.1\": expected is a unicast address such as \
             \"10.0.0.1\"",
            "e.toml:12:8: port = 65536: expected is a whole number from 0 to 65535",
            "e.toml:15:12: protocol and mark exclude each other",
            "e.toml:16:13: scheduler = \"wlcc\": expected is \"rr\" or \"wrr\" or \"lc\" or \"wlc\" \
             or \"lblc\" or \"lblcr\" or \"dh\" or \"sh\" or \"sed\" or \"nq\" or \"fo\" or \"ovf\" or \
             \"mh\" or \"twos\"; did you mean \"wlc\"?",
            "e.toml:17:31: scheduler_flags = \"mhport\": expected is \"sh-fallback\" or \"sh-port\" \
             or \"mh-fallback\" or \"mh-port\" or \"flag-1\" or \"flag-2\" or \"flag-3\"; \
             did you mean \"mh-port\"?",
            "e.toml:19:8: FWM 1 stands there twice; the first is in line 14",
            "e.toml:20:14: one_packet = 1: expected is true or false",
            "e.toml:24:14: one_packet is for UDP alone",
            "e.toml:25:19: incompatible scheduler flag `sh-port'",
            "e.toml:27:11: the netmask is of the other family",
            "e.toml:29:11: 10.0.0.1 is of another family than TCP [fd00::1]:80; \
             only tunnels lead from one to the other",
            "e.toml:33:8: packets keep their port by \"route\"; leave it out, \
             or use masq or full-nat, which change it",
            "e.toml:34:15: tunnel_port goes with method = \"gue\"",
            "e.toml:36:19: lower_threshold is above upper_threshold",
            "e.toml:37:1: the server has no address",
            "e.toml:38:10: method \"gue\" needs a tunnel_port; the usual one is 6080",
            "e.toml:42:19: method \"gre\" has no such checksum",
            "e.toml:44:11: the service has this server twice; the first is in line 40",
            "e.toml:45:1: unknown key weigth; did you mean weight?",
        ]
    );
    assert_eq!(
        mistakes("[service]\nport = 80\n"),
        ["e.toml:1:2: service is a list of tables; write [[service]] above each"]
    );
    assert_eq!(
        mistakes("[[servcie]]\nport = 80\n"),
        ["e.toml:1:3: unknown table servcie; did you mean [[service]]?"]
    );
}

#[test]
fn what_the_director_refuses_has_a_place() {
    let service = one_service(
        "[[service]]\naddress = \"10.0.0.1\"\nport = 80\n\
         [[service.server]]\naddress = \"10.0.0.2\"\n",
    );
    assert_eq!(
        service.mistake(Some(0), "no room").to_string(),
        "e.toml:5:11: server 10.0.0.2:80 of TCP 10.0.0.1:80: no room"
    );
    assert_eq!(
        service.mistake(None, "no room").to_string(),
        "e.toml:2:11: service TCP 10.0.0.1:80: no room"
    );
}

#[test]
fn settings_of_ipvs() {
    let text = "[ipvs]\nexpire_nodest_conn = 1\nsync_threshold = [4, 100]\n\
                \"net.ipv4.vs.sloppy_tcp\" = 0\n";
    let mut found = parse(text, "e.toml").unwrap().ipvs;
    found.sort_unstable_by_key(|(sysctl, _)| *sysctl);
    assert_eq!(
        found,
        [
            (Sysctl::ExpireNodestConn, SysctlValue::Number(1)),
            (Sysctl::SloppyTcp, SysctlValue::Number(0)),
            (Sysctl::SyncThreshold, SysctlValue::Pair([4, 100])),
        ]
    );
    assert_eq!(
        mistakes(
            "[ipvs]\nexpire_nodest_con = 1\nsloppy_tcp = true\nsync_threshold = [5, 3]\n\
             conn_reuse_mode = 4\nsync_ports = 3\nlblc_expiration = [1, 2]\n"
        ),
        [
            "e.toml:2:1: unknown key expire_nodest_con; did you mean expire_nodest_conn?",
            "e.toml:3:14: sloppy_tcp = true: expected is 0 or 1",
            "e.toml:4:18: sync_threshold = [5, 3]: expected is two numbers, the first below the \
             second or that 0, such as [3, 50]",
            "e.toml:5:19: conn_reuse_mode = 4: expected is a whole number from 0 to 3",
            "e.toml:6:14: sync_ports = 3: expected is a power of two from 1 to 64",
            "e.toml:7:19: lblc_expiration = [1, 2]: expected is a whole number from 0 to 16777216",
        ]
    );
}

#[test]
fn source_nat_has_addresses_of_machines() {
    assert_eq!(
        parse("[source_nat]\nports = \"1-5\"\n", "e.toml")
            .unwrap()
            .source_nat,
        Some(SourceNat {
            addresses: vec![],
            ports: 1..=5,
        })
    );
    let many: Vec<String> = (1..=33).map(|host| format!("\"10.0.0.{host}\"")).collect();
    let many = format!("[source_nat]\naddresses = [{}]\n", many.join(", "));
    assert_eq!(
        mistakes(&many),
        ["e.toml:2:13: addresses: 33 are too many, at most 32 can be"]
    );
    assert_eq!(
        mistakes("[source_nat]\naddresses = [\"10.0.0.1\", \"fe80::1\"]\nports = \"9-8\"\n"),
        [
            "e.toml:2:26: addresses = \"fe80::1\": expected is a unicast address such as \
             \"10.0.0.1\"",
            "e.toml:3:9: ports = \"9-8\": expected is two ports, the lower first, such as \
             \"10240-32767\"",
        ]
    );
    assert_eq!(
        mistakes("[source_nat]\naddresses = [\"10.0.0.1\", \"10.0.0.1\"]\n"),
        ["e.toml:2:13: addresses: 10.0.0.1 stands there twice"]
    );
}

#[test]
fn rules_that_mark() {
    let text = r#"
        [[mark]]
        mark = 1
        protocol = "tcp"
        source = "0.0.0.0/0"
        destination = "10.0.0.0/24"
        ports = [80, "443", "8000-8999"]
        interface = "eth0"
        [[mark]]
        mark = 2
        ports = "53-54"
    "#;
    let rules = parse(text, "e.toml").unwrap().marks;
    let prefix = |address: [u8; 4], bits| {
        Some(Prefix {
            address: address.into(),
            bits,
        })
    };
    assert_eq!(
        rules[0],
        MarkRule {
            mark: 1,
            protocol: Some(Protocol::Tcp),
            source: prefix([0; 4], 0),
            destination: prefix([10, 0, 0, 0], 24),
            ports: vec![80..=80, 443..=443, 8000..=8999],
            interface: Some("eth0".into()),
        }
    );
    assert_eq!((rules[1].mark, &rules[1].ports), (2, &vec![53..=54]));
    for key in MARK_KEYS {
        assert!(text.contains(&format!("{} =", key.name)), "{}", key.name);
    }
    assert_eq!(
        mistakes(
            "[[mark]]\nmark = 1\n[[mark]]\nmark = 0\nports = 0\n[[mark]]\nports = []\n\
             source = \"10.0.0.1/24\"\ndestination = \"fd00::/64\"\n[[mark]]\nmark = 2\n\
             source = \"10.0.0.0/8\"\ndestination = \"fd00::/64\"\n\
             ports = [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
        ),
        [
            "e.toml:1:1: the rule would mark every packet; say which, by protocol, source, \
             destination, ports or interface",
            "e.toml:4:8: mark = 0: expected is a whole number from 1 to 4294967295",
            "e.toml:5:9: ports = 0: expected is a port from 1 to 65535, a range such as \
             \"8000-8999\", or a list of these",
            "e.toml:6:1: the rule has no mark; write mark = 1",
            "e.toml:7:9: ports = []: expected is a port from 1 to 65535, a range such as \
             \"8000-8999\", or a list of these",
            "e.toml:8:10: source = \"10.0.0.1/24\": expected is an address without bits beyond \
             its prefix; did you mean \"10.0.0.0/24\"?",
            "e.toml:13:15: source and destination are of one family",
            "e.toml:14:9: ports: 9 are too many, at most 8 can be",
        ]
    );
    let many = "[[mark]]\nmark = 1\nports = 1\n".repeat(MarkRule::RULES_MAX + 1);
    assert_eq!(
        mistakes(&many),
        ["e.toml:193:1: there are more than 64 rules of [[mark]]"]
    );
}

#[test]
fn words_are_those_of_the_model() {
    let word = |keys: &[Key<_>], name: &str| {
        let key = keys.iter().find(|key| key.name == name).unwrap();
        match key.kind {
            Kind::Word(words) => words.to_vec(),
            _ => vec![],
        }
    };
    let schedulers: Vec<&str> = Scheduler::ALL.iter().map(|s| s.name()).collect();
    assert_eq!(word(SERVICE_KEYS, "scheduler"), schedulers);
}

proptest! {
    /// Whatever stands there is read, and then written and read again, or refused, with
    /// places that are in the text.
    #[test]
    fn any_text_is_read_or_refused(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("[[service]]\n".to_owned()),
                Just("[[service.server]]\n".to_owned()),
                Just("[[mark]]\n".to_owned()),
                Just("[source_nat]\n".to_owned()),
                Just("[ipvs]\n".to_owned()),
                Just("[[service.check]]\n".to_owned()),
                Just("[[service.server.check]]\n".to_owned()),
                Just("[[alerts.pipe]]\n".to_owned()),
                "type = \"(tcp|https|smtp|dns|script|udp|file|redis)\"\n",
                (
                    "interval|timeout|status|regex|reply_hex|send_hex|digest|tls|command|hosts",
                    "[0-9]{1,6}|[0-9]{1,3}\\.[0-9]{1,12}|\"[0-9a-fx/ ms(?<=)-]{0,9}\"|\\[\\]|\\{\\}|\\[\\{\\}\\]",
                )
                    .prop_map(|(key, value)| format!("{key} = {value}\n")),
                (
                    "endpoints|sorry_server|on_up|on_quorum_down|group|check_defaults|path|reader",
                    "\\[\"(tcp|mark|udp):[0-9.:-]{0,20}\"\\]|\"builtin\"|\"/a\"|\\{ address = 5 \\}",
                )
                    .prop_map(|(key, value)| format!("{key} = {value}\n")),
                (
                    "address|port|mark|ports|netmask|persistence|source|sync_threshold|method",
                    "[0-9]{1,6}|\"[0-9.:/-]{0,12}\"|\\[[0-9, ]{0,9}\\]|true|\"gue\"",
                )
                    .prop_map(|(key, value)| format!("{key} = {value}\n")),
                "[ -~äß\n]{0,12}",
            ],
            0..12,
        ),
    ) {
        let text = parts.concat();
        match parse(&text, "e.toml") {
            Ok(config) => {
                let again = parse(&write(&config), "e.toml");
                prop_assert!(again.is_ok(), "{text}\n{}\n{again:?}", write(&config));
            }
            Err(mistakes) => {
                prop_assert!(!mistakes.is_empty());
                let lines = text.matches('\n').count() + 1;
                for mistake in mistakes {
                    prop_assert!((1..=lines).contains(&mistake.place.line), "{}", mistake);
                }
            }
        }
    }
}

#[test]
fn a_closed_address_has_a_service_for_what_no_other_takes() {
    let text = r#"
        [closed]
        addresses = ["10.0.0.10", "fd00::10"]

        [[service]]
        address = "10.0.0.10"
        port = 0
        persistence = 300
        server = [{ address = "192.168.1.1" }]

        [[service]]
        address = "fd00::10"
        port = 80
    "#;
    let config = parse(text, "e.toml").unwrap();
    assert_eq!(config.services.len(), 2);
    let services: Vec<String> = closed_services(&config)
        .iter()
        .map(|service| service.key.to_string())
        .collect();
    assert_eq!(
        services,
        [
            "UDP 10.0.0.10:0",
            "SCTP 10.0.0.10:0",
            "TCP [fd00::10]:0",
            "UDP [fd00::10]:0",
            "SCTP [fd00::10]:0",
        ]
    );
}

#[test]
fn hashed_clients_fall_back_unless_told_otherwise() {
    let flags = |rest: &str| {
        let text = format!("[[service]]\naddress = \"10.0.0.10\"\nport = 80\n{rest}");
        let config = parse(&text, "e.toml").unwrap();
        config.services[0].service.settings.flags
    };
    let fallback = SchedulerFlags {
        fallback: true,
        ..SchedulerFlags::default()
    };
    assert_eq!(flags("scheduler = \"mh\""), fallback);
    assert_eq!(flags("scheduler = \"sh\""), fallback);
    for rest in [
        "scheduler = \"dh\"",
        "scheduler = \"mh\"\nscheduler_flags = []",
        "scheduler = \"mh\"\ncompat = \"ipvs\"",
    ] {
        assert_eq!(flags(rest), SchedulerFlags::default(), "{rest}");
    }
}
