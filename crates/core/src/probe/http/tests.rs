use super::*;
use crate::model::{Connect, PageRegex};
use core::time::Duration;
use proptest::prelude::*;
use std::vec;

fn probe(to: &str) -> HttpProbe {
    HttpProbe {
        connect: Connect::to(to.parse().unwrap(), Duration::from_secs(5)),
        tls: None,
        version: HttpVersion::V1_0,
        pages: vec![],
        fast_recovery: false,
    }
}

fn page() -> Page {
    Page {
        path: "/".into(),
        host: None,
        statuses: vec![],
        digest: None,
        regex: None,
        headers: Vec::new(),
        json: Vec::new(),
    }
}

/// The verdict on an answer that comes in these pieces.
fn verdict<'a>(page: &Page, pieces: impl IntoIterator<Item = &'a [u8]>) -> Verdict {
    let plan = Plan::new(&probe("192.0.2.1:80"), page).unwrap();
    let mut get = Get::new(Arc::new(plan));
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

fn failed(why: &str) -> Verdict {
    Verdict::Failed(why.into())
}

#[test]
fn requests_byte_for_byte() {
    let agent = "User-Agent: KeepAliveClient\r\n";
    let cases = [
        (
            "192.0.2.1:80",
            HttpVersion::V1_0,
            None,
            "0",
            "",
            "192.0.2.1:80",
        ),
        (
            "[2001:db8::1]:8080",
            HttpVersion::V1_0Close,
            None,
            "0",
            "Connection: close\r\n",
            "[2001:db8::1]:8080",
        ),
        (
            "[2001:db8::1]:8080",
            HttpVersion::V1_1,
            Some("a.example"),
            "1",
            "Connection: close\r\n",
            "a.example",
        ),
    ];
    for (to, version, host, minor, close, named) in cases {
        let expected = format!("GET /x?y HTTP/1.{minor}\r\n{agent}{close}Host: {named}\r\n\r\n");
        let sent = request(to.parse().unwrap(), version, host, "/x?y");
        assert_eq!(String::from_utf8(sent).unwrap(), expected);
    }
}

#[test]
fn statuses_are_good_or_bad_in_words() {
    let mut page = page();
    let of = |page: &Page, line: &str| {
        let answer = format!("HTTP/1.1 {line}\r\n\r\n");
        verdict(page, [answer.as_bytes()])
    };
    assert_eq!(
        of(&page, "204 Nothing"),
        Verdict::Passed("HTTP status code success: 204".into())
    );
    let why = "HTTP status code error: 503 where 200-299 is expected";
    assert_eq!(of(&page, "503 Away"), failed(why));
    let why = "HTTP status code error: no status where 200-299 is expected";
    assert_eq!(of(&page, "200"), failed(why));
    page.statuses = vec![404..=404, 500..=999];
    assert!(of(&page, "404 Yes").is_good());
    let why = "HTTP status code error: 200 where 404, 500-999 is expected";
    assert_eq!(of(&page, "200 OK"), failed(why));
    // No status is good beyond the range that there is.
    assert!(!of(&page, "600 OK").is_good());
}

#[test]
fn what_is_no_answer() {
    assert_eq!(verdict(&page(), []), failed("Read, no data received"));
    let half: &[u8] = b"HTTP/1.0 200 OK\r\n\r";
    let why = "closed after 18 bytes within the header";
    assert_eq!(verdict(&page(), [half]), failed(why));
    let endless = vec![b'x'; HEAD_LIMIT];
    let why = "no end of the header within 4095 bytes";
    assert_eq!(verdict(&page(), [&endless[..]]), failed(why));
    let mut longest = b"HTTP/1.0 200 OK\r\nX: ".to_vec();
    longest.resize(HEAD_LIMIT - 4, b'x');
    longest.extend(b"\r\n\r\n");
    assert!(verdict(&page(), [&longest[..]]).is_good());
    longest.insert(30, b'x');
    assert_eq!(verdict(&page(), [&longest[..]]), failed(why));
}

#[test]
fn digests_end_where_the_length_says() {
    let mut page = page();
    // Of "hello".
    page.digest = Some(0x5d41_402a_bc4b_2a76_b971_9d91_1017_c592_u128.to_be_bytes());
    let of = |answer: &str| verdict(&page, [answer.as_bytes()]);
    let good = Verdict::Passed("MD5 digest success: 200".into());
    assert_eq!(of("x 200 \r\n\r\nhello"), good);
    assert_eq!(of("x 200 \r\nContent-Length: 5\r\n\r\nhello"), good);
    let more = of("x 200 \r\nContent-Length: 5\r\n\r\nhello, world");
    let words = "MD5 digest success: 200, 12 bytes where Content-Length says 5";
    assert_eq!(more, Verdict::Passed(words.into()));
    let why = "MD5 digest error: 7d793037a0760186574b0282f2f435e7 where \
               5d41402abc4b2a76b9719d911017c592 is expected";
    assert_eq!(of("x 200 \r\n\r\nworld"), failed(why));
    // The length is not looked for in the body.
    assert!(!of("x 200 \r\n\r\nhelloContent-Length: 5\r\n").is_good());
}

#[test]
fn expressions_have_to_match_or_must_not() {
    let mut page = page();
    let mut regex = PageRegex {
        pattern: "up+".into(),
        options: vec!["caseless".into()],
        absent: false,
        min_offset: 0,
        max_offset: 0,
    };
    page.regex = Some(regex.clone());
    let of = |page: &Page, body: &str| {
        let answer = format!("x 200 \r\n\r\n{body}");
        verdict(page, [answer.as_bytes()])
    };
    let good = Verdict::Passed("Regex match success: 200".into());
    assert_eq!(of(&page, "is UP"), good);
    let why = "Regex match failed: the answer does not match";
    assert_eq!(of(&page, "is down"), failed(why));
    regex.absent = true;
    page.regex = Some(regex.clone());
    assert_eq!(of(&page, ""), good);
    let why = "Regex match failed: the answer matches, which it must not";
    assert_eq!(of(&page, "uppp"), failed(why));
    // A header is looked at with a body only.
    regex.pattern = "^x 200|^up".into();
    regex.absent = false;
    page.regex = Some(regex.clone());
    assert_eq!(
        of(&page, ""),
        failed("Regex match failed: the answer does not match")
    );
    for body in [".", "up"] {
        assert_eq!(of(&page, body), good);
    }
    regex.pattern = "(?=x)".into();
    page.regex = Some(regex);
    assert!(Plan::new(&probe("192.0.2.1:80"), &page).is_err());
}

/// Answers that are nearly good.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(&b"HTTP/1.1 200 OK\r\n"[..]),
        Just(&b"Content-Length: 3\r\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"\r"[..]),
        Just(&b"hello"[..]),
        Just(&b"\0\xff"[..]),
        Just(&[b'x'; 2000][..]),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn pieces_are_the_whole(answer in answer(), piece in 1_usize..40) {
        let mut page = page();
        page.digest = Some([7; 16]);
        page.regex = Some(PageRegex {
            pattern: "l.*h".into(),
            options: vec![],
            absent: false,
            min_offset: 2,
            max_offset: 0,
        });
        let mut with_status = page.clone();
        with_status.digest = None;
        for page in [page, with_status] {
            prop_assert_eq!(
                verdict(&page, answer.chunks(piece)),
                verdict(&page, answer.chunks(answer.len().max(1)))
            );
        }
    }
}

#[test]
fn headers_and_json_are_looked_at_in_the_end() {
    let mut page = page();
    page.headers = vec![HeaderDemand {
        name: "X-Health".into(),
        value: Some("fine".into()),
    }];
    page.json = vec![JsonDemand {
        pointer: "/status".into(),
        value: "ok".into(),
    }];
    let answer = |health: &str, body: &str| {
        format!("HTTP/1.1 200 OK\r\nX-Health: {health}\r\n\r\n{body}").into_bytes()
    };
    let ask = |answer: &[u8]| verdict(&page, [answer]);
    let good = ask(&answer("fine", "{\"status\":\"ok\"}"));
    assert_eq!(good, Verdict::Passed("JSON success: 200".into()));
    for (health, body, why) in [
        ("ill", "{}", "header error: X-Health is \"ill\""),
        ("fine", "{}", "JSON error: there is no /status"),
        ("fine", "ok", "JSON error: the body is none"),
    ] {
        let Verdict::Failed(told) = ask(&answer(health, body)) else {
            panic!("{health} {body} is good");
        };
        assert!(told.starts_with(why), "{told}");
    }
}
