//! The client against sockets that do not do what a daemon does.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use evenkeel_api::client::{Client, ClientError};

/// Answers one connection with these bytes, whatever was asked, and ends it.
fn answer_once(socket: &Path, answer: &'static str) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("the directory is the test's own");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// What a client makes of this answer to a request for the timeouts.
fn outcome(answer: &'static str) -> ClientError {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("socket");
    let server = answer_once(&socket, answer);
    let error = Client::at("test", &socket).timeouts().expect_err(answer);
    server.join().expect("the server ends");
    error
}

#[test]
fn nobody_there_says_how_to_start_the_daemon() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("none");
    let error = Client::at("blue", &socket)
        .status()
        .expect_err("nobody listens");
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .ends_with("start it with `evenkeel run --instance blue`"),
        "{error}"
    );
    // A socket that a dead daemon left behind.
    drop(UnixListener::bind(&socket).expect("the directory is the test's own"));
    let error = Client::at("default", &socket)
        .status()
        .expect_err("nobody listens");
    assert!(
        error.to_string().ends_with("start it with `evenkeel run`"),
        "{error}"
    );
}

#[test]
fn a_refusal_comes_with_its_reason() {
    let error = outcome(
        "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 30\r\n\r\n{\"message\":\"send it in parts\"}",
    );
    let ClientError::Refused {
        status, message, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!((*status, message.as_str()), (413, "send it in parts"));
}

#[test]
fn nonsense_is_no_answer() {
    for answer in [
        "",
        "hello\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull",
        "HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{",
    ] {
        let error = outcome(answer);
        assert!(
            matches!(error, ClientError::Protocol { .. }),
            "{answer:?}: {error:?}"
        );
        assert!(error.to_string().contains("GET /v1/timeouts"), "{error}");
    }
}
