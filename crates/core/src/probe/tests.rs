//! What no answer may do to a dialogue, whatever it speaks.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::collection::vec as many;
use proptest::prelude::*;

use super::ldap::Ldap;
use super::mysql::Mysql;
use super::postgres::Postgres;
use super::redis::Redis;
use super::{Dialogue, Next};
use crate::model::{Connect, DatabaseProbe, LdapProbe, Secret, Tls};

/// Dialogues with each way that they can go.
fn dialogues() -> Vec<Box<dyn Dialogue>> {
    let connect = Connect::to(([127, 0, 0, 1], 1).into(), Duration::from_secs(1));
    let plain = DatabaseProbe {
        password: Some(Secret("secret".into())),
        query: Some("select 1".into()),
        ..DatabaseProbe::session(connect.clone())
    };
    let secure = DatabaseProbe {
        tls: Some(Tls::default()),
        ..plain.clone()
    };
    let ldap = LdapProbe {
        connect,
        tls: None,
        bind: Some("cn=me".into()),
        password: None,
        base: None,
        filter: None,
    };
    vec![
        Box::new(Postgres::new(&plain, "nonce")),
        Box::new(Postgres::new(&secure, "nonce")),
        Box::new(Mysql::new(&plain)),
        Box::new(Mysql::new(&secure)),
        Box::new(Redis::new(&plain)),
        Box::new(Ldap::new(&ldap).expect("a filter of its own")),
    ]
}

/// Whole messages of the protocols, so that random answers come further than the first.
const MESSAGES: &[&[u8]] = &[
    b"S",
    b"R\0\0\0\x08\0\0\0\0",
    b"R\0\0\0\x0c\0\0\0\x05salt",
    b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0",
    b"R\0\0\0\x1b\0\0\0\x0br=nonce1,s=AAAA,i=1",
    b"Z\0\0\0\x05I",
    b"T\0\0\0\x06\0\x01",
    b"D\0\0\0\x06\0\x01",
    b"E\0\0\0\x08Mno\0",
    b"\x07\0\0\x02\0\0\0\x02\0\0\0",
    b"\x01\0\0\x01\x01",
    b"\x02\0\0\x02\x01\x03",
    b"\x02\0\0\x02\x01\x04",
    b"\x05\0\0\x03\xfe\0\0\x02\0",
    b"+OK\r\n",
    b"+PONG\r\n",
    b"$-1\r\n",
    b"-ERR\r\n",
    b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0",
    b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\0\x04\0\x04\0",
    b"\x30\x09\x02\x01\x02\x64\x04\x04\0\x30\0",
];

/// A greeting of `MySQL`'s.
fn greeting() -> Vec<u8> {
    let mut body = b"\x0a8.0\0abcd12345678\0\xff\xff\xff\x02\0\xff\xff\x15".to_vec();
    body.extend_from_slice(&[0; 10]);
    body.extend_from_slice(b"901234567890\0mysql_native_password\0");
    let mut packet = vec![body.len() as u8, 0, 0, 0];
    packet.extend(body);
    packet
}

fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let messages: Vec<Vec<u8>> = MESSAGES.iter().map(|message| message.to_vec()).collect();
    let piece = prop_oneof![
        3 => proptest::sample::select(messages),
        1 => Just(greeting()),
        1 => many(any::<u8>(), 1..64),
        1 => many(any::<u8>(), 1..2).prop_map(|byte| byte.repeat(5000)),
    ];
    many(piece, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// Nothing panics, and who just stops talking is never well.
    #[test]
    fn any_answer_is_borne(pieces in pieces()) {
        for mut dialogue in dialogues() {
            let mut next = dialogue.connected();
            for piece in &pieces {
                next = match next {
                    Next::Secure(_) => dialogue.connected(),
                    Next::Send(_) | Next::Read => dialogue.received(piece),
                    Next::Done(_) | Next::Bye(..) => break,
                };
            }
            if !matches!(next, Next::Done(_) | Next::Bye(..)) {
                prop_assert!(!dialogue.closed().is_good());
            }
        }
    }
}
