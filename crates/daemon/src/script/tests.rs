use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::Instant;

use super::*;

const LONG: Duration = Duration::from_secs(30);

fn alerts() -> Alerts {
    Alerts {
        script_user: Some(User {
            name: "root".into(),
            group: None,
        }),
        ..Alerts::default()
    }
}

fn script(words: &[&str]) -> Script {
    Script {
        command: words.iter().map(|&word| word.into()).collect(),
        user: None,
    }
}

fn shell(text: &str) -> Script {
    script(&["/bin/sh", "-c", text])
}

async fn run(script: &Script, limit: Duration) -> Result<Outcome, String> {
    Scripts::new(&alerts())
        .run(script, limit, Output::Keep)
        .await
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Waits until the process that wrote its number to a file is gone.
async fn gone(file: &Path) {
    let deadline = Instant::now() + LONG;
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if let Some(number) = text.lines().next() {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            // Whoever has to wait for it may not have done so yet.
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
        }
        assert!(Instant::now() < deadline, "process {text} is there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn words_are_arguments_as_they_are() {
    let words = ["/bin/echo", "a b", "$HOME", ";", "`id`", "*"];
    let outcome = run(&script(&words), LONG).await.unwrap();
    assert_eq!(outcome.end, End::Exit(0));
    assert_eq!(outcome.output, "a b $HOME ; `id` *\n");
}

#[tokio::test]
async fn ends_are_told_apart() {
    let outcome = run(&shell("echo no >&2; exit 7"), LONG).await.unwrap();
    assert_eq!((outcome.end, &*outcome.output), (End::Exit(7), "no\n"));
    let outcome = run(&shell("kill -9 $$"), LONG).await.unwrap();
    assert_eq!(outcome.end, End::Signal(9));
    assert_eq!(End::Exit(7).to_string(), "exit status 7");
    let late = End::Late(Duration::from_millis(1500)).to_string();
    assert_eq!(late, "killed: not done within 1.5 s");
}

#[tokio::test]
async fn a_late_script_is_killed_with_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let (child, deaf) = (
        directory.path().join("child"),
        directory.path().join("deaf"),
    );
    // Both obey SIGTERM late: one never, one by its parent's end alone.
    let text = format!(
        "trap '' TERM; sh -c 'echo $$ >{}; exec sleep 1000' & echo $$ >{}; wait",
        child.display(),
        deaf.display()
    );
    let limit = Duration::from_millis(300);
    let outcome = run(&shell(&text), limit).await.unwrap();
    assert_eq!(outcome.end, End::Late(limit));
    gone(&child).await;
    gone(&deaf).await;
    // And who obeys may say goodbye.
    let text =
        "exec 2>/dev/null; trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.05; done";
    let outcome = run(&shell(text), limit).await.unwrap();
    assert_eq!(outcome.output, "hello\nbye\n");
}

#[tokio::test]
async fn dropping_a_run_kills_its_group() {
    let directory = tempfile::tempdir().unwrap();
    let child = directory.path().join("child");
    let text = format!(
        "sh -c 'echo $$ >{}; exec sleep 1000' & wait",
        child.display()
    );
    {
        let script = shell(&text);
        let mut run = std::pin::pin!(run(&script, LONG));
        let written = async {
            while fs::read_to_string(&child).unwrap_or_default().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            _ = &mut run => panic!("it does not end"),
            () = written => {}
        }
    }
    gone(&child).await;
}

#[tokio::test]
async fn what_a_script_leaves_running_goes_on_and_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let done = directory.path().join("done");
    let go = directory.path().join("go");
    let text = format!(
        "(while [ ! -e {} ]; do sleep 0.05; done; touch {}) & echo started",
        go.display(),
        done.display()
    );
    let outcome = run(&shell(&text), LONG).await.unwrap();
    assert_eq!((outcome.end, &*outcome.output), (End::Exit(0), "started\n"));
    fs::write(&go, "").unwrap();
    let deadline = Instant::now() + LONG;
    while !done.exists() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn output_is_bounded() {
    let outcome = run(&shell("yes | head -c 1000000"), LONG).await.unwrap();
    assert_eq!(outcome.end, End::Exit(0));
    assert_eq!(outcome.output.len(), OUTPUT_MAX);
}

#[tokio::test]
async fn a_script_runs_as_its_user() {
    let mut as_nobody = shell("id -u");
    as_nobody.user = Some(User {
        name: "nobody".into(),
        group: Some("daemon".into()),
    });
    let outcome = run(&as_nobody, LONG).await.unwrap();
    assert_eq!(outcome.output, "65534\n");
    let identity = Scripts::new(&alerts()).identity(as_nobody.user.as_ref());
    assert_eq!(
        identity.unwrap().gid,
        process::group("daemon").unwrap().unwrap()
    );
    as_nobody.user = Some(User {
        name: "no-such-user-here".into(),
        group: None,
    });
    let error = run(&as_nobody, LONG).await.unwrap_err();
    assert_eq!(error, "there is no user no-such-user-here");
}

#[tokio::test]
async fn nobody_in_particular_is_the_daemon_unless_security_is_asked_for() {
    if process::user(DEFAULT_USER).unwrap().is_some() {
        return;
    }
    let mut alerts = Alerts::default();
    assert_eq!(Scripts::new(&alerts).identity(None), Ok(Identity::own()));
    alerts.script_security = true;
    let error = Scripts::new(&alerts).identity(None).unwrap_err();
    assert!(error.contains("script_user root"), "{error}");
}

#[tokio::test]
async fn files_are_looked_at_before_they_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("check");
    let words = script(&[path.to_str().unwrap()]);
    let error = run(&words, LONG).await.unwrap_err();
    assert!(error.starts_with("cannot find "), "{error}");
    fs::write(&path, "echo without a first line\n").unwrap();
    let error = run(&words, LONG).await.unwrap_err();
    assert!(error.contains("chmod +x"), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = run(&words, LONG).await.unwrap();
    assert_eq!(outcome.output, "without a first line\n");
    let error = run(&script(&["bin/sh"]), LONG).await.unwrap_err();
    assert!(error.contains("whole path"), "{error}");
    let error = run(&script(&["no-such-program-here"]), LONG)
        .await
        .unwrap_err();
    assert!(error.contains("PATH"), "{error}");
    let outcome = run(&script(&["true"]), LONG).await.unwrap();
    assert_eq!(outcome.end, End::Exit(0));
    assert!(run(&script(&[]), LONG).await.is_err());
}

#[test]
fn what_others_can_change_is_not_run_as_root() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let mut alerts = alerts();
    alerts.script_security = true;
    let found = |path: &Path| Scripts::new(&alerts).find(&script(&[path.to_str().unwrap()]));
    let refused = |path: &Path, why: &str| {
        let error = found(path).unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    let good = at("good");
    executable(&good, "#!/bin/sh\n");
    assert_eq!(found(&good).unwrap().unsafe_because, None);
    let bad = at("bad");
    executable(&bad, "#!/bin/sh\n");
    fs::set_permissions(&bad, fs::Permissions::from_mode(0o777)).unwrap();
    refused(&bad, "everybody can write");
    fs::set_permissions(&bad, fs::Permissions::from_mode(0o755)).unwrap();
    chown(&bad, Some(65534), None).unwrap();
    refused(&bad, "belongs to user 65534");
    // Whoever has the directory of a link on the way leads root where he likes.
    let theirs = at("theirs");
    fs::create_dir(&theirs).unwrap();
    symlink(&good, theirs.join("link")).unwrap();
    symlink(theirs.join("link"), at("first")).unwrap();
    assert!(found(&at("first")).is_ok());
    chown(&theirs, Some(65534), None).unwrap();
    refused(&at("first"), "theirs belongs to user 65534");
    // As somebody else it is run, and without security with a warning.
    let mut as_nobody = script(&[bad.to_str().unwrap()]);
    as_nobody.user = Some(User {
        name: "nobody".into(),
        group: None,
    });
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Scripts::new(&alerts).find(&as_nobody).is_ok());
    alerts.script_security = false;
    let found = Scripts::new(&alerts).find(&script(&[bad.to_str().unwrap()]));
    assert!(found.unwrap().unsafe_because.is_some());
}
