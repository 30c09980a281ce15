//! Checks, scripts, quorum and alerts as their users write them.

use std::time::Duration;

use evenkeel_core::model::{
    Check, Connect, Ends, HttpProbe, Page, Probe, Quorum, Script, Secret, Sorry, Timing, Tls,
    UdpProbe, UdpReply, User,
};

use super::*;

const FRONT: &str = "[[service]]\naddress = \"10.0.0.10\"\nport = 80\n";

fn checks_of(service: &str, server: &str) -> Vec<Check> {
    let text = format!("{FRONT}{service}\n[[service.server]]\naddress = \"10.1.0.1\"\n{server}");
    let mut service = one_service(&text).service;
    service.servers.remove(0).checks
}

fn one_check(keys: &str) -> Check {
    let mut checks = checks_of("", &format!("[[service.server.check]]\n{keys}"));
    assert_eq!(checks.len(), 1);
    checks.remove(0)
}

fn to(port: u16) -> Connect {
    let end = std::net::SocketAddr::from(([10, 1, 0, 1], port));
    Connect::to(end, Duration::from_secs(3))
}

fn command(words: &[&str]) -> Script {
    Script {
        command: words.iter().map(|&word| word.into()).collect(),
        user: None,
    }
}

#[test]
fn a_check_that_says_little_is_as_usual() {
    let expected = Check {
        probe: Probe::Tcp(to(80)),
        timing: Timing {
            interval: Duration::from_secs(5),
            warmup: Duration::from_secs(5),
            retries: 2,
            retry_interval: Duration::from_secs(1),
        },
        starts_down: false,
        log_all_failures: false,
        weight: None,
    };
    assert_eq!(one_check("type = \"tcp\""), expected);
    let usual = |interval| Timing {
        interval,
        warmup: interval,
        ..expected.timing
    };
    let half = Duration::from_millis(500);
    for text in ["\"500ms\"", "0.5", "\"0.5s\""] {
        let check = one_check(&format!("type = \"tcp\"\ninterval = {text}"));
        assert_eq!(check.timing, usual(half), "{text}");
    }
}

#[test]
fn services_say_what_is_usual_for_their_checks() {
    let checks = checks_of(
        "check_defaults = { interval = 2, retries = 0, from = \"10.1.0.254\", starts_down = true }\n\
         [[service.check]]\ntype = \"ping\"\n\
         [[service.check]]\ntype = \"tcp\"\nport = 22\nretries = 1",
        "[[service.server.check]]\ntype = \"tcp\"\nstarts_down = false\naddress = \"fe80::1\"\n\
         interface = \"eth0\"",
    );
    let from = |connect: Connect| Connect {
        from: Some([10, 1, 0, 254].into()),
        ..connect
    };
    let link_local = Connect {
        to: "[fe80::1]:80".parse().unwrap(),
        interface: Some("eth0".into()),
        ..from(to(80))
    };
    let probes: Vec<&Probe> = checks.iter().map(|check| &check.probe).collect();
    let expected = [
        &Probe::Ping(from(to(80))),
        &Probe::Tcp(from(to(22))),
        &Probe::Tcp(link_local),
    ];
    assert_eq!(probes, expected);
    let retries: Vec<u32> = checks.iter().map(|check| check.timing.retries).collect();
    assert_eq!(retries, [0, 1, 0]);
    let down: Vec<bool> = checks.iter().map(|check| check.starts_down).collect();
    assert_eq!(down, [true, true, false]);
    assert!(
        checks
            .iter()
            .all(|check| check.timing.interval.as_secs() == 2)
    );
}

#[test]
fn pages_are_read_by_http_with_and_without_tls() {
    let page = |path: &str, host: Option<&str>| Page {
        path: path.into(),
        host: host.map(Into::into),
        statuses: vec![],
        digest: None,
        regex: None,
        headers: Vec::new(),
        json: Vec::new(),
    };
    let http = |tls, port, pages| {
        Probe::Http(HttpProbe {
            connect: to(port),
            tls,
            version: evenkeel_core::model::HttpVersion::V1_0,
            pages,
            fast_recovery: false,
        })
    };
    let found = one_check("type = \"http\"").probe;
    assert_eq!(found, http(None, 80, vec![page("/", None)]));
    let named = vec![page("/", Some("www.example.org:8443"))];
    let with_sni = |sni: Option<&str>| {
        Some(Tls {
            sni: sni.map(Into::into),
            ..Tls::default()
        })
    };
    let https = "type = \"https\"\nport = 443\nhost = \"www.example.org:8443\"\n";
    for (tls, sni) in [
        ("", None),
        ("tls = true", None),
        ("tls = { sni = \"other\" }", Some("other")),
    ] {
        let found = one_check(&format!("{https}{tls}")).probe;
        assert_eq!(found, http(with_sni(sni), 443, named.clone()), "{tls}");
    }
    let Probe::Http(found) = one_check(
        "type = \"http\"\npage = [{ path = \"/a\", status = [200, \"300-399\"] }, \
         { digest = \"9b3a5a5bd1a0d8b1e3f4f5b2c1d0e9f8\", regex = '^ok$', \
         regex_options = [\"caseless\"], regex_no_match = true }]",
    )
    .probe
    else {
        panic!("no check by HTTP");
    };
    assert_eq!(found.pages[0].statuses, [200..=200, 300..=399]);
    assert_eq!(found.pages[1].digest.unwrap()[..2], [0x9b, 0x3a]);
    let regex = found.pages[1].regex.as_ref().unwrap();
    assert_eq!((&*regex.pattern, regex.absent), ("^ok$", true));
    assert_eq!(regex.options, ["caseless"]);
}

#[test]
fn checks_of_other_types() {
    let smtp = one_check("type = \"smtp\"\nport = 25\nhosts = [{}, { port = 587, timeout = 1 }]");
    let submission = Connect {
        timeout: Duration::from_secs(1),
        ..to(587)
    };
    let expected = Probe::Smtp {
        hosts: vec![to(25), submission],
        helo: "localhost".into(),
    };
    assert_eq!(smtp.probe, expected);
    let script = one_check(
        "type = \"script\"\ncommand = [\"/bin/check\", \"a b\"]\nuser = \"nobody\"\n\
         group = \"65534\"\ntimeout = 10\ndynamic_weight = true\nweight = -5",
    );
    assert_eq!(script.weight, Some(-5));
    let user = User {
        name: "nobody".into(),
        group: Some("65534".into()),
    };
    let expected = Probe::Script {
        script: Script {
            user: Some(user),
            ..command(&["/bin/check", "a b"])
        },
        timeout: Duration::from_secs(10),
        dynamic: true,
    };
    assert_eq!(script.probe, expected);
    let udp = one_check("type = \"udp\"\nsend = \"ping\"\nreply_hex = \"70 6x\"");
    let expected = Probe::Udp(UdpProbe {
        connect: to(80),
        payload: Some(b"ping".to_vec()),
        reply: Some(UdpReply {
            start: vec![(0x70, 0xff), (0x60, 0xf0)],
            min_length: 0,
            max_length: u16::MAX,
        }),
    });
    assert_eq!(udp.probe, expected);
    let file = one_check("type = \"file\"\npath = \"/run/load\"\nfactor = -2").probe;
    let expected = Probe::File {
        name: "/run/load".into(),
        path: "/run/load".into(),
        weight: -2,
    };
    assert_eq!(file, expected);
    let Probe::Redis(redis) =
        one_check("type = \"redis\"\nport = 6379\ndatabase = 3\npassword = \"secret\"\ntls = true")
            .probe
    else {
        panic!("no check of Redis");
    };
    assert_eq!(redis.database.as_deref(), Some("3"));
    assert_eq!(redis.password, Some(Secret("secret".into())));
    assert_eq!(redis.tls, Some(Tls::default()));
}

#[test]
fn ports_are_the_servers_else_the_usual_ones() {
    let text = "[[service]]\nmark = 7\n[[service.check]]\ntype = \"dns\"\n\
                [[service.check]]\ntype = \"ping\"\n\
                [[service.server]]\naddress = \"10.1.0.1\"\n\
                [[service.server]]\naddress = \"10.1.0.2\"\nport = 5353\n";
    let service = one_service(text).service;
    let ports = service.servers.iter().map(|server| {
        let of = |check: &Check| match &check.probe {
            Probe::Dns { connect, .. } | Probe::Ping(connect) => connect.to.port(),
            _ => 1,
        };
        server.checks.iter().map(of).collect::<Vec<_>>()
    });
    assert_eq!(ports.collect::<Vec<_>>(), [[53, 0], [5353, 5353]]);
    let text = "[[service]]\nmark = 7\n[[service.check]]\ntype = \"tcp\"\n\
                [[service.server]]\naddress = \"10.1.0.1\"\n\
                [[service.server]]\naddress = \"10.1.0.2\"\n";
    let expected = ["e.toml:3:1: the check has no port, nor has the server; write port = …"];
    assert_eq!(mistakes(text), expected);
}

#[test]
fn services_of_many_ends() {
    let text = "[[service]]\ngroup = \"web\"\n\
                endpoints = [\"tcp:10.0.0.1-10.0.0.3:80\", \"tcp:10.0.0.9:80\"]\n\
                quorum = 3\nhysteresis = 1\nha_suspend = true\nomega = true\nmail = false\n\
                on_quorum_up = [\"/bin/up\", \"now\"]\non_quorum_down = \"/bin/down\"\n\
                sorry_server = { address = \"10.1.0.9\", method = \"route\", inhibit = true }\n\
                [[service.server]]\naddress = \"10.1.0.1\"\ninhibit_on_failure = true\n\
                on_up = { command = [\"/bin/up\"], user = \"nobody\" }\non_down = [\"/bin/down\"]\n\
                mail = false\n";
    let service = one_service(text).service;
    assert_eq!(service.group.as_deref(), Some("web"));
    assert_eq!(service.ends.len(), 2);
    assert_eq!(service.keys().count(), 4);
    let quorum = Quorum {
        weight: 3,
        hysteresis: 1,
    };
    assert_eq!(service.quorum, quorum);
    assert!(service.ha_suspend && service.omega && !service.mail);
    assert_eq!(service.notify.up, Some(command(&["/bin/up", "now"])));
    assert_eq!(service.notify.down, Some(command(&["/bin/down"])));
    let sorry = Sorry::Server {
        key: ServerKey {
            address: [10, 1, 0, 9].into(),
            port: 80,
        },
        settings: ServerSettings::new(ForwardMethod::Route, 1),
        inhibit: true,
    };
    assert_eq!(service.sorry, Some(sorry));
    let server = &service.servers[0];
    assert!(server.inhibit && !server.mail);
    let user = server.notify.up.as_ref().unwrap().user.as_ref().unwrap();
    assert_eq!((&*user.name, &user.group), ("nobody", &None));
    let of_sorry = |text: &str| {
        let service = one_service(&format!("{FRONT}sorry_server = {text}\n"));
        service.service.sorry
    };
    let builtin = |directory: Option<&str>| {
        let directory = directory.map(Into::into);
        Some(Sorry::Builtin { directory })
    };
    assert_eq!(of_sorry("\"builtin\""), builtin(None));
    assert_eq!(of_sorry("\"/srv/sorry\""), builtin(Some("/srv/sorry")));
    // Of several ports each packet keeps its own.
    let text = "[[service]]\nendpoints = [\"tcp:10.0.0.1:80-81\", \"mark:7\"]\n\
                server = [{ address = \"10.1.0.1\" }]\n";
    let service = one_service(text).service;
    assert_eq!(service.servers[0].key.port, 0);
    let mark = Ends::Mark {
        mark: 7,
        family: Family::V4,
    };
    assert_eq!(service.ends[1], mark);
}

#[test]
fn alerts_are_read() {
    let text = r#"
        [alerts]
        router_id = "a"
        script_user = "nobody"
        script_group = "adm"
        script_security = true
        at_start = true
        servers_only = true
        [alerts.mail]
        server = "mail.example.org"
        port = 2525
        timeout = 10
        helo = "lb"
        from = "lb@example.org"
        to = ["a@example.org", "b@example.org"]
        quiet = true
        [[alerts.pipe]]
        path = "/run/changes"
        user = "nobody"
        reader = ["/bin/read"]
    "#;
    let alerts = parse(text, "e.toml").unwrap().alerts;
    assert_eq!(alerts.router_id.as_deref(), Some("a"));
    assert!(alerts.script_security && alerts.at_start);
    let user = alerts.script_user.unwrap();
    assert_eq!(
        (&*user.name, user.group.as_deref()),
        ("nobody", Some("adm"))
    );
    let mail = alerts.mail.unwrap();
    assert_eq!((&*mail.server, mail.port), ("mail.example.org", 2525));
    assert_eq!((mail.timeout.as_secs(), mail.quiet), (10, true));
    assert_eq!(mail.to, ["a@example.org", "b@example.org"]);
    assert_eq!(alerts.pipes[0].path, "/run/changes");
    assert_eq!(alerts.pipes[0].reader, Some(command(&["/bin/read"])));
    assert_eq!(
        mistakes(
            "[alerts]\nscript_group = \"adm\"\nmails = {}\nmail = { port = 0, to = [] }\n\
             pipe = [{}, { path = \"\" }]\n"
        ),
        [
            "e.toml:2:16: script_group goes with script_user",
            "e.toml:3:1: unknown key mails; did you mean mail?",
            "e.toml:4:8: the mail has no server; write server = \"mail.example.org\"",
            "e.toml:4:17: port = 0: expected is a whole number from 1 to 65535",
            "e.toml:4:25: to = []: expected is a list of texts, not empty",
            "e.toml:5:9: the pipe has no path; write path = \"/run/evenkeel/changes\"",
            "e.toml:5:22: path is empty",
        ]
    );
}

#[test]
fn every_mistake_in_checks_is_told() {
    let text = r#"[[service]]
address = "10.0.0.10"
port = 80
quorum = 2
hysteresis = 2
group = "web"
on_quorum_up = "/bin/tell up"
sorry_server = "buildin"
check_defaults = { intervall = 2, type = "tcp" }
[[service.check]]
port = 80
[[service.check]]
type = "htpp"
[[service.check]]
type = "tcp"
pfad = "/"
host = "a"
page = []
[[service.check]]
type = "http"
path = "/"
status = 2000
digest = "00"
regex_options = ["caseles"]
tls = true
timeout = 0
page = [{ path = "/a", host = 7 }]
[[service.check]]
type = "https"
tls = false
[[service.check]]
type = "script"
address = "10.0.0.1"
group = "adm"
[[service.check]]
type = "file"
interval = "1d"
timeout = 1
[[service.check]]
type = "udp"
send = "a"
send_hex = "0"
reply_min_length = 9
reply_max_length = 8
expect_reply = false
[[service.check]]
type = "redis"
password = 12345
[[service.check]]
type = "https"
regex_min_offset = 5
[[service.check]]
type = "http"
regex = "(?<=a)b"
[[service.check]]
type = "dns"
name = "LONG.example.org"
[[service]]
endpoints = ["tcp:10.0.0.10:80", "10.0.0.11:80"]
port = 80
[[service]]
endpoints = ["tcp:10.0.0.10:80", "tcp:10.0.0.10:80-81", "tcp:[fd00::1]:80"]
persistence = 60
server = [{ address = "10.1.0.1", on_up = [""], on_down = { user = "" } }]
[[service]]
endpoints = ["tcp:10.2.0.0-10.9.0.0:80"]
"#;
    let found = mistakes(&text.replace("LONG", &"x".repeat(64)));
    let expected = include_str!("mistakes.txt");
    assert_eq!(found.join("\n") + "\n", expected);
    assert!(!expected.contains("12345"));
}
