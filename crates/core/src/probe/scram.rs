//! SCRAM-SHA-256 (RFC 5802, 7677), the client's side, without channel binding.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Rounds of the password's derivation that a server may ask for: more would keep a thread
/// busy for longer than a check may.
const ROUNDS: u32 = 50_000;

type Key = [u8; 32];

/// An exchange.
#[derive(Debug)]
pub(super) struct Scram {
    nonce: String,
    /// What the server has to prove.
    server_signature: Option<Key>,
}

impl Scram {
    /// Its name in the list of mechanisms.
    pub(super) const NAME: &[u8] = b"SCRAM-SHA-256";

    pub(super) fn new(nonce: &str) -> Self {
        Self {
            nonce: nonce.into(),
            server_signature: None,
        }
    }

    /// The client's first message. The user is known from elsewhere.
    pub(super) fn first(&self) -> String {
        format!("n,,n=,r={}", self.nonce)
    }

    /// The answer to the server's first message.
    pub(super) fn second(&mut self, server: &[u8], password: &str) -> Result<String, String> {
        let server = core::str::from_utf8(server).map_err(|_| broken())?;
        let field = |name: &str| server.split(',').find_map(|field| field.strip_prefix(name));
        let nonce = field("r=").ok_or_else(broken)?;
        let salt = field("s=").and_then(decode).ok_or_else(broken)?;
        let rounds: u32 = field("i=")
            .and_then(|text| text.parse().ok())
            .ok_or_else(broken)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("SCRAM: the server's nonce is not ours".into());
        }
        if rounds == 0 || rounds > ROUNDS {
            return Err(format!(
                "SCRAM: the server asks for {rounds} rounds, at most {ROUNDS}"
            ));
        }
        let salted = derive(password, &salt, rounds);
        let client_key = keyed(&salted, b"Client Key");
        let stored_key: Key = Sha256::digest(client_key).into();
        // `biws` is the header `n,,` in base 64.
        let last = format!("c=biws,r={nonce}");
        let signed = format!("n=,r={},{server},{last}", self.nonce);
        let signature = keyed(&stored_key, signed.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(signature)
            .map(|(key, signature)| key ^ signature)
            .collect();
        let server_key = keyed(&salted, b"Server Key");
        self.server_signature = Some(keyed(&server_key, signed.as_bytes()));
        Ok(format!("{last},p={}", encode(&proof)))
    }

    /// The server's last message proves that it knows the password, too.
    pub(super) fn last(&self, server: &[u8]) -> Result<(), String> {
        let signature = core::str::from_utf8(server)
            .ok()
            .and_then(|text| text.strip_prefix("v="))
            .and_then(decode);
        match (&self.server_signature, signature) {
            (Some(expected), Some(signature)) if signature == expected => Ok(()),
            _ => Err("SCRAM: the server does not know the password".into()),
        }
    }
}

fn broken() -> String {
    "SCRAM: the server's message can't be read".into()
}

/// HMAC-SHA-256. Keys of any length are taken, so that the error can't come.
fn keyed(key: &[u8], message: &[u8]) -> Key {
    Hmac::<Sha256>::new_from_slice(key).map_or([0; 32], |mac| {
        mac.chain_update(message).finalize().into_bytes().into()
    })
}

/// PBKDF2 for one block (RFC 8018).
fn derive(password: &str, salt: &[u8], rounds: u32) -> Key {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(password.as_bytes()) else {
        return [0; 32];
    };
    let first = mac.clone().chain_update(salt).chain_update([0, 0, 0, 1]);
    let mut block: Key = first.finalize().into_bytes().into();
    let mut result = block;
    for _ in 1..rounds {
        block = mac
            .clone()
            .chain_update(block)
            .finalize()
            .into_bytes()
            .into();
        for (result, byte) in result.iter_mut().zip(block) {
            *result ^= byte;
        }
    }
    result
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base 64 with padding.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            if index > chunk.len() {
                text.push('=');
            } else {
                let digit = word >> (18 - 6 * index) & 63;
                text.push(char::from(ALPHABET[digit as usize]));
            }
        }
    }
    text
}

/// The bytes of base 64 with padding; none where it is something else.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut word, mut bits) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|&known| known == digit)?;
        word = word << 6 | value as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, but for the user's name, which is sent elsewhere.
    #[test]
    fn an_exchange() {
        let mut scram = Scram::new("rOprNGfwEbeRWgbNEkqO");
        assert_eq!(scram.first(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        let server = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                       s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let answer = scram.second(server, "pencil").unwrap();
        assert!(
            answer.starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=")
        );
        assert!(
            scram
                .last(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
                .is_err()
        );
        let right = encode(&scram.server_signature.unwrap());
        assert_eq!(scram.last(format!("v={right}").as_bytes()), Ok(()));
    }

    /// The salted password and keys of the same example, by its signature.
    #[test]
    fn keys_are_those_of_the_standard() {
        let salted = derive("pencil", &decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096);
        let signed = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                      r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                      s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                      c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = keyed(&keyed(&salted, b"Server Key"), signed.as_bytes());
        assert_eq!(
            encode(&signature),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn what_a_server_must_not_ask() {
        let mut scram = Scram::new("abc");
        for bad in [
            "r=abcd,s=AAAA,i=1000000",
            "r=abcd,s=AAAA,i=0",
            "r=abc,s=AAAA,i=4096",
            "r=xyz,s=AAAA,i=4096",
            "r=abcd,s=A,i=4096",
            "r=abcd,i=4096",
            "",
        ] {
            assert!(scram.second(bad.as_bytes(), "pencil").is_err(), "{bad}");
        }
        assert!(scram.last(b"v=").is_err(), "nothing was proved yet");
    }

    #[test]
    fn base_64() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decode("Zg="), None);
        assert_eq!(decode("Z==="), None);
        assert_eq!(decode("Z-=="), None);
    }
}
