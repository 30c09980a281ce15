//! Pages, from servers of every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use evenkeel_lab::{sandbox, wait};
use rustls::ServerConfig;
use socket2::{Domain, Socket, Type};

use crate::server::{Carrier, Server, Step, self_signed};
use crate::{OURS, THEIRS, asking, loopback, run};

/// Longest that a server may take to hear or to come up.
const DEADLINE: Duration = Duration::from_secs(30);
/// A request's end.
const ASKED: Step = Step::Hear("\r\n\r\n");

/// A server, and how it is asked.
struct Case {
    name: String,
    carrier: Carrier,
    ipv6: bool,
    steps: Vec<Step>,
    path: &'static str,
    options: Vec<&'static str>,
    /// Whether the server hears anything.
    is_asked: bool,
}

impl Case {
    fn new(name: impl Into<String>, steps: Vec<Step>) -> Self {
        Self {
            name: name.into(),
            carrier: Carrier::Tcp,
            ipv6: false,
            steps,
            path: "/",
            options: Vec::new(),
            is_asked: true,
        }
    }

    fn with(mut self, options: &[&'static str]) -> Self {
        self.options.extend(options);
        self
    }

    fn by(mut self, carrier: &Carrier) -> Self {
        self.carrier = carrier.clone();
        self.with(&["-S"])
    }
}

fn say(text: impl Into<Vec<u8>>) -> Step {
    Step::Say(text.into())
}

fn answer(text: impl Into<Vec<u8>>) -> Vec<Step> {
    vec![ASKED, say(text)]
}

/// In pieces, each of which is read before the next.
fn pieces(texts: &[&str]) -> Vec<Step> {
    let mut steps = vec![ASKED];
    for text in texts {
        steps.extend([say(*text), Step::Read]);
    }
    steps
}

const GOOD: &str = "HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello\n\x01 and more than one line of it";

/// What is asked for.
fn requests() -> Vec<Case> {
    let options: &[&[&str]] = &[
        &[],
        &["-v"],
        &["-P", "1.0"],
        &["-P", "1.0c"],
        &["-P", "1.0C"],
        &["-P", "1.1"],
        &["-V", "www.example"],
        &["-V", "www.example:81", "-P", "1.1"],
        &["-V", ""],
        &["-I"],
        &["-I", "-V", "www.example"],
        &["-m", "5"],
        &["-t", "5"],
        &["-t", "99999999999999999999999"],
        &["-P1.1", "-vV", "a", "--verbose", "--timeout=9"],
    ];
    let mut all = Vec::new();
    for options in options {
        for ipv6 in [false, true] {
            let case = Case::new(format!("{options:?}, {ipv6}"), answer(GOOD)).with(options);
            all.push(Case { ipv6, ..case });
        }
    }
    for path in ["", "x", "/a b?c=d&e#f", "http://a/", "/ü", "/%s%n"] {
        let case = Case::new(format!("path {path:?}"), answer(GOOD)).with(&["-v"]);
        all.push(Case { path, ..case });
    }
    all
}

const ENDLESS: &str = "header without an end";

/// What may come back, by TCP and by TLS.
fn answers() -> Vec<(&'static str, Vec<Step>)> {
    let header = |length: usize, body: &str| {
        let filler = "x".repeat(length - "HTTP/1.0 200 OK\r\nX: \r\n\r\n".len());
        format!("HTTP/1.0 200 OK\r\nX: {filler}\r\n\r\n{body}")
    };
    let numbers: Vec<u8> = (0..=255).collect();
    let binary = [b"HTTP/1.0 200 OK\r\nX: \0\xff\x80\r\n\r\n", &numbers[..]].concat();
    vec![
        ("good", answer(GOOD)),
        ("nothing", vec![ASKED]),
        ("no body", answer("HTTP/1.0 204 No\r\n\r\n")),
        ("not found", answer("HTTP/1.0 404 No\r\n\r\nnot here\n")),
        ("no HTTP", answer("\r\n\r\nhello")),
        ("a line", answer("HTTP/1.0 200 OK\r\n")),
        ("newlines alone", answer("HTTP/1.0 200 OK\n\nhello\n")),
        ("binary", answer(binary)),
        ("null first", answer("\0\r\n\r\nhello")),
        (
            "chunked",
            answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "chunked and cut",
            answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        ),
        (
            "truncated",
            answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        ),
        (
            "too long",
            answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhello"),
        ),
        (
            "too long, in pieces",
            pieces(&[
                "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhe",
                "ll",
                "o world",
                " and more",
            ]),
        ),
        (
            "length 0",
            pieces(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "hello"]),
        ),
        (
            "odd length",
            answer("HTTP/1.1 200 OK\r\nContent-Length: 3x\r\n\r\nhello"),
        ),
        (
            "header in pieces",
            pieces(&["HTTP/1.0 ", "200 OK\r\n", "X: y\r\n\r", "\nhel", "lo\n"]),
        ),
        (
            "body apart",
            pieces(&["HTTP/1.0 200 OK\r\n\r\n", "hello", "0123456789abcdef"]),
        ),
        ("header of 4094", answer(header(4094, "hello"))),
        ("header of 4095", answer(header(4095, "hello"))),
        ("header of 4095 alone", answer(header(4095, ""))),
        ("header of 4096", answer(header(4096, "hello"))),
        (ENDLESS, vec![ASKED, Step::Forever(b"X: y\r\n".to_vec())]),
    ]
}

/// Those that end with a time, or otherwise than they should.
fn rude() -> Vec<(&'static str, Vec<Step>, Vec<&'static str>)> {
    let cut = || say("HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhello");
    vec![
        ("silence", vec![ASKED, Step::Hang], vec!["-t", "3"]),
        (
            "silence in the header",
            vec![ASKED, say("HTTP/1.0 200 OK\r\n"), Step::Hang],
            vec!["-t", "3"],
        ),
        (
            "silence in the body",
            vec![ASKED, cut(), Step::Hang],
            vec!["-t", "3"],
        ),
        (
            "silence at the end",
            vec![ASKED, say(GOOD), Step::Hang],
            vec!["-t", "3", "-P", "1.1"],
        ),
        ("reset at once", vec![ASKED, Step::Reset], vec![]),
        (
            "reset in the header",
            vec![ASKED, say("HTTP/1.0"), Step::Read, Step::Reset],
            vec![],
        ),
        (
            "reset in the body",
            vec![ASKED, cut(), Step::Read, Step::Reset],
            vec![],
        ),
    ]
}

fn all(tls: &Arc<ServerConfig>) -> Vec<Case> {
    let carriers = [false, true].map(|rude| Carrier::Tls {
        config: Arc::clone(tls),
        rude,
    });
    let mut all = requests();
    all.push(Case::new("no time", answer(GOOD)).with(&["-t", "0"]));
    all.extend(requests().into_iter().map(|mut case| {
        case.name += " by TLS";
        case.by(&carriers[0])
    }));
    let carriers = [
        ("", None),
        ("by TLS", Some(&carriers[0])),
        ("by TLS without a goodbye", Some(&carriers[1])),
    ];
    for (how, carrier) in carriers {
        let good = answers().into_iter();
        let good = good.map(|(name, steps)| (name, steps, vec!["-t", "60"]));
        for (name, steps, options) in good.chain(rude()) {
            for verbose in [&[] as &[&str], &["-v"]] {
                if name == ENDLESS && !verbose.is_empty() {
                    continue; // It shows every read, and these are as the load has it.
                }
                let mut case = Case::new(format!("{name} {how} {verbose:?}"), steps.clone())
                    .with(&options)
                    .with(verbose);
                if let Some(carrier) = carrier {
                    case = case.by(carrier);
                }
                all.push(case);
            }
        }
    }
    let no_tls = |name, steps| Case {
        is_asked: false,
        ..Case::new(name, steps).with(&["-S", "-t", "3"])
    };
    all.push(no_tls("no TLS", vec![say(GOOD)]));
    all.push(no_tls("TLS, closed", vec![]));
    // Not before the client is connected.
    let reset = vec![say("\x16"), Step::Read, Step::Reset];
    all.push(no_tls("TLS, reset", reset));
    all.push(no_tls("TLS, silence", vec![Step::Hang]));
    all
}

impl Case {
    fn is_slow(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Hang))
    }

    /// What is wrong with it.
    fn compare(&self, server: &Server) -> Result<Option<String>> {
        let words = asking(server.address, self.path, &self.options);
        let theirs = run(THEIRS, &words)?;
        let heard_by_theirs = self.heard(server)?;
        let ours = run(OURS, &words)?;
        let heard_by_ours = self.heard(server)?;
        if heard_by_theirs != heard_by_ours {
            let wrong = format!("  asked {heard_by_theirs}\n  and   {heard_by_ours}");
            return Ok(Some(wrong));
        }
        Ok((ours != theirs).then(|| format!("  {theirs:?}\n  {ours:?}")))
    }

    fn heard(&self, server: &Server) -> Result<String> {
        if !self.is_asked {
            return Ok(String::new());
        }
        let mut heard = Vec::new();
        wait::until(DEADLINE, "what a server has heard", || {
            heard = server.take();
            if heard.is_empty() {
                return Err(format!("nothing for {}", self.name));
            }
            Ok(())
        })?;
        Ok(heard.concat().escape_ascii().to_string())
    }
}

/// Compares the quick ones a few at a time, so that no time runs out for want of a CPU, and
/// those that wait for one all at once.
fn compare_all(cases: &[Case], servers: &[Server]) -> Vec<Result<Option<String>>> {
    let pairs = || cases.iter().zip(servers);
    let (slow, quick): (Vec<_>, Vec<_>) = pairs().partition(|(case, _)| case.is_slow());
    let mut found = BTreeMap::new();
    for some in quick.chunks(4).chain(slow.chunks(slow.len().max(1))) {
        thread::scope(|scope| {
            let runs = some.iter().map(|(case, server)| {
                let run = scope.spawn(|| case.compare(server));
                (&case.name, run)
            });
            for (name, run) in runs.collect::<Vec<_>>() {
                let end = run.join().unwrap_or_else(|_| Err(anyhow!("a panic")));
                found.insert(name, end);
            }
        });
    }
    pairs()
        .filter_map(|(case, _)| found.remove(&case.name))
        .collect()
}

#[test]
fn pages_are_taken_alike() {
    sandbox::run_test(|| {
        loopback()?;
        let tls = self_signed(Path::new(sandbox::DIRECTORY))?;
        let cases = all(&tls);
        let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        ensure!(names.len() == cases.len(), "two of a name");
        let mut servers = Vec::new();
        for case in &cases {
            let (carrier, steps) = (case.carrier.clone(), case.steps.clone());
            servers.push(Server::start(carrier, case.ipv6, steps, &servers)?);
        }
        let found = compare_all(&cases, &servers);
        let mut wrong = String::new();
        for (case, found) in cases.iter().zip(found) {
            if let Some(found) = found.with_context(|| case.name.clone())? {
                writeln!(wrong, "{} {:?}\n{found}", case.name, case.options)?;
            }
        }
        ensure!(wrong.is_empty(), "\n{wrong}");
        Ok(())
    });
}

#[test]
fn a_server_that_takes_nobody_is_given_up() {
    sandbox::run_test(|| {
        loopback()?;
        // It takes one, and has no place for others.
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        listener.listen(0)?;
        let address = listener.local_addr()?.as_socket();
        let address = address.context("an address")?;
        let _taken = TcpStream::connect(address)?;
        for options in [&["-t", "3"] as &[&str], &["-S", "-v", "-t", "3"]] {
            let words = asking(address, "/", options);
            let ours = run(OURS, &words)?;
            ensure!(ours == run(THEIRS, &words)?, "{ours:?}");
            ensure!(ours.out.starts_with("Timeout connecting"), "{ours:?}");
        }
        Ok(())
    });
}

const NGINX: &str = "
daemon off; master_process off; user root; pid nginx.pid; error_log stderr;
events {}
http {
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_certificate certificate.pem; ssl_certificate_key key.pem;
  access_log off; keepalive_timeout 1s; root .;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;
  uwsgi_temp_path t4; scgi_temp_path t5;
  server { listen 127.0.0.1:80 default_server; listen [::1]:80; listen 127.0.0.1:443 ssl; listen [::1]:443 ssl; }
  server { listen 127.0.0.1:443 ssl; server_name www.example.com;
    location / { return 200 \"www, asked for <$ssl_server_name>, $ssl_protocol\"; } }
  server { listen 127.0.0.1:444 ssl; ssl_protocols TLSv1.2;
    location / { return 200 \"$ssl_protocol $ssl_server_name\"; } }
  server { listen 127.0.0.1:445 ssl; ssl_verify_client on; ssl_client_certificate certificate.pem;
    location / { return 200 \"known\"; } }
}
";

/// A program that ends with this.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nginx() -> Result<Ending> {
    let directory = Path::new(sandbox::DIRECTORY);
    fs::write(directory.join("nginx.conf"), NGINX)?;
    fs::write(directory.join("small"), "hello\n")?;
    fs::write(directory.join("large"), "0123456789\n".repeat(100_000))?;
    let child = Command::new("nginx")
        .args(["-e", "stderr", "-p", sandbox::DIRECTORY, "-c", "nginx.conf"])
        .stdin(Stdio::null())
        .spawn()
        .context("is nginx installed (scripts/setup test)?")?;
    let nginx = Ending(child);
    wait::until(DEADLINE, "nginx", || {
        TcpStream::connect("127.0.0.1:445").map_err(|error| error.to_string())
    })?;
    Ok(nginx)
}

#[test]
fn pages_of_nginx_are_taken_alike() {
    sandbox::run_test(|| {
        loopback()?;
        self_signed(Path::new(sandbox::DIRECTORY))?;
        let _nginx = nginx()?;
        let lines = [
            "-s 127.0.0.1 -p 80 -u /small",
            "-s 127.0.0.1 -p 80 -u /large",
            "-s 127.0.0.1 -p 80 -u /missing",
            "-s 127.0.0.1 -p 80 -u small",
            "-s 127.0.0.1 -p 80 -u /small -P 1.1",
            "-s 127.0.0.1 -p 443 -u /small",
            "-s ::1 -p 80 -u /large -P 1.0c",
            "-S -s ::1 -p 443 -u /small",
            "-S -s 127.0.0.1 -p 443 -u /small",
            "-S -s 127.0.0.1 -p 443 -u /large",
            "-S -s 127.0.0.1 -p 443 -u /large -P 1.1",
            "-S -s 127.0.0.1 -p 443 -u / -V www.example.com",
            "-S -I -s 127.0.0.1 -p 443 -u / -V www.example.com",
            "-S -I -s 127.0.0.1 -p 443 -u /small -V other.example.com",
            "-S -s 127.0.0.1 -p 444 -u /",
            "-S -I -s 127.0.0.1 -p 444 -u / -V www.example.com",
            "-S -s 127.0.0.1 -p 445 -u /",
            "-S -s 127.0.0.1 -p 80 -u /small",
        ];
        let mut wrong = String::new();
        for line in lines {
            let words: Vec<String> = line.split(' ').map(String::from).collect();
            let (theirs, ours) = (run(THEIRS, &words)?, run(OURS, &words)?);
            if theirs != ours {
                writeln!(wrong, "{line}\n  {theirs:?}\n  {ours:?}")?;
            }
        }
        ensure!(wrong.is_empty(), "\n{wrong}");
        Ok(())
    });
}
