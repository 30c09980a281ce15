//! Services, servers and checks.

use std::time::Duration;

use evenkeel_core::model::{
    Check, Connect, DnsRecord, Ends, Family, ForwardMethod, HttpVersion, Netmask, Probe, Protocol,
    RealServer, ServiceKey, Sorry, Timing, Tunnel, TunnelChecksum, User, VirtualServer,
};

use super::*;
use crate::native::Flush;

fn service(lines: &str, server: &str) -> VirtualServer {
    let text = format!(
        "virtual_server 10.0.0.1 80 {{\nprotocol TCP\nlb_algo rr\nlb_kind NAT\n{lines}\n\
         real_server 10.0.1.1 80 {{\n{server}\n}}\n}}\n"
    );
    good(&text).services.remove(0).service
}

fn server(lines: &str) -> RealServer {
    service("", lines).servers.remove(0)
}

fn check(lines: &str) -> Check {
    server(lines).checks.remove(0)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn to(address: &str, timeout: u64) -> Connect {
    Connect::to(address.parse().unwrap(), seconds(timeout))
}

/// What holds where nothing is said.
fn usual(probe: Probe) -> Check {
    Check {
        probe,
        timing: Timing {
            interval: seconds(60),
            warmup: seconds(60),
            retries: 1,
            retry_interval: seconds(1),
        },
        starts_down: false,
        log_all_failures: false,
        weight: None,
    }
}

#[test]
fn times_are_inherited() {
    let plain = check("TCP_CHECK {\n}");
    assert_eq!(plain, usual(Probe::Tcp(to("10.0.1.1:80", 5))));
    let outer = "delay_loop 7\nretry 4\ndelay_before_retry 2.5\nwarmup 0\nconnect_timeout 3\nalpha";
    let inherited = service(
        outer,
        "delay_loop 8\nretry 5\nTCP_CHECK {\n retry 0\n alpha off\n}",
    );
    let found = &inherited.servers[0].checks[0];
    let timing = Timing {
        interval: seconds(8),
        warmup: seconds(0),
        retries: 0,
        retry_interval: Duration::from_millis(2500),
    };
    assert_eq!(found.timing, timing);
    assert_eq!(found.probe, Probe::Tcp(to("10.0.1.1:80", 3)));
    assert!(!found.starts_down);
    let found = &service(outer, "TCP_CHECK {\n}").servers[0].checks[0];
    assert_eq!((found.timing.retries, found.starts_down), (4, true));
    // Each kind of check has its own retries.
    let timing = |lines: &str| {
        let timing = check(lines).timing;
        (timing.retries, timing.retry_interval.as_secs())
    };
    assert_eq!(timing("HTTP_GET {\nurl {\npath /\n}\n}"), (1, 3));
    assert_eq!(timing("DNS_CHECK {\n}"), (3, 60));
    assert_eq!(timing("DNS_CHECK {\ndelay_loop 9\n}"), (3, 9));
}

#[test]
fn servers_inherit_from_their_service() {
    let lines = "inhibit_on_failure\nweight 9\nsmtp_alert";
    let found = service(lines, "TCP_CHECK {\n}");
    assert!(found.mail && found.servers[0].inhibit && found.servers[0].mail);
    assert_eq!(found.servers[0].settings.weight, 9);
    let own = "inhibit_on_failure off\nweight 2\nsmtp_alert no\nuthreshold 9\nlthreshold 3";
    let own = &service(lines, own).servers[0];
    assert!(!own.inhibit && !own.mail);
    let settings = own.settings;
    assert_eq!(
        (
            settings.weight,
            settings.upper_threshold,
            settings.lower_threshold
        ),
        (2, 9, 3)
    );
    // Servers send mail where nothing says anything, services do not.
    let usual = service("", "weight 1");
    assert!(!usual.mail && usual.servers[0].mail);
    assert_eq!(usual.settings.compatible, Some(true));
}

#[test]
fn ends_of_checks_are_read() {
    let lines = "TCP_CHECK {\nconnect_ip 10.0.2.1\nconnect_port 81\nbindto 10.0.3.1\nbind_port 9\n\
                 bind_if eth7\nfwmark 6\nconnect_timeout 0.5\nlog_all_failures\n}";
    let expected = Connect {
        from: Some("10.0.3.1".parse().unwrap()),
        from_port: 9,
        interface: Some("eth7".into()),
        mark: 6,
        timeout: Duration::from_millis(500),
        ..to("10.0.2.1:81", 0)
    };
    let found = check(lines);
    assert_eq!(found.probe, Probe::Tcp(expected));
    assert!(found.log_all_failures);
}

#[test]
fn pages_are_read() {
    let lines = "HTTP_GET {\nurl {\npath /a?b\ndigest 5f1a4b7e269b7f5ddf6bbce06856c1e8\n\
                 status_code 200 301-304\nvirtualhost own\n}\nurl {\npath /\n\
                 regex \"a \\\\d+ \\\"b\\\"\"\nregex_options caseless dotall\nregex_no_match\n\
                 regex_min_offset 3\nregex_max_offset 8\n}\nhttp_protocol 1.1\n}";
    let with_host = format!("virtualhost server\n{lines}");
    let Probe::Http(found) = check(&with_host).probe else {
        panic!("no pages")
    };
    assert_eq!(
        (found.version, found.fast_recovery),
        (HttpVersion::V1_1, false)
    );
    assert_eq!(found.tls, None);
    let [first, second] = &found.pages[..] else {
        panic!("{:?}", found.pages)
    };
    assert_eq!(first.path, "/a?b");
    assert_eq!(first.digest.map(|digest| digest[15]), Some(0xe8));
    assert_eq!(first.statuses, [200..=200, 301..=304]);
    assert_eq!(first.host.as_deref(), Some("own"));
    assert_eq!(second.host.as_deref(), Some("server"));
    let regex = second.regex.as_ref().unwrap();
    assert_eq!(regex.pattern, "a \\d+ \"b\"");
    assert_eq!(regex.options, ["caseless", "dotall"]);
    assert!(regex.absent);
    assert_eq!((regex.min_offset, regex.max_offset), (3, 9));
}

#[test]
fn tls_asks_by_name_where_it_is_told_to() {
    let text = "SSL {\nca /ca\nkey /key\ncertificate /cert\npassword \"a b\"\n}\n\
                virtual_server 10.0.0.1 443 {\nprotocol TCP\nlb_algo rr\nlb_kind NAT\n\
                virtualhost v\n\
                real_server 10.0.1.1 443 {\nSSL_GET {\nurl {\npath /\n}\n}\nSSL_GET {\nenable_sni\n\
                url {\npath /1\nvirtualhost a\n}\nurl {\npath /2\n}\nurl {\npath /3\nvirtualhost a\n\
                }\n\
                }\n}\n}\n";
    let config = good(text);
    let checks = &config.services[0].service.servers[0].checks;
    let shown: Vec<(Option<&str>, usize)> = checks
        .iter()
        .filter_map(|check| match &check.probe {
            Probe::Http(probe) => Some((probe.tls.as_ref()?.sni.as_deref(), probe.pages.len())),
            _ => None,
        })
        .collect();
    assert_eq!(shown, [(None, 1), (Some("a"), 2), (Some("v"), 1)]);
    let Probe::Http(probe) = &checks[0].probe else {
        panic!("no pages")
    };
    let tls = probe.tls.as_ref().unwrap();
    assert_eq!(tls.authorities.as_deref(), Some("/ca"));
    assert_eq!(tls.password.as_ref().map(|it| it.0.as_str()), Some("a b"));
}

#[test]
fn other_checks_are_read() {
    let dns = check("DNS_CHECK {\ntype AAAA\nname example.org\n}").probe;
    let expected = Probe::Dns {
        connect: to("10.0.1.1:80", 5),
        record: DnsRecord::Aaaa,
        name: "example.org".into(),
    };
    assert_eq!(dns, expected);
    let Probe::Smtp { hosts, helo } = check(
        "SMTP_CHECK {\nhelo_name a.b\nhost {\nconnect_ip 10.0.2.1\n}\nhost {\nconnect_port 26\n}\n}",
    )
    .probe
    else {
        panic!("no mail")
    };
    assert_eq!(helo, "a.b");
    assert_eq!(hosts, [to("10.0.2.1:80", 5), to("10.0.1.1:26", 5)]);
    let Probe::Smtp { hosts, .. } =
        check("SMTP_CHECK {\nconnect_timeout 9\nhost {\nconnect_port 26\n}\n}").probe
    else {
        panic!("no mail")
    };
    assert_eq!(hosts, [to("10.0.1.1:80", 9), to("10.0.1.1:26", 5)]);
    let Probe::Udp(udp) = check(
        "UDP_CHECK {\npayload 01 ff\nrequire_reply 1X\nmin_reply_length 2\nmax_reply_length 9\n}",
    )
    .probe
    else {
        panic!("no datagram")
    };
    assert_eq!(udp.payload, Some(vec![1, 255]));
    let reply = udp.reply.unwrap();
    assert_eq!(reply.start, [(0x10, 0xf0)]);
    assert_eq!((reply.min_length, reply.max_length), (2, 9));
    assert!(matches!(check("PING_CHECK {\n}").probe, Probe::Ping(_)));
}

#[test]
fn programs_are_split_into_words_without_a_shell() {
    let mut memory = Memory::default();
    memory.add_with("/bin/check", "", 0o755, 0);
    let text = "global_defs {\nenable_script_security\nscript_user nobody\n}\n\
                virtual_server 10.0.0.1 80 {\nprotocol TCP\nlb_algo rr\nlb_kind NAT\n\
                delay_loop 7\nquorum_up \"/bin/check up\" root root\n\
                real_server 10.0.1.1 80 {\nnotify_down \"/bin/check 'a b' c\"\nMISC_CHECK {\n\
                misc_path \"/bin/check $(x) ; y\"\nmisc_dynamic\nuser www www-data\n}\n}\n}\n";
    let (read, _) = read_with(&mut memory, text);
    assert_eq!(told(&read), Vec::<String>::new());
    let service = &read.config.services[0].service;
    let up = service.notify.up.as_ref().unwrap();
    assert_eq!(up.command, ["/bin/check", "up"]);
    assert_eq!(
        up.user.as_ref().map(|user| user.name.as_str()),
        Some("root")
    );
    let down = service.servers[0].notify.down.as_ref().unwrap();
    assert_eq!(down.command, ["/bin/check", "a b", "c"]);
    let Probe::Script {
        script,
        timeout,
        dynamic,
    } = &service.servers[0].checks[0].probe
    else {
        panic!("no program")
    };
    assert_eq!(script.command, ["/bin/check", "$(x)", ";", "y"]);
    let user = User {
        name: "www".into(),
        group: Some("www-data".into()),
    };
    assert_eq!(script.user, Some(user));
    assert_eq!((*timeout, *dynamic), (seconds(7), true));
    assert_eq!(service.servers[0].checks[0].timing.retries, 0);
}

#[test]
fn programs_that_cannot_run_are_told() {
    let mut memory = Memory::default();
    memory
        .add("/bin/plain", "")
        .add_with("/bin/open", "", 0o777, 0)
        .add_with("/bin/good", "", 0o755, 0);
    let told_of = |memory: &mut Memory, script: &str, global: &str| {
        let text = format!(
            "global_defs {{\n{global}\n}}\nvirtual_server 10.0.0.1 80 {{\nprotocol TCP\n\
            lb_algo rr\n\
             lb_kind NAT\nquorum_up {script}\nreal_server 10.0.1.1 80 {{\n}}\n}}\n"
        );
        told(&read_with(memory, &text).0)
    };
    let root = "script_user root";
    let cases = [
        ("/bin/none", "", "there is no program /bin/none"),
        ("/bin/plain", "", "/bin/plain is not executable"),
        ("/bin/open", root, "others than root can change /bin/open"),
        (
            "\"/bin/good x\" nobody-of-a",
            "",
            "there is no user nobody-of-a to run this as",
        ),
        (
            "/bin/good root nobody-of-b",
            root,
            "there is no group nobody-of-b to run this as",
        ),
        (
            "/bin/good",
            root,
            "programs are run as root without enable_script_security",
        ),
        (
            "\"\"",
            "",
            "the command behind quorum_up is empty; it is ignored",
        ),
        (
            "'x",
            "",
            "the quotes behind quorum_up are not closed; it is ignored",
        ),
    ];
    for (script, global, expected) in cases {
        let told = told_of(&mut memory, script, global);
        assert!(
            told.first().is_some_and(|told| told.ends_with(expected)),
            "{script}: {told:?}"
        );
    }
}

#[test]
fn services_are_read() {
    let found = service(
        "persistence_timeout\npersistence_granularity 255.255.255.0\nquorum 1\nha_suspend\nomega\n\
         sorry_server 10.0.2.1\nsorry_server_inhibit\nsorry_server_lvs_method DR\nvirtualhost x",
        "weight 5",
    );
    let persistence = found.settings.persistence.unwrap();
    assert_eq!(persistence.timeout_s, 360);
    assert_eq!(persistence.netmask, Netmask::V4([255, 255, 255, 0].into()));
    assert!(found.ha_suspend && found.omega);
    let Some(Sorry::Server {
        key,
        settings,
        inhibit: true,
    }) = found.sorry
    else {
        panic!("{:?}", found.sorry)
    };
    assert_eq!((key.port, settings.method), (80, ForwardMethod::Route));
    let builtin = |line: &str| service(line, "weight 1").sorry;
    let directory = |path: Option<&str>| {
        Some(Sorry::Builtin {
            directory: path.map(str::to_owned),
        })
    };
    assert_eq!(builtin("sorry_server builtin"), directory(None));
    assert_eq!(
        builtin("sorry_server /srv/sorry"),
        directory(Some("/srv/sorry"))
    );
    let hashed = service("lb_algo mh\nmh-port\nmh-fallback", "weight 1").settings;
    assert_eq!(hashed.scheduler, "mh");
    assert!(hashed.flags.port && hashed.flags.fallback && !hashed.flags.third);
}

#[test]
fn methods_are_read() {
    let method = |line: &str| server(&format!("lvs_method {line}")).settings.method;
    assert_eq!(method("DR"), ForwardMethod::Route);
    assert_eq!(method("TUN"), ForwardMethod::Tunnel(Tunnel::Ipip));
    let gue = Tunnel::Gue {
        port: 6080,
        checksum: TunnelChecksum::Remote,
    };
    assert_eq!(
        method("TUN type gue port 6080 remcsum"),
        ForwardMethod::Tunnel(gue)
    );
    let gre = Tunnel::Gre {
        checksum: TunnelChecksum::Full,
    };
    assert_eq!(method("TUN type gre csum"), ForwardMethod::Tunnel(gre));
}

#[test]
fn groups_and_marks_are_read() {
    let text = "virtual_server_group g {\n10.0.0.1 80\n10.0.0.9-10 443-444\n2001:db8::/126 80\n\
                fwmark 7 inet6\n}\nvirtual_server group g {\nlb_algo rr\nlb_kind TUN\n\
                protocol UDP\n\
                real_server 10.0.1.1 {\n}\n}\n";
    let config = good(text);
    let service = &config.services[0].service;
    assert_eq!(service.group.as_deref(), Some("g"));
    let counts: Vec<u128> = service.ends.iter().map(Ends::count).collect();
    assert_eq!(counts, [1, 4, 4, 1]);
    assert_eq!(config.services[0].name(), "group g");
    let text = "virtual_server fwmark 9 {\nlb_algo rr\nlb_kind NAT\n\
                real_server 2001:db8::1 80 {\n}\n}\n";
    let mark = ServiceKey::Mark {
        mark: 9,
        family: Family::V6,
    };
    let keys: Vec<ServiceKey> = good(text).services[0].service.keys().collect();
    assert_eq!(keys, [mark]);
}

#[test]
fn what_keepalived_corrects_is_corrected() {
    let text = "virtual_server 10.0.0.1 {\nquorum 30\nhysteresis 31\nops\nprotocol TCP\n\
                real_server 10.0.1.1 8080 {\nlvs_method DR\nweight 20\n}\n\
                real_server 10.0.1.1 8081 {\nlvs_method DR\n}\nreal_server fe80::1 {\n}\n}\n";
    let read = read_one(text);
    let service = &read.config.services[0].service;
    assert_eq!(service.settings.scheduler, "wlc");
    assert_eq!(
        service.settings.persistence.map(|it| it.timeout_s),
        Some(360)
    );
    assert!(!service.settings.one_packet);
    assert_eq!((service.quorum.weight, service.quorum.hysteresis), (20, 19));
    let [server] = &service.servers[..] else {
        panic!("{:?}", service.servers)
    };
    assert_eq!(server.key.port, 0);
    assert_eq!(read.diagnostics.len(), 10, "{:#?}", told(&read));
}

#[test]
fn a_service_without_a_protocol_is_udp() {
    let text =
        "virtual_server 10.0.0.1 53 {\nlb_algo rr\nlb_kind NAT\nreal_server 10.0.1.1 53 {\n}\n}\n";
    let read = read_one(text);
    assert_eq!(told(&read), ["1:1: no protocol is set: it is UDP"]);
    let key = ServiceKey::at(Protocol::Udp, [10, 0, 0, 1], 53);
    assert_eq!(read.config.services[0].service.keys().next(), Some(key));
}

#[test]
fn global_settings_are_read() {
    let text = "global_defs {\nrouter_id LVS\nnotification_email {\n a@b c@d\n e@f\n}\n\
                notification_email_from g@h\nsmtp_server 10.0.0.9 2525\nsmtp_connect_timeout 7\n\
                smtp_helo_name me\nsmtp_alert_checker off\nscript_user u g\n\
                lvs_notify_fifo /run/lvs\nlvs_notify_fifo_script \"/no/program\"\n\
                notify_fifo /run/all root\nlvs_flush\nlvs_flush_on_stop VS\n\
                lvs_timeouts tcp 100 udp 30 tcpfin 0\nrs_init_notifies\n\
                checker_log_all_failures\n}\n\
                virtual_server 10.0.0.1 80 {\nprotocol TCP\nlb_algo rr\nlb_kind NAT\n\
                real_server 10.0.1.1 80 {\nTCP_CHECK {\n}\n}\n}\n";
    let read = read_one(text);
    assert_eq!(told(&read).len(), 1, "the program is not there");
    let Config {
        alerts,
        timeouts,
        start,
        stop,
        services,
        ..
    } = read.config;
    let mail = alerts.mail.unwrap();
    assert_eq!(alerts.router_id.as_deref(), Some("LVS"));
    assert_eq!(mail.to, ["a@b", "c@d", "e@f"]);
    assert_eq!((mail.server.as_str(), mail.port), ("10.0.0.9", 2525));
    assert_eq!(mail.timeout, seconds(7));
    assert_eq!(mail.from.as_deref(), Some("g@h"));
    let paths: Vec<&str> = alerts.pipes.iter().map(|pipe| pipe.path.as_str()).collect();
    assert_eq!(paths, ["/run/all", "/run/lvs"]);
    assert!(alerts.pipes[1].reader.is_some() && alerts.at_start);
    assert_eq!(
        (timeouts.tcp, timeouts.tcp_fin, timeouts.udp),
        (100, 120, 30)
    );
    assert!(start.flush);
    assert_eq!(stop.flush, Flush::Configured);
    let server = &services[0].service.servers[0];
    assert!(!server.mail && server.checks[0].log_all_failures);
}

#[test]
fn files_with_numbers_are_read() {
    let text = "track_file t {\nfile /run/t\nweight 3 reverse\n}\n\
                virtual_server 10.0.0.1 80 {\nprotocol TCP\nlb_algo rr\nlb_kind NAT\n\
                real_server 10.0.1.1 80 {\nFILE_CHECK {\ntrack_file t\n}\n\
                FILE_CHECK {\ntrack_file t\nweight 0\n}\n}\n}\n";
    let config = good(text);
    let weights: Vec<i32> = config.services[0].service.servers[0]
        .checks
        .iter()
        .filter_map(|check| match &check.probe {
            Probe::File { weight, .. } => Some(*weight),
            _ => None,
        })
        .collect();
    assert_eq!(weights, [-3, 0]);
}
