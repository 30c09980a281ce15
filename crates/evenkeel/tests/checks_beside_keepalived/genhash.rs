//! `genhash` and ours: the same command lines, the same servers, the same output.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use evenkeel_lab::{sandbox, wait};

use super::server::{self, Carrier, Server, Step};
use super::{DEADLINE, loopback};

const REAL: &str = "/usr/bin/genhash";
const OURS: &str = env!("CARGO_BIN_EXE_evenkeel");

/// Command lines that fetch nothing.
const LINES: &[&str] = &[
    "",
    "-h",
    "--help",
    "--version",
    "-h -h",
    "-v -v",
    "-s 127.0.0.1 -p 1 -u / -h",
    "-s host -p 1 -u /",
    "-s 1.2.3 -p 1 -u /",
    "-s ::g -p 1 -u /",
    "-s 127.0.0.1 -p 0 -u /",
    "-s 127.0.0.1 -p 99999 -u /",
    "-s 127.0.0.1 -p 8o -u /",
    "-s 127.0.0.1 -p -u /",
    "-s 127.0.0.1 -p 1 -u / -P 2",
    "-s 127.0.0.1 -p 1 -u / -t x",
    "-s 127.0.0.1 -p 1 -u / -t -1",
    "-s 127.0.0.1 -p 1 -u / -m x",
    "-s 127.0.0.1 -p 1 -u / -m -1",
    "-s 127.0.0.1 -p 1 -u / -Q",
    "-s 127.0.0.1 -p 1 -u / -vQx",
    "-s 127.0.0.1 -p 1 -u / --nope --also",
    "-s 127.0.0.1 -p 1 -u / --use x",
    "-s 127.0.0.1 -p 1 -u / --verbose=3",
    "-s 127.0.0.1 -p 1 -u",
    "-s 127.0.0.1 -p 1 -vu",
    "-s 127.0.0.1 -p 1 -u / more words",
    "more -s 127.0.0.1 -p 1 words -u / -- -v",
    "-s 127.0.0.1 -p 1",
    "-s 127.0.0.1 -u /",
    "-p 1 -u /",
    "-Q -s host",
];

/// Options for a page that is fetched, and the page.
fn pages() -> Vec<(&'static str, Vec<Step>)> {
    let asked = || Step::Hear("\r\n\r\n");
    let say = |text: &str| Step::Say(text.into());
    let page = || {
        vec![
            asked(),
            say("HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello, this is a page\n\x01"),
        ]
    };
    let parts = || {
        vec![
            asked(),
            say("HTTP/1.1 200 OK\r\n"),
            Step::Read,
            say("Content-Length: 20\r\n\r\nhello"),
            Step::Read,
            say(", this is a page"),
            Step::Read,
            say("and more"),
        ]
    };
    let large = || {
        let head = b"HTTP/1.1 404 No\r\n\r\n".to_vec();
        vec![asked(), Step::Say([head, vec![b'x'; 100_000]].concat())]
    };
    let zero = || vec![asked(), say("HTTP/1.1 200 OK\0X\r\n\r\nhel\0lo")];
    vec![
        ("", page()),
        ("-v", page()),
        ("-V www.example -P 1.1", page()),
        ("--use-virtualhost www.example --prot 1.0c -v", page()),
        ("-P 1.0C -m 7 -t 3", page()),
        ("-u /other -v", page()),
        ("", parts()),
        ("-v", parts()),
        ("", large()),
        ("-v", zero()),
        ("", vec![asked()]),
        ("-v", vec![asked()]),
        ("-v", vec![asked(), say("HTTP/1.1 200 OK\r\n")]),
        ("-v", vec![asked(), say("HTTP/1.1 200 OK\r\n\r\n")]),
        ("", vec![asked(), Step::Say(vec![b'x'; 5000])]),
        ("-t 1", vec![asked(), Step::Hang]),
        ("-v -t 1", vec![asked(), Step::Hang]),
        (
            "-t 1",
            vec![asked(), say("HTTP/1.1 200 OK\r\n\r\nhel"), Step::Hang],
        ),
        ("", vec![asked(), Step::Reset]),
        ("-S", vec![Step::Say(b"no\r\n".to_vec())]),
        ("-S -t 1", vec![Step::Hang]),
    ]
}

/// The same by TLS.
fn secured() -> Vec<(&'static str, Vec<Step>)> {
    let asked = || Step::Hear("\r\n\r\n");
    let say = |text: &str| Step::Say(text.into());
    let page = || vec![asked(), say("HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello")];
    vec![
        ("-S", page()),
        ("-S -v", page()),
        ("-S -V www.example", page()),
        ("-S -I -V www.example", page()),
        ("--use-ssl --use-sni", page()),
        ("-S -v", vec![asked()]),
        (
            "-S -t 1",
            vec![asked(), say("HTTP/1.1 200 OK\r\n\r\nhel"), Step::Hang],
        ),
    ]
}

#[test]
fn the_same_output() {
    sandbox::run_test(|| {
        loopback()?;
        let mut wrong = String::new();
        for line in LINES {
            compare(line, &mut wrong)?;
        }
        let tls = server::self_signed(Path::new(sandbox::DIRECTORY))?;
        for (options, steps) in pages() {
            for ipv6 in [false, true] {
                // Whether all was read is looked up for IPv4 alone, and silence takes its time.
                if ipv6
                    && steps
                        .iter()
                        .any(|step| matches!(step, Step::Read | Step::Hang))
                {
                    continue;
                }
                let server = Server::start(Carrier::Tcp, ipv6, steps.clone(), &[])?;
                compare_page(options, &server, &mut wrong)?;
            }
        }
        let nobody = Server::start(Carrier::Nobody, false, Vec::new(), &[])?;
        compare_page("-v", &nobody, &mut wrong)?;
        for (options, steps) in secured() {
            for rude in [false, true] {
                let config = tls.clone();
                let carrier = Carrier::Tls { config, rude };
                let server = Server::start(carrier, false, steps.clone(), &[])?;
                compare_page(options, &server, &mut wrong)?;
            }
        }
        ensure!(wrong.is_empty(), "{wrong}");
        Ok(())
    });
}

#[test]
fn the_same_pages_of_nginx() {
    sandbox::run_test(|| {
        loopback()?;
        let directory = Path::new(sandbox::DIRECTORY);
        server::self_signed(directory)?;
        fs::write(directory.join("index.html"), "a page of nginx\n")?;
        fs::write(directory.join("nginx.conf"), nginx(directory))?;
        // It ends with the sandbox.
        Command::new("nginx")
            .args(["-p", sandbox::DIRECTORY, "-e", "stderr", "-c"])
            .arg(directory.join("nginx.conf"))
            .spawn()
            .context("cannot start nginx: `scripts/setup test` installs it")?;
        wait::until(DEADLINE, "nginx", || {
            let answers = TcpStream::connect(("::1", 8443));
            answers.map(drop).map_err(|error| error.to_string())
        })?;
        let mut wrong = String::new();
        for server in ["127.0.0.1", "::1"] {
            for version in ["1.0", "1.0C", "1.1"] {
                for path in ["/index.html", "/none", "/echo", "/chunks"] {
                    for more in ["-p 8080", "-p 8443 -S", "-p 8443 -SIV www.example"] {
                        let line = format!("-s {server} -P {version} -u {path} {more}");
                        let printed = compare(&line, &mut wrong)?;
                        let digest = printed.trim_end();
                        ensure!(digest.len() == 32, "{line}: no digest but {printed}");
                    }
                }
            }
        }
        ensure!(wrong.is_empty(), "{wrong}");
        Ok(())
    });
}

fn nginx(directory: &Path) -> String {
    let root = directory.display();
    format!(
        "daemon off; user root; pid {root}/nginx.pid; worker_processes 1;\n\
         events {{}}\n\
         http {{ access_log off; root {root}; default_type text/plain;\n\
         server {{ listen 8080; listen [::]:8080; listen 8443 ssl; listen [::]:8443 ssl;\n\
         ssl_certificate {root}/certificate.pem; ssl_certificate_key {root}/key.pem;\n\
         location = /echo {{ return 200 \"$host $ssl_server_name $http_user_agent $server_protocol\\n\"; }}\n\
         location = /chunks {{ gzip on; gzip_types *; ssi on; ssi_types *; try_files /index.html =404; }}\n\
         }} }}\n"
    )
}

fn compare_page(options: &str, server: &Server, wrong: &mut String) -> Result<()> {
    let (ip, port) = (server.address.ip(), server.address.port());
    compare(&format!("-s {ip} -p {port} -u /a?b {options}"), wrong)?;
    wait::until(DEADLINE, "both requests", || {
        let heard = server.heard.lock().map_err(|error| error.to_string())?;
        let is_asked = !options.contains("-S") && !heard.is_empty();
        if is_asked && heard.len() < 2 {
            return Err(format!("{} of 2", heard.len()));
        }
        if is_asked && heard[0] != heard[1] {
            // Writing to a string does not fail.
            let _ = writeln!(
                wrong,
                "{options}: asks {}, ours {}",
                heard[0].escape_ascii(),
                heard[1].escape_ascii()
            );
        }
        Ok(())
    })
}

/// Runs both; what differs is added to `wrong`. Gives what ours prints.
fn compare(line: &str, wrong: &mut String) -> Result<String> {
    let shown = |output: &Output| {
        let text = |bytes| timeless(&String::from_utf8_lossy(bytes));
        let (out, errors) = (text(&output.stdout), text(&output.stderr));
        format!("{:?}\n{out}--\n{errors}", output.status.code())
    };
    let run = |program: &str| {
        let mut command = Command::new(program);
        command.arg0("genhash").args(line.split_whitespace());
        let context = || format!("cannot start {program}: `scripts/setup test` installs it");
        command.output().with_context(context)
    };
    let (real, ours) = (run(REAL)?, run(OURS)?);
    if shown(&real) != shown(&ours) {
        // Writing to a string does not fail.
        let _ = writeln!(
            wrong,
            "genhash {line}\n=== real {}=== ours {}",
            shown(&real),
            shown(&ours)
        );
    }
    Ok(String::from_utf8_lossy(&ours.stdout).into_owned())
}

/// Without the time that it took.
fn timeless(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once("] = ") {
        Some((before, after)) if after.ends_with(" usecs") => format!("{before}] = N usecs\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}
