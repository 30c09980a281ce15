//! Our checks, run one at a time on blocking sockets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use evenkeel::genhash::tls;
use evenkeel_core::model::{Connect, Probe};
use evenkeel_core::probe::http::{Get, Plan};
use evenkeel_core::probe::smtp::Talk;
use evenkeel_core::probe::{Dialogue, Next, Verdict, dns, udp};

/// The verdict of one run, within its deadlines.
pub(crate) fn verdict(probe: &Probe) -> Verdict {
    let verdict = match probe {
        Probe::Http(http) => http
            .pages
            .iter()
            .map(|page| {
                let plan = Plan::new(http, page).map_err(io::Error::other)?;
                let mut get = Get::new(Arc::new(plan));
                let socket = dial(&http.connect)?;
                let Some(with) = &http.tls else {
                    return drive(socket, &mut get, &http.connect, false);
                };
                let stream = tls::connect(socket, with.sni.as_deref())?;
                drive(stream, &mut get, &http.connect, true)
            })
            .find(|verdict| !verdict.as_ref().is_ok_and(Verdict::is_good))
            .unwrap_or_else(|| Ok(Verdict::Passed("all pages".into()))),
        Probe::Smtp { hosts, helo } => {
            dial(&hosts[0]).and_then(|socket| drive(socket, &mut Talk::new(helo), &hosts[0], false))
        }
        Probe::Dns {
            connect,
            record,
            name,
        } => {
            let query = dns::query(0x1234, *record, name);
            exchange(connect, &query, |reply| dns::verdict(&query, reply))
        }
        Probe::Udp(probe) => {
            let payload = probe.payload.as_deref().unwrap_or(b"?");
            exchange(&probe.connect, payload, |reply| {
                let expected = probe.reply.as_ref()?;
                Some(udp::verdict(expected, reply))
            })
        }
        other => panic!("{other:?} is not compared"),
    };
    verdict.unwrap_or_else(|error| Verdict::Failed(error.to_string()))
}

fn dial(connect: &Connect) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&connect.to, connect.timeout)?;
    socket.set_read_timeout(Some(connect.timeout))?;
    socket.set_write_timeout(Some(connect.timeout))?;
    Ok(socket)
}

/// Runs a dialogue; `lenient`: every end of the stream is an orderly one.
fn drive(
    mut stream: impl Read + Write,
    dialogue: &mut dyn Dialogue,
    connect: &Connect,
    lenient: bool,
) -> io::Result<Verdict> {
    // An answer may come in parts, each within the time, but not for ever.
    let end = Instant::now() + 2 * connect.timeout;
    let mut buffer = [0; 4096];
    let mut next = dialogue.connected();
    loop {
        match next {
            Next::Send(bytes) => stream.write_all(&bytes).and_then(|()| stream.flush())?,
            Next::Read => {}
            Next::Bye(bytes, verdict) => {
                stream.write_all(&bytes)?;
                return Ok(verdict);
            }
            Next::Done(verdict) => return Ok(verdict),
        }
        if Instant::now() > end {
            return Err(ErrorKind::TimedOut.into());
        }
        next = match stream.read(&mut buffer) {
            Ok(0) => return Ok(dialogue.closed()),
            Ok(length) => dialogue.received(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
            Err(_) if lenient => return Ok(dialogue.closed()),
            Err(error) => return Err(error),
        };
    }
}

/// Sends a datagram and waits for one that gives a verdict.
fn exchange(
    connect: &Connect,
    payload: &[u8],
    judge: impl Fn(&[u8]) -> Option<Verdict>,
) -> io::Result<Verdict> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(connect.to)?;
    socket.set_read_timeout(Some(connect.timeout))?;
    socket.send(payload)?;
    let mut buffer = [0; 2048];
    loop {
        let length = socket.recv(&mut buffer)?;
        if let Some(verdict) = judge(&buffer[..length]) {
            return Ok(verdict);
        }
    }
}
