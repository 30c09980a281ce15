//! Headers and JSON values that an answer has to have.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;

use crate::model::{HeaderDemand, JsonDemand};

/// Bytes of a body that are kept to be read as JSON.
pub const JSON_LIMIT: usize = 1 << 20;

/// Whether a header has these lines; else what is missing.
pub(super) fn headers(head: &[u8], demands: &[HeaderDemand]) -> Result<(), String> {
    let text = String::from_utf8_lossy(head);
    let lines = || {
        text.split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
    };
    for HeaderDemand { name, value } in demands {
        let mut same = lines().filter(|(other, _)| other.trim().eq_ignore_ascii_case(name));
        let found = match value {
            None => same.next().is_some(),
            Some(value) => same.any(|(_, other)| other.trim() == value),
        };
        if !found {
            let seen: Vec<&str> = lines()
                .filter(|(other, _)| other.trim().eq_ignore_ascii_case(name))
                .map(|(_, other)| other.trim())
                .collect();
            return Err(match (value, seen.is_empty()) {
                (Some(value), false) => format!(
                    "header error: {name} is {:?} where {value:?} is expected",
                    seen.join(", ")
                ),
                _ => format!("header error: there is no {name}"),
            });
        }
    }
    Ok(())
}

/// Whether a body is JSON with these values; else what is wrong.
pub(super) fn json(body: &[u8], demands: &[JsonDemand]) -> Result<(), String> {
    if body.len() > JSON_LIMIT {
        return Err(format!(
            "JSON error: the body is longer than {JSON_LIMIT} bytes"
        ));
    }
    let root: Value = serde_json::from_slice(body)
        .map_err(|error| format!("JSON error: the body is none: {error}"))?;
    for JsonDemand { pointer, value } in demands {
        let Some(found) = root.pointer(pointer) else {
            return Err(format!("JSON error: there is no {pointer}"));
        };
        let found = match found {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if found != *value {
            let shown: String = found.chars().take(80).collect();
            return Err(format!(
                "JSON error: {pointer} is {shown:?} where {value:?} is expected"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: Option<&str>) -> HeaderDemand {
        HeaderDemand {
            name: name.into(),
            value: value.map(Into::into),
        }
    }

    #[test]
    fn headers_are_demanded_by_name_and_value() {
        let head = b"HTTP/1.1 200 OK\r\nX-Health: fine\r\nVia: a\r\nvia:b\r\n\r\n";
        let good = [
            header("x-health", None),
            header("X-Health", Some("fine")),
            header("Via", Some("b")),
        ];
        assert_eq!(headers(head, &good), Ok(()));
        let told = |demand| headers(head, &[demand]).unwrap_err();
        assert_eq!(
            told(header("Via", Some("c"))),
            "header error: Via is \"a, b\" where \"c\" is expected"
        );
        assert_eq!(
            told(header("HTTP/1.1 200 OK", None)),
            "header error: there is no HTTP/1.1 200 OK"
        );
    }

    #[test]
    fn json_is_demanded_by_pointer() {
        let body = br#"{"status": "ok", "parts": [{"free": 7, "on": true}], "a/b": null}"#;
        let demand = |pointer: &str, value: &str| JsonDemand {
            pointer: pointer.into(),
            value: value.into(),
        };
        let good = [
            demand("/status", "ok"),
            demand("/parts/0/free", "7"),
            demand("/parts/0/on", "true"),
            demand("/a~1b", "null"),
        ];
        assert_eq!(json(body, &good), Ok(()));
        assert_eq!(
            json(body, &[demand("/status", "bad")]),
            Err("JSON error: /status is \"ok\" where \"bad\" is expected".into())
        );
        assert_eq!(
            json(body, &[demand("/x", "")]),
            Err("JSON error: there is no /x".into())
        );
        assert!(json(b"{", &[]).is_err());
    }
}
