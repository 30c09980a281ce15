//! A mail server's side of a session.

use evenkeel_core::probe::smtp::Talk;
use evenkeel_core::probe::{Dialogue, Next, Verdict};

use super::cuts::pieces;

/// What is said, and the verdict.
fn talk<'a>(answers: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Verdict) {
    let mut talk = Talk::new("a.example");
    let mut said = Vec::new();
    assert_eq!(talk.connected(), Next::Read);
    for answer in answers {
        match talk.received(answer) {
            Next::Read => {}
            Next::Send(bytes) => said.extend(bytes),
            Next::Done(verdict) => return (said, verdict),
            other => panic!("{other:?}"),
        }
    }
    (said, talk.closed())
}

/// What is said and the verdict are the same however lines are cut. What comes together with
/// a line is not looked at, so each comes for itself. True if it is a good one.
pub(crate) fn judge(answers: &[u8]) -> bool {
    let lines = || answers.split_inclusive(|byte| *byte == b'\n');
    let whole = talk(lines());
    assert_eq!(talk(lines().flat_map(pieces)), whole);
    // All at once does no harm either.
    if !answers.is_empty() {
        talk([answers]);
    }
    whole.1.is_good()
}
