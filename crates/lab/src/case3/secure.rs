//! A file of the lab's own: checks by TLS, the built-in sorry server, and scripts and a pipe
//! of another user's.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::network::{START, script};
use super::{Case, SECURE, vip};
use crate::wait;

/// `delay_loop`, one retry after a second, and `connect_timeout`.
const LIMIT: Duration = Duration::from_secs(3 + 1 + 2);
/// `delay_loop`, and what a script that hangs has with a second more.
const SCRIPT_LIMIT: Duration = Duration::from_secs(3 + 1 + 1);
/// What the script that hangs waits for; no other program does.
const HANGS_S: u32 = 86_399;
/// Longest that the sorry server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

impl<W: Write> Case<'_, W> {
    pub(super) fn secure(&mut self) -> Result<()> {
        self.report.step(
            "secure.conf: the same page by TLS, a service without a server, scripts as nobody",
        )?;
        script("is_nobody.sh", "[ \"$(id -u)\" = 65534 ]")?;
        script("hangs.sh", &format!("sleep {HANGS_S} & wait"))?;
        let digest = self.digest("-S -p 443")?;
        self.reload(&SECURE.replace("DIGEST", &digest))?;
        self.as_nobody()?;
        let both = [(85, 1), (98, 1)];
        let point = "6 the same page passes SSL_GET";
        let good = "SSL_GET https://192.168.10.85:443/test_vie.php: good";
        self.expect_status(point, good, LIMIT)?;
        let point = "6 both servers are in the table";
        self.expect(point, 443, &both, Instant::now(), LIMIT)?;
        let since = Instant::now();
        self.network.stop(85)?;
        let point = "6 SSL_GET takes out a server that does not answer";
        self.expect(point, 443, &[(98, 1)], since, LIMIT)?;
        let since = Instant::now();
        self.network.start(85)?;
        self.expect("6 and brings it back", 443, &both, since, LIMIT)?;
        let since = Instant::now();
        self.network.set_page(98, "dead\n")?;
        let point = "6 and takes out one whose page has another digest";
        self.expect(point, 443, &[(85, 1)], since, LIMIT)?;
        self.network.set_page(98, "alive\n")?;
        let point = "5 no server of port 8080 lives";
        self.expect_status(point, "[192.168.10.9]:tcp:8080  NO QUORUM", LIMIT)?;
        let answer = self.ask()?;
        self.report.text(&answer)?;
        let says =
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: 30\r\n");
        let point = "5 `sorry_server builtin` answers with 503 and Retry-After";
        self.report.check(point, &true, &says)?;
        Ok(())
    }

    /// Point 7: scripts and a pipe of a user's who has no rights.
    fn as_nobody(&mut self) -> Result<()> {
        let since = Instant::now();
        let point = "7 a script that runs as nobody passes, one that hangs does not";
        self.expect(point, 8081, &[(85, 1)], since, SCRIPT_LIMIT)?;
        let gone = wait::until(START, "the end of what it has started", || {
            let look = format!("pgrep -f '^sleep {HANGS_S}'");
            let output = self.network.director.shell(&look);
            let output = output.map_err(|error| format!("{error:#}"))?;
            if output.stdout.is_empty() {
                Ok(())
            } else {
                Err(format!("processes {}", output.stdout.trim()))
            }
        });
        let point = "7 which is killed with what it has started";
        self.timed(point, since, START, &gone)?;
        let line = "RS [192.168.10.98]:tcp:8081 [192.168.10.9]:tcp:8081 DOWN";
        let read = "setpriv --reuid=65534 --regid=65534 --clear-groups timeout 10 \
                    sh -c 'grep -m 1 RS.*8081 </run/lab/news'";
        let told = self.done(read)?;
        let point = "9 the pipe has a line for it, which nobody else reads";
        self.report.check(point, &line, &told.trim())?;
        Ok(())
    }

    /// What a client gets from the service without a server.
    fn ask(&self) -> Result<String> {
        let mut stream = self.network.clients[0]
            .within(|| TcpStream::connect_timeout(&vip(8080), ANSWER))?
            .context("client A cannot connect to the sorry server")?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}
