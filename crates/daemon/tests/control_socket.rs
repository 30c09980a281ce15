//! The API as clients see it, over a real socket, on a dataplane in memory.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_api::client::{Client, ClientError};
use evenkeel_api::{EditRequest, REQUEST_BYTES_MAX, StopRequest};
use evenkeel_core::model::{
    Edit, EditError, ForwardMethod, Protocol, ServerKey, ServerSettings, ServiceKey,
    ServiceSettings, Sysctl, SysctlValue, Timeouts,
};
use evenkeel_daemon::dataplane::InMemory;
use evenkeel_daemon::router::router;
use evenkeel_daemon::shared::{Shared, Stop};
use evenkeel_daemon::socket::ControlSocket;

/// A daemon without its kernel side.
struct Daemon {
    shared: Arc<Shared>,
    path: PathBuf,
    thread: Option<std::thread::JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/test.sock");
        let shared = Arc::new(Shared::new("test", Arc::new(InMemory::new()), false));
        let socket = ControlSocket::bind(&path).unwrap();
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let end = {
                let shared = Arc::clone(&served);
                async move {
                    shared.stopped().await;
                }
            };
            runtime.block_on(socket.serve(router(served), end)).unwrap();
        });
        Self {
            shared,
            path,
            thread: Some(thread),
            _directory: directory,
        }
    }

    fn client(&self) -> Client {
        Client::at("test", &self.path)
    }

    /// Sends bytes and gives back all that comes, until the daemon closes.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        // The daemon may refuse before it has read everything.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn post(&self, path: &str, body: &str) -> String {
        self.raw(
            format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.shared.stop(Stop::Signal);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        assert!(!self.path.exists());
    }
}

fn service(port: u16) -> ServiceKey {
    ServiceKey::at(Protocol::Tcp, [10, 0, 0, 10], port)
}

fn add(port: u16) -> Edit {
    Edit::AddService {
        service: service(port),
        settings: ServiceSettings::scheduled_by("rr"),
    }
}

fn add_server(port: u16, last: u8) -> Edit {
    Edit::AddServer {
        service: service(port),
        server: ServerKey {
            address: [192, 168, 1, last].into(),
            port: 80,
        },
        settings: ServerSettings::new(ForwardMethod::Masq, 1),
    }
}

fn request(transaction: bool, edits: Vec<Edit>) -> EditRequest {
    EditRequest { transaction, edits }
}

#[test]
fn edits_are_made_and_listed() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let edits = vec![
        add(80),
        add_server(80, 1),
        add_server(80, 2),
        add(80),
        add(81),
    ];
    let refused = client.edit(&request(false, edits)).unwrap().refused;
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (refused[0].index, &refused[0].error),
        (3, &EditError::ServiceExists)
    );
    let table = client.services(None).unwrap();
    assert_eq!((table.table_size, table.services.len()), (4096, 2));
    let one = client
        .services(Some(service(80)))
        .unwrap()
        .services
        .remove(0);
    assert_eq!(one.settings.scheduler, "rr");
    let last: Vec<String> = one
        .servers
        .iter()
        .map(|s| s.key.address.to_string())
        .collect();
    assert_eq!(last, ["192.168.1.2", "192.168.1.1"]);
    let missing = client.services(Some(service(99)));
    assert!(
        matches!(missing, Err(ClientError::Refused { status: 404, .. })),
        "{missing:?}"
    );
    let timeouts = Timeouts {
        tcp: 60,
        tcp_fin: 0,
        udp: 0,
    };
    client
        .edit(&request(false, vec![Edit::SetTimeouts(timeouts)]))
        .unwrap();
    assert_eq!(
        client.timeouts().unwrap(),
        Timeouts {
            tcp: 60,
            ..Timeouts::default()
        }
    );
    let status = client.status().unwrap();
    assert_eq!(
        (status.services, status.servers, status.servers_without_hop),
        (2, 2, 2)
    );
    assert_eq!(status.connections.capacity, 263_168);
    assert_eq!(status.connections.bytes_per_entry, 36);
}

#[test]
fn settings_are_set_and_listed() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let set = |setting, number| Edit::Set {
        setting,
        value: SysctlValue::Number(number),
    };
    let settings = client.settings().unwrap();
    assert!(settings.iter().all(|view| view.value == view.default));
    assert_eq!(settings.len(), Sysctl::ALL.len());
    let edits = vec![set(Sysctl::SloppyTcp, 1), set(Sysctl::ConnReuseMode, 3)];
    let refused = client.edit(&request(true, edits)).unwrap().refused;
    assert!(refused.is_empty());
    let edits = vec![set(Sysctl::SloppyTcp, 0), set(Sysctl::DropEntry, 4)];
    let refused = client.edit(&request(true, edits)).unwrap().refused;
    assert_eq!(
        (refused[0].index, &refused[0].error),
        (1, &EditError::OutOfRange)
    );
    let changed = client.settings().unwrap();
    let changed = changed.iter().filter(|view| view.value != view.default);
    let changed: Vec<_> = changed.map(|view| (view.setting, view.value)).collect();
    assert_eq!(
        changed,
        [
            (Sysctl::ConnReuseMode, SysctlValue::Number(3)),
            (Sysctl::SloppyTcp, SysctlValue::Number(1)),
        ]
    );
}

#[test]
fn counters_are_those_of_now_or_of_the_last_sample() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let edits = vec![add(80), add_server(80, 1)];
    client.edit(&request(true, edits)).unwrap();
    let memory = daemon.shared.dataplane().memory();
    daemon
        .shared
        .with_director(|director| director.sample(&memory));
    memory.counters[0].connections.set(7);
    let of = |services: evenkeel_api::Services| services.services[0].stats.connections;
    assert_eq!(of(client.services(None).unwrap()), 7);
    assert_eq!(of(client.sampled_services(None).unwrap()), 0);
    assert_eq!(of(client.sampled_services(Some(service(80))).unwrap()), 0);
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let edits = vec![add(80), add_server(80, 1), add_server(81, 1), add(82)];
    let refused = client.edit(&request(true, edits)).unwrap().refused;
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (refused[0].index, &refused[0].error),
        (2, &EditError::ServiceNotDefined)
    );
    assert!(client.services(None).unwrap().services.is_empty());
}

#[test]
fn what_makes_no_sense_is_refused_and_the_daemon_lives_on() {
    let daemon = Daemon::start();
    let long_head = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    for (answer, status) in [
        (daemon.post("/v1/edits", "{"), "400"),
        (daemon.post("/v1/edits", "\u{0}"), "400"),
        (
            daemon.post("/v1/edits", r#"{"transaction":true,"edits":[{"op":"x"}]}"#),
            "400",
        ),
        (
            daemon.post("/v1/edits", r#"{"transaction":true,"edits":[],"more":1}"#),
            "400",
        ),
        (daemon.post("/v1/stop", "{}"), "400"),
        (daemon.post("/v1/nothing", ""), "404"),
        (daemon.post("/v1/status", ""), "405"),
        (
            daemon.raw(
                b"GET /v1/services?service=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            ),
            "400",
        ),
        (
            daemon.raw(
                b"GET /v1/connections?client=10.0.0.0/33 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            ),
            "400",
        ),
        (daemon.raw(b"\x16\x03\x01 nonsense\r\n\r\n"), "400"),
        (daemon.raw(long_head.as_bytes()), "4"),
    ] {
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{status}: {answer}"
        );
        if answer.contains("application/json") {
            assert!(answer.contains(r#"{"message":""#), "{answer}");
        }
    }
    let nested = "[".repeat(100_000);
    assert!(
        daemon
            .post("/v1/edits", &nested)
            .starts_with("HTTP/1.1 400")
    );
    assert!(daemon.client().services(None).unwrap().services.is_empty());
}

#[test]
fn a_huge_request_is_refused_before_it_is_read() {
    let daemon = Daemon::start();
    let head = format!(
        "POST /v1/edits HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        REQUEST_BYTES_MAX + 1
    );
    let answer = daemon.raw(head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(daemon.client().status().is_ok());
}

#[test]
fn many_clients_at_once_are_served() {
    let daemon = Daemon::start();
    let client = daemon.client();
    std::thread::scope(|scope| {
        for thread in 0..8u16 {
            let client = client.clone();
            scope.spawn(move || {
                for port in 1..11 {
                    let edits = vec![add(thread * 100 + port), add_server(thread * 100 + port, 1)];
                    assert!(
                        client
                            .edit(&request(true, edits))
                            .unwrap()
                            .refused
                            .is_empty()
                    );
                }
            });
        }
    });
    assert_eq!(client.services(None).unwrap().services.len(), 80);
}

#[test]
fn idle_connections_do_not_keep_others_out_for_long() {
    let daemon = Daemon::start();
    let idle: Vec<UnixStream> = (0..100)
        .map(|_| UnixStream::connect(&daemon.path).unwrap())
        .collect();
    // The idle ones are closed one by one once their time is over.
    assert!(daemon.client().status().is_ok());
    drop(idle);
}

#[test]
fn one_daemon_an_instance() {
    let daemon = Daemon::start();
    let error = ControlSocket::bind(&daemon.path).unwrap_err().to_string();
    assert!(error.contains("is running"), "{error}");
    // What is left by one that died is replaced.
    let directory = tempfile::tempdir().unwrap();
    let stale = directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    drop(ControlSocket::bind(&stale).unwrap());
    assert!(!stale.exists());
    // A file that is something else stays.
    std::fs::write(&stale, "mine").unwrap();
    assert!(ControlSocket::bind(&stale).is_err());
    assert!(stale.exists());
}

#[test]
fn stopping_says_what_is_left() {
    let daemon = Daemon::start();
    let left = daemon
        .client()
        .stop(StopRequest { detach: true })
        .unwrap()
        .left;
    assert!(
        left.iter()
            .any(|line| line.contains("/sys/fs/bpf/evenkeel/test")),
        "{left:?}"
    );
    let path = daemon.path.clone();
    drop(daemon);
    let gone = Client::at("test", path).status();
    assert!(
        matches!(gone, Err(ClientError::Unreachable { .. })),
        "{gone:?}"
    );
}
