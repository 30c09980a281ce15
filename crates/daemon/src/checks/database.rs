//! Databases and directories: a session's start, and a query.

use evenkeel_core::model::{Connect, DatabaseProbe, LdapProbe, Tls};
use evenkeel_core::probe::Verdict;
use evenkeel_core::probe::http::hexadecimal;
use evenkeel_core::probe::ldap::Ldap;
use evenkeel_core::probe::mysql::Mysql;
use evenkeel_core::probe::postgres::Postgres;
use evenkeel_core::probe::redis::Redis;

use super::stream::{Secured, Security, converse};
use super::{Context, random};

/// `PostgreSQL`.
pub(super) async fn postgres(probe: &DatabaseProbe, context: &Context) -> Verdict {
    let nonce = hexadecimal(&random::<18>());
    let mut dialogue = Postgres::new(probe, &nonce);
    let security = on_request(probe.tls.as_ref());
    converse(&probe.connect, security, &mut dialogue, context).await
}

/// `MySQL` and `MariaDB`.
pub(super) async fn mysql(probe: &DatabaseProbe, context: &Context) -> Verdict {
    let security = on_request(probe.tls.as_ref());
    converse(&probe.connect, security, &mut Mysql::new(probe), context).await
}

/// Redis.
pub(super) async fn redis(probe: &DatabaseProbe, context: &Context) -> Verdict {
    let security = Security::of(probe.tls.as_ref(), None);
    converse(&probe.connect, security, &mut Redis::new(probe), context).await
}

/// LDAP.
pub(super) async fn ldap(probe: &LdapProbe, context: &Context) -> Verdict {
    let security = Security::of(probe.tls.as_ref(), None);
    match Ldap::new(probe) {
        Ok(mut dialogue) => converse(&probe.connect, security, &mut dialogue, context).await,
        Err(reason) => Verdict::Failed(reason),
    }
}

/// SMTP with each of the hosts, up to the first that is not well.
pub(super) async fn smtp(hosts: &[Connect], helo: &str, context: &Context) -> Verdict {
    let mut last = Verdict::Failed("no host is configured".into());
    for host in hosts {
        let mut talk = evenkeel_core::probe::smtp::Talk::new(helo);
        last = converse(host, Security::Plain, &mut talk, context).await;
        if let (Verdict::Failed(reason), 2..) = (&last, hosts.len()) {
            return Verdict::Failed(format!("{}: {reason}", host.to));
        }
    }
    last
}

fn on_request(tls: Option<&Tls>) -> Security<'_> {
    tls.map_or(Security::Plain, |tls| {
        Security::OnRequest(Secured { tls, name: None })
    })
}
