//! The first file: round robin by direct routing, checks by TCP, mail, and edits at run time.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::network::START;
use crate::wait;

use super::{Case, FIRST, configure, home, is_client};

/// `delay_loop` and `connect_timeout` of the file.
const LIMIT: Duration = Duration::from_secs(6 + 3);
/// How often both clients load the page.
const ROUNDS: usize = 4;

impl<W: Write> Case<'_, W> {
    pub(super) fn first(&mut self) -> Result<()> {
        configure(FIRST)?;
        self.file()?;
        self.report
            .step("The daemon runs keepalived.conf as it is")?;
        self.network.director.start_daemon(START)?;
        self.done("ipvsadm -ln")?;
        let point = "1 the table is as the file has it";
        self.expect(point, 80, &[(85, 1), (98, 1)], Instant::now(), LIMIT)?;
        self.rounds()?;
        self.death()?;
        self.by_hand()
    }

    /// Point 1: the file's faults are told, and it loads.
    fn file(&mut self) -> Result<()> {
        self.report.step("keepalived.conf with its faults")?;
        let output = self.shell("evenkeel check /run/lab/keepalived.conf")?;
        self.report
            .check("1 the file is accepted", &0, &output.status)?;
        let text = format!("{}{}", output.stdout, output.stderr);
        let last = FIRST.lines().count();
        for (point, fault) in [
            (
                "the brace too many is told, with its line",
                format!("keepalived.conf:{last}:"),
            ),
            (
                "so is the virtual address that VRRP does not carry",
                "192.168.10.9".into(),
            ),
        ] {
            self.report
                .check(&format!("1 {point}"), &true, &text.contains(&fault))?;
        }
        let slave = FIRST.replace("state MASTER", "state SLAVE");
        configure(&slave)?;
        let output = self.shell("evenkeel check /run/lab/keepalived.conf")?;
        let text = format!("{}{}", output.stdout, output.stderr);
        let is_told = output.status == 0 && text.contains("SLAVE");
        let point = "1 so is `state SLAVE` of the second director, which is accepted";
        self.report.check(point, &true, &is_told)?;
        configure(FIRST)
    }

    /// Point 3: round robin by direct routing.
    fn rounds(&mut self) -> Result<()> {
        self.report.step("Clients A and B load the page in turn")?;
        let mut fair = true;
        for round in 1..=ROUNDS {
            let [a, b] = [self.page(0)?, self.page(1)?];
            self.report
                .text(&format!("round {round}: A sees \"{a}\", B sees \"{b}\""))?;
            let of = |page: &String| *page == home(85) || *page == home(98);
            fair &= a != b && of(&a) && of(&b);
        }
        let point = "3 whenever A gets one server, B gets the other";
        self.report.check(point, &true, &fair)?;
        let seen = wait::until(START, "the servers' logs", || {
            let visitors = self.visitors().map_err(|error| format!("{error:#}"))?;
            let known = visitors.iter().all(|address| is_client(address));
            if known && visitors.len() == 2 * ROUNDS {
                Ok(())
            } else {
                Err(format!("{visitors:?}"))
            }
        });
        let point = "3 the servers' logs have the clients' addresses";
        match seen {
            Ok(()) => self.report.pass(point)?,
            Err(error) => self.report.fail(point, &format!("{error:#}"))?,
        }
        // Counters are sampled every two seconds.
        let mut last = String::new();
        let connections = (2 * ROUNDS).to_string();
        let counted = wait::until(START, "the counters", || {
            let output = self.network.director.shell("ipvsadm -ln --stats");
            last = output.map_err(|error| format!("{error:#}"))?.stdout;
            let service = last.lines().find(|line| line.starts_with("TCP "));
            let words = service.unwrap_or_default().split_whitespace();
            let words: Vec<&str> = words.skip(2).collect();
            match words[..] {
                [seen, packets, answers, ..] if seen == connections && packets != "0" => {
                    Ok(answers.to_owned())
                }
                _ => Err(format!("{words:?}")),
            }
        });
        self.report
            .text(&format!("# ipvsadm -ln --stats\n{last}"))?;
        let is_counted = counted.is_ok();
        let point = "8 `ipvsadm -ln --stats` counts the connections";
        self.report.check(point, &true, &is_counted)?;
        let point = "3 the answers go past the director: it has seen none";
        let answers = counted.unwrap_or_default();
        self.report.check(point, &"0", &answers.as_str())?;
        Ok(())
    }

    /// Who has loaded the real servers' home pages, but for the lab itself, which looks
    /// whether a server has come up.
    fn visitors(&mut self) -> Result<Vec<String>> {
        let mut visitors = self.network.visitors(85)?;
        visitors.extend(self.network.visitors(98)?);
        visitors.retain(|address| !address.starts_with("192.168.10."));
        Ok(visitors)
    }

    /// Points 4 and 9: a web service dies and comes back.
    fn death(&mut self) -> Result<()> {
        self.report
            .step("The web service of .85 is stopped, and started again")?;
        let subject = |state: &str| {
            format!(
                "[LVS] Realserver [192.168.10.85]:tcp:80 of virtual server [192.168.10.9]:tcp:80 - {state}"
            )
        };
        let mails = self.network.mail.mails()?.len();
        let since = Instant::now();
        self.network.stop(85)?;
        let point = "4 it leaves the table within delay_loop and its timeout";
        self.expect(point, 80, &[(98, 1)], since, LIMIT)?;
        let pages = [self.page(0)?, self.page(1)?, self.page(0)?];
        let alone = pages.iter().all(|page| *page == home(98));
        self.report
            .check("4 clients get the other server alone", &true, &alone)?;
        self.expect_mail("9 mail tells of it:", &subject("DOWN"), mails)?;
        let point = "4 `evenkeel status` says that it is down, and why";
        let why = "    192.168.10.85:80  DOWN for ";
        self.expect_status(point, why, LIMIT)?;
        let mails = self.network.mail.mails()?.len();
        let since = Instant::now();
        self.network.start(85)?;
        let point = "4 it comes back when it answers";
        self.expect(point, 80, &[(85, 1), (98, 1)], since, LIMIT)?;
        self.expect_mail("9 mail tells of that, too:", &subject("UP"), mails)
    }

    /// Point 8: `ipvsadm` while the daemon runs.
    fn by_hand(&mut self) -> Result<()> {
        self.report.step("A server is added and removed by hand")?;
        self.done("ipvsadm -a -t 192.168.10.9:80 -r 192.168.10.75")?;
        let listing = self.done("ipvsadm -ln")?;
        let listed = listing.contains("192.168.10.75:80");
        self.report
            .check("8 `ipvsadm -a` adds it", &true, &listed)?;
        let pages: Vec<String> = (0..3).map(|_| self.page(0)).collect::<Result<_>>()?;
        let reached = pages.contains(&home(75));
        self.report
            .check("8 clients get it in turn", &true, &reached)?;
        self.done("ipvsadm -d -t 192.168.10.9:80 -r 192.168.10.75")?;
        let listing = self.done("ipvsadm -ln")?;
        let listed = listing.contains("192.168.10.75:80");
        self.report
            .check("8 `ipvsadm -d` removes it", &false, &listed)?;
        let point = "8 the others are as they were";
        self.expect(
            point,
            80,
            &[(85, 1), (98, 1)],
            Instant::now(),
            Duration::ZERO,
        )
    }
}
