//! keepalived.conf beside the real keepalived 2.2.7: where that complains about a file, so
//! do we, about the same line.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_config::diagnostic::{Diagnostic, Severity};
use evenkeel_config::files::Disk;
use evenkeel_config::load::{Format, Input, Loaded, Options, load};

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/keepalived");
const SAMPLES: &str = "/usr/share/doc/keepalived/samples";

/// Complaints of the real program that have no counterpart, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "Invalid smtp server",
        "the mail server's name is looked up when there is mail",
    ),
    (
        "Invalid user/group",
        "told of where the user is looked up, by the name of the user",
    ),
    (
        "Unknown keyword '}'",
        "the real program does not skip unknown blocks: their ends close what is around them",
    ),
    (
        "Unable to set default user",
        "told of at the script, which has a line",
    ),
];

/// A file of our own after whose first fault the real program's other processes lose count
/// of the braces.
const LOSES_COUNT: (&str, usize) = ("missing-brace.conf", 6);

/// What the real program says: a line, if it names one, and the text.
type Complaint = (Option<usize>, String);

fn read(path: &Path) -> Loaded {
    let input = Input {
        path: path.display().to_string(),
        format: Some(Format::Keepalived),
    };
    load(&[input], &Options::of_this_machine(), &Disk)
}

/// `(FILE: Line N) text`, `(Line N) text` or `text`.
fn complaint(line: &str) -> Complaint {
    let place = line.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    if let Some((place, text)) = place
        && let Some((_, number)) = place.rsplit_once("Line ")
        && let Ok(number) = number.parse()
    {
        return (Some(number), text.trim().to_owned());
    }
    (None, line.trim().to_owned())
}

fn is_told(diagnostic: &Diagnostic, number: usize) -> bool {
    (diagnostic.place.line..=diagnostic.last_line).contains(&number)
}

/// The complaints that nothing of ours answers.
fn unanswered(complaints: &[Complaint], loaded: &Loaded) -> Vec<Complaint> {
    let found = &loaded.diagnostics;
    let is_answered = |(number, text): &Complaint| {
        EXCEPTIONS.iter().any(|(start, _)| text.starts_with(start))
            || match number {
                Some(number) => found.iter().any(|found| is_told(found, *number)),
                None => !found.is_empty(),
            }
    };
    let complaints: BTreeSet<&Complaint> = complaints.iter().collect();
    let left = complaints.into_iter().filter(|it| !is_answered(it));
    left.cloned().collect()
}

fn assert_answered(name: &str, complaints: &[Complaint], loaded: &Loaded) {
    let left = unanswered(complaints, loaded);
    let mut ours = String::new();
    for found in &loaded.diagnostics {
        let _ = writeln!(ours, "{found} (to line {})", found.last_line);
    }
    assert!(left.is_empty(), "{name}: {left:#?}\nours:\n{ours}");
}

/// Runs the real program's test of a configuration. None: it is not installed.
fn config_test(path: &Path) -> Option<Vec<Complaint>> {
    let output = Command::new("keepalived")
        .arg("-t")
        .arg("-f")
        .arg(path)
        .output();
    let output = output.ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(
        text.lines()
            .filter(|line| !line.is_empty())
            .map(complaint)
            .collect(),
    )
}

fn files(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.to_string_lossy().contains("conf"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn recorded_complaints_are_ours_too() {
    let directory = format!("{SHARED}/reference/golden/keepalived/config-test");
    let Ok(entries) = fs::read_dir(directory) else {
        println!("skipped: the recordings are not there");
        return;
    };
    let work = tempfile::tempdir().unwrap();
    let mut count = 0;
    for entry in entries {
        let recording = fs::read_to_string(entry.unwrap().path()).unwrap();
        let (first, rest) = recording.split_once('\n').unwrap();
        let name = first.split_whitespace().nth(1).unwrap();
        let (text, output) = rest.split_once("$ keepalived -t").unwrap();
        let path = work.path().join(name);
        fs::write(&path, text).unwrap();
        let output = output.lines().skip(1).filter(|line| !line.starts_with('['));
        let complaints: Vec<Complaint> = output.map(complaint).collect();
        let loaded = read(&path);
        assert_answered(name, &complaints, &loaded);
        assert_eq!(loaded.count(Severity::Error), 0, "{name}");
        count += 1;
    }
    assert_eq!(count, 31);
}

#[test]
fn the_samples_of_the_package_load() {
    let samples = files(SAMPLES);
    if samples.is_empty() {
        println!("skipped: the package keepalived is not installed");
        return;
    }
    assert!(samples.len() > 20, "{samples:?}");
    for path in samples {
        let loaded = read(&path);
        let name = path.display().to_string();
        let errors = loaded.diagnostics.iter();
        let mut errors = errors.filter(|found| found.severity == Severity::Error);
        assert_eq!(errors.next(), None, "{name}");
        let complaints = config_test(&path).unwrap_or_default();
        assert_answered(&name, &complaints, &loaded);
    }
}

#[test]
fn faults_of_all_kinds_are_told_as_the_real_program_tells_them() {
    let own = files(OWN);
    assert!(own.len() > 5, "{own:?}");
    for path in own {
        let Some(mut complaints) = config_test(&path) else {
            println!("skipped: keepalived is not installed");
            return;
        };
        if path.ends_with(LOSES_COUNT.0) {
            complaints.retain(|(line, _)| *line == Some(LOSES_COUNT.1));
            assert!(!complaints.is_empty());
        }
        assert_answered(&path.display().to_string(), &complaints, &read(&path));
    }
}

#[test]
fn the_published_configurations_load_with_warnings() {
    let directory = format!("{SHARED}/cases/3-keepalived-direct-routing");
    if !Path::new(&directory).exists() {
        println!("skipped: the case is not there");
        return;
    }
    for (name, services) in [("keepalived.conf", 1), ("options.conf", 1)] {
        let path = Path::new(&directory).join(name);
        let loaded = read(&path);
        assert_eq!(loaded.count(Severity::Error), 0);
        assert_eq!(loaded.config.services.len(), services);
        let complaints = config_test(&path).unwrap_or_default();
        assert_answered(name, &complaints, &loaded);
    }
    let text = fs::read_to_string(format!("{directory}/keepalived.conf")).unwrap();
    let work = tempfile::tempdir().unwrap();
    let second = work.path().join("keepalived.conf");
    fs::write(&second, text.replace("state MASTER", "state SLAVE")).unwrap();
    let told: Vec<String> = read(&second)
        .diagnostics
        .iter()
        .map(|found| format!("{}: {}", found.place.line, found.message))
        .collect();
    let expected = [
        "11: the block of vrrp_sync_group is read, and has no effect",
        "17: the block of vrrp_instance is read, and has no effect",
        "18: \"SLAVE\" is nothing that state takes",
        "31: no vrrp_instance carries 192.168.10.9",
        "54: this closing brace is one too many; it is ignored",
    ];
    assert_eq!(told, expected);
}
