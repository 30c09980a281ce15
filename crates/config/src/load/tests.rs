use super::*;
use crate::files::Memory;

fn loaded(files: &[(&str, &str)]) -> Loaded {
    let mut memory = Memory::default();
    let inputs = files.iter().map(|(path, text)| {
        memory.add(path, *text);
        Input {
            path: (*path).to_owned(),
            format: None,
        }
    });
    let inputs: Vec<Input> = inputs.collect();
    load(&inputs, &Options { id: "here".into() }, &memory)
}

fn told(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(ToString::to_string).collect()
}

const WEB: &str = "virtual_server 10.0.0.1 80 {
 protocol TCP
 lb_algo rr
 lb_kind NAT
 real_server 10.0.1.1 80 {
 }
}
";

#[test]
fn formats_are_told_apart() {
    let cases = [
        ("/etc/a.toml", "virtual_server {", Format::Native),
        ("/etc/keepalived.conf", "a = 1", Format::Keepalived),
        ("/etc/a.conf", "# c\n[timeouts]\ntcp = 1", Format::Native),
        ("/etc/a.conf", "! c\nglobal_defs {\n}", Format::Keepalived),
        ("/etc/a", "$A=1\nglobal_defs {", Format::Keepalived),
        ("/etc/a", "a = { b = 1 }", Format::Native),
        ("/etc/a", "", Format::Native),
    ];
    for (name, text, format) in cases {
        assert_eq!(Format::of(name, text), format, "{name}: {text}");
    }
}

#[test]
fn files_are_put_together() {
    let loaded = loaded(&[
        (
            "/e/a.toml",
            "[timeouts]\ntcp = 100\n[dataplane]\nservices = 7\n",
        ),
        ("/e/keepalived.conf", WEB),
    ]);
    assert_eq!(told(&loaded), Vec::<String>::new());
    assert_eq!(loaded.config.timeouts.tcp, 100);
    assert_eq!(loaded.config.dataplane.services, 7);
    assert_eq!(loaded.config.services.len(), 1);
}

#[test]
fn the_last_file_that_says_something_counts() {
    let native = ("/e/a.toml", "[timeouts]\ntcp = 100\n");
    let keepalived = (
        "/e/keepalived.conf",
        "global_defs {\n lvs_timeouts tcp 200\n}\n",
    );
    let tcp = |files: &[(&str, &str)]| loaded(files).config.timeouts.tcp;
    assert_eq!(tcp(&[native, keepalived]), 200);
    assert_eq!(tcp(&[keepalived, native]), 100);
}

#[test]
fn a_service_stands_in_one_file() {
    let both = loaded(&[("/e/keepalived.conf", WEB), ("/e/keepalived-b.conf", WEB)]);
    let expected = "/e/keepalived-b.conf:1:16: error: TCP 10.0.0.1:80 stands in two files; the \
                    first stands here: /e/keepalived.conf:1:16; leave one of the files out, or \
                    one of the two virtual servers";
    assert_eq!(told(&both), [expected]);
    assert!(both.is_refused());
    let native = "[[service]]\naddress = \"10.0.0.1\"\nport = 80\n";
    let mixed = loaded(&[("/e/a.toml", native), ("/e/keepalived.conf", WEB)]);
    assert_eq!(mixed.count(Severity::Error), 1);
}

#[test]
fn twins_in_one_file_share_their_servers() {
    let second = WEB.replace("10.0.1.1", "10.0.1.2");
    let loaded = loaded(&[("/e/keepalived.conf", &format!("{WEB}{second}{WEB}"))]);
    assert_eq!(loaded.count(Severity::Error), 0);
    assert_eq!(loaded.count(Severity::Warning), 2);
    let [service] = &loaded.config.services[..] else {
        panic!("{:?}", loaded.config.services)
    };
    assert_eq!(service.service.servers.len(), 2);
    assert_eq!(service.servers[1].line, 12);
}

#[test]
fn groups_do_not_overlap() {
    let group = "virtual_server_group g {\n 10.0.0.0-5 80-90\n}\n";
    let grouped = WEB.replace("virtual_server 10.0.0.1 80", "virtual_server group g");
    for text in [
        format!("{group}{WEB}{grouped}"),
        format!("{group}{grouped}{WEB}"),
    ] {
        let loaded = loaded(&[("/e/keepalived.conf", &text.replace("0.0-5", "0.1-5"))]);
        assert_eq!(loaded.count(Severity::Error), 1, "{:?}", told(&loaded));
    }
}

#[test]
fn what_people_get_wrong_is_told() {
    let text = "vrrp_instance V {
 virtual_ipaddress {
  192.168.2.9/24 dev eth0
 }
}
virtual_server 192.168.10.9 80 {
 protocol TCP
 lb_algo rr
 lb_kind DR
 delay_loop 2
 quorum 9
 real_server 192.168.10.9 8080 {
  TCP_CHECK {
   connect_timeout 3
  }
 }
}
";
    let loaded = loaded(&[("/e/keepalived.conf", text)]);
    let found = told(&loaded);
    let expected = [
        "1:1: warning: the block of vrrp_instance",
        "6:16: warning: no vrrp_instance carries 192.168.10.9",
        "11:9: warning: quorum 9 is above the weights of all servers, 1; 1 is taken",
        "12:14: warning: server 192.168.10.9 is an address of its own service",
        "12:14: warning: a check of server 192.168.10.9:80 may take 3 s",
        "12:27: warning: real server 192.168.10.9:8080 has another port than its service",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        let expected = format!("/e/keepalived.conf:{expected}");
        assert!(found.starts_with(&expected), "{found}\n{expected}");
    }
}

#[test]
fn files_that_cannot_be_read_are_errors() {
    let missing = load(
        &[Input {
            path: "/none.conf".into(),
            format: None,
        }],
        &Options::default(),
        &Memory::default(),
    );
    assert!(missing.is_refused());
    let mistake = loaded(&[("/e/a.toml", "[timeout]\n")]);
    assert_eq!(told(&mistake).len(), 1);
    assert!(mistake.is_refused());
}
