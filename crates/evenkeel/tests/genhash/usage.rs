//! Command lines that ask for nothing, and some that ask nobody.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use evenkeel_lab::sandbox;

use crate::{OURS, THEIRS, loopback, run};

/// Command lines; `PORT` is one that nobody listens at.
const LINES: &[&[&str]] = &[
    &[],
    &["-h"],
    &["-v"],
    &["--help"],
    &["-h", "-v"],
    &["-v", "--version"],
    &["-q", "-z"],
    &["-vq", "-hz"],
    &["--bogus", "x"],
    &["--bogus=y", "x", "-q"],
    &["--use", "x"],
    &["--use-s", "x"],
    &["--verbose=1", "-v"],
    &["--help=1", "-s"],
    &["--server", "127.0.0.1"],
    &["-v", "-s"],
    &["-v", "-vs"],
    &["-s", "127.0.0.1", "-p"],
    &["-s", "127.0.0.1", "-p", "PORT"],
    &["-s", "127.0.0.1", "-u", "/"],
    &["-p", "PORT", "-u", "/"],
    &["-s", "127.0.0.1", "-p", "PORT", "-u", "/", "more", "words"],
    &["more", "-s", "127.0.0.1", "words", "-p", "PORT", "-u", "/"],
    &["-s", "127.0.0.1", "-p", "PORT", "--", "-u", "/"],
    &["-s", "127.0.0.1", "-p", "PORT", "-u", "/", "--"],
    &["-s", "127.0.0.1", "-p", "PORT", "-u", "/", "-"],
    &["-s", "127.0.0.1", "-p", "PORT", "-u", "/", ""],
    &["-s", "127.0.0.1", "-p", "PORT", "-u", "/", "-h"],
    &["-s", "127.0.0.1", "-p", "PORT", "-u", "/", "-q"],
    &["more", "-q", "-q"],
    &["more", "-p", "x"],
    &["-q", "-p", "x"],
    &["-p", "x", "-q"],
    // Servers.
    &["-s", "localhost", "-v"],
    &["-s", "", "-v"],
    &["-s", "127.0.1", "-v"],
    &["-s", "127.0.0.01", "-v"],
    &["-s", "127.0.0.256", "-v"],
    &["-s", " 127.0.0.1", "-v"],
    &["-s", "127.0.0.1:80", "-v"],
    &["-s", "127.0.0.1/8", "-v"],
    &["-s", "127.0.0.1-9", "-v"],
    &["-s", "127.0.0.1-9/8", "-v"],
    &["-s", "::1::", "-v"],
    &["-s", "[::1]", "-v"],
    &["-s", "::1/64", "-v"],
    &["-s", "::1%lo", "-v"],
    &["-s", "::ffff:127.0.0.1", "-v"],
    // Ports.
    &["-v", "-p", "http"],
    &["-v", "-p", ""],
    &["-v", "-p", " "],
    &["-v", "-p", "0"],
    &["-v", "-p", "-1"],
    &["-v", "-p", "65535"],
    &["-v", "-p", "65536"],
    &["-v", "-p", " +80"],
    &["-v", "-p", "80 "],
    &["-v", "-p", "0x50"],
    &["-v", "-p", "99999999999999999999999"],
    &["-v", "-p", "-99999999999999999999999"],
    // Marks.
    &["-v", "-m", "5"],
    &["-v", "-m", ""],
    &["-v", "-m", " "],
    &["-v", "-m", " 5"],
    &["-v", "-m", "\t5"],
    &["-v", "-m", "\n5"],
    &["-v", "-m", "-5"],
    &["-v", "-m", "+5"],
    &["-v", "-m", "0x5"],
    &["-v", "-m", "4294967301"],
    &["-v", "-m", "99999999999999999999999"],
    // Protocols.
    &["-v", "-P", "1.0"],
    &["-v", "-P", "1.0c"],
    &["-v", "-P", "1.0C"],
    &["-v", "-P", "1.1"],
    &["-v", "-P", "1.1c"],
    &["-v", "-P", "2"],
    &["-v", "-P", ""],
    // Times.
    &["-v", "-t", "5"],
    &["-v", "-t", ""],
    &["-v", "-t", "  "],
    &["-v", "-t", " 5"],
    &["-v", "-t", "-5"],
    &["-v", "-t", "5s"],
    &["-v", "-t", "0.5"],
    &["-v", "-t", "99999999999999999999999"],
    // Nobody is there.
    &["-s", "127.0.0.1", "-p", "PORT", "-u", "/"],
    &["-v", "-s", "127.0.0.1", "-p", "PORT", "-u", "/a b"],
    &["-s", "127.0.0.1", "-p", " +PORT", "-u", ""],
    &["-s", "::1", "-p", "PORT", "-u", "/"],
    &["-s", "127.0.0.1", "-p", "PORT", "-u", "/", "-t", "0"],
    &["-s", "::1/64", "-p", "PORT", "-u", "/"],
    &["-Ss127.0.0.1", "-pPORT", "-u/"],
    &[
        "-S",
        "--use-sni",
        "--server=127.0.0.1",
        "--port=PORT",
        "--url=/",
        "--use-v=a",
    ],
    &[
        "-s",
        "127.0.0.1",
        "-p",
        "PORT",
        "-u",
        "/",
        "-m",
        "7",
        "-t",
        "2",
        "-P",
        "1.1",
    ],
    &["-s", "192.0.2.1", "-p", "PORT", "-u", "/"],
    &["-s", "127.0.0.1/8", "-p", "PORT", "-u", "/"],
    &[
        "-s",
        "192.0.2.1",
        "-s",
        "127.0.0.1",
        "-p",
        "1",
        "-p",
        "PORT",
        "-u",
        "/",
        "-u",
        "/b",
        "-v",
    ],
];

#[test]
fn command_lines_are_taken_alike() {
    sandbox::run_test(|| {
        loopback()?;
        // Nobody else gets it while this is bound, though nobody listens.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut wrong = String::new();
        for line in LINES {
            let words: Vec<String> = line
                .iter()
                .map(|word| word.replace("PORT", &port.to_string()))
                .collect();
            let (theirs, ours) = (run(THEIRS, &words)?, run(OURS, &words)?);
            if theirs != ours {
                writeln!(wrong, "{line:?}\n  {theirs:?}\n  {ours:?}")?;
            }
        }
        ensure!(wrong.is_empty(), "\n{wrong}");
        Ok(())
    });
}

/// keepalived's program prints what stands in memory there, or dies of it.
#[test]
fn a_long_option_without_its_word_is_named() -> Result<()> {
    for (word, named) in [
        ("--protocol", "protocol"),
        ("--ser", "server"),
        ("--url", "url"),
    ] {
        let ours = run(OURS, &["-v".into(), word.into()])?;
        let line = format!("Missing parameter for option --{named}\\nUsage: genhash COMMAND ");
        ensure!(ours.errors.starts_with(&line), "{ours:?}");
        ensure!(ours.status == Some(1) && ours.out.is_empty(), "{ours:?}");
    }
    Ok(())
}

#[test]
fn a_mark_below_zero_is_refused() -> Result<()> {
    for mark in ["-5", "\n-5"] {
        let ours = run(OURS, &["-m".into(), mark.into()])?;
        ensure!(ours.errors.starts_with("invalid fwmark"), "{ours:?}");
        ensure!(ours.status == Some(1) && ours.out.is_empty(), "{ours:?}");
    }
    Ok(())
}

/// keepalived's program tries for ever.
#[test]
fn a_mark_without_the_right_to_set_it_ends() {
    sandbox::run_test(|| {
        loopback()?;
        let (host, port) = ("127.0.0.1", "9");
        let output = Command::new("setpriv")
            .args(["--bounding-set=-net_admin,-net_raw", "--inh-caps=-all"])
            .args([OURS, "genhash", "-m", "5", "-s", host, "-p", port])
            .args(["-u", "/"])
            .output()
            .context("cannot start setpriv")?;
        ensure!(output.status.success(), "{output:?}");
        let said = b"cannot set the firewall mark; it takes CAP_NET_ADMIN\n";
        ensure!(output.stdout == said, "{output:?}");
        Ok(())
    });
}
