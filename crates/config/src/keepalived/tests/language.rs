//! The language itself.

use super::*;

/// A virtual server around some lines.
fn around(lines: &str) -> String {
    format!("virtual_server 10.0.0.1 80 {{\nprotocol TCP\nlb_algo rr\nlb_kind NAT\n{lines}\n}}\n")
}

/// The servers' addresses.
fn servers(config: &Config) -> Vec<String> {
    let services = config.services.iter();
    let servers = services.flat_map(|placed| &placed.service.servers);
    servers
        .map(|server| server.key.address.to_string())
        .collect()
}

#[test]
fn lines_are_repeated_defined_and_chosen() {
    let text = format!(
        "$NET=10.0.1\n$CHECK=\\\nTCP_CHECK {{ \\\nconnect_timeout 3 \\\n}}\n\n@there $NET=10.0.9\n\
         @^there $WEIGHT=7\n@here $PORT=80\n{}",
        around(
            "~SEQ(N, 1, 2) real_server $NET.$N $PORT { weight $WEIGHT }\n\
             ~LST({A,W}, {3,30}, {4,40}) real_server ${NET}.$A 80 {\nweight 1\n$CHECK\n}"
        )
    );
    let read = read_one(&text.replace("$NET.$N", "${NET}.$N"));
    let addresses = ["10.0.1.1", "10.0.1.2", "10.0.1.4"];
    // The last list's line alone has what follows it.
    assert_eq!(servers(&read.config)[..2], addresses[..2]);
    let one = &read.config.services[0].service.servers[0];
    assert_eq!(one.settings.weight, 7);
}

#[test]
fn definitions_of_several_lines_are_blocks() {
    let text = format!(
        "$SERVER=\\\nreal_server 10.0.1.$N 80 {{ \\\nTCP_CHECK {{ \\\nconnect_timeout 3 \\\n}} \\\n\
         }}\n\n{}",
        around("~SEQ(N, 3) $SERVER")
    );
    let config = good(&text);
    assert_eq!(servers(&config), ["10.0.1.1", "10.0.1.2", "10.0.1.3"]);
    let checks = config.services[0].service.servers[2].checks.len();
    assert_eq!(checks, 1);
    // It stands where it is used.
    assert_eq!(config.services[0].servers[2].line, 12);
}

#[test]
fn files_are_included_anywhere_from_where_they_stand() {
    let mut memory = Memory::default();
    memory
        .add("/etc/keepalived/d/b.conf", "include ../one.conf\n")
        .add("/etc/keepalived/d/a.conf", "real_server 10.0.1.1 80 { }")
        .add("/etc/keepalived/d/.hidden.conf", "nosuch")
        .add_with("/etc/keepalived/d/x.conf", "nosuch", 0o755, 0)
        .add(
            "/etc/keepalived/one.conf",
            "real_server 10.0.1.2 80 {\n nosuch\n}\n",
        );
    let (read, sources) = read_with(
        &mut memory,
        &around("include d/*.conf\nincludem d/none.conf"),
    );
    assert_eq!(servers(&read.config), ["10.0.1.1", "10.0.1.2"]);
    let lines: Vec<String> = read.diagnostics.iter().map(ToString::to_string).collect();
    let expected = [
        "/etc/keepalived/keepalived.conf:5:9: warning: /etc/keepalived/d/x.conf is not included: \
         it is executable",
        "/etc/keepalived/d/../one.conf:2:2: warning: there is no keyword nosuch in real_server",
        "/etc/keepalived/keepalived.conf:6:10: warning: there is no file d/none.conf to include",
    ];
    for line in expected {
        assert!(
            lines.iter().any(|told| told.starts_with(line)),
            "{line}\n{lines:#?}"
        );
    }
    assert!(
        read.diagnostics
            .iter()
            .all(|found| sources.has(&found.place))
    );
}

#[test]
fn what_never_ends_is_refused() {
    let mut memory = Memory::default();
    memory
        .add("/etc/keepalived/a.conf", "include b.conf")
        .add("/etc/keepalived/b.conf", "include a.conf");
    let (read, _) = read_with(&mut memory, "include a.conf\n");
    assert!(
        told(&read)[0].ends_with("a.conf includes itself"),
        "{:?}",
        told(&read)
    );
    let endless = [
        "$A=$A\nrouter_id $A\n",
        "$A=$B\n$B=$A$A\nrouter_id $A\n",
        "~SEQ(A, 1, 1000000000) x\n",
        "~SEQ(A, 1, 100000) ~SEQ(B, 1, 100000) x\n",
        "$A=\\\n$B\\\n$B\n\n$B=\\\n$A\\\n$A\n\n$A\n",
    ];
    for text in endless {
        assert!(!read_one(text).diagnostics.is_empty(), "{text}");
    }
}

#[test]
fn unknown_blocks_are_skipped_as_a_whole() {
    let read = read_one(&around(
        "real_server 10.0.1.1 80 { }\nfoo bar {\ndelay_loop 3\nbaz {\n}\n}\ndelay_lop 7\nalpha",
    ));
    let expected = [
        "6:1: there is no keyword foo in virtual_server",
        "11:1: there is no keyword delay_lop in virtual_server",
    ];
    assert_eq!(told(&read), expected);
    assert_eq!(read.diagnostics[0].last_line, 10);
    let hint = read.diagnostics[1].hint.as_deref();
    assert_eq!(hint, Some("did you mean delay_loop?"));
}

#[test]
fn braces_that_do_not_fit_are_told() {
    let cases = [
        (
            "}\n",
            "1:1: this closing brace is one too many; it is ignored",
        ),
        (
            "global_defs {\nrouter_id a\n",
            "1:1: the block of global_defs is never closed",
        ),
        (
            "global_defs\nrouter_id a\n}\n",
            "2:1: the { of global_defs is missing",
        ),
        (
            "global_defs {\nrouter_id a {\nx\n}\n}\n",
            "2:1: router_id has no block; it is skipped",
        ),
        (
            "global_defs {\nvirtual_server 10.0.0.1 80 {\n}\n}\n",
            "2:1: there is no keyword virtual_server in global_defs",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(&read_one(text)), [expected], "{text}");
    }
}
