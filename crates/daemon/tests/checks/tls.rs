//! TLS, with nginx and OpenSSL.

use std::process::Command;

use anyhow::{Result, ensure};
use evenkeel_core::model::{Probe, Secret, Tls};
use evenkeel_lab::sandbox;

use super::peer::{Bench, Peer, file, page, run, write};

/// Makes an authority, and certificates of it, in files of the sandbox.
pub(crate) fn make_certificates(names: &[&str]) -> Result<()> {
    let openssl = |words: &str| {
        run(
            Command::new("openssl")
                .args(words.split(' '))
                .current_dir(sandbox::DIRECTORY),
            "",
        )
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"
    ))?;
    for name in names {
        write(
            &format!("{name}.ext"),
            &format!("subjectAltName=DNS:{name}"),
        )?;
        openssl(&format!(
            "req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ))?;
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile {name}.ext -out {name}.pem"
        ))?;
    }
    Ok(())
}

const NGINX: &str = "
daemon off; master_process off; user root; pid nginx.pid; error_log stderr;
events {}
http {
  ssl_protocols TLSv1.2 TLSv1.3;
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;
  uwsgi_temp_path t4; scgi_temp_path t5;
  server {
    listen 127.0.0.1:8443 ssl default_server;
    ssl_certificate default.pem; ssl_certificate_key default.key;
    location / { return 200 \"default, asked for <$ssl_server_name>\"; }
  }
  server {
    listen 127.0.0.1:8443 ssl; server_name www.example.com;
    ssl_certificate www.example.com.pem; ssl_certificate_key www.example.com.key;
    location / { return 200 \"www, asked for <$ssl_server_name>, $ssl_protocol\"; }
  }
  server {
    listen 127.0.0.1:8444 ssl;
    ssl_certificate default.pem; ssl_certificate_key default.key;
    ssl_client_certificate ca.pem; ssl_verify_client on;
    location / { return 200 \"known as $ssl_client_s_dn\"; }
  }
  server {
    listen 127.0.0.1:8446 ssl; ssl_protocols TLSv1.2;
    ssl_certificate default.pem; ssl_certificate_key default.key;
    location / { return 200 \"$ssl_protocol\"; }
  }
}
";

fn nginx() -> Result<Peer> {
    let conf = write("nginx.conf", NGINX)?;
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(sandbox::DIRECTORY)
        .arg("-e")
        .arg("stderr")
        .arg("-c")
        .arg(conf);
    Peer::start("nginx", &mut command)
}

fn path(name: &str) -> String {
    file(name).to_string_lossy().into_owned()
}

#[test]
fn servers_are_asked_for_by_name() {
    sandbox::run_test(|| {
        make_certificates(&["default", "www.example.com"])?;
        let bench = Bench::new()?;
        let mut nginx = nginx()?;
        bench.becomes_good(
            &page(8443, Some(Tls::default()), None, "^default, asked for <>$"),
            &mut nginx,
        )?;
        // The name of the host is asked for, without its port, unless another is configured.
        for (host, sni, regex) in [
            (
                "www.example.com",
                None,
                "^www, asked for <www.example.com>, TLSv1.3",
            ),
            (
                "www.example.com:8443",
                None,
                "^www, asked for <www.example.com>",
            ),
            (
                "other.example.com",
                Some("www.example.com"),
                "^default, asked for <www",
            ),
            ("127.0.0.1", None, "^default, asked for <>$"),
        ] {
            let tls = Tls {
                sni: sni.map(str::to_owned),
                ..Tls::default()
            };
            bench.passes(&page(8443, Some(tls), Some(host), regex))?;
        }
        bench.passes(&page(8446, Some(Tls::default()), None, "^TLSv1.2$"))?;
        Ok(())
    });
}

#[test]
fn certificates_are_verified_where_authorities_are_named() {
    sandbox::run_test(|| {
        make_certificates(&["default", "www.example.com"])?;
        let bench = Bench::new()?;
        let mut nginx = nginx()?;
        let tls = |authorities: &str| {
            Some(Tls {
                authorities: Some(path(authorities)),
                ..Tls::default()
            })
        };
        let host = Some("www.example.com");
        bench.becomes_good(&page(8443, tls("ca.pem"), host, "^www"), &mut nginx)?;
        // Nobody is asked for: the chain alone counts.
        bench.passes(&page(8443, tls("ca.pem"), None, "^default"))?;
        let other = bench.fails(&page(8443, tls("ca.pem"), Some("x.example.com"), "^"))?;
        ensure!(other.contains("not valid for name"), "{other}");
        let unknown = bench.fails(&page(8443, tls("default.pem"), host, "^"))?;
        ensure!(
            unknown.contains("certificate: invalid peer certificate")
                || unknown.contains("UnknownIssuer"),
            "{unknown}"
        );
        let none = bench.fails(&page(8443, tls("default.key"), host, "^"))?;
        ensure!(none.ends_with("default.key has no certificate"), "{none}");
        Ok(())
    });
}

#[test]
fn clients_show_their_certificate() {
    sandbox::run_test(|| {
        make_certificates(&["default", "www.example.com", "me"])?;
        let bench = Bench::new()?;
        let mut nginx = nginx()?;
        let with = |key: &str| Tls {
            certificate: Some(path("me.pem")),
            key: Some(path(key)),
            ..Tls::default()
        };
        let probe = |tls| page(8444, Some(tls), None, "^known as CN=me$");
        bench.becomes_good(&probe(with("me.key")), &mut nginx)?;
        let nobody = bench.fails(&page(8444, Some(Tls::default()), None, "^"))?;
        ensure!(nobody.contains("400"), "{nobody}");
        let wrong = bench.fails(&probe(with("default.key")))?;
        ensure!(wrong.contains("can't be used"), "{wrong}");
        let words = "pkcs8 -topk8 -v2 aes256 -passout pass:secret -in me.key -out locked.key";
        run(
            Command::new("openssl")
                .args(words.split(' '))
                .current_dir(sandbox::DIRECTORY),
            "",
        )?;
        let locked = |password: Option<&str>| Tls {
            password: password.map(|password| Secret(password.into())),
            ..with("locked.key")
        };
        bench.passes(&probe(locked(Some("secret"))))?;
        let wrong = bench.fails(&probe(locked(Some("other"))))?;
        ensure!(wrong.starts_with("cannot decrypt the key in "), "{wrong}");
        let none = bench.fails(&probe(locked(None)))?;
        ensure!(
            none.ends_with("has a password, and none is configured"),
            "{none}"
        );
        let words = "ec -aes256 -passout pass:secret -in me.key -out old.key";
        run(
            Command::new("openssl")
                .args(words.split(' '))
                .current_dir(sandbox::DIRECTORY),
            "",
        )?;
        let old = bench.fails(&probe(with("old.key")))?;
        ensure!(old.contains("openssl pkcs8 -topk8"), "{old}");
        Ok(())
    });
}

#[test]
fn old_tls_is_named() {
    sandbox::run_test(|| {
        make_certificates(&["default"])?;
        let bench = Bench::new()?;
        let mut command = Command::new("openssl");
        let words = "s_server -accept 127.0.0.1:8445 -tls1_1 -cipher ALL:@SECLEVEL=0 \
                     -cert default.pem -key default.key -www";
        command
            .args(words.split_whitespace())
            .current_dir(sandbox::DIRECTORY);
        let mut server = Peer::start("old", &mut command)?;
        let connects = Probe::Tcp(super::peer::connect(8445));
        bench.becomes_good(&connects, &mut server)?;
        let words = bench.fails(&page(8445, Some(Tls::default()), None, "^"))?;
        ensure!(words == "the server speaks no TLS 1.2 or newer", "{words}");
        Ok(())
    });
}
