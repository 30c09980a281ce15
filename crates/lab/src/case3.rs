//! The third field case, its load-balancing half: real servers by direct routing, watched
//! over by checks, as keepalived.conf has it. The files in `examples/case3` run as they are.

mod first;
mod network;
mod options;
mod secure;

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::director::Output;
use crate::report::Report;
use crate::{http, sandbox, wait};
use network::{Network, START, VIP, lan};

const FIRST: &str = include_str!("../../../examples/case3/keepalived.conf");
const OPTIONS: &str = include_str!("../../../examples/case3/options.conf");
const SECURE: &str = include_str!("../../../examples/case3/secure.conf");

/// Runs the case inside the sandbox with `program` as `evenkeel`, `ipvsadm` and `genhash`.
/// True where every point holds.
pub fn run(program: &Path, out: impl Write) -> Result<bool> {
    let start = Instant::now();
    let mut report = Report::new(out);
    let outcome = Case::start(program, &mut report).and_then(|mut case| {
        case.points()
            .map_err(|error| anyhow!("{error:#}\n{}", case.network.director.log_tail()))
    });
    if let Err(error) = outcome {
        report.fail("the case runs to its end", &format!("{error:#}"))?;
    }
    report.text(&format!("took {:.1} s", start.elapsed().as_secs_f32()))?;
    Ok(report.finish()?)
}

/// The case while it runs.
struct Case<'a, W> {
    network: Network,
    report: &'a mut Report<W>,
}

/// The configuration that the daemon reads.
fn configuration() -> PathBuf {
    Path::new(sandbox::DIRECTORY).join("keepalived.conf")
}

fn configure(text: &str) -> Result<()> {
    let file = configuration();
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

impl<'a, W: Write> Case<'a, W> {
    fn start(program: &Path, report: &'a mut Report<W>) -> Result<Self> {
        report.step("The network")?;
        report.text(
            "clients A 192.168.20.2 and B 192.168.20.3 -- router -- 192.168.10.0/24:\n\
             director .1 with the virtual address .9; web servers .98 and .85, sorry server .55,\n\
             a spare one .75, each with .9 on lo; mail server relayhost.example.com .25",
        )?;
        let mut network = Network::build(program)?;
        let file = configuration().display().to_string();
        network.director.run_with(&["--config", &file]);
        Ok(Self { network, report })
    }

    fn points(&mut self) -> Result<()> {
        self.first()?;
        self.options()?;
        self.secure()
    }

    /// A line of the administrator's, shown with what it prints.
    fn shell(&mut self, line: &str) -> Result<Output> {
        let output = self.network.director.shell(line)?;
        self.report.text(&format!("# {line}\n{output}"))?;
        Ok(output)
    }

    /// As [`Self::shell`]; it must not fail.
    fn done(&mut self, line: &str) -> Result<String> {
        let output = self.shell(line)?;
        if output.status != 0 {
            bail!("{line}: {output}");
        }
        Ok(output.stdout)
    }

    /// The daemon reads another configuration.
    fn reload(&mut self, text: &str) -> Result<()> {
        configure(text)?;
        self.done("evenkeel reload").map(drop)
    }

    /// The digest that genhash prints for the page that is checked.
    fn digest(&mut self, options: &str) -> Result<String> {
        let address = lan(85);
        let page = network::PAGE;
        let line = format!("genhash {options} -s {address} -u /{page}");
        let printed = self.done(&line)?;
        let word = printed.split_whitespace().next_back().unwrap_or_default();
        let is_digest = word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let point = format!("6 `{line}` prints a digest");
        if is_digest {
            self.report.pass(&point)?;
        } else {
            self.report
                .fail(&point, &format!("it printed {printed:?}"))?;
        }
        Ok(word.into())
    }

    /// Waits until the services on this port have exactly these servers: last byte of the
    /// address and weight. A verdict, with the time since `since`.
    fn expect(
        &mut self,
        point: &str,
        port: u16,
        servers: &[(u8, u32)],
        since: Instant,
        limit: Duration,
    ) -> Result<()> {
        let mut expected: Vec<(SocketAddr, u32)> = servers
            .iter()
            .map(|&(last, weight)| (SocketAddr::from((lan(last), port)), weight))
            .collect();
        expected.sort_unstable();
        let mut last = String::new();
        let left = limit.saturating_sub(since.elapsed());
        let waited = wait::until(left, "the servers", || {
            let look = self.network.director.servers();
            let (servers, listing) = look.map_err(|error| format!("{error:#}"))?;
            last = listing;
            let mut seen: Vec<(SocketAddr, u32)> = servers
                .iter()
                .filter(|server| server.address.port() == port)
                .map(|server| (server.address, server.weight))
                .collect();
            seen.sort_unstable();
            if seen == expected {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        });
        self.timed(point, since, limit, &waited)?;
        if waited.is_err() {
            self.report.text(&last)?;
        }
        Ok(())
    }

    /// A verdict with the time that it took.
    fn timed(
        &mut self,
        point: &str,
        since: Instant,
        limit: Duration,
        result: &Result<()>,
    ) -> Result<()> {
        match result {
            Ok(()) => {
                let took = since.elapsed().as_secs_f32();
                let limit = limit.as_secs_f32();
                self.report
                    .pass(&format!("{point}: after {took:.1} s, at most {limit} s"))?;
            }
            Err(error) => self.report.fail(point, &format!("{error:#}"))?,
        }
        Ok(())
    }

    /// Waits until `evenkeel status` has this in the part about virtual servers, which is
    /// shown.
    fn expect_status(&mut self, point: &str, text: &str, limit: Duration) -> Result<()> {
        let since = Instant::now();
        let mut last = String::new();
        let waited = wait::until(limit, "the status", || {
            let output = self.network.director.shell("evenkeel status");
            let output = output.map_err(|error| format!("{error:#}"))?;
            let part = output.stdout.split("\nvirtual servers\n").nth(1);
            let part = part.and_then(|part| part.split("\n\n").next());
            part.unwrap_or_default().clone_into(&mut last);
            if last.contains(text) {
                Ok(())
            } else {
                Err(format!("no {text:?}"))
            }
        });
        let shown = last.trim_end();
        self.report
            .text(&format!("# evenkeel status\n…\nvirtual servers\n{shown}"))?;
        self.timed(point, since, limit, &waited)
    }

    /// Waits until a file of the scripts' has one more of a line than before.
    fn expect_told(&mut self, point: &str, line: &str, before: usize) -> Result<()> {
        let since = Instant::now();
        let told = wait::until(START, "the script", || {
            let seen = count(line);
            if seen == before + 1 {
                Ok(())
            } else {
                Err(format!("it ran {seen} times, {before} times before"))
            }
        });
        self.timed(point, since, START, &told)
    }

    /// Waits for one more mail with this subject than there were.
    fn expect_mail(&mut self, point: &str, subject: &str, before: usize) -> Result<()> {
        let since = Instant::now();
        let came = wait::until(START, "the mail", || {
            let mails = self.network.mail.mails();
            let mails = mails.map_err(|error| format!("{error:#}"))?;
            let line = format!("\nSubject: {subject}\n");
            if mails[before..].iter().any(|mail| mail.contains(&line)) {
                Ok(())
            } else {
                Err(format!("{} others", mails.len() - before))
            }
        });
        self.timed(&format!("{point} \"{subject}\""), since, START, &came)
    }

    /// The page that a client sees over a new connection.
    fn page(&self, client: usize) -> Result<String> {
        Ok(http::get(&self.network.clients[client], vip(80))?.body)
    }
}

fn vip(port: u16) -> SocketAddr {
    SocketAddr::from((VIP, port))
}

/// What a server's home page says.
fn home(last: u8) -> String {
    format!("web{last}")
}

/// The file that the scripts write what they were told to.
fn told() -> PathBuf {
    Path::new(sandbox::DIRECTORY).join("told")
}

/// How often the scripts were told this.
fn count(line: &str) -> usize {
    let text = fs::read_to_string(told()).unwrap_or_default();
    text.lines().filter(|told| *told == line).count()
}

fn is_client(address: &str) -> bool {
    let address: Option<Ipv4Addr> = address.parse().ok();
    address.is_some_and(|address| network::CLIENTS.contains(&address))
}
