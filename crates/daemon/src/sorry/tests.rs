use std::fs;
use std::os::unix::fs::symlink;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Sends bytes and gives all that comes.
async fn ask(server: &SorryServer, bytes: &[u8]) -> String {
    ask_at(
        SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())),
        bytes,
    )
    .await
}

async fn ask_at(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(server: &SorryServer, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    ask(server, request.as_bytes()).await
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn every_request_is_told_to_come_again() {
    let server = SorryServer::start(None).unwrap();
    let answer = get(&server, "/anything?x=1").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{answer}"
    );
    let head = answer.split_once("\r\n\r\n").unwrap().0.to_lowercase();
    for header in [
        "retry-after: 30",
        "connection: close",
        "cache-control: no-store",
        "content-type: text/html; charset=utf-8",
        &format!("content-length: {}", PAGE.len()),
    ] {
        assert!(head.contains(header), "{header} in {head}");
    }
    assert_eq!(body(&answer), PAGE);
    let requests: [&[u8]; 5] = [
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        b"PUT /file HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    for request in requests {
        let answer = ask(&server, request).await;
        assert!(answer[8..].starts_with(" 503 "), "{answer}");
        assert_eq!(body(&answer), PAGE);
    }
    let answer = ask(&server, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(body(&answer), "");
    // A body that is larger than what is read does not cost the client its answer.
    let mut large = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".to_vec();
    large.extend(vec![b'x'; 100_000]);
    assert!(ask(&server, &large).await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn both_families_are_served() {
    let server = SorryServer::start(None).unwrap();
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, server.port()));
    // A machine without IPv6 has no such address.
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
        let answer = ask_at(address, b"GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer[8..].starts_with(" 503 "), "{answer}");
    }
}

#[tokio::test]
async fn a_page_of_ones_own_with_what_it_shows() {
    let outside = tempfile::tempdir().unwrap();
    let directory = outside.path().join("page");
    fs::create_dir_all(directory.join("img")).unwrap();
    fs::write(outside.path().join("secret.txt"), "secret").unwrap();
    symlink("../secret.txt", directory.join("link.txt")).unwrap();
    fs::write(directory.join("style.css"), "h1 {}").unwrap();
    fs::write(directory.join("img/logo.PNG"), "logo").unwrap();
    fs::write(directory.join(".htpasswd"), "secret").unwrap();
    fs::write(directory.join("other.html"), "other").unwrap();
    fs::write(
        directory.join("large.png"),
        vec![0; (FILE_BYTES_MAX + 1) as usize],
    )
    .unwrap();
    let server = SorryServer::start(Some(directory.clone())).unwrap();
    // While there is no page there is ours, and it comes without a restart.
    assert_eq!(body(&get(&server, "/").await), PAGE);
    fs::write(directory.join(INDEX), "<h1>Back soon</h1>").unwrap();
    for path in [
        "/",
        "/index.html",
        "/other.html",
        "/deep/link",
        "/.htpasswd",
        "/img/../.htpasswd",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/link.txt",
        "/img",
        "/large.png",
        "//etc/passwd",
    ] {
        let answer = get(&server, path).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{path}: {answer}");
        assert!(answer.to_lowercase().contains("retry-after: 30\r\n"));
        assert_eq!(body(&answer), "<h1>Back soon</h1>", "{path}");
    }
    for (path, kind, content) in [
        ("/style.css", "text/css; charset=utf-8", "h1 {}"),
        ("/img/logo.PNG?v=2", "image/png", "logo"),
    ] {
        let answer = get(&server, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains(&format!("content-type: {kind}\r\n")),
            "{answer}"
        );
        assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
        assert!(!answer.contains("retry-after"), "{answer}");
        assert_eq!(body(&answer), content);
    }
    let post = b"POST /style.css HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    assert!(ask(&server, post).await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn hostile_requests_end() {
    let server = SorryServer::start(None).unwrap();
    let mut endless = b"GET / HTTP/1.1\r\nX: ".to_vec();
    endless.extend(vec![b'x'; HEAD_BYTES_MAX]);
    let many = format!(
        "GET / HTTP/1.1\r\n{}\r\n",
        "X: y\r\n".repeat(HEADERS_MAX + 1)
    );
    for bytes in [
        &endless[..],
        many.as_bytes(),
        b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n",
    ] {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may refuse before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    assert!(get(&server, "/").await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn who_says_nothing_takes_a_place_for_seconds_only() {
    let server = SorryServer::start(None).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(b"GET / HT").await.unwrap();
    let mut answer = Vec::new();
    let limit = CONNECTION_TIMEOUT + Duration::from_secs(20);
    let read = tokio::time::timeout(limit, silent.read_to_end(&mut answer)).await;
    // Closed, with or without a word.
    let _ = read.unwrap();
    drop(server);
    // And nobody listens any more when it is dropped.
    let deadline = tokio::time::Instant::now() + limit;
    while TcpStream::connect(address).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
