//! Mail through a real server, side by side with keepalived's.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use evenkeel_core::health::news::News;
use evenkeel_core::model::{Alerts, Mail};
use evenkeel_daemon::notify::Notifier;
use evenkeel_lab::host::Host;
use evenkeel_lab::mail::MailServer;
use evenkeel_lab::process::Process;
use evenkeel_lab::topology::{Address, HostSpec, Segment, Topology, Wiring};
use evenkeel_lab::{sandbox, wait};

const DEADLINE: Duration = Duration::from_mins(1);
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 25);

/// A machine with the sandbox's own name, which our mails have as well, and which has a
/// longer one.
fn machine() -> Result<Host> {
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let name = hostname.trim();
    sandbox::set_hosts(&format!("10.0.0.1 {name}.example.com {name}\n"))?;
    let spec = HostSpec {
        hostname: name.into(),
        ..HostSpec::single(
            "director",
            "eth0",
            "lan",
            Address::new([10, 0, 0, 1], 24),
            None,
        )
    };
    let other = HostSpec::single(
        "other",
        "eth0",
        "lan",
        Address::new([10, 0, 0, 2], 24),
        None,
    );
    let mut hosts = Topology {
        segments: vec![Segment {
            name: "lan".into(),
            wiring: Wiring::Cable,
        }],
        hosts: vec![spec, other],
    }
    .build()?;
    Ok(hosts.swap_remove(0))
}

fn mail(to: &[&str]) -> Mail {
    Mail {
        server: "127.0.0.1".into(),
        port: SERVER.port(),
        timeout: Duration::from_secs(5),
        helo: None,
        from: None,
        to: to.iter().map(|&to| to.into()).collect(),
        quiet: false,
    }
}

/// Sends one mail from this host, and waits for what became of it.
fn send(host: &Host, alerts: &Alerts, subject: &str, text: &str) -> Result<()> {
    host.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let notifier = Notifier::start(alerts);
            notifier.tell(News {
                subject: String::new(),
                script: None,
                line: String::new(),
                mail: Some((subject.into(), text.into())),
            });
            let done = async {
                while notifier.deliveries().mail.waiting > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(DEADLINE, done).await?;
            let mail = notifier.deliveries().mail;
            ensure!(mail.delivered == 1, "{mail:?}");
            Ok(())
        })
    })?
}

/// The next mail, after so many.
fn next(server: &MailServer, before: usize) -> Result<String> {
    wait::until(DEADLINE, "a mail", || {
        let mails = server.mails().map_err(|error| format!("{error:#}"))?;
        mails.get(before).cloned().ok_or_else(|| "none".into())
    })
}

/// What keepalived sends when it becomes master.
fn theirs(host: &Host, server: &MailServer, globals: &str) -> Result<String> {
    let before = server.mails()?.len();
    let file = "/run/lab/keepalived.conf";
    let text = format!(
        "global_defs {{
  smtp_server 127.0.0.1
  {globals}
}}
vrrp_instance one {{
  state MASTER
  interface eth0
  virtual_router_id 51
  priority 255
  smtp_alert
  virtual_ipaddress {{
    10.0.0.9
  }}
}}
"
    );
    fs::write(file, text)?;
    let mut command = Command::new("keepalived");
    command.args(["--dont-fork", "--log-console", "--vrrp", "-f", file]);
    let mut keepalived = Process::start(host, "keepalived", &mut command)?;
    let mail = next(server, before);
    let mail = mail.map_err(|error| error.context(keepalived.log_tail(30)));
    keepalived.terminate(DEADLINE)?;
    mail
}

/// With the time of day taken out, and checked to be one.
fn without_date(mail: &str) -> Result<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in mail.lines() {
        lines.push(match line.strip_prefix("Date: ") {
            Some(date) => {
                let parsed = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S %z", date)?;
                let age = jiff::Timestamp::now().duration_since(parsed.to_timestamp()?);
                ensure!(age.as_secs().abs() < 600, "{date}");
                format!(
                    "Date: {}",
                    date.chars()
                        .map(|c| if c.is_alphanumeric() { 'x' } else { c })
                        .collect::<String>()
                )
            }
            None => line.into(),
        });
    }
    Ok(lines.join("\n"))
}

#[test]
fn mails_are_as_keepalived_sends_them() {
    sandbox::run_test(|| {
        let host = machine()?;
        let server = MailServer::start(&host, SERVER, DEADLINE)?;
        let subject = "VRRP Instance one - Entering MASTER state";
        let text = "=> VRRP Instance is now owning VRRP VIPs <=";
        // With all that can be said, and with nothing but receivers.
        let full = Alerts {
            router_id: Some("LVS".into()),
            mail: Some(Mail {
                helo: Some("lb.example.com".into()),
                from: Some("lvs@example.com".into()),
                ..mail(&["georgette@example.com", "admin@example.com"])
            }),
            ..Alerts::default()
        };
        let least = Alerts {
            mail: Some(mail(&["georgette@example.com"])),
            ..Alerts::default()
        };
        let cases = [
            (
                "notification_email {
    georgette@example.com
    admin@example.com
  }
  notification_email_from lvs@example.com
  smtp_helo_name lb.example.com
  router_id LVS",
                full,
            ),
            (
                "notification_email {
    georgette@example.com
  }",
                least,
            ),
        ];
        for (globals, alerts) in cases {
            let theirs = theirs(&host, &server, globals)?;
            let before = server.mails()?.len();
            send(&host, &alerts, subject, text)?;
            let ours = next(&server, before)?;
            ensure!(
                without_date(&ours)? == without_date(&theirs)?,
                "theirs:\n{theirs}\nours:\n{ours}"
            );
        }
        Ok(())
    });
}

#[test]
fn receivers_that_a_server_refuses_cost_the_others_nothing() {
    sandbox::run_test(|| {
        let host = machine()?;
        let server = MailServer::start(&host, SERVER, DEADLINE)?;
        let alerts = |to: &[&str]| Alerts {
            router_id: Some("LVS".into()),
            mail: Some(mail(to)),
            ..Alerts::default()
        };
        let some = alerts(&["none@example.com", "some@example.com"]);
        send(&host, &some, "one", ".\n..\nend")?;
        let taken = next(&server, 0)?;
        ensure!(
            taken.contains("\nRCPT TO:<some@example.com>\n\n"),
            "{taken}"
        );
        ensure!(
            taken.contains("\nTo: none@example.com, some@example.com\n"),
            "{taken}"
        );
        // aiosmtpd gives the content as it was sent, with doubled dots taken back.
        ensure!(taken.ends_with("\n\n.\n..\nend\n\n"), "{taken:?}");
        // Refused twice for now, then taken.
        send(&host, &alerts(&["later@example.com"]), "two", "text")?;
        let taken = next(&server, 1)?;
        ensure!(taken.contains("\nSubject: [LVS] two\n"), "{taken}");
        Ok(())
    });
}
