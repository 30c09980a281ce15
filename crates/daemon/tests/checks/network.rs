//! Names, mail, gRPC, and what a network of one's own is needed for.

use std::process::Command;

use anyhow::ensure;
use evenkeel_core::model::{Connect, DnsRecord, Probe, Tls};
use evenkeel_core::probe::Verdict;
use evenkeel_lab::sandbox;

use super::peer::{Bench, Peer, SHORT, connect, loopback, run, write};
use super::tls::make_certificates;

/// Debian's, whatever other there is.
const PYTHON: &str = "/usr/bin/python3";

fn name(port: u16, record: DnsRecord, name: &str) -> Probe {
    Probe::Dns {
        connect: connect(port),
        record,
        name: name.into(),
    }
}

#[test]
fn name_servers_answer() {
    sandbox::run_test(|| {
        let bench = Bench::new()?;
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=53",
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--pid-file=",
            "--auth-server=ns.example.org,127.0.0.2",
            "--auth-zone=example.org",
            "--host-record=www.example.org,192.0.2.1",
            "--local=/example.org/",
        ]);
        let mut server = Peer::start("dnsmasq", &mut command)?;
        let words = bench.becomes_good(&name(53, DnsRecord::A, "www.example.org"), &mut server)?;
        ensure!(words == "NOERROR with 1 answers", "{words}");
        let missing = bench.fails(&name(53, DnsRecord::A, "none.example.org"))?;
        ensure!(missing.contains("NXDOMAIN"), "{missing}");
        // It knows nobody to ask about the root.
        let root = bench.fails(&name(53, DnsRecord::Soa, "."))?;
        ensure!(root.contains("REFUSED"), "{root}");
        server.end();
        let gone = bench.fails(&name(53, DnsRecord::Soa, "."))?;
        ensure!(gone == "connection refused", "{gone}");
        // One that is there and says nothing is no good either.
        let silent = std::net::UdpSocket::bind(loopback(53))?;
        let late = bench.fails(&Probe::Dns {
            connect: Connect::to(loopback(53), SHORT),
            record: DnsRecord::Soa,
            name: String::new(),
        })?;
        ensure!(late == "no answer within 300 ms", "{late}");
        drop(silent);
        Ok(())
    });
}

#[test]
fn mail_servers_answer() {
    sandbox::run_test(|| {
        let bench = Bench::new()?;
        let words = ["-m", "aiosmtpd", "-n", "-l", "127.0.0.1:25"];
        let mut server = Peer::start("smtp", Command::new(PYTHON).args(words))?;
        let probe = |ports: &[u16]| Probe::Smtp {
            hosts: ports.iter().map(|&port| connect(port)).collect(),
            helo: "director.example.org".into(),
        };
        bench.becomes_good(&probe(&[25]), &mut server)?;
        bench.passes(&probe(&[25, 25]))?;
        let second = bench.fails(&probe(&[25, 26]))?;
        ensure!(second == "127.0.0.1:26: connection refused", "{second}");
        Ok(())
    });
}

/// A health service that knows one service; without generated code, which Debian has not.
const HEALTH: &str = r"
import sys, concurrent.futures, grpc
def check(request, context):
    service = request[2:].decode() if request else ''
    if service == 'gone':
        context.abort(grpc.StatusCode.NOT_FOUND, 'unknown service')
    return b'\x08\x02' if service == 'ill' else b'\x08\x01'
handlers = {'Check': grpc.unary_unary_rpc_method_handler(check)}
health = grpc.method_handlers_generic_handler('grpc.health.v1.Health', handlers)
server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((health,))
server.add_insecure_port('127.0.0.1:50051')
read = lambda name: open(name, 'rb').read()
server.add_secure_port('127.0.0.1:50052',
    grpc.ssl_server_credentials([(read('grpc.key'), read('grpc.pem'))]))
other = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
other.add_insecure_port('127.0.0.1:50053')
other.start()
server.start()
server.wait_for_termination()
";

#[test]
fn grpc_servers_answer() {
    sandbox::run_test(|| {
        make_certificates(&["grpc"])?;
        let bench = Bench::new()?;
        let script = write("health.py", HEALTH)?;
        let mut command = Command::new(PYTHON);
        command.arg(script).current_dir(sandbox::DIRECTORY);
        let mut server = Peer::start("grpc", &mut command)?;
        let probe = |port, tls, service: &str| Probe::Grpc {
            connect: connect(port),
            tls,
            service: service.into(),
        };
        let words = bench.becomes_good(&probe(50051, None, ""), &mut server)?;
        ensure!(words == "SERVING", "{words}");
        bench.passes(&probe(50051, None, "well"))?;
        bench.passes(&probe(50052, Some(Tls::default()), "well"))?;
        for (port, service, reason) in [
            (50051, "ill", "NOT_SERVING"),
            (50051, "gone", "gRPC status 5 (there is no such service)"),
            (
                50053,
                "",
                "gRPC status 12 (the server has no health service)",
            ),
        ] {
            let words = bench.fails(&probe(port, None, service))?;
            ensure!(words == reason, "{words}");
        }
        Ok(())
    });
}

#[test]
fn echoes_come_back() {
    sandbox::run_test(|| {
        let bench = Bench::new()?;
        // Raw sockets in a new network, until groups may have others.
        for _ in 0..2 {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let probe = Probe::Ping(Connect::to(address.parse()?, super::peer::LONG));
                let verdict = bench.check(&probe);
                ensure!(
                    matches!(&verdict, Verdict::Passed(words) if words.starts_with("answered in ")),
                    "{address}: {verdict:?}"
                );
            }
            let nowhere = bench.fails(&Probe::Ping(Connect::to("192.0.2.1:0".parse()?, SHORT)))?;
            ensure!(nowhere == "network unreachable", "{nowhere}");
            std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")?;
        }
        run(
            Command::new("ip").args(["link", "add", "d0", "type", "veth"]),
            "",
        )?;
        run(
            Command::new("ip").args(["addr", "add", "198.51.100.1/24", "dev", "d0"]),
            "",
        )?;
        run(Command::new("ip").args(["link", "set", "d0", "up"]), "")?;
        let silent = bench.fails(&Probe::Ping(Connect::to("198.51.100.2:0".parse()?, SHORT)))?;
        ensure!(silent == "no answer within 300 ms", "{silent}");
        Ok(())
    });
}

const RULES: &str = "
table inet t {
  chain c {
    type filter hook output priority 0;
    meta l4proto tcp tcp dport 80 meta mark != 7 reject with tcp reset
  }
}
";

#[test]
fn packets_are_marked_and_bound() {
    sandbox::run_test(|| {
        let bench = Bench::new()?;
        run(Command::new("nft").args(["-f", "-"]), RULES)?;
        let _listener = std::net::TcpListener::bind(loopback(80))?;
        let plain = Probe::Tcp(connect(80));
        let words = bench.fails(&plain)?;
        ensure!(words == "connection refused", "{words}");
        let marked = Connect {
            mark: 7,
            interface: Some("lo".into()),
            ..connect(80)
        };
        let verdict = bench.check(&Probe::Tcp(marked.clone()));
        ensure!(verdict.is_good(), "{verdict:?}");
        run(
            Command::new("ip").args(["link", "add", "d0", "type", "veth"]),
            "",
        )?;
        run(Command::new("ip").args(["link", "set", "d0", "up"]), "")?;
        let elsewhere = Connect {
            interface: Some("d0".into()),
            timeout: SHORT,
            ..marked
        };
        let words = bench.fails(&Probe::Tcp(elsewhere))?;
        ensure!(words != "connection refused", "{words}");
        Ok(())
    });
}
