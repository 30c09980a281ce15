//! `MySQL` and `MariaDB`: a session's start, and a query (protocol 10).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::{Dialogue, Next, Verdict};
use crate::model::DatabaseProbe;

/// Bytes of a packet before the row that is waited for.
const PACKET: usize = 64 << 10;
/// Whom the database's own clients log in as where nothing else is said: the user that they
/// run as, which for the daemon is this one.
const USER: &str = "root";
/// Text is UTF-8.
const CHARACTER_SET: u8 = 33;

// What client and server can do.
const LONG_PASSWORD: u32 = 1;
const CONNECT_WITH_DATABASE: u32 = 1 << 3;
const TLS: u32 = 1 << 11;
const PROTOCOL_41: u32 = 1 << 9;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGINS: u32 = 1 << 19;

// What the first byte of an answer says.
const OK: u8 = 0;
const MORE: u8 = 1;
const END: u8 = 0xfe;
const ERROR: u8 = 0xff;

#[derive(Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Login,
    /// The query was sent.
    Query,
    /// So many descriptions of columns are to come, then what ends them.
    Columns(u64),
    /// The first row, or none.
    Rows,
}

/// A dialogue.
#[derive(Debug)]
pub struct Mysql {
    user: String,
    password: String,
    database: Option<String>,
    query: Option<String>,
    wants_tls: bool,
    is_secure: bool,
    state: State,
    /// How the server wants the password, and what it is mixed with.
    plugin: Vec<u8>,
    salt: Vec<u8>,
    /// Number of the next packet.
    sequence: u8,
    input: Vec<u8>,
}

impl Mysql {
    /// One for this check.
    #[must_use]
    pub fn new(probe: &DatabaseProbe) -> Self {
        let password = probe.password.as_ref().map(|secret| secret.0.clone());
        Self {
            user: probe.user.clone().unwrap_or_else(|| USER.to_owned()),
            password: password.unwrap_or_default(),
            database: probe.database.clone(),
            query: probe.query.clone(),
            wants_tls: probe.tls.is_some(),
            is_secure: false,
            state: State::Greeting,
            plugin: Vec::new(),
            salt: Vec::new(),
            sequence: 0,
            input: Vec::new(),
        }
    }

    fn packet(&mut self, body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as u32).to_le_bytes()[..3].to_vec();
        bytes.push(self.sequence);
        bytes.extend_from_slice(body);
        self.sequence = self.sequence.wrapping_add(1);
        bytes
    }

    /// One packet: its first `head` bytes at least, its length as it is.
    fn message(&mut self, body: &[u8], length: usize) -> Result<Option<Next>, String> {
        let first = *body.first().ok_or("this is not MySQL: an empty packet")?;
        if first == ERROR {
            return Err(error_of(body));
        }
        match self.state {
            State::Greeting => self.greeting(body).map(Some),
            State::Login => self.login(first, body),
            State::Query => {
                self.state = State::Columns(columns(first, body)?);
                Ok(None)
            }
            State::Columns(0) => {
                self.state = State::Rows;
                Ok(None)
            }
            State::Columns(left) => {
                self.state = State::Columns(left - 1);
                Ok(None)
            }
            State::Rows if first == END && length < 9 => Err("the query gave no row".into()),
            State::Rows => Ok(Some(self.farewell("the query gave a row"))),
        }
    }

    fn greeting(&mut self, body: &[u8]) -> Result<Next, String> {
        let (capabilities, salt, plugin) = greeting(body)
            .ok_or("this is not MySQL, or one older than 4.1: its greeting can't be read")?;
        self.salt = salt;
        self.plugin = plugin;
        self.state = State::Login;
        if !self.wants_tls {
            return Ok(self.response());
        }
        if capabilities & TLS == 0 {
            return Err("the server offers no TLS".into());
        }
        let head = self.response_head();
        Ok(Next::Secure(self.packet(&head)))
    }

    /// What a response begins with; alone it asks for TLS.
    fn response_head(&self) -> Vec<u8> {
        let mut flags = LONG_PASSWORD | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGINS;
        if self.database.is_some() {
            flags |= CONNECT_WITH_DATABASE;
        }
        if self.wants_tls {
            flags |= TLS;
        }
        let mut head = flags.to_le_bytes().to_vec();
        // No packet is larger than what the header can say.
        head.extend_from_slice(&0x00ff_ffff_u32.to_le_bytes());
        head.push(CHARACTER_SET);
        head.extend_from_slice(&[0; 23]);
        head
    }

    fn response(&mut self) -> Next {
        let mut body = self.response_head();
        body.extend_from_slice(self.user.as_bytes());
        body.push(0);
        // A way that is not known is left to the server to change.
        let scrambled = self.scrambled().unwrap_or_default();
        body.push(scrambled.len() as u8);
        body.extend_from_slice(&scrambled);
        if let Some(database) = &self.database {
            body.extend_from_slice(database.as_bytes());
            body.push(0);
        }
        body.extend_from_slice(&self.plugin);
        body.push(0);
        Next::Send(self.packet(&body))
    }

    /// The password as the server wants it.
    fn scrambled(&self) -> Result<Vec<u8>, String> {
        let password = self.password.as_bytes();
        match self.plugin.as_slice() {
            _ if password.is_empty() => Ok(Vec::new()),
            b"mysql_native_password" => Ok(native(password, &self.salt)),
            b"caching_sha2_password" => Ok(caching_sha2(password, &self.salt)),
            b"mysql_clear_password" if self.is_secure => Ok(self.clear()),
            b"mysql_clear_password" => {
                Err("the server asks for the password in clear: configure TLS".into())
            }
            other => Err(format!(
                "the server asks for the password by {}, which checks can't do",
                String::from_utf8_lossy(other)
            )),
        }
    }

    fn clear(&self) -> Vec<u8> {
        let mut password = self.password.as_bytes().to_vec();
        password.push(0);
        password
    }

    fn login(&mut self, first: u8, body: &[u8]) -> Result<Option<Next>, String> {
        match (first, body.get(1)) {
            (OK, _) => Ok(Some(match self.query.take() {
                None => self.farewell("the session started"),
                Some(query) => {
                    self.state = State::Query;
                    self.sequence = 0;
                    let mut body = Vec::from([3]);
                    body.extend_from_slice(query.as_bytes());
                    Next::Send(self.packet(&body))
                }
            })),
            // The short way went well.
            (MORE, Some(3)) => Ok(None),
            // The long way: the server wants the password itself.
            (MORE, Some(4)) if self.is_secure => {
                let clear = self.clear();
                Ok(Some(Next::Send(self.packet(&clear))))
            }
            (MORE, _) => Err(
                "the server asks for the password itself (caching_sha2_password): configure TLS"
                    .into(),
            ),
            (END, Some(_)) => {
                let mut parts = body[1..].splitn(2, |&byte| byte == 0);
                self.plugin = parts.next().unwrap_or_default().to_vec();
                let salt = parts.next().unwrap_or_default();
                self.salt = salt.strip_suffix(&[0]).unwrap_or(salt).to_vec();
                let scrambled = self.scrambled()?;
                Ok(Some(Next::Send(self.packet(&scrambled))))
            }
            _ => Err(format!("this is not MySQL: packet {first:#04x}")),
        }
    }

    fn farewell(&mut self, words: &str) -> Next {
        self.sequence = 0;
        Next::Bye(self.packet(&[1]), Verdict::Passed(words.to_owned()))
    }

    /// The next packet that is there as a whole.
    fn step(&mut self) -> Result<Option<Next>, String> {
        loop {
            let Some((&[a, b, c, sequence], rest)) = self.input.split_first_chunk() else {
                return Ok(None);
            };
            let length = u32::from_le_bytes([a, b, c, 0]) as usize;
            // A row may be as large as it likes: that there is one is all.
            let is_row = self.state == State::Rows && rest.first().is_some_and(|&b| b != ERROR);
            let needed = if is_row { length.min(1) } else { length };
            if needed > PACKET {
                return Err(format!("this is not MySQL: a packet of {length} bytes"));
            }
            let Some(body) = rest.get(..needed) else {
                return Ok(None);
            };
            let body = body.to_vec();
            self.input.drain(..4 + needed);
            self.sequence = sequence.wrapping_add(1);
            if let Some(next) = self.message(&body, length)? {
                return Ok(Some(next));
            }
        }
    }
}

impl Dialogue for Mysql {
    fn connected(&mut self) -> Next {
        // The server speaks first; within TLS it has spoken.
        if self.state == State::Greeting {
            return Next::Read;
        }
        self.is_secure = true;
        self.response()
    }

    fn received(&mut self, bytes: &[u8]) -> Next {
        self.input.extend_from_slice(bytes);
        match self.step() {
            // Nothing may come behind the greeting that was not said within TLS.
            Ok(Some(Next::Secure(_))) if !self.input.is_empty() => Next::Done(Verdict::Failed(
                "this is not MySQL: more than a greeting".into(),
            )),
            Ok(next) => next.unwrap_or(Next::Read),
            Err(reason) => Next::Done(Verdict::Failed(reason)),
        }
    }

    fn closed(&mut self) -> Verdict {
        Verdict::Failed("it closed the connection before the session's end".into())
    }
}

/// Capabilities, salt and the way of the password that a greeting tells.
fn greeting(body: &[u8]) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let rest = body.strip_prefix(&[10])?;
    let version = rest.iter().position(|&byte| byte == 0)?;
    // Behind the version: number of the session (4), salt (8), 0.
    let rest = rest.get(version + 1 + 4..)?;
    let mut salt = rest.get(..8)?.to_vec();
    let low = rest.get(9..11)?;
    // Character set (1), status (2).
    let high = rest.get(14..16)?;
    let capabilities = u32::from_le_bytes([low[0], low[1], high[0], high[1]]);
    if capabilities & PROTOCOL_41 == 0 {
        return None;
    }
    let length = usize::from(*rest.get(16)?).saturating_sub(8).max(13);
    let second = rest.get(27..27 + length)?;
    salt.extend_from_slice(second.strip_suffix(&[0]).unwrap_or(second));
    let plugin = rest.get(27 + length..)?.split(|&byte| byte == 0).next()?;
    let plugin = if plugin.is_empty() {
        b"mysql_native_password"
    } else {
        plugin
    };
    Some((capabilities, salt, plugin.to_vec()))
}

/// How many columns a result has.
fn columns(first: u8, body: &[u8]) -> Result<u64, String> {
    match first {
        OK => Err("the query gave no rows".into()),
        0xfb => Err("the server asks for a file of ours".into()),
        // One that many rows don't fit in is no check's.
        0xfc => match body.get(1..3) {
            Some(&[low, high]) => Ok(u16::from_le_bytes([low, high]).into()),
            _ => Err("this is not MySQL: a short packet".into()),
        },
        0xfd..=0xff => Err("the query's rows have too many columns".into()),
        count => Ok(count.into()),
    }
}

/// `mysql_native_password`.
fn native(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let stage = Sha1::digest(password);
    let mixed = Sha1::new()
        .chain_update(salt)
        .chain_update(Sha1::digest(stage))
        .finalize();
    stage.iter().zip(mixed).map(|(a, b)| a ^ b).collect()
}

/// `caching_sha2_password`, the short way.
fn caching_sha2(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let stage = Sha256::digest(password);
    let mixed = Sha256::new()
        .chain_update(Sha256::digest(stage))
        .chain_update(salt)
        .finalize();
    stage.iter().zip(mixed).map(|(a, b)| a ^ b).collect()
}

/// What an error says: number, `#` and state, text.
fn error_of(body: &[u8]) -> String {
    let number = match body.get(1..3) {
        Some(&[low, high]) => u16::from_le_bytes([low, high]),
        _ => 0,
    };
    let text = body.get(3..).unwrap_or_default();
    let text = match text.first() {
        Some(b'#') => text.get(6..).unwrap_or_default(),
        _ => text,
    };
    format!("{} ({number})", String::from_utf8_lossy(text))
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::model::{Connect, Secret};

    fn probe(query: Option<&str>) -> DatabaseProbe {
        DatabaseProbe {
            password: Some(Secret("secret".into())),
            query: query.map(ToOwned::to_owned),
            ..DatabaseProbe::session(Connect::to(
                ([127, 0, 0, 1], 3306).into(),
                Duration::from_secs(1),
            ))
        }
    }

    fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = [body.len() as u8, 0, 0, sequence].to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    fn greets(capabilities: u32, plugin: &[u8]) -> Vec<u8> {
        let flags = (capabilities | PROTOCOL_41).to_le_bytes();
        let mut body = b"\x0a5.5.5-10.11\0abcd12345678\0".to_vec();
        body.extend_from_slice(&[flags[0], flags[1], 45, 2, 0, flags[2], flags[3], 21]);
        body.extend_from_slice(&[0; 10]);
        body.extend_from_slice(b"901234567890\0");
        body.extend_from_slice(plugin);
        body.push(0);
        packet(0, &body)
    }

    fn failure(next: Next) -> String {
        match next {
            Next::Done(Verdict::Failed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_session_and_a_query() {
        let mut mysql = Mysql::new(&probe(Some("select 1")));
        assert_eq!(mysql.connected(), Next::Read);
        let greeting = greets(0, b"mysql_native_password");
        for byte in &greeting[..greeting.len() - 1] {
            assert_eq!(mysql.received(&[*byte]), Next::Read);
        }
        let Next::Send(login) = mysql.received(&[0]) else {
            panic!("no login")
        };
        assert_eq!(login[3], 1, "the packet's number");
        assert_eq!(&login[36..41], b"root\0");
        assert_eq!(&login[42..62], native(b"secret", b"12345678901234567890"));
        let query = Next::Send(b"\x09\0\0\0\x03select 1".to_vec());
        assert_eq!(mysql.received(&packet(2, &[0, 0, 0, 2, 0])), query);
        let mut rows = packet(1, &[1]);
        rows.extend(packet(2, b"\x03defcolumn"));
        rows.extend(packet(3, &[END, 0, 0, 2, 0]));
        assert_eq!(mysql.received(&rows), Next::Read);
        let bye = Next::Bye(
            b"\x01\0\0\0\x01".to_vec(),
            Verdict::Passed("the query gave a row".into()),
        );
        assert_eq!(mysql.received(b"\xff\xff\0\x04\x01"), bye);
    }

    #[test]
    fn what_is_not_well_is_told() {
        let first = |bytes: &[u8]| failure(Mysql::new(&probe(None)).received(bytes));
        let full = packet(0, b"\xff\x10\x04Too many connections");
        assert_eq!(first(&full), "Too many connections (1040)");
        assert!(first(&packet(0, b"220 smtp\r\n")).starts_with("this is not MySQL"));
        assert!(first(b"HTTP/1.1 400").contains("a packet of"));

        let after = |plugin: &[u8], bytes: &[u8]| {
            let mut mysql = Mysql::new(&probe(Some("select")));
            mysql.received(&greets(0, plugin));
            mysql.received(bytes)
        };
        let denied = packet(2, b"\xff\x15\x04#28000Access denied");
        let native = b"mysql_native_password".as_slice();
        assert_eq!(failure(after(native, &denied)), "Access denied (1045)");
        let long = packet(2, &[MORE, 4]);
        assert!(failure(after(b"caching_sha2_password", &long)).contains("configure TLS"));
        let other = packet(2, b"\xfeclient_ed25519\0salt");
        assert!(failure(after(native, &other)).contains("client_ed25519"));
        let clear = packet(2, b"\xfemysql_clear_password\0");
        assert!(failure(after(native, &clear)).contains("in clear"));
    }

    #[test]
    fn no_row_and_no_file() {
        let answers = |bytes: &[u8]| {
            let mut mysql = Mysql::new(&probe(Some("select")));
            mysql.received(&greets(0, b"mysql_native_password"));
            mysql.received(&packet(2, &[0, 0, 0, 2, 0]));
            failure(mysql.received(bytes))
        };
        let mut none = packet(1, &[1]);
        none.extend(packet(2, b"\x03def"));
        none.extend(packet(3, &[END, 0, 0, 2, 0]));
        none.extend(packet(4, &[END, 0, 0, 2, 0]));
        assert_eq!(answers(&none), "the query gave no row");
        assert_eq!(answers(&packet(1, &[0, 0, 0])), "the query gave no rows");
        let file = packet(1, b"\xfb/etc/shadow");
        assert_eq!(answers(&file), "the server asks for a file of ours");
    }

    #[test]
    fn tls_is_asked_for_before_the_login() {
        let secured = DatabaseProbe {
            tls: Some(crate::model::Tls::default()),
            ..probe(None)
        };
        let mut mysql = Mysql::new(&secured);
        let Next::Secure(request) = mysql.received(&greets(TLS, b"caching_sha2_password")) else {
            panic!("no TLS")
        };
        assert_eq!(request.len(), 36);
        let Next::Send(login) = mysql.connected() else {
            panic!("no login")
        };
        assert_eq!((login[3], &login[4..36]), (2, &request[4..]));
        // Within TLS the password itself may be sent.
        let clear = Next::Send(packet(4, b"secret\0"));
        assert_eq!(mysql.received(&packet(3, &[MORE, 4])), clear);
        let mut none = Mysql::new(&secured);
        assert_eq!(
            failure(none.received(&greets(0, b"x"))),
            "the server offers no TLS"
        );
    }
}
