//! The start and the end of an SMTP session.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Dialogue, Next, Verdict};

/// So much of a line is kept, in bytes. Of a longer one every so many bytes are forgotten, and
/// what is left of it counts as the line: a server that says that much is not well.
pub const LINE_LIMIT: usize = 511;

/// A session: greeting, `HELO`, `QUIT`.
///
/// An answer is one line that begins with the code and a space; what comes together with it
/// is not looked at. So a server that greets with several lines (`220-…`) fails.
#[derive(Clone, Debug)]
pub struct Talk {
    helo: String,
    step: Step,
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Greeting,
    Hello,
    Goodbye,
}

impl Talk {
    /// A session of whom calls itself that.
    #[must_use]
    pub fn new(helo: &str) -> Self {
        Self {
            helo: helo.into(),
            step: Step::Greeting,
            line: Vec::new(),
        }
    }

    fn answered(&mut self) -> Next {
        let line = core::mem::take(&mut self.line);
        match self.step {
            Step::Greeting if says(&line, b"220") => {
                self.step = Step::Hello;
                Next::Send(format!("HELO {}\r\n", self.helo).into_bytes())
            }
            Step::Hello if says(&line, b"250") => {
                self.step = Step::Goodbye;
                Next::Send(b"QUIT\r\n".to_vec())
            }
            Step::Greeting => bad("Bad greeting banner", &line),
            Step::Hello => bad("Bad HELO response", &line),
            Step::Goodbye => Next::Done(Verdict::Passed("220, 250 and a goodbye".into())),
        }
    }
}

fn says(line: &[u8], code: &[u8]) -> bool {
    line.strip_prefix(code)
        .is_some_and(|rest| matches!(rest.first(), None | Some(b' ')))
}

fn bad(what: &str, line: &[u8]) -> Next {
    let line = line.trim_ascii_end();
    let seen = line[..line.len().min(80)].escape_ascii();
    Next::Done(Verdict::Failed(format!("{what}: \"{seen}\"")))
}

impl Dialogue for Talk {
    fn connected(&mut self) -> Next {
        Next::Read
    }

    fn received(&mut self, bytes: &[u8]) -> Next {
        for byte in bytes {
            // A zero byte hides the rest of what is kept.
            if *byte == b'\n' && !self.line.contains(&0) {
                return self.answered();
            }
            self.line.push(*byte);
            if self.line.len() == LINE_LIMIT {
                self.line.clear();
            }
        }
        Next::Read
    }

    fn closed(&mut self) -> Verdict {
        let before = match self.step {
            Step::Greeting => "the greeting",
            Step::Hello => "the answer to HELO",
            Step::Goodbye => "the answer to QUIT",
        };
        Verdict::Failed(format!("Read failure: closed before {before}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    /// What it says, and its verdict, for answers that come in these pieces.
    fn talk(answers: &[&[u8]]) -> (Vec<u8>, Verdict) {
        let mut talk = Talk::new("a.example");
        let mut sent = Vec::new();
        assert_eq!(talk.connected(), Next::Read);
        for answer in answers {
            match talk.received(answer) {
                Next::Send(bytes) => sent.extend(bytes),
                Next::Done(verdict) => return (sent, verdict),
                _ => {}
            }
        }
        (sent, talk.closed())
    }

    #[test]
    fn the_whole_session() {
        let (sent, verdict) = talk(&[b"220 hi\r\n", b"250 a\r\n", b"221 bye\r\n"]);
        assert_eq!(sent, b"HELO a.example\r\nQUIT\r\n");
        assert!(verdict.is_good());
        assert!(talk(&[b"220\n", b"250\n", b"\n"]).1.is_good());
        // What comes along with a line is not looked at.
        assert!(
            talk(&[b"220 a\r\n220 b\r\n", b"250 a\n", b"x\n"])
                .1
                .is_good()
        );
    }

    #[test]
    fn failures_in_words() {
        let closed = "Read failure: closed before the answer to QUIT";
        let cases: [(&[&[u8]], &str); 7] = [
            (&[b"554 no\r\n"], "Bad greeting banner: \"554 no\""),
            (&[b"220-a\r\n220 b\r\n"], "Bad greeting banner: \"220-a\""),
            (&[b"220\r\n"], "Bad greeting banner: \"220\""),
            (
                &[b"220 a\n", b"\xff\0\n\n"],
                "Read failure: closed before the answer to HELO",
            ),
            (
                &[b"220 a\n", b"500 \xff\n"],
                "Bad HELO response: \"500 \\xff\"",
            ),
            (&[b"220 a"], "Read failure: closed before the greeting"),
            (&[b"220 a\n", b"250 b\n"], closed),
        ];
        for (answers, why) in cases {
            assert_eq!(talk(answers).1, Verdict::Failed(why.into()));
        }
    }

    #[test]
    fn endless_lines_need_no_memory() {
        let mut talk = Talk::new("a");
        for _ in 0..1000 {
            assert_eq!(talk.received(&[b'2'; 1000]), Next::Read);
            assert!(talk.line.capacity() <= 1024);
        }
        let long = vec![b' '; LINE_LIMIT];
        let (sent, verdict) = super::tests::talk(&[&long, b"220 x\n"]);
        assert_eq!(sent, b"HELO a.example\r\n");
        assert!(!verdict.is_good());
    }

    proptest! {
        #[test]
        fn pieces_of_a_line_are_the_line(
            line in proptest::collection::vec(prop_oneof![4 => any::<u8>(), 1 => Just(b'\n')], 1..600),
            cut in any::<prop::sample::Index>(),
        ) {
            let line = [b"220 ", &line[..]].concat();
            let end = line.iter().position(|byte| *byte == b'\n').map_or(line.len(), |at| at + 1);
            let (first, second) = line[..end].split_at(cut.index(end));
            let whole = talk(&[&line[..end]]);
            prop_assert_eq!(talk(&[first, second]), whole);
        }
    }
}
