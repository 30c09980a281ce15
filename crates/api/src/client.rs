//! A small client for the control socket. Each call is a connection of its own
//! and blocks; each has a deadline.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use evenkeel_core::model::{ConnectionView, ServiceKey, Timeouts};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::connections::{self, Query};
use crate::trace::{self, Trace};
use crate::{
    EditRequest, EditResponse, Problem, Reloaded, SAMPLED, Services, SettingView, Status,
    StopRequest, StopResponse, keys, paths,
};

/// Time a daemon has to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time a daemon has to answer, sized for a table of millions of edits.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Talks to one instance's daemon.
#[derive(Clone, Debug)]
pub struct Client {
    instance: String,
    socket: PathBuf,
}

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error(
        "cannot reach evenkeel's daemon for instance `{instance}` at {}: {source}; start it with `evenkeel run{}`",
        socket.display(), instance_option(instance)
    )]
    Unreachable {
        /// Instance.
        instance: String,
        /// Its socket.
        socket: PathBuf,
        /// What connecting to it gave.
        source: io::Error,
    },
    /// The caller may not use the socket.
    #[error(
        "cannot use the control socket {}: permission denied; run this as root or as a member of the group evenkeel",
        socket.display()
    )]
    Permission {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon refused the request as a whole.
    #[error("evenkeel's daemon at {} refused `{request}` (HTTP status {status}): {message}", socket.display())]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// What the daemon says about it.
        message: String,
    },
    /// The daemon took the connection but gave no answer, or one that makes no sense.
    #[error(
        "no usable answer to `{request}` from evenkeel's daemon at {}: {reason}; see its log, and whether client and daemon are of the same version",
        socket.display()
    )]
    Protocol {
        /// The socket.
        socket: PathBuf,
        /// Method and path.
        request: String,
        /// What went wrong.
        reason: String,
    },
}

fn instance_option(instance: &str) -> String {
    if instance == paths::DEFAULT_INSTANCE {
        String::new()
    } else {
        format!(" --instance {instance}")
    }
}

impl Client {
    /// A client of the instance's socket. Does not connect yet.
    #[must_use]
    pub fn new(instance: &str) -> Self {
        Self::at(instance, paths::socket(instance))
    }

    /// A client of a socket elsewhere.
    #[must_use]
    pub fn at(instance: &str, socket: impl Into<PathBuf>) -> Self {
        Self {
            instance: instance.into(),
            socket: socket.into(),
        }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /v1/status`
    pub fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status")
    }

    /// `GET /v1/services`: all of them, or one; status 404 when that is not there.
    pub fn services(&self, only: Option<ServiceKey>) -> Result<Services, ClientError> {
        self.services_by(only, &[])
    }

    /// [`Client::services`] with the counters of the last sample, as IPVS shows them.
    pub fn sampled_services(&self, only: Option<ServiceKey>) -> Result<Services, ClientError> {
        self.services_by(only, &[SAMPLED])
    }

    fn services_by(
        &self,
        only: Option<ServiceKey>,
        words: &[&str],
    ) -> Result<Services, ClientError> {
        let service = only.map(|key| format!("service={}", keys::service_text(&key)));
        let mut query = words.to_vec();
        query.extend(service.as_deref());
        match query.join("&") {
            query if query.is_empty() => self.get("/v1/services"),
            query => self.get(&format!("/v1/services?{query}")),
        }
    }

    /// `GET /v1/connections`: hands over each as it comes, until `take` breaks off.
    pub fn connections(
        &self,
        query: &Query,
        mut take: impl FnMut(ConnectionView) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let path = match query.to_text() {
            text if text.is_empty() => "/v1/connections".into(),
            text => format!("/v1/connections?{text}"),
        };
        let name = format!("GET {path}");
        self.block_on(&name, async {
            let (response, _driver) = self.send(Method::GET, &path, Bytes::new(), &name).await?;
            let mut body = self.accepted(response, &name).await?.into_body();
            let mut lines = Lines::default();
            while let Some(part) = self.in_time(body.frame(), &name).await? {
                let part = part.map_err(|error| self.protocol(&name, error.to_string()))?;
                let Ok(part) = part.into_data() else { continue };
                let flow = lines.split(&part, |line| connections::decode(line).map(&mut take));
                if flow
                    .map_err(|reason| self.protocol(&name, reason))?
                    .is_break()
                {
                    return Ok(());
                }
            }
            lines.end().map_err(|reason| self.protocol(&name, reason))
        })
    }

    /// `GET /v1/settings`
    pub fn settings(&self) -> Result<Vec<SettingView>, ClientError> {
        self.get("/v1/settings")
    }

    /// `GET /v1/trace`: what would become of a packet.
    pub fn trace(&self, query: &trace::Query) -> Result<Trace, ClientError> {
        self.get(&format!("/v1/trace?{}", query.to_text()))
    }

    /// `GET /v1/timeouts`
    pub fn timeouts(&self) -> Result<Timeouts, ClientError> {
        self.get("/v1/timeouts")
    }

    /// `POST /v1/edits`
    pub fn edit(&self, edits: &EditRequest) -> Result<EditResponse, ClientError> {
        self.post("/v1/edits", edits)
    }

    /// `POST /v1/reload`: the warnings about what is read.
    pub fn reload(&self) -> Result<Reloaded, ClientError> {
        self.post("/v1/reload", &())
    }

    /// `POST /v1/stop`
    pub fn stop(&self, request: StopRequest) -> Result<StopResponse, ClientError> {
        self.post("/v1/stop", &request)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, Bytes::new())
    }

    fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| {
            self.protocol(
                &format!("POST {path}"),
                format!("cannot write the request: {error}"),
            )
        })?;
        self.call(Method::POST, path, body.into())
    }

    /// Runs one exchange to its end.
    fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let name = format!("{method} {path}");
        let answer = self.block_on(&name, async {
            let (response, _driver) = self.send(method, path, body, &name).await?;
            let response = self.accepted(response, &name).await?;
            self.whole(response, &name).await
        })?;
        serde_json::from_slice(&answer).map_err(|error| self.protocol(&name, error.to_string()))
    }

    /// Runs an exchange on a runtime of its own.
    fn block_on<T>(
        &self,
        name: &str,
        exchange: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.protocol(name, format!("cannot start a runtime: {error}")))?
            .block_on(exchange)
    }

    /// Waits for the daemon, but not for ever.
    async fn in_time<T>(
        &self,
        step: impl Future<Output = T>,
        name: &str,
    ) -> Result<T, ClientError> {
        tokio::time::timeout(ANSWER_TIMEOUT, step)
            .await
            .map_err(|_| self.protocol(name, format!("none within {} s", ANSWER_TIMEOUT.as_secs())))
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(&self.socket))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connected.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Permission {
                socket: self.socket.clone(),
            },
            _ => ClientError::Unreachable {
                instance: self.instance.clone(),
                socket: self.socket.clone(),
                source,
            },
        })
    }

    /// Sends a request. The connection is at work as long as the second value lives.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        name: &str,
    ) -> Result<(Response<Incoming>, Driver), ClientError> {
        let stream = self.connect().await?;
        let failed = |error: hyper::Error| self.protocol(name, error.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // The connection's errors come out of the request as well.
        let driver = Driver(tokio::spawn(connection));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "evenkeel")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| self.protocol(name, error.to_string()))?;
        let response = self.in_time(sender.send_request(request), name).await?;
        Ok((response.map_err(failed)?, driver))
    }

    /// The response, unless it is a refusal.
    async fn accepted(
        &self,
        response: Response<Incoming>,
        name: &str,
    ) -> Result<Response<Incoming>, ClientError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let answer = self.whole(response, name).await?;
        let message = serde_json::from_slice::<Problem>(&answer).map_or_else(
            |_| String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned(),
            |problem| problem.message,
        );
        Err(ClientError::Refused {
            socket: self.socket.clone(),
            request: name.into(),
            status,
            message,
        })
    }

    /// All of a response's body.
    async fn whole(&self, response: Response<Incoming>, name: &str) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = self.in_time(body, name).await?;
        let body = body.map_err(|error| self.protocol(name, error.to_string()))?;
        Ok(body.to_bytes())
    }

    fn protocol(&self, request: &str, reason: String) -> ClientError {
        ClientError::Protocol {
            socket: self.socket.clone(),
            request: request.into(),
            reason,
        }
    }
}

/// A connection's task, which ends with this.
struct Driver(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lines out of parts that break anywhere.
#[derive(Default)]
struct Lines {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

impl Lines {
    /// Hands over the lines that this part ends.
    fn split(
        &mut self,
        part: &[u8],
        mut take: impl FnMut(&str) -> Result<ControlFlow<()>, String>,
    ) -> Result<ControlFlow<()>, String> {
        let Some(last) = part.iter().rposition(|&byte| byte == b'\n') else {
            self.begun.extend_from_slice(part);
            return Ok(ControlFlow::Continue(()));
        };
        let (mut whole, begun) = part.split_at(last + 1);
        if !self.begun.is_empty() {
            let first = whole.iter().position(|&byte| byte == b'\n').unwrap_or(last);
            self.begun.extend_from_slice(&whole[..first]);
            whole = &whole[first + 1..];
            if take(text(&self.begun)?)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            self.begun.clear();
        }
        for line in text(whole)?.split_terminator('\n') {
            if take(line)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.begun.extend_from_slice(begun);
        Ok(ControlFlow::Continue(()))
    }

    /// To be called behind the last part.
    fn end(&self) -> Result<(), String> {
        if self.begun.is_empty() {
            Ok(())
        } else {
            Err("the last line has no end".into())
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_they_come_in() {
        let whole = "one\n\nthree äöü\nfour\n";
        for size in 1..=whole.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for part in whole.as_bytes().chunks(size) {
                let flow = lines.split(part, |line| {
                    found.push(line.to_owned());
                    Ok(ControlFlow::Continue(()))
                });
                assert_eq!(flow, Ok(ControlFlow::Continue(())));
            }
            assert_eq!(found, ["one", "", "three äöü", "four"], "{size}");
            assert_eq!(lines.end(), Ok(()));
        }
        let mut lines = Lines::default();
        let end = lines.split(b"a\nb\nc", |line| match line {
            "b" => Ok(ControlFlow::Break(())),
            _ => Ok(ControlFlow::Continue(())),
        });
        assert_eq!(end, Ok(ControlFlow::Break(())));
    }

    #[test]
    fn half_a_line_is_an_error() {
        let mut lines = Lines::default();
        let flow = lines.split(b"a", |_| Ok(ControlFlow::Continue(())));
        assert_eq!(flow, Ok(ControlFlow::Continue(())));
        assert!(lines.end().is_err());
    }
}
