//! Virtual servers and their servers, as a page to read.

use std::fmt;
use std::net::SocketAddr;

use evenkeel_api::{CheckView, ServerView, VirtualView};

use super::duration;

/// Writes all of them; nothing where there are none.
pub(super) fn write(f: &mut fmt::Formatter<'_>, all: &[VirtualView]) -> fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nvirtual servers")?;
    all.iter().try_for_each(|view| virtual_server(f, view))
}

fn span(ms: u64) -> String {
    if ms < 10_000 {
        format!("{}.{} s", ms / 1000, ms % 1000 / 100)
    } else {
        duration(ms / 1000)
    }
}

fn virtual_server(f: &mut fmt::Formatter<'_>, view: &VirtualView) -> fmt::Result {
    let state = if view.quorum_up {
        "quorum"
    } else {
        "NO QUORUM"
    };
    write!(
        f,
        "  {}  {state} for {}: weight {} lives, {} is asked for",
        view.name,
        span(view.quorum_for_ms),
        view.living,
        view.quorum
    )?;
    if view.hysteresis > 0 {
        write!(f, " (hysteresis {})", view.hysteresis)?;
    }
    if let Some(sorry) = &view.sorry {
        let does = if view.sorry_active {
            "answers"
        } else {
            "waits"
        };
        write!(f, "; sorry server {sorry} {does}")?;
    }
    if view.resting {
        write!(f, "; checks rest: the address is not on this machine")?;
    }
    writeln!(f)?;
    if view.services.len() > 1 {
        let names: Vec<String> = view.services.iter().map(ToString::to_string).collect();
        let (shown, more) = names.split_at(names.len().min(8));
        let rest = match more.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        writeln!(f, "    services {}{rest}", shown.join(", "))?;
    }
    for service in &view.deleted {
        writeln!(
            f,
            "    {service} was deleted by hand; `evenkeel reload` puts it back"
        )?;
    }
    view.servers.iter().try_for_each(|view| server(f, view))
}

fn server(f: &mut fmt::Formatter<'_>, view: &ServerView) -> fmt::Result {
    let end = SocketAddr::new(view.server.address, view.server.port);
    let state = if view.alive { "up" } else { "DOWN" };
    write!(f, "    {end}  {state} for {}, ", span(view.for_ms))?;
    match view.weight {
        None => write!(f, "not in the table")?,
        Some(weight) if weight == view.configured => write!(f, "weight {weight}")?,
        Some(weight) => write!(f, "weight {weight} (configured {})", view.configured)?,
    }
    if !view.why.is_empty() {
        write!(f, ": {}", view.why)?;
    }
    writeln!(f)?;
    if view.checks.is_empty() {
        writeln!(f, "      no check")?;
    }
    view.checks.iter().try_for_each(|view| check(f, view))
}

fn check(f: &mut fmt::Formatter<'_>, view: &CheckView) -> fmt::Result {
    let CheckView {
        kind, target, last, ..
    } = view;
    write!(f, "      {kind} {target}: ")?;
    match last {
        None => write!(f, "no result yet")?,
        Some(words) => {
            let outcome = if view.last_good { "good" } else { "bad" };
            write!(f, "{outcome} {} ago, {words}", span(view.ago_ms))?;
        }
    }
    if view.failures > 0 {
        write!(f, " ({} of {} tolerated)", view.failures, view.retries)?;
    }
    if view.running {
        write!(f, "; under way")?;
    } else {
        write!(f, "; next in {}", span(view.next_ms))?;
    }
    if view.shared > 1 {
        write!(f, "; shared by {} servers", view.shared)?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_core::model::{Protocol, ServerKey, ServiceKey};

    struct Page(Vec<VirtualView>);

    impl fmt::Display for Page {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write(f, &self.0)
        }
    }

    #[test]
    fn every_server_is_explained() {
        let check = |up: bool, words: &str| CheckView {
            kind: "TCP_CHECK".into(),
            target: "192.168.1.1:80".into(),
            up,
            last: Some(words.into()),
            last_good: up,
            ago_ms: 1_250,
            failures: u32::from(!up),
            retries: 3,
            running: false,
            next_ms: 4_700,
            shared: 1,
        };
        let server = |last: u8, alive: bool| ServerView {
            server: ServerKey {
                address: [192, 168, 1, last].into(),
                port: 80,
            },
            alive,
            for_ms: 75_000,
            weight: alive.then_some(1),
            configured: 1,
            why: String::new(),
            checks: Vec::new(),
        };
        let view = VirtualView {
            name: "[10.0.0.10]:tcp:80".into(),
            services: vec![ServiceKey::at(Protocol::Tcp, [10, 0, 0, 10], 80)],
            deleted: vec![ServiceKey::at(Protocol::Tcp, [10, 0, 0, 11], 80)],
            quorum_up: true,
            quorum_for_ms: 3_000,
            quorum: 1,
            hysteresis: 0,
            living: 1,
            sorry: Some("[10.0.0.9]:tcp:80".into()),
            sorry_active: false,
            resting: false,
            servers: vec![
                ServerView {
                    checks: vec![check(true, "connected in 1 ms")],
                    ..server(1, true)
                },
                ServerView {
                    why: "TCP_CHECK 192.168.1.1:80: connection refused".into(),
                    checks: vec![check(false, "connection refused")],
                    ..server(2, false)
                },
                server(3, true),
            ],
        };
        let expected = "
virtual servers
  [10.0.0.10]:tcp:80  quorum for 3.0 s: weight 1 lives, 1 is asked for; sorry server [10.0.0.9]:tcp:80 waits
    TCP 10.0.0.11:80 was deleted by hand; `evenkeel reload` puts it back
    192.168.1.1:80  up for 1 min 15 s, weight 1
      TCP_CHECK 192.168.1.1:80: good 1.2 s ago, connected in 1 ms; next in 4.7 s
    192.168.1.2:80  DOWN for 1 min 15 s, not in the table: TCP_CHECK 192.168.1.1:80: connection refused
      TCP_CHECK 192.168.1.1:80: bad 1.2 s ago, connection refused (1 of 3 tolerated); next in 4.7 s
    192.168.1.3:80  up for 1 min 15 s, weight 1
      no check
";
        assert_eq!(Page(vec![view]).to_string(), expected);
    }
}
