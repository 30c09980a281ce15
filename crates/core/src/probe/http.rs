//! A page asked for by HTTP, and what is expected of it.
//!
//! The answer is everything until the other side closes; its header gives the status, and
//! nothing else of it counts but a `Content-Length`, which bounds what is digested. Chunks are
//! taken as they come, with their lengths: that is what `genhash` prints, too. What is
//! expected is looked at in this order: status, digest, expression, headers, JSON.
//!
//! keepalived looks for an expression in header and body where they come in one packet, else
//! in the body. Here packets make no difference: it is looked for in both ways, unless there is
//! no body; where offsets are given in the first way only.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::net::SocketAddr;
use core::ops::RangeInclusive;

use md5::{Digest as _, Md5};

use super::{Dialogue, Next, Verdict};
use crate::model::{HeaderDemand, HttpProbe, HttpVersion, JsonDemand, Page};

pub mod demands;
pub mod head;
pub mod pattern;
mod search;

use head::HEAD_LIMIT;
use pattern::Pattern;
use search::Search;

/// Statuses that are good where none are named.
const USUAL: RangeInclusive<u16> = 200..=299;

/// The request for a page, byte for byte. Without a host it names address and port.
#[must_use]
pub fn request(to: SocketAddr, version: HttpVersion, host: Option<&str>, path: &str) -> Vec<u8> {
    let (minor, close) = match version {
        HttpVersion::V1_0 => (0, ""),
        HttpVersion::V1_0Close => (0, "Connection: close\r\n"),
        HttpVersion::V1_1 => (1, "Connection: close\r\n"),
    };
    let host = host.map_or_else(
        || match to {
            SocketAddr::V4(to) => to.to_string(),
            SocketAddr::V6(to) => format!("[{}]:{}", to.ip(), to.port()),
        },
        String::from,
    );
    let agent = "User-Agent: KeepAliveClient\r\n";
    format!("GET {path} HTTP/1.{minor}\r\n{agent}{close}Host: {host}\r\n\r\n").into_bytes()
}

/// What is asked and expected, made ready once for many runs.
#[derive(Debug)]
pub struct Plan {
    request: Vec<u8>,
    statuses: Vec<RangeInclusive<u16>>,
    digest: Option<[u8; 16]>,
    pattern: Option<(Arc<Pattern>, bool)>,
    headers: Vec<HeaderDemand>,
    json: Vec<JsonDemand>,
}

impl Plan {
    /// Asks for one of a probe's pages; an error is that of its expression, see
    /// [`pattern::compile`].
    pub fn new(probe: &HttpProbe, page: &Page) -> Result<Self, String> {
        let pattern = page.regex.as_ref().map(pattern::compile).transpose()?;
        Ok(Self::matching(probe, page, pattern.map(Arc::new)))
    }

    /// The same, with the page's expression made ready elsewhere, as many pages may have it.
    #[must_use]
    pub fn matching(probe: &HttpProbe, page: &Page, pattern: Option<Arc<Pattern>>) -> Self {
        let host = page.host.as_deref();
        let mut statuses = page.statuses.clone();
        if statuses.is_empty() {
            statuses.push(USUAL);
        }
        Self {
            request: request(probe.connect.to, probe.version, host, &page.path),
            statuses,
            digest: page.digest,
            pattern: pattern.zip(page.regex.as_ref().map(|regex| regex.absent)),
            headers: page.headers.clone(),
            json: page.json.clone(),
        }
    }

    /// Whether a status is good; none is beyond 100 to 599.
    fn takes(&self, status: u16) -> bool {
        (100..=599).contains(&status) && self.statuses.iter().any(|range| range.contains(&status))
    }
}

/// One run of a plan.
#[derive(Clone, Debug)]
pub struct Get {
    plan: Arc<Plan>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// What came of the header.
    Head(Vec<u8>),
    Body(Box<Body>),
}

#[derive(Clone, Debug)]
struct Body {
    status: Option<u16>,
    /// How long it says it is.
    length: Option<u64>,
    received: u64,
    digest: Option<Md5>,
    search: Option<Both>,
    /// Whether the header is as it is to be.
    headers: Result<(), String>,
    /// What is read as JSON, where that is wanted; a byte more than is read at most.
    json: Option<Vec<u8>>,
}

/// A search in the whole answer, and one in its body alone.
#[derive(Clone, Debug)]
struct Both {
    /// The header, until there is a body.
    head: Vec<u8>,
    answer: Search,
    body: Option<Search>,
}

impl Both {
    fn new(head: &[u8], pattern: &Arc<Pattern>) -> Self {
        let search = || Search::new(Arc::clone(pattern));
        Self {
            head: head.to_vec(),
            answer: search(),
            body: (!pattern.has_offsets()).then(search),
        }
    }

    fn more(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.answer.more(&core::mem::take(&mut self.head));
            self.answer.more(bytes);
            if let Some(body) = &mut self.body {
                body.more(bytes);
            }
        }
    }

    fn is_found(&mut self) -> bool {
        self.answer.is_found() || self.body.as_mut().is_some_and(Search::is_found)
    }
}

impl Get {
    /// A run.
    #[must_use]
    pub const fn new(plan: Arc<Plan>) -> Self {
        Self {
            plan,
            state: State::Head(Vec::new()),
        }
    }

    fn body(&self, head: &[u8]) -> Body {
        let pattern = self.plan.pattern.as_ref();
        Body {
            status: head::status(head),
            length: head::content_length(head),
            received: 0,
            digest: self.plan.digest.map(|_| Md5::new()),
            search: pattern.map(|(pattern, _)| Both::new(head, pattern)),
            headers: demands::headers(head, &self.plan.headers),
            json: (!self.plan.json.is_empty()).then(Vec::new),
        }
    }
}

impl Body {
    fn more(&mut self, bytes: &[u8]) {
        if let Some(digest) = &mut self.digest {
            let left = self
                .length
                .map_or(u64::MAX, |length| length.saturating_sub(self.received));
            let count = usize::try_from(left).unwrap_or(usize::MAX);
            digest.update(&bytes[..count.min(bytes.len())]);
        }
        if let Some(search) = &mut self.search {
            search.more(bytes);
        }
        if let Some(json) = &mut self.json {
            let room = (demands::JSON_LIMIT + 1).saturating_sub(json.len());
            json.extend_from_slice(&bytes[..room.min(bytes.len())]);
        }
        self.received = self.received.saturating_add(bytes.len() as u64);
    }

    fn verdict(&mut self, plan: &Plan) -> Verdict {
        let Some(status) = self.status.filter(|status| plan.takes(*status)) else {
            return Verdict::Failed(unexpected(self.status, &plan.statuses));
        };
        let mut good = "HTTP status code";
        if let (Some(expected), Some(digest)) = (plan.digest, self.digest.take()) {
            let seen = digest.finalize();
            if seen[..] != expected {
                let (seen, expected) = (hexadecimal(&seen), hexadecimal(&expected));
                return Verdict::Failed(format!(
                    "MD5 digest error: {seen} where {expected} is expected"
                ));
            }
            good = "MD5 digest";
        }
        if let (Some((_, absent)), Some(search)) = (&plan.pattern, &mut self.search) {
            if search.is_found() == *absent {
                let what = ["does not match", "matches, which it must not"];
                let what = what[usize::from(*absent)];
                return Verdict::Failed(format!("Regex match failed: the answer {what}"));
            }
            good = "Regex match";
        }
        if let Err(why) = core::mem::replace(&mut self.headers, Ok(())) {
            return Verdict::Failed(why);
        }
        if let Some(json) = &self.json {
            if let Err(why) = demands::json(json, &plan.json) {
                return Verdict::Failed(why);
            }
            good = "JSON";
        }
        let short = self.length.filter(|length| *length != self.received);
        let short = short.map_or_else(String::new, |length| {
            let received = self.received;
            format!(", {received} bytes where Content-Length says {length}")
        });
        Verdict::Passed(format!("{good} success: {status}{short}"))
    }
}

fn unexpected(status: Option<u16>, expected: &[RangeInclusive<u16>]) -> String {
    let mut why = String::from("HTTP status code error: ");
    // Writing to a string does not fail.
    let _ = match status {
        Some(status) => write!(why, "{status}"),
        None => write!(why, "no status"),
    };
    for (index, range) in expected.iter().enumerate() {
        let before = if index == 0 { " where" } else { "," };
        let _ = match (range.start(), range.end()) {
            (first, last) if first == last => write!(why, "{before} {first}"),
            (first, last) => write!(why, "{before} {first}-{last}"),
        };
    }
    why + " is expected"
}

/// A digest as `genhash` prints it.
#[must_use]
pub fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Dialogue for Get {
    fn connected(&mut self) -> Next {
        Next::Send(self.plan.request.clone())
    }

    fn received(&mut self, bytes: &[u8]) -> Next {
        let head = match &mut self.state {
            State::Head(head) => head,
            State::Body(body) => {
                body.more(bytes);
                return Next::Read;
            }
        };
        let (old, room) = (head.len(), HEAD_LIMIT - head.len());
        head.extend_from_slice(&bytes[..room.min(bytes.len())]);
        let from = old.saturating_sub(3);
        if let Some(end) = head::end(&head[from..]).map(|end| from + end) {
            let head = core::mem::take(head);
            let mut body = self.body(&head[..end]);
            body.more(&bytes[end - old..]);
            self.state = State::Body(Box::new(body));
        } else if head.len() == HEAD_LIMIT {
            return Next::Done(Verdict::Failed(format!(
                "no end of the header within {HEAD_LIMIT} bytes"
            )));
        }
        Next::Read
    }

    fn closed(&mut self) -> Verdict {
        match &mut self.state {
            State::Head(head) if head.is_empty() => {
                Verdict::Failed("Read, no data received".into())
            }
            State::Head(head) => {
                let count = head.len();
                Verdict::Failed(format!("closed after {count} bytes within the header"))
            }
            State::Body(body) => body.verdict(&self.plan),
        }
    }
}

#[cfg(test)]
mod tests;
