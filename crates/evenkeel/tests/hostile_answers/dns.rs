//! A datagram that comes back for a query.

use evenkeel_core::model::DnsRecord;
use evenkeel_core::probe::dns::{query, verdict};

use super::cuts::Numbers;

/// A datagram is judged by its head alone, and only one that answers the query is. True if it
/// is a good one.
pub(crate) fn judge(datagram: &[u8]) -> bool {
    let mut numbers = Numbers::of(datagram);
    let (record, ..) = DnsRecord::ALL[numbers.below(DnsRecord::ALL.len())];
    let name = String::from_utf8_lossy(datagram);
    let query = query(0x1234, record, &name);
    // As it is, and as an answer to this very query.
    let found = verdict(&query, datagram);
    assert!(found.is_none() || datagram.starts_with(&query[..2]));
    let mut answer = datagram.to_vec();
    for (to, from) in answer.iter_mut().zip(&query[..2]) {
        *to = *from;
    }
    let found = verdict(&query, &answer);
    let is_answer = answer.len() >= 8 && answer[2] & 0x80 != 0;
    assert_eq!(found.is_some(), is_answer);
    if answer.len() > 8 {
        let cut = 8 + numbers.below(answer.len() - 8);
        assert_eq!(verdict(&query, &answer[..cut]), found);
    }
    // A query is never an answer to itself.
    assert_eq!(verdict(&query, &query), None);
    found.is_some_and(|verdict| verdict.is_good())
}
