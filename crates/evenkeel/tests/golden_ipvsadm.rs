//! The recorded runs of the real `ipvsadm`, replayed.

mod common;

use common::daemon::Daemon;
use common::recording::{self, Recording};
use common::replay::{command, replay};
use evenkeel_api::client::Client;

/// Commands that made the table that a recording starts with.
const PRELUDES: &[(&str, &[&str])] = &[
    (
        "011-add-realservers-all-methods",
        &["ipvsadm -A -t 10.0.0.10:80"],
    ),
    ("012-localnode", &["ipvsadm -A -t 10.0.0.10:80 -s rr"]),
    ("013-weights", &["ipvsadm -A -t 10.0.0.10:80 -s wrr"]),
    (
        "014-edit-server-weight-and-method",
        &[
            "ipvsadm -A -t 10.0.0.10:80 -s wrr",
            "ipvsadm -a -t 10.0.0.10:80 -r 192.168.1.1 -m",
        ],
    ),
    ("015-thresholds", &["ipvsadm -A -t 10.0.0.10:80"]),
    (
        "019-duplicate-and-missing",
        &[
            "ipvsadm -A -t 10.0.0.10:80 -s rr",
            "ipvsadm -a -t 10.0.0.10:80 -r 192.168.1.1 -m",
        ],
    ),
    ("027-tunnel-types", &["ipvsadm -A -t 10.0.0.10:80 -s rr"]),
    (
        "034-save-restore-roundtrip",
        &[
            "ipvsadm -A -t 10.0.0.10:80 -s wrr -p 60",
            "ipvsadm -a -t 10.0.0.10:80 -r 192.168.1.1:8080 -m -w 3",
            "ipvsadm -A -t [2001:db8::10]:443 -s lc",
            "ipvsadm -a -t [2001:db8::10]:443 -r [2001:db8::101]:443 -g -w 0",
            "ipvsadm -A -f 3 -s sh -b sh-port",
            "ipvsadm -a -f 3 -r 192.168.1.2 -i",
        ],
    ),
    (
        "035-save-nonnumeric",
        &[
            "ipvsadm -A -t 10.0.0.10:80 -s rr",
            "ipvsadm -a -t 10.0.0.10:80 -r 192.168.1.1:443 -m",
        ],
    ),
    ("037-zero", &["ipvsadm -A -t 10.0.0.10:80 -s rr"]),
    ("038-clear", &["ipvsadm -A -t 10.0.0.10:80 -s rr"]),
    (
        "039-delete-service-with-servers",
        &[
            "ipvsadm -A -t 10.0.0.10:80 -s rr",
            "ipvsadm -a -t 10.0.0.10:80 -r 192.168.1.1 -m",
            "ipvsadm -a -t 10.0.0.10:80 -r 192.168.1.2",
        ],
    ),
    // Port 81 was there before.
    ("041-bad-realserver", &["ipvsadm -A -t 10.0.0.10:80 -s rr"]),
    (
        "045-list-one-service",
        &[
            "ipvsadm -A -t 10.0.0.10:80 -s rr",
            "ipvsadm -a -t 10.0.0.10:80 -r 192.168.1.1 -m",
            "ipvsadm -A -u 10.0.0.10:53 -s rr",
            "ipvsadm -A -f 5 -s rr",
        ],
    ),
    ("052-weight-range", &["ipvsadm -A -t 10.0.0.10:80 -s wrr"]),
];

/// What is not supported in recordings that are replayed in part. All others
/// are replayed whole.
const IN_PART: &[(&str, &[&str])] = &[
    ("031-daemons", &["--start-daemon"]),
    ("032-daemon-options", &["--start-daemon"]),
    ("033-daemon-errors", &["--start-daemon"]),
];

/// What Evenkeel does and the recorded kernel does not, by recording and command.
const MORE: &[(&str, &str)] = &[
    // Debian's kernel is built without this scheduler.
    (
        "020-unknown-scheduler",
        "ipvsadm -A -t 10.0.0.10:80 -s twos",
    ),
];

/// True if the recording is of connections: lines of them, or counts above 0.
fn shows_traffic(recording: &Recording) -> bool {
    recording.text.lines().any(|line| {
        let is_state = |word: &str| {
            word.len() > 2 && word.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'_'))
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // As -c lists them: protocol, time, state.
            ["TCP" | "UDP", time, state, ..] if time.contains(':') && is_state(state) => true,
            // As the schedulers' recordings do: port, client, server.
            [_, "0A000002", "->", ..] => true,
            ["->", _, .., active, inactive] => [active, inactive]
                .iter()
                .any(|count| count.parse::<u64>().is_ok_and(|count| count > 0)),
            _ => false,
        }
    })
}

/// The recordings that the command line alone can repeat.
fn repeatable() -> Vec<Recording> {
    let all = recording::all();
    assert!(all.len() > 50, "the recordings are there");
    let is_ours = |recording: &Recording| {
        recording
            .steps
            .iter()
            .any(|step| step.command.starts_with("ipvsadm"))
    };
    let mut repeatable: Vec<Recording> = all
        .into_iter()
        .filter(|recording| is_ours(recording) && !shows_traffic(recording))
        .collect();
    for (name, command) in MORE {
        let recording = repeatable.iter_mut().find(|other| other.name == *name);
        let steps = &mut recording.expect("recorded").steps;
        let count = steps.len();
        steps.retain(|step| step.command != *command);
        assert_eq!(steps.len(), count - 1, "{name}: {command}");
    }
    repeatable
}

struct Bench {
    _directory: tempfile::TempDir,
    _daemon: Daemon,
    client: Client,
}

fn bench() -> Bench {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory.path().join("socket"));
    let client = Client::at("test", daemon.socket());
    Bench {
        _directory: directory,
        _daemon: daemon,
        client,
    }
}

/// Every recording is replayed: whole, or as far as what it uses is there.
#[test]
fn recorded_runs() {
    let bench = bench();
    let (mut whole, mut compared, mut in_part) = (0, 0, Vec::new());
    for recording in repeatable() {
        let prelude = PRELUDES.iter().find(|(of, _)| *of == recording.name);
        let report = replay(
            &bench.client,
            &recording,
            prelude.map_or(&[][..], |(_, lines)| lines),
        );
        compared += report.compared;
        if report.skipped == 0 {
            whole += 1;
        } else {
            in_part.push((
                recording.name,
                report.unsupported.into_iter().collect::<Vec<_>>(),
            ));
        }
    }
    // What is left out is left out for these reasons and no others.
    let expected: Vec<(String, Vec<String>)> = IN_PART
        .iter()
        .map(|(name, names)| {
            (
                (*name).into(),
                names.iter().map(|name| (*name).into()).collect(),
            )
        })
        .collect();
    assert_eq!(in_part, expected);
    println!("{whole} recordings whole, {compared} commands compared");
    assert!(whole >= 14 && compared >= 124, "{whole} {compared}");
}

/// What is not replayed is a recording of connections or of other programs.
#[test]
fn the_other_recordings_need_traffic() {
    let traffic: Vec<_> = recording::all()
        .into_iter()
        .filter(shows_traffic)
        .map(|recording| recording.name)
        .collect();
    for name in &traffic {
        assert!(
            ["06", "07", "s1", "s2", "s3"]
                .iter()
                .any(|prefix| name.starts_with(prefix)),
            "{name} can be replayed"
        );
    }
}

/// The listing before the traffic of this recording: servers as the director
/// keeps them, the last added first.
#[test]
fn unsorted_listing() {
    let bench = bench();
    let recording = recording::all()
        .into_iter()
        .find(|recording| recording.name == "s1-seq-udp-rr");
    let mut recording = recording.expect("recorded");
    recording.steps.truncate(1);
    assert_eq!(recording.steps[0].command, "ipvsadm -Ln --nosort");
    let prelude = [
        "ipvsadm -A -u 10.0.0.10:5000 -s rr",
        "ipvsadm -a -u 10.0.0.10:5000 -r 192.168.1.1:8081 -m -w 3",
        "ipvsadm -a -u 10.0.0.10:5000 -r 192.168.1.1:8082 -m -w 2",
        "ipvsadm -a -u 10.0.0.10:5000 -r 192.168.1.1:8083 -m -w 1",
    ];
    assert_eq!(replay(&bench.client, &recording, &prelude).compared, 1);
}

impl Bench {
    /// Runs a command and gives what it printed, with the exit code where it is not 0.
    fn said(&self, line: &str) -> String {
        let outcome = command(&self.client, line, "");
        if outcome.exit == 0 {
            outcome.output
        } else {
            format!("{}[exit {}]", outcome.output, outcome.exit)
        }
    }
}

#[test]
fn servers_come_and_go() {
    let bench = bench();
    assert_eq!(bench.said("ipvsadm -A -t 10.0.0.10:80 -s wrr"), "");
    for server in ["192.168.1.2", "192.168.1.1:8080", "10.0.0.3"] {
        assert_eq!(
            bench.said(&format!("ipvsadm -a -t 10.0.0.10:80 -r {server} -m")),
            ""
        );
    }
    assert_eq!(bench.said("ipvsadm -d -t 10.0.0.10:80 -r 192.168.1.2"), "");
    let saved = "-A -t 10.0.0.10:80 -s wrr\n\
                 -a -t 10.0.0.10:80 -r 192.168.1.1:8080 -m -w 1\n\
                 -a -t 10.0.0.10:80 -r 10.0.0.3:80 -m -w 1\n";
    assert_eq!(bench.said("ipvsadm -Sn"), saved);
    assert_eq!(bench.said("ipvsadm -D -t 10.0.0.10:80"), "");
    assert_eq!(bench.said("ipvsadm -Sn"), "");
}

#[test]
fn editing_takes_defaults() {
    let bench = bench();
    assert_eq!(bench.said("ipvsadm -A -t 10.0.0.10:80 -s wrr"), "");
    assert_eq!(
        bench.said("ipvsadm -a -t 10.0.0.10:80 -r 192.168.1.1 -m -w 7"),
        ""
    );
    let server = |weight| format!("-a -t 10.0.0.10:80 -r 192.168.1.1:80 -m -w {weight}\n");
    // The weight that is not given is 1, the method that is not given -g.
    assert_eq!(
        bench.said("ipvsadm -e -t 10.0.0.10:80 -r 192.168.1.1 -m"),
        ""
    );
    assert_eq!(
        bench.said("ipvsadm -Sn"),
        format!("-A -t 10.0.0.10:80 -s wrr\n{}", server(1))
    );
    assert_eq!(
        bench.said("ipvsadm -e -t 10.0.0.10:80 -r 192.168.1.1 -w 9"),
        ""
    );
    assert_eq!(bench.said("ipvsadm -E -t 10.0.0.10:80 -s rr -p 5"), "");
    assert_eq!(
        bench.said("ipvsadm -Sn"),
        "-A -t 10.0.0.10:80 -s rr -p 5\n\
         -a -t 10.0.0.10:80 -r 192.168.1.1:80 -g -w 9\n"
    );
    // The scheduler that is not given is wlc, the persistence that is not given none.
    assert_eq!(bench.said("ipvsadm -E -t 10.0.0.10:80"), "");
    assert_eq!(
        bench.said("ipvsadm -Sn"),
        "-A -t 10.0.0.10:80 -s wlc\n\
         -a -t 10.0.0.10:80 -r 192.168.1.1:80 -g -w 9\n"
    );
}

#[test]
fn listing_options() {
    let bench = bench();
    assert_eq!(bench.said("ipvsadm -A -t 10.0.0.10:80 -s rr"), "");
    let listed = bench.said("ipvsadm -Ln");
    for options in [
        "--exact",
        "-X",
        "--sort",
        "--sort --sort",
        "--nosort",
        "--exact --nosort",
    ] {
        assert_eq!(
            bench.said(&format!("ipvsadm -Ln {options}")),
            listed,
            "{options}"
        );
    }
    assert_eq!(
        bench.said("ipvsadm -L --timeout --exact"),
        "Timeout (tcp tcpfin udp): 900 120 300\n"
    );
}
