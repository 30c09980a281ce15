//! `evenkeel check` and `evenkeel explain`: the chapter of `docs/configuration.md` on
//! keepalived.conf, run, and what is for programs.

use std::fs;
use std::process::{Command, Output};

use evenkeel_lab::session;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");

fn evenkeel(arguments: &[&str], directory: &std::path::Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("evenkeel runs")
}

/// The chapter, and the file in it.
fn chapter() -> (String, String) {
    let text = fs::read_to_string(PAGE).expect("docs/configuration.md");
    let (_, rest) = text
        .split_once("\n## keepalived.conf\n")
        .expect("the chapter");
    let (chapter, _) = rest.split_once("\n## ").expect("the next chapter");
    let (_, rest) = chapter.split_once("```keepalived\n").expect("the file");
    let (file, _) = rest.split_once("```").expect("the file's end");
    (chapter.to_owned(), file.to_owned())
}

#[test]
fn the_chapter_prints_what_is_written() {
    let (chapter, file) = chapter();
    let work = tempfile::tempdir().expect("a directory");
    fs::write(work.path().join("keepalived.conf"), file).expect("a file");
    let steps = session::parse(&chapter).expect("sessions");
    assert_eq!(steps.len(), 3);
    session::run(&steps, |_, line| {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let output = evenkeel(&words, work.path());
        let text = [output.stderr, output.stdout].concat();
        Ok(String::from_utf8_lossy(&text).into_owned())
    })
    .expect("the sessions are right");
}

#[test]
fn programs_are_told_in_json() {
    let work = tempfile::tempdir().expect("a directory");
    let text = "virtual_server 10.0.0.1 80 {\n  protocol\n  lb_algo robin\n}\n";
    fs::write(work.path().join("a.conf"), text).expect("a file");
    let output = evenkeel(&["check", "--json", "a.conf"], work.path());
    assert_eq!(output.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["errors"], 1);
    assert_eq!(told["warnings"], 2);
    let expected = serde_json::json!({
        "file": "a.conf",
        "line": 2,
        "column": 3,
        "length": 8,
        "last_line": 2,
        "severity": "error",
        "message": "nothing stands behind protocol",
        "expected": "expected protocol TCP|UDP|SCTP",
    });
    assert_eq!(told["diagnostics"][1], expected);
}

#[test]
fn files_of_both_languages_are_checked_together() {
    let work = tempfile::tempdir().expect("a directory");
    let (_, file) = chapter();
    fs::write(work.path().join("keepalived.conf"), file).expect("a file");
    let native = "[[service]]\naddress = \"192.168.10.9\"\nport = 80\n";
    fs::write(work.path().join("a.toml"), native).expect("a file");
    let output = evenkeel(&["check", "keepalived.conf", "a.toml"], work.path());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("error: TCP 192.168.10.9:80 stands in two files"),
        "{text}"
    );
    assert!(text.ends_with("1 error, 4 warnings\n"), "{text}");
    let wrong = evenkeel(
        &["check", "--format", "native", "keepalived.conf"],
        work.path(),
    );
    assert_eq!(wrong.status.code(), Some(1));
    let missing = evenkeel(&["check", "none.conf"], work.path());
    let text = String::from_utf8_lossy(&missing.stdout);
    assert!(text.contains("none.conf cannot be read"), "{text}");
}
