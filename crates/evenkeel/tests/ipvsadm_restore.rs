//! `-S` and `-R`, and the two scripts around them.

mod common;

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use common::daemon::Daemon;
use common::replay::{Outcome, command};
use evenkeel_api::client::Client;
use evenkeel_config::ipvsadm::save_all;
use evenkeel_core::model::Scheduler;
use proptest::prelude::*;

struct Bench {
    _directory: tempfile::TempDir,
    _daemon: Daemon,
    client: Client,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let daemon = Daemon::start(&directory.path().join("socket"));
        let client = Client::at("test", daemon.socket());
        Self {
            _directory: directory,
            _daemon: daemon,
            client,
        }
    }

    fn run(&self, line: &str) -> Outcome {
        command(&self.client, line, "")
    }

    /// Runs a command that must say nothing.
    fn quietly(&self, line: &str) {
        let outcome = self.run(line);
        assert_eq!((outcome.output.as_str(), outcome.exit), ("", 0), "{line}");
    }

    /// `-R` with these rules; output and exit code.
    fn restore(&self, rules: &str) -> (String, u8) {
        let outcome = command(&self.client, "ipvsadm -R", rules);
        (outcome.output, outcome.exit)
    }

    /// As `evenkeel save` prints it.
    fn saved_whole(&self) -> String {
        let services = self.client.services(None).expect("the table").services;
        save_all(&services, &self.client.timeouts().expect("the timeouts"))
    }

    fn saved(&self) -> String {
        self.run("ipvsadm -Sn").output
    }
}

const RULES: &str = "-A -t 10.0.0.10:80 -s wrr\n\
                     -a -t 10.0.0.10:80 -r 192.168.1.1:8080 -m -w 3\n\
                     -a -t 10.0.0.10:80 -r 192.168.1.2:8080 -m -w 0\n\
                     -A -u 10.0.0.10:53 -s rr\n";

#[test]
fn what_is_saved_is_restored() {
    let bench = Bench::new();
    assert_eq!(bench.restore(RULES), (String::new(), 0));
    assert_eq!(bench.saved(), RULES);
    assert_eq!(bench.run("ipvsadm-save -n").output, RULES);
    bench.quietly("ipvsadm -C");
    assert_eq!(bench.saved(), "");
    assert_eq!(bench.restore(RULES), (String::new(), 0));
    assert_eq!(bench.saved(), RULES);
}

#[test]
fn what_ipvsadm_saves_and_can_not_read_is_restored() {
    let bench = Bench::new();
    let rules = "-A -f 4294967295 -s rr\n-a -f 4294967295 -r 192.168.1.1:0 -g -w 1\n\
                 -A -t 10.0.0.10:7 -s mh -b flag-3\n";
    assert_eq!(bench.restore(rules), (String::new(), 0));
    let saved = bench.saved();
    assert!(saved.contains("-A -f -1 -s rr\n"), "{saved}");
    assert!(saved.contains("-s mh -b \n"), "{saved}");
    bench.quietly("ipvsadm -C");
    assert_eq!(bench.restore(&saved), (String::new(), 0));
    assert_eq!(bench.saved(), saved);
    // Typed, it is refused as ever.
    let typed = bench.run("ipvsadm -A -f -1 -s rr");
    assert_eq!(typed.output, "invalid fwmark value `-1' specified\n");
}

#[test]
fn all_that_rules_can_say_is_saved() {
    let bench = Bench::new();
    let rules = "--set 60 7 8\n\
                 -A -t 10.0.0.10:80 -s wrr\n\
                 -a -t 10.0.0.10:80 -r 192.168.1.1:8080 -m -w 3 -x 90 -y 60\n\
                 -a -t 10.0.0.10:80 -r 192.168.1.2:80 -i -w 0 --tun-type gre --tun-csum -x 5\n";
    assert_eq!(bench.restore(rules), (String::new(), 0));
    let all = bench.saved_whole();
    assert_eq!(all, rules);
    bench.quietly("ipvsadm -C");
    bench.quietly("ipvsadm --set 1 2 3");
    assert_eq!(bench.restore(&all), (String::new(), 0));
    assert_eq!(bench.saved_whole(), all);
}

#[test]
fn names_are_saved_where_they_lead_back() {
    let bench = Bench::new();
    bench.quietly("ipvsadm -A -t web.example.test:http -s rr");
    bench.quietly("ipvsadm -a -t web.example.test:http -r 192.168.1.1:https -m");
    let named = bench.run("ipvsadm -S").output;
    assert!(
        named.starts_with("-A -t web.example.test:http -s rr\n"),
        "{named}"
    );
    let numeric = bench.saved();
    bench.quietly("ipvsadm -C");
    assert_eq!(bench.restore(&named), (String::new(), 0));
    assert_eq!(bench.saved(), numeric);
}

#[test]
fn the_restore_script_clears_first_and_skips_comments() {
    let bench = Bench::new();
    bench.quietly("ipvsadm -A -t 10.9.9.9:80 -s rr");
    let outcome = command(
        &bench.client,
        "ipvsadm-restore",
        &format!("# ipvsadm.rules\n{RULES}"),
    );
    assert_eq!((outcome.output.as_str(), outcome.exit), ("", 0));
    assert_eq!(bench.saved(), RULES);
}

#[test]
fn the_save_script_knows_one_option() {
    let bench = Bench::new();
    let outcome = bench.run("ipvsadm-save --help");
    assert_eq!(outcome.exit, 1);
    assert!(
        outcome.output.starts_with("ipvsadm-save: Script to save"),
        "{}",
        outcome.output
    );
}

#[test]
fn the_programs_own_name_is_skipped() {
    let bench = Bench::new();
    let rules = "ipvsadm -A -t 10.0.0.10:80 -s rr\n\n   \nipvsadm\n-A\t-t  10.0.0.11:80 -s rr";
    assert_eq!(bench.restore(rules), (String::new(), 0));
    assert_eq!(bench.saved().lines().count(), 2);
}

#[test]
fn a_refused_line_undoes_nothing_and_ends_nothing() {
    let bench = Bench::new();
    let rules = "-A -t 10.0.0.10:80 -s rr\n-A -t 10.0.0.10:80 -s rr\n-A -t 10.0.0.11:80 -s rr\n";
    assert_eq!(bench.restore(rules), ("Service already exists\n".into(), 0));
    assert_eq!(bench.saved().lines().count(), 2);
    // The last line's exit code counts.
    let last = "-A -t 10.0.0.12:80 -s rr\n-D -t 10.0.0.99:80\n";
    assert_eq!(bench.restore(last), ("No such service\n".into(), 255));
    assert_eq!(bench.saved().lines().count(), 3);
}

#[test]
fn a_usage_error_ends_the_restore_behind_the_lines_before_it() {
    let bench = Bench::new();
    let rules = "-A -t 10.0.0.10:80 -s rr\n-A -t 10.0.0.11 -s rr\n-A -t 10.0.0.12:80 -s rr\n";
    let expected = ("Zero port specified for non-persistent service\n".into(), 2);
    assert_eq!(bench.restore(rules), expected);
    assert_eq!(bench.saved(), "-A -t 10.0.0.10:80 -s rr\n");
    // A comment is a word that is no command.
    let help = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n";
    assert_eq!(bench.restore("# rules\n-C\n"), (help.into(), 255));
    assert_eq!(bench.restore("-R\n-C\n"), (help.into(), 255));
    assert_eq!(bench.saved().lines().count(), 1);
}

#[test]
fn an_unknown_option_behind_a_command_does_not_end_it() {
    let bench = Bench::new();
    let rules = "-A -t 10.0.0.10:80 -q\n-A -t 10.0.0.11:80 -s rr\n-A -w\n";
    assert_eq!(
        bench.restore(rules),
        ("-q: unknown option\n-w: missing argument\n".into(), 255)
    );
    assert_eq!(bench.saved(), "-A -t 10.0.0.11:80 -s rr\n");
}

#[test]
fn what_is_not_supported_says_so_and_the_rest_goes_on() {
    let bench = Bench::new();
    let rules = "-A -t 10.0.0.10:80 -s rr -p 60\n--start-daemon master\n-A -f 1 -s mh -b mh-port\n";
    let (output, exit) = bench.restore(rules);
    assert_eq!(output, "not supported yet: --start-daemon\n");
    assert_eq!(exit, 0);
    assert_eq!(
        bench.saved(),
        "-A -t 10.0.0.10:80 -s rr -p 60\n-A -f 1 -s mh -b mh-port\n"
    );
    assert_eq!(bench.restore("--stop-daemon backup\n").1, 1);
}

#[test]
fn a_listing_sees_the_lines_before_it_and_ends_the_restore_when_it_fails() {
    let bench = Bench::new();
    let rules = "-A -t 10.0.0.10:80 -s rr\n-Sn\n-L -t 10.0.0.99:80\n-C\n";
    let (output, exit) = bench.restore(rules);
    assert_eq!(output, "-A -t 10.0.0.10:80 -s rr\nNo such service\n");
    assert_eq!(exit, 1);
    assert_eq!(bench.saved().lines().count(), 1);
}

/// An address of the family, and a port.
fn endpoint(ipv6: bool) -> impl Strategy<Value = (IpAddr, u16)> {
    let address =
        prop::sample::select(vec![0x0a00_0001_u32, 0x0a00_0002, 0xc0a8_0101, 0xac10_0001]);
    (address, 1_u16..4).prop_map(move |(bits, port)| {
        let address = if ipv6 {
            IpAddr::V6((0xfd00 << 112 | u128::from(bits)).into())
        } else {
            IpAddr::V4(bits.into())
        };
        (address, port)
    })
}

/// What names a service.
fn service_name(ipv6: bool) -> impl Strategy<Value = String> {
    let protocol = prop::sample::select(vec!["-t", "-u", "--sctp-service"]);
    let family = if ipv6 { " -6" } else { "" };
    prop_oneof![
        4 => (protocol, endpoint(ipv6)).prop_map(|(protocol, (address, port))| {
            format!("{protocol} {}", SocketAddr::new(address, port))
        }),
        1 => prop_oneof![1_u32..4, u32::MAX - 3..=u32::MAX]
            .prop_map(move |mark| format!("-f {mark}{family}")),
    ]
}

/// What follows it.
fn service_options(ipv6: bool) -> impl Strategy<Value = String> {
    let scheduler = prop::sample::select(Scheduler::ALL.to_vec());
    let mask = if ipv6 { "64" } else { "255.255.0.0" };
    let persistence = prop::sample::select(vec![
        String::new(),
        " -p 60".into(),
        format!(" -p 300 -M {mask}"),
        " -p 10 --pe sip".into(),
    ]);
    let flags = prop::sample::select(vec!["", " -b flag-1", " -b flag-1,flag-2", " -b flag-3"]);
    (scheduler, persistence, flags).prop_map(|(scheduler, persistence, flags)| {
        format!(" -s {}{persistence}{flags}", scheduler.name())
    })
}

/// A server as the options behind `-r`.
fn server(ipv6: bool) -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec![
        "-m",
        "-g",
        "--full-nat",
        "-i",
        "-i --tun-type gue --tun-port 6080 --tun-remcsum",
        "-i --tun-type gre --tun-csum",
    ]);
    let thresholds = prop::sample::select(vec!["", " -x 9", " -x 9 -y 4"]);
    let weight = 0_u32..=i32::MAX as u32;
    (endpoint(ipv6), method, weight, thresholds).prop_map(
        |((address, port), method, weight, thresholds)| {
            let end = SocketAddr::new(address, port);
            format!("{end} {method} -w {weight}{thresholds}")
        },
    )
}

/// Services with their servers, in any mix.
fn rules() -> impl Strategy<Value = String> {
    let service = any::<bool>().prop_flat_map(|ipv6| {
        let servers = prop::collection::vec(server(ipv6), 0..5);
        (service_name(ipv6), service_options(ipv6), servers)
    });
    prop::collection::vec(service, 0..8).prop_map(|services| {
        let mut rules = String::new();
        for (name, options, servers) in services {
            let _ = writeln!(rules, "-A {name}{options}");
            for server in servers {
                let _ = writeln!(rules, "-a {name} -r {server}");
            }
        }
        rules
    })
}

#[test]
fn any_table_comes_back() {
    let bench = Bench::new();
    let config = ProptestConfig {
        cases: 64,
        ..ProptestConfig::default()
    };
    proptest!(config, |(rules in rules())| {
        bench.quietly("ipvsadm -C");
        // Doubles are refused; what is there counts.
        bench.restore(&rules);
        let (saved, listed) = (bench.saved(), bench.run("ipvsadm -Ln").output);
        bench.quietly("ipvsadm -C");
        prop_assert_eq!(bench.restore(&saved), (String::new(), 0));
        prop_assert_eq!(bench.saved(), saved);
        prop_assert_eq!(bench.run("ipvsadm -Ln").output, listed);
        // With all that there is, thresholds too.
        bench.quietly("ipvsadm -C");
        bench.restore(&rules);
        let (all, listed) = (bench.saved_whole(), bench.run("ipvsadm -Ln --thresholds").output);
        bench.quietly("ipvsadm -C");
        prop_assert_eq!(bench.restore(&all), (String::new(), 0));
        prop_assert_eq!(bench.saved_whole(), all);
        prop_assert_eq!(bench.run("ipvsadm -Ln --thresholds").output, listed);
    });
}
