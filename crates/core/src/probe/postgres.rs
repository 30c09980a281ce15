//! `PostgreSQL`, protocol 3.0: a session's start, and a simple query.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use md5::{Digest, Md5};

use super::http::hexadecimal;
use super::scram::Scram;
use super::{Dialogue, Next, Verdict};
use crate::model::DatabaseProbe;

/// Bytes of a message before the row that is waited for.
const MESSAGE: usize = 64 << 10;
/// Asks for TLS, in place of a version.
const TLS_REQUEST: u32 = 80_877_103;
/// Version 3.0.
const VERSION: u32 = 3 << 16;
/// Ends a session.
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];
/// Whom the database's own clients log in as where nothing else is said: the user that they
/// run as, which for the daemon is this one.
const USER: &str = "root";

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// TLS was asked for.
    Tls,
    /// Until the session stands.
    Start,
    /// The query was sent.
    Query,
}

/// A dialogue.
#[derive(Debug)]
pub struct Postgres {
    user: String,
    password: Option<String>,
    database: Option<String>,
    query: Option<String>,
    wants_tls: bool,
    state: State,
    scram: Scram,
    input: Vec<u8>,
}

impl Postgres {
    /// One for this check. `nonce` is printable ASCII without commas that nobody can guess.
    #[must_use]
    pub fn new(probe: &DatabaseProbe, nonce: &str) -> Self {
        Self {
            user: probe.user.clone().unwrap_or_else(|| USER.to_owned()),
            password: probe.password.as_ref().map(|secret| secret.0.clone()),
            database: probe.database.clone(),
            query: probe.query.clone(),
            wants_tls: probe.tls.is_some(),
            state: State::Start,
            scram: Scram::new(nonce),
            input: Vec::new(),
        }
    }

    fn startup(&self) -> Vec<u8> {
        let mut body = VERSION.to_be_bytes().to_vec();
        let mut pair = |name: &str, value: &str| {
            for text in [name, value] {
                body.extend_from_slice(text.as_bytes());
                body.push(0);
            }
        };
        pair("user", &self.user);
        pair("database", self.database.as_ref().unwrap_or(&self.user));
        pair("application_name", "evenkeel");
        body.push(0);
        with_length(&body)
    }

    /// One message, or what else it takes.
    fn message(&mut self, kind: u8, body: &[u8]) -> Result<Option<Next>, String> {
        match kind {
            b'E' => Err(error_of(body)),
            b'R' => self.authentication(body),
            b'Z' if self.state == State::Start => Ok(Some(match &self.query {
                None => farewell("the session started"),
                Some(query) => {
                    self.state = State::Query;
                    Next::Send(tagged(b'Q', &terminated(query)))
                }
            })),
            b'Z' => Err("the query gave no row".into()),
            b'D' if self.state == State::Query => Ok(Some(farewell("the query gave a row"))),
            // Settings, key, notices, columns, the query's end.
            b'S' | b'K' | b'N' | b'v' | b'T' | b'C' | b'I' => Ok(None),
            _ => Err(format!("this is not PostgreSQL: message {kind:#04x}")),
        }
    }

    fn authentication(&mut self, body: &[u8]) -> Result<Option<Next>, String> {
        let (kind, rest) = body
            .split_first_chunk()
            .ok_or("this is not PostgreSQL: a short message")?;
        let kind = u32::from_be_bytes(*kind);
        if kind == 0 {
            return Ok(None);
        }
        if kind == 12 {
            self.scram.last(rest)?;
            return Ok(None);
        }
        let password = self
            .password
            .as_deref()
            .ok_or("the server asks for a password, and none is configured")?;
        let answer = match kind {
            3 => terminated(password),
            5 => terminated(&md5_answer(&self.user, password, rest)),
            10 => {
                if !rest
                    .split(|&byte| byte == 0)
                    .any(|name| name == Scram::NAME)
                {
                    return Err("the server offers no SCRAM-SHA-256".into());
                }
                let first = self.scram.first();
                let mut answer = Scram::NAME.to_vec();
                answer.push(0);
                answer.extend_from_slice(&(first.len() as u32).to_be_bytes());
                answer.extend_from_slice(first.as_bytes());
                answer
            }
            11 => self.scram.second(rest, password)?.into_bytes(),
            other => {
                return Err(format!(
                    "the server asks for authentication of kind {other}, which checks can't do"
                ));
            }
        };
        Ok(Some(Next::Send(tagged(b'p', &answer))))
    }

    /// The next message that is there as a whole.
    fn step(&mut self) -> Result<Option<Next>, String> {
        loop {
            let Some((&[kind, a, b, c, d], rest)) = self.input.split_first_chunk() else {
                return Ok(None);
            };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let Some(length) = length.checked_sub(4) else {
                return Err("this is not PostgreSQL: a message without a length".into());
            };
            // A row may be as large as it likes: that there is one is all.
            let needed = if kind == b'D' { 0 } else { length };
            if needed > MESSAGE {
                return Err(format!(
                    "this is not PostgreSQL: a message of {length} bytes"
                ));
            }
            let Some(body) = rest.get(..needed) else {
                return Ok(None);
            };
            let body = body.to_vec();
            self.input.drain(..5 + needed);
            if let Some(next) = self.message(kind, &body)? {
                return Ok(Some(next));
            }
        }
    }
}

impl Dialogue for Postgres {
    fn connected(&mut self) -> Next {
        if self.wants_tls && self.state == State::Start {
            self.state = State::Tls;
            return Next::Send(with_length(&TLS_REQUEST.to_be_bytes()));
        }
        self.state = State::Start;
        Next::Send(self.startup())
    }

    fn received(&mut self, bytes: &[u8]) -> Next {
        if self.state == State::Tls {
            // Nothing may come behind it that was not said within TLS.
            return match bytes {
                b"S" => Next::Secure(Vec::new()),
                b"N" => Next::Done(Verdict::Failed("the server offers no TLS".into())),
                _ => Next::Done(Verdict::Failed(
                    "this is not PostgreSQL: TLS was answered by something else".into(),
                )),
            };
        }
        self.input.extend_from_slice(bytes);
        match self.step() {
            Ok(next) => next.unwrap_or(Next::Read),
            Err(reason) => Next::Done(Verdict::Failed(reason)),
        }
    }

    fn closed(&mut self) -> Verdict {
        Verdict::Failed("it closed the connection before the session's end".into())
    }
}

fn farewell(words: &str) -> Next {
    Next::Bye(TERMINATE.to_vec(), Verdict::Passed(words.to_owned()))
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn tagged(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = [kind].to_vec();
    bytes.extend(with_length(body));
    bytes
}

fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// `md5`, and the digest of the password's and user's digest with the salt.
fn md5_answer(user: &str, password: &str, salt: &[u8]) -> String {
    let stored = hexadecimal(
        &Md5::new()
            .chain_update(password)
            .chain_update(user)
            .finalize(),
    );
    let answer = Md5::new()
        .chain_update(stored)
        .chain_update(salt)
        .finalize();
    format!("md5{}", hexadecimal(&answer))
}

/// What an error's fields say.
fn error_of(body: &[u8]) -> String {
    let field = |kind: u8| {
        let field = body
            .split(|&byte| byte == 0)
            .find(|field| field.first() == Some(&kind))?;
        Some(String::from_utf8_lossy(&field[1..]).into_owned())
    };
    let message = field(b'M').unwrap_or_else(|| "an error without a message".into());
    match field(b'C') {
        Some(code) => format!("{message} ({code})"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::model::{Connect, Secret, Tls};

    fn probe(query: Option<&str>) -> DatabaseProbe {
        DatabaseProbe {
            user: Some("me".into()),
            password: Some(Secret("secret".into())),
            query: query.map(ToOwned::to_owned),
            ..DatabaseProbe::session(Connect::to(
                ([127, 0, 0, 1], 5432).into(),
                Duration::from_secs(1),
            ))
        }
    }

    fn failure(next: Next) -> String {
        match next {
            Next::Done(Verdict::Failed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_session_starts_and_a_query_gives_a_row() {
        let mut postgres = Postgres::new(&probe(Some("select 1")), "nonce");
        let Next::Send(start) = postgres.connected() else {
            panic!("nothing is sent")
        };
        let expected =
            b"\0\0\0\x3b\0\x03\0\0user\0me\0database\0me\0application_name\0evenkeel\0\0";
        assert_eq!(start[4..], expected[4..]);
        assert_eq!(start.len(), usize::from(start[3]));
        // md5 with salt 1234.
        let next = postgres.received(b"R\0\0\0\x0c\0\0\0\x051234");
        let Next::Send(answer) = next else {
            panic!("{next:?}")
        };
        assert!(answer.starts_with(b"p\0\0\0\x28md5"));
        // Byte by byte.
        for byte in b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0Z\0\0\0\x05" {
            assert_eq!(postgres.received(&[*byte]), Next::Read);
        }
        let query = b"Q\0\0\0\x0dselect 1\0".to_vec();
        assert_eq!(postgres.received(b"I"), Next::Send(query));
        let next = postgres.received(b"T\0\0\0\x06\0\x01D\x10\0\0\0");
        assert_eq!(next, farewell("the query gave a row"));
    }

    #[test]
    fn what_is_not_well_is_told() {
        let said = |bytes: &[u8]| {
            let mut postgres = Postgres::new(&probe(None), "nonce");
            postgres.connected();
            failure(postgres.received(bytes))
        };
        assert_eq!(
            said(b"E\0\0\0\x32SFATAL\0C57P03\0Mthe database system is starting\0\0"),
            "the database system is starting (57P03)"
        );
        assert_eq!(
            said(b"HTTP/1.1 400 Bad Request\r\n"),
            "this is not PostgreSQL: a message of 1414811691 bytes"
        );
        assert!(said(b"R\0\0\0\x08\0\0\0\x07").contains("kind 7"));
        let mut none = Postgres::new(&probe(Some("select")), "nonce");
        none.connected();
        none.received(b"Z\0\0\0\x05I");
        assert_eq!(
            failure(none.received(b"C\0\0\0\x08abc\0Z\0\0\0\x05I")),
            "the query gave no row"
        );
    }

    #[test]
    fn tls_comes_first_and_alone() {
        let secured = DatabaseProbe {
            tls: Some(Tls::default()),
            ..probe(None)
        };
        let mut postgres = Postgres::new(&secured, "nonce");
        let request = Next::Send(b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec());
        assert_eq!(postgres.connected(), request);
        assert_eq!(postgres.received(b"S"), Next::Secure(Vec::new()));
        assert!(matches!(postgres.connected(), Next::Send(start) if start.len() > 8));
        let mut refused = Postgres::new(&secured, "nonce");
        refused.connected();
        assert_eq!(failure(refused.received(b"N")), "the server offers no TLS");
        let mut more = Postgres::new(&secured, "nonce");
        more.connected();
        assert!(failure(more.received(b"SR")).contains("something else"));
    }
}
