//! A mail handed to a server: the short dialogue of RFC 5321, with the words and headers
//! that keepalived's mails have.

use std::fmt::Write as _;
use std::time::Duration;

use evenkeel_core::model::Mail;
use jiff::Zoned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest reply of a server, with all its lines, bytes. More than RFC 5321, section
/// 4.5.3.1.5, makes a client take.
const REPLY_MAX: usize = 8 << 10;

/// How long a server may take to say goodbye: the mail is its by then.
const GOODBYE: Duration = Duration::from_secs(2);

/// A mail.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// Without the router's name.
    pub(super) subject: String,
    pub(super) text: String,
    /// When what it tells of happened.
    pub(super) date: Zoned,
}

/// Who sends: what the configuration says, or else the machine.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) router: String,
    pub(super) helo: String,
    pub(super) from: String,
}

/// Why a mail was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Another attempt may do.
    Passing(String),
    /// The server does not want it.
    Final(String),
}

impl Failure {
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Passing(why) | Self::Final(why) => why,
        }
    }
}

/// Hands a mail over. Gives the receivers that the server refused, with its words; it took
/// the mail for at least one.
pub(super) async fn send(
    mail: &Mail,
    sender: &Sender,
    letter: &Letter,
) -> Result<Vec<String>, Failure> {
    let stream = connect(mail).await?;
    let mut session = Session {
        stream,
        buffer: Vec::new(),
        timeout: mail.timeout,
    };
    // A server that does not want us today may want us tomorrow.
    session
        .expect("its greeting", 2)
        .await
        .map_err(|failure| Failure::Passing(failure.reason().into()))?;
    session
        .say(&format!("HELO {}", one_word(&sender.helo)), 2)
        .await?;
    session
        .say(&format!("MAIL FROM:<{}>", one_word(&sender.from)), 2)
        .await?;
    let refused = session.receivers(&mail.to).await?;
    session.say("DATA", 3).await?;
    session.write(&message(mail, sender, letter)).await?;
    session.expect("the mail", 2).await?;
    // It has it. Whoever closes without a word is heard by the server as well.
    let _ = tokio::time::timeout(GOODBYE, session.say("QUIT", 2)).await;
    Ok(refused)
}

async fn connect(mail: &Mail) -> Result<TcpStream, Failure> {
    let attempt = async {
        let name = mail.server.trim_matches(['[', ']']);
        let mut last = format!("{name} has no address");
        let addresses = tokio::net::lookup_host((name, mail.port))
            .await
            .map_err(|error| format!("cannot find the address of {name}: {error}"))?;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = format!("cannot connect to {address}: {error}"),
            }
        }
        Err(last)
    };
    match tokio::time::timeout(mail.timeout, attempt).await {
        Ok(connected) => connected.map_err(Failure::Passing),
        Err(_) => Err(Failure::Passing(late("connecting", mail.timeout))),
    }
}

fn late(what: &str, limit: Duration) -> String {
    format!("{what} took longer than {} s", limit.as_secs_f64())
}

struct Session {
    stream: TcpStream,
    /// What was read and not used.
    buffer: Vec<u8>,
    timeout: Duration,
}

impl Session {
    /// Says a line, and expects a reply of this class: the code's first digit.
    async fn say(&mut self, line: &str, class: u16) -> Result<(), Failure> {
        self.write(format!("{line}\r\n").as_bytes()).await?;
        self.expect(line, class).await
    }

    /// Names the receivers. Gives those that were refused.
    async fn receivers(&mut self, to: &[String]) -> Result<Vec<String>, Failure> {
        let mut refused = Vec::new();
        let mut passing = false;
        for receiver in to {
            let line = format!("RCPT TO:<{}>", one_word(receiver));
            self.write(format!("{line}\r\n").as_bytes()).await?;
            if let Err(failure) = self.reply().await?.is(&line, 2) {
                passing |= matches!(failure, Failure::Passing(_));
                refused.push(failure.reason().to_owned());
            }
        }
        if refused.len() < to.len() {
            return Ok(refused);
        }
        let why = refused.join("; ");
        Err(if passing {
            Failure::Passing(why)
        } else {
            Failure::Final(why)
        })
    }

    async fn expect(&mut self, what: &str, class: u16) -> Result<(), Failure> {
        self.reply().await?.is(what, class)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let why = match tokio::time::timeout(self.timeout, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => broken(&error),
            Err(_) => late("writing to it", self.timeout),
        };
        Err(Failure::Passing(why))
    }

    /// Waits for a reply, whatever it says.
    async fn reply(&mut self) -> Result<Reply, Failure> {
        let why = match tokio::time::timeout(self.timeout, self.read_reply()).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(why)) => why,
            Err(_) => late("its reply", self.timeout),
        };
        Err(Failure::Passing(why))
    }

    async fn read_reply(&mut self) -> Result<Reply, String> {
        loop {
            if let Some((reply, length)) = Reply::parse(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(reply);
            }
            if self.buffer.len() > REPLY_MAX {
                return Err("its reply has no end".into());
            }
            let mut bytes = [0; 1024];
            match self.stream.read(&mut bytes).await {
                Ok(0) => return Err("it closed the connection".into()),
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) => return Err(broken(&error)),
            }
        }
    }
}

fn broken(error: &std::io::Error) -> String {
    format!("the connection broke: {error}")
}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    code: u16,
    words: String,
}

impl Reply {
    /// Fails unless it is of this class.
    fn is(&self, to: &str, class: u16) -> Result<(), Failure> {
        if self.code / 100 == class {
            return Ok(());
        }
        let why = format!("it answered {} {} to {to}", self.code, self.words);
        Err(if self.code / 100 == 5 {
            Failure::Final(why)
        } else {
            Failure::Passing(why)
        })
    }

    /// Reads a reply (RFC 5321, section 4.2), and says how many bytes it takes; none: more has
    /// to come.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, String> {
        let mut words = String::new();
        let mut used = 0;
        loop {
            let Some(end) = bytes[used..].iter().position(|&byte| byte == b'\n') else {
                return Ok(None);
            };
            let line = &bytes[used..used + end];
            used += end + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let code = line
                .get(..3)
                .filter(|code| code.iter().all(u8::is_ascii_digit))
                .ok_or("its reply has no code: it does not speak SMTP")?;
            let code = code
                .iter()
                .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
            if !words.is_empty() {
                words.push(' ');
            }
            let text = line.get(4..).unwrap_or_default();
            words.push_str(&one_line(&String::from_utf8_lossy(text)));
            if line.get(3) != Some(&b'-') {
                return Ok(Some((Self { code, words }, used)));
            }
        }
    }
}

/// The mail as it goes over the wire, with the dot that ends it.
pub(super) fn message(mail: &Mail, sender: &Sender, letter: &Letter) -> Vec<u8> {
    let mut text = String::new();
    let to: Vec<String> = mail.to.iter().map(|to| one_line(to)).collect();
    let headers = [
        (
            "Date",
            letter.date.strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
        ),
        ("From", one_line(&sender.from)),
        (
            "Subject",
            format!(
                "[{}] {}",
                one_line(&sender.router),
                one_line(&letter.subject)
            ),
        ),
        ("X-Mailer", "Keepalived".into()),
        ("To", to.join(", ")),
    ];
    for (name, value) in headers {
        // A string takes all that is written to it.
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    for line in letter.text.lines() {
        // RFC 5321, section 4.5.2.
        if line.starts_with('.') {
            text.push('.');
        }
        text.extend(line.chars().filter(|&letter| letter != '\r'));
        text.push_str("\r\n");
    }
    text.push_str("\r\n.\r\n");
    text.into_bytes()
}

/// Without what would begin another line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

/// Without what would end a command's argument.
fn one_word(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control() && !matches!(letter, ' ' | '<' | '>'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let parsed = |text: &str| Reply::parse(text.as_bytes());
        let ok = |code, words: &str, used| {
            let words = words.to_owned();
            Ok(Some((Reply { code, words }, used)))
        };
        assert_eq!(parsed("250 fine\r\nmore"), ok(250, "fine", 10));
        assert_eq!(parsed("250\r\n"), ok(250, "", 5));
        assert_eq!(parsed("250-one\r\n250 two\n"), ok(250, "one two", 17));
        assert_eq!(parsed("554 no\x07\x1b[1m\r\n"), ok(554, "no  [1m", 13));
        for more in ["", "2", "250 fine", "250-one\r\n250"] {
            assert_eq!(parsed(more), Ok(None), "{more}");
        }
        for bad in ["\r\n", "25\r\n", "HTTP/1.1 200 OK\r\n", "250-a\r\nb\r\n"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mail_looks_as_the_manual_has_it() {
        let manual = include_str!("../../../../docs/alerts.md");
        let letter = Letter {
            subject: "Realserver [192.168.1.1]:tcp:80 of virtual server [10.0.0.10]:tcp:80 - DOWN"
                .into(),
            text: "=> TCP CHECK failed on service <=".into(),
            date: "2026-02-03T04:05:06+01:00[+01:00]".parse().unwrap(),
        };
        let sender = Sender {
            router: "LVS".into(),
            helo: "x".into(),
            from: "lvs@example.com".into(),
        };
        let mail = mail(&["georgette@example.com", "admin@example.com"]);
        let text = String::from_utf8(message(&mail, &sender, &letter)).unwrap();
        let text = text.replace("\r\n", "\n");
        let block = format!("```text\n{}```", text.strip_suffix("\n.\n").unwrap());
        assert!(manual.contains(&block), "{block}");
    }

    fn mail(to: &[&str]) -> Mail {
        Mail {
            server: String::new(),
            port: 25,
            timeout: Duration::from_secs(1),
            helo: None,
            from: None,
            to: to.iter().map(|&to| to.into()).collect(),
            quiet: false,
        }
    }

    #[test]
    fn a_text_cannot_end_the_mail_or_add_headers() {
        let mail = mail(&["a@x", "b@x\r\nRCPT TO:<c@x>"]);
        let sender = Sender {
            router: "LVS".into(),
            helo: "x".into(),
            from: "r@x".into(),
        };
        let letter = Letter {
            subject: "one\r\nBcc: two".into(),
            text: "first\n.\n..\r\nlast\rone".into(),
            date: "2026-02-03T04:05:06+01:00[+01:00]".parse().unwrap(),
        };
        let text = String::from_utf8(message(&mail, &sender, &letter)).unwrap();
        assert_eq!(
            text,
            "Date: Tue, 03 Feb 2026 04:05:06 +0100\r\nFrom: r@x\r\n\
             Subject: [LVS] one  Bcc: two\r\nX-Mailer: Keepalived\r\n\
             To: a@x, b@x  RCPT TO:<c@x>\r\n\r\n\
             first\r\n..\r\n...\r\nlastone\r\n\r\n.\r\n"
        );
        assert_eq!(one_word("b@x>\r\nDATA"), "b@xDATA");
    }
}
