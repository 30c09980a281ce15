//! Databases and directories as Debian has them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use evenkeel_core::model::{DatabaseProbe, LdapProbe, Probe, Secret, Tls};
use evenkeel_lab::sandbox;

use super::peer::{Bench, Peer, connect, file, given_away, run, unprivileged, write};
use super::tls::make_certificates;

fn database(port: u16, user: &str, password: &str, query: Option<&str>) -> DatabaseProbe {
    DatabaseProbe {
        user: Some(user.into()),
        password: Some(Secret(password.into())),
        query: query.map(str::to_owned),
        ..DatabaseProbe::session(connect(port))
    }
}

/// Copies a certificate and its key to where nobody may read them.
fn certificate_for_nobody(directory: &std::path::Path) -> Result<()> {
    make_certificates(&["db"])?;
    for name in ["db.pem", "db.key"] {
        let copy = directory.join(name);
        run(
            unprivileged(Command::new("sh").args(["-c", "cat > $0"]).arg(&copy))?,
            &fs::read_to_string(file(name))?,
        )?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn postgres_programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")?;
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).max();
    Ok(newest.context("no PostgreSQL")?.join("bin"))
}

fn postgres() -> Result<Peer> {
    let directory = given_away("postgres")?;
    let programs = postgres_programs()?;
    let data = directory.join("data");
    certificate_for_nobody(&directory)?;
    let password = write("password", "secret\n")?;
    run(
        unprivileged(
            Command::new(programs.join("initdb"))
                .args([
                    "--auth=scram-sha-256",
                    "--no-sync",
                    "--locale=C",
                    "-U",
                    "scram",
                ])
                .arg("--pwfile")
                .arg(password)
                .arg("-D")
                .arg(&data),
        )?,
        "",
    )?;
    run(
        unprivileged(
            Command::new(programs.join("postgres"))
                .args(["--single", "-D"])
                .arg(&data)
                .arg("postgres"),
        )?,
        "set password_encryption = 'md5'\n;\
         create role digest login password 'secret'\n;\
         create role clear login password 'secret'\n;\
         create role anybody login\n;",
    )?;
    let access = "hostssl all clear 127.0.0.1/32 password\n\
                  host all digest 127.0.0.1/32 md5\n\
                  host all anybody 127.0.0.1/32 trust\n\
                  host all scram 127.0.0.1/32 scram-sha-256\n";
    fs::write(data.join("pg_hba.conf"), access)?;
    let certificate = directory.join("db.pem");
    let mut command = Command::new(programs.join("postgres"));
    command.arg("-D").arg(&data);
    for setting in [
        "listen_addresses=127.0.0.1",
        "port=5432",
        "unix_socket_directories=",
        "fsync=off",
        "ssl=on",
        &format!("ssl_cert_file={}", certificate.display()),
        &format!(
            "ssl_key_file={}",
            certificate.with_extension("key").display()
        ),
    ] {
        command.args(["-c", setting]);
    }
    Peer::start("postgres-server", unprivileged(&mut command)?)
}

#[test]
fn postgres_answers() {
    sandbox::run_test(|| {
        let bench = Bench::new()?;
        let mut server = postgres()?;
        let probe = |user: &str, tls: bool, query: Option<&str>| {
            Probe::Postgres(DatabaseProbe {
                database: Some("postgres".into()),
                tls: tls.then(Tls::default),
                ..database(5432, user, "secret", query)
            })
        };
        let words = bench.becomes_good(&probe("scram", false, None), &mut server)?;
        ensure!(words == "the session started", "{words}");
        for (user, tls) in [
            ("digest", false),
            ("anybody", false),
            ("scram", true),
            ("clear", true),
        ] {
            let query = Some("select generate_series(1, 100000)");
            let words = bench.passes(&probe(user, tls, query))?;
            ensure!(words == "the query gave a row", "{user}: {words}");
        }
        let none = bench.fails(&probe("anybody", false, Some("select 1 where false")))?;
        ensure!(none == "the query gave no row", "{none}");
        let wrong = bench.fails(&probe("anybody", false, Some("select x")))?;
        ensure!(wrong == "column \"x\" does not exist (42703)", "{wrong}");
        let denied = bench.fails(&Probe::Postgres(database(5432, "scram", "other", None)))?;
        ensure!(denied.ends_with("(28P01)"), "{denied}");
        let plain = bench.fails(&probe("clear", false, None))?;
        ensure!(plain.ends_with("(28000)"), "{plain}");
        server.end();
        let gone = bench.fails(&probe("scram", false, None))?;
        ensure!(gone == "connection refused", "{gone}");
        Ok(())
    });
}

fn mariadb() -> Result<Peer> {
    let directory = given_away("mariadb")?;
    certificate_for_nobody(&directory)?;
    let scripts = "/usr/share/mysql";
    let mut input = "create database mysql;\nuse mysql;\n\
                     set @auth_root_socket=NULL;\nset @skip_auth_anonymous=1;\n"
        .to_owned();
    for name in ["mysql_system_tables.sql", "mysql_system_tables_data.sql"] {
        input += &fs::read_to_string(format!("{scripts}/{name}"))?;
    }
    input += "flush privileges;\ncreate database stock;\n\
              create user 'me'@'127.0.0.1' identified by 'secret';\n\
              create user 'open'@'127.0.0.1';\n\
              create user 'secure'@'127.0.0.1' identified by 'secret' require ssl;\n\
              grant all on stock.* to 'me'@'127.0.0.1';\n";
    let data = directory.join("data");
    let mariadbd = || {
        let mut command = Command::new("/usr/sbin/mariadbd");
        command
            .args(["--no-defaults", "--skip-name-resolve"])
            .arg(format!("--datadir={}", data.display()));
        command
    };
    run(unprivileged(Command::new("mkdir").arg(&data))?, "")?;
    run(unprivileged(mariadbd().arg("--bootstrap"))?, &input)?;
    let mut command = mariadbd();
    command
        .args(["--bind-address=127.0.0.1", "--port=3306"])
        .arg(format!("--socket={}", directory.join("socket").display()))
        .arg(format!("--pid-file={}", directory.join("pid").display()))
        .arg(format!("--ssl-cert={}", directory.join("db.pem").display()))
        .arg(format!("--ssl-key={}", directory.join("db.key").display()));
    Peer::start("mariadb-server", unprivileged(&mut command)?)
}

#[test]
fn mariadb_answers() {
    sandbox::run_test(|| {
        let bench = Bench::new()?;
        let mut server = mariadb()?;
        let probe = |user: &str, password: &str, tls: bool, query: Option<&str>| {
            Probe::Mysql(DatabaseProbe {
                tls: tls.then(Tls::default),
                ..database(3306, user, password, query)
            })
        };
        let words = bench.becomes_good(&probe("me", "secret", false, None), &mut server)?;
        ensure!(words == "the session started", "{words}");
        for (user, password, tls) in [
            ("me", "secret", true),
            ("secure", "secret", true),
            ("open", "", false),
        ] {
            let query = Some("select seq from (select 1 seq union select 2) t");
            let words = bench.passes(&probe(user, password, tls, query))?;
            ensure!(words == "the query gave a row", "{user}: {words}");
        }
        let stock = DatabaseProbe {
            database: Some("stock".into()),
            ..database(3306, "me", "secret", Some("show tables"))
        };
        let none = bench.fails(&Probe::Mysql(stock))?;
        ensure!(none == "the query gave no row", "{none}");
        let nothing = bench.fails(&probe("me", "secret", false, Some("do 1")))?;
        ensure!(nothing == "the query gave no rows", "{nothing}");
        let wrong = bench.fails(&probe("me", "secret", false, Some("select x")))?;
        ensure!(wrong.ends_with("(1054)"), "{wrong}");
        for (user, password) in [("me", "other"), ("secure", "secret")] {
            let denied = bench.fails(&probe(user, password, false, None))?;
            ensure!(denied.ends_with("(1045)"), "{denied}");
        }
        Ok(())
    });
}

#[test]
fn redis_answers() {
    sandbox::run_test(|| {
        make_certificates(&["db"])?;
        let bench = Bench::new()?;
        let mut command = Command::new("redis-server");
        let words = "--bind 127.0.0.1 --port 6379 --save --appendonly no --requirepass secret \
                     --tls-port 6380 --tls-cert-file db.pem --tls-key-file db.key \
                     --tls-ca-cert-file ca.pem --tls-auth-clients no";
        // An empty value switches saving off.
        let words = words.split_whitespace().flat_map(|word| match word {
            "--save" => vec![word, ""],
            _ => vec![word],
        });
        command.args(words).current_dir(sandbox::DIRECTORY);
        let mut server = Peer::start("redis", &mut command)?;
        let probe = |port, password: &str, query: Option<&str>| DatabaseProbe {
            user: None,
            database: Some("3".into()),
            ..database(port, "", password, query)
        };
        let words = bench.becomes_good(&Probe::Redis(probe(6379, "secret", None)), &mut server)?;
        ensure!(words == "PONG", "{words}");
        let value = Probe::Redis(probe(6379, "secret", Some("INCR count")));
        bench.passes(&value)?;
        let secure = Probe::Redis(DatabaseProbe {
            tls: Some(Tls::default()),
            ..probe(6380, "secret", Some("GET count"))
        });
        bench.passes(&secure)?;
        let none = bench.fails(&Probe::Redis(probe(6379, "secret", Some("GET nothing"))))?;
        ensure!(none == "the query gave nothing", "{none}");
        let denied = bench.fails(&Probe::Redis(probe(6379, "other", None)))?;
        ensure!(denied.starts_with("WRONGPASS"), "{denied}");
        let nobody = bench.fails(&Probe::Redis(DatabaseProbe::session(connect(6379))))?;
        ensure!(nobody.starts_with("NOAUTH"), "{nobody}");
        Ok(())
    });
}

const SLAPD: &str = "
include /etc/ldap/schema/core.schema
pidfile slapd.pid
TLSCertificateFile db.pem
TLSCertificateKeyFile db.key
database ldif
directory ldap
suffix \"dc=example,dc=org\"
rootdn \"cn=admin,dc=example,dc=org\"
rootpw secret
";

#[test]
fn ldap_answers() {
    sandbox::run_test(|| {
        make_certificates(&["db"])?;
        let bench = Bench::new()?;
        write("slapd.conf", SLAPD)?;
        fs::create_dir(file("ldap"))?;
        let entry = "dn: dc=example,dc=org\nobjectClass: dcObject\n\
                     objectClass: organization\ndc: example\no: Example (one)\n";
        let inside = |program: &str, words: &[&str]| {
            let mut command = Command::new(program);
            command.args(words).current_dir(sandbox::DIRECTORY);
            command
        };
        run(
            &mut inside("/usr/sbin/slapadd", &["-f", "slapd.conf"]),
            entry,
        )?;
        let urls = "ldap://127.0.0.1:389/ ldaps://127.0.0.1:636/";
        let words = ["-d", "0", "-f", "slapd.conf", "-h", urls];
        let mut server = Peer::start("slapd", &mut inside("/usr/sbin/slapd", &words))?;
        let probe = |password: &str, base: Option<&str>, filter: Option<&str>| LdapProbe {
            connect: connect(389),
            tls: None,
            bind: Some("cn=admin,dc=example,dc=org".into()),
            password: Some(Secret(password.into())),
            base: base.map(str::to_owned),
            filter: filter.map(str::to_owned),
        };
        let anonymous = LdapProbe {
            bind: None,
            password: None,
            ..probe("", None, None)
        };
        let words = bench.becomes_good(&Probe::Ldap(anonymous), &mut server)?;
        ensure!(words == "the entry is there", "{words}");
        let base = Some("dc=example,dc=org");
        for filter in [
            "(o=Example \\28one\\29)",
            "(&(objectClass=organization)(|(dc=x*)(dc=e*mpl*e))(!(dc=other)))",
            "dc=EXAMPLE",
            "(dc:caseIgnoreIA5Match:=example)",
        ] {
            let found = Probe::Ldap(probe("secret", base, Some(filter)));
            bench.passes(&found)?;
        }
        let secure = Probe::Ldap(LdapProbe {
            connect: connect(636),
            tls: Some(Tls::default()),
            ..probe("secret", base, None)
        });
        bench.passes(&secure)?;
        for (password, base, filter, reason) in [
            (
                "other",
                base,
                None,
                "the bind failed: invalid credentials (49)",
            ),
            (
                "secret",
                base,
                Some("(dc=other)"),
                "no entry matches the filter",
            ),
            (
                "secret",
                Some("dc=other,dc=org"),
                None,
                "the search failed: no such entry (32)",
            ),
            (
                "secret",
                Some("ou=x,dc=example,dc=org"),
                None,
                "the search failed: no such entry (32)",
            ),
            (
                "secret",
                base,
                Some("(dc="),
                "the filter's \"(dc=\" has no ')'",
            ),
        ] {
            let words = bench.fails(&Probe::Ldap(probe(password, base, filter)))?;
            ensure!(words.starts_with(reason), "{words}");
        }
        Ok(())
    });
}
