//! Expressions of any kind: the first byte chooses options, the first line is the expression,
//! the rest a body. None may panic or take long, and pieces of the body make no difference.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::model::{Connect, HttpProbe, HttpVersion, Page, PageRegex};
use evenkeel_core::probe::http::{Get, Plan};
use evenkeel_core::probe::{Dialogue, Next, Verdict};
use libfuzzer_sys::fuzz_target;

const OPTIONS: [&str; 8] = [
    "caseless",
    "dotall",
    "dollar_endonly",
    "extended",
    "firstline",
    "multiline",
    "ucp",
    "utf",
];

fn plan(pattern: &str, options: u8) -> Result<Plan, String> {
    let chosen = OPTIONS
        .iter()
        .enumerate()
        .filter(|(bit, _)| options >> bit & 1 == 1);
    let page = Page {
        path: "/".into(),
        host: None,
        statuses: Vec::new(),
        digest: None,
        regex: Some(PageRegex {
            pattern: pattern.into(),
            options: chosen.map(|(_, name)| (*name).into()).collect(),
            absent: false,
            min_offset: 0,
            max_offset: 0,
        }),
        headers: Vec::new(),
        json: Vec::new(),
    };
    let probe = HttpProbe {
        connect: Connect::to(([192, 0, 2, 1], 80).into(), Duration::from_secs(1)),
        tls: None,
        version: HttpVersion::V1_0,
        pages: Vec::new(),
        fast_recovery: false,
    };
    Plan::new(&probe, &page)
}

fn verdict(plan: &Arc<Plan>, body: &[u8], piece: usize) -> Verdict {
    let mut get = Get::new(Arc::clone(plan));
    assert_eq!(get.received(b"HTTP/1.0 200 OK\r\n\r\n"), Next::Read);
    for piece in body.chunks(piece) {
        assert_eq!(get.received(piece), Next::Read);
    }
    get.closed()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((options, rest)) = bytes.split_first() else {
        return;
    };
    let at = rest
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(rest.len());
    let (pattern, body) = rest.split_at(at);
    match plan(&String::from_utf8_lossy(pattern), *options) {
        Ok(plan) => {
            let plan = Arc::new(plan);
            let whole = verdict(&plan, body, body.len().max(1));
            assert_eq!(verdict(&plan, body, 3), whole);
        }
        Err(why) => assert!(!why.is_empty()),
    }
});
