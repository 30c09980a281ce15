use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use evenkeel_core::model::{Mail, Pipe, Script, User};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const LONG: Duration = Duration::from_secs(30);

fn alerts() -> Alerts {
    Alerts {
        router_id: Some("LVS".into()),
        script_user: Some(User {
            name: "root".into(),
            group: None,
        }),
        ..Alerts::default()
    }
}

fn news(subject: &str, line: &str) -> News {
    News {
        subject: subject.into(),
        script: None,
        line: line.into(),
        mail: None,
    }
}

fn runs(subject: &str, text: &str) -> News {
    News {
        script: Some(Script {
            command: vec!["/bin/sh".into(), "-c".into(), text.into()],
            user: None,
        }),
        ..news(subject, "")
    }
}

fn mails(subject: &str) -> News {
    News {
        mail: Some((subject.into(), "=> text <=".into())),
        ..news("", "")
    }
}

/// Waits until this holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn scripts_of_a_subject_run_in_order_and_others_beside_them() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let notifier = Notifier::start(&alerts());
    let (log, go) = (at("log"), at("go"));
    let wait = format!("while [ ! -e {go} ]; do sleep 0.02; done; echo 0 >>{log}");
    notifier.tell(runs("a", &wait));
    for number in 1..5 {
        notifier.tell(runs(
            "a",
            &format!("echo {number} >>{log}; exit {}", number % 2),
        ));
    }
    let other = at("other");
    notifier.tell(runs("b", &format!("touch {other}")));
    until("the other subject", || Path::new(&other).exists()).await;
    assert!(!Path::new(&log).exists());
    until("the other's end", || {
        notifier.deliveries().scripts.waiting == 5
    })
    .await;
    fs::write(&go, "").unwrap();
    until("all runs", || notifier.deliveries().scripts.waiting == 0).await;
    assert_eq!(fs::read_to_string(&log).unwrap(), "0\n1\n2\n3\n4\n");
    let scripts = notifier.deliveries().scripts;
    assert_eq!(
        (scripts.delivered, scripts.failed, scripts.dropped),
        (4, 2, 0)
    );
    let error = scripts.last_error.unwrap();
    assert!(error.ends_with("exit 1 for a: exit status 1"), "{error}");
}

/// The manual's script, with its log in another place.
#[tokio::test]
async fn the_manuals_script_runs() {
    let manual = include_str!("../../../../docs/alerts.md");
    let block = manual.split("```sh\n").nth(1).unwrap();
    let text = block.split("```").next().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (log, told) = (directory.path().join("log"), directory.path().join("told"));
    fs::write(
        &told,
        text.replace("/var/log/told", &log.display().to_string()),
    )
    .unwrap();
    fs::set_permissions(&told, fs::Permissions::from_mode(0o755)).unwrap();
    let notifier = Notifier::start(&alerts());
    let words = ["web", "DOWN"].map(String::from);
    let script = Script {
        command: [told.display().to_string()]
            .into_iter()
            .chain(words)
            .collect(),
        user: None,
    };
    notifier.tell(News {
        script: Some(script),
        ..news("a", "")
    });
    notifier.finish(LONG).await;
    let line = fs::read_to_string(&log).unwrap();
    assert!(line.ends_with(" web is DOWN\n"), "{line}");
}

#[tokio::test]
async fn of_too_many_runs_the_last_are_done() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let notifier = Notifier::start(&alerts());
    let (log, go, started) = (at("log"), at("go"), at("started"));
    let wait = format!("touch {started}; while [ ! -e {go} ]; do sleep 0.02; done");
    notifier.tell(runs("a", &wait));
    until("the first to run", || Path::new(&started).exists()).await;
    for number in 1..=50 {
        notifier.tell(runs("a", &format!("echo {number} >>{log}")));
    }
    fs::write(&go, "").unwrap();
    notifier.finish(LONG).await;
    let text = fs::read_to_string(&log).unwrap();
    let numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers.last(), Some(&50));
    assert!(numbers.is_sorted());
    let scripts = notifier.deliveries().scripts;
    assert_eq!(scripts.dropped + numbers.len() as u64, 50);
    assert_eq!(numbers.len(), 16, "{numbers:?}");
    notifier.tell(runs("a", "exit 0"));
    assert_eq!(notifier.deliveries().scripts.dropped, scripts.dropped + 1);
}

#[tokio::test]
async fn the_end_waits_for_scripts_but_not_for_ever() {
    let notifier = Notifier::start(&alerts());
    notifier.tell(runs("a", "sleep 1000"));
    notifier.tell(runs("a", "exit 0"));
    notifier.finish(Duration::from_millis(100)).await;
    let scripts = notifier.deliveries().scripts;
    assert_eq!((scripts.dropped, scripts.waiting), (2, 0));
}

fn pipe(path: &Path) -> Pipe {
    Pipe {
        path: path.display().to_string(),
        user: None,
        reader: None,
    }
}

// The test reads without tokio, and waits for what the tasks write.
#[tokio::test(flavor = "multi_thread")]
async fn pipes_get_lines_and_go_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (
        directory.path().join("first"),
        directory.path().join("second"),
    );
    let mut alerts = alerts();
    alerts.pipes = vec![pipe(&first), pipe(&second)];
    let notifier = Notifier::start(&alerts);
    // What is told before somebody reads waits.
    notifier.tell(news("a", "RS [10.0.0.1]:tcp:80 [10.0.0.9]:tcp:80 DOWN"));
    notifier.tell(news("b", "two\nlines"));
    until("the pipes", || notifier.deliveries().pipes.delivered == 4).await;
    let mode = fs::metadata(&first).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    for path in [&first, &second] {
        let mut reader = BufReader::new(File::open(path).unwrap());
        for expected in [
            "RS [10.0.0.1]:tcp:80 [10.0.0.9]:tcp:80 DOWN\n",
            "two lines\n",
        ] {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, expected);
        }
    }
    // One that stays is the same pipe, and a new one comes in another's place.
    let mut reader = File::open(&first).unwrap();
    alerts.pipes = vec![pipe(&first), pipe(&directory.path().join("third"))];
    notifier.reload(&alerts);
    until("the change", || {
        !second.exists() && directory.path().join("third").exists()
    })
    .await;
    notifier.tell(news("a", "after"));
    let mut bytes = [0; 6];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"after\n");
    notifier.finish(LONG).await;
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("news");
    let mut alerts = alerts();
    alerts.pipes = vec![pipe(&path)];
    let notifier = Notifier::start(&alerts);
    let told: u32 = 20_000;
    for number in 0..told {
        notifier.tell(news("a", &format!("number {number}")));
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    notifier.tell(news("a", &"long ".repeat(1000)));
    until("the pipe to be full", || {
        notifier.deliveries().pipes.waiting == 1025
    })
    .await;
    let before = notifier.deliveries().pipes;
    assert!(before.dropped > 1000, "{before:?}");
    // Whoever comes gets what is there, in whole lines and in order, and the newest.
    let mut options = OpenOptions::new();
    let file = options.read(true).open(&path).unwrap();
    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(file).lines();
        let lines = lines.map(|line| line.unwrap()).map(|line| {
            let number = line.strip_prefix("number ").unwrap();
            number.parse::<u32>().unwrap()
        });
        lines.collect::<Vec<u32>>()
    });
    until("all lines", || notifier.deliveries().pipes.waiting == 0).await;
    notifier.finish(LONG).await;
    let numbers = reading.join().unwrap();
    assert!(numbers.is_sorted());
    assert_eq!(numbers.last(), Some(&(told - 1)));
    let after = notifier.deliveries().pipes;
    assert_eq!(after.delivered, numbers.len() as u64);
    assert_eq!(after.delivered + after.dropped, u64::from(told) + 1);
}

#[tokio::test]
async fn a_reader_is_started_with_the_path_and_reads_to_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (path, log) = (directory.path().join("news"), directory.path().join("log"));
    let reader = directory.path().join("reader");
    let text = format!(
        "#!/bin/sh\nwhile read -r line; do echo \"got $line\"; done <\"$2\" >>{}\n",
        log.display()
    );
    fs::write(&reader, text).unwrap();
    fs::set_permissions(&reader, fs::Permissions::from_mode(0o755)).unwrap();
    let mut alerts = alerts();
    alerts.pipes = vec![Pipe {
        reader: Some(Script {
            command: vec![reader.display().to_string(), "first".into()],
            user: None,
        }),
        ..pipe(&path)
    }];
    let notifier = Notifier::start(&alerts);
    notifier.tell(news("a", "one"));
    until("the reader", || log.exists()).await;
    notifier.tell(news("a", "two"));
    notifier.finish(LONG).await;
    assert_eq!(fs::read_to_string(&log).unwrap(), "got one\ngot two\n");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_reader_that_has_ended_is_started_again_by_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let (path, log) = (directory.path().join("news"), directory.path().join("log"));
    let reader = directory.path().join("reader");
    // One line, and it ends.
    let text = format!(
        "#!/bin/sh\nread -r line <\"$1\"; echo \"$$ $line\" >>{}\n",
        log.display()
    );
    fs::write(&reader, text).unwrap();
    fs::set_permissions(&reader, fs::Permissions::from_mode(0o755)).unwrap();
    let mut alerts = alerts();
    alerts.pipes = vec![Pipe {
        reader: Some(Script {
            command: vec![reader.display().to_string()],
            user: None,
        }),
        ..pipe(&path)
    }];
    let notifier = Notifier::start(&alerts);
    let lines = || fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    notifier.tell(news("a", "one"));
    until("the first reader", || lines() == 1).await;
    // It may not be known yet that it has ended.
    until("the second reader", || {
        notifier.reload(&alerts);
        notifier.tell(news("a", "two"));
        lines() >= 2
    })
    .await;
    notifier.finish(LONG).await;
}

#[tokio::test]
async fn what_is_in_the_way_of_a_pipe_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("news");
    fs::write(&path, "mine").unwrap();
    let mut alerts = alerts();
    alerts.pipes = vec![pipe(&path)];
    let notifier = Notifier::start(&alerts);
    notifier.tell(news("a", "one"));
    until("the failure", || notifier.deliveries().pipes.dropped == 1).await;
    let error = notifier.deliveries().pipes.last_error.unwrap();
    assert!(error.contains("no named pipe"), "{error}");
    notifier.finish(LONG).await;
    assert!(!fs::metadata(&path).unwrap().file_type().is_fifo());
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

fn mail(port: u16) -> Mail {
    Mail {
        server: "127.0.0.1".into(),
        port,
        timeout: Duration::from_secs(5),
        helo: Some("director".into()),
        from: Some("lvs@example.com".into()),
        to: vec!["a@example.com".into(), "b@example.com".into()],
        quiet: false,
    }
}

/// A server that answers each line with the next of these, and gives what it was told. An
/// answer without text closes the connection.
async fn converse(listener: &TcpListener, answers: &[&str]) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (reader, mut writer) = stream.split();
    let mut lines = tokio::io::BufReader::new(reader).lines();
    let mut told = String::new();
    let mut in_mail = false;
    for answer in answers {
        if answer.is_empty() {
            return told;
        }
        writer.write_all(answer.as_bytes()).await.unwrap();
        writer.write_all(b"\r\n").await.unwrap();
        in_mail |= answer.starts_with("354");
        while let Some(line) = lines.next_line().await.unwrap() {
            told += &line;
            told.push('\n');
            if !in_mail || line == "." {
                in_mail = false;
                break;
            }
        }
    }
    told
}

const GOOD: &[&str] = &[
    "220 x", "250 x", "250 x", "250 x", "250 x", "354 x", "250 x", "221 x",
];

#[tokio::test]
async fn mail_is_tried_again_and_then_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut alerts = alerts();
    alerts.mail = Some(mail(listener.local_addr().unwrap().port()));
    let notifier = Notifier::start(&alerts);
    notifier.tell(mails("one"));
    assert_eq!(converse(&listener, &["421 busy"]).await, "");
    assert_eq!(notifier.deliveries().mail.waiting, 1);
    converse(
        &listener,
        &["220-x\r\n220 x", "250 x", "250 x", "451 x", "450 x"],
    )
    .await;
    let told = converse(&listener, GOOD).await;
    assert!(told.starts_with(
        "HELO director\nMAIL FROM:<lvs@example.com>\nRCPT TO:<a@example.com>\n\
         RCPT TO:<b@example.com>\nDATA\nDate: "
    ));
    assert!(told.ends_with(
        "From: lvs@example.com\nSubject: [LVS] one\nX-Mailer: Keepalived\n\
         To: a@example.com, b@example.com\n\n=> text <=\n\n.\nQUIT\n"
    ));
    // What is refused for good is not tried again, and holds no other up; a receiver that is
    // refused holds up no other receiver.
    notifier.tell(mails("two"));
    notifier.tell(mails("three"));
    converse(&listener, &["220 x", "250 x", "550 go away"]).await;
    let some = [
        "220 x", "250 x", "250 x", "550 who?", "250 x", "354 x", "250 x", "",
    ];
    let told = converse(&listener, &some).await;
    assert!(told.contains("Subject: [LVS] three\n"));
    until("the mail", || notifier.deliveries().mail.waiting == 0).await;
    let counts = notifier.deliveries().mail;
    assert_eq!((counts.delivered, counts.failed, counts.dropped), (2, 1, 0));
    assert!(counts.last_error.unwrap().contains("550 go away"));
    // At the end there is one attempt.
    drop(listener);
    notifier.tell(mails("four"));
    notifier.finish(LONG).await;
    assert_eq!(notifier.deliveries().mail.failed, 2);
}

#[tokio::test]
async fn a_mail_server_that_never_answers_holds_up_mail_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut alerts = alerts();
    let mut slow = mail(listener.local_addr().unwrap().port());
    slow.timeout = Duration::from_mins(1);
    alerts.mail = Some(slow);
    let notifier = Notifier::start(&alerts);
    for number in 0..1200 {
        notifier.tell(mails(&number.to_string()));
    }
    notifier.tell(runs("a", "exit 0"));
    until("the script", || {
        notifier.deliveries().scripts.delivered == 1
    })
    .await;
    let counts = notifier.deliveries().mail;
    assert!(counts.dropped >= 199, "{counts:?}");
    // Without mail in the configuration none is sent.
    notifier.finish(Duration::ZERO).await;
    let counts = notifier.deliveries().mail;
    assert_eq!((counts.waiting, counts.dropped), (0, 1200));
}
