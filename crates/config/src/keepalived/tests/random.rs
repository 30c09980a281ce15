//! Whatever stands in a file, it is read to its end, and every place is inside of it.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::table::{Takes, entries};
use super::*;

/// Lines as people write them, and parts of them.
fn line() -> impl Strategy<Value = String> {
    let keyword = prop::sample::select(entries()).prop_map(|entry| {
        let open = match entry.keyword.takes {
            Takes::Block(..) | Takes::Lines(..) => " {",
            _ => "",
        };
        format!("{}{open}", entry.keyword.syntax().replace('…', ""))
    });
    let common = prop::sample::select(vec![
        "virtual_server 10.0.0.1 80 {",
        "virtual_server group g {",
        "virtual_server_group g {",
        "10.0.0.1-9 80-90",
        "fwmark 7",
        "virtual_server fwmark 7 {",
        "real_server 10.0.1.1 80 {",
        "real_server 2001:db8::1 80 { TCP_CHECK { connect_timeout 3 } }",
        "protocol TCP",
        "lb_kind DR",
        "HTTP_GET { url { path / status_code 200 } }",
        "MISC_CHECK { misc_path \"/bin/x 'a b' \\x41\" }",
        "}",
        "} }",
        "{",
        "$A=$B $A",
        "$B=\\",
        "x \\",
        "$A ${B} ${_PWD} ${_RANDOM 1 3}",
        "~SEQ(N, 1, 3) real_server 10.0.1.$N 80 { }",
        "~SEQ(N, 1, 3) ~LST(M, a, b) $N $M",
        "@here include *.conf",
        "@^here nosuch {",
        "\"",
        "! \u{e9}\u{4e2d} # \\",
        "",
    ]);
    prop_oneof![
        3 => keyword,
        4 => common.prop_map(str::to_owned),
        1 => "[ -~äΩ\t]{0,30}",
    ]
}

proptest! {
    #[test]
    fn nothing_panics_and_places_are_real(
        lines in prop::collection::vec(line(), 0..40),
        crlf in any::<bool>(),
    ) {
        let text = lines.join(if crlf { "\r\n" } else { "\n" });
        let mut memory = Memory::default();
        memory.add("/etc/keepalived/other.conf", "router_id x\n}\nquorum {\n");
        let (read, sources) = read_with(&mut memory, &text);
        for found in &read.diagnostics {
            prop_assert!(sources.has(&found.place), "{}\n{}", found, text);
            if let Some((place, _)) = &found.other {
                prop_assert!(sources.has(place), "{}\n{}", found, text);
            }
            prop_assert!(!sources.render(found, false).is_empty());
        }
        for placed in &read.config.services {
            prop_assert!(sources.has(&placed.place));
            prop_assert_eq!(placed.servers.len(), placed.service.servers.len());
            prop_assert!(placed.service.quorum.hysteresis < placed.service.quorum.weight);
        }
    }

    #[test]
    fn bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut sources = Sources::default();
        let read = read(&[("a", &bytes)], &Memory::default(), "", &mut sources);
        for found in &read.diagnostics {
            prop_assert!(sources.has(&found.place), "{found}");
        }
    }
}

#[test]
fn every_keyword_that_acts_is_known_to_what_it_means() {
    // A block of each kind, with all of its keywords in it.
    fn fill(block: &'static super::super::table::Block, text: &mut String) {
        for keyword in block.all() {
            let words = match keyword.takes {
                Takes::Nothing | Takes::Switch => "",
                Takes::Number(..) | Takes::Seconds(..) | Takes::Signed(..) => "1",
                Takes::Choice(known) => known[0],
                _ => "10.0.0.1 80",
            };
            let _ = write!(text, "{} {words}", keyword.name);
            match keyword.takes {
                Takes::Block(inner, _) => {
                    text.push_str(" {\n");
                    fill(inner, text);
                    text.push('}');
                }
                Takes::Lines(..) => text.push_str(" { 10.0.0.1 80 }"),
                _ => {}
            }
            text.push('\n');
        }
    }
    let mut text = String::new();
    fill(&super::super::table::ROOT, &mut text);
    let unhandled: Vec<String> = read_one(&text)
        .diagnostics
        .into_iter()
        .filter(|found| found.expected.as_deref() == Some(meaning::UNHANDLED))
        .map(|found| found.message)
        .collect();
    assert_eq!(unhandled, Vec::<String>::new());
}
