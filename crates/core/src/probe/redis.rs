//! Redis: commands, and the first line of their answers (RESP 2).

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Dialogue, Next, Verdict};
use crate::model::DatabaseProbe;

/// Bytes that a line of an answer may have.
const LINE: usize = 4 << 10;

/// What an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// `+OK`, for what this word does.
    Ok(&'static str),
    /// `+PONG`.
    Pong,
    /// Anything but an error or nothing.
    Value,
}

/// A dialogue: `AUTH` and `SELECT` as configured, then the query, or `PING`.
#[derive(Debug)]
pub struct Redis {
    commands: VecDeque<(Vec<u8>, Expected)>,
    expected: Expected,
    line: Vec<u8>,
}

impl Redis {
    /// One for this check. A query is a command's words with blanks between.
    #[must_use]
    pub fn new(probe: &DatabaseProbe) -> Self {
        let mut commands = VecDeque::new();
        if let Some(password) = &probe.password {
            let words: Vec<&str> = match &probe.user {
                Some(user) => ["AUTH", user, &password.0].into(),
                None => ["AUTH", &password.0].into(),
            };
            commands.push_back((command(&words), Expected::Ok("AUTH")));
        }
        if let Some(database) = &probe.database {
            let select = command(&["SELECT", database]);
            commands.push_back((select, Expected::Ok("SELECT")));
        }
        commands.push_back(match &probe.query {
            Some(query) => {
                let words: Vec<&str> = query.split_ascii_whitespace().collect();
                (command(&words), Expected::Value)
            }
            None => (command(&["PING"]), Expected::Pong),
        });
        Self {
            commands,
            expected: Expected::Pong,
            line: Vec::new(),
        }
    }

    fn send_next(&mut self) -> Option<Next> {
        let (bytes, expected) = self.commands.pop_front()?;
        self.expected = expected;
        Some(Next::Send(bytes))
    }
}

/// A command as an array of strings.
fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    bytes
}

/// Whether the first line of an answer is as expected, in words.
fn judge(line: &str, expected: Expected) -> Result<String, String> {
    if let Some(error) = line.strip_prefix('-') {
        return Err(error.to_owned());
    }
    match expected {
        Expected::Ok(_) if line == "+OK" => Ok(String::new()),
        Expected::Ok(command) => Err(format!("{command} was answered by {line:?}")),
        Expected::Pong if line == "+PONG" => Ok("PONG".into()),
        Expected::Pong => Err(format!("PING was answered by {line:?}")),
        Expected::Value if matches!(line, "$-1" | "*-1" | "*0") => {
            Err("the query gave nothing".into())
        }
        Expected::Value if line.starts_with(['+', ':', '$', '*']) => {
            Ok("the query gave a value".into())
        }
        Expected::Value => Err(format!("this is not Redis: {line:?}")),
    }
}

impl Dialogue for Redis {
    fn connected(&mut self) -> Next {
        self.send_next().unwrap_or(Next::Read)
    }

    fn received(&mut self, bytes: &[u8]) -> Next {
        self.line.extend_from_slice(bytes);
        let Some(end) = self.line.windows(2).position(|pair| pair == b"\r\n") else {
            if self.line.len() > LINE {
                return Next::Done(Verdict::Failed("this is not Redis: no line's end".into()));
            }
            return Next::Read;
        };
        let line = String::from_utf8_lossy(&self.line[..end]).into_owned();
        self.line.clear();
        let words = match judge(&line, self.expected) {
            Ok(words) => words,
            Err(reason) => return Next::Done(Verdict::Failed(reason)),
        };
        // What follows the line of a value is not needed: it comes last.
        self.send_next()
            .unwrap_or(Next::Done(Verdict::Passed(words)))
    }

    fn closed(&mut self) -> Verdict {
        Verdict::Failed("it closed the connection without an answer".into())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use core::time::Duration;

    use super::*;
    use crate::model::{Connect, Secret};

    fn probe() -> DatabaseProbe {
        DatabaseProbe::session(Connect::to(
            ([127, 0, 0, 1], 6379).into(),
            Duration::from_secs(1),
        ))
    }

    fn sent(next: Next) -> String {
        match next {
            Next::Send(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn commands_come_one_after_the_other() {
        let mut redis = Redis::new(&DatabaseProbe {
            user: Some("me".into()),
            password: Some(Secret("pass word".into())),
            database: Some("3".into()),
            query: Some("GET  key".into()),
            ..probe()
        });
        let auth = sent(redis.connected());
        assert_eq!(auth, "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$9\r\npass word\r\n");
        assert_eq!(redis.received(b"+O"), Next::Read);
        let select = sent(redis.received(b"K\r\n"));
        assert_eq!(select, "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n");
        let get = sent(redis.received(b"+OK\r\n"));
        assert_eq!(get, "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
        let passed = Verdict::Passed("the query gave a value".into());
        assert_eq!(redis.received(b"$1\r\n"), Next::Done(passed));
    }

    #[test]
    fn other_answers_fail() {
        let answer = |bytes: &[u8]| {
            let mut redis = Redis::new(&probe());
            redis.connected();
            match redis.received(bytes) {
                Next::Done(Verdict::Failed(reason)) => reason,
                Next::Done(Verdict::Passed(words)) => words,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(answer(b"+PONG\r\n"), "PONG");
        assert_eq!(
            answer(b"-NOAUTH Authentication required.\r\n"),
            "NOAUTH Authentication required."
        );
        assert_eq!(
            answer(b"HTTP/1.1 400\r\n"),
            "PING was answered by \"HTTP/1.1 400\""
        );
        assert_eq!(answer(&[b'x'; 5000]), "this is not Redis: no line's end");
        assert_eq!(
            judge("$-1", Expected::Value),
            Err("the query gave nothing".to_string())
        );
    }
}
