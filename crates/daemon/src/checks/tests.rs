use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use evenkeel_core::model::{
    Alerts, Connect, DatabaseProbe, DnsRecord, HttpProbe, HttpVersion, LdapProbe, Page, Tls,
    UdpProbe, UdpReply,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use super::*;

/// A time that is over soon.
const SHORT: Duration = Duration::from_millis(300);
/// One that must not be needed.
const LONG: Duration = Duration::from_mins(1);

const PAGE: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nwell";

fn context() -> Context {
    Context::new(Scripts::new(&Alerts::default()), 4096)
}

/// A server on loopback whose connections are all treated in the same way.
async fn server<F>(treat: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(treat(stream));
        }
    });
    address
}

/// Reads until nothing comes for now, as a request is one segment here.
async fn request(stream: &mut TcpStream) {
    let mut bytes = [0; 1024];
    let _ = stream.read(&mut bytes).await;
}

async fn silent(stream: TcpStream) {
    let mut stream = stream;
    // Until the other side goes away.
    while !matches!(stream.read(&mut [0; 1024]).await, Ok(0) | Err(_)) {}
}

async fn unused() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn page(path: &str) -> Page {
    Page {
        path: path.into(),
        host: None,
        statuses: Vec::new(),
        digest: None,
        regex: None,
        headers: Vec::new(),
        json: Vec::new(),
    }
}

fn http(to: SocketAddr, timeout: Duration) -> HttpProbe {
    HttpProbe {
        connect: Connect::to(to, timeout),
        tls: None,
        version: HttpVersion::V1_0,
        pages: vec![page("/")],
        fast_recovery: false,
    }
}

/// Every kind that has a dialogue with a server at `to`.
fn dialogues(to: SocketAddr, timeout: Duration) -> Vec<Probe> {
    let connect = Connect::to(to, timeout);
    let database = DatabaseProbe::session(connect.clone());
    let ldap = LdapProbe {
        connect: connect.clone(),
        tls: None,
        bind: None,
        password: None,
        base: None,
        filter: None,
    };
    let secure = HttpProbe {
        tls: Some(Tls::default()),
        ..http(to, timeout)
    };
    let secure_postgres = DatabaseProbe {
        tls: Some(Tls::default()),
        ..database.clone()
    };
    let smtp = Probe::Smtp {
        hosts: vec![connect.clone()],
        helo: "me".into(),
    };
    let grpc = Probe::Grpc {
        connect,
        tls: None,
        service: String::new(),
    };
    vec![
        Probe::Http(http(to, timeout)),
        Probe::Http(secure),
        smtp,
        Probe::Postgres(database.clone()),
        Probe::Postgres(secure_postgres),
        Probe::Mysql(database.clone()),
        Probe::Redis(database),
        Probe::Ldap(ldap),
        grpc,
    ]
}

fn reason(verdict: Verdict) -> String {
    match verdict {
        Verdict::Failed(reason) => reason,
        other => panic!("{other:?}"),
    }
}

async fn fails(probe: &Probe) -> String {
    reason(run(probe, &context()).await)
}

#[tokio::test]
async fn a_connection_is_there_or_refused() {
    let address = server(silent).await;
    let verdict = run(&Probe::Tcp(Connect::to(address, LONG)), &context()).await;
    assert!(matches!(&verdict, Verdict::Passed(words) if words.starts_with("connected in ")));
    let closed = unused().await;
    for probe in dialogues(closed, LONG) {
        assert_eq!(fails(&probe).await, "connection refused", "{probe:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_not_taken_is_given_up() {
    // What does not fit in its queue is not answered.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        held.push(stream);
    }
    let probe = Probe::Tcp(Connect::to(address, SHORT));
    assert_eq!(fails(&probe).await, "no connection within 300 ms");
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let address = server(silent).await;
    for probe in dialogues(address, SHORT) {
        let words = fails(&probe).await;
        assert!(
            words == "no answer within 300 ms" || words == "no TLS handshake within 300 ms",
            "{words}: {probe:?}"
        );
    }
}

#[tokio::test]
async fn answers_without_an_end_are_ended() {
    // One that begins well, as fast as it can, and one byte at a time.
    let fast = server(async |mut stream| {
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let slow = server(async |mut stream| {
        for byte in PAGE.iter().chain([b'x'].iter().cycle()) {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for address in [fast, slow] {
        let words = fails(&Probe::Http(http(address, SHORT))).await;
        assert_eq!(words, "the answer was not complete within 300 ms");
        for probe in dialogues(address, SHORT) {
            assert!(!run(&probe, &context()).await.is_good(), "{probe:?}");
        }
    }
}

#[tokio::test]
async fn resets_are_told() {
    let address = server(async |mut stream| {
        request(&mut stream).await;
        let _ = stream.set_zero_linger();
    })
    .await;
    let words = fails(&Probe::Http(http(address, LONG))).await;
    assert_eq!(words, "connection reset");
    for probe in dialogues(address, SHORT) {
        assert!(!run(&probe, &context()).await.is_good(), "{probe:?}");
    }
}

#[tokio::test]
async fn an_early_end_is_told() {
    let address = server(async |stream| drop(stream)).await;
    for probe in dialogues(address, LONG) {
        let words = fails(&probe).await;
        assert!(!words.contains("within"), "{words}: {probe:?}");
    }
}

#[tokio::test]
async fn one_that_hangs_costs_its_own_slot_alone() {
    let hangs = server(silent).await;
    let good = server(async |mut stream| {
        request(&mut stream).await;
        let _ = stream.write_all(PAGE).await;
    })
    .await;
    let context = Arc::new(context());
    let began = Instant::now();
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let context = Arc::clone(&context);
        hanging.spawn(async move {
            run(&Probe::Http(http(hangs, Duration::from_secs(2))), &context).await
        });
    }
    for _ in 0..50 {
        let verdict = run(&Probe::Http(http(good, LONG)), &context).await;
        assert!(verdict.is_good(), "{verdict:?}");
    }
    while let Some(verdict) = hanging.join_next().await {
        assert_eq!(reason(verdict.unwrap()), "no answer within 2 s");
    }
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(100),
        "one after the other: {took:?}"
    );
}

#[tokio::test]
async fn sockets_are_waited_for() {
    let address = server(silent).await;
    let context = context();
    let all = context.sockets.available_permits() as u32;
    let held = context.sockets.acquire_many(all).await.unwrap();
    let probe = Probe::Tcp(Connect::to(address, LONG));
    let checking = run(&probe, &context);
    let freeing = async {
        tokio::task::yield_now().await;
        drop(held);
    };
    let (verdict, ()) = tokio::join!(checking, freeing);
    assert!(verdict.is_good());
}

#[tokio::test]
async fn an_end_closes_the_connection() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let address = server(move |mut stream: TcpStream| {
        let tell = tell.clone();
        async move {
            request(&mut stream).await;
            let _ = tell.send("asked").await;
            silent(stream).await;
            let _ = tell.send("closed").await;
        }
    })
    .await;
    let probe = Probe::Http(http(address, LONG));
    let context = context();
    {
        let checking = run(&probe, &context);
        tokio::select! {
            verdict = checking => panic!("{verdict:?}"),
            word = told.recv() => assert_eq!(word, Some("asked")),
        }
    }
    assert_eq!(told.recv().await, Some("closed"));
}

#[tokio::test]
async fn pages_come_one_after_the_other() {
    let address = server(async |mut stream| {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.unwrap_or(0);
        let answer = if bytes[..count].starts_with(b"GET /bad ") {
            b"HTTP/1.0 503 no\r\n\r\n".as_slice()
        } else {
            PAGE
        };
        let _ = stream.write_all(answer).await;
    })
    .await;
    let mut probe = http(address, LONG);
    probe.pages.push(page("/two"));
    let verdict = run(&Probe::Http(probe.clone()), &context()).await;
    let words = "2 pages, the last: HTTP status code success: 200";
    assert_eq!(verdict, Verdict::Passed(words.into()));
    probe.pages.push(page("/bad"));
    let words = fails(&Probe::Http(probe)).await;
    assert!(
        words.starts_with("/bad: HTTP status code error: 503"),
        "{words}"
    );
}

#[tokio::test]
async fn connections_come_from_where_they_are_told() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let address = server(move |stream: TcpStream| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(stream.peer_addr().unwrap()).await;
        }
    })
    .await;
    let from: IpAddr = [127, 0, 0, 5].into();
    let port = unused().await.port();
    for from_port in [0, port] {
        let connect = Connect {
            from: Some(from),
            from_port,
            ..Connect::to(address, LONG)
        };
        assert!(run(&Probe::Tcp(connect), &context()).await.is_good());
        let seen = told.recv().await.unwrap();
        assert_eq!(seen.ip(), from);
        assert!(from_port == 0 || seen.port() == from_port, "{seen}");
    }
    let nobody = Connect {
        from: Some([192, 0, 2, 1].into()),
        ..Connect::to(address, LONG)
    };
    assert_eq!(
        fails(&Probe::Tcp(nobody)).await,
        "cannot bind to 192.0.2.1:0: address or port not available on this machine"
    );
    let nowhere = Connect {
        interface: Some("no-such-one".into()),
        ..Connect::to(address, LONG)
    };
    assert_eq!(
        fails(&Probe::Tcp(nowhere)).await,
        "cannot use no-such-one: no such interface"
    );
}

/// A server that sends these datagrams back for each that it gets. `{id}` is the first two
/// bytes of that one.
async fn datagrams(answers: &'static [&'static [u8]], with_id: bool) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut bytes = [0; 1024];
        while let Ok((_, from)) = socket.recv_from(&mut bytes).await {
            for answer in answers {
                let mut answer = answer.to_vec();
                if with_id && answer.first() == Some(&0) {
                    answer[..2].copy_from_slice(&bytes[..2]);
                }
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    address
}

#[tokio::test]
async fn datagrams_are_answered_or_not() {
    let probe = |to, timeout, reply| {
        Probe::Udp(UdpProbe {
            connect: Connect::to(to, timeout),
            payload: None,
            reply,
        })
    };
    let expected = || {
        Some(UdpReply {
            start: vec![(b'a', 0xff)],
            min_length: 2,
            max_length: 3,
        })
    };
    let closed = UdpSocket::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(
        fails(&probe(closed, LONG, None)).await,
        "connection refused"
    );
    let still = datagrams(&[], false).await;
    let verdict = run(&probe(still, SHORT, None), &context()).await;
    let words = "no ICMP error within 300 ms";
    assert_eq!(verdict, Verdict::Passed(words.into()));
    let words = fails(&probe(still, SHORT, expected())).await;
    assert_eq!(words, "no answer within 300 ms");
    let right = datagrams(&[b"abc"], false).await;
    assert!(
        run(&probe(right, LONG, expected()), &context())
            .await
            .is_good()
    );
    let long = datagrams(&[b"abcd"], false).await;
    let words = fails(&probe(long, LONG, expected())).await;
    assert!(words.contains("4 bytes"), "{words}");
}

/// Answers to a DNS query, one with another's number.
const OTHER: &[u8] = b"\xff\xff\x81\x83\0\x01\0\0\0\0\0\0";
const GOOD: &[u8] = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0";

#[tokio::test]
async fn answers_to_other_queries_are_passed_over() {
    let probe = |to, timeout| Probe::Dns {
        connect: Connect::to(to, timeout),
        record: DnsRecord::Soa,
        name: String::new(),
    };
    let right = datagrams(&[b"", b"x", OTHER, GOOD], true).await;
    let verdict = run(&probe(right, LONG), &context()).await;
    assert!(verdict.is_good(), "{verdict:?}");
    let other = datagrams(&[OTHER], true).await;
    let words = fails(&probe(other, SHORT)).await;
    assert_eq!(words, "no answer within 300 ms");
}

#[tokio::test]
async fn a_port_without_tls_is_told() {
    let address = server(async |mut stream| {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let mut probe = http(address, LONG);
    probe.tls = Some(Tls::default());
    let words = fails(&Probe::Http(probe.clone())).await;
    assert_eq!(words, "the server does not speak TLS on this port");
    probe.tls = Some(Tls {
        authorities: Some("/no/such/file".into()),
        ..Tls::default()
    });
    let words = fails(&Probe::Http(probe)).await;
    assert_eq!(words, "cannot read /no/such/file: there is no such file");
}

#[tokio::test]
async fn a_check_keeps_little() {
    let context = context();
    let connect = Connect::to(([127, 0, 0, 1], 1).into(), LONG);
    let size = size_of_val(&run(&Probe::Tcp(connect), &context));
    assert!(size < 1024, "{size} bytes");
}
