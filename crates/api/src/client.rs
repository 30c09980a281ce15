//! A small client for the control socket. Each call is a connection of its own
//! and blocks; each has a deadline.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use evenkeel_core::model::{Protocol, ServiceKey, Timeouts};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::{
    EditRequest, EditResponse, Problem, Services, Status, StopRequest, StopResponse, paths,
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
        match only {
            None => self.get("/v1/services"),
            Some(key) => self.get(&format!("/v1/services?service={}", query(key))),
        }
    }

    /// `GET /v1/timeouts`
    pub fn timeouts(&self) -> Result<Timeouts, ClientError> {
        self.get("/v1/timeouts")
    }

    /// `POST /v1/edits`
    pub fn edit(&self, edits: &EditRequest) -> Result<EditResponse, ClientError> {
        self.post("/v1/edits", edits)
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

    /// Runs one exchange to its end on a runtime of its own.
    fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let name = format!("{method} {path}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.protocol(&name, format!("cannot start a runtime: {error}")))?;
        let (status, answer) = runtime.block_on(async {
            let stream = self.connect().await?;
            tokio::time::timeout(
                ANSWER_TIMEOUT,
                self.exchange(stream, method, path, body, &name),
            )
            .await
            .unwrap_or_else(|_| {
                Err(self.protocol(&name, format!("none within {} s", ANSWER_TIMEOUT.as_secs())))
            })
        })?;
        if !status.is_success() {
            let message = serde_json::from_slice::<Problem>(&answer).map_or_else(
                |_| String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned(),
                |problem| problem.message,
            );
            let status = status.as_u16();
            return Err(ClientError::Refused {
                socket: self.socket.clone(),
                request: name,
                status,
                message,
            });
        }
        serde_json::from_slice(&answer).map_err(|error| self.protocol(&name, error.to_string()))
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

    async fn exchange(
        &self,
        stream: UnixStream,
        method: Method,
        path: &str,
        body: Bytes,
        name: &str,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let failed = |error: hyper::Error| self.protocol(name, error.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // The connection's errors come out of the request as well.
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "evenkeel")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| self.protocol(name, error.to_string()))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| self.protocol(name, error.to_string()))?;
        connection.abort();
        Ok((status, answer.to_bytes()))
    }

    fn protocol(&self, request: &str, reason: String) -> ClientError {
        ClientError::Protocol {
            socket: self.socket.clone(),
            request: request.into(),
            reason,
        }
    }
}

/// A service in the query of a URL.
fn query(key: ServiceKey) -> String {
    let protocol = match key.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!(
        "{protocol}:{}",
        core::net::SocketAddr::new(key.address, key.port)
    )
}
