//! keepalived's checkers and ours side by side: each is sent to the same servers, good, bad,
//! slow, truncated and hostile. Both have to ask for the same, byte for byte, and to come to
//! the same verdict; where ours differs on purpose, the case says why.

mod cases;
mod keepalived;
mod ours;
mod server;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use evenkeel_core::model::{Connect, Probe};
use evenkeel_lab::{sandbox, wait};

use cases::Case;
use server::Server;

/// How long a checker waits for something of a server.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long the real keepalived may take for all of its verdicts.
const DEADLINE: Duration = Duration::from_secs(40);

#[test]
fn the_same_requests_and_the_same_verdicts() {
    sandbox::run_test(|| {
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        ensure!(up.context("cannot start ip")?.success(), "no loopback");
        let tls = server::self_signed(Path::new(sandbox::DIRECTORY))?;
        let cases = cases::all(&tls);
        let mut servers = Vec::new();
        for case in &cases {
            let steps = case.steps.clone();
            let server = Server::start(case.carrier.clone(), case.ipv6, steps, &servers)?;
            servers.push(server);
        }
        let text = configuration(&cases, &servers);
        let expected: Vec<u16> = cases
            .iter()
            .zip(&servers)
            .filter(|(case, _)| case.keepalived.is_some())
            .map(|(_, server)| server.address.port())
            .collect();
        let said = keepalived::run(&text, &expected, DEADLINE)?;
        let theirs = settled_each(&cases, &servers)?;
        // All at once, as a silent server takes its time.
        let verdicts: Vec<_> = thread::scope(|scope| {
            let runs = cases.iter().zip(&servers).map(|(case, server)| {
                let probe = probe(case, server);
                scope.spawn(move || ours::verdict(&probe))
            });
            let runs: Vec<_> = runs.collect();
            runs.into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect()
        });
        let asked = settled_each(&cases, &servers)?;
        let mut wrong = String::new();
        for (index, (case, server)) in cases.iter().zip(&servers).enumerate() {
            let (theirs, asked) = (&theirs[index], &asked[index]);
            let said = said.get(&server.address.port());
            let verdict = verdicts[index]
                .as_ref()
                .map_err(|_| anyhow!("ours panics"))?;
            let name = &case.name;
            if asked.first() != theirs.first() {
                let show =
                    |all: &[Vec<u8>]| all.first().map(|said| said.escape_ascii().to_string());
                writeln!(
                    wrong,
                    "{name}: keepalived asks {:?}, ours {:?}",
                    show(theirs),
                    show(asked)
                )?;
            }
            if said.and_then(|said| said.good) != case.keepalived {
                writeln!(wrong, "{name}: keepalived says {said:?}")?;
            }
            if verdict.is_good() != case.ours {
                writeln!(wrong, "{name}: ours says {verdict:?}; keepalived {said:?}")?;
            }
            ensure!(
                (case.keepalived == Some(case.ours)) == case.difference.is_none(),
                "{name}: a difference has a reason, and nothing else has"
            );
        }
        ensure!(wrong.is_empty(), "\n{wrong}");
        Ok(())
    });
}

fn settled_each(cases: &[Case], servers: &[Server]) -> Result<Vec<Vec<Vec<u8>>>> {
    let pairs = cases.iter().zip(servers);
    pairs.map(|(case, server)| settled(case, server)).collect()
}

/// What a server was asked, as soon as there is something; nothing of one that hears nothing.
fn settled(case: &Case, server: &Server) -> Result<Vec<Vec<u8>>> {
    if !case.is_asked {
        return Ok(Vec::new());
    }
    let mut heard = Vec::new();
    wait::until(DEADLINE, "what a server has heard", || {
        heard.extend(server.take());
        if heard.is_empty() {
            return Err(format!("nothing on {} for {}", server.address, case.name));
        }
        Ok(())
    })?;
    // Identifiers of DNS are random.
    if let Probe::Dns { .. } = case.probe {
        for query in &mut heard {
            query.drain(..2.min(query.len()));
        }
    }
    Ok(heard)
}

/// The case's probe, sent to its server.
fn probe(case: &Case, server: &Server) -> Probe {
    let mut probe = case.probe.clone();
    let connect = Connect::to(server.address, TIMEOUT);
    match &mut probe {
        Probe::Http(http) => http.connect = connect,
        Probe::Smtp { hosts, .. } => *hosts = vec![connect],
        Probe::Dns { connect: at, .. } => *at = connect,
        Probe::Udp(udp) => udp.connect = connect,
        _ => {}
    }
    probe
}

/// One virtual server for each case. All start down, so that both news are news.
fn configuration(cases: &[Case], servers: &[Server]) -> String {
    let mut text = String::from("global_defs {\n checker_log_all_failures true\n}\n");
    let timeout = TIMEOUT.as_secs();
    for (index, (case, server)) in cases.iter().zip(servers).enumerate() {
        let port = server.address.port();
        let protocol = if case.is_udp() { "UDP" } else { "TCP" };
        let host = server.address.ip();
        let body = case.body();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "virtual_server 192.0.2.1 {} {{\n delay_loop 60\n lb_algo rr\n lb_kind NAT\n \
             protocol {protocol}\n alpha\n real_server 127.0.0.1 {port} {{\n {} {{\n warmup 0\n \
             retry 0\n connect_ip {host}\n connect_port {port}\n connect_timeout {timeout}\n {body} }}\n }}\n}}\n",
            index + 1,
            case.checker(),
        );
    }
    text
}
