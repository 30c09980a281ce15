//! The built-in sorry server: it tells clients to come again, while no server of a service
//! lives.
//!
//! Every request gets status 503 with `Retry-After` and a page, and the connection is closed.
//! Where the page comes from a directory, what it shows of that directory (images, style
//! sheets) is there as well, with status 200, since browsers do not take a style sheet that
//! comes with another.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use evenkeel_kernel::files;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, EXPECT, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// Seconds after which a client shall come again.
pub const RETRY_AFTER_S: u32 = 30;

/// Connections at a time; others wait in the socket's queue.
const CONNECTIONS_MAX: usize = 1024;

/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;

/// Longest that a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest that a connection may take as a whole.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest head of a request, bytes: browsers send cookies that are some kilobytes.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Headers of a request.
const HEADERS_MAX: usize = 128;

/// What is read of a request's body, bytes, and how long: a client that is still sending when
/// the connection closes may not see the answer.
const BODY_BYTES_MAX: usize = 256 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Largest file that is served, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The page in a directory.
const INDEX: &str = "index.html";

/// The page where there is no other.
const PAGE: &str = "<!DOCTYPE html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>Service unavailable</title>
<style>body { font: 1.1em sans-serif; max-width: 32em; margin: 20vh auto; padding: 0 1em }</style>
<h1>Service unavailable</h1>
<p>No server can answer at the moment. Please try again in a minute.</p>
</html>
";

/// Types of files by the ends of their names; others are bytes.
const TYPES: &[(&str, &str)] = &[
    ("avif", "image/avif"),
    ("css", "text/css; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", HTML),
    ("html", HTML),
    ("ico", "image/x-icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
];
const HTML: &str = "text/html; charset=utf-8";

/// A sorry server that runs, on every address of this machine. It ends when this is dropped.
#[derive(Debug)]
pub struct SorryServer {
    port: u16,
    task: JoinHandle<()>,
}

impl SorryServer {
    /// Begins on a port that the kernel chooses, in the runtime that this is called in.
    /// `directory` has the page, `index.html`, which is read for each request; without a
    /// directory, or while the page can't be read, there is a page of the daemon's own.
    pub fn start(directory: Option<PathBuf>) -> io::Result<Self> {
        let listener = listen()?;
        let port = listener.local_addr()?.port();
        let directory = directory.map(|path| Arc::from(path.as_path()));
        Ok(Self {
            port,
            task: tokio::spawn(serve(listener, directory)),
        })
    }

    /// Where it listens, for IPv4 and IPv6 alike.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for SorryServer {
    fn drop(&mut self) {
        // Its connections go with it.
        self.task.abort();
    }
}

/// Both families on one socket; IPv4 alone where the kernel has no IPv6.
fn listen() -> io::Result<TcpListener> {
    let wide = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
        Ok(socket)
    };
    let narrow = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        Ok(socket)
    };
    let socket = wide().or_else(|_| narrow())?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn serve(listener: TcpListener, directory: Option<Arc<Path>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // Never closed.
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let directory = directory.clone();
                connections.spawn(async move {
                    let served = serve_connection(stream, directory);
                    // Who takes longer has had his answer, or does not want one.
                    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, served).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors or memory: others may end meanwhile.
                tracing::warn!("the sorry server cannot take a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, directory: Option<Arc<Path>>) {
    let service = service_fn(move |request| {
        let directory = directory.clone();
        async move { Ok::<_, std::convert::Infallible>(respond(request, directory).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("a connection to the sorry server ended: {error}");
    }
}

async fn respond(
    request: Request<Incoming>,
    directory: Option<Arc<Path>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    if !head.headers.contains_key(EXPECT) {
        let read = Limited::new(body, BODY_BYTES_MAX).collect();
        // What it says is no matter.
        let _ = tokio::time::timeout(BODY_TIMEOUT, read).await;
    }
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    let name = match directory {
        // A client's other requests shall not look as if they had been done.
        Some(_) if reads => shown(head.uri.path()),
        _ => None,
    };
    let (status, kind, body) = find(directory, name).await;
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // What stands in for the service must not be remembered as its own.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, RETRY_AFTER_S.into());
    }
    response
}

/// The file of the directory that a path asks for, unless it asks for a page.
fn shown(path: &str) -> Option<PathBuf> {
    let name = path.trim_start_matches('/');
    let file = Path::new(name);
    let plain = !name.is_empty()
        && name.len() <= 255
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/'))
        // Names that begin with a dot are hidden, and two dots lead out.
        && name.split('/').all(|part| !part.starts_with('.'));
    (plain && kind_of(file) != HTML).then(|| file.into())
}

fn kind_of(file: &Path) -> &'static str {
    let end = file.extension().and_then(|end| end.to_str());
    let end = end.unwrap_or_default().to_ascii_lowercase();
    let known = TYPES.iter().find(|(name, _)| *name == end);
    known.map_or("application/octet-stream", |(_, kind)| kind)
}

/// Status, type and content of an answer.
async fn find(
    directory: Option<Arc<Path>>,
    name: Option<PathBuf>,
) -> (StatusCode, &'static str, Bytes) {
    let own = (
        StatusCode::SERVICE_UNAVAILABLE,
        HTML,
        Bytes::from_static(PAGE.as_bytes()),
    );
    let Some(directory) = directory else {
        return own;
    };
    let reading = tokio::task::spawn_blocking(move || {
        let read = |name: &Path| files::read_beneath(&directory, name, FILE_BYTES_MAX);
        if let Some(name) = name
            && let Ok(content) = read(&name)
        {
            return Some((StatusCode::OK, kind_of(&name), content.into()));
        }
        match read(Path::new(INDEX)) {
            Ok(page) => Some((StatusCode::SERVICE_UNAVAILABLE, HTML, page.into())),
            Err(error) => {
                tracing::debug!("the sorry server shows its own page: {error}");
                None
            }
        }
    });
    reading.await.ok().flatten().unwrap_or(own)
}
