//! A mail server, by `python3-aiosmtpd` of Debian.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::process::Process;
use crate::{sandbox, wait};

/// Debian's own, which has Debian's modules.
const PYTHON: &str = "/usr/bin/python3";
const PROGRAM: &str = include_str!("smtp_server.py");
/// Stands after each mail in what the program writes.
const END: &str = "=== end of mail\n";

/// A running mail server. It takes all mail but that for receivers whose names begin with
/// `none`, which it refuses for good, and `later`, which it refuses twice.
#[derive(Debug)]
pub struct MailServer {
    process: Process,
}

impl MailServer {
    /// Starts one on a host that has this address, and waits until it can be connected to.
    pub fn start(host: &Host, address: SocketAddr, deadline: Duration) -> Result<Self> {
        let file = Path::new(sandbox::DIRECTORY).join("smtp_server.py");
        fs::write(&file, PROGRAM).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(PYTHON);
        command
            .arg(&file)
            .args([address.ip().to_string(), address.port().to_string()]);
        let process = Process::start(host, &format!("mail-{}", host.name()), &mut command)?;
        let server = Self { process };
        let what = format!("the mail server at {address}");
        wait::until(deadline, &what, || {
            host.within(|| TcpStream::connect(address))
                .map_err(|error| format!("{error:#}"))?
                .map_err(|error| error.to_string())
        })
        .with_context(|| server.process.log_tail(10))
        .context("is python3-aiosmtpd installed (scripts/setup lab)?")?;
        Ok(server)
    }

    /// The mails so far: the greeting, the sender and the receivers a line each, an empty
    /// line, then headers and text as they came.
    pub fn mails(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.process.log())
            .context("cannot read what the mail server wrote")?;
        let mut mails: Vec<String> = text.split(END).map(Into::into).collect();
        // What follows the last one, which may be the beginning of another.
        mails.pop();
        Ok(mails)
    }
}
