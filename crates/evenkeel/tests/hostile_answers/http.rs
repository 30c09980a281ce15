//! An answer to a request for a page.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use evenkeel_core::model::{
    Connect, HeaderDemand, HttpProbe, HttpVersion, JsonDemand, Page, PageRegex,
};
use evenkeel_core::probe::http::{Get, Plan};
use evenkeel_core::probe::{Dialogue, Next, Verdict};

use super::cuts::{Numbers, pieces};

/// MD5 of `hello`.
const HELLO: u128 = 0x5d41_402a_bc4b_2a76_b971_9d91_1017_c592;

/// One with each of the things that can be expected.
static PLANS: LazyLock<Vec<Arc<Plan>>> = LazyLock::new(|| {
    let page = Page {
        path: "/".into(),
        host: None,
        statuses: Vec::new(),
        digest: None,
        regex: None,
        headers: Vec::new(),
        json: Vec::new(),
    };
    let expression = |pattern: &str, min_offset, max_offset| {
        Some(PageRegex {
            pattern: pattern.into(),
            options: Vec::new(),
            absent: min_offset > 0,
            min_offset,
            max_offset,
        })
    };
    let pages = [
        page.clone(),
        Page {
            statuses: vec![100..=599],
            digest: Some(HELLO.to_be_bytes()),
            ..page.clone()
        },
        Page {
            headers: vec![HeaderDemand {
                name: "server".into(),
                value: Some("x".into()),
            }],
            json: vec![JsonDemand {
                pointer: "/status/0".into(),
                value: "up".into(),
            }],
            ..page.clone()
        },
        Page {
            regex: expression("^h.l+o|X: *y", 0, 0),
            ..page.clone()
        },
        Page {
            regex: expression("[a-m]{3}", 9, 60),
            ..page
        },
    ];
    let probe = HttpProbe {
        connect: Connect::to(([192, 0, 2, 1], 80).into(), Duration::from_secs(1)),
        tls: None,
        version: HttpVersion::V1_0,
        pages: Vec::new(),
        fast_recovery: false,
    };
    let plans = pages
        .iter()
        .map(|page| Arc::new(Plan::new(&probe, page).expect("an expression")));
    plans.collect()
});

fn verdict<'a>(plan: &Arc<Plan>, pieces: impl IntoIterator<Item = &'a [u8]>) -> Verdict {
    let mut get = Get::new(Arc::clone(plan));
    assert!(matches!(get.connected(), Next::Send(_)));
    for piece in pieces {
        match get.received(piece) {
            Next::Read => {}
            Next::Done(verdict) => return verdict,
            other => panic!("{other:?}"),
        }
    }
    get.closed()
}

/// The verdict on an answer is the same however it is cut; which page it is for follows from
/// the answer. True if it is a good one.
pub(crate) fn judge(answer: &[u8]) -> bool {
    let plan = &PLANS[Numbers::of(answer).below(PLANS.len())];
    let whole = verdict(plan, Some(answer).filter(|answer| !answer.is_empty()));
    assert_eq!(verdict(plan, pieces(answer)), whole);
    whole.is_good()
}
