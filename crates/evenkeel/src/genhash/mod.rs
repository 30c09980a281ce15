//! The command `genhash`: fetches a page as a check does and prints its digest, for the
//! configuration.
//!
//! It prints what keepalived's program of this name prints, and like that one ends with 0
//! whatever became of the page: only a command line that it does not understand is a failure.

mod dump;
mod getopt;
mod options;
mod stream;
pub mod tls;

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Instant;

use evenkeel_core::probe::http::{head, hexadecimal, request};
use md5::{Digest as _, Md5};

use options::{Options, USAGE};
use stream::dial;

/// True for the name of this program, which may be a path.
#[must_use]
pub fn is_called(name: &str) -> bool {
    name.rsplit('/').next() == Some("genhash")
}

/// Runs the command; the first of `arguments` is its name.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    let words: Vec<String> = arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let name = words.first().map_or("genhash", String::as_str);
    let (mut out, mut errors) = (io::stdout(), io::stderr());
    // Who does not read what is printed has no need of an error about that.
    match Options::read(&words) {
        Ok(options) => {
            let _ = run(&options, &mut out, &mut errors);
            ExitCode::SUCCESS
        }
        Err(lines) => {
            let _ = write!(errors, "{lines}Usage: {name}{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<()> {
    let start = Instant::now();
    match fetch(options, out)? {
        Page::Digest(digest) => writeln!(out, "{}", hexadecimal(&digest))?,
        Page::Empty => writeln!(errors, "no data received from remote webserver")?,
        Page::Failed(why) => writeln!(out, "{why}")?,
    }
    if options.verbose {
        let took = start.elapsed().as_micros();
        let path = &options.path;
        writeln!(out, "\nGlobal response time for [{path}] = {took} usecs")?;
    }
    Ok(())
}

/// What became of a page.
enum Page {
    Digest([u8; 16]),
    /// It ended before it had a header.
    Empty,
    Failed(&'static str),
}

/// Gets the page, and with `verbose` prints what comes of it. An error is one of printing.
fn fetch(options: &Options, out: &mut dyn Write) -> io::Result<Page> {
    let mut stream = match dial(options) {
        Ok(stream) => stream,
        Err(why) => return Ok(Page::Failed(why)),
    };
    let host = options.host.as_deref();
    let request = request(options.server, options.version, host, &options.path);
    if let Err(why) = stream.ask(&request) {
        return Ok(Page::Failed(why));
    }
    let mut answer = Answer::default();
    let mut buffer = [0; head::HEAD_LIMIT];
    loop {
        // What there is of a header takes room. None left is an end; by TLS not a good one.
        let room = &mut buffer[..head::HEAD_LIMIT - answer.head.len()];
        if room.is_empty() && stream.is_tls() {
            return Ok(answer.page());
        }
        match stream.read(room) {
            Ok(0) => break,
            Ok(length) => answer.more(&room[..length], options.verbose, out)?,
            Err(error) if is_timeout(&error) => {
                return Ok(Page::Failed(stream.timeout_words()));
            }
            Err(_) if stream.is_tls() => {
                // An end without TLS's goodbye is an end, but shown as none.
                return Ok(answer.page());
            }
            Err(_) => return Ok(Page::Failed("Read error with")),
        }
    }
    let digest = answer.digest.clone().finalize();
    if options.verbose {
        write!(out, "\n{}", dump::RESULT)?;
        dump::bytes(&digest, out)?;
        out.write_all(dump::FINAL.as_bytes())?;
    }
    if stream.is_tls() && !answer.has_head {
        return Ok(Page::Failed("SSL read error from"));
    }
    Ok(answer.page())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What has come.
#[derive(Default)]
struct Answer {
    /// The header, until it is whole.
    head: Vec<u8>,
    has_head: bool,
    length: Option<u64>,
    received: u64,
    digest: Md5,
}

impl Answer {
    fn page(&self) -> Page {
        if self.has_head {
            Page::Digest(self.digest.clone().finalize().into())
        } else {
            Page::Empty
        }
    }

    fn more(&mut self, bytes: &[u8], verbose: bool, out: &mut dyn Write) -> io::Result<()> {
        if self.has_head {
            return self.body(bytes, verbose.then_some(""), out);
        }
        if verbose {
            out.write_all(dump::HEADER_HEX.as_bytes())?;
        }
        self.head.extend_from_slice(bytes);
        let Some(end) = head::end(&self.head) else {
            return Ok(());
        };
        let head = std::mem::take(&mut self.head);
        let (head, body) = head.split_at(end);
        self.has_head = true;
        self.length = head::content_length(head);
        if verbose {
            dump::bytes(head, out)?;
            out.write_all(dump::HEADER_ASCII.as_bytes())?;
            let text = head.split(|byte| *byte == 0).next().unwrap_or_default();
            out.write_all(text)?;
            out.write_all(b"\n")?;
        }
        if body.is_empty() {
            return Ok(());
        }
        self.body(body, verbose.then_some(dump::BODY), out)
    }

    /// Digests what belongs to the body; `title`: and shows it, after this.
    fn body(&mut self, bytes: &[u8], title: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
        let left = self.length.unwrap_or(u64::MAX);
        let left = left.saturating_sub(self.received);
        let count = usize::try_from(left).unwrap_or(usize::MAX);
        let counted = &bytes[..count.min(bytes.len())];
        self.received += bytes.len() as u64;
        if counted.is_empty() {
            return Ok(());
        }
        self.digest.update(counted);
        if let Some(title) = title {
            out.write_all(title.as_bytes())?;
            dump::bytes(counted, out)?;
        }
        Ok(())
    }
}
