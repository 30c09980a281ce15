//! `evenkeel convert` on files of each kind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const KEEPALIVED: &str = "\
virtual_server 10.0.0.10 443 {
    protocol TCP
    delay_loop 10
    lb_algo wrr
    lb_kind DR
    no_such_keyword
    real_server 192.168.1.1 443 {
        weight 3
        SSL_GET {
            url {
                path /health
                status_code 200
            }
        }
    }
}
";

const TOML: &str = "\
[[service]]
address = \"10.0.0.11\"
port = 6379

[[service.check]]
type = \"redis\"
password = \"very secret\"

[[service.server]]
address = \"192.168.1.1\"
";

const RULES: &str = "\
-A -t 10.0.0.12:80 -s rr
-a -t 10.0.0.12:80 -r 192.168.1.1:80 -g -w 1
-a -t 10.0.0.99:80 -r 192.168.1.1:80 -g -w 1
";

fn convert(directory: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_evenkeel");
    let mut command = Command::new(program);
    command.current_dir(directory).arg("convert");
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("keepalived.conf", KEEPALIVED),
        ("own.toml", TOML),
        ("saved", RULES),
        ("wrong.toml", "[[service]]\nport = 80\n"),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

#[test]
fn what_is_toml_stays_as_it_is() {
    let directory = directory();
    let output = convert(directory.path(), &["own.toml"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), TOML);
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn keepalived_conf_is_converted_with_its_warnings() {
    let directory = directory();
    let output = convert(directory.path(), &["keepalived.conf"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let written = text(&output.stdout);
    for line in [
        "address = \"10.0.0.10\"",
        "scheduler = \"wrr\"",
        "method = \"route\"",
        "weight = 3",
        "type = \"https\"",
        "path = \"/health\"",
        "interval = 10",
    ] {
        assert!(
            written.lines().any(|found| found == line),
            "{line}\n{written}"
        );
    }
    let warnings = text(&output.stderr);
    assert!(warnings.contains("keepalived.conf:6:"), "{warnings}");
    assert!(warnings.contains("no_such_keyword"), "{warnings}");
}

#[test]
fn saved_rules_are_converted() {
    let directory = directory();
    let output = convert(directory.path(), &["saved"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let written = text(&output.stdout);
    assert!(written.contains("services = \"ipvs\""), "{written}");
    assert_eq!(written.matches("[[service.server]]").count(), 1);
    assert_eq!(
        text(&output.stderr),
        "saved:3: warning: service not defined\n"
    );
}

#[test]
fn several_files_become_one_that_its_owner_alone_may_read() {
    let directory = directory();
    let path = directory.path().join("all.toml");
    fs::write(&path, "what was there before, and is longer than nothing").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let files = ["keepalived.conf", "own.toml", "saved", "-o", "all.toml"];
    let output = convert(directory.path(), &files);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written.matches("[[service]]").count(), 3, "{written}");
    assert!(written.contains("password = \"very secret\""));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // What is written is read again, and is the same.
    let again = convert(directory.path(), &["all.toml"]);
    assert_eq!(text(&again.stdout), written);
}

#[test]
fn nothing_is_written_after_errors() {
    let directory = directory();
    for files in [
        &["wrong.toml", "-o", "out"][..],
        &["not-there.toml", "-o", "out"],
        &["saved", "saved", "-o", "out"],
        &["saved", "--format", "native", "-o", "out"],
    ] {
        let output = convert(directory.path(), files);
        assert_eq!(output.status.code(), Some(1), "{files:?}");
        assert!(!output.stderr.is_empty());
        assert!(!directory.path().join("out").exists(), "{files:?}");
    }
}
