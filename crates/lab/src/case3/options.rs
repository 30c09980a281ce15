//! The second file: persistence, quorum with its scripts, a sorry server, a check by digest,
//! and one by a script.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::network::{START, script};
use super::{Case, OPTIONS, count, home, told};
use crate::{sandbox, wait};

/// The digest of a page that the author had.
const DIGEST: &str = "5f1a4b7e269b7f5ddf6bbce06856c1e8";
/// `delay_loop`, one retry after `delay_before_retry`, and `connect_timeout`.
const PAGE_LIMIT: Duration = Duration::from_secs(6 + 3 + 3);
/// `delay_loop`, and a second for the script.
const SCRIPT_LIMIT: Duration = Duration::from_secs(6 + 1);
/// The same for the file with `misc_dynamic`.
const SHORT_LIMIT: Duration = Duration::from_secs(2 + 1);
/// What the scripts are told.
const LOST: &str = "start_spare_vm.pl";
const GAINED: &str = "notify.pl qourum up";

/// All servers, and the sorry server in their place.
const ALL: &[(u8, u32)] = &[(85, 20), (98, 20)];
const SORRY: &[(u8, u32)] = &[(55, 1)];

/// The file with the exit status of the scripted check.
fn status() -> PathBuf {
    Path::new(sandbox::DIRECTORY).join("ldap")
}

fn set_status(status_code: u8) -> Result<()> {
    // Renamed, so that no script sees half of it.
    let new = status().with_extension("new");
    fs::write(&new, status_code.to_string()).context("cannot write the script's status")?;
    fs::rename(&new, status()).context("cannot set the script's status")
}

fn scripts() -> Result<()> {
    let told = told().display().to_string();
    for name in ["notify.pl", "start_spare_vm.pl", "test_ldap.pl"] {
        let tell = format!("echo \"$(basename \"$0\")${{*:+ $*}}\" >>{told}");
        let end = match name {
            "test_ldap.pl" => format!("\nexit \"$(cat {})\"", status().display()),
            _ => String::new(),
        };
        script(name, &format!("{tell}{end}"))?;
    }
    set_status(0)
}

impl<W: Write> Case<'_, W> {
    pub(super) fn options(&mut self) -> Result<()> {
        scripts()?;
        self.report
            .step("options.conf, with the digest that genhash prints here, takes its place")?;
        let digest = self.digest("-p 80")?;
        let text = OPTIONS.replace(DIGEST, &digest);
        self.reload(&text)?;
        let point = "6 the page of that digest passes HTTP_GET";
        let good = "HTTP_GET http://192.168.10.85:80/test_vie.php: good";
        self.expect_status(point, good, PAGE_LIMIT)?;
        let point = "5 both servers are in the table, with their weights";
        self.expect(point, 80, ALL, Instant::now(), PAGE_LIMIT)?;
        self.persistence()?;
        self.page_changes()?;
        self.script_fails()?;
        self.script_weighs(&text)
    }

    /// Point 5: a client stays at its server.
    fn persistence(&mut self) -> Result<()> {
        for (client, name) in ["A", "B"].into_iter().enumerate() {
            let pages: Vec<String> = (0..4).map(|_| self.page(client)).collect::<Result<_>>()?;
            let same = pages.iter().all(|page| *page == pages[0]);
            self.report.text(&format!("{name} sees {pages:?}"))?;
            let point = format!("5 persistence_timeout keeps {name} at one server");
            self.report.check(&point, &true, &same)?;
        }
        Ok(())
    }

    /// Points 5 and 6: another page than the digest's takes a server out, and with it the
    /// quorum.
    fn page_changes(&mut self) -> Result<()> {
        self.report
            .step("The page of .85 changes, and changes back")?;
        let (lost, gained) = (count(LOST), count(GAINED));
        let since = Instant::now();
        self.network.set_page(85, "dead\n")?;
        let point = "5 weight 20 is less than 30 - 2: the sorry server is in the table alone";
        self.expect(point, 80, SORRY, since, PAGE_LIMIT)?;
        self.expect_told("5 quorum_down runs", LOST, lost)?;
        let pages = [self.page(0)?, self.page(1)?];
        let sorry = pages.iter().all(|page| *page == home(55));
        self.report
            .check("5 the sorry server answers both clients", &true, &sorry)?;
        let since = Instant::now();
        self.network.set_page(85, "alive\n")?;
        let point = "5 weight 40 is at least 30 + 2: the real servers are back";
        self.expect(point, 80, ALL, since, PAGE_LIMIT)?;
        self.expect_told("5 quorum_up runs, with its arguments", GAINED, gained)?;
        let served = self.page(0)? != home(55);
        self.report.check("5 and answer", &true, &served)?;
        Ok(())
    }

    /// Point 7 without `misc_dynamic`: any status but 0 is a failure.
    fn script_fails(&mut self) -> Result<()> {
        self.report
            .step("MISC_CHECK of .98: its script ends with 1, with 20, with 0")?;
        let lost = count(LOST);
        let since = Instant::now();
        set_status(1)?;
        let point = "7 exit 1 takes the server out, and with it the quorum";
        self.expect(point, 80, SORRY, since, SCRIPT_LIMIT)?;
        self.expect_told("7 quorum_down runs again", LOST, lost)?;
        set_status(20)?;
        two_runs()?;
        let point = "7 without misc_dynamic so does exit 20";
        self.expect(point, 80, SORRY, Instant::now(), Duration::ZERO)?;
        let since = Instant::now();
        set_status(0)?;
        self.expect("7 exit 0 brings it back", 80, ALL, since, SCRIPT_LIMIT)
    }

    /// Point 7 with `misc_dynamic`.
    fn script_weighs(&mut self, text: &str) -> Result<()> {
        self.report
            .step("The same with misc_dynamic, and delay_loop 2")?;
        let text = text
            .replace("# misc_dynamic", "misc_dynamic")
            .replace("delay_loop 6", "delay_loop 2");
        self.reload(&text)?;
        for (status, servers, point) in [
            (27, &[(85, 20), (98, 25)][..], "7 exit 27 sets weight 25"),
            (14, &[(85, 20), (98, 12)], "7 exit 14 sets weight 12"),
            (1, SORRY, "7 exit 1 takes the server out"),
            (0, ALL, "7 exit 0 is the weight of the file"),
        ] {
            let since = Instant::now();
            set_status(status)?;
            self.expect(point, 80, servers, since, SHORT_LIMIT)?;
        }
        Ok(())
    }
}

/// Waits until the script of the check has run twice, once from its beginning at least.
fn two_runs() -> Result<()> {
    let line = "test_ldap.pl 192.168.10.72";
    let before = count(line);
    wait::until(START, "two runs of the script", || {
        let runs = count(line) - before;
        if runs >= 2 {
            Ok(())
        } else {
            Err(format!("{runs}"))
        }
    })
}
