//! A file of the lab's own: checks by TLS, and the built-in sorry server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Case, SECURE, vip};

/// `delay_loop`, one retry after a second, and `connect_timeout`.
const LIMIT: Duration = Duration::from_secs(3 + 1 + 2);
/// Longest that the sorry server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

impl<W: Write> Case<'_, W> {
    pub(super) fn secure(&mut self) -> Result<()> {
        self.report
            .step("secure.conf: the same page by TLS, and a service without a server")?;
        let digest = self.digest("-S -p 443")?;
        self.reload(&SECURE.replace("DIGEST", &digest))?;
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
