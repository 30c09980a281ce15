//! The command as a process: its names, its streams, its rights. As root, as the
//! socket's place wants it.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::daemon::Daemon;
use common::recording;
use evenkeel_api::paths;

/// The binary under the name `ipvsadm`, where any user may run it, and an
/// instance of its own.
struct Bench {
    directory: tempfile::TempDir,
    instance: String,
}

impl Bench {
    fn new(purpose: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let binary = directory.path().join("evenkeel");
        fs::copy(env!("CARGO_BIN_EXE_evenkeel"), &binary).expect("room for a copy");
        for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
            symlink(&binary, directory.path().join(name)).expect("a link");
        }
        Self {
            directory,
            instance: format!("test-{purpose}-{}", std::process::id()),
        }
    }

    fn daemon(&self) -> Daemon {
        Daemon::start(&paths::socket(&self.instance))
    }

    fn program(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env(paths::INSTANCE_VARIABLE, &self.instance)
            .stdin(Stdio::null());
        command
    }

    fn output(&self, name: &str, words: &[&str]) -> Output {
        self.command(&self.program(name))
            .args(words)
            .output()
            .expect("it starts")
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn is_chosen_by_its_name_or_the_first_word() {
    let bench = Bench::new("names");
    let _daemon = bench.daemon();
    assert!(
        bench
            .output("ipvsadm", &["-A", "-t", "10.0.0.10:80", "-s", "rr"])
            .status
            .success()
    );
    let rules = "-A -t 10.0.0.10:80 -s rr\n";
    assert_eq!(
        text(&bench.output("evenkeel", &["ipvsadm", "-Sn"]).stdout),
        rules
    );
    assert_eq!(text(&bench.output("ipvsadm-save", &["-n"]).stdout), rules);
    assert_eq!(
        text(&bench.output("evenkeel", &["ipvsadm-save", "-n"]).stdout),
        rules
    );
    let restored = bench.output("ipvsadm-restore", &[]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    assert_eq!(text(&bench.output("ipvsadm", &["-Sn"]).stdout), "");
}

#[test]
fn without_a_daemon_says_how_to_start_it() {
    let bench = Bench::new("none");
    let output = bench.output("ipvsadm", &["-Ln"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    let complaint = text(&output.stderr);
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    let start = format!("start it with `evenkeel run --instance {}`", bench.instance);
    assert!(
        complaint.contains("cannot reach evenkeel's daemon") && complaint.contains(&start),
        "{complaint}"
    );
}

#[test]
fn an_instance_needs_a_proper_name() {
    let bench = Bench::new("name");
    let output = bench
        .command(&bench.program("ipvsadm"))
        .env(paths::INSTANCE_VARIABLE, "../escape")
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("EVENKEEL_INSTANCE is `../escape`"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn without_the_right_says_what_ipvsadm_says() {
    let bench = Bench::new("rights");
    let _daemon = bench.daemon();
    let recorded = recording::all()
        .into_iter()
        .find(|recording| recording.name == "051-not-root");
    // The rest of what was recorded is another program's.
    let expected: String = recorded.expect("recorded").steps[0]
        .output
        .split_inclusive('\n')
        .take(2)
        .collect();
    let output = bench
        .command(Path::new("setpriv"))
        .args(["--reuid", "1000", "--regid", "1000", "--clear-groups"])
        .arg(bench.program("ipvsadm"))
        .arg("-Ln")
        .output()
        .expect("setpriv is there, and we are root");
    assert_eq!(
        (text(&output.stderr), output.status.code()),
        (expected.as_str(), Some(2))
    );
}

#[test]
fn a_reader_that_goes_away_is_no_trouble() {
    let bench = Bench::new("pipe");
    let _daemon = bench.daemon();
    for words in [&["-Ln"][..], &["-h"], &["-S"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = bench
            .command(&bench.program("ipvsadm"))
            .args(words)
            .stdout(writer)
            .output()
            .expect("it starts");
        assert_eq!(
            (text(&output.stderr), output.status.code()),
            ("", Some(0)),
            "{words:?}"
        );
    }
}

#[test]
fn a_full_disk_is_told() {
    let bench = Bench::new("full");
    let _daemon = bench.daemon();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let output = bench
        .command(&bench.program("ipvsadm"))
        .arg("-Ln")
        .stdout(full)
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).starts_with("cannot write to standard output: "),
        "{}",
        text(&output.stderr)
    );
}
