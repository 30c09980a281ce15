//! The reader of pages: a digest, an expression and JSON are looked for in an answer, which
//! means the same in whatever pieces it comes. Before the first byte of value 0 stands the
//! expression.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use evenkeel_core::model::{
    Connect, HeaderDemand, HttpProbe, HttpVersion, JsonDemand, Page, PageRegex,
};
use evenkeel_core::probe::http::{Get, Plan};
use evenkeel_core::probe::{Dialogue, Next, Verdict};
use libfuzzer_sys::fuzz_target;

fn probe() -> HttpProbe {
    HttpProbe {
        connect: Connect::to(([192, 0, 2, 1], 80).into(), Duration::from_secs(1)),
        tls: None,
        version: HttpVersion::V1_1,
        pages: Vec::new(),
        fast_recovery: false,
    }
}

fn pages(pattern: &str) -> Vec<Page> {
    let plain = Page {
        path: "/".into(),
        host: None,
        statuses: Vec::new(),
        digest: None,
        regex: None,
        headers: Vec::new(),
        json: Vec::new(),
    };
    let regex = PageRegex {
        pattern: pattern.into(),
        options: Vec::new(),
        absent: false,
        min_offset: 0,
        max_offset: 0,
    };
    let demand = JsonDemand {
        pointer: "/status".into(),
        value: "ok".into(),
    };
    let header = HeaderDemand {
        name: "Server".into(),
        value: None,
    };
    vec![
        Page {
            digest: Some([7; 16]),
            ..plain.clone()
        },
        Page {
            regex: Some(regex),
            ..plain.clone()
        },
        Page {
            headers: vec![header],
            json: vec![demand],
            ..plain
        },
    ]
}

fn verdict<'a>(plan: &Arc<Plan>, pieces: impl Iterator<Item = &'a [u8]>) -> Verdict {
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

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let pattern = String::from_utf8_lossy(&bytes[..at]);
    let answer = &bytes[at..];
    for page in pages(&pattern) {
        // Not every text is an expression.
        let Ok(plan) = Plan::new(&probe(), &page) else {
            continue;
        };
        let plan = Arc::new(plan);
        let whole = verdict(&plan, answer.chunks(answer.len().max(1)));
        assert_eq!(verdict(&plan, answer.chunks(7)), whole);
    }
});
