//! gRPC's health service (`grpc.health.v1.Health/Check`) by HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use evenkeel_core::model::{Connect, Tls};
use evenkeel_core::probe::Verdict;
use h2::client::{self, SendRequest};
use http::{HeaderMap, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{Context, connect, words};

/// Bytes of an answer that are taken.
const ANSWER: usize = 4 << 10;
/// Bytes of its headers.
const HEADERS: u32 = 16 << 10;

/// Asks for a service's health; an empty name is the server's own.
pub(super) async fn run(
    connect: &Connect,
    tls: Option<&Tls>,
    service: &str,
    context: &Context,
) -> Verdict {
    match answer(connect, tls, service, context).await {
        Ok(words) => Verdict::Passed(words),
        Err(reason) => Verdict::Failed(reason),
    }
}

async fn answer(
    connect: &Connect,
    tls: Option<&Tls>,
    service: &str,
    context: &Context,
) -> Result<String, String> {
    let connector = match tls {
        Some(tls) => {
            let (time, blocking) = (connect.timeout, &context.blocking);
            Some(context.tls.speaking(tls, &[b"h2"], time, blocking).await?)
        }
        None => None,
    };
    let stream = connect::tcp(connect).await?;
    let Some(connector) = connector else {
        return exchange(stream, connect, "http", service).await;
    };
    let stream = connector.connect(stream, connect, None).await?;
    exchange(stream, connect, "https", service).await
}

async fn exchange<S>(
    stream: S,
    connect: &Connect,
    scheme: &str,
    service: &str,
) -> Result<String, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = async {
        let mut builder = client::Builder::new();
        builder.enable_push(false).max_header_list_size(HEADERS);
        let handshake = builder.handshake::<_, Bytes>(stream).await;
        let (sender, connection) = handshake.map_err(told)?;
        tokio::select! {
            answer = call(sender, connect, scheme, service) => answer,
            // It ends before the answer only when something is wrong.
            end = connection => Err(match end {
                Ok(()) => "it closed the connection without an answer".into(),
                Err(error) => told(error),
            }),
        }
    };
    let time: Duration = connect.timeout;
    match timeout(time, exchange).await {
        Ok(result) => result,
        Err(_) => Err(words::missing("answer", time)),
    }
}

async fn call(
    sender: SendRequest<Bytes>,
    connect: &Connect,
    scheme: &str,
    service: &str,
) -> Result<String, String> {
    let request = Request::post(format!(
        "{scheme}://{}/grpc.health.v1.Health/Check",
        connect.to
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .header("user-agent", "evenkeel")
    .body(())
    .map_err(|error| error.to_string())?;
    let mut sender = sender.ready().await.map_err(told)?;
    let (response, mut body) = sender.send_request(request, false).map_err(told)?;
    body.send_data(framed(service), true).map_err(told)?;
    let response = response.await.map_err(told)?;
    if response.status() != StatusCode::OK {
        return Err(format!("HTTP status {}", response.status().as_u16()));
    }
    // An answer without a body has its status here.
    refused(response.headers())?;
    let mut stream = response.into_body();
    let mut answer = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.map_err(told)?;
        let _ = stream.flow_control().release_capacity(data.len());
        if answer.len() + data.len() > ANSWER {
            return Err(format!("the answer is longer than {ANSWER} bytes"));
        }
        answer.extend_from_slice(&data);
    }
    if let Some(trailers) = stream.trailers().await.map_err(told)? {
        refused(&trailers)?;
    }
    match serving(&answer) {
        Some(1) => Ok("SERVING".into()),
        Some(0) => Err("UNKNOWN".into()),
        Some(2) => Err("NOT_SERVING".into()),
        Some(3) => Err("SERVICE_UNKNOWN".into()),
        Some(other) => Err(format!("status {other}, which is not known")),
        None => Err("the answer can't be read".into()),
    }
}

/// An error of HTTP/2.
#[allow(
    clippy::needless_pass_by_value,
    reason = "it stands where errors are mapped"
)]
fn told(error: h2::Error) -> String {
    match error.get_io() {
        Some(error) => words::error(error),
        None => format!("this is not gRPC: {error}"),
    }
}

/// A status of gRPC other than 0.
fn refused(headers: &HeaderMap) -> Result<(), String> {
    let Some(status) = headers.get("grpc-status") else {
        return Ok(());
    };
    let status = status.to_str().unwrap_or("?");
    let name = match status {
        "0" => return Ok(()),
        "5" => " (there is no such service)",
        "12" => " (the server has no health service)",
        "14" => " (unavailable)",
        "16" => " (not authenticated)",
        _ => "",
    };
    Err(format!("gRPC status {status}{name}"))
}

/// `HealthCheckRequest { service = 1 }`, behind gRPC's own header: not compressed, length.
fn framed(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        let mut length = service.len();
        while length > 0x7f {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes.into()
}

/// `status = 1` of a `HealthCheckResponse`; none: it is something else.
fn serving(answer: &[u8]) -> Option<u64> {
    let (&[compressed, a, b, c, d], message) = answer.split_first_chunk()?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let mut rest = message.get(..length).filter(|_| compressed == 0)?;
    // What is left out is 0.
    let mut status = 0;
    while !rest.is_empty() {
        let (key, after) = varint(rest)?;
        let (value, after) = varint(after)?;
        rest = after;
        match (key >> 3, key & 7) {
            (1, 0) => status = value,
            (_, 0) => {}
            // Later versions may say more in texts.
            (_, 2) => rest = rest.get(usize::try_from(value).ok()?..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(framed("")[..], [0; 5]);
        assert_eq!(framed("a.b")[..], *b"\0\0\0\0\x05\x0a\x03a.b");
        let long = framed(&"x".repeat(200));
        assert_eq!(long[..8], *b"\0\0\0\0\xcb\x0a\xc8\x01");
        assert_eq!(serving(b"\0\0\0\0\x02\x08\x01"), Some(1));
        assert_eq!(serving(b"\0\0\0\0\0"), Some(0));
        assert_eq!(serving(b"\0\0\0\0\x06\x12\x02ab\x08\x02"), Some(2));
        for strange in [
            b"".as_slice(),
            b"\x01\0\0\0\0",
            b"\0\0\0\0\x03\x08\x01",
            b"\0\0\0\0\x03\x12\xff\x01",
            b"\0\0\0\0\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(serving(strange), None, "{strange:?}");
        }
    }
}
